"""Write docs/configuration.md from the schemas, the strategies and the files of conf/. `--check`
exits with 1 when the file is not current.

What stands behind a key in the schema's source (a comment) is its description: one text, beside the
code, for both readers.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import itertools
import json
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mcl import composition
from mcl.base.files import write_whole
from mcl.composition import schema_keys
from mcl.config import schema
from mcl.config.base_model import BARS
from mcl.config.promotion_rules import Promotion
from mcl.data.sources import SOURCES
from mcl.risk.sizes import METHODS
from mcl.strategy import builtin

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration reference

Written by `scripts/make_docs.py` from the schemas and `conf/`; a test holds it current.
Any key is overridden on the command line as `group.key=value`, a group is chosen as `group=NAME`.
`mcl backtest --cfg` prints what was composed, `mcl explain KEY` says where a value came from.
The default is what conf/ says where nothing is chosen or typed, else that of the code.
An unknown key, a wrong type or a broken rule is refused with the nearest valid choice.
"""
GROUPS: dict[
    str, tuple[str, tuple[type[BaseModel], ...], str]
] = {  # group of conf/ -> (heading, models, prefix of the keys)
    "data": (
        "data",
        tuple(source.model for source in SOURCES),
        "data",
    ),
    "roll": ("data.roll", (schema.Roll,), "data.roll"),
    "risk": (
        "risk",
        (*(method.model for method in METHODS), schema.Protection),
        "risk",
    ),
    "limits": ("risk.limits", (schema.Limits,), "risk.limits"),
    "costs": ("costs", (schema.Costs,), "costs"),
    "execution": ("execution", (schema.Execution,), "execution"),
    "broker": ("broker", (schema.BrokerConfig,), "broker"),
    "alerts": (
        "alerts",
        (
            schema.Alerts,
            *(
                model
                for field in schema.Alerts.model_fields.values()
                for model in schema_keys.models(field.annotation)
            ),
        ),
        "alerts",
    ),
    "telemetry": ("telemetry", (schema.Telemetry,), "telemetry"),
    "search": ("search", (schema.Search,), "search"),
    "promotion": ("promotion", (Promotion,), "promotion"),
    "validate": ("validate", (schema.Validation,), "validate"),
}
VERBS: dict[str, composition.Verb] = {
    "search": "sweep",
    "promotion": "promote",
    "validate": "validate",
    "alerts": "live",
    "telemetry": "live",
}


def page() -> str:
    """The whole reference."""
    parts = [HEAD, _top()]
    parts += [_group(folder, *about) for folder, about in GROUPS.items()]
    return "\n".join([*parts, _strategies()])


# ------------------------------------------------------------------------------------------- schema


def _top() -> str:
    rows = [
        row for row in _rows(schema.Config) if row[0] in ("capital_usd", "seed", "study", "notes")
    ]
    return f"\n## The run\n\n{_table(rows)}"


def _group(folder: str, heading: str, models: tuple[type[BaseModel], ...], prefix: str) -> str:
    files = _files(folder)
    chosen = "\n".join(f"* `{folder}={file.stem}` {_purpose(file)}" for file in files)
    tables = []
    for model in models:
        title = (
            f"\n**{_switch(model)}** {_told(model)}\n" if len(models) > 1 else f"\n{_told(model)}\n"
        )
        tables.append(f"{title}\n{_table(_rows(model, _own(model, prefix, folder)))}")
        tables += [
            _nested(key, below, prefix, models, _said(prefix, folder))
            for key, below in _below(model)
        ]
    return f"\n## {heading}\n\nKeys begin with `{prefix}.`\n\n{chosen}\n" + "".join(tables)


