"""The equity curve is made from the fills when it is asked for: the same bits as the account that
the limits looked at, bar by bar.
"""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from comparisons import digest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.engine import backtest as engine
from mcl.engine import kernel
from mcl.engine.account import FLAT, Ledger, Money, initial_guard
from mcl.engine.decision import NO_BRACKET
from mcl.engine.result import FILL_REASONS, Result
from mcl.metrics.performance import drawdown

from .flows import CAPITAL, Flow, anything, limited

ROLL = FILL_REASONS.index("roll")


@st.composite
def carried(draw: Any) -> tuple[Flow, Ledger]:
    """An order flow, and what the sessions before it left; slippage of a third of a tick, so that
    no sum is exact.
    """
    flow = draw(anything() | limited())
    costs = flow.costs.model_copy(
        update={"slippage_ticks": draw(st.sampled_from([0.0, 1.0, 1 / 3]))}
    )
    money = Money(
        CAPITAL, flow.bars.instrument.tick_value_usd, costs.side_usd, costs.slippage_ticks
    )
    position = draw(st.integers(-2, 2))
    entry = float(flow.bars.ticks["open"][0] + draw(st.integers(-30, 30))) if position else math.nan
    cash = draw(st.sampled_from([0.0, 17.3])) - (position * entry if position else 0.0)
    holding = FLAT._replace(
        position=position,
        cash_ticks=cash,
        sides=draw(st.integers(abs(position), 9)),
        entry_ticks=entry,
    )
    ledger = Ledger(money, holding)
    ledger.mark(float(flow.bars.ticks["open"][0]))
    ledger.guard = initial_guard(ledger.equity)._replace(peak_usd=max(CAPITAL, ledger.equity))
    return flow._replace(costs=costs), ledger


def simulated(flow: Flow, ledger: Ledger) -> tuple[Result, kernel.KernelState]:
    """The result, and what the kernel itself knew after the last bar."""
    states, real = [], kernel.run

    def remembered(*arguments: Any) -> Any:
        outcome = real(*arguments)
        states.append(outcome[2])
        return outcome

    with patch.object(kernel, "run", remembered):
        result = engine.simulate(
            flow.bars, flow.plan, flow.limits, flow.costs, CAPITAL, flow.execution, ledger
        )
    return result, states[0]


@given(carried())
@settings(max_examples=80)
def test_the_curve_is_that_of_a_ledger_kept_bar_by_bar(told: tuple[Flow, Ledger]) -> None:
    flow, before = told
    result, _ = simulated(flow, before)
    ledger, marks = Ledger(before.money, before.holding), []
    for i, close in enumerate(flow.bars.ticks["close"]):
        fills = result.fills[result.fills["bar"] == i]
        rolls, others = fills[fills["reason"] == ROLL], fills[fills["reason"] != ROLL]
        if len(rolls):
            ledger.roll(rolls[0]["price_ticks"], rolls[1]["price_ticks"], 0.0)
        for fill in others:
            ledger.fill(int(fill["quantity"]), fill["price_ticks"], NO_BRACKET)
        marks.append(ledger.mark(close))
    assert digest(result.equity) == digest(np.array(marks))


@given(carried())
@settings(max_examples=80)
def test_the_curve_is_what_the_limits_saw(told: tuple[Flow, Ledger]) -> None:
    """The kernel's own last equity, its highest one at any close and the one that the last session
    began with.
    """
    flow, before = told
    result, state = simulated(flow, before)
    starts = np.flatnonzero(np.diff(flow.bars.session)) + 1
    assert state.equity == result.equity[-1]
    assert state.guard.peak_usd == max(before.guard.peak_usd, result.equity.max())
    assert state.guard.session_start_usd == (
        result.equity[starts[-1] - 1] if len(starts) else before.guard.session_start_usd
    )


@given(carried())
@settings(max_examples=80)
def test_ends_of_sessions_and_the_deepest_drawdown_have_the_bits_of_the_whole_curve(
    told: tuple[Flow, Ledger],
) -> None:
    result, _ = simulated(*told)
    usd, frac = drawdown(result.equity, result.capital_usd)
    drawdowns = result.curve.drawdown_summary(result.capital_usd)
    assert (drawdowns.deepest_usd, drawdowns.deepest_frac) == (usd.min(), frac.min())
    assert drawdowns.mean_usd == pytest.approx(result.equity.mean(), rel=1e-12)
    assert (result.session_equity.to_numpy() == result.equity[result.bars.session_ends]).all()
    assert result.net_pnl_usd == result.equity[-1] - result.capital_usd


@given(anything() | limited())
@settings(max_examples=60)
def test_a_kernel_that_comes_back_for_room_at_every_turn_gives_the_same(flow: Flow) -> None:
    whole = flow.run()
    with (
        patch.object(kernel, "ROOM", kernel.FILLS_PER_BAR),
        patch.object(kernel, "_roomier", _by_one_bar),
    ):
        cut = flow.run()
    for name in ("equity", "fills", "changes", "trades"):
        assert digest(getattr(whole, name)) == digest(getattr(cut, name))


def _by_one_bar(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.empty(kernel.FILLS_PER_BAR, rows.dtype)])
