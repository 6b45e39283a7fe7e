"""The prices at which the protective orders of a position fill within a bar. Levels that do not
exist are NaN: no comparison is true.
"""

from __future__ import annotations

import math

from mcl.base.jit import inline
from mcl.engine.account import Holding
from mcl.engine.decision import sign
from mcl.engine.result import FILL_REASONS

STOP, TAKE_PROFIT = FILL_REASONS.index("stop"), FILL_REASONS.index("take_profit")
NOTHING = -1


@inline
def touched(
    holding: Holding, opening: float, high: float, low: float, close: float, within: bool
) -> tuple[int, float]:
    """Return the protective level that this bar reached, and its price before slippage.

    After an entry `within` the bar the open is past, the worst price counts all the same, and a
    profit only if the close proves it.
    """
    side = sign(holding.position)
    best, worst = (high, low) if side > 0 else (low, high)
    if within:
        best = close
    if side * (worst - holding.stop_at) <= 0:
        gap = not within and side * (opening - holding.stop_at) < 0
        return STOP, opening if gap else holding.stop_at
    if side * (best - holding.take_profit_at) >= 0:
        gap = not within and side * (opening - holding.take_profit_at) > 0
        return TAKE_PROFIT, opening if gap else holding.take_profit_at
    return NOTHING, math.nan


@inline
def reaches_profit(holding: Holding, high: float, low: float) -> bool:
    return high >= holding.take_profit_at if holding.position > 0 else low <= holding.take_profit_at


@inline
def corridor(holding: Holding) -> tuple[float, float]:
    """The prices at or below and at or above which a protective order fills; NaN, which no price
    reaches, for a level that is not there.
    """
    if holding.position > 0:
        return holding.stop_at, holding.take_profit_at
    if holding.position < 0:
        return holding.take_profit_at, holding.stop_at
    return math.nan, math.nan


@inline
def distance(price: float, stop_at: float) -> float:
    """Ticks from a fill to the stop that protects it, 0 for none."""
    return 0.0 if math.isnan(stop_at) else abs(price - stop_at)
