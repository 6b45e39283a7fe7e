"""Ask Optuna for the points of a search and tell it the outcomes."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mcl import DISTRIBUTION
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.search import point_sequences, samplers
from mcl.search.space import Space, conditional, count, existing, ordered, present
from mcl.search.study_view import StudyView, ending
from mcl.search.trial import Outcome

MOST_POINTS = 100_000  # of a grid that is proposed


def window(search: schema.Search) -> int:
    """The number of trials that an adaptive search begins before it learns from the first of them.
    One worker learns from each trial before the next.
    """
    return 1 if search.workers == 1 else 2 * search.workers


class Study:
    """Ask and tell, in Optuna's own study in memory, with Optuna's own samplers.

    A point depends on the seed, the trial's number and the outcomes of the trials that are at least
    `window` numbers older, which Optuna gets in the order of their numbers, each before the point
    is drawn. So the order in which workers finish decides nothing, and the outcomes alone are
    enough to make the study again: `adopt` enters those of earlier processes. The points of grid,
    random and QMC depend on the seed and the number alone. Only a pruner sees what has ended
    meanwhile.
    """

    def __init__(
        self,
        space: Space,
        search: schema.Search,
        seed: int,
        fixed: Sequence[dict[str, Any]] = (),
        view: StudyView | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self._search, self._seed, self._fixed, self._view = (
            space,
            search,
            seed,
            fixed,
            view,
        )
        self._ordered = ordered(space, search.conditions)
        self._numbered = numbered(search, space, seed)
        # of a first trial that names only some values
        self._rest = point_sequences.uniform(space, seed)
        self.window = window(search)
        self.next_number = 0
        self._learned = 0  # trials whose outcomes Optuna's study has
        self._unbroken = 0  # trials from the first on that have all ended
        self._outcomes: dict[int, Outcome] = {}  # that wait for their turn
        self._unseen: dict[int, Outcome] = {}  # that the view has not
        self._trials: dict[int, optuna.Trial] = {}
        # value, what the pruner saw, whether it gave up
        self._folds: dict[int, dict[int, tuple[float, float, bool]]] = {}
        self._study: optuna.Study | None = None
        if self._numbered is None or search.pruner != "none":
            directions = [search.direction, *search.also.values()]
            # Hyperband reads the study's name: it is the same in every process.
            self._study = optuna.create_study(
                study_name="search", directions=directions, pruner=samplers.pruner(search)
            )

    @property
    def ready(self) -> bool:
        """Whether everything has ended that the next point depends on."""
        return self._numbered is not None or self.next_number < self._unbroken + self.window

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The number and the values of the next trial."""
        number = self.next_number
        self._catch_up(number - self.window)
        values = self._predetermined(number)
        if self._study is not None:
            values = self._begin(number, values)
        assert values is not None  # noqa: S101 - what has no point by its number has a study
        self.next_number += 1
        return number, {key: values[key] for key in self.space if key in values}

    def adopt(self, outcome: Outcome, window: int) -> None:
        """Enter the next trial, which an earlier process with this `window` has finished."""
        number = self.next_number
        self._catch_up(number - window)
        if self._study is not None:
            by_hand = (
                number < len(self._fixed) and self._fixed[number].keys() >= outcome.params.keys()
            )
            self._begin(number, outcome.params, attributes=not by_hand)
            for fold, pruner_value in outcome.folds:
                # halving writes down how far a trial came
                self._gives_up(number, int(fold), pruner_value)
        self.next_number += 1
        self.tell(outcome)

    def judge(self, number: int, fold: int, value: float) -> bool:
        """Whether the pruner gives up a trial after this fold. Wilcoxon sees each value, the others
        the mean over the folds so far.

        Any fold may be the first that has a value. A trial whose worker died comes again and is
        judged as before.
        """
        folds = self._folds.setdefault(number, {})
        if fold in folds:
            return folds[fold][2]
        so_far = [earlier for step, (earlier, _, _) in folds.items() if step < fold] + [value]
        pruner_value = (
            value if self._search.pruner == "wilcoxon" else math.fsum(so_far) / len(so_far)
        )
        given_up = self._gives_up(number, fold, pruner_value)
        folds[fold] = value, pruner_value, given_up
        return given_up

    def _gives_up(self, number: int, fold: int, pruner_value: float) -> bool:
        """Whether Optuna's pruner gives up after a fold. Its warning of folds that one trial has
        and another has not is no fault.
        """
        trial = self._trials[number]
        trial.report(pruner_value, fold)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return bool(trial.should_prune())

    def reported(self, outcome: Outcome) -> Outcome:
        """The outcome with what the pruner saw of its trial."""
        folds = self._folds.pop(outcome.number, {})
        return (
            replace(
                outcome,
                folds=[
                    [float(fold), pruner_value]
                    for fold, (_, pruner_value, _) in sorted(folds.items())
                ],
            )
            if folds
            else outcome
        )

    def tell(self, outcome: Outcome) -> None:
        """Take an outcome in. The view hears of it once all earlier trials have ended, an adaptive
        sampler when its window allows.
        """
        self._outcomes[outcome.number] = outcome
        self._unseen[outcome.number] = outcome
        while self._unbroken in self._unseen:
            ended = self._unseen.pop(self._unbroken)
            if self._view is not None and self._view.count == ended.number:
                self._view.add(ended)
            self._unbroken += 1
        if self._study is None:
            del self._outcomes[outcome.number]
        elif self._numbered is not None:
            self._learn(outcome.number)

    def _catch_up(self, last: int) -> None:
        """Tell Optuna's study every trial up to this number."""
        while self._study is not None and self._numbered is None and self._learned <= last:
            self._learn(self._learned)
            self._learned += 1

    def _learn(self, number: int) -> None:
        """A duplicate carries the value of the trial that it repeats, so that the sampler learns
        the truth.
        """
        assert self._study is not None  # noqa: S101 - nothing else learns
        outcome, trial = self._outcomes.pop(number), self._trials.pop(number)
        for text, excess in zip(self._search.soft_constraints, outcome.excess, strict=False):
            trial.set_constraint(text, excess)
        state, values = ending(outcome)
        self._study.tell(trial, values, state)

    def _begin(
        self, number: int, values: dict[str, Any] | None, *, attributes: bool = False
    ) -> dict[str, Any]:
        """Begin a trial in Optuna's study; what `values` do not say the sampler draws.

        With `attributes` it draws even the values that are given, since the attributes that it
        writes to a trial belong to its memory.
        """
        assert self._study is not None  # noqa: S101 - the callers have asked
        if values is not None:
            self._study.enqueue_trial(values)
        if self._numbered is None:
            self._study.sampler = samplers.sampler(self._search, self._own_seed(number))
        trial = self._trials[number] = self._study.ask()
        if attributes and self._search.sampler in samplers.WITH_ATTRIBUTES:
            _ = trial.relative_params
        point: dict[str, Any] = {}
        for key, axis in self._ordered.items():
            if existing(key, point, self._search.conditions):
                point[key] = suggested(trial, key, axis)
        return point

    def _own_seed(self, number: int) -> int:
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def _predetermined(self, number: int) -> dict[str, Any] | None:
        """The point of a trial as far as no sampler has to think about it."""
        fixed = len(self._fixed)
        if number >= fixed and self._numbered is None:
            return None
        if number >= fixed:
            assert self._numbered is not None  # noqa: S101 - asked just now
            values = self._numbered(number - fixed)
        elif self._numbered is None:
            return dict(self._fixed[number])
        else:
            values = self._rest(number) | self._fixed[number]
        return present(values, self.space, self._search.conditions)


