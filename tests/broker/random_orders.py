"""Random orders against a second set of books. `python tests/broker/random_orders.py 10000` tries
that many seeds.

The second books know only what clients are told: they add up executions and commissions in whole
ticks and cents, from nothing but the messages, and must agree with positions, cash, account values
and the state of every order.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from mcl.market.calendar import contract, from_day, session_of
from mcl.simulators.tws import render
from mcl.simulators.tws.account import AccountTerms, SimulatedAccount
from mcl.simulators.tws.contracts import Listed, Listings
from mcl.simulators.tws.listener import BrokerOptions
from mcl.simulators.tws.matching import Range
from mcl.simulators.tws.order_book import OrderBook
from mcl.simulators.tws.orders import ExecutionReport, Order
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.tape import Tick

from .tws_harness import SESSION_OPEN_NS, order_request

CAPITAL = 100_000
PLAYED = contract("MCL", 2026, 2)
LISTINGS = Listings(from_day(int(session_of(SESSION_OPEN_NS))), [PLAYED])
MCLG6 = LISTINGS.of(PLAYED)
HOUR = 3_600_000_000_000


@dataclass
class SecondBooks:
    """What a client can know."""

    position: int = 0
    paid_ticks: int = 0
    fee_cents: int = 0
    filled: Counter[int] = field(default_factory=Counter)
    status: dict[int, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    reports: Counter[str] = field(default_factory=Counter)
    told_position: int = 0
    account: SimulatedAccount | None = None

    def open_order(self, order: Order) -> None: ...

    def order_status(self, order: Order) -> None:
        told = render.order_status(order)
        assert told["filled"] + told["remaining"] == order.total
        assert told["filled"] == self.filled[order.order_id]
        self.status[order.order_id] = told["status"]

    def executed(self, execution: ExecutionReport) -> None:
        told = render.execution(execution, -1)
        assert told["execution_id"] not in self.ids
        self.ids.add(told["execution_id"])
        signed = told["shares"] * (1 if told["side"] == "BOT" else -1)
        self.position += signed
        self.paid_ticks += signed * round(float(told["price"]) * 100)
        self.filled[told["order_id"]] += told["shares"]
        assert told["cumulative"] == self.filled[told["order_id"]]

    def commission(self, execution: ExecutionReport) -> None:
        told = render.commission(execution)
        self.reports[told["execution_id"]] += 1
        self.fee_cents += round(told["commission"] * 100)

    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None: ...
    def what_if(self, order: Order, before: int, after: int) -> None: ...

    def position_changed(self, listed: Listed) -> None:
        assert self.account is not None
        self.told_position = render.position(self.account.holding(listed), "DU1")["position"]

    def marked(self, listed: Listed) -> None: ...

    def agree(self, core: OrderBook, mark_ticks: int) -> None:
        account = core.account
        assert self.position == account.holding(MCLG6).quantity == self.told_position
        equity_cents = (
            CAPITAL * 100 + (self.position * mark_ticks - self.paid_ticks) * 100 - self.fee_cents
        )
        values = {(key, currency): text for key, text, currency in account.values()}
        assert abs(float(values["NetLiquidation", "USD"]) * 100 - equity_cents) < 1
        assert (
            abs((account.realized + account.unrealized) * 100 - (equity_cents - CAPITAL * 100))
            < 1e-3
        )
        assert self.reports == Counter(dict.fromkeys(self.ids, 1))
        assert self.fee_cents == 77 * sum(self.filled.values())
        if self.position == 0:
            assert abs(float(values["TotalCashValue", "USD"]) * 100 - equity_cents) < 1
        for order in core.orders.values():
            assert order.filled == self.filled[order.order_id] <= order.total
            assert order.status == self.status.get(order.order_id, order.status)
            assert (order in core.working()) == (order.status in {"PreSubmitted", "Submitted"})
            assert not (
                order.working and order.parent is not None and order.parent.status == "Cancelled"
            )


def trade(seed: int, steps: int = 60) -> int:
    """One session of random orders. Returns the number of executions; AssertionError when the books
    differ.
    """
    luck = random.Random(seed)
    books = SecondBooks()
    options = BrokerOptions(
        liquidity_frac=luck.choice([0.0, 0.1, 0.5]),
        top_size=luck.choice([0, 1, 3]),
        orders_per_side=luck.choice([0, 8]),
    )
    core = OrderBook(
        books,
        LISTINGS,
        SimulatedAccount("DU1", float(CAPITAL), AccountTerms()),
        float(luck.randint(0, 2)),
        options,
    )
    books.account = core.account
    price, now, next_id = 6000, SESSION_OPEN_NS, 1
    core.clock(now)
    move = luck.choice([_bar, _ticks])  # the market is shown by bars, or by quotes and trades
    for _ in range(steps):
        if luck.random() < 0.03:
            core.close_session(now + HOUR)
        elif luck.random() < 0.5:
            price, now = move(core, luck, price, now)
        for _ in range(luck.randint(0, 3)):
            next_id = _request(core, luck, price, next_id)
        core.account.holding(MCLG6).mark = price / 100
        books.agree(core, price)
    return len(core.executions)


def _bar(core: OrderBook, luck: random.Random, price: int, now: int) -> tuple[int, int]:
    open_ = price + luck.randint(-4, 4)
    close = open_ + luck.randint(-8, 8)
    high, low = max(open_, close) + luck.randint(0, 5), min(open_, close) - luck.randint(0, 5)
    core.clock(now)
    core.exchange.halted = luck.random() < 0.05
    core.exchange.opened(MCLG6, open_ / 100)
    core.exchange.traded(
        MCLG6, Range(open_ / 100, high / 100, low / 100, close / 100), luck.randint(0, 40)
    )
    return close, now + 60 * 10**9


def _ticks(core: OrderBook, luck: random.Random, price: int, now: int) -> tuple[int, int]:
    for second in range(luck.randint(1, 5)):
        core.clock(now + second * 10**9)
        core.exchange.halted = luck.random() < 0.05
        price += luck.randint(-3, 3)
        bid = price - luck.randint(0, 1)
        tick = Tick(
            ts=core.now,
            bid=(bid / 100, (bid - 1) / 100),
            ask=((bid + 1) / 100, (bid + 2) / 100),
            bid_size=(luck.randint(0, 4), luck.randint(0, 4)),
            ask_size=(luck.randint(0, 4), luck.randint(0, 4)),
            price=price / 100,
            size=luck.randint(0, 3),
        )
        core.exchange.ticked(MCLG6, tick)
    core.mark(MCLG6, price / 100)
    return price, now + 60 * 10**9


def _request(core: OrderBook, luck: random.Random, price: int, next_id: int) -> int:
    known = luck.randint(max(1, next_id - 8), next_id)
    what = luck.random()
    if what < 0.15:
        core.cancel(1, known)
        return next_id
    if what < 0.17:
        core.cancel_all()
        return next_id
    order_id = known if what < 0.3 else next_id
    _place(core, luck, price, order_id)
    return next_id + (order_id == next_id)


def _place(core: OrderBook, luck: random.Random, price: int, order_id: int) -> None:
    def near() -> str:
        return f"{(price + luck.randint(-12, 12)) / 100:.2f}"

    kind = luck.choice(["MKT", "LMT", "LMT", "STP", "STP LMT", "TRAIL", "MIT"])
    values = {
        "order_type": kind,
        "action": luck.choice(["BUY", "SELL"]),
        "quantity": str(luck.randint(1, 4)),
        "account": "DU1",
    }
    if kind in {"LMT", "STP LMT"}:
        values["limit_price"] = near()
    if kind in {"STP", "STP LMT", "MIT"}:
        values["aux_price"] = near()
    if kind == "TRAIL":
        values["aux_price"] = f"{luck.randint(2, 12) / 100}"
    values["tif"] = luck.choice(["DAY", "GTC", "IOC", "GTD"])
    if values["tif"] == "GTD":
        values["good_till_date"] = f"20260105-23:{luck.randint(0, 59):02d}:00"
    if luck.random() < 0.3:
        values |= {"oca_group": luck.choice("ab"), "oca_type": luck.choice("123")}
    if luck.random() < 0.3:
        values |= {"parent_id": str(max(1, order_id - luck.randint(1, 3)))}
    values |= {"transmit": luck.choice("0111"), "outside_rth": luck.choice("0111")}
    core.place(REQUESTS[3].decode(178, order_request(**(values | {"order_id": str(order_id)}))), 1)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    start, executions = time.perf_counter(), 0
    for seed in range(count):
        try:
            executions += trade(seed)
        except AssertionError:
            print(f"seed {seed} differs")
            raise
    print(
        f"{count} seeds, {executions} executions: both sets of books agree"
        f" ({time.perf_counter() - start:.0f} s)"
    )


if __name__ == "__main__":
    main()
