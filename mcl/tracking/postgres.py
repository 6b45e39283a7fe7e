"""Finished runs in one transaction, straight into the PostgreSQL of an MLflow server.

A server answers some tens of requests a second and takes three for a trial; here a batch of trials
is one transaction of seven statements. The address is `MCL_STORE_URL`, a secret: no error shows it.
Reading, artifacts and everything else go through the server.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from mcl.base.errors import ConfigError, StoreError
from mcl.tracking import schema, sqlite_writer
from mcl.tracking.naming import RunDataset

if TYPE_CHECKING:
    import psycopg

ADDRESS = "MCL_STORE_URL"
CONNECT_SEC = 10
AGAIN_SEC = 60.0  # a database that restarts is asked again for so long
INSERT_DATASET = """INSERT INTO datasets
(dataset_uuid, experiment_id, name, digest,
 dataset_source_type, dataset_source, dataset_schema, dataset_profile)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
DATASET = "SELECT dataset_uuid FROM datasets WHERE experiment_id = %s AND name = %s AND digest = %s"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Database:
    """The tables of an MLflow server. Every call is a connection of its own: a search writes once
    in five seconds.
    """

    address: str

    @classmethod
    def at(cls, address: str) -> Database:
        """ConfigError where the address is none of PostgreSQL, or nothing can speak with it."""
        scheme, _, rest = address.partition("://")
        if scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ConfigError(
                f"{ADDRESS} is no address of PostgreSQL",
                f"export {ADDRESS}=postgresql://user@host/database",
            )
        if find_spec("psycopg") is None:
            raise ConfigError(
                f"{ADDRESS} needs the package psycopg, which is not installed",
                "make install EXTRAS=dev,postgres",
            )
        return cls(f"postgresql://{rest}")

    def objections(self) -> list[str]:
        """Return the reasons why runs cannot be written, one clause each; empty when they can."""
        return self._transaction(
            lambda connection: schema.postgres_differences(
                lambda query, names: connection.execute(query.encode(), names)
            )
        )

    def experiment(self, name: str) -> tuple[int, str, int] | None:
        """Id, artifact URI and time of creation (ms) of the active experiment with this name."""
        query = """SELECT experiment_id, artifact_location, creation_time FROM experiments
        WHERE name = %s AND lifecycle_stage = 'active'"""
        row = self._transaction(lambda connection: connection.execute(query, (name,)).fetchone())
        return (int(row[0]), str(row[1]), int(row[2] or 0)) if row else None

    def insert(
        self, experiment_id: int, location: str, rows: Sequence[sqlite_writer.RunRow]
    ) -> list[str]:
        """Write `rows`, which have no files, and return their run ids in order; all of them or
        none, and none twice.

        StoreError where the database does not answer, or refuses.
        """
        ids = [row.run_id for row in rows]

        def write(connection: psycopg.Connection[Any]) -> None:
            # A connection that broke at its end may have written all the same.
            written = connection.execute(
                "SELECT count(*) FROM runs WHERE run_uuid = ANY(%s)", (ids,)
            ).fetchone()
            if not written or not written[0]:
                sqlite_writer.fill(PostgresTables(connection), experiment_id, location, rows)

        self._transaction(write)
        return ids

    def _transaction(self, ask: Callable[[psycopg.Connection[Any]], Answer]) -> Answer:
        """Return the answer of the database, in a transaction. A lost connection is opened again
        for `AGAIN_SEC`.
        """
        import psycopg

        until = time.monotonic() + AGAIN_SEC
        while True:
            try:
                with psycopg.connect(self.address, connect_timeout=CONNECT_SEC) as connection:
                    return ask(connection)
            except psycopg.OperationalError as error:
                # cut off, or shutting down, or starting
                lost = error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
                if not lost or time.monotonic() > until or _final(error):
                    raise _refused(error) from None
                time.sleep(0.5)
            except psycopg.Error as error:
                raise _refused(error) from None


def _final(error: psycopg.Error) -> bool:
    """Whether a connection was refused for a reason that does not pass: a password, a name."""
    text = str(error)
    return any(
        reason in text
        for reason in (
            "authentication failed",
            "does not exist",
            "no pg_hba.conf entry",
            "certificate",
            "resolve",
        )
    )


def _refused(error: psycopg.Error) -> StoreError:
    """The kind of the error only: its text may hold the address."""
    primary = error.diag.message_primary or ""
    reason = f"{type(error).__name__} {primary}".strip()
    return StoreError(
        f"the database of {ADDRESS} refuses: {reason}",
        f"look at the database, or unset {ADDRESS}: the server takes the runs",
    )


@dataclass(frozen=True)
class PostgresTables:
    """`sqlite_writer.Tables` by COPY: one stream a table."""

    connection: psycopg.Connection[Any]

    def put(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def put_texts(self, table: str, texts: sqlite_writer.Texts) -> None:
        entries = (
            (run_id, key, value) for run_id, pairs in texts.items() for key, value in pairs.items()
        )
        self.put(table, "run_uuid, key, value", entries)

    def put_points(self, points: Iterable[sqlite_writer.Point]) -> None:
        rows, latest = [], []
        for run_id, key, step, value, last in points:
            undefined = math.isnan(value)
            rows.append((run_id, key, 0.0 if undefined else value, undefined, 0, step))
            if last:
                latest.append(rows[-1])
        columns = "run_uuid, key, value, is_nan, timestamp, step"
        self.put("metrics", columns, rows)
        self.put("latest_metrics", columns, latest)

    def dataset_id(self, experiment_id: int, dataset: RunDataset) -> str:
        d, key = dataset, (experiment_id, dataset.name, dataset.digest)
        self.connection.execute(
            INSERT_DATASET, (uuid.uuid4().hex, *key, d.source_type, d.source, d.schema, d.profile)
        )
        row = self.connection.execute(DATASET, key).fetchone()
        assert row is not None  # noqa: S101 - it was inserted above, or before
        return str(row[0])
