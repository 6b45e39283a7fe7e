"""Deleted runs leave for good. MLflow only hides them; here their rows and their artifacts go."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mcl.tracking.store import Store

RUN_ID = 32  # hexadecimal digits


class Waste(NamedTuple):
    """Files or rows that nothing refers to. `remove` deletes them."""

    what: str
    where: str
    size: int  # bytes on disk
    remove: Callable[[], None]


def size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def deleted_runs(store: Store, before_ms: int) -> Iterator[Waste]:
    """Runs that were deleted before this moment (ms since the epoch) and never promoted, with their
    artifacts.
    """
    if (database := _database(store)) is None:
        return
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        query = """SELECT run_uuid FROM runs WHERE lifecycle_stage = 'deleted' AND deleted_time < ?
            AND run_uuid NOT IN (SELECT run_id FROM model_versions WHERE run_id IS NOT NULL)"""
        run_ids = [str(row[0]) for row in connection.execute(query, (before_ms,))]
    for run_id in run_ids:
        folder = store.artifacts(run_id)
        inside = folder.is_relative_to(store.folder) and folder.parent.name == run_id
        yield Waste(
            "deleted run",
            run_id,
            size_of(folder) if inside else 0,
            partial(_forget, store, run_id, folder.parent if inside else None),
        )


def orphans(store: Store, before_sec: float) -> Iterator[Waste]:
    """Artifact folders whose run the store does not know: of a process that died between writing
    them and the row.
    """
    if (database := _database(store)) is None:
        return
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        run_ids = {str(row[0]) for row in connection.execute("SELECT run_uuid FROM runs")}
    for folder in sorted((store.folder / "artifacts").glob(f"*/{'[0-9a-f]' * RUN_ID}")):
        if folder.name not in run_ids and folder.stat().st_mtime < before_sec:
            yield Waste(
                "artifacts without a run",
                str(folder.relative_to(store.root)),
                size_of(folder),
                partial(shutil.rmtree, folder),
            )


def compact(store: Store) -> int:
    """Give freed pages back to the disk; bytes won, 0 while somebody else writes."""
    if (database := _database(store)) is None:
        return 0
    before = database.stat().st_size
    try:
        with closing(sqlite3.connect(database, timeout=2)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:
        return 0
    return before - database.stat().st_size


def _database(store: Store) -> Path | None:
    path = store.folder / "mlflow.db"
    return path if store.uri.startswith("sqlite:///") and path.is_file() else None


def _forget(store: Store, run_id: str, folder: Path | None) -> None:
    """The files first: a run without artifacts can be deleted again, artifacts without a run only
    found by looking.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    opened: Any = SqlAlchemyStore(store.uri, str(store.folder))  # type: ignore[no-untyped-call]
    opened._hard_delete_run(run_id)  # as `mlflow gc` does
