"""Parse the search space: config keys and Hydra sweep expressions in, Optuna distributions out.

strategy:
  fast: range(10, 481, 10)            # 10, 20 … 480: the stop is exclusive, as in Hydra
  smooth: interval(0.1, 0.9)          # any float. int(interval(1, 9)): any integer, ends included
  decay: tag(log, interval(1e-4, 1))  # logarithmic
  side: choice(long, short, both)     # unordered. `long, short` and a YAML list mean the same
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mcl import composition
from mcl.base.errors import ConfigError, nearest
from mcl.composition import alternatives as alternative

Space = dict[str, BaseDistribution]
GRAMMAR = (
    "write range(start, stop, step), interval(low, high), choice(a, b) or tag(log, interval(low,"
    " high))"
)
GROUPS = alternative.GROUPS
# the last is the fence
NEVER_SEARCHED = ("strategy.name", "data.source", "risk.size.method", "data.holdout_start")


def parse(entries: Mapping[str, Any], raw: Mapping[str, Any]) -> Space:
    """Distributions by dotted config key, in the order of the config; ConfigError on an unknown key
    or an unusable expression.

    `entries` may be nested or flat; `raw` is the composed configuration whose values the space
    varies.
    """
    flat = {
        key: entry
        for key, entry in composition.flatten(dict(entries)).items()
        if entry not in (None, {})
    }
    choices: Space = {
        group: CategoricalDistribution(list(sections))
        for group, sections in alternatives(raw).items()
    }
    if not flat and not choices:
        name = raw.get("strategy", {}).get("name")
        raise ConfigError(
            f"the search space is empty: conf/space/ names no parameter of strategy {name!r} beyond"
            " those that were typed",
            "add an axis on the command line: 'strategy.PARAMETER=range(10, 100, 10)'",
        )
    allowed = searchable(raw)
    for key in flat:
        if key in NEVER_SEARCHED:
            fence = key == "data.holdout_start"
            reason = (
                "is the fence before the hold-out"
                if fence
                else "decides which other keys there are"
            )
            group = ".".join(key.split(".")[:-1]).removesuffix(".size")
            grid = f"run a grid over its choices: mcl backtest -m {group}=A,B"
            raise ConfigError(
                f"search.space.{key} {reason}: no search may vary it",
                "leave it as it is" if fence else grid,
            )
        if key not in allowed:
            raise ConfigError(
                f"search.space.{key} is not a key that a search may vary: {nearest(key, allowed)}",
                "mcl sweep --cfg shows every key",
            )
    for key in flat:
        if inner := next((other for other in flat if other.startswith(f"{key}.")), ""):
            raise ConfigError(
                f"search.space.{key} holds {inner}, which is searched by itself",
                "leave one of the two out",
            )
    return choices | {key: distribution(key, entry) for key, entry in flat.items()}


def alternatives(raw: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The sections between which a search chooses, by group and name of the choice."""
    sections_by_group: dict[str, dict[str, dict[str, Any]]] = (raw.get("search") or {}).get(
        "alternatives"
    ) or {}
    for group, sections in sections_by_group.items():
        if group not in GROUPS or group not in raw or not sections:
            raise ConfigError(
                f"search.alternatives.{group} is no group that a search varies",
                f"type the choice: {GROUPS[0]}=A,B",
            )
    return sections_by_group


