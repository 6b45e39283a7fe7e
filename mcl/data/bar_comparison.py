"""Compare the bars of two sources of one market, where both have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.data.bars import Bars

FIELDS = ("open", "high", "low", "close", "volume")
COLUMNS = ("field", "bars", "different", "mean", "mean_size", "worst", "worst_at", "unit")
Rows = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
LAGS = (-1, 0, 1)
FEWEST = 100  # changes that show whether one source is a bar late


def table(source: Bars, other: Bars, rows: Rows) -> pd.DataFrame:
    """COLUMNS, a row per field over aligned rows: the first source less the second, prices in
    ticks.
    """
    each = [_row(name, source, other, rows) for name in FIELDS]
    return pd.DataFrame(each, columns=list(COLUMNS))


def _row(name: str, source: Bars, other: Bars, rows: Rows) -> tuple[Any, ...]:
    """One field over the bars that both have: the worst difference with its sign and its bar."""
    unit = 1.0 if name == "volume" else source.instrument.tick_size
    first = getattr(source, name)[rows[0]].astype(np.float64)
    second = getattr(other, name)[rows[1]].astype(np.float64)
    apart = np.round((first - second) / unit, 6) + 0.0
    unit_name = "contracts" if name == "volume" else "ticks"
    if not len(apart):
        return name, 0, 0, math.nan, math.nan, math.nan, pd.NaT, unit_name
    worst = int(np.abs(apart).argmax())
    at = pd.Timestamp(int(source.close_time[rows[0][worst]]), tz="UTC") if apart[worst] else pd.NaT
    sizes = float(np.abs(apart).mean())
    return (
        name,
        len(apart),
        int((apart != 0).sum()),
        float(apart.mean()),
        sizes,
        float(apart[worst]),
        at,
        unit_name,
    )


def usual_distance(source: Bars, other: Bars, rows: Rows) -> tuple[float, float]:
    """The most frequent difference of the closes in ticks, and the share of bars that have it."""
    apart = source.ticks["close"][rows[0]].astype(np.int64) - other.ticks["close"][rows[1]]
    values, count = np.unique(apart, return_counts=True)
    if not len(values):
        return math.nan, math.nan
    most = int(count.argmax())
    return float(values[most]), float(count[most] / len(apart))


def lag(source: Bars, other: Bars, rows: Rows) -> int | None:
    """The bars by which the second source is later than the first, of -1, 0 and 1: that at which
    their changes are most alike. None where too few bars show it.
    """
    first, second = (
        np.diff(bars.ticks["close"][at].astype(np.float64))
        for bars, at in ((source, rows[0]), (other, rows[1]))
    )
    if len(first) < FEWEST or not first.any() or not second.any():
        return None
    alike = [float((_ahead(first, -k) * _ahead(second, k)).sum()) for k in LAGS]
    return LAGS[int(np.argmax(alike))]


def _ahead(changes: npt.NDArray[np.float64], by: int) -> npt.NDArray[np.float64]:
    """The changes from the `by`-th on; without the last -by where it is negative."""
    return changes[by:] if by > 0 else changes[: len(changes) + by]
