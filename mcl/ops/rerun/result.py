"""The result of a rerun: equal bit by bit, or what differs and which input
moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcl.metrics.undefined import same


@dataclass(frozen=True)
class Again:
    """`differing` maps what differs to (stored, now); `causes` are inputs that moved, whether or
    not they moved anything.

    `sentence` tells what was compared, and what could not be.
    """

    run_id: str
    kind: str
    sentence: str
    differing: dict[str, tuple[Any, Any]]
    causes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()  # made again below this one

    @property
    def equal(self) -> bool:
        return not self.differing


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By name what is not the same in both; NaN equals NaN."""
    names = sorted(then.keys() | now.keys())
    return {
        name: (then.get(name), now.get(name))
        for name in names
        if not same(then.get(name), now.get(name))
    }
