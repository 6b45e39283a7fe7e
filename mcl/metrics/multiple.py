"""Test whether any of many strategies is better than nothing, and whether the chosen one is.

All take a (sessions × strategies) matrix of returns, NaN where a strategy has no session, against a
benchmark of zero. Whole sessions are resampled with the stationary bootstrap, so that what the
strategies have in common stays in. Sources: White (2000) "A Reality Check for Data Snooping";
Hansen (2005) "A Test for Superior Predictive Ability"; Romano & Wolf (2005) "Stepwise Multiple
Testing".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcl.metrics.block_length import optimal
from mcl.metrics.bootstrap import counts
from mcl.metrics.performance import NORMAL, SMALLEST, Floats
from mcl.metrics.resampling import FEWEST_RETURNS, SEED

REPLICATES = 5000
MOST_SERIES = 50  # whose block length is computed; their median counts for all
CHUNK = 512  # strategies that are resampled at a time
ROWS = 1000  # replicates that are multiplied at a time


@dataclass(frozen=True)
class Superior:
    """Hold the p-values of "the best is no better than zero".

    `lower` <= `consistent` <= `upper`. Use the consistent one.
    """

    statistic: float
    best: int  # column of the largest studentised mean
    lower: float
    consistent: float
    upper: float


@dataclass(frozen=True)
class FamilyWise:
    """Hold the result of a test of one series that was chosen from many.

    `p` is the chance that the best of all trials shows at least the studentised mean `statistic`,
    if nothing has an edge. `trials` counts the chosen series and those it was chosen from, `block`
    is the mean length of the resampled blocks in sessions.
    """

    p: float
    statistic: float
    trials: int
    block: int


def family_wise(
    chosen: npt.ArrayLike,
    others: npt.ArrayLike,
    given_up: int = 0,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> FamilyWise:
    """Return the p-value of one chosen series, given all that it was chosen from.

    It is the bootstrap of the maximum of studentised means.

    chosen    returns by session. NaN where it has none
    others    (sessions × trials) returns of all other trials on the same sessions. The chosen one
              may be among them
    given_up  further trials without returns, which a search gave up half-way: each counts like an
              average one of the others

    Trials are recentred as Hansen's consistent test has it: one that is clearly worse than nothing
    cannot be the best by luck, and does not make the others pay for it. NaN below ten sessions or
    without variation. With no others it is a single test.
    """
    own = np.asarray(chosen, dtype=np.float64)
    rest = np.asarray(others, dtype=np.float64)
    rest = rest.reshape(len(own), rest.shape[1] if rest.ndim > 1 else 1)
    sample = _sample(np.column_stack([own, rest]), _block(own, rest))
    trials = 1 + rest.shape[1] + given_up
    if not sample.usable[0]:
        return FamilyWise(math.nan, math.nan, trials, sample.block)
    statistic = float(sample.statistics[0])
    largest = np.full(replicates, -np.inf, np.float32)
    for columns, noise in sample.noise(replicates, seed):
        shift = np.where(sample.ruined[columns], sample.statistics[columns], 0.0)
        np.maximum(largest, (noise + shift.astype(np.float32)).max(axis=1), out=largest)
    p = (1 + np.count_nonzero(largest >= statistic)) / (replicates + 1)
    extra = trials / (trials - given_up)
    return FamilyWise(float(1 - (1 - p) ** extra), statistic, trials, sample.block)


def after_looks(p: float, looks: int) -> float:
    """Return the p-value of the best of so many independent looks at the same sessions (Šidák).

    One look leaves it as it is.
    """
    return 1 - (1 - p) ** max(1, looks)


def joined(tests: Sequence[tuple[float, int]], replicates: int = REPLICATES) -> float:
    """Join several (p-value, sessions) of independent sessions by the weighted inverse normal
    method.

    Z = sum of sqrt(T) · z(1 - p) / sqrt(sum of T). The weights are the best ones for one Sharpe
    ratio in all of the sessions. A p-value counts no more than its bootstrap can tell, 1 /
    (replicates + 1) from either end. NaN when one of them is. Sources: Stouffer et al. (1949);
    Lipták (1958) for the weights.
    """
    total = sum(sessions for _, sessions in tests)
    if total <= 0 or any(math.isnan(p) for p, _ in tests):
        return math.nan
    least = 1 / (replicates + 1)
    scores = [
        math.sqrt(sessions) * -NORMAL.inv_cdf(min(1 - least, max(least, p)))
        for p, sessions in tests
    ]
    return 1 - NORMAL.cdf(math.fsum(scores) / math.sqrt(total))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust each p-value for all of them by Holm's method.

    Those at or below 5 % keep the chance of even one false finding at 5 %.

    Valid whatever the dependence. NaN was not tested: it stays NaN and does not count. Source: Holm
    (1979) "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = _ascending(p_values)
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust each p-value for all of them by the method of Benjamini and Hochberg.

    Of those at or below 5 %, 5 % are expected to be false findings.

    Valid for independent tests and for positive dependence. NaN was not tested: it stays NaN and
    does not count. Source: Benjamini & Hochberg (1995) "Controlling the False Discovery Rate".
    """
    order = _ascending(p_values)
    adjusted, least = [math.nan] * len(p_values), 1.0
    for rank in range(len(order), 0, -1):
        least = min(least, len(order) / rank * p_values[order[rank - 1]])
        adjusted[order[rank - 1]] = least
    return adjusted


