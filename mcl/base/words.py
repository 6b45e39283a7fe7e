"""Count things in words."""

from __future__ import annotations

import math

UNDEFINED = "n/a"


def figure(value: float, form: str = ".2f") -> str:
    """Return a number in a format, or `n/a` where it is not defined: a sentence never says nan."""
    return format(value, form) if math.isfinite(value) else UNDEFINED


def many(count: float, noun: str) -> str:
    """`1 trial`, `2 trials`, `1,244 trades`"""
    return f"{count:,.0f} {noun}" if count == 1 else f"{count:,.0f} {noun}s"
