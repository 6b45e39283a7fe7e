"""The rehearsal of docs/how-to.md: its commands, typed one by one, with a CSV and with DBN files as
a user has them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from deployments import walk

from mcl.base.instants import NS
from mcl.cli.main import main
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic.generator import generate
from mcl.live.journal import Entry, Kind, read
from mcl.market import calendar

ROOT = Path(__file__).resolve().parents[2]
PORT = 7497
WAIT_SEC = 240.0
# The machine's clock may stand on a Sunday. Both programs are told another one, which is all that
# is not as a person types it.
LATER = """
import sys, time
away, now, now_ns = int(sys.argv.pop(1)), time.time, time.time_ns
time.time, time.time_ns = (lambda: now() + away / 1e9), (lambda: now_ns() + away)
from mcl.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""
GATES = (
    *(
        "promotion.min_trades=0",
        "promotion.min_sessions=1",
        "promotion.max_drawdown_frac=0.99",
        "promotion.min_deflated_sharpe=0",
    ),
    *(
        "promotion.min_holdout_sharpe=-1e9",
        "promotion.min_holdout_trades=0",
        "promotion.min_doubled_costs_sharpe=null",
    ),
    *(
        "promotion.min_plateau_frac=null",
        "promotion.max_pbo=null",
        "promotion.min_holdout_sharpe_high=null",
    ),
    *(
        "promotion.max_p_value=null",
        "promotion.max_sharpe=null",
        "promotion.max_trade_share=null",
        "promotion.max_session_share=null",
    ),
)
HOLDOUT = {"csv": "2025-11-11", "mcl_databento": "2025-04-03"}
TODAY = {"csv": date(2025, 11, 13), "mcl_databento": date(2025, 4, 11)}


def commands(source: str) -> dict[str, list[str]]:
    """The words of the section's lines by their first verb, with the data of `source`."""
    section = (ROOT / "docs" / "how-to.md").read_text().split("## 11. ")[1].split("\n## ")[0]
    lines = [
        shlex.split(line)[1:]
        for block in re.findall(r"^```sh elsewhere\n(.*?)^```", section, re.M | re.S)
        for line in block.splitlines()
    ]
    assert {words[0] for words in lines} == {"backtest", "promote", "tws", "live", "status", "stop"}
    found = {
        words[0]: words for words in lines if words[0] != "backtest" or f"data={source}" in words
    }
    data = [word for word in found["backtest"] if word.startswith("data")]
    found["tws"] = [word for word in found["tws"] if not word.startswith("data")] + data
    return found


def own_files(source: str, folder: Path) -> None:
    """As a vendor delivers them: nothing says that a program made the prices."""
    if source == "csv":
        walk(1).to_csv(folder / "bars.csv", index=False)
        return
    generate(
        SyntheticData(source="synthetic", seed=11),
        folder / "dbn",
        first=date(2025, 3, 3),
        last=date(2025, 4, 10),
    )


@contextmanager
def typed(root: Path, away_ns: int, words: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LATER, str(away_ns), *words]
    process = subprocess.Popen(
        command,
        env=os.environ | {"MCL_HOME": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.communicate()


def until(holds: Callable[[], Any], *alive: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SEC
    while not holds():
        for process in alive:
            assert process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.2)


def entries(root: Path, kind: Kind) -> list[Entry]:
    journals = list((root / "live" / "paper").glob("*.sqlite"))
    return read(journals[0], (kind,)) if journals else []


def free() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) != 0


@pytest.fixture
def began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], dict[str, list[str]]]:
    """A project with these files and the promoted run; returns the words of the other commands."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("promoted"))
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def begin(source: str) -> dict[str, list[str]]:
        own_files(source, tmp_path)
        words = commands(source)
        assert (
            main(["--quiet", *words["backtest"], f"data.holdout_start='{HOLDOUT[source]}'"]) == 0
        ), capsys.readouterr().err
        assert main(["--quiet", *words["promote"], *GATES]) == 0, capsys.readouterr().err
        until(free)
        return words

    return begin


def away(source: str) -> int:
    return calendar.ns_of(TODAY[source], 10) + 40 * NS - time.time_ns()


def test_the_rehearsal_of_the_how_to_runs_with_a_file_of_one_s_own(
    began: Callable[[str], dict[str, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, away_ns = began("csv"), away("csv")
    with typed(tmp_path, away_ns, words["tws"]) as server:
        until((tmp_path / "data" / "tws" / f"{PORT}.json").is_file, server)
        with typed(tmp_path, away_ns, ["--json", *words["live"]]) as session:
            until(lambda: entries(tmp_path, "fill"), session, server)
            for what in ("status", "stop"):
                assert main(["--quiet", *words[what]]) == 0
            out, _ = session.communicate(timeout=WAIT_SEC)
    answer = json.loads(out)
    assert answer["fills"] >= 1
    assert answer["unexplained"] == 0
    [margin] = entries(tmp_path, "margin")
    assert margin.body["refused"] == ""
    capsys.readouterr()
    assert main(["--json", "registry", "costs", "paper"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert (costs["synthetic"], costs["all"]["sessions"]) == (True, 1)


def test_dbn_files_are_served_and_a_session_knows_a_generated_world(
    began: Callable[[str], dict[str, list[str]]], tmp_path: Path
) -> None:
    """The definitions of a generated world carry its mark, so that no session at a broker takes it
    for a market.
    """
    words, away_ns = began("mcl_databento"), away("mcl_databento")
    with typed(tmp_path, away_ns, words["tws"]) as server:
        until((tmp_path / "data" / "tws" / f"{PORT}.json").is_file, server)
        with typed(tmp_path, away_ns, ["--json", *words["live"]]) as session:
            out, _ = session.communicate(timeout=WAIT_SEC)
        assert server.poll() is None
    assert (
        "a version promoted on synthetic data trades only on broker=ib_sim"
        in json.loads(out)["error"]["message"]
    )
