"""Quotes on disk: what MBP-1, MBP-10, TBBO and BBO files of a vendor say of every second, one
Parquet file per contract and session.

    <folder>/manifest.json                      what it was made from, counts, sha256 of every file
             seconds/MCLF6/2025-12-01.parquet   ts: the end of the second, ns UTC; the book then, in
                                                ticks and contracts; what traded in it, by aggressor

There is a row for every second in which something was reported. Times are those at which a record
was known, `ts_recv`. So bars of any interval find what was known at their close. Records stream
through memory once; a compiled loop keeps the last sound state of each contract.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mcl.base import progress
from mcl.base.errors import DataError, StoreError
from mcl.base.files import below, sha256, write_whole
from mcl.base.instants import NS
from mcl.base.jit import njit
from mcl.data import dataset, file_mark, record_files
from mcl.data.bars import Bars
from mcl.data.quotes import ABSENT, BOOK_LEVELS, VOLUMES, BarQuotes
from mcl.data.sources import databento
from mcl.data.table import clock, instrument
from mcl.market import contract_master
from mcl.market.calendar import DAY_NS, from_day, session_of
from mcl.market.instruments import Instrument

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

VERSION = 1  # raise it whenever the same raw files would be stored differently
SAMPLED = ("bbo-1s", "bbo-1m")  # they report no single trades
PIECE_BYTES = 4_000_000  # of records at once: what stays in a processor's cache
WAITING = 500_000  # seconds of all contracts that wait in memory for the end of their session
_UNDEFINED = np.iinfo(np.int64).max
_TRADE, _BUYER, _SELLER = ord("T"), ord("B"), ord("A")
_SOUND, _BACKWARDS, _NO_DEFINITION = range(3)


# -------------------------------------------------------------------------------------------- store


class QuoteStore:
    """Stored seconds. Nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = dataset.read_manifest(folder)

    @property
    def levels(self) -> int:
        return int(self.manifest["levels"])

    @property
    def synthetic(self) -> bool:
        return bool(self.manifest["synthetic"])

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The origin of the quotes as plain JSON."""
        names = ("schema", "levels", "synthetic", "counts", "inputs")
        origin = {name: self.manifest[name] for name in names}
        digest = sha256(self.folder / "manifest.json")
        return {"store": self.folder.name, "manifest_sha256": digest} | origin

    def seconds(self, symbol: str, day: int, levels: int) -> dict[str, npt.NDArray[Any]]:
        """The columns of one contract in one session; empty ones where nothing was reported.
        DataError for a file that cannot be read.
        """
        name = _name(symbol, day)
        columns = ["ts", "bid", "ask", *_sizes(levels), *VOLUMES]
        if name not in self.manifest["files"]:
            return {column: np.empty(0, np.int64) for column in columns}
        path = _file(self.folder, symbol, day)
        try:
            rows = pq.read_table(path, columns=columns, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{path} cannot be read: {error}",
                f"delete {self.folder}: it is built again from the raw files",
            ) from error
        return {column: rows[column].to_numpy() for column in columns}

    def columns(self, bars: Bars, levels: int) -> BarQuotes:
        """The quotes of each bar: the last sound state of its contract that was known at its close
        in its session, and what had traded since the close before.
        """
        if levels > self.levels:
            raise DataError(
                f"data.quotes={levels}, but {self.manifest['schema']} has {self.levels} level",
                f"set data.quotes={self.levels}, or use files of schema mbp-10",
            )
        n = len(bars)
        prices, sizes = np.full((2, n), ABSENT, np.int32), np.zeros((2, levels, n), np.int32)
        volumes = np.full((len(VOLUMES), n), ABSENT, np.int32)
        for rows in _by_session(bars):
            symbol = bars.contracts[int(bars.contract[rows.start])].symbol
            seconds = self.seconds(symbol, int(bars.session[rows.start]), levels)
            last = np.searchsorted(seconds["ts"], bars.close_time[rows], "right") - 1
            has_quote = last >= 0
            for k, side in enumerate(("bid", "ask")):
                prices[k, rows][has_quote] = seconds[side][last[has_quote]]
                for level in range(levels):
                    name = f"{side}_size_{level:02d}"
                    sizes[k, level, rows][has_quote] = seconds[name][last[has_quote]]
            for k, name in enumerate(VOLUMES):
                volumes[k, rows][has_quote] = _since(seconds[name], last[has_quote])
        return BarQuotes(
            bars.instrument.tick_size, prices[0], prices[1], sizes[0], sizes[1], volumes
        )


def _by_session(bars: Bars) -> Iterator[slice]:
    """The rows of each session of each contract."""
    new = (np.diff(bars.session) != 0) | (np.diff(bars.contract) != 0)
    edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(bars)]
    return (slice(a, b) for a, b in pairwise(edges))


def _since(volume: npt.NDArray[Any], last: Ints) -> Ints:
    """Contracts from the row before (the first: from the beginning) up to the row of each bar;
    ABSENT for sampled books, which report none.
    """
    if len(volume) and volume[0] == ABSENT:
        return np.full(len(last), ABSENT, np.int64)
    total = np.append(0, np.cumsum(volume, dtype=np.int64))
    return np.diff(total[last + 1], prepend=0)


# -------------------------------------------------------------------------------------------- build


def schema_for(levels: int, by_schema: dict[str, list[Path]]) -> str | None:
    """The schema that is read for so many levels of the book; None where no file has enough."""
    return next((s for s, has in BOOK_LEVELS.items() if has >= levels and s in by_schema), None)


def build(
    path: Path, symbol: str, levels: int, root: Path, days: list[str] | None = None
) -> QuoteStore:
    """The stored seconds of the files at `path`; made when there are none for these bytes yet.

    days: of a generated world the sessions whose files are read, by their names; None: all files.
    Errors: DataError for missing or damaged files, StoreError when the disk refuses.
    """
    of = instrument(symbol)
    _, by_schema = record_files.first_with(path, tuple(BOOK_LEVELS))
    schema = schema_for(levels, by_schema)
    if schema is None:
        able = [name for name, has in BOOK_LEVELS.items() if has >= levels]
        raise DataError(
            f"data.quotes={levels}, but {path} holds no quotes of so many levels: need files of"
            f" schema {' or '.join(able)}",
            f"mcl data download --schema {able[0]} …, or data.quotes=0",
        )
    wanted = None if days is None else {f"{day}.dbn.zst" for day in days}
    quotes = [p for p in by_schema[schema] if wanted is None or p.name in wanted]
    definitions = by_schema.get("definition") or record_files.above(path, "definition")
    files = quotes + definitions
    inside = path.is_dir() and all(file.is_relative_to(path) for file in files)
    base = path if inside else record_files.common_folder(files)
    made_from = dataset.inputs(base, files)
    dataset.check_receipts(base, made_from)
    request = {"instrument": symbol, "quotes": schema, "version": VERSION}
    label = f"quotes-{symbol.lower()}-{schema}-{dataset.key(made_from, request)[:12]}"
    folder = below(root / "data", label)
    if not (folder / "manifest.json").is_file():
        _write(folder, _Source(path, schema, quotes, definitions, of), made_from)
    return QuoteStore(folder)


@dataclass(frozen=True)
class _Source:
    path: Path
    schema: str
    quotes: list[Path]
    definitions: list[Path]
    of: Instrument

    @property
    def levels(self) -> int:
        return BOOK_LEVELS[self.schema]

    @cached_property
    def by_schema(self) -> dict[str, list[Path]]:
        return {self.schema: self.quotes, "definition": self.definitions}


def _write(folder: Path, source: _Source, made_from: list[dict[str, Any]]) -> None:
    part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
    try:
        part.mkdir(parents=True)
        manifest = _seconds(part, source) | {"inputs": made_from}
        text = json.dumps(manifest, indent=1, sort_keys=True, default=str)
        write_whole(part / "manifest.json", text.encode())
        part.rename(folder)
    except OSError as error:
        # else another process has just finished the same store
        if not (folder / "manifest.json").is_file():
            raise StoreError(
                f"cannot write {folder}: {error.strerror or error}", "free some disk space"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _seconds(part: Path, source: _Source) -> dict[str, Any]:
    """Write every contract and session; return the manifest."""
    headers = sorted(
        ((record_files.header(p), p) for p in source.quotes),
        key=lambda pair: (pair[0].start, pair[1]),
    )
    mappings = [(m.raw_symbol, m.instrument_id, m.start) for h, _ in headers for m in h.mappings]
    definitions = databento.master_of(source.by_schema, mappings, source.of, str(source.path))
    world = databento.world_of(source.path) or definitions.watermark
    scan = Scan(definitions.master, source.of, source.schema)
    files = _SessionFiles(part, scan, world)
    for _, path in progress.each("reading the quotes", headers):
        for records in record_files.stream(path, size=PIECE_BYTES)[1]:
            files.add(scan.take(records, path))
    files.add(scan.rest())
    names = files.finish()
    if not names:
        raise DataError(
            f"{source.path} holds no quote of an outright {source.of.symbol} contract",
            "set data.instrument",
        )
    return {
        "instrument": source.of.symbol,
        "schema": source.schema,
        "levels": source.levels,
        "synthetic": bool(world),
        "world": world,
        "counts": dict(scan.counts),
        "files": names,
    }


# --------------------------------------------------------------------------------------------- scan


class Scan:
    """From records in order of time to seconds: the last sound state of each contract at the end of
    a second, and what traded in it.

    The last second of a contract is open until a later record of it comes, or `rest` is called.
    """

    def __init__(self, master: contract_master.Master, of: Instrument, schema: str) -> None:
        from mcl.data import dbn

        self.master, self.schema, self.levels = master, schema, BOOK_LEVELS[schema]
        self.counts: Counter[str] = Counter()
        self.layout = np.dtype(
            [("contract", "i8"), ("ts", "i8"), ("session", "i8"), ("bid", "i4"), ("ask", "i4")]
            + [(name, "i4") for name in (*_sizes(self.levels), *VOLUMES)]
        )
        self._tick = round(of.tick_size * 1e9)
        contracts = len(master.contracts)
        # of each contract: the open second and the last time, -1 for none; the row of the last
        # sound state in this piece, -1 for an earlier piece; what traded by aggressor
        self._open = np.full((2, contracts), -1, np.int64)
        self._row = np.full(contracts, -1, np.int64)
        self._traded = np.zeros((contracts, len(VOLUMES)), np.int64)
        self._carry = np.zeros(contracts, dbn.dtype(schema))  # the states of earlier pieces
        self._carried = np.zeros(contracts, np.bool_)
        self._ids = _Identities(master)

    def take(self, records: Records, path: Path) -> Records:
        """The seconds that end with these records. DataError with the place for one that has no
        definition, runs backwards or is off the tick.
        """
        if not len(records):
            return np.empty(0, self.layout)
        contract = self._ids.contracts(records)
        ts = records["ts_recv"].view(np.int64)
        out = np.empty((len(records), 3 + len(VOLUMES)), np.int64)
        count, fault, at = _scan(
            contract,
            ts,
            (records["bid_px_00"], records["ask_px_00"]),
            (records["bid_sz_00"], records["ask_sz_00"]),
            (*_actions(records), records["size"]),
            (self._open, self._row, self._traded),
            out,
        )
        if fault != _SOUND:
            raise self._fault(fault, records[at], int(contract[at]), path)
        excluded = int((contract < 0).sum())
        read = len(records)
        self.counts.update({"read": read, "excluded_not_outright": excluded})
        self.counts["kept"] += read - excluded
        return self._rows(out[:count], records, path)

    def rest(self) -> Records:
        """The seconds that are still open."""
        contracts = np.flatnonzero(self._open[0] >= 0)
        out = np.empty((len(contracts), 3 + len(VOLUMES)), np.int64)
        out[:, 0], out[:, 1], out[:, 2] = contracts, self._open[0][contracts], -1
        out[:, 3:] = self._traded[contracts]
        self._open[0] = -1
        return self._rows(out, self._carry[:0], Path())

    def _rows(self, out: Ints, records: Records, path: Path) -> Records:
        """The seconds with the book of their row, or of an earlier piece."""
        carry, contract, second, row = self._carry, out[:, 0], out[:, 1], out[:, 2]
        before = row < 0
        states = carry[contract]
        states[~before] = records[row[~before]]
        seconds = np.zeros(len(out), self.layout)
        seconds["contract"], seconds["ts"] = contract, second * NS
        seconds["session"] = session_of(second * NS - 1)
        usable = ~before | self._carried[contract]
        usable &= session_of(states["ts_recv"].view(np.int64)) == seconds["session"]
        for side in ("bid", "ask"):
            ticks, rest = np.divmod(states[f"{side}_px_00"], self._tick)
            if (off := usable & (rest != 0)).any():
                raise self._off_tick(side, states[int(np.argmax(off))], path)
            seconds[side] = np.where(usable, ticks, ABSENT)
            for level in range(self.levels):
                sizes = states[f"{side}_sz_{level:02d}"]
                seconds[f"{side}_size_{level:02d}"] = np.where(usable, sizes, 0)
        for k, name in enumerate(VOLUMES):
            seconds[name] = ABSENT if self.schema in SAMPLED else out[:, 3 + k]
        mine = np.flatnonzero(self._row >= 0)
        carry[mine] = records[self._row[mine]]
        self._carried[mine] = True
        self._row[mine] = -1
        return seconds

    def _fault(self, fault: int, record: Any, contract: int, path: Path) -> DataError:
        at = clock(record["ts_recv"])
        if fault == _NO_DEFINITION:
            return DataError(
                f"{path}: instrument_id {record['instrument_id']} has no definition at {at}",
                "download the definitions of the same range",
            )
        symbol = self.master.contracts[contract].symbol
        return DataError(
            f"{path}: the quotes of {symbol} run backwards at {at}",
            "the same range was downloaded twice, or a file is damaged",
        )

    def _off_tick(self, side: str, state: Any, path: Path) -> DataError:
        price = state[f"{side}_px_00"] / 1e9
        return DataError(
            f"{path}: the {side} {price} at {clock(state['ts_recv'])} is off the tick of"
            f" {self._tick / 1e9:g}"
        )


def _actions(records: Records) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Action and aggressor of each record; of a sampled book no action."""
    if "action" not in (records.dtype.names or ()):
        none = np.zeros(len(records), np.uint8)
        return none, none
    return records["action"].view(np.uint8), records["side"].view(np.uint8)


