"""An equity curve that nobody traded, for results that are put together by hand."""

from __future__ import annotations

import numpy as np

from mcl.engine.curve import DrawdownSummary
from mcl.metrics.performance import drawdown


class Drawn:
    """Stands where `mcl.engine.curve.Curve` does."""

    def __init__(self, equity: object) -> None:
        self._equity = np.asarray(equity, dtype=np.float64)

    def values(self) -> np.ndarray:
        return self._equity

    def at(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._equity[rows])

    def drawdown_summary(self, capital_usd: float) -> DrawdownSummary:
        usd, frac = drawdown(self._equity, capital_usd)
        return DrawdownSummary(float(usd.min()), float(frac.min()), float(self._equity.mean()))
