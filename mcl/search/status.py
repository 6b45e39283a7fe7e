"""Report on a search from another process: its status, its result, and an estimate before it
begins.
"""

from __future__ import annotations

import io
import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcl import composition
from mcl.base.files import write_whole
from mcl.base.words import many
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.data.loader import load
from mcl.metrics.overfit import mean_correlation
from mcl.metrics.power import smallest_sharpe
from mcl.search import runner, trial_log, walk_forward
from mcl.search import space as spaces
from mcl.search.best import export, ranking
from mcl.search.point_sequences import uniform
from mcl.search.progress import SweepStatistics
from mcl.search.recorder import TrialRecorder
from mcl.search.result import SweepResult, best_fields, page, with_plateaus
from mcl.search.snapshot import SearchSnapshot, stored_composed, take_snapshot
from mcl.search.space import points as levels
from mcl.search.sweep_dir import SweepDir
from mcl.search.trial import Objective, Outcome
from mcl.tracking import backtest_run, trial_ledger
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredRun

# Seconds a trial beyond its backtest where no earlier sweep of this project says it, as
# scripts/bench_search.py measured them.
USUAL_SEC = {"tpe": 0.008, "cmaes": 0.003, "nsga2": 0.003, "nsga3": 0.003}
OTHERS_SEC, TPE_GROWTH_SEC = 0.0015, 4e-6  # tpe looks at every trial before: so much more for each
# backtests that an estimate runs; trials of an earlier sweep that tell what a trial costs besides
TIMED, ENOUGH = 5, 50


@dataclass(frozen=True)
class Smallest:
    """The true annual Sharpe ratios that a promotion shows half of the time, and four times in
    five; NaN where none is shown. `independent` is the second one if no two trials were alike.
    `trials` counts what the search will be one of.
    """

    level: float
    trials: int
    half: float
    most: float
    independent: float


@dataclass(frozen=True)
class Estimate:
    """The cost of a search: `points` in the space (infinite when an axis is continuous),
    seconds of a backtest (median), of the bookkeeping of a trial, and in all; `how` says where they
    come from. And what it could show, by `mcl.metrics.power`: `correlation` is that of the returns
    of two trials on average, over the points that were timed.
    """

    title: str
    trials: int
    points: float
    bars: int
    trial_sec: float
    own_sec: float
    total_sec: float
    how: str
    sessions: int
    holdout_sessions: int
    correlation: float
    paper: Smallest | None  # None where the gates ask for no p-value
    live: Smallest | None


def estimate(composed: composition.Composed, root: Path) -> Estimate:
    """Time a few random points of the space; nothing is recorded. ConfigError as `sweep` would
    raise it.
    """
    snapshot = take_snapshot(composed, root)
    search, total = snapshot.search, snapshot.total
    timed = _timed(snapshot)
    seconds = statistics.median([outcome.seconds for outcome in timed] or [math.nan])
    own, source = _bookkeeping(search.sampler, total, Store(root).folder / "sweeps")
    at_once = min(search.workers, os.cpu_count() or 1)
    each = max(seconds / at_once, own) if at_once > 1 else seconds + own
    simulated = min(total, _points(snapshot.space))  # a point is never simulated twice
    sessions, unseen = len(np.unique(snapshot.bars.session)), _held_out(snapshot, root)
    alike = (
        mean_correlation(np.column_stack([outcome.returns for outcome in timed]))
        if timed
        else math.nan
    )
    correlation = alike if math.isfinite(alike) else 0.0
    gates = composition.validate(
        Promotion, composition.compose("promote", []).raw["promotion"], "promotion"
    )
    pool = backtest_run.trial_pool(snapshot.run)
    kinds = ((gates.max_p_value, pool), (gates.live.max_market_p_value, pool.everywhere))
    smallest = [
        level
        and _smallest(
            level,
            int(simulated) + trial_ledger.tally(root, where).count,
            sessions,
            unseen,
            correlation,
        )
        for level, where in kinds
    ]
    how = (
        f"{len(timed)} random points timed now on {at_once} of {os.cpu_count() or 1} processors;"
        f" bookkeeping {source}"
    )
    return Estimate(
        title=snapshot.title,
        trials=total,
        points=_points(snapshot.space),
        bars=len(snapshot.bars),
        trial_sec=seconds,
        own_sec=own,
        total_sec=min(simulated * each + (total - simulated) * own, search.timeout_sec or math.inf),
        how=how,
        sessions=sessions,
        holdout_sessions=unseen,
        correlation=correlation,
        paper=smallest[0] or None,
        live=smallest[1] or None,
    )


