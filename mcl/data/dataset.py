"""Datasets on disk: Parquet made once from raw input, never changed afterwards.

    <folder>/manifest.json        raw files (names, sizes, sha256), degraded days, counts by cause,
                                  sha256 of every Parquet file
             contracts.parquet    the contract master
             sessions.parquet     trade dates, opens and official closes
             statistics.parquet   settlement, cleared volume, open interest, each with the
                                  time it became known
             bars/MCL-2026-02.parquet   one file per contract: ts_event (the open, UTC), session,
                                  prices, volume
             front/….arrow        a cache: the finished arrays of one roll rule and interval,
                                  memory-mapped; may be deleted

A dataset is written into a temporary folder, read back and verified, and only then renamed. Its
name ends in the hash of its input and of `SCHEMA_VERSION`, so that a changed input makes a new
dataset next to the old one.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import uuid
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mcl.base import progress
from mcl.base.errors import DataError, StoreError
from mcl.base.files import sha256, write_whole
from mcl.data import file_mark
from mcl.data.bars import COLUMNS, SETTLED, Bars
from mcl.data.continuous import fingerprint, roll_records, roll_table
from mcl.data.table import PRICES, Rows, Table, TradedVolume, accepted, degraded
from mcl.market.calendar import Sessions, from_day, to_day
from mcl.market.instruments import INSTRUMENTS, Contract, Instrument
from mcl.market.intervals import STEPS_SEC

Ints = npt.NDArray[np.int64]

SCHEMA_VERSION = 3  # raise it whenever the same raw files would be stored differently
_GROUP = 40_000  # rows per Parquet row group: what a short range has to read at least
_FULL = "free some disk space or choose another data.folder"
_AGAIN = "delete the folder: it is built again from the raw files"
_CACHE = "delete the file: it is made again from the dataset"


def inputs(root: Path, paths: list[Path]) -> list[dict[str, Any]]:
    """Names below `root`, sizes and hashes of the raw files, in order of name."""
    named = sorted({p.name if p == root else str(p.relative_to(root)): p for p in paths}.items())
    files = progress.each("hashing the raw files", named)
    return [{"name": name, "bytes": p.stat().st_size, "sha256": sha256(p)} for name, p in files]


def check_receipts(base: Path, made_from: list[dict[str, Any]]) -> None:
    """Refuse raw files below `base` whose bytes are not those of the receipt that a download left
    next to them (`<file>.json`).
    """
    for item in made_from:
        receipt = base / f"{item['name']}.json"
        paid = json.loads(receipt.read_text()).get("sha256") if receipt.is_file() else None
        if paid and paid != item["sha256"]:
            name = base / item["name"]
            raise DataError(
                f"{name} has changed since its download: its sha256 is not the one in its receipt",
                "download it again",
            )


def key(made_from: list[dict[str, Any]], request: dict[str, Any]) -> str:
    """The hash that names a dataset: raw bytes, how they are read, and the layout on disk."""
    text = json.dumps(
        [SCHEMA_VERSION, request, [(i["name"], i["sha256"]) for i in made_from]],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()


# -------------------------------------------------------------------------------------------- write


def write(
    folder: Path, table: Table, made_from: list[dict[str, Any]], request: dict[str, Any]
) -> Dataset:
    """Write `table` as the dataset `folder`, whole or not at all, in the memory of one chunk;
    StoreError when the disk refuses.
    """
    part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
    try:
        (part / "bars").mkdir(parents=True)
        counts: Counter[str] = Counter()
        written = _bars(part / "bars", table, counts)
        names = _tables(part, table, written) + [f"bars/{_file(c)}" for c in table.contracts]
        manifest = _manifest(table, made_from, request) | written.range() | {"counts": dict(counts)}
        manifest["files"] = {name: sha256(part / name) for name in names}
        write_whole(
            part / "manifest.json",
            json.dumps(manifest, indent=1, sort_keys=True, default=str).encode(),
        )
        _verify(Dataset(part), written)
        part.rename(folder)
    except OSError as error:
        # else another process has just finished the same dataset
        if not (folder / "manifest.json").is_file():
            raise StoreError(f"cannot write {folder}: {error.strerror or error}", _FULL) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Dataset(folder)


def _manifest(
    table: Table, made_from: list[dict[str, Any]], request: dict[str, Any]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "instrument": table.instrument.symbol,
        "interval": table.interval,
        "synthetic": table.synthetic,
        "request": request,
        "inputs": made_from,
        "conditions": table.conditions,
        "facts": table.facts,
    }


def _tables(part: Path, table: Table, written: _Written) -> list[str]:
    fields = ("symbol", "root", "year", "month", "last_trade_date")
    master = {name: [getattr(c, name) for c in table.contracts] for name in fields} | {
        "listed_at": table.listed_at
    }
    calendar = {
        "session": table.calendar.day,
        "open": table.calendar.open_ns,
        "close": table.calendar.close_ns,
    }
    parts = (
        [table.statistics, written.traded.statistics()] if table.sums_volume else [table.statistics]
    )
    statistics = pa.Table.from_pandas(pd.concat(parts, ignore_index=True), preserve_index=False)
    frames = {
        "contracts": pa.table(master),
        "sessions": pa.table(calendar),
        "statistics": statistics,
    }
    marks = _marks(table)
    for name, frame in frames.items():
        marked = frame.replace_schema_metadata((frame.schema.metadata or {}) | marks)
        pq.write_table(marked, part / f"{name}.parquet", compression="zstd")
    return [f"{name}.parquet" for name in frames]


def _marks(table: Table) -> dict[str, str]:
    """The metadata of files of this table, which mark them where it was generated."""
    world = file_mark.world_of_facts(table.facts) if table.synthetic else {}
    return file_mark.schema_metadata(world)


_COLUMNS = ("ts_event", "session", *PRICES, "volume")
_LAYOUT = pa.schema(
    [("ts_event", pa.timestamp("ns", "UTC")), ("session", pa.date32())]
    + [(name, pa.float64()) for name in PRICES]
    + [("volume", pa.int64())]
)


@dataclass
class _Written:
    """The rows written to disk: a checksum per contract and column, the range, and the volume
    traded.
    """

    traded: TradedVolume
    sums: dict[tuple[int, str], int] = field(default_factory=dict)
    first: int = np.iinfo(np.int64).max
    last: int = -1

    def take(self, rows: Rows, summing: bool) -> None:
        if summing:
            self.traded.add(rows)
        self.first, self.last = (
            min(self.first, int(rows.session.min())),
            max(self.last, int(rows.session.max())),
        )

    def add(self, contract: int, rows: Rows) -> None:
        for name in _COLUMNS:
            key = contract, name
            self.sums[key] = zlib.crc32(
                np.ascontiguousarray(getattr(rows, name)).data, self.sums.get(key, 0)
            )

    def range(self) -> dict[str, str]:
        return {
            "first_session": str(from_day(self.first)),
            "last_session": str(from_day(self.last)),
        }


class _Files:
    """One growing Parquet file per contract; rows wait in memory until they fill a row group."""

    def __init__(self, folder: Path, table: Table) -> None:
        self.paths = [folder / _file(c) for c in table.contracts]
        self.last_trade = [to_day(c.last_trade_date) for c in table.contracts]
        self.waiting: list[list[Rows]] = [[] for _ in self.paths]
        self.rows = [0] * len(self.paths)
        self.writers: dict[int, Any] = {}
        self.layout = _LAYOUT.with_metadata(_marks(table))

    def add(self, contract: int, rows: Rows) -> None:
        self.waiting[contract].append(rows)
        self.rows[contract] += len(rows)
        if self.rows[contract] >= _GROUP:
            self._flush(contract)

    def expire(self, session: int) -> None:
        """Nothing more is to come of contracts that stopped trading before `session`."""
        for contract, last in enumerate(self.last_trade):
            if last < session and self.rows[contract]:
                self._flush(contract)

    def close(self) -> None:
        for contract in range(len(self.paths)):
            self._flush(contract)
            self.writers[contract].close()

    def _flush(self, contract: int) -> None:
        if contract not in self.writers:
            self.writers[contract] = pq.ParquetWriter(
                self.paths[contract], self.layout, compression="zstd"
            )
        if pieces := self.waiting[contract]:
            joined = {name: np.concatenate([getattr(p, name) for p in pieces]) for name in _COLUMNS}
            session = pa.array(joined.pop("session").astype(np.int32), pa.date32())
            ts = pa.array(joined.pop("ts_event"), pa.timestamp("ns", "UTC"))
            columns = [ts, session, *(pa.array(joined[name]) for name in (*PRICES, "volume"))]
            self.writers[contract].write_table(
                pa.table(columns, schema=self.layout), row_group_size=_GROUP
            )
        self.waiting[contract], self.rows[contract] = [], 0


def _bars(folder: Path, table: Table, counts: Counter[str]) -> _Written:
    files, written = (
        _Files(folder, table),
        _Written(TradedVolume(table.calendar, STEPS_SEC[table.interval])),
    )
    for rows in accepted(table, counts):
        if not len(rows):
            continue
        written.take(rows, table.sums_volume)
        files.expire(int(rows.session.min()))
        contracts = np.unique(rows.contract)
        for contract, start, stop in zip(
            contracts,
            *(np.searchsorted(rows.contract, contracts, side) for side in ("left", "right")),
            strict=True,
        ):
            piece = rows.take(slice(start, stop))
            files.add(int(contract), piece)
            written.add(int(contract), piece)
    files.close()
    return written


def _file(contract: Contract) -> str:
    return f"{contract.root}-{contract.year}-{contract.month:02d}.parquet"


def _verify(dataset: Dataset, written: _Written) -> None:
    """Read every bar back and compare."""
    for contract in progress.each(
        "reading every bar back", sorted({key[0] for key in written.sums})
    ):
        rows = dataset.rows(contract)
        if any(
            zlib.crc32(np.ascontiguousarray(getattr(rows, name)).data)
            != written.sums[contract, name]
            for name in _COLUMNS
        ):
            symbol = dataset.contracts[contract].symbol
            raise DataError(
                f"{dataset.folder}: the bars of {symbol} read back differ from what was written",
                "check the disk",
            )


# --------------------------------------------------------------------------------------------- read


def damaged(dataset: Dataset) -> list[str]:
    """The files whose bytes are not those that were written."""
    files = {name: dataset.folder / name for name in dataset.manifest["files"]}
    return [
        name
        for name, path in files.items()
        if not path.is_file() or sha256(path) != dataset.manifest["files"][name]
    ]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a store that is made from raw files. DataError where it cannot be read."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"the manifest of {folder} cannot be read: {error}", _AGAIN) from error
    return manifest


class Dataset:
    """A stored dataset. Nothing is read before it is asked for; bars come by contract and range of
    sessions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # the row groups read last: a roll asks twice for the same
        self._recent: tuple[int, list[int], Any] = (-1, [], None)
        self.manifest = read_manifest(folder)

    @property
    def instrument(self) -> Instrument:
        return INSTRUMENTS[self.manifest["instrument"]]

    @property
    def interval(self) -> str:
        return str(self.manifest["interval"])

    @property
    def synthetic(self) -> bool:
        return bool(self.manifest["synthetic"])

    @cached_property
    def manifest_sha256(self) -> str:
        return sha256(self.folder / "manifest.json")

    @cached_property
    def _master(self) -> pd.DataFrame:
        frame: pd.DataFrame = self._table("contracts.parquet").to_pandas()
        return frame

    @cached_property
    def contracts(self) -> tuple[Contract, ...]:
        rows = self._master.drop(columns="listed_at").to_dict("records")
        return tuple(Contract(**{str(name): value for name, value in row.items()}) for row in rows)

    @cached_property
    def listed_at(self) -> Ints:
        return self._master["listed_at"].to_numpy(np.int64)

    @cached_property
    def calendar(self) -> Sessions:
        table = self._table("sessions.parquet")
        return Sessions(*(table[name].to_numpy() for name in ("session", "open", "close")))

    @cached_property
    def statistics(self) -> pd.DataFrame:
        frame: pd.DataFrame = self._table("statistics.parquet").to_pandas()
        return frame

    @property
    def conditions(self) -> dict[str, str]:
        """UTC days (ISO) that the vendor does not call available, and what it calls them."""
        return dict(self.manifest["conditions"])

    @property
    def degraded(self) -> Ints:
        return degraded(self.conditions, self.calendar)

    @property
    def sessions(self) -> Ints:
        """Trade dates of the calendar from the first to the last bar."""
        first, last = (
            to_day(pd.Timestamp(self.manifest[name]).date())
            for name in ("first_session", "last_session")
        )
        days = self.calendar.day
        return days[(days >= first) & (days <= last)]

    def rows(self, contract: int, first: int | None = None, last: int | None = None) -> Rows:
        """The bars of one contract in first <= session <= last, reading only the row groups that
        hold them.
        """
        path = self.folder / "bars" / _file(self.contracts[contract])
        try:
            file = pq.ParquetFile(path, memory_map=True)
            groups = [
                g
                for g in range(file.num_row_groups)
                if _holds(file.metadata.row_group(g), first, last)
            ]
            if (contract, groups) != self._recent[:2]:
                self._recent = contract, groups, file.read_row_groups(groups, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read: {error}", _AGAIN) from error
        table = self._recent[2]
        session = table["session"].cast(pa.int32()).to_numpy().astype(np.int64)
        low = 0 if first is None else np.searchsorted(session, first, "left")
        high = len(session) if last is None else np.searchsorted(session, last, "right")
        # a view would hold the row groups
        columns = {name: table[name].to_numpy()[low:high].copy() for name in (*PRICES, "volume")}
        ts = table["ts_event"].cast(pa.int64()).to_numpy()[low:high].copy()
        return Rows(np.full(len(ts), contract, np.int64), ts, session[low:high].copy(), **columns)

    def _table(self, name: str) -> Any:
        try:
            return pq.read_table(self.folder / name)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.folder / name} cannot be read: {error}", _AGAIN) from error


