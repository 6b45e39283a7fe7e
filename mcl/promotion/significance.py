"""The probability of a result without any edge: the search with all trials, and the hold-out with
all of its looks, in one test.

In the search window the run is the best of many, so its studentised mean is compared with the
largest of all, resampled together from the session returns that the trial ledger keeps
(`multiple.family_wise`). Points drawn evenly over the space of the search are resampled with them:
a sampler that learns crowds where the sample happens to be good, and its trials alone would hide
how much it could choose from. In the hold-out it is one run, tested alone by the same bootstrap,
and paid for by the number of looks. Both p-values are joined with weights by their sessions
(`multiple.joined`). The test is done twice: over the strategy's own trials, and over all that was
tried on the market.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from mcl.metrics.multiple import FamilyWise, after_looks, family_wise, joined
from mcl.metrics.performance import Floats
from mcl.report.format import p_text
from mcl.tracking import backtest_run, trial_ledger
from mcl.tracking.trial_ledger import Days, TrialPool
from mcl.validation.holdout import Look
from mcl.validation.subject import Subject, sampled

POINTS, SEED = 256, 0
# trials of the strategy from which on its space was searched, and not only some points of it tried
FEWEST_SEARCHED = 10
GIVEN_UP = "fold "  # the reason of a trial that a pruner stopped, which therefore has no returns


@dataclass(frozen=True)
class Significance:
    """`strategy` and `market` are the search window among the trials of the strategy and of the
    whole market.
    """

    strategy: FamilyWise
    market: FamilyWise
    holdout: FamilyWise
    sessions: int
    holdout_sessions: int
    looks: int
    points: int = 0  # of the space, simulated with the trials

    @cached_property
    def holdout_p(self) -> float:
        return after_looks(self.holdout.p, self.looks)

    @property
    def p_value(self) -> float:
        return self._with_holdout(self.strategy)

    @property
    def market_p_value(self) -> float:
        return self._with_holdout(self.market)

    def meaning(self, searched: FamilyWise) -> str:
        """The two parts of a joined p-value in one clause."""
        looks = (
            "1 run has seen it" if self.looks == 1 else f"{self.looks} different runs have seen it"
        )
        holdout = f"{p_text(self.holdout_p)} in the hold-out ({looks})"
        if not self.holdout_sessions:
            holdout = "and there is no hold-out"
        trials = "1 trial" if searched.trials == 1 else f"best of {searched.trials} trials"
        trials += f" and {self.points} points of its space" if self.points else ""
        search = f"{p_text(searched.p)} in the search ({trials})"
        return f"chance of this without an edge: {search}, {holdout}"

    def _with_holdout(self, searched: FamilyWise) -> float:
        return joined([(searched.p, self.sessions), (self.holdout_p, self.holdout_sessions)])


@dataclass(frozen=True)
class Rivals:
    """The trials that a run was chosen from: a (sessions × trials) matrix, NaN where one has no
    session, and how many have no returns.
    """

    days: Days
    returns: Floats
    given_up: int = 0


def significance(about: Subject, identity: str, look: Look, root: Path) -> Significance:
    """Test a run in its search window, which the ledger has as `identity`, and its look at the
    hold-out.
    """
    where, measured = backtest_run.trial_pool(about.run), about.result.session_returns
    days = measured.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    last = int(days[-1]) if len(days) else 0
    family, market = rivals(root, where, identity, last)
    searched = family.returns.shape[1] + family.given_up >= FEWEST_SEARCHED
    points = points_of(about) if searched else None
    return judge(np.asarray(measured, dtype=np.float64), days, family, market, look, points)


def rivals(root: Path, where: TrialPool, identity: str, last: int) -> tuple[Rivals, Rivals]:
    """The other trials of a strategy, and those of its whole market (one object where that is the
    same), up to the day `last`.
    """
    trials = trial_ledger.distinct(trial_ledger.rows(root, where.everywhere, returns=True))
    every = trials[trials["identity"] != identity]
    own = every[every["family"] == where.family]
    family = _rivals(own, last)
    return family, family if len(own) == len(every) else _rivals(every, last)


def points_of(about: Subject, count: int = POINTS) -> Floats:
    """(sessions × points) session returns of points drawn evenly over the space of a search, in the
    search window of the run. They are no trials: nobody chooses among them. No column for a
    strategy without a space.
    """
    points = islice(sampled(about.space, count, SEED), count) if about.space else ()
    results = (about.at(point) for point in points)
    columns = [
        np.asarray(result.session_returns, dtype=np.float64)
        for result in results
        if result is not None
    ]
    return np.column_stack(columns) if columns else np.empty((len(about.result.session_returns), 0))


def judge(
    returns: Floats,
    days: Days,
    family: Rivals,
    market: Rivals,
    look: Look,
    around: Floats | None = None,
) -> Significance:
    """The test itself, given the returns of the run and of the other trials of its strategy and of
    its market (which hold those).
    """
    points = np.empty((len(returns), 0)) if around is None else around
    strategy = _among(returns, days, family, points)
    return Significance(
        strategy=strategy,
        market=strategy if market is family else _among(returns, days, market, points),
        holdout=family_wise(look.returns, np.empty((len(look.returns), 0))),
        sessions=len(returns),
        holdout_sessions=len(look.returns),
        looks=look.looks,
        points=points.shape[1],
    )


def _rivals(ledger: pd.DataFrame, last: int) -> Rivals:
    """Sessions after the last one of the run's window are left out: they are judged as the
    hold-out.
    """
    days, returns = trial_ledger.matrix(ledger)
    before = days <= last
    without = ledger["reason"][ledger["observations"] == 0]
    return Rivals(
        days[before], returns[before], sum(str(reason).startswith(GIVEN_UP) for reason in without)
    )


def _among(returns: Floats, days: Days, rivals: Rivals, points: Floats) -> FamilyWise:
    union = np.union1d(days, rivals.days)
    mine, theirs = np.searchsorted(union, days), np.searchsorted(union, rivals.days)
    own = np.full(len(union), np.nan)
    own[mine] = returns
    others = np.full((len(union), rivals.returns.shape[1] + points.shape[1]), np.nan)
    others[theirs, : rivals.returns.shape[1]] = rivals.returns
    others[mine, rivals.returns.shape[1] :] = points
    tested = family_wise(own, others, rivals.given_up)
    return replace(tested, trials=tested.trials - points.shape[1])
