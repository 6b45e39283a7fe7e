"""A store is judged by the columns that mcl writes: those of every MLflow that it was tested with
fit, a change that matters does not.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcl.base.errors import StoreError
from mcl.ops import doctor
from mcl.tracking import schema, sqlite_writer
from mcl.tracking.store import Record, Store

SCHEMAS = {
    path.stem: path.read_text()
    for path in sorted(Path(__file__).with_name("schemas").glob("*.sql"))
}
RECORD = Record(
    "study",
    "a run",
    params={"a": 1},
    metrics={"sharpe": 1.5},
    tags={"mcl.kind": "trial"},
    files={"config.json": b"{}"},
)


def database(path: Path, version: str, *changes: str) -> Path:
    """The tables of a real MLflow store, with changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMAS[version] + "".join(f"{change};" for change in changes))
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose store the installed MLflow made."""
    Store(tmp_path).record(RECORD)
    return tmp_path


def change(project: Path, *statements: str) -> Store:
    """The store in a folder of its own, its schema changed: MLflow looks at the schema of an
    address once in a process.
    """
    other = project / "other"
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as source:
        (other / "mlruns").mkdir(parents=True)
        with closing(sqlite3.connect(other / "mlruns" / "mlflow.db")) as connection, connection:
            source.backup(connection)
            for statement in statements:
                connection.execute(statement)
    return Store(other)


def test_every_tested_mlflow_has_its_tables_here() -> None:
    assert sorted(SCHEMAS) == sorted(schema.TESTED.values())
    assert len(SCHEMAS) >= 2


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_run_is_written_into_the_tables_of_every_tested_mlflow(
    version: str, tmp_path: Path
) -> None:
    path = database(
        tmp_path / "mlflow.db",
        version,
        "INSERT INTO experiments (name, workspace) VALUES ('study', 'default')",
    )
    assert sqlite_writer.objections(path) == []
    assert schema.TESTED[sqlite_writer.revision(path)] == version
    place = sqlite_writer.Experiment(1, "file:///nowhere", tmp_path / "artifacts")
    row = sqlite_writer.RunRow(
        "a run",
        "FINISHED",
        {"a": "b"},
        {"fast": "10"},
        {"sharpe": 1.5},
        {"equity": [(0, 1.0), (1, 2.0)]},
        {"x": b"y"},
    )
    [run_id] = sqlite_writer.insert(path, place, [row])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT status, name FROM runs").fetchall() == [
            ("FINISHED", "a run")
        ]
        assert dict(connection.execute("SELECT key, value FROM latest_metrics")) == {
            "sharpe": 1.5,
            "equity": 2.0,
        }
        assert connection.execute(
            "SELECT value FROM params WHERE run_uuid = ?", (run_id,)
        ).fetchall() == [("10",)]


def test_a_later_mlflow_with_the_same_columns_needs_no_release(project: Path) -> None:
    """Its revision is unknown, and it has another table and a column more that a row may leave
    out.
    """
    store = change(
        project,
        "UPDATE alembic_version SET version_num = 'ffff00001111'",
        "CREATE TABLE agents (id INTEGER PRIMARY KEY)",
        "ALTER TABLE runs ADD COLUMN workspace VARCHAR(63) DEFAULT 'default'",
        "ALTER TABLE metrics ADD COLUMN note TEXT",
        "ALTER TABLE params ADD COLUMN shown BOOLEAN NOT NULL DEFAULT 1",
    )
    assert store.connection.takes_bulk
    assert len(store.record_many([RECORD])) == 1
    [finding] = [f for f in doctor.examine(store.root) if f.subject == "run store"]
    assert finding.level == "note"
    assert (
        "schema ffff00001111, which mcl was not tested with (it was with MLflow 3.17 and 3.18)"
        in finding.detail
    )
    assert "the tables that mcl writes are the same" in finding.detail


@pytest.mark.parametrize(
    ("statements", "clause"),
    [
        (["ALTER TABLE runs RENAME COLUMN status TO state"], "runs has no column status"),
        (["ALTER TABLE tags ADD COLUMN scope TEXT NOT NULL DEFAULT ''"], ""),
        (["DROP TABLE input_tags"], "there is no table input_tags"),
        (
            [
                "DROP TABLE params",
                (
                    "CREATE TABLE params (key TEXT, value INTEGER, run_uuid TEXT, PRIMARY KEY (key,"
                    " run_uuid))"
                ),
            ],
            "params.value is integer, not text",
        ),
        (
            [
                "DROP TABLE params",
                "CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT, PRIMARY KEY (run_uuid))",
            ],
            "the key of params is (run_uuid)",
        ),
        (
            [
                "DROP TABLE params",
                (
                    "CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT, kind TEXT NOT NULL,"
                    " PRIMARY KEY (key, run_uuid))"
                ),
            ],
            "params has a column kind that every row needs",
        ),
        (
            ["CREATE TRIGGER count_runs AFTER INSERT ON runs BEGIN SELECT 1; END"],
            "runs has a trigger count_runs",
        ),
    ],
)
@pytest.mark.parametrize("version", SCHEMAS)
def test_a_change_that_matters_is_named(
    tmp_path: Path, version: str, statements: list[str], clause: str
) -> None:
    assert sqlite_writer.objections(database(tmp_path / "mlflow.db", version, *statements)) == (
        [clause] if clause else []
    )


def test_other_tables_go_through_the_client_and_a_sentence_says_so(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = change(project, "CREATE TRIGGER count_runs AFTER INSERT ON runs BEGIN SELECT 1; END")
    with caplog.at_level(logging.WARNING, "mcl"):
        run_id = store.record_many([RECORD])[0]
        store.record(RECORD)
    assert store.run(run_id).metrics["sharpe"] == 1.5
    assert [record.getMessage() for record in caplog.records] == [
        f"the run store {store.uri} is written through MLflow's client, which is slower: runs has a"
        " trigger count_runs"
    ]
    [finding] = [f for f in doctor.examine(store.root) if f.subject == "run store"]
    assert "written through MLflow's client, since runs has a trigger count_runs" in finding.detail


def test_a_store_of_a_newer_mlflow_takes_runs_and_refuses_the_client(project: Path) -> None:
    store = change(project, "UPDATE alembic_version SET version_num = 'ffff00001111'")
    run_id = store.start(RECORD)  # its tables are as they were
    store.finish(run_id, RECORD)
    assert store.run(run_id).status == "FINISHED"
    with pytest.raises(
        StoreError, match=r"has schema ffff00001111, .* and MLflow [\d.]+ does not know it"
    ) as refused:
        store.discard([run_id])  # by the client, which looks at the revision
    assert store.connection.studies()
    assert "install the MLflow that made it" in (refused.value.hint or "")


def test_a_store_of_an_older_mlflow_says_how_to_upgrade_it(project: Path) -> None:
    older = "451aebb31d03"  # one of MLflow's first revisions
    assert schema.migrates(older)
    store = change(project, f"UPDATE alembic_version SET version_num = '{older}'")
    with pytest.raises(
        StoreError, match=rf"has schema {older}, .* and MLflow [\d.]+ needs its own"
    ) as refused:
        store.discard([store.start(RECORD)])
    assert refused.value.hint == f"mcl store backup --to FILE, then mlflow db upgrade {store.uri}"