def status(named: str, *, store: Store) -> dict[str, Any]:
    """The last heart-beat of a search, and whether the process that wrote it still lives.

    `state` is RUNNING, or the status that the parent wrote at its end, or DEAD: it was killed, and
    `mcl sweep resume` continues the search.
    """
    directory = runner.search_of(named, store)
    heartbeat, alive = directory.heartbeat(), directory.alive
    last_status = heartbeat.get("status", "RUNNING")
    state = "RUNNING" if alive else "DEAD" if last_status == "RUNNING" else last_status
    age = time.time() - heartbeat["beat"] if "beat" in heartbeat else None
    return (
        directory.metadata()
        | heartbeat
        | {
            "state": state,
            "beat_age_sec": age,
            "stopping": alive and directory.stop_requested,
        }
    )


def stop(named: str, *, store: Store) -> dict[str, Any]:
    """Ask the parent to end after the trials that run; the status it has then is read with
    `status`.
    """
    directory = runner.search_of(named, store)
    if directory.alive:
        directory.request_stop()
    return status(named, store=store)


def report(
    named: str, *, project: Project, name: str = ""
) -> tuple[SweepResult | walk_forward.WalkForwardResult, Path | None]:
    """The tables and the page of a search, finished or not, made anew; with `name` also
    experiments/NAME_best.yaml of its winner.

    A walk-forward search has no single winner; it is shown as its last run stitched it.
    """
    directory = runner.search_of(named, project.store)
    if directory.metadata().get("kind") == walk_forward.KIND:
        return walk_forward.report(directory, project.store), None
    stored = project.store.run(directory.sweep_id)
    composed = stored_composed(stored)
    search = composed.search
    space = spaces.parse(search.space, composed.raw)
    outcomes = trial_log.read(directory.file("outcomes"))
    sweep_result = _sweep_result(stored, search, space, outcomes, project.store)
    write_whole(sweep_result.report, page(sweep_result, stored))
    best = sweep_result.best
    written = (
        export(composed, best["params"], project.root, name, stored.run_id, best["run_id"])
        if name and best
        else None
    )
    return sweep_result, written


def _sweep_result(
    stored: StoredRun,
    search: schema.Search,
    space: spaces.Space,
    outcomes: dict[int, Outcome],
    store: Store,
) -> SweepResult:
    """The search as `conclude` would have it: from the parent's table once there is one, else from
    the outcomes on disk.
    """
    recorder = TrialRecorder(store, stored.study, stored.run_id, {}, {}, rows=False)
    statistics = SweepStatistics(
        stored.name, search.trials, search.metric, search.direction == "maximize"
    )
    rows = store.trials(stored.run_id)
    for number in sorted(outcomes):
        recorder.add_stored(outcomes[number], rows.get(number, ""))
        statistics.add(outcomes[number])
    ranked = ranking(search, space, recorder.scored())
    running = stored.status == "RUNNING"
    frame = (
        with_plateaus(recorder.frame(), space, search.metric, statistics.maximize, search.also)
        if running
        else _table(stored)
    )
    return SweepResult(
        sweep_id=stored.run_id,
        trials=frame,
        states=dict(statistics.states),
        best=_best(stored, ranked[0], rows) if ranked else None,
        report=stored.artifacts / "sweep.html",
        keys=[key for key in space if key in frame],
        metric=search.metric,
        maximize=statistics.maximize,
        status="RUNNING" if running else "KILLED" if stored.status == "KILLED" else "FINISHED",
        why="not finished" if running else stored.tags.get("stopped", ""),
        watermark=stored.tags.get("watermark", ""),
        space=space,
        luck=recorder.luck(ranked[0].number) if ranked else None,
    )


