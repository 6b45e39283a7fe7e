"""The life of one session: connect, compare the books, trade, and begin again whenever something is not certain.

    STARTING ─► RECONCILING ─► TRADING ─► STOPPED
                    ▲  │          │
                    │  ▼          ▼
                DEGRADED ◄── connection or data doubtful       HALTED: unknown; waits for adopt, flatten or stop
                                                               FLATTENING: closing on command, on a loss, on the kill switch

There is one way into TRADING, through `reconcile`, and one way out of trouble: drop the connection, make a new one, and take that
way again. What has to survive that is in the journal.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcl import calendar
from mcl.broker import Broker
from mcl.broker.guards import Gate, expected_downtime
from mcl.errors import BrokerError, ConnectionLost, GuardError, Halt, LiveError, MclError, Uncertain
from mcl.live.board import Board, Watcher
from mcl.live.book import MODES, book_of
from mcl.live.journal import Draft, Journal
from mcl.live.reconcile import Unexplained, adopted, reconcile, unexplained
from mcl.live.runner import Duty, Runner
from mcl.live.stage import NS, Stage
from mcl.live.status import Command, Mode, State, Status
from mcl.risk import BAR_SEC

KILL = "KILL"  # a file of this name in the folder of the alias is the kill switch; it stays until a person removes it
TICK_SEC = 0.25
BUSY_SEC = 2.0  # before a bar closes nothing else is asked
DOUBTS = 5  # uncertainties in a row, without a decision between them, that are too many
Dial = Callable[[Gate], Broker]


def gate_of(duty: Duty) -> Gate:
    """The out-by session is asked in a market alone: stored data may end before a roll, and a backtest stays in the last contract."""
    data = duty.deployed.config.data
    return Gate(duty.config.guards, data.instrument, not duty.replay, None if duty.replay else data.roll.sessions_before_last_trade)


class _Leave(Exception):
    """The session ends here: a person said stop."""


class Supervisor:
    """The session as a `Desk`. `dial` makes a new, unconnected broker. `patient`: the first connection may also take its time.

    `wait`: when HALTED, wait for a command; else the reason is raised and the session is over.
    """

    def __init__(
        self,
        duty: Duty,
        dial: Dial,
        stage: Stage,
        journal: Journal,
        *,
        watchers: Sequence[Watcher] = (),
        tell: Callable[[int], None] = lambda _: None,
        gate: Gate | None = None,
        patient: bool = False,
        wait: bool = False,
    ) -> None:
        self.duty, self._dial, self._stage, self._journal, self._tell = duty, dial, stage, journal, tell
        self.board = Board(duty.deployed, stage, duty.config, journal, watchers)
        self.gate = gate or gate_of(duty)
        self._patient, self._wait = patient, wait
        self._wish: Command | None = None  # flatten, stop, kill, adopt: what is done in the session's own turn
        self._wished = asyncio.Event()
        self._done: asyncio.Future[str] | None = None
        self._runner: Runner | None = None
        self._doubts = self._attempt = 0
        self._busy_since = self._silent_since = 0.0  # monotonic; 0 for not at all
        self._broker_start = math.nan  # net liquidation when this process began
        self._warned: set[str] = set()

    @property
    def stage(self) -> Stage:
        """With the warm-up that the session really had."""
        return self._runner.stage if self._runner else self._stage

    @property
    def kill_file(self) -> Path:
        return self.duty.folder / KILL

    # ------------------------------------------------------------------------------------------------------------- desk

    def status(self) -> Status:
        return self.board.status()

    async def command(self, word: Command, who: str, why: str) -> str:
        """Do it; returns the sentence that says what happened. LiveError: refused, with the reason. Journaled before it acts."""
        board = self.board
        if board.state is State.STOPPED:
            raise LiveError(f"the session is over: {board.why}")
        if word == "adopt" and board.state is not State.HALTED:
            raise LiveError(f"there is nothing to adopt: the session is {board.state}", "adopt answers a session that is HALTED")
        self._journal.append(Draft("command", {"word": word, "who": who, "why": why}))
        board.alert("info", "COMMAND", f"{who} said {word}: {why}")
        board.mode = MODES.get(word, board.mode)  # at once, and in the order in which it was said: a bar may be waiting for its turn
        if word in ("pause", "resume", "reduce-only"):
            self.gate.unknown = "" if word == "resume" else self.gate.unknown
            return f"{board.mode}: {_MEANING[board.mode]}"
        if word == "kill":
            self.kill_file.write_text(f"{who}: {why}\n")
        return await self._wait_for(word)

    async def _wait_for(self, word: Command) -> str:
        """Hand the wish to the session's own loop; what cannot be done now is done as soon as it can."""
        self._done = asyncio.get_running_loop().create_future()
        done = self._done
        self._wish = word
        self._wished.set()
        await asyncio.wait({done}, timeout=self.duty.config.timeout_sec)  # leaves it as it is when the time is up
        if done.done():
            return done.result()
        return f"{word} is written down and is done as soon as the broker answers ({self.board.state}: {self.board.why})"

    def wish(self, word: Command, who: str) -> None:
        """The same from a signal handler: nothing is awaited."""
        self._journal.append(Draft("command", {"word": word, "who": who, "why": "signal"}))
        self.board.mode = MODES.get(word, self.board.mode)
        if word == "kill" and not self.kill_file.exists():
            self.kill_file.write_text(f"{who}\n")
        self._wish = word
        self._wished.set()

    def _answer(self, sentence: str) -> None:
        self._wish = None
        self._wished.clear()
        if self._done is not None and not self._done.done():
            self._done.set_result(sentence)

    # ------------------------------------------------------------------------------------------------------------- life

    async def run(self, first: Broker | None = None) -> None:
        """Until the session's bars end or a person ends it. Whatever ends it early is in the journal before it is raised."""
        try:
            if self.kill_file.exists():
                raise LiveError(
                    f"the kill switch {self.kill_file} is set: {self.kill_file.read_text().strip()}", "remove the file to trade again"
                )
            await self._life(first)
        except _Leave as left:
            self._end(str(left), "ended")
        except Exception as error:
            sentence = error.message if isinstance(error, MclError) else f"{type(error).__name__}: {error}"
            self._end(sentence, "halted")
            raise
        else:
            self._end("the session's bars ended", "ended")

    def _end(self, why: str, state: str) -> None:
        ledger = {"ledger": self._runner.book.ledger.state()} if self._runner else {}
        self._journal.append(Draft("state", {"state": state, "why": why, "bars": self.board.bars} | ledger))
        self.board.state, self.board.why, self.board.connected = State.STOPPED, why, False
        self._answer(f"STOPPED: {why}")

    async def _life(self, first: Broker | None) -> None:
        while True:
            try:
                async with self._connected(first) as broker:
                    return await self._session(broker)
            except (Halt, GuardError) as error:
                await self._halted(error)
            except Uncertain as error:
                await self._doubt(error)
            except BrokerError as error:
                await self._lost(error)
            except ConnectionError as error:  # of the library, between a check and a send
                await self._lost(ConnectionLost(f"the connection to the broker was lost: {error}"))
            first = None

    @asynccontextmanager
    async def _connected(self, first: Broker | None) -> AsyncIterator[Broker]:
        broker = first or self._dial(self.gate)
        try:
            if first is None:
                await broker.connect()
            self.board.connected = True
            yield broker
        finally:
            self.board.connected = False
            await broker.close()

    async def _session(self, broker: Broker) -> None:
        """One connection, from comparing the books to its end."""
        self.board.enter(State.RECONCILING, "comparing the journal with the broker")
        runner = await reconcile(self.duty, broker, self._stage, self._journal, self.board, self._told)
        self._runner, self._attempt, self._silent_since = runner, 0, 0.0
        self._warned.discard("silence")
        self._start_of_session(broker)
        self.board.enter(State.TRADING, "both books agree")
        await _first_of(runner.run(), self._watch(broker, runner), self._obey(runner))

    def _told(self, bars: int) -> None:
        self._doubts, self._patient = 0, True
        self._tell(bars)

    def _start_of_session(self, broker: Broker) -> None:
        if self.board.session_start_usd is None:
            self.board.session_start_usd = self._runner.book.ledger.guard.session_start_usd if self._runner else None
        if math.isnan(self._broker_start):
            self._broker_start = broker.equity_usd()

    # ------------------------------------------------------------------------------------------------- when it goes wrong

    async def _lost(self, error: BrokerError) -> None:
        """Wait a little, longer each time, and try again for ever; the first connection of all must succeed."""
        if not self._patient:
            raise error
        away = expected_downtime(time.time_ns(), self.duty.deployed.config.data.instrument) if not self.duty.replay else ""
        self.board.enter(State.DEGRADED, error.message + (f" ({away}: expected)" if away else ""))
        self.board.counters["reconnects"] += 1
        self._attempt += 1
        self._silent_since = self._silent_since or time.monotonic()
        limit = self.duty.config.guards.silence_sec
        if limit is not None and not away and time.monotonic() - self._silent_since > limit and "silence" not in self._warned:
            self._warned.add("silence")
            self.board.alert("critical", "SILENCE", f"the broker has not answered for {limit:g} s: {error.message}")
        settings = self.duty.config.reconnect
        longest = min(settings.longest_sec, settings.first_sec * 2 ** min(self._attempt - 1, 16))
        await self._pause(longest * random.uniform(0.5, 1.0))

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless a person ends the session meanwhile."""
        wished = asyncio.ensure_future(self._wished.wait())  # wait_for of 3.11 may swallow a cancellation that comes with the wish
        try:
            await asyncio.wait({wished}, timeout=seconds)
        finally:
            wished.cancel()
        if self._wish == "stop":
            raise _Leave("a person said stop")
        if self._wished.is_set():
            await asyncio.sleep(seconds)  # what needs the broker waits for it

    async def _doubt(self, error: Uncertain) -> None:
        """The books are compared at once; a doubt that does not go away is a person's affair."""
        if not self._patient and self._runner is None:
            raise error
        self._patient = True
        self._doubts += 1
        self.board.alert("warning", "UNCERTAIN", error.message)
        if self._doubts > DOUBTS:
            self._doubts = 0
            await self._halted(Halt(f"{DOUBTS} uncertainties in a row, the last one: {error.message}"))
        else:
            self.board.enter(State.RECONCILING, error.message)

    async def _halted(self, error: LiveError) -> None:
        """Nothing is sent until a person says what to do."""
        if not self._wait:
            raise error
        self._patient = True
        self.board.enter(State.HALTED, error.message)
        while True:
            await self._wished.wait()
            if self._wish == "stop":
                raise _Leave(f"a person said stop while HALTED: {error.message}")
            if self._wish in ("adopt", "flatten", "kill"):
                break
            self._answer(f"HALTED: {error.message}")
        if isinstance(error, Unexplained):
            self._adopt(error)
        if self._wish == "adopt":
            self._answer("taken over as it is; comparing the books again")

    def _adopt(self, error: Unexplained) -> None:
        book = book_of(self._journal.path, *self.duty.terms, self.duty.chain)
        if not book.begun:
            self._journal.append(Draft("begin", {"broker": self.duty.config.kind, "account": self.duty.config.account}))
        prices = [fill.price for fill in error.unknown.executions]
        price = prices[-1] if prices else self.board.last_price or float(self._stage.warmup.close[-1])
        self._journal.append(adopted(book, error, self._stage, price))

    # ---------------------------------------------------------------------------------------------------- while it trades

    async def _obey(self, runner: Runner) -> None:
        """Do what a person wants, between two bars."""
        while True:
            await self._wished.wait()
            word = self._wish
            if word == "stop":
                await runner.settled()
                raise _Leave("a person said stop; protective orders stay at the broker")
            if word in ("flatten", "kill"):
                await self._flatten(runner, str(word))
            else:
                self._answer(f"nothing to {word}: the session is {self.board.state}")

    async def _flatten(self, runner: Runner, word: str) -> None:
        self.board.enter(State.FLATTENING, f"{word}: closing the position")
        said = await runner.flatten(word)
        if word == "kill":
            raise LiveError(f"killed: {said}", f"remove {self.kill_file} to trade again")
        then = "; paused until resume" if self.board.mode is Mode.PAUSED else ""
        self.board.enter(State.TRADING, said + then)
        self._answer(said + then)

    async def _watch(self, broker: Broker, runner: Runner) -> None:
        """What has to be looked at whether bars come or not."""
        settings = self.duty.config.reconnect
        beat = compared = time.monotonic()
        while True:
            await asyncio.sleep(TICK_SEC)
            self._kill_switch()
            self._trouble(broker, runner)
            await self._loss(broker, runner)
            now = time.monotonic()
            self._hang(runner, now)
            if now - beat >= settings.heartbeat_sec:
                await broker.heartbeat()
                self._clock(broker)
                beat = now
            if now - compared >= settings.compare_sec and not runner.turn.locked() and not 0 <= runner.due_sec() < BUSY_SEC:
                await self._compare(broker, runner)
                compared = now

    def _hang(self, runner: Runner, now: float) -> None:
        """Dead man: a decision that takes this long is given up; the next connection finds out what became of it."""
        limit, order = self.duty.config.guards.hang_sec, self.duty.config.order
        self._busy_since = self._busy_since or now if runner.turn.locked() else 0.0
        waits = order.ttl_sec if order.kind == "limit" else 0.0
        if limit is not None and self._busy_since and now - self._busy_since > limit + waits:
            self._busy_since = 0.0
            raise Uncertain(f"a decision took longer than broker.guards.hang_sec={limit:g}")

    def _kill_switch(self) -> None:
        if self._wish is None and self.kill_file.exists():
            self.wish("kill", "the file KILL")

    def _trouble(self, broker: Broker, runner: Runner) -> None:
        """Data or orders that do not flow make the session DEGRADED, and TRADING again when they do."""
        stale = self._stale(broker, runner)
        self.gate.blocked = stale
        why = broker.trouble or stale
        if why:
            self.board.enter(State.DEGRADED, why)
        elif self.board.state is State.DEGRADED:
            self.board.enter(State.TRADING, "data and orders flow again")

    def _stale(self, broker: Broker, runner: Runner) -> str:
        """No bar for too long though the exchange is open; a replay has a time of its own."""
        limit, root = self.duty.config.guards.stale_bars, self.duty.deployed.config.data.instrument
        if limit is None or self.duty.replay or expected_downtime(broker.now(), root):
            return ""
        age, interval = (broker.now() - runner.after) / NS, BAR_SEC[self._stage.warmup.interval]
        usual = 60 * calendar.usual_gap_minutes(broker.now(), root)
        if age <= interval + max(limit * interval, usual):
            return ""
        return f"no bar for {age:.0f} s, broker.guards.stale_bars={limit:g} intervals"

    async def _loss(self, broker: Broker, runner: Runner) -> None:
        sentence = self.gate.lost_too_much(self._broker_start, broker.equity_usd())
        if sentence and "loss" not in self._warned:
            self._warned.add("loss")
            self.board.alert("critical", "SESSION_LOSS", sentence)
            self._journal.append(Draft("command", {"word": "flatten", "who": "guard", "why": sentence}))
            self.board.mode = MODES["flatten"]
            await self._flatten(runner, "loss")

    def _clock(self, broker: Broker) -> None:
        away = broker.clock_away_sec
        if abs(away) > 10:
            raise Halt(f"this machine's clock is {away:+.0f} s away from the broker's")
        if abs(away) > 2 and "clock" not in self._warned:
            self._warned.add("clock")
            self.board.alert("warning", "CLOCK", f"this machine's clock is {away:+.1f} s away from the broker's")

    async def _compare(self, broker: Broker, runner: Runner) -> None:
        """The books, while all is well; a difference takes the way of every doubt."""
        async with runner.turn:
            unknown = unexplained(runner.book, await broker.standing())
        if unknown:
            raise Uncertain(f"the books differ: {unknown.report()}")


_MEANING = {
    Mode.NORMAL: "decisions are sent",
    Mode.REDUCE_ONLY: "nothing is opened or added",
    Mode.PAUSED: "decisions are written down, nothing is sent; protective orders stay",
}


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until the first one ends; the others are cancelled. Its result, or its error, is the result."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    next(task for task in tasks if task in done).result()