def strategies(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The section of the strategy, with those of the other strategies that the search may
    choose.
    """
    return dict(raw["strategy"]) | alternatives(raw).get("strategy", {})


def keys(raw: Mapping[str, Any]) -> list[str]:
    """The dotted keys that decide a result, of every choice of the search."""
    deciding = {group: raw[group] for group in composition.DECIDES if group in raw}
    others = [
        {group: section}
        for group, sections in alternatives(raw).items()
        for section in sections.values()
    ]
    return list(
        dict.fromkeys(key for tree in (deciding, *others) for key in composition.flatten(tree))
    )


def searchable(raw: Mapping[str, Any]) -> list[str]:
    """Keys whose value a search may vary. A name that decides which other keys exist is varied as
    the choice of its group.
    """
    leaves = [key for key in keys(raw) if key not in NEVER_SEARCHED]
    sections = dict.fromkeys(
        key.rsplit(".", depth)[0] for key in leaves for depth in range(1, key.count("."))
    )
    return [*leaves, *sections]


def distribution(key: str, entry: Any) -> BaseDistribution:
    """One entry as a distribution: an expression in Hydra's sweep grammar, a list of choices, or a
    single value.
    """
    if isinstance(entry, list):
        return _choice(key, entry)
    sweep = composition.space_values(entry) if isinstance(entry, str) else entry
    kind = type(sweep).__name__
    if kind == "RangeSweep":
        return _range(key, entry, sweep)
    if kind == "IntervalSweep":
        return _interval(key, entry, sweep)
    if kind == "ChoiceSweep":
        return _choice(key, sweep.list)
    if kind == "Glob" or isinstance(sweep, str | dict) or sweep is None:
        raise ConfigError(f"search.space.{key}={entry!r} is no search expression", GRAMMAR)
    return _choice(key, [sweep])


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Every point of the space, the last key fastest. A continuous interval has no grid."""
    axes = [points(key, axis) for key, axis in space.items()]
    for values in itertools.product(*axes):
        yield dict(zip(space, values, strict=True))


def conditional(
    space: Space, conditions: Mapping[str, Mapping[str, list[Any]]]
) -> Iterator[dict[str, Any]]:
    """The same without the axes that do not exist at a point, each point once."""
    axes = {key: points(key, axis) for key, axis in ordered(space, conditions).items()}

    def below(point: dict[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
        if not names:
            yield {key: point[key] for key in space if key in point}
            return
        first, *rest = names
        if not existing(first, point, conditions):
            yield from below(point, rest)
            return
        for value in axes[first]:
            yield from below(point | {first: value}, rest)

    yield from below({}, list(axes))


def count(key: str, axis: BaseDistribution) -> int:
    """Count the points of an axis without making them."""
    if isinstance(axis, CategoricalDistribution):
        return len(axis.choices)
    if isinstance(axis, IntDistribution):
        return (axis.high - axis.low) // axis.step + 1
    if isinstance(axis, FloatDistribution) and axis.step is not None:
        low, high, step = (Decimal(str(value)) for value in (axis.low, axis.high, axis.step))
        return int((high - low) / step) + 1
    return len(points(key, axis))  # a continuous interval, which is refused there


def points(key: str, axis: BaseDistribution) -> list[Any]:
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    if isinstance(axis, IntDistribution):
        return list(range(axis.low, axis.high + 1, axis.step))
    if isinstance(axis, FloatDistribution) and axis.step is not None:
        low, step = Decimal(str(axis.low)), Decimal(str(axis.step))
        return [
            float(low + i * step) for i in range(int((Decimal(str(axis.high)) - low) / step) + 1)
        ]
    raise ConfigError(
        f"search.space.{key} is a continuous interval, which has no grid",
        "use range(start, stop, step), or another search.sampler",
    )


def overlay(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with the values at the dotted keys; only the touched branches are copied. ConfigError
    on a key that is not there.
    """
    result, sections = dict(raw), alternatives(raw)
    for group in sections.keys() & values.keys():
        result[group] = _section(sections[group], group, values[group])
    for key, value in values.items():
        if key in sections:
            continue
        *path, leaf = key.split(".")
        node: dict[str, Any] = result
        for part in path:
            if not isinstance(node.get(part), dict):
                raise ConfigError(
                    f"unknown key {key}: {nearest(key, composition.flatten(dict(raw)))}"
                )
            node[part] = dict(node[part])
            node = node[part]
        if leaf not in node:
            raise ConfigError(f"unknown key {key}: {nearest(key, composition.flatten(dict(raw)))}")
        node[leaf] = decoded(value, node[leaf])
    return result


def _section(sections: Mapping[str, dict[str, Any]], group: str, name: Any) -> dict[str, Any]:
    if name not in sections:
        raise ConfigError(
            f"{group}={name} is no choice of the search: {nearest(str(name), sections)}"
        )
    return sections[name]


def check_conditions(conditions: Mapping[str, Mapping[str, list[Any]]], space: Space) -> None:
    """ConfigError where a condition names no axis, asks for a value that its axis has not, or
    conditions go in a circle.
    """
    for key, required in conditions.items():
        for name in (key, *required):
            if name not in space:
                raise ConfigError(
                    f"search.conditions names {name}, which is not searched: {nearest(name, space)}"
                )
        for name, values in required.items():
            axis = space[name]
            choices = (
                axis.choices if isinstance(axis, CategoricalDistribution) else points(name, axis)
            )
            if strange := [value for value in values if value not in choices]:
                raise ConfigError(
                    f"search.conditions.{key}: {name} never is {strange[0]!r}",
                    f"its values are {', '.join(map(str, choices[:10]))}",
                )
    ordered(space, conditions)


def ordered(space: Space, conditions: Mapping[str, Mapping[str, list[Any]]]) -> Space:
    """The axes with each one after those that its condition names; ConfigError on a circle."""
    waiting, axes = dict(space), dict[str, BaseDistribution]()
    while waiting:
        free = [key for key in waiting if all(name in axes for name in conditions.get(key, {}))]
        if not free:
            raise ConfigError(
                f"search.conditions go in a circle: {', '.join(waiting)}",
                "one of them must exist always",
            )
        axes |= {key: waiting.pop(key) for key in free}
    return axes


def existing(
    key: str, values: Mapping[str, Any], conditions: Mapping[str, Mapping[str, list[Any]]]
) -> bool:
    """Whether an axis exists at a point, by the values of the axes that its condition names."""
    return all(
        name in values and values[name] in allowed
        for name, allowed in conditions.get(key, {}).items()
    )


def present(
    values: Mapping[str, Any], space: Space, conditions: Mapping[str, Mapping[str, list[Any]]]
) -> dict[str, Any]:
    """The values of the axes that exist at a point; the order is that of the axes."""
    point: dict[str, Any] = {}
    for key in ordered(space, conditions):
        if key in values and existing(key, point, conditions):
            point[key] = values[key]
    return {key: point[key] for key in space if key in point}


def decoded(value: Any, base: Any) -> Any:
    """The value of a choice: a list or a mapping is JSON text in the space. `base` is the value
    that it replaces.
    """
    if not isinstance(value, str) or isinstance(base, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _choice(key: str, values: list[Any]) -> BaseDistribution:
    if not values:
        raise ConfigError(f"search.space.{key} holds no choice", GRAMMAR)
    return CategoricalDistribution(list(dict.fromkeys(map(encoded, values))))


def encoded(value: Any) -> bool | int | float | str | None:
    """A value as a choice that every store of studies can hold: a list or a mapping as JSON
    text.
    """
    value = _bare(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _bare(value: Any) -> Any:
    """Without the objects in which Hydra keeps quoted strings."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        return {str(_bare(key)): _bare(item) for key, item in value.items()}
    return value.text if hasattr(value, "text") else value


def _range(key: str, entry: Any, sweep: Any) -> BaseDistribution:
    if not all(v is None or math.isfinite(v) for v in (sweep.start, sweep.stop, sweep.step)):
        raise ConfigError(
            f"search.space.{key}={entry!r} is not finite",
            "write range(start, stop, step) with finite numbers",
        )
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise ConfigError(
            f"search.space.{key}={entry!r} holds no value",
            "write range(start, stop, step) with start < stop; the stop is exclusive",
        )
    low, high = sorted((start, start + (count - 1) * step))
    log = "log" in sweep.tags
    if log and (abs(step) != 1 or not _whole(sweep) or low < 1):
        raise ConfigError(
            f"search.space.{key}={entry!r}: a logarithmic range needs whole numbers from 1 and"
            " step 1",
            "use tag(log, interval(low, high))",
        )
    if _whole(sweep):
        return IntDistribution(int(low), int(high), log=log, step=abs(int(step)))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _interval(key: str, entry: Any, sweep: Any) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"search.space.{key}={entry!r} is not finite", GRAMMAR)
    if not low < high or (log and low <= 0):
        raise ConfigError(
            f"search.space.{key}={entry!r}: need low < high"
            + (" and low > 0 on a logarithmic scale" if log else ""),
            GRAMMAR,
        )
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _whole(sweep: Any) -> bool:
    return all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step))


def edges(point: Mapping[str, Any], space: Space) -> list[str]:
    """`strategy.fast=480 is the highest value searched`, for each numeric axis at whose end the
    point lies.
    """
    sentences = []
    for key, axis in space.items():
        if key not in point or isinstance(axis, CategoricalDistribution) or axis.low == axis.high:  # type: ignore[attr-defined]
            continue
        place = _place(axis, point[key])
        if place <= 0.01 or place >= 0.99:
            sentences.append(
                f"{key}={point[key]} is the {'lowest' if place <= 0.5 else 'highest'} value"
                " searched"
            )
    return sentences


def _place(axis: BaseDistribution, value: Any) -> float:
    """The value as a number between 0 and 1 on the axis' own scale; choices are all equally far
    apart only when there are two.
    """
    if isinstance(axis, CategoricalDistribution):
        return float(axis.choices.index(value))
    assert isinstance(axis, IntDistribution | FloatDistribution)  # noqa: S101 - the last kinds of `space.distribution`
    if axis.low == axis.high:
        return 0.0
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return float((value - axis.low) / (axis.high - axis.low))
