"""The origin of a value: the file and line, the override that was typed, the search that chose
it, or the promotion that froze it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mcl import composition
from mcl.base.errors import ConfigError, StoreError
from mcl.composition import origins
from mcl.config import promotion_rules, schema
from mcl.promotion.promoted_file import path_of
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredRun

# section -> the verb that composes it, and its model
OWNERS: dict[str, tuple[composition.Verb, type[BaseModel]]] = {
    "search": ("sweep", schema.Search),
    "promotion": ("promote", promotion_rules.Promotion),
    "validate": ("validate", schema.Validation),
    "alerts": ("live", schema.Alerts),
    "telemetry": ("live", schema.Telemetry),
}


@dataclass(frozen=True)
class Explained:
    """`chain` leads from the value to its origin, one clause per step."""

    key: str
    value: Any
    chain: tuple[str, ...]

    kinds: frozenset[str] = frozenset()  # of its values, where it is a section

    @property
    def source(self) -> str:
        """override, search, file, default, unknown, or several for a section whose values have
        different ones.
        """
        if len(self.kinds) > 1:
            return "several"
        last = next(iter(self.kinds), self.chain[-1].split()[0].rstrip(":"))
        return last if last in ("override", "search", "default", "unknown") else "file"


def explain(key: str, overrides: list[str]) -> Explained:
    """A value of the configuration that `mcl VERB OVERRIDES` would run, where VERB is the one that
    has the key. Of a section each of its values has its own place. Of a configuration that is
    invalid the chain says so first.
    """
    verb, model = _owner(key)
    composed = composition.compose(verb, overrides)
    flat, fault = _flat(verb, composed, model, key)
    value = _value(key, flat, verb, overrides)
    leaves = value if isinstance(value, dict) and key not in flat else {key: value}
    assignments = origins.sources(verb, overrides)
    places = {leaf: _origin(leaf, *assignments, composed.raw, model) for leaf in leaves}
    clauses = (
        [f"{leaf} = {leaves[leaf]!r}: {place}" for leaf, place in places.items()]
        if len(places) > 1
        else list(places.values())
    )
    return Explained(
        key,
        value,
        (*([f"invalid: {fault}"] if fault else []), *clauses),
        frozenset(map(_kind, places.values())),
    )


def _owner(key: str) -> tuple[composition.Verb, type[BaseModel]]:
    """The verb whose configuration has the key, and the model of its section."""
    section = key.split(".", maxsplit=1)[0]
    return OWNERS.get(section, ("backtest", schema.Config))


def _flat(
    verb: composition.Verb, composed: composition.Composed, model: type[BaseModel], key: str
) -> tuple[dict[str, Any], str]:
    """Every value that a key may name, defaults of the code included, and why the configuration is
    invalid.
    """
    section = key.split(".", maxsplit=1)[0]
    raw = composed.raw
    try:
        if verb == "backtest":
            return composition.flatten(composed.config.model_dump(mode="json")), ""
        below = (
            {}
            if section not in raw
            else {
                section: composition.validate(model, raw[section], section).model_dump(mode="json")
            }
        )
        return composition.flatten(raw) | composition.flatten(below), ""
    except ConfigError as error:
        return composition.flatten(raw), error.message


def explain_stored(key: str, run_id_or_name: str, project: Project) -> Explained:
    """A value of a tracked run, or of what is promoted under a name."""
    if path_of(run_id_or_name, project.root).is_file():
        from mcl.promotion.load import promoted

        deployed = promoted(run_id_or_name, project)
        value = _value(key, composition.flatten(deployed.config.model_dump(mode="json")))
        first = (
            f"promoted as {deployed.alias}, version {deployed.version}, on"
            f" {deployed.provenance['at']} by {deployed.provenance['by']}"
        )
        try:
            inner = _of_run(key, project.store.run(deployed.run_id), project.store)
        except StoreError as error:
            return Explained(
                key,
                value,
                (first, f"file of run {deployed.run_id}, which is gone: {error.message}"),
            )
        return Explained(key, value, (first, *inner.chain))
    from mcl.validation.selection import pick

    picked = pick(project.store.run(run_id_or_name), project=project)
    explained = _of_run(key, project.store.run(picked.run_id), project.store)
    if not picked.why:
        return explained
    return Explained(key, explained.value, (picked.why, *explained.chain))


def _of_run(key: str, stored: StoredRun, store: Store) -> Explained:
    from mcl.tracking import backtest_run

    raw = backtest_run.stored_config(stored).model_dump(mode="json")
    value = _value(key, composition.flatten(raw))
    first = f"run {stored.run_id[:12]} of study {stored.study}"
    parent = store.run(stored.parent) if stored.parent else None
    if parent is not None and key in _searched(parent):
        return Explained(
            key,
            value,
            (first, f"search {parent.run_id[:12]} chose it from {_searched(parent)[key]}"),
        )
    overrides = _typed(stored, parent)
    try:
        today = explain(key, overrides)
    except ConfigError as error:
        return Explained(key, value, (first, f"file that no longer composes: {error.message}"))
    changed = "" if today.value == value else f", which today says {today.value!r}"
    return Explained(key, value, (first, today.chain[-1] + changed))


def _typed(stored: StoredRun, parent: StoredRun | None) -> list[str]:
    for run in (stored, parent):
        if run is not None and (run.artifacts / "overrides.json").is_file():
            overrides: list[str] = json.loads(run.file("overrides.json"))["overrides"]
            return [o for o in overrides if not o.lstrip("+").startswith("search.")]
    return []


def _searched(parent: StoredRun) -> dict[str, Any]:
    if not (parent.artifacts / "search.json").is_file():
        return {}
    return composition.flatten(json.loads(parent.file("search.json"))["search"].get("space", {}))


def _origin(
    key: str,
    files: list[origins.ConfigFile],
    typed: list[origins.Assignment],
    raw: dict[str, Any],
    model: type[BaseModel],
) -> str:
    """The last place that says the key, or which default holds."""
    for assignment in reversed(typed):
        if _assigns(assignment, key):
            return f"override {assignment.text}"
    for source in reversed(files):
        if place := _line(source, key):
            return f"file {place}" + (
                f", chosen by {source.chosen_by}" if source.chosen_by.startswith("override") else ""
            )
    return _default(key, raw, model)


def _assigns(assignment: origins.Assignment, key: str) -> bool:
    """`risk.limits={max_order: 3}` says risk.limits.max_order and not risk.limits.state."""
    if key == assignment.key:
        return True
    if not key.startswith(f"{assignment.key}."):
        return False
    node = assignment.value
    for part in key.removeprefix(f"{assignment.key}.").split("."):
        if not isinstance(node, Mapping) or part not in {str(name) for name in node}:
            return False
        node = {str(name): value for name, value in node.items()}[part]
    return True


def _line(source: origins.ConfigFile, key: str) -> str:
    """`conf/strategy/ema_cross.yaml:4` when the file says the key."""
    import yaml

    prefix = f"{source.package}." if source.package else ""
    if not source.file.is_file() or not key.startswith(prefix):
        return ""
    node: Any = yaml.compose(source.file.read_text(), Loader=yaml.SafeLoader)
    line = 0
    for part in key.removeprefix(prefix).split("."):
        entries = (
            {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        )
        if part not in entries:
            return ""
        line, node = entries[part][0].start_mark.line + 1, entries[part][1]
    path = _display_path(source.file)
    refers = isinstance(node, yaml.ScalarNode) and "${" in node.value
    return f"{path}:{line}" + (f", which says {node.value}" if refers else "")


def _display_path(file: Path) -> Path:
    """Below the project, or as it is."""
    return next(
        (
            file.relative_to(base)
            for base in (composition.root(), composition.conf_dir().parent)
            if file.is_relative_to(base)
        ),
        file,
    )


def _default(key: str, raw: dict[str, Any], model: type[BaseModel]) -> str:
    """Of the strategy, or of the field of a model; unknown where neither has one."""
    parts = key.split(".")
    if parts[0] == "strategy":
        return f"default of strategy {raw['strategy'].get('name', '')}"
    owner = origins.field_owner(
        model,
        raw if model is schema.Config else raw.get(parts[0]) or {},
        parts if model is schema.Config else parts[1:],
    )
    return (
        f"default of {owner}" if owner else "unknown: no file, no override and no default says it"
    )


def _kind(place: str) -> str:
    return place.split(maxsplit=1)[0].rstrip(":")


def _value(
    key: str,
    flat: dict[str, Any],
    verb: composition.Verb = "backtest",
    overrides: list[str] | None = None,
) -> Any:
    below = {
        name: value for name, value in flat.items() if name == key or name.startswith(f"{key}.")
    }
    if not below:
        raise ConfigError(*composition.unknown_key(key, verb, overrides or []))
    return below.get(key, below)