def _best(stored: StoredRun, best: Outcome, rows: dict[int, str]) -> dict[str, Any]:
    whole = (
        stored.tags.get("best_run_id", "")
        if stored.tags.get("best_trial") == str(best.number)
        else ""
    )
    return best_fields(best, whole or rows.get(best.number, ""))


def _table(stored: StoredRun) -> Any:
    import pandas as pd

    return pd.read_parquet(io.BytesIO(stored.file("trials.parquet")))


def _bookkeeping(sampler: str, trials: int, folder: Path) -> tuple[float, str]:
    """Seconds a trial beyond its backtest, and where that is from: the last sweep with this sampler
    and one worker that did enough trials in one process, else the usual.
    """
    growth = TPE_GROWTH_SEC / 2 if sampler == "tpe" else 0.0
    for directory in sorted(
        (SweepDir(folder, path.stem) for path in folder.glob("*.card")),
        key=lambda p: p.metadata()["started"],
        reverse=True,
    ):
        metadata, heartbeat = directory.metadata(), directory.heartbeat()
        if (
            (metadata.get("sampler"), metadata.get("workers")) == (sampler, 1)
            and heartbeat.get("here", 0) >= ENOUGH
            and heartbeat["trials_per_sec"] > 0
        ):
            beyond = max(0.0, 1 / heartbeat["trials_per_sec"] - heartbeat["trial_sec"]) + growth * (
                trials - heartbeat["here"]
            )
            return max(
                0.0, beyond
            ), f"as in sweep {directory.sweep_id[:12]} ({many(heartbeat['here'], 'trial')})"
    usual = USUAL_SEC.get(sampler, OTHERS_SEC) + growth * trials
    return (
        usual,
        (
            f"as usual for {sampler}: no sweep of {ENOUGH} trials with it and one worker is here to"
            " go by"
        ),
    )


def _timed(snapshot: SearchSnapshot, count: int = TIMED) -> list[Outcome]:
    """A few backtests; the first may still compile and does not count, nor do points that no
    strategy accepts.
    """
    objective = Objective(
        snapshot.composed.raw, snapshot.search, snapshot.data_cache, snapshot.rules, snapshot.soft
    )
    point = uniform(snapshot.space, snapshot.run.seed)
    points = (
        spaces.present(point(number), snapshot.space, snapshot.search.conditions)
        for number in range(20 * count)
    )
    outcomes = (objective(number, values) for number, values in enumerate(points))
    return [
        outcome
        for _, outcome in zip(range(count + 1), (o for o in outcomes if o.metrics), strict=False)
    ][1:]


def _held_out(snapshot: SearchSnapshot, root: Path) -> int:
    """Count the sessions of the hold-out. None of their prices is used."""
    if snapshot.run.data.holdout_start is None:
        return 0
    bars = load(snapshot.run.data, root, holdout=True)
    return len(np.unique(bars.between(snapshot.run.data.holdout_start).session))


def _smallest(level: float, count: int, sessions: int, unseen: int, correlation: float) -> Smallest:
    half, most = (
        smallest_sharpe(share, sessions, unseen, count, level, correlation) for share in (0.5, 0.8)
    )
    return Smallest(level, count, half, most, smallest_sharpe(0.8, sessions, unseen, count, level))


def _points(space: spaces.Space) -> float:
    continuous = any(getattr(axis, "step", 1) is None for axis in space.values())
    return (
        math.inf if continuous else math.prod(len(levels(key, axis)) for key, axis in space.items())
    )
