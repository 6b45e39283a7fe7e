"""What must hold at every bar of every run, on random walks with rolls, stops, limits and prices around zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import random_bars

from mcl import schema
from mcl.data.bars import Bars
from mcl.engine.backtest import Plan, simulate
from mcl.engine.result import FILL_REASONS, Result

CAPITAL = 25_000.0
ROLL = FILL_REASONS.index("roll")


@st.composite
def runs(draw: Any) -> tuple[Bars, Plan, schema.Limits, schema.Costs]:
    """Anything that a config can ask for."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(2, 60) | st.integers(200, 600))
    start, bars_per_session = draw(st.sampled_from([0, 7_000])), draw(st.sampled_from([7, 50]))
    bars = random_bars(n, seed, start=start, bars_per_session=bars_per_session, rolls=draw(st.integers(0, 20)))
    wanted = np.repeat(rng.choice([-3.0, -1.0, 0.0, 0.9999999999, 2.5, np.nan], n // 4 + 1), 4)[:n]
    distances = draw(st.sampled_from([0, 6, 25])), draw(st.sampled_from([0, 6, 12]))
    plan = Plan(wanted, *(np.full(n if distance else 0, float(distance)) for distance in distances))
    limits = schema.Limits(
        max_position=draw(st.integers(1, 3)),
        max_order=draw(st.integers(1, 4)),
        max_trades_per_session=draw(st.sampled_from([None, 2, 5])),
        max_daily_loss_usd=draw(st.sampled_from([None, 30.0])),
        max_drawdown_frac=draw(st.sampled_from([None, None, 0.01])),
        no_entry_before_close_sec=draw(st.sampled_from([0, 600])),
        flatten_before_close_sec=draw(st.sampled_from([0, 180])),
    )
    costs = schema.Costs(slippage_ticks=draw(st.sampled_from([0.0, 1.0, 0.5])), commission_usd=0.77)
    return bars, plan, limits, costs


@given(runs())
@settings(max_examples=60, deadline=None)
def test_equity_is_capital_plus_cash_plus_mark_at_every_bar(run: tuple[Bars, Plan, schema.Limits, schema.Costs]) -> None:
    bars, plan, limits, costs = run
    result = simulate(bars, plan, limits, costs, CAPITAL)
    n, f = len(bars), result.fills
    cash = np.cumsum(np.bincount(f["bar"], -f["quantity"] * f["price_ticks"], n))
    paid = np.cumsum(np.bincount(f["bar"], np.abs(f["quantity"]), n)) * costs.commission_usd
    position = np.cumsum(np.bincount(f["bar"], f["quantity"], n)).astype(int)
    assert (result.position == position).all()
    np.testing.assert_allclose(result.equity, CAPITAL + cash + position * bars.ticks["close"] - paid, rtol=0, atol=1e-7)
    assert result.commission_usd == pytest.approx(paid[-1])
    assert (f["slippage_ticks"] == costs.slippage_ticks).all()


@given(runs())
@settings(max_examples=60, deadline=None)
def test_trades_are_the_whole_result(run: tuple[Bars, Plan, schema.Limits, schema.Costs]) -> None:
    result = simulate(*run, CAPITAL)
    t = result.trades
    assert t["gross_usd"].sum() - t["commission_usd"].sum() == pytest.approx(result.net_pnl_usd, abs=1e-6)
    assert t["commission_usd"].sum() == pytest.approx(result.commission_usd)
    assert (t["mae_usd"] <= np.minimum(t["gross_usd"], 0)).all()
    assert (t["mfe_usd"] >= np.maximum(t["gross_usd"], 0)).all()
    assert (t["entry_bar"][1:] >= t["exit_bar"][:-1]).all()
    assert (t["quantity"] != 0).all()


@given(runs())
@settings(max_examples=60, deadline=None)
def test_positions_follow_targets_and_stay_inside_the_limits(run: tuple[Bars, Plan, schema.Limits, schema.Costs]) -> None:
    bars, plan, limits, costs = run
    result = simulate(bars, plan, limits, costs, CAPITAL)
    assert (np.abs(result.target) <= limits.max_position).all()
    stopped = np.isin(np.arange(len(bars)), result.fills["bar"][np.isin(result.fills["reason"], [1, 2])])
    assert (result.position[1:] == np.where(stopped[1:], 0, result.target[:-1])).all()
    assert _opening_fills_per_session(result) <= (limits.max_trades_per_session or len(bars))


def _opening_fills_per_session(result: Result) -> int:
    f = result.fills[result.fills["reason"] != ROLL]
    before = f["position"] - f["quantity"]
    opens = (f["position"] != 0) & ((np.sign(before) != np.sign(f["position"])) | (np.abs(f["position"]) > np.abs(before)))
    sessions = result.bars.session[f["bar"][opens]]
    return int(np.unique(sessions, return_counts=True)[1].max()) if len(sessions) else 0


@given(runs(), st.data())
@settings(max_examples=30, deadline=None)
def test_the_past_does_not_depend_on_the_future(run: tuple[Bars, Plan, schema.Limits, schema.Costs], data: st.DataObject) -> None:
    bars, plan, limits, costs = run
    cut = data.draw(st.integers(1, len(bars)))
    short = Plan(plan.wanted[:cut], plan.stop_ticks[:cut], plan.take_profit_ticks[:cut])
    whole, part = simulate(bars, plan, limits, costs, CAPITAL), simulate(bars.rows(0, cut), short, limits, costs, CAPITAL)
    for name in ("equity", "position", "target", "block"):
        np.testing.assert_array_equal(getattr(whole, name)[:cut], getattr(part, name))
    assert (whole.fills[whole.fills["bar"] < cut] == part.fills).all()
