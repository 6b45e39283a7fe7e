"""Every verb, run once on a small world: its answer is seen against its model.

The plugin in tests/answers.py validates. This test shows that no verb is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from answers import Answers
from broker.test_serve import serving
from data.gateway import gateway
from data.test_eia import LATER, newer
from deployments import write_walks
from journals import written
from live.desks import SmallDesk
from live.test_operate import running

from mcl.base import terminal
from mcl.cli.main import main
from mcl.cli.table import VERBS
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.live.status import Command

ROOT = Path(__file__).resolve().parents[1]
WALK = (
    "data=csv",
    "data.path=walk-5m.csv",
    "data.interval=5m",
    "data.columns.symbol=symbol",
    "data.stamped_at=close",
    "data.timezone=UTC",
)
FENCED = (*WALK, "data.holdout_start=2025-11-11")
RUN = ("strategy=ema_cross", "strategy.fast=10", "strategy.slow=30", "risk=fixed")
OPEN_GATES = (
    "promotion.min_trades=1",
    "promotion.min_sessions=1",
    "promotion.min_holdout_trades=1",
    "promotion.min_holdout_sharpe=-1e9",
    "promotion.max_drawdown_frac=0.99",
    "promotion.min_deflated_sharpe=0",
    *("promotion.min_doubled_costs_sharpe=-1e9", "promotion.min_plateau_frac=null"),
    *(
        f"promotion.{name}=null"
        for name in (
            "max_sharpe",
            "max_trade_share",
            "max_session_share",
            "min_holdout_sharpe_high",
            "max_p_value",
        )
    ),
)
SEARCH = (
    *WALK,
    "strategy=ema_cross",
    "strategy.fast=range(3,12)",
    "strategy.slow=range(20,40)",
    "search.min_trades=0",
    "search.sampler=random",
)
OPERATE = ("status", "pause", "resume", "reduce-only", "flatten", "stop", "kill")


@pytest.fixture
def home(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a walk, that is the current folder, too."""
    write_walks(project)
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def run(*words: str, code: int | None = 0) -> dict[str, Any]:
        capsys.readouterr()
        ended = main(["--json", *words])
        out = capsys.readouterr()
        assert ended == code or (code is None and ended in (0, 1)), (
            f"{words}: {out.out[:2000]}{out.err[-2000:]}"
        )
        answer: dict[str, Any] = json.loads(out.out)
        return answer

    return run


