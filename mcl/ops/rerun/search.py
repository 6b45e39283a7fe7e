"""A search made again: the points, the trials, and for a walk-forward search the run that its
winners were stitched to.

Without a pruner a search goes the same way again, whatever the order in which its workers ended. A
pruner sees what has ended before: with several workers that order is not kept, and each trial is
simulated again at the point that it had.
"""

from __future__ import annotations

import io
import math
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mcl.base import progress
from mcl.base.differences import Differences, differences
from mcl.base.errors import StoreError
from mcl.base.undefined import is_undefined
from mcl.base.words import many
from mcl.metrics.summary import summary
from mcl.ops.rerun.result import Again
from mcl.promotion.reproduce import moved
from mcl.search import walk_forward as walking
from mcl.search.ask_tell import Loop
from mcl.search.best import ranking
from mcl.search.samplers import NUMBERED
from mcl.search.snapshot import SearchSnapshot, stored_composed, take_snapshot
from mcl.search.space import existing
from mcl.search.study import Study
from mcl.search.trial import Objective, Outcome
from mcl.search.trial_log import TrialLog
from mcl.search.worker_pool import Inline
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun

OWN = (  # columns of no metric
    *("trial", "state", "reason", "detail", "value", "seconds", "run_id"),
    *("config_sha256", "trial_sha256", "plateau", "front", "excess"),
)
CHANCE = ("timeout", "worker_died")  # what a machine did to a trial is no result


@dataclass(frozen=True)
class Searched:
    """A search and its trials made again, by number. `redrawn` counts the points that were drawn
    again, `left` what cannot be repeated.
    """

    snapshot: SearchSnapshot
    table: pd.DataFrame
    outcomes: dict[int, Outcome]
    redrawn: int
    left: int

    @property
    def differing(self) -> Differences:
        rows = {int(row["trial"]): row for row in _rows(self.table)}
        unequal_values: Differences = {}
        for number, outcome in self.outcomes.items():
            unequal = differences(_facts(rows[number]), _now(outcome))
            unequal_values |= {f"trial {number} {name}": pair for name, pair in unequal.items()}
        return unequal_values

    @property
    def sentence(self) -> str:
        points = (
            ""
            if self.redrawn == len(self.outcomes)
            else f", {len(self.outcomes) - self.redrawn} of them at the points they had"
        )
        left = (
            f"; {self.left} timed out, died or were pruned in an order that is not kept"
            if self.left
            else ""
        )
        return f"{many(len(self.outcomes), 'trial')} bit-equal{points}{left}"

    @property
    def winner(self) -> dict[str, Any]:
        """The values that the search chooses; empty when no trial has a score."""
        scored = [
            self.outcomes[n] for n in sorted(self.outcomes) if self.outcomes[n].state == "COMPLETE"
        ]
        ranked = ranking(self.snapshot.search, self.snapshot.space, scored)
        return dict(ranked[0].params) if ranked else {}


def sweep(stored: StoredRun, project: Project) -> Again:
    again = searched(stored, project.root)
    return Again(
        stored.run_id,
        "sweep",
        again.sentence,
        again.differing,
        moved(stored, again.snapshot.run, again.snapshot.bars),
    )


def walk(stored: StoredRun, project: Project) -> Again:
    """The winners of all parts, found again, and the metrics of the run that they are stitched
    to.
    """
    snapshot = _search_state(stored, project.root)
    sweeps = {
        int(run.tags["fold"]): run
        for run in project.store.children(stored.run_id)
        if "fold" in run.tags
    }
    differing: Differences = {}
    done, trials = [], 0
    for part in progress.each("searching the parts again", list(walking.parts(snapshot))):
        if part.number not in sweeps:
            raise StoreError(
                f"the search of part {part.number} of {stored.run_id} is gone",
                f"mcl sweep resume {stored.run_id[:12]} makes it again",
            )
        again = searched(sweeps[part.number], project.root)
        trials += len(again.outcomes)
        differing |= {f"part {part.number} {name}": pair for name, pair in again.differing.items()}
        done.append(replace(part, best={"params": again.winner}))
    measured = summary(walking.stitched(snapshot, done))
    differing |= differences(
        {name: value for name, value in stored.summary.items() if name in measured},
        _defined(measured, stored),
    )
    sentence = (
        f"{many(trials, 'trial')} of {len(done)} parts and {len(measured)} metrics of the stitched"
        " run bit-equal"
    )
    causes = moved(stored, snapshot.run, snapshot.bars)
    return Again(
        stored.run_id,
        "walk_forward",
        sentence,
        differing,
        causes,
        tuple(run.run_id for run in sweeps.values()),
    )


