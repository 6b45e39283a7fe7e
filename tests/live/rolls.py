"""A project whose data roll from MCLZ5 to MCLF6 while a position is held, and a server that trades
both contracts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deployments import Project

from mcl.base.instants import NS
from mcl.config import schema
from mcl.live import session_setup as staging
from mcl.live.audit.compare import Audit, audit
from mcl.live.journal import Journal, read
from mcl.live.simulated_broker import contract_bars, outgoing_tape
from mcl.live.supervisor import Supervisor
from mcl.market import calendar
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.strategy import build

from .live_bench import QUICK, as_promoted, supervised

FIRST, END = date(2025, 11, 3), date(2025, 11, 20)
# MCLZ5 stops trading on 2025-11-19, three sessions later
BEFORE, ROLL = date(2025, 11, 13), date(2025, 11, 14)
OLD, NEW, GAP = "MCLZ5", "MCLF6", 37  # ticks, at the open of the roll's session
MINUTES = 15


def write_contracts(folder: Path, seed: int = 5) -> None:
    """Both contracts in the same minutes, the later one dearer by a gap that wanders a little."""
    rng = np.random.default_rng(seed)
    sessions, step = calendar.sessions(FIRST, END), MINUTES * 60 * NS
    closes = np.concatenate(
        [
            np.arange(a + step, b + 1, step)
            for a, b in zip(sessions.open_ns, sessions.close_ns, strict=True)
        ]
    )
    path = 6_000 + np.cumsum(np.rint(rng.normal(0.0, 4.0, 2 * len(closes)))).reshape(-1, 2)
    gap = GAP + np.rint(rng.normal(0.0, 1.0, (len(closes), 2)))
    frames = [_contract(closes, path, OLD, rng), _contract(closes, path + gap, NEW, rng)]
    pd.concat(frames).sort_values(["time", "symbol"]).to_csv(folder / "contracts.csv", index=False)


def _contract(closes: Any, path: Any, symbol: str, rng: np.random.Generator) -> pd.DataFrame:
    wicks = np.rint(rng.exponential(2.0, (len(closes), 2)))
    ticks = {
        "open": path[:, 0],
        "high": path.max(axis=1) + wicks[:, 0],
        "low": path.min(axis=1) - wicks[:, 1],
        "close": path[:, 1],
    }
    prices = {name: np.round(values * 0.01, 2) for name, values in ticks.items()}
    times = pd.to_datetime(closes, utc=True).strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame(
        {"time": times, **prices, "volume": rng.integers(1, 50, len(closes)), "symbol": symbol}
    )


def rolling(desk: Project, **changes: Any) -> schema.Config:
    """A configuration on these data; always long unless told otherwise."""
    rule = {"rule": "calendar", "sessions_before_last_trade": 3}
    data = {"path": "contracts.csv", "holdout_start": str(BEFORE), "roll": rule}
    return desk.config(
        **({"strategy": {"name": "always_long"}, "interval": f"{MINUTES}m"} | changes | data)
    )


Disturb = Callable[["RollBench", int], None]


class RollBench:
    """Two sessions of one account on servers that keep their state: the day before the roll, and
    the day of the roll.
    """

    def __init__(self, desk: Project, folder: Path, run: schema.Config, **broker: Any) -> None:
        self.desk, self.folder, self.deployed = desk, folder, as_promoted(run)
        self.strategy = build(run.strategy)
        settings = {"timeout_sec": 2.0, "reconnect": QUICK, "replay": {"carry": True}} | broker
        self.config = schema.BrokerConfig.model_validate(settings)
        self.stage: staging.Stage
        self.supervisor: Supervisor
        self.tws: SimulatedTWS

    def path(self, day: date) -> Path:
        return self.folder / f"{day}.sqlite"

    async def run(
        self,
        day: date,
        disturb: Disturb = lambda *_: None,
        before: Callable[[SimulatedTWS], object] = lambda _: None,
        beside: Callable[[RollBench], Awaitable[None]] | None = None,
        wait: bool = False,
        stored_until: date | None = None,
        **server: Any,
    ) -> Supervisor:
        """One session of one process. `beside` runs next to it. `stored_until`: as on a real
        broker, whose sessions after that day are not in the store; the roll table is carried on by
        its rule, the history is the broker's.
        """
        self.stage = staging.replayed(self.deployed.config, day, self.strategy, self.desk.root)
        tapes = self.tapes() if stored_until is None else self.real_tapes(day)
        if stored_until is not None:
            short = self.deployed.config.model_copy(
                update={"data": self.deployed.config.data.model_copy(update={"end": stored_until})}
            )
            self.stage = staging.today(
                short, self.strategy, self.desk.root, int(tapes[0].start[tapes[0].first])
            )
        journal = Journal(self.path(day))
        costs = self.deployed.config.costs
        known: dict[str, Any] = {
            "slippage_ticks": costs.slippage_ticks,
            "patience_sec": 30.0,
            "state": self.folder / "tws.state",
        } | server
        try:
            async with SimulatedTWS(*tapes, **known) as self.tws:
                before(self.tws)
                self.supervisor = supervised(self, journal, lambda bars: disturb(self, bars), wait)
                works = [asyncio.ensure_future(beside(self))] if beside else []
                await self.supervisor.run()
                await asyncio.gather(*works)
        finally:
            journal.close()
        return self.supervisor

    def tapes(self) -> list[Tape]:
        """Of both contracts: the session's first."""
        assert self.stage.stored is not None
        other = self.stage.roll
        if other is None:  # the new contract is not traded yet: nobody asks for it
            return [Tape.from_bars(self.stage.stored, self.stage.day)]
        return [
            Tape.from_bars(self.stage.stored, self.stage.day),
            outgoing_tape(self.deployed.config.data, self.desk.root, self.stage, other),
        ]

    def real_tapes(self, day: date) -> list[Tape]:
        """Both contracts with the history that they had."""
        data, number = self.deployed.config.data, calendar.to_day(day)
        both = (calendar.contract("MCL", 2026, 1), calendar.contract("MCL", 2025, 12))
        return [
            Tape.from_bars(contract_bars(data, self.desk.root, contract, number), number)
            for contract in both
        ]

    def fills(self, day: date = ROLL) -> list[tuple[str, int, float, str]]:
        """Symbol, quantity, price and what it was for, as journaled."""
        return [
            (e.body["symbol"], e.body["quantity"], e.body["price"], e.body["ref"])
            for e in read(self.path(day), ("fill",))
        ]

    def working(self) -> set[tuple[str, str, int, float]]:
        """What works at the broker: symbol, kind, signed quantity, level."""
        return {
            (o.listed.local_symbol, o.kind, o.side * o.remaining, round(o.trigger, 2))
            for o in self.tws.book.working()
        }

    def audited(self, day: date = ROLL, exact_prices: bool = True) -> Audit:
        return audit(self.path(day), self.deployed, self.strategy, self.stage, exact_prices)
