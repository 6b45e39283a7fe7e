"""Bars shorter than a minute: which files they are read from, that they add up, and what a page
keeps of a long run of them.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import digest

from mcl import composition
from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.data import loader
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import trade_tape
from mcl.report import zoom_data
from mcl.strategy import build, memory_at
from mcl.validation import lookahead

from .conftest import databento_data

DAYS = [date(2024, 1, day) for day in (9, 10, 11)]


@pytest.fixture(scope="module")
def both(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the minutes of the small world and the seconds of three of its sessions."""
    home = Path(shutil.copytree(small_world, tmp_path_factory.mktemp("both") / "MCL_FUT"))
    return trade_tape.generate(home, DAYS)


def bars_of(home: Path, root: Path, interval: str) -> Bars:
    return load(databento_data(home, interval=interval), root)


@pytest.fixture(scope="module")
def seconds(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Bars:
    return bars_of(both, tmp_path_factory.mktemp("root"), "1s")


def test_the_files_that_make_the_interval_are_read(both: Path, tmp_path: Path) -> None:
    for interval, stored in (("1m", "1m"), ("1h", "1m"), ("10s", "1s"), ("1s", "1s")):
        data = databento_data(both, interval=interval)
        assert loader.stored_dataset(data, tmp_path).interval == stored
    assert bars_of(both, tmp_path, "10s").interval == "10s"


def test_minutes_alone_cannot_make_seconds(small_world: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot make 10s bars from 1m bars; choose .* from 1m"):
        bars_of(small_world, tmp_path, "10s")


@pytest.mark.parametrize("interval", ["5s", "10s", "15s", "30s", "1m", "5m"])
def test_seconds_add_up(both: Path, seconds: Bars, tmp_path: Path, interval: str) -> None:
    """To the bars of the vendor's minutes, and on the way there nothing is lost."""
    coarse = bars_of(both, tmp_path, interval).between(DAYS[0], date(2024, 1, 12))
    assert coarse.volume.sum() == seconds.volume.sum()
    assert coarse.high_ticks.max() == seconds.high_ticks.max()
    assert coarse.low_ticks.min() == seconds.low_ticks.min()
    data = databento_data(both, interval=interval, stored_interval="1s")
    made = load(data, tmp_path)
    for name in ("close_time", "open_ticks", "high_ticks", "low_ticks", "close_ticks", "volume"):
        assert digest(getattr(made, name)) == digest(getattr(coarse, name)), name


def test_no_second_is_invented(seconds: Bars) -> None:
    steps = np.diff(seconds.close_time)
    assert steps.min() == NS
    assert (steps > NS).mean() > 0.3  # most seconds have no trade, and no bar
    assert seconds.volume.min() >= 1
    assert not (seconds.close_time % NS).any()


def test_a_window_of_a_generated_world_has_its_own_seconds(project: Path, worlds: Path) -> None:
    (project / "data").symlink_to(worlds)
    spec: dict[str, Any] = {
        "source": "synthetic",
        "start": date(2024, 3, 5),
        "end": date(2024, 3, 7),
    }
    fine = load(SyntheticData(**spec, interval="1s"), project)
    minutes = load(SyntheticData(**spec), project)
    assert sorted(set(fine.session)) == sorted(set(minutes.session))
    assert fine.volume.sum() == minutes.volume.sum()
    assert fine.synthetic
    again = load(SyntheticData(**spec, interval="30s"), project)
    assert again.volume.sum() == minutes.volume.sum()


# ------------------------------------------------------------------------------------- strategies


def test_a_strategy_in_minutes_remembers_as_many_seconds() -> None:
    assert memory_at(build({"name": "opening_range"}), "1m") == 361
    assert memory_at(build({"name": "opening_range"}), "1s") == 360 * 60 + 1
    nested = {"name": "ensemble", "members": {"a": {"name": "opening_range"}}}
    assert memory_at(build(nested), "10s") == 360 * 6 + 1
    assert memory_at(build({"name": "tsmom", "lookback": 5}), "1s") == 6


SHORT = {
    "ema_cross": ["strategy.fast=10s", "strategy.slow=1m"],
    "donchian": ["strategy.channel=1m", "strategy.hold=2m"],
    "opening_range": ["strategy.range_min=5"],
    "trend_filter": ["strategy.interval=30s", "strategy.inner.fast=10s", "strategy.inner.slow=1m"],
}


@pytest.mark.parametrize("name", SHORT)
def test_strategies_look_at_no_later_second(name: str, seconds: Bars) -> None:
    words = ["data=synthetic", "data.interval=1s", f"strategy={name}", *SHORT[name]]
    config = composition.compose("backtest", words).config
    assert not lookahead.lookahead(config, seconds.rows(0, 20_000), samples=4).has_bias


# ----------------------------------------------------------------------------------------- the page


def test_a_page_keeps_minutes_of_very_many_seconds(
    seconds: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, interval = zoom_data.drawn_rows(seconds)
    assert (len(rows), interval) == (len(seconds), "1s")
    monkeypatch.setattr(zoom_data, "MOST", len(seconds) // 2)
    rows, interval = zoom_data.drawn_rows(seconds)
    assert interval == "1m"
    assert rows[-1] == len(seconds) - 1
    minute = (seconds.close_time - 1) // (60 * NS)
    assert len(rows) == len(np.unique(minute))
    assert (np.diff(minute[rows]) > 0).all()
    monkeypatch.setattr(zoom_data, "MOST", 1)
    assert zoom_data.drawn_rows(seconds)[1] == "1h"  # the longest there is
