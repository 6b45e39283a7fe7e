"""Estimate the part of a Sharpe ratio that luck explains.

All Sharpe ratios here are **per observation** (session), never annualised; kurtosis is **not**
excess (normal = 3). Convention of 2012/2014: the variance of the estimate is taken at the observed
ratio, with T - 1. The later convention (2025, variance at the threshold, T, autocorrelation) gives
other numbers on short samples; hence the year in the names. Sources: Bailey & López de Prado (2012)
"The Sharpe Ratio Efficient Frontier"; (2014) "The Deflated Sharpe Ratio"; Bailey, Borwein, López de
Prado, Zhu (2014) "Pseudo-Mathematics and Financial Charlatanism".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcl.base.words import many
from mcl.metrics.performance import NORMAL, Floats, annual, per_session, sharpe_variance_factor

EULER_GAMMA = 0.5772156649015329


def psr_2012(
    sharpe: float, observations: int, skew: float, kurtosis: float, threshold: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio is above `threshold`. NaN below two observations or
    when a moment is NaN.
    """
    variance = sharpe_variance_factor(sharpe, skew, kurtosis)
    if observations < 2 or math.isnan(variance) or math.isnan(threshold):
        return math.nan
    return NORMAL.cdf((sharpe - threshold) * math.sqrt((observations - 1) / variance))


def min_track_record(
    sharpe: float, skew: float, kurtosis: float, threshold: float = 0.0, confidence: float = 0.95
) -> float:
    """Observations needed until psr_2012 reaches `confidence`; NaN when the ratio is not above the
    threshold (never reached).
    """
    edge = sharpe - threshold
    if not edge > 0:
        return math.nan
    return (
        1
        + sharpe_variance_factor(sharpe, skew, kurtosis) * (NORMAL.inv_cdf(confidence) / edge) ** 2
    )


def expected_maximum(trials: float) -> float:
    """Expected largest of so many independent standard normal draws (approximation, +2.3 % at 10,
    under 1 % from 100); 0 for one.

    `trials` may be fractional, an effective number. NaN below one.
    """
    if not trials >= 1:
        return math.nan
    if trials == 1:
        return 0.0
    first, second = NORMAL.inv_cdf(1 - 1 / trials), NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return max(0.0, (1 - EULER_GAMMA) * first + EULER_GAMMA * second)


def deflated_threshold(trials: float, trial_variance: float) -> float:
    """The Sharpe ratio that the best of so many trials without any edge is expected to show;
    `trial_variance` over all trials.
    """
    return (
        0.0
        if trials == 1
        else (
            math.sqrt(trial_variance) * expected_maximum(trials)
            if trial_variance >= 0
            else math.nan
        )
    )


def dsr_2012(
    sharpe: float,
    observations: int,
    skew: float,
    kurtosis: float,
    *,
    trials: float,
    trial_variance: float,
) -> float:
    """Deflated Sharpe ratio of the *selected* trial: psr_2012 against the maximum expected from
    luck alone.

    `trials` counts every trial of the selection, pruned and failed ones too; `trial_variance` is
    the variance of their Sharpe ratios per observation (annualised ones: divide by 252). NaN when
    undefined.
    """
    return psr_2012(
        sharpe, observations, skew, kurtosis, deflated_threshold(trials, trial_variance)
    )


def min_backtest_years(trials: float, target: float = 1.0) -> float:
    """Years of data below which the best of so many trials without edge is expected to show the
    annual Sharpe ratio `target`.
    """
    return (expected_maximum(trials) / target) ** 2 if target > 0 else math.nan


def mean_correlation(returns: npt.ArrayLike) -> float:
    """Mean off-diagonal correlation of the columns of a (sessions × trials) matrix; a constant
    column correlates 0 with all.

    Sessions with a NaN are left out. O(sessions · trials): the sum over all pairs is the squared
    length of the summed columns.
    """
    matrix = np.atleast_2d(np.asarray(returns, dtype=np.float64))
    matrix = matrix[~np.isnan(matrix).any(axis=1)]
    trials = matrix.shape[1]
    if trials < 2 or len(matrix) < 2:
        return math.nan
    centred: Floats = matrix - matrix.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    moving = np.ptp(matrix, axis=0) > 0
    unit = centred[:, moving] / length[moving]
    pairs = float((unit.sum(axis=1) ** 2).sum()) - np.count_nonzero(moving)
    return float(pairs / (trials * (trials - 1)))


def n_effective(returns: npt.ArrayLike) -> float:
    """Effective number of independent trials rho + (1 - rho) · M of a (sessions × M) matrix of
    returns, between 1 and M.

    Deflated Sharpe ratio paper, equation 9. A negative mean correlation counts as none.
    """
    trials = int(np.atleast_2d(np.asarray(returns)).shape[1])
    rho = mean_correlation(returns)
    if math.isnan(rho):
        return float(trials) if trials == 1 else math.nan
    rho = min(1.0, max(0.0, rho))
    return rho + (1 - rho) * trials


