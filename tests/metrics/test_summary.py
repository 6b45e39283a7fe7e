"""The summary of a run against a handful of bars computed by hand."""

from __future__ import annotations

import math
from datetime import date
from typing import Any, cast

import numpy as np
import pytest
from drawn import Drawn

from mcl.base.differences import same
from mcl.data.bars import Bars
from mcl.engine.curve import Curve
from mcl.engine.result import FILL, FILL_REASONS, TRADE, Result, changes
from mcl.market.instruments import MCL, Contract
from mcl.metrics import trades
from mcl.metrics.summary import summary
from mcl.metrics.undefined import UNDEFINED, reasons
from mcl.report.format import metric_rows


def bars_of(sessions: list[int]) -> Bars:
    n = len(sessions)
    prices = dict.fromkeys(("open", "high", "low", "close"), np.full(n, 70.0))
    contract = Contract("MCLG6", "MCL", 2026, 2, date(2026, 1, 20))
    return Bars.of(
        MCL,
        "1m",
        np.arange(n) * 60 * 10**9,
        prices,
        session=sessions,
        contracts=(contract,),
        synthetic=True,
    )


def result_of(
    equity: list[float],
    position: list[int],
    fills: list[Any],
    closed: list[Any],
    commission: float,
    sessions: list[int],
) -> Result:
    n, position_ = len(equity), np.array(position, np.int64)
    zero = np.zeros(n, np.int64)
    records = np.array([(*fill, 0) for fill in fills], FILL), np.array(closed, TRADE)
    return Result(
        bars_of(sessions),
        1000.0,
        cast("Curve", Drawn(equity)),
        changes(position_, zero, zero),
        *records,
        commission,
    )


@pytest.fixture
def run() -> Result:
    """Two closed trades (+50 and -20 gross, 2 commission each) and one open (+8 gross, 1), over
    three sessions of two bars.
    """
    roll, end = FILL_REASONS.index("roll"), FILL_REASONS.index("end")
    fills = [
        (0, 0, 1, 7000, 1, 0, 1),
        (1, 0, -1, 7050, 1, 0, 0),
        (2, 0, -1, 7060, 0, 0, -1),
        (3, 0, 1, 7080, 2, 1, 0),
        (4, 0, 2, 7000, 0, 0, 2),
        (5, 0, -2, 7001, 1, roll, 0),
        (5, 0, 2, 7002, 1, roll, 2),
    ]
    closed = [
        (0, 1, 1, 7000, 7050, 50, 2, -5, 60, 0, 24),
        (2, 3, -1, 7060, 7080, -20, 2, -30, 0, 1, 20),
        (4, 5, 2, 7000, 7004, 8, 1, 0, 9, end, 0),
    ]
    return result_of(
        [1049, 1048, 998, 1026, 1030, 1033],
        [1, 0, -1, 0, 2, 2],
        fills,
        closed,
        5.0,
        [10, 10, 11, 11, 14, 14],
    )


def test_money(run: Result) -> None:
    m = summary(run)
    assert (m["net_pnl_usd"], m["commission_usd"], m["gross_pnl_usd"]) == (33.0, 5.0, 38.0)
    assert m["slippage_usd"] == 8.0  # 1 + 1 + 0 + 2 + 0 + 2·1 + 2·1 ticks of one dollar
    assert m["gross_pnl_usd"] == float(run.trades["gross_usd"].sum())
    assert m["return_frac"] == pytest.approx(0.033)


