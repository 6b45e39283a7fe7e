"""The Optuna study of a search as Optuna's own tools read it: a view of the trial log, which can be
made from it again.

Trials are added in the order of their numbers, each when all before it have ended. A view that does
not agree with the log (a torn file, a lost database, one of version 0.1) is made anew.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from mcl.base.errors import StoreError
from mcl.base.network import verified_database
from mcl.config import schema
from mcl.search.json_lines import JsonLinesFile
from mcl.search.space import Space
from mcl.search.trial import Outcome

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAILED": TrialState.FAIL}


def study_name(search: schema.Search, sweep_id: str) -> str:
    """The search's name and the beginning of its id, since two searches may have one name; the id
    where it has none.
    """
    return f"{search.name} {sweep_id[:12]}" if search.name else sweep_id


def ending(outcome: Outcome) -> tuple[TrialState, list[float] | None]:
    """The state and the values of an outcome in a study. A value makes a trial complete, whatever
    its state.
    """
    if math.isfinite(outcome.value):
        return TrialState.COMPLETE, [outcome.value, *outcome.others]
    return STATES[outcome.state], None


class StudyView:
    """Write trials to a study that Optuna's tools can open. `count` trials are in it, `add` adds
    the next one. StoreError where the file or the database refuses.
    """

    def __init__(
        self,
        sweep_id: str,
        path: Path,
        space: Space,
        search: schema.Search,
        outcomes: Mapping[int, Outcome],
    ) -> None:
        self._space, self._search, self._path = space, search, path
        self._name = study_name(search, sweep_id)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._lines: JsonLinesFile | None = None
        self._storage: BaseStorage
        with _refusals():
            self._storage = self._opened()
            self._study = self._load()
            if not self._agrees(outcomes):
                self._discard()
                self._study = self._load()
            self.count = len(self._study.get_trials(deepcopy=False))

    def add(self, outcome: Outcome) -> None:
        trial = optuna.create_trial(
            state=ending(outcome)[0],
            values=ending(outcome)[1],
            params=outcome.params,
            distributions={key: self._space[key] for key in outcome.params},
            user_attrs=_attributes(outcome),
            intermediate_values={int(fold): value for fold, value in outcome.folds},
            constraints=dict(zip(self._search.soft_constraints, outcome.excess, strict=False)),
        )
        trial.datetime_complete = datetime.now()
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=outcome.seconds)
        with _refusals():
            self._study.add_trial(trial)
        self.count += 1

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    def _opened(self) -> BaseStorage:
        if self._search.storage == "postgresql":
            address = verified_database(os.environ["MCL_STUDY_URL"])
            # A connection is tried before it is used: a server that was restarted in between costs
            # nothing.
            return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
        try:
            return self._journal()
        except (StoreError, KeyError, ValueError, AssertionError):  # damaged: it is only a view
            if self._lines is not None:
                self._lines.close()
            self._path.unlink()
            return self._journal()

    def _journal(self) -> BaseStorage:
        self._lines = JsonLinesFile(self._path)
        return JournalStorage(_Journal(self._lines))

    def _load(self) -> optuna.Study:
        search = self._search
        present = self._name in optuna.get_all_study_names(self._storage)
        study = optuna.create_study(
            study_name=self._name,
            storage=self._storage,
            directions=[search.direction, *search.also.values()],
            load_if_exists=True,
        )
        if not present:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names([search.metric, *search.also])
            study.set_user_attr("search", search.name or self._name)
            study.set_user_attr("sampler", search.sampler)
        return study

    def _agrees(self, outcomes: Mapping[int, Outcome]) -> bool:
        """Whether the study's trials are the first of the log, and the file holds no other
        study.
        """
        if self._lines is not None and optuna.get_all_study_names(self._storage) != [self._name]:
            return False
        trials = self._study.get_trials(deepcopy=False)
        return all(
            trial.number in outcomes and _same(trial, outcomes[trial.number]) for trial in trials
        )

    def _discard(self) -> None:
        if self._lines is None:
            optuna.delete_study(study_name=self._name, storage=self._storage)
            return
        self._lines.close()
        self._path.unlink()
        self._storage = self._journal()


class _Journal(BaseJournalBackend):
    """Keep Optuna's journal in a `JsonLinesFile` and in memory: no other process writes it.

    Optuna's own file backend locks, reads again and syncs for every operation (about 7 ms a trial).
    """

    def __init__(self, lines: JsonLinesFile) -> None:
        self._lines, self._logs = lines, list(lines.read())

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lines.append(logs)
        self._logs += logs


def _attributes(outcome: Outcome) -> dict[str, Any]:
    """The attributes of a trial in a dashboard: its metrics, and why it has no score."""
    finite = {name: value for name, value in outcome.metrics.items() if math.isfinite(value)}
    reason = {"state": outcome.state, "reason": outcome.reason, "detail": outcome.detail[:500]}
    return finite | (reason if outcome.reason else {})


def _same(trial: FrozenTrial, outcome: Outcome) -> bool:
    state, values = ending(outcome)
    return (
        trial.params == outcome.params
        and trial.state == state
        and (values is None or trial.values == values)
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Errors of a study's database as one sentence, without its address, which may hold a
    password.
    """
    try:
        yield
    except Exception as error:
        cause = (
            error.__cause__
            if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__
            else error
        )
        if type(cause).__module__.split(".")[0] not in ("sqlalchemy", "psycopg"):
            raise
        hint = (
            "is the server up, the name and password right? mcl sweep resume continues afterwards"
        )
        if "certificate" in str(cause) or "SSL" in str(cause):
            hint = (
                "its certificate could not be verified: MCL_DATABASE_CA names a file with the"
                " authority that signed it"
            )
        raise StoreError(
            f"the database of MCL_STUDY_URL refuses: {type(cause).__name__}", hint
        ) from None
