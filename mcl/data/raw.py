"""From DBN files as Databento delivers them to a `Table`: one folder (searched deep) or one file.

Of the files below the path those with definitions, statistics and one bar schema are read; everything else is left alone. A
folder with a `world.json` is a generated world, and everything made from it is marked synthetic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zstandard

from mcl import calendar
from mcl.calendar import DAY_NS, NS, from_day
from mcl.data import contracts
from mcl.data.table import (
    PRICES,
    STEPS_SEC,
    Rows,
    Table,
    check,
    clock,
    instrument,
    kept,
    no_statistics,
    sessions_of,
    statistics,
    traded_volume,
)
from mcl.errors import DataError

Ints = npt.NDArray[np.int64]

BAR_SCHEMAS = ("ohlcv-1m", "ohlcv-1s", "ohlcv-1h")  # the first one found is used
_SCHEMA_IDS = {5: "ohlcv-1s", 6: "ohlcv-1m", 7: "ohlcv-1h", 8: "ohlcv-1d", 9: "definition", 10: "statistics"}
_STATISTICS = {3: "settlement", 6: "cleared_volume", 9: "open_interest"}


def schema_of(path: Path) -> str:
    """The schema in a DBN header ("" for one that is not used here), reading only the first bytes."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        head = zstandard.ZstdDecompressor().stream_reader(file).read(26) if start == b"\x28\xb5\x2f\xfd" else file.read(26)
    if head[:3] != b"DBN":
        raise DataError(f"{path} is not a DBN file: it starts with {bytes(head[:3])!r}, not b'DBN'")
    return _SCHEMA_IDS.get(int.from_bytes(head[24:26], "little"), "")


def files(path: Path) -> dict[str, list[Path]]:
    """The DBN files that make bars, by schema: one bar schema, and definitions and statistics when there are any."""
    if path.suffix == ".dbz":
        raise DataError(
            f"{path} is in the legacy DBZ format, which cannot be read", "convert it with the vendor's tool or download it again"
        )
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.name.endswith((".dbn", ".dbn.zst")))
    by_schema: dict[str, list[Path]] = {}
    for item in found:
        by_schema.setdefault(schema_of(item), []).append(item)
    bars = next((name for name in BAR_SCHEMAS if name in by_schema), None)
    if bars is None:
        held = ", ".join(sorted(name or "other schemas" for name in by_schema)) or "no DBN files"
        raise DataError(f"{path} holds {held}, but no bars; need a file of schema {' or '.join(BAR_SCHEMAS)}")
    return {name: by_schema[name] for name in (bars, "definition", "statistics") if name in by_schema}


@dataclass(frozen=True)
class _Read:
    """The files of one schema, joined in order of their headers' start."""

    records: npt.NDArray[np.void]
    mappings: list[tuple[str, int, Any]]
    datasets: set[str]


def _read(paths: list[Path]) -> _Read:
    from mcl.data import dbn

    loaded = sorted((dbn.read(path) for path in paths), key=lambda pair: pair[0].start)
    records = loaded[0][1] if len(loaded) == 1 else np.concatenate([records for _, records in loaded])
    mappings = [(m.raw_symbol, m.instrument_id, m.start) for header, _ in loaded for m in header.mappings]
    return _Read(records, mappings, {header.dataset for header, _ in loaded})


def table(path: Path, symbol: str) -> Table:
    """The outrights of `symbol` (a key of `market.INSTRUMENTS`) in the DBN files at `path`."""
    of, found = instrument(symbol), files(path)
    bars_schema = next(iter(found))
    interval = bars_schema.removeprefix("ohlcv-")
    bars = _read(found[bars_schema])
    definitions = _read(found["definition"]) if "definition" in found else None
    datasets = bars.datasets | (definitions.datasets if definitions else set())
    if len(datasets) > 1:
        raise DataError(f"{path} mixes the datasets {', '.join(sorted(datasets))}; give one file, or one folder per dataset")
    master = contracts.from_definitions(definitions.records, symbol) if definitions else contracts.from_symbols(bars.mappings, symbol)
    records, meaning, counts = _outrights(bars.records, master, path=path, symbol=symbol, step_sec=STEPS_SEC[interval])
    rows, inside, sessions = _rows(records, meaning, master, of.symbol, counts)
    check(rows, tuple(c.symbol for c in master.contracts), of, str(path))
    rows = kept(rows, inside, sessions, str(path))
    counts["kept"] = len(rows)
    stats = _statistics(_read(found["statistics"]).records, master, counts) if "statistics" in found else no_statistics()
    published = bool((stats["kind"] == "cleared_volume").any())
    if not published:
        stats = pd.concat([stats, traded_volume(rows, sessions, STEPS_SEC[interval])], ignore_index=True)
    world = _world(path)
    facts: dict[str, Any] = {"dataset": next(iter(datasets)), "schema": bars_schema, "definitions": definitions is not None}
    facts |= {"cleared_volume": "published" if published else "sum of the bars"} | ({"world": world} if world else {})
    return Table(of, interval, master.contracts, master.listed_at, sessions, rows, stats, bool(world), counts, facts)


