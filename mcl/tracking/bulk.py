"""Many finished runs in one transaction, straight into the tables of a local MLflow store.

MLflow's client needs 20 ms and more for a run, most of it Python; a search writes thousands. The tables are not a public
interface, so this path is taken only for the schema revision that it was written for (`supported`); `tracking` falls back to the
client otherwise. A row appears with its last artifact in place, as everywhere.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REVISIONS = ("dc11669786a5",)  # MLflow 3.17
WAIT_SEC = 60.0  # for another writer

INSERT_RUN = """INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time,
source_version, lifecycle_stage, artifact_uri, experiment_id) VALUES (?, ?, 'UNKNOWN', '', '', 'unknown', ?, ?, ?, '', 'active', ?, ?)"""
INSERT_TAG = "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)"
INSERT_PARAM = "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)"
INSERT_METRIC = "INSERT INTO metrics (run_uuid, key, value, is_nan, timestamp, step) VALUES (?, ?, ?, ?, 0, 0)"
INSERT_LATEST = "INSERT INTO latest_metrics (run_uuid, key, value, is_nan, timestamp, step) VALUES (?, ?, ?, ?, 0, 0)"


@dataclass(frozen=True)
class Row:
    """One finished run, its values already as the store holds them: texts short enough, no infinite metric."""

    name: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


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


def insert(database: Path, experiment_id: int, location: str, folder: Path, rows: Sequence[Row]) -> list[str]:
    """Write `rows` under an experiment and return their run ids in order; all of them or none.

    `location` is the experiment's artifact URI and `folder` where that lies on this machine. Raises sqlite3.Error or OSError.
    """
    ids = [uuid.uuid4().hex for _ in rows]
    with _whole(folder / run_id for run_id in ids):
        for run_id, row in zip(ids, rows, strict=True):
            _write(folder / run_id / "artifacts", row.files)
        with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection, connection:
            connection.execute("PRAGMA synchronous=NORMAL")  # with write-ahead logging: consistent after a power cut
            connection.execute("BEGIN IMMEDIATE")
            now = int(time.time() * 1000)
            runs = [
                (i, row.name, row.status, now, now, f"{location}/{i}/artifacts", experiment_id) for i, row in zip(ids, rows, strict=True)
            ]
            connection.executemany(INSERT_RUN, runs)
            named = [row.tags | {"mlflow.runName": row.name} for row in rows]
            connection.executemany(INSERT_TAG, _long(ids, named))
            connection.executemany(INSERT_PARAM, _long(ids, [row.params for row in rows]))
            metrics = [(*head, 0.0 if math.isnan(v) else v, math.isnan(v)) for *head, v in _long(ids, [row.metrics for row in rows])]
            connection.executemany(INSERT_METRIC, metrics)
            connection.executemany(INSERT_LATEST, metrics)
    return ids


def _long(ids: Sequence[str], tables: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    for run_id, table in zip(ids, tables, strict=True):
        for key, value in table.items():
            yield run_id, key, value


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


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
