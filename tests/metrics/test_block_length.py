"""The automatic block length, beside values that `arch.bootstrap.optimal_block_length` 7.2 gave
once.
"""

from __future__ import annotations

import numpy as np
import pytest

from mcl.metrics.block_length import optimal
from mcl.metrics.performance import Floats


def uniform(count: int, seed: int) -> Floats:
    """A linear congruential sequence, so that the series are the same whatever the version of
    numpy.
    """
    state, sample = seed, []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        sample.append(state / 2**31)
    return np.array(sample)


def normal(count: int, seed: int) -> Floats:
    first, second = uniform(2 * count, seed)[::2], uniform(2 * count, seed + 7)[1::2]
    return np.asarray(np.sqrt(-2 * np.log(first + 1e-12)) * np.cos(2 * np.pi * second))


def autoregressive(weight: float) -> Floats:
    noise, series = normal(500, 1), np.zeros(500)
    for i in range(1, 500):
        series[i] = weight * series[i - 1] + noise[i]
    return series


@pytest.mark.parametrize(
    ("series", "arch"),
    [
        (normal(500, 1), 0.9769098216763361),
        (autoregressive(0.3), 5.4767475233604435),
        (autoregressive(0.7), 12.927847131659345),
        (autoregressive(-0.4), 6.648023245676881),
        (np.convolve(normal(2004, 3), np.ones(5), "valid"), 18.750930379489915),
        (normal(60, 5), 2.6005100753221697),
    ],
    ids=["white", "ar 0.3", "ar 0.7", "ar -0.4", "moving sum", "short"],
)
def test_equal_to_arch(series: Floats, arch: float) -> None:
    assert optimal(series) == pytest.approx(arch, rel=1e-9)


def test_missing_sessions_are_left_out() -> None:
    series = autoregressive(0.7)
    gaps = np.insert(series, [0, 100, 100, 499], np.nan)
    assert optimal(gaps) == optimal(series)


def test_too_little_to_tell_is_one_session() -> None:
    assert optimal(np.arange(5.0)) == 1.0
    assert optimal(np.full(300, 0.25)) == 1.0
    assert optimal(np.full(30, np.nan)) == 1.0


def test_it_never_exceeds_a_third_of_the_sessions() -> None:
    assert optimal(np.cumsum(normal(90, 2))) <= 30
