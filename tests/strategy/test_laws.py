"""The exam that every registered strategy sits: causal, finite, shifted, bounded. A new strategy is
examined by being registered.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import numpy as np
import pytest
from exam import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import made_quotes, make_bars, random_bars

from mcl.data.bars import Bars
from mcl.strategy import Strategy, build, registry


def small(name: str) -> Strategy:
    return build({"name": name} | SMALL.get(name, {}))


def walk(seed: int, n: int = 700) -> Bars:
    return random_bars(n, seed, rolls=3, quotes=True)


every_strategy = pytest.mark.parametrize("name", sorted(registry()))
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15)


@every_strategy
@given(seed=seeds, cut=st.integers(1, 700))
@few
def test_causal_later_bars_never_change_an_earlier_signal(name: str, seed: int, cut: int) -> None:
    bars, strategy = walk(seed), small(name)
    np.testing.assert_array_equal(strategy.signal(bars)[:cut], strategy.signal(bars.rows(0, cut)))


@every_strategy
@given(seed=seeds, k=st.integers(1, 100))
@few
def test_finite_only_the_last_memory_bars_matter(name: str, seed: int, k: int) -> None:
    bars, strategy = walk(seed), small(name)
    assert strategy.memory + k <= len(bars), "give this strategy smaller parameters in exam.py"
    late = bars.rows(len(bars) - strategy.memory - k, len(bars))
    np.testing.assert_allclose(
        strategy.signal(bars)[-k:], strategy.signal(late)[-k:], rtol=0, atol=1e-9
    )


@every_strategy
@given(seed=seeds, ticks=st.integers(-9_000, 9_000))
@few
def test_shifted_a_constant_added_to_all_prices_changes_nothing(
    name: str, seed: int, ticks: int
) -> None:
    bars, strategy = walk(seed), small(name)
    assert not strategy.uses_levels
    moved: dict[str, Any] = {
        f"{name}_ticks": column + np.int32(ticks) for name, column in bars.ticks.items()
    }
    np.testing.assert_allclose(
        strategy.signal(bars), strategy.signal(replace(bars, **moved)), rtol=0, atol=1e-9
    )


@every_strategy
@given(seed=seeds, n=st.integers(1, 60))
@few
def test_bounded_one_value_per_bar_and_nan_only_while_warming_up(
    name: str, seed: int, n: int
) -> None:
    strategy = small(name)
    signal = strategy.signal(walk(seed, n))
    defined = ~np.isnan(signal)
    assert signal.shape == (n,)
    assert signal.dtype == np.float64
    assert (np.abs(signal[defined]) <= 1).all()
    assert (np.diff(defined.astype(int)) >= 0).all()


@every_strategy
def test_a_market_that_does_not_move_gives_the_same_signal_whenever_we_start(name: str) -> None:
    """Two equal means differ by rounding noise; a side taken from noise would depend on where the
    data begin.
    """
    prices = np.concatenate([np.linspace(7_000, 7_300, 50).round(), np.full(650, 7_300)])
    ticks = dict.fromkeys(("open", "high", "low", "close"), prices)
    bars = make_bars(ticks, quote_columns=made_quotes(prices))
    strategy = small(name)
    np.testing.assert_allclose(
        strategy.signal(bars)[-50:], strategy.signal(bars.rows(400, 700))[-50:], rtol=0, atol=1e-9
    )


@every_strategy
def test_the_defaults_build_and_say_what_they_need(name: str) -> None:
    strategy: Any = build({"name": name})
    assert strategy.name == name
    assert strategy.memory >= 1
    assert not [
        f.name for f in fields(strategy) if f.default is MISSING and f.default_factory is MISSING
    ]