@contextmanager
def ends_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Press Ctrl-C when a verb that runs on has answered."""
    answer = terminal.answer

    def pressed(data: dict[str, Any], render: Callable[[], None]) -> None:
        answer(data, render)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    with monkeypatch.context() as patch:
        patch.setattr(terminal, "answer", pressed)
        yield


def test_an_answer_of_every_verb_is_as_its_model_says(
    home: Path,
    shell: Callable[..., dict[str, Any]],
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin: Answers = pytestconfig.pluginmanager.getplugin("mcl-answers")
    before, plugin.verbs = plugin.verbs, set()
    try:
        begin(home, shell)
        read_data(home, shell, monkeypatch)
        research(shell)
        deploy(shell)
        operate(home, shell, monkeypatch)
        keep(shell)
        unseen = {verb.name for verb in VERBS.values() if verb.answer} - plugin.verbs
    finally:
        plugin.verbs |= before
    assert unseen == set()


def begin(home: Path, shell: Callable[..., dict[str, Any]]) -> None:
    assert shell("init", "fresh")["files"]
    assert shell_any(shell, "doctor")["findings"]
    assert shell("demo", "demo", "--acts", "1")["acts"][0]["commands"]
    assert shell("new", "strategy", "mine")["name"] == "mine"
    for name in ("mcl/data/sources/__init__.py", "tests/data/conftest.py"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, home / name)
    assert shell("new", "source", "vendor")["name"] == "vendor"
    assert "mcl" in shell("completion", "bash")["script"]
    assert shell("explain", "strategy.fast", "strategy=ema_cross")["chain"]


def shell_any(shell: Callable[..., dict[str, Any]], *words: str) -> dict[str, Any]:
    """A verb that answers with 0 or 1, by what it finds."""
    answer = shell(*words, code=None)
    assert "error" not in answer, answer["error"]
    return answer


def read_data(
    home: Path, shell: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell("data", "sniff", "walk-5m.csv")["preset"] == "csv"
    assert shell("data", "build", *WALK)["bars"] == shell("data", "info", *WALK)["bars"]
    shell_any(shell, "data", "check", *WALK)
    minutes = [word.replace("5m", "1m") for word in WALK]
    assert shell("data", "realism", *minutes)["figures"]
    assert shell("data", "extend", "eia", str(newer(home, LATER)))["added"] == 2
    shutil.copy("walk-5m.csv", "other.csv")
    own = " ".join(WALK[2:])
    sources = [f"csv data.path={name} {own}" for name in ("walk-5m.csv", "other.csv")]
    assert shell("data", "compare", *sources, *RUN)["missing"]
    shell_any(shell, "contract", "check", "--on", "2025-12-01")
    world = generator.generate(
        SyntheticData(source="synthetic", seed=11),
        home / "world",
        first=date(2024, 1, 2),
        last=date(2024, 1, 19),
    )
    with gateway(world, home) as vendor:
        order = ("data", "download", "--yes", f"data.gateway={vendor.url}", "--start", "2024-01-10")
        for schema in ("definition", "ohlcv-1m", "mbp-1"):
            assert shell(*order, "--end", "2024-01-12", "--schema", schema)["records"]
    costs = ("--sessions", "1", "--contracts", "1,5", "data=mcl_databento")
    assert shell("data", "costs", *costs)["slippage_ticks"]
    with ends_after_its_answer(monkeypatch):
        assert shell("data", "gateway", "--folder", str(world))["synthetic"] is True


def research(shell: Callable[..., dict[str, Any]]) -> None:
    first = shell("backtest", *FENCED, *RUN)["run_id"]
    assert shell("backtest", "-m", *FENCED, *RUN, "strategy.fast=5,6")["sweep_id"]
    second = shell("backtest", *FENCED, *RUN, "strategy.fast=12")["run_id"]
    searched = shell("sweep", *SEARCH, "search.trials=6")["sweep_id"]
    assert shell("sweep", "status", searched)["state"] == "FINISHED"
    assert shell("sweep", "resume", searched)["trials"]
    assert shell("sweep", "extend", searched, "8")["trials"]
    assert shell("sweep", "report", searched)["report"]
    stop_a_search(shell)
    folds = ("search.walk_forward=anchored", "search.folds=3", "search.trials=3")
    assert shell("sweep", *SEARCH, *folds)["folds"]
    assert shell("sweep", *SEARCH, "--estimate", "search.trials=6")["total_sec"]
    assert shell("sweep", *SEARCH, "--cfg")["search"]
    assert len(shell("runs")["runs"]) > 1
    assert shell("report", first)["report"]
    assert shell("report", searched)["trials"]
    assert shell("compare", first, second)["runs"] == [first, second]
    assert shell("rerun", first)["equal"] is True
    assert shell_any(shell, "validate", first)["rows"]
    assert shell("critique", first)["run_id"] == first
    assert shell("select", searched)["sweep_id"] == searched
    assert shell("trials")["places"]
    assert shell("check", "lookahead", *WALK, *RUN, "--samples", "4")["has_bias"] is False
    assert shell("check", "warmup", *WALK, *RUN, "--samples", "4")["enough"] is True


def stop_a_search(shell: Callable[..., dict[str, Any]]) -> None:
    words = (*SEARCH, "search.trials=5000", "search.name=long")
    process = subprocess.Popen([sys.executable, "-m", "mcl", "--quiet", "sweep", *words])
    try:
        until = time.monotonic() + 120
        while main(["--quiet", "sweep", "status", "long"]):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        assert shell("sweep", "stop", "long")["state"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def deploy(shell: Callable[..., dict[str, Any]]) -> None:
    for fast in ("10", "12"):
        run_id = shell("backtest", *FENCED, *RUN, f"strategy.fast={fast}")["run_id"]
        assert shell("promote", run_id, "--to", "paper", *OPEN_GATES)["gates"]
    assert len(shell("registry")["versions"]) == 2
    assert shell("promoted", "diff", "1", "2")["config"]
    assert shell("rollback", "paper", "--because", "a test")["version"] == 1
    assert shell("promoted", "history")["events"]
    session = shell("live", "paper")
    assert session["decisions"]
    day = shell("status", "paper")["session"]
    assert shell("live", "audit", day, "paper")["decisions"] == session["decisions"]
    assert shell("registry", "report", "paper")["sentence"]
    assert shell("registry", "costs", "paper")["months"]


def operate(
    home: Path, shell: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(home)
    for verb in ("orders", "fills", "why"):
        assert shell(verb, "paper")["journal"]
    desk = SmallDesk()
    with running(home, desk):
        for verb in OPERATE:
            assert shell(verb, "paper")["alias"] == "paper"
    with running(home, AdoptingDesk()):
        assert shell("adopt", "paper")["said"]
    with ends_after_its_answer(monkeypatch):
        assert shell("dashboard", "paper")["read_only"] is True
    served = ("--port", "0", "--clock", "100000", "--until-end", "--transcript", "tws.txt", *WALK)
    assert shell("tws", "serve", *served)
    with serving(home):
        assert shell("tws", "status")["servers"]
    assert "messages" in shell("tws", "log", "tws.txt")


class AdoptingDesk(SmallDesk):
    async def command(self, word: Command, who: str, why: str) -> str:
        return f"{word}: taken over, {who}, {why}"


def keep(shell: Callable[..., dict[str, Any]]) -> None:
    archive = shell("store", "backup", "--to", "all.tar.zst")["path"]
    assert shell("store", "restore", archive, "--check")["files"]
    assert shell("store", "gc", "--dry-run")["removed"] is False
