"""Recorded market data through the same door: forty years of settlements, gold with several
expiries, vendor samples.
"""

from __future__ import annotations

import shutil
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mcl import composition
from mcl.base.errors import ConfigError, DataError
from mcl.config import schema
from mcl.data import loader
from mcl.data.bars import Bars
from mcl.data.data_note import data_note
from mcl.data.loader import load
from mcl.data.sources.csv import CsvData
from mcl.data.sources.eia import LIMITS, SHIPPED, extend, read
from mcl.market.calendar import last_trade_date


def composed(*overrides: str) -> schema.Data:
    """The data group as the command line gives it."""
    return composition.compose("backtest", list(overrides)).config.data


# ---------------------------------------------------------------------------------------------- EIA


@pytest.fixture(scope="module")
def eia(tmp_path_factory: pytest.TempPathFactory) -> Bars:
    return load(composed("data=eia"), tmp_path_factory.mktemp("eia"))


def at(bars: Bars, day: str) -> pd.Series:
    return bars.frame().loc[day].iloc[0]


def test_the_negative_settlement_survives(eia: Bars) -> None:
    assert at(eia, "2020-04-20")[["open", "close", "contract"]].tolist() == [-37.63, -37.63, "CLK0"]
    assert at(eia, "2020-04-21")[["close", "contract", "roll"]].tolist() == [11.57, "CLM0", True]
    row = int(np.flatnonzero(eia.session == np.datetime64("2020-04-21", "D").astype(int))[0])
    assert eia.outgoing_open[row] == 10.01  # the settlement of its last trade date
    roll = eia.roll_table[eia.roll_table["from_symbol"] == "CLK0"].iloc[-1]
    assert roll["gap"] == pytest.approx(20.43 + 37.63)


def test_forty_years_of_ranks_become_dated_contracts(eia: Bars) -> None:
    frame = read(SHIPPED).set_index("date")
    # 9,761 days; 21 last trade dates of 1983-84 have no second contract
    assert (len(eia), len(eia.roll_table)) == (9740, 466)
    for day in ("1990-08-02", "2008-07-03", "2014-11-28", "2022-02-15"):
        row = at(eia, day)
        assert row["close"] == frame.loc[day, "c1"]
    # CLQ8 trades for the last time: its rank is still 1, but the position is in the second
    assert last_trade_date("CL", 2008, 8) == date(2008, 7, 22)
    last = "2008-07-22"
    assert at(eia, last)[["contract", "close"]].tolist() == ["CLU8", frame.loc[last, "c2"]]
    prices = eia.frame()
    symbol_of = {c.symbol + str(c.year): c for c in eia.contracts}
    assert len(symbol_of) == len(eia.contracts)
    expiries = [eia.contracts[i].last_trade_date for i in eia.contract]
    assert all(t.date() < day for t, day in zip(prices.index, expiries, strict=True))


def test_settlements_fill_at_the_next_settlement(eia: Bars) -> None:
    assert np.array_equal(eia.open, eia.close)
    assert np.array_equal(eia.high, eia.low)
    assert (np.diff(eia.close_time) > 0).all()
    assert (eia.to_close_sec == 0).all()


