"""From files of vendor records to a `Table`: one folder (searched deep) or one file, DBN as
Databento delivers it or Parquet as its client writes it (`record_files`).

Of the files below the path those with one bar schema are read, with definitions and statistics from
there or from above; everything else is left alone. Without definitions the symbols say which
contracts the ids are, and the contract master when these stop trading. A folder with a
`world.json`, definitions with the watermark of a generated world, or the ids of its contracts make
everything made from them synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.base import progress
from mcl.base.errors import DataError
from mcl.base.files import files_below
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import record_files
from mcl.data.record_files import ALONGSIDE, INTERVALS, Format
from mcl.data.source import Raw, Source, existing_path, plain_label
from mcl.data.table import (
    PLAIN,
    PRICES,
    Chunk,
    Rows,
    Table,
    WallClock,
    clock,
    instrument,
    no_statistics,
    statistics,
)
from mcl.market import calendar, contract_master
from mcl.market.calendar import DAY_NS, from_day, to_day
from mcl.market.instruments import Instrument
from mcl.market.intervals import STEPS_SEC, makes

if TYPE_CHECKING:
    import pandas as pd

    from mcl.data.dbn import Header, Records

Ints = npt.NDArray[np.int64]

# as the vendor names it: [{"date": "2025-06-30", "condition": "degraded"}, …], UTC days
CONDITIONS = "condition.json"
_STATISTICS = {3: "settlement", 6: "cleared_volume", 9: "open_interest"}


_OVERLAP = "where two files hold the same times, set data.path to one of them, or move one away"
CURES = dict.fromkeys(("backwards", "duplicate"), _OVERLAP)
StoredInterval = Literal["1s", "1m", "1h"]


class DatabentoData(schema.DataCommon):
    """DBN files as Databento delivers them, or Parquet files that its client wrote where there is
    no DBN: parent downloads with definitions and statistics, or single files.
    """

    source: Literal["databento"]
    symbol: str = "MCL.FUT"
    path: str = "data/raw/MCL_FUT"
    # of the bars that are read where several lie side by side; null: the first of 1m, 1s and 1h
    # that makes data.interval
    stored_interval: StoredInterval | None = None
    folder: str = "data"


@dataclass(frozen=True)
class RecordFiles:
    """The files that make bars: those of one bar schema, of definitions and of statistics.
    `other_intervals` are those of other bars in the same place. The times of Parquet are of the
    clock `on`; `closes`: they are those at which bars close.
    """

    path: Path
    format: Format
    bars: str  # the schema
    by_schema: dict[str, list[Path]]
    other_intervals: tuple[str, ...] = ()
    on: WallClock = PLAIN
    closes: bool = False

    @property
    def interval(self) -> str:
        return INTERVALS[self.bars]

    def stream(self, file: Path) -> tuple[Header, Iterator[Records]]:
        return record_files.stream(file, self.on)

    @property
    def headers(self) -> list[tuple[Header, Path]]:
        """The headers of the files of bars, by the time at which these begin."""
        headers = [(record_files.header(path, self.on), path) for path in self.by_schema[self.bars]]
        return sorted(headers, key=lambda pair: (pair[0].start, pair[1]))


def files(
    path: Path,
    stored: str | None = None,
    wanted: Format | None = None,
    on: WallClock = PLAIN,
    interval: str = "1m",
) -> RecordFiles:
    """The files at or below the path with bars of the interval `stored`. When none is named: of the
    first one of INTERVALS that is there and makes bars of `interval`, or else the first.
    """
    kind, paths_by_schema = record_files.first_with(path, tuple(INTERVALS), wanted)
    present = [name for name in INTERVALS if name in paths_by_schema]
    able = [name for name in present if makes(INTERVALS[name], interval)]
    choices = able or present if stored is None else [n for n in present if INTERVALS[n] == stored]
    if not choices:
        raise _no_bars(path, kind, stored, paths_by_schema)
    bars = choices[0]
    # definitions of a batch job may lie next to frames of bars
    other = record_files.by_schema(path, "DBN") if kind == "Parquet" and path.is_dir() else {}
    by_schema = {bars: paths_by_schema[bars]}
    for name in ALONGSIDE:
        below = paths_by_schema.get(name) or other.get(name)
        if paths := below or record_files.above(path, name):
            by_schema[name] = paths
    other_intervals = tuple(INTERVALS[name] for name in present if name != bars)
    return RecordFiles(path, kind, bars, by_schema, other_intervals, on)


def _no_bars(
    path: Path, kind: Format, interval: str | None, paths_by_schema: dict[str, list[Path]]
) -> DataError:
    schemas = ", ".join(sorted(name or "other schemas" for name in paths_by_schema))
    others = [] if schemas or path.is_file() else record_files.endings_below(path)
    holds = schemas or f"no {kind} files"
    if others:
        holds = f"files that end with {', '.join(others)}"
    if interval is not None:
        choices = [INTERVALS[name] for name in INTERVALS if name in paths_by_schema]
        return DataError(
            f"data.stored_interval={interval}, but {path} holds {holds}",
            f"set data.stored_interval={' or '.join(choices)}" if choices else "set data.path",
        )
    days = "; ohlcv-1d are UTC days, which are no sessions" if "ohlcv-1d" in paths_by_schema else ""
    cure = "set data.path to a folder of DBN or Parquet files of a vendor"
    if {".csv", ".txt"} & set(others):
        cure = "read one of them with data=csv data.path=FILE; mcl data sniff FILE says how"
    elif {".pq", ".parq"} & set(others):
        cure = "rename the files so that they end with .parquet"
    elif kind == "Parquet" and (unknown := paths_by_schema.get("")):
        holds = f"{unknown[0].name}, which neither a column rtype nor its name says the schema of"
        cure = "call it for instance 2024.ohlcv-1m.parquet; the columns of bars are ts_event, open,"
        cure += " high, low, close, volume and symbol or instrument_id"
    return DataError(
        f"{path} holds {holds}, but no bars{days}; need a file of schema {' or '.join(INTERVALS)}",
        cure,
    )


def master_of(
    paths_by_schema: dict[str, list[Path]],
    mappings: list[tuple[str, int, date]],
    of: Instrument,
    origin: str,
) -> Definitions:
    """The contracts of `of` from definitions, or from the symbols in the headers when there are
    none; the watermark of a world.
    """
    defined = _definitions(paths_by_schema.get("definition", []))
    if defined is None:
        master = contract_master.from_symbols(mappings, of.symbol)
        outrights = master.meaning >= 0
        contracts = [master.contracts[index] for index in master.meaning[outrights].tolist()]
        mark = contract_master.watermark_of_ids(master.ids[outrights].tolist(), contracts)
    else:
        contract_master.agree(defined.records, of, origin)
        master, mark = (
            contract_master.from_definitions(defined.records, of.symbol),
            contract_master.watermark(defined.records),
        )
    if not master.contracts:
        raise _no_outright(origin, of.symbol, sorted({symbol for symbol, _, _ in mappings}))
    return Definitions(
        master, set() if defined is None else defined.datasets, defined is not None, mark
    )


def _no_outright(origin: str, root: str, symbols: list[str]) -> DataError:
    """Say what is there instead: no symbols at all, continuous ones, or other products."""
    text = f"{origin} holds no outright {root} contract"
    if not symbols:
        return DataError(
            f"{text}: neither symbols nor definitions say what its instrument ids mean",
            "put the definitions of the same range next to the bars",
        )
    if all("." in symbol for symbol in symbols):
        return DataError(
            f"{text}: {symbols[0]} is a continuous symbol, which hides the dated contract",
            f"put its definitions next to the bars, or download {root}.FUT",
        )
    return DataError(
        f"{text}; its symbols are {', '.join(symbols[:3])}",
        f"choose data.instrument for these files, or download {root}.FUT",
    )


@dataclass(frozen=True)
class Definitions:
    """The content of the definitions: contracts, datasets they come from, whether there are any,
    and the watermark ({} for real data).
    """

    master: contract_master.Master
    datasets: set[str]
    defined: bool
    watermark: dict[str, Any]


def conditions(path: Path) -> list[Path]:
    """The vendor's lists of days that are not as they should be (`condition.json`), in or above the
    folder, or next to the file.
    """
    home = path if path.is_dir() else path.parent
    above = next((p for p in (home, home.parent) if (p / CONDITIONS).is_file()), None)
    return sorted({*files_below(home, (CONDITIONS,)), *([above / CONDITIONS] if above else [])})


def table(source_files: RecordFiles, symbol: str) -> Table:
    """The outrights of `symbol` (a key of `market.INSTRUMENTS`) in the files. Bars are read piece
    by piece.
    """
    of, path = instrument(symbol), source_files.path
    headers = [(header, file) for header, file in source_files.headers if header.end != 0]
    if not headers:
        raise DataError(f"{path} holds no bars at all: its files are empty")
    mappings = [(m.raw_symbol, m.instrument_id, m.start) for h, _ in headers for m in h.mappings]
    definitions = master_of(source_files.by_schema, mappings, of, str(path))
    master = definitions.master
    datasets = ({h.dataset for h, _ in headers} | definitions.datasets) - {""}
    if len(datasets) > 1:
        raise DataError(
            f"{path} mixes the datasets {', '.join(sorted(datasets))}; give one file, or one folder"
            " per dataset"
        )
    sessions = _sessions(headers, source_files, master, of.symbol)
    vendor_conditions = _conditions(path, sessions, headers)
    stats, counts = _statistics(source_files.by_schema.get("statistics", []), master)
    published = bool((stats["kind"] == "cleared_volume").any())
    marks = (record_files.mark(file) for _, file in headers)
    world = world_of(path) or definitions.watermark or next(filter(None, marks), {})
    facts: dict[str, Any] = {
        "dataset": next(iter(datasets), "not stated"),
        "schema": source_files.bars,
        "definitions": definitions.defined,
        "cleared_volume": "published" if published else "sum of the bars",
    }
    if source_files.format == "Parquet":
        facts |= {"format": "Parquet", "provenance": "no vendor file, hashes of these"}
    facts |= {"world": world} if world else {}
    reader = _Reader(source_files, headers, master, symbol)
    return Table(
        instrument=of,
        interval=source_files.interval,
        contracts=master.contracts,
        listed_at=master.listed_at,
        calendar=sessions,
        chunks=reader.chunks,
        statistics=stats,
        synthetic=bool(world),
        origin=str(path),
        sums_volume=not published,
        conditions=vendor_conditions,
        counts=counts,
        facts=facts,
        cures=CURES,
    )


class _Defined(NamedTuple):
    records: npt.NDArray[np.void]
    datasets: set[str]


def _definitions(paths: list[Path]) -> _Defined | None:
    """Return the definitions of all files; repetitions within a file are dropped as it is read."""
    pieces, datasets = [], set()
    for path in paths:
        header, records = record_files.stream(path)
        pieces += [contract_master.distinct(piece) for piece in records]
        datasets.add(header.dataset)
    return _Defined(np.concatenate(pieces), datasets) if pieces else None


@dataclass(frozen=True)
class _Reader:
    """Bars file by file, in the order of the headers."""

    source_files: RecordFiles
    files: list[tuple[Header, Path]]
    master: contract_master.Master
    symbol: str

    def chunks(self) -> Iterator[Chunk]:
        read = outright = 0
        for header, file in progress.each("reading the bars", self.files):
            before = 0
            for records in self.source_files.stream(file)[1]:
                _in_range(file, records["ts_event"], header, before)
                chunk = self._chunk(file, records, before)
                before, outright = before + len(records), outright + len(chunk.rows)
                yield chunk
            read += before
        if not read:
            raise DataError(f"{self.source_files.path} holds no bars at all: the range is empty")
        if not outright:
            hint = f"choose data.instrument for these files, or download {self.symbol}.FUT"
            raise DataError(
                f"{self.source_files.path} holds no outright {self.symbol} contract", hint
            )

    def _chunk(self, file: Path, records: Records, before: int) -> Chunk:
        """The bars of outrights, in stable order of contract."""
        ids, ts = records["instrument_id"].astype(np.int64), records["ts_event"].astype(np.int64)
        step = STEPS_SEC[self.source_files.interval] * NS
        ts -= step if self.source_files.closes else 0
        meaning = self.master.lookup(ids, ts + step)
        unknown = np.flatnonzero(meaning == contract_master.UNKNOWN)
        if len(unknown):
            at = int(unknown[0])
            raise DataError(
                f"{file}: bar {before + at + 1} at {clock(ts[at])}: instrument_id {ids[at]} has no"
                f" definition at that time ({len(unknown)} such bars)",
                "download the definitions of the same range: a parent symbol brings them along",
            )
        keep = np.flatnonzero(meaning >= 0)
        order = keep[np.argsort(meaning[keep].astype(np.int32), kind="stable")]
        outrights = records[order]
        prices = {name: _price(outrights[name]) for name in PRICES}
        rows = Rows(
            meaning[order],
            ts[order],
            calendar.session_of(ts[order]),
            **prices,
            volume=outrights["volume"].astype(np.int64),
        )
        return Chunk(rows, str(file), None, {"excluded_not_outright": len(records) - len(keep)})


def _in_range(file: Path, ts: npt.NDArray[np.uint64], header: Header, before: int) -> None:
    """A record outside the range that the header states is damage: its time cannot be believed."""
    outside = np.flatnonzero((ts < header.start) | (ts >= (header.end or np.iinfo(np.int64).max)))
    if len(outside):
        at = int(outside[0])
        when = clock(ts[at]) if ts[at] <= np.iinfo(np.int64).max else f"{ts[at]} ns"
        raise DataError(
            f"{file}: bar {before + at + 1} at {when} lies outside the range of the file",
            "download the file again",
        )


def _sessions(
    headers: list[tuple[Header, Path]],
    source_files: RecordFiles,
    master: contract_master.Master,
    root: str,
) -> calendar.Sessions:
    """From a week before the first file to a month beyond the last file and the last trade
    dates.
    """

    def end(header: Header, path: Path) -> int:
        if header.end is not None:
            return header.end
        pieces = source_files.stream(path)[1]
        return max(int(piece["ts_event"].max(initial=header.start)) for piece in pieces)

    first = from_day(headers[0][0].start // DAY_NS) - timedelta(days=7)
    ends = [end(header, path) for header, path in headers]
    last = max(
        from_day(max(ends) // DAY_NS), *(c.last_trade_date for c in master.contracts)
    ) + timedelta(days=31)
    return calendar.sessions(first, last, root)


def _conditions(
    path: Path, sessions: calendar.Sessions, headers: list[tuple[Header, Path]]
) -> dict[str, str]:
    """Days of the files that the vendor does not call available. Missing and pending ones refuse
    the build.
    """
    by_day: dict[str, str] = {}
    for file in conditions(path):
        try:
            by_day |= {
                str(item["date"]): str(item["condition"]) for item in json.loads(file.read_text())
            }
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file} is no list of dates and conditions as the vendor gives it: {error!r}",
                "download it again",
            ) from error
    first, last = headers[0][0].start, max(h.end or h.start for h, _ in headers)
    reduced = {day: word for day, word in sorted(by_day.items()) if word != "available"}
    inside = {
        day: word
        for day, word in reduced.items()
        if first <= to_day(date.fromisoformat(day)) * DAY_NS < max(last, first + 1)
    }
    absent = {
        day: word
        for day, word in inside.items()
        if word != "degraded" and to_day(date.fromisoformat(day)) in sessions.day
    }
    if absent:
        listed = ", ".join(f"{day} ({word})" for day, word in list(absent.items())[:3])
        raise DataError(
            f"{path}: the vendor has no data yet for {listed}",
            "download these days again, or end the range before them",
        )
    return inside


def _price(raw: Any) -> npt.NDArray[np.float64]:
    """Price units; the undefined price of the format becomes NaN."""
    price: npt.NDArray[np.float64] = raw / 1e9
    price[raw == np.iinfo(np.int64).max] = np.nan
    return price


def _statistics(
    paths: list[Path], master: contract_master.Master
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Settlement, cleared volume and open interest of the outrights; rows that name no trade date
    cannot be placed and are counted.
    """
    import pandas as pd

    counts = {"statistics_kept": 0, "statistics_without_date": 0}
    pieces = [
        _dated_statistics(records, master, counts)
        for path in paths
        for records in record_files.stream(path)[1]
    ]
    if not pieces:
        return no_statistics(), {}
    return (
        pd.concat(pieces, ignore_index=True).sort_values(
            "known_at", kind="stable", ignore_index=True
        ),
        counts,
    )


