"""Runs in one transaction, straight into the tables of an MLflow store: of a local one here, of a
server's in `postgres`.

MLflow's client needs two seconds to import and open a store, and 20 ms for a run. A user waits
for the one, a search writes thousands of the other. The tables are not a public interface, so this
path is taken only where they have the columns that it writes (`supported`); `tracking` falls back
to the client otherwise. A row appears with its last artifact in place, as everywhere.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mcl.base.errors import StoreError
from mcl.tracking import schema
from mcl.tracking.naming import RunDataset, linked

WAIT_SEC = 60.0  # for another writer
PRAGMAS = (
    "synchronous=NORMAL",  # with write-ahead logging: consistent after a power cut
    "cache_size=-65536",  # KiB: a batch of a thousand runs touches every index
    # pages: so that a page is copied into the database once for several batches
    "wal_autocheckpoint=16000",
    "temp_store=MEMORY",
)
Texts = dict[str, dict[str, str]]  # by run id and key
# run, metric, step, value, whether it is the metric's last
Point = tuple[str, str, int, float, bool]
Points = Sequence[tuple[int, float]]  # step, value

RUN = """run_uuid, name, source_type, source_name, entry_point_name, user_id, status,
start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id"""
TEXTS = (
    "SELECT run.key, entry.key, entry.value FROM json_each(?) AS run, json_each(run.value) AS entry"
)
# a NaN is NULL here
POINTS = (
    "CREATE TEMP TABLE points (run_uuid TEXT, key TEXT, step INTEGER, value REAL, last INTEGER)"
)
INSERT_POINT = "INSERT INTO points VALUES (?, ?, ?, ?, ?)"
INTO_METRICS = """INTO metrics (run_uuid, key, value, is_nan, timestamp, step)
SELECT run_uuid, key, ifnull(value, 0), value IS NULL, 0, step FROM points"""
INTO_LATEST = """INTO latest_metrics (run_uuid, key, value, is_nan, timestamp, step)
SELECT run_uuid, key, ifnull(value, 0), value IS NULL, 0, step FROM points WHERE last"""
INSERT_DATASET = """INSERT OR IGNORE INTO datasets
(dataset_uuid, experiment_id, name, digest,
 dataset_source_type, dataset_source, dataset_schema, dataset_profile)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
INPUT = "input_uuid, source_type, source_id, destination_type, destination_id, step"
CONTEXT = "mlflow.data.context"
RUN_NAME = "mlflow.runName"
RUNNING = "RUNNING"
_serial = itertools.count(secrets.randbits(20))


def _run_id() -> str:
    """Random as MLflow's own ids, but that the first five digits count up: what is inserted
    together lies together in every index, which costs half the time.
    """
    return f"{next(_serial) % 16**5:05x}{uuid.uuid4().hex[5:]}"


@dataclass(frozen=True)
class RunRow:
    """One run, its values already as the store holds them: texts short enough, no infinite
    metric.
    """

    name: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    # step metrics, steps increasing
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    dataset: RunDataset | None = None
    seconds: float = 0.0  # that it took
    run_id: str = field(default_factory=_run_id)


@dataclass(frozen=True)
class Experiment:
    """An experiment: its id, its artifact URI, and where that lies on this machine."""

    experiment_id: int
    location: str
    folder: Path


def supported(database: Path) -> bool:
    """Whether the store at `database` exists and has tables that these statements fit."""
    return database.is_file() and not objections(database)


def objections(database: Path) -> list[str]:
    """Return the reasons why these statements do not fit an existing store, one clause each; empty
    when they do.
    """
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        try:
            connection.execute("SELECT key FROM json_each('{}')")  # an SQLite without JSON
            return schema.sqlite_differences(connection)
        except sqlite3.OperationalError as error:
            return [str(error)]


def revision(database: Path) -> str:
    """The revision of MLflow's schema in an existing store; empty where MLflow made none."""
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        try:
            return schema.revision(connection)
        except sqlite3.OperationalError:
            return ""


def experiment(database: Path, name: str) -> tuple[int, str] | None:
    """Id and artifact URI of the active experiment with this name."""
    query = (
        "SELECT experiment_id, artifact_location FROM experiments WHERE name = ? AND"
        " lifecycle_stage = 'active'"
    )
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        row = connection.execute(query, (name,)).fetchone()
    return (int(row[0]), str(row[1])) if row else None


def experiment_of(database: Path, run_id: str) -> str:
    """The number of the experiment that a run is in; empty for a run that the store does not
    have.
    """
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        row = connection.execute(
            "SELECT experiment_id FROM runs WHERE run_uuid = ?", (run_id,)
        ).fetchone()
    return str(row[0]) if row else ""


def artifact_uri(database: Path, run_id: str) -> str | None:
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        row = connection.execute(
            "SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)
        ).fetchone()
    return str(row[0]) if row else None


