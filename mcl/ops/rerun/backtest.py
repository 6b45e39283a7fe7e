"""A run made again: the simulation of its own configuration; of a grid, every run below it."""

from __future__ import annotations

from mcl.base import progress
from mcl.base.errors import StoreError
from mcl.base.words import many
from mcl.ops.rerun.result import Again
from mcl.promotion.reproduce import reproduce
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun


def run(stored: StoredRun, project: Project) -> Again:
    verdict = reproduce(stored, project.root)
    sentence = f"{many(len(stored.summary), 'metric')} bit-equal"
    return Again(
        stored.run_id, stored.tags["mcl.kind"], sentence, verdict.differing, verdict.causes
    )


def grid(stored: StoredRun, project: Project) -> Again:
    jobs = [
        child
        for child in project.store.children(stored.run_id)
        if child.status == "FINISHED" and child.tags.get("mcl.kind") == "backtest"
    ]
    if not jobs:
        raise StoreError(
            f"no job of grid {stored.run_id} has finished", "mcl runs lists other runs"
        )
    repeats = [run(job, project) for job in progress.each("making the runs again", jobs)]
    differing = {
        f"{repeat.run_id[:12]} {name}": pair
        for repeat in repeats
        for name, pair in repeat.differing.items()
    }
    causes = tuple(dict.fromkeys(cause for repeat in repeats for cause in repeat.causes))
    return Again(
        stored.run_id,
        "grid",
        f"{many(len(repeats), 'run')}, every metric bit-equal",
        differing,
        causes,
        tuple(job.run_id for job in jobs),
    )
