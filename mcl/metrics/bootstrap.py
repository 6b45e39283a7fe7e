"""Resample session returns to see how much of a number is the accident of one sample.

The blocks are those of `mcl.metrics.resampling`. Everything is seeded and strictly sequential in
its sums: the same returns give the same bits on every machine and in every worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mcl.base.jit import njit
from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.metrics.performance import NORMAL, SMALLEST, Floats, finite, moments
from mcl.metrics.resampling import FEWEST_RETURNS, REPLICATES, SEED, block_length, indices

Counts = npt.NDArray[np.int16]

FEWEST_DEGREES = 5.0  # of freedom
MOST_PERSISTENCE = 0.9  # of an autoregression that prewhitens


@lru_cache(maxsize=4)
def counts(observations: int, block: int, replicates: int = REPLICATES, seed: int = SEED) -> Counts:
    """Count how often each replicate (row) of a stationary bootstrap holds each observation
    (column).

    Every row sums to `observations`. Means of resampled series are `counts @ values /
    observations`. The last few lengths stay in memory: a search needs one of them thousands of
    times.
    """
    occurrences = np.zeros((replicates, observations), np.int16)
    _draw(occurrences, 1.0 / block, seed)
    occurrences.flags.writeable = False
    return occurrences


def sharpe_interval(
    returns: npt.ArrayLike, confidence: float = 0.95, replicates: int = REPLICATES
) -> tuple[float, float]:
    """Return the BCa interval of the annualised Sharpe ratio by the stationary block bootstrap.

    (NaN, NaN) below ten returns. It sees fat tails, skew and serial dependence. Blocks are short,
    so that they miss a part of the dependence: the replicates are spread until their deviation is
    at least the long-run one, and the levels are those of Student's t for the number of blocks.
    `scripts/bench_judgement.py coverage` prints how often such intervals hold the truth. A
    replicate without variation has no ratio and is left out; when more than one in ten has none,
    neither has the interval.
    """
    r = finite(returns)
    if len(r) < FEWEST_RETURNS or np.ptp(r) < SMALLEST:
        return math.nan, math.nan
    block = block_length(len(r))
    ratios = np.empty(replicates)
    _ratios(counts(len(r), block, replicates), r, ratios)
    finite_ratios = ratios[~np.isnan(ratios)]
    if len(finite_ratios) < 0.9 * replicates:
        return math.nan, math.nan
    estimate, without_one = moments(r).sharpe, leave_one_out_sharpes(r)
    wanted = prewhitened_deviation(sharpe_influence(r)) / math.sqrt(len(r))
    spread = float(finite_ratios.std())
    centre = float(finite_ratios.mean())
    widened = (
        centre + (finite_ratios - centre) * max(1.0, wanted / spread)
        if spread > 0
        else finite_ratios
    )
    low, high = bca_interval(widened, estimate, without_one, confidence, blocks=len(r) / block)
    year = math.sqrt(SESSIONS_PER_YEAR)
    return low * year, high * year


def total_interval(
    returns: npt.ArrayLike, confidence: float = 0.95, replicates: int = REPLICATES
) -> tuple[float, float]:
    """Return the BCa interval of the sum of the returns by the same bootstrap.

    (NaN, NaN) below ten returns.
    """
    r = finite(returns)
    if len(r) < FEWEST_RETURNS:
        return math.nan, math.nan
    block, total = block_length(len(r)), float(r.sum())
    totals = counts(len(r), block, replicates) @ r
    wanted, spread = prewhitened_deviation(r) * math.sqrt(len(r)), float(totals.std())
    widened = total + (totals - total) * max(1.0, wanted / spread) if spread > 0 else totals
    return bca_interval(widened, total, total - r, confidence, blocks=len(r) / block)


def bca_interval(
    replicates: Floats,
    estimate: float,
    without_one: Floats,
    confidence: float = 0.95,
    blocks: float = math.inf,
) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval of the values of resampled series.

    replicates   the statistic of each resampled series
    estimate     of the series itself
    without_one  of the series without each of its observations in turn: their skew is the
                 acceleration
    blocks       number of independent pieces of the series: the levels are those of Student's t
                 with one degree of freedom less

    Source: Efron (1987) "Better Bootstrap Confidence Intervals"; Hesterberg (2015) for the expanded
    levels.
    """
    below = float(np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2)
    if not 0 < below < 1:
        low, high = np.quantile(replicates, [0.5 - confidence / 2, 0.5 + confidence / 2])
        return float(low), float(high)
    bias = NORMAL.inv_cdf(below)
    moved = without_one.mean() - without_one
    squares = float((moved**2).sum())
    acceleration = float((moved**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    z = student_quantile(0.5 + confidence / 2, max(blocks - 1, FEWEST_DEGREES))
    levels = [_level(bias, acceleration, z * side) for side in (-1, 1)]
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def _level(bias: float, acceleration: float, z: float) -> float:
    shifted = bias + z
    scale = 1 - acceleration * shifted
    return NORMAL.cdf(bias + shifted / scale) if scale > 0 else float(z > 0)


def student_quantile(probability: float, degrees: float) -> float:
    """Return a quantile of Student's t with at least five degrees of freedom, to four digits.

    Source: the expansion of Cornish and Fisher.
    """
    z = NORMAL.inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def leave_one_out_sharpes(r: Floats) -> Floats:
    """Return the Sharpe ratio per session of the returns without each of them in turn."""
    n, centred = len(r) - 1, r - r.mean()
    first, second = -centred, float((centred**2).sum()) - centred**2
    variance = (second - first**2 / n) / (n - 1)
    return np.asarray(
        (r.mean() + first / n) / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    )


def sharpe_influence(r: Floats) -> Floats:
    """Return the influence of each return on the Sharpe ratio per session.

    The mean of these has the variance of the estimate. Source: Mertens (2002).
    """
    z = (r - r.mean()) / r.std()
    return np.asarray(z - moments(r).sharpe / 2 * (z**2 - 1))


def prewhitened_deviation(x: Floats) -> float:
    """Return the square root of T · Var(mean) of a series with serial dependence.

    Prewhitened by an autoregression of order one, then Parzen's kernel with the automatic
    bandwidth. Source: Andrews & Monahan (1992) "An Improved Heteroskedasticity and Autocorrelation
    Consistent Covariance Matrix Estimator".
    """
    centred = x - x.mean()
    persistence = min(MOST_PERSISTENCE, max(-MOST_PERSISTENCE, _autoregression(centred)))
    rest = centred[1:] - persistence * centred[:-1]
    left = min(MOST_PERSISTENCE, max(-MOST_PERSISTENCE, _autoregression(rest)))
    bandwidth = 2.6614 * (4 * left**2 / (1 - left) ** 4 * len(rest)) ** 0.2
    total = float((rest * rest).sum())
    for lag in range(1, min(len(rest) - 1, math.floor(bandwidth)) + 1):
        at = lag / bandwidth
        weight = 1 - 6 * at**2 + 6 * at**3 if at <= 0.5 else 2 * (1 - at) ** 3
        total += 2 * weight * float((rest[lag:] * rest[:-lag]).sum())
    return math.sqrt(max(total, 0.0) / len(rest)) / (1 - persistence)


def _autoregression(x: Floats) -> float:
    squares = float((x[:-1] * x[:-1]).sum())
    return float((x[1:] * x[:-1]).sum()) / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class Bands:
    """Hold the quantiles 5, 50 and 95 % over resampled paths, as fractions of the capital.

    Drawdowns are <= 0 and measured from the peak.

    drawdowns, finals  the values of every path
    low, median, high  of the equity at each step, where 1 is the start capital
    """

    drawdowns: Floats
    finals: Floats
    low: Floats
    median: Floats
    high: Floats

    def drawdown_quantile(self, severity: float) -> float:
        """Return the drawdown that a share `severity` of the paths stays above.

        0.95 is deep, 0.5 is the median.
        """
        return float(np.quantile(self.drawdowns, 1 - severity))

    def probability(self, drawdown_frac: float) -> float:
        """Return the share of paths whose deepest drawdown is at least this fraction (a positive
        number).
        """
        return float(np.mean(self.drawdowns <= -drawdown_frac))


def reshuffled(
    results: npt.ArrayLike, capital: float, replicates: int = REPLICATES, seed: int = SEED
) -> Bands:
    """Return bands of the same results (USD, one per trade) in random order.

    The final equity is the same on every path by construction.
    """
    pnl = finite(results)
    rng = np.random.default_rng(seed)
    return _bands(rng.permuted(np.tile(pnl, (replicates, 1)), axis=1), capital)


def resampled(returns: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> Bands:
    """Return bands of session returns on a fixed capital base, resampled in blocks.

    Both the final equity and the drawdown vary.
    """
    r = finite(returns)
    return _bands(r[indices(len(r), block_length(len(r)), replicates, seed)], 1.0)


def _bands(steps: Floats, capital: float) -> Bands:
    if steps.shape[1] == 0:
        none = np.full(1, np.nan)
        return Bands(none, none, none, none, none)
    equity = 1.0 + np.cumsum(steps, axis=1) / capital
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    low, median, high = np.quantile(equity, [0.05, 0.5, 0.95], axis=0)
    return Bands((equity / peak - 1.0).min(axis=1), equity[:, -1].copy(), low, median, high)


@njit
def _draw(occurrences: Counts, fresh: float, seed: int) -> None:
    replicates, n = occurrences.shape
    np.random.seed(seed)  # noqa: NPY002  numba's own generator
    for i in range(replicates):
        at = 0
        for k in range(n):
            at = at + 1 if at + 1 < n else 0
            if k == 0 or np.random.random() < fresh:  # noqa: NPY002
                at = np.random.randint(0, n)  # noqa: NPY002
            occurrences[i, at] += 1


@njit
def _ratios(occurrences: Counts, r: Floats, out: Floats) -> None:
    """Mean / std (ddof=1) of each replicate, about the sample mean so that nothing cancels."""
    replicates, n = occurrences.shape
    centre = 0.0
    for k in range(n):
        centre += r[k]
    centre /= n
    for i in range(replicates):
        first, second = 0.0, 0.0
        for k in range(n):
            d = r[k] - centre
            weighted = occurrences[i, k] * d
            first += weighted
            second += weighted * d
        mean = first / n
        variance = (second - n * mean * mean) / (n - 1)
        out[i] = (centre + mean) / math.sqrt(variance) if variance > 1e-300 else np.nan
