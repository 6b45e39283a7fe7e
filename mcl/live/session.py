"""`mcl live NAME`: one session of a promoted version, from the check of its hashes to the page of its audit."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mcl import evidence, schema
from mcl.broker.guards import check_locks
from mcl.broker.tws import SimulatedTWS, Tape
from mcl.errors import LiveError
from mcl.live import stage as staging
from mcl.live.alerts import Alerts
from mcl.live.attend import Operations, attended
from mcl.live.audit import Audit, audit
from mcl.live.channels import channels
from mcl.live.control import alone, folder_of
from mcl.live.journal import Journal
from mcl.live.logs import logged
from mcl.live.runner import Duty
from mcl.live.slippage import mean_ticks
from mcl.live.stage import Stage
from mcl.live.status import Command
from mcl.live.supervisor import Supervisor, gate_of
from mcl.market import INSTRUMENTS
from mcl.promote.deploy import Deployable, promoted
from mcl.promote.record import band_alert
from mcl.runs import parquet
from mcl.strategy import Strategy, build
from mcl.tracking import Record, Store

STUDY = "live"
SIGNALS: dict[int, Command] = {signal.SIGTERM: "stop", signal.SIGINT: "stop", signal.SIGUSR1: "kill"}
HISTORY_MAY_DIFFER = {"sim": 0.0, "tws": 0.05}  # share of closes: a vendor's bars are not the broker's own


@dataclass(frozen=True)
class Session:
    """What a session left behind. `differences` is empty when every decision and fill equals the backtest of the same bars."""

    decisions: pd.DataFrame
    orders: pd.DataFrame
    fills: pd.DataFrame
    differences: pd.DataFrame  # columns of audit.DIFFERENCE
    run_id: str
    report: Path
    journal: Path
    facts: dict[str, Any]


def run_session(
    name: str, broker: schema.Broker, operations: Operations | None = None, *, store: Store, root: Path, progress: bool = True
) -> Session:
    """Trade the version that is promoted as `name` for one session, audit it against the backtest, track it as a run.

    Only the broker differs from the promoted configuration. LiveError: the version's file, registry and hashes disagree, the
    broker refuses, or something is uncertain (the journal then ends with why). Differences found by the audit are returned.
    """
    check_locks(broker, name)
    deployed = promoted(name, store, root)
    strategy = build(deployed.config.strategy)
    began = time.perf_counter()
    with alone(folder_of(root, name)):
        stage, journal = asyncio.run(_traded(deployed, strategy, broker, operations or Operations(), root, _progress(progress)))
    seconds = time.perf_counter() - began
    audited = audit(journal, deployed, strategy, stage, exact_prices=broker.kind == "sim" and not broker.replay.speed)
    facts = _facts(deployed, stage, broker, audited, seconds)
    run_id = store.record(_record(deployed, stage, audited, facts, journal))
    page = store.run(run_id).artifacts / "report.html"
    if (left := band_alert(deployed, store)) is not None:
        rules = (operations or Operations()).alerts
        with Alerts(rules, channels(rules)) as alerts:
            alerts.tell(left, name, deployed.version, str(stage.date))
        facts |= {"expected_band": left.sentence}
    return Session(audited.decisions, audited.orders, audited.fills, audited.differences, run_id, page, journal, facts)


# ----------------------------------------------------------------------------------------------------------------- trading


async def _traded(
    deployed: Deployable,
    strategy: Strategy,
    config: schema.Broker,
    operations: Operations,
    root: Path,
    tell: Callable[[int, int], None],
) -> tuple[Stage, Path]:
    """Run the session on the configured broker; returns what it knew before and where its journal is."""
    from mcl.broker.ib import IBBroker

    duty = Duty(deployed, strategy, config, folder_of(root, deployed.alias), HISTORY_MAY_DIFFER[config.kind])
    gate, instrument = gate_of(duty), INSTRUMENTS[deployed.config.data.instrument]
    replay = staging.replayed(deployed.config, config.replay.session, strategy, root) if duty.replay else None
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(_embedded(config, deployed, replay))
        first = IBBroker(config, instrument, port=port, gate=gate)
        stack.push_async_callback(first.close)
        await first.connect()
        stage = replay or staging.today(deployed.config, strategy, root, await first.heartbeat())
        path = journal_path(duty.folder, stage, again=duty.replay)
        journal = Journal(path)
        stack.callback(journal.close)
        supervisor = Supervisor(
            duty,
            lambda gate: IBBroker(config, instrument, port=port, gate=gate),
            stage,
            journal,
            gate=gate,
            tell=lambda bars: tell(bars, stage.room),
            wait=not duty.replay,
        )
        stack.enter_context(logged(duty.folder, alias=deployed.alias, version=deployed.version, session=str(stage.date)))
        await stack.enter_async_context(attended(supervisor, duty.folder, operations))
        stack.enter_context(_signalled(supervisor))
        try:
            await supervisor.run(first)
        except LiveError as error:
            error.hint = f"{error.hint}; the journal {path} holds all that happened".removeprefix("; ")
            raise
    return supervisor.stage, path


@asynccontextmanager
async def _embedded(config: schema.Broker, deployed: Deployable, replay: Stage | None) -> AsyncIterator[int]:
    """The port to connect to; for `sim` that of an embedded TWS which lives as long."""
    if replay is None or replay.stored is None:
        yield config.port
        return
    tape = Tape.from_bars(replay.stored, replay.day)
    async with SimulatedTWS.configured(tape, config, deployed.config.costs) as tws:
        yield tws.port


@contextmanager
def _signalled(supervisor: Supervisor) -> Iterator[None]:
    """Signals reach the session for as long as it lives."""
    loop, told = asyncio.get_running_loop(), []
    for number, word in SIGNALS.items():
        try:
            loop.add_signal_handler(number, supervisor.wish, word, signal.Signals(number).name)
        except (ValueError, RuntimeError):  # not in the main thread: whoever runs us there ends us otherwise
            break
        told.append(number)
    try:
        yield
    finally:
        for number in told:
            loop.remove_signal_handler(number)


def journal_path(folder: Path, stage: Stage, again: bool) -> Path:
    """<root>/live/ALIAS/SESSION.sqlite. A replay may be repeated, under the next free number; a real session goes on in its journal."""
    path = folder / f"{stage.date}.sqlite"
    if not path.exists() or not again:
        return path
    return next(p for number in range(2, 1_000_000) if not (p := folder / f"{stage.date}.{number}.sqlite").exists())


def _progress(wanted: bool) -> Callable[[int, int], None]:
    """A counter on stderr, at each tenth of the session; silent when nobody looks."""
    if not (wanted and sys.stderr.isatty()):
        return lambda _bars, _of: None

    def tell(bars: int, of: int) -> None:
        if bars % max(1, of // 50) == 0 or bars == of:
            print(f"\r{bars:5d} of {of} bars", end="\n" if bars == of else "", file=sys.stderr, flush=True)

    return tell


# ---------------------------------------------------------------------------------------------------------------- tracking


def _facts(deployed: Deployable, stage: Stage, broker: schema.Broker, audited: Audit, seconds: float) -> dict[str, Any]:
    """What a person wants to know first; also the facts of the page."""
    equity = audited.decisions["equity_usd"].dropna()
    mark = evidence.watermark(stage.warmup)
    return {
        "version": f"{deployed.alias} v{deployed.version} (run {deployed.run_id})",
        "session": str(stage.date),
        "contract": stage.contract.symbol,
        "broker": "embedded simulated TWS" if broker.kind == "sim" else f"{broker.host}:{broker.port} account {broker.account}",
        **({"data": mark} if mark else {}),
        **({} if _code_as_promoted(deployed) else {"code": "not the code that was promoted: what decides has changed since"}),
        "bars": len(audited.result.bars),
        "decisions": int(audited.decisions["target"].notna().sum()),
        "orders": len(audited.orders),
        "fills": len(audited.fills),
        "differences": len(audited.differences),
        "unexplained": audited.unexplained,
        "net_pnl_usd": float(equity.iloc[-1] - deployed.config.capital_usd) if len(equity) else math.nan,
        "backtest_net_pnl_usd": audited.result.net_pnl_usd,
        "commission_usd": float(audited.fills["commission_usd"].astype(float).sum()),
        "slippage_ticks": mean_ticks(audited.slippage),
        "assumed_slippage_ticks": deployed.config.costs.slippage_ticks,
        "seconds": round(seconds, 2),
    }


def _record(deployed: Deployable, stage: Stage, audited: Audit, facts: dict[str, Any], journal: Path) -> Record:
    from mcl.report.audit import session_page

    told = facts | {
        "content_sha256": deployed.content_sha256,
        "config_sha256": deployed.provenance["config_sha256"],
        "journal": str(journal),
    }
    title = f"{deployed.alias} v{deployed.version} · {stage.date}"
    mark = evidence.watermark(stage.warmup)
    page = session_page(audited.decisions, audited.fills, audited.differences, told, title=title, synthetic=mark)
    frames = {"decisions": audited.decisions, "orders": audited.orders, "fills": audited.fills, "differences": audited.differences}
    return Record(
        study=STUDY,
        name=title,
        params={key: facts[key] for key in ("version", "session", "contract", "broker")},
        metrics={key: float(value) for key, value in facts.items() if isinstance(value, int | float)},
        tags=_tags(deployed, stage, facts) | ({"watermark": mark} if mark else {}),
        files={f"data/{name}.parquet": parquet(frame) for name, frame in frames.items()}
        | {"journal.sqlite": journal.read_bytes(), "report.html": page.encode()},
        status="FAILED" if len(audited.differences) else "FINISHED",
    )


def _tags(deployed: Deployable, stage: Stage, facts: dict[str, Any]) -> dict[str, str]:
    return {
        "mcl.kind": "session",
        "mcl.alias": deployed.alias,
        "mcl.version": str(deployed.version),
        "mcl.promoted_run": deployed.run_id,
        "mcl.strategy": deployed.config.strategy["name"],
        "session": facts["session"],
        "config_sha256": deployed.provenance["config_sha256"],
        "content_sha256": deployed.content_sha256,
        "data_fingerprint": stage.warmup.fingerprint,
        "code_sha256": evidence.code_sha256(deployed.config.strategy),
        "code_as_promoted": str(_code_as_promoted(deployed)).lower(),
        "synthetic": str(stage.warmup.synthetic).lower(),
    }


def _code_as_promoted(deployed: Deployable) -> bool:
    return evidence.code_sha256(deployed.config.strategy) == str(deployed.provenance["code_sha256"])
