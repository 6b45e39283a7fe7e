"""The real MLflow store in a temporary folder."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mcl.base.errors import StoreError
from mcl.tracking.store import MAX_PARAM, Record, Store, content_sha256, short

FILES = {"config.yaml": b"a: 1\n", "data/fills.parquet": b"\x00\x01"}


def record(**changes: object) -> Record:
    base: dict[str, Any] = {
        "study": "s",
        "name": "one",
        "params": {"strategy.fast": 10},
        "metrics": {"sharpe": 1.25, "calmar": math.nan},
    }
    return Record(
        **(
            base
            | {
                "tags": {"mcl.kind": "backtest"},
                "files": FILES,
                "series": {"equity_usd": [(0, 1.0), (1, 2.0)]},
            }
            | changes
        )
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("project"))


def test_a_run_comes_back_as_it_was_written(store: Store) -> None:
    stored = store.run(store.record(record()))
    assert (stored.name, stored.study, stored.status) == ("one", "s", "FINISHED")
    assert stored.params == {"strategy.fast": "10"}
    assert stored.metrics["sharpe"] == 1.25
    assert math.isnan(stored.metrics["calmar"])
    assert stored.metrics["equity_usd"] == 2.0
    assert {path: stored.file(path) for path in FILES} == FILES


def test_children_hang_below_their_parent(store: Store) -> None:
    parent = store.start(record(name="sweep", tags={"mcl.kind": "sweep"}))
    ids = store.record_many([record(name=f"t{i}", parent=parent) for i in range(3)])
    assert store.run(parent).status == "RUNNING"
    store.finish(
        parent, Record("s", "sweep", tags={"mcl.best_run_id": ids[0]}, metrics={"best": 1.0})
    )
    assert sorted(r.run_id for r in store.children(parent)) == sorted(ids)
    assert store.run(parent).status == "FINISHED"
    assert store.run(parent).tags["mcl.best_run_id"] == ids[0]


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_last(store: Store) -> None:
    run_id = store.record(record())
    assert store.run(run_id[:12]).run_id == run_id
    assert store.run("last").run_id == run_id
    second = store.record(record())
    assert (store.run("last").run_id, store.run("last~1").run_id) == (second, run_id)
    with pytest.raises(StoreError, match=r"last~900 needs 901 finished backtests .*; there are \d"):
        store.run("last~900")
    with pytest.raises(StoreError, match="no run has the id 'beef%'"):
        store.run("beef%")


def test_unknown_ids_artifacts_and_aliases_are_sentences(store: Store) -> None:
    run_id = store.record(record())
    with pytest.raises(StoreError, match="no run has the id 'nope', and no search that name"):
        store.run("nope")
    with pytest.raises(StoreError, match=r"has no artifact missing\.txt"):
        store.run(run_id).file("missing.txt")
    store.set_alias("m", "paper", store.register("m", run_id, FILES, {}))
    with pytest.raises(StoreError, match="no 'papr' of model 'm': did you mean 'paper'"):
        store.version("m", "papr")


def test_a_registered_version_holds_its_files_and_their_hash(store: Store) -> None:
    run_id = store.record(record())
    first = store.register("model", run_id, FILES, {"who": "me"})
    second = store.register("model", run_id, FILES | {"config.yaml": b"a: 2\n"}, {})
    store.set_alias("model", "paper", second)
    version = store.version("model", "paper")
    assert (version.version, version.aliases, version.run_id) == (second, ("paper",), run_id)
    assert version.files()["config.yaml"] == b"a: 2\n"
    assert version.tags["content_sha256"] == content_sha256(version.files())
    assert [v.version for v in store.versions("model")] == [second, first]
    assert store.version("model", str(first)).tags["who"] == "me"


def test_an_over_long_param_is_named_by_its_hash(store: Store) -> None:
    value = "x" * (MAX_PARAM + 1)
    stored = store.run(store.record(record(params={"long": value})))
    assert stored.params["long"] == short(value)
    assert "see config.yaml" in stored.params["long"]
    assert stored.params["long"].startswith("sha256:")


def test_runs_are_found_after_the_project_has_moved(tmp_path: Path) -> None:
    run_id = Store(tmp_path / "old").record(record())
    (tmp_path / "old").rename(tmp_path / "new")
    assert Store(tmp_path / "new").run(run_id).file("config.yaml") == FILES["config.yaml"]


FULL = """
import resource, sys
from pathlib import Path
from mcl.base.errors import StoreError
from mcl.tracking.store import Record, Store
store = Store(Path(sys.argv[1]))
store.record(Record("s", "small"))  # the database exists and fits
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
try:
    store.record(Record("s", "big", files={"report.html": b"x" * 4_000_000}))
