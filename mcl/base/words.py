"""Count things in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

UNDEFINED = "n/a"


def figure(value: float, form: str = ".2f") -> str:
    """Return a number in a format, or `n/a` where it is not defined: a sentence never says nan."""
    return unsigned_zero(format(value, form)) if math.isfinite(value) else UNDEFINED


def unsigned_zero(text: str) -> str:
    """A number that rounds to nothing has no sign: `-0.00` is `0.00`, `+0` is `0`."""
    return text if text.strip("+-0.,% ") else text.lstrip("+-")


def record_text(title: str, rows: Mapping[str, str], ending: str) -> str:
    """A record as a few lines: a title, a line for each value, and where to find the rest."""
    width = max(map(len, rows), default=0)
    lines = (f"  {label:<{width}}  {text}" for label, text in rows.items())
    return "\n".join((title, *lines, ending))


def record_html(title: str, rows: Mapping[str, str], ending: str) -> str:
    """The same as a small table, as a notebook shows it."""
    cells = "".join(
        f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>" for label, text in rows.items()
    )
    return (
        f"<table><caption>{escape(title)}</caption>{cells}</table><small>{escape(ending)}</small>"
    )


def many(count: float, noun: str) -> str:
    """`1 trial`, `2 trials`, `1,244 trades`"""
    return f"{count:,.0f} {noun}" if count == 1 else f"{count:,.0f} {noun}s"
