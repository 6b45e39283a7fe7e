"""Probability of backtest overfitting by combinatorially symmetric cross-validation (CSCV).

Source: Bailey, Borwein, López de Prado, Zhu (2017) "The Probability of Backtest Overfitting".
Sharpe ratios of every combination of blocks come from block sums of returns and of their squares,
so that 12,870 combinations of 16 blocks cost one small matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from mcl.metrics.performance import SMALLEST, Floats

FEWEST_ROWS_PER_BLOCK = 2


@dataclass(frozen=True)
class Overfitting:
    """Hold one element per combination of blocks, in lexicographic order.

    logits      ln(rank / (N + 1 - rank)) of the in-sample best, out of sample. Rank 1 is the worst,
                N the best of N columns
    in_sample   its Sharpe ratio per observation on the chosen half, `out_sample` on the other half
    columns     number of columns that vary and take part
    """

    logits: Floats
    in_sample: Floats
    out_sample: Floats
    columns: int

    @property
    def pbo(self) -> float:
        """Share of combinations in which the in-sample best is at or below the median out of
        sample. Without skill about one half.
        """
        return float(np.mean(self.logits <= 0)) if len(self.logits) else math.nan

    @property
    def loss_frac(self) -> float:
        """Probability that the selected configuration loses money out of sample."""
        return float(np.mean(self.out_sample < 0)) if len(self.out_sample) else math.nan

    @property
    def slope(self) -> float:
        """Of the regression of out-of-sample on in-sample Sharpe ratios: negative means that more
        fit performs worse.
        """
        if len(self.in_sample) < 2 or np.ptp(self.in_sample) == 0:
            return math.nan
        return float(np.polyfit(self.in_sample, self.out_sample, 1)[0])


def overfitting(returns: npt.ArrayLike, blocks: int = 16) -> Overfitting:
    """CSCV of a (sessions × trials) matrix of returns over the same sessions, in `blocks` (even)
    equal contiguous blocks.

    Rows that do not fill the blocks are dropped at the end. Constant columns have no Sharpe ratio
    and are left out; a column that is constant within one half has ratio 0 there. Equal columns
    share their average rank. Never demean the columns: PBO would be 1 by construction. Below two
    columns, or two rows a block, the result is empty and its PBO NaN.
    """
    if blocks < 2 or blocks % 2:
        raise ValueError(f"blocks={blocks}; CSCV needs an even number of blocks, two at least")
    matrix = np.asarray(returns, dtype=np.float64)
    matrix = matrix[: len(matrix) - len(matrix) % blocks]
    moving = matrix[:, np.ptp(matrix, axis=0) > SMALLEST] if len(matrix) else matrix[:, :0]
    size = len(matrix) // blocks
    if moving.shape[1] < 2 or size < FEWEST_ROWS_PER_BLOCK:
        none = np.empty(0)
        return Overfitting(none, none, none, moving.shape[1])
    distinct, place = np.unique(moving, axis=1, return_inverse=True)
    cut = distinct.reshape(blocks, size, -1)
    first, second = cut.sum(axis=1), (cut**2).sum(axis=1)
    chosen = choices(blocks)
    inside = _ratios(chosen @ first, chosen @ second, size * blocks // 2)[:, place.ravel()]
    outside = _ratios((1 - chosen) @ first, (1 - chosen) @ second, size * blocks // 2)[
        :, place.ravel()
    ]
    rows, best = np.arange(len(chosen)), inside.argmax(axis=1)
    selected = outside[rows, best]
    below = (outside < selected[:, None]).sum(axis=1)
    ties = (outside == selected[:, None]).sum(axis=1)
    rank = below + (ties + 1) / 2
    return Overfitting(
        np.log(rank / (outside.shape[1] + 1 - rank)), inside[rows, best], selected, outside.shape[1]
    )


def choices(blocks: int) -> Floats:
    """The 0/1 matrix of all C(S, S/2) halves, one row per half, lexicographic."""
    rows = np.array(list(combinations(range(blocks), blocks // 2)))
    chosen = np.zeros((len(rows), blocks))
    np.put_along_axis(chosen, rows, 1.0, axis=1)
    return chosen


def _ratios(sums: Floats, squares: Floats, n: int) -> Floats:
    variance = (squares - sums**2 / n) / (n - 1)
    # what is left of a cancelled constant
    defined = variance > np.maximum(squares, SMALLEST) * 1e-13
    return np.where(defined, sums / n / np.sqrt(np.where(defined, variance, 1.0)), 0.0)