def _defined(measured: dict[str, float], stored: StoredRun) -> dict[str, float]:
    """The store keeps no infinity."""
    return {
        name: value
        for name, value in measured.items()
        if name in stored.summary or not math.isinf(value)
    }


def searched(stored: StoredRun, root: Path) -> Searched:
    snapshot, table = _search_state(stored, root), _table(stored)
    rows = _rows(table)
    points = {int(row["trial"]): _point(row, snapshot) for row in rows}
    fixed = tuple(
        points[n] for n in range(len(stored_composed(stored).search.enqueue)) if n in points
    )
    snapshot = replace(snapshot, fixed=fixed, total=max(points, default=-1) + 1)
    objective = Objective(
        snapshot.composed.raw, snapshot.search, snapshot.data_cache, snapshot.rules, snapshot.soft
    )
    redrawn = _repeated_outcomes(snapshot, objective) if _repeats(snapshot) else {}
    outcomes, repeated, left = {}, 0, 0
    for row in progress.each("simulating the trials again", rows):
        number = int(row["trial"])
        if number in redrawn and (
            redrawn[number].params == points[number] or snapshot.search.sampler in NUMBERED
        ):
            outcomes[number], repeated = redrawn[number], repeated + 1
        elif str(row["reason"]) not in (*CHANCE, "duplicate") and not str(row["reason"]).startswith(
            "fold "
        ):
            outcomes[number] = objective(number, points[number])
        if str(row["reason"]) in CHANCE:
            outcomes.pop(number, None)
        left += number not in outcomes and str(row["reason"]) != "duplicate"
    return Searched(snapshot, table, outcomes, repeated, left)


def _point(row: dict[str, Any], snapshot: SearchSnapshot) -> dict[str, Any]:
    """The values of a trial; an axis that did not exist at its point has none."""
    values = {key: _plain(row[key]) for key in snapshot.space}
    conditions = snapshot.search.conditions
    return {key: value for key, value in values.items() if existing(key, values, conditions)}


def _repeats(snapshot: SearchSnapshot) -> bool:
    """Whether the whole search goes the same way again."""
    search = snapshot.search
    return search.pruner == "none" or (search.workers == 1 and search.backend == "local")


def _repeated_outcomes(snapshot: SearchSnapshot, objective: Objective) -> dict[int, Outcome]:
    """The search from its first to its last trial, in a folder of its own that is gone
    afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="mcl-rerun-") as name, ExitStack() as opened:
        log = TrialLog(Path(name) / "outcomes")
        opened.callback(log.close)
        study = Study(snapshot.space, snapshot.search, snapshot.run.seed, snapshot.fixed)
        loop = Loop(study, Inline(objective, study.judge), log, snapshot.total, lambda: False)
        tick, outcomes = progress.begin("drawing the trials again", snapshot.total), {}
        for outcome in loop:
            outcomes[outcome.number] = outcome
            tick()
        return outcomes


def _search_state(stored: StoredRun, root: Path) -> SearchSnapshot:
    """The search as it was frozen, whatever the project's configuration says today."""
    composed = stored_composed(stored)
    request = composed.raw["search"] | {
        "enqueue": [],
        "trials": max(int(stored.tags.get("target", 1)), composed.search.trials),
    }
    return take_snapshot(replace(composed, raw=composed.raw | {"search": request}), root)


def _table(stored: StoredRun) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(stored.file("trials.parquet")))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return rows


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a trial in its row of the table: how it ended, its score, its point and
    every metric that it has.
    """
    point = {name: _plain(value) for name, value in row.items() if name not in OWN}
    return {
        "state": row["state"],
        "reason": row["reason"],
        "value": _number(row["value"]),
    } | _without_undefined(point)


def _now(outcome: Outcome) -> dict[str, Any]:
    return {
        "state": outcome.state,
        "reason": outcome.reason,
        "value": outcome.value,
    } | _without_undefined(outcome.params | outcome.metrics)


def _without_undefined(values: dict[str, Any]) -> dict[str, Any]:
    """Without the undefined, which a table has for every trial that was never simulated."""
    return {name: value for name, value in values.items() if not is_undefined(value)}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
