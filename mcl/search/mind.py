"""The learning samplers and the pruners: what they know of a study's trials, held in memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mcl import schema
from mcl.search.evolution import GENERATION, Evolution
from mcl.search.space import Space
from mcl.search.trial import Outcome

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


class Mind:
    """What a learning sampler and a pruner know: a pure function of the trials begun and told, in their order.

    Every trial has random numbers of its own, from the seed and its number. What a sampler writes down beside a trial (the generation
    of CMA-ES and of NSGA-II) goes into the journal with it, so that a later process makes the same mind again.
    """

    def __init__(self, space: Space, search: schema.Search, seed: int, trials: Sequence[FrozenTrial]) -> None:
        self._seed = seed
        self._evolution = Evolution(space, search.direction == "maximize") if search.sampler == "cmaes" else None
        self._memory = Memory(space, search) if self._evolution is None or search.pruner != "none" else None
        for trial in trials:
            self._remember(trial)

    def add(self, values: dict[str, Any]) -> None:
        """Begin the next trial at a point that comes from elsewhere."""
        if self._memory is not None:
            self._memory.add(values, {})

    def ask(self, number: int, instead: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """(values of trial `number`, which is the next one, what the sampler writes down beside it). `instead` are the values with
        which it has been recorded, where its line in the journal is lost."""
        own = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._evolution is None:
            assert self._memory is not None  # noqa: S101 - one of the two thinks
            return self._memory.ask(own, instead)
        values, learned = self._evolution.ask(number, own)
        values = instead or values
        self._evolution.begin(number, values, learned.get(GENERATION))
        if self._memory is not None:
            self._memory.add(values, {})
        return values, learned

    def judge(self, number: int, fold: int, value: float) -> tuple[float, bool]:
        """(what the pruner sees, whether it gives up)."""
        assert self._memory is not None  # noqa: S101 - a search without a pruner has no judge
        return self._memory.judge(number, fold, value)

    def tell(self, outcome: Outcome) -> None:
        self._end(outcome.number, *ending(outcome))

    def _end(self, number: int, state: TrialState, values: list[float] | None) -> None:
        if self._evolution is not None:
            self._evolution.tell(number, values[0] if values else math.nan)
        if self._memory is not None:
            self._memory.tell(number, state, values)

    def _remember(self, trial: FrozenTrial) -> None:
        """Live through a trial of the journal again. What an unfinished one has reported is forgotten: it runs anew."""
        if self._evolution is not None:
            self._evolution.begin(trial.number, trial.params, trial.system_attrs.get(GENERATION))
        if self._memory is not None:
            self._memory.add(trial.params, trial.system_attrs)
            if trial.state.is_finished():
                self._memory.review(trial)
        if trial.state.is_finished():
            self._end(trial.number, trial.state, trial.values)


class Memory:
    """A study of Optuna's in memory, for the samplers and the pruners that look at one."""

    def __init__(self, space: Space, search: schema.Search) -> None:
        self._space, self._search = space, search
        self._folds: dict[int, list[float]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(directions=[search.direction, *search.also.values()], pruner=pruner(search.pruner))
        self._storage, self._rows = self._study._storage, Rows(space)

    def add(self, values: dict[str, Any], learned: dict[str, Any]) -> None:
        """Begin the next trial at a point that comes from elsewhere."""
        trial_id = self._storage.create_new_trial(self._study._study_id)
        for key, told in learned.items():
            self._storage.set_trial_system_attr(trial_id, key, told)
        self._place(trial_id, values)

    def ask(self, own: int, instead: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """(values of the next trial, what the sampler writes down beside it)."""
        self._study._thread_local.cached_all_trials = None  # as Study.ask does, which is slower for what is known here
        learner = sampler(self._search.sampler, self._space, own, self._rows)
        trial_id = self._storage.create_new_trial(self._study._study_id)
        trial = self._storage.get_trial(trial_id)
        values = learner.sample_relative(self._study, trial, learner.infer_relative_search_space(self._study, trial))
        for key, axis in self._space.items():
            if key not in values:
                values[key] = _single(axis) if axis.single() else learner.sample_independent(self._study, trial, key, axis)
        values = instead or {key: values[key] for key in self._space}
        self._place(trial_id, values)
        return values, dict(self._storage.get_trial(trial_id).system_attrs)

    def judge(self, number: int, fold: int, value: float) -> tuple[float, bool]:
        """(what the pruner sees, whether it gives up)."""
        if fold == 0:
            self._folds[number] = []
        folds = self._folds[number]
        folds.append(value)
        shown = value if self._search.pruner == "wilcoxon" else math.fsum(folds) / len(folds)
        return shown, self._prune(number, fold, shown)

    def review(self, trial: FrozenTrial) -> None:
        """Show the pruner again what a finished trial reported: halving writes down beside a trial how far it came."""
        for fold, shown in sorted(trial.intermediate_values.items()):
            self._prune(trial.number, fold, shown)

    def tell(self, number: int, state: TrialState, values: list[float] | None) -> None:
        self._folds.pop(number, None)
        self._storage.set_trial_state_values(self._id(number), state, values)

    def _prune(self, number: int, fold: int, shown: float) -> bool:
        trial_id = self._id(number)
        self._storage.set_trial_intermediate_value(trial_id, fold, shown)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(self._study.pruner.prune(self._study, self._storage.get_trial(trial_id)))

    def _place(self, trial_id: int, values: dict[str, Any]) -> None:
        for key, axis in self._space.items():
            self._storage.set_trial_param(trial_id, key, axis.to_internal_repr(values[key]), axis)

    def _id(self, number: int) -> int:
        found: int = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        return found


def ending(outcome: Outcome) -> tuple[TrialState, list[float] | None]:
    """How a study enters an outcome: (state, values). A value makes a trial complete, whatever became of it."""
    if math.isfinite(outcome.value):
        return TrialState.COMPLETE, [outcome.value, *outcome.others]
    return STATES[outcome.state], None


class Rows:
    """The points of finished trials as TPE counts in them, each translated once."""

    def __init__(self, space: Space) -> None:
        self._space = {key: axis for key, axis in space.items() if not axis.single()}
        self._known: dict[int, list[float]] = {}

    def of(self, trials: Sequence[FrozenTrial]) -> dict[str, npt.NDArray[np.float64]]:
        """One column per axis, one row per trial."""
        table = np.array([self._known.get(trial.number) or self._row(trial) for trial in trials], float).reshape(len(trials), -1)
        return {key: np.ascontiguousarray(table[:, i]) for i, key in enumerate(self._space)}

    def _row(self, trial: FrozenTrial) -> list[float]:
        row = [axis.to_internal_repr(trial.params[key]) for key, axis in self._space.items()]
        self._known[trial.number] = row
        return row


class _Known:
    """A sampler that is told its space, instead of finding it in all earlier trials each time (optuna's own remembers it)."""

    space: Space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self.space


class _Tpe(_Known, TPESampler):
    rows: Rows

    def _get_internal_repr(self, trials: Any, search_space: Any, study: Any) -> Any:
        if search_space.keys() == self.space.keys() and all(len(trial.params) for trial in trials):
            return self.rows.of(trials)
        return super()._get_internal_repr(trials, search_space, study)


def sampler(name: str, space: Space, own: int, rows: Rows) -> BaseSampler:
    """The sampler of one trial, with the random numbers of `own`."""
    if name == "nsga2":
        return NSGAIISampler(seed=own)
    if name == "tpe":
        _vectorised()
        tpe = _Tpe(seed=own)
        tpe.space, tpe.rows = {key: axis for key, axis in space.items() if not axis.single()}, rows
        return tpe
    return RandomSampler(seed=own)


def _single(axis: Any) -> Any:
    return axis.choices[0] if isinstance(axis, CategoricalDistribution) else axis.low


@cache
def _vectorised() -> None:
    """Optuna computes the logarithm of the normal distribution one number at a time, which is most of what TPE costs; scipy has it
    as one call, no less exact. Where Optuna has come to name its function otherwise, TPE stays slow."""
    from optuna.samplers._tpe import _truncnorm
    from scipy.special import log_ndtr

    if hasattr(_truncnorm, "_log_ndtr"):
        _truncnorm._log_ndtr = log_ndtr


def pruner(name: str) -> BasePruner:
    """Median: below the median of the earlier trials. Halving: the better half goes on. Wilcoxon: below the best, fold by fold."""
    if name == "median":
        return MedianPruner(n_startup_trials=5)
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return WilcoxonPruner(p_threshold=0.1) if name == "wilcoxon" else NopPruner()
