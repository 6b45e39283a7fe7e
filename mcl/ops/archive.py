"""The archive of everything that a project has written: runs, artifacts, trial ledger, searches,
journals, promoted configurations.

An archive is a zstandard tar. Databases are copied through SQLite's online backup, so that a search
or a session may go on writing; other files are read up to the length that they have when they are
opened (logs and journals only grow, everything else is renamed into place). The database of runs
comes first: a run that it calls finished has all its artifacts on disk already. The last member is
MANIFEST.json with the length and SHA-256 of every other one. Raw market data are left out unless
asked for: they can be had again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# what an archive may hold, relative to the project
PARTS = ("mlruns", "live", "conf/promoted", "data")
MANIFEST = "MANIFEST.json"
FORMAT = 1
SQLITE = b"SQLite format 3\x00"


class Member(NamedTuple):
    """One file of an archive as its manifest tells it; `size` in bytes."""

    size: int
    sha256: str
    sqlite: bool


class Manifest(NamedTuple):
    made_at: str  # UTC, ISO
    root: str  # the project folder that was copied: the run store holds absolute paths
    version: str  # of mcl
    files: dict[str, Member]

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            **self._asdict(),
            "files": {name: member._asdict() for name, member in self.files.items()},
        }


def is_part(name: str) -> bool:
    """Whether a relative path lies in what an archive may hold."""
    return any(name.startswith(f"{part}/") for part in PARTS)
