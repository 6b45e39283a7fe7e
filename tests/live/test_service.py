"""`mcl live NAME --stay`: real sessions one after the other in one process, on a simulated TWS
under accelerated time.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import date
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployments import OPEN_GATES, Project

from mcl.base.alert import Alert
from mcl.base.errors import LiveError
from mcl.broker import guards
from mcl.broker.feed import Clock
from mcl.composition import run_config
from mcl.config import schema
from mcl.data.download.plan import CERTIFICATE, DownloadOrder, DownloadTerms, download
from mcl.data.loader import load
from mcl.data.sources.csv import CsvData
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic.generator import generate
from mcl.live import journal_queries
from mcl.live.journal import Draft, Journal, read
from mcl.live.ops import control_socket
from mcl.live.ops.monitoring import Operations
from mcl.live.service import MarketClock, Service, missing, next_session
from mcl.live.status import State, Status
from mcl.market import calendar
from mcl.promotion.promote import promote
from mcl.simulators.databento.api import Vendor
from mcl.simulators.databento.faults import STREAM
from mcl.simulators.databento.protocol import ApiRequest, Reply
from mcl.simulators.databento.server import serving
from mcl.simulators.databento.tls import certificate
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.tracking import project as project_record

from .live_bench import QUICK
from .real_time import OFF, RANDOM, RATE, STRIDE_SEC

FIRST, SECOND = date(2025, 11, 11), date(2025, 11, 12)
OLDEST = date(2025, 3, 3)  # of what a vendor has
CHOICES: dict[str, Any] = {
    "interval": "15m",
    "strategy": RANDOM,
    "end": str(FIRST),
    "holdout_start": "2025-11-07",
}
ACCOUNT = "DU0000001"
WAIT_SEC = 120.0
THREADS = """
import threading
import psutil
from mcl.base import jit
from mcl.live.memory import release
jit.{}_freed_memory()
before = psutil.Process().memory_info().rss
ready = threading.Barrier(8)
def use():
    blocks = [b"x" * 65_536 for _ in range(384)]
    ready.wait()
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
release()
print(psutil.Process().memory_info().rss - before)
"""


@dataclass
class Market:
    """A simulated TWS for two sessions and a version whose stored bars end before them."""

    shop: Project
    tape: Tape

    def tws(self, start_ns: int, **choices: Any) -> SimulatedTWS:
        return SimulatedTWS(
            self.tape,
            rate=RATE,
            stride_sec=STRIDE_SEC,
            start_ns=start_ns,
            account=ACCOUNT,
            **choices,
        )

    def promote_again(self) -> None:
        promote(
            self.shop.run(self.shop.config(**CHOICES)),
            project=self.shop,
            gates=OPEN_GATES,
        )

    def service(self, port: int, clock: MarketClock) -> Service:
        guard = {"guards": OFF, "timeout_sec": 5.0, "reconnect": QUICK | {"heartbeat_sec": 0.3}}
        broker = schema.BrokerConfig.model_validate(
            {"kind": "tws", "port": port, "account": ACCOUNT, **guard}
        )
        operations = Operations(telemetry=schema.Telemetry(port=0))
        return Service("paper", broker, operations, self.shop, clock=clock)


@pytest.fixture
def market(deploy: Callable[..., Project]) -> Iterator[Market]:
    shop = deploy(**CHOICES)
    bars = load(shop.config(interval="15m").data, shop.root, holdout=True)
    last = Tape.from_bars(bars, calendar.to_day(SECOND))
    first = int(np.searchsorted(bars.session, calendar.to_day(FIRST)))
    folder = control_socket.folder_of(shop.root, "paper")
    shutil.rmtree(folder, ignore_errors=True)  # journals of other tests
    folder.mkdir(parents=True)
    yield Market(shop, replace(last, first=first))
    shutil.rmtree(folder)


@dataclass
class Downloads:
    """A version on downloaded data that end before the vendor's do, and the vendor on loopback."""

    shop: Project
    vendor: Vendor
    config: schema.Config

    @property
    def folder(self) -> Path:
        return self.shop.root / "data" / "raw" / "MCL_FUT"

    def ranges_paid(self) -> Counter[tuple[str, str]]:
        return Counter((sale.schema, sale.start) for sale in self.vendor.sales)

    def hold_back(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """The second half of every range is sent when the event is set."""
        answer, rest = self.vendor.answer, threading.Event()

        def halved(body: bytes) -> Iterator[bytes]:
            yield body[: len(body) // 2]
            rest.wait()
            yield body[len(body) // 2 :]

        def held(asked: ApiRequest) -> Reply:
            reply = answer(asked)
            if asked.method == STREAM:
                reply.body = halved(
                    reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
                )
            return reply

        monkeypatch.setattr(self.vendor, "answer", held)
        return rest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the vendor has."""
    folder = tmp_path_factory.mktemp("world") / "world"
    return generate(
        SyntheticData(source="synthetic", seed=11),
        folder,
        first=OLDEST,
        last=date(2025, 4, 11),
    )


@pytest.fixture
def downloads(desk: Project, world: Path) -> Iterator[Downloads]:
    data = {"source": "databento", "interval": "15m", "holdout_start": "2025-03-18"}
    risk = {"size": {"method": "fixed", "contracts": 1.0}}
    config = run_config({"data": data, "strategy": RANDOM, "risk": risk, "study": "test"})
    with serving(world, certificate((desk.root / CERTIFICATE).parent)) as vendor:
        download(
            DownloadOrder("MCL.FUT", "ohlcv-1m", str(OLDEST), "2025-03-21"),
            desk.root,
            DownloadTerms(gateway=vendor.url),
        )
        promote(desk.run(config), project=desk, gates=OPEN_GATES)
        vendor.sales.clear()
        yield Downloads(desk, vendor, config)
    shutil.rmtree(desk.root / "data")
    shutil.rmtree(desk.root / "live")


@pytest.fixture
def accept(monkeypatch: pytest.MonkeyPatch) -> Callable[[SimulatedTWS], None]:
    """A paper session accepts this server and its clock."""

    def accept_(tws: SimulatedTWS) -> None:
        monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "a simulated TWS")
        # this machine's clock is not that of the market
        monkeypatch.setattr(Clock, "away_sec", 0.0)

    return accept_


async def reach(service: Service, what: Callable[[Status], bool]) -> Status:
    """Wait until the desk says so."""
    deadline = time.monotonic() + WAIT_SEC
    while not what(now := service.standby.status()):
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.02)
    return now


def alerts(service: Service, code: str) -> list[Alert]:
    return [alert for alert in service.standby.status().alerts if alert.code == code]


def ask(folder: Path, word: str) -> dict[str, Any]:
    return control_socket.ask(folder, {"do": word, "who": "a test", "why": "because"})


def test_two_sessions_over_a_daily_break_and_a_start_that_is_refused_first(
    market: Market, accept: Any
) -> None:
    """No broker logged in at first: refused, told, tried again. Then both sessions, with the break
    between them WAITING.

    A replay of the second one has left its journal: it is another world, which the session neither
    continues in nor carries on.
    """
    with Journal(
        control_socket.folder_of(market.shop.root, "paper") / f"{SECOND}.sqlite"
    ) as replay:
        replay.append(
            Draft("begin", {"broker": "sim", "account": ACCOUNT, "positions": {"MCLF6": 1}})
        )
    start = calendar.ns_of(FIRST, 15, 30)
    held_at = [calendar.ns_of(FIRST, 17, 30)]  # however slow this machine is, the break is seen

    async def trade() -> tuple[Service, Status, list[str], dict[str, str]]:
        async with market.tws(start) as tws:
            accept(tws)
            service = market.service(
                tws.port, MarketClock(lambda: min(tws.player.now(), held_at[0]), RATE)
            )
            tws.account.name = "U1234567"  # of live money: the guard refuses it
            with control_socket.alone(service.folder):
                running = asyncio.create_task(service.run())
                refused = await reach(
                    service, lambda now: now.state is State.STARTING and "not trading" in now.why
                )
                assert "is not a paper account" in refused.why
                tws.account.name = ACCOUNT
                await reach(
                    service,
                    lambda now: (
                        now.state is State.TRADING and now.session == str(FIRST) and now.bars > 0
                    ),
                )
                waiting = await reach(
                    service, lambda now: now.state is State.WAITING and now.session == str(SECOND)
                )
                said = [
                    str(await asyncio.to_thread(_refusal, service.folder, word))
                    for word in ("pause", "flatten", "adopt")
                ]
                pages = await asyncio.to_thread(_pages, service.folder)
                held_at[0] = calendar.ns_of(SECOND, 18)
                await reach(
                    service,
                    lambda now: (
                        now.state is State.TRADING and now.session == str(SECOND) and now.bars >= 3
                    ),
                )
                assert (await asyncio.to_thread(ask, service.folder, "stop"))["said"].startswith(
                    "STOPPED"
                )
                await asyncio.wait_for(running, WAIT_SEC)
            return service, waiting, said, pages

    service, waiting, said, pages = asyncio.run(trade())
    assert waiting.why == "session 2025-11-12 opens 2025-11-11 23:00 UTC, Tue 18:00 New York"
    assert all(
        sentence.startswith(f"nothing to {word}: no session runs (session 2025-11-12 opens")
        for sentence, word in zip(said, ("pause", "flatten", "adopt"), strict=True)
    )
    assert 'mcl_state{alias="paper",version="' in pages["metrics"]
    assert [(done.session, done.audit, done.unexplained) for done in service.audits] == [
        (str(FIRST), "passed", 0), (str(SECOND), "passed", 0)
    ]  # fmt: skip
    refused = [
        alert
        for alert in alerts(service, "NOT_STARTED")
        if "is not a paper account" in alert.sentence
    ]
    assert [alert.severity for alert in refused] == ["critical"]  # one, however often it was tried
    assert (service.folder / "audit.prom").read_text() == 'mcl_audit_unexplained{alias="paper"} 0\n'
    for name in (f"{FIRST}.sqlite", f"{SECOND}.2.sqlite"):
        [begin] = read(service.folder / name, ("begin",))
        assert begin.body["broker"] == "tws"
        assert read(service.folder / name, ("bar",))
    assert (
        journal_queries.last_status(service.folder / f"{SECOND}.2.sqlite")["state"] is State.STOPPED
    )


def test_between_sessions_it_takes_a_new_version_and_obeys_kill_and_stop(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that the test sets, with no broker at all."""
    now = [calendar.ns_of(FIRST, 17, 20)]
    monkeypatch.setitem(guards.PAPER_PORTS, nobody := 1, "nobody")

    async def wait() -> tuple[Service, list[int]]:
        service = market.service(nobody, MarketClock(lambda: now[0]))
        with control_socket.alone(service.folder):
            running = asyncio.create_task(service.run())
            before = await reach(service, lambda status: status.version > 0)
            assert (before.state, before.session, before.connected) == (
                State.WAITING,
                str(SECOND),
                False,
            )
            said = (await asyncio.to_thread(ask, service.folder, "kill"))["said"]
            assert said.startswith(f"the kill switch {service.folder / 'KILL'} is set")
            (service.folder / "KILL").unlink()
            await asyncio.to_thread(market.promote_again)
            now[0] = calendar.ns_of(FIRST, 18)
            after = await reach(
                service,
                lambda status: status.state is State.STARTING and "not trading" in status.why,
            )
            assert f"127.0.0.1:{nobody}" in after.why
            now[0] = calendar.ns_of(SECOND, 17)  # the session is over: the next one is waited for
            friday = await reach(service, lambda status: status.session == "2025-11-13")
            assert friday.state is State.WAITING
            assert (await asyncio.to_thread(ask, service.folder, "stop"))["said"].startswith(
                "STOPPED"
            )
            await asyncio.wait_for(running, WAIT_SEC)
        return service, [before.version, after.version]

    service, versions = asyncio.run(wait())
    assert versions[1] == versions[0] + 1
    assert [alert.severity for alert in alerts(service, "KILL")] == ["critical"]
    assert alerts(service, "NOT_STARTED")
    assert service.audits == []


@pytest.mark.parametrize(
    ("hour", "minute", "state"), [(17, 20, State.WAITING), (8, 30, State.TRADING)]
)
def test_sigterm_ends_the_process_in_order(
    market: Market, hour: int, minute: int, state: State
) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=stay_alone,
        args=(market.shop.root, market.tape, calendar.ns_of(FIRST, hour, minute)),
        daemon=True,
    )
    process.start()
    folder = control_socket.folder_of(market.shop.root, "paper")
    deadline = time.monotonic() + WAIT_SEC
    while not _stands(folder, state):
        assert time.monotonic() < deadline
        assert process.is_alive()
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)  # the grace time of a container
    assert process.exitcode == 0
    assert control_socket.running(market.shop.root) == []
    assert (folder / "audit.prom").exists() == (state is State.TRADING)
    if state is State.TRADING:
        assert (
            journal_queries.last_status(journal_queries.last_journal(market.shop.root, "paper"))[
                "why"
            ]
            == "a person said stop; protective orders stay at the broker"
        )


def test_sigterm_during_the_audit_ends_the_process_in_order_and_the_audit_is_kept(
    market: Market,
) -> None:
    """The audit waits for the run store, which another writer holds, until the process is told to
    end.
    """
    with closing(
        sqlite3.connect(market.shop.store.connection.database, isolation_level=None)
    ) as writer:
        process = multiprocessing.get_context("spawn").Process(
            target=stay_alone,
            args=(market.shop.root, market.tape, calendar.ns_of(FIRST, 12)),
            daemon=True,
        )
        process.start()
        folder = control_socket.folder_of(market.shop.root, "paper")
        _await(process, lambda: _stands(folder, State.TRADING))
        writer.execute("begin immediate")
        _await(process, lambda: _status(folder).get("why") == f"auditing session {FIRST}")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        _await(
            process,
            lambda: (
                _status(folder).get("why") != f"auditing session {FIRST}" or _told_to_end(folder)
            ),
        )
        writer.execute("rollback")
        process.join(60)  # the grace time of a container
    assert process.exitcode == 0
    assert control_socket.running(market.shop.root) == []
    assert (folder / "audit.prom").read_text() == 'mcl_audit_unexplained{alias="paper"} 0\n'


@pytest.mark.parametrize("patient", [True, False])
def test_sigterm_during_a_download_ends_the_process_in_order_and_the_download_goes_on_later(
    downloads: Downloads, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    """Told to end while a file is on its way: it is waited for, unless that takes too long. Nothing
    else begins.

    The next download asks only for what is missing.
    """
    folder, vendor, root = downloads.folder, downloads.vendor, downloads.shop.root
    before, rest = files_of(folder), downloads.hold_back(monkeypatch)
    process = multiprocessing.get_context("spawn").Process(
        target=stay_to_fetch, args=(root, vendor.url), daemon=True
    )
    process.start()
    _await(process, lambda: any(folder.rglob("*.part")))
    [on_its_way] = [path.name.removesuffix(".part") for path in folder.rglob("*.part")]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    log = control_socket.folder_of(root, "paper") / "log.jsonl"
    _await(process, lambda: "no other one is begun" in log.read_text())
    if patient:
        rest.set()
    process.join(60)  # the grace time of a container
    assert (process.exitcode, "ended in order" in log.read_text()) == (0, True)
    assert control_socket.running(root) == []
    arrived = files_of(folder) - before
    assert arrived == ({on_its_way} if patient else set())
    paid = downloads.ranges_paid()
    assert len(paid) == 1
    rest.set()
    download(missing(downloads.config.data, root), root, DownloadTerms(gateway=vendor.url))
    again = downloads.ranges_paid() - paid
    assert len(again) == len(files_of(folder) - before - arrived) >= 5
    assert bool(paid.keys() & again.keys()) != patient
    assert not list(folder.rglob("*.part"))


def test_a_process_that_lives_for_weeks_keeps_no_heap_of_each_thread() -> None:
    """Eight threads at once use 24 MB each and free them: nothing of it stays, where the other rule
    keeps it all.
    """
    kept, returned = (
        int(subprocess.check_output([sys.executable, "-c", THREADS.format(rule)]))
        for rule in ("keep", "return")
    )
    assert returned < kept / 4


def _await(process: SpawnProcess, what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SEC
    while not what():
        assert time.monotonic() < deadline
        assert process.is_alive()
        time.sleep(0.02)


def _told_to_end(folder: Path) -> bool:
    return '"ending: SIGTERM' in (folder / "log.jsonl").read_text()


def _status(folder: Path) -> dict[str, Any]:
    with suppress(LiveError):
        found: dict[str, Any] = control_socket.ask(folder, {"do": "status"})["status"]
        return found
    return {}


def stay_alone(root: Path, tape: Tape, start_ns: int) -> None:
    """The whole life of a process that is told to end."""
    market = Market(Project.at(root), tape)
    Clock.away_sec = 0.0  # type: ignore[method-assign, assignment]

    async def live() -> None:
        async with market.tws(start_ns) as tws:
            guards.PAPER_PORTS[tws.port] = "a simulated TWS"
            service = market.service(tws.port, MarketClock(tws.player.now, RATE))
            with control_socket.alone(service.folder):
                await service.run()

    asyncio.run(live())


def stay_to_fetch(root: Path, gateway: str) -> None:
    """The life of a process that waits for a session ten minutes before its open, and asks a vendor
    for what is missing.
    """
    guards.PAPER_PORTS[1] = "nobody"
    now = calendar.ns_of(date(2025, 3, 23), 17, 50)
    broker = schema.BrokerConfig.model_validate(
        {"kind": "tws", "port": 1, "account": ACCOUNT, "guards": OFF}
    )
    operations = Operations(telemetry=schema.Telemetry(port=0))
    terms = DownloadTerms(gateway=gateway, workers=1)
    project = project_record.Project.at(root)
    service = Service("paper", broker, operations, project, terms, MarketClock(lambda: now))
    with control_socket.alone(service.folder):
        asyncio.run(service.run())


def files_of(folder: Path) -> set[str]:
    """What has arrived whole."""
    return {path.name for path in folder.rglob("*.dbn.zst")}


def _stands(folder: Path, state: State) -> bool:
    status = _status(folder)
    return bool(
        status
        and status["state"] == state
        and status["version"]
        and (state is State.WAITING or status["bars"])
    )


@pytest.mark.parametrize(
    ("now", "after", "words"),
    [
        # before the week
        (
            calendar.ns_of(date(2025, 11, 9), 15),
            None,
            "2025-11-10 opens 2025-11-09 23:00 UTC, Sun 18:00",
        ),
        # open now
        (
            calendar.ns_of(date(2025, 11, 11), 10),
            None,
            "2025-11-11 opens 2025-11-10 23:00 UTC, Mon 18:00",
        ),
        (
            calendar.ns_of(date(2025, 11, 11), 10),
            date(2025, 11, 11),
            "2025-11-12 opens 2025-11-11 23:00 UTC, Tue 18:00",
        ),
        # after a half day
        (
            calendar.ns_of(date(2025, 11, 28), 15),
            None,
            "2025-12-01 opens 2025-11-30 23:00 UTC, Sun 18:00",
        ),
        # over a holiday
        (
            calendar.ns_of(date(2025, 12, 24), 14),
            None,
            "2025-12-26 opens 2025-12-25 23:00 UTC, Thu 18:00",
        ),
        # clocks change
        (
            calendar.ns_of(date(2026, 3, 6), 18),
            None,
            "2026-03-09 opens 2026-03-08 22:00 UTC, Sun 18:00",
        ),
    ],
)
def test_the_next_session_is_that_of_the_calendar(now: int, after: date | None, words: str) -> None:
    assert next_session(now, "MCL", after).words == f"session {words} New York"


def test_a_start_that_is_refused_is_told_once_for_each_reason_and_session(market: Market) -> None:
    service = market.service(1, MarketClock())
    for day, reason in (
        (None, "a"),
        (FIRST, "a"),
        (FIRST, "a"),
        (FIRST, "b"),
        (FIRST, "b"),
        (SECOND, "b"),
    ):
        service._not_started(day, f"session {day}", reason)
    said = [alert.sentence for alert in alerts(service, "NOT_STARTED")]
    assert said == ["session None: a", f"session {FIRST}: b", f"session {SECOND}: b"]


def test_a_replay_does_not_stay(market: Market) -> None:
    with pytest.raises(LiveError, match="replays one stored session and ends"):
        Service("paper", schema.BrokerConfig(), Operations(), market.shop)


def test_what_is_missing_is_downloaded_from_where_the_stored_bars_end(
    world: Path, tmp_path: Path
) -> None:
    """A real download of a generated world from a vendor on loopback."""
    data = DatabentoData(source="databento")
    with serving(world, certificate((tmp_path / CERTIFICATE).parent)) as vendor:
        terms = DownloadTerms(gateway=vendor.url)
        with pytest.raises(LiveError, match="holds no bars to go on from"):
            missing(data, tmp_path)
        download(DownloadOrder("MCL.FUT", "ohlcv-1m", str(OLDEST), "2025-03-21"), tmp_path, terms)
        order = missing(data, tmp_path)
        assert (order.symbol, order.schema, order.start) == ("MCL.FUT", "ohlcv-1m", "2025-03-11")
        download(order, tmp_path, terms)
        assert date.fromisoformat(missing(data, tmp_path).start) > date(2025, 3, 25)
    with pytest.raises(LiveError, match="csv is not downloaded"):
        missing(
            CsvData(source="csv", path="x.csv", instrument="MCL", stamped_at="close"),
            tmp_path,
        )


def _refusal(folder: Path, word: str) -> str:
    with pytest.raises(LiveError) as refused:
        ask(folder, word)
    return refused.value.message


def _pages(folder: Path) -> dict[str, str]:
    """Metrics, health and readiness, from where the log says that they are."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    # earlier ones are of other tests
    url = [line["url"] for line in lines if line["event"] == "telemetry"][-1].removesuffix(
        "/metrics"
    )
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        assert (answer.status, json.load(answer)["state"]) == (200, "WAITING")
    with pytest.raises(urllib.error.HTTPError) as unready:
        urllib.request.urlopen(f"{url}/ready", timeout=10)
    with unready.value as refused:  # it holds its connection
        assert refused.code == 503
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    states = {
        line.split('state="')[1].split('"')[0]: line[-1]
        for line in text.splitlines()
        if line.startswith("mcl_state{")
    }
    assert [state for state, value in states.items() if value == "1"] == ["WAITING"]
    return {"metrics": text}
