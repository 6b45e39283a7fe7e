"""The exchange: opens, halts and closes, and matches the orders of the book against the market.

A contract is shown either by bars or by ticks. By bars one price is known, the open of the bar in
progress: market orders fill there; when a bar completes, the orders that rested in it are matched
by the rule of `matching`, stops before limits; `slippage_ticks` goes against the trader on all that
trades at the market, none on limits. By ticks an order takes what the other side of the book shows,
level by level, and no more until the book has changed; stops go off when a trade reaches them; an
order that rests at a limit trades when the other side comes to it, or when a trade goes beyond it.
A trade at the limit itself fills nothing: who was first is unknown.
"""

from __future__ import annotations

from typing import Protocol

from mcl.base.instants import NS
from mcl.market import calendar
from mcl.simulators.tws import matching
from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.listener import BrokerOptions
from mcl.simulators.tws.matching import Range
from mcl.simulators.tws.orders import LIMITED, TOUCHED, TRAILING, Order
from mcl.simulators.tws.tape import Tick

_LIQUID_NS = (
    (9 * 60 + 30) * 60 * NS,
    17 * 3600 * NS,
)  # 09:30 to 17:00 New York: when orders without outsideRth are triggered


class Orders(Protocol):
    """The operations of the exchange on the orders of a book."""

    now: int

    def resting(self, listed: Listed) -> list[Order]: ...
    def fill(self, order: Order, quantity: int, price: float, liquidity: int) -> None: ...
    def touch(self, order: Order) -> None: ...
    def submitted(self, order: Order) -> None: ...
    def end(self, order: Order, text: str = ...) -> None: ...
    def mark(self, listed: Listed, price: float) -> None: ...
    def reopened(self) -> None: ...


class BarMarket:
    """A contract shown by bars: one price, and room for so many contracts (None: for any number).

    In real or accelerated time nothing trades between a complete bar and the next one, which may
    open minutes later.
    """

    def __init__(self, price: float, slip: float, room: int | None) -> None:
        self.price, self._slip, self.room = price, slip, room
        self._trading = True

    def complete(self, close: float) -> None:
        self.price, self._trading = close, False

    def crosses(self, order: Order) -> bool:
        return self._trading and matching.crosses(order, self.price)

    def take(self, order: Order) -> list[tuple[int, float]]:
        if not self._trading:
            return []
        return self.some(order, self.price + order.side * self._slip)

    def some(self, order: Order, price: float) -> list[tuple[int, float]]:
        """As much of an order as there is room for, at one price, which is no worse than its
        limit.
        """
        if order.takes_limit:
            price = min(price, order.limit) if order.side > 0 else max(price, order.limit)
        quantity = order.remaining if self.room is None else min(order.remaining, self.room)
        if self.room is not None:
            self.room -= quantity
        return [(quantity, price)] if quantity else []


class TickMarket:
    """A contract shown by ticks: the book less what orders have taken from it. `price` is the last
    trade, or the middle.
    """

    def __init__(self, tick: Tick, last: float) -> None:
        self.tick, self.price = tick, last
        self._left = {1: list(tick.ask_size), -1: list(tick.bid_size)}  # by the side of who takes

    def changed(self, tick: Tick) -> TickMarket:
        """A side that has not changed is not filled up again."""
        new = TickMarket(tick, tick.price if tick.size else self.price)
        old = self.tick
        if (old.ask, old.ask_size) == (tick.ask, tick.ask_size):
            new._left[1] = self._left[1]
        if (old.bid, old.bid_size) == (tick.bid, tick.bid_size):
            new._left[-1] = self._left[-1]
        return new

    def crosses(self, order: Order) -> bool:
        price = (self.tick.ask if order.side > 0 else self.tick.bid)[0]
        return price == price and matching.crosses(order, price)  # noqa: PLR0124 (NaN: nobody is there)

    def take(self, order: Order) -> list[tuple[int, float]]:
        pieces, wanted, left = [], order.remaining, self._left[order.side]
        for level, price in enumerate(self.tick.ask if order.side > 0 else self.tick.bid):
            quantity = min(wanted, left[level])
            if not wanted or (
                order.takes_limit and left[level] and not matching.crosses(order, price)
            ):
                break
            if quantity:
                left[level] -= quantity
                wanted -= quantity
                pieces.append((quantity, price))
        return pieces


