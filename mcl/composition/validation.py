"""A raw configuration as a model, or the one sentence about what is wrong in it."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mcl.base.errors import ConfigError, in_words, nearest

Model = TypeVar("Model", bound=BaseModel)
LONGEST_VALUE = 200  # characters of a value that an error shows


def validate(model: type[Model], raw: Any, at: str = "") -> Model:
    """`raw` as `model`, or a ConfigError that names the first broken key, its value, the rule and
    the nearest valid name.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        verb = "sweep" if at == "search" else "backtest"
        message, key = _sentence(model, error.errors()[0], at)
        raise ConfigError(
            message, f"mcl {verb} --cfg shows the composed configuration", key
        ) from None
    # of a rule that met what it did not expect
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ConfigError(
            f"{at or 'the configuration'}: {in_words(error)}", "correct the value"
        ) from error


def fault(model: type[BaseModel], raw: Any, key: str) -> str:
    """Return the fault of the value at a dotted key by itself, not in its relation to others; empty
    where there is none.
    """
    try:
        model.model_validate(raw)
    except ValidationError as error:
        for detail in error.errors():
            message, at = _sentence(model, detail, "")
            if at == key or at.startswith(f"{key}."):
                return message.partition(": ")[2] or message
    return ""


def _sentence(model: type[BaseModel], error: Any, at: str) -> tuple[str, str]:
    """The sentence of one error, and the key that it is about."""
    loc = [str(part) for part in error["loc"]]
    choices, path = _walk(model, loc)
    key = ".".join(([at] if at else []) + path) or at
    label = key or "the configuration"
    if error["type"] == "extra_forbidden":
        return f"unknown key {label}: {nearest(path[-1], choices)}", key
    if error["type"] == "missing":
        return f"{label} is missing and has no default", key
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["discriminator"].strip("'")
        return (
            f"{label}.{tag}={error['ctx']['tag']!r} is not one of {error['ctx']['expected_tags']}",
            f"{key}.{tag}",
        )
    rule = error["msg"].removeprefix("Value error, ")
    rule = (
        rule[0].lower() + rule[1:]
        if error["type"] != "string_pattern_mismatch"
        else f"must match {error['ctx']['pattern']}"
    )
    value = repr(error["input"])
    value = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"
    return (
        f"{label}={value}: {rule}" if not isinstance(error["input"], dict) else f"{label}: {rule}"
    ), key


def _walk(model: Any, loc: list[str]) -> tuple[list[str], list[str]]:
    """Field names valid at the last element of `loc`, and `loc` without the tags that a
    discriminated union puts in.
    """
    fields: dict[str, Any] = model.model_fields
    path: list[str] = []
    for part in loc:
        members = [m for m in _models(model) if part in tags(m)]
        if part not in fields and members:
            model, fields = members[0], members[0].model_fields
            continue
        if "[" in part:  # pydantic's name for a member of a union
            continue
        path.append(part)
        if part in fields:
            names = list(fields)
            model = fields[part].annotation
            first = next(iter(_models(model)), None)
            fields = first.model_fields if first else {}
            if part == loc[-1]:
                return names, path
    return list(fields), path


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    return [m for arg in get_args(annotation) for m in _models(arg)]


def tags(model: type[BaseModel]) -> set[str]:
    """The literal values by which a discriminated union knows `model`."""
    return {
        str(v)
        for name in ("source", "method")
        if name in model.model_fields
        for v in get_args(model.model_fields[name].annotation)
    }
