"""From DBN files as Databento delivers them to a `Table`: one folder (searched deep) or one file.

Of the files below the path those with definitions, statistics and one bar schema are read;
everything else is left alone. A folder with a `world.json`, or definitions with the watermark of a
generated world, make everything made from them synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import zstandard

from mcl.base import progress
from mcl.base.errors import DataError
from mcl.base.files import files_below
from mcl.config import schema
from mcl.data.source import Raw, Source, always, existing_path, plain_label
from mcl.data.table import (
    PRICES,
    STEPS_SEC,
    Chunk,
    Rows,
    Table,
    clock,
    instrument,
    no_statistics,
    statistics,
)
from mcl.market import calendar, contract_master
from mcl.market.calendar import DAY_NS, NS, from_day, to_day
from mcl.market.instruments import Instrument

Ints = npt.NDArray[np.int64]

# as the vendor names it: [{"date": "2025-06-30", "condition": "degraded"}, …], UTC days
CONDITIONS = "condition.json"
BAR_SCHEMAS = ("ohlcv-1m", "ohlcv-1s", "ohlcv-1h")  # the first one found is used
_SCHEMA_IDS = {
    1: "mbp-1",
    2: "mbp-10",
    5: "ohlcv-1s",
    6: "ohlcv-1m",
    7: "ohlcv-1h",
    8: "ohlcv-1d",
    9: "definition",
    10: "statistics",
}
_STATISTICS = {3: "settlement", 6: "cleared_volume", 9: "open_interest"}


class DatabentoData(schema.DataCommon):
    """DBN files as Databento delivers them, below `folder`: parent downloads with definitions and
    statistics, or single files.
    """

    source: Literal["databento"]
    symbol: str = "MCL.FUT"
    path: str = "data/raw/MCL_FUT"
    folder: str = "data"


def schema_of(path: Path) -> str:
    """The schema in a DBN header ("" for one that is not used here), reading only the first
    bytes.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            head = (
                zstandard.ZstdDecompressor().stream_reader(file).read(26)
                if start == b"\x28\xb5\x2f\xfd"
                else file.read(26)
            )
    except (OSError, zstandard.ZstdError) as error:
        raise DataError(f"{path} cannot be read: {error}", "download the file again") from error
    if head[:3] != b"DBN":
        raise DataError(f"{path} is not a DBN file: it starts with {bytes(head[:3])!r}, not b'DBN'")
    return _SCHEMA_IDS.get(int.from_bytes(head[24:26], "little"), "")


def by_schema(path: Path) -> dict[str, list[Path]]:
    """The DBN files at or below the path, by schema, in order of name."""
    named = [path] if path.is_file() else files_below(path, (".dbn", ".dbn.zst", ".dbz"))
    legacy = next((p for p in named if p.suffix == ".dbz"), None)
    if legacy is not None:
        hint = "convert it with the vendor's tool or download it again"
        raise DataError(f"{legacy} is in the legacy DBZ format, which cannot be read", hint)
    paths_by_schema: dict[str, list[Path]] = {}
    for item in named:
        paths_by_schema.setdefault(schema_of(item), []).append(item)
    return paths_by_schema


