"""Alerts: one sentence for the operator, with a code that stays the same over versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True)
class Alert:
    """`code` is stable and upper case: STALE_DATA, CONNECTION_LOST, POSITION_UNKNOWN."""

    at_ns: int
    severity: Severity
    code: str
    sentence: str
