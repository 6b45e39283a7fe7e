"""Choose the best trial of a search, simulate it again as a complete run and write it as a
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import EngineError
from mcl.base.files import below, write_whole
from mcl.composition import alternatives
from mcl.config import schema
from mcl.search import plateau
from mcl.search import space as spaces
from mcl.search.progress import SweepStatistics
from mcl.search.recorder import TrialRecorder
from mcl.search.snapshot import SearchSnapshot
from mcl.search.trial import Outcome
from mcl.tracking import backtest_run
from mcl.tracking.project import Project
from mcl.tracking.store import Store

CURVES = 10  # trials whose equity MLflow can draw
GROUPS = ("data", "strategy", "risk", "costs")


def select_best(
    snapshot: SearchSnapshot,
    statistics: SweepStatistics,
    recorder: TrialRecorder,
    store: Store,
    sweep_id: str,
    *,
    in_full: bool,
) -> dict[str, Any] | None:
    """Return the best trial: trial, value, params, metrics, run_id. None when nothing has a score.

    `in_full` simulates it and the next best (`search.top`) again as complete runs, which can be
    promoted, insists on equal metrics, and writes the winner of a named search to
    experiments/NAME_best.yaml.
    """
    search = snapshot.search
    leaders = ranking(search, snapshot.space, recorder.scored())
    ranked = leaders[: search.top]
    if not ranked or statistics.best is None:
        return None
    if search.track == "top":
        recorder.choose([outcome.number for outcome in ranked])
    recorder.add_equity(leaders[:CURVES])
    best = ranked[0]
    best_trial = {
        "trial": best.number,
        "value": best.value,
        "params": best.params,
        "metrics": best.metrics,
    }
    if not in_full:
        return best_trial | {"run_id": recorder.run_ids.get(best.number, "")}
    # an earlier process of this sweep may have made some
    earlier_run_ids = store.trials(sweep_id, kind="backtest")
    run_ids = [
        earlier_run_ids.get(o.number) or _whole(snapshot, o, store, sweep_id, report=o is best)
        for o in ranked
    ]
    exported: dict[str, Any] = {}
    if search.name:
        exported = {
            "experiment": export(
                snapshot.composed,
                best.params,
                snapshot.data_cache.root,
                search.name,
                sweep_id,
                run_ids[0],
            )
        }
    return best_trial | {"run_id": run_ids[0]} | exported


def export(
    composed: composition.Composed,
    params: Mapping[str, Any],
    root: Path,
    name: str,
    sweep_id: str,
    run_id: str,
) -> Path:
    """Write experiments/NAME_best.yaml: `mcl backtest experiment=NAME_best` is this point of the
    search, which is checked here.
    """
    path = below(root / "experiments", name, ending="_best.yaml")
    run = composition.run_config(spaces.overlay(composed.raw, params))
    write_whole(
        path, experiment(composed, params, name, f"Sweep {sweep_id}{run_id and f', run {run_id}'}.")
    )
    again = composition.compose("backtest", [f"experiment={name}_best"]).config
    if composition.fingerprint(again) != composition.fingerprint(run):
        path.unlink()
        raise EngineError(
            f"{path.name} would not describe the winner of sweep {name}",
            "use the overrides of its run instead",
        )
    return path


def experiment(
    composed: composition.Composed, params: Mapping[str, Any], name: str, source: str
) -> bytes:
    """An experiment file that says everything that decides a result, whatever the defaults of the
    project become, and which run found it (`source`).
    """
    import yaml

    run = composition.run_config(spaces.overlay(composed.raw, params)).model_dump(
        mode="json", include={*composition.DECIDES, "study"}
    )
    choices = composed.choices | {
        group: params[group] for group in spaces.alternatives(composed.raw) if group in params
    }
    chosen = "".join(
        f"  - override /{group}: {choices[group]}\n" for group in GROUPS if group in choices
    )
    searched = ", ".join(f"{key}={value}" for key, value in params.items())
    comments = (
        f"# The winner of a search: {searched}.\n# {source}\n# mcl backtest"
        f" experiment={name}_best\n"
    )
    head = f"# @package _global_\n{comments}defaults:\n{chosen}\n"
    return (head + yaml.safe_dump(run, sort_keys=False, allow_unicode=True)).encode()


def ranking(search: schema.Search, space: spaces.Space, scored: list[Outcome]) -> list[Outcome]:
    """The scored outcomes, best first, by peak or by plateau as `search.select` says; then the
    better trial, the lower number. A trial that breaks a soft constraint comes after all that keep
    them.
    """
    maximize = search.direction == "maximize"
    values = np.array([outcome.value for outcome in scored], float)
    around = values
    if search.select == "plateau" and scored:
        import pandas as pd

        points = pd.DataFrame([outcome.params for outcome in scored], columns=list(space))
        around = plateau.plateaus(points, values, maximize=maximize)[0]
    sign = -1 if maximize else 1
    overstep = np.array([outcome.overstep for outcome in scored], float)
    return [scored[i] for i in np.lexsort((sign * values, sign * around, overstep))]


def _choices(snapshot: SearchSnapshot, outcome: Outcome) -> dict[str, str]:
    """The choice of each group that the search varied."""
    return {
        group: outcome.params[group]
        for group in spaces.alternatives(snapshot.composed.raw)
        if group in outcome.params
    }


def _whole(
    snapshot: SearchSnapshot, outcome: Outcome, store: Store, sweep_id: str, *, report: bool
) -> str:
    """The run id of `outcome`, simulated again as a complete run."""
    run = composition.run_config(spaces.overlay(snapshot.composed.raw, outcome.params))
    searched = ("search=", "search.", *(f"{key}=" for key in snapshot.space))
    sections = {
        group: snapshot.composed.raw["search"]["alternatives"][group][name]
        for group, name in _choices(snapshot, outcome).items()
    }
    typed = [
        override
        for override in snapshot.composed.overrides
        if not override.lstrip("+~").startswith(searched) and alternatives.is_of(override, sections)
    ]
    done = backtest_run.backtest(
        run,
        project=Project(snapshot.data_cache.root, store),
        overrides=[*typed, *(f"{key}={value}" for key, value in outcome.params.items())],
        parent=sweep_id,
        report=report,
        bars=snapshot.data_cache.bars(run.data),
        extra_tags={"best_of": sweep_id, "trial": str(outcome.number)},
    )
    if moved := differences(outcome.metrics, done.metrics):
        raise EngineError(
            f"trial {outcome.number} does not repeat: {', '.join(moved)} differ in run"
            f" {done.run_id}"
        )
    return done.run_id