def test_an_earlier_roll_is_one_override(tmp_path: Path) -> None:
    bars = load(composed("data=eia", "data.roll.sessions_before_last_trade=1"), tmp_path)
    assert at(bars, "2020-04-20")[["close", "contract"]].tolist() == [20.43, "CLM0"]
    row = int(np.flatnonzero(bars.session == np.datetime64("2020-04-20", "D").astype(int))[0])
    assert bars.outgoing_open[row] == -37.63


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.interval=1m", "interval=1m: EIA published one price a day; write session"),
        ("data.instrument=MCL", "instrument=MCL: EIA published settlements of CL alone"),
    ],
)
def test_eia_is_settlements_of_one_product(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        composed("data=eia", override)


def test_a_table_of_ranks_as_csv_gives_the_same_bars(eia: Bars, tmp_path: Path) -> None:
    read(SHIPPED).to_csv(tmp_path / "eia.csv", index=False)
    words = ["source=csv", "path=eia.csv", "stamped_at=date", "columns.time=date"]
    words += ["instrument=CL", "interval=session", "columns.ranks=[c1,c2,c3,c4]"]
    words += [f"columns.{name}=null" for name in ("open", "high", "low", "close", "volume")]
    words += ["roll.rule=calendar", "roll.sessions_before_last_trade=0"]
    bars = load(composed("data=csv", *(f"data.{word}" for word in words)), tmp_path)
    assert bars.fingerprint == eia.fingerprint
    minutes = composed("data=csv", *(f"data.{word}" for word in words if "interval" not in word))
    with pytest.raises(DataError, match="a file stamped at 'date' cannot give '1m' bars"):
        load(minutes, tmp_path)


def test_the_limits_of_eia_stand_on_every_result(eia: Bars) -> None:
    assert data_note(eia).startswith(LIMITS)
    assert "ended the series in April 2024" in LIMITS


def test_a_longer_table_changes_nothing_before_its_days(eia: Bars, tmp_path: Path) -> None:
    newer = tmp_path / "newer.csv"
    newer.write_text("date,c1,c2,c3,c4\n2022-02-15,92.07,90.21,88.29,86.39\n2022-02-16,93.66,,,\n")
    extend(tmp_path, newer)
    longer = load(composed("data=eia"), tmp_path)
    assert (len(longer), longer.close[-1]) == (len(eia) + 1, 93.66)
    early = composed("data=eia", "data.end='2012-01-01'")
    assert load(early, tmp_path).fingerprint == load(early, tmp_path / "other").fingerprint


def ranked(folder: Path, rows: list[str]) -> schema.Data:
    path = folder / "ranks.csv"
    path.write_text("\n".join(["date,c1,c2", *rows]) + "\n")
    words: dict[str, Any] = {
        "source": "csv",
        "path": str(path),
        "instrument": "CL",
        "interval": "session",
        "stamped_at": "date",
    }
    columns = {"time": "date", "ranks": ["c1", "c2"]}
    return CsvData.model_validate(
        words | {"columns": columns, "roll": {"rule": "calendar", "sessions_before_last_trade": 0}}
    )


def test_ranked_rows_must_be_in_order(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ranks.csv, line 3: date 2020-04-16 comes twice"):
        load(ranked(tmp_path, ["2020-04-16,19.87,25.53", "2020-04-16,19.87,25.53"]), tmp_path)
    with pytest.raises(
        DataError, match=r"line 3: date 2020-04-15 is earlier than 2020-04-16 above it"
    ):
        load(ranked(tmp_path, ["2020-04-16,19.87,25.53", "2020-04-15,19.87,26.04"]), tmp_path)
    with pytest.raises(DataError, match=r"CLM0 at .*, line 2: a price is off the tick of 0.01"):
        load(ranked(tmp_path, ["2020-04-16,19.87,25.531"]), tmp_path)


# --------------------------------------------------------------------------------------------- LEAN


@pytest.fixture(scope="module")
def lean_folder(shared_data: Path) -> Path:
    return shared_data / "lean_apache2"


def test_gold_is_held_in_the_active_month_before_its_notices(
    lean_folder: Path, tmp_path: Path
) -> None:
    """October has had its first notice day, and November is a quiet month."""
    data = composed("data=lean_gold", f"data.path={lean_folder}")
    bars = load(data, tmp_path)
    assert {bars.contracts[i].symbol for i in set(bars.contract.tolist())} == {"GCZ3"}
    assert len(bars.roll_table) == 0
    assert (bars.instrument.symbol, bars.synthetic) == ("GC", False)
    assert loader.dataset_facts(data, tmp_path)["counts"]["read"] == 7887


def test_the_clock_of_the_sample_shows_in_its_daily_break(
    lean_folder: Path, tmp_path: Path
) -> None:
    bars = load(composed("data=lean_gold", f"data.path={lean_folder}"), tmp_path)
    opens = bars.times.tz_convert("America/New_York") - pd.Timedelta("1min")
    minute = opens.hour * 60 + opens.minute
    assert not ((minute >= 17 * 60 + 15) & (minute < 18 * 60)).any()
    assert (minute == 18 * 60).any()


def test_rows_equal_the_zip_members(lean_folder: Path, tmp_path: Path) -> None:
    bars = load(composed("data=lean_gold", f"data.path={lean_folder}"), tmp_path)
    with zipfile.ZipFile(lean_folder / "comex__minute__gc__20131010_trade.zip") as archive:
        rows = [
            line.split(b",") for line in archive.read("20131010_gc_minute_trade_201312.csv").split()
        ]
    midnight = pd.Timestamp("2013-10-10", tz="UTC").value
    index = {t: i for i, t in enumerate(bars.close_time.tolist())}
    for row in rows[::97]:
        i = index[midnight + int(row[0]) * 10**6 + 60 * 10**9]
        assert [bars.open[i], bars.high[i], bars.low[i], bars.close[i], bars.volume[i]] == [
            float(v) for v in row[1:]
        ]


def test_the_original_tree_gives_the_same_bars(lean_folder: Path, tmp_path: Path) -> None:
    for zipped in lean_folder.glob("comex__minute__gc__*_trade.zip"):
        target = tmp_path / "future" / Path(*zipped.name.split("__"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(zipped, target)
    flat = load(composed("data=lean_gold", f"data.path={lean_folder}"), tmp_path)
    tree = load(composed("data=lean_gold", f"data.path={tmp_path / 'future'}"), tmp_path)
    assert tree.fingerprint == flat.fingerprint


def test_a_folder_without_gold_and_a_broken_zip(lean_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no LEAN minute trades of GC"):
        load(composed("data=lean_gold", f"data.path={tmp_path}"), tmp_path)
    zipped = tmp_path / "comex__minute__gc__20131007_trade.zip"
    zipped.write_bytes((lean_folder / zipped.name).read_bytes()[:5000])
    with pytest.raises(DataError, match=r"20131007_trade.zip is no zip file"):
        load(composed("data=lean_gold", f"data.path={tmp_path}"), tmp_path)


# ----------------------------------------------------------------------------------- vendor samples


def test_a_vendor_sample_loads_without_definitions(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "databento_python_apache2" / "GLBX.MDP3__test_data.ohlcv-1m.dbn.zst"
    bars = load(composed("data=mcl_databento", f"data.path={path}", "data.instrument=ES"), tmp_path)
    assert [(c.symbol, c.name) for c in bars.contracts] == [("ESH1", "ES 2021-03")]
    assert list(bars.close) == [3704.75, 3704.0, 3704.5, 3703.0]
    assert list(bars.volume) == [306, 214, 192, 158]
    assert str(bars.times[0]) == "2020-12-28 00:01:00+00:00"
    assert str(np.datetime64(int(bars.session[0]), "D")) == "2020-12-28"


def test_a_vendor_folder_joins_definitions_and_bars(shared_data: Path, tmp_path: Path) -> None:
    for schema_name in ("definition", "statistics", "ohlcv-1m", "ohlcv-1h", "trades"):
        name = f"GLBX.MDP3__test_data.{schema_name}.dbn.zst"
        shutil.copy(shared_data / "databento_python_apache2" / name, tmp_path / name)
    bars = load(
        composed("data=mcl_databento", f"data.path={tmp_path}", "data.instrument=ES"), tmp_path
    )
    assert bars.contracts[0].last_trade_date == date(2021, 3, 19)
    assert bars.provenance["facts"]["definitions"] is True
    assert len(bars) == 4


def test_hourly_vendor_bars(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "databento_python_apache2" / "GLBX.MDP3__test_data.ohlcv-1h.dbn.zst"
    bars = load(
        composed(
            "data=mcl_databento", f"data.path={path}", "data.instrument=ES", "data.interval=1h"
        ),
        tmp_path,
    )
    assert (bars.interval, len(bars)) == ("1h", 4)
    with pytest.raises(DataError, match="cannot make 1m bars from 1h bars"):
        load(composed("data=mcl_databento", f"data.path={path}", "data.instrument=ES"), tmp_path)


def test_utc_days_are_no_sessions(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "databento_python_apache2" / "GLBX.MDP3__test_data.ohlcv-1d.dbn.zst"
    with pytest.raises(
        DataError, match="holds ohlcv-1d, but no bars; ohlcv-1d are UTC days, which are no sessions"
    ):
        load(composed("data=mcl_databento", f"data.path={path}", "data.instrument=ES"), tmp_path)


def test_datasets_do_not_mix(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mixes the datasets"):
        load(
            composed(
                "data=mcl_databento",
                f"data.path={shared_data / 'databento_python_apache2'}",
                "data.instrument=ES",
            ),
            tmp_path,
        )
