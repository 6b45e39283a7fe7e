"""Time-series momentum: follow the change over a look-back (Moskowitz, Ooi, Pedersen 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import TOLERANCE, moments


@register
@dataclass(frozen=True)
class TimeSeriesMomentum:
    """Long if the adjusted close is above that of `lookback` bars ago, short if below. Volatility
    scaling is the business of `risk`.
    """

    lookback: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 1380
    name: ClassVar[str] = "tsmom"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return self.lookback + 1

    def signal(self, bars: Bars) -> Floats:
        change = _change(bars.adjusted["close"], self.lookback)
        return np.where(np.abs(change) <= TOLERANCE, 0.0, np.sign(change))


@register
@dataclass(frozen=True)
class MultiHorizonMomentum:
    """The mean over several look-backs of the change in units of its own volatility, so that a
    signal is as strong as it is unusual.

    `horizons` look-backs, the longest `lookback` and each `ratio` times shorter than the one
    before. A change counts fully from `full_at` · sigma · sqrt(look-back) on, with sigma the
    standard deviation of the last `vol_bars` one-bar changes of the adjusted close: differences,
    not returns, since a futures price may be negative and adjustment shifts it.
    """

    lookback: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 13_800
    horizons: Annotated[int, Field(ge=1, le=8)] = 3
    ratio: Annotated[int, Field(ge=2, le=20)] = 4
    vol_bars: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 6_900
    full_at: Annotated[float, Field(gt=0, le=10)] = 1.0
    name: ClassVar[str] = "tsmom_multi"
    uses_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.lookbacks[-1] < 1:
            raise ConfigError(
                f"{self.horizons} horizons need a lookback of at least"
                f" {self.ratio ** (self.horizons - 1)}; lookback={self.lookback}"
            )

    @property
    def lookbacks(self) -> list[int]:
        """Bars, longest first."""
        return [self.lookback // self.ratio**k for k in range(self.horizons)]

    @property
    def memory(self) -> int:
        return max(self.lookback, self.vol_bars) + 1

    def signal(self, bars: Bars) -> Floats:
        closes, sigma = bars.adjusted["close"], self._sigma(bars)
        moves = sigma > TOLERANCE
        unit = np.where(moves, sigma, 1.0) * self.full_at
        total = np.zeros(len(bars))
        for length in self.lookbacks:
            total += np.clip(_change(closes, length) / (unit * np.sqrt(length)), -1.0, 1.0)
        return np.where(
            np.isnan(sigma), np.nan, np.where(moves | np.isnan(total), total / self.horizons, 0.0)
        )

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return {"sigma": self._sigma(bars)}

    def _sigma(self, bars: Bars) -> Floats:
        """Per bar, in price units; NaN for the first `vol_bars` rows."""
        changes = np.diff(bars.adjusted["close"])
        return np.concatenate([[np.nan], moments(changes, self.vol_bars)[1]])


def _change(closes: Floats, length: int) -> Floats:
    out = np.full(len(closes), np.nan)
    out[length:] = closes[length:] - closes[:-length]
    return out
