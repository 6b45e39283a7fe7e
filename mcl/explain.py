"""Where a value came from: the file and line, the override that was typed, the search that chose it, or the promotion that froze it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl import config, runs
from mcl.errors import ConfigError, StoreError, nearest
from mcl.promote.deploy import promoted
from mcl.promote.place import path_of
from mcl.tracking import Store, StoredRun


@dataclass(frozen=True)
class Explained:
    """`chain` leads from the value to its origin, one clause per step."""

    key: str
    value: Any
    chain: tuple[str, ...]

    @property
    def source(self) -> str:
        """override, search, promoted, file, or default."""
        last = self.chain[-1].split()[0]
        return last if last in ("override", "search", "default") else "file"


def explain(key: str, overrides: list[str]) -> Explained:
    """A value of the configuration that `mcl backtest OVERRIDES` would run."""
    composed = config.compose("backtest", overrides)
    flat = config.flatten(composed.config.model_dump(mode="json"))
    return Explained(key, _value(key, flat), (_origin(overrides, key, composed.raw["strategy"]["name"]),))


def explain_stored(key: str, run_id_or_name: str, store: Store, root: Path) -> Explained:
    """A value of a tracked run, or of what is promoted under a name."""
    if path_of(run_id_or_name, root).is_file():
        deployed = promoted(run_id_or_name, store, root)
        value = _value(key, config.flatten(deployed.config.model_dump(mode="json")))
        first = f"promoted as {deployed.alias}, version {deployed.version}, on {deployed.provenance['at']} by {deployed.provenance['by']}"
        try:
            inner = _of_run(key, store.run(deployed.run_id), store)
        except StoreError as error:
            return Explained(key, value, (first, f"file of run {deployed.run_id}, which is gone: {error.message}"))
        return Explained(key, value, (first, *inner.chain))
    return _of_run(key, store.run(run_id_or_name), store)


def _of_run(key: str, stored: StoredRun, store: Store) -> Explained:
    raw = runs.stored_config(stored).model_dump(mode="json")
    value = _value(key, config.flatten(raw))
    first = f"run {stored.run_id[:12]} of study {stored.study}"
    parent = store.run(stored.parent) if stored.parent else None
    if parent is not None and key in _searched(parent):
        return Explained(key, value, (first, f"search {parent.run_id[:12]} chose it from {_searched(parent)[key]}"))
    overrides = _typed(stored, parent)
    try:
        found = explain(key, overrides)
    except ConfigError as error:
        return Explained(key, value, (first, f"file that no longer composes: {error.message}"))
    changed = "" if found.value == value else f", which today says {found.value!r}"
    return Explained(key, value, (first, found.chain[-1] + changed))


def _typed(stored: StoredRun, parent: StoredRun | None) -> list[str]:
    for run in (stored, parent):
        if run is not None and (run.artifacts / "overrides.json").is_file():
            found: list[str] = json.loads(run.file("overrides.json"))["overrides"]
            return [o for o in found if not o.lstrip("+").startswith("search.")]
    return []


def _searched(parent: StoredRun) -> dict[str, Any]:
    if not (parent.artifacts / "search.json").is_file():
        return {}
    return config.flatten(json.loads(parent.file("search.json"))["search"].get("space", {}))


def _origin(overrides: list[str], key: str, strategy: str) -> str:
    place = config.chosen_in("backtest", overrides, key)
    if not place:
        return f"default of strategy {strategy}" if key.startswith("strategy.") else "default in mcl/schema.py"
    return place if place.startswith("override") else f"file {place}"


def _value(key: str, flat: dict[str, Any]) -> Any:
    below = {name: value for name, value in flat.items() if name == key or name.startswith(f"{key}.")}
    if not below:
        raise ConfigError(f"unknown key {key}: {nearest(key, flat)}", "mcl backtest --cfg shows every key")
    return below.get(key, below)
