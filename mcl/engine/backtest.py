"""From a configuration and bars to a `Result`: what depends on bars alone is planned as vectors, then the kernel walks through the bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcl import schema
from mcl.data.bars import Bars, Floats
from mcl.engine import kernel
from mcl.engine.account import Money
from mcl.engine.result import Result
from mcl.engine.trades import round_trips
from mcl.errors import EngineError
from mcl.jit import readonly
from mcl.risk import limits_record, protection, scale
from mcl.strategy import Strategy, build

MARKET_COLUMNS = ("session", "to_close_sec", "contract")


@dataclass(frozen=True)
class Plan:
    """What the bars alone say, row by row: known at the close of the row, to be traded from the next open on."""

    wanted: Floats  # contracts, real; NaN means flat
    stop_ticks: Floats  # distance from the fill price; empty if the rule has none
    take_profit_ticks: Floats

    def __len__(self) -> int:
        return len(self.wanted)

    def rows(self, start: int, stop: int) -> Plan:
        """The plan of the bars [start, stop), as views: trade a part of the bars with indicators warmed up on what lies before it."""
        return Plan(self.wanted[start:stop], self.stop_ticks[start:stop], self.take_profit_ticks[start:stop])


def plan(bars: Bars, strategy: Strategy, risk: schema.Risk, capital_usd: float) -> Plan:
    """signal × scale, with its protective distances. While a protective distance is unknown the plan is flat: never unprotected."""
    signal = strategy.signal(bars)
    if signal.shape != (len(bars),):
        raise EngineError(f"{strategy.name}.signal has shape {signal.shape}; it must be one value per bar, ({len(bars)},)")
    contracts = scale(bars, risk, capital_usd)
    always_one = contracts.strides == (0,) and contracts[0] == 1.0  # then a product would only copy the signal
    wanted = signal if always_one else signal * contracts
    stop, take_profit = protection(bars, risk.protection)
    for distance in (stop, take_profit):
        if len(distance):
            wanted = np.where(np.isnan(distance), np.nan, wanted)
    return Plan(wanted, stop, take_profit)


def simulate(bars: Bars, plan: Plan, limits: schema.Limits, costs: schema.Costs, capital_usd: float) -> Result:
    """Trade the plan bar by bar; raises EngineError for arrays that do not fit or a price that is not a number."""
    n = _length(bars, plan)
    if (row := bars.first_bad_row) >= 0:
        raise EngineError(f"row {row}, closed at {bars.times[row]}, has a price that is not finite; every bar needs four prices")
    money = Money(float(capital_usd), bars.instrument.tick_value_usd, float(costs.commission_usd), float(costs.slippage_ticks))
    ticks = bars.ticks
    marks = {name: readonly(getattr(bars, name), np.int64) for name in MARKET_COLUMNS}
    market = kernel.Market(**{name: readonly(prices) for name, prices in ticks.items()}, **marks, roll=readonly(bars.roll, np.bool_))
    wish = kernel.Wish(readonly(plan.wanted), readonly(plan.stop_ticks), readonly(plan.take_profit_ticks))
    track = kernel.Track(np.empty(n), np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int8))
    fills, sides = kernel.run(market, wish, limits_record(limits, bars.interval), money, track)
    trades = round_trips(fills, ticks["high"], ticks["low"], ticks["close"], money.tick_value_usd, money.commission_usd)
    return Result(bars, money.capital_usd, *track, fills, trades, sides * money.commission_usd)


def backtest(config: schema.Config, bars: Bars) -> Result:
    """The run that a configuration describes, on these bars."""
    intent = plan(bars, build(config.strategy), config.risk, config.capital_usd)
    return simulate(bars, intent, config.risk.limits, config.costs, config.capital_usd)


def _length(bars: Bars, plan: Plan) -> int:
    n = len(bars)
    lengths = {name: len(getattr(bars, name)) for name in ("open", "high", "low", "close", "outgoing_open", "roll", *MARKET_COLUMNS)}
    lengths["wanted"] = len(plan.wanted)
    lengths |= {name: len(getattr(plan, name)) or n for name in ("stop_ticks", "take_profit_ticks")}
    for name, length in lengths.items():
        if length != n:
            raise EngineError(f"{name} has {length} rows; it must have as many as there are bars, {n}")
    if n == 0:
        raise EngineError("there are no bars to simulate; choose a longer date range")
    return n
