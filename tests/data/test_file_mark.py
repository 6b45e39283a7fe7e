"""The mark of generated data is in every file that mcl writes of it, and every door finds it there:
after a copy, under another name, without the columns of ids, through a frame of pandas.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcl import composition
from mcl.data import file_mark, loader
from mcl.data.bars import Bars
from mcl.data.data_note import data_note
from mcl.data.sources import eia
from mcl.data.sources.csv import CsvColumns, CsvData
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.parquet import ParquetData

from .conftest import databento_data

MARK = "SYNTHETIC DATA"
NAMES = ("open", "high", "low", "close", "volume", "symbol")


@pytest.fixture(scope="module")
def bars(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Bars:
    return loader.load(databento_data(small_world), tmp_path_factory.mktemp("marked"))


@pytest.fixture(scope="module")
def stored(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset made from the world."""
    root = tmp_path_factory.mktemp("stored")
    return loader.stored_dataset(databento_data(small_world), root).folder


def exported(bars: Bars) -> pd.DataFrame:
    """The frame of the library as a user shapes it for another program: no ids, other columns."""
    frame = bars.frame().reset_index()
    frame["ts_event"] = frame["close_time"] - pd.Timedelta(minutes=1)
    frame["symbol"] = frame["contract"]
    return frame[["ts_event", *NAMES]]


def test_every_file_of_a_dataset_carries_the_mark(
    bars: Bars, stored: Path, small_world: Path
) -> None:
    loader.load(databento_data(small_world), stored.parents[1])
    files = sorted(stored.rglob("*.parquet"))
    assert len(files) > 5
    for path in files:
        world = file_mark.in_metadata(pq.read_schema(path).metadata)
        assert world["parameters"]["seed"] == 11, path.name
    for path in stored.rglob("*.arrow"):
        metadata = pa.ipc.open_file(pa.OSFile(str(path))).schema.metadata
        assert file_mark.in_metadata(metadata)["synthetic"], path.name


def test_a_frame_in_parquet_keeps_it_without_ids(bars: Bars, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    exported(bars).to_parquet(folder / "ohlcv-1m-renamed.parquet", index=False)
    for data in (
        ParquetData(source="parquet", path=str(folder)),
        DatabentoData(source="databento", path=str(folder)),
    ):
        read = loader.load(data, tmp_path)
        assert read.synthetic
        assert data_note(read).startswith(MARK)
        assert loader.dataset_facts(data, tmp_path)["synthetic"]


def test_a_stored_file_keeps_it_through_pandas(stored: Path, tmp_path: Path) -> None:
    """Copied, renamed, given a column of symbols by pandas and written again."""
    source = next(iter(sorted(stored.glob("bars/*.parquet"), key=lambda p: -p.stat().st_size)))
    copied = Path(shutil.copy(source, tmp_path / "some_bars.parquet"))
    _, year, month = source.stem.split("-")
    symbol = f"MCL{'FGHJKMNQUVXZ'[int(month) - 1]}{year[2:]}"
    frame = pd.read_parquet(copied).assign(symbol=symbol).drop(columns="session")
    (tmp_path / "mine").mkdir()
    frame.to_parquet(tmp_path / "mine" / "all.ohlcv-1m.parquet")
    read = loader.load(ParquetData(source="parquet", path=str(tmp_path / "mine")), tmp_path)
    assert read.synthetic
    assert "seed 11" in data_note(read)


def csv_data(path: Path, **columns: Any) -> CsvData:
    named = CsvColumns(time="ts_event", symbol="symbol", **{n: n for n in NAMES[:5]})
    return CsvData(source="csv", path=str(path), stamped_at="open", columns=named)


@pytest.mark.parametrize("line", ["# SYNTHETIC DATA: seed 11", "SYNTHETIC DATA"])
def test_a_comment_of_a_csv_marks_it(line: str, bars: Bars, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{line}\n{exported(bars).to_csv(index=False, float_format='%.2f')}")
    assert loader.load(csv_data(path), tmp_path).synthetic


def test_a_column_of_a_csv_marks_it(bars: Bars, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    exported(bars).assign(synthetic="true").to_csv(path, index=False, float_format="%.2f")
    assert loader.load(csv_data(path), tmp_path).synthetic
    exported(bars).assign(synthetic="false").to_csv(path, index=False, float_format="%.2f")
    assert not loader.load(csv_data(path), tmp_path).synthetic


def test_real_data_carry_no_mark(tmp_path: Path) -> None:
    data = composition.compose("backtest", ["data=eia"]).config.data
    read = loader.load(data, tmp_path)
    assert not read.synthetic
    assert file_mark.KEY not in read.frame().attrs
    folder = loader.stored_dataset(data, tmp_path).folder
    for path in folder.rglob("*.parquet"):
        assert file_mark.in_metadata(pq.read_schema(path).metadata) == {}
    assert file_mark.in_metadata(pq.read_schema(eia.SHIPPED).metadata) == {}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"yes"'])
def test_a_mark_that_cannot_be_read_is_a_mark(text: bytes) -> None:
    assert file_mark.in_metadata({file_mark.KEY.encode(): text})["synthetic"] is True
    assert file_mark.in_metadata({b"pandas": text}) == {}
