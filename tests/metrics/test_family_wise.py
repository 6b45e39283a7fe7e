"""The p-value of a chosen run given all that it was chosen from: its size, its power, gaps, ruined
trials, looks, the joined test.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcl.metrics.multiple import after_looks, family_wise, joined
from mcl.metrics.performance import NORMAL, Floats
from mcl.metrics.power import power, smallest_sharpe


def p_of_best(returns: Floats, replicates: int = 999) -> float:
    best = int(np.argmax(returns.mean(axis=0) / returns.std(axis=0)))
    return family_wise(returns[:, best], returns, replicates=replicates).p


def test_the_best_of_many_without_an_edge_keeps_the_level() -> None:
    """Correlated trials, fat tails and volatility in clusters; 5 % of 240 is 12, give or take three
    deviations of 3.4.
    """
    rng = np.random.default_rng(1)
    p = []
    for _ in range(240):
        loud = np.exp(
            0.4 * np.convolve(rng.normal(size=269), np.full(20, 1 / math.sqrt(20)), "valid")
        )
        shared, own = rng.standard_t(4, (250, 1)), rng.standard_t(4, (250, 30))
        p.append(p_of_best(loud[:, None] * (shared + own), 499))
    assert 2 <= np.count_nonzero(np.array(p) <= 0.05) <= 22
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_serial_dependence_is_kept_in() -> None:
    """Returns that trend by themselves: resampling single sessions would call one in six of them an
    edge.
    """
    rng = np.random.default_rng(2)
    p = []
    for _ in range(200):
        noise = rng.normal(size=(505, 5))
        p.append(p_of_best(noise[5:] + 0.6 * noise[4:-1] + 0.4 * noise[3:-2], 499))
    assert np.count_nonzero(np.array(p) <= 0.05) <= 22


def test_copies_of_a_trial_cost_nothing_and_new_ideas_do() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(0.12, 1.0, (400, 1))
    alone = family_wise(one[:, 0], one).p
    copies = family_wise(one[:, 0], np.repeat(one, 60, axis=1)).p
    strangers = family_wise(one[:, 0], rng.normal(size=(400, 60))).p
    assert copies == alone
    assert strangers > 5 * alone


def test_ruined_trials_do_not_dilute_the_others() -> None:
    rng = np.random.default_rng(4)
    one = rng.normal(0.14, 1.0, 500)
    ruined = rng.normal(-0.5, 1.0, (500, 300))
    assert family_wise(one, ruined).p == pytest.approx(
        family_wise(one, np.empty((500, 0))).p, abs=0.002
    )
    assert family_wise(one, np.abs(ruined[:, :1]) * 0 + rng.normal(size=(500, 300))).p > 0.1


def test_missing_sessions_and_useless_trials() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0.0, 0.01, (300, 20))
    returns[:, 0] += 0.002
    whole = family_wise(returns[:, 0], returns).p
    gaps = returns.copy()
    gaps[:40, 1:8] = np.nan  # another window
    gaps[150:, 12] = np.nan
    useless = np.column_stack(
        [np.full(300, np.nan), np.zeros(300), np.where(np.arange(300) < 5, 0.1, np.nan)]
    )
    test = family_wise(gaps[:, 0], np.column_stack([gaps, useless]))
    assert test.p == pytest.approx(whole, abs=0.01)
    assert test.trials == 24
    late = np.concatenate([np.full(100, np.nan), returns[:, 0]])
    assert family_wise(late, np.full((400, 1), np.nan)).statistic == pytest.approx(
        family_wise(returns[:, 0], np.empty((300, 0))).statistic
    )


def test_trials_that_were_given_up_count() -> None:
    rng = np.random.default_rng(6)
    returns = rng.normal(size=(300, 20))
    returns[:, 0] += 0.15
    fewer, more = (
        family_wise(returns[:, 0], returns[:, 1:]),
        family_wise(returns[:, 0], returns[:, 1:], given_up=20),
    )
    assert more.trials == 40
    assert more.p == pytest.approx(1 - (1 - fewer.p) ** 2)


@pytest.mark.parametrize(
    "chosen", [np.full(50, np.nan), np.zeros(50), np.where(np.arange(50) < 9, 0.1, np.nan)]
)
def test_what_cannot_be_judged_is_nan(chosen: Floats) -> None:
    assert math.isnan(family_wise(chosen, np.random.default_rng(7).normal(size=(50, 3))).p)
    assert math.isnan(joined([(math.nan, 100), (0.01, 20)]))
    assert math.isnan(joined([(0.01, 0)]))
    assert math.isnan(family_wise(np.empty(0), np.empty((0, 0))).p)


def test_scale_does_not_matter() -> None:
    rng = np.random.default_rng(8)
    returns = rng.normal(0.05, 1.0, (300, 12))
    assert (
        p_of_best(returns * 1e-6)
        == p_of_best(returns)
        == p_of_best(returns * np.logspace(-4, 4, 12))
    )


def test_looks_and_joined_p_values() -> None:
    assert after_looks(0.03, 1) == pytest.approx(0.03)
    assert after_looks(0.03, 4) == pytest.approx(1 - 0.97**4)
    assert joined([(0.05, 500)]) == pytest.approx(0.05)
    z = (math.sqrt(500) * NORMAL.inv_cdf(0.98) + math.sqrt(126) * NORMAL.inv_cdf(0.7)) / math.sqrt(
        626
    )
    assert joined([(0.02, 500), (0.3, 126)]) == pytest.approx(1 - NORMAL.cdf(z))
    assert (
        0 < joined([(0.0, 500), (0.0, 126)]) < 1e-3 < 0.999 < joined([(1.0, 500), (1.0, 126)]) < 1
    )


# -------------------------------------------------------------------------------------------- power


def test_the_power_of_one_trial_is_that_of_the_textbook() -> None:
    expected = NORMAL.cdf(1.5 * math.sqrt(626 / 252) - NORMAL.inv_cdf(0.95))
    assert power(1.5, 500, 126, 1, 0.05) == pytest.approx(expected, abs=0.002)
    assert power(0.0, 500, 126, 1, 0.05) == pytest.approx(0.05, abs=0.002)
    assert power(1.5, 500, 0, 1, 0.05) == pytest.approx(
        NORMAL.cdf(1.5 * math.sqrt(500 / 252) - NORMAL.inv_cdf(0.95)), abs=0.01
    )


def test_more_trials_need_more_and_correlated_ones_less() -> None:
    alone, few, many = (smallest_sharpe(0.8, 500, 126, m, 0.05) for m in (1, 10, 1000))
    assert alone < few < many
    assert alone < smallest_sharpe(0.8, 500, 126, 1000, 0.05, correlation=0.7) < many
    assert smallest_sharpe(0.5, 500, 126, 100, 0.05) < smallest_sharpe(0.8, 500, 126, 100, 0.05)
    assert smallest_sharpe(0.8, 5000, 1260, 100, 0.05) < smallest_sharpe(0.8, 500, 126, 100, 0.05)
    assert math.isnan(smallest_sharpe(0.8, 0, 0, 100, 0.05))


@pytest.mark.parametrize(("wanted", "correlation"), [(0.5, 0.0), (0.8, 0.0), (0.8, 0.6)])
def test_the_smallest_sharpe_is_shown_as_often_as_it_says(
    wanted: float, correlation: float
) -> None:
    """200 simulated searches of 40 trials, judged by the very test of the gates; three deviations
    are 0.11.
    """
    sharpe = smallest_sharpe(wanted, 300, 80, 40, 0.05, correlation)
    rng = np.random.default_rng(9)
    passed = 0
    for _ in range(200):
        returns = math.sqrt(correlation) * rng.normal(size=(380, 1)) + math.sqrt(
            1 - correlation
        ) * rng.normal(size=(380, 40))
        returns[:, 0] += sharpe / math.sqrt(252)
        searched, unseen = returns[:300], returns[300:]
        best = int((searched.mean(axis=0) / searched.std(axis=0)).argmax())
        tests = (
            family_wise(searched[:, best], searched, replicates=999),
            family_wise(unseen[:, best], np.empty((80, 0)), replicates=999),
        )
        passed += joined([(tests[0].p, 300), (tests[1].p, 80)]) <= 0.05
    assert passed / 200 == pytest.approx(wanted, abs=0.11)
