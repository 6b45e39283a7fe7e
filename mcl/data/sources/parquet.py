"""Parquet files of vendor records as a source: frames that the vendor's client wrote, one file or
thousands.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from mcl.data.source import Raw, Source, existing_path
from mcl.data.sources import databento
from mcl.data.table import WallClock


class ParquetData(databento.DatabentoData):
    """Parquet files of vendor records: a folder (searched deep) or one file. Expiries come from
    definitions, DBN or Parquet, or else from the symbols and the calendar.
    """

    source: Literal["parquet"]  # type: ignore[assignment]
    stamped_at: Literal["open", "close"] = "open"  # as the vendor's records have it
    timezone: str | None = None  # of times that carry no zone
    # ignore: the zone in the files is wrong, timezone says whose clock they show
    offsets: Literal["read", "ignore"] = "read"


def _raw(data: ParquetData, root: Path) -> Raw:
    path = existing_path(data.path, root)
    on = WallClock(data.timezone, data.offsets == "ignore")
    source_files = databento.files(
        path, data.stored_interval, "Parquet", on, interval=data.interval
    )
    source_files = replace(source_files, closes=data.stamped_at == "close")
    keys = {"source", "symbol", "stamped_at", "timezone", "offsets"}
    raw = databento.raw_files(source_files, data.instrument, data.model_dump(include=keys))
    return replace(raw, home=data.folder)


def _books(data: ParquetData, root: Path) -> Path:
    return existing_path(data.path, root)


SOURCE = Source(ParquetData, _raw, books=_books)
