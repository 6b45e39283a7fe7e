"""The trades behind the minutes of a generated world: seconds, trades and books say the same."""

from __future__ import annotations

import json
import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from comparisons import digest

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.data import dbn, depth
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, order_books, trade_tape

from .conftest import FIRST

# a Wednesday with an inventory report, a roll (MCLG4's last trade date is the 19th), a half session
DAYS = (date(2024, 1, 10), date(2024, 1, 18), date(2024, 1, 15))
MINUTE = 60 * NS
PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    folder = tmp_path_factory.mktemp("world")
    return generator.generate(spec, folder, first=FIRST, last=date(2024, 1, 19))


def coarser(bars: np.ndarray, step: int) -> dict[tuple[int, int], list[int]]:
    """(instrument, start) -> open, high, low, close, volume of bars of `step` ns."""
    cells: dict[tuple[int, int], list[int]] = {}
    for row in bars:
        key = int(row["instrument_id"]), int(row["ts_event"]) // step * step
        open_, high, low, close = (int(row[name]) for name in PRICES)
        cell = cells.setdefault(key, [open_, high, low, close, 0])
        cell[1:4] = max(cell[1], high), min(cell[2], low), close
        cell[4] += int(row["volume"])
    return cells


@pytest.mark.parametrize("day", DAYS)
def test_seconds_of_every_instrument_add_up_to_its_minutes(home: Path, day: date) -> None:
    bars = trade_tape.session_bars(home, day)
    seconds = trade_tape.second_records(bars)
    spreads = bars.records["instrument_id"] >= 43_000_000
    assert spreads.any()
    assert (coarser(seconds, MINUTE) == coarser(bars.records, MINUTE)) is True
    stamps = seconds["ts_event"].astype(np.int64)
    assert (stamps % NS == 0).all()
    assert (np.diff(stamps) >= 0).all()
    keys = np.stack([stamps, seconds["instrument_id"].astype(np.int64)])
    assert np.unique(keys, axis=1).shape[1] == len(seconds), "one bar a second and instrument"


@pytest.mark.parametrize("day", DAYS)
def test_trades_make_the_seconds_and_stand_in_the_books(home: Path, day: date) -> None:
    bars = trade_tape.session_bars(home, day)
    trades = trade_tape.trade_records(bars)
    assert (trades["size"] >= 1).all()
    assert set(trades["side"]) == {b"A", b"B"}
    assert 0.45 < (trades["side"] == b"B").mean() < 0.55, "both sides are aggressive alike"
    same_second = trades["ts_recv"] // NS == trades["ts_event"] // NS
    assert same_second.all(), "a trade is known in the second in which it happens"
    records, header = order_books.session(home, day, "mbp-1")
    assert len(header.mappings) == 2
    for instrument_id in {m.instrument_id for m in header.mappings}:
        printed = records[(records["action"] == b"T") & (records["instrument_id"] == instrument_id)]
        own = trades[trades["instrument_id"] == instrument_id]
        for name in ("ts_event", "ts_recv", "price", "size", "side"):
            assert np.array_equal(printed[name], own[name]), name
        at_ask = np.where(printed["side"] == b"B", printed["ask_px_00"], printed["bid_px_00"])
        assert np.array_equal(at_ask, printed["price"]), "a buyer trades at the ask"


def test_files_are_written_once_and_are_those_of_the_seed(home: Path, tmp_path: Path) -> None:
    trade_tape.generate(home, DAYS[:1])
    path = home / "ohlcv-1s" / f"{DAYS[0]}.dbn.zst"
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    trade_tape.generate(home, DAYS[:1])
    assert path.stat().st_mtime_ns == stamp
    path.unlink()
    trade_tape.generate(home, DAYS[:1])
    assert digest(path.read_bytes()) == digest(before)
    assert dbn.header(path).schema == "ohlcv-1s"
    spec = SyntheticData(source="synthetic", seed=12)
    other = generator.generate(spec, tmp_path, first=DAYS[0], last=DAYS[0])
    theirs = trade_tape.second_records(trade_tape.session_bars(other, DAYS[0]))
    ours = dbn.read(path)[1]
    assert digest(theirs.tobytes()) != digest(ours.tobytes())