def studies_with_runs(database: Path) -> list[tuple[str, int]]:
    """Name and id of each active experiment that has a run, the last one that was begun first."""
    query = """SELECT experiments.name, experiment_id
    FROM experiments JOIN runs USING (experiment_id)
    WHERE experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
    GROUP BY experiment_id ORDER BY max(start_time) DESC"""
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        return [(str(name), int(number)) for name, number in connection.execute(query)]


def tag_experiments(database: Path, tags: Mapping[str, str]) -> None:
    """Give every experiment these tags."""
    with _writing(database) as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id)"
            " SELECT ?, ?, experiment_id FROM experiments",
            tags.items(),
        )


def trials(database: Path, parent: str, kind: str) -> dict[int, str]:
    """Run ids of the finished runs of a kind below a parent run, by trial number."""
    query = """SELECT number.value, number.run_uuid FROM tags AS above
    JOIN tags AS number ON number.run_uuid = above.run_uuid AND number.key = 'trial'
    JOIN tags AS kind ON kind.run_uuid = above.run_uuid AND kind.key = 'mcl.kind' AND kind.value = ?
    JOIN runs ON runs.run_uuid = above.run_uuid
        AND runs.lifecycle_stage = 'active' AND runs.status <> 'RUNNING'
    WHERE above.key = 'mlflow.parentRunId' AND above.value = ?"""
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        return {
            int(number): str(run_id) for number, run_id in connection.execute(query, (kind, parent))
        }


def analyze(database: Path) -> None:
    """Let SQLite look at how the rows are spread: sorting thousands of runs by a metric becomes 20
    times faster, and stays so.
    """
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection, connection:
        connection.execute("ANALYZE")


def insert(database: Path, experiment: Experiment, rows: Sequence[RunRow]) -> list[str]:
    """Write `rows` under an experiment and return their run ids in order; all of them or none.
    Raises sqlite3.Error or OSError.
    """
    ids = [row.run_id for row in rows]
    with _whole(experiment.folder / run_id for run_id in ids):
        for row in rows:
            write(experiment.folder / row.run_id / "artifacts", row.files)
        with _writing(database) as connection:
            fill(SqliteTables(connection), experiment.experiment_id, experiment.location, rows)
    return ids


def complete(database: Path, run_id: str, row: RunRow) -> None:
    """Add the values of `row` to a run that was begun, in place of those that it has, and give it
    its status and its end. StoreError for a run that the store does not have.
    """
    with _writing(database) as connection:
        row_of_run = connection.execute(
            "SELECT experiment_id FROM runs WHERE run_uuid = ?", (run_id,)
        ).fetchone()
        if row_of_run is None:
            raise StoreError(f"the store has no run {run_id}", "mcl runs lists all runs")
        tables = SqliteTables(connection, insert="INSERT OR REPLACE")
        _put_values(tables, int(row_of_run[0]), [replace(row, run_id=run_id)])
        _mark(connection, run_id, row.status)


def add_series(database: Path, series: Mapping[str, Mapping[str, Points]]) -> None:
    """Add step metrics to runs that are stored, by run id and name, in place of those they have."""
    with _writing(database) as connection:
        tables = SqliteTables(connection, insert="INSERT OR REPLACE")
        tables.put_points(
            point for run_id, of_run in series.items() for point in _series_points(run_id, of_run)
        )


def fail(database: Path, run_id: str, tag: str, why: str) -> None:
    """Mark a run that was begun as FAILED, and say why in a tag."""
    with _writing(database) as connection:
        SqliteTables(connection, insert="INSERT OR REPLACE").put_texts("tags", {run_id: {tag: why}})
        _mark(connection, run_id, "FAILED")


def reopen(database: Path, run_id: str, name: str) -> None:
    """Mark a run as RUNNING again, under a new name."""
    with _writing(database) as connection:
        SqliteTables(connection, insert="INSERT OR REPLACE").put_texts(
            "tags", {run_id: {RUN_NAME: name}}
        )
        connection.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (name, run_id))
        _mark(connection, run_id, RUNNING)


def _mark(connection: sqlite3.Connection, run_id: str, status: str) -> None:
    connection.execute(
        "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?",
        (status, _end(status, int(time.time() * 1000)), run_id),
    )


def _end(status: str, now_ms: int) -> int | None:
    """The end of a run that is written at `now_ms`: none while it is RUNNING."""
    return None if status == RUNNING else now_ms


@contextmanager
def _writing(database: Path) -> Iterator[sqlite3.Connection]:
    """A transaction."""
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection, connection:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        yield connection


