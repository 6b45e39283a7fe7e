"""A supervised session on a simulated TWS that the test can reach and disturb."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from deployments import Project

from mcl.broker.ib import IBBroker
from mcl.config import schema
from mcl.live import session_setup as staging
from mcl.live.audit.compare import Audit, audit
from mcl.live.journal import Journal
from mcl.live.runner import SessionConfig
from mcl.live.supervisor import Supervisor
from mcl.market.instruments import MCL
from mcl.promotion.load import Deployable, promoted
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.strategy import Strategy, build

QUICK = {"first_sec": 0.01, "longest_sec": 0.05}


def as_promoted(run: schema.Config) -> Deployable:
    return Deployable("paper", 1, "none", run, {}, "none", Path(), "paper", np.empty(0))


async def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


class Session(Protocol):
    """What a supervisor is made of."""

    deployed: Deployable
    strategy: Strategy
    config: schema.BrokerConfig
    folder: Path
    stage: staging.Stage
    tws: SimulatedTWS


def supervised(
    session: Session, journal: Journal, tell: Callable[[int], None], wait: bool
) -> Supervisor:
    """A supervisor over the simulated TWS of `session`."""
    session_config = SessionConfig(
        session.deployed, session.strategy, session.config, session.folder
    )
    return Supervisor(
        session_config,
        lambda gate: IBBroker(session.config, MCL, port=session.tws.port, gate=gate),
        session.stage,
        journal,
        tell=tell,
        wait=wait,
    )


class Bench:
    """`folder` holds journal and kill switch. `supervisor` and `tws` are there once `run` has
    begun.
    """

    def __init__(
        self, desk: Project, folder: Path, run: schema.Config | None = None, **broker: Any
    ) -> None:
        """Of the version promoted as `paper`, or of a configuration as if it were."""
        self.deployed = as_promoted(run) if run else promoted("paper", desk)
        self.strategy = build(self.deployed.config.strategy)
        self.stage = staging.replayed(self.deployed.config, None, self.strategy, desk.root)
        settings: dict[str, Any] = {"timeout_sec": 2.0, "reconnect": QUICK} | broker
        self.config = schema.BrokerConfig(**settings)
        self.folder, self.path = folder, folder / "session.sqlite"
        self.supervisor: Supervisor
        self.tws: SimulatedTWS

    async def run(
        self,
        disturb: Callable[[SimulatedTWS, int], None] = lambda *_: None,
        before: Callable[[SimulatedTWS], object] = lambda _: None,
        wait: bool = False,
        **server: Any,
    ) -> Supervisor:
        """One process's life: `disturb` is called with the number of bars after each."""
        assert self.stage.stored is not None
        tape, journal = Tape.from_bars(self.stage.stored, self.stage.day), Journal(self.path)
        costs = self.deployed.config.costs
        try:
            async with SimulatedTWS(
                tape, **({"slippage_ticks": costs.slippage_ticks} | server)
            ) as self.tws:
                before(self.tws)
                self.supervisor = supervised(
                    self, journal, lambda bars: disturb(self.tws, bars), wait
                )
                await self.supervisor.run()
        finally:
            journal.close()
        return self.supervisor

    def audited(self) -> Audit:
        return audit(self.path, self.deployed, self.strategy, self.stage, exact_prices=True)
