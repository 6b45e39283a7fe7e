"""The protective legs of a position, by hand: what stands, what fills, and how a trailing stop
moves.
"""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcl.engine.account import FLAT, holding_after_fill, holding_at_close, profit_level, stop_level
from mcl.engine.decision import Bracket
from mcl.engine.legs import (
    NO_LEGS,
    NOTHING,
    STOP,
    TAKE_PROFIT,
    corridor,
    shifted,
    touched,
    trailed,
    trails,
)

ALL = Bracket(stop_ticks=10.0, take_profit_ticks=30.0, trail_ticks=6.0)
NONE = Bracket(stop_ticks=math.nan, take_profit_ticks=math.nan, trail_ticks=math.nan)


def test_a_stop_a_target_and_a_trailing_stop_are_legs_of_their_own() -> None:
    """Bought 2 at 100: the fixed stop stays at 90, the other one goes from 94 with the closes."""
    holding = holding_after_fill(FLAT, 2, 100.0, ALL)
    assert [leg.level for leg in holding.legs.stops] == [90.0, 94.0]
    assert [leg.level for leg in holding.legs.take_profits] == [130.0]
    assert (stop_level(holding), profit_level(holding)) == (94.0, 130.0)
    for close, reached in ((99.0, 94.0), (104.0, 98.0), (101.0, 98.0), (120.0, 114.0)):
        holding = holding_at_close(holding, close)
        assert [leg.level for leg in holding.legs.stops] == [90.0, reached]
    # sold 1: what is left keeps all three
    assert repr(holding_after_fill(holding, -1, 121.0, NONE).legs) == repr(holding.legs)
    # bought 1 at 118, average 106: the new trail would begin at 100, and has reached 114
    more = holding_after_fill(holding, 1, 118.0, ALL)
    assert [leg.level for leg in more.legs.stops] == [96.0, 114.0]
    # sold 3: nothing is left
    assert repr(holding_after_fill(more, -3, 118.0, NONE).legs) == repr(NO_LEGS)
    # turned around: nothing of the other side is kept
    short = holding_after_fill(more, -4, 118.0, ALL)
    assert [leg.level for leg in short.legs.stops] == [128.0, 124.0]


def test_the_nearer_stop_is_the_one_that_fills() -> None:
    legs = holding_after_fill(FLAT, -1, 100.0, ALL._replace(stop_ticks=4.0)).legs
    bar: dict[str, Any] = {"opening": 100.0, "low": 99.0, "close": 100.0, "within": False}
    assert touched(legs, -1, high=103.0, **bar)[0] == NOTHING
    assert touched(legs, -1, high=104.0, **bar) == (STOP, 104.0)
    assert touched(legs, -1, high=108.0, **bar | {"opening": 107.0}) == (STOP, 107.0)
    assert touched(legs, -1, high=100.0, **bar | {"low": 70.0}) == (TAKE_PROFIT, 70.0)
    assert corridor(legs, -1) == (70.0, 104.0)
    assert corridor(shifted(legs, 5.0), -1) == (75.0, 109.0)


def test_only_a_leg_with_a_distance_trails() -> None:
    assert trails(holding_after_fill(FLAT, 1, 100.0, ALL).legs)
    fixed = holding_after_fill(FLAT, 1, 100.0, ALL._replace(trail_ticks=math.nan)).legs
    assert not trails(fixed)
    assert repr(trailed(fixed, 1, 200.0)) == repr(fixed)
    assert repr(trailed(NO_LEGS, 1, 200.0)) == repr(NO_LEGS)


@given(
    st.sampled_from([-1, 1]),
    st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    st.integers(1, 40),
    st.sampled_from([math.nan, 5.0, 25.0]),
)
def test_a_stop_never_moves_back_and_is_never_further_than_the_trail(
    side: int, closes: list[int], trail: int, stop: float
) -> None:
    bracket = Bracket(stop_ticks=stop, take_profit_ticks=math.nan, trail_ticks=float(trail))
    holding = holding_after_fill(FLAT, side, 0.0, bracket)
    best = 0
    for close in closes:
        before = stop_level(holding)
        holding = holding_at_close(holding, float(close))
        best = max(best, side * close)
        assert side * (stop_level(holding) - before) >= 0
        fixed = -math.inf if math.isnan(stop) else -stop
        assert side * stop_level(holding) == max(best - trail, fixed)
