"""data build, data info."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from typing import Any

from mcl import composition
from mcl.base import terminal


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


def _facts(facts: dict[str, Any]) -> int:
    terminal.answer(
        facts, lambda: terminal.table("data", ["", "value"], _brief(facts).items(), left=2)
    )
    return 0


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a dataset that a table shows; --json has all of them."""
    contracts, rolls = facts["contracts"], facts["rolls"]
    reasons = Counter(roll["reason"] for roll in rolls)
    world = facts.get("facts", {}).get("world", {})
    summary = {k: v for k, v in facts.items() if k not in ("contracts", "rolls", "facts", "inputs")}
    summary["contracts"] = f"{len(contracts)}: {contracts[0]} to {contracts[-1]}"
    summary["rolls"] = f"{len(rolls)}" + (
        ": " + ", ".join(f"{n} {reason}" for reason, n in reasons.items()) if rolls else ""
    )
    return composition.flatten(summary) | (
        {"notice": world["notice"], "edge": world["edge"]["words"]} if world else {}
    )
