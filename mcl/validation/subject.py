"""The subject of a validation: a run, with the space that its parameters were, or could be,
searched in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mcl import composition
from mcl.base import progress
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine.backtest import backtest as simulate
from mcl.engine.result import Result
from mcl.metrics.summary import summary
from mcl.search import space as spaces
from mcl.tracking import backtest_run
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun
from mcl.validation.selection import SEARCHES, pick

WORST_DRAWS = 40  # draws per wanted point before a space counts as exhausted


@dataclass(frozen=True)
class Subject:
    """`bars` end where the hold-out begins. `space` is empty for a strategy without anything to
    search.
    """

    stored: StoredRun
    run: schema.Config
    bars: Bars
    space: spaces.Space
    search_id: str  # the sweep or grid that the run came from, or empty

    @cached_property
    def raw(self) -> dict[str, Any]:
        return self.run.model_dump(mode="json")

    @cached_property
    def result(self) -> Result:
        progress.begin("simulating")
        return simulate(self.run, self.bars)

    @cached_property
    def metrics(self) -> dict[str, float]:
        return summary(self.result)

    @cached_property
    def point(self) -> dict[str, Any]:
        """The run's own place in the space."""
        flat = composition.flatten(self.raw)
        return {key: flat[key] for key in self.space}

    def at(self, values: dict[str, Any]) -> Result | None:
        """The result with other values; None where they are no valid configuration (fast >=
        slow).
        """
        try:
            return simulate(composition.run_config(spaces.overlay(self.raw, values)), self.bars)
        except ConfigError:
            return None


def subject(run_id: str, project: Project) -> Subject:
    """A finished run, or the choice of a search by plateau."""
    stored = project.store.run(run_id)
    if stored.tags.get("mcl.kind") in SEARCHES:
        stored = project.store.run(pick(stored, project=project).run_id)
    run = backtest_run.stored_config(stored)
    bars = load(run.data, project.root)  # up to the fence: never the hold-out
    parent = project.store.run(stored.parent) if stored.parent else None
    return Subject(stored, run, bars, _space(run, parent), parent.run_id if parent else "")


def sampled(space: spaces.Space, budget: int, seed: int) -> Iterator[dict[str, Any]]:
    """Distinct points drawn evenly over the space, in an order that depends on the seed alone; of a
    small grid, all.
    """
    rng = np.random.default_rng(seed)
    axes = {key: values(key, axis) for key, axis in space.items()}
    yielded: set[str] = set()
    for _ in range(WORST_DRAWS * budget):
        point = {key: _draw(axis, axes[key], rng) for key, axis in space.items()}
        name = json.dumps(point)
        if name not in yielded:
            yielded.add(name)
            yield point


def values(key: str, axis: Any) -> list[Any]:
    """All values of an axis, or none where it is continuous or too long to list."""
    if hasattr(axis, "low") and (
        axis.step is None or axis.log or (axis.high - axis.low) / axis.step > 100_000
    ):
        return []
    return spaces.points(key, axis)


def _space(run: schema.Config, parent: StoredRun | None) -> spaces.Space:
    """That of the search the run came from, else the one that conf/space/ has for
    the strategy.
    """
    raw = run.model_dump(mode="json")
    if parent is not None and (parent.artifacts / "search.json").is_file():
        entries = json.loads(parent.file("search.json"))["search"]["space"]
    else:
        entries = _beside(run.strategy["name"])
    searchable = set(spaces.searchable(raw))
    flat = {
        key: entry
        for key, entry in composition.flatten(entries).items()
        if key in searchable and entry not in (None, {})
    }
    return spaces.parse(flat, raw) if flat else {}


def _beside(strategy: str) -> dict[str, Any]:
    if not (composition.conf_dir() / "space" / f"{strategy}.yaml").is_file():
        return {}
    space: dict[str, Any] = composition.compose("sweep", [f"strategy={strategy}"]).raw["search"][
        "space"
    ]
    return space


def _draw(axis: Any, values: list[Any], rng: np.random.Generator) -> Any:
    if values:
        return values[int(rng.integers(len(values)))]
    low, high = (np.log(axis.low), np.log(axis.high)) if axis.log else (axis.low, axis.high)
    sample = float(np.exp(rng.uniform(low, high)) if axis.log else rng.uniform(low, high))
    return (
        min(axis.high, max(axis.low, round(sample)))
        if type(axis).__name__ == "IntDistribution"
        else sample
    )
