"""From a broker's bars, dated by their open, to closed `Bar`s. A row needs date, open, high, low, close and volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcl.broker import Bar
from mcl.errors import BrokerError

NS = 1_000_000_000
_SIZES = {"1m": (1, "1 min"), "5m": (5, "5 mins"), "15m": (15, "15 mins"), "30m": (30, "30 mins"), "1h": (60, "1 hour")}


class Interval:
    """The length of a bar, and what TWS calls it."""

    def __init__(self, name: str) -> None:
        if name not in _SIZES:
            raise BrokerError(f"the broker has no live bars of interval {name!r}; valid: {', '.join(_SIZES)}")
        self.minutes, self.bar_size = _SIZES[name]

    def close_time(self, row: Any) -> int:
        return (int(row.date.timestamp()) + 60 * self.minutes) * NS

    def bar(self, row: Any) -> Bar:
        return Bar(self.close_time(row), row.open, row.high, row.low, row.close, int(row.volume))

    def after(self, rows: Sequence[Any], instant: int) -> list[Bar]:
        """The bars that closed later than `instant`; read from the end, since few are new."""
        fresh: list[Bar] = []
        for row in reversed(rows):
            if self.close_time(row) <= instant:
                break
            fresh.append(self.bar(row))
        return fresh[::-1]
