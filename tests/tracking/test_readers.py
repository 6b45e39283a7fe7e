"""MLflow's client and the tables of a local store give the same answers."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcl.tracking.reader import ClientReader, Reader
from mcl.tracking.sqlite_reader import SqliteReader, readable
from mcl.tracking.store import Record, Store

FILES = {"config.yaml": b"a: 1\n", "code/own.py": b"pass\n"}


def record(study: str, name: str, **values: Any) -> Record:
    kind = values.pop("kind", "backtest")
    return Record(
        study,
        name,
        params={"strategy.fast": 10, "note": "é"},
        metrics={"sharpe": 1.25, "net_pnl_usd": math.nan, "trades": 7.0},
        series={"equity": [(0, 1.0), (5, 2.0)]},
        tags={"mcl.kind": kind, "seed": "1"} | values.pop("tags", {}),
        **values,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two studies, a search of which one trial was deleted, a failed and a running run, a run of
    the client, two models.
    """
    store = Store(tmp_path_factory.mktemp("project"))
    store.record_many([record("mcl", f"run {i}", seconds=float(i)) for i in range(4)])
    store.record(record("mcl", "failed", status="FAILED"))
    store.start(record("mcl", "running"))
    search = record("mcl", "crosses", kind="sweep", tags={"sweep": "crosses"})
    first, second = store.record(search), store.record(search)
    for parent in (first, second):
        tags = [{"trial": str(i)} for i in range(3)]
        trials = store.record_many(
            [record("mcl", "trial", kind="trial", parent=parent, tags=tag) for tag in tags]
        )
    store.discard(trials[:1])
    other = store.record_many([record("002_other", "winner")])[0]
    for name, of_version in (("mcl", {"who": "me"}), ("mcl", {}), ("other", {})):
        version = store.register(name, other, FILES, of_version)
    store.set_alias("mcl", "paper", 1)
    store.set_alias("mcl", "live", 1)
    store.set_alias("other", "paper", version)
    store.annotate("mcl", "history", "promoted")
    return store


@pytest.fixture(scope="module")
def readers(store: Store) -> tuple[Reader, Reader]:
    assert readable(store.connection.database)
    assert isinstance(store.connection.reader, (SqliteReader, ClientReader))
    return SqliteReader(store.connection.database), ClientReader(store.connection.client)


def ids(store: Store) -> list[str]:
    return [run.run_id for run in store.in_study("mcl")]


QUESTIONS: dict[str, Callable[[Reader, list[str]], Any]] = {
    "studies": lambda reader, _: sorted(reader.studies()),
    "runs": lambda reader, ids: [reader.run(i) for i in [*ids, "none", ids[0][:6]]],
    "children": lambda reader, ids: [list(reader.children(i)) for i in ids],
    "study": lambda reader, _: list(reader.in_study("mcl", tops=False)),
    "tops": lambda reader, _: list(reader.in_study("mcl", tops=True)),
    "other study": lambda reader, _: list(reader.in_study("002_other", tops=False)),
    "no study": lambda reader, _: list(reader.in_study("none", tops=False)),
    "beginning": lambda reader, ids: [sorted(reader.beginning(i[:4])) for i in ids],
    "nothing begins so": lambda reader, _: reader.beginning("zzzz"),
    "search": lambda reader, _: [reader.sweep("crosses"), reader.sweep("none")],
    "last backtests": lambda reader, _: [reader.backtests(n) for n in (1, 3, 100)],
    "versions": lambda reader, _: [
        sorted(reader.versions(name)) for name in ("mcl", "other", "none")
    ],
    "annotations": lambda reader, _: [reader.annotations(name) for name in ("mcl", "other", "no")],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_give_the_same_answer(
    question: str, store: Store, readers: tuple[Reader, Reader]
) -> None:
    tables, client = (repr(QUESTIONS[question](reader, ids(store))) for reader in readers)
    assert tables == client  # as text: a NaN is equal to itself there


def test_what_no_store_can_hold_is_in_none(readers: tuple[Reader, Reader]) -> None:
    """A command line whose bytes are no UTF-8 has lone surrogates."""
    tables, _ = readers
    assert tables.run("\udcff") is None
    assert list(tables.in_study("\udcff", tops=True)) == []
    assert tables.beginning("\udcff") == []


def test_a_deleted_run_is_in_no_list(store: Store, readers: tuple[Reader, Reader]) -> None:
    children = [[len(list(r.children(i))) for i in ids(store)] for r in readers]
    assert children[0] == children[1]
    assert sorted(children[0])[-2:] == [2, 3]


def test_a_list_of_runs_does_not_import_mlflow(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from mcl.tracking.store import Store\n"
        f"store = Store(Path({str(store.root)!r}))\n"
        "assert store.in_study('mcl') and store.run('last') and store.versions('mcl')\n"
        "sys.exit('mlflow' in sys.modules or 'sqlalchemy' in sys.modules)"
    )
    environment = {"PATH": "", "HOME": str(Path.home())}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ended.returncode == 0
