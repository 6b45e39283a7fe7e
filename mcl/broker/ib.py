"""Connect to Interactive Brokers: `Broker` on top of ib_async 2.1.0, against a real TWS or the
embedded one.

What shapes it: ib_async calls live orders Cancelled on harmless error codes, so only executions
count; several of its requests never resolve, so every await has a time-out and one lock per kind; a
message that its decoder cannot read is only logged, so a record of that logger stops trading.
Orders name everything that a TWS would otherwise fill in from a preset: time in force, account,
outside regular hours. After the first uncertainty no further order is sent: an object lives as long
as one connection, and whoever continues makes a new one and compares the books (`snapshot`,
`resume`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

import ib_async

from mcl.base.errors import BrokerError, ConnectionLost, GuardError, LiveError, Uncertain, in_words
from mcl.broker import guards
from mcl.broker.converters import fill_of, working_order
from mcl.broker.farms import Farms
from mcl.broker.feed import STREAM_ENDED, Clock, Feed
from mcl.broker.fills import FillLedger
from mcl.broker.order_port import Ticket
from mcl.broker.order_references import STOP, TAKE_PROFIT, decision_of
from mcl.broker.protocol import (
    Bar,
    Begin,
    BrokerAccount,
    BrokerSnapshot,
    Fill,
    HoldingBook,
    QualifiedContract,
    TargetSpec,
    Timing,
    WorkingOrder,
)
from mcl.broker.request_gate import DecoderErrors, HandledErrors, RequestGate
from mcl.broker.target_orders import TargetOrders
from mcl.config import schema
from mcl.market.account_value import Margin, Worth, is_simulated, margin_after, worth
from mcl.market.instruments import Contract, Instrument

T = TypeVar("T")
# a what-if that nobody answers by then is no answer: the first order must not wait longer
MARGIN_SEC = 5.0
LARGEST_FRAME = 1 << 24  # bytes of one message; a whole option chain has less

log = logging.getLogger("mcl.broker")
logging.getLogger("ib_async").addHandler(logging.NullHandler())


class IBBroker:
    """`port` overrides the configured one: it is the embedded server's. `gate` judges orders and
    outlives connections.
    """

    def __init__(
        self,
        config: schema.BrokerConfig,
        instrument: Instrument,
        port: int | None = None,
        gate: guards.PreTradeGate | None = None,
    ) -> None:
        self._config, self._instrument = config, instrument
        self._port = config.port if port is None else port
        self._ib = ib_async.IB()
        self._ib.RaiseRequestErrors = True
        self._ib.TimezoneTWS = "UTC"
        self._gate = gate or guards.PreTradeGate(
            config.guards, instrument.symbol, scheduled=config.kind == "tws"
        )
        self._ledger = FillLedger(self._is_ours, instrument.tick_size)
        # of every decision that this object has sent orders for or taken over
        self._refs: set[str] = set()
        self._contracts: dict[int, ib_async.Contract] = {}
        self._requests = RequestGate(config.timeout_sec, self._ib.isConnected)
        self._target_orders = TargetOrders(self, config, self._ledger, self._requests, self._gate)
        self._decoder_errors, self._handled_errors = DecoderErrors(), HandledErrors(STREAM_ENDED)
        self._broken = ""
        self._failure: LiveError | None = None  # of a handler of the broker's messages
        self._clock = Clock(carried=config.kind == "tws")
        self._feed = Feed(self._ib, self._requests, self._clock, self._ask, self._contracts)
        self._farms = Farms(self._feed)
        self._offline = ""  # the TWS has lost its own server
        self._listen()

    def _listen(self) -> None:
        """An exception in one of these handlers is caught by the event library, which tells it to
        its own error event alone.
        """
        ib = self._ib
        message_events = (
            ib.client.conn.hasData,
            ib.execDetailsEvent,
            ib.commissionReportEvent,
            ib.errorEvent,
            ib.orderStatusEvent,
        )
        for event in (
            *message_events,
            ib.openOrderEvent,
            ib.positionEvent,
            ib.disconnectedEvent,
            ib.barUpdateEvent,
        ):
            event.error_event.connect(self._on_failure)
        ib.client.conn.hasData += self._on_bytes
        ib.execDetailsEvent += self._on_execution
        ib.commissionReportEvent += self._on_commission
        ib.errorEvent += self._on_error
        for event in (
            ib.orderStatusEvent,
            ib.openOrderEvent,
            ib.positionEvent,
            ib.disconnectedEvent,
        ):
            event.connect(self._requests.changed)
        ib.barUpdateEvent += self._feed.updated

    # ----------------------------------------------------------------------------------- connection

    async def connect(self) -> None:
        config, ib = self._config, self._ib
        guards.check_venue(config, self._port)
        logging.getLogger("ib_async.Decoder").addHandler(self._decoder_errors)
        logging.getLogger("ib_async.wrapper").addFilter(self._handled_errors)
        if config.kind == "sim":
            ib.client.MaxRequests = 0  # the embedded server has no limit of messages per second
        try:
            await ib.connectAsync(
                config.host,
                self._port,
                config.client_id,
                timeout=config.timeout_sec,
                raiseSyncErrors=True,
            )
        except (OSError, TimeoutError, ConnectionError) as error:
            await self.close()
            raise ConnectionLost(
                self._why_not_connected(error),
                "start TWS with its API enabled, or use broker=ib_sim",
            ) from error
        try:
            guards.check_version(ib.client.serverVersion())
            if not any(ib.managedAccounts()):
                raise ConnectionLost("the TWS is not logged in: it names no account")
            guards.check_account(config.account, ib.managedAccounts(), config.money)
            guards.check_currency(self._worth())
            await self.heartbeat()
            guards.check_clock(self.clock_away_sec)
        except BrokerError:
            await self.close()
            raise
        for fill in ib.fills():
            self._ledger.earlier(fill.execution.execId)
        if math.isnan(self._gate.start_usd):
            self._gate.start_usd = self.equity_usd()

    def _on_bytes(self, _: bytes) -> None:
        """ib_async keeps what it was sent until a frame is whole, however long that claims to be: a
        peer that claims too much is no TWS.
        """
        pending = self._ib.client._data
        size = int.from_bytes(pending[:4], "big") if len(pending) >= 4 else 0
        if size > LARGEST_FRAME:
            self._broken = (
                f"the peer announced a message of {size:,} bytes; at most {LARGEST_FRAME:,} make"
                " sense"
            )
            self._ib.client._data = b""
            cast(asyncio.Transport, self._ib.client.conn.transport).abort()

    def _why_not_connected(self, error: BaseException) -> str:
        where = f"{self._config.host}:{self._port}"
        if isinstance(error, ConnectionRefusedError):
            return f"nothing listens on {where}"
        reason = self._broken or self._requests.last_error or str(error) or "silence"
        return (
            f"the TWS on {where} did not complete the start-up within {self._config.timeout_sec:g}"
            f" s: {reason}"
        )

    @property
    def clock_away_sec(self) -> float:
        return self._clock.away_sec

    @property
    def simulated(self) -> bool:
        return is_simulated(self._ib.accountValues(self._config.account))

    @property
    def timing(self) -> Timing:
        return Timing(
            reaction_ms=self._feed.reaction_ms, close_delay_sec=self._feed.close_delay_sec
        )

    async def close(self) -> None:
        logging.getLogger("ib_async.Decoder").removeHandler(self._decoder_errors)
        logging.getLogger("ib_async.wrapper").removeFilter(self._handled_errors)
        self._ib.disconnect()
        connection = self._ib.client.conn
        deadline = time.monotonic() + 1.0
        while connection.transport is not None and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    async def heartbeat(self) -> int:
        # a replay in lock-step takes the question for the time as "decided"
        if self._feed.streams and self._config.kind == "sim":
            await self._ask("positions", self._ib.reqPositionsAsync)
            return self._clock.at
        return await self._feed.beat()

    def now(self) -> int:
        return self._clock.now()

    async def _ask(
        self, what: str, request: Callable[[], Awaitable[T]], wait_sec: float = math.inf
    ) -> T:
        try:
            return await self._requests.answer(what, request, wait_sec)
        except ib_async.wrapper.RequestError as error:
            raise BrokerError(
                f"the broker refused the request for {what}: {error.message} ({error.code})"
            ) from None

    # --------------------------------------------------------------------------------------- events

    def _on_failure(self, event: Any, error: BaseException) -> None:
        """A message of the broker was not taken in: what is known of it may be wrong from here
        on.
        """
        log.error("a message of the broker (%s) could not be handled", event.name(), exc_info=error)
        words = f"a message of the broker ({event.name()}) could not be handled: {in_words(error)}"
        self._failure = self._failure or (
            error if isinstance(error, LiveError) else Uncertain(words)
        )
        self._requests.changed()

    def verify(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _on_execution(self, _trade: Any, fill: Any) -> None:
        self._record(fill)
        self._requests.changed()

    def _on_commission(self, _trade: Any, fill: Any, report: Any) -> None:
        self._ledger.commission(fill.execution.execId, float(report.commission))
        self._requests.changed()

    def _on_error(self, req_id: int, code: int, text: str, *_: Any) -> None:
        """Connectivity is the connection's own affair; everything else is remembered for whoever
        asked.
        """
        self._requests.record_error(req_id, code, text)
        self._gate.notice(code, text)
        if code == 1100:
            self._offline = f"{text} ({code})"
        elif code in {1101, 1102, 1300}:
            self._requests.end(f"{text} ({code})")
        else:
            self._farms.notice(code, text)

    @property
    def trouble(self) -> str:
        """The reason why data or orders do not flow, though the connection is open; empty when they
        do.
        """
        return self._offline or self._farms.trouble

    def _traded(self, contract: Any) -> bool:
        """Of the product of this session; what else the account holds and does is ignored."""
        return bool(contract.symbol == self._instrument.symbol and contract.secType == "FUT")

    def _record(self, fill: Any) -> None:
        if not self._traded(fill.contract):
            return
        done = fill_of(fill)
        if self._ledger.record(done):
            self._gate.filled(done.ref)

    def _is_ours(self, ref: str) -> bool:
        return decision_of(ref) in self._refs

    # ------------------------------------------------------------------------------------ contracts

    async def qualify(self, contract: Contract) -> QualifiedContract:
        instrument = self._instrument
        month = f"{contract.year}{contract.month:02d}"
        wanted = ib_async.Future(
            contract.root, month, instrument.exchange, currency=instrument.currency
        )
        matches = await self._ask(
            f"the contract {contract.name}", lambda: self._ib.reqContractDetailsAsync(wanted)
        )
        if len(matches) != 1:
            raise GuardError(
                f"the broker knows {len(matches)} contracts {contract.name} on"
                f" {instrument.exchange}; exactly one is needed"
            )
        details = matches[0]
        theirs: Any = details.contract
        guards.check_product(
            contract,
            instrument,
            theirs.multiplier,
            details.minTick,
            theirs.currency,
            details.realExpirationDate[:8],
        )
        pinned = QualifiedContract(
            contract, instrument, theirs.conId, theirs.localSymbol, theirs.exchange
        )
        self._contracts[pinned.con_id] = theirs
        self._adopt(pinned)
        return pinned

    def _adopt(self, pinned: QualifiedContract) -> None:
        """Take over what was there before: the position, and protective orders of an earlier
        session of this client.
        """
        position, average = self._broker_position(pinned)
        self._ledger.own.open(
            pinned.local_symbol,
            position,
            average / pinned.instrument.multiplier / pinned.instrument.tick_size,
        )
        protective = [
            t
            for t in self._ib.openTrades()
            if t.contract.conId == pinned.con_id and t.order.orderRef.endswith((STOP, TAKE_PROFIT))
        ]
        self._refs.update(decision_of(trade.order.orderRef) for trade in protective)
        if protective:
            self._target_orders.protection.trades[pinned.con_id] = sorted(
                protective, key=lambda t: t.order.orderRef.endswith(TAKE_PROFIT)
            )

    def _broker_position(self, pinned: QualifiedContract) -> tuple[int, float]:
        for position in self._ib.positions(self._config.account):
            if position.contract.conId == pinned.con_id:
                return int(position.position), float(position.avgCost)
        return 0, math.nan

    # -------------------------------------------------------------------------------- the two books

    async def snapshot(self) -> BrokerSnapshot:
        """One question after the other: positions, orders that work, executions; all of every
        client.
        """
        await self._ask("positions", self._ib.reqPositionsAsync)
        trades = await self.open_trades()
        await self._ask("executions", self._ib.reqExecutionsAsync)
        ours = [
            p
            for p in self._ib.positions(self._config.account)
            if p.position and self._traded(p.contract)
        ]
        positions = {p.contract.localSymbol: int(p.position) for p in ours}
        fills = sorted(map(fill_of, self._known_fills()), key=lambda fill: fill.time)
        return BrokerSnapshot(
            clock=self._clock.at,
            positions=positions,
            orders=tuple(map(working_order, trades)),
            executions=tuple(fills),
        )

    def _known_fills(self) -> list[Any]:
        return [
            f
            for f in self._ib.fills()
            if f.execution.acctNumber == self._config.account and self._traded(f.contract)
        ]

    def working(self) -> tuple[WorkingOrder, ...]:
        return tuple(working_order(trade) for trade in self._ib.openTrades() if self._is_own(trade))

    def equity_usd(self) -> float:
        return self._worth().equity_usd

    def _worth(self) -> Worth:
        return worth(self._ib.accountValues(self._config.account))

    def resume(self, book: HoldingBook, refs: set[str]) -> None:
        """Take over the book of the journal and the references that are ours. Protective orders
        that still work are taken over.
        """
        self._refs.update(refs)
        self._ledger.book = book

    async def protect(self, pinned: QualifiedContract, ref: str) -> None:
        await self._locked(lambda: self._target_orders.protect(pinned, ref), ref)

    def protected(self, pinned: QualifiedContract) -> bool:
        return self._target_orders.protected(pinned)

    def protection_fault(self, pinned: QualifiedContract) -> str:
        entries = [
            order
            for order in self.working()
            if order.symbol == pinned.local_symbol and not order.ref.endswith((STOP, TAKE_PROFIT))
        ]
        return "" if entries else self._target_orders.protection.fault(pinned)

    async def cancel(self, orders: Sequence[WorkingOrder]) -> None:
        wanted = {order.permanent_id for order in orders}
        await self._target_orders.cancel(
            [t for t in await self.open_trades() if t.order.permId in wanted]
        )

    # ----------------------------------------------------------------------------------------- data

    async def history(self, pinned: QualifiedContract, bars: int, interval: str) -> tuple[Bar, ...]:
        return await self._feed.history(pinned, bars, interval, await self.heartbeat())

    async def bars(
        self, pinned: QualifiedContract, interval: str, after: int, begin: Begin | None = None
    ) -> AsyncGenerator[Bar]:
        async with aclosing(self._feed.bars(pinned, interval, after, begin)) as bars:
            async for bar in bars:
                self._ledger.own.mark(pinned.local_symbol, bar.close)
                yield bar

    async def account(self, pinned: QualifiedContract) -> BrokerAccount:
        await self.agreed(pinned)
        own = self._worth()
        position, average = self._broker_position(pinned)
        price = average / pinned.instrument.multiplier
        return BrokerAccount(
            account=self._config.account,
            position=position,
            average_price=price,
            equity_usd=own.equity_usd,
            cash_usd=own.cash_usd,
            realized_usd=own.realized_usd,
            unrealized_usd=own.unrealized_usd,
            time=self._clock.at,
        )

    async def agreed(self, pinned: QualifiedContract) -> None:
        """The broker's position is what the executions add up to, now or within a short while."""
        self._ledger.check()
        mine = self._ledger.book.holding(pinned.local_symbol).position
        if not await self._requests.until(
            lambda: self._broker_position(pinned)[0] == mine, min(5.0, self._config.timeout_sec)
        ):
            theirs = self._broker_position(pinned)[0]
            raise Uncertain(
                f"the broker holds {theirs} {pinned.local_symbol}, the executions of this session"
                f" add up to {mine}"
            )

    def fills(self, since: int = 0) -> tuple[Fill, ...]:
        return tuple(self._ledger.fills[since:])

    # -------------------------------------------------------------------------------------- trading

    async def admit(self, pinned: QualifiedContract, goal: TargetSpec, ref: str) -> None:
        self.check()
        await self._target_orders.allowed(pinned, goal, ref, moves=True)

    async def trade_to(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str, admitted: bool = False
    ) -> tuple[Fill, ...]:
        self.check()
        if self._ledger.used(ref):
            raise BrokerError(f"the reference {ref!r} was already traded; a decision is sent once")
        return await self._locked(
            lambda: self._target_orders.trade_to(pinned, goal, ref, admitted), ref
        )

    async def _locked(self, act: Callable[[], Awaitable[T]], ref: str) -> T:
        self._refs.add(decision_of(ref))
        async with self._requests.locks["trading"]:
            try:
                return await act()
            except GuardError:
                raise  # nothing was sent
            except BrokerError as error:
                self._broken = error.message
                raise

    async def close_out(self, pinned: QualifiedContract, ref: str) -> int:
        self._sound()
        return await self._locked(lambda: self._target_orders.close_out(pinned, ref), ref)

    def retire(self, why: str) -> None:
        """Take the permit away: whatever still runs in this object can send nothing more, and waits
        for nothing.
        """
        self._requests.end(why)

    def check(self) -> None:
        """BrokerError unless an order may leave."""
        self._sound()
        if self.trouble:
            raise ConnectionLost(f"order not sent, market data or routing is down: {self.trouble}")

    def _sound(self) -> None:
        """The same for an order that closes: it needs no prices."""
        self.verify()
        self._ledger.check()
        if self._broken:
            raise Uncertain(f"no order is sent after an uncertainty: {self._broken}")
        if self._decoder_errors.message:
            raise Uncertain(
                f"a message of the broker could not be read: {self._decoder_errors.message}"
            )
        self._requests.check()
        if self._offline:
            raise ConnectionLost(f"order not sent, market data or routing is down: {self.trouble}")

    def send(self, pinned: QualifiedContract, ticket: Ticket) -> Any:
        """One order leaves. Nothing is left to presets."""
        guards.check_account(self._config.account, self._ib.managedAccounts(), self._config.money)
        self._requests.check()
        order = ib_async.Order(**ticket.fields(self._config.account))
        trade = self._ib.placeOrder(self._contracts[pinned.con_id], order)
        self._feed.reacted()
        return trade

    def revoke(self, trade: Any) -> None:
        self._requests.check()
        self._ib.cancelOrder(trade.order)
        self._feed.reacted()

    def last_price(self, pinned: QualifiedContract) -> float:
        return self._feed.last_price(pinned)

    async def margin(self, pinned: QualifiedContract, quantity: int) -> Margin:
        """The account after such an order, by a what-if. A refusal or silence is an answer without
        figures; ConnectionLost is none.
        """
        order = ib_async.MarketOrder(
            "BUY" if quantity > 0 else "SELL",
            abs(quantity),
            tif="DAY",
            account=self._config.account,
            outsideRth=True,
        )
        try:
            state = await self._ask(
                "the margin",
                lambda: self._ib.whatIfOrderAsync(self._contracts[pinned.con_id], order),
                MARGIN_SEC,
            )
        except BrokerError as error:
            self._requests.check()
            return Margin(reason=error.message)
        return margin_after(state, self._worth())

    async def open_trades(self) -> list[Any]:
        trades = await self._ask("open orders", self._ib.reqAllOpenOrdersAsync)
        return [trade for trade in trades if self._is_own(trade)]

    def _is_own(self, trade: Any) -> bool:
        """Of our account and product, whoever has sent it."""
        return bool(trade.order.account == self._config.account and self._traded(trade.contract))

    async def own_trades(self, pinned: QualifiedContract) -> list[Any]:
        """The orders of this client that work in a contract, asked afresh."""
        own = self._config.client_id
        return [
            t
            for t in await self.open_trades()
            if t.order.clientId == own and t.contract.conId == pinned.con_id
        ]

    async def catch_up(self) -> None:
        """Take in what filled while nobody listened."""
        for fill in await self._ask("executions", self._ib.reqExecutionsAsync):
            self._record(fill)

    async def open_orders(self) -> tuple[WorkingOrder, ...]:
        return tuple(working_order(trade) for trade in await self.open_trades())
