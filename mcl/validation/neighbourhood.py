"""Is the best a hill or a needle? The neighbourhood of a point, one step of the space in every
direction, simulated again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcl.base.words import figure
from mcl.metrics import performance as perf
from mcl.search.space import points as choices
from mcl.validation.subject import Subject, values

MOST_NEIGHBOURS = 80  # of a space with many axes only the moves along single axes are made
STEP_FRAC = 0.1  # of a continuous axis


@dataclass(frozen=True)
class Plateau:
    """Annual Sharpe ratios around a point.

    neighbours  (values, Sharpe) of every valid configuration at most one step away on each axis
    drop        by axis, how much the Sharpe ratio falls at worst one step away on that axis alone
    edges       axes on which the point is the first or the last of the space: the search may have
                been cut off
    """

    centre: float
    neighbours: list[tuple[dict[str, Any], float]]
    drop: dict[str, float]
    edges: list[str]

    def lower(self, quantile: float) -> float:
        """That quantile of the neighbourhood's Sharpe ratios, the point included."""
        ratios = [
            v for v in (self.centre, *(ratio for _, ratio in self.neighbours)) if math.isfinite(v)
        ]
        return float(np.quantile(ratios, quantile)) if len(ratios) > 1 else math.nan

    def share_of_centre(self, quantile: float) -> float:
        """The lower quantile as a share of the centre; NaN when the centre is not positive."""
        return perf.ratio(self.lower(quantile), self.centre)

    @property
    def undefined(self) -> str:
        """Say why there is no such share; empty where there is one."""
        if not self.neighbours:
            return "not defined: no neighbouring configuration is valid"
        return (
            ""
            if self.centre > 0
            else f"not defined: its own Sharpe ratio of {figure(self.centre)} is not above 0"
        )


def plateau(subject: Subject, tick: Callable[[], None]) -> Plateau:
    """Simulate the neighbourhood. Words are no axis: there is no next one to a word."""
    neighbours = []
    for point in _moves(subject):
        if (result := subject.at(point)) is not None:
            neighbours.append((point, perf.sharpe(result.session_returns)))
        tick()
    centre = subject.metrics["sharpe"]
    return Plateau(
        centre,
        neighbours,
        {key: _drop(key, subject.point, centre, neighbours) for key in _steps(subject)},
        edges(subject),
    )


def size(subject: Subject) -> int:
    """Count the points of the neighbourhood."""
    return len(_moves(subject))


def _steps(subject: Subject) -> dict[str, list[Any]]:
    return {key: step for key in subject.space if len(step := around(subject, key)) > 1}


def _moves(subject: Subject) -> list[dict[str, Any]]:
    steps = _steps(subject)
    everywhere = math.prod(len(step) for step in steps.values()) - 1 <= MOST_NEIGHBOURS
    moves = itertools.product(*steps.values()) if everywhere else _single(steps, subject.point)
    points = (subject.point | dict(zip(steps, moved, strict=True)) for moved in moves)
    return [point for point in points if point != subject.point]


def around(subject: Subject, key: str) -> list[Any]:
    """The value of an axis with its neighbours, in order; alone where it is not on the axis or the
    axis has no order.
    """
    axis: Any = subject.space[key]
    value = subject.point[key]
    if type(axis).__name__ == "CategoricalDistribution":
        listed = sorted(choices(key, axis)) if all(_number(v) for v in choices(key, axis)) else []
        return _beside(listed, value)
    listed = values(key, axis)
    if listed:
        return _beside(listed, value)
    if axis.log:
        ratio = (axis.high / axis.low) ** STEP_FRAC
        moved = [value / ratio, value, value * ratio]
    else:
        moved = [
            value - STEP_FRAC * (axis.high - axis.low),
            value,
            value + STEP_FRAC * (axis.high - axis.low),
        ]
    inside = [min(axis.high, max(axis.low, v)) for v in moved]
    return sorted({round(v) for v in inside} if isinstance(value, int) else set(inside))


def edges(subject: Subject) -> list[str]:
    """Axes with an order on which the point lies at the border."""
    names = []
    axes: dict[str, Any] = dict(subject.space)
    for key, axis in axes.items():
        listed = values(key, axis) if type(axis).__name__ != "CategoricalDistribution" else []
        ends = (
            (listed[0], listed[-1])
            if listed
            else (axis.low, axis.high)
            if hasattr(axis, "low")
            else ()
        )
        if len(set(ends)) == 2 and subject.point[key] in ends:
            names.append(key)
    return names


def _beside(listed: list[Any], value: Any) -> list[Any]:
    if value not in listed:
        return [value]
    at = listed.index(value)
    return listed[max(0, at - 1) : at + 2]


def _single(steps: dict[str, list[Any]], point: dict[str, Any]) -> list[tuple[Any, ...]]:
    own = {key: point[key] for key in steps}
    return [
        tuple((own | {key: value}).values())
        for key, step in steps.items()
        for value in step
        if value != point[key]
    ]


def _drop(
    key: str, point: dict[str, Any], centre: float, neighbours: list[tuple[dict[str, Any], float]]
) -> float:
    alone = [
        ratio for moved, ratio in neighbours if all(moved[k] == point[k] for k in point if k != key)
    ]
    finite = [ratio for ratio in alone if math.isfinite(ratio)]
    return centre - min(finite) if finite else math.nan


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
