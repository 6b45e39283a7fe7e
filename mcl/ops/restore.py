"""`mcl store restore`: an archive is read whole and verified before anything of the project moves.

It is unpacked next to its place, every hash compared, the paths inside the run store turned to this
folder; then the parts change places, each by two renames that a plan on disk describes first. A
process killed before the plan leaves the project as it was; one killed after it is finished by the
next `mcl store restore`, whatever it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import quote

import zstandard

from mcl.base import progress
from mcl.base.differences import differences
from mcl.base.errors import StoreError
from mcl.base.files import is_running, private_folder, refuse_no_file, write_whole
from mcl.base.words import many
from mcl.live.ops.control_socket import running
from mcl.ops.archive import FORMAT, MANIFEST, PARTS, Manifest, Member, is_part

PLAN = ".restore-plan.json"
PRIVATE = ("mlruns", "live")  # what only the user may read
CHUNK = 1 << 20
LARGEST_MANIFEST = 1 << 28
MOST_FILES = 5_000_000
MB = 1_000_000
SPARE_BYTES = 100_000_000  # left free on the disk
EMPTY = {".gitkeep", "README.md"}  # what a new project has in these folders
PATH_COLUMNS = (  # where the run store keeps absolute places
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


class Restored(NamedTuple):
    made_at: str
    files: int
    bytes_written: int
    parts: tuple[str, ...]
    aside: tuple[Path, ...]  # what was in their places


def verify(archive: Path) -> Manifest:
    """Read the whole archive without writing; StoreError says what is wrong with it."""
    refuse_no_file(archive)
    return _read(archive, None)


def restore(archive: Path, root: Path, *, replace: bool = False) -> Restored:
    """Put the archive into `root`. Without `replace` StoreError when a part exists; with it the old
    part stays next to the new one.
    """
    if trading := running(root):
        raise StoreError(
            f"a session of {', '.join(trading)} writes here",
            f"mcl stop {trading[0]}, or restore into another folder with MCL_HOME",
        )
    refuse_no_file(archive)
    finish(root)
    present = [part for part in PARTS if _holds_something(root / part)]
    if present and not replace:
        raise StoreError(
            f"{root} has {', '.join(present)} already",
            "restore into an empty folder, or say --replace: the old ones are kept aside",
        )
    _clear_dead(root)
    scratch = root / f".restore-{os.getpid()}"
    try:
        scratch.mkdir(parents=True)
        manifest = _read(archive, scratch)
        progress.begin("putting the files in their places")
        _relocate(scratch / "mlruns" / "mlflow.db", Path(manifest.root), root)
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        parts = [part for part in PARTS if (scratch / part).is_dir()]
        moves = [
            [str(scratch / part), str(root / part), str(root / f"{part}.before-{stamp}")]
            for part in parts
        ]
        write_whole(root / PLAN, json.dumps({"folder": str(scratch), "steps": moves}).encode())
    except BaseException:
        if not (root / PLAN).exists():
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    finish(root)
    aside = tuple(Path(move[2]) for move in moves if Path(move[2]).exists())
    return Restored(
        manifest.made_at,
        len(manifest.files),
        sum(m.size for m in manifest.files.values()),
        tuple(parts),
        aside,
    )


def finish(root: Path) -> bool:
    """Go through with a restore that was cut off after its plan; whether there was one."""
    try:
        plan = json.loads((root / PLAN).read_bytes())
    except FileNotFoundError:
        return False
    for new, place, aside in (map(Path, step) for step in plan["steps"]):
        if not new.exists():
            continue  # done before
        if place.exists():
            place.rename(aside)
        place.parent.mkdir(parents=True, exist_ok=True)
        new.rename(place)
    shutil.rmtree(plan["folder"], ignore_errors=True)
    (root / PLAN).unlink()
    return True


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(path.name not in EMPTY for path in folder.iterdir())


def _clear_dead(root: Path) -> None:
    """Folders of restores that were killed before their plan."""
    for folder in root.glob(".restore-*/"):
        pid = folder.name.removeprefix(".restore-")
        if pid.isdigit() and not is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _read(archive: Path, into: Path | None) -> Manifest:
    """Every member hashed (and written below `into`), then compared with the manifest, which must
    come last.
    """
    with _refusals(archive):
        members, manifest = _all_members(archive, into)
    if manifest is None:
        raise StoreError(f"{archive} has no manifest: it was cut off", "take an older backup")
    expected = {name: (member.size, member.sha256) for name, member in manifest.files.items()}
    wrong = sorted(differences(expected, members))
    if wrong:
        raise StoreError(
            f"{archive}: not as the manifest says: {many(len(wrong), 'file')}, first {wrong[0]}",
            "take an older backup",
        )
    return manifest


def _all_members(
    archive: Path, into: Path | None
) -> tuple[dict[str, tuple[int, str]], Manifest | None]:
    members: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    for entry, content in _members(archive):
        if manifest is not None:
            raise StoreError(
                f"{archive}: {entry.name} comes after the manifest",
                "it is no archive of mcl store backup",
            )
        if entry.name == MANIFEST:
            manifest = _manifest(archive, content, entry.size)
        else:
            members[entry.name] = _take(archive, entry, content, into)
    return members, manifest


@contextmanager
def _refusals(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
        raise StoreError(f"{archive} is damaged: {error}", "take an older backup") from None
    except OSError as error:
        raise StoreError(
            f"cannot restore {archive}: {error.strerror or error}",
            "check the file, the free space and the permissions",
        ) from None


def _members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    with (
        archive.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        whole, read = archive.stat().st_size // MB, 0
        tick = progress.begin("reading the archive, in MB", whole)
        for number, entry in enumerate(tar):
            while read < min(whole, file.tell() // MB):
                tick()
                read += 1
            if number > MOST_FILES:
                raise StoreError(
                    f"{archive} has more than {MOST_FILES:,} files",
                    "it is no archive of mcl store backup; nothing was changed",
                )
            content = tar.extractfile(entry) if entry.isfile() else None
            if content is None or not (entry.name == MANIFEST or _inside(entry.name)):
                raise StoreError(
                    f"{archive}: {entry.name!r} is no file of a project",
                    "it is no archive of mcl store backup; nothing was changed",
                )
            yield entry, content


def _inside(name: str) -> bool:
    """Relative, below one of the parts, without a step up: an archive from elsewhere must not write
    elsewhere.
    """
    path = PurePosixPath(name)
    return is_part(name) and not path.is_absolute() and ".." not in path.parts and str(path) == name


def _take(
    archive: Path, entry: tarfile.TarInfo, content: IO[bytes], into: Path | None
) -> tuple[int, str]:
    digest = hashlib.sha256()
    if into is None:
        while piece := content.read(CHUNK):
            digest.update(piece)
        return entry.size, digest.hexdigest()
    if entry.size + SPARE_BYTES > shutil.disk_usage(into).free:
        raise StoreError(
            f"{archive}: no space for {entry.name} ({entry.size / 1e9:.1f} GB)",
            "free space; nothing was changed",
        )
    target = into / entry.name
    private = entry.name.split("/")[0] in PRIVATE
    if private:
        private_folder(target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(CHUNK):
            digest.update(piece)
            file.write(piece)
    return entry.size, digest.hexdigest()


def _manifest(archive: Path, content: IO[bytes], size: int) -> Manifest:
    if size > LARGEST_MANIFEST:
        raise StoreError(
            f"{archive}: a manifest of {size / 1e9:.1f} GB", "it is no archive of mcl store backup"
        )
    try:
        fields: dict[str, Any] = json.loads(content.read())
        if fields["format"] != FORMAT:
            raise StoreError(
                f"{archive} has format {fields['format']}, this mcl reads {FORMAT}",
                "restore it with the mcl that wrote it",
            )
        files = {
            name: Member(int(m["size"]), str(m["sha256"]), bool(m["sqlite"]))
            for name, m in fields["files"].items()
        }
        return Manifest(str(fields["made_at"]), str(fields["root"]), str(fields["version"]), files)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(
            f"{archive}: its manifest cannot be read", "take an older backup"
        ) from None


def _relocate(database: Path, old: Path, new: Path) -> None:
    """Turn the absolute places inside a restored run store to this folder, plain and as file://
    addresses.
    """
    if not database.is_file() or old == new.resolve():
        return
    before, after = str(old), str(new.resolve())
    swaps = [(f"{before}/", f"{after}/"), (f"file://{quote(before)}/", f"file://{quote(after)}/")]
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            for table, column in PATH_COLUMNS:
                for was, becomes in swaps:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608 - from PATH_COLUMNS
                        f" WHERE substr({column}, 1, ?) = ?",
                        (becomes, len(was) + 1, len(was), was),
                    )
    except sqlite3.Error as error:
        raise StoreError(
            f"the restored run store cannot be opened: {error}",
            "take an older backup; nothing was changed",
        ) from None
