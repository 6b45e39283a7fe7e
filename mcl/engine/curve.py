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
from mcl.engine.account import Holding, Money, equity_usd
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
        holding: Any = Holding(s.position[k], s.cash_ticks[k], s.sides[k])  # type: ignore[arg-type]
        ticks = self.close[rows].astype(np.float64)
        picked: Floats = equity_usd.py_func(holding, ticks, self.money)  # type: ignore[attr-defined]
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
        """In the arithmetic of `account.filled` and `account.rolled`: the two legs of a roll are
        one sum.
        """
        f, before = self.fills, self.before
        quantity, price, legs = (
            f["quantity"],
            f["price_ticks"].copy(),
            np.flatnonzero(f["reason"] == ROLL),
        )
        price[legs[::2]] -= price[legs[1::2]]
        price[legs[1::2]] = 0.0
        return Steps(
            np.append(0, f["bar"]),
            np.append(before.position, f["position"]),
            np.cumsum(np.append(before.cash_ticks, -quantity * price)),
            np.cumsum(np.append(before.sides, np.abs(quantity))),
        )


@njit
def _spread(closes: Ticks, steps: Steps, money: Money, out: Floats) -> None:
    first, position, cash, sides = steps
    for k in range(len(first)):
        holding = Holding(position[k], cash[k], sides[k])
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
        holding = Holding(position[k], cash[k], sides[k])
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
