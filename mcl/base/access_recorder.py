"""Records what a person's own code reads besides the bars that it is given: files, connections,
programs.

Bars are cut at the close of their last row, but a strategy is a program: it can open a file that
was written later, and no cut can prevent that. So it is recorded, by an audit hook of the
interpreter, and shown with the result.

The hook hears what Python itself opens. A library that opens files on its own in C++ or Rust says
nothing: its import is recorded in place of its files (`SILENT`). The import of modules, caches of
compiled code and the interpreter's own files are left out.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import sysconfig
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FILE_EVENTS = (
    "open",
    "os.listdir",
    "os.scandir",
    "sqlite3.connect",
    "shutil.copyfile",
    "mmap.__new__",
)
CONNECTION_EVENTS = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
PROCESS_EVENTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "ctypes.dlopen",
    "_thread.start_new_thread",
)
KIND = (
    dict.fromkeys(FILE_EVENTS, "file")
    | dict.fromkeys(CONNECTION_EVENTS, "connection")
    | dict.fromkeys(PROCESS_EVENTS, "program")
)
KIND |= {"ctypes.dlopen": "library", "_thread.start_new_thread": "thread"}
# they open files without a word
SILENT = ("pyarrow", "polars", "duckdb", "h5py", "tables", "fastparquet", "lance", "connectorx")
IMPORTING = (
    "<frozen importlib._bootstrap_external>",
    "<frozen importlib._bootstrap>",
    "<frozen zipimport>",
)
TAG = "own_code_reads"
LONGEST = 200  # characters of what was read
MOST = 100  # different ones that are kept


@dataclass
class _State:
    """Hold the state of the recording in this process. `by_code` has what each file of own code
    has read so far: it may read once and remember.
    """

    code: str = ""  # the file whose code computes now
    deaf: int = 0
    # threads that ran before: what they do is not the strategy's doing
    others: frozenset[int] = frozenset()
    collectors: list[set[str]] = field(default_factory=list)
    by_code: dict[str, set[str]] = field(default_factory=dict)


_state = _State()


@contextmanager
def recording() -> Iterator[set[str]]:
    """Yield a set that receives what own code reads inside, such as `file /home/me/prices.csv`."""
    reads: set[str] = set()
    _state.collectors.append(reads)
    try:
        yield reads
    finally:
        _state.collectors = [other for other in _state.collectors if other is not reads]


@contextmanager
def observed(code: Path) -> Iterator[None]:
    """Record what the own code in the file `code` reads, also in every later computation of the
    same file.
    """
    _install()
    before = _state.code, _state.others
    me = threading.get_ident()
    _state.code = str(code)
    _state.others = frozenset(
        thread.ident for thread in threading.enumerate() if thread.ident not in (None, me)
    )
    reads = _state.by_code.setdefault(_state.code, set())
    try:
        yield
    finally:
        _state.code, _state.others = before
        for collector in _state.collectors:
            collector.update(reads)


@contextmanager
def unobserved() -> Iterator[None]:
    """Stop the recording for what mcl itself reads for a strategy, such as finer bars, which are
    cut.
    """
    _state.deaf += 1
    try:
        yield
    finally:
        _state.deaf -= 1


def begin(code: Path) -> None:
    """Forget what an earlier version of the file `code` has read, and look at its imports."""
    _state.by_code[str(code)] = {
        f"library {name}, which opens files without a word" for name in _silent(code)
    }


def tags(reads: Collection[str]) -> dict[str, str]:
    """The tag of a run; none where nothing was read."""
    return {TAG: sentence(reads)[:1000]} if reads else {}


def files(reads: Collection[str]) -> dict[str, bytes]:
    """The artifact of a run with all of it; none where nothing was read."""
    return {"reads.json": json.dumps(sorted(reads), indent=1).encode()} if reads else {}


def sentence(reads: Collection[str]) -> str:
    """Return the warning of a run; empty when nothing was read."""
    if not reads:
        return ""
    examples = "; ".join(sorted(reads)[:5]) + (
        f"; and {len(reads) - 5} more" if len(reads) > 5 else ""
    )
    return (
        f"OWN CODE READS MORE THAN ITS BARS: {examples}. No check can tell whether that was known"
        " at the time"
    )


@cache
def _install() -> None:
    """Install the audit hook once for the life of the process: it cannot be removed. It does
    nothing while no own code computes.
    """
    _own_places()
    sys.addaudithook(_audit_hook)


def _audit_hook(event: str, args: tuple[Any, ...]) -> None:
    if (
        not _state.code
        or event not in KIND
        or _state.deaf
        or threading.get_ident() in _state.others
    ):
        return
    what = _target(event, args)
    reads = _state.by_code[_state.code]
    if what and len(reads) < MOST and not _of_the_interpreter(event, what):
        reads.add(f"{KIND[event]} {what}"[:LONGEST])


def _target(event: str, args: tuple[Any, ...]) -> str:
    if event in ("_thread.start_new_thread", "os.fork", "mmap.__new__"):
        return "" if event == "mmap.__new__" else event
    first = args[1] if event == "socket.connect" else args[0] if args else ""
    if isinstance(first, bytes):
        first = os.fsdecode(first)
    if isinstance(first, int):  # a descriptor: the file behind it was opened before
        return ""
    if KIND[event] == "file":
        return "" if first is None else os.path.abspath(os.fspath(first))  # noqa: PTH100 - a hook may not import
    return str(first)


def _of_the_interpreter(event: str, what: str) -> bool:
    """Whether Python itself, or a cache of compiled code, reads it."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith("<frozen os"):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is not None and frame.f_code.co_filename in IMPORTING:
        return True
    return KIND[event] == "file" and (what == _state.code or what.startswith(_own_places()))


@cache
def _own_places() -> tuple[str, ...]:
    """Folders of the interpreter, its packages, compiled code, time zones and devices."""
    from mcl.base.jit import cache_folder

    paths = set(sysconfig.get_paths().values()) | {
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).resolve().parents[1]),
    }
    names = {str(Path(path).resolve()) for path in paths} | paths
    folders = (f"{path}{os.sep}" for path in sorted(names) if path not in ("/", ""))
    return (
        *folders,
        str(cache_folder().parent),
        "/proc/",
        "/sys/",
        "/dev/",
        "/usr/share/zoneinfo",
        "/etc/localtime",
    )


def _silent(code: Path) -> list[str]:
    """The libraries of SILENT that a source file imports, at its top or inside a function."""
    try:
        tree = ast.parse(code.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return sorted({name.partition(".")[0] for name in names} & set(SILENT))
