"""Order books for a generated world: MBP-1 or MBP-10 files of single sessions, made on request from
the world's own bars.

The trades are those of `mcl.data.synthetic.trade_tape`: bars made from them are the world's bars.
Around them stands a book of ten levels whose quotes come where volume comes. Every quote changes
one level; the spread and the best prices move with the trades and every few seconds. SYNTHETIC
DATA: no quotes of MCL were at hand, so spread, depth, sizes and the number of quotes are
assumptions: 1 to 2 ticks by day, 2 to 4 from 18:00 to 02:00 New York, four times as wide in the
first two minutes, the last five, and at the inventory report.

A session is written minute by minute, so that one of ten million events needs no more memory than
one of ten thousand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcl.base import progress
from mcl.base.errors import DataError
from mcl.base.files import write_whole
from mcl.base.instants import NS
from mcl.base.jit import njit
from mcl.data import dbn
from mcl.data.synthetic import calibration, trade_tape
from mcl.data.synthetic.trade_tape import LAST_OF_EVENT, LATENCY_NS, TICK, SessionBars, Trades
from mcl.market import calendar
from mcl.market.calendar import to_day

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

STREAM = 9  # part of every seed
LEVELS = {"mbp-1": 1, "mbp-10": 10}
DEEPEST = 10
# mean size of the best level; each further level is so much larger
TOP_LOTS_DAY, TOP_LOTS_NIGHT, DEEPER = 24.0, 8.0, 0.35
QUOTES_PER_MINUTE = 4  # of a contract, unless a number of events is asked for
EVEN_SHARE = 0.2  # of the quotes: spread evenly over the minutes, the others with the volume
REDRAW_SEC = 2.0  # the spread is drawn anew about so often
BOOKS = 2  # contracts per session
PIECE = 50_000  # events that are in memory at once, about
MOST_EVENTS = 100_000_000
_WIDE = 4  # times the usual spread
_OUTRIGHTS = (42_000_000, 43_000_000)  # ids of outrights in a generated world
_NIGHT_MINUTES, _REPORT_MINUTE = 8 * 60, 990
ASK, SPREAD, LAST_TS, BUYER = range(4)  # the state of a book, next to its sizes
BID_SIDE, ASK_SIDE = 0, 1


def generate(
    home: Path, days: Sequence[date], schema: str = "mbp-10", events: int | None = None
) -> Path:
    """Books of the two busiest contracts in these sessions of the world at `home`, as
    `home`/<schema>/<date>.dbn.zst; existing files of as many events stay.

    events: rows of a session, trades included; None for a few quotes a minute. Deterministic in
    the world's seed. Returns `home`. DataError for a session that the world does not have.
    """
    _check(schema, events)
    counts = home / schema / "events.json"
    written: dict[str, int | None] = json.loads(counts.read_text()) if counts.is_file() else {}
    for day in progress.each("making order books", days):
        path = home / schema / f"{day}.dbn.zst"
        if path.is_file() and written.get(str(day)) == events:
            continue
        bars = trade_tape.session_bars(home, day)
        dbn.write_pieces(
            path,
            _pieces(bars, schema, events),
            trade_tape.header(bars, schema, _busiest(bars.records)),
        )
        written[str(day)] = events
        write_whole(counts, (json.dumps(written, indent=1, sort_keys=True) + "\n").encode())
    return home


def session(
    home: Path, day: date, schema: str, events: int | None = None
) -> tuple[dbn.Records, dbn.Header]:
    """Return the records and the header that `generate` writes for one session."""
    _check(schema, events)
    bars = trade_tape.session_bars(home, day)
    return np.concatenate(list(_pieces(bars, schema, events))), trade_tape.header(
        bars, schema, _busiest(bars.records)
    )


def _check(schema: str, events: int | None) -> None:
    if schema not in LEVELS:
        raise DataError(
            f"no synthetic order book of schema {schema!r}; choose {' or '.join(LEVELS)}"
        )
    if events is not None and not 1 <= events <= MOST_EVENTS:
        raise DataError(f"an order book has 1 to {MOST_EVENTS:,} events; events={events:,}")


def _busiest(bars: dbn.Records) -> list[int]:
    """The two contracts with the most volume: both sides of a roll."""
    outright = (bars["instrument_id"] >= _OUTRIGHTS[0]) & (bars["instrument_id"] < _OUTRIGHTS[1])
    ids, code = np.unique(bars["instrument_id"][outright], return_inverse=True)
    volume = np.bincount(code, bars["volume"][outright].astype(np.float64))
    return [int(i) for i in ids[np.argsort(-volume, kind="stable")[:BOOKS]]]


def _pieces(bars: SessionBars, schema: str, events: int | None) -> Iterator[dbn.Records]:
    """The records of a session in order of time, about PIECE at once."""
    minutes = (bars.stop - bars.start) // (60 * NS)
    tapes = {i: trade_tape.trades(bars, i) for i in _busiest(bars.records)}
    quotes = _quotes(list(tapes.values()), minutes, events)
    books = [
        _Book(bars, instrument_id, tape, count, minutes)
        for (instrument_id, tape), count in zip(tapes.items(), quotes, strict=True)
    ]
    waiting = np.cumsum(sum(book.quotes for book in books)) // PIECE
    for last in np.flatnonzero(np.diff(waiting, append=-1)):
        records = np.concatenate([book.records(int(last) + 1, schema) for book in books])
        yield records[np.argsort(records["ts_recv"], kind="stable")]


def _quotes(tapes: list[Trades], minutes: int, events: int | None) -> list[int]:
    """Quotes of every contract: what is left of `events`, by the root of the contract's trades."""
    if events is None:
        return [QUOTES_PER_MINUTE * minutes] * len(tapes)
    traded = np.array([len(tape) for tape in tapes], np.float64)
    left = events - int(traded.sum())
    if left < 0:
        raise DataError(
            f"a session with {int(traded.sum()):,} trades has more than {events:,} events",
            "ask for more events",
        )
    share = np.sqrt(traded) / np.sqrt(traded).sum()
    counts = np.floor(left * share).astype(np.int64)
    counts[0] += left - int(counts.sum())
    return [int(count) for count in counts]