def files(path: Path) -> dict[str, list[Path]]:
    """The DBN files that make bars, by schema: one bar schema, and definitions and statistics when
    there are any.
    """
    paths_by_schema = by_schema(path)
    bars = next((name for name in BAR_SCHEMAS if name in paths_by_schema), None)
    if bars is None:
        schemas = (
            ", ".join(sorted(name or "other schemas" for name in paths_by_schema)) or "no DBN files"
        )
        raise DataError(
            f"{path} holds {schemas}, but no bars; need a file of schema {' or '.join(BAR_SCHEMAS)}"
        )
    return {
        name: paths_by_schema[name]
        for name in (bars, "definition", "statistics")
        if name in paths_by_schema
    }


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
        mark: dict[str, Any] = {}
    else:
        contract_master.agree(defined.records, of, origin)
        master, mark = (
            contract_master.from_definitions(defined.records, of.symbol),
            contract_master.watermark(defined.records),
        )
    if not master.contracts:
        hint = f"choose data.instrument for these files, or download {of.symbol}.FUT"
        raise DataError(f"{origin} holds no outright {of.symbol} contract", hint)
    return Definitions(
        master, set() if defined is None else defined.datasets, defined is not None, mark
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
    folder, or beside the file.
    """
    home = path if path.is_dir() else path.parent
    above = next((p for p in (home, home.parent) if (p / CONDITIONS).is_file()), None)
    return sorted({*files_below(home, (CONDITIONS,)), *([above / CONDITIONS] if above else [])})


def table(path: Path, symbol: str) -> Table:
    """The outrights of `symbol` (a key of `market.INSTRUMENTS`) in the DBN files at `path`. Bars
    are read file by file.
    """
    from mcl.data import dbn

    of, paths_by_schema = instrument(symbol), files(path)
    bars_schema = next(iter(paths_by_schema))
    headers = sorted(
        ((dbn.header(p), p) for p in paths_by_schema[bars_schema]),
        key=lambda pair: (pair[0].start, pair[1]),
    )
    mappings = [(m.raw_symbol, m.instrument_id, m.start) for h, _ in headers for m in h.mappings]
    definitions = master_of(paths_by_schema, mappings, of, str(path))
    master, datasets = definitions.master, {h.dataset for h, _ in headers} | definitions.datasets
    if len(datasets) > 1:
        raise DataError(
            f"{path} mixes the datasets {', '.join(sorted(datasets))}; give one file, or one folder"
            " per dataset"
        )
    sessions = _sessions(headers, master, of.symbol)
    vendor_conditions = _conditions(path, sessions, headers)
    stats, counts = _statistics(paths_by_schema.get("statistics", []), master)
    published = bool((stats["kind"] == "cleared_volume").any())
    world = world_of(path) or definitions.watermark
    facts: dict[str, Any] = {
        "dataset": next(iter(datasets)),
        "schema": bars_schema,
        "definitions": definitions.defined,
    }
    facts |= {"cleared_volume": "published" if published else "sum of the bars"} | (
        {"world": world} if world else {}
    )
    interval = bars_schema.removeprefix("ohlcv-")
    reader = _Reader(path, headers, master, symbol, STEPS_SEC[interval])
    return Table(
        instrument=of,
        interval=interval,
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
    )


class _Defined(NamedTuple):
    records: npt.NDArray[np.void]
    datasets: set[str]


def _definitions(paths: list[Path]) -> _Defined | None:
    """Return the definitions of all files; repetitions within a file are dropped as it is read."""
    from mcl.data import dbn

    pieces, datasets = [], set()
    for path in paths:
        header, records = dbn.read(path)
        pieces.append(contract_master.distinct(records))
        datasets.add(header.dataset)
    return _Defined(np.concatenate(pieces), datasets) if pieces else None


@dataclass(frozen=True)
class _Reader:
    """Bars file by file, in the order of the headers."""

    path: Path
    files: list[tuple[Any, Path]]  # header and path
    master: contract_master.Master
    symbol: str
    step_sec: int

    def chunks(self) -> Iterator[Chunk]:
        from mcl.data import dbn

        read = outright = 0
        for _, file in progress.each("reading the bars", self.files):
            header, records = dbn.read(file)
            _in_range(file, records["ts_event"], header)
            chunk = self._chunk(file, records)
            read, outright = read + len(records), outright + len(chunk.rows)
            yield chunk
        if not read:
            raise DataError(f"{self.path} holds no bars at all: the range is empty")
        if not outright:
            hint = f"choose data.instrument for these files, or download {self.symbol}.FUT"
            raise DataError(f"{self.path} holds no outright {self.symbol} contract", hint)

    def _chunk(self, file: Path, records: npt.NDArray[np.void]) -> Chunk:
        """The bars of outrights, in stable order of contract."""
        ids, ts = records["instrument_id"].astype(np.int64), records["ts_event"].astype(np.int64)
        meaning = self.master.lookup(ids, ts + self.step_sec * NS)
        unknown = np.flatnonzero(meaning == contract_master.UNKNOWN)
        if len(unknown):
            at = int(unknown[0])
            raise DataError(
                f"{file}: bar {at + 1} at {clock(ts[at])}: instrument_id {ids[at]} has no"
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


def _in_range(file: Path, ts: npt.NDArray[np.uint64], header: Any) -> None:
    """A record outside the range that the header states is damage: its time cannot be believed."""
    outside = np.flatnonzero((ts < header.start) | (ts >= (header.end or np.iinfo(np.int64).max)))
    if len(outside):
        at = int(outside[0])
        when = clock(ts[at]) if ts[at] <= np.iinfo(np.int64).max else f"{ts[at]} ns"
        raise DataError(
            f"{file}: bar {at + 1} at {when} lies outside the range of the file",
            "download the file again",
        )


def _sessions(
    headers: list[tuple[Any, Path]], master: contract_master.Master, root: str
) -> calendar.Sessions:
    """From a week before the first file to a month beyond the last file and the last trade
    dates.
    """
    from mcl.data import dbn

    first = from_day(headers[0][0].start // DAY_NS) - timedelta(days=7)
    ends = [
        h.end if h.end is not None else int(dbn.read(p)[1]["ts_event"].max(initial=h.start))
        for h, p in headers
    ]
    last = max(
        from_day(max(ends) // DAY_NS), *(c.last_trade_date for c in master.contracts)
    ) + timedelta(days=31)
    return calendar.sessions(first, last, root)


def _conditions(
    path: Path, sessions: calendar.Sessions, headers: list[tuple[Any, Path]]
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
    from mcl.data import dbn

    counts = {"statistics_kept": 0, "statistics_without_date": 0}
    pieces = [_dated_statistics(dbn.read(path)[1], master, counts) for path in paths]
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


def raw_files(path: Path, symbol: str, request: dict[str, Any]) -> Raw:
    """Return the DBN files at `path` as raw input. `symbol` is the instrument that is wanted."""
    files_by_schema = files(path)
    request = request | {"instrument": symbol, "schemas": sorted(files_by_schema)}
    label = plain_label(f"{symbol.lower()}-{path.name.split('.')[0]}")
    paths = [p for paths in files_by_schema.values() for p in paths] + conditions(path)
    base = path if path.is_file() or all(p.is_relative_to(path) for p in paths) else path.parent
    return Raw(label, base, paths, request, partial(table, path, symbol))


def _raw(data: DatabentoData, root: Path) -> Raw:
    path = existing_path(data.path, root)
    raw = raw_files(path, data.instrument, {"source": "databento", "symbol": data.symbol})
    return replace(raw, home=data.folder)


def _books(data: DatabentoData, root: Path) -> Path:
    return existing_path(data.path, root)


SOURCE = Source(DatabentoData, _raw, always("symbol"), books=_books)
