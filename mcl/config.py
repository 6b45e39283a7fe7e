"""The Hydra door: YAML groups and the command line in, validated `schema.Config` out.

Hydra composes; the strict models of `mcl.schema` validate a second time. No `_target_` is ever instantiated: a config is data,
never code. Unknown keys, wrong types and broken rules become one sentence with the nearest valid name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mcl import files, schema, strategy
from mcl.errors import ConfigError, nearest

Verb = Literal["backtest", "sweep", "live", "promote", "validate"]
Model = TypeVar("Model", bound=BaseModel)
DECIDES = ("data", "strategy", "risk", "costs", "execution", "capital_usd", "seed")  # what a run is; broker, study and notes are not
root = files.root


def conf_dir() -> Path:
    """The project's conf/ when it has one, else the copy inside the package, else (an editable install) the one beside it."""
    package = Path(__file__).resolve().parent
    candidates = (root() / "conf", package / "conf", package.parent / "conf")
    found = next((p for p in candidates if (p / "backtest.yaml").is_file()), None)
    if found is None:
        raise ConfigError(f"no conf/backtest.yaml in {root()} or in the package", "run mcl inside a project folder or set MCL_HOME")
    return found


@dataclass(frozen=True)
class Composed:
    """What a command line stands for. `raw` is the resolved plain dict, `overrides` what was typed, `choices` the option of each group."""

    raw: dict[str, Any]
    overrides: tuple[str, ...]
    choices: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> schema.Config:
        return run_config(self.raw)

    @property
    def search(self) -> schema.Search:
        return validate(schema.Search, self.raw["search"], "search")


def compose(verb: Verb, overrides: list[str]) -> Composed:
    """The composed and resolved configuration of `conf/<verb>.yaml` under `overrides` (Hydra's override grammar).

    With the verb sweep, `strategy.fast=range(10, 100, 10)` is an axis of the search space, and a key whose value
    is typed is not searched.
    """
    from hydra import compose as hydra_compose

    _harmless(_aliases(overrides))
    with _hydra(), _sentences(verb, overrides):
        typed, fixed = _axes(overrides) if verb == "sweep" else (overrides, [])
        composed = hydra_compose(config_name=verb, overrides=[*_aliases(typed), _search_path()], return_hydra_config=True)
        choices = {str(group): str(name) for group, name in composed.hydra.runtime.choices.items() if "/" not in str(group) and name}
        resolved = plain(composed)
    if verb == "sweep":
        resolved["search"]["space"] = _without(resolved["search"]["space"] or {}, fixed)
    return Composed(resolved, tuple(overrides), choices)


def plain(composed: Any) -> dict[str, Any]:
    """A configuration that Hydra composed as a resolved plain dict, without what is Hydra's own."""
    from omegaconf import OmegaConf

    own: Any = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in ("experiments", "hydra")])
    resolved: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    return {str(key): value for key, value in resolved.items()}


def multirun(overrides: list[str], task: Any) -> Any:
    """What Hydra's own multirun of conf/backtest.yaml returns: the answer of the sweeper that `overrides` choose."""
    from hydra.core.global_hydra import GlobalHydra

    with _hydra(), _sentences("backtest", overrides):
        app: Any = GlobalHydra.instance().hydra
        return app.multirun("backtest", task, [*_aliases(overrides), _search_path()], with_log_configuration=False)


