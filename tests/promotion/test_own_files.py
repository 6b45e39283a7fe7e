"""A user's own real files, from the bars to a session that is compared with its backtest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcl.cli.main import main

WHY = ("--because", "a drill on real bars")


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main([*words, "--json"])
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, parsed


def test_the_users_own_files_are_promoted_and_trade(
    real_files: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With MCL_REAL_FILES=DIR: the gates judge a run on real bars, nothing calls it synthetic, and
    a session on the embedded TWS decides as its backtest.
    """
    source = ("data=mcl_databento", f"data.path={real_files}", "data.holdout_start='2025-09-02'")
    code, run = answer(capsys, "backtest", *source, "strategy=donchian", "strategy.channel=5d")
    assert (code, run["synthetic"]) == (0, False)
    code, refused = answer(capsys, "promote", "last", "--name", "drill")
    assert code == 1
    missed = re.findall(r"(\w+) = \S+ \(rule", refused["error"]["message"])
    assert missed, "one run of one rule, chosen by nobody, is not enough for paper"
    waived = [word for name in missed for word in ("--waive", name)]
    assert answer(capsys, "promote", "last", "--name", "drill", *waived, *WHY)[0] == 0
    code, session = answer(capsys, "live", "drill")
    assert (code, session["differences"], session["unexplained"]) == (0, [], 0)
    assert session["decisions"] > 1000
