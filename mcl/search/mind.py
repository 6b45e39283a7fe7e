"""The learning samplers and the pruners: what they know of a study's trials, held in memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mcl import schema
from mcl.search.space import Space
from mcl.search.trial import Outcome

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


class Mind:
    """What a learning sampler and a pruner know: a study in memory, a pure function of the trials begun and told, in their order.

    The sampler of every trial is made anew, with random numbers of its own; what it remembers of earlier trials (the state of
    CMA-ES, the generations of NSGA-II) it keeps in the trials' `system_attrs`, which the journal keeps too.
    """

    def __init__(self, space: Space, search: schema.Search, seed: int, trials: Sequence[FrozenTrial]) -> None:
        self._space, self._search, self._seed = space, search, seed
        self._folds: dict[int, list[float]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(directions=[search.direction, *search.also.values()], pruner=pruner(search.pruner))
        self._storage, self._rows, self._evolution = self._study._storage, Rows(space), Evolution()
        for trial in trials:
            self._storage.create_new_trial(self._study._study_id, trial)

    def add(self, values: dict[str, Any]) -> None:
        """Begin a trial whose point comes from elsewhere."""
        begun = optuna.create_trial(state=TrialState.RUNNING, params=values, distributions=self._space)
        self._storage.create_new_trial(self._study._study_id, begun)

    def ask(self, number: int) -> dict[str, Any]:
        """The values of trial `number`, which is the next one."""
        self._study._thread_local.cached_all_trials = None  # as Study.ask does, which is slower for what is known here
        learner = sampler(self._search.sampler, self._space, self._seed, number, self._rows, self._evolution)
        trial_id = self._storage.create_new_trial(self._study._study_id)
        trial = self._storage.get_trial(trial_id)
        values = learner.sample_relative(self._study, trial, learner.infer_relative_search_space(self._study, trial))
        for key, axis in self._space.items():
            if key not in values:
                values[key] = _single(axis) if axis.single() else learner.sample_independent(self._study, trial, key, axis)
            self._storage.set_trial_param(trial_id, key, axis.to_internal_repr(values[key]), axis)
        return {key: values[key] for key in self._space}

    def learned(self, number: int) -> dict[str, Any]:
        """What the sampler has written down beside a trial."""
        found: dict[str, Any] = self._storage.get_trial(self._id(number)).system_attrs
        return found

    def judge(self, number: int, fold: int, value: float) -> tuple[float, bool]:
        """(what the pruner sees, whether it gives up)."""
        if fold == 0:
            self._folds[number] = []
        folds = self._folds[number]
        folds.append(value)
        shown = value if self._search.pruner == "wilcoxon" else math.fsum(folds) / len(folds)
        trial = optuna.Trial(self._study, self._id(number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trial that is run again reports its folds again
            trial.report(shown, fold)
            return shown, bool(trial.should_prune())

    def tell(self, outcome: Outcome) -> None:
        self._folds.pop(outcome.number, None)
        self._storage.set_trial_state_values(self._id(outcome.number), *ending(outcome))

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


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


@dataclass
class Evolution:
    """CMA-ES as the last trial that wrote it down has it, made from that text once: asking a point changes nothing that lasts."""

    trial: int = -1
    generation: int = 0
    optimizer: Any = None


class _Cma(_Known, CmaEsSampler):
    evolution: Evolution

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        values, kept = super().sample_relative(study, trial, search_space), self.evolution
        if kept.trial >= 0 and kept.optimizer.generation != kept.generation:  # it has learned, and only this trial may know of that yet
            kept.trial = -1
        return values

    def _restore_optimizer(self, completed_trials: Any) -> Any:
        writers = (t.number for t in reversed(completed_trials) if any(key.startswith(self._attr_key_optimizer) for key in t.system_attrs))
        last, kept = next(writers, -1), self.evolution
        if last < 0:
            return super()._restore_optimizer(completed_trials)
        if last != kept.trial:
            kept.trial, kept.optimizer = last, super()._restore_optimizer(completed_trials)
            kept.generation = kept.optimizer.generation
        return kept.optimizer


class _Tpe(_Known, TPESampler):
    rows: Rows

    def _get_internal_repr(self, trials: Any, search_space: Any, study: Any) -> Any:
        if search_space.keys() == self.space.keys() and all(len(trial.params) for trial in trials):
            return self.rows.of(trials)
        return super()._get_internal_repr(trials, search_space, study)


def sampler(name: str, space: Space, seed: int, number: int, rows: Rows, evolution: Evolution) -> BaseSampler:
    """The learning sampler of one trial, with random numbers of its own."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "nsga2":
        return NSGAIISampler(seed=own)
    if name == "cmaes":
        cma = _Cma(seed=own, warn_independent_sampling=False)
        cma.space = {key: axis for key, axis in space.items() if not (axis.single() or isinstance(axis, CategoricalDistribution))}
        cma.evolution = evolution
        return cma
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
