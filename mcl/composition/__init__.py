"""The Hydra door: YAML groups and the command line in, validated `schema.Config` out.

Hydra composes; the strict models of `mcl.config.schema` validate a second time. No `_target_` is
ever instantiated: a config is data, never code. Unknown keys, wrong types and broken rules become
one sentence with the nearest valid name.
"""

from __future__ import annotations

import copy
import itertools
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mcl.base.differences import flatten as flatten
from mcl.base.errors import ConfigError
from mcl.composition import search_path
from mcl.composition.hydra_door import aliases as aliases
from mcl.composition.hydra_door import checked as checked
from mcl.composition.hydra_door import conf_dir as conf_dir
from mcl.composition.hydra_door import hydra as hydra
from mcl.composition.hydra_door import options
from mcl.composition.hydra_door import root as root
from mcl.composition.hydra_door import sentences as sentences
from mcl.composition.hydra_door import unknown_key as unknown_key
from mcl.composition.run_config import DECIDES as DECIDES
from mcl.composition.run_config import Composed as Composed
from mcl.composition.run_config import Verb as Verb
from mcl.composition.run_config import digest as digest
from mcl.composition.run_config import fingerprint as fingerprint
from mcl.composition.run_config import run_config as run_config
from mcl.composition.run_config import trial_fingerprint as trial_fingerprint
from mcl.composition.validation import validate as validate


def compose(verb: Verb, overrides: list[str]) -> Composed:
    """The composed and resolved configuration of `conf/<verb>.yaml` under `overrides` (Hydra's
    override grammar).

    With the verb sweep, `strategy.fast=range(10, 100, 10)` is an axis of the search space, and a
    key whose value is typed is not searched.

    The same words are composed once, until a file that was read or the environment changes.
    """
    from mcl.composition import alternatives, axes, yaml_files

    if verb == "sweep":
        choices, rest = alternatives.split(overrides, checked(axes.with_options(overrides)))
        if choices:
            return replace(
                alternatives.composed(choices, rest, partial(compose, verb)),
                overrides=tuple(overrides),
            )
    folders = (conf_dir(), *search_path.command_line())
    words = (verb, *overrides, *folders, *os.environ.items())
    earlier = _compositions.get(words)
    if earlier is None or not yaml_files.unchanged(earlier.files):
        if len(_compositions) >= MOST_COMPOSITIONS:
            _compositions.clear()
        earlier = _Composition(_compose(verb, overrides), yaml_files.read_files())
        _compositions[words] = earlier
    return replace(earlier.composed, raw=copy.deepcopy(earlier.composed.raw))


class _Composition(NamedTuple):
    """Hold a composition and the state of the files that it was made of."""

    composed: Composed
    files: list[tuple[Path, int, int]]


MOST_COMPOSITIONS = 32
_compositions: dict[tuple[Any, ...], _Composition] = {}


def _compose(verb: Verb, overrides: list[str]) -> Composed:
    # with the strategies, which a list of runs does not need
    from mcl.composition import axes, durations, schema_keys

    with hydra(), sentences(verb, overrides):
        texts = axes.with_options(overrides) if verb == "sweep" else overrides
        parsed = checked(texts)
        words = schema_keys.addable(verb, texts, parsed, options)
        typed, fixed = axes.axes(words) if verb == "sweep" else (words, [])
        composed = _composed(verb, aliases(typed))
        params = tuple(axes.sweeper_params(composed, words))
        if verb == "sweep" and params:
            composed = _composed(verb, aliases([*axes.axes(list(params))[0], *typed]))
        chosen = {
            str(group): str(name)
            for group, name in composed.hydra.runtime.choices.items()
            if "/" not in str(group) and name
        }
        resolved = plain(composed)
        multirun = str(composed.hydra.mode).endswith("MULTIRUN")
    if verb == "sweep":
        space = resolved["search"]["space"] or {}
        if not isinstance(space, dict):
            raise ConfigError(
                f"search.space={str(space)[:60]!r} is no space of axes",
                "type the axes themselves: strategy.fast=range(10,100,10)",
            )
        resolved["search"]["space"] = axes.without(space, fixed)
        resolved = durations.search_in_bars(resolved)
        resolved = axes.completed(resolved, [*flatten(resolved["search"]["space"])])
    return Composed(resolved, tuple(overrides), chosen, multirun, params)


def _composed(verb: Verb, words: list[str]) -> Any:
    """Return what Hydra composes. A parameter that a strategy has and its file in conf/ lacks is
    added where it was typed.
    """
    from hydra import compose as hydra_compose
    from hydra.errors import ConfigCompositionException

    from mcl.composition import schema_keys

    words = list(words)
    while True:
        try:
            return hydra_compose(config_name=verb, overrides=words, return_hydra_config=True)
        except ConfigCompositionException as error:
            missing = re.search(r"Could not override '(strategy\.[^']+)'", str(error))
            at = next(
                (
                    i
                    for i, word in enumerate(words)
                    if missing and word.startswith(f"{missing[1]}=")
                ),
                None,
            )
            if missing is None or at is None:
                raise
            others = hydra_compose(config_name=verb, overrides=[*words[:at], *words[at + 1 :]])
            if not schema_keys.is_parameter(others.strategy.get("name"), missing[1]):
                raise
            words[at] = f"++{words[at]}"


def plain(composed: Any) -> dict[str, Any]:
    """A configuration that Hydra composed as a resolved plain dict, without what is Hydra's own."""
    from omegaconf import OmegaConf

    own: Any = OmegaConf.masked_copy(
        composed, [str(key) for key in composed if key not in ("experiments", "hydra")]
    )
    resolved: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    return {str(key): value for key, value in resolved.items()}


def multirun(overrides: list[str], task: Any) -> Any:
    """Run Hydra's own multirun of conf/backtest.yaml and return the answer of the sweeper that
    `overrides` choose.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    words = aliases(overrides)
    with hydra():
        app: Any = GlobalHydra.instance().hydra
        with sentences("backtest", overrides):
            app.compose_config(
                config_name="backtest",
                overrides=words,
                run_mode=RunMode.MULTIRUN,
                with_log_configuration=False,
            )
        return app.multirun("backtest", task, words, with_log_configuration=False)


def expand(overrides: list[str]) -> list[list[str]]:
    """The jobs of a multirun: the Cartesian product of the sweep overrides (`a=1,2`, `range(…)`,
    `glob(…)`), in typed order.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from mcl.composition.typed_overrides import refuse_too_many

    with sentences("backtest", overrides):
        search_path.register()
        path = create_config_search_path(str(conf_dir()))
        parsed = OverridesParser.create(config_loader=ConfigLoaderImpl(path)).parse_overrides(
            aliases(overrides)
        )
        refuse_too_many(parsed)
        choices = []
        for override in parsed:
            key = override.get_key_element()
            values = (
                list(override.sweep_string_iterator())
                if override.is_sweep_override()
                else [override.get_value_element_as_str()]
            )
            if not values:
                raise ConfigError(
                    f"{override.input_line} matches nothing",
                    f"valid: {', '.join(options(override.key_or_group))}",
                )
            choices.append([f"{key}={value}" for value in values])
    return [list(job) for job in itertools.product(*choices)]


def space_values(expression: str) -> Any:
    """The parsed right-hand side of a search-space entry (Hydra's sweep grammar): a RangeSweep,
    IntervalSweep, ChoiceSweep or a scalar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with sentences("sweep", [f"x={expression}"]):
        return OverridesParser.create().parse_override(f"x={expression}").value()
