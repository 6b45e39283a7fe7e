"""Count things in words."""

from __future__ import annotations


def many(count: float, noun: str) -> str:
    """`1 trial`, `2 trials`, `1,244 trades`"""
    return f"{count:,.0f} {noun}" if count == 1 else f"{count:,.0f} {noun}s"
