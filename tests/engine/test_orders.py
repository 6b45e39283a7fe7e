"""Entries that wait, latency, parts, trailing stops, gates and margins, computed by hand. MCL: one
tick of one contract is one dollar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from walks import random_bars

from mcl.base.errors import ConfigError, DataError, EngineError
from mcl.config import schema
from mcl.data.bars import ROLL_COLUMNS, Bars
from mcl.data.truncation import MadeOf
from mcl.engine.account import Ledger, Money
from mcl.engine.backtest import Plan, simulate
from mcl.engine.decision import NO_BRACKET
from mcl.engine.result import Result
from mcl.risk.blocks import Block
from mcl.risk.gates import gates

from .assumed import covers
from .flows import coarse_of
from .test_dollars import CAPITAL, COSTS, WIDE, bars_of, fills_of, flat_bars

STILL = (7000,) * 4


def send(
    bars: Bars,
    wanted: Sequence[float],
    limits: schema.Limits = WIDE,
    costs: dict[str, Any] | None = None,
    **settings: Any,
) -> Result:
    """`stop`, `take_profit` and `trail` are distances in ticks; the rest is `schema.Execution`."""
    n = len(bars)
    stop, take_profit, trail = (
        np.full(n if d else 0, float(d))
        for d in (settings.pop(name, 0) for name in ("stop", "take_profit", "trail"))
    )
    plan = Plan(np.array(wanted, float), stop, take_profit, trail, gate=gates(bars, limits))
    return simulate(
        bars,
        plan,
        limits,
        COSTS.model_copy(update=costs or {}),
        CAPITAL,
        schema.Execution(**settings),
    )


# ------------------------------------------------------------------------------------------- limits


@covers("limit_touch")
def test_a_limit_fills_at_its_price_when_touched() -> None:
    # the limit stands at 7000 - 5
    bars = bars_of(STILL, (7001, 7003, 6996, 7002), (7002, 7004, 6995, 7001), STILL)
    result = send(bars, [1, 1, 1, 0], entry="limit", offset_ticks=5, fill="touch")
    assert fills_of(result) == [(2, 1, 6995, "signal")]
    assert result.fills["slippage_ticks"].tolist() == [0]
    assert result.net_pnl_usd == pytest.approx(5 - 0.77)


@covers("limit_through")
def test_by_default_a_limit_fills_only_when_the_price_trades_through_it() -> None:
    bars = bars_of(
        STILL, (7001, 7003, 6995, 7002), (6995, 7004, 6995, 7001), (7000, 7001, 6994, 7000), STILL
    )
    assert fills_of(send(bars, [1] * 5, entry="limit", offset_ticks=5)) == [(3, 1, 6995, "signal")]
    short = bars_of(STILL, (6999, 7005, 6997, 6998), (6999, 7006, 6997, 6998))
    assert fills_of(send(short, [-1] * 3, entry="limit", offset_ticks=5)) == [
        (2, -1, 7005, "signal")
    ]


@covers("limit_at_open")
@pytest.mark.parametrize(
    ("opening", "price", "slippage"), [(6990, 6991, 1), (6994, 6995, 1), (6993, 6995, 2)]
)
def test_an_open_beyond_the_limit_pays_slippage_but_never_more_than_the_limit(
    opening: int, price: int, slippage: int
) -> None:
    bars = bars_of(STILL, (opening, 7003, opening, 7002))
    ticks = 1.0 if opening != 6993 else 5.0
    result = send(bars, [1, 1], entry="limit", offset_ticks=5, costs={"slippage_ticks": ticks})
    assert fills_of(result) == [(1, 1, price, "signal")]
    assert result.fills["slippage_ticks"].tolist() == [slippage]


@covers("ttl")
def test_an_order_that_has_run_out_is_renewed_or_given_up() -> None:
    rows = [
        STILL,
        (7001, 7003, 6997, 7003),
        (7003, 7005, 6999, 7005),
        (7005, 7006, 6999, 7004),
        (7004, 7004, 6990, 7000),
    ]
    lasting = send(bars_of(*rows), [1] * 5, entry="limit", offset_ticks=5)
    renewed = send(bars_of(*rows), [1] * 5, entry="limit", offset_ticks=5, ttl_bars=2)
    given_up = send(bars_of(*rows), [1] * 5, entry="limit", offset_ticks=5, ttl_bars=2, renew=False)
    again = send(
        bars_of(*rows), [1, 1, 1, 0, 1], entry="limit", offset_ticks=5, ttl_bars=2, renew=False
    )
    assert fills_of(lasting) == [(4, 1, 6995, "signal")]
    # from bar 3 on it stands five below the close of bar 2, 7005
    assert fills_of(renewed) == [(3, 1, 7000, "signal")]
    assert not len(given_up.fills)
    assert not len(again.fills)  # asked for again at the last close


def test_an_entry_order_ends_with_its_target_its_session_and_its_contract() -> None:
    rows = [STILL, (7001, 7003, 6999, 7003), (7004, 7004, 7001, 7004), (7004, 7004, 6994, 7004)]
    waiting: dict[str, Any] = {"entry": "limit", "offset_ticks": 5}
    assert fills_of(send(bars_of(*rows), [1] * 4, **waiting)) == [(3, 1, 6995, "signal")]
    assert not len(send(bars_of(*rows), [1, 1, 0, 0], **waiting).fills)
    # 7004 - 5: a new order
    assert fills_of(send(bars_of(*rows, bars_per_session=3), [1] * 4, **waiting)) == [
        (3, 1, 6999, "signal")
    ]
    # and 3 lower
    assert fills_of(send(bars_of(*rows, roll_gaps={3: -3}), [1] * 4, **waiting)) == [
        (3, 1, 6996, "signal")
    ]


@covers("over_a_roll")
def test_what_was_decided_before_a_roll_stands_at_the_prices_of_the_new_contract() -> None:
    """7000 in the old contract is 7100 in the new one: a limit five better stands at 7095, and an
    open at 7104 is 4 away.
    """
    rows = [STILL, (7104, 7105, 7094, 7100), (7100,) * 4, (7100,) * 4]
    rolled = bars_of(*rows, bars_per_session=1, roll_gaps={1: 100})
    assert fills_of(send(rolled, [1, 1, 1, 0], entry="limit", offset_ticks=5)) == [
        (1, 1, 7095, "signal")
    ]
    near, far = (WIDE.model_copy(update={"price_collar_ticks": ticks}) for ticks in (4.0, 3.0))
    assert fills_of(send(rolled, [1] * 4, limits=near)) == [(1, 1, 7105, "signal")]
    assert send(rolled, [1, 0, 0, 0], limits=far).block[1] == Block.PRICE_COLLAR
    # decided at bar 0, on its way over the roll
    late = bars_of(STILL, *rows, bars_per_session=2, roll_gaps={2: 100})
    assert fills_of(send(late, [1, 0, 0, 0, 0], limits=near, latency_bars=1))[0] == (
        2,
        1,
        7105,
        "signal",
    )


def test_the_old_side_leaves_at_the_market_and_the_new_one_waits() -> None:
    bars = bars_of(
        STILL, (7000, 7001, 6998, 7000), (7000, 7001, 6990, 7000), (7000, 7006, 6999, 7000), STILL
    )
    result = send(bars, [1, 1, -1, -1, -1], entry="limit", offset_ticks=5)
    assert fills_of(result) == [
        (2, 1, 6995, "signal"),
        (3, -1, 6999, "signal"),
        (3, -1, 7005, "signal"),
    ]
    assert result.trades["gross_usd"].tolist() == [4, 5]


# -------------------------------------------------------------------------------------------- stops


@covers("stop_entry")
def test_a_stop_entry_fills_at_its_price_and_slippage() -> None:
    bars = bars_of(STILL, (7001, 7004, 6996, 7002), (7002, 7005, 7000, 7003))
    assert fills_of(send(bars, [1] * 3, entry="stop", offset_ticks=5)) == [(2, 1, 7006, "signal")]


@covers("stop_gap")
@pytest.mark.parametrize("side", [1, -1])
def test_a_gap_through_a_stop_entry_fills_at_the_open(side: int) -> None:
    opening = 7000 + 9 * side
    result = send(flat_bars(7000, opening, opening), [side] * 3, entry="stop", offset_ticks=5)
    assert fills_of(result) == [(1, side, opening + side, "signal")]


@covers("stop_limit")
@pytest.mark.parametrize(("limit", "price", "paid"), [(0, 7005, 0), (1, 7006, 1), (9, 7007, 2)])
def test_a_stop_limit_pays_slippage_up_to_its_limit(limit: int, price: int, paid: int) -> None:
    bars = bars_of(STILL, (7001, 7008, 7001, 7004))
    result = send(
        bars,
        [1, 1],
        entry="stop_limit",
        offset_ticks=5,
        limit_ticks=limit,
        costs={"slippage_ticks": 2.0},
    )
    assert fills_of(result) == [(1, 1, price, "signal")]
    assert result.fills["slippage_ticks"].tolist() == [paid]


@covers("stop_limit_gap")
def test_a_stop_limit_that_is_gapped_waits_at_its_limit() -> None:
    # triggers at 7005, pays 7007 at most
    settings: dict[str, Any] = {"entry": "stop_limit", "offset_ticks": 5, "limit_ticks": 2}
    same_bar = bars_of(STILL, (7010, 7012, 7006, 7008))
    later = bars_of(
        STILL, (7010, 7012, 7008, 7009), (7009, 7009, 7007, 7008), (7008, 7008, 7002, 7003)
    )
    assert fills_of(send(same_bar, [1, 1], **settings)) == [(1, 1, 7007, "signal")]
    # no trigger is needed any more
    assert fills_of(send(later, [1] * 4, **settings)) == [(3, 1, 7007, "signal")]
    assert fills_of(send(later, [1] * 4, **settings, fill="touch")) == [(2, 1, 7007, "signal")]


@covers("entry_bar")
def test_in_the_bar_of_a_waiting_entry_the_worst_counts_and_a_profit_needs_the_close() -> None:
    stopped = send(
        bars_of(STILL, (7000, 7004, 6984, 7003)),
        [1, 1],
        entry="limit",
        offset_ticks=5,
        stop=10,
        take_profit=8,
    )
    unproven = send(
        bars_of(STILL, (7000, 7009, 6994, 7002)),
        [1, 1],
        entry="limit",
        offset_ticks=5,
        stop=10,
        take_profit=8,
    )
    proven = send(
        bars_of(STILL, (7000, 7009, 6994, 7004)),
        [1, 1],
        entry="limit",
        offset_ticks=5,
        stop=10,
        take_profit=8,
    )
    assert fills_of(stopped) == [(1, 1, 6995, "signal"), (1, -1, 6984, "stop")]
    # 7003 may have been reached before the fill
    assert fills_of(unproven) == [(1, 1, 6995, "signal")]
    assert fills_of(proven) == [(1, 1, 6995, "signal"), (1, -1, 7002, "take_profit")]


# -------------------------------------------------------------------------- latency, volume, collar


@covers("latency")
def test_an_order_with_latency_trades_so_many_opens_later() -> None:
    result = send(flat_bars(7000, 7010, 7020, 7030, 7040), [1, 0, 0, 0, 0], latency_bars=2)
    assert fills_of(result) == [(3, 1, 7031, "signal"), (4, -1, 7039, "signal")]
    void = bars_of(STILL, STILL, STILL, (7000, 7000, 6980, 7000), STILL, STILL)
    stopped = send(void, [1, 1, 1, 1, 1, 1], latency_bars=1, stop=10)
    # the targets decided before bar 3 are void
    assert fills_of(stopped) == [(2, 1, 7001, "signal"), (3, -1, 6990, "stop")]


def test_what_a_limit_forbids_is_not_traded_though_it_was_on_its_way() -> None:
    bars = flat_bars(7000, 7000, 6800, 6800, 6800, 6800, bars_per_session=6)
    limits = WIDE.model_copy(update={"max_daily_loss_usd": 100.0})
    result = send(bars, [1, 2, 2, 2, 2, 2], limits=limits, latency_bars=0)
    slow = send(bars, [1, 1, 2, 2, 2, 2], limits=limits, latency_bars=1)
    assert fills_of(result) == [
        (1, 1, 7001, "signal"),
        (2, 1, 6801, "signal"),
        (3, -2, 6799, "risk"),
    ]
    # bought after the fall: no loss yet
    assert fills_of(slow) == [(2, 1, 6801, "signal"), (4, 1, 6801, "signal")]


@covers("participation")
def test_an_order_takes_its_share_of_each_bar() -> None:
    bars = flat_bars(7000, 7010, 7020, 7030, 7040, volume=np.array([100, 45, 19, 30, 100]))
    result = send(bars, [5] * 5, participation_frac=0.1)
    assert fills_of(result) == [(1, 4, 7011, "signal"), (2, 1, 7021, "signal")]
    limited = send(
        bars,
        [5] * 5,
        participation_frac=0.1,
        limits=WIDE.model_copy(update={"max_trades_per_session": 1}),
    )
    assert limited.position.tolist() == [0, 4, 4, 4, 4]  # the rest would be a second trade
    with pytest.raises(EngineError, match=r"participation_frac=0\.5 needs volumes"):
        send(flat_bars(7000, 7000, volume=np.zeros(2, np.int64)), [1, 1], participation_frac=0.5)


def test_the_rest_of_a_stop_entry_that_was_reached_goes_to_the_market() -> None:
    """Bought 2 at 7005, and one more at the next open though the price is back below the stop. The
    decision at bar 1 is the same order.
    """
    bars = bars_of(
        STILL, (7001, 7006, 6999, 7000), (6990, 6991, 6989, 6990), volume=np.array([20, 20, 20])
    )
    result = send(
        bars,
        [3, 3, 3],
        entry="stop",
        offset_ticks=5,
        participation_frac=0.1,
        costs={"slippage_ticks": 0.0},
    )
    assert fills_of(result) == [(1, 2, 7005, "signal"), (2, 1, 6990, "signal")]
    assert result.net_pnl_usd == pytest.approx(2 * (6990 - 7005) - 3 * 0.77)


def test_a_protective_order_is_whole_whatever_the_volume() -> None:
    bars = bars_of(STILL, STILL, (7000, 7000, 6980, 6990), volume=np.array([100, 100, 1]))
    assert fills_of(send(bars, [5] * 3, participation_frac=0.1, stop=10))[1] == (
        2,
        -5,
        6990,
        "stop",
    )


@covers("collar")
def test_nothing_is_bought_too_far_from_the_close_that_was_decided_on() -> None:
    limits = WIDE.model_copy(update={"price_collar_ticks": 5.0})
    result = send(flat_bars(7000, 7006, 7010, 7030), [1, 1, 0, 0], limits=limits)
    # an exit trades at any price
    assert fills_of(result) == [(2, 1, 7011, "signal"), (3, -1, 7029, "signal")]
    assert result.block.tolist() == [0, Block.PRICE_COLLAR, 0, 0]


# --------------------------------------------------------------------------------------- protection


@covers("trailing")
def test_a_trailing_stop_follows_the_closes_and_never_goes_back() -> None:
    bars = bars_of(
        STILL,
        (7000, 7050, 7000, 7010),
        (7010, 7025, 7005, 7020),
        (7020, 7021, 7011, 7012),
        (7012, 7013, 7009, 7010),
    )
    # 6991 from the entry at 7001, 7000 after 7010, 7010 after 7020, still 7010 after 7012
    result = send(bars, [1] * 5, trail=10)
    assert fills_of(result) == [(1, 1, 7001, "signal"), (4, -1, 7009, "stop")]
    fallen = bars_of(STILL, (7000, 7001, 6997, 7000))
    # the nearer of both
    assert fills_of(send(fallen, [1, 1], trail=10, stop=3)) == [
        (1, 1, 7001, "signal"),
        (1, -1, 6997, "stop"),
    ]


@pytest.mark.parametrize("trail", [30, 60])
def test_a_trailing_stop_of_a_short_and_over_a_roll(trail: int) -> None:
    bars = flat_bars(7000, 7000, 6950, 7050, 7050 + trail, roll_gaps={3: 100})
    result = send(bars, [-1] * 5, trail=trail)
    # 6950 + trail in the old contract, 100 more in the new one
    assert fills_of(result)[-1] == (4, 1, 7050 + trail + 1, "stop")


@covers("average")
def test_levels_stand_from_the_average_entry_and_a_reduction_leaves_them() -> None:
    rows = [
        STILL,
        STILL,
        (7030, 7030, 7030, 7030),
        (7030, 7030, 7030, 7030),
        (7030, 7030, 7012, 7013),
        (7013, 7013, 7011, 7011),
    ]
    # entries 7001 and 2 x 7031: average 7021, stop 7011
    result = send(bars_of(*rows), [1, 3, 2, 2, 2, 2], stop=10)
    assert fills_of(result) == [
        (1, 1, 7001, "signal"),
        (2, 2, 7031, "signal"),
        (3, -1, 7029, "signal"),
        (5, -2, 7010, "stop"),
    ]


def test_adding_never_draws_a_trailing_stop_back() -> None:
    """At 7090 after the close of 7100; the second contract, at 7101, would have its own at 7041,
    ten below the average of 7051.
    """
    bars = bars_of(STILL, (7000, 7100, 7000, 7100), (7100, 7100, 7085, 7095), STILL)
    result = send(bars, [1, 2, 2, 2], trail=10)
    assert fills_of(result) == [
        (1, 1, 7001, "signal"),
        (2, 1, 7101, "signal"),
        (2, -2, 7089, "stop"),
    ]
    assert result.net_pnl_usd == pytest.approx(2 * 7089 - 7001 - 7101 - 4 * 0.77)


@covers("stop_met_first")
@pytest.mark.parametrize("opening", [6998, 6988])
def test_no_contract_is_added_beyond_the_stop_of_those_held(opening: int) -> None:
    """Long 1 from 7000 with a stop at 6995: a limit at 6992, or an open below both, is met after
    it.
    """
    bars = bars_of(STILL, STILL, (7000, 7000, 6997, 6999), (opening, 6998, 6980, 6985))
    plan = Plan(np.array([1.0, 1.0, 2.0, 2.0]), np.full(4, 5.0), np.empty(0))
    execution = schema.Execution(entry="limit", offset_ticks=7, fill="touch")
    ledger = Ledger(Money(CAPITAL, 1.0, 0.77, 0.0))
    ledger.fill(1, 7000, NO_BRACKET._replace(stop_ticks=5.0))
    result = simulate(
        bars,
        plan,
        WIDE,
        COSTS.model_copy(update={"slippage_ticks": 0.0}),
        CAPITAL,
        execution,
        ledger,
    )
    assert fills_of(result) == [(3, -1, min(opening, 6995), "stop")]


@covers("order_first")
def test_at_an_open_the_order_comes_before_the_stop() -> None:
    """Long 1 from 7001 with a stop at 6991, one more decided, an open at 6950: bought at 6951, then
    both sold, stop at 6966.
    """
    bars = bars_of(STILL, STILL, (6950, 6960, 6940, 6955))
    added = send(bars, [1, 2, 2], stop=10)
    assert fills_of(added) == [
        (1, 1, 7001, "signal"),
        (2, 1, 6951, "signal"),
        (2, -2, 6949, "stop"),
    ]
    left = send(bars, [1, 0, 0], stop=10)
    assert fills_of(left) == [(1, 1, 7001, "signal"), (2, -1, 6949, "signal")]
    turned = send(bars, [1, -1, -1], stop=10)
    assert fills_of(turned) == [
        (1, 1, 7001, "signal"),
        (2, -2, 6949, "signal"),
        (2, 1, 6960, "stop"),
    ]


# three one-minute bars for each bar of three minutes: flat, the entry at 7001 with 6981 and 7041,
# then one that touches both
FINE = [
    *[STILL] * 6,
    *[(7000, 7005, 6990, 7004), (7004, 7042, 7004, 7030), (7030, 7030, 6975, 6980)],
    *[STILL] * 3,
]


def resolved(
    fine: list[tuple[int, int, int, int]], wanted: Sequence[float], **settings: Any
) -> list[tuple[int, int, float, str]]:
    both: dict[str, Any] = {"bracket": "finer", "stop": 20, "take_profit": 40}
    return fills_of(send(coarse_of(bars_of(*fine)), wanted, **both | settings))


@covers("bracket_finer")
def test_both_levels_in_one_bar_are_resolved_on_finer_bars() -> None:
    stopped, profit = (2, -1, 6980, "stop"), (2, -1, 7040, "take_profit")
    assert resolved(FINE, [1] * 4, bracket="pessimistic")[1] == stopped
    assert resolved(FINE, [1] * 4)[1] == profit
    assert resolved([*FINE[:6], FINE[8], FINE[7], FINE[6], *FINE[9:]], [1] * 4)[1] == stopped
    both_at_once = [*FINE[:7], (7004, 7042, 6975, 7030), *FINE[8:]]
    assert resolved(both_at_once, [1] * 4)[1] == stopped
    gapped = [
        *FINE[:6],
        (7000, 7005, 6990, 7004),
        (6970, 6972, 6970, 6972),
        (6972, 7050, 6972, 7050),
        *FINE[9:],
    ]
    # the second minute opened through the stop
    assert resolved(gapped, [1] * 4)[1] == (2, -1, 6969, "stop")
    short = [(14_000 - o, 14_000 - low, 14_000 - high, 14_000 - c) for o, high, low, c in FINE]
    assert resolved(short, [-1] * 4)[1] == (2, 1, 6960, "take_profit")


def test_finer_bars_are_asked_about_both_levels_alone() -> None:
    only_stop = [*FINE[:6], (7000, 7005, 6990, 7004), (6970, 6972, 6970, 6972), STILL, *FINE[9:]]
    assert resolved(only_stop, [1] * 4)[1] == (2, -1, 6980, "stop")  # as without them
    trailed = resolved(FINE, [1] * 4, stop=0, trail=20)
    assert trailed[1] == (2, -1, 7040, "take_profit")
    waiting = resolved(FINE, [0, 1, 1, 1], entry="limit", offset_ticks=5, participation_frac=1.0)
    # bought within the bar: the worst counts
    assert waiting == [(2, 1, 6995, "signal"), (2, -1, 6974, "stop")]
    coarse = coarse_of(bars_of(*FINE))
    part = coarse.rows(1, 4)
    assert fills_of(send(part, [1] * 3, stop=20, take_profit=40, bracket="finer"))[1] == (
        1,
        -1,
        7040,
        "take_profit",
    )


def test_finer_bars_that_are_missing_or_others_are_refused() -> None:
    with pytest.raises(DataError, match="nothing is known of what these 1m bars were made of"):
        send(bars_of(*FINE), [1] * 12, stop=20, take_profit=40, bracket="finer")
    other = replace(coarse_of(bars_of(*FINE)), finer=MadeOf(bars_of(*[STILL] * 12)))
    with pytest.raises(DataError, match="do not make these 1m bars: highs and lows differ"):
        send(other, [1] * 4, stop=20, take_profit=40, bracket="finer")


# -------------------------------------------------------------------------------------------- costs


@covers("slippage")
def test_slippage_by_the_hour_in_which_the_bar_opened() -> None:
    table = tuple(2.0 if hour == 19 else 0.5 for hour in range(24))
    close_time = np.array(
        ["2024-01-04T23:59", "2024-01-05T00:00", "2024-01-05T00:01"], "datetime64[ns]"
    ).astype(np.int64)
    # New York: bars that open at 18:58, 18:59 and 19:00
    bars = flat_bars(7000, 7000, 7000, close_time=close_time)
    result = send(bars, [1, 0, 0], costs={"slippage_by_hour_ticks": table})
    assert fills_of(result) == [(1, 1, 7000.5, "signal"), (2, -1, 6998, "signal")]


@covers("impact")
def test_impact_is_in_proportion_to_the_share_of_the_volume() -> None:
    bars = flat_bars(7000, 7000, 7000, volume=np.array([10, 16, 3]))
    result = send(bars, [4, 3, 3], costs={"impact_ticks": 8.0, "slippage_ticks": 1.0})
    assert fills_of(result) == [
        (1, 4, 7003, "signal"),
        (2, -1, 7000 - 1 - np.ceil(8 / 3 * 64) / 64, "signal"),
    ]


@covers("commission")
def test_commission_has_three_parts() -> None:
    result = send(
        flat_bars(7000, 7000, 7000),
        [2, 0, 0],
        costs={"commission_usd": 0.25, "exchange_usd": 0.5, "regulatory_usd": 0.02},
    )
    assert result.commission_usd == pytest.approx(4 * 0.77)


@covers("margin")
def test_margin_cuts_what_is_opened_and_sells_what_is_no_longer_carried() -> None:
    limits = WIDE.model_copy(
        update={
            "initial_margin_usd": 2_000.0,
            "maintenance_margin_usd": 1_900.0,
            "max_margin_frac": 0.9,
        }
    )
    result = send(flat_bars(7000, 7000, 6850, 6850, 6850), [9] * 5, limits=limits)
    # 9 000 / 2 000; then an equity of 9 393 carries 4 at 1 900
    assert result.position.tolist() == [0, 4, 4, 4, 4]
    assert result.block[0] == Block.MARGIN
    fallen = send(flat_bars(7000, 7000, 6380, 6380, 6380), [9] * 5, limits=limits)
    assert fills_of(fallen) == [(1, 4, 7001, "signal"), (3, -1, 6379, "risk")]  # 7 513 carries 3
    assert fallen.block[2] == Block.MARGIN_CALL


# --------------------------------------------------------------------------------- limits and gates


def test_orders_per_session_count_exits_too() -> None:
    limits = WIDE.model_copy(update={"max_orders_per_session": 2})
    result = send(
        flat_bars(*[7000] * 8, bars_per_session=6), [1, 0, 1, 1, 1, 1, 1, 1], limits=limits
    )
    assert result.position.tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert result.block.tolist() == [0, 0] + [Block.MAX_ORDERS] * 4 + [0, 0]


def test_a_losing_trade_is_ended_and_its_side_waits_for_a_new_signal() -> None:
    limits = WIDE.model_copy(update={"max_loss_per_trade_usd": 20.0})
    result = send(
        flat_bars(7000, 7000, 6990, 6975, 6975, 6975, 6975), [1, 1, 1, 1, 1, 0, 1], limits=limits
    )
    assert fills_of(result) == [(1, 1, 7001, "signal"), (4, -1, 6974, "risk")]
    assert result.block.tolist() == [0, 0, 0, Block.LOSS_PER_TRADE, Block.STOPPED_OUT, 0, 0]


def test_losses_in_a_row_cool_down() -> None:
    limits = WIDE.model_copy(update={"max_consecutive_losses": 2, "cool_down_bars": 3})
    wanted = [1, 0, 1, 0, 1, 1, 1, 1, 1]
    # each round trip loses two ticks and commission
    result = send(flat_bars(*[7000] * 9), wanted, limits=limits)
    assert result.position.tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 1]
    assert result.block.tolist() == [0, 0, 0, 0] + [Block.COOL_DOWN] * 3 + [0, 0]


def test_a_loss_while_cooling_down_starts_it_again() -> None:
    """The second loss turns the position, so one is held while it cools down; its loss, the third,
    counts three bars from its own.
    """
    limits = WIDE.model_copy(update={"max_consecutive_losses": 2, "cool_down_bars": 3})
    result = send(flat_bars(*[7000] * 10), [1, 0, 1, -1, 0, 1, 1, 1, 1, 1], limits=limits)
    assert result.position.tolist() == [0, 1, 0, 1, -1, 0, 0, 0, 0, 1]
    assert result.block.tolist() == [0, 0, 0, 0, 0] + [Block.COOL_DOWN] * 3 + [0, 0]


def test_windows_are_new_york_time_and_may_flatten() -> None:
    bars = flat_bars(*[7000] * 8)  # the first bar closes at 19:00 New York on Wednesday 2024-01-03
    inside = WIDE.model_copy(update={"trading_windows": ("19:02-19:05",)})
    news = WIDE.model_copy(
        update={"news_windows": ("Wed 19:02-19:05", "Thu 19:00-19:08"), "flatten_at_windows": True}
    )
    # what is held is left alone
    assert send(bars, [1] * 8, limits=inside).block.tolist() == [Block.WINDOW] * 2 + [0] * 6
    assert send(bars, [1] * 8, limits=news).position.tolist() == [0, 1, 1, 0, 0, 0, 1, 1]
    midnight = WIDE.model_copy(update={"trading_windows": ("23:00-19:01",)})
    assert gates(bars, midnight).tolist() == [0] + [Block.WINDOW] * 7
    overnight = WIDE.model_copy(update={"trading_windows": ("Tue 23:00-19:05",)})  # into Wednesday
    assert gates(bars, overnight).tolist() == [0] * 5 + [Block.WINDOW] * 3


def test_windows_need_bars_within_the_day() -> None:
    with pytest.raises(ConfigError, match="bars of a whole session have no time of day"):
        gates(
            flat_bars(7000, 7000, interval="session"),
            WIDE.model_copy(update={"trading_windows": ("09:00-14:30",)}),
        )


def test_wide_bars_keep_out_and_so_do_too_few() -> None:
    limits = WIDE.model_copy(
        update={"volatility_ratio": 2.0, "volatility_fast_bars": 1, "volatility_slow_bars": 4}
    )
    rows = [(7000, 7002, 7000, 7000)] * 6 + [(7000, 7012, 7000, 7000), (7000, 7002, 7000, 7000)]
    # 12 against (2+2+2+12)/4
    assert gates(bars_of(*rows), limits).tolist() == [Block.VOLATILITY] * 4 + [
        0,
        0,
        Block.VOLATILITY,
        0,
    ]


@covers("last_trade")
def test_flat_before_the_last_trade() -> None:
    # sessions from 2024-01-04 on; the contract stops on 2024-01-20, a Saturday
    bars = flat_bars(*[7000] * 40, bars_per_session=2)
    limits = WIDE.model_copy(update={"flatten_before_last_trade_sessions": 2})
    result = send(bars, [1] * 40, limits=limits)
    first = int(np.argmax(result.block == Block.LAST_TRADE))
    # two weekdays before: 18 and 19
    assert np.datetime64(int(bars.session[first]), "D") == np.datetime64("2024-01-18")
    assert result.fills["reason"].tolist() == [0, 4]


@covers("roll_ahead")
def test_flat_before_a_roll_that_is_known() -> None:
    limits = WIDE.model_copy(update={"flatten_before_roll_sec": 60})
    bars = flat_bars(*[7000] * 5, *[7100] * 5, bars_per_session=5, roll_gaps={5: 100})
    assert fills_of(send(bars, [1] * 10, limits=limits)) == [
        (1, 1, 7001, "signal"),
        (4, -1, 6999, "risk"),
        (6, 1, 7101, "signal"),
    ]
    known_at = pd.Timestamp("2024-01-05", tz="UTC")  # after the last close of the session before
    row = dict.fromkeys(ROLL_COLUMNS) | {"session": date(2024, 1, 5), "known_at": known_at}
    late = flat_bars(
        *[7000] * 5,
        *[7100] * 5,
        bars_per_session=5,
        roll_gaps={5: 100},
        roll_table=pd.DataFrame([row]),
    )
    assert fills_of(send(late, [1] * 10, limits=limits))[1][3] == "roll"


def test_the_operators_word() -> None:
    bars = flat_bars(*[7000] * 4)
    assert not len(
        send(bars, [1] * 4, limits=WIDE.model_copy(update={"state": "reduce_only"})).fills
    )
    assert (
        send(bars, [1] * 4, limits=WIDE.model_copy(update={"state": "halted"})).block
        == Block.HALTED
    ).all()


@covers("buffer")
def test_a_position_buffer_trades_only_to_its_edge() -> None:
    bars = flat_bars(*[7000] * 7)
    wanted = np.array([5.0, 5.4, 6.2, 7.0, 4.1, -0.2, 0.0])
    result = simulate(
        bars, Plan(wanted, np.empty(0), np.empty(0), buffer=np.full(7, 1.0)), WIDE, COSTS, CAPITAL
    )
    assert result.target.tolist() == [4, 4, 5, 6, 5, 1, 0]


def test_a_long_walk_with_everything_on_ends_flat_when_halted() -> None:
    bars = random_bars(3_000, seed=5, bars_per_session=50, rolls=5)
    wanted = list(np.sign(np.sin(np.arange(3_000) / 7)))
    limits = WIDE.model_copy(update={"max_drawdown_frac": 0.01, "news_windows": ("19:10-19:20",)})
    result = send(
        bars,
        wanted,
        limits=limits,
        entry="limit",
        offset_ticks=2,
        ttl_bars=4,
        latency_bars=1,
        participation_frac=0.2,
        trail=15,
    )
    assert (result.block == Block.MAX_DRAWDOWN).any()
    assert result.position[-1] == 0
