"""The interfaces of the order book: the listener that reports its events to clients, and the
options in which one TWS differs from another.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.orders import ExecutionReport, Order


class OrderListener(Protocol):
    """Receives the events of the order book, to report them to clients."""

    def open_order(self, order: Order) -> None: ...
    def order_status(self, order: Order) -> None: ...
    def executed(self, execution: ExecutionReport) -> None: ...
    def commission(self, execution: ExecutionReport) -> None: ...
    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None: ...
    def what_if(self, order: Order, before: int, after: int) -> None: ...
    def position_changed(self, listed: Listed) -> None: ...
    def marked(self, listed: Listed) -> None: ...


class BrokerOptions(NamedTuple):
    """The behaviour that differs between TWS versions, accounts and tests."""

    check_margin: bool = False  # 201 when the initial margin would exceed the equity
    # 201 above that many working orders per contract and side; 0: no limit
    orders_per_side: int = 0
    # share of a bar's volume that is there for our orders; 0: all is there, at any size
    liquidity_frac: float = 0.0
    top_size: int = 0  # contracts at the best price when a bar opens; 0: any number
    # the children's status is sent again when the parent has filled
    status_at_parent_fill: bool = True
    # a cancel in the daily break is answered at the next open
    break_cancels_unanswered: bool = True
