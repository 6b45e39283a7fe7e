"""The Hydra door: YAML groups and the command line in, validated `schema.Config` out.

Hydra composes; the strict models of `mcl.config.schema` validate a second time. No `_target_` is
ever instantiated: a config is data, never code. Unknown keys, wrong types and broken rules become
one sentence with the nearest valid name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mcl import strategy
from mcl.base import files
from mcl.base.differences import flatten as flatten
from mcl.base.errors import ConfigError, MclError, closest, nearest
from mcl.composition import error_sentences, search_path
from mcl.composition.validation import LONGEST_VALUE
from mcl.composition.validation import validate as validate
from mcl.config import schema

Verb = Literal["backtest", "sweep", "live", "promote", "validate"]
LISTED = 20  # choices of a group that an error lists whole
# what a run is; broker, study and notes are not
DECIDES = ("data", "strategy", "risk", "costs", "execution", "capital_usd", "seed")
root = files.root


def conf_dir() -> Path:
    """The project's conf/ when it has one, else the copy inside the package, else (an editable
    install) the one beside it.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = (root() / "conf", package / "conf", package.parent / "conf")
    folder = next((p for p in candidates if (p / "backtest.yaml").is_file()), None)
    if folder is None:
        raise ConfigError(
            f"no conf/backtest.yaml in {root()} or in the package",
            "run mcl inside a project folder or set MCL_HOME",
        )
    return folder


@dataclass(frozen=True)
class Composed:
    """Hold the configuration of a command line. `raw` is the resolved plain dict, `overrides` the
    words of the command line, `choices` the option of each group.
    """

    raw: dict[str, Any]
    overrides: tuple[str, ...]
    choices: dict[str, str] = field(default_factory=dict)
    multirun: bool = False  # hydra.mode=MULTIRUN
    sweeper_params: tuple[str, ...] = ()  # hydra.sweeper.params as overrides

    @property
    def config(self) -> schema.Config:
        try:
            return run_config(self.raw)
        except ConfigError as error:
            verb: Verb = "sweep" if "search" in self.raw else "backtest"
            again = partial(_composes, verb, [*self.overrides])
            raise error_sentences.located(error, self.overrides, again) from error.__cause__

    @property
    def search(self) -> schema.Search:
        return validate(schema.Search, self.raw["search"], "search")


def compose(verb: Verb, overrides: list[str]) -> Composed:
    """The composed and resolved configuration of `conf/<verb>.yaml` under `overrides` (Hydra's
    override grammar).

    With the verb sweep, `strategy.fast=range(10, 100, 10)` is an axis of the search space, and a
    key whose value is typed is not searched.
    """
    from mcl.composition import alternatives, axes, schema_keys

    if verb == "sweep":
        choices, rest = alternatives.split(overrides, checked(axes.with_options(overrides)))
        if choices:
            return replace(
                alternatives.composed(choices, rest, partial(compose, verb)),
                overrides=tuple(overrides),
            )
    with hydra(), sentences(verb, overrides):
        texts = axes.with_options(overrides) if verb == "sweep" else overrides
        parsed = checked(texts)
        words = schema_keys.addable(verb, texts, parsed, _options)
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
        resolved["search"]["space"] = axes.without(resolved["search"]["space"] or {}, fixed)
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
                    f"valid: {', '.join(_options(override.key_or_group))}",
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


def run_config(raw: dict[str, Any]) -> schema.Config:
    """The validated run configuration in `raw`; groups that belong to a verb (search, promotion)
    are left aside.
    """
    config = validate(
        schema.Config, {k: v for k, v in raw.items() if k not in ("search", "promotion")}
    )
    strategy.build(config.strategy)
    return config


def fingerprint(config: schema.Config) -> str:
    """sha256 over what decides a result: data, strategy, risk, costs, capital and seed; not the
    broker, the study or the notes.
    """
    return digest(config.model_dump(mode="json", include=set(DECIDES)))


def digest(value: Any) -> str:
    """sha256 of the canonical JSON form."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


# ------------------------------------------------------------------------------- Hydra's own corner


@contextmanager
def hydra() -> Iterator[None]:
    """Hydra, initialised on conf/, until the end of the block."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from mcl.composition import yaml_files

    search_path.register()
    GlobalHydra.instance().clear()
    with (
        yaml_files.strict(),
        initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="mcl"),
    ):
        yield


def aliases(overrides: list[str]) -> list[str]:
    """`experiment=NAME` is what people type; the folder and therefore the Hydra group is called
    experiments.
    """
    return [re.sub(r"^(\+{0,2}|~)experiment=", r"\1experiments=", o) for o in overrides]


