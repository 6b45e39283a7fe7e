"""The orders of the account: accepts, changes, cancels and fills them, and says so in the order in
which a TWS does.

It knows neither sockets nor messages: everything that clients may learn goes through an
`OrderListener`, in sequence. Numbers, ids and times are deterministic. What trades when, and at
what price, is decided by its `exchange`.
"""

from __future__ import annotations

from datetime import timedelta

from mcl.market import calendar
from mcl.simulators.tws import checks, matching
from mcl.simulators.tws.account import SimulatedAccount
from mcl.simulators.tws.checks import Reject
from mcl.simulators.tws.contracts import Listed, Listings
from mcl.simulators.tws.exchange import Exchange
from mcl.simulators.tws.listener import BrokerOptions, OrderListener
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.orders import (
    OCA_CANCELS,
    TRAILING,
    ExecutionReport,
    Order,
    Refusal,
    Status,
    order_from,
)
from mcl.simulators.tws.stamps import local_time

MOST_PER_DAY = 100_000  # executions
FIRST_PERM_ID = 1_500_000_001


class OrderBook:
    """All orders of the account. `now` is the market clock (ns), kept by the player."""

    def __init__(
        self,
        listener: OrderListener,
        listings: Listings,
        account: SimulatedAccount,
        slippage_ticks: float,
        options: BrokerOptions | None = None,
    ) -> None:
        self.listener, self.listings, self.account = listener, listings, account
        self.options = options or BrokerOptions()
        self.now = 0
        self.exchange = Exchange(self, self.options, slippage_ticks)
        self.orders: dict[tuple[int, int], Order] = {}  # (client id, order id), in order of arrival
        self.executions: list[ExecutionReport] = []
        # so many ids were given; one that is cancelled later does not give its id to another
        self.executed = 0
        # by perm_id: changed since somebody last wrote them down
        self.touched: dict[int, Order] = {}
        self.next_perm_id = FIRST_PERM_ID
        # groups and brackets no longer cancel each other: what a race at the exchange looks like
        self.oca_off = False
        self._over: set[str] = set()  # groups of which an order has filled
        self._active: dict[int, Order] = {}  # by perm_id: those of `orders` that can still fill

    # ------------------------------------------------------------------------------------- requests

    def place(self, request: Values, client_id: int, refusal: Refusal | None = None) -> None:
        """A placeOrder: a new order, a change of a working one, or a what-if. With a `refusal` it
        comes to nothing.
        """
        order_id = request["order_id"]
        try:
            existing = self.orders.get((client_id, order_id))
            if request["what_if"]:
                self._what_if(self.accept(request, client_id))
            elif existing is not None:
                self._modify(existing, request, refusal)
            else:
                self._add(self.accept(request, client_id), refusal)
        except Reject as reject:
            self.listener.order_error(client_id, order_id, reject.code, reject.text)
            self._lost_child(request, client_id, reject.code)

    def cancel(self, client_id: int, order_id: int) -> None:
        order = self.orders.get((client_id, order_id))
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            self.listener.order_error(client_id, order_id, 10147, text)
        elif not order.working:
            text = (
                f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state:"
                f" {order.status}."
            )
            self.listener.order_error(client_id, order_id, 10148, text)
        elif self.exchange.holds_cancels:
            if not self.exchange.leave_later(order):
                self.listener.order_error(
                    client_id,
                    order_id,
                    161,
                    "Cancel attempted when order is not in a cancellable state.",
                )
        else:
            self.end(order)

    def cancel_all(self) -> None:
        for order in list(self._active.values()):
            if order.working:
                self.end(order)

    def working(self, client_id: int | None = None) -> list[Order]:
        """Orders that clients can see and that can still fill; of one client, or of all."""
        return [
            o
            for o in self._active.values()
            if o.status != "Held" and client_id in {None, o.client_id}
        ]

    def completed(self) -> list[Order]:
        """Those of today: a TWS forgets them as it forgets executions."""
        since = self.told_since
        done = (order for order in self.orders.values() if order.status in {"Filled", "Cancelled"})
        return [order for order in done if order.completed_at >= since]

    @property
    def told_since(self) -> int:
        """Midnight, New York, before the session opened. Who asks later than on that day hears no
        more of what was before.
        """
        evening = calendar.from_day(int(calendar.session_of(self.now))) - timedelta(days=1)
        return calendar.ns_of(evening, 0)

    def next_valid_id(self, client_id: int) -> int:
        return (
            max((order_id for client, order_id in self.orders if client == client_id), default=0)
            + 1
        )

    def restore(
        self,
        orders: list[Order],
        executions: list[ExecutionReport],
        next_perm_id: int,
        executed: int,
    ) -> None:
        """Take over the orders and executions of an earlier life of this server."""
        self.orders = {(order.client_id, order.order_id): order for order in orders}
        self._active = {order.perm_id: order for order in orders if order.working}
        self._over = {
            order.oca_group for order in orders if order.status == "Filled" and order.oca_group
        }
        self.executions, self.next_perm_id, self.executed = executions, next_perm_id, executed

    def begin_day(self, day: int) -> None:
        """Executions are numbered beyond those of all days before, as at a broker. Days since
        1970-01-01.
        """
        self.executed = max(self.executed, day * MOST_PER_DAY)

    # ---------------------------------------------------------------------------- for the exchange

    def clock(self, now: int) -> None:
        """The market clock moves; orders with an end may end."""
        self.now = now
        for order in [o for o in self._active.values() if o.good_till_ns and o.good_till_ns <= now]:
            self.end(order, "Order Canceled - reason:The time in force has expired")

    def close_session(self, opens_ns: int | None) -> None:
        """End day orders; until `opens_ns` (None: for ever) orders are accepted but not worked."""
        for order in list(self._active.values()):
            if order.tif in {"DAY", "IOC"} and order.working:
                self.end(order, "Order Canceled - reason:The session has ended")
        self.exchange.close(opens_ns)

    def expire(self) -> None:
        """A new session begins: orders of contracts that no longer trade end."""
        for order in list(self._active.values()):
            if order.working and self.listings.expired(order.listed):
                self.end(order, "Order Canceled - reason:The contract has expired")

    def reopened(self) -> None:
        for order in self.working():
            if order.takes_limit and order.live and order.status == "PreSubmitted":
                self.submitted(order)

    def resting(self, listed: Listed) -> list[Order]:
        """Orders of one contract that are at the market."""
        return [o for o in self._active.values() if o.listed is listed and o.live]

    def touch(self, order: Order) -> None:
        """Something changed in it that clients are not told, but that is to be kept."""
        self.touched[order.perm_id] = order

    def submitted(self, order: Order) -> None:
        self._tell(order, "Submitted")

    def mark(self, listed: Listed, price: float) -> None:
        """Value a holding at `price`."""
        self.account.holding(listed).mark = price
        self.listener.marked(listed)

    # ------------------------------------------------------------------------------------ accepting

    def accept(self, request: Values, client_id: int) -> Order:
        if self.exchange.closed:
            raise Reject(
                201, "Order rejected - reason:The replay has ended, the exchange is closed."
            )
        listed = checks.contract(request, self.listings)
        checks.order(request, listed, self.account.name)
        order = order_from(request, client_id, self._perm_id(), listed)
        order.account = order.account or self.account.name
        order.good_till_ns = checks.instant(order.good_till) if order.tif == "GTD" else 0
        if order.parent_id:
            self._join(order)
        checks.limits(order, self._active.values(), self.account, self.options)
        return order

    def _join(self, order: Order) -> None:
        order.parent = self.orders.get((order.client_id, order.parent_id))
        if order.parent is None:
            raise Reject(135, f"Can't find order with id ={order.parent_id}")
        if order.parent.status in {"Cancelled", "Inactive"}:
            raise Reject(201, "Order rejected - reason:The parent order is being cancelled.")
        order.oca_group = order.oca_group or str(order.parent.perm_id)

    def _perm_id(self) -> int:
        self.next_perm_id += 1
        return self.next_perm_id - 1

    def _what_if(self, order: Order) -> None:
        position = self.account.holding(order.listed).quantity
        self.listener.what_if(order, position, position + order.side * order.total)

    def _lost_child(self, request: Values, client_id: int, code: int) -> None:
        """A child that is refused for its price does not stop the rest of its bracket, which then
        is without protection.
        """
        parent = self.orders.get((client_id, request["parent_id"] or 0))
        if code == checks.OFF_TICK and parent is not None and request["transmit"]:
            self._release(parent)

    def _add(self, order: Order, refusal: Refusal | None = None) -> None:
        order.refusal = refusal
        self.orders[order.client_id, order.order_id] = self._active[order.perm_id] = self.touched[
            order.perm_id
        ] = order
        if order.parent is not None:
            order.parent.children.append(order)
        if order.transmit:
            self._release(order.parent or order)

    def _release(self, root: Order) -> None:
        """Send a tree on its way: parent first, then its children. What is refused takes its
        children along.
        """
        parked = [order for order in (root, *root.children) if order.status == "Held"]
        for order in parked:
            self._show(order)
        for order in parked:
            if order.refusal is not None and order.perm_id in self._active:
                self._refuse(order, order.refusal)
        for order in parked:
            if order.working and order.oca_group in self._over and not self.oca_off:
                self.end(order)  # its group has done its work
            else:
                self.exchange.arrive(order)

    def _show(self, order: Order) -> None:
        refusal = order.refusal or (order.parent.refusal if order.parent else None)
        if refusal is None or (order.refusal is None and refusal.first_status):
            self._announce(order)
        elif refusal.first_status:
            self._tell(order, refusal.first_status)

    def _refuse(self, order: Order, refusal: Refusal) -> None:
        """It dies at birth, or right after it was shown; children that were shown are cancelled,
        the others refused like it.
        """
        self._active.pop(order.perm_id, None)
        self.touched[order.perm_id] = order
        order.status = "Inactive"
        self.listener.order_error(order.client_id, order.order_id, refusal.code, refusal.text)
        for child in order.children:
            if child.status == "Held" or child.refusal is not None:
                self._refuse(child, child.refusal or refusal)
            elif child.working:
                self.end(child)

    def _announce(self, order: Order) -> None:
        if not order.waits_for_parent:
            self._start_trailing(order, self.exchange.price(order.listed))
        opens_ns = self.exchange.opens_ns
        if opens_ns is not None:
            self._warn_of_break(order, opens_ns)
        resting = (
            order.takes_limit
            and not order.waits_for_parent
            and not self.exchange.crosses(order)
            and opens_ns is None
        )
        self._tell(order, "Submitted" if resting or order.filled else "PreSubmitted")

    def _start_trailing(self, order: Order, price: float | None) -> None:
        if order.kind in TRAILING and not order.trigger and price is not None:
            order.trail_to(matching.trailed(order, price))

    def _warn_of_break(self, order: Order, opens_ns: int) -> None:
        side, listed = "BUY" if order.side > 0 else "SELL", order.listed
        opens = local_time(opens_ns)
        line = f"{side} {order.total} {listed.local_symbol} {listed.instrument.exchange}"
        text = (
            f"Order Message:\n{line}\nWarning: your order will not be placed at the exchange until"
            f" {opens}"
        )
        self.listener.order_error(order.client_id, order.order_id, 399, text)

    def _tell(self, order: Order, status: Status | None = None) -> None:
        if status is not None:
            order.status = status
        self.touched[order.perm_id] = order
        self.listener.open_order(order)
        self.listener.order_status(order)

    def _modify(self, order: Order, request: Values, refusal: Refusal | None) -> None:
        if not order.working:
            raise Reject(
                *(
                    (104, "Cannot modify a filled order.")
                    if order.status == "Filled"
                    else (103, "Duplicate order id")
                )
            )
        if (request["action"] == "BUY") != (order.side > 0) or checks.contract(
            request, self.listings
        ) is not order.listed:
            raise Reject(105, "Order being modified does not match original order.")
        if request["order_type"] != order.kind:
            raise Reject(329, "Order modify failed. Cannot change to the new order type.")
        checks.order(request, order.listed, self.account.name)
        if int(request["quantity"]) <= order.filled:
            raise Reject(104, "Cannot modify a filled order.")
        if refusal is not None:
            raise Reject(refusal.code, refusal.text)  # it works on as it was
        self._change(order, order_from(request, order.client_id, order.perm_id, order.listed))
        if order.status == "Held":
            if order.transmit:
                self._release(order.parent or order)
            return
        order.revision += 1
        self._announce(order)
        self.exchange.arrive(order)

    def _change(self, order: Order, changed: Order) -> None:
        until = checks.instant(changed.good_till) if changed.tif == "GTD" else 0
        order.total, order.limit, order.tif = changed.total, changed.limit, changed.tif
        trails = order.kind in TRAILING
        order.trail, order.trail_percent = changed.trail, changed.trail_percent
        order.limit_offset = changed.limit_offset
        order.trigger = changed.trigger or (order.trigger if trails else 0.0)
        if trails and order.trigger:
            order.trail_to(order.trigger)
        order.good_till, order.good_till_ns = changed.good_till, until
        order.outside_rth, order.transmit = changed.outside_rth, changed.transmit

    # -------------------------------------------------------------------------------------- endings

    def end(self, order: Order, text: str = "Order Canceled - reason:", code: int = 202) -> None:
        """Cancel a working order and its children."""
        visible = order.status != "Held"
        self._active.pop(order.perm_id, None)
        self.touched[order.perm_id] = order
        order.status, order.completed_at, order.completed_text = (
            "Cancelled",
            self.now,
            "Cancelled by Trader",
        )
        if visible:
            self.listener.order_status(order)
            self.listener.order_error(order.client_id, order.order_id, code, text)
        for child in order.children:
            if child.working:
                self.end(child, text)

    def fill(self, order: Order, quantity: int, price: float, liquidity: int = 2) -> None:
        """`quantity` contracts trade. Complete: 11 · 5 · 3 · 5 with commission · 3 again · 59 as
        recorded; a part: 11 · 5 · 3 · 59.
        """
        before, price = order.remaining, round(price, 8)
        execution = self._execute(order, quantity, price, liquidity)
        self.listener.executed(execution)
        if order.remaining:
            self._tell(order, "Submitted")
        else:
            self._active.pop(order.perm_id, None)
            order.completed_at, order.completed_text = self.now, f"Filled Size: {order.total}"
            self._tell(order, "Filled")
            order.commission = round(order.fees, 10)
            self._tell(order)
        self.listener.commission(execution)
        self.listener.position_changed(order.listed)
        self._after_fill(order, quantity, before)

    def _execute(
        self, order: Order, quantity: int, price: float, liquidity: int
    ) -> ExecutionReport:
        fee, realized = self.account.trade(order.listed, order.side * quantity, price)
        order.average_price = round(
            (order.average_price * order.filled + price * quantity) / (order.filled + quantity), 10
        )
        order.filled += quantity
        order.last_price, order.fees = price, order.fees + fee
        self.executed += 1
        name = f"0000e9b5.{self.executed:08x}.01.01"
        signed, average = order.side * quantity, order.average_price
        execution = ExecutionReport(
            order, name, self.now, signed, price, order.filled, average, liquidity, fee, realized
        )
        self.executions.append(execution)
        return execution

    def _after_fill(self, order: Order, quantity: int, before: int) -> None:
        if order.oca_group and not self.oca_off:
            for other in [
                o
                for o in self._active.values()
                if o.oca_group == order.oca_group and o is not order
            ]:
                self._reduce(other, quantity, before)
        if order.status != "Filled":
            return
        if order.oca_group:
            self._over.add(order.oca_group)
        for child in order.children:
            if child.working and child.status != "Held":
                child.status = "Submitted" if child.takes_limit else "PreSubmitted"
                self._start_trailing(child, order.last_price)
                self.touched[child.perm_id] = child
                if self.options.status_at_parent_fill:
                    self.listener.order_status(child)
        for child in order.children:
            self.exchange.arrive(child)

    def _reduce(self, other: Order, quantity: int, before: int) -> None:
        """An order of the same group has filled `quantity` of the `before` contracts that it had
        left.
        """
        share = round(other.remaining * quantity / before)
        if other.oca_type == OCA_CANCELS or share >= other.remaining:
            self.end(other)
        elif share and other.status != "Held":
            other.total -= share
            self._tell(other)
