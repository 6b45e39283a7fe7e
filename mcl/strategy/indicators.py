"""Indicators with TA-Lib's values and warm-up: output as long as the input, NaN until there is enough of it.

An interior NaN would poison a recursive indicator for ever; `Bars` never hold one.
"""

from __future__ import annotations

import numpy as np

from mcl.data.bars import Floats
from mcl.jit import njit, readonly

TOLERANCE = 1e-9  # price units: far below any tick, far above the rounding noise of prices and their adjustment


def ema(values: Floats, bars: int) -> Floats:
    """Exponential mean, weight 2 / (bars + 1), seeded with the simple mean of the first `bars` values; defined from row bars - 1 on."""
    return _ema(readonly(values), bars)


def atr(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Wilder's average true range: mean of the true ranges of rows 1..bars, then decay 1 / bars; defined from row `bars` on."""
    return _atr(readonly(high), readonly(low), readonly(close), bars)


def rolling_max(values: Floats, bars: int) -> Floats:
    """Highest of the last `bars` values, this row's included; defined from row bars - 1 on."""
    return _rolling_max(readonly(values), bars)


def rolling_min(values: Floats, bars: int) -> Floats:
    """Lowest of the last `bars` values, this row's included; defined from row bars - 1 on."""
    return -_rolling_max(readonly(-values), bars)


@njit
def _ema(values: Floats, bars: int) -> Floats:
    out = np.full(len(values), np.nan)
    if len(values) < bars:
        return out
    new = 2.0 / (bars + 1.0)
    old = 1.0 - new
    mean = np.sum(values[:bars]) / bars
    out[bars - 1] = mean
    for i in range(bars, len(values)):
        mean = mean * old + values[i] * new
        out[i] = mean
    return out


@njit
def _atr(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    out = np.full(len(close), np.nan)
    mean = 0.0
    for i in range(1, len(close)):
        true_range = max(high[i], close[i - 1]) - min(low[i], close[i - 1])
        if i <= bars:
            mean += true_range / bars
        else:
            mean += (true_range - mean) / bars
        if i >= bars:
            out[i] = mean
    return out


@njit
def _rolling_max(values: Floats, bars: int) -> Floats:
    """Van Herk's queue: rows of candidates in falling order of value, each row enters and leaves once."""
    n = len(values)
    out = np.full(n, np.nan)
    queue = np.empty(bars + 1, np.int64)  # a ring
    first = 0
    count = 0
    for i in range(n):
        while count > 0 and values[queue[(first + count - 1) % (bars + 1)]] <= values[i]:
            count -= 1
        queue[(first + count) % (bars + 1)] = i
        count += 1
        if queue[first] <= i - bars:
            first = (first + 1) % (bars + 1)
            count -= 1
        if i >= bars - 1:
            out[i] = values[queue[first]]
    return out