def test_risk_is_at_bars_for_depth_and_at_sessions_for_time(run: Result) -> None:
    m = summary(run)
    assert m["max_drawdown_usd"] == 998 - 1049
    assert m["max_drawdown_frac"] == pytest.approx((998 - 1049) / 1049)
    assert m["time_under_water_frac"] == pytest.approx(2 / 3)  # session ends: 1048, 1026, 1033
    assert m["longest_drawdown_sessions"] == 2
    returns = np.array([0.048, -0.022, 0.007])
    assert m["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(252))


def test_trades_leave_the_open_one_out(run: Result) -> None:
    m = summary(run)
    assert m["trades"] == 2
    assert trades.net(trades.closed(run)).tolist() == [48.0, -22.0]
    assert m["win_rate_frac"] == 0.5
    assert m["profit_factor"] == pytest.approx(48 / 22)
    assert m["avg_trade_usd"] == 13.0
    assert m["expectancy_r"] == pytest.approx((48 / 24 - 22 / 20) / 2)
    assert m["payoff"] == pytest.approx(48 / 22)
    assert m["sqn"] == pytest.approx(math.sqrt(2) * 13 / np.std([48, -22], ddof=1))
    assert m["avg_bars_held"] == 1.0


def test_activity(run: Result) -> None:
    m = summary(run)
    assert m["exposure_frac"] == pytest.approx(4 / 6)
    assert m["turnover_contracts_per_session"] == pytest.approx(10 / 3)
    assert (m["fills"], m["rolls_traded"], m["sessions"], m["bars"]) == (7, 1, 3, 6)


def test_a_run_without_a_trade_has_no_invented_numbers() -> None:
    m = summary(result_of([1000.0] * 4, [0] * 4, [], [], 0.0, [1, 1, 2, 2]))
    assert not any(math.isinf(value) for value in m.values())
    assert (m["net_pnl_usd"], m["trades"], m["max_drawdown_frac"]) == (0, 0, 0)
    for name in (
        "sharpe",
        "sharpe_low",
        "psr",
        "sortino",
        "calmar",
        "win_rate_frac",
        "profit_factor",
        "sqn",
        "expectancy_r",
    ):
        assert math.isnan(m[name]), name
        assert {n: text for _, text, n in metric_rows(m)}.get(name, "n/a") == "n/a"


def test_what_is_undefined_in_both_does_not_differ() -> None:
    assert same(math.nan, float("nan"))
    assert same(1.5, 1.5)
    assert not same(math.nan, 1.5)
    assert not same(None, math.nan)


def test_sqn_cap() -> None:
    pnl = np.tile([3.0, -1.0], 200)
    assert trades.sqn(pnl) == pytest.approx(2 * trades.sqn(pnl, 100))


def test_drawdown_episodes_and_turnover_by_hand(run: Result) -> None:
    m = summary(run)
    assert (m["drawdowns"], m["avg_drawdown_sessions"]) == (1, 2.0)
    assert m["avg_drawdown_frac"] == pytest.approx((1026 - 1048) / 1048)
    assert m["recovery_factor"] == pytest.approx(33 / 51)
    traded_usd = 7000 + 7050 + 7060 + 7080 + 2 * (7000 + 7001 + 7002)
    assert m["turnover_ann"] == pytest.approx(traded_usd / np.mean(run.equity) / (3 / 252))
    assert (m["avg_win_usd"], m["avg_loss_usd"], m["longest_losing_run"]) == (48, -22, 1)


def test_every_undefined_metric_says_why(run: Result) -> None:
    """Nothing traded, one session, one trade: whatever is NaN there has a reason, and no reason
    stands for a metric that does not exist.
    """
    metrics_of_run = summary(run)
    assert set(UNDEFINED) <= set(metrics_of_run)
    lonely = result_of(
        [1001.0, 1001.0],
        [1, 0],
        [(0, 0, 1, 7000, 0, 0, 1)],
        [(0, 1, 1, 7000, 7001, 1, 0, 0, 1, 0, 0)],
        0.0,
        [1, 1],
    )
    for m in (
        summary(result_of([1000.0] * 4, [0] * 4, [], [], 0.0, [1, 1, 2, 2])),
        summary(lonely),
        metrics_of_run,
    ):
        missing = {name for name, value in m.items() if math.isnan(value)}
        assert set(reasons(m)) == missing
        assert all(text.endswith(".") is False and text for text in reasons(m).values())
