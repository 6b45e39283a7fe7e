"""Damage done to a generated world on purpose, so that `mcl data check` and its tests have
something to find.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mcl.base.errors import DataError, nearest
from mcl.base.files import write_whole
from mcl.base.instants import NS
from mcl.data import dbn
from mcl.market.calendar import Sessions, from_day

Records = dbn.Records
MINUTE = 60 * NS
_NINE = 15 * 60  # minutes from 18:00 to 09:00 New York
_OFF_TICK = 3_000_000  # 0.003


def apply(name: str, bars: Records, table: Sessions, folder: Path) -> Records:
    """Return the records with one defect, in the middle of the data. `degraded` writes the vendor's
    list of conditions instead.
    """
    if name not in DEFECTS:
        raise DataError(f"unknown defect {name!r}; {nearest(name, DEFECTS)}")
    if name == "degraded":
        _degraded_day(table, folder)
        return bars
    return _DAMAGE[name](bars, table)


def _degraded_day(table: Sessions, folder: Path) -> None:
    """The vendor's list of conditions, which calls one day degraded."""
    middle = len(table) // 2
    listed = [
        {"date": str(day), "condition": "degraded" if i == middle else "available"}
        for i, day in enumerate(table.dates)
    ]
    write_whole(folder / "condition.json", (json.dumps(listed, indent=1) + "\n").encode())


def _missing_minutes(bars: Records, table: Sessions) -> Records:
    """No bar of any instrument for half an hour from 09:00 New York, two sessions after the
    middle.
    """
    start = table.open_ns[len(table) // 2 + 2] + _NINE * MINUTE
    ts = bars["ts_event"].astype(np.int64)
    remaining: Records = bars[(ts < start) | (ts >= start + 30 * MINUTE)]
    return remaining


def _missing_session(bars: Records, table: Sessions) -> Records:
    """A session without any bar, six after the middle."""
    at = len(table) // 2 + 6
    ts = bars["ts_event"].astype(np.int64)
    remaining: Records = bars[(ts < table.open_ns[at]) | (ts >= table.close_ns[at])]
    return remaining


def _duplicate(bars: Records, table: Sessions) -> Records:
    """The busiest bar of a session after the middle comes twice."""
    at = _busiest(bars, table, len(table) // 2 + 3)
    return np.concatenate([bars[: at + 1], bars[at : at + 1], bars[at + 1 :]])


def _off_tick(bars: Records, table: Sessions) -> Records:
    """A close between two ticks."""
    damaged = bars.copy()
    at = _busiest(bars, table, len(table) // 2 + 4)
    damaged["close"][at] = damaged["low"][at] + _OFF_TICK
    damaged["high"][at] = max(damaged["high"][at], damaged["low"][at] + 2 * _OFF_TICK // 3 * 5)
    return damaged


def _outlier(bars: Records, table: Sessions) -> Records:
    """A high five dollars above everything around it."""
    damaged = bars.copy()
    damaged["high"][_busiest(bars, table, len(table) // 2 + 5)] += 5 * dbn.PRICE_SCALE
    return damaged


def _busiest(bars: Records, table: Sessions, session: int) -> int:
    ts = bars["ts_event"].astype(np.int64)
    inside = np.flatnonzero((ts >= table.open_ns[session]) & (ts < table.close_ns[session]))
    if not len(inside):
        raise DataError(
            f"session {from_day(int(table.day[session]))} has no bar to damage",
            "generate more sessions",
        )
    return int(inside[np.argmax(bars["volume"][inside])])


_DAMAGE: dict[str, Callable[[Records, Sessions], Records]] = {
    "missing_minutes": _missing_minutes,
    "missing_session": _missing_session,
    "duplicate": _duplicate,
    "off_tick": _off_tick,
    "outlier": _outlier,
}
DEFECTS = ("degraded", *_DAMAGE)
