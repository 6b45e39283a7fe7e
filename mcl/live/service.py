"""`mcl live NAME --stay`: one process that trades one session after the other, for weeks, without a
person.

    WAITING ── fetch what data are missing ── open ── trade ── audit ── WAITING
       ▲                                       │ refused
       └──────── the session is over ◄── STARTING: a critical alert, again after a growing pause

The promoted version is read again before each session, so a new one takes effect at the next. What
may take long (reading versions and data, downloads, audits) runs in a thread, so that commands and
questions are answered all the while. A stop ends each of these in time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mcl.base.errors import LiveError, MclError
from mcl.base.files import write_whole
from mcl.base.instants import NS
from mcl.base.jit import return_freed_memory
from mcl.config import schema
from mcl.data.download import chunks
from mcl.data.download.fetcher import DownloadProgress
from mcl.data.download.plan import DownloadOrder, DownloadTerms, SilentListener, download
from mcl.data.download.receipts import Folder
from mcl.data.loader import load
from mcl.data.record_files import INTERVALS
from mcl.data.sources.databento import DatabentoData
from mcl.live.audit.compare import NothingToAudit
from mcl.live.journal import read
from mcl.live.memory import release
from mcl.live.ops.control_socket import alone, folder_of
from mcl.live.ops.monitoring import Operations, monitor
from mcl.live.ops.session_log import log_session
from mcl.live.session import (
    TradedSession,
    admitted,
    audit_traded,
    journal_path,
    signal_handlers,
    trade,
)
from mcl.live.session_tasks import cancel_all
from mcl.live.standby import Standby
from mcl.live.status import State
from mcl.live.supervisor import Supervisor
from mcl.market import calendar
from mcl.promotion.load import Deployable
from mcl.strategy import Strategy
from mcl.tracking.project import Project

LEAD_SEC = 900.0  # before the open: the version is read and what data are missing are fetched
FIRST_PAUSE_SEC = 5.0  # after a refused start; twice as long after each, up to
LONGEST_PAUSE_SEC = 300.0
TICK_SEC = 1.0  # a clock that is set, or a machine that slept, is noticed within this
LEAVE_SEC = 15.0  # so long an operator who says stop waits for reading and fetching
AUDIT_SEC = 30.0  # and for an audit
FETCH_AGAIN_DAYS = 10  # before the end of what is stored: gaps there are checked once more
AUDIT_PAGE = "audit.prom"  # the last audit, for the metrics page
T = TypeVar("T")
log = logging.getLogger("mcl.live")


@dataclass(frozen=True)
class MarketClock:
    """`now` in ns UTC; it runs `rate` times as fast as this machine's."""

    now: Callable[[], int] = time.time_ns
    rate: float = 1.0


@dataclass(frozen=True)
class UpcomingSession:
    """A session that is to be traded."""

    day: date
    open_ns: int
    close_ns: int

    @property
    def words(self) -> str:
        opens = datetime.fromtimestamp(self.open_ns / NS, UTC)
        return (
            f"session {self.day} opens {opens:%Y-%m-%d %H:%M} UTC,"
            f" {opens.astimezone(calendar.NEW_YORK):%a %H:%M} New York"
        )


@dataclass(frozen=True)
class AuditRow:
    """One session in the answer of the process."""

    session: str
    run_id: str
    audit: str
    unexplained: int


