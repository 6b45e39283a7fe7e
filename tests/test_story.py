"""The whole line as a person walks it, through the command line, in a project folder of its own."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mcl.cli import demo
from mcl.cli.main import main, parse
from mcl.data.sources.eia import LIMITS
from mcl.tracking.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]


class Shell:
    """`mcl --json …` in one project folder."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys

    def __call__(self, *args: str, code: int = 0) -> dict[str, Any]:
        self.capsys.readouterr()
        assert main(["--json", *args]) == code
        lines = self.capsys.readouterr().out.strip().splitlines()
        assert len(lines) == 1, f"one JSON object on stdout, not {lines}"
        answer: dict[str, Any] = json.loads(lines[0])
        return answer

    def refused(self, *args: str) -> str:
        error = self(*args, code=1)["error"]
        assert set(error) - {"gates", "notes"} == {"code", "message", "hint"}
        return str(error["message"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, worlds: Path) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "data").symlink_to(worlds)
    shutil.copytree(REPOSITORY / "conf", folder / "conf", ignore=shutil.ignore_patterns("promoted"))
    shutil.copytree(REPOSITORY / "experiments", folder / "experiments")
    return folder


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("MCL_HOME", str(home))
    return Shell(home, capsys)


def test_from_an_empty_folder_to_an_audited_paper_session(shell: Shell) -> None:
    info = shell("data", "info", "data=planted")
    assert info["synthetic"] is True
    assert info["sessions"] == 536

    swept = shell(
        "sweep", "data=planted", "study=story", "search.trials=12", "search.sampler=random"
    )
    assert sum(swept["trials"].values()) == 12
    assert Path(swept["report"]).is_file()
    best = swept["best"]
    assert best["metrics"]["sharpe"] > 2

    shown = shell("report", best["run_id"])
    assert shown["metrics"] == best["metrics"], (
        "the search, the run and the report show the same numbers"
    )
    count = shown["metrics"]["trials_counted"]
    assert 2 < count <= 12, "points twice, and those that no rule let through, are no trials"
    page = Path(shown["report"]).read_text()
    assert "SYNTHETIC DATA" in page
    assert best["run_id"] in page

    single = shell(
        "backtest", "data=planted", "study=story", *(f"{k}={v}" for k, v in best["params"].items())
    )
    assert single["metrics"] == best["metrics"], "the same configuration by hand is bit-equal"
    assert single["metrics"]["trials_counted"] == count, (
        "the same configuration again is no further trial"
    )
    assert {"run_id", "metrics", "report", "config_sha256", "data_fingerprint"} <= set(single)

    compared = shell("compare", best["run_id"], single["run_id"])
    assert compared["metrics"] == {}
    assert shell("rerun", single["run_id"])["equal"] is True

    promoted = shell("promote", best["run_id"], "--to", "paper")
    assert all(gate["passed"] or not gate["asked"] for gate in promoted["gates"])
    assert shell("report", best["run_id"])["versions"] == ["version 1 (paper)"]
    text = Path(promoted["path"]).read_text()
    assert yaml.safe_load(text)["strategy"]["fast"] == best["params"]["strategy.fast"]
    assert shell("registry")["versions"][0]["aliases"] == ["paper"]

    session = shell("live", "paper")
    assert session["differences"] == []
    assert session["decisions"] > 1000
    assert session["orders"] >= 1
    assert session["fills"] >= 1

    Path(promoted["path"]).write_text(text.replace("contracts: 1.0", "contracts: 9.0"))
    assert "conf/promoted/paper.yaml" in shell.refused("live", "paper")


def test_a_world_without_edge_is_refused_with_its_gates(shell: Shell) -> None:
    done = shell(
        "backtest", "data=synthetic", "study=luck", "strategy.fast=240", "strategy.slow=960"
    )
    message = shell.refused("promote", done["run_id"])
    assert "p_value" in message
    assert "gates" in message


