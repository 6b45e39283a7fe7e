"""Laws of the broker core under random orders and random bars, against arithmetic that is done
differently.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.market import calendar
from mcl.simulators.tws.account import AccountTerms, SimulatedAccount
from mcl.simulators.tws.contracts import Listed, Listings
from mcl.simulators.tws.matching import Range
from mcl.simulators.tws.order_book import OrderBook
from mcl.simulators.tws.orders import ExecutionReport, Order
from mcl.simulators.tws.request_messages import REQUESTS

from .tws_harness import order_request

LISTINGS = Listings(date(2026, 1, 6), [calendar.contract("MCL", 2026, 2)])
MCLG6 = LISTINGS.of(calendar.contract("MCL", 2026, 2))
TICKS = st.integers(5980, 6020)
TRADES = st.lists(st.tuples(st.integers(-3, 3).filter(bool), TICKS), min_size=1, max_size=30)


class Told:
    """A sink that writes down what clients would have been told."""

    def __init__(self) -> None:
        self.statuses: list[tuple[int, str]] = []
        self.fills: list[ExecutionReport] = []
        self.errors: list[int] = []

    def order_status(self, order: Order) -> None:
        self.statuses.append((order.order_id, order.status))

    def executed(self, execution: ExecutionReport) -> None:
        self.fills.append(execution)

    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None:  # noqa: ARG002
        self.errors.append(code)

    def open_order(self, order: Order) -> None: ...
    def commission(self, execution: ExecutionReport) -> None: ...
    def what_if(self, order: Order, before: int, after: int) -> None: ...
    def position_changed(self, listed: Listed) -> None: ...
    def marked(self, listed: Listed) -> None: ...


def book(slippage_ticks: float = 1.0) -> tuple[OrderBook, Told]:
    told = Told()
    return OrderBook(
        told, LISTINGS, SimulatedAccount("DU0000001", 25_000.0, AccountTerms()), slippage_ticks
    ), told


def place(core: OrderBook, order_id: int, **values: Any) -> None:
    core.place(REQUESTS[3].decode(178, order_request(order_id=str(order_id), **values)), 1)


@given(TRADES, TICKS)
def test_money_is_neither_made_nor_lost(trades: list[tuple[int, int]], mark: int) -> None:
    """Equity by average cost equals equity by cash flow, whatever was opened, closed and
    reversed.
    """
    account = SimulatedAccount("DU1", 25_000.0, AccountTerms())
    realized = [account.trade(MCLG6, quantity, ticks / 100)[1] for quantity, ticks in trades]
    account.holding(MCLG6).mark = mark / 100
    position = sum(quantity for quantity, _ in trades)
    fees = sum(0.77 * abs(quantity) for quantity, _ in trades)
    flow = sum(quantity * (mark - ticks) for quantity, ticks in trades)
    assert account.holding(MCLG6).quantity == position
    assert account.equity == pytest.approx(25_000 + flow - fees)
    assert account.realized + account.unrealized == pytest.approx(flow - fees)
    assert sum(result or 0.0 for result in realized) == pytest.approx(account.realized)
    if position == 0:
        assert account.cash == pytest.approx(account.equity)


BARS = st.tuples(TICKS, TICKS, st.integers(0, 6), st.integers(0, 6))
KINDS = st.sampled_from(["LMT", "STP", "MIT"])


@settings(max_examples=150)
@given(
    KINDS,
    st.sampled_from(["BUY", "SELL"]),
    TICKS,
    st.lists(BARS, min_size=1, max_size=10),
    st.integers(0, 3),
)
def test_resting_orders_fill_once(
    kind: str, action: str, level: int, bars: list[tuple[int, int, int, int]], slip: int
) -> None:
    """A limit never fills worse than its limit, a stop never better than its trigger less slippage,
    and only in a bar that reached it.
    """
    core, told = book(slip)
    place(
        core,
        1,
        action=action,
        order_type=kind,
        **{"limit_price" if kind == "LMT" else "aux_price": str(level / 100)},
    )
    side = 1 if action == "BUY" else -1
    reached = False
    for open_, close, above, below in bars:
        high, low = max(open_, close) + above, min(open_, close) - below
        core.exchange.traded(MCLG6, Range(open_ / 100, high / 100, low / 100, close / 100))
        touched = (
            (high >= level if side > 0 else low <= level)
            if kind == "STP"
            else (low <= level if side > 0 else high >= level)
        )
        if touched and not reached:
            [fill] = told.fills
            ticks = round(fill.price * 100)
            assert low - slip <= ticks <= high + slip
            assert side * (level - ticks) >= 0 if kind == "LMT" else True
            assert side * (ticks - level) >= slip if kind == "STP" else True
        reached = reached or touched
        assert bool(told.fills) == reached
    assert len(told.fills) == int(reached)


@settings(max_examples=150)
@given(st.integers(1, 8), st.integers(1, 8), st.lists(BARS, min_size=1, max_size=12))
def test_one_cancels_the_other(
    stop: int, target: int, bars: list[tuple[int, int, int, int]]
) -> None:
    """After an entry exactly one of stop and target can fill, the stop if a bar reached both; the
    other is cancelled.
    """
    core, told = book()
    core.exchange.opened(MCLG6, 60.0)
    place(core, 1)
    entry = round(told.fills[0].price * 100)
    pair = {"action": "SELL", "oca_group": "g", "oca_type": "1"}
    place(core, 2, order_type="STP", aux_price=str((entry - stop) / 100), **pair)
    place(core, 3, order_type="LMT", limit_price=str((entry + target) / 100), **pair)
    for open_, close, above, below in bars:
        high, low = max(open_, close) + above, min(open_, close) - below
        core.exchange.traded(MCLG6, Range(open_ / 100, high / 100, low / 100, close / 100))
        if len(told.fills) == 2:
            winner, loser = (2, 3) if low <= entry - stop else (3, 2)
            assert told.fills[1].order.order_id == winner
            assert told.statuses[-1] == (loser, "Cancelled")
            assert told.errors == [202]
            break
    assert len(told.fills) <= 2
    assert core.account.holding(MCLG6).quantity == 2 - len(told.fills)


def test_what_was_before_the_day_of_the_open_is_not_told_any_more() -> None:
    """Completed orders of a session are told until the next one opens on a later day, over the
    midnight within.
    """
    core, told = book()
    opens = calendar.ns_of(date(2026, 1, 5), 18)  # of session 2026-01-06
    core.clock(opens)
    core.exchange.opened(MCLG6, 60.0)
    place(core, 1)
    [fill] = told.fills
    heard = []
    for now in (
        opens,
        calendar.ns_of(date(2026, 1, 6), 12),
        calendar.ns_of(date(2026, 1, 6), 17),
        calendar.ns_of(date(2026, 1, 6), 18),
    ):
        core.clock(now)
        heard.append((len(core.completed()), fill.time >= core.told_since))
    assert heard == [(1, True), (1, True), (1, True), (0, False)]


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from(["place", "cancel", "change", "bar"]), TICKS),
        max_size=40,
    )
)
def test_any_sequence_of_requests_keeps_the_books_in_step(
    steps: list[tuple[int, str, int]],
) -> None:
    core, told = book()
    core.exchange.opened(MCLG6, 60.0)
    for order_id, what, ticks in steps:
        if what == "bar":
            core.exchange.traded(
                MCLG6, Range(ticks / 100, (ticks + 3) / 100, (ticks - 3) / 100, ticks / 100)
            )
        elif what == "cancel":
            core.cancel(1, order_id)
        else:
            place(
                core,
                order_id,
                order_type="LMT",
                limit_price=str(ticks / 100),
                action="BUY" if order_id % 2 else "SELL",
            )
    assert sum(fill.quantity for fill in told.fills) == core.account.holding(MCLG6).quantity
    assert len({fill.execution_id for fill in told.fills}) == len(told.fills)
    for order in core.orders.values():
        assert order.filled == sum(abs(fill.quantity) for fill in told.fills if fill.order is order)
        assert order.working == (order in core.working())
        final = [status for order_id, status in told.statuses if order_id == order.order_id][-1]
        assert final == order.status
