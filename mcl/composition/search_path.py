"""Hydra's search path: conf/, the studies next to it, and a folder that --config-dir names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mcl.base import files
from mcl.base.errors import ConfigError


@cache
def register() -> None:
    """experiments/ lies next to conf/: its parent joins Hydra's search path, so that
    `experiment=NAME` finds the study file, whatever else hydra.searchpath says.
    """
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class Studies(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            if _config_dirs:
                search_path.prepend("command-line", f"file://{_config_dirs[-1]}")
            search_path.append("experiments", f"file://{files.root()}")

    Plugins.instance().register(Studies)


_config_dirs: list[Path] = []  # of --config-dir


def command_line() -> tuple[Path, ...]:
    """The folders that --config-dir names."""
    return tuple(_config_dirs)


@contextmanager
def config_dir(folder: str | None) -> Iterator[None]:
    """Hydra's --config-dir: a folder whose choices come before those of conf/, until the end of the
    block.
    """
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(
            f"--config-dir={folder}: there is no such folder",
            "name a folder with groups like those of conf/",
        )
    _config_dirs.extend([Path(folder).resolve()] if folder else [])
    try:
        yield
    finally:
        _config_dirs.clear()
