"""Finds the project folder, and writes, locks and reads files safely."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcl.base.errors import ConfigError, DataError, StoreError

MOST_NODES = 100_000  # values of one YAML document, every use of an alias counted
LARGEST_YAML = 4_000_000  # characters
PLAIN_NAME = re.compile(r"\w[\w .,+=@-]{0,199}")  # no separator, and no dot at the beginning
MOST_FILES = 100_000  # below a folder of data
LONGEST_NAME = 200  # bytes; a file system takes 255, and endings are added
# `is_locked` holds a lock for a moment: a wait of this length tells it from an owner
GLANCE_SEC = 0.5
RETRY_SEC = 0.02  # at most, at random: two that ask again and again do not meet for ever
_asking = threading.Lock()  # threads of one process ask one after the other


class LockHeld(Exception):
    """Another process holds the lock. `owner` is its process id as the lock file says it, or
    "unknown".
    """

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"{path} is locked by process {owner}")
        self.owner = owner


def root() -> Path:
    """The project folder: $MCL_HOME, else the nearest folder from the working directory up with
    conf/backtest.yaml, else that directory.
    """
    if home := os.environ.get("MCL_HOME"):
        return Path(home).resolve()
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:
        raise ConfigError(
            "the folder that this shell is in is no more", "cd to your project"
        ) from None
    return next(
        (p for p in (here, *here.parents) if (p / "conf" / "backtest.yaml").is_file()), here
    )


def cache_path(name: str) -> Path | None:
    """A file of the project's cache, which anybody may delete; None outside a project."""
    home = root()
    return home / ".cache" / name if (home / "conf" / "backtest.yaml").is_file() else None


def below(folder: Path, *names: str, ending: str = "") -> Path:
    """The path of `names` below `folder`, the last with `ending`. Every name that becomes a part of
    a path comes through here.

    ConfigError for a name that could lead elsewhere: an absolute path, a step up, a separator, a
    hidden file.
    """
    for name in names:
        plain_name(name)
    return folder.joinpath(*names[:-1], f"{names[-1]}{ending}")


def plain_name(name: str) -> str:
    """`name` when it can be a part of a path; ConfigError with a name that can."""
    if len(os.fsencode(name)) > LONGEST_NAME:
        message = f"{name[:40]!r} … has {len(os.fsencode(name)):,} bytes and cannot name a file"
        raise ConfigError(message, f"use at most {LONGEST_NAME} bytes")
    if not PLAIN_NAME.fullmatch(name):
        nearest = re.sub(r"\W+", "_", name).strip("_")[:50] or "mine"
        raise ConfigError(
            f"{name[:200]!r} cannot name a file or a folder: use letters, digits, spaces and _ . ,"
            " + = @ -, a letter or digit first",
            f"for instance {nearest!r}",
        )
    return name


def files_below(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The regular files at any depth below `folder` whose names end like this, in order.

    DataError for a folder of more than MOST_FILES entries: the whole disk was named, by mistake.
    """
    paths, entries = [], 0
    for above, folders, names in os.walk(folder):
        entries += len(folders) + len(names)
        if entries > MOST_FILES:
            message = f"{folder} holds more than {MOST_FILES:,} files, at any depth"
            raise DataError(message, "name the folder of the data itself")
        paths += [Path(above, name) for name in names if name.endswith(endings)]
    return sorted(path for path in paths if path.is_file())


def refuse_no_file(path: Path) -> None:
    """ConfigError for what is no regular file: reading a pipe or a device may never end."""
    try:
        odd = path.exists() and not path.is_file()
    except OSError as error:
        raise ConfigError(
            f"{str(path)[:200]} cannot be read: {error.strerror or error}", "fix the path"
        ) from None
    if odd:
        raise ConfigError(f"{path} is a folder, a pipe or a device, not a file", "name a file")


def private_folder(folder: Path) -> Path:
    """Make a folder, and those above it that are missing, that only this user can enter; one that
    is there is closed to others.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    mode = folder.stat()
    if mode.st_uid == os.getuid() and mode.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def private_file(path: Path) -> Path:
    """Make an empty file that only this user can read, whatever the umask; one that is there stays
    as it is.

    SQLite gives the files next to a database the rights of the database.
    """
    if not path.exists():
        if not path.parent.exists():
            private_folder(path.parent)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    return path


def new_log(kind: str, text: str) -> Path:
    """Write `text` to a file of its own, private to this user, in the project's cache, or among the
    temporary files where there is no project. StoreError when the disk refuses.
    """
    moment = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    folder = cache_path(kind) or Path(tempfile.mkdtemp(prefix=f"mcl-{kind}-"))
    path = next(path for n in range(10_000) if not (path := folder / f"{n}-{moment}").exists())
    try:
        private_folder(folder)
        private_file(path)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}", "free space or fix the permissions"
        ) from None
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name next to `path`, sync, then rename: readers see the old file or the
    new one, never a part of it.
    """
    partial = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            raise StoreError(
                f"cannot write {path}: a folder, a pipe or a device has that name",
                "choose another name",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}", "free space or fix the permissions"
        ) from None


@contextlib.contextmanager
def locked(path: Path, patience_sec: float = GLANCE_SEC) -> Iterator[None]:
    """Hold the lock file `path`, which says the process id; LockHeld when another holds it for
    longer than `patience_sec`.

    The lock belongs to the open file, not to the file's existence: the kernel lets go of it when
    the process dies, however it dies. StoreError when the file cannot be opened or its file system
    knows no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot lock {path}: {error.strerror or error}", "free space or fix the permissions"
        ) from None
    try:
        if not _lock(descriptor, path, patience_sec):
            raise LockHeld(path, _owner(descriptor) or "unknown")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file `path`.

    Several processes may ask at once: who asks holds the lock for a moment, so an owner is believed
    when the process that it names lives here, or when it holds the lock for longer than a moment.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    with _asking:
        try:
            return _is_owned(descriptor, path)
        finally:
            os.close(descriptor)


