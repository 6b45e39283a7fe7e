"""The door to Interactive Brokers: `Broker` on top of ib_async 2.1.0, against a real TWS or the embedded one.

What shapes it: ib_async calls live orders Cancelled on harmless error codes, so only executions count; several of its requests
never resolve, so every await has a time-out and one lock per kind; a message that its decoder cannot read is only logged, so a
record of that logger stops trading. Orders name everything that a TWS would otherwise fill in from a preset: time in force,
account, outside regular hours. After the first uncertainty no further order is sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import ib_async

from mcl import calendar, schema
from mcl.broker import Bar, BrokerAccount, Fill, Goal, Pinned, WorkingOrder, guards
from mcl.broker.asking import Asking, Unreadable
from mcl.broker.ledger import FLATTEN, STOP, TAKE_PROFIT, Ledger
from mcl.broker.records import Interval, fill_of, working_order
from mcl.errors import BrokerError
from mcl.market import Contract, Instrument

T = TypeVar("T")
NS = 1_000_000_000
ACCOUNT_VALUES = ("NetLiquidation", "TotalCashValue", "RealizedPnL", "UnrealizedPnL")
STREAM_ENDED = frozenset({162, 366, 10182, 10225})  # codes on a bar subscription after which nothing more comes
CANCELLED = frozenset({202})
CLOCK_LIMIT_SEC = 10.0
COMMISSION_WAIT_SEC = 2.0
QUIET_NS = 5 * NS  # after the close of the session: no trade is reported any more
DONE = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})
WORKING = frozenset({"PreSubmitted", "Submitted", "Filled"})  # what says that the server has an order

logging.getLogger("ib_async").addHandler(logging.NullHandler())


class IBBroker:
    """`port` overrides the configured one: it is the embedded server's."""

    def __init__(self, config: schema.Broker, instrument: Instrument, port: int | None = None) -> None:
        self._config, self._instrument = config, instrument
        self._port = config.port if port is None else port
        self._ib = ib_async.IB()
        self._ib.RaiseRequestErrors = True
        self._ib.TimezoneTWS = "UTC"
        self._ledger = Ledger(self._is_ours)
        self._refs: set[str] = set()  # of every order that this object has sent or adopted
        self._contracts: dict[int, ib_async.Contract] = {}
        self._pinned: dict[int, Pinned] = {}
        self._protection: dict[int, list[Any]] = {}  # by con_id: trades of the protective orders that should be working
        self._asking = Asking(config.timeout_sec, self._ib.isConnected)
        self._watch = Unreadable()
        self._broken = ""
        self._clock = 0
        self._streaming = False
        self._listen()

    def _listen(self) -> None:
        ib = self._ib
        ib.execDetailsEvent += self._on_execution
        ib.commissionReportEvent += self._on_commission
        ib.errorEvent += self._asking.told
        for event in (ib.orderStatusEvent, ib.positionEvent, ib.barUpdateEvent, ib.disconnectedEvent):
            event.connect(self._asking.changed)

    # ----------------------------------------------------------------------------------------------------- connection

    async def connect(self) -> None:
        config, ib = self._config, self._ib
        guards.check_venue(config, self._port)
        logging.getLogger("ib_async.Decoder").addHandler(self._watch)
        if config.kind == "sim":
            ib.client.MaxRequests = 0  # the embedded server has no limit of messages per second
        try:
            await ib.connectAsync(config.host, self._port, config.client_id, timeout=config.timeout_sec, raiseSyncErrors=True)
        except (OSError, TimeoutError, ConnectionError) as error:
            await self.close()
            raise BrokerError(self._why_not_connected(error), "start TWS with its API enabled, or use broker=ib_sim") from error
        try:
            guards.check_version(ib.client.serverVersion())
            guards.check_account(config.account, ib.managedAccounts())
            await self._check_clock()
        except BrokerError:
            await self.close()
            raise
        for fill in ib.fills():
            self._ledger.earlier(fill.execution.execId)

    def _why_not_connected(self, error: BaseException) -> str:
        where = f"{self._config.host}:{self._port}"
        if isinstance(error, ConnectionRefusedError):
            return f"nothing listens on {where}"
        said = self._asking.last_error or str(error) or "silence"
        return f"the TWS on {where} did not complete the start-up within {self._config.timeout_sec:g} s: {said}"

    async def _check_clock(self) -> None:
        server = await self.heartbeat()
        away = abs(time.time() - server / NS)
        if self._config.kind == "tws" and away > CLOCK_LIMIT_SEC:
            raise BrokerError(f"this machine's clock and the broker's differ by {away:.0f} s; at most {CLOCK_LIMIT_SEC:.0f} s are safe")

    async def close(self) -> None:
        logging.getLogger("ib_async.Decoder").removeHandler(self._watch)
        self._ib.disconnect()
        connection = self._ib.client.conn
        deadline = time.monotonic() + 1.0
        while connection.transport is not None and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    async def heartbeat(self) -> int:
        if self._streaming and self._config.kind == "sim":  # a replay in lock-step takes the question for the time as "decided"
            await self._ask("positions", self._ib.reqPositionsAsync)
            return self._clock
        return await self._beat()

    async def _beat(self) -> int:
        answer = await self._ask("the time", self._ib.reqCurrentTimeAsync)
        self._clock = int(answer.timestamp()) * NS
        return self._clock

    async def _ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._asking.answer(what, request)
        except ib_async.wrapper.RequestError as error:
            raise BrokerError(f"the broker refused the request for {what}: {error.message} ({error.code})") from None

    # --------------------------------------------------------------------------------------------------------- events

    def _on_execution(self, _trade: Any, fill: Any) -> None:
        self._record(fill)
        self._asking.changed()

    def _on_commission(self, _trade: Any, fill: Any, report: Any) -> None:
        self._ledger.commission(fill.execution.execId, float(report.commission))
        self._asking.changed()

    def _record(self, fill: Any) -> None:
        con_id = fill.contract.conId
        instrument = self._pinned[con_id].instrument if con_id in self._pinned else self._instrument
        self._ledger.record(con_id, fill_of(fill), instrument.tick_size)

    def _is_ours(self, ref: str) -> bool:
        return ref in self._refs

    # ------------------------------------------------------------------------------------------------------ contracts

    async def qualify(self, contract: Contract) -> Pinned:
        instrument = self._instrument
        month = f"{contract.year}{contract.month:02d}"
        wanted = ib_async.Future(contract.root, month, instrument.exchange, currency=instrument.currency)
        found = await self._ask(f"the contract {contract.name}", lambda: self._ib.reqContractDetailsAsync(wanted))
        if len(found) != 1:
            raise BrokerError(f"the broker knows {len(found)} contracts {contract.name} on {instrument.exchange}; exactly one is needed")
        details = found[0]
        theirs: Any = details.contract
        guards.check_product(contract, instrument, theirs.multiplier, details.minTick, theirs.currency, details.realExpirationDate[:8])
        pinned = Pinned(contract, instrument, theirs.conId, theirs.localSymbol, theirs.exchange)
        self._contracts[pinned.con_id], self._pinned[pinned.con_id] = theirs, pinned
        self._adopt(pinned)
        return pinned

    def _adopt(self, pinned: Pinned) -> None:
        """Take over what was there before: the position, and protective orders of an earlier session of this client."""
        position, average = self._broker_position(pinned)
        self._ledger.open(pinned.con_id, position, average / pinned.instrument.multiplier / pinned.instrument.tick_size)
        for trade in self._ib.openTrades():
            if trade.contract.conId == pinned.con_id and trade.order.orderRef.endswith((STOP, TAKE_PROFIT)):
                self._refs.add(trade.order.orderRef)
                self._protection.setdefault(pinned.con_id, []).append(trade)

    def _broker_position(self, pinned: Pinned) -> tuple[int, float]:
        for held in self._ib.positions(self._config.account):
            if held.contract.conId == pinned.con_id:
                return int(held.position), float(held.avgCost)
        return 0, math.nan

    # ----------------------------------------------------------------------------------------------------------- data

    async def history(self, pinned: Pinned, bars: int, interval: str) -> tuple[Bar, ...]:
        length = Interval(interval)
        now = await self.heartbeat()
        rows = await self._request_bars(pinned, length, math.ceil(bars * length.minutes / 1380) + 1, live=False)
        closed = [bar for bar in map(length.bar, rows) if bar.close_time <= now]
        return tuple(closed[-bars:])

    async def _request_bars(self, pinned: Pinned, length: Interval, days: int, live: bool) -> Any:
        contract, size = self._contracts[pinned.con_id], length.bar_size
        return await self._ask(
            f"bars of {pinned.local_symbol}",
            lambda: self._ib.reqHistoricalDataAsync(
                contract, "", f"{days} D", size, "TRADES", useRTH=False, formatDate=2, keepUpToDate=live
            ),
        )

    async def bars(self, pinned: Pinned, interval: str, after: int) -> AsyncIterator[Bar]:
        length = Interval(interval)
        live = await self._request_bars(pinned, length, 2, live=True)
        closes_at = await self._session_close(pinned)
        self._streaming = True
        try:
            while True:
                ended = self._asking.errors(live.reqId, STREAM_ENDED)
                over = self._clock >= closes_at + QUIET_NS if closes_at else bool(ended)
                for bar in length.after(live if over else live[:-1], after):  # the last row is still in progress
                    after = bar.close_time
                    yield bar
                if over:
                    return
                if ended:
                    raise BrokerError(f"the stream of bars of {pinned.local_symbol} ended: {ended}")
                known = len(live)
                await self._beat()
                await self._next_row(live, known, closes_at)
        finally:
            self._streaming = False
            if self._ib.isConnected() and not self._asking.errors(live.reqId, STREAM_ENDED):
                self._ib.cancelHistoricalData(live)

    async def _session_close(self, pinned: Pinned) -> int:
        """When the market closes (ns); 0 for a replay, which says itself when it is over."""
        if self._config.kind == "sim":
            return 0
        day = calendar.from_day(int(calendar.session_of(await self._beat())))
        return int(calendar.sessions(day, day + timedelta(days=1), pinned.contract.root).close_ns[0])

    async def _next_row(self, live: Any, known: int, closes_at: int) -> None:
        """Until a new bar opens or the stream ends. Silence is only accepted from a broker that still answers, or after the close."""
        while not await self._asking.until(lambda: len(live) > known or bool(self._asking.errors(live.reqId, STREAM_ENDED))):
            if not self._ib.isConnected():
                raise BrokerError("the connection to the broker was lost")
            if closes_at and await self.heartbeat() >= closes_at + QUIET_NS:
                return

    async def account(self, pinned: Pinned) -> BrokerAccount:
        await self._agreed(pinned)
        values = {(v.tag, v.currency): v.value for v in self._ib.accountValues(self._config.account)}
        equity, cash, realized, unrealized = (float(values.get((tag, "USD"), math.nan)) for tag in ACCOUNT_VALUES)
        position, average = self._broker_position(pinned)
        price = average / pinned.instrument.multiplier
        return BrokerAccount(self._config.account, position, price, equity, cash, realized, unrealized, self._clock)

    async def _agreed(self, pinned: Pinned) -> None:
        """The broker's position is what the executions add up to, now or within a short while."""
        self._ledger.check()
        mine = self._ledger.holding(pinned.con_id).position
        if not await self._asking.until(lambda: self._broker_position(pinned)[0] == mine, min(5.0, self._config.timeout_sec)):
            theirs = self._broker_position(pinned)[0]
            raise BrokerError(f"the broker holds {theirs} {pinned.local_symbol}, the executions of this session add up to {mine}")

    def fills(self, since: int = 0) -> tuple[Fill, ...]:
        return tuple(self._ledger.fills[since:])

    # --------------------------------------------------------------------------------------------------------- trading

    async def trade_to(self, pinned: Pinned, goal: Goal, ref: str) -> tuple[Fill, ...]:
        self._check_sane()
        if self._ledger.used(ref):
            raise BrokerError(f"the reference {ref!r} was already traded; a decision is sent once")
        self._ledger.intend(ref, goal)
        async with self._asking.locks["trading"]:
            try:
                return await self._trade(pinned, goal, ref)
            except BrokerError as error:
                self._broken = error.message
                raise

    def _check_sane(self) -> None:
        self._ledger.check()
        if self._broken:
            raise BrokerError(f"no order is sent after an uncertainty: {self._broken}")
        if self._watch.seen:
            raise BrokerError(f"a message of the broker could not be read: {self._watch.seen}")
        if not self._ib.isConnected():
            raise BrokerError("there is no connection to the broker")

    async def _trade(self, pinned: Pinned, goal: Goal, ref: str) -> tuple[Fill, ...]:
        await self._agreed(pinned)
        if goal.position == self._ledger.holding(pinned.con_id).position:
            await self._keep_protected(pinned, goal, ref)
            return ()
        await self._withdraw(pinned)
        quantity = goal.position - self._ledger.holding(pinned.con_id).position
        if quantity:
            await self._market_order(pinned, quantity, ref)
        await self._protect(pinned, ref)
        return self._ledger.filled(ref)

    async def _market_order(self, pinned: Pinned, quantity: int, ref: str) -> None:
        trade = self._place(pinned, quantity, ref, "MKT", tif="DAY")

        def whole() -> bool:
            return sum(fill.quantity for fill in self._ledger.filled(ref)) == quantity

        await self._asking.until(lambda: whole() or self._refused(trade))
        if not whole():
            said = self._order_errors(trade) or f"no complete fill within {self._config.timeout_sec:g} s"
            raise BrokerError(f"the order {ref} for {quantity} {pinned.local_symbol} is uncertain: {said}")
        await self._asking.until(lambda: not any(math.isnan(f.commission_usd) for f in self._ledger.filled(ref)), COMMISSION_WAIT_SEC)

    def _refused(self, trade: Any) -> bool:
        return trade.orderStatus.status in DONE and bool(self._order_errors(trade))

    def _order_errors(self, trade: Any) -> str:
        return self._asking.errors(trade.order.orderId)

    def _place(self, pinned: Pinned, quantity: int, ref: str, kind: str, **fields: Any) -> Any:
        """Send one order of a signed quantity. Nothing is left to presets."""
        guards.check_account(self._config.account, self._ib.managedAccounts())
        self._refs.add(ref)
        order = ib_async.Order(
            action="BUY" if quantity > 0 else "SELL",
            totalQuantity=abs(quantity),
            orderType=kind,
            account=self._config.account,
            orderRef=ref,
            outsideRth=True,
            **fields,
        )
        return self._ib.placeOrder(self._contracts[pinned.con_id], order)

    async def _protect(self, pinned: Pinned, ref: str) -> None:
        """Place what protects the holding; a position that cannot be protected is closed."""
        holding = self._ledger.holding(pinned.con_id)
        levels = ((STOP, "STP", holding.stop_at), (TAKE_PROFIT, self._config.take_profit, holding.take_profit_at))
        wanted = [(suffix, kind, level) for suffix, kind, level in levels if math.isfinite(level)]
        if not holding.position or not wanted:
            return
        group = {"ocaGroup": ref, "ocaType": 1} if len(wanted) > 1 else {}
        placed = []
        for suffix, kind, level in wanted:
            price = round(level * pinned.instrument.tick_size, 10)
            at = {"lmtPrice": price} if kind == "LMT" else {"auxPrice": price}
            placed.append(self._place(pinned, -holding.position, ref + suffix, kind, tif="GTC", **at, **group))
        self._protection[pinned.con_id] = placed

        def accepted() -> bool:
            return all(trade.orderStatus.status in WORKING for trade in placed)

        await self._asking.until(lambda: accepted() or any(map(self._refused, placed)))
        if not accepted():
            said = "; ".join(filter(None, map(self._order_errors, placed))) or "no acknowledgement"
            await self._withdraw(pinned)
            await self._flatten(pinned, ref)
            raise BrokerError(f"the protection of {ref} was not accepted ({said}); the position was closed")

    async def _flatten(self, pinned: Pinned, ref: str) -> None:
        if held := self._ledger.holding(pinned.con_id).position:
            await self._market_order(pinned, -held, ref + FLATTEN)

    async def _keep_protected(self, pinned: Pinned, goal: Goal, ref: str) -> None:
        """An unchanged position keeps its levels; orders that are gone (cancelled by hand, lost in a restart) are placed again."""
        holding = self._ledger.aim(pinned.con_id, goal)
        levels = (holding.stop_at, holding.take_profit_at)
        placed = self._protection.get(pinned.con_id, [])
        if len(placed) < sum(map(math.isfinite, levels)) or any(trade.orderStatus.status in DONE for trade in placed):
            await self._withdraw(pinned)
            await self._protect(pinned, ref)

    async def _withdraw(self, pinned: Pinned) -> None:
        """Cancel the protective orders of a contract and make sure that they are gone and all their fills are known."""
        if pinned.con_id not in self._protection:
            return
        if mine := [t for t in await self._open_trades() if t.contract.conId == pinned.con_id and self._is_protection(t)]:
            await self._cancel(mine)
        del self._protection[pinned.con_id]

    def _is_protection(self, trade: Any) -> bool:
        return trade.order.orderRef in self._refs and trade.order.orderRef.endswith((STOP, TAKE_PROFIT))

    async def _open_trades(self) -> list[Any]:
        trades = await self._ask("open orders", self._ib.reqAllOpenOrdersAsync)
        return [trade for trade in trades if trade.order.account == self._config.account]

    async def _cancel(self, trades: list[Any]) -> None:
        """Cancel and confirm by a fresh question, since a status may be invented; then take in what filled in the meantime."""
        for trade in trades:
            self._ib.cancelOrder(trade.order)
        await self._asking.until(lambda: all(t.orderStatus.status in DONE for t in trades))
        asked = {trade.order.permId for trade in trades}
        left = [t.order.orderRef for t in await self._open_trades() if t.order.permId in asked]
        if left:
            raise BrokerError(f"the broker did not cancel {', '.join(left)} within {self._config.timeout_sec:g} s")
        if not all(self._asking.errors(trade.order.orderId, CANCELLED) for trade in trades):  # one may have filled
            for fill in await self._ask("executions", self._ib.reqExecutionsAsync):
                self._record(fill)

    async def open_orders(self) -> tuple[WorkingOrder, ...]:
        return tuple(working_order(trade) for trade in await self._open_trades())

    async def cancel_all(self) -> None:
        if own := [trade for trade in await self._open_trades() if trade.order.clientId == self._config.client_id]:
            await self._cancel(own)
        self._protection.clear()