class Exchange:
    """All contracts. `halted` stops all trading; in the daily break orders are taken but not
    worked.
    """

    def __init__(self, book: Orders, options: BrokerOptions, slippage_ticks: float) -> None:
        self._book, self.options, self.slippage_ticks = book, options, slippage_ticks
        self.halted = False
        self.closed = False  # for good
        self.opens_ns: int | None = None  # in a break: when it ends
        self._markets: dict[int, BarMarket | TickMarket] = {}  # by con_id
        # by perm_id: cancels that wait for the end of the break
        self._leaving: dict[int, Order] = {}

    def price(self, listed: Listed) -> float | None:
        """The last price there was; None while the contract is not traded."""
        market = self._markets.get(listed.con_id)
        return None if market is None else market.price

    def quote(self, listed: Listed) -> Tick | None:
        market = self._markets.get(listed.con_id)
        return market.tick if isinstance(market, TickMarket) else None

    # --------------------------------------------------------------------------------------- orders

    def crosses(self, order: Order) -> bool:
        """A limit order that would trade at once."""
        market = self._markets.get(order.listed.con_id)
        return order.takes_limit and market is not None and market.crosses(order)

    def arrive(self, order: Order) -> None:
        """A new or changed order meets the market as it is."""
        self._work(order)
        if order.tif == "IOC" and order.live:
            self._book.end(order, "Order Canceled - reason:Nothing more is there at once")

    def _work(self, order: Order) -> None:
        market = self._markets.get(order.listed.con_id)
        if (
            market is not None
            and order.live
            and not self.halted
            and (order.takes_market or self.crosses(order))
        ):
            self._fill(order, market.take(order), liquidity=2)

    def _fill(self, order: Order, pieces: list[tuple[int, float]], liquidity: int) -> None:
        for quantity, price in pieces:
            self._book.fill(order, quantity, price, liquidity)

    def leave_later(self, order: Order) -> bool:
        """In the break cancels wait for its end. False when this one is not to wait, or waits
        already.
        """
        if order.perm_id in self._leaving:
            return False
        self._leaving[order.perm_id] = order
        return True

    @property
    def holds_cancels(self) -> bool:
        return self.opens_ns is not None and self.options.break_cancels_unanswered

    # ----------------------------------------------------------------------------------------- bars

    def opened(self, listed: Listed, price: float) -> None:
        """A bar opens: from now on market orders fill at its open."""
        self._open_exchange()
        self._markets[listed.con_id] = BarMarket(
            price, self._slip(listed), self.options.top_size or None
        )
        for order in self._book.resting(listed):
            if order.takes_market:
                self._work(order)

    def traded(self, listed: Listed, bar: Range, volume: int = 0) -> None:
        """A bar completes: the orders that rested during it are matched, stops first; then the
        account is marked at the close.
        """
        market = self._markets.get(listed.con_id)
        if not isinstance(market, BarMarket):
            market = BarMarket(bar.open, self._slip(listed), None)
        if self.options.liquidity_frac:
            market.room = max(1, int(volume * self.options.liquidity_frac))
        if not self.halted:
            self._match(self._book.resting(listed), market, bar)
        self._book.mark(listed, bar.close)

    def pause(self, listed: Listed, close: float) -> None:
        """The bar is complete and the next one opens later: until then nothing trades."""
        market = self._markets.get(listed.con_id)
        if isinstance(market, BarMarket):
            market.complete(close)

    def _slip(self, listed: Listed) -> float:
        return self.slippage_ticks * listed.instrument.tick_size

    def _match(self, resting: list[Order], market: BarMarket, bar: Range) -> None:
        for order in resting:
            if order.kind not in TOUCHED and self._waits_for_trigger(order):
                self._stop(order, market, bar)
        for order in resting:
            if (
                order.live
                and order.takes_limit
                and (price := matching.touched(order, order.limit, bar)) is not None
            ):
                self._fill(order, market.some(order, price), liquidity=1)
            elif order.kind in TOUCHED and self._waits_for_trigger(order):
                price = matching.touched(order, order.trigger, bar)
                if price is not None:
                    self._set_off(order, market, price)

    def _stop(self, order: Order, market: BarMarket, bar: Range) -> None:
        price = matching.stopped(order, bar)
        self._book.touch(order)
        if price is None and order.kind in TRAILING and matching.follow(order, bar):
            price = order.trigger
        if price is not None:
            self._set_off(order, market, price)

    def _set_off(self, order: Order, market: BarMarket, price: float) -> None:
        """The trigger price was reached: it is a market order now, or a limit order."""
        order.triggered = True
        self._book.touch(order)
        if order.kind not in LIMITED:
            self._fill(
                order,
                market.some(order, price + order.side * self._slip(order.listed)),
                liquidity=2,
            )
        elif matching.crosses(order, price):
            self._fill(order, market.some(order, price), liquidity=2)
        else:
            self._book.submitted(order)

    def _waits_for_trigger(self, order: Order) -> bool:
        return order.live and order.waits_for_trigger and (order.outside_rth or self._liquid())

    def _liquid(self) -> bool:
        clock = int(calendar.new_york_ns(self._book.now)) % calendar.DAY_NS
        return _LIQUID_NS[0] <= clock < _LIQUID_NS[1]

    # ---------------------------------------------------------------------------------------- ticks

    def ticked(self, listed: Listed, tick: Tick) -> None:
        """The book has changed, or something traded: stops and touched orders go off, then whatever
        can trade does.
        """
        self._open_exchange()
        previous = self._markets.get(listed.con_id)
        start = tick.price if tick.size else (tick.bid[0] + tick.ask[0]) / 2
        market = (
            previous.changed(tick) if isinstance(previous, TickMarket) else TickMarket(tick, start)
        )
        self._markets[listed.con_id] = market
        resting = self._book.resting(listed)
        if not resting or self.halted:
            return
        for order in resting:
            rests = order.takes_limit
            if tick.size and order.live:
                self._print(order, tick)
            if order.live and rests and market.crosses(order):
                self._fill(
                    order,
                    [(quantity, order.limit) for quantity, _ in market.take(order)],
                    liquidity=1,
                )
            else:
                self._work(order)

    def _print(self, order: Order, tick: Tick) -> None:
        """A trade of the market sets off what waits for its price, and fills a limit that it went
        beyond.
        """
        if self._waits_for_trigger(order):
            trigger = order.trigger
            order.triggered = matching.reached(order, tick.price)
            if order.triggered or order.trigger != trigger:
                self._book.touch(order)
            if order.triggered and order.kind in LIMITED:
                self._book.submitted(order)
        elif order.takes_limit and matching.beyond(order, tick.price):
            self._book.fill(order, min(order.remaining, tick.size), order.limit, 1)

    # ------------------------------------------------------------------------------------- sessions

    def close(self, opens_ns: int | None) -> None:
        """Until `opens_ns` orders are taken but not worked; None: for good."""
        self._markets.clear()
        self.opens_ns, self.closed = opens_ns, self.closed or opens_ns is None

    def _open_exchange(self) -> None:
        if self.opens_ns is None:
            return
        self.opens_ns = None
        leaving, self._leaving = self._leaving, {}
        for order in leaving.values():
            if order.working:
                self._book.end(order)
        self._book.reopened()
