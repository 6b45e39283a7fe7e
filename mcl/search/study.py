"""The Optuna door: which point to try next, and what came of it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mcl import schema
from mcl.errors import ConfigError, StoreError
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

    What a sampler or a pruner knows lives in memory (`Mind`); the journal gets a trial in one line, when its point is known, and
    another when it is told, with everything that a later process needs to make the same mind again.
    """

    def __init__(
        self, name: str, journal: Path, space: Space, search: schema.Search, seed: int, fixed: Sequence[dict[str, Any]] = ()
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self._search, self._fixed = space, search, fixed
        self._storage, self.close = opened(search.storage, journal)
        self._numbered = numbered(search.sampler, space, seed)
        directions = [search.direction, *search.also.values()]
        with refusals():
            study = optuna.create_study(study_name=name, storage=self._storage, directions=directions, load_if_exists=True)
        self._study_id = study._study_id
        trials = study.get_trials(deepcopy=False)
        self.asked = len(trials)
        self._running = {trial.number: trial for trial in trials if not trial.state.is_finished()}
        self._open: dict[int, int] = {}  # trial number -> the journal's id
        self._mind = Mind(space, search, seed, trials) if self._numbered is None or search.pruner != "none" else None

    def adopt(self, outcome: Outcome) -> None:
        """Enter an outcome of an earlier process: its trial may be open in the journal, closed, or lost with the journal's tail."""
        begun = self._running.pop(outcome.number, None)
        if begun is not None:
            self._open[outcome.number] = begun._trial_id
            self.tell(outcome)
        elif outcome.number == self.asked:
            self._begin(outcome.params)
            self.tell(outcome)

    def unfinished(self) -> list[tuple[int, dict[str, Any]]]:
        """The trials that an earlier process began and did not finish, with their values."""
        self._open |= {number: trial._trial_id for number, trial in self._running.items()}
        return [(number, {key: self._running[number].params[key] for key in self.space}) for number in sorted(self._running)]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The number and the values of the next trial."""
        number, values = self.asked, self._known(self.asked)
        if values is None:
            assert self._mind is not None  # noqa: S101 - a sampler that numbers its points knows them all
            values = self._mind.ask(number)
            self._write(values, self._mind.learned(number))
        else:
            self._begin(values)
        return number, values

    def judge(self, number: int, fold: int, value: float) -> bool:
        """Whether the pruner gives up a trial after this fold. Median and halving see the mean over the folds so far, Wilcoxon each one."""
        assert self._mind is not None  # noqa: S101 - a search without a pruner has no judge
        shown, given_up = self._mind.judge(number, fold, value)
        with refusals():
            self._storage.set_trial_intermediate_value(self._open[number], fold, shown)
        return given_up

    def tell(self, outcome: Outcome) -> None:
        """Close a trial. A duplicate carries the value of the trial that it repeats, so that the sampler learns the truth."""
        trial_id = self._open.pop(outcome.number)
        with refusals():
            if outcome.reason:  # for who looks with Optuna's own dashboard
                self._storage.set_trial_user_attr(trial_id, "outcome", {"state": outcome.state, "reason": outcome.reason})
            self._storage.set_trial_state_values(trial_id, _state(outcome), _values(outcome))
        if self._mind is not None:
            self._mind.tell(outcome)

    def _begin(self, values: dict[str, Any]) -> None:
        """Begin the next trial at a point that no sampler has thought of."""
        if self._mind is not None:
            self._mind.add(values)
        self._write(values, {})

    def _write(self, values: dict[str, Any], learned: dict[str, Any]) -> None:
        begun = optuna.create_trial(state=TrialState.RUNNING, params=values, distributions=self.space, system_attrs=learned)
        with refusals():
            self._open[self.asked] = self._storage.create_new_trial(self._study_id, begun)
        self.asked += 1

    def _known(self, number: int) -> dict[str, Any] | None:
        """The point of a trial that no sampler has to think about."""
        if number < len(self._fixed):
            return dict(self._fixed[number])
        return None if self._numbered is None else self._numbered(number - len(self._fixed))


def opened(kind: str, journal: Path) -> tuple[optuna.storages.BaseStorage, Callable[[], None]]:
    """Where a study is kept, and how that is closed. The address of a database is a secret: it comes from the environment only."""
    if kind == "journal":
        lines = Journal(journal)
        return optuna.storages.JournalStorage(lines), lines.close
    with refusals():
        storage = optuna.storages.RDBStorage(os.environ["MCL_STUDY_URL"])
    return storage, storage.engine.dispose


@contextmanager
def refusals() -> Iterator[None]:
    """Errors of a study's database as one sentence, without its address, which may hold a password."""
    try:
        yield
    except Exception as error:
        told = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
        if type(told).__module__.split(".")[0] not in ("sqlalchemy", "psycopg"):
            raise
        hint = "is the server up, the name and password right? mcl sweep resume goes on afterwards"
        raise StoreError(f"the database of MCL_STUDY_URL refuses: {type(told).__name__}", hint) from None


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
        self._storage.set_trial_state_values(self._id(outcome.number), _state(outcome), _values(outcome))

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


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


def _installed(search: schema.Search) -> None:
    """ConfigError where an optional part is not there, before anything is recorded."""
    asked = [("backend=ray", "ray", "ray")] if search.backend == "ray" else []
    asked += [("storage=postgresql", "psycopg", "postgres")] if search.storage == "postgresql" else []
    for what, package, extra in asked:
        if find_spec(package) is None:
            raise ConfigError(f"search.{what} needs the package {package}, which is not installed", f"pip install 'mcl[{extra}]'")
    if search.storage == "postgresql" and not os.environ.get("MCL_STUDY_URL", "").startswith("postgresql"):
        raise ConfigError("search.storage=postgresql needs MCL_STUDY_URL", "export MCL_STUDY_URL=postgresql+psycopg://user@host/database")


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


def planned(space: Space, search: schema.Search, fixed: int = 0) -> int:
    """The number of trials that `search` asks for. ConfigError where sampler and space do not fit; a grid is run whole or refused."""
    if search.sampler == "cmaes" and all(isinstance(axis, CategoricalDistribution) for axis in space.values()):
        raise ConfigError("search.sampler=cmaes needs numeric axes, and this space holds only choices", "use search.sampler=tpe or grid")
    _installed(search)
    if search.backend == "ray" and search.pruner != "none":
        raise ConfigError(
            f"search.pruner={search.pruner} asks after every fold, and search.backend=ray runs a trial whole", "use one of the two"
        )
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