def suggested(trial: optuna.Trial, key: str, axis: BaseDistribution) -> Any:
    """The trial's value on an axis."""
    if isinstance(axis, CategoricalDistribution):
        return trial.suggest_categorical(key, axis.choices)
    if isinstance(axis, IntDistribution):
        return trial.suggest_int(key, axis.low, axis.high, step=axis.step, log=axis.log)
    assert isinstance(axis, FloatDistribution)  # noqa: S101 - the last kind of `space.distribution`
    return trial.suggest_float(key, axis.low, axis.high, step=axis.step, log=axis.log)


def numbered(search: schema.Search, space: Space, seed: int) -> point_sequences.Point | None:
    """The points by trial number of a sampler that has them; None for one that learns."""
    name = search.sampler
    if name == "grid":
        return point_sequences.grid(space, search.conditions)
    if name == "qmc":
        return point_sequences.sobol(space, seed)
    return point_sequences.uniform(space, seed) if name == "random" else None


def _installed(search: schema.Search) -> None:
    """ConfigError where an optional part is not there, before anything is recorded."""
    requirements = [("backend=ray", "ray", "ray")] if search.backend == "ray" else []
    requirements += (
        [("storage=postgresql", "psycopg", "postgres")] if search.storage == "postgresql" else []
    )
    for what, package, extra in requirements:
        if find_spec(package) is None:
            raise ConfigError(
                f"search.{what} needs the package {package}, which is not installed",
                f"pip install '{DISTRIBUTION}[{extra}]'",
            )
    if search.storage == "postgresql" and not os.environ.get("MCL_STUDY_URL", "").startswith(
        "postgresql"
    ):
        raise ConfigError(
            "search.storage=postgresql needs MCL_STUDY_URL",
            "export MCL_STUDY_URL=postgresql+psycopg://user@host/database",
        )


def _grid_points(space: Space, search: schema.Search) -> int:
    """Count the points of a grid. Of one with conditions not many more than `search.trials` are
    counted.
    """
    if not search.conditions:
        return math.prod(count(key, axis) for key, axis in space.items())
    return sum(
        1
        for _ in islice(conditional(space, search.conditions), max(MOST_POINTS, search.trials) + 1)
    )


def planned(space: Space, search: schema.Search, fixed: int = 0) -> int:
    """The number of trials that `search` asks for. ConfigError where sampler and space do not fit;
    a grid is run whole or refused.
    """
    if search.sampler == "cmaes" and all(
        isinstance(axis, CategoricalDistribution) for axis in space.values()
    ):
        raise ConfigError(
            "search.sampler=cmaes needs numeric axes, and this space holds only choices",
            "use search.sampler=tpe or grid",
        )
    samplers.check(search)
    _installed(search)
    if search.backend == "ray" and search.pruner != "none":
        raise ConfigError(
            f"search.pruner={search.pruner} asks after every fold, and search.backend=ray runs a"
            " trial whole",
            "use one of the two",
        )
    if search.metric in search.also:
        raise ConfigError(
            f"search.also names {search.metric} again, which is search.metric",
            "name another metric, or none",
        )
    if search.also and search.sampler not in samplers.SEVERAL_OBJECTIVES:
        raise ConfigError(
            "search.sampler=cmaes has one objective, and search.also names more",
            "use search.sampler=nsga2 or tpe",
        )
    if search.also and search.pruner != "none":
        raise ConfigError(
            f"search.pruner={search.pruner} ranks by one objective, and search.also names more",
            "use search.pruner=none",
        )
    if search.sampler != "grid":
        return search.trials
    whole = fixed + _grid_points(space, search)
    if whole > search.trials:
        enough = f"set search.trials={whole}, " if whole <= MOST_POINTS else ""
        raise ConfigError(
            f"the grid has {whole:,} points, more than search.trials={search.trials:,}",
            f"{enough}coarsen the ranges, or use search.sampler=qmc",
        )
    return whole
