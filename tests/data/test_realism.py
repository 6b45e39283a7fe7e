"""The generated world beside the measured market: the figures, their bounds, and the verb that
prints them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from skips import SHARED

from mcl.base.errors import DataError
from mcl.cli.main import main
from mcl.data import loader, realism, second_figures
from mcl.data.sources.csv import CsvColumns, CsvData
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, trade_tape
from mcl.market import calendar

JUDGE = SHARED.parent / "tools" / "world_statistics.py"
# what a user of a roll rule, of a stop and of a night session relies on
WANTED = ("front_share", "crossed", "range_", "hour_", "bars_per_session")


@pytest.mark.parametrize("seed", [7, 13])
def test_a_seed_looks_like_the_market(seed: int) -> None:
    """Wide bounds; scripts/prove_world.py holds the exact ones over many seeds."""
    rows = realism.compare(realism.measure(generator.minute_bars(seed)))
    assert len(rows) == 142
    off = [row.name for row in rows if not row.near]
    assert len(off) <= 0.15 * len(rows), off
    by_name = {row.name: row for row in rows}
    for name, row in by_name.items():
        if name.startswith(WANTED):
            assert abs(row.figure - row.fact) <= 2 * row.bound, row
    assert -0.06 < by_name["move_autocorrelation_1"].figure < -0.015, "the bounce"
    assert by_name["crossed_1_sessions_before_last"].figure > 0.9


@pytest.fixture(scope="module")
def world_of_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole world with the one-second bars of 24 sessions spread over it."""
    folder = tmp_path_factory.mktemp("seconds")
    home = generator.generate(SyntheticData(source="synthetic", seed=7), folder)
    table = calendar.sessions(generator.FIRST, generator.LAST + timedelta(days=1))
    whole = [day for day, minutes in zip(table.dates, table.minutes, strict=True) if minutes > 1300]
    return trade_tape.generate(home, whole[:: len(whole) // 24])


def test_the_seconds_of_a_seed_look_like_the_market(
    world_of_seconds: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wide bounds, as for minutes. The memory of the size of changes is that of one wild year of
    the market, which is said where the figures stand.
    """
    source = ["data=mcl_databento", f"data.path={world_of_seconds}", "data.stored_interval=1s"]
    assert main(["--json", "data", "realism", *source]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["source"] == realism.facts("1s")["source"]
    assert answer["figures"] == 86
    assert answer["near"] >= 68
    for row in answer["rows"]:
        if not row["name"].startswith("second_abs_move_autocorrelation"):
            assert abs(row["figure"] - row["fact"]) <= 5 * row["bound"], row
    by_name = {row["name"]: row["figure"] for row in answer["rows"]}
    assert by_name["second_range_ticks_q0.95"] == 2
    assert by_name["second_volume_q0.5"] == 2
    assert -0.25 < by_name["second_move_reversal"] < -0.15, "the bounce"
    assert main(["data", "realism", *source]) == 0
    assert "second_hour_with_a_bar_18" in capsys.readouterr().out


@pytest.mark.parametrize(("interval", "figures"), [("1m", 142), ("1s", 86)])
def test_every_fact_has_a_source_and_a_bound(interval: str, figures: int) -> None:
    facts = realism.facts(interval)
    assert facts["instrument"] == "MCL"
    assert "Databento" in facts["source"]
    measured = {name: float(fact) for name, fact in facts["figures"].items()}
    rows = realism.compare(measured, interval)
    assert len(rows) == figures
    assert all(row.near and row.bound > 0 for row in rows)
    absent = realism.compare({}, interval)
    assert not any(row.near for row in absent), "a figure that is not there is near nothing"


def test_the_bound_of_a_quantile_is_a_tick() -> None:
    assert realism.FigureRow("range_ticks_q0.25", 2.0, 1.0).near
    assert not realism.FigureRow("range_ticks_q0.25", 2.1, 1.0).near
    assert realism.FigureRow("move_ticks_sd", 4.1, 3.75).near
    assert not realism.FigureRow("move_ticks_sd", 4.2, 3.75).near
    assert realism.FigureRow("move_autocorrelation_1", -0.02, -0.033).near
    assert not realism.FigureRow("move_autocorrelation_1", 0.0, -0.033).near


def test_the_verb_prints_every_figure(
    small_world: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["data=mcl_databento", f"data.path={small_world}"]
    assert main(["--json", "data", "realism", *source]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["figures"] == len(answer["rows"]) == 142
    assert answer["near"] == sum(row["near"] for row in answer["rows"])
    assert answer["near"] > 90, "seven weeks have few rolls and weekends"
    assert main(["data", "realism", *source]) == 0
    printed = capsys.readouterr().out
    assert "hour_minutes_with_a_bar_18" in printed
    assert f"{answer['near']} of 142 figures are near" in printed


def test_another_market_and_longer_bars_are_refused(tmp_path: Path, shared_data: Path) -> None:
    real = shared_data / "databento_python_apache2" / "GLBX.MDP3__test_data.ohlcv-1m.dbn.zst"
    es = DatabentoData(source="databento", path=str(real), instrument="ES")
    with pytest.raises(DataError, match="figures are those of MCL"):
        realism.compare_dataset(loader.stored_dataset(es, tmp_path))


def test_bars_of_a_session_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    path.write_text("time,close,symbol\n2024-01-02,70.0,MCLG4\n2024-01-03,71.0,MCLG4\n")
    days = CsvData(
        source="csv",
        path=str(path),
        interval="session",
        stamped_at="date",
        timezone="UTC",
        columns=CsvColumns(time="time", close="close", symbol="symbol"),
    )
    with pytest.raises(DataError, match="one minute"):
        realism.compare_dataset(loader.stored_dataset(days, tmp_path))


def test_a_few_seconds_have_no_figures() -> None:
    few = np.arange(5)
    bars = second_figures.SecondBars(few * 0, few * 0, few, few, few, few, few, volume=few + 1)
    assert second_figures.measure(bars) == {}, "no session is whole"


def test_the_bounds_of_whole_numbers() -> None:
    assert realism.FigureRow("second_volume_q0.5", 3.0, 2.0).near
    assert not realism.FigureRow("second_volume_mean", 4.7, 4.15).near


def test_the_users_own_files_are_judged(real_files: Path, tmp_path: Path, project: Path) -> None:
    """With MCL_REAL_FILES=DIR, a folder of real MCL bars: every figure of the market itself."""
    source = DatabentoData(source="databento", path=str(real_files))
    stored = loader.stored_dataset(source, tmp_path)
    assert not stored.synthetic
    rows = second_figures.compare_stored(stored)
    off = [row.name for row in rows if not row.near]
    assert len(off) <= 0.2 * len(rows), off


def test_an_independent_judge_reads_the_same_figures(small_world: Path, tmp_path: Path) -> None:
    """The figures of a tool that shares no code with mcl, on the same files."""
    if not JUDGE.is_file():
        pytest.skip("the recorded market data are not beside this checkout")
    judged = tmp_path / "judged.json"
    command = [sys.executable, "-W", "ignore", str(JUDGE), str(small_world / "ohlcv-1m")]
    subprocess.run([*command, "--write", str(judged)], check=True, capture_output=True)
    theirs = json.loads(judged.read_text())
    source = DatabentoData(source="databento", path=str(small_world))
    stored = loader.stored_dataset(source, tmp_path)
    ours = realism.measure(realism.of_dataset(stored))
    for name, value in theirs.items():
        if isinstance(value, list):
            for k, one in enumerate(value):
                assert ours[f"{name}_{(18 + k) % 24:02d}"] == pytest.approx(one, abs=1e-3), name
        elif np.isfinite(value):
            assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