@dataclass
class Service:
    """`run` lives until somebody says stop. `terms` of downloads, None for none. The caller's
    thread is the main thread.
    """

    name: str
    broker: schema.BrokerConfig
    operations: Operations
    project: Project
    terms: DownloadTerms | None = None
    clock: MarketClock = field(default_factory=MarketClock)
    audits: list[AuditRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.broker.kind == "sim":
            raise LiveError(
                "--stay waits for the sessions of a market; broker=ib_sim replays one stored"
                " session and ends",
                "choose broker=ib_paper",
            )
        self.folder = folder_of(self.project.root, self.name)
        self.standby = Standby(self.name, self.broker, self.folder)
        self._instrument = "MCL"
        self._done: date | None = None  # the last session that is over for us
        self._traded: TradedSession | None = None  # of the session that runs
        self._whose: MutableMapping[str, Any] = {}
        # the last one that was told, and of which session
        self._refusal: tuple[date | None, str] | None = None
        self._sentences: set[str] = set()  # that were said once

    async def run(self) -> None:
        """Trade session after session. The caller holds `alone(folder)`."""
        return_freed_memory()
        with log_session(self.folder, alias=self.name) as self._whose:
            async with monitor(self.standby, self.folder, self.operations):
                with signal_handlers(self.standby.request), suppress(_Left):
                    await self._live()
            log.info("ended in order")

    # ----------------------------------------------------------------------------------------- life

    async def _live(self) -> None:
        try:
            await self._admit()  # a refusal is heard of now, not on Sunday evening
        except Exception as error:
            self._not_started(None, "no session can start", _sentence(error))
        while not self.standby.stopping.is_set():
            ahead = next_session(self.clock.now(), self._instrument, self._done)
            self.standby.plan(str(ahead.day))
            self._whose["session"] = str(ahead.day)
            if self.clock.now() < ahead.open_ns:
                self.standby.enter(State.WAITING, ahead.words)
            await self._until(ahead.open_ns - int(LEAD_SEC * NS))
            await self._serve(ahead)
            self._done = ahead.day

    async def _serve(self, ahead: UpcomingSession) -> None:
        """One session: prepared, traded, audited. A refusal is reported and tried again until the
        session is over.
        """
        pause, fetched, began = FIRST_PAUSE_SEC, False, time.perf_counter()
        self._traded = None
        while not self.standby.stopping.is_set() and self.clock.now() < ahead.close_ns:
            try:
                deployed, strategy = await self._admit()
                if not fetched:
                    fetched = True
                    await self._fetch(deployed, ahead)
                if self.clock.now() < ahead.open_ns:
                    self.standby.enter(State.WAITING, ahead.words)
                    await self._until(ahead.open_ns)
                    deployed, strategy = await self._admit()
                await self._trade(deployed, strategy, ahead)
                break
            except _Left:
                break
            except Exception as error:
                self._refuse(error, pause, ahead)
            await self._until(self.clock.now() + int(pause * NS))
            pause = min(2 * pause, LONGEST_PAUSE_SEC)
        if self._traded is not None:
            await self._audit(self._traded, time.perf_counter() - began)
            self._traded = None
        await self._aside(release, LEAVE_SEC)

    def _refuse(self, error: Exception, pause: float, ahead: UpcomingSession) -> None:
        if not isinstance(error, MclError):
            log.error("the session ended with an error that is not one of ours", exc_info=error)
        sentence = _sentence(error)
        self._not_started(ahead.day, f"session {ahead.day}", sentence)
        state = State.STARTING if self.clock.now() >= ahead.open_ns else State.WAITING
        self.standby.enter(
            state, f"not trading: {sentence}; next attempt in {pause:g} s; {ahead.words}"
        )

    def _not_started(self, day: date | None, what: str, sentence: str) -> None:
        """A critical alert, one for each reason and session, however often the start is tried
        again.
        """
        previous, self._refusal = self._refusal, (day, sentence)
        if previous is None or previous[1] != sentence or previous[0] not in (None, day):
            self.standby.alert("critical", "NOT_STARTED", f"{what}: {sentence}")

    async def _admit(self) -> tuple[Deployable, Strategy]:
        deployed, strategy = await self._aside(
            partial(admitted, self.name, self.broker, self.project), LEAVE_SEC
        )
        self._instrument = deployed.config.data.instrument
        self._whose["version"] = deployed.version
        self.standby.know(deployed)
        return deployed, strategy

    # ---------------------------------------------------------------------------------------- trade

    async def _trade(
        self, deployed: Deployable, strategy: Strategy, ahead: UpcomingSession
    ) -> None:
        """Until the session's bars end or somebody says stop."""
        if self.standby.stopping.is_set():
            return
        self.standby.enter(
            State.STARTING,
            f"connecting to {self.broker.host}:{self.broker.port} for session {ahead.day}",
        )
        self.standby.plan(str(ahead.day))
        work = trade(
            deployed,
            strategy,
            self.broker,
            self.project.root,
            self._attend,
            lambda _bars, _of: None,
            opens_ns=ahead.open_ns,
            watchers=(self.standby.take,),
        )
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.standby.stopping.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self.standby.current is None and self._traded is None:
                await cancel_all([task])  # no session runs yet: nothing was sent
                return
            await task
        finally:
            stopped.cancel()

    @asynccontextmanager
    async def _attend(self, supervisor: Supervisor) -> AsyncIterator[None]:
        self.standby.begin(supervisor)
        session = supervisor.session
        path = journal_path(session.folder, supervisor.stage, session.chain)
        try:
            yield
        finally:
            if any(True for _ in read(path, ("begin",))):
                self._traded = TradedSession(
                    session.deployed, session.strategy, supervisor.stage, path
                )
            self.standby.end()

    # ---------------------------------------------------------------------------------------- audit

    async def _audit(self, traded: TradedSession, seconds: float) -> None:
        """Compare the traded session with the backtest. A failure of the audit is reported and ends
        nothing.
        """
        day = traded.stage.date
        self.standby.enter(State.WAITING, f"auditing session {day}")
        try:
            work = partial(audit_traded, traded, self.broker, self.project.store, seconds)
            done, left = await self._aside(work, AUDIT_SEC)
        except _Left:
            log.error(
                "the audit of session %s did not end in time: mcl live audit %s %s",
                day,
                day,
                self.name,
            )
            return
        except NothingToAudit as error:
            log.info("session %s is not audited: %s", day, error)
            return
        except Exception as error:
            log.error("the audit failed", exc_info=error)
            self.standby.alert(
                "critical",
                "AUDIT",
                f"session {day} could not be audited: {_sentence(error)}; mcl live audit {day}"
                f" {self.name}",
            )
            return
        facts = done.facts
        page = f'mcl_audit_unexplained{{alias="{self.name}"}} {facts["unexplained"]:g}\n'
        write_whole(self.folder / AUDIT_PAGE, page.encode())
        self.audits = [
            *self.audits[-99:],
            AuditRow(str(day), done.run_id, str(facts["audit"]), int(facts["unexplained"])),
        ]
        sentence = (
            f"audit of session {day} {facts['audit']}: {facts['decisions']} decisions,"
            f" {facts['fills']} fills, "
        )
        sentence += (
            f"{facts['differences']} differences, {facts['unexplained']} without a cause; run"
            f" {done.run_id}"
        )
        log.info(sentence)
        if facts["audit"] == "failed":
            self.standby.alert("critical", "AUDIT", sentence)
        if left is not None:
            self.standby.take(left)

    # ----------------------------------------------------------------------------------------- data

    async def _fetch(self, deployed: Deployable, ahead: UpcomingSession) -> None:
        """Bring what is missing before the session. A failure is reported once.
        The start says whether it matters.
        """
        data = deployed.config.data
        state = State.WAITING if self.clock.now() < ahead.open_ns else State.STARTING
        self.standby.enter(state, f"looking for data that are missing; {ahead.words}")
        try:
            if self.terms is not None:
                order = missing(data, self.project.root)
                done = await self._aside(
                    partial(_bring, order, self.project.root, self.terms, self.standby.stopping),
                    LEAVE_SEC,
                )
                log.info("data: %d files, %.4f USD paid now", len(done["files"]), done["paid_usd"])
        except MclError as error:
            if isinstance(error, _Left):
                raise
            if error.message not in self._sentences:
                self._sentences.add(error.message)
                self.standby.alert("warning", "DATA", f"nothing was fetched: {error.message}")
        # made now, mapped at the open
        await self._aside(partial(load, data, self.project.root, holdout=True), LEAVE_SEC)

    # ----------------------------------------------------------------------------------------- time

    async def _until(self, at_ns: int) -> None:
        """Wait for an instant of the market's clock, or for stop."""
        while (
            not self.standby.stopping.is_set()
            and (left := (at_ns - self.clock.now()) / NS / self.clock.rate) > 0
        ):
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, TICK_SEC)):
                    await self.standby.stopping.wait()

    async def _aside(self, work: Callable[[], T], wait_sec: float) -> T:
        """Do it in a thread of its own. After a stop it has so long to end; then it is left alone,
        and ends with the process.
        """
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        threading.Thread(target=_perform, args=(work, done), name="mcl-aside", daemon=True).start()
        result: asyncio.Future[T] = asyncio.wrap_future(done)
        stopped = asyncio.ensure_future(self.standby.stopping.wait())
        waits: list[asyncio.Future[Any]] = [result, stopped]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                await asyncio.wait({result}, timeout=wait_sec)
        finally:
            stopped.cancel()
        if not result.done():
            result.cancel()
            raise _Left("the process ends")
        return result.result()


