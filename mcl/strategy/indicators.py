"""Indicators with TA-Lib's values and warm-up: output as long as the input, NaN until there is
enough of it.

An interior NaN would poison a recursive indicator for ever; `Bars` never hold one. Where TA-Lib
seeds a recursion later than it could (MACD's fast mean, Keltner's range), so do these: the sum that
seeds it ends at the first row of the whole indicator.
"""

from __future__ import annotations

import numpy as np

from mcl.base.jit import inline, njit, readonly
from mcl.data.bars import Floats

# price units: far below any tick, far above the rounding noise of prices and their adjustment
TOLERANCE = 1e-9
FORGETS_EMA = 20  # an EMA's seed weighs (1 - 2/(n+1))^k: below 2^-53 after about 18.4 n rows
FORGETS_WILDER = 40  # Wilder's weighs (1 - 1/n)^k: below 2^-53 after about 36.7 n rows


def ema(values: Floats, bars: int) -> Floats:
    """Exponential mean, weight 2 / (bars + 1), seeded with the simple mean of the first `bars`
    values; defined from row bars - 1 on.
    """
    return _ema(readonly(values), bars, bars - 1)


def atr(high: Floats, low: Floats, close: Floats, bars: int) -> Floats:
    """Wilder's average true range: mean of the true ranges of rows 1..bars, then decay 1 / bars;
    defined from row `bars` on.
    """
    return _atr(readonly(high), readonly(low), readonly(close), bars, bars)


def atr_steps(
    high: Floats,
    low: Floats,
    close: Floats,
    bars: int,
    step: float,
    multiples: tuple[float | None, float | None, float | None],
) -> tuple[Floats, Floats, Floats]:
    """Three multiples of the ATR in whole steps of the price, each at least 1; NaN where the ATR
    is, empty for a multiple that is None.
    """
    first, second, third = (
        np.empty(0 if multiple is None else len(close)) for multiple in multiples
    )
    a, b, c = (float(multiple or 0.0) for multiple in multiples)
    _atr_steps(
        readonly(high),
        readonly(low),
        readonly(close),
        bars,
        step,
        (a, b, c),
        (first, second, third),
    )
    return first, second, third


def rolling_max(values: Floats, bars: int) -> Floats:
    """Highest of the last `bars` values, this row's included; defined from row bars - 1 on."""
    return _rolling_max(readonly(values), bars)


def rolling_min(values: Floats, bars: int) -> Floats:
    """Lowest of the last `bars` values, this row's included; defined from row bars - 1 on."""
    return -_rolling_max(readonly(-values), bars)


def moments(values: Floats, bars: int) -> tuple[Floats, Floats]:
    """Mean and population standard deviation (ddof 0) of the last `bars` values; defined from row
    bars - 1 on.
    """
    return _moments(readonly(values), bars)


def rsi(values: Floats, bars: int, flat: float = 0.0) -> Floats:
    """Wilder's relative strength, 0..100, from row `bars` on; `flat` (TA-Lib: 0) where nothing has
    moved.
    """
    return _rsi(readonly(values), bars, flat)


def macd(values: Floats, fast: int, slow: int, signal: int) -> tuple[Floats, Floats]:
    """MACD line and its signal line, both from row slow + signal - 2 on. The fast mean is seeded
    where the slow one is.
    """
    line = _ema(readonly(values), fast, slow - 1) - _ema(readonly(values), slow, slow - 1)
    smooth = np.full(len(values), np.nan)
    smooth[slow - 1 :] = _ema(readonly(line[slow - 1 :]), signal, signal - 1)
    line[: slow + signal - 2] = np.nan
    return line, smooth


