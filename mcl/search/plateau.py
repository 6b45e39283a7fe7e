"""Find the regions of the space where the good trials lie, and the front of several objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mcl.metrics.performance import Floats

if TYPE_CHECKING:
    import pandas as pd


# the columns of a table of trials that are neither searched values nor metrics
FIXED = (
    "trial",
    "state",
    "reason",
    "detail",
    "value",
    "seconds",
    "run_id",
    "config_sha256",
    "trial_sha256",
)
QUANTILE = 0.25
# a plateau is read from so many of the trials at least, the trial itself included
FEWEST, SHARE = 5, 0.15
AT_ONCE = 2_000_000  # distances in memory


def plateaus(
    points: pd.DataFrame, scores: Floats, quantile: float = QUANTILE, *, maximize: bool = True
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(the lower quantile of the scores around each point, how many those are); the upper one when
    low scores are good.

    Around means at most one step of the axis' distinct values away on every axis, and farther until
    `FEWEST` trials and a `SHARE` of all are in it: neighbours share most of their trades, so that a
    few of them are hardly more than one. A lucky cell among bad ones scores low, a broad region
    keeps its score.
    """
    order = np.argsort(scores, kind="stable")
    ranks = (
        np.column_stack([_ranks(points[name]) for name in points])
        if len(points.columns)
        else np.zeros((len(points), 1), np.int32)
    )
    ranks, ascending = ranks[order], scores[order]
    few = min(max(FEWEST, math.ceil(SHARE * len(ranks))), len(ranks)) - 1
    neighbours = [
        _around(ranks, rows, few)
        for rows in np.array_split(np.arange(len(ranks)), max(1, len(ranks) ** 2 // AT_ONCE))
    ]
    values, counted = np.empty(len(ranks)), np.empty(len(ranks), np.int64)
    counts = np.concatenate([near[:, -1] for near in neighbours])
    place = (counts - 1) * (quantile if maximize else 1 - quantile)
    low = np.floor(place).astype(np.int64)
    below, above = (_nth(neighbours, np.minimum(low + step, counts - 1)) for step in (0, 1))
    values[order] = ascending[below] + (ascending[above] - ascending[below]) * (place - low)
    counted[order] = counts
    return values, counted


def _around(
    ranks: npt.NDArray[np.int32], rows: npt.NDArray[np.int64], few: int
) -> npt.NDArray[np.int32]:
    """(rows × points) how many of the points up to this one, in order of their scores, lie around
    each of `rows`.
    """
    distance = np.zeros((len(rows), len(ranks)), np.int32)
    for axis in ranks.T:
        np.maximum(distance, np.abs(axis[rows, None] - axis), out=distance)
    reach = np.maximum(1, np.partition(distance, few, axis=1)[:, few])
    counted: npt.NDArray[np.int32] = np.cumsum(distance <= reach[:, None], axis=1, dtype=np.int32)
    return counted


def _nth(
    neighbours: Sequence[npt.NDArray[np.int32]], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """For each row the position of its neighbour number `wanted`, from 0."""
    parts = np.split(wanted, np.cumsum([len(near) for near in neighbours])[:-1])
    return np.concatenate(
        [
            (near > number[:, None]).argmax(axis=1)
            for near, number in zip(neighbours, parts, strict=True)
        ]
    )


def _ranks(column: pd.Series[Any]) -> npt.NDArray[np.int32]:
    """Ranks on the axis, in steps between the values of the trials. Words are one step apart in the
    order of the alphabet.

    A point at which the axis does not exist is far from all that have it.
    """
    import pandas as pd

    missing = column.isna().to_numpy()
    if missing.any():
        ranks = np.full(len(column), -len(column) - 2, np.int32)
        ranks[~missing] = _ranks(column[~missing]) if not missing.all() else 0
        return ranks
    worded = not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
    return np.unique(column.astype(str) if worded else column, return_inverse=True)[1].astype(
        np.int32
    )


def front(values: npt.NDArray[np.float64], maximize: Sequence[bool]) -> npt.NDArray[np.bool_]:
    """Mark the rows that no other row beats in every objective (columns): the Pareto front."""
    signed = values * np.where(list(maximize), 1.0, -1.0)
    order = np.lexsort(signed.T[::-1])[::-1]
    front_rows: list[int] = []
    for row in order:
        better = signed[front_rows] if front_rows else np.empty((0, signed.shape[1]))
        if not ((better >= signed[row]).all(axis=1) & (better > signed[row]).any(axis=1)).any():
            front_rows.append(int(row))
    mask = np.zeros(len(values), bool)
    mask[front_rows] = True
    return mask
