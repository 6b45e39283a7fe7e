"""Resampling against exact answers: what a permutation cannot change, what an interval must
cover.
"""

from __future__ import annotations

import importlib
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from mcl.metrics import performance as perf
from mcl.metrics.bootstrap import (
    bca_interval,
    counts,
    leave_one_out_sharpes,
    prewhitened_deviation,
    resampled,
    reshuffled,
    sharpe_interval,
    student_quantile,
    total_interval,
)
from mcl.metrics.resampling import block_length, indices

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
bench = importlib.import_module("bench_judgement")


def test_every_replicate_holds_as_many_observations_as_the_sample() -> None:
    occurrences = counts(123, 5, 400)
    assert (occurrences.sum(axis=1) == 123).all()
    assert occurrences.mean() == pytest.approx(1.0)
    assert not np.array_equal(occurrences[0], occurrences[1])


def test_blocks_have_the_wished_mean_length() -> None:
    rows = indices(600, 10, 300)
    joined = (np.diff(rows, axis=1) % 600 == 1).mean()
    assert joined == pytest.approx(0.9, abs=0.01)
    assert block_length(500) == 8
    assert block_length(1000) == 10


def test_the_bootstrap_of_a_mean_has_the_exact_variance_when_blocks_are_single() -> None:
    r = np.random.default_rng(0).normal(0.001, 0.01, 80)
    means = counts(80, 1, 20_000).astype(float) @ r / 80
    assert means.mean() == pytest.approx(r.mean(), abs=3e-5)
    assert means.var() == pytest.approx(r.var() / 80, rel=0.04)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    true = 1.5 / math.sqrt(252)
    bounds = [sharpe_interval(rng.standard_t(5, 500) / math.sqrt(5 / 3) + true) for _ in range(300)]
    covered = np.mean([low <= 1.5 <= high for low, high in bounds])
    assert 0.90 <= covered <= 0.98


@pytest.mark.parametrize(
    ("returns", "least"),
    [("Gaussian", 0.93), ("Student t4", 0.93), ("GARCH(1,1)", 0.93), ("AR(1) +0.4", 0.93)],
)
def test_half_a_year_is_enough_for_a_95_percent_interval(returns: str, least: float) -> None:
    """The short form of `scripts/bench_judgement.py coverage`: its processes, 120 sessions, a fixed
    seed.
    """
    assert bench.covered(bench.RETURNS[returns], 120, 1.0, 600) >= least


def test_the_interval_is_not_wide_for_nothing() -> None:
    rng = np.random.default_rng(8)
    bounds = [sharpe_interval(rng.normal(0.05, 1, 500)) for _ in range(50)]
    ideal = 2 * 1.96 * math.sqrt(252 / 500)
    assert np.mean([high - low for low, high in bounds]) == pytest.approx(ideal, rel=0.10)


@pytest.mark.parametrize("statistic", ["mean", "sharpe"])
@pytest.mark.parametrize("confidence", [0.90, 0.95])
def test_bca_is_that_of_scipy_on_the_same_resamples(statistic: str, confidence: float) -> None:
    from scipy import stats

    r = np.random.default_rng(12).gamma(1.5, 0.01, 90) - 0.012
    functions = {
        "mean": lambda x, axis: x.mean(axis),
        "sharpe": lambda x, axis: x.mean(axis) / x.std(axis, ddof=1),
    }
    interval = stats.bootstrap(
        (r,),
        functions[statistic],
        n_resamples=3000,
        confidence_level=confidence,
        method="BCa",
        rng=3,
    )
    without_one = (
        leave_one_out_sharpes(r) if statistic == "sharpe" else (r.sum() - r) / (len(r) - 1)
    )
    ours = bca_interval(
        interval.bootstrap_distribution, float(functions[statistic](r, 0)), without_one, confidence
    )
    assert ours == pytest.approx(tuple(interval.confidence_interval), rel=1e-9)


