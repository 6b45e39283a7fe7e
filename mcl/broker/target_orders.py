"""From a target to orders: what is held and what works at the broker is brought in line with what
is wanted, one contract at a time.

A position is opened as a bracket: its stop and target go out with the entry, so that protection
stands at the broker whatever happens to this process. Their levels are first taken from the last
price and corrected to the fill. An order that closes joins the group of the protection: whichever
fills first, the broker ends the others, and no moment is without a stop. A reversal is two orders,
one that closes and a bracket that opens. What is added or reduced changes the stop that works. Only
executions count; an order is over when the broker, asked afresh, does not list it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from mcl.base.errors import BrokerError, GuardError, Rejected, Uncertain
from mcl.broker.fills import FillLedger
from mcl.broker.guards import OrderProposal, PreTradeGate
from mcl.broker.order_port import (
    CANCELLED,
    DONE,
    OrderPort,
    Ticket,
    market_order,
    single_order,
)
from mcl.broker.order_references import CLOSE, FLATTEN, MARKET, STOP, TAKE_PROFIT
from mcl.broker.protection import ACCEPT_SEC, Leg, ProtectiveOrders
from mcl.broker.protocol import Fill, QualifiedContract, TargetSpec
from mcl.broker.request_gate import RequestGate
from mcl.config import schema
from mcl.engine.decision import NO_BRACKET, Bracket, sign

COMMISSION_WAIT_SEC = 2.0
# so long the rest of an order that opens may keep working when a part of it has filled
PART_SEC = 0.5
# so often a position is closed again that a fill of an order on its way has opened meanwhile
PASSES = 3


class TargetOrders:
    """Sends one thing at a time: the caller holds the lock. After an uncertainty nothing more is
    sent.
    """

    def __init__(
        self,
        port: OrderPort,
        config: schema.BrokerConfig,
        ledger: FillLedger,
        requests: RequestGate,
        gate: PreTradeGate,
    ) -> None:
        self._port, self._config, self._ledger, self._requests, self._gate = (
            port,
            config,
            ledger,
            requests,
            gate,
        )
        self.protection = ProtectiveOrders(port, config, ledger, requests)

    # -------------------------------------------------------------------------------------- targets

    async def trade_to(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str, admitted: bool = False
    ) -> tuple[Fill, ...]:
        """`admitted`: a leg of a roll, which `allowed` was asked about, at the market."""
        refusal = None if admitted else await self._refusal(pinned, goal, ref)
        position = self._position(pinned)
        turns = position * goal.position < 0
        if refusal is not None and not turns:
            raise refusal
        self._ledger.intend(ref, goal)
        await self._port.agreed(pinned)
        if turns or (position and not goal.position):
            await self._close(pinned, goal, ref + CLOSE if turns else ref, admitted)
        if refusal is None:
            await self._approach(pinned, goal, ref, admitted)
        await self.protect(pinned, ref)
        if refusal is not None:
            raise GuardError(
                f"{refusal.message}; the {position:+d} {pinned.local_symbol} held before were"
                " closed"
            )
        await self._commissions(ref)
        return self._ledger.traded(ref)

    async def _refusal(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str
    ) -> GuardError | None:
        try:
            await self.allowed(pinned, goal, ref)
        except GuardError as refusal:
            return refusal
        return None

    async def _approach(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str, at_market: bool
    ) -> None:
        """From what is held now to the goal, unless a limit has left some of the other side
        open.
        """
        position = self._position(pinned)
        if goal.position and position * goal.position >= 0 and goal.position != position:
            await self._enter(pinned, goal.position - position, position, goal, ref, at_market)
        if goal.position:
            self._ledger.book.aim(pinned.local_symbol, goal.bracket)

    def _position(self, pinned: QualifiedContract) -> int:
        return self._ledger.book.holding(pinned.local_symbol).position

    async def allowed(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str, moves: bool = False
    ) -> None:
        """GuardError when what would be opened or added may not be; a reversal is judged by the
        half that opens.

        `moves`: what is opened here is closed in another contract.
        """
        position = self._position(pinned)
        starting_position = 0 if position * goal.position < 0 else position
        style = self._config.order
        entry = {
            "market": 0.0,
            "marketable_limit": style.collar_ticks,
            "limit": style.offset_ticks,
        }[style.kind]
        furthest = max([entry, *(distance for distance in goal.bracket if math.isfinite(distance))])
        last = self._port.last_price(pinned)
        proposal = OrderProposal(
            pinned=pinned,
            quantity=goal.position - starting_position,
            position=starting_position,
            ref=ref,
            last_price=last,
            now=self._port.now(),
            furthest_ticks=float(furthest),
            moves=moves,
        )
        self._gate.equity_usd = self._port.equity_usd()
        self._gate.judge(proposal)
        if not moves and self._gate.wants_margin(proposal):
            self._gate.margin(proposal, await self._port.margin(pinned, goal.position - position))

    async def _enter(
        self,
        pinned: QualifiedContract,
        quantity: int,
        position: int,
        goal: TargetSpec,
        ref: str,
        at_market: bool,
    ) -> None:
        """Trade the difference by the configured kind of order, or `at_market`; one that opens
        takes its protection along.
        """
        entry = market_order(quantity, ref) if at_market else self._entry(pinned, quantity, ref)
        opens = sign(position) != sign(position + quantity) != 0
        legs = self.protection.ahead(pinned, goal, entry) if opens else []
        self._gate.sent(self._port.now())
        trade = self._bracket(pinned, entry, legs, goal, ref)
        await self._finish(pinned, trade, quantity, goal, ref, in_parts=not at_market)

    def _bracket(
        self,
        pinned: QualifiedContract,
        entry: Ticket,
        legs: Sequence[Leg],
        goal: TargetSpec,
        ref: str,
    ) -> Any:
        """Send an order that opens, with its protection if it has any; the library's record of the
        entry.
        """
        trade = self._port.send(pinned, entry._replace(transmit=not legs))
        if legs:
            trades = self.protection.place(pinned, legs, -goal.position, ref, trade.order.orderId)
            self.protection.trades[pinned.con_id] = trades
        return trade

    async def _close(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str, at_market: bool
    ) -> None:
        """Trade away what is held, in the group of its protection where there is one, else after
        that is gone.

        A broker that refuses an order in this group is asked once more without it.
        """
        group = self.protection.group(pinned)
        if not group:
            await self.cancel_protection(pinned)
        position = self._position(pinned)
        if not position:
            return
        self._ledger.intend(ref, goal)
        order = market_order(-position, ref) if at_market else self._entry(pinned, -position, ref)
        self._gate.sent(self._port.now())
        trade = self._port.send(pinned, order._replace(oca_group=group))
        try:
            await self._finish(pinned, trade, -position, goal, ref)
        except Rejected:
            if not group:
                raise
            await self.cancel_protection(pinned)
            await self._at_market(pinned, goal, ref + MARKET)
        if group and not self._position(pinned):
            await self._ended(pinned)

    async def _at_market(self, pinned: QualifiedContract, goal: TargetSpec, ref: str) -> None:
        """Close the rest of a position by an order of its own."""
        position = self._position(pinned)
        if not position:
            return
        self._ledger.intend(ref, goal)
        trade = self._port.send(pinned, market_order(-position, ref))
        if not await self._whole(trade, -position, self._config.timeout_sec):
            raise self._uncertain(pinned, trade, -position)

    async def _ended(self, pinned: QualifiedContract) -> None:
        """The broker ends the group of a position that is closed; what it leaves is cancelled."""
        trades = self.protection.of(pinned)
        wait_sec = min(ACCEPT_SEC, self._config.timeout_sec)
        await self._requests.until(
            lambda: all(trade.orderStatus.status in DONE for trade in trades), wait_sec
        )
        await self.cancel_protection(pinned)

    def _entry(self, pinned: QualifiedContract, quantity: int, ref: str) -> Ticket:
        style, tick = self._config.order, pinned.instrument.tick_size
        last = self._port.last_price(pinned)
        if style.kind == "market" or math.isnan(last):
            return market_order(quantity, ref)
        away = style.collar_ticks if style.kind == "marketable_limit" else -style.offset_ticks
        price = round(last + sign(quantity) * away * tick, 10)
        tif = "IOC" if style.kind == "marketable_limit" else "DAY"
        return single_order(quantity, ref, kind="LMT", price=price, tif=tif)

    async def _finish(
        self,
        pinned: QualifiedContract,
        trade: Any,
        quantity: int,
        goal: TargetSpec,
        ref: str,
        in_parts: bool = False,
    ) -> None:
        """Wait for the whole quantity; what a limit did not get in time is cancelled and, by
        configuration, taken at the market.

        `in_parts`: when a market order that opens fills only in part, its rest is cancelled, and
        the next decision speaks for itself.
        """
        limited = trade.order.orderType != "MKT"
        if await self._whole(trade, quantity, await self._wait_sec(trade, opens=in_parts)):
            return
        ended = bool(trade.order.ocaGroup) and trade.orderStatus.status in DONE
        part = in_parts and bool(self._ledger.filled(ref))
        if self._refused(trade, but=CANCELLED) or not (limited or ended or part):
            raise self._uncertain(pinned, trade, quantity)
        if ended:
            await self._port.catch_up()  # the protection was first
        else:
            await self._cancel([trade])
        if limited and self._config.order.fallback == "market":
            await self._rest(pinned, quantity, goal, ref)

    async def _rest(
        self, pinned: QualifiedContract, quantity: int, goal: TargetSpec, ref: str
    ) -> None:
        """Trade at the market the quantity that a limit did not fill, as far as the position still
        is where it was to be traded from.
        """
        left, closes = (
            quantity - sum(fill.quantity for fill in self._ledger.filled(ref)),
            ref.endswith(CLOSE) or not goal.position,
        )
        if closes:
            left = -self._position(pinned)
        if not left:
            return
        self._ledger.intend(ref + MARKET, goal)
        ticket = market_order(left, ref + MARKET)
        if closes:
            rest = self._port.send(pinned, ticket._replace(oca_group=self.protection.group(pinned)))
            if not await self._whole(rest, left, self._config.timeout_sec) and self._position(
                pinned
            ):
                raise self._uncertain(pinned, rest, left)
            return
        await self._open_rest(pinned, ticket, goal, ref)

    async def _open_rest(
        self, pinned: QualifiedContract, ticket: Ticket, goal: TargetSpec, ref: str
    ) -> None:
        """Open the rest with protection of its own. The limit took its protection along when it was
        cancelled: the part that filled is protected before more is opened.
        """
        position = self._position(pinned)
        if position:
            self._ledger.book.aim(pinned.local_symbol, goal.bracket)
            await self.protect(pinned, ref)
        rest = self._bracket(
            pinned,
            ticket,
            [] if position else self.protection.ahead(pinned, goal, ticket),
            goal,
            ref,
        )
        await self._finish(pinned, rest, ticket.quantity, goal, ticket.ref, in_parts=True)

    async def _wait_sec(self, trade: Any, opens: bool) -> float:
        """Seconds that an order still has. One that rests or opens waits for its first part here;
        with it a position may stand without protection.
        """
        style, ref = self._config.order, trade.order.orderRef
        rests = trade.order.orderType != "MKT" and style.kind == "limit"
        if not (rests or (opens and trade.order.orderType == "MKT")):
            return self._config.timeout_sec
        until = time.monotonic() + (style.ttl_sec if rests else self._config.timeout_sec)
        await self._requests.until(
            lambda: bool(self._ledger.filled(ref)) or trade.orderStatus.status in DONE,
            until - time.monotonic(),
        )
        return min(PART_SEC, max(0.0, until - time.monotonic()))

    async def _whole(self, trade: Any, quantity: int, seconds: float) -> bool:
        ref = trade.order.orderRef

        def whole() -> bool:
            return sum(fill.quantity for fill in self._ledger.filled(ref)) == quantity

        # to be cancelled is one of its ends, and no refusal
        may_end = trade.order.orderType != "MKT" or bool(trade.order.ocaGroup)
        but = CANCELLED if may_end else frozenset[int]()
        await self._requests.until(
            lambda: (
                whole()
                or self._refused(trade, but)
                or (may_end and trade.orderStatus.status in DONE)
            ),
            seconds,
        )
        if whole():
            self._gate.accepted()
        elif self._refused(trade, but):
            self._gate.rejected(self._message(trade))
        else:
            self._requests.check()
        return whole()

    async def _commissions(self, ref: str) -> None:
        """Wait for what the fills cost, once all that protects is in place."""
        await self._requests.until(
            lambda: not any(math.isnan(f.commission_usd) for f in self._ledger.traded(ref)),
            COMMISSION_WAIT_SEC,
        )

    def _uncertain(self, pinned: QualifiedContract, trade: Any, quantity: int) -> BrokerError:
        reason = self._message(trade) or f"no complete fill within {self._config.timeout_sec:g} s"
        kind = Rejected if self._refused(trade) else Uncertain
        return kind(
            f"the order {trade.order.orderRef} for {quantity} {pinned.local_symbol} is uncertain:"
            f" {reason}"
        )

    def _acknowledged(self, trade: Any) -> bool:
        """Whether the broker has said anything about it; the library calls an order cancelled that
        has not even arrived.
        """
        return bool(trade.order.permId or self._message(trade))

    def _over(self, trade: Any) -> bool:
        return trade.orderStatus.status in DONE and self._acknowledged(trade)

    def _refused(self, trade: Any, but: frozenset[int] = frozenset()) -> bool:
        return trade.orderStatus.status in DONE and bool(
            self._requests.errors(trade.order.orderId, but=but)
        )

    def _message(self, trade: Any) -> str:
        return self._requests.errors(trade.order.orderId)

    # ----------------------------------------------------------------------------------- protection

    def protected(self, pinned: QualifiedContract) -> bool:
        """Every leg that the holding needs works at the broker, with its quantity and level; no
        other does.
        """
        return self.protection.complete(pinned)

    async def protect(self, pinned: QualifiedContract, ref: str) -> None:
        """Make the protective orders what the holding needs; a position whose protection is refused
        is closed, then Uncertain.
        """
        matching, trades = self.protection.matching(pinned), self.protection.of(pinned)
        if matching is None and any(trade.orderStatus.status == "Filled" for trade in trades):
            await self._port.catch_up()  # its state came before its execution
            matching = self.protection.matching(pinned)
        if matching is None:
            await self.cancel_protection(pinned)
        elif surplus := [trade for trade in trades if trade not in matching]:
            self.protection.trades[pinned.con_id] = matching
            await self._cancel(surplus)
        self.protection.adjust(pinned, ref)
        if message := await self.protection.accepted(pinned, ref):
            await self.cancel_protection(pinned)
            await self._at_market(pinned, _Flat(), ref + FLATTEN)
            raise Uncertain(
                f"the protection of {ref} was not accepted ({message}); the position was closed"
            )

    async def close_out(self, pinned: QualifiedContract, ref: str) -> int:
        """End with nothing held and no own order at the broker; returns how many orders were
        cancelled. Uncertain: not there yet.

        An order on its way may fill while another closes: then what that has opened is closed as
        well.
        """
        cancelled = 0
        for number in range(1, PASSES + 1):
            entries = [
                trade
                for trade in await self._port.own_trades(pinned)
                if not trade.order.orderRef.endswith((STOP, TAKE_PROFIT))
            ]
            await self.cancel(entries)
            if self._position(pinned):
                await self._close(
                    pinned,
                    _Flat(),
                    ref + FLATTEN if number == 1 else f"{ref}/{number}{FLATTEN}",
                    at_market=True,
                )
            self.protection.trades.pop(pinned.con_id, None)
            left = await self._port.own_trades(pinned)
            await self.cancel(left)
            cancelled += len(entries) + len(left)
            await self._port.agreed(pinned)
            if not self._position(pinned):
                await self._commissions(ref)
                return cancelled
        raise Uncertain(
            f"{self._position(pinned):+d} {pinned.local_symbol} are held after {PASSES} orders to"
            f" close them ({ref})"
        )

    async def cancel_protection(self, pinned: QualifiedContract) -> None:
        """Cancel the protective orders of a contract and make sure that they are gone and all their
        fills are known.
        """
        if trades := self.protection.trades.pop(pinned.con_id, []):
            await self._cancel(trades)

    # --------------------------------------------------------------------------------------- cancel

    async def cancel(self, trades: Sequence[Any]) -> None:
        if trades:
            await self._cancel(list(trades))

    async def _cancel(self, trades: list[Any]) -> None:
        """Cancel and confirm by a fresh question, since a status may be invented; then take in what
        filled in the meantime.
        """
        for trade in trades:
            if trade.orderStatus.status not in ("Filled", "Cancelled"):
                self._port.revoke(trade)
        await self._requests.until(lambda: all(map(self._over, trades)))
        self._requests.check()
        if unanswered := [
            trade.order.orderRef for trade in trades if not self._acknowledged(trade)
        ]:
            raise Uncertain(
                f"the broker has not answered {', '.join(unanswered)} within"
                f" {self._config.timeout_sec:g} s"
            )
        permanent_ids = {trade.order.permId for trade in trades} - {0}
        left = [t for t in await self._port.open_trades() if t.order.permId in permanent_ids]
        if left:
            refs = ", ".join(t.order.orderRef for t in left)
            raise Uncertain(
                f"the broker did not cancel {refs} within {self._config.timeout_sec:g} s"
            )
        # one may have filled
        if not all(self._requests.errors(trade.order.orderId, CANCELLED) for trade in trades):
            await self._port.catch_up()


class _Flat(NamedTuple):
    """The goal of an order that closes."""

    position: int = 0
    bracket: Bracket = NO_BRACKET
