"""The table of EIA settlements that ships with the package: what it holds, where it is from, how a
project makes it longer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mcl.base.errors import DataError
from mcl.base.files import sha256
from mcl.cli.main import main
from mcl.data.sources import eia

ROOT = Path(__file__).resolve().parents[2]
ROWS = "b67809782d91388c5845ccab758971196191cc15774c200a3050604da0d2473e"


def test_the_shipped_table_is_the_source_table(shared_data: Path) -> None:
    source = shared_data / "eia_public_domain" / "eia_nymex_crude_futures_contract1_4_daily.csv"
    assert sha256(source) == ROWS  # written as CSV, the shipped rows are the source's bytes
    script = ROOT / "scripts" / "make_eia.py"
    command = [sys.executable, str(script), str(source), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_table_says_what_it_is() -> None:
    rows, notes = eia.read(eia.SHIPPED), eia.provenance(eia.SHIPPED)
    assert list(rows.columns) == ["date", "c1", "c2", "c3", "c4"]
    assert (len(rows), str(rows["date"].iloc[0].date()), str(rows["date"].iloc[-1].date())) == (
        9761,
        "1983-04-04",
        "2022-02-15",
    )
    assert eia.digest(rows) == notes["rows_sha256"] == ROWS
    assert "public domain" in notes["terms"]
    page = (eia.SHIPPED.parent / "PROVENANCE.md").read_text()
    assert eia.SHIPPED.name in page
    assert "public domain" in (ROOT / "NOTICE").read_text()


def newer(folder: Path, rows: list[str], begin: int = -3) -> Path:
    """The last rows of the shipped table from `begin` on, followed by `rows`, as CSV."""
    path = folder / "newer.csv"
    head = eia.read(eia.SHIPPED).iloc[begin:].to_csv(index=False)
    path.write_text(head + "\n".join(rows) + "\n")
    return path


LATER = ["2022-02-16,93.66,91.78,89.8,87.83", "2022-02-17,91.76,90.21,88.43,86.63"]


def test_a_newer_table_makes_the_project_s_own(tmp_path: Path) -> None:
    assert eia.current(tmp_path) == eia.SHIPPED
    answer = eia.extend(tmp_path, newer(tmp_path, LATER))
    assert (answer["days"], answer["added"], answer["last"]) == (9763, 2, "2022-02-17")
    own = eia.current(tmp_path)
    assert own != eia.SHIPPED
    rows = eia.read(own)
    assert eia.digest(rows.iloc[:9761]) == ROWS
    assert rows["c1"].iloc[-1] == 91.76
    assert eia.provenance(own)["extended_with"] == "newer.csv"
    again = eia.extend(tmp_path, newer(tmp_path, [*LATER, "2022-02-18,91.07,90.21,88.39,86.54"]))
    assert (again["days"], again["added"]) == (9764, 1)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no day after 2022-02-15"),
        (["2022-02-16,93.66,9l.78,89.8,87.83"], r"newer.csv, line 5: '2022-02-16,93.66,9l.78"),
        (["2022-02-16,93.66,91.785,89.8,87.83"], "off the tick of 0.01"),
        (["2022-02-14,93.66,91.78,89.8,87.83"], "2022-02-14 is earlier than 2022-02-15 above it"),
        (["2022-02-16,93.66,,,", "2022-02-16,93.66,,,"], "2022-02-16 comes twice"),
    ],
)
def test_a_table_that_does_not_continue_is_refused(
    tmp_path: Path, rows: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        eia.extend(tmp_path, newer(tmp_path, rows))
    assert eia.current(tmp_path) == eia.SHIPPED


def test_a_table_that_disagrees_or_leaves_a_hole_is_refused(tmp_path: Path) -> None:
    other = newer(tmp_path, LATER)
    other.write_text(other.read_text().replace("95.46", "95.47"))
    with pytest.raises(DataError, match=r"on 1 day, first on 2022-02-14: 95.46,.* here"):
        eia.extend(tmp_path, other)
    gap = newer(tmp_path, ["2023-01-03,76.93,77.4,77.7,77.9"], begin=9761)
    with pytest.raises(DataError, match="begins on 2023-01-03 and the table ends on 2022-02-15"):
        eia.extend(tmp_path, gap)
    missing = newer(tmp_path, LATER, begin=-5)
    lines = missing.read_text().splitlines()
    missing.write_text("\n".join([*lines[:3], *lines[4:]]) + "\n")
    with pytest.raises(DataError, match="no such day here"):
        eia.extend(tmp_path, missing)
    shape = tmp_path / "shape.csv"
    pd.DataFrame({"date": ["2022-02-16"], "c1": [1.0]}).to_csv(shape, index=False)
    with pytest.raises(DataError, match="has no column 'c2'; it has: date, c1"):
        eia.extend(tmp_path, shape)
    assert eia.current(tmp_path) == eia.SHIPPED


def test_the_verb_continues_the_table_of_a_project(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*words: str, code: int = 0) -> dict[str, Any]:
        assert main(["--json", "data", *words]) == code
        answered: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answered

    before = answer("info", "data=eia")
    assert before["facts"]["limits"] == eia.LIMITS
    assert before["facts"]["table"]["rows_sha256"] == ROWS
    added = answer("extend", "eia", str(newer(project, LATER)))
    assert added["added"] == 2
    after = answer("info", "data=eia")
    assert (before["bars"], after["bars"]) == (9740, 9742)
    assert after["facts"]["table"]["extended_with"] == "newer.csv"
    assert main(["data", "info", "data=eia"]) == 0
    shown = capsys.readouterr().out
    assert "EIA DAILY SETTLEMENTS" in shown
    assert "440 days degraded" in shown  # without a price of the second contract
    assert len(shown.splitlines()) < 50
    assert "public domain" in shown
    misspelt = answer("extend", "eai", "newer.csv", code=1)
    assert "did you mean 'eia'?" in misspelt["error"]["message"]
    absent = answer("extend", "eia", "nowhere.csv", code=1)
    assert "there is no file nowhere.csv" in absent["error"]["message"]
