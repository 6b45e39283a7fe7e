"""A control for trend followers: bet against what they follow. Where this earns, momentum does
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.band_exits import follow
from mcl.strategy.indicators import FORGETS_WILDER, rsi


@register
@dataclass(frozen=True)
class RsiReversion:
    """Long after RSI(bars) of the adjusted closes fell below `low`, short after it rose above
    `high`, until it is back at 50 or `hold` bars passed without a new extreme.
    """

    bars: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 60
    low: Annotated[float, Field(gt=0, lt=50)] = 35.0
    high: Annotated[float, Field(gt=50, lt=100)] = 65.0
    hold: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 240
    name: ClassVar[str] = "rsi_reversion"
    uses_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.low < 50 < self.high < 100:
            raise ConfigError(f"need 0 < low < 50 < high < 100; low={self.low}, high={self.high}")

    @property
    def memory(self) -> int:
        return (FORGETS_WILDER + 1) * self.bars + self.hold

    def signal(self, bars: Bars) -> Floats:
        strength = self._strength(bars)
        middle = np.where(np.isnan(strength), np.nan, 50.0)
        return 0.0 - follow(
            strength, middle + (self.high - 50.0), middle, middle + (self.low - 50.0), self.hold
        )

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return {"rsi": self._strength(bars)}

    def _strength(self, bars: Bars) -> Floats:
        # a market that stands still is not oversold
        return rsi(bars.adjusted["close"], self.bars, flat=50.0)
