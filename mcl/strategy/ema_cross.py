"""Follow the sign of a fast minus a slow exponential mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.base.jit import inline, njit, readonly
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import TOLERANCE, ema


@register
@dataclass(frozen=True)
class EmaCross:
    """Long while EMA(fast) of the adjusted closes is above EMA(slow), short while below, flat while
    they are equal.
    """

    fast: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 10
    slow: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 30
    name: ClassVar[str] = "ema_cross"
    uses_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.fast < self.slow:
            raise ConfigError(f"need 0 < fast < slow; fast={self.fast}, slow={self.slow}")

    @property
    def memory(self) -> int:
        """The seed's weight is (1 - 2/(slow+1))^k: below 2^-53 after about 18.4 slow."""
        return math.ceil(20 * self.slow) + self.slow

    def signal(self, bars: Bars) -> Floats:
        closes = readonly(bars.adjusted["close"])
        out = np.empty(len(closes))
        _cross(closes, self.fast, self.slow, out)
        return out

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        closes = bars.adjusted["close"]
        return {f"ema_{length}": ema(closes, length) for length in (self.fast, self.slow)}


@njit
def _cross(closes: Floats, fast: int, slow: int, out: Floats) -> None:
    """Both means in one pass, each seeded like TA-Lib with the simple mean of its first bars."""
    ready = min(slow, len(closes))
    out[: ready - 1] = np.nan
    if len(closes) < slow:
        out[:] = np.nan
        return
    new_f, new_s = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0)
    old_f, old_s = 1.0 - new_f, 1.0 - new_s
    mean_f, mean_s = np.sum(closes[:fast]) / fast, np.sum(closes[:slow]) / slow
    for i in range(fast, slow):
        mean_f = mean_f * old_f + closes[i] * new_f
    out[slow - 1] = _side(mean_f - mean_s)
    for i in range(slow, len(closes)):
        price = closes[i]
        mean_f = mean_f * old_f + price * new_f
        mean_s = mean_s * old_s + price * new_s
        out[i] = _side(mean_f - mean_s)


@inline
def _side(difference: float) -> float:
    return float((difference > TOLERANCE) - (difference < -TOLERANCE))
