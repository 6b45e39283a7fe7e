"""Shell completion: the scripts for bash, zsh and fish, and the candidates that they ask `mcl` for
at each press of the key.

Nothing heavy is imported: keys and ranges are in completion.json, which `python -m
mcl.cli.completion` writes, runs are read from the store's SQLite file, and groups, searches and
promoted names are files of the project.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mcl.base import files
from mcl.cli.table import GLOBAL_FLAGS, VERBS

TABLE = Path(__file__).with_suffix(".json")
NEWEST = 20  # runs that are offered
FLAGS = (*sorted(GLOBAL_FLAGS), "--help", "--version")
COMPOSED = {
    "backtest": "backtest",
    "sweep": "sweep",
    "live": "live",
    "promote": "promote",
    "validate": "validate",
}
RUN = ("RUN_ID", "RUN_ID|SEARCH", "RUN_ID|SWEEP_ID", "RUN_ID|NAME|key=value", "RUN|NAME", "RUN")
SEARCH = ("SWEEP", "SWEEP_ID", "RUN_ID|SEARCH", "RUN_ID|SWEEP_ID")
NAMES = ("NAME", "VERSION", "RUN_ID|NAME|key=value", "RUN|NAME")
SCRIPTS = {
    "bash": (
        r"""_mcl() {
    local line
    COMPREPLY=()
    local typed="${COMP_LINE:0:COMP_POINT}"
    while IFS=$'\t' read -r line _; do
        COMPREPLY+=("$line")
    done < <(mcl complete bash "$typed" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    return 0
}
complete -F _mcl mcl
"""
    ),
    "zsh": (
        r"""#compdef mcl
_mcl() {
    local -a lines words_found texts
    local line
    lines=("${(@f)$(mcl complete zsh "$LBUFFER" 2>/dev/null)}")
    for line in $lines; do
        [[ -z $line ]] && continue
        words_found+=("${line%%$'\t'*}")
        texts+=("${line//$'\t'/  -- }")
    done
    compadd -S '' -l -d texts -- $words_found
}
compdef _mcl mcl
"""
    ),
    "fish": (
        r"""function __mcl_complete
    mcl complete fish (commandline -cp) 2>/dev/null
end
complete -c mcl -f -a '(__mcl_complete)'
"""
    ),
}

WORDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}  # bounds of a field
Candidate = tuple[str, str]  # the word, and what is said of it


def script(args: Namespace) -> int:
    """`mcl completion SHELL`: the script that the shell sources."""
    from mcl.base import terminal

    text = SCRIPTS[args.shell]
    terminal.answer({"shell": args.shell, "script": text}, lambda: print(text, end=""))
    return 0


def complete(shell: str, line: str) -> int:
    """Print the candidates for the last word of a line, one a line, each with a tab and its
    description.
    """
    words = line.split(" ")
    typed = [word for word in words[1:-1] if word]
    last = words[-1].strip("'\"")
    matches = sorted(set(candidates(typed, last)))
    for word, description in matches:
        text = word.rsplit("=", 1)[-1] if shell == "bash" and "=" in last and "=" in word else word
        print(f"{text}\t{description}" if description and shell != "bash" else text)
    return 0


def candidates(typed: Sequence[str], last: str) -> Iterator[Candidate]:
    """The words that may follow: verbs, options, runs, searches, promoted names, keys and
    values.
    """
    words = [word for word in typed if word not in FLAGS]
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in VERBS), "")
    if not words or (len(words) == 1 and any(verb.startswith(f"{words[0]} ") for verb in VERBS)):
        yield from _verbs(words, last)
    if not name:
        yield from (
            (flag, "")
            for flag in FLAGS
            if last.startswith("-") and flag.startswith(last) and not words
        )
        return
    actions = _actions(name)
    if last.startswith("-"):
        options = [(o, str(a.help or "")) for a in actions for o in a.option_strings]
        options += [(flag, "") for flag in sorted(GLOBAL_FLAGS)]
        yield from ((o, description) for o, description in options if o.startswith(last))
        return
    valued = next(
        (a for a in actions if words and words[-1] in a.option_strings and a.nargs != 0), None
    )
    actions_left = [valued] if valued else [a for a in actions if not a.option_strings]
    for action in actions_left:
        yield from ((str(c), "") for c in action.choices or () if str(c).startswith(last))
        yield from (
            (w, description)
            for w, description in _named(str(action.metavar or ""))
            if w.startswith(last)
        )
    if not valued and any(
        "key=value" in str(a.metavar) or a.metavar == "KEY" for a in actions_left
    ):
        yield from _overrides(COMPOSED.get(name, "backtest"), words, last)


def _verbs(words: Sequence[str], last: str) -> Iterator[Candidate]:
    start = " ".join([*words, last])
    for verb in VERBS.values():
        if verb.name.startswith(start):
            parts = verb.name.split()
            yield parts[len(words)], verb.summary if len(parts) == len(words) + 1 else ""


def _actions(name: str) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(prog=name)
    VERBS[name].arguments(parser)
    return parser._actions


def _named(metavar: str) -> Iterator[Candidate]:
    root = files.root()
    if metavar in RUN:
        yield "last", "the newest run"
        yield from _runs(root)
    if metavar in SEARCH:
        for card in sorted((root / "mlruns" / "sweeps").glob("*.card")):
            with suppress(OSError, ValueError, KeyError):
                card_fields = json.loads(card.read_text())
                yield (card_fields["name"] or card_fields["sweep_id"][:12]), "a search"
    if metavar in NAMES:
        yield from (
            (path.stem, "promoted") for path in sorted((root / "conf" / "promoted").glob("*.yaml"))
        )


def _runs(root: Path) -> Iterator[Candidate]:
    """The newest runs of the project's own store."""
    path = root / "mlruns" / "mlflow.db"
    if not path.is_file():
        return
    query = (
        "SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC"
        " LIMIT ?"
    )
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)) as store,
    ):
        yield from (
            (str(run_id)[:12], str(name or "")) for run_id, name in store.execute(query, (NEWEST,))
        )


