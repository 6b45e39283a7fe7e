"""TPE with one objective: Optuna's Parzen estimators and its choice among their candidates, without most of what they cost.

`TPESampler` sorts all trials anew for every point, and asks for the density of each of its 24 candidates under each earlier trial, by
far the most of which are so far away that they add nothing to a sum of floating-point numbers. Here the trials are kept as columns, and
only the densities that count are computed, by Optuna's own functions: the points are the same (a test holds both to them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from mcl.search.evolution import drawn
from mcl.search.space import Space

Table = npt.NDArray[np.float64]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
LEAST_MASS = -math.log(0.3413)  # within an axis, of a normal distribution at its edge that is as wide as the axis: the least there is
BELOW = 45.0  # a thousand kernels whose logarithms are as much lower than another's change no bit of the sum of all


class Parzen:
    """The trials of a study, as TPE sees them: the best tenth (25 at most with one objective) against all others, those that run among
    the latter. With several objectives the best are the outer fronts, all of one weight."""

    def __init__(self, space: Space, maximize: Sequence[bool]) -> None:
        self._space, self._signs = space, [-1.0 if most else 1.0 for most in maximize]
        self._axes = {key: axis for key, axis in space.items() if not axis.single()}
        self._random = np.random.RandomState(0)
        self._optuna = TPESampler()
        self._rows = np.empty((64, len(self._axes)))  # one for each trial, by number
        self._costs: dict[int, list[float]] = {}  # of complete trials, one for each objective
        self._pruned: dict[int, tuple[float, float]] = {}  # (-folds, cost): who came further comes first
        self._reports: dict[int, tuple[float, float]] = {}  # of unfinished ones
        self._running: set[int] = set()

    def begin(self, number: int, values: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
        """A trial has begun at a point of whatever origin."""
        del learned
        if number >= len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[number] = [axis.to_internal_repr(values[key]) for key, axis in self._axes.items()]
        self._running.add(number)

    def report(self, number: int, fold: int, shown: float) -> None:
        """What the pruner has seen of a trial after a fold."""
        self._reports[number] = -float(fold), math.inf if math.isnan(shown) else self._signs[0] * shown

    def tell(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """A trial has ended; a failed one teaches nothing."""
        self._running.discard(number)
        reported = self._reports.pop(number, (1.0, 0.0))
        if state == TrialState.COMPLETE and values:
            self._costs[number] = [sign * value for sign, value in zip(self._signs, values, strict=True)]
        elif state == TrialState.PRUNED:
            self._pruned[number] = reported

    def ask(self, number: int, own: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """(values of the next trial, nothing to write down), from the random numbers of `own`: drawn evenly before there is enough to
        learn from."""
        del number
        self._random.seed(own)
        chosen: dict[str, float] = {}
        if self._axes and len(self._costs) + len(self._pruned) >= self._optuna._n_startup_trials:
            chosen = self._likeliest()
        return {
            key: axis.to_external_repr(chosen[key]) if key in chosen else drawn(axis, self._random) for key, axis in self._space.items()
        }, {}

    def _likeliest(self) -> dict[str, float]:
        """Of points drawn from where the best trials lie, the one with the best odds that it does not come from where the others do."""
        best, others = self._split()
        weights = np.ones(len(best)) if len(self._signs) > 1 else None
        good, bad = _mixture(self._axes, self._rows[best], self._optuna, weights), _mixture(self._axes, self._rows[others], self._optuna)
        candidates = good.sample(self._random, self._optuna._n_ei_candidates)
        odds = log_density(good, candidates) - log_density(bad, candidates)
        return dict(zip(self._axes, candidates[int(np.argmax(odds))].tolist(), strict=True))

    def _split(self) -> tuple[list[int], list[int]]:
        """Numbers of the (best, other) trials, ascending; equal ones in the order of their numbers."""
        from optuna.samplers._tpe.sampler import default_gamma, default_gamma_multiobjective

        single, finished = len(self._signs) == 1, len(self._costs) + len(self._pruned)
        many = (default_gamma if single else default_gamma_multiobjective)(finished)
        complete = sorted(self._costs)
        ranked = sorted(complete, key=self._costs.__getitem__) if single else self._outer(complete, min(many, len(complete)))
        ranked += sorted(sorted(self._pruned), key=self._pruned.__getitem__)
        return sorted(ranked[:many]), sorted([*ranked[many:], *self._running])

    def _outer(self, complete: list[int], many: int) -> list[int]:
        """Complete trials of several objectives, `many` of the outer fronts first."""
        from optuna.samplers._tpe.sampler import _split_complete_trials_multi_objective

        study = SimpleNamespace(directions=[StudyDirection.MINIMIZE] * len(self._signs))
        trials = [SimpleNamespace(number=number, values=self._costs[number]) for number in complete]
        best, others = _split_complete_trials_multi_objective(trials, study, many)  # type: ignore[arg-type]
        return [trial.number for trial in (*best, *others)]


@cache
def trusted() -> bool:
    """Whether this release of Optuna builds its estimators as `log_density` reads them, to be tried on a small example: where it does
    not, its own slower sampler has to do."""
    axes = {
        "a": IntDistribution(1, 9, step=2),
        "b": FloatDistribution(0.0, 1.0),
        "c": CategoricalDistribution(["x", "y"]),
        "d": FloatDistribution(0.1, 10.0, log=True),
        "e": IntDistribution(1, 9, log=True),
    }
    rows = np.array([[3.0, 0.2, 1.0, 0.5, 2.0], [7.0, 0.9, 0.0, 8.0, 9.0], [9.0, 0.8, 0.0, 4.0, 1.0]])
    try:
        mixture = _mixture(axes, rows, TPESampler())
        points = mixture.sample(np.random.RandomState(0), 8)
        return bool(np.allclose(log_density(mixture, points), mixture.log_pdf(points), rtol=1e-9))
    except (ImportError, AttributeError, TypeError, ValueError, LookupError):
        return False


def _mixture(axes: Space, rows: Table, settings: Any, weights: Table | None = None) -> Any:
    """Optuna's estimate of where trials lie: a kernel for each of `rows`, and one as wide as the space."""
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

    _vectorised()
    columns = {key: np.ascontiguousarray(rows[:, i]) for i, key in enumerate(axes)}
    return _ParzenEstimator(columns, axes, settings._parzen_estimator_parameters, weights)._mixture_distribution


