"""A session as on a real TWS (`kind: tws`) that a test can reach: the market does not wait, its
clock runs on, the store ends before the session does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from deployments import Project

from mcl.broker import guards
from mcl.broker.feed import Clock
from mcl.broker.ib import IBBroker
from mcl.config import schema
from mcl.live import session_setup as staging
from mcl.live.audit.compare import Audit, audit
from mcl.live.journal import Journal
from mcl.live.runner import SessionConfig
from mcl.live.supervisor import Supervisor
from mcl.market import calendar
from mcl.market.instruments import MCL
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.strategy import build

from .live_bench import QUICK, as_promoted

DAY = date(2025, 11, 12)
TEN = calendar.ns_of(DAY, 10)  # New York: 64 bars of 15 minutes have closed since the open
RATE = 900.0  # a bar of 15 minutes in a second
STRIDE_SEC = 0.1  # a machine that stalls for longer stalls its market, too
OFF = dict.fromkeys(schema.Guards.model_fields)
RANDOM = {"name": "random", "hold_sec": 900, "seed": 4}
Disturb = Callable[[Supervisor, SimulatedTWS, int], None]


class Desk:
    """A session that starts at ten in the morning with bars stored until the day before."""

    def __init__(
        self,
        shop: Project,
        folder: Path,
        run: schema.Config | None = None,
        start_ns: int = TEN,
        day: date = DAY,
        guards: schema.Guards | dict[str, Any] | None = None,
        **broker: Any,
    ) -> None:
        run = run or shop.config(strategy=RANDOM, interval="15m")
        self.strategy, self.path, self.start_ns = (
            build(run.strategy),
            folder / "session.sqlite",
            start_ns,
        )
        stored = staging.replayed(run, day, self.strategy, shop.root).stored
        assert stored is not None
        self.tape = Tape.from_bars(stored, calendar.to_day(day))
        short = run.model_copy(update={"data": run.data.model_copy(update={"end": day})})
        self.stage = staging.today(short, self.strategy, shop.root, start_ns)
        patient = QUICK | {"heartbeat_sec": 0.3}
        plain: dict[str, Any] = {
            "kind": "tws",
            "port": 4002,
            "timeout_sec": 5.0,
            "reconnect": patient,
            "guards": OFF if guards is None else guards,
        }
        self.broker = schema.BrokerConfig(**plain | broker)
        self.session_config = SessionConfig(as_promoted(run), self.strategy, self.broker, folder)
        self.supervisor: Supervisor
        self.tws: SimulatedTWS

    async def trade(
        self,
        monkeypatch: pytest.MonkeyPatch,
        disturb: Disturb,
        wait: bool = False,
        before: Callable[[SimulatedTWS], object] = lambda _: None,
        **server: Any,
    ) -> Supervisor:
        journal = Journal(self.path)
        plain = {
            "rate": RATE,
            "stride_sec": STRIDE_SEC,
            "start_ns": self.start_ns,
            "slippage_ticks": 1.0,
        }
        try:
            async with SimulatedTWS(self.tape, **plain | server) as tws:
                self.tws = tws
                before(tws)
                monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "a simulated TWS")
                # this machine's clock is not that of the market
                monkeypatch.setattr(Clock, "away_sec", 0.0)
                self.supervisor = Supervisor(
                    self.session_config,
                    lambda gate: IBBroker(self.broker, MCL, port=tws.port, gate=gate),
                    self.stage,
                    journal,
                    tell=lambda bars: disturb(self.supervisor, tws, bars),
                    wait=wait,
                )
                await self.supervisor.run()
        finally:
            journal.close()
        return self.supervisor

    def audited(self, supervisor: Supervisor) -> Audit:
        return audit(
            self.path,
            self.session_config.deployed,
            self.strategy,
            supervisor.stage,
            exact_prices=False,
        )


def trade_alone(
    session_config: SessionConfig, stage: staging.Stage, path: Path, port: int, resume: bool
) -> None:
    """The whole session of a process that somebody may kill."""
    guards.PAPER_PORTS[port] = "a simulated TWS"
    Clock.away_sec = 0.0  # type: ignore[method-assign, assignment]

    async def trade() -> None:
        supervisor = Supervisor(
            session_config,
            lambda gate: IBBroker(session_config.broker, MCL, port=port, gate=gate),
            stage,
            Journal(path),
            wait=True,
        )
        if resume:
            await supervisor.command("resume", "test", "go on")
        await supervisor.run()

    asyncio.run(trade())
