"""Order flow: the two sides are mirror images, the size of the market does not matter, and what is
not known is flat.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import make_bars, random_bars

from mcl import composition
from mcl.data.bars import Bars
from mcl.data.quotes import ABSENT, BarQuotes
from mcl.engine.backtest import backtest
from mcl.strategy import build, exposed
from mcl.validation import lookahead

few = settings(max_examples=20)
weights = st.sampled_from([0.0, 0.25, 1.0])


def signal(bars: Bars, **params: Any) -> Any:
    return build({"name": "order_flow", "bars": 20, "threshold": 0.03} | params).signal(bars)


def changed(bars: Bars, **arrays: Any) -> Bars:
    return replace(bars, quote_columns=replace(bars.quotes, **arrays))


@few
@given(seed=st.integers(0, 2**32 - 1), weight=weights)
def test_the_mirrored_market_gives_the_opposite_signal(seed: int, weight: float) -> None:
    """Buyers for sellers, bids for asks."""
    bars = random_bars(600, seed, rolls=2, quotes=True)
    quotes = bars.quotes
    mirrored = changed(
        bars,
        bid_sizes=quotes.ask_sizes,
        ask_sizes=quotes.bid_sizes,
        volumes=quotes.volumes[[1, 0, 2]],
    )
    own = signal(bars, book_weight=weight)
    np.testing.assert_array_equal(signal(mirrored, book_weight=weight), -own)
    assert {-1.0, 0.0, 1.0} <= set(own.tolist())


@few
@given(seed=st.integers(0, 2**32 - 1), factor=st.integers(2, 1_000), weight=weights)
def test_a_market_of_another_size_gives_the_same_signal(
    seed: int, factor: int, weight: float
) -> None:
    bars = random_bars(600, seed, quotes=True)
    quotes, scale = bars.quotes, np.int32(factor)
    volumes = np.where(quotes.volumes == ABSENT, ABSENT, quotes.volumes * scale)
    larger = changed(
        bars,
        bid_sizes=quotes.bid_sizes * scale,
        ask_sizes=quotes.ask_sizes * scale,
        volumes=volumes.astype(np.int32),
    )
    own = signal(bars, book_weight=weight)
    np.testing.assert_array_equal(signal(larger, book_weight=weight), own)


def bars_of(bought: list[int], sold: list[int], sizes: tuple[Any, Any] = (1, 1)) -> Bars:
    n = len(bought)
    prices = np.full(n, 7_000, np.int32)
    books = [np.full((1, n), size, np.int32) for size in sizes]
    volumes = np.array([bought, sold, [0] * n], np.int32)
    asks = prices + np.int32(1)
    quotes = BarQuotes(0.01, prices, asks, books[0], books[1], volumes)
    ticks = dict.fromkeys(("open", "high", "low", "close"), prices)
    return make_bars(ticks, quote_columns=quotes)


def test_pressure_by_hand() -> None:
    bars = bars_of([3, 1, 0, 6], [1, 1, 4, 0], (3, 1))
    strategy = build({"name": "order_flow", "bars": 2, "threshold": 0.2, "book_weight": 0.5})
    flow = np.array([2 / 6, -4 / 6, 2 / 10])  # of bars 0-1, 1-2 and 2-3
    pressure = exposed(strategy, bars)["pressure"]
    np.testing.assert_allclose(pressure, [np.nan, *(0.5 * flow + 0.5 * 0.5)])
    np.testing.assert_array_equal(strategy.signal(bars), [np.nan, 1, 0, 1])


def test_what_is_not_known_is_flat() -> None:
    """A missing quote ends every position whose window holds it, and no others."""
    n, at = 60, 30
    bars = bars_of([5] * n, [1] * n)
    quotes = bars.quotes
    volumes, bid = quotes.volumes.copy(), quotes.bid_ticks.copy()
    volumes[:, at] = ABSENT
    bid[at] = ABSENT
    expected = np.where((np.arange(n) >= at) & (np.arange(n) < at + 20), 0.0, 1.0)
    expected[:19] = np.nan
    for arrays, weight in (({"volumes": volumes}, 0.0), ({"bid_ticks": bid}, 0.25)):
        holes = changed(bars, **arrays)
        np.testing.assert_array_equal(signal(holes, book_weight=weight), expected)
    # aggressors that do not count need not be known
    one_sided = changed(bars_of([5] * n, [1] * n, (9, 1)), volumes=np.full_like(volumes, ABSENT))
    assert (signal(one_sided, book_weight=1.0)[19:] == 1.0).all()
    config = composition.compose("backtest", ["strategy=order_flow", "data.quotes=1"]).raw
    run = composition.run_config(
        config | {"strategy": {"name": "order_flow", "bars": 20, "threshold": 0.03}}
    )
    result = backtest(run, changed(bars, volumes=np.full_like(volumes, ABSENT)))
    assert not result.position.any()
    assert backtest(run, bars).position.any()


def test_a_window_without_a_trade_is_flat() -> None:
    bars = bars_of([0] * 40, [0] * 40)
    assert (signal(bars, book_weight=0.0, threshold=0.0)[19:] == 0.0).all()


def test_the_check_finds_a_strategy_that_peeks_at_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mcl.strategy import order_flow

    bars = random_bars(1_500, seed=5, quotes=True)
    params = {"name": "order_flow", "bars": 20, "threshold": 0.03}
    raw = composition.compose("backtest", ["strategy=order_flow", "data.quotes=1"]).raw
    config = composition.run_config(raw | {"strategy": params})
    assert not lookahead.lookahead(config, bars, samples=5).has_bias
    honest = order_flow.OrderFlow.signal

    def peeks(self: Any, bars: Bars) -> Any:
        own = honest(self, bars)
        return np.append(own[1:], own[-1])

    monkeypatch.setattr(order_flow.OrderFlow, "signal", peeks)
    assert lookahead.lookahead(config, bars, samples=5).biased_entry_signals
