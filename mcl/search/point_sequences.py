"""Points that depend on nothing but the seed and the trial's number: grid, random and Sobol,
whatever the workers or the interruptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mcl.search.space import Space, conditional, count, encoded, points

Point = Callable[[int], dict[str, Any]]
Places = npt.NDArray[np.float64]  # in [0, 1)
BLOCK = 256  # points of Sobol's sequence that are made at once


def grid(space: Space, conditions: Mapping[str, Mapping[str, list[Any]]] | None = None) -> Point:
    """Every combination once, the last key fastest; with conditions without the axes that do not
    exist at a point.
    """
    if conditions:
        whole = list(conditional(space, conditions))
        return lambda number: dict(whole[number % len(whole)])
    axes = {key: points(key, axis) for key, axis in space.items()}

    def point(number: int) -> dict[str, Any]:
        values = {}
        for key, choices in reversed(axes.items()):
            number, place = divmod(number, len(choices))
            values[key] = choices[place]
        return {key: values[key] for key in axes}

    return point


def uniform(space: Space, seed: int) -> Point:
    return lambda number: _point_at(space, np.random.default_rng([seed, number]).random(len(space)))


def sobol(space: Space, seed: int) -> Point:
    """The scrambled Sobol sequence: 2^k points fill the space evenly."""
    from scipy.stats import qmc

    engine = qmc.Sobol(len(space), scramble=True, rng=seed)

    @lru_cache(maxsize=2)
    def block(number: int) -> Places:
        engine.reset()
        if number:
            engine.fast_forward(number * BLOCK)
        points_of_block: Places = engine.random(BLOCK)
        return points_of_block

    return lambda number: _point_at(space, block(number // BLOCK)[number % BLOCK])


def at(axis: BaseDistribution, place: float) -> Any:
    """The value of `axis` at `place` in [0, 1); every value of a whole or stepped axis has an equal
    share, on its own scale.
    """
    if isinstance(axis, CategoricalDistribution):
        return axis.choices[int(place * len(axis.choices))]
    if isinstance(axis, IntDistribution):
        if axis.log:
            low, high = math.log(axis.low - 0.5), math.log(axis.high + 0.5)
            return min(max(round(math.exp(low + place * (high - low))), axis.low), axis.high)
        return axis.low + axis.step * int(place * ((axis.high - axis.low) // axis.step + 1))
    if isinstance(axis, FloatDistribution) and axis.step is not None:
        first, step = Decimal(str(axis.low)), Decimal(str(axis.step))
        return float(first + step * int(place * count("", axis)))
    assert isinstance(axis, FloatDistribution)  # noqa: S101 - the last kind of `space.distribution`
    if axis.log:
        return math.exp(math.log(axis.low) + place * (math.log(axis.high) - math.log(axis.low)))
    return axis.low + place * (axis.high - axis.low)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def inside(axis: BaseDistribution, value: Any) -> bool:
    """Whether `value` is one of the axis' own."""
    if isinstance(axis, FloatDistribution) and axis.step is None:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and axis.low <= value <= axis.high
        )
    if isinstance(axis, IntDistribution) and isinstance(value, bool):
        return False
    if isinstance(axis, CategoricalDistribution):
        return encoded(value) in axis.choices
    return _is_number(value) and closest(axis, value) == value


def closest(axis: BaseDistribution, value: Any) -> Any:
    """The value of the axis that is nearest to `value`; the first choice where that is no
    number.
    """
    if isinstance(axis, CategoricalDistribution) or not isinstance(value, int | float):
        return points("", axis)[0] if isinstance(axis, CategoricalDistribution) else axis.low  # type: ignore[attr-defined]
    assert isinstance(axis, IntDistribution | FloatDistribution)  # noqa: S101 - the last kinds of `space.distribution`
    within = min(max(value, axis.low), axis.high)
    if axis.step is None:
        return within
    if isinstance(axis, IntDistribution):
        return axis.low + axis.step * round((within - axis.low) / axis.step)
    low, step = Decimal(str(axis.low)), Decimal(str(axis.step))
    return float(low + step * round((Decimal(str(within)) - low) / step))


def worded(axis: BaseDistribution) -> str:
    """`30 to 480 in steps of 30`, `0.1 to 0.9`, `long or short`."""
    if isinstance(axis, CategoricalDistribution):
        return " or ".join(map(str, axis.choices))
    assert isinstance(axis, IntDistribution | FloatDistribution)  # noqa: S101 - the last kinds of `space.distribution`
    steps = "" if axis.step is None else f" in steps of {axis.step:g}"
    return f"{axis.low:g} to {axis.high:g}{steps}"


def _point_at(space: Space, places: Places) -> dict[str, Any]:
    return {
        key: at(axis, float(place))
        for (key, axis), place in zip(space.items(), places, strict=True)
    }
