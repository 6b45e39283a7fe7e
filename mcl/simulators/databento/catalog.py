"""The DBN files of one folder as a vendor would offer them: found by dataset, schema, time and
symbol, handed out in slices.

Files are read when they are asked for and the last ones are kept, so that memory stays bounded.
Hourly and daily bars are made from 1-minute bars, and the order books of a generated world from its
bars.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError
from mcl.base.files import files_below
from mcl.base.instants import NS
from mcl.data import dbn
from mcl.market.calendar import DAY_NS, from_day
from mcl.simulators.databento.derived import COARSER, FROM_BOOKS, Stored, books, coarser, stored
from mcl.simulators.databento.symbology import Meaning, Symbols

KEPT_BYTES = 512 << 20  # of records in memory
SLICE = 1 << 16  # records handed out at once
OPEN_INTEREST = 9  # stat_type


@dataclass(frozen=True)
class Query:
    """start <= time < end in ns UTC; the time is ts_recv where a schema has it, else ts_event."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str
    start: int
    end: int
    limit: int | None = None

    @property
    def days(self) -> tuple[date, date]:
        """The UTC days that are touched; the second is left out."""
        return from_day(self.start // DAY_NS), from_day(-(-self.end // DAY_NS))


class Catalog:
    """DataError for a folder without a DBN file. `world` is what a generated world says about
    itself, {} for recorded data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[tuple[str, str], list[Stored]] = {}
        paths = files_below(folder, (".dbn", ".dbn.zst"))
        for file in map(stored, paths):
            self._files.setdefault((file.header.dataset, file.header.schema), []).append(file)
        if not paths:
            raise DataError(
                f"{folder} holds no DBN file, so there is nothing to serve",
                "give a folder of .dbn or .dbn.zst files",
            )
        self._make()
        self._records_by_file: OrderedDict[tuple[Path, str], dbn.Records] = OrderedDict()
        self._counts: dict[Query, int] = {}
        self._lock = threading.RLock()

    @cached_property
    def world(self) -> dict[str, Any]:
        note = self.folder / "world.json"
        facts: dict[str, Any] = json.loads(note.read_text()) if note.is_file() else {}
        return {name: fact for name, fact in facts.items() if name != "files"}

    @cached_property
    def conditions(self) -> dict[str, str]:
        """The days that are not simply available, from the vendor's lists in the folder."""
        lists = (
            json.loads(path.read_text()) for path in files_below(self.folder, ("condition.json",))
        )
        return {str(item["date"]): str(item["condition"]) for items in lists for item in items}

    def datasets(self) -> list[str]:
        return sorted({dataset for dataset, _ in self._files})

    def schemas(self, dataset: str) -> list[str]:
        return sorted(schema for name, schema in self._files if name == dataset)

    def span(self, dataset: str, schema: str) -> tuple[int, int]:
        """Start and end of what there is, ns UTC."""
        files = self._files[dataset, schema]
        return min(f.header.start for f in files), max(self._end(f) for f in files)

    def symbols(self, dataset: str) -> Symbols:
        with self._lock:
            return self._symbols.setdefault(dataset, self._symbols_of(dataset))

    def resolve(self, query: Query) -> dict[str, list[Meaning]]:
        """Return the meanings of each symbol of a query; an unknown symbol has an empty list."""
        symbols = self.symbols(query.dataset)
        return {
            symbol: symbols.resolve(symbol, query.stype_in, *query.days) for symbol in query.symbols
        }

    def count(self, query: Query) -> int:
        if query not in self._counts:
            self._counts[query] = sum(len(part) for part in self.slices(query))
        return self._counts[query]

    def slices(self, query: Query) -> Iterator[dbn.Records]:
        """The records of a query in the order of their time, at most `SLICE` at once."""
        meanings = [m for of_symbol in self.resolve(query).values() for m in of_symbol]
        left = query.limit if query.limit is not None else np.iinfo(np.int64).max
        for file in self._files.get((query.dataset, query.schema), []):
            if file.header.start >= query.end or self._end(file) <= query.start:
                continue
            for part in _chosen(self._records(file), query, meanings):
                yield part[:left]
                left -= min(left, len(part))
                if left == 0:
                    return

    def header(self, query: Query) -> dbn.Header:
        """The header of an answer: a parent's mappings under their raw symbols, all others under
        the symbol that was asked for.
        """
        keep_raw = query.stype_in == "parent" or query.symbols == ("ALL_SYMBOLS",)
        mappings = tuple(
            dbn.Mapping(m.raw_symbol if keep_raw else symbol, m.instrument_id, m.start, m.end)
            for symbol, meanings in self.resolve(query).items()
            for m in meanings
        )
        return dbn.Header(
            query.dataset,
            query.schema,
            query.stype_in,
            query.symbols,
            query.start,
            query.end,
            mappings,
        )

    # ---------------------------------------------------------------------------------------- files

    def _make(self) -> None:
        """Add what follows from the files; the books of a world always whole, whatever sessions of
        them lie there.
        """
        for files in self._files.values():
            files.sort(key=lambda file: file.header.start)
        for dataset in self.datasets():
            minutes = self._files.get((dataset, "ohlcv-1m"), [])
            derived = {
                schema: coarser(minutes, schema)
                for schema in COARSER
                if (dataset, schema) not in self._files
            }
            if self.world and minutes:
                derived |= {
                    schema: list(books(self.folder, minutes, schema)) for schema in FROM_BOOKS
                }
            self._files |= {(dataset, schema): files for schema, files in derived.items() if files}

    def _end(self, file: Stored) -> int:
        if file.header.end is not None:
            return file.header.end
        times = clock(self._records(file))
        return int(times[-1]) + 1 if len(times) else file.header.start

    def _records(self, file: Stored) -> dbn.Records:
        """All records of a file in the order of their time."""
        key = file.path, file.header.schema
        with self._lock:
            if key in self._records_by_file:
                self._records_by_file.move_to_end(key)
                return self._records_by_file[key]
            records = file.read()
            times = clock(records)
            if (np.diff(times) < 0).any():
                records = records[np.argsort(times, kind="stable")]
            self._records_by_file[key] = records
            while (
                len(self._records_by_file) > 1
                and sum(r.nbytes for r in self._records_by_file.values()) > KEPT_BYTES
            ):
                self._records_by_file.popitem(last=False)
            return records

    # ------------------------------------------------------------------------------------ symbology

    @cached_property
    def _symbols(self) -> dict[str, Symbols]:
        return {}

    def _symbols_of(self, dataset: str) -> Symbols:
        mappings = (
            m
            for (name, _), files in self._files.items()
            if name == dataset
            for f in files
            for m in f.header.mappings
        )
        volume, interest = (
            _DailyFigures(lambda: self._volumes(dataset)),
            _DailyFigures(lambda: self._interest(dataset)),
        )
        return Symbols(mappings, volume, interest)

    def _volumes(self, dataset: str) -> Iterator[tuple[int, dict[int, int]]]:
        """Traded volume of each UTC day by instrument id, from the coarsest bars there are."""
        schema = next(
            (
                s
                for s in ("ohlcv-1d", "ohlcv-1h", "ohlcv-1m", "ohlcv-1s")
                if (dataset, s) in self._files
            ),
            "",
        )
        for file in self._files.get((dataset, schema), []):
            records = self._records(file)
            days = clock(records) // DAY_NS
            for day in np.unique(days):
                rows = records[days == day]
                ids, at = np.unique(rows["instrument_id"], return_inverse=True)
                yield (
                    int(day),
                    dict(
                        zip(
                            ids.tolist(),
                            np.bincount(at, rows["volume"]).astype(int).tolist(),
                            strict=True,
                        )
                    ),
                )

    def _interest(self, dataset: str) -> Iterator[tuple[int, dict[int, int]]]:
        """The open interest that was published up to the end of each UTC day, by instrument id."""
        interest: dict[int, int] = {}
        for file in self._files.get((dataset, "statistics"), []):
            records = self._records(file)
            rows = records[records["stat_type"] == OPEN_INTEREST]
            days = clock(rows) // DAY_NS
            for day in np.unique(days):
                today = rows[days == day]
                interest = interest | dict(
                    zip(today["instrument_id"].tolist(), today["quantity"].tolist(), strict=True)
                )
                yield int(day), interest


class _DailyFigures:
    """Figures by day, made on the first call; answers with those of the last day before the one
    that is asked for.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    @cached_property
    def _table(self) -> tuple[npt.NDArray[np.int64], list[dict[int, int]]]:
        by_day = dict(self._source())
        days = sorted(by_day)
        return np.array(days, np.int64), [by_day[day] for day in days]

    def __call__(self, day: date) -> dict[int, int]:
        days, figures = self._table
        at = int(np.searchsorted(days, (day - date(1970, 1, 1)) // timedelta(1)))
        return figures[at - 1] if at else {}


def clock(records: dbn.Records) -> npt.NDArray[np.int64]:
    """The time by which the vendor cuts ranges, ns UTC."""
    names = records.dtype.names or ()
    times: npt.NDArray[np.int64] = records["ts_recv" if "ts_recv" in names else "ts_event"].astype(
        np.int64
    )
    return times


def _chosen(records: dbn.Records, query: Query, meanings: list[Meaning]) -> Iterator[dbn.Records]:
    """The rows of one file that are inside the range and mean one of the symbols, in slices."""
    times = clock(records)
    low, high = (int(np.searchsorted(times, t)) for t in (query.start, query.end))
    for at in range(low, high, SLICE):
        part = records[at : min(at + SLICE, high)]
        picked = part[_means(part, times[at : at + len(part)], meanings)]
        if len(picked):
            yield picked


def _means(
    part: dbn.Records, times: npt.NDArray[np.int64], meanings: list[Meaning]
) -> npt.NDArray[np.bool_]:
    """Mark the rows that carry one of the instruments on a day on which the symbol means it."""
    first, last = from_day(int(times[0]) // DAY_NS), from_day(int(times[-1]) // DAY_NS)
    touched = [m for m in meanings if m.start <= last and m.end > first]
    always = np.array(
        [m.instrument_id for m in touched if m.start <= first and m.end > last], np.uint32
    )
    mask: npt.NDArray[np.bool_] = np.isin(part["instrument_id"], always)
    days = times // DAY_NS
    for m in touched:
        if not (m.start <= first and m.end > last):
            start, end = ((day - date(1970, 1, 1)) // timedelta(1) for day in (m.start, m.end))
            mask |= (part["instrument_id"] == m.instrument_id) & (days >= start) & (days < end)
    return mask


def iso(ns: int) -> str:
    """An instant as the vendor writes it, in nanoseconds."""
    return datetime.fromtimestamp(ns // NS, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ns % NS:09d}Z"
