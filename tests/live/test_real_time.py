"""Sessions as on a real TWS (`kind: tws`): the market does not wait, its clock runs on, the store ends before the session does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from bench import QUICK, as_promoted
from deployments import Project, write_walks

from mcl import calendar, schema
from mcl.broker import guards
from mcl.broker.feed import Clock
from mcl.broker.ib import IBBroker
from mcl.broker.tws import SimulatedTWS, Tape
from mcl.live import stage as staging
from mcl.live.audit import Audit, audit
from mcl.live.journal import Journal, read
from mcl.live.runner import Duty
from mcl.live.status import State
from mcl.live.supervisor import Supervisor
from mcl.market import MCL
from mcl.strategy import build
from mcl.tracking import Store

DAY = date(2025, 11, 12)
TEN = calendar.ns_of(DAY, 10)  # New York: 64 bars of 15 minutes have closed since the open
RATE = 900.0  # a bar in a second
OFF = dict.fromkeys(schema.Guards.model_fields)
Disturb = Callable[[Supervisor, SimulatedTWS, int], None]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project(root, Store(root))


class Desk:
    """A session that starts at ten in the morning with bars stored until the day before."""

    def __init__(self, shop: Project, folder: Path, **limits: float) -> None:
        run = shop.config(strategy={"name": "random", "hold_sec": 900, "seed": 4}, interval="15m")
        self.strategy, self.path = build(run.strategy), folder / "session.sqlite"
        stored = staging.replayed(run, DAY, self.strategy, shop.root).stored
        assert stored is not None
        self.tape = Tape.from_bars(stored, calendar.to_day(DAY))
        short = run.model_copy(update={"data": run.data.model_copy(update={"end": DAY})})
        self.stage = staging.today(short, self.strategy, shop.root, TEN)
        patient = QUICK | {"heartbeat_sec": 0.3}
        self.broker = schema.Broker(kind="tws", port=4002, timeout_sec=5.0, reconnect=patient, guards=OFF | limits)
        self.duty = Duty(as_promoted(run), self.strategy, self.broker, folder)

    async def trade(self, monkeypatch: pytest.MonkeyPatch, disturb: Disturb) -> Supervisor:
        journal = Journal(self.path)
        try:
            async with SimulatedTWS(self.tape, rate=RATE, start_ns=TEN, slippage_ticks=1.0) as tws:
                monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "a simulated TWS")
                monkeypatch.setattr(Clock, "away_sec", 0.0)  # this machine's clock is not that of the market
                supervisor = Supervisor(
                    self.duty,
                    lambda gate: IBBroker(self.broker, MCL, port=tws.port, gate=gate),
                    self.stage,
                    journal,
                    tell=lambda bars: disturb(supervisor, tws, bars),
                )
                await supervisor.run()
        finally:
            journal.close()
        return supervisor

    def audited(self, supervisor: Supervisor) -> Audit:
        return audit(self.path, self.duty.deployed, self.strategy, supervisor.stage, exact_prices=False)


def test_a_start_in_the_middle_of_a_session_looks_back_on_what_it_missed(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path)

    def stop(supervisor: Supervisor, _: SimulatedTWS, bars: int) -> None:
        if bars >= 6:
            supervisor.wish("stop", "a test")

    supervisor = asyncio.run(desk.trade(monkeypatch, stop))
    assert supervisor.status().state is State.STOPPED
    missed = supervisor.stage.warmup.session == supervisor.stage.day
    assert missed.sum() >= 64  # what closed before it came is what it looks back on
    bars = [int(entry.key or 0) for entry in read(desk.path, ("bar",))]
    assert bars[0] == supervisor.stage.warmup.close_time[-1] + 15 * 60 * calendar.NS > TEN
    why = [entry.body["held_back"] for entry in read(desk.path, ("decision",))]
    assert len(read(desk.path, ("order",))) == why.count("")
    assert all(held in ("", "the position is the target") or held.startswith("late") for held in why)  # late: of a busy machine
    audited = desk.audited(supervisor)
    assert audited.unexplained == 0, audited.differences.to_dict("records")


def test_r14_no_bar_for_too_long_degrades_and_opens_nothing_until_bars_come_again(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path, stale_bars=1.0)
    blocked: list[str] = []

    async def thaw(supervisor: Supervisor, tws: SimulatedTWS) -> None:
        while supervisor.status().state is not State.DEGRADED:
            await asyncio.sleep(0.02)
        blocked.append(supervisor.gate.blocked)
        tws.fault("freeze", names="none")

    tasks: list[asyncio.Task[None]] = []

    def disturb(supervisor: Supervisor, tws: SimulatedTWS, bars: int) -> None:
        if bars >= 2 and not tasks:
            tws.fault("freeze", names="historicalDataUpdate")
            tasks.append(asyncio.ensure_future(thaw(supervisor, tws)))
        elif tasks and tasks[0].done() and supervisor.status().state is State.TRADING and not supervisor.gate.blocked:
            supervisor.wish("stop", "a test")

    supervisor = asyncio.run(desk.trade(monkeypatch, disturb))
    assert blocked[0].startswith("no bar for")
    assert blocked[0].endswith("broker.guards.stale_bars=1 intervals")
    states = [entry.body["state"] for entry in read(desk.path, ("state",))]
    assert "degraded" in states
    assert "trading" in states[states.index("degraded") :]
    assert supervisor.gate.blocked == ""
