"""CMA-ES: the next point from the trials told so far, by the optimizer of the package `cmaes`.

The points are those of Optuna's `CmaEsSampler` (a test holds both to them), which makes its optimizer anew for every trial from a
text of some 20 kB beside an earlier one. Here it stays in memory and follows from the trials: their numbers, values and generations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cmaes import CMA
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from mcl.search.space import Space

GENERATION = "cma:generation"  # as Optuna names it
Numeric = FloatDistribution | IntDistribution
Vector = npt.NDArray[np.float64]


class Evolution:
    """The population of CMA-ES over the numeric axes of a space, each scaled to [0, 1].

    It starts at the middle with a sixth of the width as standard deviation and no restarts. Whole and stepped axes are rounded, with
    an equal share for each value. A generation ends when as many of its trials as its size (4 + 3 ln n) have a value; those without
    one, those of an earlier generation and those whose point came from elsewhere teach nothing. Choices and axes of one value are not
    its own.
    """

    def __init__(self, space: Space, maximize: bool) -> None:
        self._space = space
        self._axes = {key: axis for key, axis in space.items() if isinstance(axis, Numeric) and not axis.single()}
        edges = np.array([_edges(axis) for axis in self._axes.values()], float).reshape(-1, 2)
        self._low, self._width = edges[:, 0], edges[:, 1] - edges[:, 0]
        self._random = np.random.RandomState(0)
        self._sign = -1.0 if maximize else 1.0
        self._cma = _fresh(len(self._axes)) if self._axes else None
        self._aware = False  # whether any trial has a value
        self._grown = False  # whether a trial of a later generation than the first has a value
        self._born: dict[int, tuple[int, Vector]] = {}  # unfinished trial -> its generation and point
        self._solutions: list[tuple[int, Vector, float]] = []  # trial, point and cost, of this generation

    def begin(self, number: int, values: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
        """A trial has begun; `learned` is what `ask` said beside it, empty when its point came from elsewhere."""
        generation = learned.get(GENERATION)
        if self._cma is None or generation is None:
            return
        if generation > self._cma.generation:
            self._learned(self._cma)
        self._born[number] = generation, self._place(values)

    def ask(self, number: int, own: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """(values of trial `number`, its generation to write down beside it), from the random numbers of `own`.

        Before the first trial has a value every axis is drawn evenly, as in Optuna's sampler.
        """
        values: dict[str, Any] = {}
        learned: dict[str, Any] = {}
        if self._cma is not None and self._aware:
            cma = self._learned(self._cma)
            values, learned = self._evolved(cma, number, own), {GENERATION: cma.generation}
        self._random.seed(own)
        for key, axis in self._space.items():
            if key not in values:
                values[key] = drawn(axis, self._random)
        return {key: values[key] for key in self._space}, learned

    def report(self, number: int, fold: int, shown: float) -> None:
        """Nothing: a generation counts whole trials."""

    def tell(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """A trial has ended."""
        generation, place = self._born.pop(number, (-1, np.empty(0)))
        if state == TrialState.COMPLETE and values:
            self._aware = True
            self._grown |= generation > 0
            if self._cma is not None and generation == self._cma.generation:
                self._solutions.append((number, place, self._sign * values[0]))

    def _evolved(self, cma: CMA, number: int, own: int) -> dict[str, Any]:
        self._random.seed(own)
        if not self._grown:
            self._random.randint(1, 2**31 - 2)  # with it Optuna's sampler makes an optimizer that it has not yet kept
        cma.reseed_rng(int(self._random.randint(1, 2**16)) + number)
        place = self._low + cma.ask() * self._width
        return {key: _value(axis, x) for (key, axis), x in zip(self._axes.items(), place.tolist(), strict=True)}

    def _learned(self, cma: CMA) -> CMA:
        """The optimizer to ask. It has moved on by a generation when this one has ended: by the first of its trials, whatever the order
        in which they were told. What is kept is a copy by the rules of its pickles, which makes the covariance exactly symmetric."""
        if len(self._solutions) < cma.population_size:
            return cma
        first = sorted(self._solutions, key=lambda solution: solution[0])[: cma.population_size]
        cma.tell([(place, cost) for _, place, cost in first])
        self._cma, self._solutions = copy.copy(cma), []
        return cma

    def _place(self, values: Mapping[str, Any]) -> Vector:
        at = [math.log(values[key]) if axis.log else float(values[key]) for key, axis in self._axes.items()]
        place: Vector = (np.array(at) - self._low) / self._width
        return place


def drawn(axis: BaseDistribution, random: np.random.RandomState) -> Any:
    """A value of `axis`, evenly on its own scale."""
    if isinstance(axis, Numeric):
        return axis.low if axis.single() else _value(axis, random.uniform(*_edges(axis)))
    assert isinstance(axis, CategoricalDistribution)  # noqa: S101 - the last kind of `space.distribution`
    return axis.choices[0 if axis.single() else int(random.uniform(size=len(axis.choices)).argmax())]


def _fresh(axes: int) -> CMA:
    return CMA(mean=np.full(axes, 0.5), sigma=1 / 6, bounds=np.tile([0.0, 1.0], (axes, 1)), n_max_resampling=10 * axes)


def _edges(axis: Numeric) -> tuple[float, float]:
    """The ends of a numeric axis on its own scale; a value of a whole or stepped one is the middle of its share."""
    half = 0.5 * (axis.step or 0)
    return (math.log(axis.low - half), math.log(axis.high + half)) if axis.log else (axis.low - half, axis.high + half)


def _value(axis: Numeric, place: float) -> int | float:
    """The value of a numeric axis whose share holds `place`, which is on the axis' own scale."""
    if isinstance(axis, IntDistribution):
        whole = round(math.exp(place)) if axis.log else math.floor((place - axis.low) / axis.step + 0.5) * axis.step + axis.low
        return min(max(whole, axis.low), axis.high)
    if axis.step is not None:
        return float(min(max(np.round((place - axis.low) / axis.step) * axis.step + axis.low, axis.low), axis.high))
    below = float(np.nextafter(axis.high, axis.high - 1))
    return min(max(math.exp(place), axis.low), below) if axis.log else min(place, below)
