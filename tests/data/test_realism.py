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
from mcl.data import loader, realism
from mcl.data.sources.csv import CsvColumns, CsvData
from mcl.data.sources.databento import DatabentoData
from mcl.data.synthetic import generator, price_process
from mcl.market import calendar

JUDGE = SHARED.parent / "tools" / "world_statistics.py"
# what a user of a roll rule, of a stop and of a night session relies on
WANTED = ("front_share", "crossed", "range_", "hour_", "bars_per_session")


def bars_of_seed(seed: int) -> realism.MinuteBars:
    """The outrights of a whole world, without writing its files."""
    table = calendar.sessions(generator.FIRST, generator.LAST + timedelta(days=1))
    pieces = []
    for tape in price_process.simulate(table, seed, None):
        rows = tape.rows[tape.rows[:, price_process.INSTRUMENT] < price_process.LISTED]
        session = np.full(len(rows), table.day[tape.session])
        contract = tape.listed[rows[:, price_process.INSTRUMENT]]
        pieces.append((contract, session, rows[:, price_process.MINUTE], *rows[:, 2:].T))
    return realism.MinuteBars(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


@pytest.mark.parametrize("seed", [7, 3])
def test_a_seed_looks_like_the_market(seed: int) -> None:
    """Wide bounds; scripts/prove_world.py holds the exact ones over many seeds."""
    rows = realism.compare(realism.measure(bars_of_seed(seed)))
    assert len(rows) == 142
    off = [row.name for row in rows if not row.near]
    assert len(off) <= 0.15 * len(rows), off
    by_name = {row.name: row for row in rows}
    for name, row in by_name.items():
        if name.startswith(WANTED):
            assert abs(row.figure - row.fact) <= 2 * row.bound, row
    assert -0.06 < by_name["move_autocorrelation_1"].figure < -0.015, "the bounce"
    assert by_name["crossed_1_sessions_before_last"].figure > 0.9


def test_every_fact_has_a_source_and_a_bound() -> None:
    facts = realism.facts()
    assert facts["instrument"] == "MCL"
    assert "Databento" in facts["source"]
    rows = realism.compare({name: float(fact) for name, fact in facts["figures"].items()})
    assert all(row.near and row.bound > 0 for row in rows)
    absent = realism.compare({})
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
