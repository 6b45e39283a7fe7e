"""From a target to orders: what is held and what works at the broker is brought in line with what is wanted, one contract at a time.

A position is opened as a bracket: its stop and target go out with the entry, so that protection stands at the broker whatever
happens to this process. Their levels are first taken from the last price and corrected to the fill. Everything else cancels the old
protection, trades, and protects anew. Only executions count; an order is over when the broker, asked afresh, does not list it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from mcl import schema
from mcl.broker import Fill, Goal, Pinned
from mcl.broker.asking import Asking
from mcl.broker.guards import Gate, Proposal
from mcl.broker.ledger import FLATTEN, MARKET, STOP, TAKE_PROFIT, Ledger
from mcl.engine.account import Holding, filled
from mcl.engine.decide import sign
from mcl.errors import BrokerError, Rejected, Uncertain

COMMISSION_WAIT_SEC = 2.0
ACCEPT_SEC = 3.0  # so long a position may stand without an answer to its protective orders
PART_SEC = 2.0  # so long the rest of a limit may go on resting when a part of it has filled
DONE = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})
WORKING = frozenset({"PreSubmitted", "Submitted", "Filled"})  # what says that the server has an order
CANCELLED = frozenset({202})


class Ticket(NamedTuple):
    """One order as it will be sent. `quantity` is signed; `price` is limit or trigger, NaN for a market order."""

    quantity: int
    ref: str
    kind: str  # MKT, LMT, STP, MIT
    price: float = math.nan
    tif: str = "DAY"
    oca_group: str = ""
    parent_id: int = 0
    transmit: bool = True
    order_id: int = 0  # not 0: change this order


class Line(Protocol):
    """What trading needs of a connection. A `trade` is the library's live record of an order."""

    def send(self, pinned: Pinned, ticket: Ticket) -> Any: ...
    def revoke(self, trade: Any) -> None: ...
    def check(self) -> None: ...
    async def open_trades(self) -> list[Any]: ...
    async def catch_up(self) -> None: ...
    async def agreed(self, pinned: Pinned) -> None: ...
    def last_price(self, pinned: Pinned) -> float: ...
    async def margin(self, pinned: Pinned, quantity: int) -> tuple[float, float]: ...
    def now(self) -> int: ...