def test_a_grid_is_one_parent_with_one_child_per_job_and_a_bad_job_stops_no_other(
    shell: Shell,
) -> None:
    swept = shell(
        "backtest",
        "-m",
        "study=grid",
        "strategy.fast=5,10,20",
        "strategy.slow=10,30,60",
        "data.start='2025-05-01'",
        code=1,
    )
    assert swept["trials"] == {"COMPLETE": 7, "FAILED": 2}
    children = Store(shell.home).children(swept["sweep_id"])
    assert len(children) == 9
    compared = shell("compare", swept["sweep_id"])  # a grid is all its finished runs
    assert len(compared["runs"]) == len(compared["p_values"]) == 7
    assert compared["family"]["best"] in compared["runs"]
    assert set(compared["family"]["superior"]) <= set(compared["runs"])
    failed = [run for run in children if run.status == "FAILED"]
    assert len(failed) == 2
    assert all(
        "need 0 < fast < slow" in run.file("traceback.txt").decode()
        or "need 0 < fast < slow" in str(run.tags)
        for run in failed
    )


def test_the_summary_the_page_and_the_run_show_the_same_numbers(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    done = shell("backtest", "study=same", "data.start='2025-05-01'")
    run = Store(shell.home).run(done["run_id"])
    stored, today = run.summary, {k: v for k, v in done["metrics"].items() if v is not None}
    counted = {
        "dsr": stored.pop("dsr_at_run"),
        "trials_counted": stored.pop("trials_at_run"),
        "best_by_luck": today["best_by_luck"],
    }
    assert {k: v for k, v in stored.items() if v == v} | counted == today
    assert main(["report", done["run_id"], "--all"]) == 0
    printed = capsys.readouterr().out
    page = Path(done["report"]).read_text()
    from mcl.report.format import metric_rows

    for label, text, _ in metric_rows(stored):  # what is counted is shown as of today
        assert label in printed
        assert text in printed
        assert text in page
    trades = pd.read_parquet(io.BytesIO(run.file("data/trades.parquet")))
    assert trades["net_usd"].sum() == pytest.approx(run.summary["net_pnl_usd"], abs=1e-6)


def test_forty_years_of_a_real_market_need_no_file(shell: Shell) -> None:
    info = shell("data", "info", "data=eia")
    assert (info["bars"], info["synthetic"]) == (9740, False)
    assert info["facts"]["limits"] == LIMITS
    done = shell("backtest", "experiment=002_tsmom_forty_years", "data.holdout_start=null")
    assert done["synthetic"] is False
    assert done["metrics"]["sessions"] > 9_700
    equity = pd.read_parquet(
        io.BytesIO(Store(shell.home).run(done["run_id"]).file("data/equity.parquet"))
    )
    assert equity["equity_usd"].notna().all()
    page = Path(done["report"]).read_text()
    assert f'<div class="limits" role="note">{LIMITS}' in page
    assert "data.conditions.degraded" in page
    assert "data.conditions.1983" not in page  # 440 days are one line


def test_the_demo_is_one_answer_of_a_project_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # a demo fills no other store
    folder = tmp_path / "demo"
    before = dict(os.environ)
    assert main(["--json", "demo", str(folder), "--acts", "1"]) == 0
    [line] = capsys.readouterr().out.strip().splitlines()
    answer = json.loads(line)
    unchanged = dict(os.environ) == before
    assert unchanged
    [act] = answer["acts"]
    assert act["synthetic"] is False
    codes = [(command["line"].split()[1], command["code"]) for command in act["commands"]]
    assert codes == [("data", 0), ("backtest", 0), ("sweep", 0), ("promote", 1)]
    best = act["commands"][2]["answer"]["best"]
    assert best["params"] == {"strategy.lookback": 105}
    assert f"{best['metrics']['sharpe']:.4f}" == "0.5453"
    refusal = act["commands"][3]["answer"]["error"]
    assert "holdout_sharpe_high = 0.429315" in refusal["message"]
    assert faults_of_the_readme(best, refusal["gates"]) == []
    assert main(["--json", "demo", str(folder)]) == 1  # never in a project that is there
    assert "is not empty" in json.loads(capsys.readouterr().out)["error"]["message"]


def faults_of_the_readme(best: dict[str, Any], gates: list[dict[str, Any]]) -> list[str]:
    """What the README shows of the real result and the demo does not print."""
    shown = (REPOSITORY / "README.md").read_text().split("**A real result**")[1].split("```")[1]
    block = " ".join(shown.split())
    values = best["metrics"]
    row = (
        f"{best['trial']} {best['params']['strategy.lookback']} {values['sharpe']:.4f}"
        f" {values['net_pnl_usd']:,.0f} {values['max_drawdown_frac']:.4f} {values['trades']:.0f}"
    )
    rows = [row]
    for gate in gates:
        if re.search(rf"^ *{gate['name']} ", shown, re.M):
            word = "pass" if gate["passed"] else "MISSED"
            number = f"{gate['value']:.6g}"
            rows.append(f"{gate['name']} {number} {gate['rule']} {word} {gate['meaning']}")
    return [] if len(rows) == 3 and all(row in block for row in rows) else rows


@pytest.mark.parametrize("act", demo.ACTS, ids=lambda act: act.title[:14])
def test_every_command_of_the_demo_is_one(act: demo.Act) -> None:
    for command in act.commands:
        parse(shlex.split(command.line))
    assert act.synthetic == act.title.startswith("SYNTHETIC DATA")


def test_real_market_data_from_the_command_line(shell: Shell, shared_data: Path) -> None:
    gold = shell(
        "backtest",
        "data=lean_gold",
        f"data.path={shared_data / 'lean_apache2'}",
        "strategy.fast=5",
        "strategy.slow=20",
    )
    assert gold["synthetic"] is False
    # the sample begins behind the first notice day of October: December alone is held
    assert gold["metrics"]["rolls_traded"] == 0
    dbn = shared_data / "databento_python_apache2" / "GLBX.MDP3__test_data.ohlcv-1m.dbn.zst"
    sample = shell(
        "backtest",
        "data=mcl_databento",
        "data.instrument=ES",
        f"data.path={dbn}",
        "strategy=always_long",
    )
    assert sample["metrics"]["bars"] == 4


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["backtest", "data=csv", "data.path=nowhere.csv", "data.stamped_at=close"], "nowhere.csv"),
        (
            ["backtest", "data.start='2030-01-01'", "data.holdout_start=null"],
            "no bars from 2030-01-01",
        ),
        (
            ["backtest", "strategy.fast=30", "strategy.slow=30"],
            "need 0 < fast < slow; fast=30, slow=30",
        ),
        (["backtest", "data.instrument=MCX"], "MCX"),
        (["report", "0123456789abcdef"], "no run has the id '0123456789abcdef'"),
        (["live", "papr"], "papr"),
        (["live", "paper", "strategy.fast=3"], "strategy.fast=3 may not be changed here"),
        (["live", "paper", "broker=ib_papr"], "did you mean 'ib_paper'?"),
        (["data", "download"], "--start is missing"),
        (["sweep", "strategy=flat"], "space"),
        (["promote", "last", "promotion.min_trade=3"], "min_trades"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    shell: Shell, command: list[str], sentence: str
) -> None:
    before = sorted(p.name for p in (shell.home / "mlruns").glob("*"))
    message = shell.refused(*command)
    assert sentence in message
    assert "\n" not in message
    assert sorted(p.name for p in (shell.home / "mlruns").glob("*")) == before


def test_a_port_in_use_is_named(shell: Shell) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in shell.refused("ui", "--port", str(port))


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bactest"]) == 2
    assert "did you mean 'backtest'?" in capsys.readouterr().err
    assert main(["backtest", "--nonsense"]) == 2
    assert main(["compare"]) == 2