class _Left(LiveError):
    """Somebody said stop before it was done."""


def serve(
    name: str,
    broker: schema.BrokerConfig,
    operations: Operations,
    *,
    project: Project,
    terms: DownloadTerms | None = None,
) -> list[AuditRow]:
    """Trade the sessions of `name` until somebody says stop; returns the last hundred audits.
    LiveError: it already runs, or a replay.
    """
    service = Service(name, broker, operations, project, terms)
    with alone(service.folder):
        asyncio.run(service.run())
    return service.audits


def next_session(now_ns: int, instrument: str, after: date | None = None) -> UpcomingSession:
    """The session that is open, else the next one; later than `after`."""
    today = calendar.from_day(int(calendar.session_of(now_ns)))
    sessions = calendar.sessions(today - timedelta(days=1), today + timedelta(days=14), instrument)
    for day, open_ns, close_ns in zip(
        sessions.dates, sessions.open_ns, sessions.close_ns, strict=True
    ):
        if close_ns > now_ns and (after is None or day > after):
            return UpcomingSession(day, int(open_ns), int(close_ns))
    raise LiveError(
        f"the calendar has no session of {instrument} in the two weeks after {today}",
        "update pandas_market_calendars",
    )


def missing(data: schema.Data, root: Path) -> DownloadOrder:
    """The download that brings stored bars up to date. LiveError: these data are of no download."""
    if not isinstance(data, DatabentoData):
        raise LiveError(
            f"data.source={data.source} is not downloaded: bring the bars before each open yourself"
        )
    folder = root / "data" / "raw" / chunks.folder_name(data.symbol)
    if (root / data.path).resolve() != folder.resolve():
        raise LiveError(
            f"data.path={data.path} is no folder of `mcl data download`, which writes"
            f" {folder.relative_to(root)}"
        )
    wanted = [name for name in INTERVALS if data.stored_interval in (None, INTERVALS[name])]
    kind = next((name for name in wanted if any((folder / name).glob("*.dbn.zst"))), None)
    if kind is None:
        raise LiveError(
            f"{folder.relative_to(root)} holds no bars to go on from",
            f"mcl data download --symbol {data.symbol} --start …",
        )
    ends = [receipt.end for receipt in Folder(folder).verified_receipts(data.symbol, [kind])]
    if not ends:
        raise LiveError(f"{folder.relative_to(root)} has no receipts of a download to go on from")
    start = date.fromisoformat(max(ends)) - timedelta(days=FETCH_AGAIN_DAYS)
    return DownloadOrder(data.symbol, kind, str(start))


class _Interruptible(SilentListener):
    """Ends a download in order once somebody has said stop: what is paid for is finished, nothing
    else begins.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping, self._interrupted = stopping, False

    def moved(self, tally: DownloadProgress) -> None:
        del tally
        if self._stopping.is_set() and not self._interrupted:
            self._interrupted = True
            log.info(
                "the download ends: a file that is paid for is waited for, no other one is begun"
            )
            raise KeyboardInterrupt


def _bring(
    order: DownloadOrder, root: Path, terms: DownloadTerms, stopping: asyncio.Event
) -> dict[str, Any]:
    try:
        return download(order, root, terms, listener=_Interruptible(stopping))
    except KeyboardInterrupt:
        raise _Left("the process ends") from None


def _perform(work: Callable[[], T], done: concurrent.futures.Future[T]) -> None:
    try:
        result = work()
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(result)


def _sentence(error: Exception) -> str:
    if not isinstance(error, MclError):
        return f"{type(error).__name__}: {error}"
    return f"{error.message} ({error.hint})" if error.hint else error.message
