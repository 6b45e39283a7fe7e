"""Performance of a series of session returns.

Every function takes simple returns per session (float64, fraction of the capital base, flat
sessions are 0, NaN is left out) and gives one float. What is undefined is NaN: fewer than two
returns, no variation, no losing session, no drawdown. Annual figures use 252 sessions. Formulae: Lo
(2002), Sortino & Price (1994), Mertens (2002) for the variance of a Sharpe ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.market.calendar import SESSIONS_PER_YEAR

SMALLEST = 1e-150  # a range of returns below this has no variance in float64
NORMAL = NormalDist()

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Bias-corrected sample moments. `kurtosis` is not excess: a normal distribution has 3."""

    count: int
    mean: float
    std: float  # ddof=1
    skew: float
    kurtosis: float

    @property
    def sharpe(self) -> float:
        """Per session, not annualised."""
        return self.mean / self.std if self.std > 0 else math.nan


def finite(returns: npt.ArrayLike) -> Floats:
    """The returns without NaN, as float64."""
    values = np.asarray(returns, dtype=np.float64)
    return values[~np.isnan(values)]


def moments(returns: npt.ArrayLike) -> Moments:
    """Count, mean, standard deviation, skew and kurtosis; NaN where there are too few values (2, 2,
    3, 4) or no variation.
    """
    r = finite(returns)
    n = len(r)
    mean = float(r.mean()) if n else math.nan
    if n < 2 or np.ptp(r) < SMALLEST:  # the std of constant values is not exactly 0
        return Moments(n, mean, math.nan, math.nan, math.nan)
    centred = r - mean
    spread = math.sqrt(float(np.mean(centred**2)))
    z3, z4 = (float(np.mean((centred / spread) ** k)) for k in (3, 4))
    skew = z3 * math.sqrt(n * (n - 1)) / (n - 2) if n > 2 else math.nan
    excess = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (z4 - 3) + 6) if n > 3 else math.nan
    return Moments(n, mean, spread * math.sqrt(n / (n - 1)), skew, excess + 3)


def annual_volatility(returns: npt.ArrayLike) -> float:
    return moments(returns).std * math.sqrt(SESSIONS_PER_YEAR)


def sharpe(returns: npt.ArrayLike) -> float:
    """Annualised, risk-free rate 0 (a future is unfunded), ddof=1."""
    return annual(moments(returns).sharpe)


