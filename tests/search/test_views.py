"""One log is the truth of a search: each view of it can be deleted and is made again; the best is
shown beside luck.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mcl import composition
from mcl.base.errors import StoreError
from mcl.search import status
from mcl.search.result import SweepResult
from mcl.tracking import trial_ledger

from .conftest import Project

COMPARED = [
    "trial",
    "strategy.fast",
    "strategy.slow",
    "state",
    "reason",
    "value",
    "sharpe",
    "net_pnl_usd",
]


def rows(project: Project, sweep_id: str) -> list[int]:
    return sorted(
        int(run.tags["trial"])
        for run in project.store.children(sweep_id)
        if run.tags["mcl.kind"] == "trial"
    )


def counted(project: Project, sweep_id: str) -> set[str]:
    rows = trial_ledger.rows(project.root)
    return set(rows[rows["group"] == sweep_id]["identity"])


def sweeps(project: Project) -> Path:
    return project.root / "mlruns" / "sweeps"


def test_each_view_is_made_again_from_the_log(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=tpe", "search.trials=14", "search.name=views")
    journal, before = (
        sweeps(project) / f"{sweep_result.sweep_id}.journal",
        counted(project, sweep_result.sweep_id),
    )
    assert len(before) > 5
    journal.unlink()
    project.store.discard(
        [
            run.run_id
            for run in project.store.children(sweep_result.sweep_id)
            if run.tags["mcl.kind"] == "trial"
        ]
    )
    shutil.rmtree(project.root / "mlruns" / "trials")
    assert (rows(project, sweep_result.sweep_id), counted(project, sweep_result.sweep_id)) == (
        [],
        set(),
    )
    again = project.resume("views")
    pd.testing.assert_frame_equal(again.trials[COMPARED], sweep_result.trials[COMPARED])
    assert rows(project, sweep_result.sweep_id) == list(range(14))
    assert counted(project, sweep_result.sweep_id) == before
    study = load_study(
        study_name=f"views {sweep_result.sweep_id[:12]}",
        storage=JournalStorage(JournalFileBackend(str(journal))),
    )
    assert study.metric_names == ["sharpe"]
    assert [trial.params for trial in study.trials] == sweep_result.trials[
        list(sweep_result.keys)
    ].to_dict("records")
    best = study.trials[(sweep_result.best or {})["trial"]]
    assert best.user_attrs["net_pnl_usd"] == (sweep_result.best or {})["metrics"]["net_pnl_usd"]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_several_workers_draw_the_same_points_every_time(project: Project, sampler: str) -> None:
    typed = (
        f"search.sampler={sampler}",
        "search.trials=24",
        "search.workers=2",
        "strategy.fast=range(2,60)",
    )
    one, other = project.sweep(*typed), project.sweep(*typed)
    pd.testing.assert_frame_equal(one.trials[COMPARED], other.trials[COMPARED])


def test_a_search_inside_luck_ends_and_says_so(project: Project) -> None:
    typed = (
        "search.sampler=random",
        "search.trials=300",
        "search.stop_when=inside_luck",
        "search.stop_from=12",
        "strategy.fast=range(2,60)",
    )
    sweep_result = project.sweep(*typed, "data.end='2024-03-08'", "seed=5")
    ratio = (sweep_result.best or {})["metrics"]["sharpe"]
    standing = status.status(sweep_result.sweep_id, store=project.store)
    luck = standing["luck"]
    assert luck["trials"] >= sweep_result.states["COMPLETE"]
    if "inside luck" in sweep_result.why:
        assert (len(sweep_result.trials) % 10, sweep_result.status) == (0, "FINISHED")
        assert sweep_result.states["COMPLETE"] >= 12
        assert ratio <= luck["best_by_luck"]
        assert project.store.run(sweep_result.sweep_id).tags["stopped"] == sweep_result.why
        assert counted(project, sweep_result.sweep_id)
    else:
        assert len(sweep_result.trials) == 300
        assert ratio > luck["best_by_luck"]


def test_what_keeps_the_soft_constraints_comes_first(project: Project) -> None:
    typed = ("search.sampler=grid", "search.trials=90")
    free = project.sweep(*typed)
    scored = free.trials[free.trials["state"] == "COMPLETE"].sort_values("value", ascending=False)
    limit = int(scored["trades"].iloc[0])  # what the best one has breaks the rule
    sweep_result = project.sweep(*typed, f"search.soft_constraints=['trades < {limit}']")
    assert sweep_result.states == free.states
    feasible = scored[scored["trades"] < limit]
    assert (sweep_result.best or {})["trial"] == feasible["trial"].iloc[0]
    assert list(sweep_result.trials["excess"].gt(0)) == list(
        sweep_result.trials["trades"].ge(limit)
    )


def test_a_condition_leaves_an_axis_out(project: Project) -> None:
    rule = "search.conditions={strategy.fast: {strategy.slow: [10, 20, 30, 40, 50]}}"
    sweep_result = project.sweep("search.sampler=tpe", "search.trials=16", rule)
    on_the_grid = sweep_result.trials["strategy.slow"].isin([10, 20, 30, 40, 50])
    assert 0 < on_the_grid.sum() < 16
    assert list(sweep_result.trials["strategy.fast"].notna()) == list(on_the_grid)
    assert sweep_result.report.is_file()


def test_a_search_of_the_first_version_stays_readable(project: Project) -> None:
    """Its log has no windows: what learnt from another order of trials cannot go on, what draws by
    number can.
    """

    def aged(sweep_result: SweepResult) -> str:
        log = sweeps(project) / f"{sweep_result.sweep_id}.outcomes"
        log.write_bytes(log.read_bytes().replace(b',"window":1', b""))
        return sweep_result.sweep_id

    learnt, sampled = (
        aged(project.sweep(f"search.sampler={name}", "search.trials=6")) for name in ("tpe", "qmc")
    )
    with pytest.raises(
        StoreError,
        match=r"was begun by version 0\.1, whose tpe search cannot continue; its trials stay",
    ):
        project.resume(learnt, trials=8)
    report, _ = status.report(learnt, project=project)
    assert isinstance(report, SweepResult)
    assert len(report.trials) == 6
    assert len(project.resume(sampled, trials=8).trials) == 8


def test_options_are_typed_below_the_sampler(project: Project) -> None:
    typed = [
        "search.sampler=tpe",
        "search.sampler.n_startup_trials=3",
        "search.pruner=percentile",
        "search.pruner.percentile=50.0",
    ]
    options = composition.compose("sweep", ["strategy=ema_cross", *typed]).search
    assert (options.sampler_options, options.pruner_options) == (
        {"n_startup_trials": 3},
        {"percentile": 50.0},
    )
    sweep_result = project.sweep(*typed, "search.trials=8", "search.folds=3")
    assert len(project.resume(sweep_result.sweep_id, trials=10).trials) == 10