def _outrights(
    records: npt.NDArray[np.void], master: contracts.Master, *, path: Path, symbol: str, step_sec: int
) -> tuple[Any, Ints, dict[str, int]]:
    """The records of outrights, in stable order of contract, with their contract index."""
    if not len(records):
        raise DataError(f"{path} holds no bars at all: the range is empty")
    ids, known = records["instrument_id"].astype(np.int64), records["ts_event"].astype(np.int64) + step_sec * NS
    meaning = master.lookup(ids, known)
    unknown = np.flatnonzero(meaning == contracts.UNKNOWN)
    if len(unknown):
        at = int(unknown[0])
        raise DataError(
            f"{path}: bar {at + 1} at {clock(records['ts_event'][at])}: instrument_id {ids[at]} has no definition at that time "
            f"({len(unknown)} such bars)",
            "download the definitions of the same range: a parent symbol brings them along",
        )
    keep = np.flatnonzero(meaning >= 0)
    if not len(keep):
        raise DataError(f"{path} holds no outright {symbol} contract", f"choose data.instrument for these files, or download {symbol}.FUT")
    counts = {"read": len(records), "excluded_not_outright": len(records) - len(keep)}
    order = keep[np.argsort(meaning[keep].astype(np.int32), kind="stable")]
    return records[order], meaning[order], counts


def _rows(
    records: Any, meaning: Ints, master: contracts.Master, root: str, counts: dict[str, int]
) -> tuple[Rows, npt.NDArray[np.bool_], calendar.Sessions]:
    ts = records["ts_event"].astype(np.int64)
    first = from_day(int(ts.min() // DAY_NS)) - timedelta(days=7)
    last = max(from_day(int(ts.max() // DAY_NS)), *(c.last_trade_date for c in master.contracts)) + timedelta(days=31)
    sessions = calendar.sessions(first, last, root)
    day, inside, late = sessions_of(ts, sessions)
    counts |= {"excluded_no_session": int((~inside).sum()), "after_official_close": late}
    prices = {name: _price(records[name]) for name in PRICES}
    return Rows(meaning, ts, day, **prices, volume=records["volume"].astype(np.int64)), inside, sessions


def _price(raw: Any) -> npt.NDArray[np.float64]:
    """Price units; the undefined price of the format becomes NaN."""
    price: npt.NDArray[np.float64] = raw / 1e9
    price[raw == np.iinfo(np.int64).max] = np.nan
    return price


def _statistics(records: npt.NDArray[np.void], master: contracts.Master, counts: dict[str, int]) -> pd.DataFrame:
    """Settlement, cleared volume and open interest of the outrights; rows that name no trade date cannot be placed and are counted."""
    wanted = records[np.isin(records["stat_type"], list(_STATISTICS)) & (records["update_action"] != 2)]
    known, reference = wanted["ts_recv"].astype(np.int64), wanted["ts_ref"]
    placed = reference != np.iinfo(np.uint64).max
    meaning = master.lookup(wanted["instrument_id"].astype(np.int64), known)
    keep = placed & (meaning >= 0)
    counts |= {"statistics_kept": int(keep.sum()), "statistics_without_date": int((~placed).sum())}
    wanted, meaning, known = wanted[keep], meaning[keep], known[keep]
    kind = pd.Series(wanted["stat_type"].astype(np.int64)).map(_STATISTICS)
    value = np.where(wanted["stat_type"] == 3, _price(wanted["price"]), wanted["quantity"].astype(np.float64))
    order = np.argsort(known, kind="stable")
    session = reference[keep].astype(np.int64) // DAY_NS
    return statistics(session[order], meaning[order], kind.to_numpy()[order], value[order], known[order])


def _world(path: Path) -> dict[str, Any]:
    """What a generated world says about itself, wherever inside its folder the path points; {} for real data."""
    note = next((n for n in (p / "world.json" for p in (path, path.parent, path.parent.parent)) if n.is_file()), None)
    facts: dict[str, Any] = json.loads(note.read_text()) if note else {}
    return {name: fact for name, fact in facts.items() if name != "files"}  # the manifest hashes what was read
