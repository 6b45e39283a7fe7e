"""Say what is not the same in several things: configurations, metrics, packages, digests of code.

There is one shape, in Python and in every JSON answer: a mapping from the name of what differs to
its values, in the order of the things. A thing that lacks it has None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Differences = dict[str, list[Any]]


def differences(*things: Mapping[str, Any]) -> Differences:
    """Find what is not the same in all, by name, in the order of its first appearance."""
    names = dict.fromkeys(name for thing in things for name in thing)
    values = {name: [thing.get(name) for thing in things] for name in names}
    return {
        name: each
        for name, each in values.items()
        if not all(same(each[0], value) for value in each)
    }


def same(a: Any, b: Any) -> bool:
    """Are two values equal? What is undefined in both does not tell them apart."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """`{a: {b: 1}}` as `{"a.b": 1}`; lists stay values."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flatten(item, f"{prefix}.{name}" if prefix else str(name)).items()
    }
