"""Live keeps its account in a `Ledger`; fed with the kernel's fills it must decide, bit by bit,
what the kernel decided.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import make_bars

from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.account import FLAT, Ledger, Money, profit_level, stop_level
from mcl.engine.backtest import Plan, simulate
from mcl.engine.decision import NO_BRACKET, NO_TARGET, Target, decide
from mcl.engine.legs import legs_of
from mcl.engine.result import FILL_REASONS
from mcl.risk.limits import limits_record

from .flows import CAPITAL, Flow, constant, limited

TARGET, STOP, TAKE_PROFIT, ROLL, RISK = (
    FILL_REASONS.index(name) for name in ("signal", "stop", "take_profit", "roll", "risk")
)


@given(limited(), st.sampled_from([0, 0, 3, 8]))
@settings(max_examples=120)
def test_ledger_and_decide_repeat_the_kernel(limits_flow: Flow, trail: int) -> None:
    """With a trailing stop, too: it moves at the close, and a restart loses nothing of it."""
    trail_ticks = constant(len(limits_flow.bars), trail)
    flow = limits_flow._replace(plan=replace(limits_flow.plan, trail_ticks=trail_ticks))
    bars, plan, limits, costs, _ = flow
    result = flow.run()
    record = limits_record(limits, bars.interval)
    money = Money(CAPITAL, bars.instrument.tick_value_usd, costs.side_usd, costs.slippage_ticks)
    ledger, target = Ledger(money), NO_TARGET
    for i in range(len(bars)):
        if i and bars.session[i] != bars.session[i - 1]:
            ledger.open_session()
        _replay_fills(ledger, target, result.fills[result.fills["bar"] == i], bars, i)
        ledger.mark(bars.ticks["close"][i])
        account = ledger.account(bars.to_close_sec[i])
        target = decide(plan.row(i), account, record)
        ledger.adopt(account, target)
        assert (ledger.equity, ledger.holding.position) == (result.equity[i], result.position[i])
        assert (target.position, target.block) == (result.target[i], result.block[i])
        # as after a crash at any bar
        ledger = Ledger.restored(money, ledger.state())
    compiled: Any = decide
    assert len(compiled.signatures) == 1  # live and every test above ran the one compiled function


def _replay_fills(ledger: Ledger, target: Target, fills: np.ndarray, bars: Bars, i: int) -> None:
    rolled = fills[fills["reason"] == ROLL]
    if len(rolled):
        gap = float(bars.ticks["open"][i] - bars.left_ticks[bars.contract[i]])
        ledger.roll(rolled[0]["price_ticks"], rolled[1]["price_ticks"], gap)
    for fill in fills[fills["reason"] != ROLL]:
        quantity, price = int(fill["quantity"]), float(fill["price_ticks"])
        if fill["reason"] in (TARGET, RISK):
            ledger.fill(quantity, price, target.bracket)
            continue
        level = (stop_level if fill["reason"] == STOP else profit_level)(ledger.holding)
        raw = price - math.copysign(fill["slippage_ticks"], quantity)
        assert raw in (level, bars.ticks["open"][i])
        ledger.stop_out(quantity, price)


def test_a_run_goes_on_from_what_was_held_over_a_roll_at_its_first_bar() -> None:
    """Long 2 from 6,980 with a stop at 6,900; the next contract is 50 ticks higher. By hand: sold
    at 6,949, bought at 7,001.
    """
    prices = {name: [7_000, 7_010, 7_020] for name in ("open", "high", "low", "close")}
    bars = replace(
        make_bars(prices), roll=np.array([True, False, False]), left_at=np.array([69.50])
    )
    money = Money(CAPITAL, 1.0, 0.5, 1.0)
    held = FLAT._replace(
        position=2,
        cash_ticks=-2 * 6_980.0,
        sides=2,
        entry_ticks=6_980.0,
        legs=legs_of(NO_BRACKET._replace(stop_ticks=80.0), 1, 6_980.0, math.nan),
    )
    ledger = Ledger(money, held)
    wanted = Plan(np.full(3, 2.0), np.full(3, 80.0), np.empty(0))
    costs = schema.Costs(
        slippage_ticks=1.0, commission_usd=0.5, exchange_usd=0.0, regulatory_usd=0.0
    )
    result = simulate(bars, wanted, schema.Limits(max_position=2), costs, CAPITAL, ledger=ledger)
    assert [(f["bar"], f["quantity"], f["price_ticks"]) for f in result.fills] == [
        (0, -2, 6_949.0),
        (0, 2, 7_001.0),
    ]
    # cash -2·6,980 + 2·(6,949 - 7,001), marked at 7,000, six sides
    assert (
        result.equity[0]
        == CAPITAL + (-13_960 - 104 + 14_000) * bars.instrument.tick_value_usd - 6 * 0.5
    )
    assert result.commission_usd == 4 * 0.5
    assert list(result.position) == [2, 2, 2]
    assert len(result.trades) == 1
