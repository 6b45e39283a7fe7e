"""data build, data info, data extend."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import DataError, nearest


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
    added = f"{answer['added']:,} day{'' if answer['added'] == 1 else 's'}"
    terminal.say(
        f"{added} added: {answer['days']:,} days, {answer['first']} to {answer['last']}, for this"
        f" project in {answer['path']}"
    )
    terminal.say(f"next: mcl data info data={source}")


def _facts(facts: dict[str, Any]) -> int:
    terminal.answer(
        facts, lambda: terminal.table("data", ["", "value"], _brief(facts).items(), left=2)
    )
    return 0


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a dataset that a table shows; --json has all of them."""
    contracts, rolls = facts["contracts"], facts["rolls"]
    reasons = Counter(roll["reason"] for roll in rolls)
    own = facts.get("facts", {})
    world = own.get("world", {})
    summary = {k: v for k, v in facts.items() if k not in ("contracts", "rolls", "facts", "inputs")}
    summary["contracts"] = f"{len(contracts)}: {contracts[0]} to {contracts[-1]}"
    summary["rolls"] = f"{len(rolls)}" + (
        ": " + ", ".join(f"{n} {reason}" for reason, n in reasons.items()) if rolls else ""
    )
    return (
        composition.flatten(summary)
        | ({"notice": world["notice"], "edge": world["edge"]["words"]} if world else {})
        | ({"limits": own["limits"]} if own.get("limits") else {})
        | composition.flatten({"table": own["table"]} if own.get("table") else {})
    )