class _Identities:
    """The contract of each record. The meaning of all ids is looked up once for each stretch of
    time in which none of them changes.
    """

    def __init__(self, master: contract_master.Master) -> None:
        self.master = master
        days = master.since - master.since % DAY_NS
        # a definition also covers the day on which it came
        self.changes = np.unique(np.concatenate([days, master.since]))
        self.ids = np.unique(master.ids)
        self._stretch = -1
        self._keys = self._values = np.empty(0, np.int64)

    def contracts(self, records: Records) -> Ints:
        ts, ids = records["ts_recv"].view(np.int64), records["instrument_id"]
        first, last = (int(np.searchsorted(self.changes, t, "right")) for t in (ts.min(), ts.max()))
        if first != last:
            return self.master.lookup(ids.astype(np.int64), ts.copy())
        if first != self._stretch:
            now = np.full(len(self.ids), ts[0])
            meaning = self.master.lookup(self.ids, now)
            self._keys, self._values = _hashed(self.ids, meaning)
            self._stretch = first
        return _lookup(self._keys, self._values, ids)


def _hashed(ids: Ints, meaning: Ints) -> tuple[Ints, Ints]:
    """An open hash table of a power of two of places, at most a quarter of them taken."""
    places = 1 << max(4, int(4 * len(ids)).bit_length())
    keys, values = np.full(places, -1, np.int64), np.full(places, contract_master.UNKNOWN, np.int64)
    _fill(keys, values, ids, meaning)
    return keys, values


