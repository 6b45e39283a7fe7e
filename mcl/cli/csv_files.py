"""data sniff: a proposal of how a CSV is read, its first bars, and a file of conf/data for it."""

from __future__ import annotations

import json
import re
import shlex
from argparse import Namespace
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import ConfigError, DataError
from mcl.base.files import below, files_below, plain_yaml, write_whole, yaml_file

if TYPE_CHECKING:
    from mcl.data.csv_proposal import CsvProposal
    from mcl.market.instruments import Contract

RECORDS = (  # endings of files that need no proposal, and the option that reads them
    (".parquet", "Parquet", "parquet"),
    (".dbn", "DBN", "mcl_databento"),
    (".dbn.zst", "DBN", "mcl_databento"),
)
FIRST_BARS = 5  # bars
PLAIN = re.compile(r"[\w./+-]+", re.ASCII)
ROLL = ("roll", "start", "end", "holdout_start")  # keys that do not read a file


def sniff(args: Namespace) -> int:
    """Print the proposal; with --write, write conf/data/NAME.yaml. 1 where a key is undecided or
    the bars contradict one.
    """
    from mcl.data.source import existing_path

    path = existing_path(args.file, composition.root())
    _refuse_parquet(path)
    proposal = _proposal(path, _typed(args.keys))
    answer = {
        "preset": proposal.preset,
        "overrides": [f"data.{k}={_value(v)}" for k, v in proposal.keys.items()],
        "reasons": list(proposal.reasons),
        "undecided": {f"data.{key}": text for key, text in proposal.undecided.items()},
        "doubts": [{"name": d.name, "text": d.text, "cure": d.cure} for d in proposal.doubts],
        "bars": _bars(proposal),
        "config": None,
    }
    if args.write:
        answer["config"] = str(_write(args.write, path, proposal))
    terminal.answer(answer, lambda: _show(path, proposal, answer))
    return 1 if proposal.undecided or proposal.doubts else 0


def _proposal(path: Path, typed: dict[str, Any]) -> CsvProposal:
    """The proposal for a file; for a folder that of its first file, whose contract is not that of
    the others.
    """
    from mcl.data import csv_folder
    from mcl.data.csv_proposal import propose

    if path.is_file():
        return propose(path, _presets(), typed)
    first = propose(csv_folder.files(path, typed.get("files"))[0], _presets(), typed)
    keys = {key: value for key, value in first.keys.items() if key != "contract"}
    return replace(first, keys=keys)


def _refuse_parquet(path: Path) -> None:
    """Parquet and DBN say themselves how they are read: their sources need no proposal."""
    files = [path] if path.is_file() else files_below(path, tuple(end for end, _, _ in RECORDS))
    for ending, form, data in RECORDS:
        if any(file.name.endswith(ending) for file in files):
            raise ConfigError(
                f"{path} holds {form}, which says itself how it is read",
                f"read it: mcl data info data={data} data.path={path}",
            )


def _presets() -> dict[str, dict[str, Any]]:
    """The options of the group data that read a CSV, with their own keys put over those of csv."""
    folder = composition.conf_dir() / "data"
    plain = _content(folder / "csv.yaml")
    presets = {"csv": plain}
    for file in sorted(folder.glob("*.yaml")):
        own = _content(file)
        if own.get("source") == "csv" and file.stem != "csv" and "path" not in own:
            sections = {k: plain.get(k, {}) | v for k, v in own.items() if isinstance(v, dict)}
            presets[file.stem] = plain | own | sections
    return presets


def _content(file: Path) -> dict[str, Any]:
    keys: dict[str, Any] = yaml_file(file)
    return {k: v for k, v in keys.items() if k not in ("defaults", *ROLL)}


def _typed(words: list[str]) -> dict[str, Any]:
    keys = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key.startswith("data."):
            raise ConfigError(
                f"{word!r} is no key of the data", "write data.key=value, as data.timezone=UTC"
            )
        keys[key.removeprefix("data.")] = plain_yaml(value, word)
    return keys


def _value(value: Any) -> str:
    """A value in the grammar of overrides, quoted for a shell where it has to be."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return value
    return shlex.quote(json.dumps(value, ensure_ascii=False))


def _bars(proposal: CsvProposal) -> list[dict[str, Any]]:
    import pandas as pd

    from mcl.data.continuous import close_times

    chunk = next(iter(proposal.table.chunks()))
    rows = chunk.rows.take(slice(0, FIRST_BARS))
    known_at = close_times(rows, proposal.table.interval, proposal.table.calendar)
    names = ("open", "high", "low", "close", "volume")
    return [
        {
            "opens": str(
                pd.Timestamp(int(rows.ts_event[i]), tz="UTC").tz_convert("America/New_York")
            ),
            "known_at": str(pd.Timestamp(int(known_at[i]), tz="UTC")),
            "contract": _contract(proposal.table.contracts[rows.contract[i]]),
            **{name: getattr(rows, name)[i].item() for name in names},
        }
        for i in range(len(rows))
    ]


def _contract(contract: Contract) -> str:
    """The name of a dated contract, the product alone for a series without any."""
    return contract.root if contract.last_trade_date == date.max else contract.name


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _shipped(name: str) -> bool:
    from mcl.ops.init import carried

    return below(carried("conf") / "data", name, ending=".yaml").is_file()


def _write(name: str, path: Path, proposal: CsvProposal) -> Path:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigError(
            f"--write={name!r} must be lower-case letters, digits and underscores: it becomes the"
            " choice data=NAME"
        )
    target = below(composition.conf_dir() / "data", name, ending=".yaml")
    if target.exists():
        if _shipped(name):
            raise ConfigError(
                f"{name} is a choice that mcl ships with", "choose another name, such as my_" + name
            )
        raise ConfigError(f"{target} exists already", "choose another name, or delete the file")
    if proposal.undecided:
        key, text = next(iter(proposal.undecided.items()))
        raise DataError(
            f"data.{key} is not shown by {path}: {text}",
            f"say it: mcl data sniff {path} --write {name} data.{key}=VALUE",
        )
    root = composition.root()
    place = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    keys: dict[str, Any] = {"source": "csv", "path": place}
    for dotted, value in proposal.keys.items():
        section, _, last = dotted.rpartition(".")
        (keys.setdefault(section, {}) if section else keys)[last] = value
    heading = f"# {path.name}, as `mcl data sniff` proposed to read it: data={name}\n"
    body = {"defaults": [proposal.preset, "_self_"]}
    text = yaml.safe_dump(body, sort_keys=False) + "\n" + yaml.safe_dump(keys, sort_keys=False)
    write_whole(target, (heading + text).encode())
    return target


def _show(path: Path, proposal: CsvProposal, answer: dict[str, Any]) -> None:
    for reason in proposal.reasons:
        terminal.say(_sentence(reason))
    rows = [list(bar.values()) for bar in answer["bars"]]
    if rows:
        heads = ["opens, New York", "known at", *list(answer["bars"][0])[2:]]
        terminal.table("the first bars as they would be read", heads, rows, left=3)
    words = [f"data={proposal.preset}", f"data.path={shlex.quote(str(path))}"]
    terminal.say("mcl data info " + " ".join([*words, *answer["overrides"]]))
    for key, text in answer["undecided"].items():
        terminal.say(f"Undecided: {key}. {_sentence(text)} Add {key}=VALUE.")
    for doubt in proposal.doubts:
        terminal.say(f"{_sentence(doubt.text)} {_sentence(doubt.cure)}")
    if answer["config"]:
        terminal.say(f"written: {answer['config']}; use it with data={Path(answer['config']).stem}")
