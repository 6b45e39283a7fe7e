"""`mcl live NAME`: one session of a promoted version, from the check of its hashes to the page of
its audit.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mcl.base.alert import Alert
from mcl.base.errors import LiveError
from mcl.broker.guards import check_locks, check_reach
from mcl.config import schema
from mcl.live import session_setup as staging
from mcl.live.audit.record import EMBEDDED, AuditedSession, track_audit
from mcl.live.journal import Journal
from mcl.live.memory import collect_between_bars
from mcl.live.ops.alert_channels import channels
from mcl.live.ops.alerts import AlertDispatcher
from mcl.live.ops.control_socket import alone, folder_of
from mcl.live.ops.monitoring import Operations, monitor
from mcl.live.ops.session_log import log_session
from mcl.live.runner import SessionConfig
from mcl.live.session_setup import Stage
from mcl.live.session_state import Chain, chain_of
from mcl.live.simulated_broker import broker_port
from mcl.live.status import Command
from mcl.live.status_board import Watcher
from mcl.live.supervisor import Supervisor, gate_of
from mcl.market.instruments import INSTRUMENTS
from mcl.promotion.live_record import band_alert
from mcl.promotion.load import Deployable, promoted
from mcl.strategy import Strategy, build
from mcl.tracking.project import Project
from mcl.tracking.store import Store

SIGNALS: dict[int, Command] = {
    signal.SIGTERM: "stop",
    signal.SIGINT: "stop",
    signal.SIGUSR1: "kill",
}
# share of closes: a vendor's bars are not the broker's own
HISTORY_MAY_DIFFER = {"sim": 0.0, "tws": 0.05}


@dataclass(frozen=True)
class TradedSession:
    """A session that was traded: the version, what was known before it, and where its journal
    is.
    """

    deployed: Deployable
    strategy: Strategy
    stage: Stage
    journal: Path


def run_session(
    name: str,
    broker: schema.BrokerConfig,
    operations: Operations | None = None,
    *,
    project: Project,
    progress: bool = True,
) -> AuditedSession:
    """Trade the version that is promoted as `name` for one session, audit it against the backtest,
    track it as a run.

    Only the broker differs from the promoted configuration. LiveError: the version's file, registry
    and hashes disagree, the broker refuses, or something is uncertain (the journal then ends with
    why). Differences found by the audit are returned.
    """
    deployed, strategy = admitted(name, broker, project)
    operations = operations or Operations()
    began = time.perf_counter()

    @asynccontextmanager
    async def attend(supervisor: Supervisor) -> AsyncIterator[None]:
        whose = {
            "alias": deployed.alias,
            "version": deployed.version,
            "session": str(supervisor.stage.date),
        }
        with log_session(supervisor.session.folder, **whose):
            async with monitor(supervisor, supervisor.session.folder, operations):
                with signal_handlers(supervisor.request):
                    yield

    with alone(folder_of(project.root, name)):
        traded = asyncio.run(
            trade(deployed, strategy, broker, project.root, attend, _progress(progress))
        )
    done, left = audit_traded(traded, broker, project.store, time.perf_counter() - began)
    if left is not None:
        with AlertDispatcher(operations.alerts, channels(operations.alerts)) as alerts:
            alerts.tell(left, name, deployed.version, str(traded.stage.date))
    return done


def admitted(
    name: str, broker: schema.BrokerConfig, project: Project
) -> tuple[Deployable, Strategy]:
    """The promoted version and its strategy. LiveError: file, registry, hash and code disagree;
    GuardError: a lock of live money.
    """
    deployed = promoted(name, project)
    check_locks(broker, name, deployed.stage)
    return deployed, build(deployed.config.strategy)


def audit_traded(
    traded: TradedSession, broker: schema.BrokerConfig, store: Store, seconds: float
) -> tuple[AuditedSession, Alert | None]:
    """Audit the session and file it; with the alert that its version has left its expected band."""
    exact = broker.kind == "sim" and not broker.replay.speed
    where = (
        EMBEDDED
        if broker.kind == "sim"
        else f"{broker.host}:{broker.port} account {broker.account}"
    )
    done = track_audit(
        traded.journal,
        traded.deployed,
        traded.strategy,
        traded.stage,
        store,
        where=where,
        exact_prices=exact,
        seconds=seconds,
    )
    left = band_alert(traded.deployed, store)
    if left is not None:
        done.facts["expected_band"] = left.sentence
    return done, left


# ------------------------------------------------------------------------------------------ trading


async def trade(
    deployed: Deployable,
    strategy: Strategy,
    config: schema.BrokerConfig,
    root: Path,
    attend: Callable[[Supervisor], AbstractAsyncContextManager[None]],
    tell: Callable[[int, int], None],
    opens_ns: int = 0,
    watchers: Sequence[Watcher] = (),
) -> TradedSession:
    """Run the session on the configured broker, inside `attend`. The caller holds `alone`.

    `opens_ns`: the session that opens then, although the broker's clock may be a little behind.
    """
    from mcl.broker.ib import IBBroker

    session = SessionConfig(
        deployed, strategy, config, folder_of(root, deployed.alias), HISTORY_MAY_DIFFER[config.kind]
    )
    check_reach(config.guards, session.limits.max_position, session.limits.max_order)
    gate, instrument = gate_of(session), INSTRUMENTS[deployed.config.data.instrument]
    replay = (
        staging.replayed(deployed.config, config.replay.session, strategy, root)
        if session.replay
        else None
    )
    path = journal_path(session.folder, replay) if replay else None
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(broker_port(session, replay, path, root))
        first = IBBroker(config, instrument, port=port, gate=gate)
        stack.push_async_callback(first.close)
        await first.connect()
        between = stack.enter_context(collect_between_bars())
        stage = replay or staging.today(deployed.config, strategy, root, max(first.now(), opens_ns))
        path = path or journal_path(session.folder, stage, session.chain)
        journal = Journal(path)
        stack.callback(journal.close)

        def report(bars: int) -> None:
            between(bars)
            tell(bars, stage.room)

        supervisor = Supervisor(
            session,
            lambda gate: IBBroker(config, instrument, port=port, gate=gate),
            stage,
            journal,
            watchers=watchers,
            gate=gate,
            tell=report,
            wait=not session.replay,
        )
        await stack.enter_async_context(attend(supervisor))
        try:
            await supervisor.run(first)
        except LiveError as error:
            error.hint = f"{error.hint}; the journal {path} holds all that happened".removeprefix(
                "; "
            )
            raise
    return TradedSession(deployed, strategy, supervisor.stage, path)


@contextmanager
def signal_handlers(request: Callable[[Command, str], None]) -> Iterator[None]:
    """Signals reach the session for as long as the block runs."""
    loop, numbers = asyncio.get_running_loop(), []
    for number, word in SIGNALS.items():
        try:
            loop.add_signal_handler(number, request, word, signal.Signals(number).name)
        # not in the main thread: whoever runs us there ends us otherwise
        except (ValueError, RuntimeError):
            break
        numbers.append(number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def journal_path(folder: Path, stage: Stage, chain: Chain | None = None) -> Path:
    """<root>/live/ALIAS/SESSION.sqlite, or under the next free number SESSION.2.sqlite.

    A real session continues in the journal of its day that has the same kind of broker and the same
    account: `chain`. A replay, for which that is None, gets a new journal each time.
    """
    for number in range(1, 1_000_000):
        path = folder / (f"{stage.date}.{number}.sqlite" if number > 1 else f"{stage.date}.sqlite")
        if not path.exists() or (chain is not None and chain_of(path) in (chain, None)):
            return path
    raise LiveError(
        f"{folder} holds too many journals of {stage.date}", "move older ones elsewhere"
    )


def _progress(wanted: bool) -> Callable[[int, int], None]:
    """A counter on stderr with the time left: written over on a terminal, a line at each tenth of
    the session elsewhere.
    """
    if not wanted:
        return lambda _bars, _of: None
    terminal, began = sys.stderr.isatty(), time.monotonic()

    def tell(bars: int, of: int) -> None:
        if bars % max(1, of // (50 if terminal else 10)) == 0 or bars == of:
            left = (
                timedelta(seconds=round((time.monotonic() - began) / bars * (of - bars)))
                if bars
                else "unknown"
            )
            over, end = ("\r", "\n" if bars == of else "") if terminal else ("", "\n")
            print(
                f"{over}{bars:5d} of {of} bars, time left {left}",
                end=end,
                file=sys.stderr,
                flush=True,
            )

    return tell
