"""What must hold at every bar of every run, on random walks with rolls, stops, limits and prices
around zero.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from comparisons import digest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.config import schema
from mcl.engine import backtest as engine
from mcl.engine import kernel
from mcl.engine.result import FILL_REASONS, Result, changes

from .flows import CAPITAL, Flow, anything, limited, plain

ROLL, STOP, TAKE_PROFIT = (FILL_REASONS.index(name) for name in ("roll", "stop", "take_profit"))


@given(anything())
@settings(max_examples=120)
def test_equity_is_capital_plus_cash_plus_mark_at_every_bar(flow: Flow) -> None:
    result, bars, f = flow.run(), flow.bars, flow.run().fills
    n = len(bars)
    cash = np.cumsum(np.bincount(f["bar"], -f["quantity"] * f["price_ticks"], n))
    paid = np.cumsum(np.bincount(f["bar"], np.abs(f["quantity"]), n)) * flow.costs.side_usd
    position = np.cumsum(np.bincount(f["bar"], f["quantity"], n)).astype(int)
    assert (result.position == position).all()
    np.testing.assert_allclose(
        result.equity, CAPITAL + cash + position * bars.ticks["close"] - paid, rtol=0, atol=1e-7
    )
    assert result.commission_usd == pytest.approx(paid[-1])


@given(anything())
@settings(max_examples=80)
def test_every_fill_happens_at_a_price_of_its_bar(flow: Flow) -> None:
    """Before slippage: inside the bar's range, or (the old leg of a roll) at the outgoing price.
    Slippage is never a gain.
    """
    f, ticks = flow.run().fills, flow.bars.ticks
    row, side = f["bar"], np.sign(f["quantity"])
    raw = f["price_ticks"] - side * f["slippage_ticks"]
    inside = (ticks["low"][row] <= raw) & (raw <= ticks["high"][row])
    assert (
        inside | ((f["reason"] == ROLL) & (raw == flow.bars.left_ticks[flow.bars.contract[row]]))
    ).all()
    assert (f["slippage_ticks"] >= 0).all()


@given(anything())
@settings(max_examples=80)
def test_trades_are_the_whole_result(flow: Flow) -> None:
    result = flow.run()
    t = result.trades
    assert t["gross_usd"].sum() - t["commission_usd"].sum() == pytest.approx(
        result.net_pnl_usd, abs=1e-6
    )
    assert t["commission_usd"].sum() == pytest.approx(result.commission_usd)
    assert (t["mae_usd"] <= np.minimum(t["gross_usd"], 0)).all()
    assert (t["mfe_usd"] >= np.maximum(t["gross_usd"], 0)).all()
    assert (t["entry_bar"][1:] >= t["exit_bar"][:-1]).all()
    assert (t["quantity"] != 0).all()


@given(anything())
@settings(max_examples=80)
def test_what_is_kept_are_the_changes_and_nothing_else(flow: Flow) -> None:
    result = flow.run()
    assert len(result.position) == len(result.target) == len(result.block) == len(flow.bars)
    assert (changes(result.position, result.target, result.block) == result.changes).all()
    assert result.held_bars == np.count_nonzero(result.position)


@given(limited())
@settings(max_examples=80)
def test_positions_follow_targets_when_all_goes_to_the_market(flow: Flow) -> None:
    result = flow.run()
    stopped = np.isin(
        np.arange(len(flow.bars)),
        result.fills["bar"][np.isin(result.fills["reason"], [STOP, TAKE_PROFIT])],
    )
    assert (result.position[1:] == np.where(stopped[1:], 0, result.target[:-1])).all()


@given(anything())
@settings(max_examples=80)
def test_positions_stay_inside_the_limits(flow: Flow) -> None:
    result, limits, cap = flow.run(), flow.limits, flow.execution.participation_frac
    assert (np.abs(result.target) <= limits.max_position).all()
    assert (np.abs(result.position) <= limits.max_position).all()
    assert _opening_fills_per_session(result) <= (limits.max_trades_per_session or len(flow.bars))
    assert limits.state != "halted" or not len(result.fills)
    ordered = result.fills[~np.isin(result.fills["reason"], [ROLL, STOP, TAKE_PROFIT])]
    assert (
        cap is None or (np.abs(ordered["quantity"]) <= cap * flow.bars.volume[ordered["bar"]]).all()
    )


def _opening_fills_per_session(result: Result) -> int:
    f = result.fills[result.fills["reason"] != ROLL]
    before = f["position"] - f["quantity"]
    opens = (f["position"] != 0) & (
        (np.sign(before) != np.sign(f["position"])) | (np.abs(f["position"]) > np.abs(before))
    )
    sessions = result.bars.session[f["bar"][opens]]
    return int(np.unique(sessions, return_counts=True)[1].max()) if len(sessions) else 0


@given(anything(), st.data())
@settings(max_examples=60)
def test_the_past_does_not_depend_on_the_future(flow: Flow, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(flow.bars)))
    whole, part = (
        flow.run(),
        flow._replace(bars=flow.bars.rows(0, cut), plan=flow.plan.rows(0, cut)).run(),
    )
    for name in ("equity", "position", "target", "block"):
        np.testing.assert_array_equal(getattr(whole, name)[:cut], getattr(part, name))
    assert (whole.fills[whole.fills["bar"] < cut] == part.fills).all()


@given(limited())
@settings(max_examples=120)
def test_each_variant_of_the_kernel_gives_the_bits_of_the_slower_ones(flow: Flow) -> None:
    result, shortest = (
        flow.run(),
        engine.kernel_variant(flow.plan, flow.limits, flow.costs, flow.execution),
    )
    for longer in range(shortest, kernel.FULL + 1):
        with patch.object(engine, "kernel_variant", return_value=longer):
            again = flow.run()
        for name in ("equity", "position", "target", "block", "fills", "trades"):
            assert digest(getattr(result, name)) == digest(getattr(again, name))


@given(plain(), anything())
@settings(max_examples=20)
def test_the_fastest_variant_is_taken(flow: Flow, other: Flow) -> None:
    assert engine.kernel_variant(flow.plan, flow.limits, flow.costs, flow.execution) == kernel.PLAIN
    gated = replace(flow.plan, gate=np.zeros(len(flow.bars), np.int8))
    assert engine.kernel_variant(gated, flow.limits, flow.costs, flow.execution) == kernel.RULED
    assert (
        engine.kernel_variant(gated, flow.limits, flow.costs, schema.Execution(latency_bars=1))
        == kernel.FULL
    )
    assert (
        engine.kernel_variant(
            replace(other.plan, trail_ticks=np.ones(1)), other.limits, other.costs, other.execution
        )
        == kernel.FULL
    )