def session_ratios(returns: Floats) -> Floats:
    """The Sharpe ratio per session of each column of a (sessions × strategies) matrix, over its
    sessions without NaN; NaN for a constant column and for one of fewer than two sessions.
    """
    present = ~np.isnan(returns)
    count = present.sum(axis=0)
    values = np.where(present, returns, 0.0)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    squares = (np.where(present, values - mean, 0.0) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    out = np.full(returns.shape[1], np.nan)
    np.divide(mean, deviation, out=out, where=(count > 1) & (deviation > 0))
    return out


def annual(ratio: float) -> float:
    """A Sharpe ratio per session as one per year."""
    return ratio * math.sqrt(SESSIONS_PER_YEAR)


def per_session(ratio: float) -> float:
    """An annual Sharpe ratio as one per session."""
    return ratio / math.sqrt(SESSIONS_PER_YEAR)


def rolling_ratios(returns: npt.ArrayLike, sessions: int) -> tuple[Floats, Floats]:
    """(annual Sharpe ratio, annual volatility) of the last `sessions` returns up to each of them,
    as long as `returns`; NaN before there are so many, the ratio also where they do not vary.
    """
    values = np.asarray(returns, dtype=np.float64)
    ratios, volatility = (np.full(len(values), np.nan) for _ in range(2))
    if not 1 < sessions <= len(values):
        return ratios, volatility
    windows = np.lib.stride_tricks.sliding_window_view(values, sessions)
    std = np.where(np.ptp(windows, axis=1) < SMALLEST, 0.0, windows.std(axis=1, ddof=1))
    volatility[sessions - 1 :] = std * math.sqrt(SESSIONS_PER_YEAR)
    np.divide(
        windows.mean(axis=1) * math.sqrt(SESSIONS_PER_YEAR),
        std,
        out=ratios[sessions - 1 :],
        where=std > 0,
    )
    return ratios, volatility


@dataclass(frozen=True)
class Regression:
    """Returns explained by those of a benchmark (ordinary least squares, Jensen 1968)."""

    alpha_ann_frac: float  # what is left per year of 252 sessions
    beta: float
    correlation: float


def regression(returns: npt.ArrayLike, benchmark: npt.ArrayLike) -> Regression:
    """alpha, beta and correlation of two series over the same sessions; NaN where the benchmark
    does not vary, the correlation also where the returns do not.
    """
    r, b = (np.asarray(values, dtype=np.float64) for values in (returns, benchmark))
    if len(r) < 2 or np.ptp(b) < SMALLEST:
        return Regression(math.nan, math.nan, math.nan)
    dr, db = r - r.mean(), b - b.mean()
    # no matrix product: a run must repeat bit by bit
    shared, own, market = (float((x * y).sum()) for x, y in ((dr, db), (dr, dr), (db, db)))
    beta = shared / market
    alpha = (float(r.mean()) - beta * float(b.mean())) * SESSIONS_PER_YEAR
    flat = np.ptp(r) < SMALLEST
    return Regression(alpha, beta, math.nan if flat else shared / math.sqrt(own * market))


LEAST_ANNUAL_SESSIONS = 63  # a quarter: figures per year of less are not shown as such


def years(sessions: float) -> float:
    return sessions / SESSIONS_PER_YEAR


def sharpe_variance_factor(ratio: float, skew: float, kurtosis: float) -> float:
    """V of Mertens: T times the variance of an estimated Sharpe ratio per observation; NaN when not
    positive.
    """
    factor = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio * ratio
    return factor if factor > 0 else math.nan


def sharpe_interval(returns: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of the annualised Sharpe ratio: estimate ± z · sqrt(V / (T - 1)), V at the
    estimate (convention of 2012).

    Deterministic; accounts for skew and fat tails, not for autocorrelation. NaN below four returns.
    """
    m = moments(returns)
    half = NORMAL.inv_cdf(0.5 + confidence / 2) * math.sqrt(
        sharpe_variance_factor(m.sharpe, m.skew, m.kurtosis) / max(1, m.count - 1)
    )
    year = math.sqrt(SESSIONS_PER_YEAR)
    return (m.sharpe - half) * year, (m.sharpe + half) * year


def downside_deviation(returns: npt.ArrayLike) -> float:
    """Per session, target 0, over all sessions (not the standard deviation of the losing ones)."""
    r = finite(returns)
    return math.sqrt(float(np.mean(np.minimum(r, 0.0) ** 2))) if len(r) else math.nan


def sortino(returns: npt.ArrayLike) -> float:
    r, down = finite(returns), downside_deviation(returns)
    return ratio(float(r.mean()) * math.sqrt(SESSIONS_PER_YEAR), down) if len(r) > 1 else math.nan


def cagr(growth: float, sessions: int) -> float:
    """Annual growth rate that turns 1 into `growth` (final equity / capital) in so many sessions.

    After a total loss (growth of zero or less) it is -1, which is -100 %. NaN without a session.
    """
    if sessions < 1 or math.isnan(growth):
        return math.nan
    return growth ** (SESSIONS_PER_YEAR / sessions) - 1 if growth > 0 else -1.0


def omega(returns: npt.ArrayLike) -> float:
    """Sum of gains over sum of losses, threshold 0."""
    r = finite(returns)
    return ratio(float(r[r > 0].sum()), -float(r[r < 0].sum()))


def gain_to_pain(returns: npt.ArrayLike) -> float:
    """Sum of all returns over the sum of the losses (Schwager): Omega - 1."""
    r = finite(returns)
    return ratio(float(r.sum()), -float(r[r < 0].sum()))


def tail_ratio(returns: npt.ArrayLike) -> float:
    """|95 % quantile| over |5 % quantile| of the session returns."""
    r = finite(returns)
    return (
        ratio(abs(float(np.quantile(r, 0.95))), abs(float(np.quantile(r, 0.05))))
        if len(r) > 1
        else math.nan
    )


def stability(returns: npt.ArrayLike) -> float:
    """R² of the straight line through the cumulative (additive) return against the session number,
    in [0, 1].
    """
    total = np.cumsum(finite(returns))
    if len(total) < 3 or np.ptp(total) < SMALLEST:
        return math.nan
    return float(np.corrcoef(np.arange(len(total)), total)[0, 1] ** 2)


def autocorrelation_factor(
    returns: npt.ArrayLike, periods: int = SESSIONS_PER_YEAR, lags: int = 21
) -> float:
    """eta(q) / sqrt(q) of Lo (2002): what an annual Sharpe ratio is multiplied by when returns are
    serially correlated.

    eta(q) = q / sqrt(q + 2 · sum over k < q of (q - k) · rho_k), with biased sample
    autocorrelations up to `lags`. 1 when they are zero, below 1 for trending returns. NaN with
    fewer than `lags` + 2 returns, no variation, or a sum that is not positive.
    """
    r = finite(returns)
    if len(r) < lags + 2 or np.ptp(r) < SMALLEST:
        return math.nan
    centred = r - r.mean()
    k = np.arange(1, lags + 1)
    # no matrix product: its last bits depend on where an array lies in memory, and a run must
    # repeat bit by bit
    rho = np.array([float((centred[lag:] * centred[:-lag]).sum()) for lag in k]) / float(
        (centred * centred).sum()
    )
    spread = periods + 2 * float(((periods - k) * rho).sum())
    return math.sqrt(periods / spread) if spread > 0 else math.nan


def value_at_risk(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Historical quantile with linear interpolation, signed (a loss is negative)."""
    r = finite(returns)
    return float(np.quantile(r, tail)) if len(r) > 1 else math.nan


def expected_shortfall(returns: npt.ArrayLike, tail: float = 0.05) -> float:
    """Mean of the returns at or below the value at risk."""
    r = finite(returns)
    return float(r[r <= np.quantile(r, tail)].mean()) if len(r) > 1 else math.nan


def drawdown(equity: npt.ArrayLike, capital: float) -> tuple[Floats, Floats]:
    """(in money, as a fraction of the peak), both <= 0 and as long as `equity`. The start capital
    is the first peak.
    """
    values = np.asarray(equity, dtype=np.float64)
    money, peak = fall(values, capital)
    return money, money / peak


def fall(values: Floats, start: float) -> tuple[Floats, Floats]:
    """(values below their highest so far, that highest), along the last axis. `start` is the first
    peak.
    """
    peak: Floats = np.maximum(np.maximum.accumulate(values, axis=-1), start)
    return values - peak, peak


@dataclass(frozen=True)
class Episodes:
    """Maximal runs of drawdown < 0: row of the first bar under water and of the first one back (or
    the length when still open).
    """

    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    open: bool  # the last one had not recovered

    @property
    def longest(self) -> int:
        return int((self.stop - self.start).max(initial=0))

    @property
    def average(self) -> float:
        """Mean length; NaN without an episode."""
        return float((self.stop - self.start).mean()) if len(self.start) else math.nan

    def depths(self, drawdowns: npt.ArrayLike) -> Floats:
        """The lowest value of each episode in the series that they were found in, <= 0."""
        values = np.asarray(drawdowns, dtype=np.float64)
        return np.minimum.reduceat(values, self.start) if len(self.start) else np.empty(0)


def episodes(drawdowns: npt.ArrayLike) -> Episodes:
    """The episodes of a drawdown series (money or fraction)."""
    wet = np.asarray(drawdowns) < 0
    edges = np.diff(np.concatenate([[False], wet, [False]]).astype(np.int8))
    return Episodes(
        np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), bool(len(wet) and wet[-1])
    )


def ulcer(drawdowns: npt.ArrayLike) -> float:
    """Root mean square of the drawdown fraction (Martin's Ulcer index)."""
    values: npt.NDArray[Any] = np.asarray(drawdowns, dtype=np.float64)
    return math.sqrt(float(np.mean(values**2))) if len(values) else math.nan


def ratio(numerator: float, denominator: float) -> float:
    """numerator / denominator, NaN when the denominator is not positive or too small for a finite
    result.
    """
    quotient = numerator / denominator if denominator > 0 else math.nan
    return quotient if math.isfinite(quotient) else math.nan
