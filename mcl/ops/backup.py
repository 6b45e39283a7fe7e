"""`mcl store backup`: one archive, complete or absent."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from mcl import __version__
from mcl.base import progress
from mcl.base.errors import StoreError
from mcl.base.files import private_file
from mcl.ops.archive import MANIFEST, PARTS, SQLITE, Manifest, Member

# of a process, or of a database that is copied by its own means
NEVER = (".lock", ".sock", "-wal", "-shm", "-journal")
FETCHED = Path("mlruns") / "served"  # copies of what a server holds
CHUNK = 1 << 20


class Backup(NamedTuple):
    path: Path
    files: int
    bytes_read: int
    bytes_written: int


def backup(root: Path, target: Path | None = None, *, data: bool = False) -> Backup:
    """Write the archive and return what it holds. StoreError: nothing to copy, a damaged database,
    no space; nothing remains then.
    """
    now = datetime.now(UTC)
    path = target or root / "backups" / f"mcl-{now:%Y%m%dT%H%M%SZ}.tar.zst"
    if path.exists():
        raise StoreError(f"{path} is there already", "name another file with --to")
    parts = [part for part in PARTS if part != "data" or data]
    if not any(_files(root, parts)):
        raise StoreError(
            f"{root} has no runs, no journals and no promoted configuration to copy",
            "run mcl inside a project or set MCL_HOME",
        )
    partial = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with private_file(partial).open("wb") as file:
            members = _write(file, root, parts, now)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}", "free space or fix the permissions"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return Backup(path, len(members), sum(m.size for m in members.values()), path.stat().st_size)


def _write(file: BinaryIO, root: Path, parts: list[str], now: datetime) -> dict[str, Member]:
    members: dict[str, Member] = {}
    with (
        zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(
            file, closefd=False
        ) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        # what a copied database calls finished lies on disk when the rest is listed
        for wanted in (_is_database, lambda _: True):
            paths = [path for path in _files(root, parts) if wanted(path)]
            for path in progress.each("databases" if wanted is _is_database else "files", paths):
                name = str(path.relative_to(root))
                if name not in members:
                    members[name] = _add(tar, path, name) or Member(0, "", False)
        stored = {name: member for name, member in members.items() if member.sha256}
        body = json.dumps(
            Manifest(
                now.isoformat(timespec="seconds"), str(root.resolve()), __version__, stored
            ).as_dict()
        ).encode()
        tar.addfile(_entry(MANIFEST, len(body)), io.BytesIO(body))
    return stored


def _files(root: Path, parts: list[str]) -> Iterator[Path]:
    """Every file that belongs in, databases first, `mlflow.db` before all."""
    paths = [
        path
        for part in parts
        for path in (root / part).rglob("*")
        if _wanted(path) and not path.is_relative_to(root / FETCHED)
    ]
    yield from sorted(
        paths, key=lambda path: (path.name != "mlflow.db", not _is_database(path), path)
    )


def _is_database(path: Path) -> bool:
    return path.suffix in (".db", ".sqlite")


def _wanted(path: Path) -> bool:
    return (
        not path.is_symlink()
        and path.is_file()
        and not path.name.endswith(NEVER)
        and ".part-" not in path.name
    )


def _add(tar: tarfile.TarFile, path: Path, name: str) -> Member | None:
    """Copy one file; None when it has gone since it was listed."""
    try:
        with path.open("rb") as file:
            if file.read(len(SQLITE)) != SQLITE:
                return _copy(tar, file, name, sqlite=False)
    except FileNotFoundError:
        return None
    with (
        tempfile.TemporaryDirectory(prefix="mcl-backup-") as folder,
        _snapshot(path, Path(folder) / "copy").open("rb") as file,
    ):
        return _copy(tar, file, name, sqlite=True)


def _copy(tar: tarfile.TarFile, file: BinaryIO, name: str, *, sqlite: bool) -> Member:
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    reader = _Hashing(file, size)
    tar.addfile(_entry(name, size), reader)
    return Member(size, reader.hexdigest(), sqlite)


def _snapshot(path: Path, copy: Path) -> Path:
    """A consistent copy of a database that others may be writing to."""
    try:
        with (
            closing(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
            ) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            verdict = target.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} cannot be copied: {error}",
            "mcl doctor; restore it from an older backup if it is damaged",
        ) from None
    if verdict != "ok":
        raise StoreError(
            f"{path} is damaged: {verdict}",
            "restore it from an older backup; a copy of it would be worth nothing",
        )
    return copy


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Hashing:
    """Reads exactly `size` bytes of a file, hashing them: what is appended meanwhile belongs to the
    next archive.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left, self._hash = file, size, hashlib.sha256()

    def read(self, count: int = CHUNK) -> bytes:
        piece = self._file.read(min(count, self._left))
        self._left -= len(piece)
        self._hash.update(piece)
        return piece

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
