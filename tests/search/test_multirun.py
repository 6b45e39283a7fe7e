"""Grids: Hydra's multirun grammar, one child per job."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import ConfigError, StoreError
from mcl.ops import scaffold
from mcl.search import multirun
from mcl.tracking import backtest_run, provenance

from .conftest import SMALL, Project


def test_one_parent_and_one_child_per_job(project: Project) -> None:
    grid_result = project.grid("strategy.fast=5,10,20", "strategy.slow=30,60")
    parent, children = (
        project.store.run(grid_result.sweep_id),
        project.store.children(grid_result.sweep_id),
    )
    assert (parent.tags["mcl.kind"], parent.status, len(children)) == ("grid", "FINISHED", 6)
    assert {run.status for run in children} == {"FINISHED"}
    points = {(run.params["strategy.fast"], run.params["strategy.slow"]) for run in children}
    assert points == {(fast, slow) for fast in ("5", "10", "20") for slow in ("30", "60")}
    best = project.store.run((grid_result.best or {})["run_id"])
    assert best.metrics["sharpe"] == max(run.metrics["sharpe"] for run in children)
    assert not differences(
        (grid_result.best or {})["metrics"], backtest_run.replay(best, project.root).metrics
    )


def test_a_failing_job_does_not_stop_the_others(project: Project) -> None:
    grid_result = project.grid("strategy.fast=5,30,8,x", "strategy.slow=20")
    assert grid_result.states == {"COMPLETE": 2, "FAILED": 2}
    assert pd.read_parquet(
        io.BytesIO(project.store.run(grid_result.sweep_id).file("trials.parquet"))
    )["strategy.fast"].tolist() == [
        "5",
        "30",
        "8",
        "x",
    ]
    failed = next(
        run for run in project.store.children(grid_result.sweep_id) if run.tags["trial"] == "1"
    )
    assert "need 0 < fast < slow; fast=30, slow=20" in failed.tags["detail"]
    assert b"ConfigError" in failed.file("traceback.txt")
    assert grid_result.trials["state"].tolist() == ["COMPLETE", "FAILED", "COMPLETE", "FAILED"]
    assert project.store.run(grid_result.sweep_id).metrics["trials_failed"] == 2


def test_groups_are_composed_anew(project: Project) -> None:
    grid_result = project.grid("strategy=ema_cross,always_long,donchian", "seed=0,1")
    names = [
        (run.params["strategy.name"], run.params["seed"])
        for run in project.store.children(grid_result.sweep_id)
    ]
    assert sorted(names) == [
        (name, seed) for name in ("always_long", "donchian", "ema_cross") for seed in ("0", "1")
    ]
    assert grid_result.keys == ["strategy", "seed"]
    assert grid_result.report.is_file()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("experiment=glob(nothing*)", r"glob\(nothing\*\) matches nothing"),
        (
            "strategy.fast=interval(5, 9)",
            r"strategy\.fast=interval\(5, 9\) is continuous and has no grid",
        ),
    ],
)
def test_what_has_no_grid_is_refused_in_a_sentence(
    project: Project, typed: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        project.grid("study=refused", typed)


def test_nothing_is_recorded_when_no_job_is_valid(project: Project) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'strategy.fast'"):
        project.grid("study=refused", "strategy.fst=5,10")
    assert project.store.in_study("refused") == []


def test_missing_data_fail_their_job_only(project: Project) -> None:
    grid_result = project.grid("data.path=walk.csv,walkk.csv")
    assert grid_result.states == {"COMPLETE": 1, "FAILED": 1}
    assert "walk.csv" in grid_result.trials["detail"][1]


OWN = [o for o in SMALL if not o.startswith(("search", "strategy.", "strategy="))]


def test_laid_over_configurations_equal_hydras_own(project: Project) -> None:
    typed = [
        *OWN,
        "strategy=ema_cross",
        "risk=fixed,vol_target",
        "strategy.fast=5,8",
        "costs.slippage_ticks=0,0.5",
        "notes=a,b",
    ]
    jobs = multirun.resolve(composition.expand(typed))
    assert len(jobs) == 16
    assert all(
        job.run == composition.compose("backtest", list(job.overrides)).config for job in jobs
    )


def test_a_config_that_interpolates_a_swept_key_is_composed_per_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(composition.conf_dir(), tmp_path / "conf")
    strategy = tmp_path / "conf" / "strategy" / "ema_cross.yaml"
    strategy.write_text("name: ema_cross\nfast: 10\nslow: ${seed}\n")
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    jobs = multirun.resolve(composition.expand(["strategy=ema_cross", "seed=30,60"]))
    assert [job.run.strategy["slow"] for job in jobs if job.run] == [30, 60]
    strategy.write_text("name: ema_cross\nfast: 10\nslow: ${costs.slippage_ticks}\n")
    jobs = multirun.resolve(
        composition.expand(["strategy=ema_cross", "costs.slippage_ticks=30,60"])
    )
    assert [job.run.strategy["slow"] for job in jobs if job.run] == [30, 60]


def test_the_file_of_an_own_strategy_is_evidence_of_its_grid_and_a_search_over_it_goes_on(
    project: Project,
) -> None:
    path = project.root / "experiments" / "strategies" / "mine.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scaffold.CODE.format(name="mine", title="Mine"))
    own = ["strategy=always_long", "strategy.name=mine"]
    grid_result = project.grid(*own, "+strategy.length=20,40")
    parent, children = (
        project.store.run(grid_result.sweep_id),
        project.store.children(grid_result.sweep_id),
    )
    assert {run.tags["code_sha256"] for run in (parent, *children)} == {
        provenance.code_sha256({"name": "mine"})
    }
    assert parent.tags["code_sha256"] != provenance.code_sha256()
    typed = [
        *OWN,
        *own,
        "costs.slippage_ticks=choice(0.5, 1.0, 1.5)",
        "search.sampler=random",
        "search.trials=2",
    ]
    searched = project.search(composition.compose("sweep", typed))
    assert len(project.resume(searched.sweep_id, trials=3).trials) == 3
    path.write_text(path.read_text() + "\n")
    with pytest.raises(StoreError, match="the code that decides results"):
        project.resume(searched.sweep_id, trials=4)


def test_a_typed_launcher_runs_the_jobs_and_the_parent_is_the_same(project: Project) -> None:
    here = project.grid("strategy.fast=5,10,30", "strategy.slow=20")
    before = set(project.root.glob("mlruns/multirun/*/*/*"))
    launched = project.grid("hydra/launcher=basic", "strategy.fast=5,10,30", "strategy.slow=20")
    compared = [
        "trial",
        "state",
        "reason",
        "detail",
        "strategy.fast",
        "value",
        "net_pnl_usd",
        "config_sha256",
    ]
    pd.testing.assert_frame_equal(launched.trials[compared], here.trials[compared])
    numbers = {run.tags["trial"]: run.status for run in project.store.children(launched.sweep_id)}
    assert numbers == {"0": "FINISHED", "1": "FINISHED", "2": "FAILED"}
    assert sorted(
        path.name for path in set(project.root.glob("mlruns/multirun/*/*/*")) - before
    ) == ["0", "1"]


def test_joblib_gives_every_job_a_process(project: Project) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="hydra-joblib-launcher is not installed"
    )
    here = project.grid("strategy.fast=5,10", "strategy.slow=20")
    launched = project.grid(
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "strategy.fast=5,10", "strategy.slow=20"
    )
    assert launched.trials["value"].tolist() == here.trials["value"].tolist()
    assert {run.status for run in project.store.children(launched.sweep_id)} == {"FINISHED"}


def test_globs_and_ranges_are_hydras(project: Project) -> None:
    folder = project.root / "experiments"
    folder.mkdir(exist_ok=True)
    for name, slow in (("a_first", 20), ("a_second", 40)):
        (folder / f"{name}.yaml").write_text(
            f"# @package _global_\nstrategy:\n  fast: 4\n  slow: {slow}\n"
        )
    grid_result = project.grid("experiment=glob(a_*)", "costs.slippage_ticks=range(0,2)")
    points = [
        (run.params["strategy.slow"], run.params["costs.slippage_ticks"])
        for run in project.store.children(grid_result.sweep_id)
    ]
    assert sorted(points) == [("20", "0.0"), ("20", "1.0"), ("40", "0.0"), ("40", "1.0")]


def test_another_sweeper_is_refused(project: Project) -> None:
    with pytest.raises(ConfigError, match="hydra/sweeper is mcl's own"):
        project.grid("hydra/sweeper=basic", "strategy.fast=5,10")
    with pytest.raises(ConfigError, match="jobblib"):
        project.grid("hydra/launcher=jobblib", "strategy.fast=5,10")


def test_jobs_are_launched_in_batches_of_the_size_that_was_typed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core.plugins import Plugins
    from hydra.plugins.launcher import Launcher

    [basic] = [
        each for each in Plugins.instance().discover(Launcher) if each.__name__ == "BasicLauncher"
    ]
    sizes: list[tuple[int, int]] = []
    launch = basic.launch  # type: ignore[attr-defined]

    def counted(self: Launcher, jobs: Any, initial_job_idx: int) -> Any:
        sizes.append((initial_job_idx, len(jobs)))
        return launch(self, jobs, initial_job_idx)

    monkeypatch.setattr(basic, "launch", counted)
    grid_result = project.grid(
        "hydra/launcher=basic",
        "hydra.sweeper.max_batch_size=2",
        "strategy.fast=5,10,12",
        "strategy.slow=20",
    )
    assert sizes == [(0, 2), (2, 1)]
    assert list(grid_result.trials["strategy.fast"]) == [5, 10, 12]
