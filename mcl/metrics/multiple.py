"""Is any of many strategies better than nothing? Tests that count how many were tried.

All take a (sessions × strategies) matrix of returns, the differential against a benchmark of zero, and resample whole sessions with
the stationary bootstrap, so that what the strategies have in common stays in. Sources: White (2000) "A Reality Check for Data
Snooping"; Hansen (2005) "A Test for Superior Predictive Ability"; Romano & Wolf (2005) "Stepwise Multiple Testing".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcl.metrics.bootstrap import SEED, block_length, counts
from mcl.metrics.performance import SMALLEST, Floats

REPLICATES = 5000


@dataclass(frozen=True)
class Superior:
    """p-values of "the best is no better than zero". `lower` <= `consistent` <= `upper`; use the consistent one."""

    statistic: float
    best: int  # column of the largest studentised mean
    lower: float
    consistent: float
    upper: float


def reality_check(returns: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> float:
    """White's p-value for the largest mean, not studentised: a quiet good strategy is invisible beside a loud lucky one."""
    d = np.asarray(returns, dtype=np.float64)
    if not _usable(d):
        return math.nan
    mean = d.mean(axis=0)
    drawn = _means(d, replicates, seed)
    return float(np.mean((drawn - mean).max(axis=1) >= mean.max()))


def spa(returns: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> Superior:
    """Hansen's test for superior predictive ability, studentised by the long-run deviation of each strategy.

    Constant columns are left out; NaN when fewer than two sessions or no column is left.
    """
    d = np.asarray(returns, dtype=np.float64)
    kept = np.flatnonzero(np.ptp(d, axis=0) > SMALLEST) if len(d) > 1 else np.empty(0, np.int64)
    if not len(kept):
        return Superior(math.nan, -1, math.nan, math.nan, math.nan)
    d = d[:, kept]
    n, mean = len(d), d.mean(axis=0)
    omega = long_run_deviation(d)
    studentised = math.sqrt(n) * mean / omega
    statistic = max(0.0, float(studentised.max()))
    drawn = _means(d, replicates, seed)
    bar = -omega / math.sqrt(n) * math.sqrt(2 * math.log(math.log(n))) if n > 2 else -omega
    recentred = {"lower": np.maximum(mean, 0.0), "consistent": np.where(mean >= bar, mean, 0.0), "upper": mean}
    p = {name: _share(drawn, g, statistic) for name, g in recentred.items()}
    return Superior(statistic, int(kept[studentised.argmax()]), **p)


def stepm(returns: npt.ArrayLike, size: float = 0.05, replicates: int = REPLICATES, seed: int = SEED) -> list[int]:
    """Columns that beat zero with a family-wise error of `size`: found ones are set aside and the rest is tested again."""
    d = np.asarray(returns, dtype=np.float64)
    if not _usable(d):
        return []
    open_ = np.ptp(d, axis=0) > SMALLEST
    n, mean = len(d), d.mean(axis=0)
    omega = np.where(open_, long_run_deviation(d), 1.0)
    studentised = math.sqrt(n) * mean / omega
    drawn = _means(d, replicates, seed)
    noise = (drawn - mean) / _own_deviation(drawn)
    found = np.zeros(d.shape[1], bool)
    while open_.any():
        critical = np.quantile(noise[:, open_].max(axis=1), 1 - size)
        beaten = open_ & (studentised > critical)
        if not beaten.any():
            break
        found |= beaten
        open_ &= ~beaten
    return [int(i) for i in np.flatnonzero(found)]


def long_run_deviation(returns: Floats) -> Floats:
    """Square root of T · Var(mean) of each column under the stationary bootstrap, from its kernel over the autocovariances.

    kappa(i) = (1 - i/T)(1 - 1/b)^i + (i/T)(1 - 1/b)^(T - i). Lags beyond the kernel's weight of 1e-4 are left out. Never below the
    plain deviation: among many strategies the largest ratio is otherwise one whose dependence was underestimated by accident.
    """
    n = len(returns)
    keep = 1.0 - 1.0 / block_length(n)
    centred = returns - returns.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    lags = min(n - 1, math.ceil(math.log(1e-4) / math.log(keep))) if keep > 0 else 0
    total = variance.copy()
    for i in range(1, lags + 1):
        weight = (1 - i / n) * keep**i + (i / n) * keep ** (n - i)
        total += 2 * weight * (centred[:-i] * centred[i:]).sum(axis=0) / n
    return np.asarray(np.sqrt(np.maximum(total, variance)))


def random_entry(position: npt.ArrayLike, change_usd: npt.ArrayLike) -> float:
    """p-value of the timing: the share of all rotations of the position path that earn at least as much as it did.

    position    contracts held over each bar
    change_usd  P&L of one contract over the same bar, roll gaps removed
    A rotation keeps sides, holding times, exposure and order and breaks only the link to the market; costs are the same for all of
    them and cancel. Exact over all n rotations (one Fourier transform). NaN when nothing was held, or all of the time on one side.
    """
    held, change = np.asarray(position, dtype=np.float64), np.asarray(change_usd, dtype=np.float64)
    if len(held) < 2 or np.ptp(held) == 0:
        return math.nan
    earned = np.fft.irfft(np.fft.rfft(change) * np.conj(np.fft.rfft(held)), len(held))
    tolerance = 1e-9 * float(np.abs(held).max() * np.abs(change).sum())
    return float(np.mean(earned >= earned[0] - tolerance))


def _usable(d: Floats) -> bool:
    return d.ndim == 2 and len(d) > 2 and d.shape[1] > 0 and bool((np.ptp(d, axis=0) > SMALLEST).any())


def _means(d: Floats, replicates: int, seed: int) -> Floats:
    """(replicates × strategies) means of resampled sessions."""
    drawn = counts(len(d), block_length(len(d)), replicates, seed)
    means: Floats = drawn.astype(np.float64) @ d / len(d)
    return means


def _share(drawn: Floats, centre: Floats, statistic: float) -> float:
    noise = np.maximum(0.0, ((drawn - centre) / _own_deviation(drawn)).max(axis=1))
    return float(np.mean(noise >= statistic)) if statistic > 0 else 1.0


def _own_deviation(drawn: Floats) -> Floats:
    """Of the resampled means. It is a little below omega / sqrt(T): blocks are centred on the sample; the noise must not be quieter."""
    spread = drawn.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
