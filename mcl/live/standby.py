"""Report for a process that serves one session after the other: the running session's status, else
its own.

It is asked and commanded over weeks through one control socket and one metrics page. While a
session runs it hands everything on to its supervisor. Between sessions it says WAITING, keeps the
figures of the last one, and answers commands with what they would mean now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

from mcl.base.alert import Alert, Severity
from mcl.base.errors import LiveError
from mcl.config import schema
from mcl.live.status import Command, Mode, State, Status
from mcl.live.status_board import LAST_ROWS
from mcl.live.supervisor import KILL, Supervisor
from mcl.promotion.load import Deployable

log = logging.getLogger("mcl.live")


class Standby:
    """A `SessionHandle` for weeks. `stopping` is set once a person or a signal has ended the
    process.
    """

    def __init__(self, alias: str, broker: schema.BrokerConfig, folder: Path) -> None:
        self._kill_file = folder / KILL
        self._alerts: deque[Alert] = deque(maxlen=LAST_ROWS)
        self._supervisor: Supervisor | None = None
        self._own = Status(
            at_ns=time.time_ns(),
            alias=alias,
            version=0,
            session="",
            broker=f"{broker.host}:{broker.port}",
            account=broker.account,
            synthetic=None,
            state=State.WAITING,
            mode=Mode.NORMAL,
            why="looking for the next session",
            contract="",
            position=0,
            target=None,
            average_price=None,
            last_price=None,
            equity_usd=None,
            session_pnl_usd=None,
            realized_usd=None,
            unrealized_usd=None,
            bars=0,
            last_bar_close_ns=None,
            data_age_sec=None,
            connected=False,
        )
        self.stopping = asyncio.Event()

    # ----------------------------------------------------------------------------- status, commands

    def status(self) -> Status:
        if self.current is not None:
            return replace(self.current.status(), alerts=tuple(self._alerts))
        return replace(self._own, at_ns=time.time_ns(), alerts=tuple(self._alerts))

    async def command(self, word: Command, who: str, why: str) -> str:
        """Hand it on to the session that runs. LiveError: none runs, and the word means nothing
        now.
        """
        current = self.current
        if word == "stop":
            self.stop(f"{who} said stop: {why}")
        if current is not None:
            return await current.command(word, who, why)
        if word == "stop":
            return "STOPPED: no session was running; protective orders stay at the broker"
        if word == "kill":
            return self._kill(f"{who}: {why}")
        what = f"nothing to {word}: no session runs ({self._own.why})"
        raise LiveError(
            what,
            "what is held keeps its stop at the broker; `mcl kill` has it closed at the next open,"
            " `mcl stop` ends this",
        )

    def request(self, word: Command, who: str) -> None:
        """The same from a signal handler."""
        current = self.current
        if word == "stop":
            self.stop(who)
        if current is not None:
            current.request(word, who)
        elif word == "kill":
            self._kill(who)

    def stop(self, why: str) -> None:
        log.info("ending: %s", why)
        self.stopping.set()

    def _kill(self, who: str) -> str:
        self._kill_file.write_text(f"{who}\n")
        sentence = (
            f"the kill switch {self._kill_file} is set: the next open closes what is held, and"
            " nothing trades until it is removed"
        )
        self.alert("critical", "KILL", f"{who} said kill between two sessions; {sentence}")
        return sentence

    # ---------------------------------------------------------------------------------------- words

    @property
    def current(self) -> Supervisor | None:
        """The session that runs, if one does."""
        running = self._supervisor
        return None if running is None or running.status_board.state is State.STOPPED else running

    def begin(self, supervisor: Supervisor) -> None:
        """A session takes over."""
        self._supervisor = supervisor
        if self.stopping.is_set():
            supervisor.request("stop", "the process ends")

    def end(self) -> None:
        """The session is over: its figures stay, its connection and its prices do not."""
        if self._supervisor is None:
            return
        last = replace(
            self._supervisor.status(),
            target=None,
            data_age_sec=None,
            connected=False,
            latency_ms=(),
        )
        self._own = replace(last, state=State.WAITING, mode=Mode.NORMAL)
        self._supervisor = None

    def enter(self, state: State, why: str) -> None:
        if (state, why) != (self._own.state, self._own.why):
            log.info("%s: %s", state, why)
        self._own = replace(self._own, state=state, why=why)

    def know(self, deployed: Deployable) -> None:
        """The version that trades from now on."""
        self._own = replace(self._own, version=deployed.version)

    def plan(self, session: str) -> None:
        """The session that comes next."""
        self._own = replace(self._own, session=session)

    def alert(self, severity: Severity, code: str, sentence: str) -> None:
        self.take(Alert(time.time_ns(), severity, code, sentence))

    def take(self, alert: Alert) -> None:
        """One row of alerts over all sessions: nobody gets one twice."""
        self._alerts.append(alert)
