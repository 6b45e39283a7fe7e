"""Sessions as on a real TWS (`kind: tws`): the market does not wait, its clock runs on, the store
ends before the session does.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import deployments
import numpy as np
import pandas as pd
import pytest
from deployments import Project, walk, write_walks

from mcl.base.instants import NS
from mcl.broker.feed import GRACE_NS, Feed
from mcl.broker.protocol import Bar
from mcl.data.loader import load
from mcl.live import journal_queries
from mcl.live.journal import read
from mcl.live.ops.metrics import SessionCounters, exposition
from mcl.live.status import State
from mcl.live.status_json import plain_status
from mcl.live.supervisor import Supervisor
from mcl.market import calendar
from mcl.market.intervals import BAR_SEC
from mcl.simulators.tws import SimulatedTWS, Tape

from .real_time import DAY, OFF, RANDOM, STRIDE_SEC, TEN, Desk


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


def test_a_start_in_the_middle_of_a_session_looks_back_on_what_it_missed(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path)

    def stop(supervisor: Supervisor, _: SimulatedTWS, bars: int) -> None:
        if bars >= 6:
            supervisor.request("stop", "a test")

    supervisor = asyncio.run(desk.trade(monkeypatch, stop))
    assert supervisor.status().state is State.STOPPED
    missed = supervisor.stage.warmup.session == supervisor.stage.day
    assert missed.sum() >= 64  # what closed before it came is what it looks back on
    bars = [int(entry.key or 0) for entry in read(desk.path, ("bar",))]
    assert bars[0] == supervisor.stage.warmup.close_time[-1] + 15 * 60 * NS > TEN
    status, left = supervisor.status(), journal_queries.last_status(desk.path)
    assert [at for at, _ in status.prices] == bars  # while it ran, and from its journal
    assert list(status.prices) == left["prices"]
    assert status.levels == left["levels"]
    assert set(left["levels"]) == ({"entry"} if status.position else set())
    why = [entry.body["held_back"] for entry in read(desk.path, ("decision",))]
    assert len(read(desk.path, ("order",))) == why.count("")
    # late: of a busy machine
    assert all(
        held in ("", "the position is the target") or held.startswith("late") for held in why
    )
    audited = desk.audited(supervisor)
    assert audited.unexplained == 0, audited.differences.to_dict("records")


def test_the_wait_for_a_close_has_its_own_figure(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute in real time: what passes between its close and the message of it is told apart from
    the latency.
    """
    desk = Desk(shop, tmp_path, shop.config(strategy=RANDOM, interval="1m"), start_ns=TEN + 52 * NS)

    def stop(supervisor: Supervisor, _: SimulatedTWS, bars: int) -> None:
        if bars >= 1:
            supervisor.request("stop", "a test")

    supervisor = asyncio.run(desk.trade(monkeypatch, stop, rate=1.0))
    delays = [entry.body["close_delay_sec"] for entry in read(desk.path, ("decision",))]
    assert delays == list(supervisor.status().close_delay_sec)
    assert all(0.0 <= delay < 60.0 for delay in delays), delays
    assert plain_status(supervisor.status())["close_delay"]["count"] == len(delays) >= 1
    page = exposition(SessionCounters(supervisor.status()))
    assert f"}} {delays[-1]:.15g}\n" in page[page.index("\nmcl_bar_close_delay_seconds") :]
    assert all(value < 60_000 for value in supervisor.status().latency_ms)
    audited = desk.audited(supervisor)
    assert list(audited.close_delay_sec) == delays