def _dated_statistics(
    records: npt.NDArray[np.void], master: contract_master.Master, counts: dict[str, int]
) -> pd.DataFrame:
    import pandas as pd

    wanted = records[
        np.isin(records["stat_type"], list(_STATISTICS)) & (records["update_action"] != 2)
    ]
    if not len(wanted):
        return no_statistics()
    received_at, reference = wanted["ts_recv"].astype(np.int64), wanted["ts_ref"]
    dated = reference != np.iinfo(np.uint64).max
    meaning = master.lookup(wanted["instrument_id"].astype(np.int64), received_at)
    keep = dated & (meaning >= 0)
    counts["statistics_kept"] += int(keep.sum())
    counts["statistics_without_date"] += int((~dated).sum())
    wanted, meaning, received_at = wanted[keep], meaning[keep], received_at[keep]
    kind = pd.Series(wanted["stat_type"].astype(np.int64)).map(_STATISTICS)
    value = np.where(
        wanted["stat_type"] == 3, _price(wanted["price"]), wanted["quantity"].astype(np.float64)
    )
    return statistics(
        reference[keep].astype(np.int64) // DAY_NS, meaning, kind.to_numpy(), value, received_at
    )


def world_of(path: Path) -> dict[str, Any]:
    """Return the parameters of a generated world, wherever inside its folder the path points; {}
    for real data.
    """
    note = next(
        (
            n
            for n in (p / "world.json" for p in (path, path.parent, path.parent.parent))
            if n.is_file()
        ),
        None,
    )
    facts: dict[str, Any] = json.loads(note.read_text()) if note else {}
    # the manifest hashes what was read
    return {name: fact for name, fact in facts.items() if name != "files"}


