"""Files of JSON lines with one writer, and the study's memory in one: Optuna's journal.

Optuna's own file backend locks, re-reads and fsyncs for every operation (about 7 ms a trial); one writer needs none of that. The
format is the same, so optuna's JournalFileBackend and optuna-dashboard open the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import BaseJournalBackend

from mcl.errors import StoreError
from mcl.files import private_file

_encoded = json.JSONEncoder(separators=(",", ":")).encode


class Lines:
    """Lines are flushed to the operating system at once: a killed process loses nothing, a power cut the last seconds.

    A damaged tail (the writer died within a line, or the disk kept only a part) is cut off when the file is opened again. Damage
    with whole lines after it is no torn tail: StoreError.
    """

    def __init__(self, path: Path) -> None:
        self._path = private_file(path)
        self._read, whole = scanned(path)
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(whole)

    def read(self) -> list[dict[str, Any]]:
        """What the file held when it was opened."""
        return self._read

    def append(self, lines: list[dict[str, Any]]) -> None:
        encoded = "".join(f"{_encoded(line)}\n" for line in lines).encode()
        try:
            self._file.write(encoded)
            self._file.flush()
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror or error}", "free space, then resume the sweep") from None

    def close(self) -> None:
        self._file.close()


def scanned(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file and how many bytes they fill; the file is left as it is, since another process may be writing it."""
    found: list[dict[str, Any]] = []
    whole, damaged = 0, 0
    content = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        parsed = _parsed(line)
        if parsed is None:
            damaged = damaged or number
        elif damaged:
            raise StoreError(f"line {damaged} of {path} is damaged, with whole lines after it", "restore the file from a backup")
        else:
            found.append(parsed)
            whole += len(line)
    return found, whole


class Journal(BaseJournalBackend):
    """Optuna's journal over `Lines`, held in memory as well: nobody else writes it."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._logs = lines, lines.read()

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lines.append(logs)
        self._logs = [*self._logs, *logs]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """One whole line, or None where it is torn or is no JSON object."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
