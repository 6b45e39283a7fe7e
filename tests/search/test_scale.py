"""Searches whose study is in PostgreSQL. The package and the server are optional. `test_ray.py` has
the workers of other hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from servers import mlflow, postgresql, without_postgresql

from mcl import composition
from mcl.base.errors import ConfigError, StoreError
from mcl.search.trial import Outcome

from .conftest import Project

COMPARED = ["trial", "strategy.fast", "strategy.slow", "state", "reason", "value", "net_pnl_usd"]
TYPED = ["search.sampler=qmc", "search.trials=16"]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of an own PostgreSQL server."""
    if missing := without_postgresql():
        pytest.skip(missing)
    with postgresql() as port:
        yield f"postgresql+psycopg://mcl@127.0.0.1:{port}/mcl"


def test_a_study_in_postgresql_finds_the_same_and_goes_on(
    project: Project, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    monkeypatch.setenv("MCL_STUDY_URL", database)
    whole = project.sweep("search.sampler=tpe", "search.trials=16")
    on_server = project.sweep("search.sampler=tpe", "search.trials=9", "search.storage=postgresql")
    grown = project.resume(on_server.sweep_id, trials=16)
    pd.testing.assert_frame_equal(grown.trials[COMPARED], whole.trials[COMPARED])
    storage = optuna.storages.RDBStorage(database)
    assert len(optuna.load_study(study_name=on_server.sweep_id, storage=storage).trials) == 16
    storage.engine.dispose()
    monkeypatch.setenv("MCL_STUDY_URL", "postgresql+psycopg://mcl:secret@127.0.0.1:1/none")
    with pytest.raises(
        StoreError, match="the database of MCL_STUDY_URL refuses: OperationalError"
    ) as refused:
        project.sweep(*TYPED, "search.storage=postgresql")
    assert "secret" not in str(refused.value)


def test_a_database_that_is_lost_ends_the_search_and_costs_nothing(
    project: Project, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tables of the study are gone in the middle: a sentence; resumed, it is made again from
    the outcomes of the parent's disk.
    """
    import psycopg

    from mcl.search.study import Study

    tell = Study.tell

    def lose(self: Study, outcome: Outcome) -> None:
        if outcome.number == 5:
            with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        tell(self, outcome)

    monkeypatch.setenv("MCL_STUDY_URL", database)
    whole = project.sweep(*TYPED)
    monkeypatch.setattr(Study, "tell", lose)
    with pytest.raises(StoreError, match="MCL_STUDY_URL refuses: ProgrammingError"):
        project.sweep(*TYPED, "search.storage=postgresql", "search.name=lost")
    monkeypatch.setattr(Study, "tell", tell)
    again = project.resume("lost")
    pd.testing.assert_frame_equal(again.trials[COMPARED], whole.trials[COMPARED])
    assert again.trials["trial"].tolist() == list(range(16))


def test_a_database_needs_an_address(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="mcl[postgres] is not installed")
    monkeypatch.delenv("MCL_STUDY_URL", raising=False)
    with pytest.raises(ConfigError, match="needs MCL_STUDY_URL"):
        project.sweep(*TYPED, "search.storage=postgresql")


# MLflow keeps its connections open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_restart_of_postgresql_costs_no_trial(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Study and rows are in one PostgreSQL, the rows written past the server. It is killed and
    started again in the middle.
    """
    if missing := without_postgresql():
        pytest.skip(missing)
    from mcl.search.study import Study
    from mcl.tracking import backtest_run
    from mcl.tracking.store import Store

    tell = Study.tell
    whole = project.sweep(*TYPED)
    with (
        postgresql() as port,
        mlflow(tmp_path, f"postgresql+psycopg://mcl@127.0.0.1:{port}/mcl") as uri,
    ):
        restarts: list[int] = []

        def restart(self: Study, outcome: Outcome) -> None:
            if outcome.number == 7 and not restarts:
                port.restart()
                restarts.append(outcome.number)
            tell(self, outcome)

        with created(port, "study") as study:
            monkeypatch.setenv("MCL_STUDY_URL", study)
            monkeypatch.setenv("MCL_STORE_URL", f"postgresql+psycopg://mcl@127.0.0.1:{port}/mcl")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            monkeypatch.setattr(Study, "tell", restart)
            monkeypatch.setattr("mcl.search.recorder.BATCH", 3)
            served = Project(project.root, Store(project.root))
            assert served.store.connection.server_database
            sweep_result = served.sweep(
                *TYPED, "search.storage=postgresql", "search.name=restarted"
            )
            assert len(restarts) == 1
            pd.testing.assert_frame_equal(sweep_result.trials[COMPARED], whole.trials[COMPARED])
            rows = [
                run
                for run in served.store.children(sweep_result.sweep_id)
                if run.tags["mcl.kind"] == "trial"
            ]
            assert sorted(int(run.tags["trial"]) for run in rows) == list(range(16))
            complete = next(run for run in rows if run.tags["state"] == "COMPLETE")
            assert (
                composition.fingerprint(backtest_run.stored_config(complete))
                == complete.tags["config_sha256"]
            )
            assert optuna_trials(study, f"restarted {sweep_result.sweep_id[:12]}") == list(
                range(16)
            )


@contextmanager
def created(port: int, name: str) -> Iterator[str]:
    import psycopg

    with psycopg.connect(
        f"postgresql://mcl@127.0.0.1:{port}/postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield f"postgresql+psycopg://mcl@127.0.0.1:{port}/{name}"


def optuna_trials(address: str, name: str) -> list[int]:
    import optuna

    storage = optuna.storages.RDBStorage(address)
    try:
        return sorted(
            trial.number for trial in optuna.load_study(study_name=name, storage=storage).trials
        )
    finally:
        storage.engine.dispose()


@pytest.mark.parametrize(
    ("typed", "package"), [("search.backend=ray", "ray"), ("search.storage=postgresql", "psycopg")]
)
def test_what_is_not_installed_is_named_before_anything_is_recorded(
    project: Project, typed: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcl.search.study.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}, which is not installed"):
        project.sweep(*TYPED, typed, "study=refused")
    assert project.store.in_study("refused") == []
