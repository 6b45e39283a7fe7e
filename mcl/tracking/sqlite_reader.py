"""A local run store, read from its tables: MLflow takes two seconds to import and to open a store,
and a person waits for a list.

Taken only where the tables have the columns that are read (`readable`); `reader.ClientReader`
answers the same otherwise, and a test compares the two.
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mcl.tracking.reader import RunFacts, VersionFacts
from mcl.tracking.sqlite_writer import WAIT_SEC, supported

REGISTRY = {  # the columns that are read, next to those that `schema` knows
    "model_versions": "name version current_stage source run_id",
    "model_version_tags": "name version key value",
    "registered_model_aliases": "name alias version",
    "registered_model_tags": "name key value",
    "logged_models": "model_id artifact_location",
}
ACTIVE = "runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"
FROM = "FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id"
CHILD = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'"
KIND = "SELECT run_uuid FROM tags WHERE key = 'mcl.kind' AND value = "
NEWEST = "ORDER BY runs.start_time DESC, runs.run_uuid"
PARAMS = "SELECT run_uuid, key, value FROM params WHERE run_uuid IN "
TAGS = "SELECT run_uuid, key, value FROM tags WHERE run_uuid IN "
METRICS = "SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN "
VERSIONS = """SELECT version, run_id, artifact_location FROM model_versions
JOIN logged_models ON logged_models.model_id = replace(source, 'models:/', '')
WHERE model_versions.name = ? AND current_stage <> 'Deleted_Internal'"""


def readable(database: Path) -> bool:
    """Whether the store exists and has the tables and columns that are read here."""
    if not supported(database):
        return False
    with closing(sqlite3.connect(database, timeout=WAIT_SEC)) as connection:
        return all(
            set(columns.split())
            <= {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for name, columns in REGISTRY.items()
        )


def _is_text(value: str | int) -> bool:
    """Whether SQLite can hold it. A command line whose bytes are no UTF-8 holds lone surrogates."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


class SqliteReader:
    """Reads the store at `database`. Raises sqlite3.Error where the file is damaged."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def studies(self) -> list[str]:
        query = "SELECT name FROM experiments WHERE lifecycle_stage = 'active'"
        with self._snapshot() as db:
            return [str(name) for (name,) in db.execute(query)]

    def run(self, run_id: str) -> RunFacts | None:
        return next(self._runs("runs.run_uuid = ?", run_id), None)

    def children(self, run_id: str) -> Iterator[RunFacts]:
        return self._runs(f"{ACTIVE} AND runs.run_uuid IN ({CHILD} AND value = ?)", run_id)

    def in_study(self, study: str, *, tops: bool) -> Iterator[RunFacts]:
        alone = f" AND runs.run_uuid NOT IN ({CHILD})" if tops else ""
        where = "runs.lifecycle_stage = 'active' AND experiments.name = ?"
        return self._runs(where + alone, study)

    def beginning(self, letters: str) -> list[str]:
        return self._ids("substr(runs.run_uuid, 1, length(?1)) = ?1", NEWEST, letters)

    def sweep(self, name: str) -> str | None:
        of_name = "SELECT run_uuid FROM tags WHERE key = 'sweep' AND value = ?"
        where = f"runs.run_uuid IN ({of_name}) AND runs.run_uuid IN ({KIND} 'sweep')"
        return next(iter(self._ids(where, NEWEST, name)), None)

    def backtests(self, count: int) -> list[str]:
        where = f"runs.status = 'FINISHED' AND runs.run_uuid IN ({KIND} 'backtest')"
        order = "ORDER BY runs.end_time DESC, runs.start_time DESC, runs.run_uuid LIMIT ?"
        return self._ids(where, order, count)

    def versions(self, model: str) -> list[VersionFacts]:
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        aliases: dict[int, list[str]] = defaultdict(list)
        with self._snapshot() as db:
            rows = db.execute(VERSIONS, (model,)).fetchall()
            query = "SELECT version, key, value FROM model_version_tags WHERE name = ?"
            for version, key, value in db.execute(query, (model,)):
                tags[version][key] = value
            query = "SELECT version, alias FROM registered_model_aliases WHERE name = ?"
            for version, alias in db.execute(query, (model,)):
                aliases[version].append(alias)
        return [
            VersionFacts(
                name=model,
                version=int(version),
                aliases=tuple(sorted(aliases[version])),
                tags=tags[version],
                run_id=str(run_id),
                artifact_uri=str(uri),
            )
            for version, run_id, uri in rows
        ]

    def annotations(self, model: str) -> dict[str, str]:
        query = "SELECT key, value FROM registered_model_tags WHERE name = ?"
        with self._snapshot() as db:
            return dict(db.execute(query, (model,)).fetchall())

    def _ids(self, where: str, order: str, value: str | int) -> list[str]:
        if not _is_text(value):
            return []
        query = f"SELECT runs.run_uuid {FROM} WHERE {ACTIVE} AND {where} {order}"
        with self._snapshot() as db:
            return [str(run_id) for (run_id,) in db.execute(query, (value,))]

    def _runs(self, where: str, value: str) -> Iterator[RunFacts]:
        if not _is_text(value):
            return
        columns = (
            "runs.run_uuid, experiments.name, runs.experiment_id, runs.status, runs.artifact_uri"
        )
        chosen = f"(SELECT runs.run_uuid {FROM} WHERE {where})"
        with self._snapshot() as db:
            rows = db.execute(f"SELECT {columns} {FROM} WHERE {where} {NEWEST}", (value,))
            runs = rows.fetchall()
            params, tags = (self._texts(db, query + chosen, value) for query in (PARAMS, TAGS))
            metrics: dict[str, dict[str, float]] = defaultdict(dict)
            for run_id, key, number, is_nan in db.execute(METRICS + chosen, (value,)):
                metrics[run_id][key] = math.nan if is_nan else float(number)
        for run_id, study, experiment_id, status, uri in runs:
            yield RunFacts(
                run_id=run_id,
                study=study,
                experiment_id=str(experiment_id),
                status=status,
                artifact_uri=uri,
                params=params[run_id],
                metrics=metrics[run_id],
                tags=tags[run_id],
            )

    def _texts(self, db: sqlite3.Connection, query: str, value: str) -> dict[str, dict[str, str]]:
        texts: dict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, text in db.execute(query, (value,)):
            texts[run_id][key] = text
        return texts

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """All statements of a block see the store as it was at the first of them."""
        with closing(sqlite3.connect(self._database, timeout=WAIT_SEC)) as connection:
            connection.execute("BEGIN")
            yield connection
