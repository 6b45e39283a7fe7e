"""Compute the power of the joined test: the chance that a search shows an edge that exists.

The trials are modelled as normal studentised means with one mutual correlation; one of them has the
edge, and is the one that is judged. In the search window its mean must be above the largest of
all, in the hold-out it is tested alone, and both are joined by `multiple.joined`:

    F(t) = ∫ φ(c) Φ((t - sqrt(ρ) c) / sqrt(1 - ρ))^M dc
    power = ∫ φ(t - S sqrt(T₁/252)) Φ(S sqrt(T₂/252)
              + (sqrt(T₁) Φ⁻¹(F(t)) - sqrt(T) z(1 - level)) / sqrt(T₂)) dt

F is the distribution of the largest of M means that share the correlation ρ. S is the true annual
Sharpe ratio, T₁ the sessions searched, T₂ those held out, T their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.metrics.multiple import REPLICATES
from mcl.metrics.performance import NORMAL, Floats

STEP = 0.02
MEANS = np.arange(-4.0, 9.0, STEP)  # studentised means over which is integrated
LARGEST = 100.0  # annual Sharpe ratio: what needs more cannot be shown


def power(
    sharpe: float, sessions: int, holdout: int, trials: int, level: float, correlation: float = 0.0
) -> float:
    """Probability that a strategy with this true annual Sharpe ratio passes the joined test at
    `level`.

    sessions     of the search window; holdout: of the hold-out, 0 for none
    trials       that it is chosen from, itself included
    correlation  of the returns of two trials on average; 0 is the worst case, as if each were a new
    idea
    """
    years, unseen = sessions / SESSIONS_PER_YEAR, holdout / SESSIONS_PER_YEAR
    own = MEANS + sharpe * math.sqrt(years)
    adjusted = np.interp(
        own, _grid(), _adjusted(max(1, trials), round(min(0.99, max(0.0, correlation)), 3))
    )
    needed = NORMAL.inv_cdf(1 - level) * math.sqrt(years + unseen)
    lead = math.sqrt(years) * adjusted - needed
    passed = (
        _cdf(lead / math.sqrt(unseen) + sharpe * math.sqrt(unseen))
        if unseen > 0
        else (lead >= 0).astype(float)
    )
    density = np.exp(-0.5 * MEANS**2) / math.sqrt(2 * math.pi)
    return float(min(1.0, (density * passed).sum() * STEP))


def smallest_sharpe(
    wanted: float, sessions: int, holdout: int, trials: int, level: float, correlation: float = 0.0
) -> float:
    """The true annual Sharpe ratio that is shown with the probability `wanted`; NaN when none up to
    100 is.
    """
    if sessions < 1 or power(LARGEST, sessions, holdout, trials, level, correlation) < wanted:
        return math.nan
    low, high = 0.0, LARGEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        enough = power(middle, sessions, holdout, trials, level, correlation) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def _grid() -> Floats:
    return np.arange(-6.0, 9.0, STEP)


@lru_cache(maxsize=32)
def _adjusted(trials: int, correlation: float) -> Floats:
    """Φ⁻¹(F(t)) over the grid: the normal score of a mean after it is compared with the largest of
    all. A bootstrap tells no p-value below one in its replicates.
    """
    centres, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    inside = _cdf(
        (_grid()[:, None] - math.sqrt(correlation) * centres) / math.sqrt(1 - correlation)
    )
    largest = (inside**trials * weights).sum(axis=1)
    least = 1 / (REPLICATES + 1)
    return _each(NORMAL.inv_cdf, np.clip(largest, least, 1 - least))


def _cdf(values: Floats) -> Floats:
    return _each(NORMAL.cdf, values)


def _each(function: Callable[[float], float], values: Floats) -> Floats:
    return np.fromiter(map(function, values.ravel()), np.float64, values.size).reshape(values.shape)
