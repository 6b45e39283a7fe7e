"""TA-Lib is the reference: same values to 1e-9, same warm-up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import random_bars

from mcl.strategy.indicators import atr, ema, rolling_max, rolling_min

BARS = random_bars(3_000, seed=3)
LENGTHS = [2, 3, 14, 200]


@pytest.mark.parametrize("bars", LENGTHS)
def test_ema_and_atr_equal_talib(bars: int) -> None:
    np.testing.assert_allclose(ema(BARS.close, bars), talib.EMA(BARS.close, bars), rtol=0, atol=1e-9)
    prices = (BARS.high, BARS.low, BARS.close)
    np.testing.assert_allclose(atr(*prices, bars), talib.ATR(*prices, bars), rtol=0, atol=1e-9)


@pytest.mark.parametrize("bars", LENGTHS)
def test_rolling_extremes_equal_talib(bars: int) -> None:
    np.testing.assert_array_equal(rolling_max(BARS.high, bars), talib.MAX(BARS.high, bars))
    np.testing.assert_array_equal(rolling_min(BARS.low, bars), talib.MIN(BARS.low, bars))


def test_a_length_of_one_is_the_value_itself() -> None:
    np.testing.assert_array_equal(rolling_max(BARS.close, 1), BARS.close)
    np.testing.assert_array_equal(ema(BARS.close, 1), BARS.close)


@pytest.mark.parametrize("indicator", [ema, rolling_max, rolling_min])
@given(n=st.integers(1, 40), bars=st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_a_prefix_gives_a_prefix(indicator: Callable[..., np.ndarray], n: int, bars: int) -> None:
    np.testing.assert_array_equal(indicator(BARS.close[:n], bars), indicator(BARS.close, bars)[:n])


def test_too_little_data_is_nan_not_an_error() -> None:
    short = BARS.close[:5]
    assert all(np.isnan(out).all() for out in (ema(short, 6), atr(short, short, short, 5), rolling_max(short, 6)))
