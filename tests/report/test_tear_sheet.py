"""The tear sheet: its figures against other computations of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mcl.composition import compose
from mcl.engine.backtest import backtest, buy_and_hold
from mcl.engine.result import Result
from mcl.metrics import performance as perf
from mcl.report.tear_sheet import (
    drawdown_shades,
    rolling_window,
    tear_sheet,
    worst_drawdowns,
    years,
)

from .conftest import CAPITAL, SLIP, simulated, walk


def test_rolling_figures_are_those_of_each_window() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    returns[:70] = 0.0  # a flat quarter has no ratio
    ratios, volatility = perf.rolling_ratios(returns, 63)
    assert np.isnan(ratios[:69]).all()
    assert np.isnan(volatility[:62]).all()
    assert volatility[62] == 0.0
    for row in (80, 150, 299):
        window = returns[row - 62 : row + 1]
        assert ratios[row] == pytest.approx(perf.sharpe(window))
        assert volatility[row] == pytest.approx(perf.annual_volatility(window))
    assert np.isnan(perf.rolling_ratios(returns, 301)[0]).all()


def test_a_regression_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    market = rng.normal(0, 0.01, 250)
    returns = 0.0002 + 0.4 * market + rng.normal(0, 0.004, 250)
    found = perf.regression(returns, market)
    beta, alpha = np.polyfit(market, returns, 1)
    assert found.beta == pytest.approx(beta)
    assert found.alpha_ann_frac == pytest.approx(252 * alpha)
    assert found.correlation == pytest.approx(np.corrcoef(returns, market)[0, 1])
    assert np.isnan(perf.regression(returns, np.zeros(250)).beta)
    still = perf.regression(np.zeros(250), market)
    assert still.beta == 0.0
    assert np.isnan(still.correlation)


def test_buy_and_hold_is_the_strategy_that_is_always_long(month: Result) -> None:
    bars = month.bars
    costs = ["costs.slippage_ticks=1", "costs.commission_usd=0.77", f"capital_usd={CAPITAL}"]
    run = compose("backtest", ["strategy=always_long", "risk=fixed", *costs]).config
    held, other = buy_and_hold(bars, run.costs, CAPITAL), backtest(run, bars)
    assert held.net_pnl_usd == other.net_pnl_usd
    assert set(held.position[1:]) == {1}
    # by hand: what the dated contracts moved while they were held, less every side's costs
    ticks = bars.ticks
    moved = ticks["close"][-1] - ticks["open"][1]
    roll = np.flatnonzero(bars.roll)
    for row in roll:
        moved += bars.left_ticks[bars.contract[row]] - ticks["open"][row]
    sides = 1 + 2 * len(roll)
    usd = (moved - sides * SLIP) * bars.instrument.tick_value_usd
    assert held.commission_usd == pytest.approx(sides * run.costs.side_usd)
    assert held.net_pnl_usd == pytest.approx(usd - held.commission_usd)


def test_the_worst_drawdowns_are_those_of_the_session_closes(month: Result) -> None:
    equity = month.session_equity.to_numpy()
    found = worst_drawdowns(month, most=1000)
    peaks = np.maximum.accumulate(np.append(CAPITAL, equity))[1:]
    under = equity - peaks
    assert found[0].depth_usd == under.min()
    assert [d.depth_usd for d in found] == sorted(d.depth_usd for d in found)
    for d in found:
        peak = CAPITAL if d.peak < 0 else equity[d.peak]
        assert equity[d.trough] - peak == pytest.approx(d.depth_usd)
        assert d.depth_frac == pytest.approx(d.depth_usd / peak)
        assert (under[d.peak + 1 : d.recovery] < 0).all()
        assert d.recovery == len(equity) or under[d.recovery] == 0
    shades = drawdown_shades(month, "y2")
    assert len(shades) == min(5, len(found))
    assert all(shade["x0"] < shade["x1"] for shade in shades)


def test_every_section_is_filled_or_says_why_not(month: Result) -> None:
    shown = {section.title: section.html for section in tear_sheet(month, month)}
    assert list(shown) == [
        *("Returns by month", "Session returns", "Worst drawdowns", "Rolling figures"),
        *("Exposure over time", "Buy and hold"),
    ]
    assert "are too short a time" in shown["Rolling figures"]
    assert "too short" in shown["Buy and hold"]
    assert "1.00" in shown["Buy and hold"]  # beta to itself
    still = {s.title: s.html for s in tear_sheet(simulated(walk(100), span=10_000))}
    assert "never closed a session below" in still["Worst drawdowns"]
    assert "needs 20 sessions; this run has 1." in still["Session returns"]
    assert "Buy and hold" not in still
    assert "-0.00" not in "".join(still.values())


@pytest.mark.parametrize(
    ("sessions", "window"), [(63, 0), (64, 63), (251, 63), (252, 126), (2000, 126)]
)
def test_the_rolling_window_is_half_a_year_where_that_fits_twice(
    sessions: int, window: int
) -> None:
    assert rolling_window(sessions) == window


def test_years_are_drawn_when_there_are_several(month: Result) -> None:
    assert years(month) == ""
    days = pd.bdate_range("2019-01-02", "2021-06-30").to_numpy().astype("datetime64[D]")
    bars = month.bars
    session: Any = days[np.arange(len(bars)) * len(days) // len(bars)].astype(np.int64)
    stretched = replace(bars, session=session)
    several = replace(month, bars=stretched)
    drawn = years(several)
    assert re.findall(r'"x":\["2019","2020","2021"\]', drawn)
