"""Order books for a generated world: MBP-1 or MBP-10 files of single sessions, made on request from
the world's own bars.

Trades walk from the open over high and low to the close of every bar and add up to its volume, so
that bars made from these trades are the world's bars. Around them stands a book whose spread and
depth depend on the time of day. SYNTHETIC DATA: no quotes of MCL were at hand, so spread and depth
are assumptions: 1 to 2 ticks by day, 2 to 4 from 18:00 to 02:00 New York, four times as wide in the
first two minutes, the last five, and at the inventory report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcl.base import progress
from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.data import dbn
from mcl.data.table import PRICES
from mcl.market import calendar
from mcl.market.calendar import DAY_NS, from_day, to_day
from mcl.market.instruments import MCL

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

STREAM = 6  # part of every seed
LEVELS = {"mbp-1": 1, "mbp-10": 10}
TICK = round(MCL.tick_size * dbn.PRICE_SCALE)
# mean size of the best level; each further level is so much larger
TOP_LOTS_DAY, TOP_LOTS_NIGHT, DEEPER = 24.0, 8.0, 0.35
QUOTES_PER_MINUTE = 4
BOOKS = 2  # contracts per session
LATENCY_NS = 150_000
_WIDE = 4  # times the usual spread
_OUTRIGHTS = (42_000_000, 43_000_000)  # ids of outrights in a generated world


@dataclass(frozen=True)
class _Events:
    """Aligned, in order of time: ns, last trade price in ticks, contracts traded (0: a quote),
    whether the buyer was aggressive.
    """

    ts: Ints
    price: Ints
    size: Ints
    bought: npt.NDArray[np.bool_]


def generate(home: Path, days: Sequence[date], schema: str = "mbp-10") -> Path:
    """Books of the two busiest contracts in these sessions of the world at `home`, as
    `home`/<schema>/<date>.dbn.zst; existing files stay.

    Deterministic in the world's seed. Returns `home`. DataError for a session that the world does
    not have.
    """
    for day in progress.each("making order books", days):
        path = home / schema / f"{day}.dbn.zst"
        if not path.is_file():
            dbn.write(path, *session(home, day, schema))
    return home


def session(home: Path, day: date, schema: str) -> tuple[dbn.Records, dbn.Header]:
    """Return the records and the header that `generate` writes for one session."""
    if schema not in LEVELS:
        raise DataError(
            f"no synthetic order book of schema {schema!r}; choose {' or '.join(LEVELS)}"
        )
    try:
        parameters = json.loads((home / "world.json").read_text())["parameters"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{home} is no generated world: {error}",
            "order books are made for generated worlds only",
        ) from error
    return _session(home, day, schema, int(parameters["seed"]))


def _session(home: Path, day: date, schema: str, seed: int) -> tuple[dbn.Records, dbn.Header]:
    table = calendar.sessions(day, date.fromordinal(day.toordinal() + 1))
    start, stop = int(table.open_ns[0]), int(table.close_ns[0])
    bars, mappings = _bars(home, start, stop)
    books = []
    for instrument_id in _busiest(bars):
        rng = Random(
            np.random.PCG64(np.random.SeedSequence((STREAM, seed, to_day(day), instrument_id)))
        )
        events = _events(bars[bars["instrument_id"] == instrument_id], start, stop, rng)
        books.append(_records(events, schema, instrument_id, start, stop, rng))
    records = np.concatenate(books)
    span = start // DAY_NS * DAY_NS, -(-stop // DAY_NS) * DAY_NS
    own_mappings = tuple(
        sorted({m for m in mappings if m.instrument_id in set(records["instrument_id"].tolist())})
    )
    symbols = tuple(dict.fromkeys(m.raw_symbol for m in own_mappings))
    return records[np.argsort(records["ts_recv"], kind="stable")], dbn.Header(
        "GLBX.MDP3", schema, "raw_symbol", symbols, *span, own_mappings
    )


def _bars(home: Path, start: int, stop: int) -> tuple[dbn.Records, list[dbn.Mapping]]:
    """The bars of outrights between two instants, and the symbols of the files that hold them."""
    pieces: list[dbn.Records] = []
    mappings: list[dbn.Mapping] = []
    for path in sorted((home / "ohlcv-1m").glob("*.dbn.zst")):
        header = dbn.header(path)
        if header.start < stop and (header.end or stop) > start:
            records = dbn.read(path)[1]
            ts = records["ts_event"].astype(np.int64)
            pieces.append(records[(ts >= start) & (ts < stop)])
            mappings += header.mappings
    session_bars = np.concatenate(pieces) if pieces else dbn.blank("ohlcv-1m", 0)
    outright = session_bars[
        (session_bars["instrument_id"] >= _OUTRIGHTS[0])
        & (session_bars["instrument_id"] < _OUTRIGHTS[1])
    ]
    if not len(outright):
        raise DataError(
            f"{home} has no bars in the session {from_day(int(calendar.session_of(start)))}"
        )
    return outright, mappings


def _busiest(bars: dbn.Records) -> list[int]:
    """The two contracts with the most volume: both sides of a roll."""
    ids, code = np.unique(bars["instrument_id"], return_inverse=True)
    return [
        int(i)
        for i in ids[
            np.argsort(-np.bincount(code, bars["volume"].astype(np.float64)), kind="stable")[:BOOKS]
        ]
    ]


def _events(bars: dbn.Records, start: int, stop: int, rng: Random) -> _Events:
    """Trades of every bar, and quotes in every minute whether it traded or not."""
    ts, price, size = [], [], []
    for bar in bars:
        prints = _prints(*(int(bar[name]) // TICK for name in PRICES))
        lots = 1 + rng.multinomial(
            int(bar["volume"]) - len(prints), np.full(len(prints), 1 / len(prints))
        )
        ts.append(int(bar["ts_event"]) + np.sort(rng.integers(NS // 10, 59 * NS, len(prints))))
        price.append(np.array(prints, np.int64))
        size.append(lots.astype(np.int64))
    minutes = (stop - start) // (60 * NS)
    quotes = (
        start
        + (
            np.repeat(np.arange(minutes), QUOTES_PER_MINUTE) * 60
            + rng.random(minutes * QUOTES_PER_MINUTE) * 59.5
        )
        * NS
    )
    when = np.concatenate([*ts, quotes.astype(np.int64)])
    order = np.argsort(when, kind="stable")
    traded = np.concatenate([*size, np.zeros(len(quotes), np.int64)])[order]
    trade_prices = np.concatenate([*price, np.zeros(len(quotes), np.int64)])[order]
    last = np.maximum.accumulate(np.where(traded > 0, np.arange(len(traded)), -1))
    first = int(np.argmax(traded > 0))
    level = trade_prices[np.where(last < 0, first, last)]
    aggressor = rng.random(len(when)) < 0.5
    return _Events(when[order], level, traded, aggressor[np.where(last < 0, first, last)])


def _prints(open_: int, high: int, low: int, close: int) -> list[int]:
    """The fewest trade prices that make this bar: open, its extremes in the order that repeats
    least, close.
    """
    low_first = open_ == low or close == high
    path = (
        [open_, low, high, close]
        if low_first and not (open_ == high or close == low)
        else [open_, high, low, close]
    )
    return [p for i, p in enumerate(path) if i == 0 or p != path[i - 1]]


def _records(
    events: _Events, schema: str, instrument_id: int, start: int, stop: int, rng: Random
) -> dbn.Records:
    n, levels = len(events.ts), LEVELS[schema]
    spread, lots = _spread(events.ts, start, stop, rng), _lots(events.ts, rng)
    # a buyer trades at the ask, a seller at the bid
    ask = np.where(events.bought, events.price, events.price + spread)
    shift = np.where(
        events.size > 0, 0, np.where(events.bought, 1, -1) * (rng.random(n) < 0.3) * spread
    )
    ask = ask + shift  # between trades the other side may come to the last price
    records = dbn.blank(schema, n)
    records["instrument_id"], records["ts_event"], records["ts_recv"] = (
        instrument_id,
        events.ts,
        events.ts + LATENCY_NS,
    )
    records["sequence"], records["flags"], records["ts_in_delta"] = (
        np.arange(1, n + 1),
        128,
        LATENCY_NS // 10,
    )
    trade = events.size > 0
    records["action"], records["size"] = (
        np.where(trade, b"T", b"M"),
        np.where(trade, events.size, lots[0]),
    )
    records["side"] = np.where(events.bought, b"B", b"A")
    records["price"] = np.where(trade, events.price, ask) * TICK
    for level in range(levels):
        quoted = np.maximum(1, rng.poisson(lots * (1 + DEEPER * level)))
        for side, sign, base, row in (("bid", -1, ask - spread, 0), ("ask", 1, ask, 1)):
            traded = (
                np.where(trade & (events.bought == (row == 1)), events.size, 0) if level == 0 else 0
            )
            records[f"{side}_px_{level:02d}"] = (base + sign * level) * TICK
            records[f"{side}_sz_{level:02d}"] = np.maximum(quoted[row], traded)
            records[f"{side}_ct_{level:02d}"] = np.maximum(1, quoted[row] // 3)
    return records


def _clock(ts: Ints) -> Ints:
    """Minutes since 18:00 New York."""
    return (calendar.new_york_ns(ts) // (60 * NS) - 18 * 60) % 1440


def _spread(ts: Ints, start: int, stop: int, rng: Random) -> Ints:
    minute = _clock(ts)
    night = minute < 8 * 60
    usual = np.where(night, 2 + rng.binomial(2, 0.4, len(ts)), 1 + rng.binomial(1, 0.35, len(ts)))
    weekday = np.datetime64(int(calendar.session_of(stop - 1)), "D").astype(object).weekday()
    report = (weekday == 2) & (minute >= 990) & (minute < 992)  # 10:30, an ordinary Wednesday
    wide = (ts < start + 120 * NS) | (ts >= stop - 300 * NS) | report
    return np.where(wide, _WIDE * usual, usual).astype(np.int64)


def _lots(ts: Ints, rng: Random) -> Floats:
    """Mean size of the best level of both sides: float[2, n]."""
    mean = np.where(_clock(ts) < 8 * 60, TOP_LOTS_NIGHT, TOP_LOTS_DAY)
    lots: Floats = mean * rng.gamma(4.0, 0.25, (2, len(ts)))
    return lots
