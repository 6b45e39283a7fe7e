"""Whatever is wrong with the input is one sentence with the place and the value, and leaves nothing
half-written behind.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mcl.base.errors import DataError, StoreError
from mcl.data import dbn, loader
from mcl.data.loader import load
from mcl.data.sources.csv import CsvData

from .conftest import databento_data, rewrite

JANUARY = Path("ohlcv-1m") / "2024-01.dbn.zst"
G4 = 42_202_402  # the id of MCLG4 in the generated world


def outright(records: dbn.Records, n: int) -> int:
    """The row of the n-th bar of MCLG4."""
    return int(np.flatnonzero(records["instrument_id"] == G4)[n])


def nan_price(r: dbn.Records) -> None:
    r["close"][outright(r, 5)] = dbn.UNDEF_PRICE


def off_tick(r: dbn.Records) -> None:
    r["open"][outright(r, 5)] += 3_000_000
    r["high"][outright(r, 5)] += 10_000_000


def high_below_low(r: dbn.Records) -> None:
    at = outright(r, 5)
    r["high"][at], r["low"][at] = r["low"][at] - 10_000_000, r["high"][at]


def high_below_close(r: dbn.Records) -> None:
    at = outright(r, 5)
    r["close"][at] = r["high"][at] + 10_000_000


def low_above_open(r: dbn.Records) -> None:
    at = outright(r, 5)
    r["open"][at] = r["low"][at] - 10_000_000


def negative_volume(r: dbn.Records) -> None:
    r["volume"][outright(r, 5)] = np.uint64(2**64 - 7)


def duplicate(r: dbn.Records) -> dbn.Records:
    at = outright(r, 5)
    return np.concatenate([r[: at + 1], r[at : at + 1], r[at + 1 :]])


def unsorted(r: dbn.Records) -> None:
    a, b = outright(r, 5), outright(r, 6)
    r["ts_event"][[a, b]] = r["ts_event"][[b, a]]


def unknown_id(r: dbn.Records) -> None:
    r["instrument_id"][outright(r, 5)] = 99


DAMAGE: list[tuple[Callable[[Any], Any], str]] = [
    (nan_price, r"MCLG4 at 2024-01-0\d .* UTC: a price is missing or not finite \(.*close nan\)"),
    (off_tick, r"MCLG4 at .*: a price is off the tick of 0.01 of MCL \(open \d+\.\d\d3"),
    (high_below_low, r"MCLG4 at .*: high [\d.]+ is below low [\d.]+"),
    (high_below_close, r"MCLG4 at .*: high [\d.]+ is below open [\d.]+ or close [\d.]+"),
    (low_above_open, r"MCLG4 at .*: low [\d.]+ is above open [\d.]+ or close [\d.]+"),
    (negative_volume, r"MCLG4 at .*: volume -7 is negative"),
    (duplicate, r"MCLG4 at .*: the same time comes twice"),
    (unsorted, r"MCLG4 at .*: times run backwards"),
    (unknown_id, r"bar \d+ at .*: instrument_id 99 has no definition at that time \(1 such bars\)"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_a_damaged_row_refuses_the_build(
    world_copy: Path, tmp_path: Path, damage: Callable[[Any], Any], sentence: str
) -> None:
    rewrite(world_copy / JANUARY, damage)
    with pytest.raises(DataError, match=sentence):
        load(databento_data(world_copy), tmp_path)
    assert not list((tmp_path / "data").glob("*"))


def test_a_bar_on_a_day_without_session_is_counted_out(world_copy: Path, tmp_path: Path) -> None:
    saturday = pd.Timestamp("2024-01-06 15:00", tz="UTC").value

    def weekend(r: dbn.Records) -> dbn.Records:
        extra = r[outright(r, 0) : outright(r, 0) + 1].copy()
        extra["ts_event"] = saturday
        at = int(np.searchsorted(r["ts_event"], saturday))
        return np.concatenate([r[:at], extra, r[at:]])

    rewrite(world_copy / JANUARY, weekend)
    stored = loader.stored_dataset(databento_data(world_copy), tmp_path)
    assert stored.manifest["counts"]["excluded_no_session"] == 1
    assert saturday + 60 * 10**9 not in load(databento_data(world_copy), tmp_path).close_time


def test_a_truncated_file_and_a_file_of_something_else(world_copy: Path, tmp_path: Path) -> None:
    path = world_copy / JANUARY
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated"):
        load(databento_data(world_copy), tmp_path)
    path.write_bytes(b"time,open,high\n")
    with pytest.raises(
        DataError, match=r"2024-01.dbn.zst is not a DBN file: it starts with b'tim'"
    ):
        load(databento_data(world_copy), tmp_path)


def test_missing_bars_empty_files_and_the_legacy_format(world_copy: Path, tmp_path: Path) -> None:
    legacy = tmp_path / "old.dbz"
    legacy.write_bytes(b"DBZ")
    with pytest.raises(DataError, match="legacy DBZ format"):
        load(databento_data(legacy), tmp_path)
    with pytest.raises(
        DataError, match="holds definition, but no bars; need a file of schema ohlcv-1m"
    ):
        load(databento_data(world_copy / "definition"), tmp_path)
    (world_copy / "ohlcv-1m" / "2024-02.dbn.zst").unlink()
    rewrite(world_copy / JANUARY, lambda r: r[:0])
    with pytest.raises(DataError, match="holds no bars at all: the range is empty"):
        load(databento_data(world_copy), tmp_path)


def test_a_missing_path_names_the_nearest(world_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*MCL_FTU; did you mean 'MCL_FUT'\?"):
        load(databento_data(world_copy.parent / "MCL_FTU"), tmp_path)


def test_the_wrong_instrument(world_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no outright CL contract"):
        load(databento_data(world_copy, instrument="CL"), tmp_path)
    with pytest.raises(DataError, match=r"unknown instrument 'MCLL'; did you mean 'MCL'\?"):
        load(databento_data(world_copy, instrument="MCLL"), tmp_path)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is full: the kernel refuses to write beyond `size` bytes into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_behind(small_world: Path, tmp_path: Path) -> None:
    with no_file_larger_than(20_000), pytest.raises(StoreError, match="cannot write") as refused:
        load(databento_data(small_world), tmp_path)
    assert "disk space" in refused.value.hint
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    stored = loader.stored_dataset(databento_data(small_world), tmp_path)
    with no_file_larger_than(20_000), pytest.raises(StoreError, match="cannot write"):
        load(databento_data(small_world), tmp_path)
    assert not list(stored.folder.glob("front/*"))
    assert len(load(databento_data(small_world), tmp_path)) > 0


# ---------------------------------------------------------------------------------------------- CSV

HEADER = "time,open,high,low,close,volume,symbol"
GOOD = [
    "2024-02-01T15:00:00Z,75.00,75.05,74.95,75.01,10,MCLH4",
    "2024-02-01T15:01:00Z,75.01,75.02,75.00,75.00,7,MCLH4",
    "2024-02-01T15:02:00Z,75.00,75.03,74.99,75.02,3,MCLH4",
]
COLUMNS = {
    "time": "time",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "symbol": "symbol",
}


def csv_data(path: Path, **choices: Any) -> CsvData:
    words: dict[str, Any] = {
        "source": "csv",
        "path": str(path),
        "columns": COLUMNS,
        "stamped_at": "open",
        "timezone": "UTC",
    } | choices
    return CsvData.model_validate(words)


def written(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "bars.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_good_file_loads(tmp_path: Path) -> None:
    bars = load(csv_data(written(tmp_path, GOOD)), tmp_path)
    assert [c.symbol for c in bars.contracts] == ["MCLH4"]
    assert bars.contracts[0].last_trade_date == date(2024, 2, 16)
    assert list(bars.close) == [75.01, 75.0, 75.02]
    assert list(bars.volume) == [10, 7, 3]
    assert str(bars.times[0]) == "2024-02-01 15:01:00+00:00"
    assert not bars.synthetic


@pytest.mark.parametrize(
    ("line", "column", "value", "sentence"),
    [
        (3, "close", "", r"MCLH4 at 2024-02-01 15:01:00 UTC, line 3: a price is missing"),
        (3, "close", "abc", r"bars.csv, line 3: close is 'abc', not a number"),
        (2, "high", "74.90", r"line 2: high 74.9 is below low 74.95"),
        (3, "low", "75.015", r"line 3: a price is off the tick of 0.01"),
        (4, "volume", "-3", r"line 4: volume -3 is negative"),
        (4, "volume", "", r"line 4: volume is nan, not a whole number"),
        (4, "volume", "2.5", r"line 4: volume is 2.5, not a whole number"),
        (3, "time", "yesterday", r"line 3: time is 'yesterday', not an ISO 8601 time"),
        (4, "time", "2024-02-01T15:01:00Z", r"line 4: the same time comes twice"),
        (4, "time", "2024-02-01T14:59:00Z", r"line 4: times run backwards"),
        (3, "symbol", "MCLA4", r"line 3: 'MCLA4' is not an outright futures symbol"),
        (3, "symbol", "XYZH4", r"line 3: unknown root 'XYZ'"),
        (3, "symbol", "CLH4", r"line 3: CLH4 is not a contract of MCL"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(
    tmp_path: Path, line: int, column: str, value: str, sentence: str
) -> None:
    cells = [row.split(",") for row in GOOD]
    cells[line - 2][HEADER.split(",").index(column)] = value
    with pytest.raises(DataError, match=sentence):
        load(csv_data(written(tmp_path, [",".join(row) for row in cells])), tmp_path)
    assert not list((tmp_path / "data").glob("*"))


def test_columns_and_conventions_that_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    with pytest.raises(DataError, match=r"bars.csv has no column 'clse'; did you mean 'close'\?"):
        load(csv_data(path, columns=COLUMNS | {"close": "clse"}), tmp_path)
    with pytest.raises(DataError, match="a file stamped at 'date' cannot give '1m' bars"):
        load(csv_data(path, stamped_at="date"), tmp_path)
    with pytest.raises(DataError, match="has a header but no rows"):
        load(csv_data(written(tmp_path, [])), tmp_path)
    with pytest.raises(DataError, match=r"there is no .*nothing.csv"):
        load(csv_data(tmp_path / "nothing.csv"), tmp_path)


@pytest.mark.parametrize(
    ("declared", "apart_sec", "sentence", "cure"),
    [
        (
            "5m",
            60,
            r"line 3: this bar begins 60 s after the one before it, and data.interval says 300 s",
            "set data.format.interval=1m: longer bars are made of the file's",
        ),
        (
            "1m",
            300,
            r"its 20 bars begin 300 s apart or a multiple of it, and data.interval says 60 s",
            "set data.interval=5m",
        ),
        (
            "1h",
            86_400,
            r"begin 86400 s apart or a multiple .* 3600 s",
            "set data.interval=session and data.stamped_at=date",
        ),
        (
            "1m",
            10,
            r"begins 10 s after .* 60 s",
            "set data.format.interval=10s: longer bars are made of the file's",
        ),
    ],
)
def test_bars_that_are_not_as_long_as_declared_are_refused(
    tmp_path: Path, declared: str, apart_sec: int, sentence: str, cure: str
) -> None:
    times = pd.date_range("2024-02-01 10:00", periods=20, freq=f"{apart_sec}s").strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    rows = [
        row.replace("2024-02-01T15:00:00Z", time)
        for time, row in zip(times, [GOOD[0]] * 20, strict=True)
    ]
    with pytest.raises(DataError, match=sentence) as refused:
        load(csv_data(written(tmp_path, rows), interval=declared), tmp_path)
    assert refused.value.hint == cure
    right = {60: "1m", 300: "5m"}.get(apart_sec)
    if right:
        assert len(load(csv_data(written(tmp_path, rows), interval=right), tmp_path)) == 20


def test_the_clock_and_the_stamp_are_config(tmp_path: Path) -> None:
    local = [row.replace("T15", " 10").replace("Z", "") for row in GOOD]
    path = written(tmp_path, local)
    bars = load(csv_data(path, timezone="America/New_York", stamped_at="close"), tmp_path)
    assert str(bars.times[0]) == "2024-02-01 15:00:00+00:00"
    with pytest.raises(DataError, match="unknown timezone 'Mars/Olympus'"):
        load(csv_data(path, timezone="Mars/Olympus"), tmp_path)


def test_a_series_without_dated_contracts_never_rolls(tmp_path: Path) -> None:
    path = written(
        tmp_path, [",".join(row.split(",")[:5]) for row in GOOD], "time,open,high,low,close"
    )
    bars = load(
        csv_data(path, columns={"time": "time", "close": "close"}, roll={"rule": "calendar"}),
        tmp_path,
    )
    assert list(bars.open) == list(bars.close) == [75.01, 75.0, 75.02]
    assert not bars.volume.any()
    assert len(bars.roll_table) == 0


def test_a_file_of_nothing_that_trades(tmp_path: Path) -> None:
    weekend = [row.replace("2024-02-01", "2024-02-03") for row in GOOD]
    words = r"3 of 3 times of bars lie in hours in which the exchange is closed \(2024-02-03 10"
    with pytest.raises(DataError, match=words):
        load(csv_data(written(tmp_path, weekend)), tmp_path)
    ranks = {
        "columns": {"time": "date", "ranks": ["c1"]},
        "interval": "session",
        "stamped_at": "date",
    }
    with pytest.raises(DataError, match=r"the columns c1 hold no price at all"):
        load(csv_data(written(tmp_path, ["2024-02-01,"], "date,c1"), **ranks), tmp_path)