@dataclass(frozen=True)
class _Events:
    """Aligned, in order of time: ns, trade price in ticks, contracts traded (0: a quote), whether
    the buyer was aggressive.
    """

    ts: Ints
    price: Ints
    size: Ints
    bought: npt.NDArray[np.bool_]


class _Book:
    """The book of one contract, and how far it is written; `quotes` of every minute."""

    def __init__(
        self, bars: SessionBars, instrument_id: int, tape: Trades, count: int, minutes: int
    ) -> None:
        key = STREAM, bars.seed, to_day(bars.day), instrument_id
        self.rng = Random(np.random.PCG64(np.random.SeedSequence(key)))
        self.bars, self.instrument_id, self.tape = bars, instrument_id, tape
        share = calibration.VOLUME_SHARE[:minutes] / calibration.VOLUME_SHARE[:minutes].sum()
        weight = EVEN_SHARE / minutes + (1 - EVEN_SHARE) * share
        if count == QUOTES_PER_MINUTE * minutes:
            weight = np.full(minutes, 1 / minutes)
        # whole quotes that add up to the count
        self.quotes = np.diff(np.rint(count * np.cumsum(weight)).astype(np.int64), prepend=0)
        self.minute = self.trade = self.sequence = 0
        self.sizes = np.zeros((2, DEEPEST), np.int64)
        self.state = np.array([tape.price[0] + 1, 1, bars.start, 0], np.int64)

    def records(self, until: int, schema: str) -> dbn.Records:
        """The records of the minutes that are left before the minute `until`."""
        events = self._events(until)
        n = len(events.ts)
        weekday = np.datetime64(self.bars.day).astype(object).weekday()
        night, wide = _times(events.ts, self.bars, weekday)
        best, sizes = np.empty((n, 2), np.int64), np.empty((n, 2, DEEPEST), np.int64)
        changed = np.empty((n, 3), np.int64)
        _follow(
            self.rng,
            (events.ts, events.price, events.size, events.bought),
            (night, wide),
            self.state,
            self.sizes,
            best,
            sizes,
            changed,
        )
        records = _records(events, schema, self.instrument_id, best, sizes, changed)
        records["sequence"] = self.sequence + np.arange(1, n + 1)
        self.sequence += n
        return records

    def _events(self, until: int) -> _Events:
        """Trades and quotes of these minutes."""
        counts = self.quotes[self.minute : until]
        minutes = np.repeat(np.arange(self.minute, until), counts)
        seconds = 60 * minutes + self.rng.random(len(minutes)) * 59.5
        quotes = np.sort(self.bars.start + (seconds * NS).astype(np.int64))
        self.minute = until
        end = int(np.searchsorted(self.tape.ts, self.bars.start + until * 60 * NS))
        part, self.trade = slice(self.trade, end), end
        ts = np.concatenate([self.tape.ts[part], quotes])
        order = np.argsort(ts, kind="stable")
        empty = np.zeros(len(quotes), np.int64)
        return _Events(
            ts[order],
            np.concatenate([self.tape.price[part], empty])[order],
            np.concatenate([self.tape.size[part], empty])[order],
            np.concatenate([self.tape.bought[part], empty.astype(np.bool_)])[order],
        )


