"""One market, every door: the layouts in which files of bars lie on a disk give equal bars, byte
for byte, as the DBN files that they were made from.

The weeks are a daylight-saving weekend and a half day; the prices are once as generated and once
below zero; the bars are of minutes and of seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import databento as vendor
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcl.config import schema
from mcl.data import dbn
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.parquet import ParquetData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator

WEEKS = {  # both sessions included
    "daylight_saving": (date(2024, 3, 7), date(2024, 3, 13)),
    "half_day": (date(2024, 11, 26), date(2024, 12, 3)),
}
KINDS = ("minutes", "below_zero", "seconds")
BELOW_ZERO = 90 * dbn.PRICE_SCALE
Door = Callable[[Path, Path], schema.DataCommon]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("worlds")
    spec = SyntheticData(source="synthetic", seed=11)
    return {
        name: generator.generate(spec, folder / name, first=first, last=last)
        for name, (first, last) in WEEKS.items()
    }


@pytest.fixture(scope="module", params=[f"{week}-{kind}" for week in WEEKS for kind in KINDS])
def market(
    request: pytest.FixtureRequest,
    worlds: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Bars]:
    """A folder of DBN bars alone, of one schema, and the bars that `mcl_databento` makes of it."""
    week, kind = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    home = folder / "dbn"
    home.mkdir()
    for path in sorted((worlds[week] / "ohlcv-1m").glob("*.dbn.zst")):
        header, records = dbn.read(path)
        dbn.write(home / path.name, *changed(header, records.copy(), kind))
    bars = load(DatabentoData(source="databento", path=str(home)), folder)
    assert len(bars) > 3000
    assert (bars.low < 0).all() == (kind == "below_zero")
    return home, bars


def changed(header: dbn.Header, records: dbn.Records, kind: str) -> tuple[dbn.Records, dbn.Header]:
    if kind == "below_zero":
        outright = records["close"] > 10 * dbn.PRICE_SCALE  # a spread is a difference
        for name in ("open", "high", "low", "close"):
            records[name][outright] -= BELOW_ZERO
    if kind == "seconds":  # of each minute its first second and, with its close, its last one
        records["rtype"] = dbn.rtype("ohlcv-1s")
        last = records.copy()
        last["ts_event"] += np.uint64(59_000_000_000)
        for name in ("open", "high", "low"):
            last[name] = last["close"]
        last["volume"], records["close"] = 0, records["open"]
        records = np.concatenate([records, last])
        records = records[np.argsort(records["ts_event"], kind="stable")]
        return records, replace(header, schema="ohlcv-1s")
    return records, header


# ------------------------------------------------------------------------------------------ layouts


def stores(home: Path) -> list[Any]:
    return [
        vendor.DBNStore.from_bytes(path.read_bytes()) for path in sorted(home.glob("*.dbn.zst"))
    ]


def frame(home: Path, **choices: Any) -> pd.DataFrame:
    """The frame that the vendor's own client makes of all files."""
    frames: list[pd.DataFrame] = [store.to_df(**choices) for store in stores(home)]
    return pd.concat(frames)


def name_of(home: Path) -> str:
    return str(stores(home)[0].schema)


def parquet(folder: Path, **choices: Any) -> ParquetData:
    return ParquetData(source="parquet", path=str(folder), **choices)


