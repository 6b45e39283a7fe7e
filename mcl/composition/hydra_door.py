"""Hydra, initialised on conf/, and every refusal of it as a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from mcl.base import files
from mcl.base.differences import flatten
from mcl.base.errors import ConfigError, MclError, closest, nearest
from mcl.composition import error_sentences, search_path
from mcl.composition.validation import LONGEST_VALUE

LISTED = 20  # choices of a group that an error lists whole
root = files.root


def conf_dir() -> Path:
    """The project's conf/ when it has one, else the copy inside the package, else (an editable
    install) the one next to it.
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


def options(group: str) -> list[str]:
    """Return the choices of a config group; the studies for `experiments`."""
    from mcl.composition import typed_overrides

    if len(group) > typed_overrides.LONGEST_KEY or group.startswith("/"):
        return []
    folders = (conf_dir() / group, root() / group)
    named = (sorted(p.stem for p in folder.glob("*.yaml") if p.is_file()) for folder in folders)
    return next(filter(None, named), [])


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
            *error_sentences.other(error, overrides, partial(composes, verb))
        ) from error


def composes(verb: str, overrides: list[str]) -> bool:
    """Whether Hydra reads the files of this command line."""
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
        return typed_overrides.parsed(aliases(overrides), options, overrides, launched=launched)


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
        return error_sentences.unreadable(_culprit(overrides)[:LONGEST_VALUE])
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
    names = options(group)
    close = nearest(name, names)
    many = len(names) > LISTED
    listed = (
        f"all {len(names)} are files in conf/{group}/" if many else f"valid: {', '.join(names)}"
    )
    hint = "" if close.startswith("valid") else listed
    return (
        f"no {'experiment' if group == 'experiments' else group} is called {name!r}: {close}",
        hint,
    )


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
