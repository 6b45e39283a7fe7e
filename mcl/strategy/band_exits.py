"""Following a way out of a band, with a memory that ends."""

from __future__ import annotations

import numpy as np

from mcl.base.jit import njit, readonly
from mcl.data.bars import Floats
from mcl.strategy.indicators import TOLERANCE


def follow(values: Floats, upper: Floats, middle: Floats, lower: Floats, hold: int) -> Floats:
    """+1 from a value above `upper` on, -1 from one below `lower` on, until it is back at `middle`
    or `hold` rows passed without a new one.

    The band may be at the row of the value itself. NaN where the band is; 0 before the first way
    out. Without `hold` a position could be as old as the data, and a restart would not know it.
    """
    return _follow(readonly(values), readonly(upper), readonly(middle), readonly(lower), hold)


@njit
def _follow(values: Floats, upper: Floats, middle: Floats, lower: Floats, hold: int) -> Floats:
    out = np.full(len(values), np.nan)
    side, age = 0.0, hold
    for i in range(len(values)):
        if np.isnan(upper[i]):
            continue
        age += 1
        if values[i] > upper[i] + TOLERANCE:
            side, age = 1.0, 0
        elif values[i] < lower[i] - TOLERANCE:
            side, age = -1.0, 0
        elif side * (values[i] - middle[i]) <= TOLERANCE:
            side = 0.0
        out[i] = side if age < hold else 0.0
    return out
