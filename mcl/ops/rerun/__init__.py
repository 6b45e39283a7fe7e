"""A stored run of any kind, made again now, and held against what it was. Nothing is recorded, and
nothing is counted as a trial.

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

from importlib import import_module
from pathlib import Path

from mcl.base.errors import StoreError
from mcl.ops.rerun.result import Again
from mcl.tracking.store import Store

__all__ = ["KINDS", "Again", "rerun"]

# "module:function" below mcl.ops.rerun, and the states of a run that can be held against anything
KINDS = {
    "backtest": ("backtest:run", ("FINISHED",)),
    "trial": ("backtest:run", ("FINISHED",)),
    "sweep": ("search:sweep", ("FINISHED", "KILLED")),
    "grid": ("backtest:grid", ("FINISHED", "KILLED")),
    "walk_forward": ("search:walk", ("FINISHED",)),
    "validation": ("validation:validation", ("FINISHED",)),
    "session": ("session:session", ("FINISHED", "FAILED")),  # failed is what its audit said
}


def rerun(run_id: str, store: Store, root: Path) -> Again:
    """StoreError for a run that has nothing to be held against: it is still running, it failed, or
    it is not one of mcl's.
    """
    stored = store.run(run_id)
    kind = stored.tags.get("mcl.kind", "")
    if kind not in KINDS:
        raise StoreError(
            f"run {stored.run_id} was not made by mcl: nothing says how to make it again",
            "mcl runs lists the runs of mcl",
        )
    where, endings = KINDS[kind]
    if stored.status not in endings:
        raise StoreError(
            f"{kind} {stored.run_id} is {stored.status}: it has nothing to be held against",
            "mcl runs lists finished ones",
        )
    module, function = where.split(":")
    again: Again = getattr(import_module(f"mcl.ops.rerun.{module}"), function)(stored, store, root)
    return again