@contextmanager
def sentences(verb: str, overrides: list[str]) -> Iterator[None]:
    """Whatever composing raises as one sentence each."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except MclError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(*_translated(verb, overrides, error)) from None
    except Exception as error:
        raise ConfigError(
            *error_sentences.other(error, overrides, partial(_composes, verb))
        ) from error


def _composes(verb: str, overrides: list[str]) -> bool:
    try:
        _read(verb, overrides)
    except Exception:
        return False
    return True


def _read(verb: str, overrides: list[str]) -> None:
    """Let Hydra read the files of a command line once more."""
    from hydra import compose as hydra_compose

    with hydra():
        hydra_compose(config_name=verb, overrides=aliases(overrides))


def checked(overrides: list[str]) -> list[Any]:
    """The overrides parsed; ConfigError for one that cannot be meant, or has no effect."""
    from mcl.composition import typed_overrides

    # a launcher has settings of its own
    launched = any(text.startswith("hydra/launcher=") for text in overrides)
    with sentences("backtest", overrides):
        return typed_overrides.parsed(aliases(overrides), _options, overrides, launched=launched)


def _translated(verb: str, overrides: list[str], error: Exception) -> tuple[str, str]:
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1], verb, overrides)
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return _no_choice(match[1], match[2])
    if "Missing mandatory value" in text:
        key = getattr(error, "full_key", None) or text.rsplit(maxsplit=1)[-1]
        return f"{key} must be given", f"add {key}=VALUE to the command line"
    if "Can only enumerate" in text:
        culprit = next((o for o in overrides if "interval(" in o), " ".join(overrides))
        return (
            f"{culprit} is continuous and has no grid",
            "write range(start, stop, step) or choice(a, b), or search it: mcl sweep",
        )
    if (
        "LexerNoViableAltException" in text
        or "mismatched input" in text
        or "no viable alternative" in text
        or "missing EQUAL" in text
    ):
        culprit = _culprit(overrides)[:LONGEST_VALUE]
        key = culprit.split("=")[0].lstrip("+~")
        quoted = f"""'{key}=["…", "…"]'""" if "=[" in culprit else f"""'{key}="…"'"""
        return (
            f"cannot read the override {culprit!r}: write key=value",
            f"quote what holds blanks, commas, signs or accents: {quoted}",
        )
    return error_sentences.composed(error, overrides)


def unknown_key(key: str, verb: str, overrides: list[str]) -> tuple[str, str]:
    """Return the message and the hint for a key that the configuration does not have."""
    if key == "experiments":
        return (
            f"there are no studies in {root()}: it has no folder experiments",
            "go to a project folder, or make one: mcl init DIR",
        )
    keys, where = _keys(verb, overrides), f"mcl {verb} --cfg shows every key"
    groups = [
        group
        for group in keys
        if "@" in group and key.replace("/", ".") in (group.split("@")[0], group.split("@")[1])
    ]
    if groups:
        value = next((o.split("=", 1)[1] for o in overrides if o.startswith(f"{key}=")), "NAME")
        return (
            f"unknown key {key}: did you mean {groups[0]}={value}?",
            f"the group {groups[0].split('@')[0]} sets {groups[0].split('@')[1]}",
        )
    if (
        not closest(key, keys)
        or f".{closest(key, keys)[0]}".rpartition(".")[2] != key.rpartition(".")[2]
    ):
        for other in ("sweep", "promote", "validate", "live"):
            same = [
                name
                for name in (_keys(other, []) if other != verb else [])
                if f".{name}".endswith(f".{key}")
            ]
            if same:
                return (
                    f"unknown key {key}: mcl {verb} has none, mcl {other} has {same[0]}",
                    f"mcl {other} --help says what it does",
                )
    return f"unknown key {key}: {nearest(key, keys)}", where


def _no_choice(group: str, name: str) -> tuple[str, str]:
    """Return the message and the hint for a choice that a group does not have."""
    if group == "hydra/launcher":
        return (
            f"no launcher is called {name!r} here",
            f"hydra/launcher=basic is always there; else pip install hydra-{name}-launcher",
        )
    options = _options(group)
    close = nearest(name, options)
    many = len(options) > LISTED
    listed = (
        f"all {len(options)} are files in conf/{group}/" if many else f"valid: {', '.join(options)}"
    )
    hint = "" if close.startswith("valid") else listed
    return (
        f"no {'experiment' if group == 'experiments' else group} is called {name!r}: {close}",
        hint,
    )


def _options(group: str) -> list[str]:
    """Return the choices of a config group; the studies for `experiments`."""
    from mcl.composition import typed_overrides

    if len(group) > typed_overrides.LONGEST_KEY or group.startswith("/"):
        return []
    folders = (conf_dir() / group, root() / group)
    named = (sorted(p.stem for p in folder.glob("*.yaml") if p.is_file()) for folder in folders)
    return next(filter(None, named), [])


def _culprit(overrides: list[str]) -> str:
    """Return the first override that cannot be parsed by itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for override in overrides:
        try:
            OverridesParser.create().parse_override(override)
        except HydraException:
            return override
    return " ".join(overrides)


def _keys(verb: str, overrides: list[str]) -> list[str]:
    """Every key, section and group of the same command line without the overrides that do not
    fit.
    """
    groups = [
        o
        for o in overrides
        if re.match(r"^\w+=[\w-]+$", o) and (conf_dir() / o.split("=")[0]).is_dir()
    ]
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for typed in (groups, []):
        with hydra(), suppress(HydraException, OmegaConfBaseException):
            composed: Any = hydra_compose(
                config_name=verb, overrides=typed, return_hydra_config=True
            )
            names = [str(name) for name in composed.hydra.runtime.choices if "/" not in str(name)]
            own = OmegaConf.masked_copy(
                composed, [str(key) for key in composed if key not in ("experiments", "hydra")]
            )
            leaves = flatten(OmegaConf.to_container(own, resolve=False))
            sections = {
                leaf.rsplit(".", depth)[0]
                for leaf in leaves
                for depth in range(1, leaf.count(".") + 1)
            }
            return list(dict.fromkeys([*leaves, *sorted(sections), *names]))
    return []
