"""Choose the mean block length of the stationary bootstrap from the autocorrelation of a series.

Sources: Politis & White (2004) "Automatic Block-Length Selection for the Dependent Bootstrap";
Patton, Politis & White (2009), its correction: D of the stationary bootstrap is 2 · g(0)².
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mcl.metrics.performance import SMALLEST, Floats, finite

FEWEST = 10  # values; below, and without variation, the length is 1
SIGNIFICANT = 2.0  # of an autocorrelation, times sqrt(log10(n) / n)


def optimal(returns: npt.ArrayLike) -> float:
    """Return the mean block length that minimises the error of the bootstrap variance of the mean.

    NaN in `returns` is left out.

    b = (2 G² / D)^(1/3) · n^(1/3), at most min(3 sqrt(n), n / 3), with G = sum of lambda(k/M) |k|
    R(k), D = 2 (sum of lambda(k/M) R(k))² and R the sample autocovariance. lambda is the flat-top
    window: 1 up to a half, then down to 0 at one. M is twice the first lag from which max(5, log10
    n) autocorrelations in a row are insignificant, at most ceil(sqrt(n)) + max(5, log10 n).
    """
    r = finite(returns)
    n = len(r)
    if n < FEWEST or np.ptp(r) < SMALLEST:
        return 1.0
    centred = r - r.mean()
    run = max(5, int(math.log10(n)))
    most = min(n - 1, math.ceil(math.sqrt(n)) + run)
    window = _bandwidth(_autocorrelations(centred, most), run, n)
    lags = np.arange(1, window + 1)
    weight = np.minimum(1.0, 2.0 * (1.0 - lags / window))
    covariance = weight * np.array([float((centred[k:] * centred[:-k]).sum()) for k in lags]) / n
    spectrum = float((centred**2).sum()) / n + 2.0 * float(covariance.sum())
    slope = 2.0 * float((lags * covariance).sum())
    longest = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    if spectrum == 0:
        return float(longest)
    length = math.pow(slope * slope / (spectrum * spectrum) * n, 1 / 3)
    return min(float(longest), length)


def _autocorrelations(centred: Floats, most: int) -> Floats:
    """Absolute correlation of the series with itself `k` values later, each part by its own length,
    for k = 1 … most.
    """
    correlations = np.zeros(most)
    for k in range(1, most + 1):
        late, early = centred[k:], centred[:-k]
        length = math.sqrt(float((late * late).sum()) * float((early * early).sum()))
        correlations[k - 1] = abs(float((late * early).sum())) / length if length > 0 else 0.0
    return correlations


def _bandwidth(correlations: Floats, run: int, n: int) -> int:
    """M of the window. Without a run of insignificant lags the series depends on all of its past
    that is looked at.
    """
    quiet = correlations < SIGNIFICANT * math.sqrt(math.log10(n) / n)
    starts = (lag for lag in range(len(quiet) - run + 1) if quiet[lag : lag + run].all())
    first = next(starts, None)
    return len(quiet) if first is None else min(len(quiet), 2 * (first + 1))
