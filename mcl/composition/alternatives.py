"""The choices of a group that a search varies (`strategy=ema_cross,tsmom`): one composed section
for each of them.

A parameter that only some of the choices have is an axis that exists for those alone. A choice may
change its own section and the axes that come with it, and nothing else: so the choices of two
groups are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcl import strategy
from mcl.base.differences import differences, flatten
from mcl.base.errors import ConfigError
from mcl.composition.run_config import Composed

GROUPS = ("strategy", "risk", "costs", "execution")
Compose = Callable[[list[str]], Composed]
Choices = dict[str, list[str]]


def split(overrides: Sequence[str], parsed: Sequence[Any]) -> tuple[Choices, list[str]]:
    """The choices of each group that is swept, and the other overrides."""
    choices: Choices = {}
    rest = []
    for text, override in zip(overrides, parsed, strict=True):
        if override.key_or_group in GROUPS and override.is_choice_sweep() and not override.package:
            choices[override.key_or_group] = list(dict.fromkeys(override.sweep_string_iterator()))
        else:
            rest.append(text)
    return choices, rest


def composed(choices: Choices, rest: Sequence[str], compose: Compose) -> Composed:
    """Return the configuration of the first choices, with `search.alternatives`, the axes of all
    choices and their conditions.
    """
    first = {group: names[0] for group, names in choices.items()}
    apart = [text for text in rest if not any(_below(text, group) for group in choices)]
    bare = {
        (group, name): compose([*_typed(first | {group: name}), *apart]).raw
        for group, names in choices.items()
        for name in names
    }
    keys_of_choice = {
        (group, name): set(keys_below(raw, group)) for (group, name), raw in bare.items()
    }

    def whole(chosen: Mapping[str, str]) -> Composed:
        """The configuration of some choices, without overrides that only another choice has."""
        applicable = [
            text
            for text in rest
            if all(
                _stays(text, group, chosen[group], choices[group], keys_of_choice)
                for group in choices
            )
        ]
        return compose([*_typed(chosen), *applicable])

    under = whole(first)
    base = under.raw
    parts = {
        group: {name: whole(first | {group: name}).raw for name in names}
        for group, names in choices.items()
    }
    for group, raws in parts.items():
        for name, raw in raws.items():
            _refuse_other_changes(group, name, base, raw)
    axes, conditions = _axes(parts, base)
    sections = {
        group: {name: raw[group] for name, raw in raws.items()} for group, raws in parts.items()
    }
    search = base["search"]
    conditions = {
        key: condition | conditions.get(key, {})
        for key, condition in (conditions | dict(search.get("conditions") or {})).items()
    }
    return replace(
        under,
        raw=base
        | {"search": search | {"space": axes, "conditions": conditions, "alternatives": sections}},
    )


def keys_below(raw: Mapping[str, Any], group: str) -> list[str]:
    """The dotted keys below a group of a configuration, sections included."""
    leaves = list(flatten({group: raw[group]}))
    name = raw[group].get("name") if group == "strategy" else None
    leaves += [
        f"strategy.{key}" for key in (strategy.parameters(name) if isinstance(name, str) else ())
    ]
    return [key.rsplit(".", depth)[0] for key in leaves for depth in range(key.count("."))]


def is_of(text: str, sections: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an override can be typed together with these choices."""
    group = key_of(text).split(".")[0]
    if group not in sections or key_of(text) == group:
        return True
    return _has(keys_below(sections, group), key_of(text))


def _has(own: Iterable[str], key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in own)


def _typed(chosen: Mapping[str, str]) -> list[str]:
    return [f"{group}={name}" for group, name in chosen.items()]


def key_of(text: str) -> str:
    """The key that an override gives a value, or an axis."""
    return text.split("=", maxsplit=1)[0].lstrip("+~").removeprefix("search.space.")


def _below(text: str, group: str) -> bool:
    return key_of(text).startswith(f"{group}.")


def _stays(
    text: str,
    group: str,
    name: str,
    names: Sequence[str],
    keys_of_choice: Mapping[tuple[str, str], set[str]],
) -> bool:
    """Whether an override belongs to a choice: to all of them, or to none and is refused."""
    if not _below(text, group):
        return True
    key = key_of(text)
    has = {other: _has(keys_of_choice[group, other], key) for other in names}
    return has[name] or not any(has.values())


def _refuse_other_changes(
    group: str, name: str, base: Mapping[str, Any], raw: Mapping[str, Any]
) -> None:
    """ConfigError where a choice changes something outside its own section."""

    def others(tree: Mapping[str, Any]) -> dict[str, Any]:
        search = {key: value for key, value in tree["search"].items() if key != "space"}
        return flatten(
            {key: value for key, value in tree.items() if key not in (group, "search")}
            | {"search": search}
        )

    moved = differences(others(base), others(raw))
    if moved:
        message = f"{group}={name} also changes {min(moved)}, so a search cannot vary it"
        raise ConfigError(message, f"run the grid: mcl backtest -m {group}=A,B")


def _axes(
    parts: Mapping[str, Mapping[str, dict[str, Any]]], base: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The axes of all choices by dotted key, and the condition of each that only some choices
    have.
    """
    axes = {
        key: entry for key, entry in flatten(dict(base["search"]["space"] or {})).items() if key
    }
    conditions: dict[str, dict[str, list[str]]] = {}
    for group, raws in parts.items():
        entries = {name: flatten(dict(raw["search"]["space"] or {})) for name, raw in raws.items()}
        for key in dict.fromkeys(
            key for own in entries.values() for key in own if key.startswith(f"{group}.")
        ):
            expressions = {name: own[key] for name, own in entries.items() if key in own}
            first, *others = expressions
            for other in others:
                if expressions[other] != expressions[first]:
                    both = f"{expressions[first]} for {first} and {expressions[other]} for {other}"
                    raise ConfigError(
                        f"search.space.{key} is {both}",
                        f"type one range for both: '{key}={expressions[first]}'",
                    )
            axes[key] = expressions[first]
            if len(expressions) < len(raws):
                conditions[key] = {group: list(expressions)}
    return axes, conditions
