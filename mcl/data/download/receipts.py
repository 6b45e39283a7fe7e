"""The folder of a downloaded symbol, and what was paid for what is in it.

    data/raw/MCL_FUT/
        ohlcv-1m/MCL_FUT_ohlcv-1m_2024-01-01_2024-02-01.dbn.zst    as it came, never changed
                 ….dbn.zst.json    its receipt
                 ….dbn.zst.part    on its way
        ledger.jsonl      every payment and every mishap, in order; only ever appended to
        .quarantine/      damaged files with the reason, under names that no reader takes for data
        condition.json    the days that the vendor does not call available, as it lists them
        world.json        only for a synthetic world: what it is, so that nobody takes it for a
                          market

Files of batch jobs are on their way in data/.batch/, where nobody looks for data.

A receipt is written before its file gets its final name. So whatever moment a process dies at, the
next one finds either a receipt with its file, or a receipt with the file still called `.part`, or
no receipt: nothing that was verified is paid for twice.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from mcl.base.errors import DataError, StoreError
from mcl.base.files import LockHeld, locked, sha256, write_whole
from mcl.data.download.chunks import DownloadChunk


@dataclass(frozen=True)
class Receipt:
    """One finished chunk. `begin` and `until` are the instants that were asked for; a chunk without
    records has no file and no hash.

    `conditions` are the days that the vendor does not call available; `warnings` is what it said
    when it sent the bytes.
    """

    symbol: str
    stype_in: str
    schema: str
    start: str
    end: str
    begin: str
    until: str
    dataset: str
    records: int
    bytes: int
    cost_usd: float
    sha256: str
    synthetic: bool
    warnings: list[str] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)

    @property
    def chunk(self) -> DownloadChunk:
        return DownloadChunk(
            self.symbol,
            self.stype_in,
            self.schema,
            date.fromisoformat(self.start),
            date.fromisoformat(self.end),
        )


class Folder:
    """All files of one symbol. One process at a time, many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """StoreError when another process downloads into this folder."""
        try:
            with locked(self.path / ".lock"):
                yield
        except LockHeld as error:
            raise StoreError(
                f"process {error.owner} downloads to {self.path}", "wait for it, or stop it"
            ) from None

    def file(self, chunk: DownloadChunk) -> Path:
        return self.path / chunk.schema / chunk.name

    @property
    def jobs(self) -> Path:
        return self.path.parents[1] / ".batch"

    def part(self, chunk: DownloadChunk) -> Path:
        return self.file(chunk).with_name(f"{chunk.name}.part")

    def verified_receipts(self, symbol: str, schemas: list[str]) -> list[Receipt]:
        """The receipts of finished chunks whose bytes are still those that were paid for; other
        files are put into quarantine.
        """
        receipts = [
            _receipt(p)
            for schema in schemas
            for p in sorted((self.path / schema).glob("*.dbn.zst.json"))
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            whole = list(pool.map(self._verified, receipts))
        return [
            receipt
            for receipt, good in zip(receipts, whole, strict=True)
            if good and receipt.symbol == symbol
        ]

    def _verified(self, receipt: Receipt) -> bool:
        path, part = self.file(receipt.chunk), self.part(receipt.chunk)
        if not receipt.sha256:
            return True
        if not path.exists() and part.exists() and sha256(part) == receipt.sha256:
            part.replace(path)  # the process died between the receipt and the rename
        if path.exists() and sha256(path) == receipt.sha256:
            return True
        self.log(
            "lost", file=path.name, reason="changed on disk" if path.exists() else "no longer there"
        )
        if path.exists():
            self.quarantine(path, "its sha256 is no longer the one in its receipt")
        self._note(receipt.chunk).unlink()
        return False

    def receipt(self, chunk: DownloadChunk) -> Receipt:
        """Of a chunk that was kept."""
        return _receipt(self._note(chunk))

    def keep(self, receipt: Receipt) -> None:
        """Make the verified `.part` of a chunk its file, for good."""
        write_whole(
            self._note(receipt.chunk), (json.dumps(asdict(receipt), indent=1) + "\n").encode()
        )
        if receipt.sha256:
            part = self.part(receipt.chunk)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(self.file(receipt.chunk))
        self.log(
            "kept",
            file=receipt.chunk.name,
            records=receipt.records,
            cost_usd=receipt.cost_usd,
            sha256=receipt.sha256,
        )

    def quarantine(self, path: Path, reason: str) -> Path:
        """Move a damaged file out of every reader's way, with the reason next to it."""
        place = self.path / ".quarantine"
        place.mkdir(parents=True, exist_ok=True)
        with self._lock:
            n = len(list(place.glob(f"{path.name}.*.bad")))
            moved = path.rename(place / f"{path.name}.{n + 1}.bad")
        write_whole(
            moved.with_suffix(".reason.json"),
            (json.dumps({"at": _now(), "reason": reason}) + "\n").encode(),
        )
        self.log("quarantined", file=path.name, reason=reason)
        return moved

    def log(self, event: str, **facts: Any) -> None:
        """Append to the ledger, and have it on the disk before going on: it is about money."""
        line = json.dumps({"at": _now(), "event": event, **facts}) + "\n"
        with self._lock, (self.path / "ledger.jsonl").open("a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def logged(self, event: str) -> list[dict[str, Any]]:
        path = self.path / "ledger.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        # the last line may be cut
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        return [entry for entry in entries if entry["event"] == event]

    def judge(self, first: str, last: str, conditions: dict[str, str]) -> None:
        """Write down what the vendor says of the days first … last that are not simply available,
        as it does itself in batch files.
        """
        note = self.path / "condition.json"
        before = json.loads(note.read_text()) if note.is_file() else []
        others = [item for item in before if not first <= item["date"] <= last]
        listed = sorted(
            [*others, *({"date": d, "condition": c} for d, c in conditions.items())],
            key=lambda item: item["date"],
        )
        if listed or note.is_file():
            write_whole(note, (json.dumps(listed, indent=1) + "\n").encode())

    def accept(self, world: dict[str, Any]) -> None:
        """Refuse to put synthetic and recorded data, or two worlds, into one folder; mark a
        synthetic one before its first file.
        """
        note = self.path / "world.json"
        present = json.loads(note.read_text()) if note.is_file() else {}
        used = next(self.path.rglob("*.dbn.zst.json"), None) is not None
        if (present or used) and present.get("parameters") != world.get("parameters"):
            kinds = [
                f"SYNTHETIC DATA {w['parameters']}" if w else "recorded data"
                for w in (present, world)
            ]
            raise DataError(
                f"{self.path} holds {kinds[0]}; the gateway serves {kinds[1]}",
                "move the folder away, or set MCL_HOME to another",
            )
        if world and not present:
            write_whole(note, (json.dumps(world, indent=1) + "\n").encode())

    def _note(self, chunk: DownloadChunk) -> Path:
        return self.file(chunk).with_name(f"{chunk.name}.json")


def _receipt(path: Path) -> Receipt:
    try:
        values = json.loads(path.read_text())
        return Receipt(**{name: values[name] for name in (f.name for f in fields(Receipt))})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no receipt of a download: {error!r}", "move it and its file away"
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
