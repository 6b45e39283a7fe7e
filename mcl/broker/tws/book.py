"""The broker core: accepts, changes, cancels and fills orders, and says so in the order in which a TWS does.

It knows neither sockets nor messages: everything that clients may learn goes through a `Sink`, in sequence. Numbers, ids and
times are deterministic. One price per contract is known between bars (the open of the bar in progress); market orders fill
there. When a bar completes, resting orders are matched against it by the rule of the simulation engine:

* stops before limits, whatever the order of prices within the bar was
* a bar that opens beyond a level fills at the open, otherwise at the level
* `slippage_ticks` against the trader on all that trades at the market (MKT, STP, MIT), none on limits
"""

from __future__ import annotations

from typing import Protocol

from mcl.broker.tws.account import Account
from mcl.broker.tws.contracts import Listed, Listings
from mcl.broker.tws.messages import Values
from mcl.broker.tws.orders import KINDS, TIFS, Execution, Order, order_from

FIRST_PERM_ID = 1_500_000_001


class Sink(Protocol):
    """Who tells the clients."""

    def open_order(self, order: Order) -> None: ...
    def order_status(self, order: Order) -> None: ...
    def executed(self, execution: Execution) -> None: ...
    def commission(self, execution: Execution) -> None: ...
    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None: ...
    def what_if(self, order: Order, before: int, after: int) -> None: ...
    def position_changed(self, listed: Listed) -> None: ...
    def marked(self, listed: Listed) -> None: ...


