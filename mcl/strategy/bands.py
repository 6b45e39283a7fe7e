"""Follow a close outside a volatility band: Bollinger's (standard deviation) and Keltner's (true
range).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.band_exits import follow
from mcl.strategy.indicators import FORGETS_EMA, FORGETS_WILDER, bollinger, keltner


@register
@dataclass(frozen=True)
class Bollinger:
    """Long after a close above mean + width · deviation of the last `bars` closes, short after one
    below mean - width · deviation, until the close is back at the mean or `hold` bars passed
    without a new breakout.
    """

    bars: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 240
    width: Annotated[float, Field(gt=0, le=20)] = 2.0
    hold: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 600
    name: ClassVar[str] = "bollinger"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return self.bars + self.hold

    def signal(self, bars: Bars) -> Floats:
        return follow(bars.adjusted["close"], *self._bands(bars), self.hold)

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return dict(zip(("upper", "middle", "lower"), self._bands(bars), strict=True))

    def _bands(self, bars: Bars) -> tuple[Floats, Floats, Floats]:
        return bollinger(bars.adjusted["close"], self.bars, self.width)


@register
@dataclass(frozen=True)
class Keltner:
    """Long after a close above EMA(bars) + width · ATR(atr_bars), short after one below EMA(bars) -
    width · ATR(atr_bars), until the close is back at the mean or `hold` bars passed without a new
    breakout.
    """

    bars: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 240
    atr_bars: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 120
    width: Annotated[float, Field(gt=0, le=50)] = 10.0
    hold: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 600
    name: ClassVar[str] = "keltner"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        """The slower of the two recursions, seeded at row max(bars, atr_bars), then the longest
        hold.
        """
        return (
            max(self.bars, self.atr_bars)
            + max(FORGETS_EMA * self.bars, FORGETS_WILDER * self.atr_bars)
            + self.hold
        )

    def signal(self, bars: Bars) -> Floats:
        return follow(bars.adjusted["close"], *self._bands(bars), self.hold)

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return dict(zip(("upper", "middle", "lower"), self._bands(bars), strict=True))

    def _bands(self, bars: Bars) -> tuple[Floats, Floats, Floats]:
        prices = bars.adjusted
        return keltner(
            prices["high"], prices["low"], prices["close"], self.bars, self.atr_bars, self.width
        )
