"""A stored run of any kind, made again now, and compared with what it was. Nothing is recorded, and
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

import json
from importlib import import_module

from mcl.base.errors import StoreError
from mcl.data.synthetic.generator import VERSION
from mcl.ops.rerun.result import Again
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun

__all__ = ["KINDS", "Again", "rerun"]

# "module:function" below mcl.ops.rerun, and the states of a run that can be compared with anything
KINDS = {
    "backtest": ("backtest:run", ("FINISHED",)),
    "trial": ("backtest:run", ("FINISHED",)),
    "sweep": ("search:sweep", ("FINISHED", "KILLED")),
    "grid": ("backtest:grid", ("FINISHED", "KILLED")),
    "walk_forward": ("search:walk", ("FINISHED",)),
    "validation": ("validation:validation", ("FINISHED",)),
    "session": ("session:session", ("FINISHED", "FAILED")),  # failed is what its audit said
}


def rerun(run_id: str, project: Project) -> Again:
    """StoreError for a run that has nothing to be compared with: it is still running, it failed, or
    it is not one of mcl's.
    """
    stored = project.store.run(run_id)
    kind = stored.tags.get("mcl.kind", "")
    if kind not in KINDS:
        raise StoreError(
            f"run {stored.run_id} was not made by mcl: nothing says how to make it again",
            "mcl runs lists the runs of mcl",
        )
    where, endings = KINDS[kind]
    if stored.status not in endings:
        raise StoreError(
            f"{kind} {stored.run_id} is {stored.status}: it has nothing to be compared with",
            "mcl runs lists finished ones",
        )
    _refuse_other_world(stored)
    module, function = where.split(":")
    again: Again = getattr(import_module(f"mcl.ops.rerun.{module}"), function)(stored, project)
    return again


def _refuse_other_world(stored: StoredRun) -> None:
    """StoreError for a run on a generated world of another version: its prices cannot be made
    again.
    """
    if not (stored.artifacts / "manifest.json").is_file():
        return
    facts = json.loads(stored.file("manifest.json")).get("facts") or {}
    then = facts.get("world", {}).get("parameters", {}).get("version")
    if then is not None and then != VERSION:
        raise StoreError(
            f"run {stored.run_id} was made on version {then} of the generated world, and this mcl"
            f" generates version {VERSION}: its prices cannot be made again",
            f"install the mcl that made it, version {stored.tags.get('version.mcl', 'unknown')}",
        )
