"""The trades behind the one-minute bars of a generated world, and the one-second bars made of them:
one session at a time, on request.

Trades walk from the open over high and low to the close of every bar and add up to its volume, so
that bars made from these trades are the world's bars. How many seconds of a minute trade, how the
volume is spread over them, and how prices bounce inside a second follow the figures measured on
one-second bars of MCL: seconds with trades come together, there are more of them where a minute
moves more, and part of what a price moves between two trades grows with the time between them.
`mcl data realism` prints the figures next to those of a world.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcl.base import progress
from mcl.base.errors import DataError, nearest
from mcl.base.instants import NS
from mcl.base.jit import njit
from mcl.data import dbn
from mcl.data.table import PRICES
from mcl.market import calendar
from mcl.market.calendar import DAY_NS, from_day, to_day
from mcl.market.instruments import MCL

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

STREAM = 8  # part of every seed
LATENCY_NS = 150_000
LAST_OF_EVENT = 128  # a flag
TICK = round(MCL.tick_size * dbn.PRICE_SCALE)
MINUTE, SECONDS = 60 * NS, 60
# Seconds of a minute that trade, for v contracts and a range of r ticks: 60 (1 - exp(-x)) with
# x = a v^b (r + 1)^c and gamma noise: the same volume is in more seconds where prices move more.
SECONDS_A, SECONDS_B, SECONDS_C, SECONDS_SHAPE = 0.0168, 0.506, 0.448, 7.0
# they come together: an AR(1) over the seconds, and the sd of the log of their weight
CLUSTER_PHI, CLUSTER_SD = 0.8, 0.5
# volume is uneven over them: the gamma shape of a second's weight
VOLUME_SHAPE = 0.30
PRINTS = 0.55  # further trades of a second for each further contract in it
# ticks between the mid and a trade by hour from 18:00 New York: Roll's estimate on changes of
# neighbouring seconds, less what rounding to the tick adds
_HALF_SPREAD = (
    *(1.28, 0.89, 0.65, 0.57, 0.56, 0.65, 0.60, 0.60, 0.53, 0.53, 0.52, 0.49),
    *(0.52, 0.50, 0.53, 0.51, 0.52, 0.50, 0.51, 0.57, 0.57, 0.56, 0.75),
)
HALF_SPREAD = np.array(_HALF_SPREAD)
# how many more seconds trade than the formula says, by hour from 18:00
_BUSY = (
    *(0.98, 0.96, 0.98, 0.98, 0.93, 0.95, 0.93, 0.94, 0.98, 0.93, 0.95, 0.95),
    *(0.97, 0.95, 0.96, 1.03, 1.02, 0.96, 0.89, 0.81, 0.86, 0.88, 0.89),
)
BUSY = np.array(_BUSY)
SAME_SIDE = 0.52  # a trade follows one of the same side in an earlier second
# how much prices move inside a second by hour from 18:00: the chance that a trade is of the other
# side than the one before, and the variance of a step over that of one between seconds
_INSIDE = (
    *(0.50, 0.32, 0.26, 0.15, 0.29, 0.27, 0.16, 0.13, 0.13, 0.090, 0.087, 0.080),
    *(0.085, 0.105, 0.069, 0.066, 0.086, 0.071, 0.070, 0.088, 0.066, 0.120, 0.155),
)
INSIDE = np.array(_INSIDE)
# part of the variance between two seconds with trades that does not grow with the time between
AT_ONCE = 0.25
WIDTH = 0.74  # sd of the mid over a minute, over the bar's range less the bounce
LARGEST_STRETCH = 3.0  # of a path beyond its open and close, to reach the bar's extremes
_FIRST_NS, _LAST_NS = NS // 1000, 997 * NS // 1000  # of a second: known in the same second


@dataclass(frozen=True)
class Trades:
    """Aligned arrays of one contract, in order of time: ns, price in ticks, contracts, whether the
    buyer was aggressive.
    """

    ts: Ints
    price: Ints
    size: Ints
    bought: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True)
class SessionBars:
    """The one-minute bars of one session of a world, and where they come from."""

    records: dbn.Records
    mappings: tuple[dbn.Mapping, ...]
    seed: int
    start: int  # ns
    stop: int
    day: date


def session_bars(home: Path, day: date) -> SessionBars:
    """Read a session of the world at `home`. DataError for a folder that is no world, and for a
    session that the world does not have.
    """
    try:
        parameters = json.loads((home / "world.json").read_text())["parameters"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{home} is no generated world: {error}",
            "order books are made for generated worlds only",
        ) from error
    table = calendar.sessions(day, day + timedelta(days=1))
    start, stop = int(table.open_ns[0]), int(table.close_ns[0])
    pieces: list[dbn.Records] = []
    mappings: list[dbn.Mapping] = []
    for path in sorted((home / "ohlcv-1m").glob("*.dbn.zst")):
        header = dbn.header(path)
        if header.start < stop and (header.end or stop) > start:
            records = _month((path, path.stat().st_mtime_ns))
            first, last = np.searchsorted(records["ts_event"], np.array([start, stop], np.uint64))
            pieces.append(records[first:last])
            mappings += header.mappings
    bars = np.concatenate(pieces) if pieces else dbn.blank("ohlcv-1m", 0)
    if not len(bars):
        raise DataError(
            f"{home} has no bars in the session {from_day(int(calendar.session_of(start)))}"
        )
    return SessionBars(bars, tuple(mappings), int(parameters["seed"]), start, stop, day)


@lru_cache(maxsize=3)
def _month(path_stamp: tuple[Path, int]) -> dbn.Records:
    """The records of a file, read again when its time stamp is another."""
    return dbn.read(path_stamp[0])[1]


def trades(bars: SessionBars, instrument_id: int) -> Trades:
    """The trades of one instrument; the same whatever else is asked for."""
    own = bars.records[bars.records["instrument_id"] == instrument_id]
    key = STREAM, bars.seed, to_day(bars.day), instrument_id
    rng = Random(np.random.PCG64(np.random.SeedSequence(key)))
    rows = np.empty((len(own), 6), np.int64)
    rows[:, 0] = own["ts_event"]
    for column, name in enumerate(PRICES, start=1):
        rows[:, column] = own[name] // TICK
    rows[:, 5] = own["volume"]
    most = int(rows[:, 5].sum())
    ts, price, size = (np.empty(most, np.int64) for _ in range(3))
    bought = np.empty(most, np.bool_)
    hour = (own["ts_event"].astype(np.int64) - bars.start) // (3600 * NS)
    table = np.column_stack([HALF_SPREAD, INSIDE, BUSY])
    by_hour = table[np.minimum(hour, len(table) - 1)]
    count = _trade_bars(rng, rows, by_hour, SECOND_WEIGHT, ts, price, size, bought)
    return Trades(ts[:count], price[:count], size[:count], bought[:count])


def trade_records(bars: SessionBars, instruments: Iterable[int] | None = None) -> dbn.Records:
    """Records of schema `trades`, of every instrument unless some are named, in order of time."""
    pieces = []
    for instrument_id in _instruments(bars, instruments):
        tape = trades(bars, instrument_id)
        records = dbn.blank("trades", len(tape))
        records["instrument_id"], records["ts_event"] = instrument_id, tape.ts
        records["ts_recv"] = tape.ts + LATENCY_NS
        records["price"], records["size"] = tape.price * TICK, tape.size
        records["action"], records["side"] = b"T", np.where(tape.bought, b"B", b"A")
        records["flags"], records["ts_in_delta"] = LAST_OF_EVENT, LATENCY_NS // 10
        records["sequence"] = np.arange(1, len(tape) + 1)
        pieces.append(records)
    records = np.concatenate(pieces)
    return records[np.argsort(records["ts_recv"], kind="stable")]


def second_records(bars: SessionBars, instruments: Iterable[int] | None = None) -> dbn.Records:
    """One-second bars of every instrument, or of those that are named, by time and instrument."""
    pieces = []
    for instrument_id in _instruments(bars, instruments):
        tape = trades(bars, instrument_id)
        second = tape.ts // NS
        first = np.flatnonzero(np.diff(second, prepend=-1))
        last = np.append(first[1:], len(tape)) - 1
        records = dbn.blank("ohlcv-1s", len(first))
        records["instrument_id"], records["ts_event"] = instrument_id, second[first] * NS
        records["open"], records["close"] = tape.price[first] * TICK, tape.price[last] * TICK
        records["high"] = np.maximum.reduceat(tape.price, first) * TICK
        records["low"] = np.minimum.reduceat(tape.price, first) * TICK
        records["volume"] = np.add.reduceat(tape.size, first)
        pieces.append(records)
    records = np.concatenate(pieces)
    return records[np.lexsort((records["instrument_id"], records["ts_event"]))]


def generate(home: Path, days: Sequence[date], schema: str = "ohlcv-1s") -> Path:
    """One-second bars or trades of these sessions of the world at `home`, as
    `home`/<schema>/<date>.dbn.zst; existing files stay. Returns `home`. DataError for another
    schema, and for a session that the world does not have.
    """
    if schema not in SCHEMAS:
        raise DataError(f"no trades of schema {schema!r}; {nearest(schema, SCHEMAS)}")
    for day in progress.each("making trades", days):
        path = home / schema / f"{day}.dbn.zst"
        if not path.is_file():
            bars = session_bars(home, day)
            dbn.write(path, SCHEMAS[schema](bars), header(bars, schema))
    return home


def header(bars: SessionBars, schema: str, instruments: Iterable[int] | None = None) -> dbn.Header:
    """The header of a file of one session, with the symbols of its instruments."""
    ids = set(_instruments(bars, instruments))
    own = tuple(sorted({m for m in bars.mappings if m.instrument_id in ids}))
    symbols = tuple(dict.fromkeys(m.raw_symbol for m in own))
    span = bars.start // DAY_NS * DAY_NS, -(-bars.stop // DAY_NS) * DAY_NS
    return dbn.Header("GLBX.MDP3", schema, "raw_symbol", symbols, *span, own)


SCHEMAS: dict[str, Callable[[SessionBars], dbn.Records]] = {
    "ohlcv-1s": second_records,
    "trades": trade_records,
}


def _instruments(bars: SessionBars, wanted: Iterable[int] | None) -> list[int]:
    ids = np.unique(bars.records["instrument_id"]).tolist() if wanted is None else wanted
    return [int(i) for i in ids]


def _second_weight() -> Floats:
    """Weigh the seconds of a minute by how often they trade, over the mean: more often just after
    the full minute.
    """
    at = np.arange(SECONDS)
    weight = 0.97 + 0.34 * np.exp(-at / 0.7) + 0.23 * np.exp(-at / 7.0)
    scaled: Floats = weight / weight.mean()
    return scaled


SECOND_WEIGHT = _second_weight()


# -------------------------------------------------------------------------------------- one minute


@njit
def _trade_bars(
    rng: Random,
    rows: Ints,
    by_hour: Floats,
    weight: Floats,
    ts: Ints,
    price: Ints,
    size: Ints,
    bought: npt.NDArray[np.bool_],
) -> int:
    """Trade all bars of one instrument (columns: ns, open, high, low, close, volume), with
    the half spread and the movement inside a second at each; returns the number of trades.
    """
    count, side = 0, 1.0
    for i in range(len(rows)):
        row = rows[i]
        needed = _fewest(row)
        busy = SECONDS_A * by_hour[i, 2] * (1.0 + row[2] - row[3]) ** SECONDS_C
        seconds = _seconds(rng, weight, row[5], busy)
        lots = _lots(rng, len(seconds), row[5])
        prints = _prints(rng, lots, needed)
        first = count
        for j in range(len(seconds)):
            offsets = np.empty(prints[j], np.int64)
            for k in range(prints[j]):
                offsets[k] = _FIRST_NS + int(rng.random() * (_LAST_NS - _FIRST_NS))
            offsets.sort()
            share, more = divmod(lots[j], prints[j])
            for k in range(prints[j]):
                ts[count] = row[0] + seconds[j] * NS + offsets[k]
                size[count] = share + (1 if k < more else 0)
                count += 1
        parts = ts[first:count], price[first:count], bought[first:count]
        side = _walk(rng, row, by_hour[i], parts, side)
    return count


@njit
def _fewest(row: Ints) -> int:
    """The fewest trades that make this bar: open, close, and each extreme that is neither."""
    open_, high, low, close = row[1], row[2], row[3], row[4]
    if high == low:
        return 1
    ends = 1 if open_ == close and high == low else 2
    return ends + int(high > max(open_, close)) + int(low < min(open_, close))


@njit
def _seconds(rng: Random, weight: Floats, volume: int, busy: float) -> Ints:
    """The seconds of a minute in which `volume` contracts trade; `busy` is x for one contract."""
    busy *= float(volume) ** SECONDS_B * rng.standard_gamma(SECONDS_SHAPE) / SECONDS_SHAPE
    wanted = SECONDS * (1 - np.exp(-busy))
    count = max(1, min(int(wanted + rng.random()), volume, SECONDS))
    keys, level = np.empty(SECONDS), rng.standard_normal()
    for s in range(SECONDS):
        level = CLUSTER_PHI * level + np.sqrt(1 - CLUSTER_PHI**2) * rng.standard_normal()
        keys[s] = rng.standard_exponential() / (weight[s] * np.exp(CLUSTER_SD * level))
    return np.sort(np.argsort(keys)[:count])


@njit
def _lots(rng: Random, seconds: int, volume: int) -> Ints:
    """`volume` contracts over so many seconds, at least one in each."""
    weights = np.empty(seconds)
    for j in range(seconds):
        weights[j] = rng.standard_gamma(VOLUME_SHAPE) + 1e-9
    lots = np.ones(seconds, np.int64)
    edge, before, total = rng.random(), 0, weights.sum()
    running = 0.0
    for j in range(seconds):
        running += weights[j]
        upto = int((volume - seconds) * running / total + edge)
        if j == seconds - 1:
            upto = volume - seconds
        lots[j] += upto - before
        before = upto
    return lots


@njit
def _prints(rng: Random, lots: Ints, needed: int) -> Ints:
    """Give each second its trades: at most its contracts, and `needed` of all in sum."""
    prints = np.empty(len(lots), np.int64)
    for j in range(len(lots)):
        prints[j] = 1 + int((lots[j] - 1) * PRINTS + rng.random() * (lots[j] > 1))
        prints[j] = min(prints[j], lots[j])
    j = 0
    while prints.sum() < needed:
        prints[j] = min(prints[j] + 1, lots[j])
        j = (j + 1) % len(lots)
    return prints


@njit
def _walk(
    rng: Random,
    row: Ints,
    by_hour: Floats,
    trades: tuple[Ints, Ints, npt.NDArray[np.bool_]],
    side: float,
) -> float:
    """Prices of the trades of one bar (ns, price, bought): a bridge from its open to its close that
    bounces between bid and ask and touches high and low. Takes the side of the last trade, returns
    the new one.
    """
    ts, price, bought = trades
    half, movement = by_hour[0], by_hour[1]
    count = len(ts)
    seconds = 1
    for i in range(1, count):
        seconds += ts[i] // NS != ts[i - 1] // NS
    mean_wait = SECONDS / seconds
    open_, high, low, close = row[1], row[2], row[3], row[4]
    level, levels = 0.0, np.zeros(count)
    sides = np.empty(count)
    time, times = 0.0, np.zeros(count)
    for i in range(count):
        inside = i > 0 and ts[i] // NS == ts[i - 1] // NS
        if rng.random() >= (1 - movement if inside else SAME_SIDE):
            side = -side
        sides[i] = side
        bought[i] = side > 0
        if i > 0:
            waited = (ts[i] // NS - ts[i - 1] // NS) / mean_wait
            step = movement if inside else AT_ONCE + (1 - AT_ONCE) * waited
            time += step
            level += np.sqrt(step) * rng.standard_normal()
        levels[i], times[i] = level, time
    width = WIDTH * max(0.0, high - low - 1.0) / np.sqrt(max(time, 1.0))
    from_, to = open_ - half * sides[0], close - half * sides[count - 1]
    for i in range(count):
        part = times[i] / max(time, 1e-9)
        levels[i] = from_ + (to - from_) * part + width * (levels[i] - part * level)
    upper, lower = max(from_, to), min(from_, to)
    up = _stretch(levels.max() - upper, high - half - upper)
    down = _stretch(lower - levels.min(), lower - low - half)
    for i in range(count):
        mid = levels[i] + (up - 1) * max(0.0, levels[i] - upper)
        mid -= (down - 1) * max(0.0, lower - levels[i])
        price[i] = min(high, max(low, int(np.rint(mid + half * sides[i]))))
    price[0], price[count - 1] = open_, close
    _touch(price, high, low)
    return side


@njit
def _stretch(reached: float, wanted: float) -> float:
    """The factor that takes a path as far as its bar went; 1 where it did not leave at all."""
    if reached <= 0 or wanted <= 0:
        return 1.0
    return min(wanted / reached, LARGEST_STRETCH)


@njit
def _touch(price: Ints, high: int, low: int) -> None:
    """Put a trade at each extreme that none has reached: where the path came nearest to it."""
    top = bottom = -1
    for i in range(1, len(price) - 1):
        if top < 0 or price[i] > price[top]:
            top = i
        if bottom < 0 or price[i] <= price[bottom]:
            bottom = i
    reached_high, reached_low = price.max() == high, price.min() == low
    if not reached_high and not reached_low and top == bottom:
        bottom = top + 1 if top + 2 < len(price) else top - 1
    if not reached_high:
        price[top] = high
    if not reached_low:
        price[bottom] = low
