"""Append to files of JSON lines that one process writes. Lines survive a kill, a torn end is cut
off.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from mcl.base.errors import StoreError
from mcl.base.files import private_file

_encoded = json.JSONEncoder(separators=(",", ":")).encode


class JsonLinesFile:
    """Append lines and flush them to the operating system at once: a killed process loses nothing,
    a power cut the last seconds.

    A damaged tail (the writer died within a line, or the disk kept only a part) is cut off when the
    file is opened again. Damage with whole lines after it is no torn tail: StoreError.
    """

    def __init__(self, path: Path) -> None:
        self._path = private_file(path)
        self._read, whole = scanned(path)
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(whole)

    def read(self) -> list[dict[str, Any]]:
        """The lines of the file at the time when it was opened."""
        return self._read

    def append(self, lines: list[dict[str, Any]]) -> None:
        encoded = "".join(f"{_encoded(line)}\n" for line in lines).encode()
        try:
            self._file.write(encoded)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"cannot write {self._path}: {error.strerror or error}",
                "free space, then resume the sweep",
            ) from None

    def close(self) -> None:
        self._file.close()


def scanned(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file and how many bytes they fill; the file is left as it is, since
    another process may be writing it.
    """
    objects: list[dict[str, Any]] = []
    whole, damaged = 0, 0
    content = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        parsed = _parsed(line)
        if parsed is None:
            damaged = damaged or number
        elif damaged:
            raise StoreError(
                f"line {damaged} of {path} is damaged, with whole lines after it",
                "restore the file from a backup",
            )
        else:
            objects.append(parsed)
            whole += len(line)
    return objects, whole


def _parsed(line: bytes) -> dict[str, Any] | None:
    """One whole line, or None where it is torn or is no JSON object."""
    try:
        parsed = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
