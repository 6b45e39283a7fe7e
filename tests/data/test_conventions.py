"""The bars of every source are compared with the conventions of the project: another clock, times
of closes, days without a session, prices of another scale and holes are refused with their cure.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import conventions, dbn, loader, quality, sources
from mcl.data.data_note import data_note
from mcl.data.source import Raw, Source, bar_table
from mcl.data.sources import eia
from mcl.data.sources.csv import CsvColumns, CsvData
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.parquet import ParquetData
from mcl.data.table import PRICES, Table, instrument
from mcl.market import calendar
from mcl.market.calendar import new_york_ns

HOUR, MINUTE = 3600 * NS, 60 * NS
Frame = pd.DataFrame  # ts (ns UTC, opens), open, high, low, close, volume, symbol
Ints = np.ndarray[Any, np.dtype[np.int64]]


class OwnData(schema.DataCommon):
    """A source as a user writes one: it reads arrays and has no key but its path."""

    source: Literal["own"]
    path: str


def own_table(path: Path) -> Table:
    frame = pd.read_pickle(path)
    symbols = sorted(set(frame["symbol"]))
    return bar_table(
        instrument("MCL"),
        "1m",
        contracts=[calendar.parse_symbol(s, date(2024, 1, 2)) for s in symbols],
        contract=frame["symbol"].map(symbols.index).to_numpy(np.int64),
        ts_event=frame["ts"].to_numpy(np.int64),
        prices={name: frame[name].to_numpy(np.float64) for name in PRICES},
        volume=frame["volume"].to_numpy(np.int64),
        origin=str(path),
        facts={},
    )


def own_raw(data: OwnData, root: Path) -> Raw:
    path = root / data.path
    return Raw("own", path.parent, [path], {"source": "own"}, partial(own_table, path))


OWN = Source(OwnData, own_raw, needs=("path",))


@pytest.fixture
def own_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.BY_NAME, "own", OWN)


@pytest.fixture(scope="module")
def frame(small_world: Path) -> Frame:
    """All outrights of the small world, in order of time."""
    parts = []
    for path in sorted((small_world / "ohlcv-1m").glob("*.dbn.zst")):
        header, records = dbn.read(path)
        symbols = {m.instrument_id: m.raw_symbol for m in header.mappings}
        columns: dict[str, Any] = {name: records[name] / 1e9 for name in PRICES}
        columns |= {"volume": records["volume"].astype(np.int64)}
        columns |= {"ts": records["ts_event"].astype(np.int64)}
        symbol = pd.Series(records["instrument_id"]).map(symbols)
        parts.append(pd.DataFrame(columns | {"symbol": symbol}))
    whole = pd.concat(parts)
    outright = whole[~whole["symbol"].str.contains("-")]
    return outright.sort_values(["ts", "symbol"], ignore_index=True)


# ------------------------------------------------------------------------------------------- doors


def by_dbn(frame: Frame, folder: Path) -> schema.DataCommon:
    records = dbn.blank("ohlcv-1m", len(frame))
    symbols = sorted(set(frame["symbol"]))
    records["instrument_id"] = frame["symbol"].map(symbols.index) + 1
    records["ts_event"] = frame["ts"].astype("uint64")
    for name in PRICES:
        records[name] = np.rint(frame[name] * 1e9).astype(np.int64)
    records["volume"] = frame["volume"].astype("uint64")
    days = (date(2023, 12, 1), date(2024, 4, 1))
    mappings = tuple(dbn.Mapping(s, i + 1, *days) for i, s in enumerate(symbols))
    start, end = int(frame["ts"].min()), int(frame["ts"].max()) + 1
    header = dbn.Header("GLBX.MDP3", "ohlcv-1m", "raw_symbol", (), start, end, mappings)
    dbn.write(folder / "bars.dbn.zst", records, header)
    return DatabentoData(source="databento", path=str(folder))


def parquet(frame: Frame, folder: Path, **keys: Any) -> ParquetData:
    rows = frame.assign(ts_event=pd.DatetimeIndex(frame["ts"].to_numpy(), tz="UTC"))
    rows.drop(columns="ts").to_parquet(folder / "bars.ohlcv-1m.parquet", index=False)
    return ParquetData(source="parquet", path=str(folder), **keys)


def csv(frame: Frame, folder: Path) -> schema.DataCommon:
    times = pd.DatetimeIndex(frame["ts"].to_numpy(), tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = frame.assign(time=times).drop(columns="ts")
    rows.to_csv(folder / "bars.csv", index=False, float_format="%.2f")
    columns = CsvColumns(
        time="time", open="open", high="high", low="low", close="close", volume="volume",
        symbol="symbol",
    )  # fmt: skip
    path = str(folder / "bars.csv")
    return CsvData(source="csv", path=path, stamped_at="open", columns=columns)


def own(frame: Frame, folder: Path) -> schema.DataCommon:
    frame.to_pickle(folder / "bars.pkl")
    return OwnData(source="own", path=str(folder / "bars.pkl"))


DOORS: dict[str, Callable[[Frame, Path], schema.DataCommon]] = {
    "dbn": by_dbn,
    "parquet": parquet,
    "csv": csv,
    "own": own,
}


# ------------------------------------------------------------------------------------------ faults


def shifted(hours: float) -> Callable[[Frame], Frame]:
    return lambda frame: frame.assign(ts=frame["ts"] + int(hours * HOUR))


def new_york_as_utc(frame: Frame) -> Frame:
    return frame.assign(ts=new_york_ns(frame["ts"].to_numpy(np.int64)))


def closes(frame: Frame) -> Frame:
    return frame.assign(ts=frame["ts"] + MINUTE)


def scaled(factor: float) -> Callable[[Frame], Frame]:
    """One row in the middle of the file has all prices times a factor."""

    def change(frame: Frame) -> Frame:
        rows = frame.copy()
        rows.loc[len(rows) // 2, list(PRICES)] *= factor
        return rows

    return change


def without_sessions(frame: Frame) -> Frame:
    day = calendar.session_of(frame["ts"].to_numpy(np.int64))
    left_out = np.isin(day, [calendar.to_day(date(2024, 1, d)) for d in (24, 25)])
    return frame[~left_out].reset_index(drop=True)


# fault -> the convention, words of the refusal
FAULTS: dict[str, tuple[Callable[[Frame], Frame], str, str]] = {
    "five hours early": (shifted(-5), "clock", "hours in which the exchange is closed"),
    "an hour late": (shifted(1), "clock", "closed|17:00 New York"),
    "New York as UTC": (new_york_as_utc, "clock", "hours in which the exchange is closed"),
    "closes": (closes, "stamp", "sessions have a bar that would begin at their close"),
    "times 100": (scaled(100), "prices", "and the price next to it"),
    "zero": (scaled(0), "prices", "is 0, and the price next to it"),
    "holes": (without_sessions, "holes", "2024-01-24 to 2024-01-25"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("door", DOORS)
def test_every_source_refuses_what_contradicts_its_conventions(
    door: str, fault: str, frame: Frame, tmp_path: Path, own_source: None
) -> None:
    change, name, words = FAULTS[fault]
    data = DOORS[door](change(frame), tmp_path)
    with pytest.raises(DataError, match=words) as refused:
        loader.load(data, tmp_path)
    assert isinstance(refused.value, conventions.Contradiction)
    assert f"data.accept=[{name}]" in str(refused.value.hint)
    assert not list(tmp_path.glob("data/*/manifest.json"))
    found = [f for f in quality.examine(data, tmp_path).findings if f.kind == "convention"]
    assert [f.severity for f in found] == ["error"]


@pytest.mark.parametrize("door", DOORS)
def test_every_source_takes_the_files_as_they_are(
    door: str, frame: Frame, tmp_path: Path, own_source: None
) -> None:
    data = DOORS[door](without_sessions(frame), tmp_path)
    bars = loader.load(data.model_copy(update={"accept": ("holes",)}), tmp_path)
    assert "2024-01-24, 2024-01-25" in data_note(bars)
    with pytest.raises(DataError, match="has no bar in 2 sessions"):  # the key is part of the data
        loader.load(data, tmp_path)


@pytest.mark.parametrize("door", DOORS)
def test_every_source_loads_right_bars(
    door: str, frame: Frame, tmp_path: Path, own_source: None
) -> None:
    bars = loader.load(DOORS[door](frame, tmp_path), tmp_path)
    assert conventions.STRAYS not in bars.provenance["facts"]
    assert "closed" not in data_note(bars)


@pytest.mark.parametrize("door", DOORS)
def test_a_few_bars_in_closed_hours_are_said(
    door: str, frame: Frame, tmp_path: Path, own_source: None
) -> None:
    local = new_york_ns(frame["ts"].to_numpy(np.int64))
    late = frame[local % calendar.DAY_NS == 16 * HOUR + 59 * MINUTE].drop_duplicates("ts").head(3)
    strays = late.assign(ts=late["ts"] + 5 * MINUTE)
    rows = pd.concat([frame, strays]).sort_values(["ts", "symbol"], ignore_index=True)
    data = DOORS[door](rows, tmp_path)
    first = loader.dataset_facts(data, tmp_path)["facts"][conventions.STRAYS]
    assert first["count"] == 3
    assert first["places"][0].endswith("17:04 New York")
    note = data_note(loader.load(data, tmp_path))
    assert "3 bars lie in hours in which the exchange is closed, the first at 2024-01-" in note


def test_parquet_of_another_clock_is_read_by_its_keys(frame: Frame, tmp_path: Path) -> None:
    right, wrong, late = (tmp_path / name for name in ("right", "wrong", "late"))
    for folder in (right, wrong, late):
        folder.mkdir()
    expected = loader.load(parquet(frame, right), tmp_path)
    data = parquet(new_york_as_utc(frame), wrong)
    cure = "data.offsets=ignore data.timezone=America/New_York"
    with pytest.raises(DataError) as refused:
        loader.load(data, tmp_path)
    assert cure in str(refused.value.hint)
    keys = {"offsets": "ignore", "timezone": "America/New_York"}
    assert loader.load(data.model_copy(update=keys), tmp_path).fingerprint == expected.fingerprint
    data = parquet(closes(frame), late)
    with pytest.raises(DataError) as refused:
        loader.load(data, tmp_path)
    assert "data.stamped_at=close" in str(refused.value.hint)
    keys = {"stamped_at": "close"}
    assert loader.load(data.model_copy(update=keys), tmp_path).fingerprint == expected.fingerprint


def test_parquet_of_a_brokers_server(frame: Frame, tmp_path: Path) -> None:
    right, server = tmp_path / "right", tmp_path / "server"
    for folder in (right, server):
        folder.mkdir()
    expected = loader.load(parquet(frame, right), tmp_path)
    local = new_york_ns(frame["ts"].to_numpy(np.int64)) + 7 * HOUR
    keys = {"offsets": "ignore", "timezone": "America/New_York+07:00"}
    bars = loader.load(parquet(frame.assign(ts=local), server, **keys), tmp_path)
    assert bars.fingerprint == expected.fingerprint


def test_a_source_without_keys_says_what_to_correct(
    frame: Frame, tmp_path: Path, own_source: None
) -> None:
    with pytest.raises(DataError) as refused:
        loader.load(own(new_york_as_utc(frame), tmp_path), tmp_path)
    hint = str(refused.value.hint)
    assert "a bar has the UTC time of its open" in hint
    assert "their times fit the clock of America/New_York" in hint
    assert "data.timezone" not in hint


def test_settlements_of_the_wrong_days_are_refused(tmp_path: Path) -> None:
    table = eia.read(eia.SHIPPED)
    folder = tmp_path / "data" / "eia"
    folder.mkdir(parents=True)
    early = table.assign(date=table["date"] - pd.Timedelta(days=1))
    eia.write(folder / eia.NAME, early, {})
    data = eia.EiaData(source="eia")
    with pytest.raises(DataError, match="are Sundays, and none is a Friday") as refused:
        loader.load(data, tmp_path)
    assert "data.format" not in str(refused.value.hint)
    eia.write(folder / eia.NAME, table[~table["date"].dt.strftime("%Y-%m").eq("2019-06")], {})
    with pytest.raises(DataError, match="2019-06-03 to 2019-06-28"):
        loader.load(data, tmp_path)
    shutil.rmtree(folder)
    assert conventions.STRAYS not in loader.load(data, tmp_path).provenance["facts"]


def test_a_session_that_the_vendor_calls_degraded_is_no_hole(frame: Frame, tmp_path: Path) -> None:
    data = by_dbn(without_sessions(frame), tmp_path)
    days = ", ".join(f'{{"date": "2024-01-{d}", "condition": "degraded"}}' for d in (24, 25))
    (tmp_path / "condition.json").write_text(f"[{days}]")
    assert "2024-01-24, 2024-01-25" in data_note(loader.load(data, tmp_path))


def test_times_side_by_side_are_measured_once(frame: Frame, tmp_path: Path) -> None:
    """Two contracts with a bar in the same minute are one time."""
    table = sources.of(data := parquet(frame, tmp_path)).raw(data, tmp_path).table()
    thin = replace(table, facts={})
    assert conventions.of_table(thin, conventions.Stated("open", None)) == []


@pytest.mark.parametrize(("stamped_at", "first"), [("open", 0), ("close", 1)])
def test_bars_that_run_on_over_midnight_have_no_day_hours(
    tmp_path: Path, stamped_at: Literal["open", "close"], first: int
) -> None:
    """From 19:00 to 01:30 New York: every day has a time at midnight, and none begins there."""
    nights = pd.bdate_range("2010-01-05", periods=20, tz="UTC")
    times = [night + pd.Timedelta(first + i, "min") for night in nights for i in range(390)]
    frame = pd.DataFrame({"time": pd.DatetimeIndex(times).strftime("%Y-%m-%dT%H:%M:%SZ")})
    for name in PRICES:
        frame[name] = 70.0
    path = tmp_path / "night.csv"
    frame.to_csv(path, index=False)
    data = CsvData(
        source="csv",
        path=str(path),
        stamped_at=stamped_at,
        timezone="UTC",
        contract="MCLG0",
        columns=CsvColumns(time="time", close="close"),
    )
    bars = loader.load(data, tmp_path)
    assert len(bars) == 20 * 390
    assert (bars.close_time[0] // MINUTE) % 60 == 1
