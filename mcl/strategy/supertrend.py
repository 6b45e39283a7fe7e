"""Follow SuperTrend: a band of true ranges that tightens behind the price until the price crosses
it (Seban).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.jit import njit, readonly
from mcl.config.base_model import BarCount
from mcl.data.bars import Bars, Floats
from mcl.strategy import register
from mcl.strategy.indicators import (
    FORGETS_WILDER,
    TOLERANCE,
    atr,
    rolling_max,
    rolling_min,
    supertrend,
)


@register
@dataclass(frozen=True)
class SuperTrend:
    """Long while the close is above the band mid-range - width · ATR(bars), short while below
    mid-range + width · ATR(bars).

    The textbook's bands remember the market for as long as they are not crossed, so that two starts
    could disagree for ever. Here a close outside the range of the `anchor` bars before it sets both
    bands anew on its own side, and no side outlives `hold` bars without such a close. With `anchor`
    well above width² bars that changes few bars of a market that moves.
    """

    bars: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 60
    width: Annotated[float, Field(gt=0, le=100)] = 10.0
    anchor: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 480
    hold: Annotated[BarCount, Field(ge=1, le=10_000_000)] = 2400
    name: ClassVar[str] = "supertrend"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        """The last anchor's age, and what its row needs: a settled ATR and the range before it."""
        return max((FORGETS_WILDER + 1) * self.bars, self.anchor) + self.hold

    def signal(self, bars: Bars) -> Floats:
        prices = bars.adjusted
        reach = self.width * atr(prices["high"], prices["low"], prices["close"], self.bars)
        middle = (prices["high"] + prices["low"]) / 2.0
        highest, lowest = (
            rolling_max(prices["high"], self.anchor),
            rolling_min(prices["low"], self.anchor),
        )
        bands, ranges = (
            (readonly(middle + reach), readonly(middle - reach)),
            (readonly(highest), readonly(lowest)),
        )
        return _anchored(
            readonly(prices["close"]), *bands, *ranges, max(self.bars, self.anchor), self.hold
        )

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        """The textbook's line, without anchors."""
        prices = bars.adjusted
        return {
            "supertrend": supertrend(
                prices["high"], prices["low"], prices["close"], self.bars, self.width
            )[0]
        }


@njit
def _anchored(
    close: Floats,
    upper: Floats,
    lower: Floats,
    highest: Floats,
    lowest: Floats,
    first: int,
    hold: int,
) -> Floats:
    out = np.full(len(close), np.nan)
    side, age = 0.0, hold
    above = below = 0.0
    for i in range(first, len(close)):
        age += 1
        if close[i] > highest[i - 1] + TOLERANCE or close[i] < lowest[i - 1] - TOLERANCE:
            side, age = (1.0 if close[i] > highest[i - 1] else -1.0), 0
            above, below = upper[i], lower[i]
        elif age < hold:
            above = upper[i] if close[i - 1] > above + TOLERANCE else min(upper[i], above)
            below = lower[i] if close[i - 1] < below - TOLERANCE else max(lower[i], below)
            if side > 0 and close[i] < below - TOLERANCE:
                side = -1.0
            elif side < 0 and close[i] > above + TOLERANCE:
                side = 1.0
        out[i] = side if age < hold else 0.0
    return out
