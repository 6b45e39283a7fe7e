"""Aliases of the registry, and every change of one: promotion, rollback, and what a crash
between two steps left behind.

A name is an alias in the registry and the file conf/promoted/NAME.yaml. The alias is the truth; the
file repeats it for people and their reviews. A change writes down first what it is about to do
(conf/promoted/.NAME.pending.json), then the file, then the alias, then the history in the registry,
and takes the note away last. A process may die anywhere: as long as the note is there, the next
command that touches the name continues from the alias: it has moved, and the rest is done, or it
has not, and the old file comes back.
"""

from __future__ import annotations

import getpass
import json
import logging
import math
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from mcl.base.errors import PromotionError, StoreError
from mcl.base.files import locked, write_whole
from mcl.promotion.promoted_file import MODEL, PREVIOUS, first_line, path_of
from mcl.promotion.version_files import verified
from mcl.tracking.naming import EXPERIMENT, MODEL_VIEW, RUN
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredVersion

KEY = "move."


@dataclass(frozen=True)
class AliasChange:
    """One change of a name, as the registry keeps it for ever."""

    at: str  # ISO, UTC
    by: str
    name: str
    action: Literal["promote", "rollback"]
    version: int
    before: int | None  # the version that had the name until then
    why: str


@dataclass(frozen=True)
class _Pending:
    """A change that has begun. `text` and `old` are the whole files, new and as it was (None: there
    was none).
    """

    key: str
    move: AliasChange
    text: str
    old: str | None


def freeze(
    name: str,
    run_id: str,
    files: dict[str, bytes],
    tags: dict[str, str],
    why: str,
    *,
    project: Project,
) -> tuple[int, Path]:
    """Register `files` as a new version and give it the name. Until the alias moves, the old
    version is the one that loads.
    """
    with _alone(project.store):
        _settle(name, project)
        version = project.store.register(MODEL, run_id, files, tags, _described(tags))
        _move("promote", name, project.store.version(MODEL, str(version)), files, why, project)
    return version, path_of(name, project.root)


def _described(tags: dict[str, str]) -> str:
    """A version's description in MLflow: what it is, why it was promoted, and where its run and its
    report are. Markdown.
    """
    here = f"#/experiments/{EXPERIMENT}/runs/{RUN}"
    parts = [
        f"**{tags.get('mcl.strategy', 'a strategy')}** promoted to {tags.get('stage', 'paper')} by"
        f" {tags.get('by', 'somebody')}, {tags.get('gates', 'no')} gates passed."
        f" {tags.get('why', '')}".strip(),
        *(["**SYNTHETIC DATA**, not a market result."] if tags.get("synthetic") == "true" else []),
        f"[Report]({here}/artifacts/report.html?{MODEL_VIEW}) · [the run]({here}?{MODEL_VIEW})",
    ]
    return "\n\n".join(parts)


def rollback(name: str, why: str, *, project: Project) -> AliasChange:
    """Give the name back to the version that had it before the current one, whole and unaltered.
    PromotionError: there is none.
    """
    with _alone(project.store):
        _settle(name, project)
        now = project.store.version(MODEL, name).version
        earlier = [number for number in stack(name, project.store) if number != now]
        if not earlier:
            raise PromotionError(
                f"{name!r} has had no version before version {now}",
                f"mcl promoted history {name} shows all of them",
            )
        if not why.strip():
            raise PromotionError(
                f"a rollback of {name!r} needs its reason",
                f'mcl rollback {name} --because "what happened"',
            )
        target = project.store.version(MODEL, str(earlier[-1]))
        return _move("rollback", name, target, verified(target), why, project)


def history(store: Store, name: str | None = None) -> list[AliasChange]:
    """Every change that the registry knows, oldest first."""
    notes = store.annotations(MODEL)
    moves = [AliasChange(**json.loads(notes[key])) for key in sorted(notes) if key.startswith(KEY)]
    return [move for move in moves if name in (None, move.name)]


def stack(name: str, store: Store) -> list[int]:
    """The versions that a rollback of `name` would go through, the current one last."""
    versions: list[int] = []
    for move in history(store, name):
        if move.action == "promote":
            versions.append(move.version)
        else:
            while versions and versions[-1] != move.version:
                versions.pop()
    return versions


def settle(project: Project, name: str | None = None) -> None:
    """Finish or undo the changes that a dead process left half done, of one name or of all; a note
    on stderr says which.
    """
    folder, pattern = (
        project.root / "conf" / "promoted",
        _note(name, project.root).name if name else ".*.pending.json",
    )
    if any(folder.glob(pattern)):
        with _alone(project.store):
            for path in sorted(folder.glob(pattern)):
                _settle(path.name.split(".")[1], project)


# ---------------------------------------------------------------------------------------- the steps


def _move(
    action: Literal["promote", "rollback"],
    name: str,
    target: StoredVersion,
    files: dict[str, bytes],
    why: str,
    project: Project,
) -> AliasChange:
    path = path_of(name, project.root)
    text = (
        first_line(name, target.version, target.tags["content_sha256"])
        + files["config.yaml"].decode()
    )
    old = path.read_bytes().decode(errors="surrogateescape") if path.is_file() else None
    move = AliasChange(
        datetime.now(UTC).isoformat(timespec="seconds"),
        getpass.getuser(),
        name,
        action,
        target.version,
        _holder(name, project.store),
        why,
    )
    pending = _Pending(f"{KEY}{time.time_ns():020d}.{uuid.uuid4().hex[:8]}", move, text, old)
    write_whole(_note(name, project.root), json.dumps(asdict(pending)).encode())
    write_whole(path, text.encode())
    try:
        project.store.set_alias(MODEL, name, target.version)
    except StoreError:
        _undo(pending, project.root)
        raise
    _finish(pending, project)
    return move


def _finish(pending: _Pending, project: Project) -> None:
    """All that follows the move of the alias; may be done twice."""
    move = pending.move
    write_whole(path_of(move.name, project.root), pending.text.encode())
    if move.before is not None and move.before != move.version:
        project.store.set_alias(MODEL, PREVIOUS, move.before)
    project.store.annotate(MODEL, pending.key, json.dumps(asdict(move)))
    _note(move.name, project.root).unlink(missing_ok=True)


def _undo(pending: _Pending, root: Path) -> None:
    path = path_of(pending.move.name, root)
    (
        path.unlink(missing_ok=True)
        if pending.old is None
        else write_whole(path, pending.old.encode(errors="surrogateescape"))
    )
    _note(pending.move.name, root).unlink(missing_ok=True)


def _settle(name: str, project: Project) -> None:
    note = _note(name, project.root)
    if not note.is_file():
        return
    raw = json.loads(note.read_text())
    pending = _Pending(raw["key"], AliasChange(**raw["move"]), raw["text"], raw["old"])
    what = f"{pending.move.action} of {name} to version {pending.move.version}"
    if _holder(name, project.store) == pending.move.version:
        _finish(pending, project)
        logging.getLogger("mcl").warning(
            "the %s was interrupted after its alias had moved: finished now", what
        )
    else:
        _undo(pending, project.root)
        logging.getLogger("mcl").warning(
            "the %s was interrupted before its alias moved: undone, the old file is back", what
        )


def _holder(name: str, store: Store) -> int | None:
    try:
        return store.version(MODEL, name).version
    except StoreError:
        return None


def _note(name: str, root: Path) -> Path:
    return path_of(name, root).with_name(f".{name}.pending.json")


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Two changes at once take turns."""
    with locked(store.folder / "promote.lock", math.inf):
        yield
