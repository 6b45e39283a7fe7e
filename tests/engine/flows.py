"""Random order flows: anything that a configuration can ask of the engine, on walks with sessions,
rolls and prices around zero.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from walks import random_bars

from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.truncation import MadeOf
from mcl.engine.backtest import Plan, simulate
from mcl.engine.result import Result
from mcl.risk.blocks import Block

CAPITAL = 25_000.0
GATES = (
    Block.NONE,
    Block.NONE,
    Block.NONE,
    Block.WINDOW,
    Block.NEWS,
    Block.VOLATILITY,
    Block.WINDOW_END,
    Block.LAST_TRADE,
)


class Flow(NamedTuple):
    bars: Bars
    plan: Plan
    limits: schema.Limits
    costs: schema.Costs
    execution: schema.Execution

    def run(self) -> Result:
        return simulate(self.bars, self.plan, self.limits, self.costs, CAPITAL, self.execution)


@st.composite
def plain(draw: Any) -> Flow:
    """Market orders and the limits that have always been there: what the kernel's short way
    runs.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(2, 60) | st.integers(200, 600))
    start, bars_per_session = draw(st.sampled_from([0, 7_000])), draw(st.sampled_from([7, 50]))
    bars = random_bars(
        n, seed, start=start, bars_per_session=bars_per_session, rolls=draw(st.integers(0, 20))
    )
    held_for = draw(st.sampled_from([4, 4, 29, 90]))  # long enough for bars that change nothing
    wanted = np.repeat(
        rng.choice([-3.0, -1.0, 0.0, 0.9999999999, 2.5, np.nan], n // held_for + 1), held_for
    )[:n]
    stop, take_profit = draw(st.sampled_from([0, 6, 25])), draw(st.sampled_from([0, 6, 12]))
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
    return Flow(
        bars,
        Plan(wanted, constant(n, stop), constant(n, take_profit)),
        limits,
        costs,
        schema.Execution(),
    )


@st.composite
def limited(draw: Any) -> Flow:
    """With every limit, gate and buffer that live shares with the backtest."""
    flow, n = draw(plain()), 0
    n = len(flow.bars)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gate = (
        np.repeat(rng.choice(GATES, n // 9 + 1), 9)[:n].astype(np.int8)
        if draw(st.booleans())
        else np.empty(0, np.int8)
    )
    buffer = constant(n, draw(st.sampled_from([0.0, 0.0, 0.6])))
    plan = Plan(
        flow.plan.wanted,
        flow.plan.stop_ticks,
        flow.plan.take_profit_ticks,
        buffer=buffer,
        gate=gate,
    )
    margin = draw(st.sampled_from([None, 9_000.0, 12_450.0]))
    limits = flow.limits.model_copy(
        update={
            "max_orders_per_session": draw(st.sampled_from([None, 3])),
            "max_loss_per_trade_usd": draw(st.sampled_from([None, 15.0])),
            "max_consecutive_losses": draw(st.sampled_from([None, 1, 2])),
            "cool_down_bars": draw(st.sampled_from([1, 12])),
            "initial_margin_usd": margin,
            "maintenance_margin_usd": margin and draw(st.sampled_from([None, margin * 0.97])),
            "max_margin_frac": draw(st.sampled_from([1.0, 0.8])),
            "state": draw(st.sampled_from(["normal", "normal", "normal", "reduce_only", "halted"])),
        }
    )
    changed: Flow = flow._replace(plan=plan, limits=limits)
    return changed


@st.composite
def anything(draw: Any) -> Flow:
    """With waiting orders, latency, partial fills, trailing stops, a collar, and slippage that
    depends on volume and hour.
    """
    flow = draw(limited())
    n = len(flow.bars)
    entry = draw(st.sampled_from(["market", "limit", "stop", "stop_limit"]))
    waits = (
        {}
        if entry == "market"
        else {
            "offset_ticks": draw(st.integers(0, 8)),
            "ttl_bars": draw(st.sampled_from([None, 1, 3])),
        }
    )
    execution = schema.Execution(
        entry=entry,
        **waits,
        limit_ticks=draw(st.integers(0, 3)) if entry == "stop_limit" else 0,
        renew=draw(st.booleans()),
        fill=draw(st.sampled_from(["touch", "through"])),
        latency_bars=draw(st.sampled_from([0, 0, 1, 3])),
        participation_frac=draw(st.sampled_from([None, 0.1, 0.25])),
    )
    plan = Plan(**(vars(flow.plan) | {"trail_ticks": constant(n, draw(st.sampled_from([0, 8])))}))
    limits = flow.limits.model_copy(
        update={"price_collar_ticks": draw(st.sampled_from([None, 3.0]))}
    )
    by_hour = draw(st.sampled_from([(), tuple(float(hour % 3) for hour in range(24))]))
    costs = flow.costs.model_copy(
        update={
            "impact_ticks": draw(st.sampled_from([0.0, 7.0])),
            "slippage_by_hour_ticks": by_hour,
        }
    )
    changed: Flow = flow._replace(plan=plan, limits=limits, costs=costs, execution=execution)
    return changed


@st.composite
def hostile(draw: Any) -> Flow:
    """With distances that change from bar to bar, volumes that dry up, odd hours, and finer bars
    inside each bar.
    """
    flow = draw(anything())
    rng, n = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), len(flow.bars)
    held_for = draw(st.sampled_from([1, 3, 11]))
    wanted = np.repeat(
        rng.choice([-2.0, -1.3, 0.0, 0.1 + 0.2, 1.0, 2.9999999999, np.nan], n // held_for + 1),
        held_for,
    )[:n]
    plan = vars(flow.plan) | {"wanted": wanted}
    for name in ("stop_ticks", "take_profit_ticks", "trail_ticks"):
        if draw(st.booleans()):
            plan[name] = np.rint(rng.uniform(1, 30, n))
    bars = flow.bars
    if draw(st.booleans()):
        volume = rng.choice([0, 1, 3, 10, 40], n) + (np.arange(n) == 0)
        bars = replace(bars, volume=volume.astype(np.int32))
    if finer := draw(st.booleans()) and n >= 3:
        bars = coarse_of(bars.rows(0, n - n % 3))
        plan = vars(Plan(**plan).rows(0, len(bars)))
    execution = flow.execution.model_copy(update={"bracket": "finer" if finer else "pessimistic"})
    limits = flow.limits.model_copy(
        update={"flatten_before_close_sec": draw(st.sampled_from([0, 45, 90, 150]))}
    )
    plan_of = Plan(**plan)
    changed: Flow = flow._replace(bars=bars, plan=plan_of, execution=execution, limits=limits)
    return changed


def coarse_of(fine: Bars) -> Bars:
    """Bars of three minutes each, which know what they were made of."""
    starts = np.arange(0, len(fine), 3)
    first = {
        name: getattr(fine, name)[starts] for name in ("open_ticks", "session", "contract", "roll")
    }
    last = {
        name: getattr(fine, name)[starts + 2]
        for name in ("close_ticks", "close_time", "to_close_sec")
    }
    high, low = (
        np.maximum.reduceat(fine.high_ticks, starts),
        np.minimum.reduceat(fine.low_ticks, starts),
    )
    volume = np.add.reduceat(fine.volume, starts)
    return replace(
        fine, **first, **last, high_ticks=high, low_ticks=low, volume=volume, finer=MadeOf(fine)
    )


def constant(n: int, value: float) -> np.ndarray:
    return np.full(n if value else 0, float(value))