except StoreError as error:
    print("REFUSED", error.message)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
runs = store.in_study("s")
print("STATES", sorted((r.name, r.status, (r.artifacts / "report.html").exists()) for r in runs))
"""


def test_a_full_disk_leaves_no_run_that_looks_whole(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "REFUSED cannot write big: File too large" in done.stdout
    assert "STATES [('small', 'FINISHED', False)]" in done.stdout


def test_a_full_disk_fails_a_run_of_the_client(tmp_path: Path) -> None:
    through_client = FULL.replace(
        "resource.setrlimit",
        "store.connection.__dict__['takes_bulk'] = False\nresource.setrlimit",
        1,
    )
    done = subprocess.run(
        [sys.executable, "-c", through_client, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "REFUSED cannot write big: File too large" in done.stdout
    assert "STATES [('big', 'FAILED', False), ('small', 'FINISHED', False)]" in done.stdout


def test_a_page_that_cannot_be_made_leaves_no_run(store: Store) -> None:
    def broken(run_id: str) -> dict[str, bytes]:
        raise RuntimeError(run_id)

    for quick in (True, False):
        other = Store(store.root)
        other.connection.__dict__["takes_bulk"] = quick
        with pytest.raises(RuntimeError):
            other.record(record(study="broken"), broken)
    assert [run.status for run in store.in_study("broken")] == ["FAILED"]


def test_a_run_shows_how_long_it_took_and_the_last_one_is_that_which_ended_last(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    kind = {"mcl.kind": "backtest"}
    short, long = (
        store.record(Record("s", f"took {sec}", tags=kind, seconds=sec)) for sec in (0.5, 90.0)
    )
    through_client = store.start(Record("s", "by the client", seconds=7.0))
    store.finish(through_client, Record("s", ""))
    infos = [
        store.connection.client.get_run(run_id).info for run_id in (short, long, through_client)
    ]
    took = [info.end_time - info.start_time for info in infos]
    assert took[:2] == [500, 90_000]
    assert took[2] >= 7_000
    assert store.run("last").run_id == long


def test_a_fresh_store_is_made_without_a_word_from_mlflow(tmp_path: Path) -> None:
    code = (
        "from mcl.tracking.store import Store; from mcl.base.errors import StoreError\ntry:"
        " Store().run('last')\nexcept StoreError: pass"
    )
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | {
        "MCL_HOME": str(tmp_path)
    }
    # the newest mlflow beside older parts of it, as .ci/ahead.txt installs them
    quiet["PYTHONWARNINGS"] = "ignore:Versions of mlflow"
    done = subprocess.run(
        [sys.executable, "-c", code], env=quiet, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_system_metrics_are_logged_where_mlflow_is_asked_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    run_id = store.start(Record("study", "search"))
    with store.connection.system_metrics(run_id):
        pass
    assert store.run(run_id).metrics == {}
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    deadline = time.monotonic() + 60
    while not (metrics := store.run(run_id).metrics):
        assert time.monotonic() < deadline
        with store.connection.system_metrics(run_id):
            time.sleep(0.5)
    assert metrics["system/cpu_utilization_percentage"] >= 0
    assert metrics["system/system_memory_usage_megabytes"] > 0
