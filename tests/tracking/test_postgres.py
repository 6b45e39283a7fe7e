"""Runs written straight into the PostgreSQL of a real MLflow server are those that MLflow's own
client writes through it.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from servers import PostgresPort, mlflow, postgresql, without_postgresql

from mcl.base.errors import ConfigError, StoreError
from mcl.tracking import postgres, schema, sqlite_writer
from mcl.tracking.naming import RunDataset
from mcl.tracking.store import Record, Store

RECORD = Record(
    study="served",
    name="trial 1",
    params={"strategy.fast": 10, "notes": "x" * 700, "costs.slippage_ticks": 0.5},
    metrics={"sharpe": 1.25, "calmar": math.nan, "sortino": math.inf},
    tags={"mcl.kind": "trial", "state": "COMPLETE", "reason": ""},
    series={"curve/equity_usd": [(0, 1.0), (1, math.nan), (7, 2.0)]},
    dataset=RunDataset("walk", "abc", "local", '{"a": 1}', '{"b": 2}', '{"c": 3}'),
    files={"config.json": b'{"capital_usd": 25000}'},
)
COMPARED = {
    "runs": (
        "name, source_type, source_name, entry_point_name, user_id, status, source_version,"
        " lifecycle_stage, experiment_id, deleted_time, end_time >= start_time,"
        " replace(artifact_uri, run_uuid, 'RUN')"
    ),
    "tags": "key, value",
    "params": "key, value",
    "metrics": "key, value, is_nan, timestamp, step",
    "latest_metrics": "key, value, is_nan, timestamp, step",
}
INPUTS = """SELECT inputs.source_type, inputs.destination_type, inputs.step, datasets.*,
    input_tags.name, input_tags.value
FROM inputs JOIN datasets ON datasets.dataset_uuid = inputs.source_id
JOIN input_tags USING (input_uuid) WHERE inputs.destination_id = %s"""
# MLflow keeps its connections open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@dataclass(frozen=True)
class Served:
    """A server on PostgreSQL."""

    uri: str
    port: PostgresPort
    log: Path
    root: Path

    def address(self, database: str = "mcl", user: str = "mcl") -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.address().replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def rows(self, run_id: str) -> dict[str, list[tuple[Any, ...]]]:
        """All that the tables hold of a run, without its id."""
        by_table = {
            t: sorted(self.ask(f"SELECT {columns} FROM {t} WHERE run_uuid = %s", run_id))
            for t, columns in COMPARED.items()
        }
        return by_table | {"inputs": self.ask(INPUTS, run_id)}

    def requests(self) -> int:
        return self.log.read_text().count(" HTTP/1.1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if missing := without_postgresql():
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("served")
    with (
        postgresql() as port,
        mlflow(folder, f"postgresql+psycopg://mcl@127.0.0.1:{port}/mcl") as uri,
    ):
        yield Served(uri, port, folder / "server.log", folder)


@pytest.fixture(autouse=True)
def environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.uri)
    monkeypatch.setenv(postgres.ADDRESS, served.address())


def by_client(served: Served, monkeypatch: pytest.MonkeyPatch) -> Store:
    with monkeypatch.context() as patch:
        patch.delenv(postgres.ADDRESS)
        store = Store(served.root)
        assert store.connection.server_database is None
        return store


@pytest.mark.parametrize("text", ["plain", 'é\u2028😀 "\\u0000" \\ \t\n\\N'])
def test_bulk_and_client_write_the_same(
    served: Served, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, direct = by_client(served, monkeypatch), Store(served.root)
    parent = client.start(Record("served", "parent"))
    record = replace(
        RECORD,
        parent=parent,
        params=RECORD.params | {"text": text},
        tags=RECORD.tags | {"text": text},
    )
    before = served.requests()
    [ours] = direct.record_many([record])
    assert served.requests() - before <= 2  # the study, once; nothing of the run
    [theirs] = client.record_many([record])
    rows = served.rows(ours)
    assert rows == served.rows(theirs)
    assert [
        len(rows[table]) for table in ("runs", "params", "metrics", "latest_metrics", "inputs")
    ] == [1, 4, 5, 3, 1]
    assert ("text", text) in rows["params"]
    stored = direct.run(ours)
    assert stored.file("config.json") == RECORD.files["config.json"]
    assert stored.parent == parent
    assert repr(stored.metrics) == repr(client.run(theirs).metrics)


def test_a_run_from_bulk_goes_on_living(served: Served) -> None:
    store = Store(served.root)
    [run_id] = store.record_many([RECORD])
    client = store.connection.client
    client.set_tag(run_id, "note", "later")
    client.log_metric(run_id, "sharpe", 2.0, step=1)
    assert store.run(run_id).metrics["sharpe"] == 2.0
    client.delete_run(run_id)
    client.restore_run(run_id)
    assert store.run(run_id).status == "FINISHED"


def test_through_the_server_a_run_costs_three_requests(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = by_client(served, monkeypatch)
    records = [
        replace(RECORD, study="requests", name=f"trial {i}", dataset=None) for i in range(20)
    ]
    store.record_many(records[:1])
    before = served.requests()
    ids = store.record_many(records[1:])
    assert served.requests() - before == 3 * len(ids)
    assert store.run(ids[0]).file("config.json") == RECORD.files["config.json"]


def test_runs_with_files_keep_their_place_and_their_files(served: Served) -> None:
    store = Store(served.root)
    large = b'{"a": "' + b"x" * 9000 + b'"}'
    records = [
        replace(RECORD, name="a"),
        replace(RECORD, name="b", status="FAILED", files={"traceback.txt": b"why"}),
        replace(RECORD, name="c", files={"config.json": large}),
        replace(RECORD, name="d"),
    ]
    stored = [store.run(run_id) for run_id in store.record_many(records)]
    assert [(run.name, run.status) for run in stored] == [
        ("a", "FINISHED"),
        ("b", "FAILED"),
        ("c", "FINISHED"),
        ("d", "FINISHED"),
    ]
    assert stored[1].file("traceback.txt") == b"why"
    assert stored[2].file("config.json") == large


def test_a_database_that_restarts_gets_every_run_once(served: Served) -> None:
    """kill -9 of the server's processes between batches and in the middle of them."""
    store = Store(served.root)
    names = [f"trial {i}" for i in range(120)]
    records = [replace(RECORD, study="restarted", name=name) for name in names]
    store.record_many(records[:1])

    def restart_twice() -> None:
        for _ in range(2):
            served.port.restart()

    restarts = threading.Thread(target=restart_twice)
    restarts.start()
    ids = [run_id for i in range(1, 120, 7) for run_id in store.record_many(records[i : i + 7])]
    restarts.join()
    assert len(set(ids)) == 119
    runs = served.ask(
        "SELECT runs.name FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name ="
        " 'restarted'"
    )
    assert sorted(name for (name,) in runs) == sorted(names)


