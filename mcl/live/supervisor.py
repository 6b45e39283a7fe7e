"""The life of one session: connect, compare the books, trade, and begin again whenever something is
not certain.

    STARTING ─► RECONCILING ─► TRADING ─► STOPPED
                    ▲  │          │
                    │  ▼          ▼
                DEGRADED ◄── connection or data doubtful

    HALTED      unknown; waits for adopt, flatten or stop
    FLATTENING  closing on command, on a loss, on the kill switch

There is one way into TRADING, through `reconcile`, and one way out of trouble: drop the connection,
make a new one, and take that way again. What has to survive that is in the journal. Everything that
may send an order is a part of one connection (`mcl.live.session_tasks`).

To close (flatten, kill, the limit of the loss) is a request that lasts until nothing is held and no
own order works, over connections and restarts; it goes first on every connection, before bars are
asked for and before anything is protected. Stop and the kill switch are checked in every state.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcl.base.back_off import pause_sec
from mcl.base.errors import (
    BrokerError,
    ConnectionLost,
    GuardError,
    Halt,
    LiveError,
    MclError,
    Uncertain,
)
from mcl.broker.guards import PreTradeGate, expected_downtime
from mcl.broker.protocol import Broker
from mcl.live.health import HealthMonitor
from mcl.live.journal import Journal
from mcl.live.journal_records import (
    CloseOutcome,
    CommandRecord,
    MarginAnswer,
    OrderRejection,
    StateChange,
    start_of_account,
)
from mcl.live.pending_requests import PendingRequests
from mcl.live.reconcile import Unexplained, adopted, reconcile
from mcl.live.runner import Runner, SessionConfig
from mcl.live.session_setup import Stage
from mcl.live.session_state import MODES, book_of
from mcl.live.session_tasks import Parts, Turn, cancel_all
from mcl.live.status import Command, Mode, State, Status
from mcl.live.status_board import StatusBoard, Watcher

# a file of this name in the folder of the alias is the kill switch; an operator has to remove it
KILL = "KILL"
TICK_SEC = 0.25
BUSY_SEC = 2.0  # before a bar closes nothing else is asked
STOP_SEC = 5.0  # so long an operator who says stop waits for what is being sent
CLOSING_SEC = 60.0  # so long a position that is being closed keeps its connection from ending
LONGEST_SEC = 60.0  # between two attempts to close
DOUBTS = 5  # uncertainties in a row, without a decision between them, that are too many
Dial = Callable[[PreTradeGate], Broker]
log = logging.getLogger("mcl.live")


def gate_of(session: SessionConfig) -> PreTradeGate:
    """The out-by session is asked in a market alone: stored data may end before a roll, and a
    backtest stays in the last contract.
    """
    data = session.deployed.config.data
    return PreTradeGate(
        session.broker.guards,
        data.instrument,
        not session.replay,
        None if session.replay else data.roll.sessions_before_last_trade,
    )


class _Leave(Exception):
    """The session ends here: a person said stop."""


class Supervisor:
    """The session as a `SessionHandle`. `dial` makes a new, unconnected broker. `wait`: when
    HALTED, wait for a command; else the reason is raised and the session is over.
    """

    def __init__(
        self,
        session: SessionConfig,
        dial: Dial,
        stage: Stage,
        journal: Journal,
        *,
        watchers: Sequence[Watcher] = (),
        tell: Callable[[int], None] = lambda _: None,
        gate: PreTradeGate | None = None,
        wait: bool = False,
    ) -> None:
        self.session, self._dial, self._stage, self._journal, self._tell = (
            session,
            dial,
            stage,
            journal,
            tell,
        )
        self.status_board = StatusBoard(session.deployed, stage, session.broker, journal, watchers)
        self.gate = gate or gate_of(session)
        self._wait = wait
        self._health = HealthMonitor(session, self.gate, self.status_board)
        self.gate.rejecting = lambda message: journal.append(
            OrderRejection(message=message).draft()
        )
        self.gate.weighing = self._margin
        self._requests = PendingRequests()
        self._closing: asyncio.Future[None] | None = None  # while a position is being closed
        self._failures = 0  # attempts to close, in a row
        self._runner: Runner | None = None
        self._turn: Turn | None = None  # of this connection
        self._doubts = self._attempt = 0
        self._silent_since = 0.0  # monotonic; 0 for not at all

    @property
    def stage(self) -> Stage:
        """With the warm-up that the session really had."""
        return self._runner.stage if self._runner else self._stage

    @property
    def kill_file(self) -> Path:
        return self.session.folder / KILL

    def _margin(self, what_if: dict[str, Any]) -> None:
        """Write down what the broker says that an order would need, whether it is sent or not."""
        self._journal.append(MarginAnswer.of(what_if).draft())
        figures = (what_if[name] for name in ("initial_usd", "maintenance_usd", "equity_usd"))
        log.info(
            "margin after %s, in USD: initial %.2f, maintenance %.2f, equity %.2f",
            what_if["ref"],
            *figures,
        )

    # ----------------------------------------------------------------------------- status, commands

    def status(self) -> Status:
        return self.status_board.status()

    async def command(self, word: Command, who: str, why: str) -> str:
        """Do it; returns the sentence that says what happened. LiveError: refused, with the reason.
        Journaled before it acts.
        """
        status = self.status_board
        if status.state is State.STOPPED:
            raise LiveError(f"the session is over: {status.why}")
        if word == "adopt" and status.state is not State.HALTED:
            raise LiveError(
                f"there is nothing to adopt: the session is {status.state}",
                "adopt answers a session that is HALTED",
            )
        self._journal.append(CommandRecord(word=word, who=who, why=why).draft())
        status.alert("info", "COMMAND", f"{who} said {word}: {why}")
        # at once, and in the order in which it was said: a bar may be waiting for its turn
        status.mode = MODES.get(word, status.mode)
        if word in ("pause", "resume", "reduce-only"):
            self.gate.unknown = "" if word == "resume" else self.gate.unknown
            return f"{status.mode}: {_MEANING[status.mode]}"
        if word == "kill":
            self.kill_file.write_text(f"{who}: {why}\n")
        if message := await self._requests.answered(word, self.session.broker.timeout_sec):
            return message
        return (
            f"{word} is written down and is done as soon as the broker answers ({status.state}:"
            f" {status.why})"
        )

    def request(self, word: Command, who: str) -> None:
        """The same from a signal handler: nothing is awaited."""
        self._journal.append(CommandRecord(word=word, who=who, why="signal").draft())
        self.status_board.mode = MODES.get(word, self.status_board.mode)
        if word == "kill" and not self.kill_file.exists():
            self.kill_file.write_text(f"{who}\n")
        self._requests.add(word)

    # ----------------------------------------------------------------------------------------- life

    async def run(self, first: Broker | None = None) -> None:
        """Until the session's bars end or a person ends it. Whatever ends it early is in the
        journal before it is raised.
        """
        switch = asyncio.ensure_future(self._watch_kill_file())
        try:
            self._take_up()
            await self._life(first)
        except _Leave as left:
            self._end(str(left), "ended")
        except Exception as error:
            sentence = (
                error.message if isinstance(error, MclError) else f"{type(error).__name__}: {error}"
            )
            self._end(sentence, "halted")
            raise
        else:
            self._end("the session's bars ended", "ended")
        finally:
            await cancel_all([switch])

    def _take_up(self) -> None:
        """Resume to close what an earlier session was told to close and has not. LiveError: the
        kill switch is set.
        """
        book = book_of(self._journal.path, *self.session.terms, self.session.chain)
        killed, positions = self.kill_file.exists(), book.open_positions
        if killed and not positions and not book.closing:
            raise LiveError(
                f"the kill switch {self.kill_file} is set: {self.kill_file.read_text().strip()}",
                "remove the file to trade again",
            )
        if killed or book.closing:
            self._requests.add("kill" if killed else "flatten")

    async def _watch_kill_file(self) -> None:
        """In every state: the file is the one word that needs no session that listens."""
        while True:
            await asyncio.sleep(TICK_SEC)
            if (
                self._requests.word != "kill"
                and self.kill_file.exists()
                and self.status_board.state is not State.STOPPED
            ):
                self.request("kill", "the file KILL")

    def _end(self, why: str, state: str) -> None:
        ledger = self._runner.book.ledger.state() if self._runner else None
        bars = self.status_board.bars
        self._journal.append(StateChange(state=state, why=why, bars=bars, ledger=ledger).draft())
        self.status_board.state, self.status_board.why, self.status_board.connected = (
            State.STOPPED,
            why,
            False,
        )
        self._requests.answer(f"STOPPED: {why}")

    async def _life(self, first: Broker | None) -> None:
        while True:
            try:
                return await self._connection(
                    first or self._dial(self.gate), connected=first is not None
                )
            except (Halt, GuardError) as error:
                await self._halted(error)
            except Uncertain as error:
                await self._doubt(error)
            except BrokerError as error:
                await self._lost(error)
            except ConnectionError as error:  # of the library, between a check and a send
                await self._lost(ConnectionLost(f"the connection to the broker was lost: {error}"))
            first = None
            await self._back_off()

    async def _connection(self, broker: Broker, connected: bool) -> None:
        """One connection: its parts, under its permit, from the first question to the end of all
        that may send.
        """
        parts, self._turn = Parts(), None
        parts.start(self._work(broker, parts, connected))
        parts.start(self._until_stop())
        try:
            ended = await parts.first()
            if self._closing is not None and not (
                ended.done() and isinstance(ended.exception(), _Leave)
            ):
                await asyncio.wait({self._closing}, timeout=CLOSING_SEC)
        finally:
            await parts.end(lambda: broker.retire("this part of the session has ended"))
            self.status_board.connected = False
            await broker.close()
        ended.result()

    async def _work(self, broker: Broker, parts: Parts, connected: bool) -> None:
        """Connect, close what is to be closed, compare the books, trade."""
        if not connected:
            await broker.connect()
        self.status_board.connected = True
        self.status_board.enter(State.RECONCILING, "comparing the journal with the broker")
        if self._requests.closes:
            self._runner = await reconcile(
                self.session,
                broker,
                self._stage,
                self._journal,
                self.status_board,
                self._bar_done,
                closing=True,
            )
            self._resume_guards(broker, self._runner)
            await self._flatten(self._runner)
            self.status_board.enter(State.RECONCILING, "comparing the journal with the broker")
        self._runner = runner = await reconcile(
            self.session, broker, self._stage, self._journal, self.status_board, self._bar_done
        )
        self._resume_guards(broker, runner)
        self.status_board.enter(State.TRADING, "both books agree")
        parts.start(self._watch(broker, runner))
        parts.start(self._serve_requests(runner))
        await runner.run()

    async def _until_stop(self) -> None:
        """Wait for stop, then for what is being sent; after that nothing else begins."""
        await self._requests.stop.wait()
        if self._turn is not None:
            with suppress(TimeoutError):
                # wait_for of Python 3.11 can swallow a cancellation
                async with asyncio.timeout(STOP_SEC):
                    await self._turn.take()
        raise self._leave()

    def _leave(self) -> _Leave:
        if self._requests.closes:
            self.status_board.alert(
                "critical",
                "FLATTEN",
                f"a person said stop before {self._requests.word} was done: {self._left()}",
            )
        return _Leave("a person said stop; protective orders stay at the broker")

    def _bar_done(self, bars: int) -> None:
        self._doubts = 0
        self._tell(bars)

    def _resume_guards(self, broker: Broker, runner: Runner) -> None:
        """The books agree: the guards continue with the counts of the journal."""
        self._turn = runner.turn
        self._attempt, self._silent_since = 0, 0.0
        self._health.warned.discard("silence")
        book = book_of(self._journal.path, *self.session.terms, self.session.chain)
        self.gate.resume(book.history)
        if math.isnan(self.gate.start_usd):
            self.gate.start_usd = broker.equity_usd()
        self.gate.equity_usd = broker.equity_usd()
        if self.status_board.session_start_usd is None:
            self.status_board.session_start_usd = book.ledger.guard.session_start_usd

    # --------------------------------------------------------------------------- when it goes wrong

    async def _lost(self, error: BrokerError) -> None:
        """Wait a little, longer each time, and try again for ever."""
        away = (
            expected_downtime(time.time_ns(), self.session.deployed.config.data.instrument)
            if not self.session.replay
            else ""
        )
        self.status_board.enter(
            State.DEGRADED, error.message + (f" ({away}: expected)" if away else "")
        )
        self.status_board.counters["reconnects"] += 1
        self._attempt += 1
        self._silent_since = self._silent_since or time.monotonic()
        limit = self.session.broker.guards.silence_sec
        if (
            limit is not None
            and not away
            and time.monotonic() - self._silent_since > limit
            and "silence" not in self._health.warned
        ):
            self._health.warned.add("silence")
            self.status_board.alert(
                "critical",
                "SILENCE",
                f"the broker has not answered for {limit:g} s: {error.message}",
            )
        settings = self.session.broker.reconnect
        longest = pause_sec(self._attempt, settings.first_sec, settings.longest_sec)
        await self._pause(longest * random.uniform(0.5, 1.0))

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless a person ends the session meanwhile."""
        # wait_for of 3.11 may swallow a cancellation that comes with the request
        stopped = asyncio.ensure_future(self._requests.stop.wait())
        try:
            await asyncio.wait({stopped}, timeout=seconds)
        finally:
            stopped.cancel()
        if self._requests.stop.is_set():
            raise self._leave()

    async def _back_off(self) -> None:
        """Between two attempts to close: longer each time."""
        if self._failures and self._requests.closes:
            await self._pause(self._until_next_attempt())

    def _until_next_attempt(self) -> float:
        first_sec = self.session.broker.reconnect.first_sec
        return pause_sec(self._failures + 1, first_sec, LONGEST_SEC)

    async def _doubt(self, error: Uncertain) -> None:
        """The books are compared at once; a doubt that does not go away is a person's affair."""
        self._doubts += 1
        self.status_board.alert("warning", "UNCERTAIN", error.message)
        if self._doubts > DOUBTS and not (self._requests.closes and self._wait):
            self._doubts = 0
            await self._halted(
                Halt(f"{DOUBTS} uncertainties in a row, the last one: {error.message}")
            )
        else:
            self.status_board.enter(State.RECONCILING, error.message)
            await self._pause(self.session.broker.reconnect.first_sec * (self._doubts - 1))

    async def _halted(self, error: LiveError) -> None:
        """Nothing is sent until a person says what to do."""
        if not self._wait:
            raise error
        self.status_board.enter(State.HALTED, error.message)
        while True:
            await self._requests.some.wait()
            if self._requests.stop.is_set():
                raise _Leave(f"a person said stop while HALTED: {error.message}")
            if self._requests.word in ("adopt", "flatten", "kill"):
                break
            self._requests.answer(f"HALTED: {error.message}")
        if isinstance(error, Unexplained):
            self._adopt(error)
        if self._requests.word == "adopt":
            self._requests.answer("taken over as it is; comparing the books again")

    def _adopt(self, error: Unexplained) -> None:
        book = book_of(self._journal.path, *self.session.terms, self.session.chain)
        if not book.started:
            self._journal.append(
                start_of_account(self.session.broker.kind, self.session.broker.account).draft()
            )
        prices = [fill.price for fill in error.unknown.executions]
        price = (
            prices[-1]
            if prices
            else self.status_board.last_price or float(self._stage.warmup.close[-1])
        )
        self._journal.append(adopted(book, error, self._stage, price))

    # ------------------------------------------------------------------------------ while it trades

    async def _serve_requests(self, runner: Runner) -> None:
        """Do what a person wants, between two bars."""
        while True:
            await self._requests.some.wait()
            if self._requests.stop.is_set():
                await asyncio.sleep(math.inf)  # another part ends the session
            if self._requests.closes:
                await self._flatten(runner)
            else:
                self._requests.answer(
                    f"nothing to {self._requests.word}: the session is {self.status_board.state}"
                )

    async def _flatten(self, runner: Runner) -> None:
        """One attempt to close: it is not cut off by the watch, and the connection does not end
        before it.
        """
        word = str(self._requests.word)
        self.status_board.enter(State.FLATTENING, f"{word}: closing the position")
        self._closing = closing = asyncio.get_running_loop().create_future()
        try:
            message = await runner.flatten(word)
        except LiveError as error:
            self._failures += 1
            wait = f"next attempt in {self._until_next_attempt():.3g} s"
            self.status_board.alert(
                "critical",
                "FLATTEN",
                f"attempt {self._failures} to {word}: {self._left()}: {error.message}; {wait}",
            )
            raise
        finally:
            self._closing = None
            closing.set_result(None)
        self._failures = 0
        self._journal.append(CloseOutcome(word=word, message=message).draft())
        if self._requests.word == "kill":
            raise LiveError(f"killed: {message}", f"remove {self.kill_file} to trade again")
        then = "; paused until resume" if self.status_board.mode is Mode.PAUSED else ""
        self.status_board.enter(State.TRADING, message + then)
        self._requests.answer(message + then)

    def _left(self) -> str:
        """The clause that names what is not closed yet, as last reported."""
        if self._runner is None:
            return "what is held is not known"
        own = [
            order
            for order in self.status_board.working
            if order.client_id == self.session.broker.client_id
        ]
        return f"{self._runner.holdings_text()} held, {len(own)} own orders work"

    async def _watch(self, broker: Broker, runner: Runner) -> None:
        """Watch data, loss, clock and books, whether bars come or not."""
        settings = self.session.broker.reconnect
        beat = compared = time.monotonic()
        while True:
            await asyncio.sleep(TICK_SEC)
            broker.verify()
            self.status_board.working = broker.working()
            if self._closing is None:
                self._health.trouble(broker, runner)
                self._loss(broker)
                self._health.hang(runner)
                self._health.protection(broker, runner)
            now = time.monotonic()
            if now - beat >= settings.heartbeat_sec:
                await broker.heartbeat()
                self._health.clock(broker)
                beat = now
            if (
                now - compared >= settings.compare_sec
                and not runner.turn.locked()
                and not 0 <= runner.due_sec() < BUSY_SEC
            ):
                await self._health.compare(broker, runner)
                compared = now

    def _loss(self, broker: Broker) -> None:
        self.gate.equity_usd = broker.equity_usd()
        sentence = self.gate.lost_too_much()
        if sentence and "loss" not in self._health.warned:
            self._health.warned.add("loss")
            self.status_board.alert("critical", "SESSION_LOSS", sentence)
            self._journal.append(CommandRecord(word="flatten", who="guard", why=sentence).draft())
            self.status_board.mode = MODES["flatten"]
            self._requests.add("flatten")


_MEANING = {
    Mode.NORMAL: "decisions are sent",
    Mode.REDUCE_ONLY: "nothing is opened or added",
    Mode.PAUSED: "decisions are written down, nothing is sent; protective orders stay",
}
