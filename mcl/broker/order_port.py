"""Define the interface that trading needs of a connection, and an order as it will be sent."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from mcl.broker.protocol import QualifiedContract
from mcl.market.account_value import Margin

# type of a group at the broker: what fills of one order is taken off the others, one order at the
# exchange at a time
REDUCES = 2
DONE = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})
# what says that the server has an order
WORKING = frozenset({"PreSubmitted", "Submitted", "Filled"})
CANCELLED = frozenset({202})


class Ticket(NamedTuple):
    """One order as it will be sent. `quantity` is signed; `price` is limit or trigger, NaN for a
    market order.
    """

    quantity: int
    ref: str
    kind: str  # MKT, LMT, STP, MIT
    price: float
    tif: str
    oca_group: str
    parent_id: int
    transmit: bool
    order_id: int  # not 0: change this order

    def fields(self, account: str) -> dict[str, Any]:
        """Of the library's order. Nothing is left to presets."""
        more: dict[str, Any] = (
            {}
            if self.kind == "MKT"
            else {"lmtPrice" if self.kind == "LMT" else "auxPrice": self.price}
        )
        if self.oca_group:
            more |= {"ocaGroup": self.oca_group, "ocaType": REDUCES}
        return more | {
            "orderId": self.order_id,
            "action": "BUY" if self.quantity > 0 else "SELL",
            "totalQuantity": abs(self.quantity),
            "orderType": self.kind,
            "tif": self.tif,
            "account": account,
            "orderRef": self.ref,
            "outsideRth": True,
            "parentId": self.parent_id,
            "transmit": self.transmit,
        }


def market_order(quantity: int, ref: str) -> Ticket:
    """An order for the market that stands alone."""
    return single_order(quantity, ref, kind="MKT", price=math.nan, tif="DAY")


def single_order(quantity: int, ref: str, *, kind: str, price: float, tif: str) -> Ticket:
    """An order that stands alone: no group, no parent, sent at once."""
    return Ticket(
        quantity=quantity,
        ref=ref,
        kind=kind,
        price=price,
        tif=tif,
        oca_group="",
        parent_id=0,
        transmit=True,
        order_id=0,
    )


class OrderPort(Protocol):
    """The interface that trading needs of a connection. A `trade` is the library's live record of
    an order.
    """

    def send(self, pinned: QualifiedContract, ticket: Ticket) -> Any: ...
    def revoke(self, trade: Any) -> None: ...
    def check(self) -> None: ...
    async def open_trades(self) -> list[Any]: ...
    async def own_trades(self, pinned: QualifiedContract) -> list[Any]: ...
    async def catch_up(self) -> None: ...
    async def agreed(self, pinned: QualifiedContract) -> None: ...
    def last_price(self, pinned: QualifiedContract) -> float: ...
    async def margin(self, pinned: QualifiedContract, quantity: int) -> Margin: ...
    def equity_usd(self) -> float: ...
    def now(self) -> int: ...


def remaining(trade: Any) -> int:
    """The unfilled quantity of an order, bought > 0."""
    order = trade.order
    return int(order.totalQuantity - trade.orderStatus.filled) * (
        1 if order.action == "BUY" else -1
    )


def price_of(trade: Any) -> float:
    """Its limit or trigger."""
    order = trade.order
    return float(order.lmtPrice if order.orderType == "LMT" else order.auxPrice)