class Trading:
    """Sends one thing at a time: the caller holds the lock. After an uncertainty nothing more is sent."""

    def __init__(self, line: Line, config: schema.Broker, ledger: Ledger, asking: Asking, gate: Gate) -> None:
        self._line, self._config, self._ledger, self._asking, self._gate = line, config, ledger, asking, gate
        self.protection: dict[int, list[Any]] = {}  # by con_id: trades of the protective orders that should be working
        self._legs_sent: Counter[str] = Counter()  # how often protection was placed for a reference

    # --------------------------------------------------------------------------------------------------------- targets

    async def trade_to(self, pinned: Pinned, goal: Goal, ref: str, admitted: bool = False) -> tuple[Fill, ...]:
        """`admitted`: a leg of a roll, which `allowed` was asked about, at the market."""
        if not admitted:
            await self.allowed(pinned, goal, ref)
        self._ledger.intend(ref, goal)
        await self._line.agreed(pinned)
        if goal.position == self._ledger.holding(pinned.con_id).position:
            self._ledger.aim(pinned.con_id, goal)
            await self.protect(pinned, ref)
            return ()
        await self.withdraw(pinned)
        held = self._ledger.holding(pinned.con_id).position
        if quantity := goal.position - held:
            await self._enter(pinned, quantity, held, goal, ref, admitted)
        await self.protect(pinned, ref)
        return self._ledger.filled(ref)

    async def allowed(self, pinned: Pinned, goal: Goal, ref: str, moves: bool = False) -> None:
        """GuardError before anything is sent. `moves`: what is opened here is closed in another contract."""
        held = self._ledger.holding(pinned.con_id).position
        style = self._config.order
        entry = {"market": 0.0, "marketable_limit": style.collar_ticks, "limit": style.offset_ticks}[style.kind]
        furthest = max([entry, *(d for d in (goal.stop_ticks, goal.take_profit_ticks) if math.isfinite(d))])
        last = self._line.last_price(pinned)
        proposal = Proposal(pinned, goal.position - held, held, ref, last, self._line.now(), float(furthest), moves)
        self._gate.judge(proposal)
        if not moves and self._gate.wants_margin(proposal):
            self._gate.margin(proposal, *await self._line.margin(pinned, proposal.quantity))

    async def _enter(self, pinned: Pinned, quantity: int, held: int, goal: Goal, ref: str, at_market: bool) -> None:
        """Trade the difference by the configured kind of order, or `at_market`; one that opens takes its protection along."""
        entry = Ticket(quantity, ref, "MKT") if at_market else self._entry(pinned, quantity, ref)
        opens = sign(held) != sign(held + quantity) != 0
        legs = self._levels_ahead(pinned, goal, entry) if opens else []
        self._gate.sent(self._line.now())
        trade = self._line.send(pinned, entry._replace(transmit=not legs))
        if legs:
            placed = self._place_legs(pinned, legs, -goal.position, ref, trade.order.orderId)
            self.protection[pinned.con_id] = placed
        await self._finish(pinned, trade, quantity, goal, ref)

    def _entry(self, pinned: Pinned, quantity: int, ref: str) -> Ticket:
        style, tick = self._config.order, pinned.instrument.tick_size
        last = self._line.last_price(pinned)
        if style.kind == "market" or math.isnan(last):
            return Ticket(quantity, ref, "MKT")
        away = style.collar_ticks if style.kind == "marketable_limit" else -style.offset_ticks
        price = round(last + sign(quantity) * away * tick, 10)
        return Ticket(quantity, ref, "LMT", price, "IOC" if style.kind == "marketable_limit" else "DAY")

    async def _finish(self, pinned: Pinned, trade: Any, quantity: int, goal: Goal, ref: str) -> None:
        """Wait for the whole quantity; what a limit did not get in time is cancelled and, by configuration, taken at the market."""
        limited = trade.order.orderType != "MKT"
        if await self._whole(trade, quantity, await self._patience(trade)):
            return
        if not limited or self._refused(trade, but=CANCELLED):
            raise self._uncertain(pinned, trade, quantity)
        await self._cancel([trade])
        left = quantity - sum(fill.quantity for fill in self._ledger.filled(ref))
        if left and self._config.order.fallback == "market":
            self._ledger.intend(ref + MARKET, goal)
            rest = self._line.send(pinned, Ticket(left, ref + MARKET, "MKT"))
            if not await self._whole(rest, left, self._config.timeout_sec):
                raise self._uncertain(pinned, rest, left)

    async def _patience(self, trade: Any) -> float:
        """Seconds that an order still has. One that rests waits for its first part here; with it a position stands without protection."""
        style, ref = self._config.order, trade.order.orderRef
        if trade.order.orderType == "MKT" or style.kind != "limit":
            return self._config.timeout_sec
        until = time.monotonic() + style.ttl_sec
        await self._asking.until(lambda: bool(self._ledger.filled(ref)) or trade.orderStatus.status in DONE, style.ttl_sec)
        return min(PART_SEC, max(0.0, until - time.monotonic()))

    async def _whole(self, trade: Any, quantity: int, seconds: float) -> bool:
        ref = trade.order.orderRef

        def whole() -> bool:
            return sum(fill.quantity for fill in self._ledger.filled(ref)) == quantity

        limited = trade.order.orderType != "MKT"  # that it is cancelled is one of its ends, and no refusal
        but = CANCELLED if limited else frozenset[int]()
        await self._asking.until(lambda: whole() or self._refused(trade, but) or (limited and trade.orderStatus.status in DONE), seconds)
        if whole():
            self._gate.accepted()
            await self._asking.until(lambda: not any(math.isnan(f.commission_usd) for f in self._ledger.filled(ref)), COMMISSION_WAIT_SEC)
        elif self._refused(trade, but):
            self._gate.rejected(self._said(trade))
        else:
            self._asking.check()
        return whole()

    def _uncertain(self, pinned: Pinned, trade: Any, quantity: int) -> BrokerError:
        said = self._said(trade) or f"no complete fill within {self._config.timeout_sec:g} s"
        kind = Rejected if self._refused(trade) else Uncertain
        return kind(f"the order {trade.order.orderRef} for {quantity} {pinned.local_symbol} is uncertain: {said}")

    def _refused(self, trade: Any, but: frozenset[int] = frozenset()) -> bool:
        return trade.orderStatus.status in DONE and bool(self._asking.errors(trade.order.orderId, but=but))

    def _said(self, trade: Any) -> str:
        return self._asking.errors(trade.order.orderId)

    # ------------------------------------------------------------------------------------------------------ protection

    def _levels_ahead(self, pinned: Pinned, goal: Goal, entry: Ticket) -> list[tuple[str, str, float]]:
        """The legs of a bracket, from the price at which the entry will probably fill."""
        price = entry.price if entry.kind == "LMT" else self._line.last_price(pinned)
        if math.isnan(price):
            return []
        ticks = round(price / pinned.instrument.tick_size, 6)
        opened = filled(Holding(), goal.position, float(ticks), float(goal.stop_ticks), float(goal.take_profit_ticks))
        return self._legs(opened)

    def _legs(self, holding: Holding) -> list[tuple[str, str, float]]:
        """Suffix, kind and level in ticks of every protective order that a holding needs."""
        levels = ((STOP, "STP", holding.stop_at), (TAKE_PROFIT, self._config.take_profit, holding.take_profit_at))
        return [(suffix, kind, level) for suffix, kind, level in levels if math.isfinite(level)] if holding.position else []

    def _place_legs(self, pinned: Pinned, legs: Sequence[tuple[str, str, float]], quantity: int, ref: str, parent_id: int = 0) -> list[Any]:
        """The legs cancel each other; those of a bracket are held until its parent fills and leave with the last of them."""
        self._legs_sent[ref] += 1
        if (times := self._legs_sent[ref]) > 1:
            ref = f"{ref}/{times}"  # no reference is used twice
        group = ref if len(legs) > 1 else ""
        placed = []
        for number, (suffix, kind, level) in enumerate(legs, 1):
            price = round(level * pinned.instrument.tick_size, 10)
            last = not parent_id or number == len(legs)
            placed.append(self._line.send(pinned, Ticket(quantity, ref + suffix, kind, price, "GTC", group, parent_id, last)))
        return placed

    def protected(self, pinned: Pinned) -> bool:
        """Every leg that the holding needs works at the broker, with its quantity and level; no other does."""
        return self._fits(pinned) and all(self._leg_agrees(pinned, t, leg) for t, leg in self._paired(pinned))

    def _paired(self, pinned: Pinned) -> list[tuple[Any, tuple[str, str, float]]]:
        legs = self._legs(self._ledger.holding(pinned.con_id))
        return list(zip(self.protection.get(pinned.con_id, []), legs, strict=False))

    def _fits(self, pinned: Pinned) -> bool:
        """The right orders, though perhaps at another level."""
        holding = self._ledger.holding(pinned.con_id)
        placed, legs = self.protection.get(pinned.con_id, []), self._legs(holding)
        return len(placed) == len(legs) and all(
            trade.order.orderRef.endswith(suffix)
            and trade.orderStatus.status not in DONE
            and _signed(trade) == -holding.position
            and trade.order.orderType == kind
            for trade, (suffix, kind, _) in zip(placed, legs, strict=True)
        )

    def _leg_agrees(self, pinned: Pinned, trade: Any, leg: tuple[str, str, float]) -> bool:
        return abs(_price(trade) - round(leg[2] * pinned.instrument.tick_size, 10)) < 1e-9

    async def protect(self, pinned: Pinned, ref: str) -> None:
        """Make the protective orders what the holding needs; a position that cannot be protected is closed, then Uncertain."""
        if not self._fits(pinned):
            await self.withdraw(pinned)
            holding = self._ledger.holding(pinned.con_id)
            if legs := self._legs(holding):
                self.protection[pinned.con_id] = self._place_legs(pinned, legs, -holding.position, ref)
        for trade, leg in self._paired(pinned):
            if not self._leg_agrees(pinned, trade, leg):
                self._move(pinned, trade, round(leg[2] * pinned.instrument.tick_size, 10))
        await self._accepted(pinned, ref)

    def _move(self, pinned: Pinned, trade: Any, price: float) -> None:
        """Change the level of a working order: a fresh order with the same id and nothing else changed."""
        order = trade.order
        self._line.send(
            pinned,
            Ticket(_signed(trade), order.orderRef, order.orderType, price, "GTC", order.ocaGroup, order.parentId, True, order.orderId),
        )

    async def _accepted(self, pinned: Pinned, ref: str) -> None:
        placed = self.protection.get(pinned.con_id, [])

        def stands() -> bool:
            moved = all(self._leg_agrees(pinned, t, leg) for t, leg in self._paired(pinned))
            return moved and all(trade.orderStatus.status in WORKING for trade in placed)

        def over() -> bool:
            return any(trade.orderStatus.status == "Filled" for trade in placed) or any(map(self._refused, placed))

        patience = min(ACCEPT_SEC, self._config.timeout_sec)
        if not placed or (await self._asking.until(lambda: stands() or over(), patience) and not any(map(self._refused, placed))):
            return
        if any(trade.orderStatus.status == "Filled" for trade in placed):
            return  # it did what it was for, and its partner was cancelled
        self._asking.check()
        said = "; ".join(filter(None, map(self._said, placed))) or "no acknowledgement"
        await self.withdraw(pinned)
        await self.flatten(pinned, ref)
        raise Uncertain(f"the protection of {ref} was not accepted ({said}); the position was closed")

    async def flatten(self, pinned: Pinned, ref: str) -> None:
        """Close what is held at the market; the protection was withdrawn before."""
        if held := self._ledger.holding(pinned.con_id).position:
            trade = self._line.send(pinned, Ticket(-held, ref + FLATTEN, "MKT"))
            if not await self._whole(trade, -held, self._config.timeout_sec):
                raise self._uncertain(pinned, trade, -held)

    async def withdraw(self, pinned: Pinned) -> None:
        """Cancel the protective orders of a contract and make sure that they are gone and all their fills are known."""
        if placed := self.protection.pop(pinned.con_id, []):
            await self._cancel(placed)

    # ---------------------------------------------------------------------------------------------------------- cancel

    async def cancel(self, trades: Sequence[Any]) -> None:
        if trades:
            await self._cancel(list(trades))

    async def _cancel(self, trades: list[Any]) -> None:
        """Cancel and confirm by a fresh question, since a status may be invented; then take in what filled in the meantime."""
        for trade in trades:
            if trade.orderStatus.status not in ("Filled", "Cancelled"):
                self._line.revoke(trade)
        await self._asking.until(lambda: all(t.orderStatus.status in DONE for t in trades))
        self._asking.check()
        asked = {trade.order.permId for trade in trades} - {0}
        left = [t for t in await self._line.open_trades() if t.order.permId in asked]
        if left:
            refs = ", ".join(t.order.orderRef for t in left)
            raise Uncertain(f"the broker did not cancel {refs} within {self._config.timeout_sec:g} s")
        if not all(self._asking.errors(trade.order.orderId, CANCELLED) for trade in trades):  # one may have filled
            await self._line.catch_up()


def _signed(trade: Any) -> int:
    """What remains of an order, bought > 0."""
    order = trade.order
    return int(order.totalQuantity - trade.orderStatus.filled) * (1 if order.action == "BUY" else -1)


def _price(trade: Any) -> float:
    order = trade.order
    return float(order.lmtPrice if order.orderType == "LMT" else order.auxPrice)