@njit
def _fill(keys: Ints, values: Ints, ids: Ints, meaning: Ints) -> None:
    mask = len(keys) - 1
    for i in range(len(ids)):
        place = ids[i] & mask
        while keys[place] >= 0:
            place = (place + 1) & mask
        keys[place], values[place] = ids[i], meaning[i]


@njit
def _lookup(keys: Ints, values: Ints, ids: npt.NDArray[np.uint32]) -> Ints:
    mask = len(keys) - 1
    out = np.empty(len(ids), np.int64)
    for i in range(len(ids)):
        name = np.int64(ids[i])
        place = name & mask
        while keys[place] >= 0 and keys[place] != name:
            place = (place + 1) & mask
        out[i] = values[place]
    return out


@njit
def _scan(
    contract: Ints,
    ts: Ints,
    price: tuple[Ints, Ints],
    size: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
    trade: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint32]],
    state: tuple[Ints, Ints, Ints],
    out: Ints,
) -> tuple[int, int, int]:
    """Fill `out` with contract, second, row and volumes of every second that ends; return how many,
    the fault and its row. A state is sound where both sides are there and not crossed.
    """
    bid, ask = price
    bid_size, ask_size = size
    action, side, traded = trade
    times, last, volume = state
    count = 0
    for i in range(len(ts)):
        mine = contract[i]
        if mine < 0:
            if mine == contract_master.UNKNOWN:
                return count, _NO_DEFINITION, i
            continue
        now = ts[i]
        if now < times[1, mine]:
            return count, _BACKWARDS, i
        times[1, mine] = now
        second = (now + NS - 1) // NS
        if second != times[0, mine]:
            if times[0, mine] >= 0:
                out[count, 0], out[count, 1], out[count, 2] = mine, times[0, mine], last[mine]
                for k in range(3):
                    out[count, 3 + k] = volume[mine, k]
                    volume[mine, k] = 0
                count += 1
            times[0, mine] = second
        if action[i] == _TRADE:
            k = 0 if side[i] == _BUYER else 1 if side[i] == _SELLER else 2
            volume[mine, k] += traded[i]
        if bid[i] < ask[i] and ask[i] != _UNDEFINED and bid_size[i] > 0 and ask_size[i] > 0:
            last[mine] = i
    return count, _SOUND, -1


