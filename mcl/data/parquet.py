"""Frames of vendor records in Parquet files, as arrays of raw records: what `to_df().to_parquet()`
and `DBNStore.to_parquet` of the vendor's client leave on disk.

A file is one schema. It says which by its record type (`rtype`), else by its name or a folder above
it (`2024-02-01_ohlcv-1m.parquet`, `ohlcv-1m/2024.parquet`). Prices may be float64, float32, decimal
or int64 in units of 1e-9, times a column or the index. What a file does not hold of a record is
undefined there.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcl.base.errors import DataError, nearest
from mcl.data import dbn, file_mark
from mcl.data.conventions import zone_and_lead
from mcl.data.table import PLAIN, WallClock, zone
from mcl.market.calendar import DAY_NS, from_day

Ints = npt.NDArray[np.int64]

ENDING = ".parquet"
BATCH_BYTES = 64_000_000  # of records that are in memory at once
BARS = ("ts_event", "open", "high", "low", "close", "volume")  # what a file of bars must hold
_INDEX = "__index_level_0__"  # the column of an index without a name
_NAMED = re.compile("|".join(sorted(dbn.SCHEMAS, key=len, reverse=True)))
_FLOAT32_DIGITS = 9  # as many decimals as a float32 can hold


def schema_of(path: Path) -> str:
    """The schema of a file, "" for a table that holds no records of a vendor."""
    columns = _file(path).schema_arrow.names
    named = _named(path)
    if "rtype" not in columns:
        return named if not _absent(columns, named) else ""
    rtypes = pc.unique(_column(path, "rtype")).to_pylist()
    if not rtypes:
        return named
    fitting = [name for name in dbn.SCHEMAS if dbn.rtype(name) == rtypes[0]]
    if len(rtypes) > 1 or not fitting:
        words = ", ".join(map(str, rtypes[:3]))
        raise DataError(f"{path} mixes schemas (rtype {words})", "write one file per schema")
    return named if named in fitting else fitting[0]


def header(path: Path, on: WallClock = PLAIN) -> dbn.Header:
    """The range of a file and the meaning of its ids, as the header of a DBN file says them."""
    schema, columns = schema_of(path), _file(path).schema_arrow.names
    missing = _absent(columns, schema)
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}; {nearest(missing[0], columns)}",
            f"bars need {', '.join(BARS)}",
        )
    first, end, meanings = np.iinfo(np.int64).max, 0, []
    for rows in _batches(path, schema, [*_times(columns), "instrument_id", "symbol"]):
        if not rows.num_rows:
            continue
        ts = _nanoseconds(path, rows[_times(columns)[0]], on)
        first, end = min(first, int(ts.min())), max(end, int(ts.max()) + 1)
        meanings.append(_meanings(rows, ts))
    mappings = _mappings(pd.concat(meanings)) if meanings else ()
    return dbn.Header("", schema, "", (), 0 if not end else first, end, mappings)


def mark(path: Path) -> dict[str, Any]:
    """The world that the metadata of a file name; {} for a file without the mark."""
    return file_mark.in_metadata(_file(path).schema_arrow.metadata)


def stream(
    path: Path, on: WallClock = PLAIN, size: int = BATCH_BYTES
) -> tuple[dbn.Header, Iterator[dbn.Records]]:
    """The header and the records of a file, in pieces of about `size` bytes."""
    about = header(path, on)
    pieces = _batches(path, about.schema, _file(path).schema_arrow.names, size)
    return about, map(partial(_records, path, about.schema, on), pieces)


# ------------------------------------------------------------------------------------------ reading


def _file(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "copy it again") from error


def _column(path: Path, name: str) -> Any:
    try:
        return _file(path).read(columns=[name])[name]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "copy it again") from error


def _batches(
    path: Path, schema: str, columns: list[str], size: int = BATCH_BYTES
) -> Iterator[pa.Table]:
    rows = max(1, size // dbn.dtype(schema).itemsize)
    file = _file(path)
    present = [name for name in columns if name in file.schema_arrow.names]
    try:
        for batch in file.iter_batches(batch_size=rows, columns=present):
            yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}", "copy it again") from error


def _named(path: Path) -> str:
    """The schema that the name of a file says, or else the nearest of the folders above it."""
    names = (name for part in reversed(path.parts) for name in _NAMED.findall(part))
    return next(names, "")


def _absent(columns: list[str], schema: str) -> list[str]:
    """The columns that a file of this schema must have, and these are not; any for no schema."""
    if not schema:
        return ["rtype"]
    wanted = BARS if schema.startswith("ohlcv") else ("ts_event", "instrument_id")
    present = {*columns, "ts_event"} if _INDEX in columns else set(columns)
    return [name for name in wanted if name not in present]


def _times(columns: list[str]) -> list[str]:
    """The column of the time of the event, which an index without a name may be."""
    return ["ts_event" if "ts_event" in columns else _INDEX]


# ------------------------------------------------------------------------------------------ symbols


def _meanings(rows: pa.Table, ts: Ints) -> pd.DataFrame:
    """The first day of each (symbol, id) of a batch."""
    if "symbol" not in rows.column_names:
        return pd.DataFrame({"symbol": [], "id": [], "day": []})
    symbols = rows["symbol"].to_pandas()
    frame = pd.DataFrame({"symbol": symbols, "id": _ids(rows), "day": ts // DAY_NS})
    return _first_days(frame.dropna())


def _first_days(frame: pd.DataFrame) -> pd.DataFrame:
    days: pd.Series = frame.groupby(["symbol", "id"], observed=True)["day"].min()
    return days.reset_index()


def _mappings(meanings: pd.DataFrame) -> tuple[dbn.Mapping, ...]:
    if not len(meanings):
        return ()
    first, last = _first_days(meanings), from_day(int(meanings["day"].max()) + 1)
    columns = (first[name].tolist() for name in ("symbol", "id", "day"))
    return tuple(
        dbn.Mapping(str(symbol), int(number), from_day(int(day)), last)
        for symbol, number, day in zip(*columns, strict=True)
    )


def _ids(rows: pa.Table) -> Ints:
    """The instrument ids; of a file without them one that its symbol makes."""
    if "instrument_id" in rows.column_names:
        return np.asarray(rows["instrument_id"].to_numpy(), np.int64)
    code, symbols = pd.factorize(rows["symbol"].to_pandas())
    numbers = np.array([zlib.crc32(str(symbol).encode()) for symbol in symbols], np.int64)
    return numbers[code]


# ---------------------------------------------------------------------------------------- records


def _records(path: Path, schema: str, on: WallClock, rows: pa.Table) -> dbn.Records:
    records = dbn.blank(schema, rows.num_rows)
    prices, times = dbn.price_fields(schema), dbn.time_fields(schema)
    for name in records.dtype.names or ():
        source = _times(rows.column_names)[0] if name == "ts_event" else name
        if source not in rows.column_names:
            if name in prices:
                records[name] = dbn.UNDEF_PRICE
            continue
        column = rows[source]
        if name in prices:
            records[name] = _fixed(path, name, column)
        elif name in times:
            records[name] = _nanoseconds(path, column, on)
        elif records.dtype[name].kind == "S":
            records[name] = column.cast(pa.string()).fill_null("").to_pandas().str.encode("utf-8")
        else:
            records[name] = _whole(path, name, column, records.dtype[name])
    if "instrument_id" not in rows.column_names:
        records["instrument_id"] = _ids(rows)
    return records


def _fixed(path: Path, name: str, column: pa.ChunkedArray) -> Ints:
    """Prices in units of 1e-9; a missing one is the undefined price."""
    kind = column.type
    if pa.types.is_integer(kind):
        return np.asarray(column.fill_null(dbn.UNDEF_PRICE).to_numpy(), np.int64)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not pa.types.is_floating(kind):
        raise DataError(f"{path}: {name} is of type {kind}, not a number")
    values = np.asarray(column.fill_null(float("nan")).to_numpy())
    prices = _shortest(values) if values.dtype == np.float32 else values.astype(np.float64)
    infinite = np.flatnonzero(np.isinf(prices))
    if len(infinite):
        raise DataError(f"{path}: {name} of row {infinite[0] + 1} is not finite")
    undefined = np.isnan(prices)
    scaled: Ints = np.rint(np.where(undefined, 0.0, prices) * dbn.PRICE_SCALE).astype(np.int64)
    scaled[undefined] = dbn.UNDEF_PRICE
    return scaled


def _shortest(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The number with the fewest decimals that is this float32: 58.76, not 58.7599983."""
    exact = values.astype(np.float64)
    pending = np.isfinite(values)
    for decimals in range(_FLOAT32_DIGITS + 1):
        rounded = np.round(exact, decimals)
        fits = pending & (rounded.astype(np.float32) == values)
        exact[fits] = rounded[fits]
        pending &= ~fits
    return exact


