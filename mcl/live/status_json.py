"""A status as plain JSON: what goes over the control socket and to the dashboard.

The keys are the fields of `Status`; alerts are objects, not-a-number is null, and raw values are
summed up in `latency` and `close_delay`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from mcl.base.terminal import plain
from mcl.live.status import Status

# upper ends; what is above the last is in one more
BUCKETS_MS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)
_SIMPLE = tuple(
    f.name for f in fields(Status) if f.name not in ("latency_ms", "close_delay_sec", "alerts")
)


def plain_status(status: Status) -> dict[str, Any]:
    """Only made when somebody looks: about 0.4 ms with all lists full."""
    values = {name: getattr(status, name) for name in _SIMPLE}
    values["latency"] = latency(status.latency_ms)
    values["close_delay"] = spread(status.close_delay_sec)
    values["alerts"] = [asdict(alert) for alert in status.alerts]
    answer: dict[str, Any] = plain(values)
    return answer


def spread(values: Sequence[float]) -> dict[str, Any]:
    """count, p50, p99 and max, in the unit of the values. Nearest-rank quantiles."""
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": rank(ordered, 0.5),
        "p99": rank(ordered, 0.99),
        "max": ordered[-1] if ordered else None,
    }


def latency(values_ms: Sequence[float]) -> dict[str, Any]:
    """count, p50, p99, max and `buckets`: the number in each bucket of BUCKETS_MS and above (not
    cumulative). Nearest-rank quantiles.
    """
    ordered = sorted(values_ms)
    counts = [0] * (len(BUCKETS_MS) + 1)
    for value in ordered:
        counts[bisect_left(BUCKETS_MS, value)] += 1
    return spread(ordered) | {
        "bounds_ms": list(BUCKETS_MS),
        "buckets": counts,
    }


def rank(ordered: Sequence[float], share: float) -> float | None:
    """Nearest-rank quantile of sorted values; None of nothing."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
