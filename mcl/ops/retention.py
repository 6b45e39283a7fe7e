"""`mcl store gc`: delete unreferenced files and keep audit evidence.

Never touched: journals and audits, the trial ledger, searches, promoted versions, finished runs
that nobody deleted.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mcl.base import progress
from mcl.base.errors import ConfigError
from mcl.base.files import is_running
from mcl.tracking import purge
from mcl.tracking.purge import Waste, size_of
from mcl.tracking.store import Store

DAY_SEC = 86_400.0
PLACES = ("mlruns", "live", "data", "backups", "conf/promoted")


def waste(root: Path, older_days: float, keep: int) -> list[Waste]:
    """List what may be removed, in the order of removal: deleted runs and set-aside folders older
    than `older_days`, all but `keep` backups.
    """
    if older_days < 0 or keep < 1:
        raise ConfigError(
            f"--older-than {older_days:g} --keep {keep}: need days of at least 0 and at least one"
            " kept backup"
        )
    store, now = Store(root), time.time()
    limit = now - older_days * DAY_SEC
    return [
        *purge.deleted_runs(store, int(limit * 1000)),
        *purge.orphans(store, min(limit, now - DAY_SEC)),
        *_partials(root),
        *_aside(root, limit),
        *_backups(root, keep),
    ]


def collect(root: Path, waste: list[Waste]) -> int:
    """Remove it; bytes won on disk, the shrinking of the run store's file included."""
    for item in progress.each("removing", waste):
        item.remove()
    progress.begin("shrinking the run store")
    compacted = (
        purge.compact(Store(root)) if any(item.what == "deleted run" for item in waste) else 0
    )
    return sum(item.size for item in waste) + compacted


def _partials(root: Path) -> Iterator[Waste]:
    """Half-written files of processes that are gone."""
    for place in PLACES:
        for path in sorted((root / place).rglob("*.part-*")):
            pid = re.fullmatch(r".*\.part-(\d+)", path.name)
            if pid and not is_running(int(pid[1])):
                yield _file("half-written file", root, path)


def _aside(root: Path, limit: float) -> Iterator[Waste]:
    """List the folders that `mcl store restore --replace` put aside."""
    for path in sorted((*root.glob("*.before-*"), *root.glob("conf/*.before-*"))):
        if path.is_dir() and path.stat().st_ctime < limit:
            yield Waste(
                "set aside by a restore",
                str(path.relative_to(root)),
                size_of(path),
                partial(shutil.rmtree, path),
            )


def _backups(root: Path, keep: int) -> Iterator[Waste]:
    for path in sorted((root / "backups").glob("mcl-*.tar.zst"))[:-keep]:
        yield _file("old backup", root, path)


def _file(what: str, root: Path, path: Path) -> Waste:
    return Waste(
        what, str(path.relative_to(root)), size_of(path), partial(path.unlink, missing_ok=True)
    )
