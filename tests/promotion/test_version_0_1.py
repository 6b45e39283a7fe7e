"""A store of version 0.1, as that version wrote it, read by this one.

`version_0_1.tar.xz` is the folder mlruns of three commands of mcl 0.1.0 on the walk of
tests/deployments.py in bars of 15 minutes: two backtests (fast 4, slow 12 and fast 5, slow 15) and
a search of six trials with TPE. The pages are left out: they are drawn again.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployments import walk

from mcl.cli.main import main

FIRST = "67bc26eb45e14e92bfe3ee764bce82e5"
SECOND = "e38a36e94fa74a7d850bcc11230a1bd0"
SEARCH = "7a8219f5c57a40c8b4e8be105d473cad"
BEST = "1ca49e7c548943c6b50fd29708ff85db"
NET_USD = {FIRST: -424.77, SECOND: -352.21}
Shell = Callable[..., dict[str, Any]]


@pytest.fixture
def shell(project: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    with tarfile.open(Path(__file__).with_name("version_0_1.tar.xz")) as stored:
        stored.extractall(project, filter="data")
    walk(15).to_csv(project / "walk-15m.csv", index=False)

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        ended = main(["--json", *words])
        out = capsys.readouterr()
        assert ended == code, out.out[:2000] + out.err[-2000:]
        answer: dict[str, Any] = json.loads(out.out)
        return answer

    return run


def test_its_runs_are_listed_and_reported(shell: Shell) -> None:
    listed = {run["run_id"]: run for run in shell("runs")["runs"]}
    assert {FIRST, SECOND, SEARCH} <= set(listed)
    for run_id, net_usd in NET_USD.items():
        answer = shell("report", run_id)
        assert answer["metrics"]["net_pnl_usd"] == pytest.approx(net_usd)
        assert answer["tags"]["version.mcl"] == "0.1.0"
    reported = shell("report", SEARCH)
    assert reported["trials"] == {"COMPLETE": 6}
    assert reported["best"]["run_id"] == BEST
    assert Path(reported["report"]).is_file()


def test_its_runs_are_compared_with_each_other_and_with_new_ones(shell: Shell) -> None:
    answer = shell("compare", FIRST, SECOND)
    assert answer["runs"] == [FIRST, SECOND]
    assert answer["config"]["strategy.fast"] == [4, 5]
    assert Path(answer["report"]).is_file()
    again = shell("backtest", "--from", FIRST)
    assert again["metrics"]["net_pnl_usd"] == pytest.approx(NET_USD[FIRST])
    assert shell("compare", FIRST, again["run_id"])["runs"] == [FIRST, again["run_id"]]


def test_a_run_is_made_again_bit_by_bit_or_the_input_that_moved_is_named(shell: Shell) -> None:
    assert shell("rerun", FIRST)["equal"] is True


def test_its_search_is_refused_with_a_sentence_where_it_cannot_go_on(shell: Shell) -> None:
    error = shell("sweep", "extend", SEARCH, "8", code=1)["error"]
    assert "cannot continue, since its inputs are not what they were" in error["message"]
    assert "the code that decides results" in error["message"]


def test_its_trials_count(shell: Shell) -> None:
    assert sum(place["trials"] for place in shell("trials")["places"]) > 0


def test_its_run_meets_the_gates_of_today(shell: Shell) -> None:
    error = shell("promote", FIRST, "--to", "paper", code=1)["error"]
    assert "gates" in error["message"]
