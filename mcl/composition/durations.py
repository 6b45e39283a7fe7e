"""Durations in a configuration: `12h` stands for the number of bars of `data.interval` that make
twelve hours, wherever a strategy, a risk or an execution counts bars.

A validated configuration holds the numbers alone, so what was promoted means the same for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, get_type_hints

from mcl import strategy
from mcl.base.differences import flatten
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.config.base_model import counts_bars
from mcl.market.intervals import DURATION, STEPS_SEC, UNITS_SEC, duration_bars, duration_sec
from mcl.risk import sizes

_INSIDE = re.compile(rf"(?<![\w.])(?:{DURATION.pattern})(?![\w.])")
SWEEPS = re.compile(r"\b(?:range|interval)\(")


def in_bars(raw: dict[str, Any]) -> dict[str, Any]:
    """`raw` with numbers of bars in place of durations. ConfigError for one that is shorter than a
    bar.
    """
    interval = _interval(raw)
    if not interval:
        return raw
    for key in bar_counts(raw):
        value = value_at(raw, key)
        if isinstance(value, str) and (seconds := duration_sec(value)):
            raw = _with(raw, key.split("."), _bars(key, value, seconds, interval))
    return raw


def search_in_bars(raw: dict[str, Any]) -> dict[str, Any]:
    """`raw` with numbers of bars in place of durations in its axes and its first trials, too. An
    end of a range is at least one bar.

    Where `data.interval` is searched, each trial converts its own values. A range has no numbers
    then: ConfigError.
    """
    search, interval = raw["search"], _interval(raw)
    keys = set(bar_counts(raw))
    if not interval or "data.interval" in flatten(search["space"]):
        _refuse_ranges(search["space"], keys)
        return raw
    axes = _axes_in_bars(search["space"], keys, interval)
    first = [_point(entry, keys, interval) for entry in search.get("enqueue") or ()]
    return in_bars(raw) | {"search": search | {"space": axes, "enqueue": first}}


def _point(entry: Any, keys: set[str], interval: str) -> Any:
    """One of the first trials, which may be a name."""
    if not isinstance(entry, dict):
        return entry
    values = entry.items()
    return {key: _choice(key, value, interval) if key in keys else value for key, value in values}


def _axes_in_bars(
    space: dict[str, Any], keys: set[str], interval: str, prefix: str = ""
) -> dict[str, Any]:
    axes = {}
    for name, entry in space.items():
        key = f"{prefix}{name}"
        if isinstance(entry, dict):
            axes[name] = _axes_in_bars(entry, keys, interval, f"{key}.")
        elif key in keys:
            axes[name] = _axis(key, entry, interval)
        else:
            axes[name] = entry
    return axes


def _axis(key: str, entry: Any, interval: str) -> Any:
    if isinstance(entry, list):
        return [_choice(key, value, interval) for value in entry]
    if not isinstance(entry, str) or not _INSIDE.search(entry):
        return entry
    bars = partial(_end if SWEEPS.search(entry) else _one_choice, key, interval)
    return _INSIDE.sub(bars, entry)


def _end(_key: str, interval: str, match: re.Match[str]) -> str:
    """An end of a range. It is rounded up: the stop is exclusive."""
    step = STEPS_SEC[interval] or UNITS_SEC["d"]
    return str(max(1, -(-duration_sec(match[0]) // step)))


def _one_choice(key: str, interval: str, match: re.Match[str]) -> str:
    return str(_choice(key, match[0], interval))


def _refuse_ranges(space: Mapping[str, Any], keys: set[str]) -> None:
    for key, entry in flatten(dict(space)).items():
        if key in keys and isinstance(entry, str) and has_sweep(entry):
            raise ConfigError(
                f"search.space.{key}={entry} has durations, and data.interval is searched, too",
                "write choices, which each trial converts: choice(30m, 1h, 4h)",
                key,
            )


def has_sweep(expression: str) -> bool:
    """Whether an expression is a range of durations, which Hydra's own grammar has none of."""
    return bool(SWEEPS.search(expression) and _INSIDE.search(expression))


def _choice(key: str, value: Any, interval: str) -> Any:
    seconds = duration_sec(value) if isinstance(value, str) else 0
    return _bars(key, value, seconds, interval) if seconds else value


def _interval(raw: Mapping[str, Any]) -> str:
    """The interval of the bars; empty where it is not one, which the validation says."""
    data = raw.get("data")
    name = data.get("interval", "1m") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name in STEPS_SEC else ""


def _bars(key: str, value: str, seconds: int, interval: str) -> int:
    bars = duration_bars(seconds, interval)
    if not bars:
        least = "1d" if interval == "session" else interval
        raise ConfigError(
            f"{key}={value} is shorter than a bar of data.interval={interval}",
            f"write {key}={least} or longer, a number of bars, or a shorter data.interval",
            key,
        )
    return bars


def bar_counts(raw: Mapping[str, Any]) -> Iterator[str]:
    """The dotted keys of a configuration that count bars."""
    risk = raw.get("risk")
    size = risk.get("size") if isinstance(risk, dict) else None
    method = size.get("method") if isinstance(size, dict) else None
    models: dict[str, type[Any]] = {
        "execution": schema.Execution,
        "risk.protection": schema.Protection,
        "risk.limits": schema.Limits,
    }
    if isinstance(method, str) and method in sizes.BY_NAME:
        models["risk.size"] = sizes.BY_NAME[method].model
    for section, model in models.items():
        hints = get_type_hints(model, include_extras=True)
        yield from (f"{section}.{name}" for name, hint in hints.items() if counts_bars(hint))
    yield from _of_strategy("strategy", raw.get("strategy"))


def _of_strategy(key: str, section: Any) -> Iterator[str]:
    """Of a strategy and of those inside it."""
    if not isinstance(section, dict):
        return
    if isinstance(name := section.get("name"), str):
        with suppress(ConfigError):  # no such strategy: its construction says so
            yield from (f"{key}.{parameter}" for parameter in strategy.bar_counts(name))
    for part, value in section.items():
        yield from _of_strategy(f"{key}.{part}", value)


def value_at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _with(tree: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    first, *rest = parts
    return tree | {first: _with(tree[first], rest, value) if rest else value}
