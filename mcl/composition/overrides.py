"""The shortest command line of a configuration, and a configuration that begins at another one."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.composition import Composed
from mcl.config import schema

PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # needs no quotes in Hydra's grammar
WORDS = ("null", "true", "false", "nan", "inf")  # strings that Hydra would read as something else


def shortest(run: schema.Config, typed: Sequence[str]) -> list[str]:
    """Overrides of `mcl backtest` that make `run` again: the choices of groups that were typed, and
    the values that differ from them. What was typed where no shorter line makes the same
    configuration.
    """
    groups = [text for text in typed if _chooses(text)]
    try:
        base = composition.flatten(
            composition.compose("backtest", groups).config.model_dump(mode="json")
        )
        wanted = composition.flatten(run.model_dump(mode="json"))
        differing = [
            f"{'' if key in base else '++'}{key}={grammar(value)}"
            for key, value in wanted.items()
            if base.get(key) != value
        ]
        again = [*groups, *differing]
        if again == list(typed) or composition.compose("backtest", again).config == run:
            return again
        return list(typed)
    except ConfigError:
        return list(typed)


def relative(
    base: schema.Config, overrides: Sequence[str], earlier: Sequence[str] = ()
) -> Composed:
    """`base` under `overrides`, in Hydra's grammar: a choice replaces its whole group, a value one
    key. `earlier` are the overrides that `base` was made with.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    raw = copy.deepcopy(base.model_dump(mode="json"))
    typed = list(overrides)
    choices = [text for text in typed if _chooses(text)]
    for text in choices:
        package = _package(text)
        if package.startswith("experiment"):
            raise ConfigError(
                f"{text} is a whole configuration and has no base",
                "leave --from out, or type the values",
            )
        _place(raw, package.split("."), composition.compose("backtest", [text]).raw)
    with composition.sentences("backtest", typed):
        values = OverridesParser.create().parse_overrides(
            [text for text in typed if text not in choices]
        )
        node = OmegaConf.create(raw)
        OmegaConf.set_struct(node, True)
        ConfigLoaderImpl._apply_overrides_to_config(values, node)
        changed: Any = OmegaConf.to_container(node, resolve=True)
    run = composition.run_config(changed)
    line = shortest(run, [*(text for text in earlier if _chooses(text)), *choices])
    return Composed(changed, tuple(line))


def grammar(value: Any) -> str:
    """A value as Hydra's override grammar writes it."""
    match value:
        case None:
            return "null"
        case list() | tuple():
            return f"[{','.join(map(grammar, value))}]"
        case dict():
            return "{" + ",".join(f"{key}:{grammar(item)}" for key, item in value.items()) + "}"
        case str():
            return _quoted(value)
        case _:
            return str(value).lower() if isinstance(value, bool) else repr(value)


def _quoted(text: str) -> str:
    read_as_is = (
        PLAIN.fullmatch(text)
        and text.lower() not in WORDS
        and not re.fullmatch(r"[-+.\d_eE]+", text)
    )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if read_as_is else f'"{escaped}"'


def _chooses(text: str) -> bool:
    """Whether an override chooses a group: `risk=vol_target`, `limits@risk.limits=guarded`,
    `experiment=NAME`.
    """
    key = text.split("=", 1)[0].lstrip("+~")
    group = key.split("@")[0]
    return "." not in group and (
        group in ("experiment", "experiments") or (composition.conf_dir() / group).is_dir()
    )


def _package(text: str) -> str:
    key = text.split("=", 1)[0].lstrip("+~")
    return key.split("@")[-1]


def _place(raw: dict[str, Any], path: list[str], composed: dict[str, Any]) -> None:
    """Take the part at `path` from `composed`."""
    *above, last = path
    for part in above:
        raw, composed = raw[part], composed[part]
    raw[last] = composed[last]
