"""What own code reads besides its bars is recorded, wherever it computes, and nothing else is."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from deployments import Project, empty_store
from deployments import project as made

from mcl.base import access_recorder
from mcl.cli.main import main
from mcl.config.promotion_rules import Promotion
from mcl.data.loader import load
from mcl.promotion.promote import promote
from mcl.search.trial import DataCache, Objective
from mcl.validation import lookahead

CODE = """
from dataclasses import dataclass
from typing import ClassVar
import os, socket, sqlite3, subprocess, threading
import numpy as np
import pandas as pd
{top}

@dataclass(frozen=True)
class Reader:
    name: ClassVar[str] = "reader"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = 20

    def signal(self, bars):
        {body}
        close = pd.Series(bars.adjusted["close"])
        return np.sign((close - close.shift(10)).round(6))
"""
GATES = Promotion(
    min_trades=0,
    min_sessions=0,
    max_drawdown_frac=None,
    min_deflated_sharpe=None,
    min_holdout_sharpe=None,
    min_holdout_trades=None,
    max_biased_rows=0,
    min_holdout_sharpe_high=None,
    max_p_value=None,
    max_sharpe=None,
    max_trade_share=None,
    max_session_share=None,
)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def shop(tmp_path: Path, blank: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = made(tmp_path / "project", blank)
    (project.root / "experiments" / "strategies").mkdir(parents=True)
    (project.root / "future.csv").write_text("a,b\n1,2\n")
    monkeypatch.setenv("MCL_HOME", str(project.root))
    return project


def plant(shop: Project, body: str = "pass", top: str = "") -> None:
    file = shop.root / "experiments" / "strategies" / "reader.py"
    file.write_text(CODE.format(body=body.format(root=shop.root), top=top.format(root=shop.root)))
    stamp = file.stat().st_mtime_ns + 1_000_000
    os.utime(file, ns=(stamp, stamp))


def reads(shop: Project) -> set[str]:
    from mcl.engine.backtest import backtest

    run = shop.config({"name": "reader"})
    with access_recorder.recording() as accesses:
        backtest(run, load(run.data, shop.root))
    return accesses


WAYS = {
    "pandas": ("pd.read_csv('{root}/future.csv')", "file {root}/future.csv"),
    "open": ("open('{root}/future.csv').close()", "file {root}/future.csv"),
    "descriptor": ("os.close(os.open('{root}/future.csv', os.O_RDONLY))", "file {root}/future.csv"),
    "numpy": ("np.genfromtxt('{root}/future.csv', delimiter=',')", "file {root}/future.csv"),
    "folder": ("os.listdir('{root}')", "file {root}"),
    "database": ("sqlite3.connect('{root}/x.sqlite').close()", "file {root}/x.sqlite"),
    "program": ("subprocess.run(['true'], check=True)", "program true"),
    "thread": (
        "t = threading.Thread(target=open, args=('{root}/future.csv',)); t.start(); t.join()",
        "file {root}/future.csv",
    ),
    "the project's other data": ("open('{root}/walk-1m.csv').close()", "file {root}/walk-1m.csv"),
    "connection": (
        "socket.socket(socket.AF_UNIX).connect_ex('{root}/none')",
        "connection {root}/none",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_what_is_read_is_recorded(shop: Project, way: str) -> None:
    body, expected = WAYS[way]
    plant(shop, body)
    assert expected.format(root=shop.root) in reads(shop)


def test_what_was_read_at_the_import_or_once_is_recorded_every_time(shop: Project) -> None:
    plant(shop, top="DATA = pd.read_csv('{root}/future.csv')")
    expected = f"file {shop.root}/future.csv"
    assert reads(shop) == {expected}
    assert reads(shop) == {expected}
    plant(
        shop,
        "pass",
        "import functools\n@functools.cache\ndef data(): return pd.read_csv('{root}/future.csv')",
    )
    assert reads(shop) == set()
    plant(
        shop,
        "data()",
        "import functools\n@functools.cache\ndef data(): return pd.read_csv('{root}/future.csv')",
    )
    assert reads(shop) == reads(shop) == {expected}


def test_a_library_that_opens_files_without_a_word_is_named(shop: Project) -> None:
    plant(shop, "import pyarrow.parquet as pq")
    assert reads(shop) == {"library pyarrow, which opens files without a word"}


def test_imports_caches_and_other_threads_are_left_out(shop: Project) -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.wait(0.001):
            (shop.root / "future.csv").read_text()

    for name in ("colorsys", "quopri"):
        sys.modules.pop(name, None)
    body = (
        "import colorsys, quopri; kernel(bars.adjusted['close']);"
        " pd.Timestamp('2024-01-01', tz='Europe/Vienna')"
    )
    plant(shop, body, "from mcl.base.jit import njit\n@njit\ndef kernel(x): return x.sum()")
    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert reads(shop) == set()
    finally:
        stop.set()
        thread.join()


def test_it_is_said_on_the_run_in_the_check_and_in_promotion(
    shop: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(shop, "open('{root}/future.csv').close()")
    expected, run = f"file {shop.root}/future.csv", shop.config({"name": "reader"})
    run_id = shop.run(run)
    stored = shop.store.run(run_id)
    assert json.loads(stored.file("reads.json")) == [expected]
    assert expected in stored.tags["own_code_reads"]
    report = lookahead.lookahead(run, load(run.data, shop.root), samples=3)
    assert not report.has_bias
    assert report.reads == (expected,)
    done = promote(run_id, project=shop, gates=GATES)
    assert done.reads == (expected,)
    assert f"# own code reads   {expected}" in done.path.read_text()
    assert json.loads(shop.store.version("mcl", "paper").files()["provenance.json"])[
        "own_code_reads"
    ] == [expected]
    assert main(["report", run_id]) == 0
    assert "OWN CODE READS MORE THAN ITS BARS" in capsys.readouterr().out


def test_a_strategy_that_reads_nothing_has_nothing_said_of_it(shop: Project) -> None:
    plant(shop)
    stored = shop.store.run(shop.run(shop.config({"name": "reader"})))
    assert "own_code_reads" not in stored.tags
    assert not (stored.artifacts / "reads.json").exists()


def test_a_trial_of_a_search_says_it(shop: Project) -> None:
    from mcl.config import schema

    plant(shop, "open('{root}/future.csv').close()")
    raw = shop.config({"name": "reader"}).model_dump(mode="json")
    search = schema.Search(metric="sharpe", trials=1, space={"strategy": {}})
    outcome = Objective(raw, search, DataCache(shop.root))(0, {})
    assert outcome.reads == [f"file {shop.root}/future.csv"]
