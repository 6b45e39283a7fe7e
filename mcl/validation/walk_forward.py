"""The worth of choosing parameters: the choice is made again and again on one part of the sessions
and judged on another.

Each point of a sample of the space is simulated once over the whole search window; a choice looks
at the session returns of its training sessions only. That is exact for the signals (they are
causal) and leaves one approximation: a position, a locked day or a drawdown halt is carried over a
fold's border as the whole simulation had it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.engine.result import Result
from mcl.metrics import folds
from mcl.metrics import performance as perf
from mcl.metrics.performance import Floats
from mcl.validation.subject import Subject, sampled


@dataclass(frozen=True)
class Sample:
    """Points of the space and their session returns; the run's own point is the first column."""

    points: list[dict[str, Any]]
    returns: Floats  # sessions × points
    holdings: list[
        folds.Rows
    ]  # of each point: (positions × 2) first and last session of each position


@dataclass(frozen=True)
class Walked:
    """Stitched out-of-sample returns, one per tested session, and what was chosen for each fold."""

    sessions: Any  # row numbers of the search window
    returns: Floats
    chosen: list[dict[str, Any]]
    splits: list[folds.Split]  # rows of the search window that each fold was chosen and judged by
    trained: list[Floats]  # the choice's returns on its training sessions
    tested: list[Floats]  # and on its test sessions

    @property
    def in_sample(self) -> Floats:
        """The annual Sharpe ratio of each choice on its training sessions."""
        return np.array([perf.sharpe(returns) for returns in self.trained])

    @property
    def sharpe(self) -> float:
        return perf.sharpe(self.returns)

    @property
    def efficiency(self) -> float:
        """Out-of-sample Sharpe over the mean in-sample one; NaN when nothing looked good in
        sample.
        """
        return perf.ratio(self.sharpe, float(np.mean(self.in_sample)))


def sample(subject: Subject, settings: schema.Validation, tick: Callable[[], None]) -> Sample:
    """`settings.budget` points with their returns; points that are no valid configuration, or never
    trade, are not in it.
    """
    points, results = [subject.point], [subject.result]
    for point in sampled(subject.space, settings.budget, settings.seed) if subject.space else ():
        if len(points) >= settings.budget:
            break
        result = None if point == subject.point else subject.at(point)
        if result is not None and len(result.fills):
            points.append(point)
            results.append(result)
        tick()
    returns = np.column_stack([result.session_returns.to_numpy() for result in results])
    return Sample(points, returns, [holdings(result) for result in results])


def holdings(result: Result) -> folds.Rows:
    """(positions × 2) first and last session of each round trip, as rows of the session returns."""
    number = np.cumsum(np.diff(result.bars.session, prepend=result.bars.session[:1]) != 0)
    trades = result.trades
    return np.column_stack([number[trades["entry_bar"]], number[trades["exit_bar"]]]).astype(
        np.int64
    )


def walk_forward(sample: Sample, settings: schema.Validation, *, anchored: bool) -> Walked | None:
    """None with fewer than two points: then there is nothing to choose from."""
    if len(sample.points) < 2:
        return None
    window = None if anchored else settings.train_folds
    splits = folds.walk_forward(
        len(sample.returns), settings.folds, purge=settings.purge_sessions, train_folds=window
    )
    best = [_best(sample.returns[split.train]) or 0 for split in splits]
    stitched = np.concatenate(
        [sample.returns[split.test, b] for split, b in zip(splits, best, strict=True)]
    )
    return Walked(
        sessions=np.concatenate([split.test for split in splits]),
        returns=stitched,
        chosen=[sample.points[b] for b in best],
        splits=splits,
        trained=[sample.returns[s.train, b] for s, b in zip(splits, best, strict=True)],
        tested=[sample.returns[s.test, b] for s, b in zip(splits, best, strict=True)],
    )


def cpcv(sample: Sample, settings: schema.Validation) -> Floats | None:
    """(sessions × paths) out-of-sample returns of combinatorial purged cross-validation; None with
    fewer than two points.

    With `settings.purge_positions` each point is chosen by its own training sessions: those of a
    position that was held in a judged session are left out. NaN where no point has two training
    sessions left.
    """
    if len(sample.points) < 2:
        return None
    count, tests = settings.cpcv_folds, settings.cpcv_tests
    splits = folds.combinatorial(
        len(sample.returns),
        count,
        tests,
        purge=settings.purge_sessions,
        embargo=settings.embargo_sessions,
    )
    part = np.minimum(np.arange(len(sample.returns)) // (len(sample.returns) // count), count - 1)
    out = np.full((len(sample.returns), folds.paths(count, tests)), math.nan)
    for split, chosen, ids in zip(
        splits, combinations(range(count), tests), folds.path_ids(count, tests), strict=True
    ):
        best = _best(_training(sample, split, settings))
        if best is None:
            continue
        for fold, path in zip(chosen, ids, strict=True):
            rows = part == fold
            out[rows, path] = sample.returns[rows, best]
    return out


def _training(sample: Sample, split: folds.Split, settings: schema.Validation) -> Floats:
    """(training sessions × points) returns; NaN where a point's position reaches into the judged
    sessions.
    """
    returns = sample.returns[split.train]
    if settings.purge_positions:
        tested = np.zeros(len(sample.returns), bool)
        tested[split.test] = True
        for column, spans in enumerate(sample.holdings):
            returns[folds.sessions_of_tested_positions(tested, spans)[split.train], column] = (
                math.nan
            )
    return returns


def fold_problem(settings: schema.Validation, sessions: int) -> str:
    """Say why the folds cannot be made; empty when they can."""
    try:
        folds.walk_forward(sessions, settings.folds, purge=settings.purge_sessions)
        folds.combinatorial(
            sessions,
            settings.cpcv_folds,
            settings.cpcv_tests,
            purge=settings.purge_sessions,
            embargo=settings.embargo_sessions,
        )
    except ConfigError as error:
        return error.message
    return ""


def _best(returns: Floats) -> int | None:
    """The column with the highest Sharpe ratio over its sessions without NaN; None where no column
    has two of them.

    A constant column has no ratio and is never chosen unless all are.
    """
    enough = (~np.isnan(returns)).sum(axis=0) > 1
    if not enough.any():
        return None
    ratios = perf.session_ratios(returns)
    return int(enough.argmax() if np.isnan(ratios).all() else np.nanargmax(ratios))
