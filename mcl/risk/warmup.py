"""Warm-up: how far back sizes, distances and gates look."""

from __future__ import annotations

from mcl.config import schema


def memory_bars(risk: schema.Risk) -> int:
    """Bars after which the past no longer matters for sizes, distances and gates: Wilder's 1/n
    decay below a float's precision.
    """
    lengths = [1]
    if risk.protection.unit == "atr":
        lengths.append(40 * risk.protection.atr_bars)
    if risk.size.method == "atr_unit":
        lengths.append(40 * risk.size.atr_bars)
    if risk.limits.volatility_ratio is not None:
        lengths.append(risk.limits.volatility_slow_bars + 1)
    return max(lengths)


def memory_sessions(risk: schema.Risk) -> int:
    """Whole sessions before the current one that `scale` looks at."""
    return risk.size.lookback_sessions + 1 if risk.size.method in ("vol_target", "kelly") else 0
