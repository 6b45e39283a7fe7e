"""The study's memory: Optuna's journal as one file of JSON lines, written by one process only.

Optuna's own file backend locks, re-reads and fsyncs for every operation (about 7 ms a trial); one writer needs none of that. The
format is the same, so optuna's JournalFileBackend and optuna-dashboard open the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import BaseJournalBackend


class Journal(BaseJournalBackend):
    """Lines are flushed to the operating system at once: a killed process loses nothing, a power cut the last seconds.

    A torn last line (the writer died within it) is cut off when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: list[dict[str, Any]] = []
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                self._lines.append(json.loads(line))
                whole += len(line)
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(whole)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        encoded = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        self._file.write(b"".join(encoded))
        self._file.flush()
        self._lines.extend(json.loads(line) for line in encoded)

    def close(self) -> None:
        self._file.close()
