"""From a configuration and bars to a `Result`: the plan of the bars, then the kernel walks through
them.
"""

from __future__ import annotations

import numpy as np

from mcl.base.errors import EngineError
from mcl.base.instants import NS
from mcl.base.jit import readonly
from mcl.config import schema
from mcl.data.bars import COLUMNS, Bars, Floats, Inside
from mcl.engine import kernel
from mcl.engine.account import Holding, Ledger, Money, exact, stop_level
from mcl.engine.curve import Curve
from mcl.engine.legs import distance
from mcl.engine.orders import QUANTA, execution_record
from mcl.engine.plan import VECTORS, Plan, plan
from mcl.engine.result import FILL, Result
from mcl.engine.rows import Fills
from mcl.engine.trades import round_trips
from mcl.market import calendar
from mcl.market.intervals import BAR_SEC
from mcl.risk.limits import limits_record
from mcl.strategy import build

__all__ = [
    "Plan",
    "backtest",
    "buy_and_hold",
    "kernel_variant",
    "plan",
    "simulate",
    "slippage_by_bar",
]

RARE = (
    *("max_orders_per_session", "max_loss_per_trade_usd", "max_consecutive_losses"),
    *("initial_margin_usd", "maintenance_margin_usd"),
)
MARKET = schema.Execution()


def simulate(
    bars: Bars,
    plan: Plan,
    limits: schema.Limits,
    costs: schema.Costs,
    capital_usd: float,
    execution: schema.Execution = MARKET,
    ledger: Ledger | None = None,
) -> Result:
    """Trade the plan bar by bar; EngineError for arrays that do not fit or a roll without a price.

    `ledger` is what the first bar begins with (default: flat, with the capital): a session
    continues the one before it.
    """
    n = _length(bars, plan)
    if (row := bars.unpriced_roll) >= 0:
        raise EngineError(
            f"row {row}, closed at {bars.times[row]}, rolls, and where the contract before it"
            " traded then is not known"
        )
    if execution.participation_frac is not None and not bars.volume.any():
        raise EngineError(
            f"execution.participation_frac={execution.participation_frac} needs volumes, and these"
            " bars have none"
        )
    money = exact(
        Money(
            capital_usd=capital_usd,
            tick_value_usd=bars.instrument.tick_value_usd,
            commission_usd=costs.side_usd,
            slippage_ticks=costs.slippage_ticks,
        )
    )
    record = limits_record(limits, bars.interval, execution.latency_bars)
    variant = kernel_variant(plan, limits, costs, execution)
    terms = kernel.RunTerms(record, execution_record(execution, costs), money)
    intents = kernel.Intents(
        **{
            name: readonly(getattr(plan, name), np.int8 if name == "gate" else np.float64)
            for name in kernel.Intents._fields
        }
    )
    track_length = n if variant == kernel.FULL else 0
    track = kernel.Track(np.empty(track_length, np.int32), np.empty(track_length, np.int8))
    ledger = Ledger(money) if ledger is None else ledger
    before = kernel.initial_state(ledger.holding, ledger.guard, ledger.equity)
    fills, changes, after = kernel.run(
        variant, _market(bars, costs, execution), intents, terms, track, before
    )
    commission_usd = (after.holding.sides - before.holding.sides) * money.commission_usd
    ticks = bars.ticks
    trades = round_trips(
        _since_entry(before.holding, fills),
        ticks["high"],
        ticks["low"],
        ticks["close"],
        money.tick_value_usd,
        money.commission_usd,
    )
    curve = Curve(ticks["close"], fills, money, before.holding)
    return Result(bars, before.equity, curve, changes, fills, trades, commission_usd, plan.wanted)


def _since_entry(holding: Holding, fills: Fills) -> Fills:
    """With what was held before the first bar as a fill of that bar: a round trip has an entry."""
    if not holding.position:
        return fills
    entry = np.zeros(1, FILL)
    entry["quantity"] = entry["position"] = holding.position
    entry["price_ticks"] = holding.entry_ticks
    entry["risk_ticks"] = distance(holding.entry_ticks, stop_level(holding))
    return np.concatenate([entry, fills])


