"""Where the trials of a study are written down: a journal file that Optuna's own tools open, or a database of Optuna's."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import JournalStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from mcl.errors import StoreError
from mcl.network import verified_database
from mcl.search.journal import Journal, Lines
from mcl.search.space import Space

Direction = Literal["maximize", "minimize"]
CREATE_TRIAL, SET_STATE, SET_FOLD, SET_ATTR = 4, 6, 7, 8  # operations of Optuna's journal


class Notes(Protocol):
    """A trial's id is the notes' own: `begin` returns it, and `trials` (of earlier processes, by number) carry it."""

    trials: list[FrozenTrial]

    def begin(self, values: dict[str, Any], learned: dict[str, Any]) -> int: ...
    def report(self, trial: int, fold: int, value: float) -> None: ...
    def end(self, trial: int, state: TrialState, values: Sequence[float] | None, reason: dict[str, str] | None) -> None: ...
    def close(self) -> None: ...


def opened(kind: str, journal: Path, study: str, directions: Sequence[Direction], space: Space) -> Notes:
    """The notes of a study, new or of an earlier process."""
    return InJournal(journal, study, directions, space) if kind == "journal" else InDatabase(study, directions, space)


class InJournal:
    """The notes in a file of their own: read through Optuna once, when it is opened, and then written as Optuna writes it.

    Optuna replays each line that it writes, with a new object for every axis of the space: a third of a millisecond for every trial.
    """

    def __init__(self, path: Path, study: str, directions: Sequence[Direction], space: Space) -> None:
        self._lines = Lines(path)
        storage = JournalStorage(Journal(self._lines))
        known = optuna.create_study(study_name=study, storage=storage, directions=directions, load_if_exists=True)
        self.trials = known.get_trials(deepcopy=False)
        self._space, self._count = space, len(self.trials)
        self._writer = f"{uuid.uuid4()}-0"
        self._axes = {key: distribution_to_json(axis) for key, axis in space.items()}

    def begin(self, values: dict[str, Any], learned: dict[str, Any]) -> int:
        """Of a journal that holds one study, the ids are the numbers."""
        self._write(
            self._line(
                CREATE_TRIAL,
                study_id=0,
                datetime_start=_now(),
                state=TrialState.RUNNING,
                value=None,
                values=None,
                distributions=self._axes,
                params={key: axis.to_internal_repr(values[key]) for key, axis in self._space.items()},
                user_attrs={},
                system_attrs=learned,
                intermediate_values={},
            )
        )
        self._count += 1
        return self._count - 1

    def report(self, trial: int, fold: int, value: float) -> None:
        self._write(self._line(SET_FOLD, trial_id=trial, step=fold, intermediate_value=value))

    def end(self, trial: int, state: TrialState, values: Sequence[float] | None, reason: dict[str, str] | None) -> None:
        told = [self._line(SET_ATTR, trial_id=trial, user_attr={"outcome": reason})] if reason else []
        self._write(*told, self._line(SET_STATE, trial_id=trial, state=state, values=values, datetime_complete=_now()))

    def close(self) -> None:
        self._lines.close()

    def _line(self, operation: int, **fields: Any) -> dict[str, Any]:
        return {"op_code": operation, "worker_id": self._writer, **fields}

    def _write(self, *lines: dict[str, Any]) -> None:
        self._lines.append(list(lines))


class InDatabase:
    """The notes in the database of MCL_STUDY_URL. Its address is a secret: it comes from the environment only, and no error shows it."""

    def __init__(self, study: str, directions: Sequence[Direction], space: Space) -> None:
        self._space = space
        with _refusals():
            self._storage = RDBStorage(verified_database(os.environ["MCL_STUDY_URL"]))
            known = optuna.create_study(study_name=study, storage=self._storage, directions=directions, load_if_exists=True)
            self._study, self.trials = known._study_id, known.get_trials(deepcopy=False)

    def begin(self, values: dict[str, Any], learned: dict[str, Any]) -> int:
        begun = optuna.create_trial(state=TrialState.RUNNING, params=values, distributions=self._space, system_attrs=learned)
        with _refusals():
            return self._storage.create_new_trial(self._study, begun)

    def report(self, trial: int, fold: int, value: float) -> None:
        with _refusals():
            self._storage.set_trial_intermediate_value(trial, fold, value)

    def end(self, trial: int, state: TrialState, values: Sequence[float] | None, reason: dict[str, str] | None) -> None:
        with _refusals():
            if reason:
                self._storage.set_trial_user_attr(trial, "outcome", reason)
            self._storage.set_trial_state_values(trial, state, values)

    def close(self) -> None:
        self._storage.engine.dispose()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextmanager
def _refusals() -> Iterator[None]:
    """Errors of a study's database as one sentence, without its address, which may hold a password."""
    try:
        yield
    except Exception as error:
        told = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
        if type(told).__module__.split(".")[0] not in ("sqlalchemy", "psycopg"):
            raise
        hint = "is the server up, the name and password right? mcl sweep resume goes on afterwards"
        if "certificate" in str(told) or "SSL" in str(told):
            hint = "its certificate could not be verified: MCL_DATABASE_CA names a file with the authority that signed it"
        raise StoreError(f"the database of MCL_STUDY_URL refuses: {type(told).__name__}", hint) from None