def write(rows: pd.DataFrame, path: Path, index: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(path, index=index)


def by_date(home: Path, folder: Path) -> schema.Data:
    """{year}/{date}_{schema}.parquet with the time as a column, found in the folder of DBN."""
    rows = frame(home).reset_index()
    for day, group in rows.groupby(rows["ts_event"].dt.date):
        name = f"{day.year}/{day}_{name_of(home)}.parquet"
        write(group, folder / name, index=False)
    return DatabentoData(source="databento", path=str(folder))


def by_month(home: Path, folder: Path) -> schema.Data:
    rows = frame(home)
    for month, group in rows.groupby(pd.DatetimeIndex(rows.index).strftime("%Y-%m")):
        write(group, folder / name_of(home) / f"{month}.parquet")
    return parquet(folder)


def one_file(home: Path, folder: Path) -> schema.Data:
    """{schema}/2022-2025.parquet with the time as the index; the path names the file."""
    path = folder / name_of(home) / "2022-2025.parquet"
    write(frame(home), path)
    return parquet(path)


def by_the_client(home: Path, folder: Path) -> schema.Data:
    """DBNStore.to_parquet."""
    for number, store in enumerate(stores(home)):
        store.to_parquet(folder / f"{number}.parquet")
    return parquet(folder)


def fixed_prices(home: Path, folder: Path) -> schema.Data:
    write(frame(home, price_type="fixed"), folder / "bars.parquet")
    return parquet(folder)


def decimal_prices(home: Path, folder: Path) -> schema.Data:
    write(frame(home), folder / "bars.parquet")
    table = pq.read_table(folder / "bars.parquet")
    for name in ("open", "high", "low", "close"):
        column = table[name].cast(pa.decimal128(18, 9))
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, folder / "bars.parquet")
    return parquet(folder)


def float32_prices(home: Path, folder: Path) -> schema.Data:
    kinds = dict.fromkeys(("open", "high", "low", "close"), np.float32)
    write(frame(home).astype(kinds), folder / "bars.parquet")
    return parquet(folder)


def plain_times(home: Path, folder: Path) -> schema.Data:
    """pretty_ts=False: times are whole nanoseconds."""
    write(frame(home, pretty_ts=False), folder / "bars.parquet")
    return parquet(folder)


def new_york_times(home: Path, folder: Path) -> schema.Data:
    write(frame(home, tz="America/New_York"), folder / "bars.parquet")
    return parquet(folder)


def times_without_zone(home: Path, folder: Path) -> schema.Data:
    rows = frame(home)
    rows.index = pd.DatetimeIndex(rows.index).tz_localize(None)
    write(rows, folder / "bars.parquet")
    return parquet(folder, timezone="UTC")


def index_without_name(home: Path, folder: Path) -> schema.Data:
    write(frame(home).rename_axis(None), folder / "bars.parquet")
    return parquet(folder)


def symbols_alone(home: Path, folder: Path) -> schema.Data:
    """No record type and no id: the name says the schema, the symbol the contract."""
    rows = frame(home).drop(columns=["rtype", "publisher_id", "instrument_id"])
    write(rows, folder / f"all.{name_of(home)}.parquet")
    return parquet(folder)


def by_contract(home: Path, folder: Path) -> schema.Data:
    """A file for each symbol, side by side in time."""
    for symbol, group in frame(home).groupby("symbol"):
        write(group, folder / f"{symbol}.parquet")
    return parquet(folder)


DOORS: dict[str, Door] = {
    door.__name__: door
    for door in (
        *(by_date, by_month, one_file, by_the_client, by_contract),
        *(fixed_prices, decimal_prices, float32_prices),
        *(plain_times, new_york_times, times_without_zone, index_without_name, symbols_alone),
    )
}


# of the vendor's client on the newest pandas
@pytest.mark.filterwarnings("ignore:DatetimeIndex.values returning")
@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_bars(
    door: str, market: tuple[Path, Bars], tmp_path: Path
) -> None:
    home, expected = market
    folder = tmp_path / "files"
    folder.mkdir()
    bars = load(DOORS[door](home, folder), tmp_path)
    assert len(bars) == len(expected)
    for name in ("open", "high", "low", "close", "volume", "close_time", "session", "to_close_sec"):
        same = getattr(bars, name).tobytes() == getattr(expected, name).tobytes()
        assert same, name
    symbols = [[c.symbol for c in b.contracts] for b in (bars, expected)]
    assert symbols[0] == symbols[1]
    assert bars.contract.tobytes() == expected.contract.tobytes()
    assert bars.fingerprint == expected.fingerprint
    # the ids of a generated world spell year and month; symbols alone could be anybody's
    assert bars.synthetic == (door != "symbols_alone")
