"""Which sessions to choose on and which to judge on. Pure index arithmetic on sessions 0 … n-1.

Sources: López de Prado (2018) "Advances in Financial Machine Learning", chapters 7 (purging) and 12 (combinatorial purged
cross-validation, CPCV).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from mcl.errors import ConfigError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """`train` never overlaps `test`, nor the `purge` sessions beside it."""

    train: Rows
    test: Rows


def walk_forward(n: int, folds: int, *, purge: int = 0, train_folds: int | None = None) -> list[Split]:
    """Sessions in `folds` + 1 equal parts; part k is judged with a choice made on the parts before it, less `purge` sessions.

    Anchored when `train_folds` is None: the choice sees everything before. Rolling: only the last `train_folds` parts. Sessions that
    do not fill the parts go to the first one, so that the tests end with the data. Train always lies before test.
    """
    size = n // (folds + 1)
    if size < 1 or size <= purge:
        raise ConfigError(
            f"{n} sessions do not make {folds} folds with {purge} purged sessions: need at least {(folds + 1) * (purge + 1)}",
            f"at most {max(1, n // (purge + 1) - 1)} folds",
        )
    splits = []
    for k in range(folds):
        start = n - (folds - k) * size
        first = 0 if train_folds is None else max(0, start - train_folds * size)
        splits.append(Split(np.arange(first, start - purge), np.arange(start, start + size)))
    return splits


def combinatorial(n: int, folds: int, tests: int, *, purge: int = 0) -> list[Split]:
    """CPCV: every choice of `tests` of `folds` contiguous parts is judged once; C(folds, tests) splits in lexicographic order.

    `purge` sessions on both sides of each contiguous test block are used for nothing. Sessions that do not fill the parts go to the
    last one.
    """
    size = n // folds
    if not 1 <= tests < folds or size <= 2 * purge:
        raise ConfigError(
            f"{n} sessions do not make {folds} folds of which {tests} are tested, with {purge} purged: need 1 <= tests < folds"
            f" and more than {2 * purge} sessions a fold",
            "fewer validate.cpcv_folds",
        )
    part = np.minimum(np.arange(n) // size, folds - 1)
    splits = []
    for chosen in combinations(range(folds), tests):
        tested = np.isin(part, chosen)
        near = tested.copy()
        for k in range(1, purge + 1):
            near[k:] |= tested[:-k]
            near[:-k] |= tested[k:]
        splits.append(Split(np.flatnonzero(~near), np.flatnonzero(tested)))
    return splits


def path_ids(folds: int, tests: int) -> Rows:
    """(splits × tests) number of the path that each tested part belongs to: how many earlier splits test the same part."""
    seen = [0] * folds
    ids = np.empty((comb(folds, tests), tests), np.int64)
    for row, chosen in enumerate(combinations(range(folds), tests)):
        for column, fold in enumerate(chosen):
            ids[row, column] = seen[fold]
            seen[fold] += 1
    return ids


def paths(folds: int, tests: int) -> int:
    """How many complete paths there are; each covers every session once, each session is tested so often."""
    return comb(folds - 1, tests - 1)
