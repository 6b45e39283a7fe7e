"""Where the project is, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mcl.errors import StoreError


def root() -> Path:
    """The project folder: $MCL_HOME, else the nearest folder from the working directory up with conf/backtest.yaml, else that directory."""
    if home := os.environ.get("MCL_HOME"):
        return Path(home).resolve()
    here = Path.cwd().resolve()
    return next((p for p in (here, *here.parents) if (p / "conf" / "backtest.yaml").is_file()), here)


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, sync, then rename: readers see the old file or the new one, never a part of it."""
    partial = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}", "free space or fix the permissions") from None
