"""Which edits make another trial: those of the code that decides, and no others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mcl.cli.main import main
from mcl.ops.scaffold import new_strategy
from mcl.tracking import provenance, trial_ledger

SHORT = ["data=synthetic", "data.end='2024-01-20'", "data.holdout_start=null"]


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["--json", *args]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_three_versions_of_one_own_strategy_are_three_trials(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # bytecode must not outlive an edit
    path, *_ = new_strategy("mine", project)
    edit(path, "distance = closes -", "distance = 1.0 * closes -")
    ratios = []
    for old, new in [("1.0 *", "1.0 *"), ("1.0 *", "1.001 *"), ("1.001 *", "0.999 *")]:
        edit(path, old, new)
        ratios.append(answer(capsys, "backtest", "strategy=mine", *SHORT)["metrics"]["sharpe"])
    assert len(set(ratios)) == 3
    place = trial_ledger.TrialPool("mine", str(trial_ledger.rows(project)["market"][0]))
    tally = trial_ledger.tally(project, place)
    assert tally.count == 3
    assert sorted(tally.finite_sharpes * 252**0.5) == pytest.approx(sorted(ratios))
    answer(capsys, "backtest", "strategy=mine", *SHORT)  # the same again
    path.write_text("# a comment\n" + path.read_text())
    answer(capsys, "backtest", "strategy=mine", *SHORT)
    assert len(trial_ledger.rows(project)) == 5
    assert trial_ledger.tally(project, place).count == 3
    searched = answer(capsys, "sweep", "strategy=mine", *SHORT, "search.trials=3", "search.top=1")
    with_search = trial_ledger.tally(project, place).count
    assert 4 <= with_search <= 6
    edit(path, "0.999 *", "0.998 *")
    again = answer(capsys, "sweep", "strategy=mine", *SHORT, "search.trials=3", "search.top=1")
    assert searched["trials"] == again["trials"]
    assert trial_ledger.tally(project, place).count == with_search + 3


def test_what_an_own_file_imports_decides_with_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, *_ = new_strategy("mine", project)
    helper, package = project / "helpers.py", project / "lib" / "deep.py"
    package.parent.mkdir()
    helper.write_text("from lib import deep\nWIDTH = deep.WIDTH\n")
    package.write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(str(project))
    path.write_text("from helpers import WIDTH\n" + path.read_text())
    digests = {provenance.decision_sha256({"mine"})}
    assert set(provenance.code_digests({"name": "mine"})) >= {
        "helpers.py",
        "lib/deep.py",
        "experiments/strategies/mine.py",
    }
    for edited in (path, helper, package):
        edited.write_text(edited.read_text() + "MORE = 1\n")
        digests.add(provenance.decision_sha256({"mine"}))
    assert len(digests) == 4
    package.write_text(package.read_text() + '\n"""Words."""  # and more\n')
    assert provenance.decision_sha256({"mine"}) in digests


def test_an_own_file_that_builds_on_a_strategy_of_mcl_is_decided_by_that_one_too(
    project: Path,
) -> None:
    path, *_ = new_strategy("mine", project)
    alone = set(provenance._decision(frozenset({"mine"}), frozenset()))
    path.write_text("from mcl.strategy.donchian import Donchian\n" + path.read_text())
    with_it = provenance._decision(frozenset({"mine"}), frozenset({"mcl.strategy.donchian"}))
    assert "strategy/donchian.py" in with_it.keys() - alone
