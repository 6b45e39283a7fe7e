"""Searches on a real store: what is kept, what is never scored, what repeats."""

from __future__ import annotations

import io
import json
import math

import pandas as pd
import pytest
from comparisons import digest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import ConfigError
from mcl.search.result import SweepResult
from mcl.tracking import backtest_run

from .conftest import Project, measured


@pytest.fixture(scope="module")
def random(project: Project) -> SweepResult:
    return project.sweep("search.sampler=random", "search.trials=30", "seed=4")


def points(sweep_result: SweepResult) -> list[tuple[object, ...]]:
    return list(
        sweep_result.trials[["trial", *sweep_result.keys, "state", "reason"]].itertuples(
            index=False, name=None
        )
    )


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "qmc", "random", "nsga2"])
def test_every_trial_is_a_child_run(project: Project, sampler: str) -> None:
    sweep_result = project.sweep(f"search.sampler={sampler}")
    parent = project.store.run(sweep_result.sweep_id)
    trials = [
        run
        for run in project.store.children(sweep_result.sweep_id)
        if run.tags["mcl.kind"] == "trial"
    ]
    assert (
        parent.status,
        parent.tags["mcl.kind"],
        len(trials),
        sum(sweep_result.states.values()),
    ) == (
        "FINISHED",
        "sweep",
        12,
        12,
    )
    assert {run.run_id for run in trials} == set(sweep_result.trials["run_id"])
    for run in trials:
        row = sweep_result.trials.set_index("run_id").loc[run.run_id]
        assert run.params["strategy.fast"] == str(row["strategy.fast"])
        assert run.tags["state"] == row["state"]
        if row["state"] == "COMPLETE":
            assert run.metrics["sharpe"] == row["sharpe"] == row["value"]
            # each one can be run again
            assert backtest_run.stored_config(run).strategy["fast"] == row["strategy.fast"]
            assert (
                run.tags["config_sha256"]
                == composition.fingerprint(backtest_run.stored_config(run))
                == row["config_sha256"]
            )


def test_a_grid_visits_every_point_once(project: Project) -> None:
    sweep_result = project.sweep(
        "search.sampler=grid", "strategy.fast=5,10", "strategy.slow=range(20, 50, 10)"
    )
    visited = list(
        sweep_result.trials[["strategy.fast", "strategy.slow"]].itertuples(index=False, name=None)
    )
    assert visited == [(fast, slow) for fast in (5, 10) for slow in (20, 30, 40)]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "qmc", "nsga2"])
def test_the_seed_decides(project: Project, sampler: str) -> None:
    one, same, other = (
        project.sweep(f"search.sampler={sampler}", "search.trials=6", f"seed={seed}")
        for seed in (1, 1, 2)
    )
    assert points(one) == points(same)
    assert points(one) != points(other)
    assert one.best is not None
    assert measured(one) == measured(same)


def test_workers_change_nothing_but_the_time(project: Project, random: SweepResult) -> None:
    parallel = project.sweep(
        "search.sampler=random", "search.trials=30", "seed=4", "search.workers=2"
    )
    assert points(parallel) == points(random)
    columns = [c for c in random.trials.columns if c not in ("seconds", "run_id")]
    pd.testing.assert_frame_equal(parallel.trials[columns], random.trials[columns])


def test_sobol_points_do_not_depend_on_timing(project: Project) -> None:
    alone, together = (
        project.sweep("search.sampler=qmc", f"search.workers={count}") for count in (1, 2)
    )
    assert points(alone) == points(together)


def test_outcomes_are_typed_and_never_made_up(random: SweepResult) -> None:
    trials = random.trials
    crossed = trials[trials["strategy.fast"] >= trials["strategy.slow"]]
    first = crossed.drop_duplicates(["strategy.fast", "strategy.slow"])
    assert len(first) > 0
    assert set(first["state"]) == {"PRUNED"}
    assert set(first["reason"]) == {"constraint"}
    assert first["detail"].str.contains("need 0 < fast < slow").all()
    assert crossed["value"].isna().all()
    repeated = trials[trials.duplicated(["strategy.fast", "strategy.slow"])]
    assert set(repeated["reason"]) == {"duplicate"}
    assert trials[trials["state"] == "COMPLETE"]["value"].notna().all()