def directional(
    high: Floats, low: Floats, close: Floats, bars: int, tie: float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """Wilder's +DI and -DI from row `bars` on and ADX from row 2 bars - 1 on, all 0..100; `bars` >=
    2.

    Where nothing moves (sums below TOLERANCE) they are 0. TA-Lib then keeps the last ADX for as
    long as the market stands still; a value that depends on an unlimited past could not be had
    again after a restart.

    A bar that reaches as far up as down counts for neither side. Prices on a tick grid often do,
    and their floats then differ by noise that changes with the price level: moves closer than `tie`
    are equal. TA-Lib's is 0.
    """
    return _directional(readonly(high), readonly(low), readonly(close), bars, tie)


def bollinger(values: Floats, bars: int, width: float) -> tuple[Floats, Floats, Floats]:
    """Upper, middle and lower band: simple mean ± `width` population standard deviations; defined
    from row bars - 1 on.
    """
    middle, deviation = moments(values, bars)
    return middle + width * deviation, middle, middle - width * deviation


def keltner(
    high: Floats, low: Floats, close: Floats, bars: int, atr_bars: int, width: float
) -> tuple[Floats, Floats, Floats]:
    """Upper, middle and lower band: EMA of the typical price ± `width` ATR; defined from row
    max(bars - 1, atr_bars) on.
    """
    first = max(bars - 1, atr_bars)
    middle = _ema(readonly((high + low + close) / 3.0), bars, first)
    reach = width * _atr(readonly(high), readonly(low), readonly(close), atr_bars, first)
    return middle + reach, middle, middle - reach


def supertrend(
    high: Floats, low: Floats, close: Floats, bars: int, width: float
) -> tuple[Floats, Floats]:
    """The line and its side (+1 below the price, -1 above it): bands of the mid-range ± `width` ATR
    that only tighten until they are crossed. From row `bars` on, where the side is taken to be +1;
    NaN before.
    """
    reach = width * atr(high, low, close, bars)
    middle = (high + low) / 2.0
    return _supertrend(readonly(close), readonly(middle + reach), readonly(middle - reach), bars)


# ------------------------------------------------------------------------------------------ kernels


@njit
def _ema(values: Floats, bars: int, first: int) -> Floats:
    """Seeded with the simple mean of the `bars` values that end at row `first`."""
    out = np.full(len(values), np.nan)
    if len(values) <= first:
        return out
    new = 2.0 / (bars + 1.0)
    old = 1.0 - new
    mean = np.sum(values[first + 1 - bars : first + 1]) / bars
    out[first] = mean
    for i in range(first + 1, len(values)):
        mean = mean * old + values[i] * new
        out[i] = mean
    return out


@inline
def _true_range(high: Floats, low: Floats, close: Floats, i: int) -> float:
    return max(high[i], close[i - 1]) - min(low[i], close[i - 1])  # type: ignore[no-any-return]


@inline
def _wilder(mean: float, value: float, bars: int, seeding: bool) -> float:
    """Wilder's mean with one more value: while `seeding` a sum that becomes the mean of the first
    `bars` of them.
    """
    return mean + value / bars if seeding else mean + (value - mean) / bars


@njit
def _atr(high: Floats, low: Floats, close: Floats, bars: int, first: int) -> Floats:
    """Seeded with the mean of the `bars` true ranges that end at row `first`."""
    out = np.full(len(close), np.nan)
    mean = 0.0
    for i in range(first + 1 - bars, len(close)):
        mean = _wilder(mean, _true_range(high, low, close, i), bars, i <= first)
        if i >= first:
            out[i] = mean
    return out


@njit
def _atr_steps(
    high: Floats,
    low: Floats,
    close: Floats,
    bars: int,
    step: float,
    multiples: tuple[float, float, float],
    out: tuple[Floats, Floats, Floats],
) -> None:
    """`_atr` with what is made of each value while the next one waits for its division."""
    (a, b, c), (first, second, third) = multiples, out
    mean = 0.0
    for i in range(len(close)):
        if i > 0:
            mean = _wilder(mean, _true_range(high, low, close, i), bars, i <= bars)
        steps = mean / step if i >= bars else np.nan
        if len(first) > 0:
            first[i] = _whole(steps * a)
        if len(second) > 0:
            second[i] = _whole(steps * b)
        if len(third) > 0:
            third[i] = _whole(steps * c)


@inline
def _whole(steps: float) -> float:
    """At least one; NaN stays."""
    rounded: float = np.rint(steps)
    return 1.0 if rounded < 1.0 else rounded


@njit
def _rolling_max(values: Floats, bars: int) -> Floats:
    """Each window is the tail of one block of `bars` rows and the head of the next (van Herk
    1992).
    """
    n = len(values)
    out = np.full(n, np.nan)
    tail = np.full(bars, -np.inf)  # highest of the last k rows of the block before
    for start in range(0, n, bars):
        for k in range(1, bars if start else 0):
            tail[k] = max(tail[k - 1], values[start - k])
        highest = -np.inf
        for i in range(start, min(start + bars, n)):
            highest = max(highest, values[i])
            k = bars - 1 - (i - start)
            if start or k == 0:
                out[i] = max(highest, tail[k])
    return out


@njit
def _moments(values: Floats, bars: int) -> tuple[Floats, Floats]:
    """Each window is the tail of one block of `bars` rows and the head of the next. Nothing is ever
    subtracted from a running sum, so no error accumulates, and deviations from the first price of
    the block lose no digits: a window that stands still has deviation 0.
    """
    n = len(values)
    mean, deviation = np.full(n, np.nan), np.full(n, np.nan)
    # sums over the last k rows of the block before
    tail, tail_squares = np.zeros(bars + 1), np.zeros(bars + 1)
    for start in range(0, n, bars):
        origin = values[start]
        for k in range(1, bars if start else 0):
            step = values[start - k] - origin
            tail[k] = tail[k - 1] + step
            tail_squares[k] = tail_squares[k - 1] + step * step
        total = squares = 0.0
        for i in range(start, min(start + bars, n)):
            step = values[i] - origin
            total += step
            squares += step * step
            k = bars - 1 - (i - start)
            if start or k == 0:
                shift = (total + tail[k]) / bars
                mean[i] = origin + shift
                deviation[i] = np.sqrt(max(0.0, (squares + tail_squares[k]) / bars - shift * shift))
    return mean, deviation


@njit
def _rsi(values: Floats, bars: int, flat: float) -> Floats:
    out = np.full(len(values), np.nan)
    gain = loss = 0.0
    for i in range(1, len(values)):
        move = values[i] - values[i - 1]
        rise, fall = max(move, 0.0), max(-move, 0.0)
        if i <= bars:
            gain += rise / bars
            loss += fall / bars
        else:
            gain += (rise - gain) / bars
            loss += (fall - loss) / bars
        if i >= bars:
            out[i] = 100.0 * gain / (gain + loss) if gain + loss > TOLERANCE else flat
    return out


@njit
def _directional(
    high: Floats, low: Floats, close: Floats, bars: int, tie: float
) -> tuple[Floats, Floats, Floats]:
    """Sums over rows 1..bars-1, decayed from row `bars` on; ADX starts as the mean of the first
    `bars` values of DX.
    """
    n = len(close)
    plus, minus, adx = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    up = down = span = mean = 0.0
    keep = 1.0 - 1.0 / bars
    for i in range(1, n):
        rise, fall = high[i] - high[i - 1], low[i - 1] - low[i]
        decay = keep if i >= bars else 1.0
        up = up * decay + (rise if rise > max(fall, 0.0) + tie else 0.0)
        down = down * decay + (fall if fall > max(rise, 0.0) + tie else 0.0)
        span = span * decay + _true_range(high, low, close, i)
        if i < bars:
            continue
        moved = up + down > TOLERANCE
        plus[i] = 100.0 * up / span if moved else 0.0
        minus[i] = 100.0 * down / span if moved else 0.0
        strength = 100.0 * abs(up - down) / (up + down) if moved else 0.0
        mean += (strength if i < 2 * bars else strength - mean) / bars
        if i >= 2 * bars - 1:
            adx[i] = mean
    return plus, minus, adx


@njit
def _supertrend(close: Floats, upper: Floats, lower: Floats, first: int) -> tuple[Floats, Floats]:
    line, side = np.full(len(close), np.nan), np.full(len(close), np.nan)
    above = below = np.nan
    now = 1.0
    for i in range(first, len(close)):
        if i == first or upper[i] < above or close[i - 1] > above:
            above = upper[i]
        if i == first or lower[i] > below or close[i - 1] < below:
            below = lower[i]
        if i > first:
            now = (
                (-1.0 if close[i] < below else 1.0)
                if now > 0
                else (1.0 if close[i] > above else -1.0)
            )
        line[i] = below if now > 0 else above
        side[i] = now
    return line, side