class Tables(Protocol):
    """The tables that take the rows of a transaction."""

    def put(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None: ...
    def put_texts(self, table: str, texts: Texts) -> None: ...
    def put_points(self, points: Iterable[Point]) -> None: ...
    def dataset_id(self, experiment_id: int, dataset: RunDataset) -> str: ...


def fill(tables: Tables, experiment_id: int, location: str, rows: Sequence[RunRow]) -> None:
    """Put runs into the tables, as MLflow's client would have left them."""
    now = int(time.time() * 1000)
    runs = []
    for row in rows:
        began, uri = now - round(1000 * row.seconds), f"{location}/{row.run_id}/artifacts"
        origin = ("UNKNOWN", "", "", row.tags.get("mlflow.user", "unknown"))
        runs.append(
            (
                row.run_id,
                row.name,
                *origin,
                row.status,
                began,
                _end(row.status, now),
                "",
                "active",
                uri,
                experiment_id,
            )
        )
    tables.put("runs", RUN, runs)
    named = [replace(row, tags=row.tags | {RUN_NAME: row.name}) for row in rows]
    _put_values(tables, experiment_id, named)


def _put_values(tables: Tables, experiment_id: int, rows: Sequence[RunRow]) -> None:
    tags = {row.run_id: linked(row.tags, row.run_id, str(experiment_id)) for row in rows}
    tables.put_texts("tags", tags)
    tables.put_texts("params", {row.run_id: row.params for row in rows})
    tables.put_points(point for row in rows for point in _points(row))
    for dataset in dict.fromkeys(row.dataset for row in rows if row.dataset is not None):
        source = tables.dataset_id(experiment_id, dataset)
        inputs = [
            (uuid.uuid4().hex, "DATASET", source, "RUN", row.run_id, 0)
            for row in rows
            if row.dataset == dataset
        ]
        tables.put("inputs", INPUT, inputs)
        tables.put(
            "input_tags",
            "input_uuid, name, value",
            [(entry[0], CONTEXT, "backtest") for entry in inputs],
        )


@dataclass(frozen=True)
class SqliteTables:
    """`Tables` with as few bound values as can be: a search writes a hundred texts and numbers for
    every run.
    """

    connection: sqlite3.Connection
    insert: str = "INSERT"  # INSERT OR REPLACE into a run that has values

    def put(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        places = ", ".join("?" * (columns.count(",") + 1))
        self.connection.executemany(
            f"{self.insert} INTO {table} ({columns}) VALUES ({places})", rows
        )

    def put_texts(self, table: str, texts: Texts) -> None:
        """All rows of a table in one statement and one bound text. JSON in SQLite ends a text at a
        NUL.
        """
        encoded = json.dumps(texts, ensure_ascii=False)
        if "\\u0000" in encoded:
            entries = (
                (run_id, key, value)
                for run_id, pairs in texts.items()
                for key, value in pairs.items()
            )
            self.put(table, "run_uuid, key, value", entries)
        else:
            self.connection.execute(
                f"{self.insert} INTO {table} (run_uuid, key, value) {TEXTS}", (encoded,)
            )

    def put_points(self, points: Iterable[Point]) -> None:
        self.connection.execute(POINTS)
        self.connection.executemany(INSERT_POINT, points)
        self.connection.execute(f"{self.insert} {INTO_METRICS}")
        self.connection.execute(f"{self.insert} {INTO_LATEST}")

    def dataset_id(self, experiment_id: int, dataset: RunDataset) -> str:
        """That of the data set in this experiment, which holds it once."""
        d, key = dataset, (experiment_id, dataset.name, dataset.digest)
        self.connection.execute(
            INSERT_DATASET, (uuid.uuid4().hex, *key, d.source_type, d.source, d.schema, d.profile)
        )
        query = (
            "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
        )
        return str(self.connection.execute(query, key).fetchone()[0])


def _points(row: RunRow) -> list[Point]:
    """All points of a run; a series comes before a metric of its name."""
    all_points = [
        (row.run_id, key, 0, value, True)
        for key, value in row.metrics.items()
        if not row.series.get(key)
    ]
    return [*all_points, *_series_points(row.run_id, row.series)]


def _series_points(run_id: str, series: Mapping[str, Points]) -> list[Point]:
    return [
        (run_id, key, step, value, number == len(points))
        for key, points in series.items()
        for number, (step, value) in enumerate(points, 1)
    ]


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Files by their path below `folder`."""
    folders: set[str] = set()
    for path, content in files.items():
        target = f"{folder}/{path}"
        parent = target.rpartition("/")[0]
        if parent not in folders:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - a search comes here for every trial
            folders.add(parent)
        with open(target, "wb") as file:  # noqa: PTH123
            file.write(content)


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files, or none of them."""
    try:
        write(folder, files)
    except OSError:
        for path in files:
            (folder / path).unlink(missing_ok=True)
        raise


@contextmanager
def _whole(folders: Iterator[Path]) -> Iterator[None]:
    """Artifacts without a run do not stay behind."""
    new_folders = list(folders)
    try:
        yield
    except BaseException:
        for folder in new_folders:
            shutil.rmtree(folder, ignore_errors=True)
        raise
