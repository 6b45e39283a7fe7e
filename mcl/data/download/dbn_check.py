"""Check a downloaded file in pieces, so that a year of depth needs no memory: whole or damaged, how
many records, which hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from mcl.base.errors import DataError
from mcl.data import dbn

_PIECE = 1 << 20


@dataclass(frozen=True)
class Arrived:
    records: int
    bytes: int
    sha256: str


def inspect(path: Path, schema: str) -> Arrived:
    """A zstd DBN file of one schema. DataError with the reason if it is damaged, cut short or
    something else.
    """
    digest, frames = hashlib.sha256(), _Frames()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                frames.take(piece)
    except zstandard.ZstdError as error:
        raise DataError(
            f"{path.name} is damaged after {frames.inflated} bytes of content: {error}"
        ) from error
    if frames.inflated == 0:
        raise DataError(f"{path.name} is empty")
    if not frames.closed:
        raise DataError(f"{path.name} is truncated: its compressed frame does not end")
    if dbn.header(path).schema != schema:
        raise DataError(f"{path.name} holds {dbn.header(path).schema}, not {schema}")
    body, size = frames.inflated - frames.header, 4 * max(frames.length, 1)
    if body % size:
        raise DataError(
            f"{path.name} ends inside a record: {body} bytes of records of {size} bytes"
        )
    return Arrived(body // size, path.stat().st_size, digest.hexdigest())


class _Frames:
    """Decompresses frame after frame, and keeps only the length of the header, of the first record
    and of everything.
    """

    def __init__(self) -> None:
        self.inflated = self.packed = self.length = 0
        self.header = 8
        self._head = b""
        self._frame: Any = None

    @property
    def closed(self) -> bool:
        return self._frame is None

    def take(self, piece: bytes) -> None:
        for first in range(0, len(piece), dbn.SLICE):
            self._take(piece[first : first + dbn.SLICE])

    def _take(self, piece: bytes) -> None:
        while piece:
            frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._look(frame.decompress(piece))
            self.packed += len(piece) - len(frame.unused_data)
            if self.inflated > dbn.MOST_INFLATED * self.packed + dbn.SLICE:
                raise DataError(
                    f"it unpacks to more than {dbn.MOST_INFLATED} times its size: it holds no"
                    " market data"
                )
            piece = frame.unused_data if frame.eof else b""
            self._frame = None if frame.eof else frame

    def _look(self, content: bytes) -> None:
        self.inflated += len(content)
        # still before the first byte of the first record, which is its length in words
        if self.length == 0:
            self._head += content
            if len(self._head) >= 8:
                self.header = 8 + int.from_bytes(self._head[4:8], "little")
            if len(self._head) > self.header:
                self.length, self._head = self._head[self.header], b""