def _times(
    ts: Ints, bars: SessionBars, weekday: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether it is night, and whether the spread is wide."""
    minute = (calendar.new_york_ns(ts) // (60 * NS) - 18 * 60) % 1440
    report = (weekday == 2) & (minute >= _REPORT_MINUTE) & (minute < _REPORT_MINUTE + 2)
    wide = (ts < bars.start + 120 * NS) | (ts >= bars.stop - 300 * NS) | report
    return minute < _NIGHT_MINUTES, wide


def _records(
    events: _Events, schema: str, instrument_id: int, best: Ints, sizes: Ints, changed: Ints
) -> dbn.Records:
    """`best`: bid and ask in ticks; `changed`: side and level that a quote changed, and whether it
    became larger.
    """
    records = dbn.blank(schema, len(events.ts))
    trade = events.size > 0
    records["instrument_id"], records["ts_event"] = instrument_id, events.ts
    records["ts_recv"] = events.ts + LATENCY_NS
    records["flags"], records["ts_in_delta"] = LAST_OF_EVENT, LATENCY_NS // 10
    side, level, larger = changed.T
    row = np.arange(len(trade))
    quoted = np.where(side == ASK_SIDE, best[:, 1] + level, best[:, 0] - level)
    records["action"] = np.where(trade, b"T", np.where(larger > 0, b"A", b"C"))
    records["side"] = np.where(
        trade, np.where(events.bought, b"B", b"A"), np.where(side == ASK_SIDE, b"A", b"B")
    )
    records["depth"] = np.where(trade, 0, level)
    records["price"] = np.where(trade, events.price, quoted) * TICK
    records["size"] = np.where(trade, events.size, sizes[row, side, level])
    for k in range(LEVELS[schema]):
        for name, sign, of in (("bid", -1, BID_SIDE), ("ask", 1, ASK_SIDE)):
            records[f"{name}_px_{k:02d}"] = (best[:, of] + sign * k) * TICK
            records[f"{name}_sz_{k:02d}"] = sizes[:, of, k]
            records[f"{name}_ct_{k:02d}"] = np.maximum(1, sizes[:, of, k] // 3)
    return records


@njit
def _spread(rng: Random, night: bool, wide: bool) -> int:
    """A spread in ticks."""
    usual = 2 + int(rng.random() < 0.4) + int(rng.random() < 0.4)
    if not night:
        usual = 1 + int(rng.random() < 0.35)
    return _WIDE * usual if wide else usual


@njit
def _level_size(rng: Random, night: bool, level: int) -> int:
    mean = TOP_LOTS_NIGHT if night else TOP_LOTS_DAY
    lots = mean * (1 + DEEPER * level) * rng.standard_gamma(4.0) / 4.0
    return max(1, rng.poisson(lots))


@njit
def _move(rng: Random, sizes: Ints, by: int, night: bool) -> None:
    """Shift the levels of a side whose best price came `by` ticks nearer; below zero: went away."""
    for k in range(DEEPEST - 1, -1, -1) if by > 0 else range(DEEPEST):
        from_ = k - by
        if 0 <= from_ < DEEPEST:
            sizes[k] = sizes[from_]
        else:
            sizes[k] = _level_size(rng, night, k)


@njit
def _follow(
    rng: Random,
    events: tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]],
    times: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    state: Ints,
    book: Ints,
    best: Ints,
    sizes: Ints,
    changed: Ints,
) -> None:
    """Take the book through the events; `state` and `book` are updated, the other three are the
    book after each event: of a trade, the book that it met.
    """
    ts, price, traded, bought = events
    night, wide = times
    if book[0, 0] == 0:
        for k in range(DEEPEST):
            book[BID_SIDE, k] = _level_size(rng, night[0], k)
            book[ASK_SIDE, k] = _level_size(rng, night[0], k)
    for i in range(len(ts)):
        ask, spread = state[ASK], state[SPREAD]
        elapsed = (ts[i] - state[LAST_TS]) / 1e9
        state[LAST_TS] = ts[i]
        trade = traded[i] > 0
        fresh = rng.random() < 1 - np.exp(-elapsed / REDRAW_SEC)
        new_spread = _spread(rng, night[i], wide[i]) if fresh else spread
        new_ask = ask
        if trade:
            state[BUYER] = int(bought[i])
            new_ask = price[i] if bought[i] else price[i] + new_spread
        elif fresh:
            # the side that did not trade keeps its distance, or comes to the last price
            last = ask if state[BUYER] == 1 else ask - spread
            new_ask = last if state[BUYER] == 1 else last + new_spread
        _move(rng, book[ASK_SIDE], ask - new_ask, night[i])
        _move(rng, book[BID_SIDE], (new_ask - new_spread) - (ask - spread), night[i])
        state[ASK], state[SPREAD] = new_ask, new_spread
        side = ASK_SIDE if rng.random() < 0.5 else BID_SIDE
        level = min(DEEPEST - 1, int(rng.standard_exponential() * 2.5))
        before = book[side, level]
        if trade:
            side, level = (ASK_SIDE if bought[i] else BID_SIDE), 0
            book[side, 0] = max(book[side, 0], traded[i])
        else:
            book[side, level] = _level_size(rng, night[i], level)
        best[i, 0], best[i, 1] = new_ask - new_spread, new_ask
        changed[i, 0], changed[i, 1] = side, level
        changed[i, 2] = int(book[side, level] >= before)
        sizes[i] = book
        if trade:
            book[side, 0] = max(1, book[side, 0] - traded[i])