def raw_files(source_files: RecordFiles, symbol: str, request: dict[str, Any]) -> Raw:
    """Return files of records as raw input. `symbol` is the instrument that is wanted."""
    path = source_files.path
    request = request | {"instrument": symbol, "schemas": sorted(source_files.by_schema)}
    label = plain_label(f"{symbol.lower()}-{path.name.split('.')[0]}")
    paths = [p for paths in source_files.by_schema.values() for p in paths] + conditions(path)
    below = path.is_dir() and all(p.is_relative_to(path) for p in paths)
    base = path if below or paths == [path] else record_files.common_folder(paths)
    return Raw(
        label,
        base,
        paths,
        request,
        partial(table, source_files, symbol),
        other_intervals=source_files.other_intervals,
    )


def _raw(data: DatabentoData, root: Path) -> Raw:
    path = existing_path(data.path, root)
    source_files = files(path, data.stored_interval, interval=data.interval)
    raw = raw_files(source_files, data.instrument, {"source": "databento", "symbol": data.symbol})
    return replace(raw, home=data.folder)


def _books(data: DatabentoData, root: Path) -> Path:
    return existing_path(data.path, root)


SOURCE = Source(
    DatabentoData,
    _raw,
    books=_books,
    correction="get the files again: a record of the vendor has the UTC time of the open of its"
    " bar; Parquet files of other makers are read with data=parquet, which has data.stamped_at and"
    " data.timezone",
)
