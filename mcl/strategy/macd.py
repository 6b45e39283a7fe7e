"""Follow the MACD line across its own mean (Appel 1979)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import FORGETS_EMA, TOLERANCE, macd


@register
@dataclass(frozen=True)
class Macd:
    """Long while EMA(fast) - EMA(slow) of the adjusted closes is above its own EMA(smooth), short
    while below.
    """

    fast: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 120
    slow: Annotated[BarCount, Field(ge=3, le=10_000_000)] = 260
    smooth: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 90
    name: ClassVar[str] = "macd"
    uses_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.fast < self.slow:
            raise ConfigError(f"need fast < slow; fast={self.fast}, slow={self.slow}")

    @property
    def memory(self) -> int:
        """Both recursions forget their seed one after the other."""
        return (FORGETS_EMA + 1) * (self.slow + self.smooth)

    def signal(self, bars: Bars) -> Floats:
        line, smooth = self._lines(bars)
        difference = line - smooth
        return np.where(np.abs(difference) <= TOLERANCE, 0.0, np.sign(difference))

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        line, smooth = self._lines(bars)
        return {"macd": line, "macd_signal": smooth}

    def _lines(self, bars: Bars) -> tuple[Floats, Floats]:
        return macd(bars.adjusted["close"], self.fast, self.slow, self.smooth)
