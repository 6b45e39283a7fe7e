"""The engine against a second simulator that was written from the page of assumptions alone: the
same fills, targets, blocks and money.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mcl.engine.result import FILL_REASONS

from .flows import Flow, anything, hostile, limited, plain
from .reference import Slow


@given(hostile())
@settings(max_examples=150)
def test_whatever_is_asked_the_slow_simulator_answers_the_same(flow: Flow) -> None:
    agree(flow)


@given(plain() | limited() | anything())
@settings(max_examples=100)
def test_the_shorter_ways_agree_with_it_too(flow: Flow) -> None:
    agree(flow)


def agree(flow: Flow) -> None:
    fast, slow = flow.run(), Slow(flow)
    assert list(map(FILL_REASONS.__getitem__, fast.fills["reason"])) == [
        fill[4] for fill in slow.fills
    ]
    for column, name in enumerate(("bar", "quantity", "price_ticks", "slippage_ticks")):
        assert fast.fills[name].tolist() == pytest.approx(
            [fill[column] for fill in slow.fills], rel=0, abs=1e-9
        )
    for name in ("position", "target", "block"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), name)
    np.testing.assert_allclose(fast.equity, slow.equity, rtol=0, atol=1e-6)
