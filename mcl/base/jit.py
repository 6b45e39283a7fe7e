"""`njit` with one rule for all of mcl: compiled once, kept on disk, dropped when any compiled
source changes.

Numba notices a change of the file that defines a function, not of the functions it calls: after an
edit of `decide`, an old kernel would still decide the old way while live decides the new way.
So the cache folder is named after a hash of all modules that hold compiled functions, and a stale
kernel cannot be loaded.

Compiled code changes records by name: `record._replace(field=value)` works in it as in Python.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config
import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.core.imputils import impl_ret_borrowed, lower_builtin
from numba.core.typing.templates import (
    AttributeTemplate,
    bound_function,
    infer_getattr,
    signature,
)

F = TypeVar("F", bound=Callable[..., Any])
PACKAGE = Path(__file__).resolve().parents[1]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
SOURCES = ("base/jit.py", "risk", "engine", "strategy", "report/range_coding.py")


def fingerprint() -> str:
    """Hash of the sources that compiled code can come from, and of the numba that compiles them."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in SOURCES:
        path = PACKAGE / source
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):  # a model outside mcl has no report
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Return NUMBA_CACHE_DIR if set, else a folder of the package, else (an installation that is
    read-only) one of the user's cache.
    """
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(named) / fingerprint()
    cache_folder = PACKAGE / "__pycache__"
    home = (
        cache_folder
        if os.access(cache_folder if cache_folder.exists() else PACKAGE, os.W_OK)
        else Path.home() / ".cache" / "mcl"
    )
    return home / "numba" / fingerprint()


def announced(name: str) -> None:
    """Say once, on stderr, that the function `module.name` has to be compiled because the disk does
    not have it yet.
    """
    if not any(cache_folder().rglob(f"{name}-*.nbi")):
        message = (
            "compiling the engine (%s): once for this version of the code, 5 to 20 s; kept in %s"
        )
        logging.getLogger("mcl").warning(message, name, cache_folder())


def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MB of what was freed. A run leaves some 20 MB; to hand them back and
    get them again page by page for the next run costs as much as the simulation. Has no effect
    elsewhere, nor where the environment says otherwise.
    """
    _tune({M_TRIM_THRESHOLD: 256 << 20, M_MMAP_THRESHOLD: 32 << 20})


def return_freed_memory() -> None:
    """The opposite, for a process that lives for weeks: glibc's own thresholds, and one heap for
    all threads. Each thread has a heap of its own otherwise, and each of these keeps the most that
    its threads ever used at once.
    """
    _tune({M_TRIM_THRESHOLD: 128 << 10, M_MMAP_THRESHOLD: 128 << 10, M_ARENA_MAX: 1})


def _tune(values: dict[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    for name, value in values.items():
        mallopt(name, value)


keep_freed_memory()
numba.core.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]


@contextmanager
def own_cache(file: Path) -> Iterator[None]:
    """Cache what is compiled inside in a folder named after `file`'s content too: an edit
    recompiles that file and nothing else.
    """
    before = numba.core.config.CACHE_DIR  # type: ignore[attr-defined]
    own = Path(before) / "own" / hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    numba.core.config.CACHE_DIR = str(own)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        numba.core.config.CACHE_DIR = before  # type: ignore[attr-defined]


def njit(function: F) -> F:
    """Compile on first call, keep on disk. x / 0 is inf or NaN as in numpy; never fuses multiply
    and add: equal bits everywhere.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))


def inline(function: F) -> F:
    """`njit` for the small parts of a hot loop: always compiled into their callers."""
    return cast(F, numba.njit(cache=True, error_model="numpy", forceinline=True)(function))


def readonly(values: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """A contiguous read-only view (a copy only if it must be), so that one compiled version serves
    owned, shared and mapped memory.
    """
    view = np.ascontiguousarray(values, dtype=dtype).view()
    view.flags.writeable = False
    return view


class _RecordAttributes(AttributeTemplate):
    """Type `record._replace(**changes)` of a named tuple: what is not named stays."""

    @bound_function("record._replace")
    def resolve__replace(self, record: Any, args: Any, changes: dict[str, Any]) -> Any:
        if args or not changes.keys() <= set(record.fields):
            return None
        names = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
            for name in record.fields
        ]
        values = [changes.get(name, types.Omitted(None)) for name in record.fields]
        typed = signature(record, *values, recvr=record)
        return typed.replace(pysig=inspect.Signature(names))


for _kind in (types.NamedTuple, types.NamedUniTuple):
    infer_getattr(type(_kind.__name__, (_RecordAttributes,), {"key": _kind}))


@lower_builtin("record._replace", types.BaseNamedTuple, types.VarArg(types.Any))
def _lower_replace(context: Any, builder: Any, typed: Any, arguments: Any) -> Any:
    """Each value is cast to the type of its field, so that a record keeps its type in a loop."""
    record, *changes = arguments
    of, *kinds = typed.args
    values = [
        builder.extract_value(record, k)
        if isinstance(kind, types.Omitted)
        else context.cast(builder, value, kind, of[k])
        for k, (kind, value) in enumerate(zip(kinds, changes, strict=True))
    ]
    changed = context.make_tuple(builder, typed.return_type, values)
    return impl_ret_borrowed(context, builder, typed.return_type, changed)
