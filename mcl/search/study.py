"""The Optuna door: which point to try next, and what came of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mcl import schema
from mcl.errors import ConfigError
from mcl.search.journal import Journal
from mcl.search.space import Space, combinations, points
from mcl.search.trial import Outcome

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


class Study:
    """Ask and tell over a journal file. The points of grid, random and QMC depend on the seed and the trial number alone, whatever
    the number of workers; the other samplers learn from finished trials, so only a single worker repeats them exactly."""

    def __init__(self, name: str, journal: Path, space: Space, search: schema.Search, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = space
        self._journal = Journal(journal)
        self._grid: Iterator[dict[str, Any]] | None = combinations(space) if search.sampler == "grid" else None
        self._study = optuna.create_study(
            study_name=name,
            storage=optuna.storages.JournalStorage(self._journal),
            direction=search.direction,
            sampler=sampler(search.sampler, space, seed),
        )
        self._open: dict[int, optuna.Trial] = {}

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The number and the values of the next trial."""
        if self._grid is not None:
            self._study.enqueue_trial(next(self._grid))
        trial = self._study.ask(self.space)
        self._open[trial.number] = trial
        return trial.number, {key: trial.params[key] for key in self.space}

    def tell(self, outcome: Outcome) -> None:
        """Close a trial. A duplicate carries the value of the trial that it repeats, so that the sampler learns the truth."""
        trial = self._open.pop(outcome.number)
        trial.set_user_attr("outcome", {"state": outcome.state, "reason": outcome.reason, "metrics": outcome.metrics})
        scored = outcome.value == outcome.value  # not NaN
        self._study.tell(trial, outcome.value if scored else None, state=TrialState.COMPLETE if scored else STATES[outcome.state])

    def close(self) -> None:
        self._journal.close()


class _Sobol(QMCSampler):
    """Scrambled Sobol points over a space known from the start: optuna's own needs a finished trial to know it, which depends on timing."""

    def __init__(self, space: Space, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # in optuna since 3.0
            super().__init__(seed=seed, scramble=True, warn_independent_sampling=False)
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return dict(self._space)


def sampler(name: str, space: Space, seed: int) -> BaseSampler:
    if name == "cmaes":
        return CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if name == "qmc":
        return _Sobol(space, seed)
    if name == "nsga2":
        return NSGAIISampler(seed=seed)
    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)


def planned(space: Space, search: schema.Search) -> int:
    """The number of trials that `search` asks for. ConfigError where sampler and space do not fit; a grid is run whole or refused."""
    if search.sampler == "cmaes" and all(isinstance(axis, CategoricalDistribution) for axis in space.values()):
        raise ConfigError("search.sampler=cmaes needs numeric axes, and this space holds only choices", "use search.sampler=tpe or grid")
    if search.sampler != "grid":
        return search.trials
    count = math.prod(len(points(key, axis)) for key, axis in space.items())
    if count > search.trials:
        raise ConfigError(
            f"the grid has {count} points, more than search.trials={search.trials}",
            f"set search.trials={count}, coarsen the ranges, or use search.sampler=qmc",
        )
    return count
