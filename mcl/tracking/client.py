"""The way into a run store: its address, MLflow's client, where artifacts lie, and every error of
all that as one sentence.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from mcl import composition
from mcl.base.errors import StoreError
from mcl.base.files import private_file, private_folder
from mcl.base.secrets import secret
from mcl.tracking import filesystem, postgres, schema, sqlite_reader, sqlite_writer
from mcl.tracking.reader import ClientReader, Reader

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 800  # MLflow takes 1000 entities a call, of them 100 params
SYSTEM_METRICS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
OTHER_SCHEMA = "out-of-date database schema"  # MLflow says so of a newer one, too
QUIET = {  # before the first import of mlflow
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what it logs it also raises, and that becomes a sentence
}
# here, since MLflow reads some of them once, whichever of its modules is imported first
for _key, _value in QUIET.items():
    os.environ.setdefault(_key, _value)


class StoreConnection:
    """Opening it is lazy: mlflow is imported at the first call that needs it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or composition.root()).resolve()
        self.uri = (
            os.environ.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{self.root / 'mlruns' / 'mlflow.db'}"
        )
        # then artifacts lie next to the database, whichever project opens it
        shared = self.uri.startswith("sqlite:///")
        self.folder = self.database.resolve().parent if shared else self.root / "mlruns"

    @property
    def exists(self) -> bool:
        """Whether there is anything to open: a local store is made by the first run."""
        return not self.uri.startswith("sqlite:///") or self.database.is_file()

    @cached_property
    def client(self) -> MlflowClient:
        with self.refusals(str(self.folder)):
            if self.uri.startswith("sqlite:///"):
                filesystem.use_wal(self.create_database())
            from mlflow import MlflowClient

            return MlflowClient(self.uri, registry_uri=self.uri)

    @cached_property
    def reader(self) -> Reader:
        """Reads the tables of a local store where they have the columns, else asks the client."""
        if self.uri.startswith("sqlite:///"):
            with self.refusals(self.uri):
                if sqlite_reader.readable(self.database):
                    return sqlite_reader.SqliteReader(self.database)
        return ClientReader(self.client)

    def studies(self) -> list[str]:
        """The names of all studies that runs are filed under."""
        with self.refusals(self.uri):
            return self.reader.studies()

    def add_series(self, series: Mapping[str, Mapping[str, sqlite_writer.Points]]) -> None:
        """Add step metrics to runs that are stored, by run id and name."""
        with self.refusals("step metrics"):
            if self.takes_bulk:
                sqlite_writer.add_series(self.database, series)
                return
            from mlflow.entities import Metric

            for run_id, of_run in series.items():
                points = [
                    Metric(key, value, 0, step)
                    for key, steps in of_run.items()
                    for step, value in steps
                ]
                for i in range(0, len(points), BATCH):
                    self.client.log_batch(run_id, points[i : i + BATCH])

    @contextmanager
    def system_metrics(self, run_id: str) -> Iterator[None]:
        """Log processor, memory, disk and network of this machine to a run while it is RUNNING,
        where MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true asks for it.
        """
        if os.environ.get(SYSTEM_METRICS, "").lower() not in ("true", "1"):
            yield
            return
        _ = self.client  # it may have to make the store
        from mlflow.system_metrics import system_metrics_monitor

        of_mlflow: Any = system_metrics_monitor  # without types
        monitor = of_mlflow.SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def create_database(self) -> Path:
        """The database of a local store; one that is new belongs to this user alone, as the
        project's folder of runs does then.
        """
        if not self.database.exists() and self.folder == self.root / "mlruns":
            private_folder(self.folder)
        return private_file(self.database)

    @property
    def database(self) -> Path:
        return Path(self.uri.removeprefix("sqlite:///"))

    @cached_property
    def takes_bulk(self) -> bool:
        """A local SQLite store with the tables that `bulk` writes; one that is new is made by the
        client first.
        """
        if not self.uri.startswith("sqlite:///"):
            return False
        with self.refusals(self.uri):
            if sqlite_writer.supported(self.database):
                return True
            self.client.search_experiments(max_results=1)
            clauses = sqlite_writer.objections(self.database)
        if clauses:
            message = "the run store %s is written through MLflow's client, which is slower: %s"
            logging.getLogger("mcl").warning(message, self.uri, "; ".join(clauses))
        return not clauses

    @cached_property
    def server_database(self) -> postgres.Database | None:
        """The database of the server at `uri`, where `MCL_STORE_URL` names it and it has the tables
        that `bulk` writes.
        """
        address = secret(postgres.ADDRESS)
        if not address or not self.uri.startswith("http"):
            return None
        database = postgres.Database.at(address)
        if clauses := database.objections():
            message = "the database of %s is not written directly, which is slower: %s"
            logging.getLogger("mcl").warning(message, postgres.ADDRESS, "; ".join(clauses))
            return None
        return database

    def local(self, uri: str) -> Path:
        """Artifacts below mlruns/ are found again after the project folder was moved or copied:
        MLflow stores absolute paths, and a copy must not look into the original. Those of a server
        are fetched into mlruns/served/.
        """
        parsed, own = urlparse(uri), self.own(uri)
        if parsed.scheme not in ("", "file"):
            with self.refusals(uri):
                return filesystem.fetched(uri, self.uri, self.folder / "served")
        path = Path(unquote(parsed.path))
        return own if own is not None and (own.exists() or not path.exists()) else path

    def own(self, uri: str) -> Path | None:
        """Return the folder of this store to which the artifacts of a local URI belong; None for
        other URIs.
        """
        parsed = urlparse(uri)
        parts = Path(unquote(parsed.path)).parts
        if (
            parsed.scheme not in ("", "file")
            or "mlruns" not in parts
            or not self.uri.startswith("sqlite:///")
        ):
            return None
        return self.folder.joinpath(*parts[len(parts) - parts[::-1].index("mlruns") :])

    def put(self, uri: str, files: dict[str, bytes], send: Callable[[str], None]) -> None:
        own = self.own(uri)
        if own is not None:
            sqlite_writer.write_all(own, files)
            return
        with filesystem.folder_with(files) as folder:
            send(str(folder))

    @contextmanager
    def refusals(self, what: str) -> Iterator[None]:
        """MLflow's, SQLAlchemy's and the disk's errors as one StoreError each."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise cannot_write(what, error) from None
        except Exception as error:
            if type(error).__module__.split(".")[0] not in (
                "mlflow",
                "sqlalchemy",
                "sqlite3",
                "alembic",
            ):
                raise
            if OTHER_SCHEMA in str(error):
                raise self._other_schema() from None
            reason = " ".join(str(error).split())[:300]
            raise StoreError(
                f"the run store {self.uri} refused {what}: {reason}", "mcl ui shows the store"
            ) from error

    def _other_schema(self) -> StoreError:
        """The installed MLflow refuses the schema of the store: it is older, or made by a newer
        MLflow.
        """
        installed = metadata.version("mlflow")
        local = self.uri.startswith("sqlite:///")
        revision = sqlite_writer.revision(self.database) if local else ""
        schema_name = schema.origin(revision) if revision else "another schema"
        what = f"the run store {self.uri} has {schema_name}"
        if revision and not schema.migrates(revision):
            newer = schema.TESTED.get(revision)
            name = f"MLflow {newer}" if newer else "the MLflow that made it"
            return StoreError(
                f"{what}, and MLflow {installed} does not know it",
                f"install {name}, or name another store with MLFLOW_TRACKING_URI",
            )
        return StoreError(
            f"{what}, and MLflow {installed} needs its own",
            "mcl store backup --to FILE, then mlflow db upgrade"
            f" {self.uri if local else 'DATABASE'}",
        )


def cannot_write(what: str, error: OSError) -> StoreError:
    where = error.filename or "mlruns"
    return StoreError(
        f"cannot write {what}: {error.strerror or error} ({where})",
        "free space or fix the permissions, then run it again",
    )