def test_too_few_trades_are_pruned_with_their_number(project: Project) -> None:
    sweep_result = project.sweep(
        "search.min_trades=100000", "search.trials=3", "search.sampler=qmc"
    )
    assert (sweep_result.states, sweep_result.best) == ({"PRUNED": 3}, None)
    simulated = sweep_result.trials[sweep_result.trials["reason"] == "no_trades"]
    assert simulated["detail"].str.contains("fewer than search.min_trades=100000").all()
    rows = [
        run.metrics
        for run in project.store.children(sweep_result.sweep_id)
        if run.tags["reason"] == "no_trades"
    ]
    # or they would lead a list sorted by Sharpe
    assert all(set(metrics) == {"trades"} for metrics in rows)
    assert b"No result" in project.store.run(sweep_result.sweep_id).file("sweep.html")


def test_an_undefined_metric_is_pruned(project: Project) -> None:
    never = (
        "search.min_trades=0",
        "search.metric=win_rate_frac",
        "strategy.fast=choice(90)",
        "strategy.slow=choice(100000)",
    )
    sweep_result = project.sweep("search.sampler=grid", *never)
    assert points(sweep_result) == [(0, 90, 100_000, "PRUNED", "undefined")]
    assert math.isnan(sweep_result.trials["value"][0])


def test_an_exception_fails_its_trial_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcl.strategy.ema_cross import EmaCross

    signal = EmaCross.signal

    def fragile(self: EmaCross, bars: object) -> object:
        if self.slow == 40:
            raise ZeroDivisionError("a bug in a strategy\n" + "that has much to say " * 100)
        if self.slow == 20:
            raise SystemExit(3)
        return signal(self, bars)  # type: ignore[arg-type]

    monkeypatch.setattr(EmaCross, "signal", fragile)
    sweep_result = project.sweep(
        "search.sampler=grid", "strategy.fast=5,8", "strategy.slow=20,30,40"
    )
    assert sweep_result.states == {"COMPLETE": 2, "FAILED": 4}
    failed = [
        run for run in project.store.children(sweep_result.sweep_id) if run.status == "FAILED"
    ]
    assert (
        sorted(run.tags["reason"] for run in failed)
        == ["SystemExit"] * 2 + ["ZeroDivisionError"] * 2
    )
    divided = next(run for run in failed if run.tags["reason"] == "ZeroDivisionError")
    assert divided.file("traceback.txt").count(b"that has much to say that") == 50
    assert divided.tags["detail"].endswith("… (2,138 characters)")
    assert len(divided.tags["detail"]) < 340


def test_what_is_searched_need_not_fit_as_it_stands(project: Project) -> None:
    # the fast that the configuration has is 10
    sweep_result = project.sweep("search.sampler=grid", "strategy.slow=8", "strategy.fast=2,5,7")
    assert sweep_result.trials["strategy.fast"].tolist() == [2, 5, 7]
    assert sweep_result.states == {"COMPLETE": 3}
    resumed = project.resume(sweep_result.sweep_id)
    assert points(resumed) == points(sweep_result)
    with pytest.raises(ConfigError, match=r"need 0 < fast < slow; fast=10, slow=2"):
        project.sweep(
            "search.sampler=grid", "strategy.slow=2", "strategy.fast=5,7", "study=none_fits"
        )


def test_a_strategy_that_fails_as_it_stands_is_refused_in_a_sentence(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, bars: object) -> object:
        raise IndexError("no such row")

    monkeypatch.setattr("mcl.strategy.ema_cross.EmaCross.signal", broken)
    with pytest.raises(
        ConfigError,
        match="strategy 'ema_cross' fails before anything is searched: IndexError: no such row",
    ):
        project.sweep("study=broken")
    assert project.store.in_study("broken") == []


