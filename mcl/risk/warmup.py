"""Warm-up: how far back sizes, distances and gates look."""

from __future__ import annotations

from typing import assert_never

from mcl.config import schema


def memory_bars(risk: schema.Risk) -> int:
    """Bars after which the past no longer matters for sizes, distances and gates: Wilder's 1/n
    decay below a float's precision.
    """
    lengths = [1]
    if risk.protection.unit == "atr":
        lengths.append(40 * risk.protection.atr_bars)
    if isinstance(risk.size, schema.AtrUnitSize):
        lengths.append(40 * risk.size.atr_bars)
    if risk.limits.volatility_ratio is not None:
        lengths.append(risk.limits.volatility_slow_bars + 1)
    return max(lengths)


def memory_sessions(risk: schema.Risk) -> int:
    """Whole sessions before the current one that `scale` looks at."""
    size = risk.size
    match size:
        case schema.VolTargetSize() | schema.KellySize():
            return size.lookback_sessions + 1
        case schema.FixedSize() | schema.FixedFractionalSize() | schema.AtrUnitSize():
            return 0
        case _:
            assert_never(size)
