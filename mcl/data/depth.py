"""Order books on disk: MBP-1 and MBP-10 files of a vendor as one Parquet file per contract and
session, read lazily.

    <folder>/manifest.json                    what it was made from, counts, sha256 of every file
             books/MCLF6/2025-12-01.parquet   ts, traded and price of the trade, then bid and ask
                                              price and size of every level

A row is the book after an event, known at `ts_recv` (ns, UTC). An empty level has the price NaN and
the size 0.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mcl.base import progress
from mcl.base.errors import ConfigError, DataError, StoreError, nearest
from mcl.base.files import sha256, write_whole
from mcl.config import schema
from mcl.data import dataset, loader, record_files, sources
from mcl.data.quotes import BOOK_LEVELS
from mcl.data.sources import databento
from mcl.data.synthetic import order_books
from mcl.data.table import clock, instrument
from mcl.market import contract_master
from mcl.market.calendar import from_day, session_of
from mcl.market.instruments import INSTRUMENTS, Instrument

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SCHEMA_VERSION = 2  # raise it whenever the same raw files would be stored differently
# levels of each schema, the deepest first: the first one that is there is used
LEVELS = dict(sorted(BOOK_LEVELS.items(), key=lambda item: -item[1]))
_SIDES = ("bid", "ask", "bid_size", "ask_size")
PIECE = 100_000  # rows of a book that are in memory at once


@dataclass(frozen=True)
class Book:
    """Aligned arrays of one contract and session. prices float64[levels, n] in price units, sizes
    int64[levels, n] in contracts.
    """

    ts: Ints  # ts_recv, ns: when this state was known
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    traded: Ints  # contracts of the trade that this row reports, else 0
    price: Floats  # of that trade, else NaN

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def sound(self) -> npt.NDArray[np.bool_]:
        """Both sides are there and not crossed (as they may be in an auction)."""
        sound: npt.NDArray[np.bool_] = (
            (self.bid[0] < self.ask[0]) & (self.bid_size[0] > 0) & (self.ask_size[0] > 0)
        )
        return sound

    @property
    def mid(self) -> Floats:
        mid: Floats = (self.bid[0] + self.ask[0]) / 2
        return mid

    @property
    def spread(self) -> Floats:
        spread: Floats = self.ask[0] - self.bid[0]
        return spread


class Depth:
    """Stored books. Nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = dataset.read_manifest(folder)

    @property
    def instrument(self) -> Instrument:
        return INSTRUMENTS[self.manifest["instrument"]]

    @property
    def levels(self) -> int:
        return int(self.manifest["levels"])

    @property
    def synthetic(self) -> bool:
        return bool(self.manifest["synthetic"])

    @cached_property
    def book_keys(self) -> list[tuple[str, date]]:
        """(contract symbol, session) of every book, by session."""
        entries = [
            (name.split("/")[1], date.fromisoformat(name.split("/")[2][:10]))
            for name in self.manifest["files"]
        ]
        return sorted(entries, key=lambda pair: (pair[1], pair[0]))

    def book(self, symbol: str, day: date, levels: int | None = None) -> Book:
        """The book of one contract in one session; only the columns of the wanted levels are
        read.
        """
        names = self._columns(levels)
        try:
            rows = pq.read_table(self._path(symbol, day), columns=names, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(symbol, day, error) from error
        return _book(rows)

    def pieces(self, symbol: str, day: date) -> Iterator[Book]:
        """The same book with all levels in pieces of PIECE rows, for one that memory does not
        hold.
        """
        try:
            file = pq.ParquetFile(self._path(symbol, day))
            for batch in file.iter_batches(batch_size=PIECE, columns=self._columns(None)):
                yield _book(pa.Table.from_batches([batch]))
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(symbol, day, error) from error

    def column(self, symbol: str, day: date, name: str) -> Ints:
        """`ts` or `traded` of a book, as `Book` has it."""
        try:
            rows = pq.read_table(self._path(symbol, day), columns=[name])
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(symbol, day, error) from error
        return np.asarray(rows[name].to_numpy(), np.int64)

    def _columns(self, levels: int | None) -> list[str]:
        wanted = range(self.levels if levels is None else min(levels, self.levels))
        sides = [f"{side}_{k:02d}" for side in _SIDES for k in wanted]
        return ["ts", "traded", "price", *sides]

    def _path(self, symbol: str, day: date) -> Path:
        if (symbol, day) not in self.book_keys:
            raise DataError(
                f"no book of {symbol} on {day};"
                f" {nearest(f'{symbol} {day}', [f'{s} {d}' for s, d in self.book_keys])}"
            )
        return self.folder / "books" / symbol / f"{day}.parquet"

    def _unreadable(self, symbol: str, day: date, error: Exception) -> DataError:
        return DataError(
            f"{self._path(symbol, day)} cannot be read: {error}",
            f"delete {self.folder}: it is built again from the raw files",
        )


def _book(rows: pa.Table) -> Book:
    names = rows.column_names
    sides = {
        side: np.stack([rows[n].to_numpy() for n in names if n.rpartition("_")[0] == side])
        for side in _SIDES
    }
    sizes = {side: sides[side].astype(np.int64) for side in ("bid_size", "ask_size")}
    return Book(
        rows["ts"].to_numpy(),
        sides["bid"],
        sides["ask"],
        **sizes,
        traded=rows["traded"].to_numpy().astype(np.int64),
        price=rows["price"].to_numpy(),
    )


# -------------------------------------------------------------------------------------------- build


def load_depth(
    data: schema.Data,
    root: Path,
    pick: Callable[[Ints], Sequence[date]],
    events: int | None = None,
) -> Depth:
    """The stored books of a config. Those of a generated world are made first, for the sessions
    that `pick` takes of all it has, with so many events each.

    ConfigError for a source that has no books; otherwise errors as `build`.
    """
    source = sources.of(data)
    if source.books is None:
        raise ConfigError(
            f"data.source={data.source} has no order books",
            "use data=mcl_databento with mbp-1 or mbp-10 files",
        )
    home = source.books(data, root)
    if source.generated:
        days = pick(loader.stored_dataset(data, root).sessions)
        home = order_books.generate(home, days, events=events)
    return build(home, data.instrument, root)


def build(path: Path, symbol: str, root: Path) -> Depth:
    """The stored books of the files at `path`; made when there are none for these bytes yet. A
    piece of one file is in memory at a time.
    """
    of = instrument(symbol)
    _, by_schema = record_files.first_with(path, tuple(LEVELS))
    schema_name = next((name for name in LEVELS if name in by_schema), None)
    if schema_name is None:
        raise DataError(
            f"{path} holds no order books; need files of schema {' or '.join(LEVELS)}",
            "mcl data download --schema mbp-1 …",
        )
    definitions = by_schema.get("definition") or record_files.above(path, "definition")
    files = by_schema[schema_name] + definitions
    below = path.is_dir() and all(file.is_relative_to(path) for file in files)
    made_from = dataset.inputs(path if below else record_files.common_folder(files), files)
    request = {"instrument": symbol, "schema": schema_name, "version": SCHEMA_VERSION}
    folder = (
        root
        / "data"
        / f"depth-{symbol.lower()}-{schema_name}-{dataset.key(made_from, request)[:12]}"
    )
    if not (folder / "manifest.json").is_file():
        chosen = {schema_name: by_schema[schema_name], "definition": definitions}
        _write(folder, _Source(path, chosen, schema_name, of), made_from)
    return Depth(folder)


@dataclass(frozen=True)
class _Source:
    path: Path
    files: dict[str, list[Path]]
    schema: str
    of: Instrument


def _write(folder: Path, source: _Source, made_from: list[dict[str, Any]]) -> None:
    part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
    try:
        part.mkdir(parents=True)
        definitions, counts, files = _books(part, source)
        world = databento.world_of(source.path) or definitions.watermark
        manifest = {
            "instrument": source.of.symbol,
            "schema": source.schema,
            "levels": LEVELS[source.schema],
            "synthetic": bool(world),
        }
        manifest |= {"world": world, "inputs": made_from, "counts": dict(counts), "files": files}
        write_whole(
            part / "manifest.json",
            json.dumps(manifest, indent=1, sort_keys=True, default=str).encode(),
        )
        part.rename(folder)
    except OSError as error:
        if not (folder / "manifest.json").is_file():
            raise StoreError(
                f"cannot write {folder}: {error.strerror or error}", "free some disk space"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _books(
    part: Path, source: _Source
) -> tuple[databento.Definitions, Counter[str], dict[str, str]]:
    """Write every (contract, session). A session may lie in two files, so its file is open until a
    later session begins.
    """
    headers = sorted(
        ((record_files.header(p), p) for p in source.files[source.schema]),
        key=lambda pair: (pair[0].start, pair[1]),
    )
    mappings = [(m.raw_symbol, m.instrument_id, m.start) for h, _ in headers for m in h.mappings]
    definitions = databento.master_of(source.files, mappings, source.of, str(source.path))
    growing: dict[tuple[str, int], _GrowingBook] = {}
    counts: Counter[str] = Counter()
    files: dict[str, str] = {}
    try:
        for header, path in progress.each("reading the order books", headers):
            first_session = int(session_of(header.start))
            for key in [k for k in growing if k[1] < first_session]:
                files |= growing.pop(key).finish(part)
            before = 0
            for records in record_files.stream(path)[1]:
                outrights = _outrights(path, records, definitions.master, counts, before)
                before += len(records)
                for symbol, day, rows in _split(outrights, definitions.master):
                    if (symbol, day) not in growing:
                        growing[symbol, day] = _GrowingBook(part, symbol, day, source)
                    growing[symbol, day].add(rows)
                    counts["kept"] += len(rows)
        for book in growing.values():
            files |= book.finish(part)
    finally:
        for book in growing.values():
            book.close()
    if not files:
        raise DataError(
            f"{source.path} holds no book of an outright {source.of.symbol} contract",
            "set data.instrument",
        )
    return definitions, counts, files


class _GrowingBook:
    """The file of one contract and session, to which rows are added."""

    def __init__(self, part: Path, symbol: str, day: int, source: _Source) -> None:
        self._name = f"books/{symbol}/{from_day(day)}.parquet"
        self._where = f"{symbol} on {from_day(day)}"
        self._source = source
        self._path = part / self._name
        self._writer: Any = None
        self._last = 0  # ns

    def add(self, rows: npt.NDArray[np.void]) -> None:
        columns = _columns(rows, LEVELS[self._source.schema])
        _check(columns, self._source, self._where, self._last)
        table = pa.table(columns)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._last = int(columns["ts"][-1])

    def finish(self, part: Path) -> dict[str, str]:
        """Return the name and the sha256 of the whole file."""
        self.close()
        return {self._name: sha256(part / self._name)}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _outrights(
    path: Path,
    records: npt.NDArray[np.void],
    master: contract_master.Master,
    counts: Counter[str],
    before: int,
) -> npt.NDArray[np.void]:
    meaning = (
        master.lookup(
            records["instrument_id"].astype(np.int64), records["ts_recv"].astype(np.int64)
        )
        if len(records)
        else np.empty(0)
    )
    if (meaning == contract_master.UNKNOWN).any():
        at = int(np.argmax(meaning == contract_master.UNKNOWN))
        text = (
            f"{path}: record {before + at + 1}: instrument_id {records['instrument_id'][at]} has no"
            f" definition at {clock(records['ts_recv'][at])}"
        )
        raise DataError(text, "download the definitions of the same range")
    counts.update({"read": len(records), "excluded_not_outright": int((meaning < 0).sum())})
    outrights: npt.NDArray[np.void] = records[meaning >= 0]
    return outrights


def _split(
    records: npt.NDArray[np.void], master: contract_master.Master
) -> list[tuple[str, int, npt.NDArray[np.void]]]:
    if not len(records):
        return []
    ts = records["ts_recv"].astype(np.int64)
    meaning, day = master.lookup(records["instrument_id"].astype(np.int64), ts), session_of(ts)
    books = []
    for contract in np.unique(meaning):
        mine = np.flatnonzero(meaning == contract)
        edges = np.flatnonzero(np.diff(day[mine])) + 1
        books += [
            (master.contracts[int(contract)].symbol, int(day[rows[0]]), records[rows])
            for rows in np.split(mine, edges)
        ]
    return books


def _columns(rows: npt.NDArray[np.void], levels: int) -> dict[str, Any]:
    columns: dict[str, Any] = {"ts": rows["ts_recv"].astype(np.int64)}
    # a book that is sampled every second or minute reports no single trades
    sampled = "action" not in (rows.dtype.names or ())
    trade = np.zeros(len(rows), bool) if sampled else rows["action"] == b"T"
    columns["traded"] = np.where(trade, rows["size"], 0).astype(np.int32)
    columns["price"] = np.where(trade, rows["price"] / 1e9, np.nan)
    for k in range(levels):
        for side in ("bid", "ask"):
            price = rows[f"{side}_px_{k:02d}"]
            columns[f"{side}_{k:02d}"] = np.where(
                price == np.iinfo(np.int64).max, np.nan, price / 1e9
            )
            columns[f"{side}_size_{k:02d}"] = rows[f"{side}_sz_{k:02d}"].astype(np.int32)
    return columns


def _check(columns: dict[str, Any], source: _Source, where: str, before: int) -> None:
    back = np.flatnonzero(np.diff(columns["ts"], prepend=before) < 0)
    if len(back):
        text = (
            f"{source.path}: the book of {where} runs backwards at {clock(columns['ts'][back[0]])}"
        )
        raise DataError(text, "the same range was downloaded twice, or a file is damaged")
    for side in ("bid_00", "ask_00"):
        ticks = columns[side] / source.of.tick_size
        off = np.flatnonzero(np.abs(ticks - np.rint(ticks)) > 1e-4)  # NaN is not
        if len(off):
            price, at = columns[side][off[0]], clock(columns["ts"][off[0]])
            raise DataError(
                f"{source.path}: the book of {where} at {at} has the price {price}, off the tick of"
                f" {source.of.tick_size:g}"
            )


def sessions(days: Ints, wanted: int) -> Sequence[date]:
    """`wanted` sessions spread evenly over `days`, the last one included."""
    at = np.unique(np.linspace(0, len(days) - 1, wanted + 1).round().astype(int)[1:])
    return [from_day(int(d)) for d in days[at]]