def _overrides(verb: str, words: Sequence[str], last: str) -> Iterator[Candidate]:
    table: dict[str, Any] = json.loads(TABLE.read_text())
    strategy = next(
        (word.split("=")[1] for word in reversed(words) if word.startswith("strategy=")),
        "ema_cross",
    )
    own = {
        f"strategy.{key}": description
        for key, description in table["strategy"].get(strategy, {}).items()
    }
    keys: dict[str, str] = table["keys"].get(verb, {}) | (
        own if verb in ("backtest", "sweep") else {}
    )
    key, equals, beginning = last.partition("=")
    if equals:
        yield from (
            (f"{key}={value}", description)
            for value, description in _values(key, keys.get(key, ""))
            if value.startswith(beginning)
        )
        return
    yield from (
        (f"{key}=", description) for key, description in keys.items() if key.startswith(last)
    )
    yield from (
        (f"{group}=", "a group")
        for group in table["groups"].get(verb, ())
        if group.startswith(last)
    )


def _values(key: str, description: str) -> Iterator[Candidate]:
    root, group = files.root(), key.split("@", maxsplit=1)[0]
    folder = root / ("experiments" if group == "experiment" else f"conf/{group}")
    if "." not in group:
        yield from ((path.stem, "") for path in sorted(folder.glob("*.yaml")))
    yield from (
        (value, "one of these")
        for value in (
            description.removeprefix("one of ").split(", ")
            if description.startswith("one of ")
            else ()
        )
    )
    for path in sorted((root / "conf" / "promoted").glob("*.yaml")):
        if value := _promoted(path, key.split(".")):
            yield value, f"promoted now as {path.stem}; {description}"
    if description.startswith("default "):
        yield description.split()[1].rstrip(","), description


def _promoted(path: Path, parts: Sequence[str]) -> str:
    """The value of a key in a promoted file, read line by line: two blanks are one level."""
    depth = 0
    for line in path.read_text(errors="replace").splitlines():
        match = re.match(r"( *)([\w]+):(?: (.*))?$", line)
        if match is None or len(match[1]) != 2 * depth or match[2] != parts[depth]:
            continue
        if depth == len(parts) - 1:
            return (match[3] or "").strip("'\"")
        depth += 1
    return ""


def table() -> dict[str, Any]:
    """Keys, ranges and groups as completion.json holds them."""
    from mcl import composition, strategy
    from mcl.composition import schema_keys

    conf = Path(__file__).resolve().parents[2] / "conf"
    groups = {verb: sorted(composition.compose(verb, []).choices) for verb in COMPOSED}  # type: ignore[arg-type]
    for verb in ("backtest", "sweep"):
        groups[verb].append("experiment")
    own = {}
    for path in sorted((conf / "strategy").glob("*.yaml")):
        own[path.stem] = _searched(conf / "space" / path.name, strategy.defaults(path.stem))
    descriptions = {
        verb: dict(_keys(schema_keys.SECTIONS[verb], schema_keys.models)) for verb in COMPOSED
    }
    return {"keys": descriptions, "strategy": own, "groups": groups}


def _searched(space: Path, defaults: dict[str, Any]) -> dict[str, str]:
    """`default 10, searched in range(30, 481, 30)` of each parameter."""
    axes = (
        (files.plain_yaml(space.read_text(), space.name) or {}).get("strategy") or {}
        if space.is_file()
        else {}
    )
    descriptions = {key: f"default {value}" for key, value in defaults.items() if key != "name"}
    return {
        key: description + (f", searched in {axes[key]}" if key in axes else "")
        for key, description in descriptions.items()
    }


def _keys(sections: Any, models: Any) -> Iterator[Candidate]:
    """Every key below some sections, with the range of its value."""
    for name, annotation in sections.items():
        if name == "strategy":
            continue
        members = models(annotation)
        if not members:
            yield name, _type_text(annotation, ())
        for model in members:
            for field_name, field in model.model_fields.items():
                below = models(field.annotation)
                if below:
                    yield from (
                        (f"{name}.{key}", description)
                        for key, description in _keys({field_name: field.annotation}, models)
                    )
                else:
                    yield f"{name}.{field_name}", _type_text(field.annotation, field.metadata)


def _type_text(kind: Any, metadata: Any) -> str:
    """`int, 1 to 1000`, `one of market, limit`, `float or null, above 0`"""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is Annotated:
        return _type_text(get_args(kind)[0], metadata)
    if kind is bool:
        return "one of true, false"
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    names = [getattr(part, "__name__", "") for part in parts]
    type_names = " or ".join("null" if name == "NoneType" else name for name in names if name)
    bounds = {
        word: getattr(rule, word)
        for rule in metadata
        for word in WORDS
        if getattr(rule, word, None) is not None
    }
    return ", ".join([type_names, *(f"{WORDS[word]} {bound:g}" for word, bound in bounds.items())])


if __name__ == "__main__":
    TABLE.write_text(json.dumps(table(), indent=0, sort_keys=True) + os.linesep)
