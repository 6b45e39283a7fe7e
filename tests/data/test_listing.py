"""mcl contract check: the rule against definitions."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from mcl.cli import main
from mcl.data.expiry_check import compare
from mcl.data.sources.lean import LeanData
from mcl.market import calendar

from .conftest import databento_data, rewrite

DAY = date(2024, 1, 3)


def test_rule_and_definitions_agree_for_twelve_months(small_world: Path, tmp_path: Path) -> None:
    rows = compare(databento_data(small_world), tmp_path, DAY)
    assert [r.symbol for r in rows][:3] == ["MCLG4", "MCLH4", "MCLJ4"]
    assert len(rows) == 12
    assert {r.verdict for r in rows} == {"agrees"}
    assert {r.close for r in rows} == {"17:00"}


def test_a_moved_expiry_differs_and_the_verb_exits_with_one(
    world_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def later(records: object) -> None:
        mine = records["raw_symbol"] == b"MCLH4"  # type: ignore[index]
        records["expiration"][mine] = calendar.ns_of(date(2024, 2, 20), 14, 30)  # type: ignore[index]

    for month in ("01", "02"):
        rewrite(world_copy / "definition" / f"2024-{month}.dbn.zst", later)
    (tmp_path / "conf").symlink_to(Path(__file__).parents[2] / "conf")
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    words = ["data=mcl_databento", f"data.path={world_copy}"]
    assert main.main(["--json", "contract", "check", "--on", "2024-01-03", *words]) == 1
    answer = json.loads(capsys.readouterr().out)
    wrong = [row for row in answer["contracts"] if row["verdict"] == "differs"]
    assert [(row["symbol"], row["by_rule"], row["by_definition"]) for row in wrong] == [
        ("MCLH4", "2024-02-16", "2024-02-20")
    ]


def test_without_definitions_nothing_is_claimed(shared_data: Path, tmp_path: Path) -> None:
    gold = LeanData(
        source="lean", instrument="GC", path=str(shared_data / "lean_apache2"), timezone="UTC"
    )
    rows = compare(gold, tmp_path, date(2013, 10, 7))
    assert {r.verdict for r in rows} == {"not defined"}
