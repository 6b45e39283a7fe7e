"""Walk-forward search: what each fold saw, what was traded with it, and that it continues after
anything.
"""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest

from mcl import composition, search
from mcl.base.errors import ConfigError
from mcl.engine.backtest import plan, simulate
from mcl.search import runner, status, walk_forward
from mcl.search.snapshot import take_snapshot
from mcl.search.space import overlay
from mcl.search.sweep_dir import SweepDir
from mcl.search.walk_forward import WalkForwardResult
from mcl.strategy import build

from .conftest import SMALL, Project

TYPED = [
    "search.walk_forward=anchored",
    "search.folds=3",
    "search.sampler=qmc",
    "search.trials=6",
    "study=walk",
]


def composed(*overrides: str) -> composition.Composed:
    keys = {o.split("=")[0] for o in overrides}
    return composition.compose(
        "sweep", [*(o for o in SMALL if o.split("=")[0] not in keys), *overrides]
    )


def walked(project: Project, *overrides: str) -> WalkForwardResult:
    walk = search.sweep(composed(*overrides), project=project)
    assert isinstance(walk, WalkForwardResult)
    return walk


@pytest.fixture(scope="module")
def whole(project: Project) -> WalkForwardResult:
    return walked(project, *TYPED)


def test_each_fold_searches_what_lies_before_its_part(
    project: Project, whole: WalkForwardResult
) -> None:
    bars = take_snapshot(composed(*TYPED), project.root).bars
    days = np.unique(bars.session).astype("datetime64[D]").astype(str)  # 40 sessions: 4 parts of 10
    assert whole.folds["traded_from"].tolist() == [days[10], days[20], days[30]]
    assert whole.folds["traded_until"].tolist()[:2] == [days[20], days[30]]
    assert whole.folds["searched_from"].tolist() == [days[0]] * 3
    # one purged session before each part
    assert whole.folds["searched_until"].tolist() == [days[9], days[19], days[29]]
    for row in whole.folds.to_dict("records"):
        sessions = project.store.run(row["sweep_id"]).tags["sessions"].split(" .. ")
        assert sessions[0] == days[0]
        assert sessions[1] < row["searched_until"]


def test_rolling_looks_back_so_many_parts(project: Project) -> None:
    snapshot = take_snapshot(
        composed(
            *TYPED, "search.walk_forward=rolling", "search.train_folds=1", "search.purge_sessions=0"
        ),
        project.root,
    )
    days = np.unique(snapshot.bars.session).astype("datetime64[D]").astype(str)
    assert [part.searched for part in walk_forward.parts(snapshot)] == [
        (days[i], days[i + 10]) for i in (0, 10, 20)
    ]


def test_parts_of_the_calendar(project: Project) -> None:
    typed = [*TYPED, "search.train_length=1 month", "search.test_length=10 sessions"]
    with pytest.raises(ConfigError, match="mix sessions with the calendar"):
        walk_forward.parts(take_snapshot(composed(*typed), project.root))
    with pytest.raises(ConfigError, match="belong together"):
        take_snapshot(composed(*TYPED, "search.test_length=1 month"), project.root)
    snapshot = take_snapshot(
        composed(*TYPED, "search.train_length=20 sessions", "search.test_length=15 sessions"),
        project.root,
    )
    days = np.unique(snapshot.bars.session).astype("datetime64[D]").astype(str)
    parts = walk_forward.parts(snapshot)
    assert parts[0].traded == (days[20], days[35])
    assert [part.searched for part in parts] == [(days[0], days[19]), (days[0], days[34])]
    assert parts[-1].rows[1] == len(snapshot.bars)  # five sessions: a short last part
    short = take_snapshot(
        composed(
            *TYPED,
            "search.train_length=20 sessions",
            "search.test_length=15 sessions",
            "search.short_last=false",
        ),
        project.root,
    )
    assert len(walk_forward.parts(short)) == 1
    monthly = take_snapshot(
        composed(*TYPED, "search.train_length=1 month", "search.test_length=1 month"), project.root
    )
    assert all(part.traded[0][:7] != part.searched[0][:7] for part in walk_forward.parts(monthly))


def test_a_calendar_walk_trades_its_parts(project: Project) -> None:
    typed = [
        "search.train_length=20 sessions",
        "search.test_length=15 sessions",
        "search.trials=2",
        "search.name=calendar",
    ]
    walk = walked(project, *TYPED, *typed)
    days = (
        np.unique(take_snapshot(composed(*TYPED), project.root).bars.session)
        .astype("datetime64[D]")
        .astype(str)
    )
    assert walk.folds["traded_from"].tolist() == [days[20], days[35]]
    assert walk.metrics["sessions"] == 20
    assert "parts of 15 sessions" in walk.title


def test_a_folds_choice_is_that_of_an_ordinary_search(
    project: Project, whole: WalkForwardResult
) -> None:
    row = whole.folds.iloc[1]
    alone = runner.sweep(
        composed(
            *TYPED,
            "search.walk_forward=null",
            f"++data.start={row['searched_from']}",
            f"++data.holdout_start={row['searched_until']}",
        ),
        project=project,
    )
    best = alone.best or {}
    assert best["params"] == {key: row[key] for key in whole.keys}
    assert best["metrics"]["sharpe"] == row["in_sample"]


