"""Read and write the files of a search that several processes share. One parent at a time owns
them.

mlruns/sweeps/<id>.card      metadata: name, id, study. `mcl sweep status NAME` finds it by these
                             without opening the run store
             <id>.journal    Optuna's study
             <id>.outcomes   finished trials, bit for bit
             <id>.lock       locked by the living parent. The kernel unlocks it when that dies
             <id>.status     heart-beat: counts and best so far, rewritten about once a second
             <id>.stop       exists once the parent is to end
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl.base.errors import StoreError, nearest
from mcl.base.files import LockHeld, below, is_locked, locked, write_whole

MOST_LISTED = 8  # sweeps that an error lists


@dataclass(frozen=True)
class SweepDir:
    """The files of one search."""

    folder: Path  # mlruns/sweeps
    sweep_id: str

    def file(self, kind: str) -> Path:
        return below(self.folder, self.sweep_id, ending=f".{kind}")

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the only parent; StoreError with the other one's process id when there is one."""
        try:
            with locked(self.file("lock")):
                self.file("stop").unlink(missing_ok=True)
                yield
        except LockHeld as error:
            raise StoreError(
                f"sweep {self.sweep_id[:12]} is being run by process {error.owner}",
                f"mcl sweep status {self.sweep_id[:12]} shows it, mcl sweep stop"
                f" {self.sweep_id[:12]} ends it",
            ) from None

    @property
    def alive(self) -> bool:
        """Whether a parent runs this search now."""
        return is_locked(self.file("lock"))

    def metadata(self) -> dict[str, Any]:
        """The metadata that `write_metadata` wrote."""
        metadata: dict[str, Any] = json.loads(self.file("card").read_text())
        return metadata

    def write_metadata(self, metadata: dict[str, Any]) -> None:
        write_whole(self.file("card"), json.dumps(metadata).encode())

    def write_heartbeat(self, status: dict[str, Any]) -> None:
        """Write the status of the search. Readers see the old one or the new one."""
        target = self.file("status")
        partial = target.with_suffix(".status.part")
        partial.write_text(json.dumps(status | {"pid": os.getpid(), "beat": time.time()}))
        partial.replace(target)

    def heartbeat(self) -> dict[str, Any]:
        """The last heart-beat; empty before the first."""
        path = self.file("status")
        heartbeat: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return heartbeat

    def request_stop(self) -> None:
        self.file("stop").touch()

    @property
    def stop_requested(self) -> bool:
        return self.file("stop").exists()


def cards(folder: Path) -> list[dict[str, Any]]:
    """Return the metadata of all searches, the newest last."""
    metadata = [json.loads(path.read_text()) for path in folder.glob("*.card")]
    return sorted(metadata, key=lambda card: card["started"])


def find(folder: Path, named: str) -> SweepDir:
    """The sweep with this id, this beginning of one, this name (the newest of several), or `last`;
    StoreError with the nearest.
    """
    metadata = cards(folder)
    ids = [card["sweep_id"] for card in metadata]
    by_name = [card["sweep_id"] for card in metadata if named and card["name"] == named]
    by_id = [sweep_id for sweep_id in ids if len(named) >= 4 and sweep_id.startswith(named)]
    if named == "last" and ids:
        return SweepDir(folder, ids[-1])
    if by_name:
        return SweepDir(folder, by_name[-1])
    if len(by_id) == 1:
        return SweepDir(folder, by_id[0])
    if by_id:
        raise StoreError(
            f"sweep id {named} begins {len(by_id)} sweeps: {', '.join(by_id[:5])}",
            "type more of it",
        )
    names = list(
        dict.fromkeys(card["name"] or card["sweep_id"][:12] for card in reversed(metadata))
    )
    near = nearest(named, names)
    if near.startswith("valid"):
        near = f"the newest are {', '.join(names[:MOST_LISTED])}"
    raise StoreError(
        f"no sweep is called {named!r} below {folder}: {near}",
        "mcl runs lists studies and their sweeps",
    )
