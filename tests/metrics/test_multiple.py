"""Tests that count how many were tried: their size without an edge, their power with one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mcl.metrics.multiple import (
    benjamini_hochberg,
    holm,
    long_run_deviation,
    random_entry,
    reality_check,
    spa,
    stepm,
)
from mcl.metrics.overfit import effective_rank, null_variance, trial_variance


def test_without_an_edge_the_level_is_kept() -> None:
    rng = np.random.default_rng(1)
    p = [spa(rng.normal(size=(300, 12)), 500).consistent for _ in range(120)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.07)
    assert np.mean(p) == pytest.approx(0.5, abs=0.12)


def test_the_three_p_values_are_ordered() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(size=(400, 8)) + np.linspace(-0.3, 0.12, 8)
    superior = spa(returns, 2000)
    assert superior.lower <= superior.consistent <= superior.upper
    assert superior.best == int((returns.mean(axis=0) / long_run_deviation(returns, 1)).argmax())


def test_a_quiet_good_one_is_seen_beside_a_loud_lucky_one() -> None:
    rng = np.random.default_rng(3)
    loud = rng.normal(0.01, 1.0, (500, 5))
    quiet = rng.normal(0.002, 0.01, (500, 1))
    assert spa(np.column_stack([loud, quiet])).consistent < 0.01
    assert reality_check(np.column_stack([loud, quiet])) > 0.1  # that is what studentising is for


def test_stepwise_finds_the_good_ones_and_no_others() -> None:
    rng = np.random.default_rng(14)
    returns = rng.normal(size=(600, 30)) * np.linspace(0.5, 3, 30)
    returns[:, [3, 17, 29]] += 0.25 * np.linspace(0.5, 3, 30)[[3, 17, 29]]
    assert stepm(returns) == [3, 17, 29]
    assert stepm(rng.normal(size=(300, 10)), size=0.01) == []
    assert stepm(np.zeros((300, 3))) == []


def test_long_run_deviation_of_dependent_returns() -> None:
    noise = np.random.default_rng(5).normal(size=(20_000, 1))
    moving = np.asarray(noise[1:] + 0.5 * noise[:-1])
    assert long_run_deviation(noise, 28)[0] == pytest.approx(1.0, abs=0.06)
    # sqrt(1 + 0.25 + 2 * 0.5)
    assert long_run_deviation(moving, 28)[0] == pytest.approx(1.5, abs=0.12)


def test_timing_is_judged_against_every_rotation() -> None:
    rng = np.random.default_rng(6)
    change = rng.normal(size=400)
    contracts = np.sign(np.convolve(rng.normal(size=430), np.ones(31), "valid"))
    earned = [float(np.roll(contracts, k) @ change) for k in range(400)]
    assert random_entry(contracts, change) == pytest.approx(
        np.mean(np.array(earned) >= earned[0] - 1e-9)
    )
    assert random_entry(np.sign(change), change) == pytest.approx(1 / 400)
    assert random_entry(-np.sign(change), change) == 1.0
    assert math.isnan(random_entry(np.ones(400), change))


def test_undefined_is_nan() -> None:
    assert math.isnan(spa(np.zeros((100, 3))).consistent)
    assert math.isnan(reality_check(np.zeros((100, 3))))
    assert math.isnan(effective_rank(np.zeros((100, 3))))
    assert math.isnan(trial_variance([0.1], 100))
    assert math.isnan(null_variance(1))
    assert spa(np.random.default_rng(7).normal(-1.0, 0.1, (100, 4))).consistent == 1.0


def test_effective_rank_of_copies_and_strangers() -> None:
    rng = np.random.default_rng(8)
    one = rng.normal(size=(500, 1))
    assert effective_rank(np.repeat(one, 9, axis=1)) == pytest.approx(1.0)
    assert effective_rank(rng.normal(size=(5000, 9))) == pytest.approx(9, abs=0.1)


def test_effective_rank_with_missing_sessions() -> None:
    rng = np.random.default_rng(4)
    one = rng.normal(size=(400, 1))
    copies = np.repeat(one, 5, axis=1)
    for column in range(5):
        copies[column * 60 : column * 60 + 90, column] = np.nan
    assert effective_rank(copies) == pytest.approx(1.0, abs=1e-6)
    strangers = rng.normal(size=(6000, 6))
    strangers[rng.random(strangers.shape) < 0.3] = np.nan
    assert effective_rank(strangers) == pytest.approx(6, abs=0.05)
    mixed = rng.normal(size=(300, 1)) + rng.normal(size=(300, 4))
    mixed[:100, 0] = np.nan
    eigenvalues = np.linalg.eigvalsh(pd.DataFrame(mixed).corr().to_numpy())
    share = eigenvalues / eigenvalues.sum()
    assert effective_rank(mixed) == pytest.approx(float(np.exp(-(share * np.log(share)).sum())))
    assert effective_rank(mixed[100:]) == pytest.approx(
        effective_rank(np.where(np.isnan(mixed[100:]), 0, mixed[100:]))
    )


def test_effective_rank_of_trials_without_a_common_session_or_without_a_return() -> None:
    rng = np.random.default_rng(5)
    apart = np.full((200, 2), np.nan)
    apart[:100, 0], apart[100:, 1] = rng.normal(size=100), rng.normal(size=100)
    assert effective_rank(apart) == pytest.approx(2.0)
    empty = np.column_stack(
        [rng.normal(size=50), np.full(50, np.nan), np.where(np.arange(50) < 9, 0.01, np.nan)]
    )
    assert effective_rank(empty) == pytest.approx(1.0)
    assert math.isnan(effective_rank(np.full((50, 3), np.nan)))
    assert math.isnan(effective_rank(np.empty((0, 3))))


def test_luck_spreads_trials_no_more_than_sampling_does() -> None:
    assert trial_variance([0.0, 0.01, -0.01], 401) == pytest.approx(1e-4)
    assert trial_variance([0.3, -0.5, 0.1], 401) == pytest.approx(1 / 400)
    assert trial_variance([0.0, math.nan, 0.02], 401) == pytest.approx(2e-4)


HOLM = [0.072, 0.192, 0.0063, 0.42, 0.192, 0.73, 0.1505]
FDR = [0.042, 0.0672, 0.0063, 0.245, 0.0672, 0.73, 0.0672]
P_VALUES = [0.012, 0.048, 0.0009, 0.21, 0.048, 0.73, 0.0301]


def test_adjusted_p_values_are_those_of_statsmodels() -> None:
    """statsmodels.stats.multitest.multipletests(P_VALUES, method="holm" and "fdr_bh"), version
    0.15.0.
    """
    assert holm(P_VALUES) == pytest.approx(HOLM)
    assert benjamini_hochberg(P_VALUES) == pytest.approx(FDR)


def test_what_was_not_tested_does_not_count() -> None:
    assert holm([math.nan, 0.02, 0.04])[1:] == pytest.approx([0.04, 0.04])
    assert math.isnan(holm([math.nan, 0.02])[0])
    assert benjamini_hochberg([0.03, math.nan])[0] == 0.03
    assert holm([]) == benjamini_hochberg([]) == []
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.5"):
        holm([0.1, 1.5])


def test_holm_keeps_the_family_wise_level_and_bh_is_never_stricter() -> None:
    rng = np.random.default_rng(6)
    draws = rng.random((4000, 8))
    assert np.mean([min(holm(list(row))) <= 0.05 for row in draws]) == pytest.approx(
        0.05, abs=0.012
    )
    assert all(
        b <= h + 1e-15
        for row in draws[:200]
        for h, b in zip(holm(list(row)), benjamini_hochberg(list(row)), strict=True)
    )
