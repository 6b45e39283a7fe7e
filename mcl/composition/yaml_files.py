"""The YAML files of a project as Hydra reads them: plain data, of the right shape, or one sentence
with file, line and cure.

Hydra itself takes a study without a package header, a key that is there twice and a setting of its
own that has no effect here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource

from mcl.base import files
from mcl.base.errors import ConfigError

HEADER = "# @package _global_"
STUDIES = "experiments/"
LONGEST_PART = 255  # bytes of one part of a path, as file systems have it
# the settings of Hydra that have an effect here
EFFECTS = ("launcher", "sweeper", "sweep", "mode", "searchpath")
OTHERWISE = {
    "run": "runs lie in the store: study=NAME files them, MCL_HOME chooses the project",
    "job": "a run is named by what it is: study=NAME files it, notes='…' describes it",
    "verbose": "mcl -v VERB says more",
    "job_logging": "mcl -v VERB says more, MCL_LOG=json writes the log as JSON lines",
    "hydra_logging": "mcl -v VERB says more, MCL_LOG=json writes the log as JSON lines",
    "output_subdir": "every run keeps its configuration in the store: mcl report RUN_ID",
}


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's files of a folder, each checked before Hydra sees it. It has the name of Hydra's own,
    whose place it takes.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        if len(config_path.encode(errors="surrogateescape")) <= LONGEST_PART * 4:
            name = self._normalize_file_name(config_path)
            path = Path(self.path, name)
            if path.is_file():
                _read.append(path)
                info = path.stat()
                check(path, info.st_mtime_ns, info.st_size, config_path.startswith(STUDIES))
        return super().load_config(config_path)

    def is_config(self, config_path: str) -> bool:
        return not _is_too_long(config_path) and super().is_config(config_path)

    def is_group(self, config_path: str) -> bool:
        return not _is_too_long(config_path) and super().is_group(config_path)


_read: list[Path] = []  # by the composition of the moment, in order


@contextmanager
def strict() -> Iterator[None]:
    """Let Hydra read files through `FileConfigSource`."""
    Plugins.instance()  # registers Hydra's own sources
    types = SourcesRegistry.instance().types
    before = types["file"]
    types["file"] = FileConfigSource
    _read.clear()
    try:
        yield
    finally:
        types["file"] = before


def place(text: str) -> str:
    """`FILE, line 3` of the last file read that holds `text`; empty where none does."""
    for path in _winning():
        lines = path.read_text(errors="replace").splitlines()
        line = next((number for number, written in enumerate(lines, 1) if text in written), 0)
        if line:
            return f"{path}, line {line}"
    return ""


def _winning() -> list[Path]:
    """The files read, those whose values win first: studies, then what lies in conf/ itself, then
    the choices of groups.
    """
    rank = {"experiments": 2, "conf": 1}
    newest = list(reversed(_read))
    return sorted(newest, key=lambda path: -rank.get(path.parent.name, 0))


def read_files() -> list[tuple[Path, int, int]]:
    """The files of the last composition: path, time of the last change in ns, size."""
    return [_state(path) for path in dict.fromkeys(_read)]


def unchanged(states: list[tuple[Path, int, int]]) -> bool:
    """Whether all these files are as they were."""
    return all(path.is_file() and _state(path) == (path, *rest) for path, *rest in states)


def _state(path: Path) -> tuple[Path, int, int]:
    info = path.stat()
    return path, info.st_mtime_ns, info.st_size


def last() -> Path | None:
    """The file that was read last."""
    return _read[-1] if _read else None


@functools.lru_cache(maxsize=512)
def check(path: Path, modified_ns: int, size: int, is_study: bool) -> None:
    """Refuse a file that is no plain mapping, or a study that would not do what it says."""
    del modified_ns, size  # an edited file is another one
    content = files.yaml_file(path)
    text = path.read_text(encoding="utf-8")
    if content is not None and not isinstance(content, dict):
        message = f"{path} holds {_kind(content)}, not key: value lines"
        raise ConfigError(message, "write one `key: value` on each line")
    _refuse_odd_key(path, text, content or {})
    _refuse_odd_defaults(path, text, (content or {}).get("defaults", []))
    if is_study:
        _refuse_unheaded(path, text)
        refuse_idle(hydra_settings(content or {}), str(path))


def hydra_settings(content: dict[str, Any]) -> list[str]:
    """The settings of Hydra that a file makes: `run.dir`, `job_logging`."""
    block = content.get("hydra")
    settings = [] if block is None else list(_dotted(block))
    for entry in content.get("defaults") or []:
        choice = next(iter(entry)) if isinstance(entry, dict) else entry
        match = re.match(r"(?:override +)?/?hydra/(\w+)", str(choice))
        settings += [match[1]] if match else []
    return settings


def refuse_idle(settings: list[str], where: str) -> None:
    """ConfigError for a setting of Hydra that has no effect in mcl."""
    for setting in settings:
        head = setting.split(".")[0].split("@")[0]
        if head not in EFFECTS:
            with_effect = ", ".join(f"hydra.{name}" for name in EFFECTS)
            cure = OTHERWISE.get(
                head, f"of Hydra's own settings these have an effect: {with_effect}"
            )
            raise ConfigError(
                f"{where}: hydra.{setting} has no effect in mcl", f"leave it out; {cure}"
            )


def _is_too_long(config_path: str) -> bool:
    return any(
        len(part.encode(errors="surrogateescape")) > LONGEST_PART - 5
        for part in config_path.split("/")
    )


def _kind(content: Any) -> str:
    return "a list" if isinstance(content, list) else f"the single value {str(content)[:40]!r}"


def _dotted(value: Any, prefix: str = "") -> Iterator[str]:
    if not isinstance(value, dict) or not value:
        yield prefix
        return
    for key, item in value.items():
        yield from _dotted(item, f"{prefix}.{key}" if prefix else str(key))


def _refuse_odd_key(path: Path, text: str, content: dict[Any, Any]) -> None:
    """ConfigError for a key that is no word: 1, null, a date."""
    for key, value in content.items():
        if not isinstance(key, str):
            written = str("null" if key is None else key)
            line = next(
                (number for number, row in enumerate(text.splitlines(), 1) if written in row), 1
            )
            raise ConfigError(
                f"{path}, line {line}: the key {written} is no word", "a key begins with a letter"
            )
        if isinstance(value, dict):
            _refuse_odd_key(path, text, value)


def _refuse_odd_defaults(path: Path, text: str, defaults: Any) -> None:
    if isinstance(defaults, list):
        return
    line = next(
        (number for number, row in enumerate(text.splitlines(), 1) if row.startswith("defaults")), 1
    )
    message = f"{path}, line {line}: defaults holds {defaults!r}, not a list"
    raise ConfigError(message[:300], "write one line for each: `  - override /strategy: donchian`")


def _refuse_unheaded(path: Path, text: str) -> None:
    """ConfigError for a study whose values would land below `experiments`, where nobody reads
    them.
    """
    package = ConfigSource._get_header_dict(text[:512]).get("package", "")
    if package == "_global_":
        return
    message = f"{path} says @package {package}" if package else f"{path} has no line {HEADER!r}"
    raise ConfigError(
        f"{message}, so that nothing in it would have an effect",
        f"make this its first line: {HEADER}",
    )


def line_of(key: str) -> str:
    """`FILE, line 3` of the last file read that says a dotted key; empty where none does."""
    import yaml

    parts = key.split(".")
    for path in _winning():
        document = yaml.compose(path.read_text(errors="replace"), yaml.CSafeLoader)
        for skipped in range(len(parts)):
            below = (
                path.parent.name == parts[skipped - 1]
                if skipped
                else path.parent.name in ("conf", "experiments")
            )
            line = _line(document, parts[skipped:]) if below else 0
            if line:
                return f"{path}, line {line}"
    return ""


def _line(node: Any, parts: list[str]) -> int:
    """The line of the key, or of the nearest section above it that is no mapping; 0 where the first
    part is not there.
    """
    line = 0
    for part in parts:
        entries = (
            {key.value: (key, value) for key, value in node.value}
            if getattr(node, "id", "") == "mapping"
            else {}
        )
        if part not in entries:
            return line if line and getattr(node, "id", "") != "mapping" else 0
        line, node = entries[part][0].start_mark.line + 1, entries[part][1]
    return line
