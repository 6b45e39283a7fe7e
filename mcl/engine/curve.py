"""The equity curve: a pure function of fills and closes, made when it is asked for.

The kernel has the same figures, bit by bit, for the limits, and keeps none of them: a trial of a
search asks for the ends of its sessions and the deepest drawdown, and never writes a vector over
the bars. Between two fills equity is a straight line of the close.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.base.jit import njit, readonly
from mcl.engine.account import FLAT, Holding, Money, equity_usd, exact, holding_after_fill, rolled
from mcl.engine.decision import NO_BRACKET
from mcl.engine.result import FILL_REASONS

ROLL = FILL_REASONS.index("roll")
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Ticks = npt.NDArray[np.int32]


class Steps(NamedTuple):
    """The position from one fill to the next: one row before the first fill and one after each."""

    first: Rows  # bar; the next row's is where it ends
    position: Rows
    cash_ticks: Floats
    sides: Rows


class DrawdownSummary(NamedTuple):
    """Of an equity curve. The deepest drawdown is <= 0, in both measures where it was deepest."""

    deepest_usd: float
    deepest_frac: float  # of the peak before it
    mean_usd: float


@dataclass(frozen=True)
class Curve:
    """Equity in USD at the close of each bar."""

    close: Ticks
    fills: npt.NDArray[np.void]  # FILL
    money: Money
    before: Holding  # what the first bar begins with

    def values(self) -> Floats:
        """One for each bar."""
        out = np.empty(len(self.close))
        _spread(readonly(self.close, np.int32), self._steps, self.money, out)
        return out

    def at(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Those of some bars."""
        s, k = self._steps, np.searchsorted(self._steps.first, rows, "right") - 1
        fields: dict[str, Any] = {
            "position": s.position[k],
            "cash_ticks": s.cash_ticks[k],
            "sides": s.sides[k],
        }
        ticks = self.close[rows].astype(np.float64)
        picked: Floats = equity_usd.py_func(FLAT._replace(**fields), ticks, self.money)  # type: ignore[attr-defined]
        return picked

    def drawdown_summary(self, capital_usd: float) -> DrawdownSummary:
        """The start capital (> 0) is the first peak. The same bits as the minima of
        `metrics.performance.drawdown`.
        """
        return _drawdown_summary(
            readonly(self.close, np.int32), self._steps, self.money, float(capital_usd)
        )

    @cached_property
    def _steps(self) -> Steps:
        """The kernel's own steps, repeated over its fills."""
        rows = len(self.fills) + 1
        steps = Steps(
            first=np.zeros(rows, np.int64),
            position=np.empty(rows, np.int64),
            cash_ticks=np.empty(rows),
            sides=np.empty(rows, np.int64),
        )
        _replay(self.fills, exact(self.before), steps)
        return steps


@njit
def _replay(fills: npt.NDArray[np.void], before: Holding, steps: Steps) -> None:
    """Fill in `steps`. The two legs of a roll are one step: the first of them lasts no bar."""
    holding = before
    for k in range(len(fills) + 1):
        if k > 0:
            fill: Any = fills[k - 1]
            steps.first[k] = fill.bar
            if fill.reason != ROLL:
                holding = holding_after_fill(holding, fill.quantity, fill.price_ticks, NO_BRACKET)
            elif fill.position != 0:
                out: Any = fills[k - 2]
                holding = rolled(holding, out.price_ticks, fill.price_ticks, 0.0)
        steps.position[k] = holding.position
        steps.cash_ticks[k], steps.sides[k] = holding.cash_ticks, holding.sides


@njit
def _spread(closes: Ticks, steps: Steps, money: Money, out: Floats) -> None:
    first, position, cash, sides = steps
    for k in range(len(first)):
        holding = FLAT._replace(position=position[k], cash_ticks=cash[k], sides=sides[k])
        for i in range(
            np.uint64(first[k]), np.uint64(first[k + 1] if k + 1 < len(first) else len(closes))
        ):
            out[i] = equity_usd(holding, float(closes[i]), money)


@njit
def _drawdown_summary(closes: Ticks, steps: Steps, money: Money, capital: float) -> DrawdownSummary:
    """Below one peak the lowest equity is the deepest in both measures, and between two fills it is
    that of the lowest or the highest close: rounding never turns an order around. Bars are gone
    through one by one only where there is a new peak among them.
    """
    first, position, cash, sides = steps
    peak, low, deepest_usd, deepest_frac, total = capital, capital, 0.0, 0.0, 0.0
    for k in range(len(first)):
        start, stop = (
            np.uint64(first[k]),
            np.uint64(first[k + 1] if k + 1 < len(first) else len(closes)),
        )
        if start >= stop:
            continue
        holding = FLAT._replace(position=position[k], cash_ticks=cash[k], sides=sides[k])
        lowest, highest, ticks = closes[start], closes[start], np.int64(0)
        for i in range(start, stop):
            lowest, highest, ticks = (
                min(lowest, closes[i]),
                max(highest, closes[i]),
                ticks + closes[i],
            )
        at_lowest, at_highest = (
            equity_usd(holding, float(lowest), money),
            equity_usd(holding, float(highest), money),
        )
        bars = float(stop - start)
        total += equity_usd(holding, ticks / bars, money) * bars
        if max(at_lowest, at_highest) <= peak:
            low = min(low, at_lowest, at_highest)
            continue
        for i in range(start, stop):
            value = equity_usd(holding, float(closes[i]), money)
            if value > peak:
                deepest_usd, deepest_frac = (
                    min(deepest_usd, low - peak),
                    min(deepest_frac, (low - peak) / peak),
                )
                peak = low = value
            elif value < low:
                low = value
    return DrawdownSummary(
        min(deepest_usd, low - peak), min(deepest_frac, (low - peak) / peak), total / len(closes)
    )