def backtest(config: schema.Config, bars: Bars) -> Result:
    """The run that a configuration describes, on these bars."""
    trading_plan = plan(bars, build(config.strategy), config.risk, config.capital_usd)
    return simulate(
        bars, trading_plan, config.risk.limits, config.costs, config.capital_usd, config.execution
    )


def buy_and_hold(bars: Bars, costs: schema.Costs, capital_usd: float) -> Result:
    """One contract from the first open that can be traded to the last bar, with the rolls and the
    costs of any other run and without a limit.
    """
    nothing = np.empty(0)
    always = Plan(np.ones(len(bars)), nothing, nothing)
    return simulate(bars, always, schema.Limits(), costs, capital_usd)


def slippage_by_bar(bars: Bars, costs: schema.Costs) -> Floats:
    """Ticks at the hour (New York) in which each bar opened, rounded up to 1/64; empty where one
    value holds for all hours.
    """
    if not costs.slippage_by_hour_ticks:
        return np.empty(0)
    if bars.interval == "session":
        raise EngineError(
            "costs.slippage_by_hour_ticks has hours, and bars of a whole session have none; use"
            " data.interval=1h or less"
        )
    hour = calendar.new_york_ns(bars.close_time - BAR_SEC[bars.interval] * NS) // (3600 * NS) % 24
    table: Floats = np.ceil(np.array(costs.slippage_by_hour_ticks) * QUANTA) / QUANTA
    by_bar: Floats = table[hour]
    return by_bar


def kernel_variant(
    plan: Plan, limits: schema.Limits, costs: schema.Costs, execution: schema.Execution
) -> int:
    """Return the fastest variant of the kernel that has all that is configured. Each slower one
    gives the same result.
    """
    at_once = (
        execution.entry == "market"
        and execution.latency_bars == 0
        and execution.participation_frac is None
    )
    one_price = (
        not costs.slippage_by_hour_ticks
        and not costs.impact_ticks
        and limits.price_collar_ticks is None
    )
    if not (at_once and one_price) or len(plan.trail_ticks) or execution.bracket == "finer":
        return kernel.FULL
    basic = limits.state == "normal" and all(getattr(limits, name) is None for name in RARE)
    return kernel.PLAIN if basic and not (len(plan.buffer) or len(plan.gate)) else kernel.RULED


def _market(bars: Bars, costs: schema.Costs, execution: schema.Execution) -> kernel.MarketArrays:
    marks = {
        name: readonly(getattr(bars, name), np.int32)
        for name in ("volume", "to_close_sec", "contract")
    }
    prices = {name: readonly(values, np.int32) for name, values in bars.ticks.items()}
    inside = (
        bars.inside
        if execution.bracket == "finer"
        else Inside(*(np.empty(0, np.int32),) * 3, np.empty(0, np.int64))
    )
    finer = Inside(*(readonly(values, values.dtype) for values in inside))
    by_bar = {
        "event": readonly(bars.event, np.uint8),
        "slippage": readonly(slippage_by_bar(bars, costs)),
    }
    return kernel.MarketArrays(
        **prices, left=readonly(bars.left_ticks, np.int32), **marks, **by_bar, inside=finer
    )


def _length(bars: Bars, plan: Plan) -> int:
    n = len(bars)
    lengths = {name: len(getattr(bars, name)) for name in COLUMNS}
    lengths["wanted"] = len(plan.wanted)
    lengths["quotes"] = n if bars.quote_columns is None else bars.quote_columns.rows
    lengths |= {name: len(getattr(plan, name)) or n for name in VECTORS[1:]}
    for name, length in lengths.items():
        if length != n:
            raise EngineError(
                f"{name} has {length} rows; it must have as many as there are bars, {n}"
            )
    if n == 0:
        raise EngineError("there are no bars to simulate; choose a longer date range")
    return n
