"""The deepest drawdown of an equity curve, in one pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mcl.jit import njit


@njit
def deepest(equity: npt.NDArray[np.float64], capital: float) -> tuple[float, float]:
    """(in money, as a fraction of the peak), both <= 0, each where it was deepest. The start capital (> 0) is the first peak.

    The same bits as the minima of `metrics.performance.drawdown`: below one peak the lowest equity is the deepest in both, as rounding
    never turns an order around.
    """
    peak, low, money, fraction = capital, capital, 0.0, 0.0
    for value in equity:
        if value > peak:
            money, fraction = min(money, low - peak), min(fraction, (low - peak) / peak)
            peak = low = value
        elif value < low:
            low = value
    return min(money, low - peak), min(fraction, (low - peak) / peak)
