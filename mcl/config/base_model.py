"""The base of every model of a configuration: unknown keys are refused, values are not coerced,
nothing changes after it was read.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

LARGEST = 2**63 - 1  # what a file of a result or a compiled loop can hold


class Unit(NamedTuple):
    """Name what a number of a configuration counts, as a mark of its type."""

    name: str


BARS = Unit("bars")
# a whole number of bars; a configuration may say a duration such as 12h instead
BarCount = Annotated[int, BARS]
Day = Annotated[date, Field(strict=False)]
Ticks = Annotated[float, Field(ge=0, le=100)]


def counts_bars(hint: Any) -> bool:
    """Whether a type is `BarCount`, with limits or as one of several."""
    return BARS in getattr(hint, "__metadata__", ()) or any(map(counts_bars, get_args(hint)))


class Strict(BaseModel):
    """A model that refuses what it does not know, what is not finite, and whole numbers beyond 64
    bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _representable(cls, value: Any) -> Any:
        # a section has validators of its own
        fault = "" if isinstance(value, dict) else unrepresentable(value)
        if fault:
            raise ValueError(fault)
        return value


def unrepresentable(value: Any) -> str:
    """Return the reason why a value cannot be stored or computed with, at any depth of lists and
    mappings; empty where it can.
    """
    if isinstance(value, bool):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a whole number has at most 64 bits, from -{LARGEST:,} to {LARGEST:,}"
    if isinstance(value, str) and (odd := unwritable(value)):
        return odd
    parts = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else ()
    )
    return next(filter(None, map(unrepresentable, parts)), "")


def unwritable(text: str) -> str:
    """Return the reason why a text cannot be stored as UTF-8; empty where it can."""
    odd = next(
        (character for character in text if character == "\0" or "\ud800" <= character <= "\udfff"),
        "",
    )
    return f"the character {odd!a} cannot be stored" if odd else ""