def _below(model: type[BaseModel], key: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(dotted key, model) of everything that lies inside a model, in order."""
    for name, field in model.model_fields.items():
        for below in schema_keys.models(field.annotation):
            yield f"{key}{name}", below
            yield from _below(below, f"{key}{name}.")


def _nested(
    key: str,
    model: type[BaseModel],
    prefix: str,
    models: tuple[type[BaseModel], ...],
    said: dict[str, Any],
) -> str:
    """The table of a model inside another one; empty where it has a table of its own elsewhere."""
    elsewhere = {each for _, others, _ in GROUPS.values() for each in others if each not in models}
    if model in elsewhere or model in models:
        return ""
    own = {
        name.removeprefix(f"{key}."): value
        for name, value in said.items()
        if name.startswith(f"{key}.")
    }
    return f"\n**`{prefix}.{key}`** {_told(model)}\n\n{_table(_rows(model, own))}"


@functools.cache
def _composed(verb: composition.Verb) -> dict[str, Any]:
    return composition.flatten(composition.compose(verb, []).raw)


def _said(prefix: str, folder: str) -> dict[str, Any]:
    """What conf/ says of the keys below a prefix where nothing is typed."""
    verb: composition.Verb = VERBS.get(folder, "backtest")
    return {
        key.removeprefix(f"{prefix}."): value
        for key, value in _composed(verb).items()
        if key.startswith(f"{prefix}.")
    }


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / "conf" / folder).glob("*.yaml"))


def _own(model: type[BaseModel], prefix: str, folder: str) -> dict[str, Any]:
    """What conf/ says of a model's own keys: of a method of sizing the file of that name, which
    chooses it, and of a data source the first file that names it.
    """
    if folder == "data" and "source" in model.model_fields:
        source = get_args(model.model_fields["source"].annotation)[0]
        paths = sorted(_files(folder), key=lambda path: path.stem != source)
        files = (yaml.safe_load(path.read_text()) for path in paths)
        written = next(content for content in files if content["source"] == source)
        return {
            key: value
            for key, value in composition.flatten(written).items()
            if value != "???" and not key.startswith("defaults")
        }
    if folder == "risk" and "method" in model.model_fields:
        method = get_args(model.model_fields["method"].annotation)[0]
        composed = composition.flatten(composition.compose("backtest", [f"risk={method}"]).raw)
        return {
            key.removeprefix("risk.size."): value
            for key, value in composed.items()
            if key.startswith("risk.size.")
        }
    said, place = _said(prefix, folder), f"{model.__name__.lower()}."
    return {
        key.removeprefix(place): value for key, value in said.items() if key.startswith(place)
    } or said


def _switch(model: type[BaseModel]) -> str:
    """How the model is chosen: the value of its literal discriminator, or its place."""
    for name in ("source", "method"):
        if name in model.model_fields:
            return f"`{name}: {get_args(model.model_fields[name].annotation)[0]}`"
    return f"`{model.__name__.lower()}`"


def _told(model: type[Any]) -> str:
    return " ".join((vars(model).get("__doc__") or "").split())


def _rows(
    model: type[BaseModel], said: dict[str, Any] | None = None
) -> list[tuple[str, str, str, str]]:
    """(key, type and range, default, description) of every field, those of nested models left to
    their own table.
    """
    told: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if parent is not BaseModel and issubclass(parent, BaseModel):
            told |= _comments(parent)
    from_conf = said or {}
    return [
        (
            name,
            _kind(field),
            _shown(from_conf[name]) if name in from_conf else _default(field),
            told.get(name, ""),
        )
        for name, field in model.model_fields.items()
    ]


def _comments(model: type[Any]) -> dict[str, str]:
    """{field: the comment at the end of its line, or on the lines above it} in the class."""
    source = inspect.getsource(model)
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            _, _, comment = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")
            above = itertools.takewhile(
                lambda line: line.startswith("#"),
                (lines[row].strip() for row in range(node.lineno - 2, -1, -1)),
            )
            comment = comment or " ".join(line[1:].strip() for line in reversed(list(above)))
            directive = r"(#\s*)?(noqa: \w+|type: ignore\S*)( - )?"
            found[node.target.id] = re.sub(directive, "", comment).strip()
    return found


def _kind(field: FieldInfo) -> str:
    return _limited(_type(field.annotation), field.metadata)


def _limited(kind: str, metadata: list[Any] | tuple[Any, ...]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    bounds = [
        f"{sign} {getattr(m, name):,}"
        for m in metadata
        for name, sign in signs.items()
        if getattr(m, name, None) is not None
    ]
    kind = "bars or a duration" if BARS in metadata else kind
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        nested = [m for meta in inner[1:] if isinstance(meta, FieldInfo) for m in meta.metadata]
        return _limited(_type(inner[0]), [*nested, *inner[1:]])
    if origin is Literal:
        return " · ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in inner if a is not type(None)) + (
            " or null" if type(None) in inner else ""
        )
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"mapping to {_type(inner[1])}"
    return {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "Any": "any",
    }.get(
        getattr(annotation, "__name__", str(annotation)),
        getattr(annotation, "__name__", str(annotation)),
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "the table below"
    return _shown(value)


def _shown(value: Any) -> str:
    return f"`{json.dumps(value, default=str)}`"


def _purpose(file: Path) -> str:
    first = file.read_text().splitlines()[0] if file.stat().st_size else ""
    return first.removeprefix("#").strip()


# --------------------------------------------------------------------------------------- strategies


def _strategies() -> str:
    parts = [
        "\n## strategy\n\nKeys begin with `strategy.`; the default search space of each lies in"
        " `conf/space/NAME.yaml`.\n"
    ]
    return "".join([*parts, *(_strategy(name, cls) for name, cls in sorted(builtin().items()))])


def _strategy(name: str, cls: type[Any]) -> str:
    rows = list(_parameters(cls))
    space = ROOT / "conf" / "space" / f"{name}.yaml"
    searched = yaml.safe_load(space.read_text()) if space.is_file() else None
    axes = ", ".join(
        f"`{key}={value}`" for key, value in ((searched or {}).get("strategy") or {}).items()
    )
    table = _table(rows) if rows else "No parameters.\n"
    return f"\n### `strategy={name}`\n\n{_told(cls)}\n\n{table}" + (
        f"\nSearched by default: {axes}.\n" if axes else ""
    )


def _parameters(cls: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    hints, told = get_type_hints(cls, include_extras=True), _comments(cls)
    from_conf = yaml.safe_load((ROOT / "conf" / "strategy" / f"{cls.name}.yaml").read_text())
    for field in fields(cls):
        default = field.default if field.default is not MISSING else None
        if default is not None:
            default = from_conf.get(field.name, default)
        yield field.name, _type(hints[field.name]), f"`{default}`", told.get(field.name, "")


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    cells = ["| key | value | default | |", "|---|---|---|---|"]
    cells += [
        "| " + " | ".join([f"`{key}`", *(text.replace("|", "\\|") for text in rest)]) + " |"
        for key, *rest in rows
    ]
    return "\n".join(cells) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    current = page()
    if parser.parse_args().check:
        fresh = PAGE.is_file() and PAGE.read_text() == current
        print(
            "docs/configuration.md is current"
            if fresh
            else "docs/configuration.md is not current: run scripts/make_docs.py"
        )
        return 0 if fresh else 1
    write_whole(PAGE, current.encode())
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
