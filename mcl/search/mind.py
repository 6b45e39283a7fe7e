"""The learning samplers and the pruners: what they know of a study's trials, held in memory."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mcl import schema
from mcl.search.evolution import Evolution
from mcl.search.parzen import Parzen, trusted
from mcl.search.space import Space
from mcl.search.trial import Outcome

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


def ending(outcome: Outcome) -> tuple[TrialState, list[float] | None]:
    """How a study enters an outcome: (state, values). A value makes a trial complete, whatever became of it."""
    if math.isfinite(outcome.value):
        return TrialState.COMPLETE, [outcome.value, *outcome.others]
    return STATES[outcome.state], None


class Thinker(Protocol):
    """What follows the trials of a study, in the order of their numbers, and can say which point to try next."""

    def ask(self, number: int, own: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """(values of trial `number`, which is the next one, what to write down beside it), from the random numbers of `own`."""

    def begin(self, number: int, values: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
        """Trial `number` has begun; `learned` is what `ask` said beside it, empty when its point came from elsewhere."""

    def report(self, number: int, fold: int, shown: float) -> None:
        """A pruner has seen this of a trial after a fold."""

    def tell(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """A trial has ended; values, one for each objective, has only a complete one."""


class Mind:
    """What a learning sampler and a pruner know: a pure function of the trials begun, reported and told, in their order.

    Every trial has random numbers of its own, from the seed and its number. What a sampler writes down beside a trial (the generation
    of CMA-ES and of NSGA-II) goes into the journal with it, so that a later process makes the same mind again.
    """

    def __init__(self, space: Space, search: schema.Search, seed: int, trials: Sequence[FrozenTrial]) -> None:
        self._seed, self._pruner = seed, search.pruner
        self._memory = Memory(space, search)
        self._thinker = thinker(space, search) or self._memory
        judged = self._pruner != "none" and self._thinker is not self._memory
        self._parts: list[Thinker] = [self._thinker, self._memory] if judged else [self._thinker]
        self._folds: dict[int, dict[int, float]] = {}  # of the trials that run: values by fold, of folds that have one
        for trial in trials:
            self._remember(trial)

    def ask(self, number: int, instead: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """(values of trial `number`, which is the next one, what the sampler writes down beside it). `instead` are the values with
        which it has been recorded, where its line in the journal is lost."""
        values, learned = self._thinker.ask(number, int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0]))
        values = instead or values
        self.begin(number, values, learned)
        return values, learned

    def begin(self, number: int, values: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
        for part in self._parts:
            part.begin(number, values, learned)

    def judge(self, number: int, fold: int, value: float) -> tuple[float, bool]:
        """(what the pruner sees, whether it gives up). Median and halving see the mean over the folds so far, Wilcoxon each one.

        Any fold may be the first that has a value. A trial whose worker died comes again with the folds that it had.
        """
        folds = self._folds.setdefault(number, {})
        folds[fold] = value
        so_far = [folds[step] for step in sorted(folds) if step <= fold]
        shown = value if self._pruner == "wilcoxon" else math.fsum(so_far) / len(so_far)
        self._report(number, fold, shown)
        return shown, self._memory.gives_up(number, fold)

    def tell(self, outcome: Outcome) -> None:
        self._folds.pop(outcome.number, None)
        self._tell(outcome.number, *ending(outcome))

    def _report(self, number: int, fold: int, shown: float) -> None:
        for part in self._parts:
            part.report(number, fold, shown)

    def _tell(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        for part in self._parts:
            part.tell(number, state, values)

    def _remember(self, trial: FrozenTrial) -> None:
        """Live through a trial of the journal again. What an unfinished one has reported is forgotten: it runs anew."""
        self.begin(trial.number, trial.params, trial.system_attrs)
        if not trial.state.is_finished():
            return
        for fold, shown in sorted(trial.intermediate_values.items()):
            self._report(trial.number, fold, shown)
            if self._pruner == "halving":  # it writes down beside a trial how far that came
                self._memory.gives_up(trial.number, fold)
        self._tell(trial.number, trial.state, trial.values)


class Memory:
    """A study of Optuna's in memory, for its samplers and pruners that look at one."""

    def __init__(self, space: Space, search: schema.Search) -> None:
        self._space, self._sampler = space, search.sampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(directions=[search.direction, *search.also.values()], pruner=pruner(search.pruner))
        self._storage = self._study._storage
        self._ids: list[int] = []  # by number
        self._generation = 0

    def ask(self, number: int, own: int) -> tuple[dict[str, Any], dict[str, Any]]:
        self._study._thread_local.cached_all_trials = None  # as Study.ask does, which is slower for what is known here
        learner, trial_id = sampler(self._sampler, self._space, own), self._id(number)
        trial = self._storage.get_trial(trial_id)
        values = learner.sample_relative(self._study, trial, learner.infer_relative_search_space(self._study, trial))
        for key, axis in self._space.items():
            if key not in values:
                values[key] = learner.sample_independent(self._study, trial, key, axis)
        return {key: values[key] for key in self._space}, dict(self._storage.get_trial(trial_id).system_attrs)

    def begin(self, number: int, values: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
        trial_id = self._id(number)
        for key, told in learned.items():
            self._storage.set_trial_system_attr(trial_id, key, told)
        for key, axis in self._space.items():
            self._storage.set_trial_param(trial_id, key, axis.to_internal_repr(values[key]), axis)
        if (generation := learned.get(_Nsga._GENERATION_KEY, 0)) > self._generation:
            self._generation = generation
            self._inherit()

    def _inherit(self) -> None:
        """NSGA-II chooses the parents of a generation at its first trial and keeps them, in another order than the one it found them in:
        who lives through the trials again must let it choose at the same moment."""
        self._study._thread_local.cached_all_trials = None
        learner: Any = sampler(self._sampler, self._space, 0)
        learner.get_parent_population(self._study, self._generation)

    def report(self, number: int, fold: int, shown: float) -> None:
        self._storage.set_trial_intermediate_value(self._id(number), fold, shown)

    def gives_up(self, number: int, fold: int) -> bool:
        """Whether the pruner gives up a trial after this fold; later ones may be known of an attempt that has come to nothing."""
        trial = copy.copy(self._storage.get_trial(self._id(number)))
        trial.intermediate_values = {step: shown for step, shown in trial.intermediate_values.items() if step <= fold}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(self._study.pruner.prune(self._study, trial))

    def tell(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        self._storage.set_trial_state_values(self._id(number), state, values)

    def _id(self, number: int) -> int:
        if number == len(self._ids):
            self._ids.append(self._storage.create_new_trial(self._study._study_id))
        return self._ids[number]


def thinker(space: Space, search: schema.Search) -> Thinker | None:
    """The sampler that needs no study of Optuna's."""
    maximize = [direction == "maximize" for direction in (search.direction, *search.also.values())]
    if search.sampler == "cmaes":
        return Evolution(space, maximize[0])
    return Parzen(space, maximize) if search.sampler == "tpe" and trusted() else None


def sampler(name: str, space: Space, own: int) -> BaseSampler:
    """Optuna's learning sampler of one trial, with the random numbers of `own`."""
    known = {key: axis for key, axis in space.items() if not axis.single()}
    if name == "nsga2":
        learner: _Nsga | _Tpe = _Nsga(seed=own)
        learner.space = dict(sorted(known.items()))
    else:
        learner = _Tpe(seed=own)
        learner.space = known
    return learner


class _Known:
    """A sampler that is told its space, instead of finding it in all earlier trials each time (optuna's own remembers it)."""

    space: Space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self.space


class _Nsga(_Known, NSGAIISampler):
    pass


class _Tpe(_Known, TPESampler):
    pass


def pruner(name: str) -> BasePruner:
    """Median: below the median of the earlier trials. Halving: the better half goes on. Wilcoxon: below the best, fold by fold."""
    if name == "median":
        return MedianPruner(n_startup_trials=5)
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return WilcoxonPruner(p_threshold=0.1) if name == "wilcoxon" else NopPruner()
