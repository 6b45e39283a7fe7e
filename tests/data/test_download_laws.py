"""Laws of cutting, pacing and trying again, without a gateway."""

from __future__ import annotations

import threading
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.base.errors import DataError
from mcl.base.instants import NS, instant
from mcl.data import dbn
from mcl.data.download import chunks
from mcl.data.download.dbn_check import inspect
from mcl.data.download.plan import run_in_threads
from mcl.data.download.retry import RateLimiter, RetryPolicy, Transient, with_retries
from mcl.market import calendar

DAYS = st.dates(date(2021, 7, 12), date(2026, 12, 31))
FREE = {"call": (1e6, 1)}


@st.composite
def spans(draw: st.DrawFn) -> chunks.Span:
    start = draw(DAYS)
    return start, start + timedelta(days=draw(st.integers(1, 500)))


def days(span: chunks.Span) -> set[date]:
    return {span[0] + timedelta(days=n) for n in range((span[1] - span[0]).days)}


@given(spans(), st.lists(spans(), max_size=4), st.sampled_from(chunks.SCHEMAS), st.booleans())
@settings(max_examples=60)
def test_what_is_held_and_what_is_bought_cover_the_order_once(
    wanted: chunks.Span, held: list[chunks.Span], schema: str, batch: bool
) -> None:
    bought = [
        piece for gap in chunks.missing(wanted, held) for piece in chunks.split(schema, gap, batch)
    ]
    have = set().union(*map(days, held))
    together = [day for piece in bought for day in days(piece)]
    assert len(together) == len(set(together))
    assert set(together) == days(wanted) - have
    assert bought == sorted(bought)


@given(spans(), st.sampled_from([s for s in chunks.SCHEMAS if s != "definition"]))
@settings(max_examples=25)
def test_no_session_is_cut_in_two(span: chunks.Span, schema: str) -> None:
    try:
        sessions = calendar.sessions(*span)
    except DataError:  # a holiday or a weekend
        return
    pieces = [
        chunks.DownloadChunk("MCL.FUT", "parent", schema, *piece)
        for piece in chunks.split(schema, span, batch=False)
    ]
    edges = [
        int(instant(edge).timestamp()) * NS
        for edge in [p.begin for p in pieces] + [pieces[-1].until]
    ]
    assert edges == sorted(edges)
    assert all(
        not (opens < edge < closes)
        for edge in edges
        for opens, closes in zip(sessions.open_ns, sessions.close_ns, strict=True)
    )
    assert edges[0] <= sessions.open_ns[0]
    assert sessions.close_ns[-1] <= edges[-1]


@pytest.mark.parametrize(
    ("schema", "start", "end"),
    [
        # the weekend belongs to Friday's chunk
        ("mbp-1", [date(2024, 3, 7), date(2024, 3, 8), date(2024, 3, 11)], date(2024, 3, 12)),
        ("tbbo", [date(2024, 3, 7), date(2024, 3, 11)], date(2024, 3, 12)),
        ("ohlcv-1m", [date(2024, 2, 20), date(2024, 3, 1)], date(2024, 3, 12)),
        ("ohlcv-1h", [date(2023, 5, 1), date(2024, 1, 1)], date(2024, 3, 12)),
    ],
)
def test_where_a_range_is_cut(schema: str, start: list[date], end: date) -> None:
    assert list(chunks.split(schema, (start[0], end), batch=False)) == list(
        zip(start, [*start[1:], end], strict=True)
    )


def test_edges_follow_new_york_and_definitions_come_first() -> None:
    assert chunks.edge("ohlcv-1m", date(2024, 3, 8)) == "2024-03-07T23:00:00Z"
    # summer time began that Sunday
    assert chunks.edge("mbp-10", date(2024, 3, 11)) == "2024-03-10T22:00:00Z"
    assert chunks.edge("definition", date(2024, 3, 11)) == "2024-03-10T00:00:00Z"


@pytest.mark.parametrize(("schema", "available", "end"), [
    ("ohlcv-1m", "2024-03-08T22:59:59Z", date(2024, 3, 8)),
    ("ohlcv-1m", "2024-03-08T23:00:00.000000000Z", date(2024, 3, 9)),
])  # fmt: skip
def test_only_whole_sessions_are_there(schema: str, available: str, end: date) -> None:
    assert chunks.last_whole(schema, available) == end


