"""Keep the protective orders of a position: find the ones it needs, compare them with those that
work, and change these.

All legs of a position are in one group at the broker, so that they cancel each other, and an order
that closes can join them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mcl.base.errors import Uncertain
from mcl.broker.fills import FillLedger
from mcl.broker.order_port import DONE, WORKING, OrderPort, Ticket, price_of, remaining
from mcl.broker.order_references import STOP, TAKE_PROFIT
from mcl.broker.protocol import QualifiedContract, TargetSpec
from mcl.broker.request_gate import RequestGate
from mcl.config import schema
from mcl.engine.account import (
    FLAT,
    Holding,
    exact,
    holding_after_fill,
    profit_level,
    stop_level,
)
from mcl.engine.decision import sign

ACCEPT_SEC = 3.0  # so long a position may stand without an answer to its protective orders
Leg = tuple[str, str, float]  # suffix of its reference, kind, level in ticks


class ProtectiveOrders:
    """Place and adjust protective orders. `trades` are, by con_id, the library's records of the
    orders that should be working.
    """

    def __init__(
        self,
        port: OrderPort,
        config: schema.BrokerConfig,
        ledger: FillLedger,
        requests: RequestGate,
    ) -> None:
        self._port, self._config, self._ledger, self._requests = port, config, ledger, requests
        self.trades: dict[int, list[Any]] = {}
        self._times: Counter[str] = Counter()  # how often protection was placed for a reference

    def of(self, pinned: QualifiedContract) -> list[Any]:
        return self.trades.get(pinned.con_id, [])

    def ahead(self, pinned: QualifiedContract, goal: TargetSpec, entry: Ticket) -> list[Leg]:
        """The legs of a bracket, from the price at which the entry will probably fill."""
        price = entry.price if entry.kind == "LMT" else self._port.last_price(pinned)
        if math.isnan(price):
            return []
        ticks = round(price / pinned.instrument.tick_size, 6)
        bracket = exact(goal.bracket)
        return self.legs(holding_after_fill(FLAT, goal.position, float(ticks), bracket))

    def legs(self, holding: Holding) -> list[Leg]:
        """Suffix, kind and level in ticks of every protective order that a holding needs.

        All stops of a holding protect the whole of it, so that the nearest is the one order. One
        that trails is a plain STP too, moved after each close: a TRAIL of the broker follows every
        price, not the closes that the backtest follows.
        """
        levels = (
            (STOP, "STP", stop_level(holding)),
            (TAKE_PROFIT, self._config.take_profit, profit_level(holding)),
        )
        return (
            [(suffix, kind, level) for suffix, kind, level in levels if math.isfinite(level)]
            if holding.position
            else []
        )

    def place(
        self,
        pinned: QualifiedContract,
        legs: Sequence[Leg],
        quantity: int,
        ref: str,
        parent_id: int = 0,
    ) -> list[Any]:
        """The legs cancel each other; those of a bracket are held until its parent fills and leave
        with the last of them.
        """
        self._times[ref] += 1
        if (times := self._times[ref]) > 1:
            ref = f"{ref}/{times}"  # no reference is used twice
        trades = []
        for number, (suffix, kind, level) in enumerate(legs, 1):
            price = round(level * pinned.instrument.tick_size, 10)
            last = not parent_id or number == len(legs)
            leg = Ticket(
                quantity=quantity,
                ref=ref + suffix,
                kind=kind,
                price=price,
                tif="GTC",
                oca_group=ref,
                parent_id=parent_id,
                transmit=last,
                order_id=0,
            )
            trades.append(self._port.send(pinned, leg))
        return trades

    def complete(self, pinned: QualifiedContract) -> bool:
        """Every leg that the holding needs works at the broker, with its quantity and level; no
        other does.
        """
        matching = self.matching(pinned)
        exact = matching is not None and len(matching) == len(self.of(pinned))
        return exact and all(self._agrees(pinned, t, leg) for t, leg in self._paired(pinned))

    def fault(self, pinned: QualifiedContract) -> str:
        """The sentence about a leg that is missing, or about one that works while nothing is held;
        empty where neither is so.
        """
        position = self._ledger.book.holding(pinned.local_symbol).position
        working = [t for t in self.of(pinned) if t.orderStatus.status not in DONE]
        if position and self.matching(pinned) is None:
            return f"{position:+d} {pinned.local_symbol} is held without its protective orders"
        if working and not position:
            refs = ", ".join(trade.order.orderRef for trade in working)
            return f"{refs} can still fill though no {pinned.local_symbol} is held"
        return ""

    def _paired(self, pinned: QualifiedContract) -> list[tuple[Any, Leg]]:
        legs = self.legs(self._ledger.book.holding(pinned.local_symbol))
        return list(zip(self.of(pinned), legs, strict=False))

    def matching(self, pinned: QualifiedContract) -> list[Any] | None:
        """The working orders that are the legs of the holding, though perhaps of another quantity
        or level; None when one is missing.

        All of one group: only those cancel each other.
        """
        holding = self._ledger.book.holding(pinned.local_symbol)
        legs, trades = self.legs(holding), self.of(pinned)
        for group in sorted({trade.order.ocaGroup for trade in trades}):
            mates = [
                trade
                for trade in trades
                if trade.order.ocaGroup == group and _closes(trade, holding.position)
            ]
            matches = [
                next((t for t in mates if _is_leg(t, suffix, kind)), None)
                for suffix, kind, _ in legs
            ]
            if None not in matches:
                return matches
        return None if legs else []

    def _agrees(self, pinned: QualifiedContract, trade: Any, leg: Leg) -> bool:
        right = remaining(trade) == -self._ledger.book.holding(pinned.local_symbol).position
        return (
            right and abs(price_of(trade) - round(leg[2] * pinned.instrument.tick_size, 10)) < 1e-9
        )

    def group(self, pinned: QualifiedContract) -> str:
        """The one group that all working protection of a contract is in; empty when there is none
        to join.
        """
        groups = {
            trade.order.ocaGroup
            for trade in self.of(pinned)
            if trade.orderStatus.status not in DONE
        }
        return groups.pop() if len(groups) == 1 else ""

    def adjust(self, pinned: QualifiedContract, ref: str) -> None:
        """Place what is missing, and give those that work their quantity and level."""
        holding = self._ledger.book.holding(pinned.local_symbol)
        if not self.of(pinned) and (legs := self.legs(holding)):
            self.trades[pinned.con_id] = self.place(pinned, legs, -holding.position, ref)
        for trade, leg in self._paired(pinned):
            if not self._agrees(pinned, trade, leg):
                self._move(pinned, trade, round(leg[2] * pinned.instrument.tick_size, 10))

    def _move(self, pinned: QualifiedContract, trade: Any, price: float) -> None:
        """Change quantity and level of a working order: a fresh order with the same id and nothing
        else changed.
        """
        order, position = trade.order, self._ledger.book.holding(pinned.local_symbol).position
        quantity = -position - sign(position) * int(trade.orderStatus.filled)
        self._port.send(
            pinned,
            Ticket(
                quantity=quantity,
                ref=order.orderRef,
                kind=order.orderType,
                price=price,
                tif="GTC",
                oca_group=order.ocaGroup,
                parent_id=order.parentId,
                transmit=True,
                order_id=order.orderId,
            ),
        )

    async def accepted(self, pinned: QualifiedContract, ref: str) -> str:
        """Wait until the broker has said yes to all of them, or one has done its work; what it said
        when it refused. Uncertain: silence.
        """
        trades = self.of(pinned)

        def works() -> bool:
            moved = all(self._agrees(pinned, t, leg) for t, leg in self._paired(pinned))
            return moved and all(trade.orderStatus.status in WORKING for trade in trades)

        def over() -> bool:
            return any(trade.orderStatus.status == "Filled" for trade in trades) or any(
                map(self._refused, trades)
            )

        wait_sec = min(ACCEPT_SEC, self._config.timeout_sec)
        answered = not trades or await self._requests.until(lambda: works() or over(), wait_sec)
        refused = any(map(self._refused, trades))
        if any(trade.orderStatus.status == "Filled" for trade in trades):
            return ""  # it did what it was for, and its partner was cancelled
        if answered and not refused:
            return ""
        self._requests.check()
        message = "; ".join(
            filter(None, (self._requests.errors(trade.order.orderId) for trade in trades))
        )
        if not refused:
            raise Uncertain(
                f"the protection of {ref} has no answer after {wait_sec:g} s:"
                f" {message or 'silence'}"
            )
        return message

    def _refused(self, trade: Any) -> bool:
        return trade.orderStatus.status in DONE and bool(self._requests.errors(trade.order.orderId))


def _closes(trade: Any, position: int) -> bool:
    """It works, on the side that makes a position smaller."""
    return bool(trade.orderStatus.status not in DONE and remaining(trade) * position < 0)


def _is_leg(trade: Any, suffix: str, kind: str) -> bool:
    return bool(trade.order.orderRef.endswith(suffix) and trade.order.orderType == kind)
