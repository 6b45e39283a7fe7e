"""Where in the space the good trials lie: neighbourhoods instead of single points, and bests that lean against a wall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mcl.search.space import Space


def plateau(points: Sequence[Mapping[str, Any]], values: Sequence[float], space: Space) -> npt.NDArray[np.float64]:
    """For each scored point the mean value of itself and its 2 x axes nearest neighbours in the unit cube of the space.

    A lucky cell among bad ones scores low, a broad region keeps its score. NaN with fewer than 3 points.
    """
    scores = np.asarray(values, float)
    count = min(2 * len(space) + 1, len(scores))
    if count < 3:
        return np.full(len(scores), math.nan)
    from scipy.spatial import cKDTree

    cube = np.array([[_place(axis, point[key]) for key, axis in space.items()] for point in points])
    near = cKDTree(cube).query(cube, count)[1]
    mean: npt.NDArray[np.float64] = scores[near].mean(axis=1)
    return mean


def edges(point: Mapping[str, Any], space: Space) -> list[str]:
    """`strategy.fast=480 is the highest value searched`, for each numeric axis at whose end the point lies."""
    said = []
    for key, axis in space.items():
        if isinstance(axis, CategoricalDistribution) or axis.low == axis.high:  # type: ignore[attr-defined]
            continue
        place = _place(axis, point[key])
        if place <= 0.01 or place >= 0.99:
            said.append(f"{key}={point[key]} is the {'lowest' if place <= 0.5 else 'highest'} value searched")
    return said


def front(values: npt.NDArray[np.float64], maximize: Sequence[bool]) -> npt.NDArray[np.bool_]:
    """Which rows no other row beats in every objective (columns): the Pareto front."""
    signed = values * np.where(list(maximize), 1.0, -1.0)
    order = np.lexsort(signed.T[::-1])[::-1]
    kept: list[int] = []
    for row in order:
        better = signed[kept] if kept else np.empty((0, signed.shape[1]))
        if not ((better >= signed[row]).all(axis=1) & (better > signed[row]).any(axis=1)).any():
            kept.append(int(row))
    mask = np.zeros(len(values), bool)
    mask[kept] = True
    return mask


def _place(axis: BaseDistribution, value: Any) -> float:
    """The value as a number between 0 and 1 on the axis' own scale; choices are all equally far apart only when there are two."""
    if isinstance(axis, CategoricalDistribution):
        return float(axis.choices.index(value))
    assert isinstance(axis, IntDistribution | FloatDistribution)  # noqa: S101 - the last kinds of `space.distribution`
    if axis.low == axis.high:
        return 0.0
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return float((value - axis.low) / (axis.high - axis.low))
