"""Metrics of returns: published-convention anchors, edge behaviour, and agreement with pandas."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.metrics import performance as perf

ANCHOR = np.array([0.010, -0.004, 0.006, -0.012, 0.003, 0.008, -0.005, 0.002, -0.001, 0.007])
WEALTH = np.cumprod(1 + ANCHOR)
returns = st.lists(st.floats(-0.5, 0.5, allow_nan=False), min_size=0, max_size=40).map(np.array)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (WEALTH[-1] - 1, 0.013871380),
        (perf.cagr(WEALTH[-1], len(ANCHOR)), 0.415038204),
        (perf.annual_volatility(ANCHOR), 0.109522600),
        (perf.sharpe(ANCHOR), 3.221252953),
        (perf.sortino(ANCHOR), 5.153138724),
        (perf.drawdown(WEALTH, 1.0)[1].min(), -0.012),
        (perf.omega(ANCHOR), 1.636363636),
        (perf.ulcer(perf.drawdown(WEALTH, 1.0)[1]), 0.005684845),
        (perf.value_at_risk(ANCHOR), -0.00885),
        (perf.expected_shortfall(ANCHOR), -0.012),
    ],
)
def test_anchor(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, abs=5e-10)


def test_drawdown_episodes_of_the_anchor() -> None:
    under = perf.drawdown(WEALTH, 1.0)[1]
    spells = perf.episodes(under)
    assert np.count_nonzero(under < 0) == 7
    assert (len(spells.start), spells.longest, spells.open) == (2, 6, False)


def test_a_loss_on_the_first_session_is_a_drawdown_from_the_capital() -> None:
    money, fraction = perf.drawdown([900.0, 1100.0, 1045.0], 1000.0)
    assert money.tolist() == [-100.0, 0.0, -55.0]
    assert fraction.tolist() == pytest.approx([-0.1, 0.0, -0.05])
    assert perf.episodes(money).open


@pytest.mark.parametrize("series", [[], [0.01], [0.01] * 30, [0.0] * 5, [math.nan, 0.02]])
def test_undefined_is_nan_not_a_huge_number(series: list[float]) -> None:
    for ratio in (perf.sharpe, perf.sortino, perf.omega, lambda r: perf.sharpe_interval(r)[0]):
        assert math.isnan(ratio(np.array(series)))


def test_no_losing_session_leaves_sortino_and_omega_undefined() -> None:
    assert math.isnan(perf.sortino([0.01, 0.02]))
    assert math.isnan(perf.omega([0.01, 0.02]))


def test_total_loss_has_no_growth_rate() -> None:
    assert perf.cagr(0.0, 252) == -1.0
    assert perf.cagr(-0.5, 30) == -1.0
    assert math.isnan(perf.cagr(1.1, 0))
    assert math.isnan(perf.cagr(math.nan, 252))
    assert perf.cagr(1.1, 252) == pytest.approx(0.1)


@given(returns)
def test_moments_agree_with_pandas(values: np.ndarray) -> None:
    m, series = perf.moments(values), pd.Series(values, dtype=float)
    if len(values) >= 4 and np.ptp(values) > 1e-6:
        assert m.std == pytest.approx(series.std())
        assert m.skew == pytest.approx(series.skew(), rel=1e-6, abs=1e-6)
        assert m.kurtosis == pytest.approx(cast("float", series.kurt()) + 3, rel=1e-6, abs=1e-6)


@given(returns)
def test_the_interval_holds_the_estimate_and_nothing_is_infinite(values: np.ndarray) -> None:
    low, high = perf.sharpe_interval(values)
    assert not any(
        map(math.isinf, (low, high, perf.sharpe(values), perf.sortino(values), perf.omega(values)))
    )
    assert math.isnan(low) or low <= perf.sharpe(values) <= high


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = 0.06  # per session
    draws = rng.normal(truth * 0.01, 0.01, (800, 500))
    bounds = np.array([perf.sharpe_interval(r) for r in draws]) / math.sqrt(252)
    covered = np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))
    assert 0.93 <= covered <= 0.97


def test_lo_factor_of_an_ar1_series_is_lo_s_closed_form() -> None:
    """AR(1) with rho = 0.2: eta / sqrt(q) tends to sqrt((1 - rho) / (1 + rho)) (Lo 2002, eq. 23 for
    large q).
    """
    rng, rho = np.random.default_rng(3), 0.2
    noise = rng.normal(0.001, 0.01, 60_000)
    series = np.empty_like(noise)
    series[0] = noise[0]
    for i in range(1, len(noise)):
        series[i] = rho * series[i - 1] + noise[i]
    assert perf.autocorrelation_factor(series) == pytest.approx(
        math.sqrt((1 - rho) / (1 + rho)), rel=0.02
    )
    assert perf.autocorrelation_factor(noise) == pytest.approx(1, abs=0.03)
    assert math.isnan(perf.autocorrelation_factor(noise[:22]))


def test_small_ratios_by_hand() -> None:
    series = [0.02, -0.01, 0.03, -0.02, 0.0]
    assert (
        perf.gain_to_pain(series)
        == pytest.approx(0.02 / 0.03)
        == pytest.approx(perf.omega(series) - 1)
    )
    assert perf.tail_ratio(series) == pytest.approx(0.028 / 0.018)
    assert perf.stability(np.full(10, 0.01) + 1e-5 * np.arange(10)) == pytest.approx(1, abs=1e-4)
    assert math.isnan(perf.stability([0.0, 0.0, 0.0]))
