"""`mcl live NAME --stay` (`mcl.live.service`): real sessions one after the other in one process, on a simulated TWS under accelerated time."""

from __future__ import annotations

import asyncio
import json

import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import QUICK
from deployments import OPEN_GATES, Project
from real_time import OFF, RANDOM, RATE

from mcl import calendar, schema
from mcl.broker import guards
from mcl.broker.feed import Clock
from mcl.broker.tws import SimulatedTWS, Tape
from mcl.data.load import load
from mcl.errors import LiveError
from mcl.live import control, past
from mcl.live.attend import Operations
from mcl.live.journal import read
from mcl.live.service import MarketClock, Service, next_session
from mcl.live.status import Alert, State, Status
from mcl.promote import promote

FIRST, SECOND = date(2025, 11, 11), date(2025, 11, 12)
ACCOUNT = "DU0000001"
WAIT_SEC = 120.0


@dataclass
class Market:
    """A simulated TWS for two sessions and a version whose stored bars end before them."""

    shop: Project
    tape: Tape

    def tws(self, start_ns: int, **choices: Any) -> SimulatedTWS:
        return SimulatedTWS(self.tape, rate=RATE, start_ns=start_ns, account=ACCOUNT, **choices)

    def service(self, port: int, clock: MarketClock) -> Service:
        guard = {"guards": OFF, "timeout_sec": 5.0, "reconnect": QUICK | {"heartbeat_sec": 0.3}}
        broker = schema.Broker.model_validate({"kind": "tws", "port": port, "account": ACCOUNT, **guard})
        operations = Operations(telemetry=schema.Telemetry(port=0))
        return Service("paper", broker, operations, self.shop.store, self.shop.root, clock=clock)


@pytest.fixture
def market(deploy: Callable[..., Project]) -> Iterator[Market]:
    shop = deploy(interval="15m", strategy=RANDOM, end=str(FIRST), holdout_start="2025-11-07")
    bars = load(shop.config(interval="15m").data, shop.root, holdout=True)
    last = Tape.from_bars(bars, calendar.to_day(SECOND))
    first = int(np.searchsorted(bars.session, calendar.to_day(FIRST)))
    yield Market(shop, replace(last, first=first))
    for left in (shop.root / "live" / "paper").glob("*"):
        left.unlink()


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> Callable[[SimulatedTWS], MarketClock]:
    """The clock of a market, and ports and clocks that a paper session accepts."""

    def clock(tws: SimulatedTWS) -> MarketClock:
        monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "a simulated TWS")
        monkeypatch.setattr(Clock, "away_sec", 0.0)  # this machine's clock is not that of the market
        return MarketClock(tws.player.now, RATE)

    return clock


async def reach(service: Service, what: Callable[[Status], bool]) -> Status:
    """Wait until the desk says so."""
    deadline = time.monotonic() + WAIT_SEC
    while not what(now := service.desk.status()):
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.02)
    return now


def alerts(service: Service, code: str) -> list[Alert]:
    return [alert for alert in service.desk.status().alerts if alert.code == code]


def ask(folder: Path, word: str) -> dict[str, Any]:
    return control.ask(folder, {"do": word, "who": "a test", "why": "because"})


def test_two_sessions_over_a_daily_break_and_a_start_that_is_refused_first(market: Market, accelerated: Any) -> None:
    """No broker logged in at first: refused, told, tried again. Then both sessions, with the break between them WAITING."""
    start = calendar.ns_of(FIRST, 15, 30)

    async def trade() -> tuple[Service, Status, list[str], dict[str, str]]:
        async with market.tws(start) as tws:
            service = market.service(tws.port, accelerated(tws))
            tws.account.name = "U1234567"  # of live money: the guard refuses it
            with control.alone(service.folder):
                running = asyncio.create_task(service.run())
                refused = await reach(service, lambda now: now.state is State.STARTING and "not trading" in now.why)
                assert "is not a paper account" in refused.why
                tws.account.name = ACCOUNT
                await reach(service, lambda now: now.state is State.TRADING and now.session == str(FIRST) and now.bars > 0)
                waiting = await reach(service, lambda now: now.state is State.WAITING and now.session == str(SECOND))
                said = [str(await asyncio.to_thread(_refusal, service.folder, word)) for word in ("pause", "flatten", "adopt")]
                pages = await asyncio.to_thread(_pages, service.folder)
                await reach(service, lambda now: now.state is State.TRADING and now.session == str(SECOND) and now.bars >= 3)
                assert (await asyncio.to_thread(ask, service.folder, "stop"))["said"].startswith("STOPPED")
                await asyncio.wait_for(running, WAIT_SEC)
            return service, waiting, said, pages

    service, waiting, said, pages = asyncio.run(trade())
    assert waiting.why == "session 2025-11-12 opens 2025-11-11 23:00 UTC, Tue 18:00 New York"
    assert all(sentence.startswith(f"nothing to {word}: no session runs (session 2025-11-12 opens")
               for sentence, word in zip(said, ("pause", "flatten", "adopt"), strict=True))  # fmt: skip
    assert 'mcl_state{alias="paper",version="' in pages["metrics"]
    assert [(done.session, done.audit, done.unexplained) for done in service.audits] == [
        (str(FIRST), "passed", 0), (str(SECOND), "passed", 0)
    ]  # fmt: skip
    assert [alert.severity for alert in alerts(service, "NOT_STARTED")][:1] == ["critical"]
    assert (service.folder / "audit.prom").read_text() == 'mcl_audit_unexplained{alias="paper"} 0\n'
    for day in (FIRST, SECOND):
        path = service.folder / f"{day}.sqlite"
        assert len(read(path, ("begin",))) == 1
        assert read(path, ("bar",))
    assert past.remembered(service.folder / f"{SECOND}.sqlite")["state"] is State.STOPPED


def _refusal(folder: Path, word: str) -> str:
    with pytest.raises(LiveError) as refused:
        ask(folder, word)
    return refused.value.message


def _pages(folder: Path) -> dict[str, str]:
    """Metrics, health and readiness, from where the log says that they are."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    url = next(line["url"] for line in lines if line["event"] == "telemetry").removesuffix("/metrics")
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        assert (answer.status, json.load(answer)["state"]) == (200, "WAITING")
    with pytest.raises(urllib.error.HTTPError) as unready:
        urllib.request.urlopen(f"{url}/ready", timeout=10)
    assert unready.value.code == 503
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    states = {line.split('state="')[1].split('"')[0]: line[-1] for line in text.splitlines() if line.startswith("mcl_state{")}
    assert [state for state, value in states.items() if value == "1"] == ["WAITING"]
    return {"metrics": text}
