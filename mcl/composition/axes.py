"""The axes of a search among the overrides of a command line, and the values under them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mcl import strategy
from mcl.base.differences import flatten
from mcl.base.errors import ConfigError
from mcl.composition import durations
from mcl.composition.hydra_door import conf_dir, unknown_key
from mcl.composition.run_config import run_config

QUOTES = "'\""


def axes(overrides: list[str]) -> tuple[list[str], list[str]]:
    """The overrides with sweeps as entries of search.space, and the keys whose value was typed and
    which are therefore not searched.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    typed = [
        _axis(o.key_or_group, text) if o.is_sweep_override() else text
        for text, o in zip(overrides, parsed, strict=True)
    ]
    searched = [
        text.lstrip("+").removeprefix("search.space.").split("=")[0]
        for text in typed
        if text.lstrip("+").startswith("search.space.")
    ]
    return typed, [
        o.key_or_group for o in parsed if "." in o.key_or_group and o.key_or_group not in searched
    ]


def with_options(overrides: list[str]) -> list[str]:
    """`search.sampler.n_startup_trials=20` as the entry of search.sampler_options that it is; the
    same for a pruner. A range of durations is an axis, which Hydra would not read as one.
    """
    texts = [
        re.sub(r"^\+{0,2}search\.(sampler|pruner)\.", r"++search.\1_options.", text)
        for text in overrides
    ]
    return [_axis(*_sides(text)) if durations.has_sweep(text) else text for text in texts]


def _sides(text: str) -> tuple[str, str]:
    """The key of an override, and the whole of it without quotes around its value."""
    key, _, value = text.partition("=")
    return key.lstrip("+"), f"{key}={value.strip(QUOTES)}"


def _axis(key: str, override: str) -> str:
    if "/" in key:
        raise ConfigError(*unknown_key(key, "sweep", []))
    if "." not in key and (conf_dir() / key).is_dir():
        raise ConfigError(
            f"{override} chooses between groups, and a search varies values",
            f"run the grid: mcl backtest -m {override}",
        )
    expression = override.split("=", 1)[1].replace('"', '\\"')
    return f'++search.space.{key.removeprefix("search.space.")}="{expression}"'


def without(tree: dict[str, Any], keys: list[str], prefix: str = "") -> dict[str, Any]:
    """The nested `tree` without the leaves at these dotted keys."""
    named = ((f"{prefix}{name}", name, item) for name, item in tree.items())
    return {
        n: without(item, keys, f"{key}.") if isinstance(item, dict) else item
        for key, n, item in named
        if key not in keys
    }


def sweeper_params(composed: Any, typed: list[str]) -> list[str]:
    """`hydra.sweeper.params` of a composed configuration as overrides, without the keys that were
    typed.
    """
    from omegaconf import OmegaConf

    sweeper = composed.hydra.sweeper
    params = OmegaConf.to_container(sweeper.params) if sweeper and sweeper.get("params") else {}
    typed_keys = {text.split("=")[0].lstrip("+~") for text in typed}
    return [f"{key}={value}" for key, value in flatten(params).items() if key not in typed_keys]


def completed(raw: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """`raw` with the default of each searched key that no file says, so that a search can vary
    it.
    """
    flat = flatten(raw)
    missing = [
        key
        for key in keys
        if key not in flat and not any(other.startswith(f"{key}.") for other in flat)
    ]
    if not missing:
        return raw
    defaults: dict[str, Any] = {
        f"strategy.{name}": value for name, value in _parameters(raw).items()
    }
    with suppress(ConfigError):
        defaults |= flatten(run_config(raw).model_dump(mode="json")) | defaults
    for key in missing:
        if key in defaults:
            raw = _with(raw, key.split("."), defaults[key])
    return raw


def _parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    section = raw.get("strategy")
    name = section.get("name") if isinstance(section, dict) else None
    return strategy.defaults(name) if isinstance(name, str) else {}


def _with(tree: Any, parts: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = parts
    branch: dict[str, Any] = tree if isinstance(tree, dict) else {}
    return branch | {first: _with(branch.get(first), rest, value) if rest else value}
