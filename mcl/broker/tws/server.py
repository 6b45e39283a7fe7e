"""The simulated TWS: a TCP server on loopback that plays one session of bars and trades against them.

async with SimulatedTWS(tape, slippage_ticks=1.0) as tws:
    await ib.connectAsync("127.0.0.1", tws.port, clientId=1)
    await tws.player.finished.wait()
    tws.positions, tws.executions
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from mcl import calendar, schema
from mcl.broker.tws import marketdata, render, trading
from mcl.broker.tws.account import Account, Terms
from mcl.broker.tws.book import Book
from mcl.broker.tws.contracts import Listed, Listings
from mcl.broker.tws.feed import Player, Tape
from mcl.broker.tws.orders import Execution, Order
from mcl.broker.tws.session import Session
from mcl.errors import BrokerError

SERVER_VERSIONS = (176, 177, 178)


class SimulatedTWS:
    """`port` 0 takes any free one; `speed` is bars per second, 0 waits for the clients (see `feed.Player`).

    At the end of the tape day orders are cancelled and streams of bars end with error 10182; with `silent_end` they fall silent
    instead, as those of a real TWS do at the close of the exchange.
    """

    def __init__(
        self,
        tape: Tape,
        *,
        account: str = "DU0000001",
        capital_usd: float = 25_000.0,
        slippage_ticks: float = 1.0,
        terms: Terms | None = None,
        port: int = 0,
        speed: float = 0.0,
        patience_sec: float = 2.0,
        server_version: int = 178,
        silent_end: bool = False,
    ) -> None:
        if server_version not in SERVER_VERSIONS:
            raise BrokerError(f"server version {server_version} is not simulated; valid: {', '.join(map(str, SERVER_VERSIONS))}")
        self.host, self.port, self.server_version, self.tape = "127.0.0.1", port, server_version, tape
        today = calendar.from_day(int(calendar.session_of(tape.start[tape.first])))
        self.listings = Listings(today, [tape.contract])
        self.played = self.listings.of(tape.contract)
        self.account = Account(account, capital_usd, terms or Terms())
        self.book = Book(self, self.listings, self.account, slippage_ticks)
        self.player = Player(tape, self, speed, patience_sec, self._set_clock)
        self.handlers = trading.HANDLERS | marketdata.HANDLERS
        self.sessions: set[Session] = set()
        self.counters: Counter[str] = Counter()
        self._volume, self._silent_end = 0, silent_end
        self._server: asyncio.Server | None = None
        self._playing: asyncio.Task[None] | None = None

    @classmethod
    def configured(cls, tape: Tape, broker: schema.Broker, costs: schema.Costs) -> Self:
        """As a session's configuration says: the costs of the backtest are the costs of this market."""
        terms = Terms(commission_usd=costs.commission_usd)
        return cls(
            tape,
            account=broker.account,
            capital_usd=broker.capital_usd,
            slippage_ticks=costs.slippage_ticks,
            terms=terms,
            port=broker.port,
            speed=broker.replay.speed,
        )

    # ----------------------------------------------------------------------------------------------------------- life

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: Session(self), self.host, self.port)
        except OSError as error:
            reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
            raise BrokerError(f"port {self.port} on {self.host} {reason}; broker.port=0 takes any free port") from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._playing = asyncio.create_task(self.player.play())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            open_ = list(self.sessions)
            for session in open_:
                session.close()
            await asyncio.gather(*(session.gone.wait() for session in open_))
            await self._server.wait_closed()

    def left(self, session: Session) -> None:
        """A client is gone; its orders stay."""
        self.sessions.discard(session)
        self.player.leave(session)

    # ------------------------------------------------------------------------------------------------------ inspection

    @property
    def finished(self) -> asyncio.Event:
        """Set when the last bar has been played."""
        return self.player.finished

    @property
    def positions(self) -> dict[str, int]:
        """Contracts held by local symbol, flat ones left out."""
        return {h.listed.local_symbol: h.quantity for h in self.account.holdings.values() if h.quantity}

    @property
    def executions(self) -> tuple[Execution, ...]:
        return tuple(self.book.executions)

    # -------------------------------------------------------------------------------------------- what the book reports

    def open_order(self, order: Order) -> None:
        for session in self._owners(order):
            session.send("openOrder", **render.open_order(order))

    def order_status(self, order: Order) -> None:
        for session in self._owners(order):
            session.send("orderStatus", **render.order_status(order))

    def executed(self, execution: Execution) -> None:
        for session in self._owners(execution.order, master=True):
            session.send("execDetails", **render.execution(execution, -1))

    def commission(self, execution: Execution) -> None:
        for session in self._owners(execution.order, master=True):
            session.send("commissionReport", **render.commission(execution))

    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None:
        for session in self.sessions:
            if session.client_id == client_id:
                session.error(order_id, code, text)

    def what_if(self, order: Order, before: int, after: int) -> None:
        for session in self._owners(order):
            for values in render.what_if(order, self.account, before, after):
                session.send("openOrder", **values)

    def position_changed(self, listed: Listed) -> None:
        for session in self.sessions:
            if session.subscribed.positions:
                session.send("position", **render.position(self.account.holding(listed), self.account.name))
            trading.push_account(session, self.account.moving())
            trading.push_pnl(session)

    def marked(self, listed: Listed) -> None:
        """At the end of a bar an open position has a new value."""
        if self.account.holding(listed).quantity:
            for session in self.sessions:
                trading.push_account(session, self.account.marked())
                trading.push_pnl(session)

    def _owners(self, order: Order, master: bool = False) -> Iterator[Session]:
        """The client that placed an order; with `master` also client 0, which is told of everyone's executions."""
        return (s for s in self.sessions if s.client_id == order.client_id or (master and s.client_id == 0))

    # ------------------------------------------------------------------------------------------ what the player reports

    def _set_clock(self, now: int) -> None:
        self.book.clock(now)

    def bar_opened(self, row: int) -> None:
        price = float(self.tape.open[row])
        self._push_bars(row, complete=False)
        self.book.opened(self.played, price)
        for session in self.sessions:
            for req_id, listed in session.subscribed.quotes.items():
                if listed is self.played:
                    marketdata.push_quote(session, req_id, listed, price, self.book.now)

    def bar_completed(self, row: int) -> None:
        tape = self.tape
        self._volume += int(tape.volume[row])
        open_, high, low, close = tape.prices(row)
        self.book.traded(self.played, open_, high, low, close, int(tape.volume[row]))
        self._push_bars(row, complete=True)
        bar = marketdata.bar_values(tape, row, 2)
        for session in self.sessions:
            for req_id, listed in session.subscribed.quotes.items():
                if listed is self.played:
                    marketdata.push_range(session, req_id, listed, bar, self._volume)

    def session_over(self) -> None:
        """Day orders end, and every stream of bars is told that nothing more will come."""
        self.book.session_over()
        if self._silent_end:
            return
        for session in self.sessions:
            for req_id in session.subscribed.bars:
                session.error(req_id, 10182, "Failed to request live updates (disconnected).")
            session.subscribed.bars.clear()

    def _push_bars(self, row: int, complete: bool) -> None:
        for session in self.sessions:
            for req_id, (_, date_format) in session.subscribed.bars.items():
                values = (marketdata.bar_values if complete else marketdata.opening_values)(self.tape, row, date_format)
                session.send("historicalDataUpdate", req_id=req_id, **values)