def expand(overrides: list[str]) -> list[list[str]]:
    """The jobs of a multirun: the Cartesian product of the sweep overrides (`a=1,2`, `range(…)`, `glob(…)`), in typed order."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with _sentences("backtest", overrides):
        path = create_config_search_path(str(conf_dir()))
        path.append("experiments", f"file://{root()}")
        parsed = OverridesParser.create(config_loader=ConfigLoaderImpl(path)).parse_overrides(_aliases(overrides))
        choices = []
        for override in parsed:
            key = override.get_key_element()
            values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_element_as_str()]
            if not values:
                raise ConfigError(f"{override.input_line} matches nothing", f"valid: {', '.join(_options(override.key_or_group))}")
            choices.append([f"{key}={value}" for value in values])
    return [list(job) for job in itertools.product(*choices)]


def space_values(expression: str) -> Any:
    """The parsed right-hand side of a search-space entry (Hydra's sweep grammar): a RangeSweep, IntervalSweep, ChoiceSweep or a scalar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with _sentences("sweep", [f"x={expression}"]):
        return OverridesParser.create().parse_override(f"x={expression}").value()


def run_config(raw: dict[str, Any]) -> schema.Config:
    """The validated run configuration in `raw`; groups that belong to a verb (search, promotion) are left aside."""
    config = validate(schema.Config, {k: v for k, v in raw.items() if k not in ("search", "promotion")})
    strategy.build(config.strategy)
    return config


def chosen_in(verb: Verb, overrides: list[str], key: str) -> str:
    """Where the composed value of a dotted key comes from: `override strategy.fast=20`, or `conf/strategy/ema_cross.yaml:4`; empty where
    no file says it, so that the default of the code holds. Of several places the one that wins."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    with _hydra(), _sentences(verb, overrides):
        typed = [*_aliases(overrides), _search_path()]
        parsed = OverridesParser.create().parse_overrides(_aliases(overrides))
        said = [
            text for text, o in zip(overrides, parsed, strict=True) if "." in o.key_or_group or not (conf_dir() / o.key_or_group).is_dir()
        ]
        last = [text for text in said if f"{key}.".startswith(text.split("=")[0].lstrip("+~") + ".")]
        if last:
            return f"override {last[-1]}"
        loader = GlobalHydra.instance().config_loader()
        files = loader.compute_defaults_list(config_name=verb, overrides=typed, run_mode=RunMode.RUN).defaults
    found = [_line_of(str(item.config_path), str(item.package or ""), key) for item in files if item.config_path]
    return next((place for place in reversed(found) if place), "")


def _line_of(path: str, package: str, key: str) -> str:
    """`conf/strategy/ema_cross.yaml:4` when the file says the key."""
    import yaml

    prefix = f"{package}." if package else ""
    file = next((f for f in (conf_dir() / f"{path}.yaml", root() / f"{path}.yaml") if f.is_file()), None)
    if file is None or not key.startswith(prefix):
        return ""
    node = yaml.compose(file.read_text(), Loader=yaml.SafeLoader)
    line = 0
    for part in key.removeprefix(prefix).split("."):
        entries = {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        if part not in entries:
            return ""
        line, node = entries[part][0].start_mark.line + 1, entries[part][1]
    return f"{file.relative_to(conf_dir().parent) if file.is_relative_to(conf_dir().parent) else file}:{line}"


def fingerprint(config: schema.Config) -> str:
    """sha256 over what decides a result: data, strategy, risk, costs, capital and seed; not the broker, the study or the notes."""
    return digest(config.model_dump(mode="json", include=set(DECIDES)))


def digest(value: Any) -> str:
    """sha256 of the canonical JSON form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """`{a: {b: 1}}` as `{"a.b": 1}`; lists stay values."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()}


# ------------------------------------------------------------------------------------------------- validation, as sentences


def validate(model: type[Model], raw: Any, at: str = "") -> Model:
    """`raw` as `model`, or a ConfigError that names the first broken key, its value, the rule and the nearest valid name."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        verb = "sweep" if at == "search" else "backtest"
        raise ConfigError(_sentence(model, error.errors()[0], at), f"mcl {verb} --cfg shows the composed configuration") from None


def _sentence(model: type[BaseModel], error: Any, at: str) -> str:
    loc = [str(part) for part in error["loc"]]
    choices, path = _walk(model, loc)
    key = ".".join(([at] if at else []) + path) or at or "the configuration"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}: {nearest(path[-1], choices)}"
    if error["type"] == "missing":
        return f"{key} is missing and has no default"
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["discriminator"].strip("'")
        return f"{key}.{tag}={error['ctx']['tag']!r} is not one of {error['ctx']['expected_tags']}"
    rule = error["msg"].removeprefix("Value error, ")
    rule = rule[0].lower() + rule[1:] if error["type"] != "string_pattern_mismatch" else f"must match {error['ctx']['pattern']}"
    return f"{key}={error['input']!r}: {rule}" if not isinstance(error["input"], dict) else f"{key}: {rule}"


def _walk(model: Any, loc: list[str]) -> tuple[list[str], list[str]]:
    """Field names valid at the last element of `loc`, and `loc` without the tags that a discriminated union puts in."""
    fields: dict[str, Any] = model.model_fields
    path: list[str] = []
    for part in loc:
        members = [m for m in _models(model) if part in _tags(m)]
        if part not in fields and members:
            model, fields = members[0], members[0].model_fields
            continue
        if "[" in part:  # pydantic's name for a member of a union
            continue
        path.append(part)
        if part in fields:
            known = list(fields)
            model = fields[part].annotation
            first = next(iter(_models(model)), None)
            fields = first.model_fields if first else {}
            if part == loc[-1]:
                return known, path
    return list(fields), path


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    return [m for arg in get_args(annotation) for m in _models(arg)]


def _tags(model: type[BaseModel]) -> set[str]:
    """The literal values by which a discriminated union knows `model`."""
    return {str(v) for name in ("source", "method") if name in model.model_fields for v in get_args(model.model_fields[name].annotation)}


# ------------------------------------------------------------------------------------------------------- Hydra's own corner


@contextmanager
def _hydra() -> Iterator[None]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="mcl"):
        yield


def _search_path() -> str:
    """experiments/ lies beside conf/: its parent joins the search path, so that `experiment=NAME` finds the study file."""
    return f"hydra.searchpath=['file://{root()}']"


