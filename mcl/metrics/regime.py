"""Describe the market of each session as seen from its end: nothing a decision could have known."""

from __future__ import annotations

from typing import Any

import numpy as np

from mcl.data.bars import Bars
from mcl.metrics.performance import Floats

THIRDS = ("calm third", "middle third", "wild third")


def market_volatility(bars: Bars) -> Floats:
    """Root of the summed squared bar changes of the continuous price, per session."""
    closes = bars.adjusted["close"]
    starts = np.append(0, np.flatnonzero(np.diff(bars.session)) + 1)
    return np.asarray(np.sqrt(np.add.reduceat(np.diff(closes, prepend=closes[0]) ** 2, starts)))


def terciles(values: Floats) -> Any:
    """0, 1 or 2 for each value: its third among all of them."""
    return (
        np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="left")
        if len(values)
        else np.empty(0, np.int64)
    )
