"""Framing of the TWS text protocol: a 4-byte big-endian length, then fields that each end with a
NUL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

GREETING = b"API\0"  # what a client sends once, before its first frame
MAX_FRAME = 1 << 24
_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """The peer does not speak this protocol."""


def frame(fields: Iterable[str]) -> bytes:
    """One frame. A NUL inside a field would split it, so it is dropped."""
    texts = list(fields)
    payload = "\0".join(texts)
    if payload.count("\0") >= max(1, len(texts)):
        payload = "\0".join(text.replace("\0", "") for text in texts)
    return pack(f"{payload}\0".encode() if texts else b"")


def pack(payload: bytes) -> bytes:
    """The length goes before."""
    return _LENGTH.pack(len(payload)) + payload


def fields(payload: bytes) -> list[str]:
    """The fields of one payload; undecodable bytes become backslash escapes. An unterminated last
    field is kept (the handshake has one).
    """
    parts = payload.decode(errors="backslashreplace").split("\0")
    return parts if parts[-1] else parts[:-1]


class Frames:
    """Cuts a byte stream into payloads, however it was split or glued on the way."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._pending += data
        if not self._greeted:
            if len(self._pending) < len(GREETING):
                return
            if not self._pending.startswith(GREETING):
                raise WireError(
                    f"expected the greeting {GREETING!r}, got {bytes(self._pending[:16])!r}"
                )
            del self._pending[: len(GREETING)]
            self._greeted = True
        while (payload := self._next()) is not None:
            yield payload

    def _next(self) -> bytes | None:
        if len(self._pending) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._pending)
        if size > MAX_FRAME:
            raise WireError(f"a frame of {size} bytes; the limit is {MAX_FRAME}")
        end = _LENGTH.size + size
        if len(self._pending) < end:
            return None
        payload = bytes(self._pending[_LENGTH.size : end])
        del self._pending[:end]
        return payload
