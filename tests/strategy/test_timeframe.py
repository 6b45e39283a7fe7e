"""Coarser bars: the same as those that a data source makes, and never seen before they have
closed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import make_bars, random_bars

from mcl.base.errors import ConfigError
from mcl.base.instants import NS
from mcl.data.bars import COLUMNS, Bars
from mcl.data.continuous import resample
from mcl.market import calendar
from mcl.strategy.timeframe import higher


def thinned(seed: int, n: int = 600) -> Bars:
    """A walk in which a third of the minutes had no trade."""
    bars = random_bars(n, seed, rolls=2)
    rows = np.flatnonzero(np.random.default_rng(seed).random(n) > 0.33)
    return replace(bars, **{name: getattr(bars, name)[rows] for name in COLUMNS})


@pytest.mark.parametrize("interval", ["5m", "15m", "1h", "session"])
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 350))
@settings(max_examples=20)
def test_a_row_sees_the_same_when_the_data_end_there(interval: str, seed: int, cut: int) -> None:
    bars = thinned(seed)
    whole, part = higher(bars, interval), higher(bars.rows(0, cut), interval)
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(
            part.align(getattr(part, name)), whole.align(getattr(whole, name))[:cut]
        )


@pytest.mark.parametrize("interval", ["5m", "15m", "1h", "session"])
def test_a_bar_is_seen_as_soon_as_it_has_closed(interval: str) -> None:
    """Against a slow definition: of all rows known at a row, the last coarser bar whose end has
    come.
    """
    bars = random_bars(400, seed=2)
    seconds = {"5m": 300, "15m": 900, "1h": 3600, "session": 86_400}[interval]
    ends = np.minimum(
        -(-bars.close_time // (seconds * NS)) * seconds * NS,
        bars.close_time + bars.column("to_close_sec") * NS,
    )
    if interval == "session":
        ends = bars.close_time + bars.column("to_close_sec") * NS
    coarse = higher(bars, interval)
    closes = coarse.align(coarse.close)
    for row in range(len(bars)):
        over = [i for i in range(row + 1) if ends[i] <= bars.close_time[row] and ends[i] != ends[0]]
        np.testing.assert_equal(closes[row], bars.adjusted["close"][over[-1]] if over else np.nan)


def test_the_values_are_those_of_resampled_bars() -> None:
    bars = random_bars(1_000, seed=4)
    first, last = (calendar.from_day(int(day)) for day in bars.session[[0, -1]])
    days = calendar.sessions(first, last + timedelta(days=1))
    close_time = bars.close_time + 60 * NS  # the first bar of a walk closes on the edge
    inside = np.isin(bars.session, days.day)
    bars = replace(bars, close_time=close_time, to_close_sec=bars.to_close_sec + 3600).rows(
        0, int(np.argmin(inside)) or len(bars)
    )
    coarse, ours = resample(bars, "15m", days), higher(bars, "15m")
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(ours, name), coarse.adjusted[name][1 : 1 + len(ours)])
    assert len(ours) > 10
    np.testing.assert_array_equal(ours.volume, coarse.volume[1 : 1 + len(ours)])


def test_a_print_after_the_close_does_not_change_a_bar_that_was_known() -> None:
    prices = np.array([100, 101, 102, 900, 103, 104], np.float64)
    whole: dict[str, Any] = {
        "session": 19_726 + np.array([0, 1, 1, 1, 2, 2]),
        "to_close_sec": np.array([0, 60, 0, 0, 60, 0]),
    }
    late = make_bars(
        dict.fromkeys(("open", "high", "low", "close"), prices), bars_per_session=3, **whole
    )
    coarse = higher(late, "session")
    np.testing.assert_array_equal(coarse.high[:1], [1.02])
    np.testing.assert_array_equal(
        coarse.align(coarse.close), [np.nan, np.nan, 1.02, 1.02, 1.02, 1.04]
    )


@pytest.mark.parametrize("interval", ["1m", "session"])
def test_the_own_interval_is_the_bars_themselves(interval: str) -> None:
    bars = replace(random_bars(40, seed=3), interval=interval)
    if interval == "session":  # one bar a day
        days = np.arange(40, dtype=np.int32)
        bars = replace(bars, session=days, to_close_sec=np.zeros(40, np.int64))
    own = higher(bars, interval)
    assert len(own) == 39  # the first of the data may lack its beginning
    np.testing.assert_array_equal(own.known_row, np.arange(1, 40))
    aligned = own.align(own.close)
    assert np.isnan(aligned[0])
    np.testing.assert_array_equal(aligned[1:], bars.adjusted["close"][1:])


@pytest.mark.parametrize(
    ("base", "interval", "sentence"),
    [
        ("1h", "30m", "30m bars cannot be made from 1h bars"),
        ("1h", "5m", "5m bars cannot be made from 1h bars"),
        ("session", "1h", "1h bars cannot be made from session bars"),
        ("1m", "2h", "there is no interval '2h'; valid: 1s, 5s, 10s, 15s, 30s, 1m, 5m, 15m, 30m"),
    ],
)
def test_an_interval_that_is_not_coarser_is_refused(
    base: str, interval: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        higher(replace(random_bars(10), interval=base), interval)