def test_what_is_asked_for_does_not_change_a_contracts_trades(home: Path) -> None:
    bars = trade_tape.session_bars(home, DAYS[0])
    every = trade_tape.trade_records(bars)
    some = int(every["instrument_id"][0])
    alone = trade_tape.trade_records(bars, [some])
    part = every[every["instrument_id"] == some]
    assert digest(alone.tobytes()) == digest(part.tobytes())


def test_refusals(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trades of schema 'ohlcv-2s'; did you mean 'ohlcv-1s'"):
        trade_tape.generate(home, DAYS, "ohlcv-2s")
    with pytest.raises(DataError, match="is no generated world"):
        trade_tape.generate(tmp_path, DAYS)
    with pytest.raises(DataError, match="has no bars in the session 2024-06-03"):
        trade_tape.generate(home, [date(2024, 6, 3)])
    with pytest.raises(DataError, match="has more than 100 events"):
        order_books.generate(home, DAYS[:1], "mbp-1", events=100)
    with pytest.raises(DataError, match="an order book has 1 to 100,000,000 events; events=0"):
        order_books.generate(home, DAYS[:1], "mbp-1", events=0)


# ------------------------------------------------------------------------------------- large books


@pytest.mark.parametrize("schema", ["mbp-1", "mbp-10"])
def test_a_book_has_as_many_events_as_are_asked_for(
    home: Path, tmp_path: Path, schema: str
) -> None:
    order_books.generate(home, DAYS[:1], schema, events=150_000)
    path = home / schema / f"{DAYS[0]}.dbn.zst"
    records = dbn.read(path)[1]
    assert len(records) == 150_000
    assert (np.diff(records["ts_recv"].astype(np.int64)) >= 0).all()
    assert (records["bid_px_00"] < records["ask_px_00"]).all()
    for instrument_id in np.unique(records["instrument_id"]):
        sequence = records["sequence"][records["instrument_id"] == instrument_id]
        assert np.array_equal(sequence, np.arange(1, len(sequence) + 1))
    quotes = records[records["action"] != b"T"]
    hour = (quotes["ts_event"].astype(np.int64) - int(quotes["ts_event"][0])) // (3600 * NS)
    by_hour = np.bincount(hour)
    assert by_hour[15] > 3 * by_hour[4], "quotes come where volume comes"
    stored = depth.build(path, "MCL", tmp_path)
    book = stored.book("MCLG4", DAYS[0], 1)
    assert book.sound.all()
    still = np.mean((np.diff(book.bid[0]) == 0) & (np.diff(book.ask[0]) == 0))
    assert still > 0.7, "most quotes change a size, not the best price"
    again = json.loads((home / schema / "events.json").read_text())
    assert again == {str(DAYS[0]): 150_000}
    path.unlink()
    (home / schema / "events.json").unlink()


def test_a_large_book_is_written_in_pieces(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of memory does not grow with the number of events."""
    monkeypatch.setattr(order_books, "PIECE", 10_000)
    peaks = []
    for events in (100_000, 400_000):
        tracemalloc.start()
        order_books.generate(home, DAYS[:1], "mbp-10", events=events)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        (home / "mbp-10" / f"{DAYS[0]}.dbn.zst").unlink()
    whole = 400_000 * dbn.dtype("mbp-10").itemsize
    assert peaks[1] < whole / 3
    assert peaks[1] < 2 * peaks[0]


def test_a_few_quotes_a_minute_are_the_same_whatever_was_asked_before(home: Path) -> None:
    plain = order_books.session(home, DAYS[0], "mbp-1")[0]
    order_books.generate(home, DAYS[:1], "mbp-1", events=60_000)
    order_books.generate(home, DAYS[:1], "mbp-1")
    path = home / "mbp-1" / f"{DAYS[0]}.dbn.zst"
    assert digest(dbn.read(path)[1].tobytes()) == digest(plain.tobytes())
