"""Sizing: contracts per unit of signal as a vector over bars, by the method that a config names.
Warm-up: how far back sizes, distances and gates look.
"""

from __future__ import annotations

from mcl.config import schema
from mcl.data.bars import Bars, Floats
from mcl.risk import sizes


def scale(bars: Bars, risk: schema.Risk, capital_usd: float) -> Floats:
    """Contracts per unit of signal at each bar; NaN while the sizing rule warms up. All methods use
    the fixed capital, not the equity: sizing is not compounded.
    """
    contracts: Floats = sizes.of(risk.size).contracts(bars, risk, risk.size, capital_usd)
    return contracts


def buffer(contracts: Floats, risk: schema.Risk) -> Floats:
    """Contracts that the position may differ from the wanted one without a trade. Empty where the
    method has none.
    """
    width: Floats = sizes.of(risk.size).buffer(risk.size, contracts)
    return width


def memory_bars(risk: schema.Risk) -> int:
    """Bars after which the past no longer matters for sizes, distances and gates: Wilder's 1/n
    decay below a float's precision.
    """
    lengths = [1, sizes.of(risk.size).memory_bars(risk.size)]
    if risk.protection.unit == "atr":
        lengths.append(40 * risk.protection.atr_bars)
    if risk.limits.volatility_ratio is not None:
        lengths.append(risk.limits.volatility_slow_bars + 1)
    return max(lengths)


def memory_sessions(risk: schema.Risk) -> int:
    """Whole sessions before the current one that `scale` looks at."""
    return sizes.of(risk.size).memory_sessions(risk.size)