def test_the_best_trial_is_run_again_in_full(project: Project, random: SweepResult) -> None:
    best, trials = random.best, random.trials
    assert best is not None
    row = trials.set_index("trial").loc[best["trial"]]
    assert best["value"] == row["sharpe"] == trials[trials["state"] == "COMPLETE"]["sharpe"].max()
    whole = project.store.run(best["run_id"])
    assert (whole.parent, whole.tags["mcl.kind"], whole.status) == (
        random.sweep_id,
        "backtest",
        "FINISHED",
    )
    assert {name: whole.metrics[name] for name in measured(random)} == pytest.approx(
        measured(random), rel=0, abs=0, nan_ok=True
    )
    assert b"<html" in whole.file("report.html")
    assert whole.tags["mlflow.source.type"] == "LOCAL"
    assert whole.tags["mlflow.user"]
    assert whole.tags["mlflow.source.name"]
    assert "None" not in whole.params.values()
    again = backtest_run.replay(whole, project.root).metrics
    assert not differences(measured(random), {name: again[name] for name in measured(random)})
    typed = json.loads(whole.file("overrides.json"))["overrides"]
    assert composition.compose("backtest", typed).config == backtest_run.stored_config(
        whole
    )  # what is written down repeats the run by hand


def test_the_ten_best_trials_have_their_equity(project: Project, random: SweepResult) -> None:
    """As a series that MLflow's own charts lay over each other; the complete run has the same."""
    trials = random.trials[random.trials["state"] == "COMPLETE"]
    ranked = trials.sort_values("value", ascending=False, kind="stable")["run_id"].tolist()
    key = "curve/equity_usd"
    drawn = [key in project.store.run(run_id).metrics for run_id in ranked]
    assert drawn == [number < 10 for number in range(len(ranked))]
    assert random.best is not None
    client = project.store.connection.client
    ours, whole = (
        [(point.step, point.value) for point in client.get_metric_history(run_id, key)]
        for run_id in (ranked[0], random.best["run_id"])
    )
    assert [step for step, _ in ours] == [step for step, _ in whole] == list(range(40))
    assert [value for _, value in ours] == pytest.approx([value for _, value in whole], abs=1e-6)


def test_the_parent_keeps_everything(project: Project, random: SweepResult) -> None:
    parent = project.store.run(random.sweep_id)
    table = pd.read_parquet(io.BytesIO(parent.file("trials.parquet")))
    assert len(table) == 30
    returns = pd.read_parquet(io.BytesIO(parent.file("session_returns.parquet")))
    assert set(returns["trial"]) == set(table[table["reason"].isin(["", "no_trades"])]["trial"])
    scored = table.set_index("trial")
    for _, row in returns.iterrows():
        assert sum(row["return_frac"]) == pytest.approx(
            scored.loc[row["trial"], "return_frac"], abs=1e-12
        )
        assert len(row["session"]) == len(row["return_frac"]) == 40
    assert json.loads(parent.file("search.json"))["space"]["strategy.fast"].startswith(
        "IntDistribution"
    )
    assert parent.metrics["best_sharpe"] == (random.best or {})["value"]
    assert parent.metrics["trials"] == 30
    assert digest(random.report.read_bytes()) == digest(parent.file("sweep.html"))


def test_the_tables_for_the_terminal_say_the_same(random: SweepResult) -> None:
    (title, columns, rows), (_, _, causes) = random.tables()
    assert title.startswith(f"{random.states['COMPLETE']} of 30 trials scored")
    assert rows[0][0] == str((random.best or {})["trial"])
    assert (random.best or {})["run_id"].startswith(rows[0][-1])
    assert columns[:3] == ["trial", "fast", "slow"]
    assert sum(int(row[2]) for row in causes) == 30 - random.states["COMPLETE"]