class Reject(Exception):
    """A request that the broker answers with an error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Book:
    """All orders of the account. `now` is the market clock (ns), kept by the player."""

    def __init__(self, sink: Sink, listings: Listings, account: Account, slippage_ticks: float) -> None:
        self.sink, self.listings, self.account, self.slippage_ticks = sink, listings, account, slippage_ticks
        self.now = 0
        self.orders: dict[tuple[int, int], Order] = {}  # (client id, order id), in order of arrival
        self.executions: list[Execution] = []
        self._active: dict[int, Order] = {}  # by perm_id: those of `orders` that can still fill
        self._prices: dict[int, float] = {}  # by con_id: what a market order would get now, before slippage
        self._next_perm_id = FIRST_PERM_ID
        self._closed = False

    # ------------------------------------------------------------------------------------------------------- requests

    def place(self, request: Values, client_id: int) -> None:
        """A placeOrder: a new order, a change of a working one, or a what-if."""
        order_id = request["order_id"]
        try:
            known = self.orders.get((client_id, order_id))
            if known is not None:
                self._modify(known, request)
            elif request["what_if"]:
                self._what_if(self._accept(request, client_id))
            else:
                self._add(self._accept(request, client_id))
        except Reject as reject:
            self.sink.order_error(client_id, order_id, reject.code, reject.text)

    def cancel(self, client_id: int, order_id: int) -> None:
        order = self.orders.get((client_id, order_id))
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            self.sink.order_error(client_id, order_id, 10147, text)
        elif not order.working:
            text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
            self.sink.order_error(client_id, order_id, 10148, text)
        else:
            self._cancel(order)

    def cancel_all(self) -> None:
        for order in list(self._active.values()):
            if order.working:
                self._cancel(order)

    def working(self, client_id: int | None = None) -> list[Order]:
        """Orders that clients can see and that can still fill; of one client, or of all."""
        return [o for o in self._active.values() if o.status != "Held" and client_id in {None, o.client_id}]

    def completed(self) -> list[Order]:
        return [order for order in self.orders.values() if order.status in {"Filled", "Cancelled"}]

    def next_valid_id(self, client_id: int) -> int:
        return max((order_id for client, order_id in self.orders if client == client_id), default=0) + 1

    # --------------------------------------------------------------------------------------------------------- market

    def price(self, listed: Listed) -> float | None:
        return self._prices.get(listed.con_id)

    def opened(self, listed: Listed, price: float) -> None:
        """A bar opens: from now on market orders fill at its open."""
        self._prices[listed.con_id] = price
        for order in self._resting(listed, "MKT"):
            self._fill_at_market(order, price)

    def traded(self, listed: Listed, open_: float, high: float, low: float, close: float) -> None:
        """A bar completes: the orders that rested during it are matched, stops first; then the account is marked at the close."""
        for order in self._resting(listed, "STP"):
            if order.live and (high >= order.trigger if order.side > 0 else low <= order.trigger):
                worst = max(open_, order.trigger) if order.side > 0 else min(open_, order.trigger)
                self._fill(order, worst + order.side * self._slippage(order), liquidity=2)
        for order in self._resting(listed, "LMT", "MIT"):
            level = order.limit if order.kind == "LMT" else order.trigger
            if order.live and (low <= level if order.side > 0 else high >= level):
                best = min(open_, level) if order.side > 0 else max(open_, level)
                slip = order.side * self._slippage(order) if order.kind == "MIT" else 0.0
                self._fill(order, best + slip, liquidity=2 if order.kind == "MIT" else 1)
        self.account.holding(listed).mark = close
        self.sink.marked(listed)

    def session_over(self) -> None:
        """The exchange closes: day orders end, no market price is left."""
        for order in self.working():
            if order.tif == "DAY" and order.working:
                self._cancel(order, "Order Canceled - reason:The session has ended")
        self._prices.clear()
        self._closed = True

    def _resting(self, listed: Listed, *kinds: str) -> list[Order]:
        return [o for o in self._active.values() if o.live and o.kind in kinds and o.listed is listed]

    def _slippage(self, order: Order) -> float:
        return self.slippage_ticks * order.listed.instrument.tick_size

    # ------------------------------------------------------------------------------------------------------ accepting

    def _accept(self, request: Values, client_id: int) -> Order:
        if self._closed:
            raise Reject(201, "Order rejected - reason:The replay has ended, the exchange is closed.")
        listed = self._contract(request)
        self._check(request, listed)
        order = order_from(request, client_id, self._perm_id(), listed)
        order.account = order.account or self.account.name
        if order.parent_id:
            order.parent = self.orders.get((client_id, order.parent_id))
            if order.parent is None:
                raise Reject(135, f"Can't find order with id ={order.parent_id}")
            if order.parent.status in {"Cancelled", "Inactive"}:
                raise Reject(201, "Order rejected - reason:The parent order is being cancelled.")
            order.oca_group = order.oca_group or str(order.parent.perm_id)
        return order

    def _contract(self, request: Values) -> Listed:
        if request["sec_type"] not in {"FUT", ""}:
            raise Reject(321, "Error validating request.-'bQ' : cause - Please enter a valid security type")
        if not request["exchange"]:
            raise Reject(321, "Error validating request.-'bN' : cause - Missing order exchange.")
        found = self.listings.find(request)
        if len(found) != 1:
            raise Reject(200, _NO_CONTRACT if not found else _AMBIGUOUS)
        return found[0]

    def _check(self, request: Values, listed: Listed) -> None:
        quantity = request["quantity"] or 0
        price = request["limit_price"] if request["order_type"] == "LMT" else request["aux_price"]
        if quantity != int(quantity):
            raise Reject(10318, "This order doesn't support fractional quantity trading")
        if quantity <= 0:
            raise Reject(434, "The order size cannot be zero.")
        if request["order_type"] not in KINDS or request["action"] not in {"BUY", "SELL"}:
            raise Reject(387, "Unsupported order type for this exchange and security type.")
        if (request["tif"] or "DAY") not in TIFS:
            raise Reject(10052, f"Invalid time in force:{request['tif']}")
        if request["account"] not in {"", self.account.name}:
            raise Reject(321, "Error validating request.-'bP' : cause - Invalid account code")
        if request["order_type"] != "MKT":
            if price is None:
                raise Reject(463, "You must enter a valid price.")
            if not listed.on_tick(price):
                raise Reject(110, "The price does not conform to the minimum price variation for this contract.")

    def _perm_id(self) -> int:
        self._next_perm_id += 1
        return self._next_perm_id - 1

    def _what_if(self, order: Order) -> None:
        held = self.account.holding(order.listed).quantity
        self.sink.what_if(order, held, held + order.side * order.total)

    def _add(self, order: Order) -> None:
        self.orders[order.client_id, order.order_id] = self._active[order.perm_id] = order
        if order.parent is not None:
            order.parent.children.append(order)
        if order.transmit:
            self._release(order.parent or order)

    def _release(self, root: Order) -> None:
        """Send a tree on its way: parent first, then its children."""
        held = [order for order in (root, *root.children) if order.status == "Held"]
        for order in held:
            self._announce(order)
        for order in held:
            self._fill_if_marketable(order)

    def _announce(self, order: Order) -> None:
        price = self._prices.get(order.listed.con_id)
        resting = order.kind == "LMT" and not order.waits_for_parent and not _crosses(order, price)
        order.status = "Submitted" if resting else "PreSubmitted"
        self.sink.open_order(order)
        self.sink.order_status(order)

    def _fill_if_marketable(self, order: Order) -> None:
        price = self._prices.get(order.listed.con_id)
        if price is not None and order.live and (order.kind == "MKT" or _crosses(order, price)):
            self._fill_at_market(order, price)

    def _modify(self, order: Order, request: Values) -> None:
        if not order.working:
            raise Reject(*((104, "Cannot modify a filled order.") if order.status == "Filled" else (103, "Duplicate order id")))
        if (request["action"] == "BUY") != (order.side > 0) or self._contract(request) is not order.listed:
            raise Reject(105, "Order being modified does not match original order.")
        if request["order_type"] != order.kind:
            raise Reject(329, "Order modify failed. Cannot change to the new order type.")
        self._check(request, order.listed)
        changed = order_from(request, order.client_id, order.perm_id, order.listed)
        order.total, order.limit, order.trigger, order.tif = changed.total, changed.limit, changed.trigger, changed.tif
        order.outside_rth, order.transmit = changed.outside_rth, changed.transmit
        if order.status == "Held":
            if order.transmit:
                self._release(order.parent or order)
            return
        order.revision += 1
        self._announce(order)
        self._fill_if_marketable(order)

    # -------------------------------------------------------------------------------------------------------- endings

    def _cancel(self, order: Order, text: str = "Order Canceled - reason:") -> None:
        visible = order.status != "Held"
        self._active.pop(order.perm_id, None)
        order.status, order.completed_at, order.completed_text = "Cancelled", self.now, "Cancelled by Trader"
        if visible:
            self.sink.order_status(order)
            self.sink.order_error(order.client_id, order.order_id, 202, text)
        for child in order.children:
            if child.working:
                self._cancel(child, text)

    def _fill_at_market(self, order: Order, price: float) -> None:
        slipped = price + order.side * self._slippage(order)
        if order.kind == "LMT":
            slipped = min(slipped, order.limit) if order.side > 0 else max(slipped, order.limit)
        self._fill(order, slipped, liquidity=2)

    def _fill(self, order: Order, price: float, liquidity: int) -> None:
        """A complete fill, in the recorded sequence 11 · 5 · 3 · 5 with commission · 3 again · 59."""
        self._active.pop(order.perm_id, None)
        price = round(price, 8)
        quantity = order.side * order.remaining
        fee, realized = self.account.trade(order.listed, quantity, price)
        order.filled, order.average_price, order.last_price = order.total, price, price
        order.status, order.completed_at, order.completed_text = "Filled", self.now, f"Filled Size: {order.total}"
        execution_id = f"0000e9b5.{len(self.executions) + 1:08x}.01.01"
        execution = Execution(order, execution_id, self.now, quantity, price, order.filled, order.average_price, liquidity, fee, realized)
        self.executions.append(execution)
        self.sink.executed(execution)
        self.sink.open_order(order)
        self.sink.order_status(order)
        order.commission = fee
        self.sink.open_order(order)
        self.sink.order_status(order)
        self.sink.commission(execution)
        self.sink.position_changed(order.listed)
        self._after_fill(order)

    def _after_fill(self, order: Order) -> None:
        if order.oca_group:
            for other in [o for o in self._active.values() if o.oca_group == order.oca_group]:
                self._cancel(other)
        for child in order.children:
            if child.working and child.status != "Held":
                child.status = "Submitted" if child.kind == "LMT" else "PreSubmitted"
                self.sink.order_status(child)
        for child in order.children:
            self._fill_if_marketable(child)


_NO_CONTRACT = "No security definition has been found for the request"
_AMBIGUOUS = "The contract description specified is ambiguous; you must specify the contract more closely."


def _crosses(order: Order, price: float | None) -> bool:
    """Would this limit order trade at `price`?"""
    if price is None or order.kind != "LMT":
        return False
    return price <= order.limit if order.side > 0 else price >= order.limit
