"""Follow directional movement while the market trends (Wilder 1978)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import FORGETS_WILDER, TOLERANCE, directional


@register
@dataclass(frozen=True)
class AdxTrend:
    """While ADX is above `level`: long if +DI is above -DI, short if below. Flat in a market
    without a trend.
    """

    bars: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 120
    level: Annotated[float, Field(ge=0, le=100)] = 10.0
    name: ClassVar[str] = "adx_trend"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        """ADX is a Wilder mean of Wilder means: the seed's weight is about (k/n) exp(-k/n), and 2 n
        rows come first.
        """
        return (FORGETS_WILDER + 7) * self.bars

    def signal(self, bars: Bars) -> Floats:
        plus, minus, adx = self._directions(bars)
        side = np.where(np.abs(plus - minus) <= TOLERANCE, 0.0, np.sign(plus - minus))
        return np.where(np.isnan(adx), np.nan, np.where(adx > self.level + TOLERANCE, side, 0.0))

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return dict(zip(("plus_di", "minus_di", "adx"), self._directions(bars), strict=True))

    def _directions(self, bars: Bars) -> tuple[Floats, Floats, Floats]:
        prices = bars.adjusted
        return directional(prices["high"], prices["low"], prices["close"], self.bars, tie=TOLERANCE)
