"""The simulated TWS: a TCP server on loopback that plays bars and trades against them.

async with SimulatedTWS(tape, slippage_ticks=1.0) as tws:
    await ib.connectAsync("127.0.0.1", tws.port, clientId=1)
    await tws.player.finished.wait()
    tws.positions, tws.executions
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mcl.base.errors import BrokerError
from mcl.base.network import is_loopback
from mcl.market import calendar
from mcl.market.instruments import Contract
from mcl.simulators.tws import event_log, market_data, other_requests, trading
from mcl.simulators.tws.account import AccountTerms, SimulatedAccount
from mcl.simulators.tws.contracts import Listings
from mcl.simulators.tws.faults import FaultRule, Faults
from mcl.simulators.tws.listener import BrokerOptions
from mcl.simulators.tws.matching import Range
from mcl.simulators.tws.order_book import OrderBook
from mcl.simulators.tws.orders import ExecutionReport
from mcl.simulators.tws.outages import Greeting, Outages
from mcl.simulators.tws.persistence import StateFile
from mcl.simulators.tws.publish import Publisher
from mcl.simulators.tws.replay import Player, ReplayTiming, TapeTrack
from mcl.simulators.tws.session import OLDEST_VERSION, ClientSession
from mcl.simulators.tws.stamps import local_time
from mcl.simulators.tws.stream import Stream
from mcl.simulators.tws.tape import Tape, Tick
from mcl.simulators.tws.transcript import Transcript

if TYPE_CHECKING:
    from mcl.config import schema

SERVER_VERSIONS = (OLDEST_VERSION, 177, 178)
PATIENT_SEC = 30.0


class SimulatedTWS:
    """`port` 0 takes any free one. Time passes in lock-step with the clients, `speed` bars per
    second, `rate` times as fast as real time, or `stepped` (see `replay.ReplayTiming`).

    With `wall_clock` (and `rate` 1) the market clock is that of this machine from the moment at
    which it listens. With a `rate`, `closed_sec` is how long a closed exchange takes in real time:
    a break whole, of a weekend the first and the last half hour. `stride_sec` lets the market stall
    with the machine: the clock never moves on by more real time at once.

    The account is kept in the currency `base`, at `rate_of_usd` for one USD; 0: it tells no rate.
    `start_ns` begins later than the tape does, or before it, with a closed exchange. `state` is a
    file that keeps orders, executions and the account for the next start; `transcript` one that
    gets all traffic; `seed` decides what faults by chance do. At the end of the tape day orders are
    cancelled and streams of bars end with error 10182; with `silent_end` they fall silent instead,
    as those of a real TWS do at the close of the exchange.
    """

    def __init__(
        self,
        tape: Tape,
        *also: Tape,
        account: str = "DU0000001",
        capital_usd: float = 25_000.0,
        base: str = "USD",
        rate_of_usd: float = 1.0,
        slippage_ticks: float = 1.0,
        terms: AccountTerms | None = None,
        options: BrokerOptions | None = None,
        port: int = 0,
        speed: float = 0.0,
        rate: float = 0.0,
        stepped: bool = False,
        wall_clock: bool = False,
        closed_sec: float = 0.0,
        stride_sec: float = 0.0,
        patience_sec: float = 2.0,
        server_version: int = 178,
        silent_end: bool = False,
        start_ns: int | None = None,
        state: Path | None = None,
        transcript: Path | None = None,
        seed: int = 0,
    ) -> None:
        if server_version not in SERVER_VERSIONS:
            raise BrokerError(
                f"server version {server_version} is not simulated; valid:"
                f" {', '.join(map(str, SERVER_VERSIONS))}"
            )
        self.host, self.port, self.server_version, self.tape = (
            "127.0.0.1",
            port,
            server_version,
            tape,
        )
        today = calendar.from_day(int(calendar.session_of(tape.start[tape.first])))
        self.listings = Listings(today, [played_tape.contract for played_tape in (tape, *also)])
        tracks = [
            TapeTrack(self.listings.of(played_tape.contract), played_tape, played_tape.first)
            for played_tape in (tape, *also)
        ]
        self.played = tracks[0].listed
        self.account = SimulatedAccount(
            account, capital_usd, terms or AccountTerms(), base=base, rate=rate_of_usd
        )
        self.publisher = Publisher(self)
        self.book = OrderBook(self.publisher, self.listings, self.account, slippage_ticks, options)
        self.sessions: set[ClientSession] = set()
        self.counters: Counter[str] = Counter()
        self.greeting, self.permitted, self.hidden_executions = Greeting(), True, 0
        self.faults, self.outages = Faults(self, seed), Outages(self)
        self.streams = {track.listed.con_id: Stream(self, track) for track in tracks}
        self.handlers = trading.HANDLERS | market_data.HANDLERS | other_requests.HANDLERS
        timing = ReplayTiming(
            speed, rate, stepped, patience_sec, wall_clock, closed_sec, stride_sec
        )
        self.player = Player(tracks, self, timing, self._set_clock)
        self._silent_end = silent_end
        self._state_file = None if state is None else StateFile(state)
        self._transcript: Transcript | None = None
        self._server: asyncio.Server | None = None
        self._playing: asyncio.Task[None] | None = None
        with self._closed_on_error():
            self._transcript = None if transcript is None else Transcript(transcript)
            resumed = (
                0
                if self._state_file is None
                else self._state_file.restore(self.book, self.listings, self.account)
            )
            if resumed or start_ns:
                self.player.skip_to(max(resumed, start_ns or 0))

    @classmethod
    def configured(
        cls, tape: Tape, broker: schema.BrokerConfig, costs: schema.Costs, also: Sequence[Tape] = ()
    ) -> Self:
        """As a session's configuration says: the costs of the backtest are the costs of this
        market.
        """
        terms = AccountTerms(commission_usd=costs.side_usd)
        return cls(
            tape,
            *also,
            account=broker.account,
            capital_usd=broker.capital_usd,
            slippage_ticks=costs.slippage_ticks,
            terms=terms,
            port=broker.port,
            speed=broker.replay.speed,
            # for a client that rolls before it says that it is ready
            patience_sec=PATIENT_SEC if also else 2.0,
        )

    def seed_position(self, contract: Contract, quantity: int, price: float) -> None:
        """Give the account a position from an earlier day, signed, at an average price. Called
        before the server listens.
        """
        self.account.holding(self.listings.of(contract)).trade(quantity, price, 0.0)

    # ----------------------------------------------------------------------------------------- life

    async def __aenter__(self) -> Self:
        with self._closed_on_error():
            await self.listen()
        self._playing = asyncio.create_task(self.player.play())
        return self

    async def listen(self) -> None:
        """Accept connections (again), of this machine: whoever connects can trade."""
        if not is_loopback(self.host):
            raise BrokerError(
                f"the simulated TWS would trade for whoever reaches {self.host}",
                "broker.host=127.0.0.1",
            )
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: ClientSession(self), self.host, self.port
            )
        except OSError as error:
            reason = (
                "is already in use"
                if error.errno == errno.EADDRINUSE
                else f"cannot be opened ({error.strerror})"
            )
            raise BrokerError(
                f"port {self.port} on {self.host} {reason}; broker.port=0 takes any free port"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        # loads the calendar before somebody waits
        self.played.details(0, calendar.from_day(int(calendar.session_of(self.book.now))))
        event_log.info(
            "tws_listening",
            host=self.host,
            port=self.port,
            server_version=self.server_version,
            account=self.account.name,
        )

    def stop_listening(self) -> None:
        """Nothing answers on the port any more; connections that exist go on."""
        if self._server is not None:
            self._server.close()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._part()
            self.keep()
        finally:
            self._close_files()

    async def _part(self) -> None:
        """Stop the market, and let every client go."""
        self.faults.close()
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            open_ = list(self.sessions)
            for session in open_:
                session.close()
            await asyncio.gather(*(session.closed.wait() for session in open_))
            await self._server.wait_closed()

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """A server that does not begin keeps no file open."""
        try:
            yield
        except BaseException:
            self._close_files()
            raise

    def _close_files(self) -> None:
        if self._state_file is not None:
            self._state_file.close()
        if self._transcript is not None:
            self._transcript.close()

    def left(self, session: ClientSession) -> None:
        """A client is gone; its orders stay."""
        self.sessions.discard(session)
        if session.client_id >= 0:
            event_log.info("tws_client_gone", client=session.client_id)
        self.player.leave(session)

    # -------------------------------------------------------------------------------------- records

    def keep(self, clock: bool = False) -> None:
        """Write down what has changed."""
        if self._state_file is not None:
            self._state_file.save(self.book, clock)

    def executions_changed(self) -> None:
        if self._state_file is not None:
            self._state_file.rewrite_executions(self.book)

    def record(self, direction: str, session: ClientSession, fields: list[str]) -> None:
        if self._transcript is not None:
            self._transcript.message(
                direction, session.client_id, session.version, fields, self.book.now
            )

    def note(self, event: str, **facts: Any) -> None:
        """Something that happened to the server: an event of the log, and a line of the
        transcript.
        """
        event_log.info(event, market_time=local_time(self.book.now), **facts)
        if self._transcript is not None:
            details = " ".join(f"{name}={value}" for name, value in facts.items())
            self._transcript.note(f"{event.removeprefix('tws_')} {details}".strip(), self.book.now)

    def fault(self, name: str, **options: Any) -> FaultRule:
        """Script a fault: see `faults` and `fault_catalog`."""
        return self.faults.add(name, **options)

    def next_valid_id(self, client_id: int) -> int:
        return max(1, self.book.next_valid_id(client_id) + self.greeting.id_shift)

    # ----------------------------------------------------------------------------------- inspection

    @property
    def finished(self) -> asyncio.Event:
        """Set when the last bar has been played."""
        return self.player.finished

    @property
    def positions(self) -> dict[str, int]:
        """Contracts held by local symbol, flat ones left out."""
        return {
            h.listed.local_symbol: h.quantity for h in self.account.holdings.values() if h.quantity
        }

    @property
    def executions(self) -> tuple[ExecutionReport, ...]:
        return tuple(self.book.executions)

    # ---------------------------------------------------------------------- what the player reports

    def synchronise(self) -> None:
        """In real or accelerated time the clock also moves between bars: now a request has come."""
        if self.player.now() > self.book.now:
            self._set_clock(self.player.now())

    def _set_clock(self, now: int) -> None:
        self.book.clock(now)
        if not self.faults.idle:
            self.faults.clock(now)

    def bar_opened(self, track: TapeTrack) -> None:
        stream = self.streams[track.listed.con_id]
        if track.tape.quotes is None:
            stream.opened()
            self.book.exchange.opened(track.listed, float(track.tape.open[track.row]))
        else:
            stream.bars(stream.forming)
        self.keep(clock=True)

    def ticked(self, track: TapeTrack, tick: Tick) -> None:
        self.streams[track.listed.con_id].ticked(tick)
        self.book.exchange.ticked(track.listed, tick)

    def bar_completed(self, track: TapeTrack, row: int) -> None:
        bar = Range(*track.tape.prices(row))
        if track.tape.quotes is None:
            self.book.exchange.traded(track.listed, bar, int(track.tape.volume[row]))
            if self.player.keeps_time:
                self.book.exchange.pause(track.listed, bar.close)
        else:
            self.book.mark(track.listed, bar.close)
        self.streams[track.listed.con_id].completed(row)

    def followers(self, tracks: Sequence[TapeTrack]) -> set[Hashable]:
        listed = {track.listed for track in tracks}
        return {session for session in self.sessions if session.subscribed.follows(listed)}

    def session_closed(self, opens_ns: int) -> None:
        """The daily break, a weekend or a holiday."""
        self.note("tws_exchange_closed", opens=local_time(opens_ns))
        self.book.close_session(opens_ns)
        self.listings.today = calendar.from_day(int(calendar.session_of(opens_ns)))
        self.book.expire()
        for stream in self.streams.values():
            stream.session_closed()

    def session_over(self) -> None:
        """Day orders end, and every stream of bars is told that nothing more will come."""
        self.note("tws_replay_over", positions=self.positions)
        self.book.close_session(None)
        self.keep(clock=True)
        if self._silent_end:
            return
        for session in list(self.sessions):
            for req_id in session.subscribed.bars:
                session.error(req_id, 10182, "Failed to request live updates (disconnected).")
            session.subscribed.bars.clear()
