"""Check the axes of a search before it starts: type and range of each parameter, the constraints,
and one configuration at each end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mcl import composition, strategy
from mcl.base.errors import ConfigError
from mcl.composition import durations
from mcl.composition.validation import fault
from mcl.config import schema
from mcl.search.constraints import Rule
from mcl.search.space import Space, alternatives, overlay

MOST_CHOICES = 200  # of an axis that are judged one by one


def refuse_axes(space: Space, raw: Mapping[str, Any]) -> None:
    """ConfigError for an axis of which a value has the wrong type, or lies outside the parameter's
    range.
    """
    for key, axis in space.items():
        for home, value in itertools.product(_homes(raw, key), ends(axis)):
            reason = value_fault(home, key, value)
            if reason:
                raise ConfigError(
                    f"search.space.{key}: {key}={value!r} does not fit: {reason}",
                    _cure(home, key, axis),
                    key,
                )


def refuse_failing_points(space: Space, raw: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Build one configuration at each end of each axis. ConfigError where a user's own code fails
    there.

    `base` is a point of the space that builds. A point that only breaks a rule between parameters
    is pruned later.
    """
    for key, axis in space.items():
        for home, value in itertools.product(_homes(raw, key), ends(axis)):
            try:
                composition.run_config(overlay(home, {**_shared(base, home), key: value}))
            except ConfigError as error:
                if error.__cause__ is not None and not isinstance(error.__cause__, ValueError):
                    raise ConfigError(
                        f"search.space.{key}: at {key}={value!r} {error.message}", error.hint, key
                    ) from error


def _shared(base: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a point whose keys a configuration has."""
    if not alternatives(raw):
        return dict(base)
    flat = composition.flatten(dict(raw))
    return {key: value for key, value in base.items() if key in flat}


def _homes(raw: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The configurations that have a key. Of a group that is searched: that of each choice that has
    it.
    """
    group = key.split(".", maxsplit=1)[0]
    sections = alternatives(raw).get(group, {})
    if key == group or not sections:
        return [raw]
    having = raw.get("search", {}).get("conditions", {}).get(key, {}).get(group, list(sections))
    return [overlay(raw, {group: name}) for name in having]


def refuse_rules(rules: Sequence[Rule], raw: Mapping[str, Any]) -> None:
    """ConfigError for a rule between values that have no order."""
    flat = composition.flatten(dict(raw))
    for rule in rules:
        if rule.before_the_run and (sentence := rule.broken(flat)).endswith("have no order"):
            raise ConfigError(f"search.constraints: {sentence}", "compare numbers")


def ends(axis: BaseDistribution) -> list[Any]:
    """The lowest and the highest value of an axis; of choices every one."""
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices[:MOST_CHOICES])
    assert isinstance(axis, IntDistribution | FloatDistribution)  # noqa: S101 - the last kinds of `space.distribution`
    return list(dict.fromkeys((axis.low, axis.high)))


def value_fault(raw: Mapping[str, Any], key: str, value: Any) -> str:
    """The reason why a key cannot have a value, whatever the others have. Empty where it can."""
    try:
        candidate = durations.in_bars(overlay(raw, {key: value}))
    except ConfigError as error:
        return error.message
    if key.startswith("strategy."):
        return _parameter_fault(candidate["strategy"], key.split(".")[1:])
    return fault(
        schema.Config,
        {name: part for name, part in candidate.items() if name not in ("search", "promotion")},
        key,
    )


def _parameter_fault(section: Any, parts: list[str]) -> str:
    """The fault of a value in the innermost strategy that the key leads to."""
    name = section.get("name")
    if not isinstance(name, str):
        return ""
    inner, below = section, list(parts)
    for depth, part in enumerate(parts[:-1], 1):
        inner = inner.get(part) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            return _parameter_fault(inner, parts[depth:])
    first = below[0]
    if first not in strategy.parameters(name):
        return ""
    return strategy.parameter_fault(name, first, section[first])


def _cure(raw: Mapping[str, Any], key: str, axis: BaseDistribution) -> str:
    """The same axis in whole numbers where those fit, else what to do."""
    if not isinstance(axis, FloatDistribution):
        return f"narrow search.space.{key} to values that fit"
    low, high = math.ceil(axis.low), math.floor(axis.high)
    if low > high or any(value_fault(raw, key, value) for value in (low, high)):
        return f"narrow search.space.{key} to values that fit"
    if axis.step is not None:
        return f"{key} is a whole number: range({low}, {high + 1}, {max(1, round(axis.step))})"
    whole = f"int(interval({low}, {high}))"
    return f"{key} is a whole number: {f'tag(log, {whole})' if axis.log else whole}"