# -------------------------------------------------------------------------------------------- files


@dataclass
class _SessionFiles:
    """Seconds wait in memory until their session is over, then become its file."""

    part: Path
    scan: Scan
    world: dict[str, Any]
    waiting: list[Records] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    rows: int = 0  # since the last flush

    def add(self, seconds: Records) -> None:
        self.waiting.append(seconds)
        self.rows += len(seconds)
        if self.rows >= WAITING:
            self._flush(whole=False)

    def finish(self) -> dict[str, str]:
        """Write the rest; return the sha256 of every file by its name."""
        self._flush(whole=True)
        return self.names

    def _flush(self, whole: bool) -> None:
        seconds = np.concatenate(self.waiting)
        seconds = seconds[np.argsort(seconds["contract"], kind="stable")]
        new = (np.diff(seconds["contract"]) != 0) | (np.diff(seconds["session"]) != 0)
        sessions = np.split(seconds, np.flatnonzero(new) + 1)
        self.waiting = []
        for mine, following in zip(sessions, [*sessions[1:], None], strict=True):
            over = following is not None and following["contract"][0] == mine["contract"][0]
            if len(mine) and (whole or over):
                self._write(mine)
            else:
                self.waiting.append(mine)
        self.rows = 0

    def _write(self, seconds: Records) -> None:
        symbol = self.scan.master.contracts[int(seconds["contract"][0])].symbol
        day = int(seconds["session"][0])
        path = _file(self.part, symbol, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [n for n in self.scan.layout.names or () if n not in ("contract", "session")]
        table = pa.table({n: np.ascontiguousarray(seconds[n]) for n in columns})
        marked = table.replace_schema_metadata(file_mark.schema_metadata(self.world))
        pq.write_table(marked, path, compression="zstd")
        self.names[_name(symbol, day)] = sha256(path)


def _file(folder: Path, symbol: str, day: int) -> Path:
    return below(folder / "seconds", symbol, str(from_day(day)), ending=".parquet")


def _name(symbol: str, day: int) -> str:
    return f"seconds/{symbol}/{from_day(day)}.parquet"


def _sizes(levels: int) -> list[str]:
    return [f"{side}_size_{k:02d}" for side in ("bid", "ask") for k in range(levels)]