def _holds(group: Any, first: int | None, last: int | None) -> bool:
    bounds = group.column(1).statistics  # session
    if bounds is None:
        return True
    return (first is None or to_day(bounds.max) >= first) and (
        last is None or to_day(bounds.min) <= last
    )


# ------------------------------------------------------------------------------------ finished bars


_PER_CONTRACT = ("shift", "left_at", "ratio")


def save_bars(path: Path, bars: Bars) -> None:
    """The columns of `bars` in one uncompressed Arrow file, whole or not at all."""
    columns = {name: np.ascontiguousarray(getattr(bars, name)) for name in COLUMNS}
    columns["roll"] = columns["roll"].view(np.int8)  # Arrow packs booleans into bits
    settled = pd.DataFrame(columns=list(SETTLED)) if bars.settlements is None else bars.settlements
    metadata: dict[str, Any] = {
        "rolls": roll_records(bars.roll_table),
        "settlements": settled.to_dict("list"),
    }
    metadata |= {
        name: None if (values := getattr(bars, name)) is None else values.tolist()
        for name in _PER_CONTRACT
    }
    notes = {
        "interval": bars.interval,
        "fingerprint": fingerprint(bars),
        "told": json.dumps(metadata),
    }
    world = file_mark.world_of_facts(bars.provenance.get("facts", {})) if bars.synthetic else {}
    notes |= file_mark.schema_metadata(world)
    notes["sha256"] = _digest(notes, columns)
    table = pa.table(columns).combine_chunks().replace_schema_metadata(notes)
    part = path.with_name(f"{path.name}.part-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}", _FULL) from error


