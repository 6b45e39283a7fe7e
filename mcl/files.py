"""Where the project is, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from mcl.errors import ConfigError, StoreError

MOST_NODES = 100_000  # values of one YAML document, every use of an alias counted
LARGEST_YAML = 4_000_000  # characters


def root() -> Path:
    """The project folder: $MCL_HOME, else the nearest folder from the working directory up with conf/backtest.yaml, else that directory."""
    if home := os.environ.get("MCL_HOME"):
        return Path(home).resolve()
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:
        raise ConfigError("the folder that this shell stands in is no more", "cd to your project") from None
    return next((p for p in (here, *here.parents) if (p / "conf" / "backtest.yaml").is_file()), here)


def kept(name: str) -> Path | None:
    """A file of the project's cache, which anybody may delete; None outside a project."""
    home = root()
    return home / ".cache" / name if (home / "conf" / "backtest.yaml").is_file() else None


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


def plain_yaml(text: str, name: str) -> Any:
    """`text` as data. ConfigError names `name` when it is no YAML, carries tags that would make objects, or is a bomb: aliases of aliases
    that are small on disk and do not fit into memory once they are written out."""
    import yaml

    try:
        if len(text) > LARGEST_YAML or (node := yaml.compose(text, yaml.CSafeLoader)) is None or _size(node, {}) > MOST_NODES:
            if not text.strip():
                return None
            raise ConfigError(f"{name} stands for more than {MOST_NODES:,} values: it is no configuration", "write it without aliases")
        return yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())[:300]}") from None


def _size(node: Any, known: dict[int, int]) -> int:
    """Nodes of a document once its aliases are written out; one that contains itself has too many."""
    if id(node) not in known:
        known[id(node)] = MOST_NODES + 1  # until it is counted: then it contains itself
        below = node.value if isinstance(node.value, list) else []
        parts = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