def _is_owned(descriptor: int, path: Path) -> bool:
    if _lock(descriptor, path, 0.0):
        return False
    owner = _owner(descriptor)
    return (owner.isdigit() and is_running(int(owner))) or not _lock(descriptor, path, GLANCE_SEC)


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip()


def _lock(descriptor: int, path: Path, patience_sec: float) -> bool:
    import filelock

    end = time.monotonic() + patience_sec if math.isfinite(patience_sec) else math.inf
    try:
        while not filelock.lock_descriptor(descriptor, blocking=False):
            if time.monotonic() >= end:
                return False
            time.sleep(random.uniform(0.0, RETRY_SEC))
    except OSError as error:
        raise StoreError(
            f"cannot lock {path}: {error.strerror or error}",
            "keep the project on a file system with locks",
        ) from None
    return True


def is_running(process_id: int) -> bool:
    """Whether a process with this id lives on this machine."""
    import psutil

    return bool(psutil.pid_exists(process_id))


def plain_yaml(text: str, name: str) -> Any:
    """Read `text` as data. ConfigError names `name`, the line and the cure for what is no plain
    YAML document.

    Refused are broken syntax, tags that would make objects, a key that is there twice, and a bomb:
    aliases of aliases that are small on disk and do not fit into memory once they are written out.
    """
    import yaml

    if len(text) > LARGEST_YAML:
        message = f"{name} has {len(text):,} characters, more than {LARGEST_YAML:,}"
        raise ConfigError(f"{message}: it is no configuration", "keep data in files of their own")
    try:
        node = yaml.compose(text, yaml.CSafeLoader)
        if node is None:
            return None
        if _size(node, {}) > MOST_NODES:
            message = f"{name} stands for more than {MOST_NODES:,} values"
            raise ConfigError(f"{message}: it is no configuration", "write it without aliases")
        _refuse_repeated_key(node, name)
        return yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(*_yaml_fault(error, text, name)) from None
    except RecursionError:
        raise ConfigError(
            f"{name} is nested too deep to be a configuration", "write it flatter"
        ) from None
    except (ValueError, TypeError) as error:  # a date that no calendar has, a mapping as a key
        message = " ".join(str(error).split())
        raise ConfigError(
            f"{name} holds a value that YAML cannot read: {message}", "put it in quotes"
        ) from None


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes. DataError names the file where the system cannot read it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}", "fix the path or its rights"
        ) from None


def yaml_file(path: Path) -> Any:
    """The data of a YAML file, as `plain_yaml`. ConfigError names the file where it cannot be read
    as text, too.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}", "fix the path or its rights"
        ) from None
    return plain_yaml(utf8(content, str(path)), str(path))


def utf8(content: bytes, name: str) -> str:
    """The text of a file. ConfigError names the line of the first byte that is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"{name}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8"
        raise ConfigError(message, "save the file as UTF-8 text") from None


YAML_CURES = (
    ("cannot start any token", "put the value in quotes"),
    ("did not find expected", "keys of one mapping begin in the same column: indent by two blanks"),
    (
        "mapping values are not allowed",
        "keys of one mapping begin in the same column; quote a value that holds a colon",
    ),
    ("could not find expected ':'", "write key: value, one on each line"),
    ("could not determine a constructor", "write plain values: numbers, words and lists, no !tag"),
    ("expected a single document", "one document a file: remove the line ---"),
    ("control characters", "remove the character"),
    ("found undefined alias", "write the value out"),
    ("unhashable key", "write a word as the key"),
)


def _yaml_fault(error: Exception, text: str, name: str) -> tuple[str, str]:
    """The sentence with the line, and the cure."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).split(' in "', maxsplit=1)[0]
    problem = " ".join(problem.split())[:200]
    if "nesting depth" in problem:
        return f"{name} is nested too deep to be a configuration", "write it flatter"
    cure = next(
        (cure for words, cure in YAML_CURES if words in f"{problem} {error}"), "correct this line"
    )
    line = _line_of(error, mark, text)
    if line is None:
        return f"{name} is not YAML: {problem}", cure
    written = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    if "\t" in written[: len(written) - len(written.lstrip())]:
        cure = "indent with blanks, never with a tab"
    return f"{name}, line {line} is not YAML: {problem}", cure


def _line_of(error: Exception, mark: Any, text: str) -> int | None:
    if mark is not None:
        return int(mark.line) + 1
    position = getattr(error, "position", None)  # of a character that YAML does not know
    return None if position is None else text.count("\n", 0, position) + 1


def _refuse_repeated_key(root: Any, name: str) -> None:
    """ConfigError where one mapping says a key twice: the first would be lost in silence."""
    import yaml

    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited or not isinstance(node, yaml.CollectionNode):
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            text = (
                key.value
                if isinstance(key, yaml.ScalarNode) and key.value != "<<"
                else f"{id(key)}"
            )
            if text in lines:
                first = (
                    f"{name}, line {line}: the key {text} occurs a second time, first in line"
                    f" {lines[text]}"
                )
                raise ConfigError(first, "keep one of the two")
            lines[text] = line
            waiting.append(value)


def _size(node: Any, sizes: dict[int, int]) -> int:
    """Nodes of a document once its aliases are written out; one that contains itself has too
    many.
    """
    if id(node) not in sizes:
        sizes[id(node)] = MOST_NODES + 1  # until it is counted: then it contains itself
        below = node.value if isinstance(node.value, list) else []
        parts = [
            part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))
        ]
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]
