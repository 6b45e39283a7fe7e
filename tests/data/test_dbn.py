"""Files that are written here are read by the unmodified client, and damaged files are refused with
the place.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import databento
import numpy as np
import pandas as pd
import pytest
import zstandard
from comparisons import digest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.base.errors import DataError, StoreError
from mcl.data import dbn

START, END = (pd.Timestamp(day, tz="UTC").value for day in ("2025-11-10", "2025-11-12"))
NAMES = tuple(
    dbn.Mapping(symbol, n, date(2025, 11, 10), date(2025, 11, 12))
    for symbol, n in (("MCLZ5", 1001), ("MCLZ5-MCLF6", 1002))
)
HEADER = dbn.Header("GLBX.MDP3", "ohlcv-1m", "parent", ("MCL.FUT",), START, END, NAMES)


def bars(n: int = 600) -> dbn.Records:
    records = dbn.blank("ohlcv-1m", n)
    records["instrument_id"] = np.where(np.arange(n) % 2, 1002, 1001)
    records["ts_event"] = START + np.arange(n) // 2 * 60_000_000_000
    ticks = 6000 + np.arange(n)
    for field, shift in (("open", 0), ("high", 3), ("low", -3), ("close", 1)):
        records[field] = (ticks + shift) * 10_000_000
    records["volume"] = 1 + np.arange(n) % 7
    return records


def test_the_unmodified_client_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "bars.dbn.zst"
    dbn.write(path, bars(), HEADER)
    frame = databento.DBNStore.from_bytes(path.read_bytes()).to_df()
    assert frame["symbol"].tolist()[:2] == ["MCLZ5", "MCLZ5-MCLF6"]
    assert frame["close"].iloc[0] == 60.01
    assert str(frame.index[2]) == "2025-11-10 00:01:00+00:00"
    assert len(frame) == 600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.dbn.zst"]


def test_round_trip_keeps_header_and_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "bars.dbn.zst"
    dbn.write(path, bars(), HEADER)
    header, records = dbn.read(path)
    assert header == HEADER
    assert digest(records) == digest(bars())
    first = path.read_bytes()
    dbn.write(path, bars(), HEADER)
    assert digest(path.read_bytes()) == digest(first)


def test_a_symbol_may_mean_two_instruments_one_after_the_other(tmp_path: Path) -> None:
    later = tuple(
        dbn.Mapping("MCLZ5", number, start, end)
        for number, start, end in (
            (1001, date(2025, 11, 10), date(2025, 11, 11)),
            (2001, date(2025, 11, 11), date(2025, 11, 12)),
        )
    )
    header = dbn.Header("GLBX.MDP3", "ohlcv-1m", "parent", ("MCL.FUT",), START, END, later)
    dbn.write(tmp_path / "a.dbn.zst", bars(2), header)
    assert dbn.read(tmp_path / "a.dbn.zst")[0].mappings == later


@settings(max_examples=25)
@given(cut=st.integers(1, 4000))
def test_a_truncated_file_is_refused_with_its_name(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "bars.dbn.zst"
    dbn.write(path, bars(), HEADER)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - min(cut, len(content) - 8)])
    with pytest.raises(DataError, match=r"bars\.dbn\.zst"):
        dbn.read(path)


def test_plain_files_name_the_record_that_breaks(tmp_path: Path) -> None:
    dbn.write(tmp_path / "bars.dbn.zst", bars(10), HEADER)
    content = zstandard.ZstdDecompressor().decompress((tmp_path / "bars.dbn.zst").read_bytes())
    plain = tmp_path / "bars.dbn"
    plain.write_bytes(content)
    assert len(dbn.read(plain)[1]) == 10
    plain.write_bytes(content[:-1])
    with pytest.raises(DataError, match="inside record 10, 55 of 56 bytes"):
        dbn.read(plain)
    plain.write_bytes(content[:-112] + b"\x00" + content[-111:])
    with pytest.raises(DataError, match="record 9: its length is 0"):
        dbn.read(plain)
    plain.write_bytes(content[:60])
    with pytest.raises(DataError, match="inside its header"):
        dbn.read(plain)


def test_damage_other_files_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "bars.dbn.zst"
    dbn.write(path, bars(), HEADER)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|truncated"):
        dbn.read(path)
    path.write_bytes(b"time,open\n2025-01-01,60\n")
    with pytest.raises(DataError, match="not a DBN file"):
        dbn.read(path)
    with pytest.raises(DataError, match="No such file"):
        dbn.read(tmp_path / "absent.dbn.zst")


def test_writing_refuses_foreign_layouts_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not laid out as 'ohlcv-1m'"):
        dbn.write(tmp_path / "x.dbn.zst", dbn.blank("statistics", 1), HEADER)
    with pytest.raises(DataError, match="did you mean 'ohlcv-1m'"):
        dbn.blank("ohlcv-1min", 1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        dbn.write(tmp_path / "file" / "x.dbn.zst", bars(1), HEADER)


def test_real_samples_read_with_their_own_values(shared_data: Path) -> None:
    folder = shared_data / "databento_python_apache2"
    header, records = dbn.read(folder / "GLBX.MDP3__test_data.ohlcv-1m.dbn.zst")
    assert (header.dataset, header.stype_in, header.mappings[0].raw_symbol) == (
        "GLBX.MDP3",
        "raw_symbol",
        "ESH1",
    )
    assert (records["close"] / dbn.PRICE_SCALE).max() == 3704.75
    for path in sorted(folder.glob("GLBX*.dbn.zst")):
        ours, theirs = (
            dbn.read(path)[1],
            databento.DBNStore.from_bytes(path.read_bytes()).to_ndarray(),
        )
        assert digest(ours) == digest(theirs), path.name
    with pytest.raises(DataError, match="mixes schemas"):
        dbn.read(folder / "LIVE__test_data.live.dbn.zst")
