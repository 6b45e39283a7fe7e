"""Outcomes are typed: constraints, folds, time limits, deaths; and searches that end early say
why.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from comparisons import digest

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import ConfigError
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.search import runner, status, trial_log, worker_pool
from mcl.search.result import SweepResult
from mcl.search.snapshot import take_snapshot
from mcl.search.trial import Judge, Objective, ObjectiveSpec, Outcome, no_pruning
from mcl.search.trial_log import TrialLog
from mcl.tracking import backtest_run

from .conftest import SMALL, Project, measured


def test_constraints_prune_before_and_after_the_run(project: Project) -> None:
    rules = "search.constraints=['strategy.slow >= 3 * strategy.fast','max_drawdown_frac > -0.05']"
    sweep_result = project.sweep("search.sampler=random", "search.trials=40", rules)
    lost = sweep_result.trials[sweep_result.trials["reason"] == "constraint"].set_index("trial")
    before = lost[lost["strategy.slow"] < 3 * lost["strategy.fast"]]
    after = lost.drop(before.index)
    assert len(before) > 0
    assert len(after) > 0
    assert before["trades"].isna().all()  # never simulated
    assert (after["max_drawdown_frac"] <= -0.05).all()
    assert after["detail"].str.contains("breaks max_drawdown_frac > -0.05").all()
    scored = sweep_result.trials[sweep_result.trials["state"] == "COMPLETE"]
    assert (scored["max_drawdown_frac"] > -0.05).all()
    assert (scored["strategy.slow"] >= 3 * scored["strategy.fast"]).all()


def test_an_unknown_name_in_a_constraint_is_refused(project: Project) -> None:
    with pytest.raises(ConfigError, match="did you mean 'trades'"):
        project.sweep("search.constraints=['trade > 5']")


@pytest.mark.parametrize("pruner", ["median", "halving", "wilcoxon"])
def test_folds_prune_and_never_change_a_score(project: Project, pruner: str) -> None:
    wide = ("search.sampler=random", "search.trials=40", "strategy.fast=range(2,60)", "seed=2")
    free, pruned = (
        project.sweep(*wide),
        project.sweep(*wide, f"search.pruner={pruner}", "search.folds=4"),
    )
    stopped_early = pruned.trials[pruned.trials["reason"].str.startswith("fold")]
    assert len(stopped_early) > 0
    assert set(stopped_early["reason"]) <= {f"fold {k}" for k in range(1, 5)}
    assert stopped_early["detail"].str.contains(rf"behind the other trials \({pruner}\)").all()
    assert stopped_early["value"].isna().all()
    both = pruned.trials.merge(free.trials, on="trial", suffixes=("", "_free"))
    scored = both[both["state"] == "COMPLETE"]
    assert (scored["sharpe"] == scored["sharpe_free"]).all()
    together = project.sweep(*wide, f"search.pruner={pruner}", "search.folds=4", "search.workers=2")
    assert len(together.trials) == 40  # which are pruned depends on the timing, the points do not
    assert (together.trials["strategy.fast"] == pruned.trials["strategy.fast"]).all()


def test_fold_bars_are_all_bars_once(project: Project) -> None:
    snapshot = take_snapshot(composition.compose("sweep", list(SMALL)), project.root)
    folds = snapshot.data_cache.folds(snapshot.run.data, 7)
    assert [f.start for f in folds[1:]] == [f.stop for f in folds[:-1]]
    assert (folds[0].start, folds[-1].stop) == (0, len(snapshot.bars))
    assert all(len(set(a.bars.session) & set(b.bars.session)) == 0 for a, b in pairwise(folds))
    with pytest.raises(ConfigError, match="more than the 40 sessions of the data"):
        project.sweep("search.pruner=median", "search.folds=41")


def test_several_objectives_give_a_front(project: Project) -> None:
    sweep_result = project.sweep(
        "search.sampler=nsga2",
        "search.trials=40",
        "search.also={turnover_contracts_per_session:minimize}",
    )
    scored = sweep_result.trials[sweep_result.trials["state"] == "COMPLETE"]
    front = scored[scored["front"].astype(bool)]
    best = scored.iloc[int(scored["sharpe"].argmax())]
    assert (sweep_result.best or {})["trial"] == best["trial"]
    assert best["trial"] in set(front["trial"])
    for _, row in front.iterrows():
        beats = (scored["sharpe"] >= row["sharpe"]) & (
            scored["turnover_contracts_per_session"] <= row["turnover_contracts_per_session"]
        )
        better = (scored["sharpe"] > row["sharpe"]) | (
            scored["turnover_contracts_per_session"] < row["turnover_contracts_per_session"]
        )
        assert not (beats & better).any()
    assert any(title.startswith("Pareto front") for title, _, _ in sweep_result.tables())
    with pytest.raises(ConfigError, match="has one objective"):
        project.sweep("search.sampler=cmaes", "search.also={sortino:maximize}")
    with pytest.raises(ConfigError, match="ranks by one objective"):
        project.sweep("search.pruner=median", "search.also={sortino:maximize}")


def test_the_first_trials_are_those_enqueued(project: Project) -> None:
    wanted = "search.enqueue=[defaults,{strategy:{fast:6,slow:90}}]"
    sweep_result = project.sweep(
        "search.sampler=qmc", wanted, "strategy.fast=range(2,2000)", "strategy.slow=range(10,3000)"
    )
    plain = project.sweep(
        "search.sampler=qmc", "strategy.fast=range(2,2000)", "strategy.slow=range(10,3000)"
    )
    at = list(
        sweep_result.trials[["strategy.fast", "strategy.slow"]].itertuples(index=False, name=None)
    )
    free = list(plain.trials[["strategy.fast", "strategy.slow"]].itertuples(index=False, name=None))
    default = composition.compose("backtest", list(SMALL[:5])).raw["strategy"]
    assert at[:2] == [(default["fast"], default["slow"]), (6, 90)]
    assert at[2:] == free[:10]  # the sequence itself begins after them
    with pytest.raises(ConfigError, match=r"strategy\.slow=95 is not in the space"):
        project.sweep("search.enqueue=[{strategy:{fast:6,slow:95}}]")
    with pytest.raises(ConfigError, match="no champion yet"):
        project.sweep("search.enqueue=[champion]")


def test_patience_ends_a_search(project: Project) -> None:
    sweep_result = project.sweep(
        "search.sampler=random",
        "search.trials=5000",
        "search.patience=25",
        "strategy.fast=range(2,500)",
    )
    assert 25 < len(sweep_result.trials) < 5000
    assert "no better trial among the last 25" in sweep_result.why
    assert sweep_result.status == "FINISHED"
    best = (sweep_result.best or {})["trial"]
    assert len(sweep_result.trials) - 1 - best == 25


def failing(
    project: Project, monkeypatch: pytest.MonkeyPatch, when: object, *overrides: str
) -> SweepResult:
    from mcl.strategy.ema_cross import EmaCross

    signal = EmaCross.signal

    def fragile(self: EmaCross, bars: object) -> object:
        if when(self):  # type: ignore[operator]
            raise ZeroDivisionError("a bug in a strategy")
        return signal(self, bars)  # type: ignore[arg-type]

    composed = composition.compose(
        "sweep",
        [
            *(o for o in SMALL if o.split("=")[0] not in {p.split("=")[0] for p in overrides}),
            *overrides,
        ],
    )
    prepared = take_snapshot(composed, project.root)
    monkeypatch.setattr(EmaCross, "signal", fragile)
    monkeypatch.setattr(runner, "take_snapshot", lambda *_: prepared)
    return project.search(composed)


def test_a_search_whose_first_trials_fail_alike_ends_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_result = failing(
        project,
        monkeypatch,
        bool,
        "search.sampler=grid",
        "search.trials=500",
        "strategy.slow=range(100,200,10)",
    )
    assert sweep_result.states == {"FAILED": 5}
    assert (
        sweep_result.why
        == "the first 5 trials all failed with ZeroDivisionError: ZeroDivisionError: a bug in a"
        " strategy"
    )
    assert project.store.run(sweep_result.sweep_id).status == "FAILED"


def test_too_many_failures_end_a_search(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = (
        "search.sampler=grid",
        "search.trials=500",
        "search.max_failures=3",
        "strategy.slow=range(100,200,10)",
    )
    sweep_result = failing(project, monkeypatch, lambda s: s.slow == 150, *typed)
    assert sweep_result.states["FAILED"] == 4
    assert sweep_result.states["COMPLETE"] > 3
    assert "4 trials failed, more than search.max_failures=3" in sweep_result.why


@dataclass(frozen=True)
class MoodyAssignment(ObjectiveSpec):
    def objective(self, bars: Mapping[str, Bars]) -> Objective:
        plain = super().objective(bars)
        return Moody(plain.raw, plain.search, plain.data_cache, plain.rules)


class Moody(Objective):
    """Hangs, dies or judges, as its point says."""

    @property
    def spec(self) -> ObjectiveSpec:
        plain = super().spec
        return MoodyAssignment(plain.raw, plain.search, plain.root, plain.rules)

    def __call__(self, number: int, params: dict[str, Any], judge: Judge = no_pruning) -> Outcome:
        if params["mood"] == "hang":
            signal.pause()
        if params["mood"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Objective.__call__(self, number, {"strategy.fast": params["fast"]}, judge)


def test_what_hangs_or_dies_fails_alone(project: Project) -> None:
    snapshot = take_snapshot(composition.compose("sweep", list(SMALL)), project.root)
    moody = Moody(snapshot.composed.raw, snapshot.search, snapshot.data_cache)
    workers = worker_pool.Pool(moody, 2, project.root / "bars", limit_sec=10.0)
    try:
        for number, mood in enumerate(["well", "hang", "die", "well", "well"]):
            workers.submit(number, {"mood": mood, "fast": 5 if number < 4 else "five"})
        outcomes_by_number = {
            outcome.number: outcome for outcome in (workers.take() for _ in range(5))
        }
    finally:
        workers.close()
    assert [(outcomes_by_number[n].state, outcomes_by_number[n].reason) for n in range(5)] == [
        ("COMPLETE", ""),
        ("FAILED", "timeout"),
        ("FAILED", "worker_died"),
        ("COMPLETE", ""),
        ("PRUNED", "constraint"),
    ]
    assert "longer than search.trial_timeout_sec=10" in outcomes_by_number[1].detail
    assert "3 worker processes died during this trial" in outcomes_by_number[2].detail
    assert outcomes_by_number[0].value == outcomes_by_number[3].value
    assert not (project.root / "bars").exists()


@pytest.mark.parametrize("track", ["top", "none"])
def test_what_is_tracked_is_a_choice(project: Project, track: str) -> None:
    sweep_result = project.sweep(
        "search.sampler=random",
        "search.trials=30",
        f"search.track={track}",
        "search.top=3",
        f"study=track_{track}",
    )
    children = project.store.children(sweep_result.sweep_id)
    full = [run for run in children if run.tags["mcl.kind"] == "backtest"]
    light = [run for run in children if run.tags["mcl.kind"] == "trial"]
    ranked = (
        sweep_result.trials[sweep_result.trials["state"] == "COMPLETE"]
        .sort_values("value", ascending=False)["trial"]
        .head(3)
    )
    assert sorted(int(run.tags["trial"]) for run in full) == sorted(ranked)
    assert len(light) == (3 if track == "top" else 0)
    assert all("curve/equity_usd" in run.metrics for run in full)
    assert len(sweep_result.trials) == 30
    assert (
        len(
            pd.read_parquet(
                io.BytesIO(project.store.run(sweep_result.sweep_id).file("trials.parquet"))
            )
        )
        == 30
    )


@pytest.mark.parametrize("select", ["peak", "plateau"])
def test_the_winner_is_an_experiment_that_repeats_bit_by_bit(project: Project, select: str) -> None:
    name = f"winner_{select}"
    sweep_result = project.sweep(
        "search.sampler=random",
        "search.trials=40",
        f"search.name={name}",
        f"search.select={select}",
        "costs=free",
    )
    path = project.root / "experiments" / f"{name}_best.yaml"
    best = sweep_result.best or {}
    assert (
        f"# Sweep {sweep_result.sweep_id}, run {best['run_id']}." in path.read_text().splitlines()
    )
    composed = composition.compose("backtest", [f"experiment={name}_best"])
    assert {key: composition.flatten(composed.raw)[key] for key in best["params"]} == best["params"]
    done = backtest_run.backtest(composed.config, project=project)
    assert not differences(
        measured(sweep_result), {name: done.metrics[name] for name in measured(sweep_result)}
    )
    column = {"peak": "value", "plateau": "plateau"}[select]
    scored = sweep_result.trials[sweep_result.trials["state"] == "COMPLETE"]
    assert best["trial"] == scored["trial"].iloc[int(scored[column].argmax())]
    assert any(sentence.startswith("Best by plateau: trial") for sentence in sweep_result.advice())


def test_any_winner_can_be_written_down_later(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=random", "search.trials=12")
    _, written = status.report(sweep_result.sweep_id, project=project, name="later")
    assert written == project.root / "experiments" / "later_best.yaml"
    assert (
        composition.compose("backtest", ["experiment=later_best"]).config.strategy["fast"]
        == (sweep_result.best or {})["params"]["strategy.fast"]
    )


def test_a_best_at_the_wall_is_said(project: Project) -> None:
    sweep_result = project.sweep(
        "search.sampler=grid", "strategy.fast=5,10", "strategy.slow=range(20, 50, 10)"
    )
    assert sweep_result.best is not None
    at_wall = sweep_result.best["params"]["strategy.slow"] in (20, 40)
    at_the_edge = any("at the edge of the space" in sentence for sentence in sweep_result.advice())
    assert at_the_edge == at_wall
    if at_the_edge:
        assert b"at the edge of the space" in sweep_result.report.read_bytes()


def test_an_estimate_records_nothing(project: Project) -> None:
    composed = composition.compose(
        "sweep", [*SMALL, "study=estimated", "search.sampler=qmc", "search.trials=1000"]
    )
    estimate = status.estimate(composed, project.root)
    assert (estimate.trials, estimate.points, estimate.bars) == (
        1000,
        90,
        40 * 390,
    )
    assert 0 < estimate.trial_sec < 5
    # a point is simulated once
    assert math.isclose(
        estimate.total_sec,
        90 * estimate.trial_sec + 1000 * estimate.own_sec,
    )
    assert estimate.how.startswith("5 random points timed now")
    assert project.store.in_study("estimated") == []
    assert (estimate.sessions, estimate.holdout_sessions) == (
        len(set(load(composed.config.data, project.root).session)),
        0,
    )
    assert estimate.paper is not None
    assert estimate.live is not None
    # live counts the whole market
    assert estimate.live.trials >= estimate.paper.trials >= min(1000, estimate.points)
    assert 0 < estimate.paper.half < estimate.paper.most <= estimate.paper.independent
    assert estimate.paper.half < estimate.live.half, "real money asks for more"


def test_an_estimate_goes_by_the_last_sweep_that_did_enough(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    folder.mkdir()
    assert status._bookkeeping("qmc", 1000, folder)[0] == status.OTHERS_SEC
    facts = [
        ("old", 1, 1, 400, 10.0),
        ("new", 2, 1, 400, 20.0),
        ("short", 3, 1, 10, 99.0),
        ("parallel", 4, 2, 400, 99.0),
    ]
    for sweep_id, started, workers, here, rate in facts:
        (folder / f"{sweep_id}.card").write_text(
            json.dumps({"started": started, "sampler": "qmc", "workers": workers})
        )
        (folder / f"{sweep_id}.status").write_text(
            json.dumps({"here": here, "trials_per_sec": rate, "trial_sec": 0.04})
        )
    seconds, source = status._bookkeeping("qmc", 1000, folder)
    assert math.isclose(seconds, 1 / 20 - 0.04)
    assert source == "as in sweep new (400 trials)"
    assert (
        status._bookkeeping("tpe", 1000, folder)[0]
        == status.USUAL_SEC["tpe"] + 1000 * status.TPE_GROWTH_SEC / 2
    )


def test_outcomes_come_back_bit_by_bit(tmp_path: Path) -> None:
    path, days = tmp_path / "outcomes", np.arange(5, dtype=np.int64)
    written_outcomes = [
        Outcome(
            3,
            {"a": 0.1 + 0.2},
            "COMPLETE",
            value=1 / 3,
            others=[float("nan")],
            metrics={"x": float("nan")},
            sessions=days,
            returns=np.array([0.1, -0.0, 1e-300, 2.0, 3.0]),
            config={"b": [1, None]},
        ),
        Outcome(1, {"a": "word"}, "FAILED", "ValueError", "said", traceback="lines\n"),
        Outcome(2, {"a": True}, "COMPLETE", value=-1.0, sessions=days + 1, returns=np.zeros(5)),
    ]
    log = TrialLog(path)
    for outcome in written_outcomes:
        log.add(outcome)
    log.close()
    back = trial_log.read(path)
    for outcome in written_outcomes:
        again = back[outcome.number]
        assert digest(again.returns) == digest(outcome.returns)
        assert again.sessions.tolist() == outcome.sessions.tolist()
        assert repr((again.params, again.value, again.others, again.metrics, again.config)) == repr(
            (outcome.params, outcome.value, outcome.others, outcome.metrics, outcome.config)
        )
    assert json.loads(path.read_text().splitlines()[0]).keys() == {"sessions"}