def test_a_batch_that_was_written_is_not_written_again(served: Served) -> None:
    """The connection may break after the commit and before its answer."""
    store = Store(served.root)
    store.record_many([RECORD])
    database = postgres.Database.at(served.address())
    experiment = database.experiment("served")
    assert experiment is not None
    rows = [sqlite_writer.RunRow(f"twice {i}", "FINISHED", {"a": "b"}) for i in range(3)]
    assert database.insert(experiment[0], experiment[1], rows) == database.insert(
        experiment[0], experiment[1], rows
    )
    assert served.ask("SELECT count(*) FROM runs WHERE name LIKE 'twice %%'") == [(3,)]


def test_all_or_nothing(served: Served) -> None:
    database = postgres.Database.at(served.address())
    Store(served.root).record_many([RECORD])
    experiment = database.experiment("served")
    assert experiment is not None
    before = served.ask("SELECT count(*) FROM runs")
    with pytest.raises(
        StoreError,
        match=r"the database of MCL_STORE_URL refuses: StringDataRightTruncation value too long",
    ):
        database.insert(
            experiment[0],
            experiment[1],
            [
                sqlite_writer.RunRow("good", "FINISHED"),
                sqlite_writer.RunRow("bad", "FINISHED", {"k": "x" * 9000}),
            ],
        )
    assert served.ask("SELECT count(*) FROM runs") == before


def test_the_tables_of_the_server_are_those_that_are_written(served: Served) -> None:
    Store(served.root).record_many([RECORD])
    assert postgres.Database.at(served.address()).objections() == []
    [(revision,)] = served.ask("SELECT version_num FROM alembic_version")
    assert revision in schema.TESTED


