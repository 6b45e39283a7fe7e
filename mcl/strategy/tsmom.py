"""Time-series momentum: follow the sign of the change over a look-back (Moskowitz, Ooi, Pedersen 2012, without their scaling)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import TOLERANCE


@register
@dataclass(frozen=True)
class TimeSeriesMomentum:
    """Long if the adjusted close is above that of `lookback` bars ago, short if below. Volatility scaling is the business of `risk`."""

    lookback: Annotated[int, Field(ge=1, le=1_000_000)] = 1380
    name: ClassVar[str] = "tsmom"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return self.lookback + 1

    def signal(self, bars: Bars) -> Floats:
        closes = bars.adjusted["close"]
        out = np.full(len(closes), np.nan)
        change = closes[self.lookback :] - closes[: -self.lookback]
        out[self.lookback :] = np.where(np.abs(change) > TOLERANCE, np.sign(change), 0.0)
        return out
