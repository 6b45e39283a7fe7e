"""--cfg and --info: the configuration that a command line composes, as mcl validates it or as Hydra
prints it.
"""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import ConfigError
from mcl.base.files import plain_yaml
from mcl.config import schema

MARK = "# <- INVALID: "


def show(verb: composition.Verb, args: Namespace) -> int:
    """0 when it was printed, 1 when it is invalid: the fault is marked."""
    if args.info:
        from mcl.composition import origins

        text = origins.info(verb, args.overrides, args.info)
        terminal.answer({"info": text}, lambda: print(text, end=""))
        return 0
    if args.cfg != "run" or args.package or args.resolve:
        from mcl.composition import origins

        kind = "job" if args.cfg in (None, "run") else args.cfg
        text = origins.as_hydra(verb, args.overrides, kind, args.package, resolve=args.resolve)
        values = plain_yaml(text, "the configuration")
        terminal.answer(
            values if isinstance(values, dict) else {"value": values}, lambda: print(text, end="")
        )
        return 0
    composed = composition.compose(verb, args.overrides)
    try:
        raw = composed.config.model_dump(mode="json")
        raw |= {"search": composed.search.model_dump(mode="json")} if verb == "sweep" else {}
    except ConfigError as error:
        return _invalid(composed.raw, error)
    terminal.answer(raw, lambda: terminal.say(_yaml(raw)))
    return 0


def wants_configuration(args: Namespace) -> bool:
    """Whether a command line wants to see its configuration instead of running it."""
    return bool(args.cfg or args.info or args.package or args.resolve)


def _invalid(raw: dict[str, Any], error: ConfigError) -> int:
    marked = _marked(_yaml(raw), _key(raw, error), error.message)
    terminal.answer({"config": raw, "error": error.as_dict()}, lambda: print(marked))
    if not terminal.as_json():
        terminal.refuse(error)
    return 1


def _key(raw: dict[str, Any], error: ConfigError) -> str:
    """The longest part of the key in a sentence that the configuration has; a rule of a strategy is
    about its section.
    """
    match = re.match(
        r"(?:unknown key )?([A-Za-z_]\w*(?:\.\w+)*)(?==|:| is | has | must )", error.message
    )
    flat = composition.flatten(raw)
    parts = match[1].split(".") if match else []
    while parts and not any(f"{key}.".startswith(f"{'.'.join(parts)}.") for key in flat):
        parts.pop()
    if parts:
        return ".".join(parts)
    try:
        composition.validate(
            schema.Config,
            {key: value for key, value in raw.items() if key not in ("search", "promotion")},
        )
    except ConfigError:
        return ""
    return "strategy"


def _marked(text: str, key: str, sentence: str) -> str:
    """Return the YAML with the sentence on the line of `key`, or on top when no line has it."""
    import yaml

    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    line = -1
    for part in key.split(".") if key else []:
        entries = (
            {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        )
        if part not in entries:
            break
        line, node = entries[part][0].start_mark.line, entries[part][1]
    lines = text.split("\n")
    if line < 0:
        return f"{MARK}{sentence}\n{text}"
    lines[line] += f"  {MARK}{sentence}"
    return "\n".join(lines)


def _yaml(raw: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    return text.rstrip()