def effective_rank(returns: npt.ArrayLike) -> float:
    """exp(entropy) of the eigenvalues of the correlation of a (sessions × M) matrix: another
    effective number, between 1 and M.

    Columns without variation are left out; NaN when none is left. A session that a trial lacks is
    NaN: each pair of trials is then correlated over the sessions that both have, and a pair without
    two common sessions counts as uncorrelated. Source: Roy & Vetterli (2007) "The effective rank".
    """
    matrix = np.atleast_2d(np.asarray(returns, dtype=np.float64))
    matrix = matrix[:, _moving(matrix)]
    if not matrix.shape[1]:
        return math.nan
    if np.isnan(matrix).any():
        spectrum = np.maximum(np.linalg.eigvalsh(_pairwise_correlation(matrix)), 0.0)
    else:
        centred = matrix - matrix.mean(axis=0)
        spectrum = np.linalg.svd(centred / np.sqrt((centred**2).sum(axis=0)), compute_uv=False) ** 2
    share = spectrum[spectrum > 0] / spectrum.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _moving(matrix: Floats) -> npt.NDArray[np.bool_]:
    """The columns whose present values are not all the same."""
    present = ~np.isnan(matrix)
    highest = np.where(present, matrix, -np.inf).max(axis=0, initial=-np.inf)
    lowest = np.where(present, matrix, np.inf).min(axis=0, initial=np.inf)
    return np.asarray(highest > lowest)


def _pairwise_correlation(matrix: Floats) -> Floats:
    """Correlation of each pair of columns over the rows that both have; 0 where those leave no
    variation, 1 on the diagonal.
    """
    present = (~np.isnan(matrix)).astype(np.float64)
    values = np.where(present > 0, matrix - np.nanmean(matrix, axis=0), 0.0)
    common = present.T @ present
    count = np.maximum(common, 1.0)
    first = values.T @ present  # [i, j]: the sum of column i over the rows that j has too
    second = (values**2).T @ present
    variance = second - first**2 / count
    covariance = values.T @ values - first * first.T / count
    scale = np.sqrt(np.maximum(variance, 0.0) * np.maximum(variance.T, 0.0))
    defined = (common > 1) & (scale > 1e-12 * np.sqrt(second * second.T))
    correlation = np.clip(
        np.where(defined, covariance / np.where(defined, scale, 1.0), 0.0), -1.0, 1.0
    )
    np.fill_diagonal(correlation, 1.0)
    return correlation


def null_variance(observations: int) -> float:
    """Variance per observation of the Sharpe ratio that a strategy without any edge shows: 1 / (T -
    1). NaN below two.
    """
    return 1.0 / (observations - 1) if observations > 1 else math.nan


def trial_variance(sharpes: npt.ArrayLike, observations: int) -> float:
    """Variance of trial Sharpe ratios (per observation) that luck can explain: their sample
    variance, at most `null_variance`.

    The 2014 paper takes the sample variance as it is. That is the spread of luck only while no
    trial has an edge and none is ruined by its costs; a search over a real edge has trials from
    excellent to ruinous, and their spread would count against the best one. Trials without an
    edge cannot spread more than their sampling error. NaN below two trials with a ratio.
    """
    values = np.asarray(sharpes, dtype=np.float64)
    values = values[np.isfinite(values)]
    return (
        min(float(np.var(values, ddof=1)), null_variance(observations))
        if len(values) > 1
        else math.nan
    )


def luck_variance(sharpes: npt.ArrayLike, observations: int) -> float:
    """`trial_variance`, and `null_variance` where there are fewer than two ratios to estimate it
    from.
    """
    variance = trial_variance(sharpes, observations)
    return null_variance(observations) if math.isnan(variance) else variance


AT_RUN = {"dsr": "dsr_at_run", "trials_counted": "trials_at_run"}
RULE = "PSR of 2012 above the expected maximum, variance of luck"


@dataclass(frozen=True)
class Luck:
    """Hold the deflation of one Sharpe ratio by all trials, as every page, verb and gate shows it.

    `of` names whose trials they are, `at` the moment of the count (UTC, to the minute). `deflated`
    is the probability that the true ratio is above what the best of so many trials would show by
    luck alone.
    """

    of: str
    trials: int
    variance: float  # of the Sharpe ratio per session that one trial without any edge shows
    deflated: float
    at: str = ""

    @property
    def best_by_luck(self) -> float:
        """The annual Sharpe ratio that the best of all trials would show without any edge; 0 for a
        single trial.
        """
        return self.best_of(self.trials)

    def best_of(self, trials: float) -> float:
        """The same for another number of trials."""
        return annual(deflated_threshold(max(1, trials), self.variance))

    @property
    def count(self) -> str:
        """`114 trials of ema_cross on MCL synthetic zero_edge 7`"""
        return f"{many(self.trials, 'trial')} of {self.of}"

    @property
    def sentence(self) -> str:
        """Number of trials and rule, as they are shown next to the value."""
        moment = f", counted at {self.at} UTC" if self.at else ""
        return f"deflated by {self.count} (rule: {RULE}{moment})"

    @property
    def metrics(self) -> dict[str, float]:
        """Under the names of what is counted now."""
        return {
            "dsr": self.deflated,
            "trials_counted": float(self.trials),
            "best_by_luck": self.best_by_luck,
        }

    @property
    def at_run(self) -> dict[str, float]:
        """As a run stores it: under names that say of which moment it is, for nobody may rank by it
        later.
        """
        return {AT_RUN[name]: value for name, value in self.metrics.items() if name in AT_RUN}


def luck(
    sharpes: npt.ArrayLike, trials: int, measured: Mapping[str, float], of: str, at: str = ""
) -> Luck:
    """The deflation of a result among `trials` distinct ones, of which `sharpes` are the known
    ratios per session.

    `measured` has the annual `sharpe`, and `sessions`, `skew` and `kurtosis` of the session
    returns, as `metrics.summary` gives them.
    """
    ratio, sessions = per_session(measured["sharpe"]), int(measured["sessions"])
    variance, counted = luck_variance(sharpes, sessions), max(1, trials)
    deflated = dsr_2012(
        ratio,
        sessions,
        measured["skew"],
        measured["kurtosis"],
        trials=counted,
        trial_variance=variance,
    )
    return Luck(of, trials, variance, deflated, at)
