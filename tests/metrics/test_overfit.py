"""Overfitting statistics against the anchors of the 2012/2014 convention."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcl.metrics.overfit import (
    deflated_threshold,
    dsr_2012,
    expected_maximum,
    min_backtest_years,
    min_track_record,
    n_effective,
    psr_2012,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (psr_2012(0.08, 300, -0.5, 5), 0.9118621437),
        (psr_2012(0.08, 300, -0.5, 5, 0.03), 0.8009989121),
        (psr_2012(0.08, 300, -0.5, 5, 0.08), 0.5),
        (deflated_threshold(60, 0.0016), 0.0938135080),
        (dsr_2012(0.11, 750, -0.4, 6, trials=60, trial_variance=0.0016), 0.6665648703),
    ],
)
def test_probability_anchor(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, abs=5e-11)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (min_track_record(0.08, -0.5, 5), 443.356355),
        (min_track_record(0.08, -0.5, 5, 0.03), 1133.432268),
        (expected_maximum(3), 0.852804),
        (expected_maximum(25), 1.997150),
        (expected_maximum(300), 2.895502),
        (min_backtest_years(60), 5.500609),
        (min_backtest_years(60, 1.5), 2.444715),
    ],
)
def test_length_and_maximum_anchor(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, abs=6e-7)


def test_the_track_record_of_that_length_reaches_the_confidence() -> None:
    needed = min_track_record(0.08, -0.5, 5)
    assert (
        psr_2012(0.08, math.ceil(needed), -0.5, 5)
        >= 0.95
        > psr_2012(0.08, math.floor(needed), -0.5, 5)
    )


def test_one_trial_needs_no_deflation() -> None:
    assert expected_maximum(1) == 0.0
    assert dsr_2012(0.08, 300, -0.5, 5, trials=1, trial_variance=math.nan) == psr_2012(
        0.08, 300, -0.5, 5
    )


def test_undefined_is_nan() -> None:
    undefined = [
        psr_2012(math.nan, 300, 0, 3),
        psr_2012(0.1, 1, 0, 3),
        psr_2012(0.1, 300, math.nan, 3),
        min_track_record(0.02, 0, 3, threshold=0.02),
        expected_maximum(0.5),
        dsr_2012(0.1, 300, 0, 3, trials=10, trial_variance=math.nan),
        n_effective(np.ones((1, 5))),
    ]
    assert all(math.isnan(v) for v in undefined)


def test_more_trials_never_raise_the_deflated_ratio() -> None:
    ladder = [
        dsr_2012(0.11, 750, -0.4, 6, trials=n, trial_variance=0.0016)
        for n in (1, 1.2, 2, 5, 10, 100, 10_000)
    ]
    assert ladder == sorted(ladder, reverse=True)


def test_effective_trials_of_copies_of_strangers_and_of_a_mixture() -> None:
    rng = np.random.default_rng(1)
    strangers = rng.normal(size=(4000, 20))
    copies = np.repeat(rng.normal(size=(500, 1)), 20, axis=1)
    assert n_effective(copies) == pytest.approx(1.0)
    assert n_effective(strangers) == pytest.approx(20, abs=0.5)
    mixture = rng.normal(size=(300, 7)) + rng.normal(size=(300, 1))
    rho = (np.corrcoef(mixture.T).sum() - 7) / 42
    assert n_effective(mixture) == pytest.approx(rho + (1 - rho) * 7)


def test_a_trial_that_never_traded_counts_as_independent() -> None:
    pair = np.column_stack([np.linspace(-1, 1, 50), np.linspace(-1, 1, 50), np.zeros(50)])
    assert n_effective(pair) == pytest.approx(1 / 3 + 2 / 3 * 3)
