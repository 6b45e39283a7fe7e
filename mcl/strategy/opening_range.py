"""Follow a breakout from the first minutes after a clock time (Crabel 1990)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.base.instants import NS
from mcl.base.jit import njit, readonly
from mcl.data.bars import Bars, Floats, Ints, Narrow
from mcl.market import calendar
from mcl.market.intervals import DAY_SEC, STEPS_SEC
from mcl.strategy import register
from mcl.strategy.indicators import TOLERANCE
from mcl.strategy.timeframe import rows_at_most


@register
@dataclass(frozen=True)
class OpeningRange:
    """The range of the first `range_min` minutes from `start` (New York clock) on; long after a
    close above it, short after one below.

    For `hold_min` minutes after the range; flat before, after, in the last `leave_min` minutes
    before the official close of the session, and always at its end. `start` 09:00 is when the pit
    opened and most of the volume still comes.
    """

    start: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "09:00"
    range_min: Annotated[int, Field(ge=1, le=720)] = 30
    hold_min: Annotated[int, Field(ge=1, le=1380)] = 330
    leave_min: Annotated[int, Field(ge=0, le=1380)] = 15
    name: ClassVar[str] = "opening_range"
    uses_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.range_min + self.hold_min > 1380:
            raise ConfigError(
                f"need range_min + hold_min <= 1380, a session; range_min={self.range_min},"
                f" hold_min={self.hold_min}"
            )

    @property
    def memory(self) -> int:
        return self.memory_at("1m")

    def memory_at(self, interval: str) -> int:
        """The range, the hold, and a bar before them to know that the range is whole."""
        return (self.range_min + self.hold_min) * rows_at_most("1m", interval) + 1

    def signal(self, bars: Bars) -> Floats:
        step = STEPS_SEC.get(bars.interval, 0)
        if not 0 < step <= 60 * self.range_min:
            raise ConfigError(
                f"opening_range needs bars of one second up to its range of {self.range_min}"
                f" minutes; data.interval={bars.interval}",
                "use data with bars of a day's minutes, such as data=synthetic, or a strategy for"
                " whole sessions, such as strategy=tsmom"
                if step == 0
                else "choose data.interval=1m, or a longer strategy.range_min",
            )
        prices = bars.adjusted
        arrays = readonly(prices["high"]), readonly(prices["low"]), readonly(prices["close"])
        since, to_close = (
            readonly(self._since(bars.close_time), np.int64),
            readonly(bars.to_close_sec, np.int32),
        )
        session = readonly(bars.session, np.int32)
        return _breakout(
            *arrays,
            session,
            since,
            to_close,
            step,
            60 * self.range_min,
            60 * self.hold_min,
            60 * self.leave_min,
        )

    def _since(self, close_time: Ints) -> Ints:
        """Seconds from the last `start` to each close, in (0, 86400]."""
        hours, minutes = self.start.split(":")
        clock = calendar.new_york_ns(close_time) // NS - 60 * (60 * int(hours) + int(minutes))
        since: Ints = (clock - 1) % DAY_SEC + 1
        return since


@njit
def _breakout(
    high: Floats,
    low: Floats,
    close: Floats,
    session: Narrow,
    since: Ints,
    to_close: Narrow,
    step: int,
    length: int,
    hold: int,
    leave: int,
) -> Floats:
    out = np.zeros(len(close))
    top, bottom, side = -np.inf, np.inf, 0.0
    whole = len(close) > 0 and since[0] <= step  # data that begin within the range do not know it
    for i in range(len(close)):
        if i > 0 and (session[i] != session[i - 1] or since[i] <= since[i - 1]):
            top, bottom, side, whole = -np.inf, np.inf, 0.0, True
        if since[i] > length + hold:
            whole, top, bottom = True, -np.inf, np.inf
            continue
        if not whole:
            out[i] = np.nan
        elif since[i] <= length:
            if since[i] >= step:
                top, bottom = max(top, high[i]), min(bottom, low[i])
        elif top >= bottom:
            if close[i] > top + TOLERANCE:
                side = 1.0
            elif close[i] < bottom - TOLERANCE:
                side = -1.0
            out[i] = side if to_close[i] > leave else 0.0
    return out
