"""Overrides as they were typed: what Hydra would take in silence or crash on is refused, keys of
the schema are accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from mcl.base.errors import ConfigError
from mcl.composition import yaml_files

MOST_JOBS = 100_000
LONGEST_KEY = 1_000  # characters
Options = Callable[[str], list[str]]  # what a group offers; nothing where there is no such group


def parsed(
    texts: Sequence[str], options: Options, words: Sequence[str] = (), *, launched: bool = False
) -> list[Override]:
    """The overrides, each one that can be meant. ConfigError with the culprit, as it was typed in
    `words`, and the cure.
    """
    overrides: list[Override] = OverridesParser.create().parse_overrides(list(texts))
    for text, override in zip(words or texts, overrides, strict=True):
        _refuse_odd_key(text, override)
        if not launched and override.key_or_group.startswith(("hydra.", "hydra/")):
            yaml_files.refuse_idle([override.key_or_group[len("hydra.") :].replace("/", ".")], text)
        _refuse_typed_axes(text, override)
        if not override.is_delete() and not override.is_sweep_override():
            _refuse_odd_choice(text, override, options)
    return overrides


def _refuse_odd_key(text: str, override: Override) -> None:
    key = str(override.key_or_group)
    if not key:
        raise ConfigError(f"{text[:200]!r} names no key", "write key=value")
    if key == "hydra":
        raise ConfigError(
            f"{text[:200]}: hydra is no group that has choices",
            "its values are set one by one: hydra.mode=MULTIRUN",
        )
    longest = max(len(part.encode(errors="surrogateescape")) for part in key.split("/"))
    if len(key) > LONGEST_KEY or longest > yaml_files.LONGEST_PART:
        raise ConfigError(
            f"the key {key[:40]}… has {len(key):,} characters",
            f"no key has more than {yaml_files.LONGEST_PART}",
        )


def _refuse_typed_axes(text: str, override: Override) -> None:
    """ConfigError for the axes of a study file on the command line, where Hydra takes none
    either.
    """
    key = str(override.key_or_group)
    if f"{key}.".startswith("hydra.sweeper.params."):
        message = f"{text[:200]}: hydra.sweeper.params is written in a study file"
        raise ConfigError(
            message, "type the axes themselves: mcl backtest -m strategy.fast=10,20, or mcl sweep"
        )


def _refuse_odd_choice(text: str, override: Override, options: Options) -> None:
    """ConfigError where a group is given something else than names of its choices."""
    group = str(override.key_or_group)
    choices = options(group) if "." not in group else []
    value: Any = override.value()
    if not choices or isinstance(value, dict):
        return
    label = group.replace("experiments", "experiment")
    names = value if isinstance(value, list) else [value]
    offered = ", ".join(choices)
    if group == "experiments" and value is None:
        raise ConfigError(f"{text}: a study is chosen by its name", "leave it out for none")
    for name in names:
        if not isinstance(name, str) or not name:
            message = f"{text[:200]}: {label} is chosen by the name of one of its files"
            raise ConfigError(message, f"{label}={choices[0]}; valid: {offered}")
        if name.startswith(("/", "~")) or ".." in name.split("/"):
            raise ConfigError(
                f"{text[:200]} leads out of the folder of {label}", f"valid: {offered}"
            )
        if len(name.encode(errors="surrogateescape")) > yaml_files.LONGEST_PART - 5:
            raise ConfigError(
                f"{label}={name[:40]}… has {len(name):,} characters", f"valid: {offered}"
            )


def refuse_too_many(overrides: Sequence[Override]) -> None:
    """ConfigError for a grid that nobody can wait for; counted without making it."""
    counts = [_count(override) for override in overrides]
    jobs = math.prod(counts)
    if jobs > MOST_JOBS:
        widest = str(overrides[counts.index(max(counts))].input_line)[:200]
        message = (
            f"the grid has {_count_text(jobs)} jobs, more than {MOST_JOBS:,}; {widest} alone has"
            f" {_count_text(max(counts))} values"
        )
        raise ConfigError(
            message,
            "coarsen it, or search it: mcl sweep tries as many points as search.trials says",
        )


def _count_text(count: float) -> str:
    return f"{count:,}" if count < 1e15 else f"{count:.3g}" if count < 1e300 else "more than 1e300"


def _count(override: Override) -> int:
    """The jobs of one override, which a range does not have to write out."""
    value = override._value
    if not override.is_sweep_override():
        return 1
    if isinstance(value, RangeSweep):
        start, stop, step = value.start, value.stop, value.step
        if (
            start is None
            or stop is None
            or not step
            or not all(map(math.isfinite, (start, stop, step)))
        ):
            message = f"{override.input_line} is a range without an end"
            raise ConfigError(
                message,
                "write range(start, stop, step) with finite numbers and a step that is not 0",
            )
        return max(0, math.ceil((stop - start) / step))
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    # a glob has as many as there are files; an interval is refused where it is written out
    return 1
