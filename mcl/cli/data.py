"""data build, data info, data extend, data realism."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import DataError, nearest
from mcl.base.words import many

if TYPE_CHECKING:
    from mcl.data.realism import FigureRow

BOUND = (
    "within 10 % of the market's figure; below 0.1 within 0.02; quantiles in ticks, contracts or"
    " seconds within one"
)


def build(args: Namespace) -> int:
    from mcl.data.loader import dataset_facts

    return _facts(
        dataset_facts(
            composition.compose("backtest", args.overrides).config.data, composition.root()
        )
    )


def info(args: Namespace) -> int:
    from mcl.data.loader import dataset_facts

    return _facts(
        dataset_facts(
            composition.compose("backtest", args.overrides).config.data, composition.root()
        )
    )


def extend(args: Namespace) -> int:
    from mcl.data import sources

    source = sources.BY_NAME.get(args.source)
    if source is None or source.extend is None:
        names = [name for name, each in sources.BY_NAME.items() if each.extend]
        raise DataError(
            f"the data source {args.source!r} has no table to continue;"
            f" {nearest(args.source, names)}",
            "mcl data extend eia FILE",
        )
    path = Path(args.file)
    if not path.is_file():
        raise DataError(f"there is no file {path}", "name the newer table")
    answer = source.extend(composition.root(), path)
    terminal.answer(answer, lambda: _show_extension(args.source, answer))
    return 0


def _show_extension(source: str, answer: dict[str, Any]) -> None:
    added, days = many(answer["added"], "day"), many(answer["days"], "day")
    terminal.say(
        f"{added} added: {days}, {answer['first']} to {answer['last']}, for this"
        f" project in {answer['path']}"
    )
    terminal.say(f"next: mcl data info data={source}")


def realism(args: Namespace) -> int:
    """Print every measured figure of the market next to that of the source."""
    from mcl.data import loader
    from mcl.data.realism import facts
    from mcl.data.second_figures import compare_stored

    data = composition.compose("backtest", args.overrides).config.data
    stored = loader.stored_dataset(data, composition.root())
    rows = compare_stored(stored)
    answer = {
        "source": facts(stored.interval)["source"],
        "dataset": str(stored.folder),
        "figures": len(rows),
        "near": sum(row.near for row in rows),
        "rows": [row.as_dict() for row in rows],
    }
    terminal.answer(answer, lambda: _show_realism(answer, rows))
    return 0


def _show_realism(answer: dict[str, Any], rows: list[FigureRow]) -> None:
    cells = [
        (row.name, _short(row.figure), _short(row.fact), row.ratio, "" if row.near else "off")
        for row in rows
    ]
    terminal.table("realism", ["figure", "here", "market", "ratio", ""], cells, left=1)
    share = answer["near"] / max(1, answer["figures"])
    terminal.say(f"{answer['near']} of {answer['figures']} figures are near ({share:.1%}).")
    terminal.say(f"Near: {BOUND}.")
    terminal.say(f"Market: {answer['source']}")


def _short(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:,.4g}"


def _facts(facts: dict[str, Any]) -> int:
    terminal.answer(
        facts, lambda: terminal.table("data", ["", "value"], _brief(facts).items(), left=2)
    )
    return 0


def _range(contracts: list[str], own: dict[str, Any]) -> str:
    """The contracts of a dataset in a few words; a series without dated contracts says so."""
    if own.get("dated_contracts") is False:
        return f"one series of {contracts[0]} without dated contracts, which never rolls"
    if len(contracts) == 1:
        return f"1: {contracts[0]}"
    return f"{len(contracts)}: {contracts[0]} to {contracts[-1]}"


def _strays(fact: dict[str, Any]) -> str:
    return f"{fact['count']:,} of {fact['of']:,}: {', '.join(fact['places'])}"


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a dataset that a table shows; --json has all of them."""
    from mcl.data.conventions import STRAYS

    contracts, rolls = facts["contracts"], facts["rolls"]
    reasons = Counter(roll["reason"] for roll in rolls)
    own = facts.get("facts", {})
    world = own.get("world", {})
    summary = {k: v for k, v in facts.items() if k not in ("contracts", "rolls", "facts", "inputs")}
    called = Counter(facts.get("conditions", {}).values())
    summary["conditions"] = (
        ", ".join(f"{many(n, 'day')} {word}" for word, n in called.items()) or "none"
    )
    summary["contracts"] = _range(contracts, own)
    summary["rolls"] = f"{len(rolls)}" + (
        ": " + ", ".join(f"{n} {reason}" for reason, n in reasons.items()) if rolls else ""
    )
    return (
        composition.flatten(summary)
        | ({"notice": world["notice"], "edge": world["edge"]["words"]} if world else {})
        | ({"limits": own["limits"]} if own.get("limits") else {})
        | ({"bars in closed hours": _strays(own[STRAYS])} if own.get(STRAYS) else {})
        | composition.flatten({"table": own["table"]} if own.get("table") else {})
    )
