"""Follow a breakout from the range of the bars before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.jit import njit, readonly
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import TOLERANCE, rolling_max, rolling_min


@register
@dataclass(frozen=True)
class Donchian:
    """Long after a close above the highest high of the `channel` bars before it, short after one
    below their lowest low.

    A breakout holds for at most `hold` bars, unless a new one renews it: holding until the opposite
    breakout would make today's signal depend on an unlimited past, and a restart could then not
    know its own position.
    """

    channel: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 120
    hold: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 600
    name: ClassVar[str] = "donchian"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return self.channel + self.hold

    def signal(self, bars: Bars) -> Floats:
        upper, lower = self._channel(bars)
        return _breakout(
            readonly(bars.adjusted["close"]),
            readonly(upper),
            readonly(lower),
            self.channel,
            self.hold,
        )

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        """The channel that a close is compared with: that of the bars before it."""
        return {
            name: np.append(np.nan, edge[:-1])
            for name, edge in zip(("upper", "lower"), self._channel(bars), strict=True)
        }

    def _channel(self, bars: Bars) -> tuple[Floats, Floats]:
        prices = bars.adjusted
        return rolling_max(prices["high"], self.channel), rolling_min(prices["low"], self.channel)


@njit
def _breakout(closes: Floats, upper: Floats, lower: Floats, channel: int, hold: int) -> Floats:
    out = np.full(len(closes), np.nan)
    side, age = 0.0, hold
    for i in range(channel, len(closes)):
        age += 1
        if closes[i] > upper[i - 1] + TOLERANCE:
            side, age = 1.0, 0
        elif closes[i] < lower[i - 1] - TOLERANCE:
            side, age = -1.0, 0
        out[i] = side if age < hold else 0.0
    return out
