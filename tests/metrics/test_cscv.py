"""PBO against the definition in the paper, computed the slow way."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from mcl.metrics.cscv import overfitting

ROWS = """.01 .02 -.01 .00 / -.02 .01 .03 .01 / .03 -.01 .00 .02 / .00 .02 .01 -.01 /
.01 -.03 .02 .00 / .02 .01 -.02 .03 / -.01 .00 .01 .02 / .01 .02 .00 -.02 /
.00 -.01 .03 .01 / .02 .00 -.01 .01 / -.01 .03 .01 .00 / .01 .01 -.02 .02"""
ANCHOR = np.array([[float(x) for x in row.split()] for row in ROWS.split("/")])


def by_definition(returns: np.ndarray, blocks: int) -> list[float]:
    size = len(returns) // blocks
    cut = [returns[i * size : (i + 1) * size] for i in range(blocks)]
    logits = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([cut[i] for i in chosen])
        outside = np.concatenate([cut[i] for i in range(blocks) if i not in chosen])
        first, second = (half.mean(axis=0) / half.std(axis=0, ddof=1) for half in (inside, outside))
        rank = rankdata(second)[np.argmax(first)]
        omega = rank / (returns.shape[1] + 1)
        logits.append(math.log(omega / (1 - omega)))
    return logits


def test_the_anchor() -> None:
    overfit = overfitting(ANCHOR, 4)
    assert overfit.logits == pytest.approx(
        [0.405465, -1.386294, -0.405465, -1.386294, -1.386294, -1.386294], abs=1e-6
    )
    assert overfit.pbo == pytest.approx(5 / 6)


@pytest.mark.parametrize(("rows", "columns", "blocks"), [(60, 7, 6), (83, 12, 8), (40, 2, 10)])
def test_block_sums_equal_the_definition(rows: int, columns: int, blocks: int) -> None:
    returns = np.random.default_rng(rows).standard_t(4, (rows, columns)) * 0.01
    assert overfitting(returns, blocks).logits == pytest.approx(by_definition(returns, blocks))


def test_a_median_rank_counts_as_overfit() -> None:
    returns = np.random.default_rng(2).normal(size=(64, 9))
    overfit = overfitting(returns, 8)
    middle = overfit.logits == 0.0
    assert middle.any()  # nine columns: the fifth rank gives exactly ln(1)
    assert overfit.pbo == pytest.approx(np.mean(np.array(by_definition(returns, 8)) <= 1e-12))


def test_twins_share_their_rank() -> None:
    returns = np.random.default_rng(3).normal(size=(64, 3))
    overfit = overfitting(np.column_stack([returns, returns, returns]), 4)
    ranks = 10 / (1 + np.exp(-overfit.logits))
    assert np.allclose(np.round(ranks), ranks)
    assert {round(r) for r in ranks} <= {2, 5, 8}  # the averages of 1-3, 4-6 and 7-9


def test_a_real_edge_is_not_overfit_and_noise_is_a_coin() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(512, 40))
    edge = noise.copy()
    edge[:, 7] += 0.4
    assert overfitting(edge).pbo < 0.01
    coins = [overfitting(rng.normal(size=(256, 20)), 8).pbo for _ in range(30)]
    assert 0.35 < np.mean(coins) < 0.65


def test_what_has_no_answer() -> None:
    assert math.isnan(overfitting(np.ones((100, 5))).pbo)
    assert math.isnan(overfitting(np.random.default_rng(1).normal(size=(100, 1))).pbo)
    assert math.isnan(overfitting(np.random.default_rng(1).normal(size=(20, 5))).pbo)
    assert math.isnan(overfitting(np.empty((0, 3))).pbo)
    dead = np.column_stack([ANCHOR, np.zeros(12), np.full(12, 0.1)])
    assert overfitting(dead, 4).logits == pytest.approx(overfitting(ANCHOR, 4).logits)
    with pytest.raises(ValueError, match="even number of blocks"):
        overfitting(ANCHOR, 5)


def test_sixteen_blocks_of_a_hundred_trials_are_all_splits() -> None:
    returns = np.random.default_rng(6).normal(size=(1024, 100))
    assert len(overfitting(returns).logits) == math.comb(16, 8)
