"""Which sessions choose and which judge: the anchor of the combinatorial splits and the laws of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.errors import ConfigError
from mcl.metrics.folds import combinatorial, path_ids, paths, walk_forward


def test_the_anchor() -> None:
    splits = combinatorial(16, 4, 2, purge=1)
    assert [s.train.tolist() for s in splits] == [
        [*range(9, 16)],
        [5, 6, 13, 14, 15],
        [*range(5, 11)],
        [0, 1, 2, 13, 14, 15],
        [0, 1, 2, 9, 10],
        [*range(7)],
    ]
    assert path_ids(4, 2).tolist() == [[0, 0], [1, 0], [2, 0], [1, 1], [2, 1], [2, 2]]


@given(n=st.integers(30, 200), folds=st.integers(2, 7), purge=st.integers(0, 2), data=st.data())
def test_combinatorial_laws(n: int, folds: int, purge: int, data: st.DataObject) -> None:
    tests = data.draw(st.integers(1, folds - 1))
    if n // folds <= 2 * purge:
        return
    splits = combinatorial(n, folds, tests, purge=purge)
    tested = np.zeros(n, int)
    for split in splits:
        apart = np.abs(split.train[:, None] - split.test[None, :]).min() if len(split.train) else n
        assert apart > purge
        tested[split.test] += 1
    assert (tested == paths(folds, tests)).all()
    ids = path_ids(folds, tests)
    assert sorted(np.unique(ids)) == list(range(paths(folds, tests)))


@given(n=st.integers(20, 300), folds=st.integers(1, 8), purge=st.integers(0, 1), rolling=st.booleans())
def test_walking_forward_never_looks_ahead(n: int, folds: int, purge: int, rolling: bool) -> None:
    if n // (folds + 1) <= purge:
        return
    splits = walk_forward(n, folds, purge=purge, train_folds=2 if rolling else None)
    judged = np.concatenate([s.test for s in splits])
    assert np.array_equal(judged, np.arange(judged[0], n))
    for split in splits:
        assert len(split.train)
        assert split.train[-1] + purge < split.test[0]
        assert rolling or split.train[0] == 0


def test_too_few_sessions_are_a_sentence() -> None:
    with pytest.raises(ConfigError, match="5 sessions do not make 6 folds"):
        walk_forward(5, 6)
    with pytest.raises(ConfigError, match="need 1 <= tests < folds"):
        combinatorial(100, 4, 4)