@pytest.mark.parametrize(
    ("statement", "clause"),
    [
        (
            "ALTER TABLE params ALTER COLUMN value TYPE bytea USING value::bytea",
            "params.value is bytea, not text",
        ),
        ("ALTER TABLE tags DROP COLUMN value", "tags has no column value"),
        (
            "ALTER TABLE runs ADD COLUMN owner TEXT NOT NULL",
            "runs has a column owner that every row needs",
        ),
        ("DROP TABLE input_tags", "there is no table input_tags"),
        (
            "ALTER TABLE latest_metrics DROP CONSTRAINT latest_metric_pk",
            "the key of latest_metrics is ()",
        ),
        (
            (
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
                "CREATE TRIGGER watch BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION f()"
            ),
            "metrics has a trigger watch",
        ),
    ],
)
def test_other_tables_are_left_to_the_client(
    served: Served,
    statement: str,
    clause: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A copy of the database with one change: a warning, and the runs go through the server."""
    Store(served.root).record_many([RECORD])
    copy = Copy(served)
    with copy as database:
        copy.change(statement)
        assert postgres.Database.at(served.address(database)).objections() == [clause]
        monkeypatch.setenv(postgres.ADDRESS, served.address(database))
        monkeypatch.setattr(logging.getLogger("mcl"), "propagate", True)
        with caplog.at_level(logging.WARNING, "mcl"):
            [run_id] = Store(served.root).record_many([RECORD])
    assert f"is not written directly, which is slower: {clause}" in caplog.text
    assert Store(served.root).run(run_id).metrics["sharpe"] == 1.25


class Copy:
    """The tables of the server in a schema of another database."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def __enter__(self) -> str:
        import psycopg

        names = list(schema.TABLES)
        self._served.ask("CREATE DATABASE copied")
        with psycopg.connect(self._served.address().replace("+psycopg", "")) as source:
            keys = source.execute(
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM"
                " pg_constraint WHERE contype = 'p' AND conrelid::regclass::text = ANY(%s)",
                (names,),
            ).fetchall()
            columns = source.execute(
                "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod),"
                " attnotnull, atthasdef FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND"
                " attrelid::regclass::text = ANY(%s) ORDER BY attnum",
                (names,),
            ).fetchall()
        self.change(
            ";".join(
                f"CREATE TABLE {name} ("
                + ", ".join(_column(c) for c in columns if c[0] == name)
                + ")"
                for name in names
            )
            + "".join(
                f"; ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
                for table, name, definition in keys
            )
        )
        return "copied"

    def change(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            self._served.address("copied").replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def __exit__(self, *_: object) -> None:
        self._served.ask("DROP DATABASE copied")


def _column(column: tuple[Any, ...]) -> str:
    """The definition of a column; a default keeps that there is one."""
    _, name, kind, required, default = column
    usual = {"character": "''", "text": "''"}.get(re.split(r"\W", kind)[0], "NULL")
    return f"{name} {kind}{' NOT NULL' if required else ''}{f' DEFAULT {usual}' if default else ''}"


def test_the_database_of_another_server_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(served.root)
    store.record_many([RECORD])
    with Copy(served) as database:
        monkeypatch.setenv(postgres.ADDRESS, served.address(database))
        with pytest.raises(
            StoreError,
            match=(
                r"the database of MCL_STORE_URL is not that of the server http://\S+: .* study"
                r" 'served'"
            ),
        ):
            Store(served.root).record_many([RECORD])


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("mysql://mcl@host/db", ConfigError, "MCL_STORE_URL is no address of PostgreSQL"),
        (
            "postgresql://nobody:hunter22@127.0.0.1:PORT/mcl",
            StoreError,
            "MCL_STORE_URL refuses: OperationalError",
        ),
        (
            "postgresql://mcl:hunter22@127.0.0.1:PORT/none",
            StoreError,
            "MCL_STORE_URL refuses: OperationalError",
        ),
    ],
)
def test_an_address_that_does_not_work_is_a_sentence(
    served: Served, address: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(postgres.ADDRESS, address.replace("PORT", str(served.port)))
    with pytest.raises(error, match=said) as refused:
        Store(served.root).record_many([RECORD])
    assert "hunter22" not in str(refused.value)


def test_a_package_that_is_missing_is_a_sentence(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcl.tracking.postgres.find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match="MCL_STORE_URL needs the package psycopg, which is not installed"
    ):
        Store(served.root).record_many([RECORD])
