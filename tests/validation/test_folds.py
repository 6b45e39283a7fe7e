"""Which sessions choose and which judge: the anchor of the combinatorial splits and the laws of all
of them.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base.errors import ConfigError
from mcl.metrics.folds import (
    Length,
    combinatorial,
    path_ids,
    paths,
    sessions_of_tested_positions,
    walk_forward,
    windows,
)


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


@given(
    n=st.integers(20, 300), folds=st.integers(1, 8), purge=st.integers(0, 1), rolling=st.booleans()
)
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


def test_a_position_that_reaches_into_the_test_is_trained_on_nowhere() -> None:
    """Sessions 4-7 are tested: positions 2-4 and 7-9 reach into it, 0-1 and 10-12 do not."""
    held = np.array([[0, 1], [2, 4], [5, 6], [7, 9], [10, 12]])
    tested = np.isin(np.arange(16), range(4, 8))
    assert np.flatnonzero(sessions_of_tested_positions(tested, held)).tolist() == [
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
    ]
    splits = combinatorial(16, 4, 1, positions=held)
    assert splits[1].train.tolist() == [0, 1, 10, 11, 12, 13, 14, 15]
    assert splits[1].test.tolist() == [4, 5, 6, 7]
    assert combinatorial(16, 4, 1, purge=1, positions=held)[1].train.tolist() == [
        0,
        1,
        10,
        11,
        12,
        13,
        14,
        15,
    ]
    assert combinatorial(16, 4, 1, positions=np.empty((0, 2), np.int64))[1].train.tolist() == [
        *range(4),
        *range(8, 16),
    ]


def test_the_embargo_follows_the_test_and_not_the_other_way_round() -> None:
    assert combinatorial(16, 4, 1, embargo=2)[1].train.tolist() == [
        0,
        1,
        2,
        3,
        10,
        11,
        12,
        13,
        14,
        15,
    ]
    assert combinatorial(16, 4, 1, purge=1, embargo=1)[1].train.tolist() == [
        0,
        1,
        2,
        10,
        11,
        12,
        13,
        14,
        15,
    ]
    with pytest.raises(ConfigError, match="more than 4 sessions a fold"):
        combinatorial(16, 4, 1, purge=1, embargo=2)


@given(
    n=st.integers(30, 120),
    folds=st.integers(2, 6),
    purge=st.integers(0, 1),
    embargo=st.integers(0, 2),
    data=st.data(),
)
def test_purging_by_position_against_its_definition(
    n: int, folds: int, purge: int, embargo: int, data: st.DataObject
) -> None:
    tests = data.draw(st.integers(1, folds - 1))
    if n // folds <= 2 * purge + embargo:
        return
    begins = data.draw(st.lists(st.integers(0, n - 1), max_size=12))
    held = np.array(
        [[first, min(n - 1, first + data.draw(st.integers(0, 20)))] for first in begins], np.int64
    ).reshape(-1, 2)
    for split in combinatorial(n, folds, tests, purge=purge, embargo=embargo, positions=held):
        test = set(split.test.tolist())
        near = {k for t in test for k in range(t - purge, t + purge + embargo + 1)}
        same = {
            k
            for first, last in held.tolist()
            if test & set(range(first, last + 1))
            for k in range(first, last + 1)
        }
        assert split.train.tolist() == [k for k in range(n) if k not in test | near | same]


def business_days(first: str, stop: str) -> np.ndarray:
    days = np.arange(first, stop, dtype="datetime64[D]")
    return days[np.is_busday(days)]


def test_windows_of_the_calendar() -> None:
    days = business_days("2022-01-03", "2024-02-16")
    splits = windows(days, train=Length.parsed("1 year"), test=Length.parsed("1 quarter"), purge=1)
    firsts = [str(days[s.test[0]]) for s in splits]
    assert firsts == ["2023-01-02", "2023-04-03", "2023-07-03", "2023-10-02", "2024-01-01"]
    # the last one is short
    assert [str(days[s.test[-1]]) for s in splits][-2:] == ["2023-12-29", "2024-02-15"]
    assert all(s.train[0] == 0 and s.train[-1] == s.test[0] - 2 for s in splits)
    assert (
        len(
            windows(
                days,
                train=Length.parsed("1 year"),
                test=Length.parsed("1 quarter"),
                short_last=False,
            )
        )
        == 4
    )
    rolling = windows(
        days, train=Length.parsed("6 months"), test=Length.parsed("2 months"), anchored=False
    )
    assert [str(days[s.train[0]]) for s in rolling][:3] == [
        "2022-01-03",
        "2022-03-01",
        "2022-05-02",
    ]
    assert [str(days[s.test[0]]) for s in rolling][:3] == ["2022-07-01", "2022-09-01", "2022-11-01"]
    yearly = windows(days, train=Length.parsed("12 months"), test=Length.parsed("1 year"))
    assert [str(days[s.test[0]])[:4] for s in yearly] == ["2023", "2024"]


def test_a_month_that_the_data_begin_within_is_no_whole_month() -> None:
    days = business_days("2023-01-16", "2023-08-01")
    splits = windows(
        days, train=Length.parsed("2 months"), test=Length.parsed("1 month"), short_last=False
    )
    assert [str(days[s.test[0]])[:7] for s in splits] == [
        "2023-04",
        "2023-05",
        "2023-06",
        "2023-07",
    ]
    quarters = windows(days, train=Length.parsed("2 months"), test=Length.parsed("1 quarter"))
    assert [str(days[s.test[0]])[:7] for s in quarters] == ["2023-04", "2023-07"]


def test_windows_of_sessions() -> None:
    days = business_days("2023-01-02", "2023-03-01")[:33]
    splits = windows(
        days, train=Length.parsed("10 sessions"), test=Length.parsed("7 sessions"), anchored=False
    )
    assert [(s.train[0], s.train[-1], s.test[0], s.test[-1]) for s in splits] == [
        (0, 9, 10, 16),
        (7, 16, 17, 23),
        (14, 23, 24, 30),
        (21, 30, 31, 32),
    ]
    assert (
        len(
            windows(
                days,
                train=Length.parsed("10 sessions"),
                test=Length.parsed("7 sessions"),
                short_last=False,
            )
        )
        == 3
    )


@given(
    start=st.integers(18_000, 19_000),
    length=st.integers(60, 900),
    train=st.integers(1, 14),
    test=st.sampled_from(["1 month", "2 months", "1 quarter", "1 year"]),
    purge=st.integers(0, 3),
    anchored=st.booleans(),
    short=st.booleans(),
)
def test_calendar_windows_never_look_ahead(
    start: int, length: int, train: int, test: str, purge: int, anchored: bool, short: bool
) -> None:
    days = np.arange(start, start + length).astype("datetime64[D]")
    days = days[np.is_busday(days)]
    try:
        splits = windows(
            days,
            train=Length(train, "month"),
            test=Length.parsed(test),
            purge=purge,
            anchored=anchored,
            short_last=short,
        )
    except ConfigError:
        return
    judged = np.concatenate([s.test for s in splits])
    assert np.array_equal(judged, np.arange(judged[0], judged[-1] + 1))
    assert not short or judged[-1] == len(days) - 1
    for split in splits:
        assert split.train[-1] + purge < split.test[0]
        assert days[split.test[0]].astype("datetime64[M]") != days[split.test[0] - 1].astype(
            "datetime64[M]"
        )
        if not anchored:
            assert len({str(day)[:7] for day in days[split.train]}) <= train


def test_lengths_that_do_not_fit_are_sentences() -> None:
    days = business_days("2023-01-02", "2023-06-01")
    with pytest.raises(ConfigError, match="hold no window of 1 year after 2 years"):
        windows(days, train=Length.parsed("2 years"), test=Length.parsed("1 year"))
    with pytest.raises(ConfigError, match="mix sessions with the calendar"):
        windows(days, train=Length.parsed("20 sessions"), test=Length.parsed("1 month"))
    with pytest.raises(ConfigError, match="'six months' is no length of a window"):
        Length.parsed("six months")
    assert str(Length.parsed("6 months")) == "6 months"
    assert str(Length.parsed("1 quarters")) == "1 quarter"
