"""A stored run of any kind, made again now, and held against what it was. Nothing is recorded, and nothing is counted as a trial.

| kind | made again |
|---|---|
| backtest, trial | the simulation of its own configuration |
| sweep | every trial of the search, by the configuration that it was frozen with |
| walk_forward | the search of every part, and the run that is stitched of their winners |
| grid | every run below it |
| validation | every question, with the settings that it was asked with |
| session | its audit, from the journal that lies with the run |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mcl.errors import StoreError
from mcl.promote import repeat
from mcl.rerun.again import Again
from mcl.tracking import Store, StoredRun

__all__ = ["Again", "rerun"]


def rerun(run_id: str, store: Store, root: Path) -> Again:
    """StoreError for a run that has nothing to be held against: it is still running, it failed, or it is not one of mcl's."""
    stored = store.run(run_id)
    kind = stored.tags.get("mcl.kind", "")
    if kind not in KINDS:
        raise StoreError(f"run {stored.run_id} was not made by mcl: nothing says how to make it again", "mcl runs lists the runs of mcl")
    again, endings = KINDS[kind]
    if stored.status not in endings:
        raise StoreError(f"{kind} {stored.run_id} is {stored.status}: it has nothing to be held against", "mcl runs lists finished ones")
    return again(stored, store, root)


def _simulated(stored: StoredRun, store: Store, root: Path) -> Again:
    del store
    verdict = repeat.reproduce(stored, root)
    said = f"{len(stored.summary)} metrics bit-equal"
    return Again(stored.run_id, stored.tags["mcl.kind"], said, dict(verdict.differing), verdict.causes)


def _sweep(stored: StoredRun, store: Store, root: Path) -> Again:
    from mcl.rerun.searched import sweep

    del store
    return sweep(stored, root)


def _walk(stored: StoredRun, store: Store, root: Path) -> Again:
    from mcl.rerun.searched import walk

    return walk(stored, store, root)


def _grid(stored: StoredRun, store: Store, root: Path) -> Again:
    """Every finished run below; of a grid the runs are all there is."""
    jobs = [run for run in store.children(stored.run_id) if run.status == "FINISHED" and run.tags.get("mcl.kind") == "backtest"]
    if not jobs:
        raise StoreError(f"no job of grid {stored.run_id} has finished", "mcl runs lists other runs")
    made = [_simulated(job, store, root) for job in jobs]
    differing = {f"{one.run_id[:12]} {name}": pair for one in made for name, pair in one.differing.items()}
    causes = tuple(dict.fromkeys(cause for one in made for cause in one.causes))
    return Again(stored.run_id, "grid", f"{len(made)} runs, every metric bit-equal", differing, causes, tuple(r.run_id for r in jobs))


def _validation(stored: StoredRun, store: Store, root: Path) -> Again:
    from mcl.rerun.questioned import validation

    return validation(stored, store, root)


def _session(stored: StoredRun, store: Store, root: Path) -> Again:
    from mcl.rerun.traded import session

    return session(stored, store, root)


KINDS: dict[str, tuple[Callable[[StoredRun, Store, Path], Again], tuple[str, ...]]] = {  # and the states that can be made again
    "backtest": (_simulated, ("FINISHED",)),
    "trial": (_simulated, ("FINISHED",)),
    "sweep": (_sweep, ("FINISHED", "KILLED")),
    "grid": (_grid, ("FINISHED", "KILLED")),
    "walk_forward": (_walk, ("FINISHED",)),
    "validation": (_validation, ("FINISHED",)),
    "session": (_session, ("FINISHED", "FAILED")),  # failed is what its audit said
}