def test_the_latency_of_a_close_by_the_clock_is_from_the_moment_at_which_the_clock_told_it(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing trades in the minute after the bar, so no message tells of its close: the wait for it
    is no part of the latency.
    """
    desk = Desk(
        shop,
        tmp_path,
        shop.config(strategy={"name": "always_long"}, interval="1m"),
        start_ns=TEN + 52 * NS,
        timeout_sec=60.0,
    )
    kept = desk.tape.start != TEN + 60 * NS
    columns = ("start", "open", "high", "low", "close", "volume")
    desk.tape = replace(desk.tape, **{name: getattr(desk.tape, name)[kept] for name in columns})
    moments: list[tuple[int, bool, int]] = []
    note = Feed._note_close

    def noted(feed: Feed, bar: Bar, by_clock: bool) -> None:
        before = time.time_ns()
        note(feed, bar, by_clock)
        moments.append((before, by_clock, time.time_ns()))

    def stop(supervisor: Supervisor, _: SimulatedTWS, bars: int) -> None:
        if bars >= 1:
            supervisor.request("stop", "a test")

    monkeypatch.setattr(Feed, "_note_close", noted)
    supervisor = asyncio.run(desk.trade(monkeypatch, stop, rate=2.0))
    before, by_clock, after = moments[0]
    assert by_clock
    [delay] = [entry.body["close_delay_sec"] for entry in read(desk.path, ("decision",))]
    assert GRACE_NS <= delay * NS < 60 * NS
    assert list(supervisor.status().close_delay_sec) == [delay]
    [order], [sent] = read(desk.path, ("order",)), read(desk.path, ("sent",))
    latency = sent.body["latency_ms"] * 1e6
    # it left after it was written down, and before that was
    assert order.at_ns - after <= latency <= sent.at_ns - before
    assert list(supervisor.status().latency_ms) == [sent.body["latency_ms"]]


def test_r14_no_bar_for_too_long_degrades_and_opens_nothing_until_bars_come_again(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path, guards=OFF | {"stale_bars": 1.0})
    blocked: list[str] = []

    async def thaw(supervisor: Supervisor, tws: SimulatedTWS) -> None:
        while supervisor.status().state is not State.DEGRADED:
            await asyncio.sleep(0.02)
        blocked.append(supervisor.gate.blocked)
        tws.fault("freeze", names="none")

    tasks: list[asyncio.Task[None]] = []

    def disturb(supervisor: Supervisor, tws: SimulatedTWS, bars: int) -> None:
        if bars >= 2 and not tasks:
            tws.fault("freeze", names="historicalDataUpdate")
            tasks.append(asyncio.ensure_future(thaw(supervisor, tws)))
        elif (
            tasks
            and tasks[0].done()
            and supervisor.status().state is State.TRADING
            and not supervisor.gate.blocked
        ):
            supervisor.request("stop", "a test")

    supervisor = asyncio.run(desk.trade(monkeypatch, disturb))
    assert blocked[0].startswith("no bar for")
    assert blocked[0].endswith("broker.guards.stale_bars=1 intervals")
    states = [entry.body["state"] for entry in read(desk.path, ("state",))]
    assert "degraded" in states
    assert "trading" in states[states.index("degraded") :]
    assert supervisor.gate.blocked == ""


HALF = date(2025, 11, 28)  # it closes at 14:45


@pytest.fixture(scope="module")
def autumn(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Minutes up to a half day, and the whole bars that they make."""
    root = tmp_path_factory.mktemp("autumn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployments, "FIRST", date(2025, 11, 10))
        patch.setattr(deployments, "END", date(2025, 11, 29))
        minutes = walk(1)
    how = {
        "time": "last",
        "open": "first",
        "high": "max",
        "low": "min",
        "close": "last",
        "volume": "sum",
        "symbol": "last",
    }
    for name, length in (("1m", "1min"), ("30m", "30min"), ("1h", "1h")):
        ends = pd.to_datetime(minutes["time"]).dt.ceil(length)
        bars = minutes.groupby(ends).agg(how)
        bars[pd.to_datetime(bars["time"]) == bars.index].to_csv(
            root / f"walk-{name}.csv", index=False
        )
    return Project.at(root)


@pytest.mark.parametrize("interval", ["30m", "1h"])
@pytest.mark.parametrize(
    "last_trade",
    [(14, 45), (14, 0), (13, 20)],
    ids=["whole", "none in the last bar", "none for an hour"],
)
def test_a_session_ends_by_itself_when_its_last_bar_is_cut_short_or_never_comes(
    autumn: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interval: str,
    last_trade: tuple[int, int],
) -> None:
    """The exchange closes within a bar: the bar closes with it, as in research. A TWS dates it by
    its open alone.
    """
    run = autumn.config(strategy=RANDOM, interval=interval, holdout_start="2025-11-26")
    desk = Desk(autumn, tmp_path, run, calendar.ns_of(HALF, 12, 10), HALF)
    fine = load(autumn.config(holdout_start="2025-11-26").data, autumn.root, holdout=True)
    tape, until = Tape.from_bars(fine, calendar.to_day(HALF)), calendar.ns_of(HALF, *last_trade)
    columns = ("start", "open", "high", "low", "close", "volume")
    desk.tape = replace(tape, **{name: getattr(tape, name)[tape.start < until] for name in columns})

    async def main() -> None:
        async with asyncio.timeout(100.0):
            await desk.trade(monkeypatch, lambda *_: None, wait=True, silent_end=True)

    asyncio.run(main())
    assert desk.supervisor.status().why == "the session's bars ended"
    assert read(desk.path, ("alert",)) == []
    closes = [int(entry.key or 0) for entry in read(desk.path, ("bar",))]
    step = BAR_SEC[interval] * NS
    edges = {
        min(-(-int(start + 1) // step) * step, desk.stage.close_ns) for start in desk.tape.start
    }
    assert closes == sorted(edge for edge in edges if edge >= closes[0])


@pytest.mark.parametrize("absent", [True, False], ids=["connection lost", "machine asleep"])
def test_a_session_whose_last_bar_never_came_ends_though_the_next_one_is_open(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: bool
) -> None:
    """Nobody was there when it closed, and nothing traded at its end: bars of the next session are
    none of this one.
    """
    day = date(2025, 11, 11)
    desk = Desk(shop, tmp_path, start_ns=calendar.ns_of(day, 16, 10), day=day)
    both = Tape.from_bars(
        load(desk.session_config.deployed.config.data, shop.root, holdout=True),
        calendar.to_day(DAY),
    )
    kept = both.start != calendar.ns_of(day, 16, 45)
    columns = ("start", "open", "high", "low", "close", "volume")
    desk.tape = replace(
        both,
        **{name: getattr(both, name)[kept] for name in columns},
        first=int(np.searchsorted(both.start, desk.start_ns)),
    )
    tasks: list[asyncio.Task[None]] = []

    async def be_away(tws: SimulatedTWS) -> None:
        tws.stop_listening()
        for session in list(tws.sessions):
            session.close()
        while tws.player.now() < calendar.ns_of(day, 18, 20):
            await asyncio.sleep(0.02)
        await tws.listen()

    def leave(_: Supervisor, tws: SimulatedTWS, bars: int) -> None:
        if bars == 1 and absent:
            tasks.append(asyncio.ensure_future(be_away(tws)))
        elif bars == 1:
            time.sleep(9.0)  # two hours of the market

    supervisor = asyncio.run(
        desk.trade(monkeypatch, leave, wait=True, stride_sec=STRIDE_SEC if absent else 0.0)
    )
    assert desk.tws.book.now >= calendar.ns_of(day, 18)
    assert supervisor.status().why == "the session's bars ended"
    assert all(int(entry.key or 0) < desk.stage.close_ns for entry in read(desk.path, ("bar",)))
