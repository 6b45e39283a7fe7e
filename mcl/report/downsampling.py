"""Honest down-sampling: fewer points, the same extremes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def extremes(low: Floats, high: Floats, buckets: int) -> tuple[Ints, Floats]:
    """(rows, values): the lowest `low` and the highest `high` of each bucket of consecutive rows,
    in time order.

    At most 2 · (buckets + 1) points, never fewer than the first and last row's buckets; the global
    extremes always survive. Pass the same array twice for a single line. Short series (n <= 2 ·
    buckets) of a single line come back whole.
    """
    n = len(low)
    if n <= 2 * buckets and low is high:
        return np.arange(n, dtype=np.int64), low
    width = max(1, -(-n // buckets))
    whole = n // width * width
    lowest = low[:whole].reshape(-1, width).argmin(axis=1) + np.arange(0, whole, width)
    highest = high[:whole].reshape(-1, width).argmax(axis=1) + np.arange(0, whole, width)
    if whole < n:
        lowest = np.append(lowest, whole + low[whole:].argmin())
        highest = np.append(highest, whole + high[whole:].argmax())
    rows = np.concatenate([lowest, highest]).astype(np.int64)
    values = np.concatenate([low[lowest], high[highest]])
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order]


def broken(rows: Ints, values: Floats, group: npt.NDArray[np.integer]) -> tuple[Ints, Floats]:
    """The same points with a NaN before each point whose `group` differs from the one before: a
    line does not join two contracts, nor the prices before and after a weekend.
    """
    cuts = np.flatnonzero(np.diff(group[rows])) + 1
    return np.insert(rows, cuts, rows[cuts] if len(cuts) else []), np.insert(values, cuts, np.nan)
