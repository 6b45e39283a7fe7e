"""Measure what the fills of a session cost against the close that was decided on, in ticks per
contract; positive is a cost.

    delay      from the close of the bar to the first price at which the order could trade, the
               open of the next bar
    spread     what the promoted costs assume for a market order at that hour and of that size,
               which the backtest pays too
    execution  the rest: the fill against that open and that spread; for a stop or take-profit,
               against the backtest's fill

Bars hold no quotes: the spread is the assumed one, and what was really paid for the spread is part
of `execution`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.backtest import slippage_by_bar
from mcl.engine.decision import sign
from mcl.metrics.performance import Floats

COLUMNS = (
    "time",
    "ref",
    "reason",
    "quantity",
    "decided_at",
    "arrival",
    "price",
    "delay_ticks",
    "spread_ticks",
    "execution_ticks",
)


@dataclass(frozen=True)
class LiveFill:
    """Executions of one order in one bar, at their average price. `bar`: the number of the bar in
    which it happened.
    """

    bar: int
    quantity: int
    price: float
    ref: str = ""
    reason: str = "signal"

    def __str__(self) -> str:
        return f"{self.quantity:+d} at {self.price:.10g}"


def split(
    bars: Bars, fills: Sequence[LiveFill], backtest_prices: Mapping[int, float], costs: schema.Costs
) -> pd.DataFrame:
    """One row per fill. `backtest_prices`: the backtest's price by position in `fills`, where it
    has one.
    """
    by_bar = slippage_by_bar(bars, costs)
    spreads = [_spread(bars, fill, costs, by_bar) for fill in fills]
    rows = [
        _row(bars, fill, backtest_prices.get(at, math.nan), spreads[at])
        for at, fill in enumerate(fills)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _spread(bars: Bars, fill: LiveFill, costs: schema.Costs, by_bar: Floats) -> float:
    """The assumed spread of such an order in that bar. One that came after the last bar has the
    hour and volume of the last.
    """
    bar = min(fill.bar, len(bars) - 1)
    base = float(by_bar[bar]) if len(by_bar) else costs.slippage_ticks
    return base + costs.impact_ticks * abs(fill.quantity) / max(1, int(bars.volume[bar]))


def assumed_ticks(frame: pd.DataFrame, costs: schema.Costs) -> float:
    """The assumed slippage of these fills per contract; without a fill, the configured one."""
    contracts = frame["quantity"].abs()
    return (
        float((frame["spread_ticks"] * contracts).sum() / contracts.sum())
        if len(frame)
        else costs.slippage_ticks
    )


def _row(bars: Bars, fill: LiveFill, backtest_price: float, spread_ticks: float) -> tuple[Any, ...]:
    tick, side = bars.instrument.tick_size, sign(fill.quantity)
    decided = float(bars.close[fill.bar - 1]) if 0 < fill.bar <= len(bars) else math.nan
    if fill.reason == "signal":
        arrival = float(bars.open[fill.bar]) if 0 < fill.bar < len(bars) else math.nan
        delay = (arrival - decided) * side / tick
    else:
        arrival, delay = backtest_price - side * spread_ticks * tick, 0.0
    execution = (fill.price - arrival) * side / tick - spread_ticks
    at = pd.Timestamp(int(bars.close_time[min(fill.bar, len(bars) - 1)]), tz="UTC")
    # + 0.0: no minus before a zero
    parts = (round(delay, 6) + 0.0, spread_ticks, round(execution, 6) + 0.0)
    return at, fill.ref, fill.reason, fill.quantity, decided, round(arrival, 10), fill.price, *parts


def mean_ticks(frame: pd.DataFrame) -> float:
    """Spread and execution per contract; NaN without a fill of which both are known."""
    complete = frame.dropna(subset=["execution_ticks"])
    contracts = complete["quantity"].abs()
    paid = (complete["spread_ticks"] + complete["execution_ticks"]) * contracts
    return float(paid.sum() / contracts.sum()) if len(complete) else math.nan
