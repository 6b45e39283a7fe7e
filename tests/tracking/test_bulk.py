"""Runs written in bulk are indistinguishable from those that MLflow's own client writes."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mcl.base.errors import StoreError
from mcl.tracking import sqlite_writer
from mcl.tracking.store import Record, Store

RECORD = Record(
    study="bulk",
    name="trial 1",
    params={"strategy.fast": 10, "notes": "x" * 700, "costs.slippage_ticks": 0.5},
    metrics={"sharpe": 1.25, "calmar": math.nan, "sortino": math.inf},
    tags={"mcl.kind": "trial", "state": "COMPLETE", "reason": ""},
    series={"curve/equity_usd": [(0, 1.0), (1, math.nan), (7, 2.0)]},
    files={"config.json": b"{}", "data/x.bin": b"\x00"},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("text", ["plain", 'é\u2028😀 "\\u0000" \\ \t', "before\0after"])
def test_bulk_and_client_write_the_same(store: Store, text: str) -> None:
    parent = store.start(Record("bulk", "parent"))
    record = Record(
        **(
            vars(RECORD)
            | {
                "parent": parent,
                "params": RECORD.params | {"text": text},
                "tags": RECORD.tags | {"text": text},
            }
        )
    )
    by_client = Store(store.root)
    by_client.connection.__dict__["takes_bulk"] = False
    ids = {"client": by_client.record(record), "bulk": store.record(record)}
    runs = {how: store.connection.client.get_run(run_id) for how, run_id in ids.items()}
    assert runs["bulk"].data.params == runs["client"].data.params
    assert runs["bulk"].data.params["text"] == text
    assert runs["bulk"].data.tags == runs["client"].data.tags
    # NaN is not NaN
    assert repr(sorted(runs["bulk"].data.metrics.items())) == repr(
        sorted(runs["client"].data.metrics.items())
    )
    for name in ("experiment_id", "lifecycle_stage", "run_name", "status", "user_id"):
        assert getattr(runs["bulk"].info, name) == getattr(runs["client"].info, name)
    uris = {how: run.info.artifact_uri.replace(ids[how], "RUN") for how, run in runs.items()}
    assert uris["bulk"] == uris["client"]
    assert {path: store.run(ids["bulk"]).file(path) for path in RECORD.files} == RECORD.files
    columns = (
        "name, source_type, source_name, entry_point_name, user_id, status, source_version,"
        " lifecycle_stage, experiment_id, deleted_time"
    )
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as database, database:
        rows = [
            database.execute(f"SELECT {columns} FROM runs WHERE run_uuid = ?", (i,)).fetchone()
            for i in ids.values()
        ]
        histories = [
            database.execute(
                "SELECT key, value, is_nan, timestamp, step FROM metrics WHERE run_uuid = ? ORDER"
                " BY key, step",
                (i,),
            ).fetchall()
            for i in ids.values()
        ]
    assert rows[0] == rows[1]
    assert len(histories[0]) == 5
    assert histories[0] == histories[1]


def test_a_run_that_is_begun_and_finished_is_the_same_by_both(store: Store) -> None:
    """A search: its parent is RUNNING until the last trial, and may be extended."""
    by_client = Store(store.root)
    by_client.connection.__dict__["takes_bulk"] = False
    begin = Record("bulk", "search", tags={"target": "8"}, params={"a": 1})
    end = Record(
        "bulk",
        "search",
        tags={"target": "20", "mlflow.note.content": "RUN of EXPERIMENT"},
        params={"b": 2},
        metrics={"best_sharpe": 1.5, "worst": math.nan},
        series={"value": [(0, 0.5), (1, 1.5)]},
        files={"sweep.html": b"page"},
    )
    seen = []
    for writer in (by_client, store):
        run_id = writer.start(begin)
        running = store.connection.client.get_run(run_id)
        assert (running.info.status, running.info.end_time) == ("RUNNING", None)
        writer.finish(run_id, end)
        run = store.connection.client.get_run(run_id)
        assert run.info.end_time >= run.info.start_time
        assert store.run(run_id).file("sweep.html") == b"page"
        values = {k: v.replace(run_id, "RUN") for k, v in run.data.tags.items()}
        seen.append(
            (run.info.status, values, run.data.params, repr(sorted(run.data.metrics.items())))
        )
        writer.reopen(run_id, "longer")
        again = store.connection.client.get_run(run_id).info
        assert (again.status, again.run_name) == ("RUNNING", "longer")
        writer.finish(run_id, replace(end, metrics={"best_sharpe": 1.25}))
        assert store.run(run_id).metrics["best_sharpe"] in (1.25, 1.5)
    assert seen[0] == seen[1]
    assert store.run(run_id).metrics["best_sharpe"] == 1.25  # the newest, by the tables


def test_a_run_whose_files_cannot_be_written_is_failed(store: Store) -> None:
    run_id = store.start(Record("bulk", "search"))
    with pytest.raises(StoreError, match="cannot write"):
        store.finish(run_id, Record("bulk", "search", files={"a": b"", "a/b": b""}))
    run = store.run(run_id)
    assert run.status == "FAILED"
    assert run.tags["mcl.error"].startswith("cannot write search")
    with pytest.raises(StoreError, match="no run"):
        store.finish("0" * 32, Record("bulk", "search"))


def test_a_run_from_bulk_goes_on_living(store: Store) -> None:
    run_id = store.record_many([RECORD])[0]
    client = store.connection.client
    client.set_tag(run_id, "note", "later")
    client.log_metric(run_id, "sharpe", 2.0, step=1)
    assert store.run(run_id).metrics["sharpe"] == 2.0
    assert [m.value for m in client.get_metric_history(run_id, "sharpe")] == [1.25, 2.0]
    study = client.get_experiment_by_name("bulk")
    assert study is not None
    matches = client.search_runs(
        [study.experiment_id],
        "metrics.sharpe > 1.5 and tags.note = 'later'",
    )
    assert [run.info.run_id for run in matches] == [run_id]
    client.delete_run(run_id)
    client.restore_run(run_id)
    assert store.run(run_id).status == "FINISHED"


def test_order_and_count(store: Store) -> None:
    records = [
        Record("bulk", f"trial {i}", status="FAILED" if i % 2 else "FINISHED") for i in range(20)
    ]
    stored = [store.run(run_id) for run_id in store.record_many(records)]
    assert [(run.name, run.status) for run in stored] == [(r.name, r.status) for r in records]
    assert len({run.run_id[:8] for run in stored}) == len(records)  # as a person types them
    assert store.record_many([]) == []


def test_all_or_nothing(store: Store) -> None:
    before = len(store.in_study("bulk"))
    folders = set((store.folder / "artifacts" / "bulk").iterdir())
    twice = Record("bulk", "bad", files={"a": b"", "a/b": b""})  # a file cannot also be a folder
    with pytest.raises(StoreError, match="cannot write"):
        store.record_many([RECORD, twice])
    assert len(store.in_study("bulk")) == before
    assert set((store.folder / "artifacts" / "bulk").iterdir()) == folders


def test_tables_that_do_not_fit_fall_back_to_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not sqlite_writer.supported(tmp_path / "none.db")
    (tmp_path / "other.db").write_bytes(b"")
    assert not sqlite_writer.supported(tmp_path / "other.db")
    monkeypatch.setattr(sqlite_writer, "objections", lambda _: ["runs has no column name"])
    store = Store(tmp_path)
    run_id = store.record_many([RECORD])[0]
    assert store.run(run_id).metrics["sharpe"] == 1.25
    assert not store.connection.takes_bulk