def test_the_stitched_run_trades_each_part_with_its_own_values(
    project: Project, whole: WalkForwardResult
) -> None:
    snapshot = take_snapshot(composed(*TYPED), project.root)
    run, bars, first = snapshot.run, snapshot.bars, walk_forward.parts(snapshot)[0].rows[0]
    wanted = np.full(len(bars), np.nan)
    for part, row in zip(walk_forward.parts(snapshot), whole.folds.to_dict("records"), strict=True):
        own = composition.run_config(
            overlay(snapshot.composed.raw, {key: row[key] for key in whole.keys})
        )
        wanted[slice(*part.rows)] = plan(
            bars, build(own.strategy), own.risk, own.capital_usd
        ).wanted[slice(*part.rows)]
    intent = plan(bars, build(run.strategy), run.risk, run.capital_usd)
    own_plan = dataclasses.replace(intent, wanted=wanted).rows(first, len(bars))
    by_hand = simulate(
        bars.rows(first, len(bars)),
        own_plan,
        run.risk.limits,
        run.costs,
        run.capital_usd,
        run.execution,
    )
    stored = project.store.run(whole.sweep_id)
    equity = pd.read_parquet(io.BytesIO(stored.file("data/equity.parquet")))
    np.testing.assert_array_equal(equity["equity_usd"], by_hand.equity)
    assert whole.metrics["net_pnl_usd"] == by_hand.net_pnl_usd == stored.metrics["net_pnl_usd"]
    assert whole.folds["in_sample"].mean() < 0
    assert math.isnan(whole.metrics["walk_forward_efficiency"])  # nothing looked good in sample
    assert math.isnan(whole.metrics["walk_forward_pnl_efficiency"])
    assert whole.metrics["walk_forward_folds"] == 3


def test_it_is_one_run_with_a_report_and_a_sweep_per_fold(
    project: Project, whole: WalkForwardResult
) -> None:
    stored = project.store.run(whole.sweep_id)
    assert (stored.tags["mcl.kind"], stored.status) == ("walk_forward", "FINISHED")
    page = (stored.artifacts / "report.html").read_text()
    assert "plotly" in page
    for anchor in ("out-of-sample-equity", "folds", "parameters-over-time", "efficiency"):
        assert f'<section id="{anchor}"' in page
    assert "walk_forward:" not in page  # the folds are a table, no text of a configuration
    assert page.count('<a class="out"') == 1 + len(whole.folds)  # each fold leads to its search
    children = {run.run_id: run for run in project.store.children(whole.sweep_id)}
    assert [children[i].tags["fold"] for i in whole.folds["sweep_id"]] == ["1", "2", "3"]
    assert all(
        run.tags["mcl.kind"] == "sweep" and run.status == "FINISHED" for run in children.values()
    )
    again, _ = status.report(whole.sweep_id, project=project)
    assert isinstance(again, WalkForwardResult)
    pd.testing.assert_frame_equal(again.folds, whole.folds)
    assert status.status(whole.sweep_id, store=project.store)["state"] == "FINISHED"


def test_it_goes_on_where_it_was_stopped(
    project: Project, whole: WalkForwardResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep = runner.sweep

    def stop_in_the_second(*args: object, **more: object) -> object:
        if more["tags"] == {"fold": "2"}:
            raise KeyboardInterrupt
        return run_sweep(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "sweep", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        walked(project, *TYPED, "search.name=broken")
    monkeypatch.undo()
    assert status.status("broken", store=project.store)["state"] == "KILLED"
    again = search.resume("broken", project=project)
    assert isinstance(again, WalkForwardResult)
    pd.testing.assert_frame_equal(
        again.folds.drop(columns="sweep_id"), whole.folds.drop(columns="sweep_id")
    )
    assert again.metrics["net_pnl_usd"] == whole.metrics["net_pnl_usd"]


def test_who_stops_the_whole_stops_the_fold(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = SweepDir.write_heartbeat

    def stop_after_one(place: SweepDir, status: dict[str, object]) -> None:
        beat(place, status)
        if status.get("fold") == 2:
            place.request_stop()

    monkeypatch.setattr(SweepDir, "write_heartbeat", stop_after_one)
    walk = walked(project, *TYPED, "search.name=halted")
    assert (walk.status, walk.why) == ("KILLED", "fold 2 of 3: stopped by hand")
    assert project.store.run(walk.sweep_id).status == "KILLED"
    monkeypatch.undo()
    again = search.resume("halted", project=project)
    assert again.status == "FINISHED"


def test_a_part_without_a_winner_stays_flat(project: Project) -> None:
    walk = walked(project, *TYPED, "search.min_trades=100000")
    assert walk.states == {"PRUNED": 18}
    assert walk.metrics["trades"] == 0
    assert walk.folds[walk.keys].isna().all(axis=None)


def test_only_the_plan_may_differ_from_part_to_part(project: Project) -> None:
    with pytest.raises(ConfigError, match=r"costs.slippage_ticks cannot differ from part to part"):
        walked(project, *TYPED, "study=refused", "costs.slippage_ticks=interval(0,2)")
    with pytest.raises(ConfigError, match="40 sessions do not make 60 folds"):
        walked(project, *TYPED, "study=refused", "search.folds=60")
    assert project.store.in_study("refused") == []
