"""Parquet files of vendor records as a source: frames that the vendor's client wrote, one file or
thousands.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from mcl.data.source import Raw, Source, always, existing_path
from mcl.data.sources import databento


class ParquetData(databento.DatabentoData):
    """Parquet files of vendor records: a folder (searched deep) or one file. Expiries come from
    definitions, DBN or Parquet, or else from the symbols and the calendar.
    """

    source: Literal["parquet"]  # type: ignore[assignment]
    timezone: str | None = None  # of times that carry no zone


def _raw(data: ParquetData, root: Path) -> Raw:
    path = existing_path(data.path, root)
    source_files = databento.files(path, data.stored_interval, "Parquet", data.timezone)
    request = {"source": "parquet", "symbol": data.symbol, "timezone": data.timezone}
    raw = databento.raw_files(source_files, data.instrument, request)
    return replace(raw, home=data.folder)


def _books(data: ParquetData, root: Path) -> Path:
    return existing_path(data.path, root)


SOURCE = Source(ParquetData, _raw, always("symbol"), books=_books, market="databento")
