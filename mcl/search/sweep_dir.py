"""Where a search lives between processes: one small folder per sweep, owned by one parent at a
time.

mlruns/sweeps/<id>.card      name, id, study: how `mcl sweep status NAME` finds it without opening the run store
             <id>.journal    Optuna's study           <id>.outcomes   finished trials, bit for bit
             <id>.lock       held by the living parent (the kernel lets go of it when that dies, however it dies)
             <id>.status     heart-beat: standing and best so far, rewritten about once a second
             <id>.stop       somebody asked the parent to end
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

SHOWN = 8  # sweeps that an error lists


@dataclass(frozen=True)
class Place:
    folder: Path  # mlruns/sweeps
    sweep_id: str

    def file(self, kind: str) -> Path:
        return below(self.folder, self.sweep_id, ending=f".{kind}")

    @contextmanager
    def claimed(self) -> Iterator[None]:
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

    def card(self) -> dict[str, Any]:
        """What `introduce` wrote."""
        found: dict[str, Any] = json.loads(self.file("card").read_text())
        return found

    def introduce(self, card: dict[str, Any]) -> None:
        write_whole(self.file("card"), json.dumps(card).encode())

    def beat(self, status: dict[str, Any]) -> None:
        """Say where the search stands; readers see the old status or the new one."""
        target = self.file("status")
        partial = target.with_suffix(".status.part")
        partial.write_text(json.dumps(status | {"pid": os.getpid(), "beat": time.time()}))
        partial.replace(target)

    def status(self) -> dict[str, Any]:
        """The last heart-beat; empty before the first."""
        path = self.file("status")
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    def ask_to_stop(self) -> None:
        self.file("stop").touch()

    @property
    def asked_to_stop(self) -> bool:
        return self.file("stop").exists()


def find(folder: Path, named: str) -> Place:
    """The sweep with this id, this beginning of one, this name (the newest of several), or `last`;
    StoreError with the nearest.
    """
    cards = [json.loads(path.read_text()) for path in folder.glob("*.card")]
    cards.sort(key=lambda card: card["started"])
    ids = [card["sweep_id"] for card in cards]
    by_name = [card["sweep_id"] for card in cards if named and card["name"] == named]
    by_id = [found for found in ids if len(named) >= 4 and found.startswith(named)]
    if named == "last" and ids:
        return Place(folder, ids[-1])
    if by_name:
        return Place(folder, by_name[-1])
    if len(by_id) == 1:
        return Place(folder, by_id[0])
    if by_id:
        raise StoreError(
            f"sweep id {named} begins {len(by_id)} sweeps: {', '.join(by_id[:5])}",
            "type more of it",
        )
    known = list(dict.fromkeys(card["name"] or card["sweep_id"][:12] for card in reversed(cards)))
    near = nearest(named, known)
    if near.startswith("valid"):
        near = f"the newest are {', '.join(known[:SHOWN])}"
    raise StoreError(
        f"no sweep is called {named!r} below {folder}: {near}",
        "mcl runs lists studies and their sweeps",
    )
