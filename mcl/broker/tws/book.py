"""The broker core: accepts, changes, cancels and fills orders, and says so in the order in which a TWS does.

It knows neither sockets nor messages: everything that clients may learn goes through a `Sink`, in sequence. Numbers, ids and
times are deterministic. One price per contract is known between bars (the open of the bar in progress); market orders fill
there. When a bar completes, resting orders are matched against it by the rule of `matching`, stops before limits;
`slippage_ticks` goes against the trader on all that trades at the market, none on limits.
"""

from __future__ import annotations

from mcl import calendar
from mcl.broker.tws import checks, matching
from mcl.broker.tws.account import Account
from mcl.broker.tws.checks import Reject
from mcl.broker.tws.contracts import Listed, Listings
from mcl.broker.tws.matching import Range
from mcl.broker.tws.messages import Values
from mcl.broker.tws.orders import OCA_CANCELS, Execution, Order, Status, order_from
from mcl.broker.tws.render import local_time
from mcl.broker.tws.sink import Habits, Sink

FIRST_PERM_ID = 1_500_000_001
_LIQUID_NS = (
    (9 * 60 + 30) * 60 * calendar.NS,
    17 * 3600 * calendar.NS,
)  # 09:30 to 17:00 New York: when orders without outsideRth are triggered