def _ascending(p_values: Sequence[float]) -> list[int]:
    for p in p_values:
        if not (math.isnan(p) or 0 <= p <= 1):
            raise ValueError(f"a p-value lies between 0 and 1, not {p}")
    return sorted(
        (i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i]
    )


def reality_check(returns: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> float:
    """Return White's p-value for the largest mean, not studentised.

    A good strategy of low volatility is invisible next to a lucky one of high volatility.
    """
    sample = _of(returns)
    if not sample.usable.any():
        return math.nan
    largest = np.full(replicates, -np.inf)
    for columns, noise in sample.noise(replicates, seed):
        largest = np.maximum(largest, (noise * sample.deviations[columns]).max(axis=1))
    return float(np.mean(largest >= (sample.statistics * sample.deviations)[sample.usable].max()))


def spa(returns: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> Superior:
    """Run Hansen's test for superior predictive ability.

    Means are studentised by the long-run deviation of each strategy.

    Columns that are constant or have fewer than ten sessions are left out; NaN when none is left.
    """
    sample = _of(returns)
    if not sample.usable.any():
        return Superior(math.nan, -1, math.nan, math.nan, math.nan)
    studentised = np.where(sample.usable, sample.statistics, -np.inf)
    best = int(studentised.argmax())
    statistic = max(0.0, float(studentised[best]))
    shifts = {
        "lower": np.minimum(sample.statistics, 0.0),
        "consistent": np.where(sample.ruined, sample.statistics, 0.0),
        "upper": np.zeros(len(studentised)),
    }
    largest = {name: np.zeros(replicates) for name in shifts}
    for columns, noise in sample.noise(replicates, seed):
        for name, shift in shifts.items():
            largest[name] = np.maximum(largest[name], (noise + shift[columns]).max(axis=1))
    p = {name: float(np.mean(maxima >= statistic)) for name, maxima in largest.items()}
    return Superior(statistic, best, **p)


def stepm(
    returns: npt.ArrayLike, size: float = 0.05, replicates: int = REPLICATES, seed: int = SEED
) -> list[int]:
    """Return the columns that beat zero with a family-wise error of `size`.

    Those are set aside and the rest is tested again.
    """
    sample = _of(returns)
    open_ = sample.usable.copy()
    if not open_.any():
        return []
    noise = np.full((replicates, len(open_)), -np.inf, np.float32)
    for columns, chunk in sample.noise(replicates, seed):
        noise[:, columns] = chunk
    superior = np.zeros(len(open_), bool)
    while open_.any():
        critical = np.quantile(noise[:, open_].max(axis=1), 1 - size)
        beaten = open_ & (sample.statistics > critical)
        if not beaten.any():
            break
        superior |= beaten
        open_ &= ~beaten
    return [int(i) for i in np.flatnonzero(superior)]


def long_run_deviation(returns: Floats, block: int) -> Floats:
    """Return the square root of T · Var(mean) of each column under the stationary bootstrap.

    The kernel over the autocovariances is kappa(i) = (1 - i/T)(1 - 1/b)^i + (i/T)(1 - 1/b)^(T - i).
    Lags beyond the kernel's weight of 1e-4 are left out. Never below the plain deviation: among
    many strategies the largest ratio is otherwise one whose dependence was underestimated by
    accident.
    """
    present = ~np.isnan(returns)
    count = np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, returns - np.nansum(returns, axis=0) / count, 0.0)
    n, keep = len(returns), 1.0 - 1.0 / block
    variance = (centred**2).sum(axis=0) / count
    lags = min(n - 1, math.ceil(math.log(1e-4) / math.log(keep))) if keep > 0 else 0
    total = variance.copy()
    for i in range(1, lags + 1):
        weight = (1 - i / n) * keep**i + (i / n) * keep ** (n - i)
        total += 2 * weight * (centred[:-i] * centred[i:]).sum(axis=0) / count
    return np.asarray(np.sqrt(np.maximum(total, variance)))


def random_entry(position: npt.ArrayLike, change_usd: npt.ArrayLike) -> float:
    """Return the p-value of the timing.

    It is the share of all rotations of the position path that earn at least as much as it did.

    position    contracts held over each bar
    change_usd  P&L of one contract over the same bar, roll gaps removed

    A rotation keeps sides,
    holding times, exposure and order and breaks only the link to the market; costs are the same for
    all of them and cancel. Exact over all n rotations (one Fourier transform). NaN when nothing was
    held, or all of the time on one side.
    """
    contracts, change = (
        np.asarray(position, dtype=np.float64),
        np.asarray(change_usd, dtype=np.float64),
    )
    if len(contracts) < 2 or np.ptp(contracts) == 0:
        return math.nan
    earned = np.fft.irfft(np.fft.rfft(change) * np.conj(np.fft.rfft(contracts)), len(contracts))
    tolerance = 1e-9 * float(np.abs(contracts).max() * np.abs(change).sum())
    return float(np.mean(earned >= earned[0] - tolerance))


@dataclass(frozen=True)
class _Sample:
    """Hold returns with their studentised means, and resample the noise about them.

    statistics  sqrt(T) · mean / long-run deviation by column, T its own sessions. 0 where it is not
                usable
    deviations  standard error of each mean: long-run deviation / sqrt(T)
    ruined      so far below zero that it cannot be the best by luck: under -sqrt(2 log log T)
    """

    returns: Floats
    block: int
    usable: npt.NDArray[np.bool_]
    statistics: Floats
    deviations: Floats
    ruined: npt.NDArray[np.bool_]

    def noise(
        self, replicates: int, seed: int
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yield (columns, (replicates × columns) resampled means about their own), some at a time.

        Each resampled mean has a deviation of one.

        A resampled mean that is divided by its own deviation is not quieter than chance: blocks are
        centred on the sample, and their means spread a little less than the means of new samples
        would. A trial with gaps is resampled with its gaps.
        """
        columns = np.flatnonzero(self.usable)
        occurrences = counts(len(self.returns), self.block, replicates, seed)
        for start in range(0, len(columns), CHUNK):
            some = columns[start : start + CHUNK]
            yield some, _noise(self.returns[:, some], occurrences)


def _of(returns: npt.ArrayLike) -> _Sample:
    d = np.asarray(returns, dtype=np.float64)
    d = d.reshape(len(d), -1) if d.ndim else np.empty((0, 0))
    return _sample(d, _block(np.empty(0), d))


def _sample(returns: Floats, block: int) -> _Sample:
    present = ~np.isnan(returns)
    sessions = present.sum(axis=0)
    high = np.max(np.where(present, returns, -np.inf), axis=0, initial=-np.inf)
    low = np.min(np.where(present, returns, np.inf), axis=0, initial=np.inf)
    usable = (sessions >= FEWEST_RETURNS) & (high - low > SMALLEST)
    count = np.maximum(sessions, 1)
    deviation = np.where(usable, long_run_deviation(returns, block), 1.0) / np.sqrt(count)
    statistics = np.where(usable, np.nansum(returns, axis=0) / count / deviation, 0.0)
    bar = np.sqrt(2 * np.log(np.log(np.maximum(sessions, FEWEST_RETURNS))))
    return _Sample(returns, block, usable, statistics, deviation, statistics < -bar)


def _noise(returns: Floats, occurrences: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    present = ~np.isnan(returns)
    centre = np.nansum(returns, axis=0) / present.sum(axis=0)
    scale = np.nanstd(returns, axis=0)
    centred = np.where(present, (returns - centre) / scale, 0.0).astype(np.float32)
    gaps = None if present.all() else present.astype(np.float32)
    out = np.empty((len(occurrences), returns.shape[1]), np.float32)
    for start in range(0, len(occurrences), ROWS):
        rows = occurrences[start : start + ROWS].astype(np.float32)
        sums = rows @ centred
        out[start : start + ROWS] = sums / (
            len(returns) if gaps is None else np.maximum(rows @ gaps, 1.0)
        )
    spread = out.std(axis=0)
    out /= np.where(spread > 0, spread, 1.0)
    return out


def _block(own: Floats, others: Floats) -> int:
    """Return the sessions of a block for all strategies together.

    It is the larger of that of the chosen one and the median of some of the others.
    """
    few = (
        others[:, np.unique(np.linspace(0, others.shape[1] - 1, MOST_SERIES).astype(int))]
        if others.size
        else others[:, :0]
    )
    lengths = [optimal(column) for column in few.T]
    return max(1, round(max(optimal(own), float(np.median(lengths)) if lengths else 1.0)))
