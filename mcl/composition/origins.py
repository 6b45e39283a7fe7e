"""Lists the files and the overrides that the values of a composition come from, and prints Hydra's
own view of them.
"""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from pydantic import BaseModel

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.composition import Verb, schema_keys
from mcl.composition.validation import tags


@dataclass(frozen=True)
class ConfigFile:
    """Describe one file of a composition: its package, and what chose it, `conf/run.yaml` or an
    override.
    """

    file: Path
    package: str
    chosen_by: str


@dataclass(frozen=True)
class Assignment:
    """One override of a value: what was typed, its key, and the value; `deletes` for `~key`."""

    text: str
    key: str
    value: Any
    deletes: bool


def sources(verb: Verb, overrides: list[str]) -> tuple[list[ConfigFile], list[Assignment]]:
    """The files and the value overrides of a composition, in Hydra's order: of several that say a
    key the last one wins.
    """
    with composition.hydra(), composition.sentences(verb, overrides):
        loader: Any = GlobalHydra.instance().config_loader()
        parsed, repository = loader._parse_overrides_and_create_caching_repo(
            verb, composition.aliases(overrides)
        )
        defaults = create_defaults_list(
            repository, verb, parsed, prepend_hydra=True, skip_missing=False
        )
        texts = dict(zip(map(id, parsed), overrides, strict=True))
        typed = {
            o.key_or_group if o.package is None else f"{o.key_or_group}@{o.package}": texts[id(o)]
            for o in parsed
        }
        files = []
        for entry in defaults.defaults:
            loaded = repository.load_config(entry.config_path) if entry.config_path else None
            if loaded is None or not loaded.path.startswith("file://"):
                continue
            file = Path(loaded.path.removeprefix("file://")) / f"{entry.config_path}.yaml"
            group = typed.get(entry.override_key or "", "")
            files.append(
                ConfigFile(
                    file,
                    entry.package or "",
                    (
                        f"override {group}"
                        if group
                        else f"{entry.parent}.yaml"
                        if entry.parent
                        else ""
                    ),
                )
            )
        values = [
            Assignment(texts[id(o)], o.key_or_group, o.value(), o.is_delete())
            for o in defaults.config_overrides
        ]
    return files, values


def as_hydra(
    verb: Verb, overrides: list[str], kind: str, package: str | None, *, resolve: bool
) -> str:
    """Return what Hydra's own `--cfg KIND [--package PACKAGE] [--resolve]` prints: YAML, composed
    and not yet validated.
    """
    with (
        composition.hydra(),
        composition.sentences(verb, overrides),
        redirect_stdout(StringIO()) as output,
        redirect_stderr(StringIO()),
    ):
        try:
            app: Any = GlobalHydra.instance().hydra
            app.show_cfg(verb, composition.aliases(overrides), kind, package, resolve)
        except SystemExit:
            sections = ", ".join(map(str, composition.compose(verb, overrides).raw))
            raise ConfigError(
                f"--package={package} is no part of this configuration",
                f"valid: {sections}, or a key below one",
            ) from None
    return output.getvalue()


def info(verb: Verb, overrides: list[str], what: str) -> str:
    """Return what Hydra's own `--info WHAT` prints: the defaults tree and list, search path,
    plugins, or the configuration.
    """
    with (
        composition.hydra(),
        composition.sentences(verb, overrides),
        redirect_stdout(StringIO()) as output,
    ):
        app: Any = GlobalHydra.instance().hydra
        app.show_info(what, verb, composition.aliases(overrides))
    return output.getvalue()


def field_owner(model: type[BaseModel], raw: Any, path: list[str]) -> str:
    """`Limits in mcl/config/schema.py`: the model whose default a key has that nobody says; empty
    where no model has the key.
    """
    name, *rest = path
    field = model.model_fields.get(name)
    if field is None:
        return ""
    if not rest:
        return f"{model.__name__} in {model.__module__.replace('.', '/')}.py"
    value = raw.get(name) if isinstance(raw, dict) else None
    members = schema_keys.models(field.annotation)
    tagged = [
        m for m in members if isinstance(value, dict) and tags(m) & {str(v) for v in value.values()}
    ]
    below = next(iter(tagged or members), None)
    return field_owner(below, value, rest) if below else ""
