"""Down-sampling keeps what matters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcl.report.downsampling import broken, extremes
from mcl.report.range_coding import opened, stream

series = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=300).map(np.array)


@given(series, st.integers(1, 60))
def test_extremes_survive_in_time_order(values: np.ndarray, buckets: int) -> None:
    rows, kept = extremes(values, values + 0.0, buckets)
    assert kept.min() == values.min()
    assert kept.max() == values.max()
    assert (np.diff(rows) >= 0).all()
    assert np.array_equal(kept, values[rows])
    assert len(rows) <= 2 * (buckets + 1)


@given(series, st.integers(1, 60))
def test_every_span_keeps_its_own_lowest_and_highest(low: np.ndarray, buckets: int) -> None:
    high = low + np.arange(len(low)) % 7.0
    rows, kept = extremes(low, high, buckets)
    width = -(-len(low) // buckets)
    for start in range(0, len(low), width):
        inside = kept[(rows >= start) & (rows < start + width)]
        assert inside.min() == low[start : start + width].min()
        assert inside.max() == high[start : start + width].max()


def test_a_short_line_is_drawn_whole() -> None:
    values = np.arange(10.0)
    assert np.array_equal(extremes(values, values, 5)[1], values)


def test_a_line_breaks_between_contracts() -> None:
    rows, values = broken(np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1]))
    assert rows.tolist() == [0, 1, 2, 2, 3]
    assert np.array_equal(values, [1, 2, np.nan, 3, 4], equal_nan=True)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50))
def test_streams_open_to_what_was_written(numbers: list[int]) -> None:
    assert opened(stream(np.array(numbers, np.int64))).tolist() == numbers
