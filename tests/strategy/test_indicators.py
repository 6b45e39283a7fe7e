"""TA-Lib is the reference: same values to 1e-9, same warm-up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import random_bars

from mcl.strategy import indicators as own

BARS = random_bars(3_000, seed=3)
HIGH, LOW, CLOSE = BARS.high, BARS.low, BARS.close
HLC = (HIGH, LOW, CLOSE)
LENGTHS = [2, 3, 14, 200]

# The series of spec anchors: TA-Lib 0.8.2's values, so that a change of the installed TA-Lib is
# noticed too.
ANCHOR = np.array([10, 11, 12, 11, 10, 9, 10, 12, 13, 14, 13, 12, 13, 15, 16, 15], np.float64)
ANCHOR_HLC = (ANCHOR + 0.5, ANCHOR - 0.5, ANCHOR)


def same(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bars", LENGTHS)
def test_one_length_indicators_equal_talib(bars: int) -> None:
    same(own.ema(CLOSE, bars), talib.EMA(CLOSE, bars))
    same(own.atr(*HLC, bars), talib.ATR(*HLC, bars))
    same(own.rsi(CLOSE, bars), talib.RSI(CLOSE, bars))
    same(
        own.directional(*HLC, bars),
        [talib.PLUS_DI(*HLC, bars), talib.MINUS_DI(*HLC, bars), talib.ADX(*HLC, bars)],
    )
    same(own.moments(CLOSE, bars), [talib.SMA(CLOSE, bars), talib.STDDEV(CLOSE, bars)])
    np.testing.assert_array_equal(own.rolling_max(BARS.high, bars), talib.MAX(BARS.high, bars))
    np.testing.assert_array_equal(own.rolling_min(BARS.low, bars), talib.MIN(BARS.low, bars))


@pytest.mark.parametrize(("fast", "slow", "signal"), [(12, 26, 9), (2, 3, 2), (5, 60, 20)])
def test_macd_equals_talib_with_its_late_fast_mean(fast: int, slow: int, signal: int) -> None:
    same(own.macd(CLOSE, fast, slow, signal), talib.MACD(CLOSE, fast, slow, signal)[:2])


@pytest.mark.parametrize("bars", [5, 20, 100])
def test_bands_equal_talib(bars: int) -> None:
    same(own.bollinger(CLOSE, bars, 2.0), talib.BBANDS(CLOSE, bars, 2.0, 2.0))
    for atr_bars in (3, 10, 150):
        same(own.keltner(*HLC, bars, atr_bars, 1.5), talib.KC(*HLC, bars, atr_bars, 1.5))


@pytest.mark.parametrize(("bars", "width"), [(10, 3.0), (3, 1.0), (50, 2.0)])
def test_supertrend_equals_talib_from_its_first_bar(bars: int, width: float) -> None:
    line, side = own.supertrend(*HLC, bars, width)
    their_line, their_side = talib.SUPERTREND(*HLC, bars, width)
    same(line, their_line)
    assert np.isnan(side[:bars]).all()
    np.testing.assert_array_equal(side[bars:], their_side[bars:])


def test_anchors_of_talib_0_8_2() -> None:
    assert own.ema(ANCHOR, 5)[[4, 15]] == pytest.approx([10.8, 14.505475], abs=1e-6)
    assert own.rsi(ANCHOR, 5)[[5, 6, 15]] == pytest.approx([40, 52, 64.540576], abs=1e-6)
    assert own.atr(*ANCHOR_HLC, 5)[[5, 15]] == pytest.approx([1.5, 1.661554], abs=1e-6)
    assert own.bollinger(ANCHOR, 5, 2.0)[0][[4, 15]] == pytest.approx(
        [12.296663, 17.139388], abs=1e-6
    )
    assert own.directional(*ANCHOR_HLC, 3)[2][[5, 15]] == pytest.approx(
        [33.628293, 40.476112], abs=1e-6
    )
    line, side = own.supertrend(*ANCHOR_HLC, 3, 1.0)
    assert line[[3, 5, 15]] == pytest.approx([9.5, 10.5, 14.258269], abs=1e-6)
    assert side[5] == -1


def test_a_length_of_one_is_the_value_itself() -> None:
    np.testing.assert_array_equal(own.rolling_max(CLOSE, 1), CLOSE)
    np.testing.assert_array_equal(own.ema(CLOSE, 1), CLOSE)


def test_a_market_that_stands_still_has_no_strength_and_no_width() -> None:
    still = np.full(500, 71.23)
    np.testing.assert_array_equal(own.moments(still, 20)[1][19:], 0.0)
    np.testing.assert_array_equal(own.directional(still, still, still, 5)[2][9:], 0.0)
    np.testing.assert_array_equal(own.rsi(still, 5)[5:], 0.0)
    np.testing.assert_array_equal(own.rsi(still, 5, flat=50.0)[5:], 50.0)


def test_moments_do_not_depend_on_the_level() -> None:
    """E[x²] - E[x]² would lose all digits here; TA-Lib's does."""
    far = CLOSE + 1e7
    np.testing.assert_allclose(
        own.moments(far, 20)[1], own.moments(CLOSE, 20)[1], rtol=0, atol=1e-7
    )


PREFIXED: dict[str, Callable[..., Any]] = {
    "ema": lambda rows, bars: own.ema(CLOSE[rows], bars),
    "rolling_max": lambda rows, bars: own.rolling_max(CLOSE[rows], bars),
    "rolling_min": lambda rows, bars: own.rolling_min(CLOSE[rows], bars),
    "moments": lambda rows, bars: own.moments(CLOSE[rows], bars),
    "rsi": lambda rows, bars: own.rsi(CLOSE[rows], bars),
    "macd": lambda rows, bars: own.macd(CLOSE[rows], bars, bars + 3, 4),
    "directional": lambda rows, bars: own.directional(HIGH[rows], LOW[rows], CLOSE[rows], bars),
    "keltner": lambda rows, bars: own.keltner(HIGH[rows], LOW[rows], CLOSE[rows], bars, 5, 2.0),
    "supertrend": lambda rows, bars: own.supertrend(HIGH[rows], LOW[rows], CLOSE[rows], bars, 1.0),
}


@pytest.mark.parametrize("name", PREFIXED)
@given(n=st.integers(1, 60), bars=st.integers(2, 50))
@settings(max_examples=25)
def test_a_prefix_gives_a_prefix(name: str, n: int, bars: int) -> None:
    indicator = partial(PREFIXED[name], bars=bars)
    whole, part = np.atleast_2d(indicator(slice(None))), np.atleast_2d(indicator(slice(n)))
    np.testing.assert_array_equal(part, whole[:, :n])


def test_too_little_data_is_nan_not_an_error() -> None:
    short = CLOSE[:5]
    out = (
        own.ema(short, 6),
        own.atr(short, short, short, 5),
        own.rolling_max(short, 6),
        *own.macd(short, 3, 9, 9),
    )
    assert all(np.isnan(values).all() for values in out)


def test_a_tie_counts_for_neither_side_at_any_price_level() -> None:
    high, low, close = (np.rint(values / 0.01) for values in HLC)
    whole = own.directional(high, low, close, 14)
    for shift in (0, 1, 4_321, -9_000):
        up, down, last = ((values + shift) * 0.01 for values in (high, low, close))
        same(own.directional(up, down, last, 14, tie=own.TOLERANCE), whole)