@given(st.integers(1, 30), st.one_of(st.none(), st.floats(0, 500)))
def test_backoff_is_capped_jittered_and_never_shorter_than_asked(
    attempt: int, asked: float | None
) -> None:
    policy = RetryPolicy(first_sec=1.0, cap_sec=60.0)
    wait = policy.delay_sec(attempt, asked)
    own = min(60.0, 2.0 ** (attempt - 1))
    assert max(own / 2, asked or 0) <= wait <= max(own, asked or 0)


def test_a_final_error_is_not_tried_again_and_a_transient_one_is() -> None:
    calls: list[int] = []

    def call(error: Exception, until: int) -> int:
        calls.append(1)
        if len(calls) < until:
            raise error
        return len(calls)

    lines: list[str] = []
    swift, limiter = RetryPolicy(tries=5, first_sec=0.001), RateLimiter(FREE)
    assert (
        with_retries(
            lambda: call(Transient("gone for a moment"), 3), swift, limiter, lines.append, "call"
        )
        == 3
    )
    assert len(lines) == 2
    calls.clear()
    with pytest.raises(DataError, match="no"):
        with_retries(lambda: call(DataError("no"), 3), swift, limiter, lines.append, "call")
    assert len(calls) == 1
    calls.clear()
    with pytest.raises(Transient, match=r"gone \(5 tries in 0 s\)"):
        with_retries(lambda: call(Transient("gone"), 99), swift, limiter, lines.append, "call")
    assert len(calls) == 5


def test_the_pace_holds_over_threads_and_a_pause_stops_everybody() -> None:
    limiter, starts = RateLimiter({"call": (100.0, 3)}), []

    def turn() -> None:
        for _ in range(4):
            limiter.wait("call")
            starts.append(time.monotonic())

    threads = [threading.Thread(target=turn) for _ in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(starts) - began > 0.09  # twelve starts, three of them at once
    limiter.pause(0.2)
    began = time.monotonic()
    limiter.wait("call")
    assert time.monotonic() - began > 0.15


def test_the_first_error_stops_new_work_and_lets_the_rest_finish() -> None:
    started, finished, stop = [], [], threading.Event()

    def work(n: int) -> None:
        started.append(n)
        if n == 0:
            raise IndexError("the first")
        time.sleep(0.1)
        finished.append(n)

    with pytest.raises(IndexError, match="the first"):
        run_in_threads(range(20), work, workers=3, stop=stop, tick=lambda: None, wait=lambda: None)
    assert sorted(finished) == sorted(n for n in started if n)
    assert len(started) <= 4


@given(st.data())
@settings(max_examples=60)
def test_a_cut_or_flipped_file_is_never_taken_for_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("arrived")
    records = dbn.blank("ohlcv-1m", 500)
    records["ts_event"] = 1_700_000_000_000_000_000 + 60_000_000_000 * np.arange(500)
    header = dbn.Header(
        "GLBX.MDP3",
        "ohlcv-1m",
        "parent",
        ("MCL.FUT",),
        1_700_000_000_000_000_000,
        1_800_000_000_000_000_000,
        (),
    )
    path = folder / "whole.dbn.zst"
    dbn.write(path, records, header)
    whole = path.read_bytes()
    assert inspect(path, "ohlcv-1m").records == 500
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    damaged = (
        whole[:at]
        if cut
        else whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
    )
    path.write_bytes(damaged)
    try:
        arrived = inspect(path, "ohlcv-1m")
    except DataError:
        return
    # a bit that means nothing
    assert zstandard.ZstdDecompressor().decompress(
        damaged
    ) == zstandard.ZstdDecompressor().decompress(whole)
    assert arrived.records == 500


def test_another_schema_is_not_what_was_asked_for(tmp_path: Path) -> None:
    header = dbn.Header("GLBX.MDP3", "statistics", "parent", ("MCL.FUT",), 1, 2, ())
    dbn.write(tmp_path / "x.dbn.zst", dbn.blank("statistics", 3), header)
    assert inspect(tmp_path / "x.dbn.zst", "statistics").records == 3
    with pytest.raises(DataError, match="holds statistics, not ohlcv-1m"):
        inspect(tmp_path / "x.dbn.zst", "ohlcv-1m")
