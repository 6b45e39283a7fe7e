"""A trial is counted by what its bars are: by every door, under every name, in ledgers of every
version.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import databento as vendor
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mcl import composition
from mcl.data import loader
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.tracking import backtest_run, trial_ledger
from mcl.tracking.project import Project
from mcl.tracking.trial_ledger import TrialPool

STRATEGY = "strategy=ema_cross strategy.fast=20 strategy.slow=60"
CSV = "data=csv data.stamped_at=open data.columns.symbol=symbol data.columns.time=ts_event"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The words that read one market by three doors, and a copy of the CSV under another name."""
    folder = tmp_path_factory.mktemp("doors")
    spec = SyntheticData(source="synthetic", seed=3)
    world = generator.generate(spec, folder, first=date(2024, 3, 11), last=date(2024, 3, 22))
    frames = []
    for name in ("dbn", "parquet"):
        (folder / name).mkdir()
    for path in sorted((world / "ohlcv-1m").glob("*.dbn.zst")):
        shutil.copy(path, folder / "dbn" / path.name)
        frames.append(vendor.DBNStore.from_bytes(path.read_bytes()).to_df().reset_index())
    frame = pd.concat(frames)
    frame.to_parquet(folder / "parquet" / "bars.ohlcv-1m.parquet")
    outright = frame[~frame["symbol"].str.contains("-")].drop(columns="instrument_id")
    times = outright["ts_event"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    outright.assign(ts_event=times).to_csv(folder / "a.csv", index=False, float_format="%.2f")
    shutil.copy(folder / "a.csv", folder / "b.csv")
    return {
        "dbn": f"data=mcl_databento data.path={folder / 'dbn'}",
        "parquet": f"data=parquet data.path={folder / 'parquet'}",
        "csv": f"{CSV} roll@data.roll=calendar data.path={folder / 'a.csv'}",
        "copy": f"{CSV} roll@data.roll=calendar data.path={folder / 'b.csv'}",
    }


def backtest(words: str, project: Path, *more: str) -> Any:
    config = composition.compose("backtest", [*shlex.split(words), *shlex.split(STRATEGY), *more])
    place = Project.at(project)
    return backtest_run.backtest(config.config, project=place, overrides=[], report=False)


@pytest.mark.filterwarnings("ignore:DatetimeIndex.values returning")
def test_the_same_bars_by_every_door_are_one_trial(doors: dict[str, str], project: Path) -> None:
    done = {name: backtest(words, project) for name, words in doors.items()}
    assert len({d.tags["data_fingerprint"] for d in done.values()}) == 1
    assert len({d.tags["config_sha256"] for d in done.values()}) == len(doors)
    assert len({d.tags["trial_sha256"] for d in done.values()}) == 1
    where = backtest_run.trial_pool(done["dbn"].config)
    assert str(where) == "ema_cross on MCL"
    assert trial_ledger.tally(project, where).count == 1
    assert len(trial_ledger.rows(project, where)) == len(doors)
    assert [d.luck.trials for d in done.values()] == [1] * len(doors)
    # another configuration by another door counts with them
    other = backtest(doors["copy"], project, "strategy.fast=10")
    assert other.luck.trials == 2
    assert trial_ledger.tally(project, where).count == 2


def pool_of(words: str) -> TrialPool:
    return backtest_run.trial_pool(composition.compose("backtest", shlex.split(words)).config)


def test_the_rows_of_older_versions_count(doors: dict[str, str], project: Path) -> None:
    """They stand in a folder for each door and name it as their market."""
    trial = trial_ledger.Trial(
        pool=TrialPool("ema_cross", "MCL databento MCL.FUT"),
        run_id="old",
        kind="hand",
        study="",
        state="COMPLETE",
        config_sha256="old",
    )
    csv = TrialPool("ema_cross", "MCL csv walk of mine.csv")
    world = TrialPool("ema_cross", "MCL synthetic zero_edge 7")
    other = TrialPool("ema_cross", "CL eia")
    for name, pool in (("csv", csv), ("world", world), ("other", other)):
        trial_ledger.append(project, [replace(trial, pool=pool, config_sha256=name)])
    trial_ledger.append(project, [trial])
    where = pool_of(f"{doors['dbn']} {STRATEGY}")
    assert trial_ledger.tally(project, where).count == 2
    frame = trial_ledger.rows(project, where)
    assert set(frame["config_sha256"]) == {"old", "csv"}
    assert set(frame["market"]) == {"MCL"}
    assert trial_ledger.tally(project, where.everywhere).count == 2
    assert trial_ledger.tally(project, pool_of(f"data=synthetic {STRATEGY}")).count == 1
    assert trial_ledger.tally(project, pool_of(f"data=eia {STRATEGY}")).count == 1
    assert set(trial_ledger.rows(project)["market"]) == {"MCL", world.market, "CL"}


def test_trials_on_the_very_bars_count_in_every_pool(project: Path) -> None:
    """Of a generated world that is read once as such and once as files."""
    made = TrialPool("ema_cross", "MCL synthetic zero_edge 7")
    files = TrialPool("ema_cross", "MCL")
    for pool, number, bars in (
        (made, 1, "same"),
        (files, 2, "same"),
        (files, 3, "others"),
        (TrialPool("ema_cross", "CL"), 4, ""),
    ):
        trial_ledger.append(
            project,
            [
                trial_ledger.Trial(
                    pool=pool,
                    run_id=str(number),
                    kind="hand",
                    study="",
                    state="COMPLETE",
                    config_sha256=str(number),
                    data_fingerprint=bars,
                )
            ],
        )
    assert trial_ledger.tally(project, made).count == 2
    assert trial_ledger.tally(project, files).count == 3
    assert set(trial_ledger.rows(project, made)["run_id"]) == {"1", "2"}
    assert trial_ledger.tally(project, TrialPool("ema_cross", "CL")).count == 1


def test_parts_say_what_their_bars_are(doors: dict[str, str], project: Path) -> None:
    done = backtest(doors["csv"], project)
    part = next((project / "mlruns" / "trials").rglob("*.parquet"))
    row = pq.read_table(part).to_pylist()[0]
    bars = loader.load(done.config.data, project)
    assert row["data_fingerprint"] == bars.fingerprint
    assert row["identity"] == done.tags["trial_sha256"]
    assert row["market"] == "MCL"
