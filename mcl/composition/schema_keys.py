"""The keys that the models of a configuration have, whether or not a file of conf/ says them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from mcl import strategy
from mcl.config import promotion_rules, schema
from mcl.data import sources
from mcl.risk import sizes

RUN: Mapping[str, Any] = {
    name: field.annotation for name, field in schema.Config.model_fields.items()
} | {"data": sources.DATA, "risk": sizes.RISK}
SECTIONS: Mapping[str, Mapping[str, Any]] = {  # of each verb's configuration
    "backtest": RUN,
    "sweep": {**RUN, "search": schema.Search},
    "live": {"broker": schema.BrokerConfig, "alerts": schema.Alerts, "telemetry": schema.Telemetry},
    "promote": {"promotion": promotion_rules.Promotion},
    "validate": {"validate": schema.Validation},
}


def is_known(verb: str, key: str) -> bool:
    """Whether a model has the dotted key; below a free mapping every key is known."""
    first, *rest = key.split(".")
    if first not in SECTIONS[verb] or first == "strategy":
        return False
    return _has(SECTIONS[verb][first], rest)


def addable(
    verb: str, overrides: list[str], parsed: list[Any], options: Callable[[str], list[str]]
) -> list[str]:
    """The overrides; a key that a model has may be typed although no file of conf/ says it."""

    def is_addable(override: Any) -> bool:
        plain_value = not (
            override.is_add() or override.is_force_add() or override.is_delete() or override.package
        )
        key = str(override.key_or_group)
        is_value = "." in key or not options(key)
        return plain_value and is_value and is_known(verb, key)

    return [
        f"++{text}" if is_addable(override) else text
        for text, override in zip(overrides, parsed, strict=True)
    ]


def leaves(verb: str) -> Iterator[tuple[str, Any]]:
    """Every dotted key of a verb's models that is a value, with its type; those of every member of
    a union.
    """
    for name, annotation in SECTIONS[verb].items():
        if name != "strategy":
            yield from _leaves(name, annotation)


def is_parameter(name: Any, key: str) -> bool:
    """Whether `strategy.KEY` is a parameter of the strategy `name`, or lies below one."""
    first, *rest = key.split(".")
    return (
        first == "strategy"
        and bool(rest)
        and isinstance(name, str)
        and rest[0] in strategy.parameters(name)
    )


def models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type can be: of a union all of them, of anything else none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models(get_args(annotation)[0])
    if get_origin(annotation) in (tuple, list, dict):
        return []
    return [model for part in get_args(annotation) for model in models(part)]


def _has(annotation: Any, parts: Sequence[str]) -> bool:
    if not parts:
        return True
    if _is_free(annotation):
        return True
    first, *rest = parts
    fields = [
        model.model_fields[first].annotation
        for model in models(annotation)
        if first in model.model_fields
    ]
    return any(_has(field, rest) for field in fields)


def _is_free(annotation: Any) -> bool:
    """Whether it is a mapping with keys of anybody's choice."""
    if get_origin(annotation) is Annotated:
        return _is_free(get_args(annotation)[0])
    return get_origin(annotation) is dict


def _leaves(prefix: str, annotation: Any) -> Iterator[tuple[str, Any]]:
    members = models(annotation)
    if not members:
        yield prefix, annotation
        return
    keys = set()
    for model in members:
        for name, field in model.model_fields.items():
            for key, kind in _leaves(f"{prefix}.{name}", field.annotation):
                if key not in keys:
                    keys.add(key)
                    yield key, kind
