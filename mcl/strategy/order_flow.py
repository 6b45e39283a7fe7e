"""Follow the order flow: who trades aggressively, and which side of the book is the deeper one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.jit import njit, readonly
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import TOLERANCE


@register
@dataclass(frozen=True)
class OrderFlow:
    """Long while the pressure of the last `bars` bars is above `threshold`, short while it is below
    -threshold, else flat.

    Pressure is in [-1, 1]: (1 - book_weight) times the net aggressive volume, bought minus sold
    over their sum, plus book_weight times the mean imbalance of the best prices at the closes
    (Cont, Kukanov & Stoikov 2014). It needs `data.quotes`. A bar of the window without a quote, or
    with a book of unknown aggressors where these count, means flat. So does a window in which
    nothing traded.
    """

    bars: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 30
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1
    book_weight: Annotated[float, Field(ge=0, le=1)] = 0.25
    name: ClassVar[str] = "order_flow"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return self.bars

    def signal(self, bars: Bars) -> Floats:
        pressure = self._pressure(bars)
        strong = np.abs(pressure) > self.threshold + TOLERANCE
        signal = np.where(strong, np.sign(pressure), 0.0)  # NaN is not strong
        signal[: self.bars - 1] = np.nan
        return signal

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return {"pressure": self._pressure(bars)}

    def _pressure(self, bars: Bars) -> Floats:
        """NaN where the window is not whole: while warming up, and where a quote is missing."""
        quotes, weight = bars.quotes, self.book_weight
        zero = np.zeros(len(bars))
        # what has no weight need not be known
        bought, sold = (
            quotes[name] if weight < 1 else zero for name in ("buy_volume", "sell_volume")
        )
        imbalance = quotes["imbalance"] if weight > 0 else zero
        sums = [_sums(readonly(values), self.bars) for values in (bought, sold, imbalance)]
        traded = sums[0] + sums[1]
        flow = np.where(traded == 0, 0.0, (sums[0] - sums[1]) / np.maximum(traded, 1.0))
        return (1 - weight) * flow + weight * sums[2] / self.bars


@njit
def _sums(values: Floats, bars: int) -> Floats:
    """Sum of the last `bars` values, NaN where one of them is. Each window is the tail of one block
    of `bars` rows and the head of the next: no error accumulates, and a NaN is soon forgotten.
    """
    n = len(values)
    out = np.full(n, np.nan)
    tail = np.zeros(bars)  # sums over the last k rows of the block before
    for start in range(0, n, bars):
        for k in range(1, bars if start else 0):
            tail[k] = tail[k - 1] + values[start - k]
        total = 0.0
        for i in range(start, min(start + bars, n)):
            total += values[i]
            k = bars - 1 - (i - start)
            if start or k == 0:
                out[i] = total + tail[k]
    return out
