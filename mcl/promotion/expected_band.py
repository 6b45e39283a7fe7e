"""The P&L expected from a promoted version: the band of its cumulative P&L and drawdown, by
number of live sessions.

Histories are drawn from the session P&L of its own backtest by the stationary block bootstrap. The
band is simultaneous: of all drawn histories a share `confidence` stays inside at *every* session up
to the horizon, P&L and drawdown together. A band that holds at each single session would be left by
most honest strategies at some time, and an alarm that always rings says nothing. Sources: Politis &
Romano (1994) "The Stationary Bootstrap"; Myllymäki et al. (2017) "Global envelope tests for spatial
processes", the envelope by directional quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.base.alert import Alert
from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.metrics.performance import Floats, fall
from mcl.metrics.resampling import FEWEST_RETURNS, SEED, block_length, indices

REPLICATES = 2000
CONFIDENCE = 0.95
SMALLEST = 1e-6  # USD
CODE = "OUTSIDE_BAND"


@dataclass(frozen=True)
class Band:
    """USD after 1, 2 … sessions. `low`, `median`, `high` of the cumulative net P&L; `drawdown` <= 0
    is the deepest fall that is still expected, from the highest P&L before it (at least 0).
    """

    low: Floats
    median: Floats
    high: Floats
    drawdown: Floats
    confidence: float
    backtest_sessions: int  # that it was drawn from

    def __len__(self) -> int:
        return len(self.low)


@dataclass(frozen=True)
class Exit:
    """The first session (counted from 1) at which a realised curve is outside, with what it shows
    and what was expected, USD.
    """

    session: int
    what: str  # "P&L", "drawdown"
    value: float
    bound: float

    @property
    def above(self) -> bool:
        return self.value > self.bound

    def __str__(self) -> str:
        side = "above" if self.above else "below"
        return (
            f"{self.what} {self.value:+,.0f} USD after session {self.session} is {side} the"
            f" expected {self.bound:+,.0f} USD"
        )


def expected(
    session_pnl: npt.ArrayLike, sessions: int = 0, confidence: float = CONFIDENCE, seed: int = SEED
) -> Band | None:
    """The band over whole years that hold `sessions`, from the net P&L (USD) of each backtest
    session in order; always the same for the same P&L. None below ten sessions: there is nothing to
    draw from.
    """
    pnl = np.asarray(session_pnl, dtype=np.float64)
    if len(pnl) < FEWEST_RETURNS:
        return None
    steps = SESSIONS_PER_YEAR * max(1, math.ceil(sessions / SESSIONS_PER_YEAR))
    paths = np.cumsum(
        pnl[indices(len(pnl), block_length(len(pnl)), REPLICATES, seed, steps)], axis=1
    )
    profit, fall = _spread(paths), _spread(deepest(paths))
    wide = float(np.quantile(np.maximum(profit.most, fall.most_below), confidence))
    return Band(
        low=profit.median - wide * profit.below,
        median=profit.median,
        high=profit.median + wide * profit.above,
        drawdown=fall.median - wide * fall.below,
        confidence=confidence,
        backtest_sessions=len(pnl),
    )


def outside(band: Band, session_pnl: Sequence[float]) -> Exit | None:
    """Find where a realised curve first leaves the band; None while it is inside, and for sessions
    beyond the band's horizon.
    """
    pnl = np.cumsum(np.asarray(session_pnl, dtype=np.float64))[: len(band)]
    if not len(pnl):
        return None
    n, falls = len(pnl), deepest(pnl[None, :])[0]
    cases = (
        ("P&L", pnl, band.low, pnl < band.low[:n]),
        ("P&L", pnl, band.high, pnl > band.high[:n]),
    )
    exits = [
        Exit(
            int(np.argmax(wrong)) + 1,
            what,
            float(curve[np.argmax(wrong)]),
            float(bound[np.argmax(wrong)]),
        )
        for what, curve, bound, wrong in (
            *cases,
            ("drawdown", falls, band.drawdown, falls < band.drawdown[:n]),
        )
        if wrong.any()
    ]
    return min(exits, key=lambda e: e.session, default=None)


def alert(band: Band, session_pnl: Sequence[float], name: str, at_ns: int) -> Alert | None:
    """The alert that a realised curve (net P&L of each live session, USD) raises when it has left
    the band of the version `name`.
    """
    left = outside(band, session_pnl)
    if left is None:
        return None
    chance = (
        f"{1 - band.confidence:.0%} of honest histories ever do; the backtest no longer describes"
        " what happens"
    )
    return Alert(at_ns, "warning", CODE, f"{name}: {left}; {chance}")


def deepest(paths: Floats) -> Floats:
    """The deepest fall so far along each row, from the highest P&L before it, at least 0; <= 0."""
    falls: Floats = np.minimum.accumulate(fall(paths, 0.0)[0], axis=1)
    return falls


class _Spread(NamedTuple):
    """Of many paths: median and distance to the 2.5 and 97.5 % quantiles by step; by path, the most
    such distances that it was away from the median at any step, in either direction and downwards.
    """

    median: Floats
    below: Floats
    above: Floats
    most: Floats
    most_below: Floats


def _spread(paths: Floats) -> _Spread:
    low, median, high = np.quantile(paths, [0.025, 0.5, 0.975], axis=0)
    below, above = median - low, high - median
    down = _share(median - paths, below).max(axis=1)
    return _Spread(
        median, below, above, np.maximum(down, _share(paths - median, above).max(axis=1)), down
    )


def _share(away: Floats, unit: Floats) -> Floats:
    """away / unit by step; a step at which nearly all paths agree says nothing."""
    shares: Floats = np.divide(away, unit, out=np.zeros_like(away), where=unit > SMALLEST)
    return shares
