"""Finished runs in one transaction, straight into the tables of a local MLflow store.

MLflow's client needs two seconds to import and open a store, and 20 ms for a run; a person waits for the one, a search writes
thousands of the other. The tables are not a public interface, so this path is taken only for the schema revision that it was
written for (`supported`); `tracking` falls back to the client otherwise. A row appears with its last artifact in place, as
everywhere.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from mcl.tracking.filing import Dataset, linked

REVISIONS = ("dc11669786a5",)  # MLflow 3.17
WAIT_SEC = 60.0  # for another writer
PRAGMAS = (
    "synchronous=NORMAL",  # with write-ahead logging: consistent after a power cut
    "cache_size=-65536",  # KiB: a batch of a thousand runs touches every index
    "wal_autocheckpoint=16000",  # pages: so that a page is copied into the database once for several batches
)
Value = TypeVar("Value")
Point = tuple[float, bool, int]  # value (0 where it is undefined), whether it is undefined, step

INSERT_RUN = """INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time,
source_version, lifecycle_stage, artifact_uri, experiment_id) VALUES (?, ?, 'UNKNOWN', '', '', 'unknown', ?, ?, ?, '', 'active', ?, ?)"""
INSERT_TAG = "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)"
INSERT_PARAM = "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)"
INSERT_METRIC = "INSERT INTO metrics (run_uuid, key, value, is_nan, timestamp, step) VALUES (?, ?, ?, ?, 0, ?)"
INSERT_LATEST = "INSERT INTO latest_metrics (run_uuid, key, value, is_nan, timestamp, step) VALUES (?, ?, ?, ?, 0, ?)"
INSERT_DATASET = """INSERT OR IGNORE INTO datasets
(dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_INPUT = """INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step)
VALUES (?, 'DATASET', ?, 'RUN', ?, 0)"""
INSERT_INPUT_TAG = "INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)"
CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class Row:
    """One finished run, its values already as the store holds them: texts short enough, no infinite metric."""

    name: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # step metrics, steps increasing
    files: dict[str, bytes] = field(default_factory=dict)
    dataset: Dataset | None = None
    seconds: float = 0.0  # that it took
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Place:
    """An experiment: its id, its artifact URI, and where that lies on this machine."""

    experiment_id: int
    location: str
    folder: Path


def supported(database: Path) -> bool:
    """Whether the store at `database` exists and has a schema that these statements fit."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        try:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError:
            return False
    return [row[0] for row in found] in [[revision] for revision in REVISIONS]


def experiment(database: Path, name: str) -> tuple[int, str] | None:
    """Id and artifact URI of the active experiment with this name."""
    query = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        found = connection.execute(query, (name,)).fetchone()
    return (int(found[0]), str(found[1])) if found else None


def artifact_uri(database: Path, run_id: str) -> str | None:
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        found = connection.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    return str(found[0]) if found else None


def trials(database: Path, parent: str, kind: str) -> dict[int, str]:
    """Run ids of the finished runs of a kind below a parent run, by trial number."""
    query = """SELECT number.value, number.run_uuid FROM tags AS above
    JOIN tags AS number ON number.run_uuid = above.run_uuid AND number.key = 'trial'
    JOIN tags AS kind ON kind.run_uuid = above.run_uuid AND kind.key = 'mcl.kind' AND kind.value = ?
    JOIN runs ON runs.run_uuid = above.run_uuid AND runs.lifecycle_stage = 'active' AND runs.status <> 'RUNNING'
    WHERE above.key = 'mlflow.parentRunId' AND above.value = ?"""
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        return {int(number): str(run_id) for number, run_id in connection.execute(query, (kind, parent))}


def analyze(database: Path) -> None:
    """Let SQLite look at how the rows are spread: sorting thousands of runs by a metric becomes 20 times faster, and stays so."""
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection, connection:
        connection.execute("ANALYZE")


def insert(database: Path, place: Place, rows: Sequence[Row]) -> list[str]:
    """Write `rows` under an experiment and return their run ids in order; all of them or none. Raises sqlite3.Error or OSError."""
    ids = [row.run_id for row in rows]
    with _whole(place.folder / run_id for run_id in ids):
        for row in rows:
            write(place.folder / row.run_id / "artifacts", row.files)
        with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection, connection:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN IMMEDIATE")
            now = int(time.time() * 1000)
            uri, under = f"{place.location}/{{}}/artifacts", place.experiment_id
            began = [now - round(1000 * row.seconds) for row in rows]
            runs = [(r.run_id, r.name, r.status, at, now, uri.format(r.run_id), under) for r, at in zip(rows, began, strict=True)]
            connection.executemany(INSERT_RUN, runs)
            named = [linked(row.tags, row.run_id, str(under)) | {"mlflow.runName": row.name} for row in rows]
            connection.executemany(INSERT_TAG, _by_key(zip(ids, named, strict=True)))
            connection.executemany(INSERT_PARAM, _by_key((row.run_id, row.params) for row in rows))
            points = [_points(row) for row in rows]
            connection.executemany(INSERT_METRIC, [(*id_key, *point) for *id_key, found in _by_key(points) for point in found])
            connection.executemany(INSERT_LATEST, [(*id_key, *found[-1]) for *id_key, found in _by_key(points)])
            _put_datasets(connection, under, rows)
    return ids


def _put_datasets(connection: sqlite3.Connection, experiment: int, rows: Sequence[Row]) -> None:
    """Each data set once per experiment, and what says which run used it."""
    for dataset in dict.fromkeys(row.dataset for row in rows if row.dataset is not None):
        d, key = dataset, (experiment, dataset.name, dataset.digest)
        connection.execute(INSERT_DATASET, (uuid.uuid4().hex, *key, d.source_type, d.source, d.schema, d.profile))
        found = connection.execute("SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?", key).fetchone()
        inputs = [(uuid.uuid4().hex, str(found[0]), row.run_id) for row in rows if row.dataset == dataset]
        connection.executemany(INSERT_INPUT, inputs)
        connection.executemany(INSERT_INPUT_TAG, [(input_id, CONTEXT, "backtest") for input_id, _, _ in inputs])


def _points(row: Row) -> tuple[str, dict[str, list[Point]]]:
    """The points of each metric of a run, the last one last."""
    found = {key: [_point(0, value)] for key, value in row.metrics.items()}
    return row.run_id, found | {key: [_point(*point) for point in points] for key, points in row.series.items() if points}


def _point(step: int, value: float) -> Point:
    undefined = value != value  # noqa: PLR0124 - NaN; a search comes here 50 times for every trial
    return (0.0 if undefined else value), undefined, step


def _by_key(tables: Iterable[tuple[str, Mapping[str, Value]]]) -> list[tuple[str, str, Value]]:
    """(run, key, value) in the order of the tables' primary keys, (key, run): neighbours in a batch are then neighbours on the disk."""
    ordered = sorted(tables, key=itemgetter(0))
    columns: dict[str, list[tuple[str, str, Value]]] = {}
    for run_id, table in ordered:
        for key, value in table.items():
            columns.setdefault(key, []).append((run_id, key, value))
    return [entry for key in sorted(columns) for entry in columns[key]]


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Files by their path below `folder`."""
    made: set[str] = set()
    for path, content in files.items():
        target = f"{folder}/{path}"
        parent = target.rpartition("/")[0]
        if parent not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - a search comes here for every trial
            made.add(parent)
        with open(target, "wb") as file:  # noqa: PTH123
            file.write(content)


@contextmanager
def _whole(folders: Iterator[Path]) -> Iterator[None]:
    """Artifacts without a run do not stay behind."""
    made = list(folders)
    try:
        yield
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
