"""The Optuna door: which point to try next, and what came of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mcl import schema
from mcl.errors import ConfigError
from mcl.search import points
from mcl.search.journal import Journal
from mcl.search.space import Space
from mcl.search.space import points as levels
from mcl.search.trial import Outcome

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


class Study:
    """Ask and tell over a journal file, which an earlier process may have begun.

    The points of grid, random and QMC depend on the seed and the trial number alone, whatever the number of workers or the
    interruptions; the other samplers learn from finished trials, so only a single worker repeats them exactly. All of them draw
    their random numbers from the seed and the trial number.
    """

    def __init__(
        self, name: str, journal: Path, space: Space, search: schema.Search, seed: int, fixed: Sequence[dict[str, Any]] = ()
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self._search, self._seed, self._fixed = space, search, seed, fixed
        self._journal = Journal(journal)
        self._storage = optuna.storages.JournalStorage(self._journal)
        self._numbered = numbered(search.sampler, space, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                study_name=name,
                storage=self._storage,
                directions=[search.direction, *search.also.values()],
                sampler=sampler(search.sampler, space, seed, 0),
                pruner=pruner(search.pruner),
                load_if_exists=True,
            )
        self._study_id = self._storage.get_study_id_from_name(name)
        trials = self._study.get_trials(deepcopy=False)
        self.asked = len(trials)
        self._running = {trial.number: trial._trial_id for trial in trials if not trial.state.is_finished()}
        self._open: dict[int, int] = {}  # trial number -> optuna's id
        self._folds: dict[int, list[float]] = {}

    def adopt(self, outcome: Outcome) -> None:
        """Enter an outcome of an earlier process: its trial may be open in the journal, closed, or lost with the journal's tail."""
        if self._running.pop(outcome.number, None) is not None:
            self._study.tell(outcome.number, _values(outcome), state=_state(outcome))
        elif outcome.number == self.asked:
            self.asked += 1
            known = optuna.create_trial(state=_state(outcome), values=_values(outcome), params=outcome.params, distributions=self.space)
            self._study.add_trial(known)

    def unfinished(self) -> list[tuple[int, dict[str, Any]]]:
        """The trials that an earlier process began and did not finish, with their values; what is missing is drawn now."""
        return [(number, self._again(number, self._running[number])) for number in sorted(self._running)]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The number and the values of the next trial."""
        number = self.asked
        self.asked += 1
        values = self._known(number)
        if values is not None:  # one line of the journal instead of one per value
            begun = optuna.create_trial(state=TrialState.RUNNING, params=values, distributions=self.space)
            self._open[number] = self._storage.create_new_trial(self._study_id, begun)
            return number, values
        self._study.sampler = sampler(self._search.sampler, self.space, self._seed, number)
        trial = self._study.ask(self.space)
        self._open[number] = trial._trial_id
        return number, {key: trial.params[key] for key in self.space}

    def judge(self, number: int, fold: int, value: float) -> bool:
        """Whether the pruner gives up a trial after this fold. Median and halving see the mean over the folds so far, Wilcoxon each one."""
        folds = self._folds.setdefault(number, [])
        folds.append(value)
        trial = optuna.Trial(self._study, self._open[number])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trial that is run again reports its folds again
            trial.report(value if self._search.pruner == "wilcoxon" else math.fsum(folds) / len(folds), fold)
            return bool(trial.should_prune())

    def tell(self, outcome: Outcome) -> None:
        """Close a trial. A duplicate carries the value of the trial that it repeats, so that the sampler learns the truth."""
        trial_id = self._open.pop(outcome.number)
        self._folds.pop(outcome.number, None)
        self._storage.set_trial_user_attr(trial_id, "outcome", {"state": outcome.state, "reason": outcome.reason})
        if self._numbered is not None:  # nobody learns
            self._storage.set_trial_state_values(trial_id, _state(outcome), _values(outcome))
        else:
            self._study.tell(outcome.number, _values(outcome), state=_state(outcome))

    def close(self) -> None:
        self._journal.close()

    def _known(self, number: int) -> dict[str, Any] | None:
        """The point of a trial that no sampler has to think about."""
        if number < len(self._fixed):
            return dict(self._fixed[number])
        return None if self._numbered is None else self._numbered(number - len(self._fixed))

    def _again(self, number: int, trial_id: int) -> dict[str, Any]:
        self._open[number] = trial_id
        self._study.sampler = sampler(self._search.sampler, self.space, self._seed, number)
        trial = optuna.Trial(self._study, trial_id)
        return {key: _suggested(trial, key, axis) for key, axis in self.space.items()}


def _state(outcome: Outcome) -> TrialState:
    return TrialState.COMPLETE if math.isfinite(outcome.value) else STATES[outcome.state]


def _values(outcome: Outcome) -> list[float] | None:
    return [outcome.value, *outcome.others] if math.isfinite(outcome.value) else None


def numbered(name: str, space: Space, seed: int) -> points.Point | None:
    """The points by trial number of a sampler that has them; None for one that learns."""
    if name == "grid":
        return points.grid(space)
    if name == "qmc":
        return points.sobol(space, seed)
    return points.uniform(space, seed) if name == "random" else None


class _Known:
    """A sampler that is told its space, instead of finding it in all earlier trials each time (optuna's own remembers it)."""

    space: Space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self.space


class _Cma(_Known, CmaEsSampler):
    pass


class _Tpe(_Known, TPESampler):
    pass


def sampler(name: str, space: Space, seed: int, number: int) -> BaseSampler:
    """The learning sampler of one trial, with random numbers of its own."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "nsga2":
        return NSGAIISampler(seed=own)
    if name == "cmaes":
        cma = _Cma(seed=own, warn_independent_sampling=False)
        cma.space = {key: axis for key, axis in space.items() if not (axis.single() or isinstance(axis, CategoricalDistribution))}
        return cma
    if name == "tpe":
        tpe = _Tpe(seed=own)
        tpe.space = {key: axis for key, axis in space.items() if not axis.single()}
        return tpe
    return RandomSampler(seed=own)


def pruner(name: str) -> BasePruner:
    """Median: below the median of the earlier trials. Halving: the better half goes on. Wilcoxon: below the best, fold by fold."""
    if name == "median":
        return MedianPruner(n_startup_trials=5)
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return WilcoxonPruner(p_threshold=0.1) if name == "wilcoxon" else NopPruner()


def planned(space: Space, search: schema.Search, fixed: int = 0) -> int:
    """The number of trials that `search` asks for. ConfigError where sampler and space do not fit; a grid is run whole or refused."""
    if search.sampler == "cmaes" and all(isinstance(axis, CategoricalDistribution) for axis in space.values()):
        raise ConfigError("search.sampler=cmaes needs numeric axes, and this space holds only choices", "use search.sampler=tpe or grid")
    if search.also and search.sampler == "cmaes":
        raise ConfigError("search.sampler=cmaes has one objective, and search.also names more", "use search.sampler=nsga2 or tpe")
    if search.also and search.pruner != "none":
        raise ConfigError(f"search.pruner={search.pruner} ranks by one objective, and search.also names more", "use search.pruner=none")
    if search.sampler != "grid":
        return search.trials
    count = fixed + math.prod(len(levels(key, axis)) for key, axis in space.items())
    if count > search.trials:
        raise ConfigError(
            f"the grid has {count} points, more than search.trials={search.trials}",
            f"set search.trials={count}, coarsen the ranges, or use search.sampler=qmc",
        )
    return count


def _suggested(trial: optuna.Trial, key: str, axis: BaseDistribution) -> Any:
    """The value that the journal holds for this trial, or the sampler's."""
    if isinstance(axis, IntDistribution):
        return trial.suggest_int(key, axis.low, axis.high, step=axis.step, log=axis.log)
    if isinstance(axis, FloatDistribution):
        return trial.suggest_float(key, axis.low, axis.high, step=axis.step, log=axis.log)
    assert isinstance(axis, CategoricalDistribution)  # noqa: S101 - the last kind of `space.distribution`
    return trial.suggest_categorical(key, axis.choices)
