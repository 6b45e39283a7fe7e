"""Fills computed by hand: every assumption of the engine in dollars. MCL: one tick of one contract
is one dollar.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from walks import make_bars

from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.backtest import Plan, simulate
from mcl.engine.result import FILL_REASONS, Result
from mcl.metrics.summary import summary
from mcl.risk.blocks import Block

from .assumed import covers

CAPITAL = 10_000.0
COSTS = schema.Costs(slippage_ticks=1.0, commission_usd=0.77)
WIDE = schema.Limits(max_position=10, max_order=20)


def bars_of(*rows: tuple[int, int, int, int], **changes: Any) -> Bars:
    """Bars from (open, high, low, close) in ticks."""
    columns = np.array(rows, dtype=float).T
    return make_bars(dict(zip(("open", "high", "low", "close"), columns, strict=True)), **changes)


def flat_bars(*prices: int, **changes: Any) -> Bars:
    return bars_of(*((price, price, price, price) for price in prices), **changes)


def trade(
    bars: Bars,
    wanted: list[float],
    stop: float = 0,
    take_profit: float = 0,
    limits: schema.Limits = WIDE,
    **costs: float,
) -> Result:
    n = len(bars)
    plan = Plan(
        np.array(wanted, float),
        np.full(n, stop) if stop else np.empty(0),
        np.full(n, take_profit) if take_profit else np.empty(0),
    )
    return simulate(bars, plan, limits, COSTS.model_copy(update=costs), CAPITAL)


def fills_of(result: Result) -> list[tuple[int, int, float, str]]:
    return [
        (int(f["bar"]), int(f["quantity"]), float(f["price_ticks"]), FILL_REASONS[f["reason"]])
        for f in result.fills
    ]


@covers("next_open")
def test_a_decision_is_traded_at_the_next_open_one_tick_worse() -> None:
    bars = bars_of((7000, 7010, 6990, 7005), (7008, 7020, 7000, 7015), (7011, 7011, 7011, 7011))
    result = trade(bars, [1, 0, 0])
    assert fills_of(result) == [(1, 1, 7009, "signal"), (2, -1, 7010, "signal")]
    assert result.equity.tolist() == pytest.approx(
        [10_000, 10_000 + (7015 - 7009) - 0.77, 10_000 + 1 - 1.54]
    )


def test_a_short_earns_when_the_price_falls() -> None:
    result = trade(flat_bars(7000, 7000, 6900, 6900), [-2, -2, 0, 0])
    assert fills_of(result) == [(1, -2, 6999, "signal"), (3, 2, 6901, "signal")]
    assert result.net_pnl_usd == pytest.approx(2 * 98 - 4 * 0.77)


@covers("target")
def test_a_change_of_sides_is_one_fill_and_two_trades() -> None:
    result = trade(flat_bars(7000, 7000, 7050, 7060), [1, -1, -1, -1])
    assert fills_of(result) == [(1, 1, 7001, "signal"), (2, -2, 7049, "signal")]
    assert result.trades["gross_usd"].tolist() == [48, 7049 - 7060]
    assert [FILL_REASONS[code] for code in result.trades["exit_reason"]] == ["signal", "end"]
    assert result.net_pnl_usd == pytest.approx(48 - 11 - 3 * 0.77)


@covers("equity")
def test_adding_averages_the_entry_and_reducing_realises_part() -> None:
    result = trade(flat_bars(7000, 7000, 7020, 7040, 7060), [1, 3, 1, 0, 0], slippage_ticks=0.0)
    assert fills_of(result) == [
        (1, 1, 7000, "signal"),
        (2, 2, 7020, "signal"),
        (3, -2, 7040, "signal"),
        (4, -1, 7060, "signal"),
    ]
    (only,) = result.trades
    assert only["quantity"] == 3
    assert only["entry_ticks"] == pytest.approx((7000 + 2 * 7020) / 3)
    assert only["exit_ticks"] == pytest.approx((2 * 7040 + 7060) / 3)
    assert only["gross_usd"] == 40 * 2 + 60 - 20 * 2


@covers("after_stop")
def test_a_stop_fills_at_its_level_one_tick_worse_and_keeps_us_out_until_the_signal_leaves() -> (
    None
):
    bars = bars_of(
        (7000,) * 4, (7000, 7005, 6995, 7000), (7000, 7000, 6980, 6990), *[(7000,) * 4] * 4
    )
    result = trade(bars, [1, 1, 1, 1, 0, 1, 1], stop=10)
    assert fills_of(result) == [
        (1, 1, 7001, "signal"),
        (2, -1, 6990, "stop"),
        (6, 1, 7001, "signal"),
    ]
    assert result.block.tolist() == [0, 0, Block.STOPPED_OUT, Block.STOPPED_OUT, 0, 0, 0]
    assert result.equity[3] == pytest.approx(CAPITAL - 11 - 1.54)


def test_what_a_trade_risks_is_the_distance_of_its_stop_at_the_entry() -> None:
    """Two contracts at 7001 with a stop at 6981 risk $40; the third, at 7011, has its stop 20 below
    the average of 7004 1/3, at 6984.
    """
    bars = bars_of(
        (7000, 7000, 7000, 7000),
        (7000, 7000, 7000, 7000),
        (7010, 7010, 7010, 7010),
        (7000, 7000, 6980, 6980),
    )
    result = trade(bars, [2, 3, 3, 3], stop=20)
    assert result.fills["risk_ticks"].tolist() == [20, 7011 - 6984, 0]
    assert result.trades["risk_usd"].tolist() == [2 * 20 + 27]
    net_usd = 3 * 6983 - 2 * 7001 - 7011 - 6 * 0.77
    assert summary(result)["expectancy_r"] == pytest.approx(net_usd / 67)
    assert np.isnan(summary(trade(bars, [2, 3, 0, 0]))["expectancy_r"])


@covers("stop")
def test_a_gap_through_the_stop_fills_at_the_open() -> None:
    result = trade(bars_of((7000,) * 4, (7000,) * 4, (6950, 6960, 6940, 6955)), [1, 1, 1], stop=10)
    assert fills_of(result)[1] == (2, -1, 6949, "stop")
    assert result.net_pnl_usd == pytest.approx(6949 - 7001 - 1.54)


def test_a_gap_through_the_stop_of_a_short_fills_at_the_open() -> None:
    result = trade(
        bars_of((7000,) * 4, (7000,) * 4, (7050, 7060, 7040, 7055)), [-1, -1, -1], stop=10
    )
    assert fills_of(result)[1] == (2, 1, 7051, "stop")
    assert result.net_pnl_usd == pytest.approx(6999 - 7051 - 1.54)


def test_a_stop_may_hit_in_the_bar_of_the_entry() -> None:
    result = trade(bars_of((7000,) * 4, (7000, 7002, 6985, 7001)), [1, 1], stop=10)
    assert fills_of(result) == [(1, 1, 7001, "signal"), (1, -1, 6990, "stop")]


@covers("bracket")
def test_both_levels_in_one_bar_mean_the_stop_came_first() -> None:
    result = trade(
        bars_of((7000,) * 4, (7000,) * 4, (7000, 7100, 6900, 7090)),
        [1, 1, 1],
        stop=20,
        take_profit=40,
    )
    assert fills_of(result)[1] == (2, -1, 6980, "stop")


@covers("take_profit")
def test_a_take_profit_fills_at_its_level_or_at_a_better_open() -> None:
    touched = trade(
        bars_of((7000,) * 4, (7000,) * 4, (7000, 7041, 6990, 7030)),
        [1, 1, 1],
        stop=20,
        take_profit=40,
    )
    gapped = trade(
        bars_of((7000,) * 4, (7000,) * 4, (7060, 7065, 7050, 7055)),
        [1, 1, 1],
        stop=20,
        take_profit=40,
    )
    assert fills_of(touched)[1] == (2, -1, 7040, "take_profit")
    assert fills_of(gapped)[1] == (2, -1, 7059, "take_profit")


@covers("roll")
@pytest.mark.parametrize("side", [1, -1])
def test_a_roll_costs_both_legs_and_moves_the_stop_by_the_gap(side: int) -> None:
    bars = flat_bars(7000, 7000, 7100, 7100, 7100, roll_gaps={2: 100})
    result = trade(bars, [side] * 5, stop=50)
    assert fills_of(result) == [
        (1, side, 7000 + side, "signal"),
        (2, -side, 7000 - side, "roll"),
        (2, side, 7100 + side, "roll"),
    ]
    assert result.fills["contract"].tolist() == [0, 0, 1]
    assert result.net_pnl_usd == pytest.approx(-3 - 3 * 0.77)  # the gap of 100 is no profit
    (only,) = result.trades
    # marked at the last close, roll gap removed
    assert only["exit_ticks"] - only["entry_ticks"] == -side
    assert (only["gross_usd"], only["commission_usd"]) == (-3, pytest.approx(3 * 0.77))


def test_a_stop_after_a_roll_is_where_the_new_contract_trades() -> None:
    bars = bars_of(
        (7000,) * 4, (7000,) * 4, (7100,) * 4, (7100, 7100, 7040, 7060), roll_gaps={2: 100}
    )
    # 7001 - 50 + 100 - slippage
    assert fills_of(trade(bars, [1] * 4, stop=50))[-1] == (3, -1, 7050, "stop")


def test_nothing_is_rolled_when_flat() -> None:
    assert not len(trade(flat_bars(7000, 7000, 7100, roll_gaps={2: 100}), [0, 0, 0]).fills)


def test_the_daily_loss_flattens_and_locks_until_the_next_session() -> None:
    bars = flat_bars(7000, 7000, 6900, 6900, 6900, 6900, 6900, bars_per_session=5)
    limits = WIDE.model_copy(update={"max_daily_loss_usd": 100.0})
    result = trade(bars, [1] * 7, limits=limits)
    assert fills_of(result) == [
        (1, 1, 7001, "signal"),
        (3, -1, 6899, "risk"),
        (6, 1, 6901, "signal"),
    ]
    assert result.block.tolist() == [
        0,
        0,
        Block.DAILY_LOSS,
        Block.DAILY_LOSS,
        Block.DAILY_LOSS,
        0,
        0,
    ]


def test_the_drawdown_halts_for_good() -> None:
    bars = flat_bars(7000, 7000, 6400, 6400, 6400, 6400, bars_per_session=2)
    result = trade(bars, [2] * 6, limits=WIDE.model_copy(update={"max_drawdown_frac": 0.1}))
    assert fills_of(result) == [(1, 2, 7001, "signal"), (3, -2, 6399, "risk")]
    assert (result.block[2:] == Block.MAX_DRAWDOWN).all()


@covers("settled")
def test_a_session_is_settled_at_its_settlement_price() -> None:
    """Long 2 over the end of both sessions: the first settles 5 ticks above its close of 7010, the
    second has no settlement.
    """
    bars = flat_bars(7000, 7000, 7010, 7020, bars_per_session=3)
    first, _ = np.unique(bars.session).tolist()
    settled = pd.DataFrame(
        {
            "session": [first],
            "contract": [0],
            "price": [70.15],
            "known_at": [int(bars.close_time[2])],
        }
    )
    result = trade(replace(bars, settlements=settled), [2, 2, 2, 2])
    closed = [CAPITAL + 2 * (close - 7001) - 2 * 0.77 for close in (7010, 7020)]
    assert result.session_equity.tolist() == pytest.approx(closed)
    assert result.settled_equity.tolist() == pytest.approx([closed[0] + 2 * 5, closed[1]])
    assert result.sessions_frame().columns.tolist() == ["session", "equity_usd", "settled_usd"]
    assert trade(bars, [2, 2, 2, 2]).settled_equity.tolist() == pytest.approx(closed)


@covers("session_end")
def test_flat_before_the_close_of_the_session() -> None:
    # decisions 240, 180, 120, 60 and 0 seconds before the close
    bars = flat_bars(*[7000] * 10, bars_per_session=5)
    result = trade(bars, [1] * 10, limits=WIDE.model_copy(update={"flatten_before_close_sec": 120}))
    assert fills_of(result)[:3] == [
        (1, 1, 7001, "signal"),
        (3, -1, 6999, "risk"),
        (6, 1, 7001, "signal"),
    ]
    assert result.position[[2, 3, 4, 5]].tolist() == [1, 0, 0, 0]


def test_no_entry_near_the_close_but_an_exit_is_allowed() -> None:
    # decisions 300, 240, 180, 120, 60 and 0 seconds before the close
    bars = flat_bars(*[7000] * 6, bars_per_session=6)
    limits = WIDE.model_copy(update={"no_entry_before_close_sec": 180})
    late = trade(bars, [0, 0, 1, 1, 1, 1], limits=limits)
    leaving = trade(bars, [1, 1, 2, 0, 0, 0], limits=limits)
    assert not len(late.fills)
    assert late.block[2:].tolist() == [Block.NO_ENTRY] * 4
    assert fills_of(leaving) == [(1, 1, 7001, "signal"), (4, -1, 6999, "signal")]


def test_negative_prices_are_prices() -> None:
    result = trade(flat_bars(100, 100, -3763, -3763), [-1, -1, 0, 0])  # WTI on 2020-04-20
    assert fills_of(result) == [(1, -1, 99, "signal"), (3, 1, -3762, "signal")]
    assert result.net_pnl_usd == pytest.approx(99 + 3762 - 1.54)


def test_position_limits_cut_the_wish() -> None:
    bars = flat_bars(*[7000] * 5)
    result = trade(bars, [9, 9, 9, 0, 0], limits=schema.Limits(max_position=5, max_order=3))
    assert result.position.tolist() == [0, 3, 5, 5, 0]  # getting flat is one order however large
    assert result.block.tolist() == [Block.MAX_ORDER, Block.MAX_POSITION, Block.MAX_POSITION, 0, 0]


def test_trades_per_session_count_only_new_risk() -> None:
    bars = flat_bars(*[7000] * 8, bars_per_session=6)
    limits = WIDE.model_copy(update={"max_trades_per_session": 2})
    result = trade(bars, [2, 1, 2, -1, -1, -1, -1, -1], limits=limits)
    # the change of sides only closes; the next session may open
    assert result.position.tolist() == [0, 2, 1, 2, 0, 0, 0, -1]
    assert result.block.tolist() == [
        0,
        0,
        0,
        Block.MAX_TRADES,
        Block.MAX_TRADES,
        Block.MAX_TRADES,
        0,
        0,
    ]
