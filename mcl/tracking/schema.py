"""The columns of MLflow's tables that mcl writes, and how a database differs from them.

MLflow changes its schema with most releases, mostly in tables that mcl never touches. So columns
are compared, not a revision: a store whose tables differ is written through MLflow's client
instead, which is slower and needs nothing of this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

TESTED = {"dc11669786a5": "3.17", "f4a9b2c7d1e6": "3.18"}  # revision: the MLflow that makes it
TEXT, INTEGER, REAL, BOOLEAN = "text", "integer", "real", "boolean"
KINDS = {  # a word of a declared type: what it is
    "CHAR": TEXT,
    "TEXT": TEXT,
    "INT": INTEGER,
    "FLOAT": REAL,
    "DOUBLE": REAL,
    "REAL": REAL,
    "BOOL": BOOLEAN,
}


class Column(NamedTuple):
    """A column of a database."""

    name: str
    kind: str  # text, integer, real, boolean; else as it is declared
    required: bool  # neither NULL nor a default stands in for it
    key: bool  # part of the primary key


class TableSchema(NamedTuple):
    """The columns that mcl writes into a table: a kind by column, and the primary key."""

    columns: dict[str, str]
    key: frozenset[str]


def _table(
    key: str, text: str = "", integer: str = "", real: str = "", boolean: str = ""
) -> TableSchema:
    kinds = {TEXT: text, INTEGER: integer, REAL: real, BOOLEAN: boolean}
    columns = {name: kind for kind, names in kinds.items() for name in names.split()}
    return TableSchema(columns, frozenset(key.split()))


TABLES = {
    "experiments": _table(
        "experiment_id", text="name artifact_location lifecycle_stage", integer="experiment_id"
    ),
    "runs": _table(
        "run_uuid",
        text=(
            "run_uuid name source_type source_name entry_point_name user_id status source_version"
            " lifecycle_stage artifact_uri"
        ),
        integer="start_time end_time experiment_id",
    ),
    "tags": _table("run_uuid key", text="run_uuid key value"),
    "params": _table("run_uuid key", text="run_uuid key value"),
    "metrics": _table(
        "key timestamp step run_uuid value is_nan",
        text="run_uuid key",
        integer="timestamp step",
        real="value",
        boolean="is_nan",
    ),
    "latest_metrics": _table(
        "run_uuid key",
        text="run_uuid key",
        integer="timestamp step",
        real="value",
        boolean="is_nan",
    ),
    "datasets": _table(
        "experiment_id name digest",
        text=(
            "dataset_uuid name digest dataset_source_type dataset_source dataset_schema"
            " dataset_profile"
        ),
        integer="experiment_id",
    ),
    "inputs": _table(
        "source_type source_id destination_type destination_id",
        text="input_uuid source_type source_id destination_type destination_id",
        integer="step",
    ),
    "input_tags": _table("input_uuid name", text="input_uuid name value"),
}


def kind(declared: str) -> str:
    """The kind of a declared type: `VARCHAR(250)` and `character varying` are text."""
    words = declared.upper()
    return next((value for word, value in KINDS.items() if word in words), declared.lower())


def differences(columns_by_table: Mapping[str, Iterable[Column]]) -> list[str]:
    """One clause for each way in which the tables of a database are not those that mcl writes.

    A column more is none, as long as a row may leave it out.
    """
    clauses = []
    for name, table in TABLES.items():
        columns = {column.name: column for column in columns_by_table.get(name, ())}
        if not columns:
            clauses.append(f"there is no table {name}")
            continue
        clauses += [
            (
                f"{name}.{column} is {columns[column].kind}, not {expected}"
                if column in columns
                else f"{name} has no column {column}"
            )
            for column, expected in table.columns.items()
            if column not in columns or columns[column].kind != expected
        ]
        clauses += [
            f"{name} has a column {column.name} that every row needs"
            for column in columns.values()
            if column.required and column.name not in table.columns
        ]
        key = frozenset(column.name for column in columns.values() if column.key)
        if key != table.key:
            clauses.append(f"the key of {name} is ({', '.join(sorted(key))})")
    return clauses


def sqlite_differences(connection: sqlite3.Connection) -> list[str]:
    """The differences of an SQLite store; a trigger on one of the tables is one too."""
    rows = {name: connection.execute(f"PRAGMA table_info({name})") for name in TABLES}
    columns_by_table = {
        name: [
            Column(column, kind(declared), bool(required) and default is None, key > 0)
            for _, column, declared, required, default, key in columns
        ]
        for name, columns in rows.items()
    }
    triggers = connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
    return differences(columns_by_table) + [
        f"{table} has a trigger {name}" for name, table in triggers if table in TABLES
    ]


POSTGRES_COLUMNS = """SELECT table_name, column_name, data_type,
    is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AND is_generated = 'NEVER'
FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ANY(%s)"""
POSTGRES_KEYS = """SELECT tables.relname, columns.attname FROM pg_index AS keys
JOIN pg_class AS tables ON tables.oid = keys.indrelid
JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attnum = ANY(keys.indkey)
WHERE keys.indisprimary AND tables.relnamespace = current_schema()::regnamespace
    AND tables.relname = ANY(%s)"""
POSTGRES_TRIGGERS = """SELECT tables.relname, triggers.tgname FROM pg_trigger AS triggers
JOIN pg_class AS tables ON tables.oid = triggers.tgrelid
WHERE NOT triggers.tgisinternal AND tables.relnamespace = current_schema()::regnamespace
    AND tables.relname = ANY(%s)"""


def postgres_differences(
    ask: Callable[[str, tuple[list[str]]], Iterable[tuple[Any, ...]]],
) -> list[str]:
    """The differences of a store in PostgreSQL, whose answers to a statement `ask` gives; triggers
    as in SQLite.
    """
    names = (list(TABLES),)
    keys = set(ask(POSTGRES_KEYS, names))
    columns_by_table: dict[str, list[Column]] = {name: [] for name in TABLES}
    for table, column, declared, required in ask(POSTGRES_COLUMNS, names):
        columns_by_table[table].append(
            Column(column, kind(declared), required, (table, column) in keys)
        )
    return differences(columns_by_table) + [
        f"{table} has a trigger {name}" for table, name in ask(POSTGRES_TRIGGERS, names)
    ]


def revision(connection: sqlite3.Connection) -> str:
    """The revision that MLflow wrote into an SQLite store; empty where there is none."""
    rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return " and ".join(str(row[0]) for row in rows)


def origin(revision: str) -> str:
    """Name the MLflow release of a revision, in words."""
    if revision in TESTED:
        return f"schema {revision} of MLflow {TESTED[revision]}"
    return f"schema {revision}, which mcl was not tested with (it was with {tested()})"


def tested() -> str:
    return "MLflow " + " and ".join(sorted(set(TESTED.values())))


def migrates(revision: str) -> bool:
    """Whether the installed MLflow knows a revision, and so can bring it up to its own."""
    package = find_spec("mlflow")
    if package is None or package.origin is None:
        return False
    scripts = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    return any(scripts.glob(f"{revision}_*.py"))
