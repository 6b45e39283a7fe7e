"""Two sources of one market: what each lacks, what differs, and what a strategy makes of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mcl.cli import main

ROWS = 1380 * 3


@pytest.fixture
def vendor(project: Path) -> pd.DataFrame:
    """Three whole sessions of minutes in ticks around 70."""
    rng = np.random.default_rng(1)
    opens = pd.concat(
        [
            pd.Series(pd.date_range(f"2024-02-0{day} 18:00", periods=1380, freq="1min"))
            for day in (5, 6, 7)
        ],
        ignore_index=True,
    )
    close = 70 + rng.integers(-3, 4, ROWS).cumsum() * 0.01
    first = np.append(close[0], close[:-1])
    prices = {"open": np.round(first, 2), "close": np.round(close, 2)}
    frame = pd.DataFrame({"time": opens, **prices})
    frame["high"] = frame[["open", "close"]].max(axis=1)
    frame["low"] = frame[["open", "close"]].min(axis=1)
    frame["volume"] = rng.integers(1, 50, ROWS)
    return frame


def saved(frame: pd.DataFrame, path: Path) -> str:
    """A file as FirstRate writes it, as the words of a source."""
    columns = frame[["time", "open", "high", "low", "close", "volume"]]
    columns.to_csv(
        path, header=False, index=False, date_format="%Y-%m-%d %H:%M:%S", float_format="%.2f"
    )
    return f"firstrate data.path={path} data.contract=MCLH4"


def compared(a: str, b: str, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    common = ("strategy=ema_cross", "strategy.fast=5", "strategy.slow=20", *words)
    assert main.main(["--json", "data", "compare", a, b, *common]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_source_is_equal_to_itself(
    vendor: pd.DataFrame, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = saved(vendor, project / "a.txt")
    answer = compared(a, saved(vendor, project / "b.txt"), capsys)
    assert answer["bars"] == {"a": ROWS, "b": ROWS, "both": ROWS}
    assert answer["missing"] == {"a": 0, "b": 0}
    assert [field["different"] for field in answer["fields"]] == [0] * 5
    assert (answer["decisions"]["differ"], answer["notes"]) == (0, [])
    assert answer["decisions"]["trades"][0] == answer["decisions"]["trades"][1] > 0


def test_missing_bars_prices_volumes_and_decisions_are_counted(
    vendor: pd.DataFrame, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = vendor.copy()
    other.loc[100:199, ["open", "high", "low", "close"]] += 0.05
    other["volume"] *= 2
    a = saved(vendor, project / "a.txt")
    answer = compared(a, saved(other.drop(index=range(500, 560)), project / "b.txt"), capsys)
    assert answer["bars"] == {"a": ROWS, "b": ROWS - 60, "both": ROWS - 60}
    assert answer["missing"] == {"a": 0, "b": 60}
    fields = {field["field"]: field for field in answer["fields"]}
    assert fields["close"]["different"] == 100
    assert fields["close"]["worst"] == -5.0
    assert fields["volume"]["different"] == ROWS - 60
    assert 0 < answer["decisions"]["differ"] < answer["decisions"]["compared"] == ROWS - 60


def test_a_source_that_is_a_bar_late_and_one_that_is_adjusted_are_named(
    vendor: pd.DataFrame, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = saved(vendor, project / "a.txt")
    late = vendor.iloc[:-1].assign(time=vendor["time"].iloc[1:].to_numpy())
    answer = compared(a, saved(late, project / "b.txt"), capsys)
    assert any("the second source is a bar late" in note for note in answer["notes"])
    adjusted = vendor.copy()
    adjusted[["open", "high", "low", "close"]] += 1.5
    answer = compared(a, saved(adjusted, project / "c.txt"), capsys)
    assert any("100% of the closes are 150 ticks apart" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("b", "sentence"),
    [
        ("firstrate data.path=a.txt data.instrument=CL", "one source is of MCL, the other of CL"),
        ("firstrate data.path=a.txt data.interval=5m data.format.interval=1m", "has bars of 1m"),
        ("kibot strategy=macd", "is no source"),
        ("data=kibot", "is no source"),
    ],
)
def test_sources_that_cannot_be_compared_are_refused(
    vendor: pd.DataFrame, project: Path, capsys: pytest.CaptureFixture[str], b: str, sentence: str
) -> None:
    a = saved(vendor, project / "a.txt")
    assert main.main(["--json", "data", "compare", a, b]) == 1
    assert sentence in json.loads(capsys.readouterr().out)["error"]["message"]
    assert shlex.split(a)[0] == "firstrate"
