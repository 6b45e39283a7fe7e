"""`Table`: all bars of all outright contracts of one product, checked. Every source ends here and every `Bars` begins here.

A check refuses the whole build with one sentence that names the place and the value: a damaged row is never skipped. What is
left out on purpose is counted by cause and written to the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.calendar import NS, Sessions, from_day, session_of
from mcl.data.roll import Volumes
from mcl.errors import DataError, nearest
from mcl.market import INSTRUMENTS, Contract, Instrument

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STEPS_SEC = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "session": 0}
PRICES = ("open", "high", "low", "close")
_QUOTE = "open {open}, high {high}, low {low}, close {close}"


@dataclass(frozen=True)
class Rows:
    """Aligned arrays of bars. `ts_event` (ns, UTC) is the open of the bar, prices are price units of the dated contract."""

    contract: Ints  # index into the contracts
    ts_event: Ints
    session: Ints  # days since 1970-01-01
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints

    def __len__(self) -> int:
        return len(self.ts_event)

    def take(self, index: Any) -> Rows:
        return Rows(*(getattr(self, name)[index] for name in ROW_COLUMNS))


ROW_COLUMNS = ("contract", "ts_event", "session", *PRICES, "volume")


@dataclass(frozen=True)
class Table:
    """`rows` are ordered by (contract, ts_event); `contracts` by last trade date; `calendar` reaches beyond the last trade dates.

    statistics  session, contract, kind ("settlement", "cleared_volume", "open_interest"), value, known_at: one row per publication
    counts      rows read, kept, and left out by cause
    facts       what the source says about itself: request, world and seed, vendor conditions
    """

    instrument: Instrument
    interval: str  # of the rows: a key of STEPS_SEC
    contracts: tuple[Contract, ...]
    listed_at: Ints  # ns; when each contract was first known
    calendar: Sessions
    rows: Rows
    statistics: pd.DataFrame
    synthetic: bool
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def instrument(symbol: str) -> Instrument:
    if symbol not in INSTRUMENTS:
        raise DataError(f"unknown instrument {symbol!r}; {nearest(symbol, INSTRUMENTS)}")
    return INSTRUMENTS[symbol]


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DataError(f"unknown timezone {name!r}; for instance UTC or America/New_York") from error


def clock(ns: int) -> str:
    """A time as people read it in an error."""
    return f"{pd.Timestamp(int(ns), tz='UTC'):%Y-%m-%d %H:%M:%S} UTC"


def check(rows: Rows, symbols: tuple[str, ...], of: Instrument, origin: str, lines: Ints | None = None) -> None:
    """Refuse damaged rows: NaN, off-tick, high and low that contradict, negative volume, unsorted or duplicated times.

    `rows` in file order within each contract; `lines` are their line numbers in a text file, for the sentence.
    """

    def refuse(bad: npt.NDArray[np.bool_], rule: str) -> None:
        if bad.any():
            i = int(np.argmax(bad))
            place = f"{symbols[rows.contract[i]]} at {clock(rows.ts_event[i])}" + (f", line {lines[i]}" if lines is not None else "")
            raise DataError(f"{origin}: {place}: {rule.format(**_row(rows, i))}")

    price = np.stack([getattr(rows, name) for name in PRICES])
    refuse(~np.isfinite(price).all(axis=0), f"a price is missing or not finite ({_QUOTE})")
    ticks = price / of.tick_size
    off = np.any(np.abs(ticks - np.rint(ticks)) > 1e-4, axis=0)
    refuse(off, f"a price is off the tick of {of.tick_size:g} of {of.symbol} ({_QUOTE})")
    refuse(rows.high < rows.low, "high {high} is below low {low}")
    refuse(rows.high < np.maximum(rows.open, rows.close), "high {high} is below open {open} or close {close}")
    refuse(rows.low > np.minimum(rows.open, rows.close), "low {low} is above open {open} or close {close}")
    refuse(rows.volume < 0, "volume {volume} is negative")
    step = np.diff(rows.ts_event, prepend=np.iinfo(np.int64).min)
    same = np.concatenate([[False], rows.contract[1:] == rows.contract[:-1]])
    refuse(same & (step == 0), "the same time comes twice")
    refuse(same & (step < 0), "times run backwards")


def _row(rows: Rows, i: int) -> dict[str, Any]:
    return {name: getattr(rows, name)[i] for name in (*PRICES, "volume")}


def on_tick(price: Floats, of: Instrument) -> Floats:
    """Prices as the doubles nearest to whole ticks, so that equal prices are equal bits whatever their source."""
    decimals = max(0, -int(np.floor(np.log10(of.tick_size))) + 2)
    return np.round(np.rint(price / of.tick_size) * of.tick_size, decimals)


def sessions_of(ts_event: Ints, calendar: Sessions) -> tuple[Ints, npt.NDArray[np.bool_], int]:
    """Trade date of each bar, whether the calendar has such a session, and how many bars lie after the official close.

    Bars after the close of a trading day stay: an early close may be wrong in the calendar, a price is not.
    """
    day = session_of(ts_event)
    index = np.searchsorted(calendar.day, day)
    inside = (index < len(calendar.day)) & (calendar.day[np.minimum(index, len(calendar.day) - 1)] == day)
    late = inside & (ts_event >= calendar.close_ns[np.minimum(index, len(calendar.day) - 1)])
    return day, inside, int(late.sum())


def kept(rows: Rows, inside: npt.NDArray[np.bool_], calendar: Sessions, origin: str) -> Rows:
    """The bars of days on which the exchange trades."""
    if not inside.any():
        first, last = (from_day(int(d)) for d in (calendar.day[0], calendar.day[-1]))
        raise DataError(f"{origin} holds no bar of any session between {first} and {last}", "are the clock and data.instrument right?")
    return rows if inside.all() else rows.take(inside)


def traded_volume(rows: Rows, calendar: Sessions, step_sec: int) -> pd.DataFrame:
    """Statistics of a source without any: volume per session and contract from the bars, known when the session's last bar is."""
    frame = pd.DataFrame({"session": rows.session, "contract": rows.contract, "volume": rows.volume, "last": rows.ts_event})
    cells = frame.groupby(["session", "contract"], as_index=False).agg({"volume": "sum", "last": "max"})
    close = calendar.close_ns[np.searchsorted(calendar.day, cells["session"])]
    known = np.maximum(close, cells["last"].to_numpy() + step_sec * NS)
    return statistics(cells["session"], cells["contract"], "cleared_volume", cells["volume"], known)


def statistics(session: Any, contract: Any, kind: Any, value: Any, known_at: Any) -> pd.DataFrame:
    columns = {"session": session, "contract": contract, "kind": kind, "value": value, "known_at": known_at}
    frame = pd.DataFrame(columns, index=range(len(session)))
    return frame.astype({"session": "int64", "contract": "int64", "kind": "str", "value": "float64", "known_at": "int64"})


def no_statistics() -> pd.DataFrame:
    return statistics([], [], "", [], [])


def cleared(stats: pd.DataFrame) -> Volumes:
    """The cleared volumes among the statistics."""
    rows = stats[stats["kind"] == "cleared_volume"]
    return Volumes(*(rows[name].to_numpy(np.int64) for name in ("session", "contract", "value", "known_at")))
