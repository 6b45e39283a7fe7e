"""Databento binary files: arrays of raw records in, arrays of raw records out.

What is written here is DBN version 3 in one zstd frame with a checksum, readable by the unmodified
`databento` client. Prices are int64 in units of 1e-9, times uint64 nanoseconds UTC, undefined
values the sentinels of the format.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple

import databento_dbn as wire
import numpy as np
import numpy.typing as npt
import zstandard

from mcl.base.errors import DataError, StoreError, nearest
from mcl.base.files import write_whole

Records = npt.NDArray[np.void]

PRICE_SCALE: int = wire.FIXED_PRICE_SCALE  # 1e9 units per price unit
UNDEF_PRICE: int = wire.UNDEF_PRICE
UNDEF_QUANTITY: int = wire.UNDEF_STAT_QUANTITY
GLOBEX = 1  # publisher_id of GLBX.MDP3
# compressed bytes that are inflated at once: what a hostile one becomes fits into memory
SLICE = 16_384
MOST_INFLATED = 1_000  # times; real files of bars, books and definitions reach some thirty
LARGEST_HEADER = 1 << 26  # bytes
BATCH_BYTES = 64_000_000  # of records that are in memory at once
AGAIN = "download the file again"
_VERSION = 3
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LAYOUT: dict[str, tuple[int, Any]] = {  # schema: (rtype, message)
    "ohlcv-1s": (32, wire.OHLCVMsg),
    "ohlcv-1m": (33, wire.OHLCVMsg),
    "ohlcv-1h": (34, wire.OHLCVMsg),
    "ohlcv-1d": (35, wire.OHLCVMsg),
    "definition": (19, wire.InstrumentDefMsg),
    "statistics": (24, wire.StatMsg),
    "status": (18, wire.StatusMsg),
    "trades": (0, wire.TradeMsg),
    "tbbo": (1, wire.MBP1Msg),
    "mbp-1": (1, wire.MBP1Msg),
    "mbp-10": (10, wire.MBP10Msg),
    "mbo": (160, wire.MBOMsg),
    "bbo-1s": (195, wire.BBOMsg),
    "bbo-1m": (196, wire.BBOMsg),
}
SCHEMAS = tuple(_LAYOUT)


class Mapping(NamedTuple):
    """A raw symbol means this instrument on the days start <= day < end."""

    raw_symbol: str
    instrument_id: int
    start: date
    end: date


@dataclass(frozen=True)
class Header:
    """The header of a file. Times in ns UTC; `end` is exclusive and None if the file does not say;
    `read` sorts the mappings.
    """

    dataset: str
    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start: int
    end: int | None
    mappings: tuple[Mapping, ...]


def dtype(schema: str) -> np.dtype[np.void]:
    """The record layout of a schema, fields in wire order."""
    if schema not in _LAYOUT:
        raise DataError(f"unknown DBN schema {schema!r}; {nearest(schema, _LAYOUT)}")
    layout: np.dtype[np.void] = np.dtype(_LAYOUT[schema][1]._dtypes)
    return layout


def rtype(schema: str) -> int:
    """The record type in every record of a schema."""
    return _LAYOUT[schema][0]


def price_fields(schema: str) -> frozenset[str]:
    """The fields of a schema that hold prices in units of 1e-9."""
    return frozenset(_LAYOUT[schema][1]._price_fields)


def time_fields(schema: str) -> frozenset[str]:
    """The fields of a schema that hold times in ns UTC."""
    return frozenset(_LAYOUT[schema][1]._timestamp_fields)


def blank(schema: str, n: int) -> Records:
    """`n` records with their header filled in for GLBX.MDP3 and every other field zero."""
    records = np.zeros(n, dtype=dtype(schema))
    records["length"] = records.dtype.itemsize // 4
    records["rtype"] = _LAYOUT[schema][0]
    records["publisher_id"] = GLOBEX
    return records


def write(path: Path, records: Records, header: Header) -> None:
    """Write whole or not at all; the same records and header give the same bytes. StoreError if the
    disk refuses.
    """
    _same_layout(path, records, header)
    frame = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(
        bytes(_metadata(header)) + records.tobytes()
    )
    write_whole(path, frame)


def write_pieces(path: Path, pieces: Iterable[Records], header: Header) -> None:
    """Write as `write`, from pieces of which one is in memory at a time."""
    partial = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        with partial.open("wb") as file, compressor.stream_writer(file) as stream:
            stream.write(bytes(_metadata(header)))
            for records in pieces:
                _same_layout(path, records, header)
                stream.write(records.tobytes())
        partial.replace(path)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise StoreError(message, "free space or fix the permissions") from None
    finally:
        partial.unlink(missing_ok=True)


def _same_layout(path: Path, records: Records, header: Header) -> None:
    if records.dtype != dtype(header.schema):
        raise DataError(
            f"records for {path.name} are not laid out as {header.schema!r}; start from"
            f" dbn.blank({header.schema!r}, n)"
        )


def preamble(header: Header) -> bytes:
    """The bytes before the records of a file with this header, not compressed."""
    return bytes(_metadata(header))


def _metadata(header: Header) -> Any:
    by_symbol: dict[str, list[SimpleNamespace]] = {}
    for mapping in header.mappings:
        interval = SimpleNamespace(
            start_date=mapping.start, end_date=mapping.end, symbol=str(mapping.instrument_id)
        )
        by_symbol.setdefault(mapping.raw_symbol, []).append(interval)
    return wire.Metadata(
        dataset=header.dataset,
        start=header.start,
        end=header.end,
        limit=None,
        ts_out=False,
        version=_VERSION,
        schema=wire.Schema.from_str(header.schema),
        stype_in=wire.SType.from_str(header.stype_in),
        stype_out=wire.SType.from_str("instrument_id"),
        symbols=list(header.symbols),
        partial=[],
        not_found=[],
        mappings=[
            SimpleNamespace(raw_symbol=symbol, intervals=intervals)
            for symbol, intervals in by_symbol.items()
        ],
    )


def header(path: Path) -> Header:
    """The header alone, reading no more of the file than it needs."""
    try:
        with path.open("rb") as file:
            packed = file.read(4) == _ZSTD_MAGIC
            file.seek(0)
            stream: Any = zstandard.ZstdDecompressor().stream_reader(file) if packed else file
            start = _exactly(stream, 8)
            _is_dbn(path, start)
            length = int.from_bytes(start[4:8], "little")
            if length > LARGEST_HEADER:
                raise DataError(
                    f"{path} announces a header of {length:,} bytes; at most {LARGEST_HEADER:,}"
                    " make sense",
                    AGAIN,
                )
            content = start + _exactly(stream, length)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except zstandard.ZstdError as error:
        raise DataError(
            f"{path} is damaged in the compressed frame at byte 0: {error}", AGAIN
        ) from error
    return _header(path, _metadata_of(path, content))


def _exactly(stream: Any, size: int) -> bytes:
    """`size` bytes, or all that there are."""
    pieces: list[bytes] = []
    while size > 0 and (piece := stream.read(min(size, 1 << 20))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _is_dbn(path: Path, start: bytes) -> None:
    if start[:3] != b"DBN" or len(start) < 8:
        raise DataError(
            f"{path} is not a DBN file: it starts with {bytes(start[:3])!r}, not b'DBN'"
        )


def _metadata_of(path: Path, content: bytes) -> Any:
    offset = 8 + int.from_bytes(content[4:8], "little")
    if not 1 <= content[3] <= _VERSION:
        raise DataError(
            f"{path} is DBN version {content[3]}, but only 1 to {_VERSION} can be read", AGAIN
        )
    if len(content) < offset:
        raise DataError(f"{path} ends inside its header, at byte {len(content)} of {offset}", AGAIN)
    try:
        return wire.Metadata.decode(content[:offset])
    except (wire.DBNError, ValueError) as error:
        raise DataError(f"{path} is damaged in its header: {error}", AGAIN) from error


def read(path: Path) -> tuple[Header, Records]:
    """Header and raw records of one file (zstd or plain, DBN 1 to 3, upgraded to 3). Truncated or
    damaged: DataError with the place.
    """
    header, pieces = stream(path, size=None)
    return header, next(iter(pieces))


def stream(path: Path, size: int | None = BATCH_BYTES) -> tuple[Header, Iterator[Records]]:
    """Header and raw records as `read`, in pieces of about `size` bytes of records; None: in one.
    At least one piece comes, which may be empty.
    """
    content = _inflated(path)
    start = _first(content, 8)
    _is_dbn(path, start)
    start = _first(content, 8 + int.from_bytes(start[4:8], "little"), start)
    metadata = _metadata_of(path, start)
    header = _header(path, metadata)
    layout = _layout(header.schema, start[3], bool(metadata.ts_out))
    begin = 8 + int.from_bytes(start[4:8], "little")
    return header, _pieces(path, header.schema, layout, chain([start[begin:]], content), size)


def _first(content: Iterator[bytes], size: int, start: bytes = b"") -> bytes:
    """At least `size` bytes beginning with `start`, or all that there are."""
    pieces, length = [start], len(start)
    while length < size and (piece := next(content, b"")):
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def _pieces(
    path: Path,
    schema: str,
    layout: np.dtype[np.void],
    content: Iterator[bytes],
    size: int | None,
) -> Iterator[Records]:
    """The records of a file in the latest layout, with whole records in every piece."""
    wanted = None if size is None else max(1, size // layout.itemsize) * layout.itemsize
    waiting: list[bytes] = []
    length = before = 0
    for piece in content:
        waiting.append(piece)
        length += len(piece)
        while wanted is not None and length > wanted:
            joined = b"".join(waiting)
            waiting, length = [joined[wanted:]], length - wanted
            yield _latest(_records(path, joined[:wanted], layout, schema, before), schema)
            before += wanted // layout.itemsize
    yield _latest(_records(path, b"".join(waiting), layout, schema, before), schema)


def _latest(records: Records, schema: str) -> Records:
    return records if records.dtype == dtype(schema) else _upgraded(records, schema)


def _layout(schema: str, version: int, ts_out: bool) -> np.dtype[np.void]:
    """The record layout of a version of the format; `ts_out` appends the time at which the gateway
    sent the record.
    """
    latest = dtype(schema)
    of_version = {1: wire.v1, 2: wire.v2}.get(version)
    fields = (
        latest.descr
        if of_version is None
        else getattr(of_version, _LAYOUT[schema][1].__name__)._dtypes
    )
    return np.dtype([*fields, ("ts_out", "<u8")]) if ts_out else np.dtype(fields)


def _upgraded(old: Records, schema: str) -> Records:
    """Records of an older version in the layout of the latest: undefined values stay undefined,
    unknown fields are zero.
    """
    records = np.zeros(len(old), dtype(schema))
    for name in set(records.dtype.names or ()) & set(old.dtype.names or ()):
        before, after = old.dtype[name], records.dtype[name]
        records[name] = old[name]
        if before != after and before.kind in "iu":
            records[name][old[name] == np.iinfo(before).max] = np.iinfo(after).max
    records["length"] = records.dtype.itemsize // 4
    return records


def _records(
    path: Path, content: bytes, layout: np.dtype[np.void], schema: str, before: int
) -> Records:
    """The records in `content`, which `before` others precede in the file."""
    whole, rest = divmod(len(content), layout.itemsize)
    if rest:
        raise DataError(
            f"{path} ends inside record {before + whole + 1}, {rest} of {layout.itemsize} bytes in",
            AGAIN,
        )
    records = np.frombuffer(content, dtype=layout, count=whole)
    odd = np.flatnonzero(records["length"] != layout.itemsize // 4)
    if len(odd):
        length = 4 * int(records["length"][odd[0]])
        raise DataError(
            f"{path} is damaged at record {before + odd[0] + 1}: its length is {length}, not"
            f" {layout.itemsize} bytes",
            AGAIN,
        )
    strange = np.flatnonzero(records["rtype"] != _LAYOUT[schema][0])
    if len(strange):
        kind = int(records["rtype"][strange[0]])
        raise DataError(
            f"{path} is damaged at record {before + strange[0] + 1}: its type is {kind}, not"
            f" {_LAYOUT[schema][0]} of {schema}",
            AGAIN,
        )
    return records


def _header(path: Path, metadata: Any) -> Header:
    if metadata.schema is None:
        raise DataError(f"{path} mixes schemas (a live recording); need a file of one schema")
    mappings = sorted(
        Mapping(symbol, int(interval["symbol"]), interval["start_date"], interval["end_date"])
        for symbol, intervals in metadata.mappings.items()
        for interval in intervals
        if interval["symbol"].isdigit()
    )
    stype_in = str(metadata.stype_in) if metadata.stype_in is not None else ""
    return Header(
        metadata.dataset,
        str(metadata.schema),
        stype_in,
        tuple(metadata.symbols),
        metadata.start,
        metadata.end,
        tuple(mappings),
    )


def _inflated(path: Path) -> Iterator[bytes]:
    """The bytes of a file, of whatever frames it consists, piece by piece."""
    try:
        with path.open("rb") as file:
            content = file.read(SLICE)
            if content.startswith(_ZSTD_MAGIC):
                yield from _frames(path, content, file)
                return
            while content:
                yield content
                content = file.read(1 << 20)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _frames(path: Path, content: bytes, file: BinaryIO) -> Iterator[bytes]:
    total = path.stat().st_size
    frame, begin, position, inflated = _new_frame(), 0, 0, 0
    while content:
        try:
            piece = frame.decompress(content)
        except zstandard.ZstdError as error:
            raise DataError(
                f"{path} is damaged in the compressed frame at byte {begin}: {error}", AGAIN
            ) from error
        position, inflated = position + len(content), inflated + len(piece)
        if inflated > MOST_INFLATED * total + SLICE:
            raise DataError(
                f"{path} unpacks to more than {MOST_INFLATED} times its size: it holds no market"
                " data",
                AGAIN,
            )
        if piece:
            yield piece
        content = frame.unused_data if frame.eof else b""
        if frame.eof:
            begin = position = position - len(content)
            content = content or file.read(SLICE)
            frame = _new_frame() if content else frame
        else:
            content = file.read(SLICE)
    if not frame.eof:
        raise DataError(
            f"{path} is truncated: its compressed frame does not end within the {total} bytes",
            AGAIN,
        )


def _new_frame() -> Any:
    return zstandard.ZstdDecompressor().decompressobj()