def _nanoseconds(path: Path, column: pa.ChunkedArray, on: WallClock) -> Ints:
    """ns UTC; a missing time is the undefined one. DataError for times of nobody's clock."""
    kind = column.type
    if on.ignore_offsets and pa.types.is_integer(kind):
        kind = pa.timestamp("ns", "UTC")
        column = column.cast(pa.int64()).cast(kind)
    if pa.types.is_integer(kind):
        return np.asarray(column.cast(pa.uint64()).to_numpy()).astype(np.int64)
    if not pa.types.is_timestamp(kind):
        raise DataError(
            f"{path}: a time is of type {kind}, not a timestamp",
            "write the frame with its times, or with pretty_ts=False",
        )
    if kind.tz is None or on.ignore_offsets:
        if on.timezone is None:
            raise DataError(
                f"{path}: the times carry no time zone, and data.timezone is not said",
                "use data=parquet data.timezone=UTC, or data.timezone=America/New_York",
            )
        wall = column if kind.tz is None else pc.local_timestamp(column)
        column = _on_clock(path, wall, on.timezone)
    values = column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    return np.asarray(values.fill_null(-1).to_numpy(), np.int64)


def _on_clock(path: Path, column: pa.ChunkedArray, timezone: str) -> pa.ChunkedArray:
    key, ahead_ns = zone_and_lead(timezone)
    try:
        ahead = pa.scalar(ahead_ns, pa.duration("ns"))
        behind = pc.subtract(column.cast(pa.timestamp("ns")), ahead)
        zoned: pa.ChunkedArray = pc.assume_timezone(
            behind, zone(key).key, ambiguous="raise", nonexistent="raise"
        )
        return zoned
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: a time does not exist or comes twice on the clock of {timezone} ({error})",
            "set data.timezone",
        ) from error


def _whole(path: Path, name: str, column: pa.ChunkedArray, kind: np.dtype[Any]) -> Any:
    """Whole numbers; a missing one is the largest of its type, which is the undefined one."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type):
        return column.fill_null(0).to_numpy()
    if not pa.types.is_floating(column.type):
        raise DataError(f"{path}: {name} is of type {column.type}, not a whole number")
    numbers = np.asarray(column.fill_null(np.nan).to_numpy(), np.float64)
    odd = np.flatnonzero(np.isfinite(numbers) & (numbers % 1 != 0))
    if len(odd):
        raise DataError(f"{path}: {name} of row {odd[0] + 1} is {numbers[odd[0]]:g}, not whole")
    undefined = ~np.isfinite(numbers)
    whole = np.where(undefined, 0, numbers).astype(kind)
    whole[undefined] = np.iinfo(kind).max
    return whole