def test_minimising(project: Project) -> None:
    sweep_result = project.sweep(
        "search.sampler=qmc",
        "search.metric=turnover_contracts_per_session",
        "search.direction=minimize",
    )
    assert (sweep_result.best or {})["value"] == sweep_result.trials["value"].min()


def test_the_time_limit_stops_asking(project: Project) -> None:
    sweep_result = project.sweep(
        "search.trials=100000",
        "search.sampler=random",
        "search.timeout_sec=0.3",
        "strategy.fast=range(1,5000)",
    )
    assert 0 < len(sweep_result.trials) < 100_000
    assert project.store.run(sweep_result.sweep_id).status == "FINISHED"
    nothing = project.sweep("search.timeout_sec=1e-9")
    assert (len(nothing.trials), nothing.best, nothing.states) == (0, None, {})
    assert nothing.tables()[0][0] == "0 of 0 trials scored, search.timeout_sec=1e-09 is over"


def test_bars_beyond_the_hold_out_are_never_seen(project: Project) -> None:
    sweep_result = project.sweep(
        "data.holdout_start='2024-03-01'", "search.trials=4", "search.sampler=qmc"
    )
    returns = pd.read_parquet(
        io.BytesIO(project.store.run(sweep_result.sweep_id).file("session_returns.parquet"))
    )
    last = max(max(days) for days in returns["session"])
    assert pd.Timestamp(last, unit="D") == pd.Timestamp("2024-02-29")


def test_a_data_key_may_be_searched(project: Project) -> None:
    sweep_result = project.sweep(
        "search.sampler=grid",
        "data.end='2024-02-15','2024-03-01'",
        "strategy.fast=5",
        "strategy.slow=20",
    )
    assert sweep_result.keys == ["data.end"]  # a value that is typed is not searched
    assert sweep_result.trials["sessions"].tolist() == [10, 21]


def test_optuna_opens_the_journal(project: Project, random: SweepResult) -> None:
    import optuna

    path = project.root / "mlruns" / "sweeps" / f"{random.sweep_id}.journal"
    study = optuna.load_study(
        study_name=random.sweep_id, storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert len(study.trials) == 30
    assert study.best_value == (random.best or {})["value"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["search.metric=sharp"], "did you mean 'sharpe'"),
        (["search.sampler=grid"], r"the grid has 90 points, more than search\.trials=12"),
        (["search.sampler=grid", "costs.slippage_ticks=interval(0, 1)"], "continuous interval"),
        (
            ["search.sampler=cmaes", "strategy.fast=5,8", "strategy.slow=20,30"],
            "holds only choices",
        ),
        (["strategy.fst=range(1, 5)"], "did you mean 'strategy.fast'"),
        (["search.trials=0"], "greater than or equal to 1"),
        (["search.space=null", "strategy.slow=80", "strategy.fast=8"], "the search space is empty"),
        (
            ["search.also={max_drawdown: maximize}"],
            r"search\.also: 'max_drawdown' is not a metric: did you mean 'max_drawdown_",
        ),
        (["search.also={sharpe: maximize}"], r"search\.also names sharpe again"),
        (
            ["search.enqueue=[default]"],
            r"search\.enqueue\.0='default': input should be 'defaults' or 'champion'",
        ),
        (
            ["search.enqueue=[{strategy.fast: 11, strategy.slow: 90}]"],
            r"strategy\.fast=11 is not in the space, 2 to 38 in steps of 4",
        ),
        (
            ["strategy.slow=range(20, 90"],
            r"cannot read the override 'strategy\.slow=range\(20, 90'",
        ),
        (
            ["search.constraints=[trades>5]"],
            r"cannot read the override 'search\.constraints=\[trades>5\]'",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_run_exists(
    project: Project, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        project.sweep("study=refused", *overrides)
    assert project.store.in_study("refused") == []