class Book:
    """All orders of the account. `now` is the market clock (ns), kept by the player."""

    def __init__(self, sink: Sink, listings: Listings, account: Account, slippage_ticks: float, habits: Habits | None = None) -> None:
        self.sink, self.listings, self.account, self.slippage_ticks = sink, listings, account, slippage_ticks
        self.habits = habits or Habits()
        self.now = 0
        self.halted = False
        self.orders: dict[tuple[int, int], Order] = {}  # (client id, order id), in order of arrival
        self.executions: list[Execution] = []
        self.touched: dict[int, Order] = {}  # by perm_id: changed since somebody last wrote them down
        self.next_perm_id = FIRST_PERM_ID
        self.oca_off = False  # groups and brackets no longer cancel each other: what a race at the exchange looks like
        self._active: dict[int, Order] = {}  # by perm_id: those of `orders` that can still fill
        self._prices: dict[int, float] = {}  # by con_id: what a market order would get now, before slippage
        self._room: dict[int, int] = {}  # by con_id: contracts that can still trade in this bar; absent: any number
        self._in_break: int | None = None  # when the exchange opens again (ns)
        self._cancel_later: dict[int, Order] = {}  # cancels that wait for the end of the break
        self._closed = False

    # ------------------------------------------------------------------------------------------------------- requests

    def place(self, request: Values, client_id: int) -> None:
        """A placeOrder: a new order, a change of a working one, or a what-if."""
        order_id = request["order_id"]
        try:
            known = self.orders.get((client_id, order_id))
            if request["what_if"]:
                self._what_if(self.accept(request, client_id))
            elif known is not None:
                self._modify(known, request)
            else:
                self._add(self.accept(request, client_id))
        except Reject as reject:
            self.sink.order_error(client_id, order_id, reject.code, reject.text)
            self._lost_child(request, client_id, reject.code)

    def cancel(self, client_id: int, order_id: int) -> None:
        order = self.orders.get((client_id, order_id))
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            self.sink.order_error(client_id, order_id, 10147, text)
        elif not order.working:
            text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
            self.sink.order_error(client_id, order_id, 10148, text)
        elif order.perm_id in self._cancel_later:
            self.sink.order_error(client_id, order_id, 161, "Cancel attempted when order is not in a cancellable state.")
        elif self._in_break is not None and self.habits.break_cancels_unanswered:
            self._cancel_later[order.perm_id] = order
        else:
            self.end(order)

    def cancel_all(self) -> None:
        for order in list(self._active.values()):
            if order.working:
                self.end(order)

    def working(self, client_id: int | None = None) -> list[Order]:
        """Orders that clients can see and that can still fill; of one client, or of all."""
        return [o for o in self._active.values() if o.status != "Held" and client_id in {None, o.client_id}]

    def completed(self) -> list[Order]:
        return [order for order in self.orders.values() if order.status in {"Filled", "Cancelled"}]

    def next_valid_id(self, client_id: int) -> int:
        return max((order_id for client, order_id in self.orders if client == client_id), default=0) + 1

    def restore(self, orders: list[Order], executions: list[Execution], next_perm_id: int) -> None:
        """What an earlier life of this server knew."""
        self.orders = {(order.client_id, order.order_id): order for order in orders}
        self._active = {order.perm_id: order for order in orders if order.working}
        self.executions, self.next_perm_id = executions, next_perm_id

    # --------------------------------------------------------------------------------------------------------- market

    def price(self, listed: Listed) -> float | None:
        return self._prices.get(listed.con_id)

    def clock(self, now: int) -> None:
        """The market clock moves; orders with an end may end."""
        self.now = now
        for order in [o for o in self._active.values() if o.good_till_ns and o.good_till_ns <= now]:
            self.end(order, "Order Canceled - reason:The time in force has expired")

    def opened(self, listed: Listed, price: float) -> None:
        """A bar opens: from now on market orders fill at its open."""
        self._exchange_opens()
        self._prices[listed.con_id] = price
        self._limit_room(listed, self.habits.top_size)
        if self.halted:
            return
        for order in self._resting(listed):
            if order.takes_market and order.live:
                self._fill_at_market(order, price)

    def traded(self, listed: Listed, open_: float, high: float, low: float, close: float, volume: int = 0) -> None:
        """A bar completes: the orders that rested during it are matched, stops first; then the account is marked at the close."""
        bar = Range(open_, high, low, close)
        if self.habits.liquidity_frac:
            self._limit_room(listed, max(1, int(volume * self.habits.liquidity_frac)))
        if not self.halted:
            self._match(self._resting(listed), bar)
        self.account.holding(listed).mark = close
        self.sink.marked(listed)

    def session_over(self) -> None:
        """The exchange closes for good: day orders end, no market price is left."""
        self.close_session(None)
        self._closed = True

    def close_session(self, opens_ns: int | None) -> None:
        """Day orders end; until `opens_ns` orders are taken but not worked."""
        for order in list(self._active.values()):
            if order.tif in {"DAY", "IOC"} and order.working:
                self.end(order, "Order Canceled - reason:The session has ended")
        self._prices.clear()
        self._in_break = opens_ns

    def _exchange_opens(self) -> None:
        if self._in_break is None:
            return
        self._in_break = None
        waiting, self._cancel_later = self._cancel_later, {}
        for order in waiting.values():
            if order.working:
                self.end(order)
        for order in self.working():
            if order.takes_limit and order.live and order.status == "PreSubmitted":
                self._tell(order, "Submitted")

    def _limit_room(self, listed: Listed, contracts: int) -> None:
        if contracts:
            self._room[listed.con_id] = contracts
        else:
            self._room.pop(listed.con_id, None)

    def _match(self, resting: list[Order], bar: Range) -> None:
        for order in resting:
            if order.live and order.kind != "MIT" and order.waits_for_trigger and self._triggers_now(order):
                self._stop(order, bar)
        for order in resting:
            if order.live and order.takes_limit and (price := matching.touched(order, order.limit, bar)) is not None:
                self._fill(order, price, liquidity=1)
            elif order.live and order.kind == "MIT" and order.waits_for_trigger and self._triggers_now(order):
                price = matching.touched(order, order.trigger, bar)
                if price is not None:
                    self._set_off(order, price)

    def _stop(self, order: Order, bar: Range) -> None:
        price = matching.stopped(order, bar)
        self.touched[order.perm_id] = order
        if price is None and order.kind == "TRAIL" and matching.follow(order, bar):
            price = order.trigger
        if price is not None:
            self._set_off(order, price)

    def _set_off(self, order: Order, price: float) -> None:
        """The trigger price was reached: it is a market order now, or a limit order."""
        order.triggered = True
        self.touched[order.perm_id] = order
        if order.kind != "STP LMT":
            self._fill(order, price + order.side * self._slippage(order), liquidity=2)
        elif matching.crosses(order, price):
            self._fill(order, price, liquidity=2)
        else:
            self._tell(order, "Submitted")

    def _triggers_now(self, order: Order) -> bool:
        if order.outside_rth:
            return True
        clock = int(calendar.new_york_ns(self.now)) % calendar.DAY_NS
        return _LIQUID_NS[0] <= clock < _LIQUID_NS[1]

    def _resting(self, listed: Listed) -> list[Order]:
        return [o for o in self._active.values() if o.listed is listed and o.live]

    def _slippage(self, order: Order) -> float:
        return self.slippage_ticks * order.listed.instrument.tick_size

    # ------------------------------------------------------------------------------------------------------ accepting

    def accept(self, request: Values, client_id: int) -> Order:
        if self._closed:
            raise Reject(201, "Order rejected - reason:The replay has ended, the exchange is closed.")
        listed = checks.contract(request, self.listings)
        checks.order(request, listed, self.account.name)
        order = order_from(request, client_id, self._perm_id(), listed)
        order.account = order.account or self.account.name
        order.good_till_ns = checks.instant(order.good_till) if order.tif == "GTD" else 0
        if order.parent_id:
            self._join(order)
        checks.limits(order, self._active.values(), self.account, self.habits)
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
        held = self.account.holding(order.listed).quantity
        self.sink.what_if(order, held, held + order.side * order.total)

    def _lost_child(self, request: Values, client_id: int, code: int) -> None:
        """A child that is refused for its price does not stop the rest of its bracket, which then is without protection."""
        parent = self.orders.get((client_id, request["parent_id"] or 0))
        if code == checks.OFF_TICK and parent is not None and request["transmit"]:
            self._release(parent)

    def _add(self, order: Order) -> None:
        self.orders[order.client_id, order.order_id] = self._active[order.perm_id] = self.touched[order.perm_id] = order
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
        if price is not None and not order.waits_for_parent:
            self._start_trailing(order, price)
        if self._in_break is not None:
            self._warn_of_break(order)
        crossing = order.takes_limit and price is not None and matching.crosses(order, price)
        resting = order.takes_limit and not order.waits_for_parent and not crossing and self._in_break is None
        self._tell(order, "Submitted" if resting or order.filled else "PreSubmitted")

    def _start_trailing(self, order: Order, price: float) -> None:
        if order.kind == "TRAIL" and not order.trigger:
            order.trigger = matching.trailed(order, price)

    def _warn_of_break(self, order: Order) -> None:
        side, listed = "BUY" if order.side > 0 else "SELL", order.listed
        opens = local_time(self._in_break or 0)
        line = f"{side} {order.total} {listed.local_symbol} {listed.instrument.exchange}"
        text = f"Order Message:\n{line}\nWarning: your order will not be placed at the exchange until {opens}"
        self.sink.order_error(order.client_id, order.order_id, 399, text)

    def _tell(self, order: Order, status: Status | None = None) -> None:
        if status is not None:
            order.status = status
        self.touched[order.perm_id] = order
        self.sink.open_order(order)
        self.sink.order_status(order)

    def _fill_if_marketable(self, order: Order) -> None:
        price = self._prices.get(order.listed.con_id)
        if price is not None and order.live and not self.halted and matching.marketable(order, price):
            self._fill_at_market(order, price)
        if order.tif == "IOC" and order.live:
            self.end(order, "Order Canceled - reason:Nothing more is there at once")

    def _modify(self, order: Order, request: Values) -> None:
        if not order.working:
            raise Reject(*((104, "Cannot modify a filled order.") if order.status == "Filled" else (103, "Duplicate order id")))
        if (request["action"] == "BUY") != (order.side > 0) or checks.contract(request, self.listings) is not order.listed:
            raise Reject(105, "Order being modified does not match original order.")
        if request["order_type"] != order.kind:
            raise Reject(329, "Order modify failed. Cannot change to the new order type.")
        checks.order(request, order.listed, self.account.name)
        if int(request["quantity"]) <= order.filled:
            raise Reject(104, "Cannot modify a filled order.")
        self._change(order, order_from(request, order.client_id, order.perm_id, order.listed))
        if order.status == "Held":
            if order.transmit:
                self._release(order.parent or order)
            return
        order.revision += 1
        self._announce(order)
        self._fill_if_marketable(order)

    def _change(self, order: Order, changed: Order) -> None:
        until = checks.instant(changed.good_till) if changed.tif == "GTD" else 0
        order.total, order.limit, order.tif = changed.total, changed.limit, changed.tif
        order.trigger = changed.trigger or (order.trigger if order.kind == "TRAIL" else 0.0)
        order.trail, order.trail_percent = changed.trail, changed.trail_percent
        order.good_till, order.good_till_ns = changed.good_till, until
        order.outside_rth, order.transmit = changed.outside_rth, changed.transmit

    # -------------------------------------------------------------------------------------------------------- endings

    def end(self, order: Order, text: str = "Order Canceled - reason:", code: int = 202) -> None:
        """Cancel a working order and its children."""
        visible = order.status != "Held"
        self._active.pop(order.perm_id, None)
        self.touched[order.perm_id] = order
        order.status, order.completed_at, order.completed_text = "Cancelled", self.now, "Cancelled by Trader"
        if visible:
            self.sink.order_status(order)
            self.sink.order_error(order.client_id, order.order_id, code, text)
        for child in order.children:
            if child.working:
                self.end(child, text)

    def _fill_at_market(self, order: Order, price: float) -> None:
        slipped = price + order.side * self._slippage(order)
        if order.takes_limit:
            slipped = min(slipped, order.limit) if order.side > 0 else max(slipped, order.limit)
        self._fill(order, slipped, liquidity=2)

    def _fill(self, order: Order, price: float, liquidity: int) -> None:
        """As much as the market has room for, at one price."""
        con_id = order.listed.con_id
        quantity = min(order.remaining, self._room.get(con_id, order.remaining))
        if con_id in self._room:
            self._room[con_id] -= quantity
        if quantity:
            self.fill(order, quantity, price, liquidity)

    def fill(self, order: Order, quantity: int, price: float, liquidity: int = 2) -> None:
        """`quantity` contracts trade. Complete: 11 · 5 · 3 · 5 with commission · 3 again · 59 as recorded; a part: 11 · 5 · 3 · 59."""
        before, price = order.remaining, round(price, 8)
        execution = self._execute(order, quantity, price, liquidity)
        self.sink.executed(execution)
        if order.remaining:
            self._tell(order, "Submitted")
        else:
            self._active.pop(order.perm_id, None)
            order.completed_at, order.completed_text = self.now, f"Filled Size: {order.total}"
            self._tell(order, "Filled")
            order.commission = round(order.fees, 10)
            self._tell(order)
        self.sink.commission(execution)
        self.sink.position_changed(order.listed)
        self._after_fill(order, quantity, before)

    def _execute(self, order: Order, quantity: int, price: float, liquidity: int) -> Execution:
        fee, realized = self.account.trade(order.listed, order.side * quantity, price)
        order.average_price = round((order.average_price * order.filled + price * quantity) / (order.filled + quantity), 10)
        order.filled += quantity
        order.last_price, order.fees = price, order.fees + fee
        name = f"0000e9b5.{len(self.executions) + 1:08x}.01.01"
        signed, average = order.side * quantity, order.average_price
        execution = Execution(order, name, self.now, signed, price, order.filled, average, liquidity, fee, realized)
        self.executions.append(execution)
        return execution

    def _after_fill(self, order: Order, quantity: int, before: int) -> None:
        if order.oca_group and not self.oca_off:
            for other in [o for o in self._active.values() if o.oca_group == order.oca_group and o is not order]:
                self._reduce(other, quantity, before)
        if order.status != "Filled":
            return
        for child in order.children:
            if child.working and child.status != "Held":
                child.status = "Submitted" if child.takes_limit else "PreSubmitted"
                self._start_trailing(child, order.last_price)
                self.touched[child.perm_id] = child
                if self.habits.status_at_parent_fill:
                    self.sink.order_status(child)
        for child in order.children:
            self._fill_if_marketable(child)

    def _reduce(self, other: Order, quantity: int, before: int) -> None:
        """An order of the same group has filled `quantity` of the `before` contracts that it had left."""
        gone = round(other.remaining * quantity / before)
        if other.oca_type == OCA_CANCELS or gone >= other.remaining:
            self.end(other)
        elif gone and other.status != "Held":
            other.total -= gone
            self._tell(other)