def test_leave_one_out_and_long_run_deviation_against_their_definitions() -> None:
    rng = np.random.default_rng(13)
    r = rng.standard_t(4, 60) * 0.01 + 0.001
    plain = [np.delete(r, i).mean() / np.delete(r, i).std(ddof=1) for i in range(60)]
    assert leave_one_out_sharpes(r) == pytest.approx(plain)
    strangers = [prewhitened_deviation(rng.normal(size=5000)) for _ in range(20)]
    assert np.mean(strangers) == pytest.approx(1.0, abs=0.02)
    noise = rng.normal(size=40_000)
    trending = np.empty_like(noise)
    trending[0] = 0.0
    for i in range(1, len(noise)):
        trending[i] = 0.5 * trending[i - 1] + noise[i]
    assert prewhitened_deviation(trending) == pytest.approx(2.0, rel=0.05)  # 1 / (1 - 0.5)


def test_student_quantiles() -> None:
    from scipy import stats

    for degrees in (5.0, 9.0, 23.0, 61.5, 1e6):
        assert student_quantile(0.975, degrees) == pytest.approx(
            stats.t.ppf(0.975, degrees), rel=2e-3
        )


def test_the_interval_sees_serial_dependence_that_the_analytic_one_does_not() -> None:
    noise = np.random.default_rng(6).normal(size=1000)
    trending = np.convolve(noise, np.ones(6) / 6, "valid") + 0.05
    low, high = sharpe_interval(trending)
    narrow = perf.sharpe_interval(trending)
    assert high - low > 1.4 * (narrow[1] - narrow[0])


def test_the_interval_is_the_same_every_time_and_undefined_without_variation() -> None:
    r = np.random.default_rng(7).normal(0.001, 0.01, 300)
    assert sharpe_interval(r) == sharpe_interval(r.copy())
    assert sharpe_interval(np.append(r, np.nan)) == sharpe_interval(r)
    for empty in (np.zeros(300), np.full(50, 0.01), r[:9], r[:0]):
        assert all(math.isnan(x) for x in sharpe_interval(empty))


def test_the_interval_of_a_total_holds_the_truth() -> None:
    rng = np.random.default_rng(14)
    bounds = [total_interval(rng.normal(0.001, 0.01, 150)) for _ in range(300)]
    assert np.mean([low <= 0.15 <= high for low, high in bounds]) >= 0.93
    assert total_interval(np.zeros(50)) == (0.0, 0.0)


def test_reshuffling_moves_drawdowns_and_never_the_end() -> None:
    pnl = np.array([100.0, -50, 30, -80, 60, -20])
    bands = reshuffled(pnl, 1000.0)
    assert np.allclose(bands.finals, 1.04)
    exact = {round(_deepest(order), 12) for order in itertools.permutations(pnl)}
    assert {round(float(d), 12) for d in np.unique(bands.drawdowns)} <= exact
    # 1000 draws of 720 orders meet the worst ones
    assert bands.drawdowns.min() == pytest.approx(min(exact))
    assert np.mean(bands.drawdowns) == pytest.approx(
        np.mean([_deepest(o) for o in itertools.permutations(pnl)]), abs=0.003
    )


def test_block_resampling_moves_the_end_too_and_starts_at_the_capital() -> None:
    bands = resampled(np.random.default_rng(9).normal(0.0005, 0.01, 250))
    assert np.std(bands.finals) > 0.05
    assert (bands.drawdowns <= 0).all()
    assert (bands.low <= bands.median).all()
    assert (bands.median <= bands.high).all()
    assert (
        bands.drawdown_quantile(0.95) < bands.drawdown_quantile(0.5) < bands.drawdown_quantile(0.05)
    )
    assert bands.probability(-bands.drawdown_quantile(0.95)) == pytest.approx(0.05, abs=0.01)


def test_the_first_loss_is_a_drawdown() -> None:
    assert reshuffled([-100.0, -100.0], 1000.0).drawdowns == pytest.approx(-0.2)
    assert np.isnan(reshuffled([], 1000.0).drawdowns).all()


def _deepest(order: tuple[float, ...]) -> float:
    equity = np.cumsum([1000.0, *order])
    return float((equity / np.maximum.accumulate(equity) - 1).min())
