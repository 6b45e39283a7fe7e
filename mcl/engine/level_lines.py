"""The levels of the protective orders at each bar of a run: the kernel's own steps, repeated over
its fills.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mcl.base.jit import njit, readonly
from mcl.config import schema
from mcl.data.bars import Floats
from mcl.engine.account import (
    Holding,
    exact,
    holding_after_fill,
    holding_at_close,
    profit_level,
    rolled,
    stop_level,
)
from mcl.engine.decision import Bracket
from mcl.engine.kernel import ROLL
from mcl.engine.plan import Plan
from mcl.engine.result import Result
from mcl.engine.rows import Fills, signed


def levels(result: Result, plan: Plan, execution: schema.Execution) -> tuple[Floats, Floats]:
    """(stop, take-profit) in ticks of the contract held, as they stood from the close of each bar
    on; NaN where there was none.

    Two empty arrays where the run had no protection, or where its entries wait for a price or for
    volume: a fill does not tell at which bar such an order was decided.
    """
    protected = len(plan.stop_ticks) or len(plan.take_profit_ticks) or len(plan.trail_ticks)
    if not protected or execution.entry != "market" or execution.participation_frac is not None:
        return np.empty(0), np.empty(0)
    ticks, n = result.bars.ticks, len(result.bars)
    gap = ticks["open"].astype(np.float64) - result.bars.left_ticks[result.bars.contract]
    shifts = LevelShifts(readonly(ticks["close"]), readonly(gap), 1 + execution.latency_bars)
    distances = DistanceArrays(
        readonly(plan.stop_ticks), readonly(plan.take_profit_ticks), readonly(plan.trail_ticks)
    )
    stop, take_profit = np.full(n, math.nan), np.full(n, math.nan)
    before = exact(result.curve.before)
    _replayed(before, result.fills, shifts, distances, stop, take_profit)
    return stop, take_profit


class LevelShifts(NamedTuple):
    """The causes that shift a level: the close that a trailing stop follows, the gap between
    contracts, and the bars that a decision waits.
    """

    close: Floats
    gap: Floats
    late: int


class DistanceArrays(NamedTuple):
    """Of the plan, in ticks; empty for none."""

    stop: Floats
    take_profit: Floats
    trail: Floats


@njit
def _replayed(
    before: Holding,
    fills: Fills,
    shifts: LevelShifts,
    distances: DistanceArrays,
    stop: Floats,
    take_profit: Floats,
) -> None:
    holding, k = before, 0
    for i in range(len(shifts.close)):
        row = max(0, i - shifts.late)
        while k < len(fills) and fills[k].bar == i:
            fill: Any = fills[k]
            if fill.reason != ROLL:
                bracket = Bracket(
                    stop_ticks=_at(distances.stop, row),
                    take_profit_ticks=_at(distances.take_profit, row),
                    trail_ticks=_at(distances.trail, row),
                )
                holding = holding_after_fill(
                    holding, signed(fill.quantity), fill.price_ticks, bracket
                )
            elif fill.position != 0:
                holding = rolled(holding, 0.0, 0.0, shifts.gap[i])
            k += 1
        if holding.position != 0:
            holding = holding_at_close(holding, shifts.close[i])
            stop[i], take_profit[i] = stop_level(holding), profit_level(holding)


@njit
def _at(distances: Floats, i: int) -> float:
    return distances[i] if len(distances) > 0 else math.nan