def _digest(notes: dict[str, str], columns: dict[str, Any]) -> str:
    """sha256 over all that the file says."""
    digest = hashlib.sha256(
        "\0".join(notes[name] for name in ("interval", "fingerprint", "told")).encode()
    )
    for values in columns.values():
        digest.update(values.data)
    return digest.hexdigest()


def _mapped(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Notes and columns of an Arrow file, mapped copy-on-write: writeable, read from disk as they
    are touched, never written back.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
    start = np.frombuffer(content, np.uint8).ctypes.data
    columns = {}
    for name in COLUMNS:
        column = table[name].chunk(0)
        values = column.buffers()[1]
        offset = values.address - start + column.offset * column.type.bit_width // 8
        columns[name] = np.frombuffer(content, column.type.to_pandas_dtype(), len(column), offset)
    return {k.decode(): v.decode() for k, v in table.schema.metadata.items()}, columns


def load_bars(path: Path, dataset: Dataset) -> Bars:
    """The bars that `save_bars` wrote; DataError when the file is damaged."""
    try:
        notes, columns = _mapped(path)
        whole = _digest(notes, columns) == notes["sha256"]
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}", _CACHE) from error
    if not whole:
        raise DataError(f"{path} is damaged: its bars are not those that were written", _CACHE)
    columns["roll"] = columns["roll"].view(np.bool_)
    metadata = json.loads(notes["told"])
    settled = pd.DataFrame(metadata["settlements"], columns=list(SETTLED)).astype(
        dict.fromkeys(SETTLED, "int64") | {"price": "float64"}
    )
    by_contract: dict[str, Any] = {
        name: None if metadata[name] is None else np.array(metadata[name], np.float64)
        for name in _PER_CONTRACT
    }
    return Bars(
        dataset.instrument,
        notes["interval"],
        **columns,
        contracts=dataset.contracts,
        roll_table=roll_table(metadata["rolls"]),
        fingerprint=notes["fingerprint"],
        synthetic=dataset.synthetic,
        listed_at=dataset.listed_at,
        settlements=settled,
        **by_contract,
    )
