"""Order types, times in force, groups and partial fills, on the broker core; prices worked out by
hand (slippage one tick).
"""

from __future__ import annotations

from typing import Any

import pytest

from mcl.simulators.tws import render
from mcl.simulators.tws.account import AccountTerms, SimulatedAccount
from mcl.simulators.tws.listener import BrokerOptions
from mcl.simulators.tws.matching import Range
from mcl.simulators.tws.order_book import OrderBook
from mcl.simulators.tws.orders import ExecutionReport, Order

from .test_book import LISTINGS, MCLG6, Told, place
from .tws_harness import SESSION_OPEN_NS

HOUR = 3_600_000_000_000


class Line(Told):
    """Also writes down the sequence, as message ids and statuses."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def open_order(self, order: Order) -> None:
        self.said.append(f"5 {order.order_id} {order.status}")

    def order_status(self, order: Order) -> None:
        super().order_status(order)
        self.said.append(f"3 {order.order_id} {order.status} {order.filled}+{order.remaining}")

    def executed(self, execution: ExecutionReport) -> None:
        super().executed(execution)
        self.said.append(
            f"11 {execution.order.order_id} {abs(execution.quantity)}@{execution.price:g}"
        )

    def commission(self, execution: ExecutionReport) -> None:
        self.said.append(f"59 {execution.commission:g}")

    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None:
        super().order_error(client_id, order_id, code, text)
        self.said.append(f"4 {order_id} {code}")

    def new(self) -> list[str]:
        said, self.said = self.said, []
        return said


def desk(capital: float = 25_000.0, **options: Any) -> tuple[OrderBook, Line]:
    line = Line()
    core = OrderBook(
        line,
        LISTINGS,
        SimulatedAccount("DU0000001", capital, AccountTerms()),
        1.0,
        BrokerOptions(**options),
    )
    core.clock(SESSION_OPEN_NS)
    core.exchange.opened(MCLG6, 60.0)
    return core, line


def bar(
    core: OrderBook, open_: float, high: float, low: float, close: float, volume: int = 100
) -> None:
    core.exchange.traded(MCLG6, Range(open_, high, low, close), volume)


def test_a_stop_limit_that_gaps_rests_at_its_limit() -> None:
    core, line = desk()
    place(core, 1, order_type="STP LMT", aux_price="60.10", limit_price="60.12")
    assert line.new() == ["5 1 PreSubmitted", "3 1 PreSubmitted 0+1"]
    assert core.orders[1, 1].why_held == "trigger"
    bar(core, 60.20, 60.30, 60.15, 60.25)
    assert line.new() == ["5 1 Submitted", "3 1 Submitted 0+1"]
    assert core.orders[1, 1].why_held == ""
    bar(core, 60.20, 60.21, 60.11, 60.15)
    assert line.new()[0] == "11 1 1@60.12"


def test_a_stop_limit_fills_at_its_trigger_without_slippage() -> None:
    core, line = desk()
    place(core, 1, action="SELL", order_type="STP LMT", aux_price="59.90", limit_price="59.88")
    bar(core, 60.0, 60.1, 59.80, 59.85)
    assert "11 1 1@59.9" in line.new()


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back() -> None:
    core, line = desk()
    place(core, 1, action="SELL", order_type="TRAIL", aux_price="0.10")
    order = core.orders[1, 1]
    assert (order.trigger, order.why_held) == (59.90, "trigger")
    shown = render.open_order(order)
    assert (shown["aux_price"], shown["trail_stop_price"]) == (0.10, "59.9")
    bar(core, 60.0, 60.50, 59.95, 60.45)
    assert order.trigger == 60.40
    bar(core, 60.45, 60.47, 60.41, 60.42)
    assert order.trigger == 60.40
    line.new()
    bar(core, 60.42, 60.42, 60.30, 60.31)
    assert line.new()[0] == "11 1 1@60.39"


def test_a_trailing_stop_in_percent_starts_where_it_is_told() -> None:
    core, line = desk()
    place(core, 1, order_type="TRAIL", trailing_percent="1", trail_stop_price="60.70")
    bar(core, 60.0, 60.1, 59.0, 59.1)
    assert core.orders[1, 1].trigger == 59.59
    bar(core, 59.70, 59.80, 59.60, 59.75)
    assert "11 1 1@59.71" in line.new()


def test_a_trailing_stop_limit_keeps_its_limit_beyond_the_stop_and_rests_there_after_a_gap() -> (
    None
):
    core, line = desk()
    place(core, 1, action="SELL", order_type="TRAIL LIMIT", aux_price="0.10", limit_offset="0.05")
    order = core.orders[1, 1]
    assert (order.trigger, order.limit) == (59.90, 59.85)
    bar(core, 60.0, 60.50, 59.95, 60.45)
    assert (order.trigger, order.limit) == (60.40, 60.35)
    shown = render.open_order(order)
    assert (shown["trail_stop_price"], shown["limit_price"], shown["limit_offset"]) == (
        "60.4",
        60.35,
        0.05,
    )
    line.new()
    bar(core, 60.20, 60.30, 60.10, 60.25)  # opens below the limit
    assert line.new() == ["5 1 Submitted", "3 1 Submitted 0+1"]
    bar(core, 60.25, 60.36, 60.20, 60.30)
    assert line.new()[0] == "11 1 1@60.35"


def test_a_trailing_stop_limit_may_be_told_by_a_price_and_a_start() -> None:
    core, line = desk()
    values = {"aux_price": "0.20", "trail_stop_price": "60.20", "limit_price": "60.25"}
    place(core, 1, order_type="TRAIL LIMIT", **values)
    order = core.orders[1, 1]
    assert order.limit_offset == pytest.approx(0.05)
    bar(core, 60.0, 60.05, 59.80, 59.85)
    assert (order.trigger, order.limit) == (60.00, 60.05)
    bar(core, 59.90, 60.10, 59.88, 60.02)
    assert "11 1 1@60" in line.new()


def test_limit_if_touched_rests_at_its_limit_from_the_touch_on() -> None:
    core, line = desk()
    place(core, 1, order_type="LIT", aux_price="59.90", limit_price="59.85")
    assert core.orders[1, 1].why_held == "trigger"
    line.new()
    bar(core, 60.0, 60.05, 59.88, 59.95)
    assert line.new() == ["5 1 Submitted", "3 1 Submitted 0+1"]
    bar(core, 59.95, 59.97, 59.84, 59.90)
    assert line.new()[0] == "11 1 1@59.85"


def test_limit_if_touched_with_a_limit_beyond_the_touch_trades_at_once() -> None:
    core, line = desk()
    place(core, 1, action="SELL", order_type="LIT", aux_price="60.10", limit_price="60.05")
    bar(core, 60.0, 60.20, 59.95, 60.15)
    assert "11 1 1@60.1" in line.new()


def test_immediate_or_cancel_takes_what_is_there() -> None:
    core, line = desk(top_size=2)
    place(core, 1, tif="IOC", quantity="5")
    said = line.new()
    assert said[2:] == [
        "11 1 2@60.01",
        "5 1 Submitted",
        "3 1 Submitted 2+3",
        "59 1.54",
        "3 1 Cancelled 2+3",
        "4 1 202",
    ]
    place(core, 2, tif="IOC", order_type="LMT", limit_price="59.99")
    assert line.new()[-2:] == ["3 2 Cancelled 0+1", "4 2 202"]


@pytest.mark.parametrize(
    "text", ["20260105 18:30:00 US/Eastern", "20260105-23:30:00", "20260105 18:30:00"]
)
def test_good_till_date_ends_on_time(text: str) -> None:
    core, line = desk()
    place(core, 1, order_type="LMT", limit_price="50.00", tif="GTD", good_till_date=text)
    core.clock(SESSION_OPEN_NS + HOUR // 2 - 1)
    assert core.working()
    core.clock(SESSION_OPEN_NS + HOUR // 2)
    assert line.new()[-2:] == ["3 1 Cancelled 0+1", "4 1 202"]
    assert render.open_order(core.orders[1, 1])["good_till_date"] == text


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"tif": "FOK"}, 10052),
        ({"tif": "GTD", "good_till_date": "tomorrow"}, 391),
        ({"order_type": "STP LMT", "aux_price": "60.1"}, 463),
        ({"order_type": "STP LMT", "aux_price": "60.1", "limit_price": "60.123"}, 110),
        ({"order_type": "TRAIL"}, 463),
        ({"order_type": "TRAIL LIMIT", "aux_price": "0.1"}, 463),
        ({"order_type": "TRAIL LIMIT", "aux_price": "0.1", "limit_offset": "0.001"}, 110),
        ({"order_type": "LIT", "aux_price": "60.1"}, 463),
    ],
)
def test_what_the_exchange_does_not_take(values: dict[str, str], code: int) -> None:
    core, line = desk()
    place(core, 1, **values)
    assert line.errors == [code]
    assert not core.orders


def test_a_stop_for_regular_hours_sleeps_at_night() -> None:
    core, line = desk()
    place(core, 1, action="SELL", order_type="STP", aux_price="59.90", outside_rth="0")
    bar(core, 60.0, 60.1, 59.5, 59.6)
    assert not line.fills
    core.clock(SESSION_OPEN_NS + 16 * HOUR)  # 10:00 New York
    bar(core, 59.6, 59.7, 59.5, 59.6)
    assert [fill.price for fill in line.fills] == [59.59]


def test_a_part_is_told_as_a_part() -> None:
    core, line = desk(liquidity_frac=0.02)
    place(core, 1, order_type="LMT", limit_price="59.90", quantity="5")
    line.new()
    bar(core, 60.0, 60.1, 59.8, 60.0)
    assert line.new() == ["11 1 2@59.9", "5 1 Submitted", "3 1 Submitted 2+3", "59 1.54"]
    bar(core, 59.7, 60.1, 59.6, 60.0, volume=1000)
    done = ["5 1 Filled", "3 1 Filled 5+0"]
    assert line.new() == ["11 1 3@59.7", *done, *done, "59 2.31"]
    order = core.orders[1, 1]
    assert (order.average_price, order.commission) == (59.78, 3.85)


def test_a_market_order_goes_on_at_the_next_open() -> None:
    core, line = desk(top_size=2)
    place(core, 1, quantity="3")
    core.exchange.opened(MCLG6, 61.0)
    assert [(fill.quantity, fill.price) for fill in line.fills] == [(2, 60.01), (1, 61.01)]
    assert core.orders[1, 1].status == "Filled"


@pytest.mark.parametrize(("oca_type", "left"), [("1", None), ("2", 2), ("3", 2)])
def test_groups_cancel_or_reduce(oca_type: str, left: int | None) -> None:
    core, line = desk(liquidity_frac=0.02)
    pair = {"oca_group": "g", "oca_type": oca_type, "quantity": "4", "action": "SELL"}
    place(core, 1, order_type="LMT", limit_price="60.50", **pair)
    place(core, 2, order_type="STP", aux_price="59.50", **pair)
    line.new()
    bar(core, 60.0, 60.6, 59.9, 60.2)
    other = core.orders[1, 2]
    if left is None:
        assert (other.status, line.errors) == ("Cancelled", [202])
    else:
        assert (other.status, other.total) == ("PreSubmitted", left)
        assert line.new()[-2:] == ["5 2 PreSubmitted", f"3 2 PreSubmitted 0+{left}"]
        bar(core, 60.0, 60.6, 59.9, 60.2)
        assert (other.status, core.orders[1, 1].status) == ("Cancelled", "Filled")
    assert core.account.holding(MCLG6).quantity == (-2 if left is None else -4)


def test_an_order_in_the_daily_break_waits_for_the_open() -> None:
    core, line = desk()
    place(core, 9, order_type="LMT", limit_price="50.0")
    place(core, 8, order_type="LMT", limit_price="50.0", tif="GTC")
    core.clock(SESSION_OPEN_NS + 23 * HOUR)
    core.close_session(SESSION_OPEN_NS + 24 * HOUR)
    assert core.orders[1, 9].status == "Cancelled"
    line.new()
    place(core, 1)
    place(core, 2, order_type="LMT", limit_price="55.0")
    assert line.new() == [
        step
        for n in (1, 2)
        for step in (f"4 {n} 399", f"5 {n} PreSubmitted", f"3 {n} PreSubmitted 0+1")
    ]
    core.cancel(1, 8)
    core.cancel(1, 8)
    assert line.new() == ["4 8 161"]
    core.clock(SESSION_OPEN_NS + 24 * HOUR)
    core.exchange.opened(MCLG6, 61.0)
    said = line.new()
    assert said[:4] == ["3 8 Cancelled 0+1", "4 8 202", "5 2 Submitted", "3 2 Submitted 0+1"]
    assert said[4] == "11 1 1@61.01"


def test_a_refused_child_leaves_its_bracket_unprotected_but_alive() -> None:
    core, line = desk()
    place(core, 1, transmit="0")
    place(core, 2, parent_id="1", action="SELL", order_type="LMT", limit_price="61.0", transmit="0")
    place(core, 3, parent_id="1", action="SELL", order_type="STP", aux_price="59.005")
    assert line.errors == [110]
    assert [core.orders[1, n].status for n in (1, 2)] == ["Filled", "Submitted"]


def test_limits_of_the_account() -> None:
    core, line = desk(capital=4_000.0, check_margin=True, orders_per_side=2)
    place(core, 1, quantity="3")
    assert line.errors == [201]
    place(core, 2, quantity="2")
    place(core, 3, action="SELL", quantity="2")
    assert core.account.holding(MCLG6).quantity == 0
    for n in (4, 5, 6):
        place(core, n, order_type="LMT", limit_price="50.0")
    assert line.errors == [201, 201]


def test_nothing_trades_in_a_halt() -> None:
    core, line = desk()
    core.exchange.halted = True
    place(core, 1)
    bar(core, 60.0, 61.0, 59.0, 60.0)
    core.exchange.opened(MCLG6, 60.5)
    assert not line.fills
    core.exchange.halted = False
    core.exchange.opened(MCLG6, 60.7)
    assert [fill.price for fill in line.fills] == [60.71]