@cache
def _vectorised() -> None:
    """Optuna computes the logarithm of the normal distribution one number at a time, which costs it most of the time in which it draws
    candidates; scipy has it as one call, no less exact. Where Optuna has come to name its function otherwise, it stays slow."""
    from optuna.samplers._tpe import _truncnorm
    from scipy.special import log_ndtr

    if hasattr(_truncnorm, "_log_ndtr"):
        _truncnorm._log_ndtr = log_ndtr


def log_density(mixture: Any, points: Table) -> Table:
    """What `mixture.log_pdf(points)` gives, in a fraction of its time: `points` has one row each, one column per axis."""
    row, kernel = np.nonzero(_that_count(mixture, points))
    logs = np.full((len(points), len(mixture.weights)), -np.inf)
    logs[row, kernel] = _logs(mixture, points, row, kernel)
    highest = logs.max(axis=1)
    highest[np.isneginf(highest)] = 0.0
    with np.errstate(divide="ignore"):
        found: Table = np.log(np.exp(logs - highest[:, None]).sum(axis=1)) + highest
    return found


def _that_count(mixture: Any, points: Table) -> npt.NDArray[np.bool_]:
    """Which kernels can add to the density at which point: [point, kernel].

    A kernel's logarithm is at most that of the normal density at the near side of the point's cell (its own, where there are no steps);
    the last kernel, which is as wide as the space, has at least that at the far side.
    """
    most = np.broadcast_to(np.log(mixture.weights), (len(points), len(mixture.weights))).copy()
    least = most[:, -1].copy()
    for axis, kernels in zip(points.T, mixture.distributions, strict=True):
        if not hasattr(kernels, "mu"):
            exact = np.log(kernels.weights.T[axis.astype(int)])
            most += exact
            least += exact[:, -1]
            continue
        mu, sigma, (left, right) = kernels.mu, kernels.sigma, _cells(kernels, axis)
        height = -np.log(sigma) - HALF_LOG_2PI
        near = np.abs(0.5 * (left + right)[:, None] - mu)
        if kernels.step:
            near -= 0.5 * (right - left)[:, None]
            np.maximum(near, 0, out=near)
        near /= sigma
        near *= near
        near *= -0.5
        most += near
        most += LEAST_MASS if kernels.step else LEAST_MASS + height
        far = np.maximum(mu[-1] - left, right - mu[-1]) / sigma[-1]
        least += height[-1] + (np.log(right - left) if kernels.step else 0.0) - 0.5 * far * far
    counting: npt.NDArray[np.bool_] = most >= least[:, None] - BELOW
    return counting


def _cells(kernels: Any, axis: Table) -> tuple[Table, Table]:
    """The edges of the cells around values of a numeric axis, on its own scale; equal where it has no steps."""
    left, right = axis - kernels.step / 2, axis + kernels.step / 2
    return (np.log(left), np.log(right)) if kernels.is_log else (left, right)


def _logs(mixture: Any, points: Table, row: npt.NDArray[np.intp], kernel: npt.NDArray[np.intp]) -> Table:
    """Logarithms of weight times density for pairs of a point and a kernel."""
    few, at = np.unique(kernel, return_inverse=True)
    total: Table = np.log(mixture.weights)[kernel]
    for axis, kernels in zip(points.T, mixture.distributions, strict=True):
        if not hasattr(kernels, "mu"):
            total += np.log(kernels.weights[kernel, axis[row].astype(int)])
            continue
        mu, sigma, (left, right) = kernels.mu[few], kernels.sigma[few], _cells(kernels, axis)
        total -= _log_mass((kernels.adapted_low - mu) / sigma, (kernels.adapted_high - mu) / sigma)[at]
        start, wide = mu[at], sigma[at]
        if kernels.step:
            total += _log_mass((left[row] - start) / wide, (right[row] - start) / wide)
        else:
            total -= 0.5 * np.square((left[row] - start) / wide) + (HALF_LOG_2PI + np.log(sigma))[at]
    return total


def _log_mass(a: Table, b: Table) -> Table:
    """Logarithm of what the normal distribution holds between `a` and `b`; in a tail by logarithms, which stay exact there."""
    from scipy.special import log_ndtr, ndtr

    found: Table = np.empty_like(a)
    around = (a <= 0) & (b > 0)
    found[around] = np.log1p(-ndtr(a[around]) - ndtr(-b[around]))
    a, b = a[~around], b[~around]
    far, near = log_ndtr(np.where(a > 0, -b, a)), log_ndtr(np.where(a > 0, -a, b))
    found[~around] = near + np.log1p(-np.exp(far - near))
    return found
