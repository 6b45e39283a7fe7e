"""The Optuna door: which point to try next, and what came of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from mcl import DISTRIBUTION, schema
from mcl.errors import ConfigError
from mcl.search import notes, points
from mcl.search.mind import Mind, ending
from mcl.search.space import Space
from mcl.search.space import points as levels
from mcl.search.trial import Outcome


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
        self.space, self._fixed = space, fixed
        self._notes = notes.opened(search.storage, journal, name, [search.direction, *search.also.values()], space)
        self.close = self._notes.close
        self._numbered = numbered(search.sampler, space, seed)
        trials = self._notes.trials
        self.asked = len(trials)
        self._running = {trial.number: trial for trial in trials if not trial.state.is_finished()}
        self._open: dict[int, int] = {}  # trial number -> the id in the notes
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
            values, learned = self._mind.ask(number)
            self._write(values, learned)
        else:
            self._begin(values)
        return number, values

    def judge(self, number: int, fold: int, value: float) -> bool:
        """Whether the pruner gives up a trial after this fold. Median and halving see the mean over the folds so far, Wilcoxon each one."""
        assert self._mind is not None  # noqa: S101 - a search without a pruner has no judge
        shown, given_up = self._mind.judge(number, fold, value)
        self._notes.report(self._open[number], fold, shown)
        return given_up

    def tell(self, outcome: Outcome) -> None:
        """Close a trial. A duplicate carries the value of the trial that it repeats, so that the sampler learns the truth."""
        reason = {"state": outcome.state, "reason": outcome.reason} if outcome.reason else None  # for who looks with Optuna's dashboard
        self._notes.end(self._open.pop(outcome.number), *ending(outcome), reason)
        if self._mind is not None:
            self._mind.tell(outcome)

    def _begin(self, values: dict[str, Any]) -> None:
        """Begin the next trial at a point that is known: it needs no thought, or an earlier process has thought of it."""
        learned: dict[str, Any] = {}
        if self._mind is not None and self._known(self.asked) is None:
            learned = self._mind.ask(self.asked, values)[1]
        elif self._mind is not None:
            self._mind.begin(self.asked, values, {})
        self._write(values, learned)

    def _write(self, values: dict[str, Any], learned: dict[str, Any]) -> None:
        self._open[self.asked] = self._notes.begin(values, learned)
        self.asked += 1

    def _known(self, number: int) -> dict[str, Any] | None:
        """The point of a trial that no sampler has to think about."""
        if number < len(self._fixed):
            return dict(self._fixed[number])
        return None if self._numbered is None else self._numbered(number - len(self._fixed))


def numbered(name: str, space: Space, seed: int) -> points.Point | None:
    """The points by trial number of a sampler that has them; None for one that learns."""
    if name == "grid":
        return points.grid(space)
    if name == "qmc":
        return points.sobol(space, seed)
    return points.uniform(space, seed) if name == "random" else None


def _installed(search: schema.Search) -> None:
    """ConfigError where an optional part is not there, before anything is recorded."""
    asked = [("backend=ray", "ray", "ray")] if search.backend == "ray" else []
    asked += [("storage=postgresql", "psycopg", "postgres")] if search.storage == "postgresql" else []
    for what, package, extra in asked:
        if find_spec(package) is None:
            raise ConfigError(
                f"search.{what} needs the package {package}, which is not installed", f"pip install '{DISTRIBUTION}[{extra}]'"
            )
    if search.storage == "postgresql" and not os.environ.get("MCL_STUDY_URL", "").startswith("postgresql"):
        raise ConfigError("search.storage=postgresql needs MCL_STUDY_URL", "export MCL_STUDY_URL=postgresql+psycopg://user@host/database")


def planned(space: Space, search: schema.Search, fixed: int = 0) -> int:
    """The number of trials that `search` asks for. ConfigError where sampler and space do not fit; a grid is run whole or refused."""
    if search.sampler == "cmaes" and all(isinstance(axis, CategoricalDistribution) for axis in space.values()):
        raise ConfigError("search.sampler=cmaes needs numeric axes, and this space holds only choices", "use search.sampler=tpe or grid")
    _installed(search)
    if search.backend == "ray" and search.pruner != "none":
        raise ConfigError(
            f"search.pruner={search.pruner} asks after every fold, and search.backend=ray runs a trial whole", "use one of the two"
        )
    if search.metric in search.also:
        raise ConfigError(f"search.also names {search.metric} again, which is search.metric", "name another metric, or none")
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
