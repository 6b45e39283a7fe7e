"""A number that is not defined is NaN in Python, and null in every file and answer."""

from __future__ import annotations

import math
from typing import Any


def is_undefined(value: Any) -> bool:
    """None, or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def finite(value: float) -> float | None:
    """A number as JSON knows it: None for NaN and infinities."""
    return value if math.isfinite(value) else None
