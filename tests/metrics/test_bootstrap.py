"""Resampling against exact answers: what a permutation cannot change, what an interval must cover."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mcl.metrics import performance as perf
from mcl.metrics.bootstrap import block_length, counts, indices, resampled, reshuffled, sharpe_interval


def test_every_replicate_holds_as_many_observations_as_the_sample() -> None:
    drawn = counts(123, 5, 400)
    assert (drawn.sum(axis=1) == 123).all()
    assert drawn.mean() == pytest.approx(1.0)
    assert not np.array_equal(drawn[0], drawn[1])


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


def test_reshuffling_moves_drawdowns_and_never_the_end() -> None:
    pnl = np.array([100.0, -50, 30, -80, 60, -20])
    bands = reshuffled(pnl, 1000.0)
    assert np.allclose(bands.finals, 1.04)
    exact = {round(_deepest(order), 12) for order in itertools.permutations(pnl)}
    assert {round(float(d), 12) for d in np.unique(bands.drawdowns)} <= exact
    assert bands.drawdowns.min() == pytest.approx(min(exact))  # 1000 draws of 720 orders meet the worst ones
    assert np.mean(bands.drawdowns) == pytest.approx(np.mean([_deepest(o) for o in itertools.permutations(pnl)]), abs=0.003)


def test_block_resampling_moves_the_end_too_and_starts_at_the_capital() -> None:
    bands = resampled(np.random.default_rng(9).normal(0.0005, 0.01, 250))
    assert np.std(bands.finals) > 0.05
    assert (bands.drawdowns <= 0).all()
    assert (bands.low <= bands.median).all()
    assert (bands.median <= bands.high).all()
    assert bands.drawdown_quantile(0.95) < bands.drawdown_quantile(0.5) < bands.drawdown_quantile(0.05)
    assert bands.probability(-bands.drawdown_quantile(0.95)) == pytest.approx(0.05, abs=0.01)


def test_the_first_loss_is_a_drawdown() -> None:
    assert reshuffled([-100.0, -100.0], 1000.0).drawdowns == pytest.approx(-0.2)
    assert np.isnan(reshuffled([], 1000.0).drawdowns).all()


def _deepest(order: tuple[float, ...]) -> float:
    equity = np.cumsum([1000.0, *order])
    return float((equity / np.maximum.accumulate(equity) - 1).min())