def _harmless(overrides: list[str]) -> None:
    """ConfigError for a study file that Hydra could not read into memory: such files come from other people."""
    for override in overrides:
        if study := re.fullmatch(r"\+{0,2}experiments=([\w./-]+)", override):
            path = root() / "experiments" / f"{study[1]}.yaml"
            if path.is_file():
                files.plain_yaml(path.read_text(errors="replace"), str(path))


def _aliases(overrides: list[str]) -> list[str]:
    """`experiment=NAME` is what people type; the folder and therefore the Hydra group is called experiments."""
    return [re.sub(r"^(\+{0,2}|~)experiment=", r"\1experiments=", o) for o in overrides]


def _axes(overrides: list[str]) -> tuple[list[str], list[str]]:
    """The overrides with sweeps as entries of search.space, and the keys whose value was typed and which are therefore not searched."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    typed = [_axis(o.key_or_group, text) if o.is_sweep_override() else text for text, o in zip(overrides, parsed, strict=True)]
    swept = [text.lstrip("+").removeprefix("search.space.").split("=")[0] for text in typed if text.lstrip("+").startswith("search.space.")]
    return typed, [o.key_or_group for o in parsed if "." in o.key_or_group and o.key_or_group not in swept]


def _axis(key: str, override: str) -> str:
    if "." not in key and (conf_dir() / key).is_dir():
        raise ConfigError(f"{override} chooses between groups, and a search varies values", f"run the grid: mcl backtest -m {override}")
    expression = override.split("=", 1)[1].replace('"', '\\"')
    return f'++search.space.{key.removeprefix("search.space.")}="{expression}"'


def _without(tree: dict[str, Any], keys: list[str], prefix: str = "") -> dict[str, Any]:
    """The nested `tree` without the leaves at these dotted keys."""
    named = ((f"{prefix}{name}", name, item) for name, item in tree.items())
    return {n: _without(item, keys, f"{key}.") if isinstance(item, dict) else item for key, n, item in named if key not in keys}


@contextmanager
def _sentences(verb: str, overrides: list[str]) -> Iterator[None]:
    """Hydra's and OmegaConf's exceptions as one sentence each."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(*_translated(verb, overrides, error)) from None


def _translated(verb: str, overrides: list[str], error: Exception) -> tuple[str, str]:
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return _no_key(match[1], verb, overrides)
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return _no_choice(match[1], match[2])
    if "Missing mandatory value" in text:
        key = getattr(error, "full_key", None) or text.rsplit(maxsplit=1)[-1]
        return f"{key} must be given", f"add {key}=VALUE to the command line"
    if "Can only enumerate" in text:
        culprit = next((o for o in overrides if "interval(" in o), " ".join(overrides))
        return f"{culprit} is continuous and has no grid", "write range(start, stop, step) or choice(a, b), or search it: mcl sweep"
    if "LexerNoViableAltException" in text or "mismatched input" in text or "no viable alternative" in text or "missing EQUAL" in text:
        culprit = _culprit(overrides)
        key = culprit.split("=")[0].lstrip("+~")
        quoted = f"""'{key}=["…", "…"]'""" if "=[" in culprit else f"""'{key}="…"'"""
        return f"cannot read the override {culprit!r}: write key=value", f"quote what holds blanks, commas, signs or accents: {quoted}"
    return " ".join(text.split()), ""


def _no_key(key: str, verb: str, overrides: list[str]) -> tuple[str, str]:
    """What is said of a key that the configuration does not have."""
    if key == "experiments":
        return f"there are no studies in {root()}: it has no folder experiments", "go to a project folder, or make one: mcl init DIR"
    return f"unknown key {key}: {nearest(key, _keys(verb, overrides))}", f"mcl {verb} --cfg shows every key"


def _no_choice(group: str, name: str) -> tuple[str, str]:
    """What is said of a choice that a group does not have."""
    if group == "hydra/launcher":
        return f"no launcher is called {name!r} here", f"hydra/launcher=basic is always there; else pip install hydra-{name}-launcher"
    options = _options(group)
    close = nearest(name, options)
    hint = "" if close.startswith("valid") else f"valid: {', '.join(options)}"
    return f"no {'experiment' if group == 'experiments' else group} is called {name!r}: {close}", hint


def _options(group: str) -> list[str]:
    """What a config group offers; the studies for `experiments`."""
    return sorted(p.stem for p in (conf_dir() / group).glob("*.yaml")) or sorted(p.stem for p in (root() / group).glob("*.yaml"))


def _culprit(overrides: list[str]) -> str:
    """The first that is none by itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for override in overrides:
        try:
            OverridesParser.create().parse_override(override)
        except HydraException:
            return override
    return " ".join(overrides)


def _keys(verb: str, overrides: list[str]) -> list[str]:
    """Every key of the same command line without the overrides that do not fit."""
    groups = [o for o in overrides if re.match(r"^\w+=[\w-]+$", o) and (conf_dir() / o.split("=")[0]).is_dir()]
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    try:
        with _hydra():
            return list(flatten(OmegaConf.to_container(hydra_compose(config_name=verb, overrides=groups), resolve=False)))
    except HydraException:
        return []
