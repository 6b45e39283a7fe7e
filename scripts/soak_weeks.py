"""Ten weeks of one process under accelerated time: `mcl live NAME --stay` against the simulated
TWS, judged by both books.

    python scripts/soak_weeks.py                                       make soak-weeks
    python scripts/soak_weeks.py --weeks 1 --first 2025-11-24          one week with two half days
    python scripts/soak_weeks.py --sessions 3 --interval 30m --folder build/weeks

From Sunday's open to Friday's close, with what the calendar has between: the end of summer time,
half days, holidays, two rolls. Each night the TWS restarts and the connection is lost two more
times. The bars of a session are stored after its close, as a person's own job would do. The guards
are those of `ib_paper`. After the last session:

* every execution of the broker stands in a journal, once, and no journal has another;
* no order was sent twice, none executed more than it was written down for, and what was written
  down was sent or is accounted for;
* no audit has a difference without a cause, and no session was HALTED;
* the memory of the process after each session does not grow: the slope is printed.

Market and broker live in a process of their own, as in life, so the memory is that of the session.
The market stalls with a machine that stalls, and with the process of the session.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from mcl import composition
from mcl.base.files import write_whole
from mcl.base.instants import NS
from mcl.broker import guards
from mcl.broker.feed import Clock
from mcl.broker.order_references import STOP, TAKE_PROFIT, decision_of, execution_root, traded_for
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.live.journal import Entry, read
from mcl.live.ops import control_socket
from mcl.live.ops.monitoring import Operations
from mcl.live.runner import SessionConfig
from mcl.live.service import MarketClock, Service
from mcl.live.session_state import book_of
from mcl.live.status import State
from mcl.market import calendar
from mcl.market.instruments import MCL, Contract
from mcl.promotion.load import promoted
from mcl.promotion.promote import promote
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.simulators.tws.tape import INTERVAL_NS
from mcl.strategy import build
from mcl.tracking import backtest_run
from mcl.tracking.project import Project

ACCOUNT, NAME = "DU0000001", "paper"
# ten weeks with the end of summer time, Thanksgiving, Christmas and New Year, and two rolls
FIRST = date(2025, 10, 27)
HISTORY_DAYS = 40
CLOSED_SEC = 6.0  # real time of a daily break, and of a weekend
STRIDE_SEC = 0.02
STORED_NS = 20 * 60 * NS  # after its close the bars of a session are stored
NIGHTLY = (23, 45)  # New York: the usual restart of a TWS
STALLED_SEC = 180.0  # real time without a new session
FLAT_MB = 0.2  # a session
OPEN_GATES = Promotion(
    min_trades=1,
    min_sessions=1,
    max_drawdown_frac=0.99,
    max_sharpe=None,
    max_trade_share=None,
    max_session_share=None,
    min_deflated_sharpe=0.0,
    min_holdout_trades=1,
    min_holdout_sharpe=-1e9,
    min_holdout_sharpe_high=None,
    max_p_value=None,
)
BEAT_SEC = 0.004  # so often one process tells the other that it lives
Fault = tuple[int, str, dict[str, Any]]  # when by the market's clock, name of the menu, options


# --------------------------------------------------------------------------------------- the market


@dataclass(frozen=True)
class Market:
    """Bars of the contracts of some months: `frame` as a file has them, `sessions` those that are
    traded.
    """

    frame: pd.DataFrame  # time (ns UTC of the close), open … volume, symbol, session
    contracts: tuple[Contract, ...]
    sessions: calendar.Sessions
    interval: str

    def tapes(self) -> list[Tape]:
        """One of each contract that trades in these sessions, the first active one first."""
        first = int(self.sessions.day[0])
        traded = [c for c in self.contracts if calendar.to_day(c.last_trade_date) > first + 3]
        return [self._tape(contract, first) for contract in traded]

    def _tape(self, contract: Contract, first: int) -> Tape:
        rows = self.frame.loc[self.frame["symbol"] == contract.symbol]
        prices: dict[str, Any] = {
            name: rows[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")
        }
        start = rows["time"].to_numpy(np.int64) - INTERVAL_NS[self.interval]
        at = int(np.searchsorted(rows["session"].to_numpy(), first))
        volume = rows["volume"].to_numpy(np.int64)
        return Tape(contract, MCL, self.interval, start, **prices, volume=volume, first=at)

    def store(self, path: Path, last_day: int) -> None:
        """The file of a person's own bars, up to a session."""
        rows = self.frame.loc[self.frame["session"] <= last_day].drop(columns="session")
        rows = rows.assign(
            time=pd.to_datetime(rows["time"], utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        write_whole(path, rows.to_csv(index=False).encode())


def market(plan: Plan) -> Market:
    """A walk in whole ticks; each later month is dearer by a gap that wanders a little."""
    rng, traded = np.random.default_rng(plan.seed), plan.table()
    begins, ends = plan.first - timedelta(days=HISTORY_DAYS), traded.dates[-1] + timedelta(days=1)
    table, step = calendar.sessions(begins, ends), INTERVAL_NS[plan.interval]
    spans = zip(table.open_ns, table.close_ns, table.day, strict=True)
    pieces = [
        (closes := np.arange(a + step, b + 1, step), np.full(len(closes), day))
        for a, b, day in spans
    ]
    closes, days = (np.concatenate(column) for column in zip(*pieces, strict=True))
    path = 6_000 + np.cumsum(np.rint(rng.normal(0.0, 2.0, 2 * len(closes)))).reshape(-1, 2)
    months = [begins.year * 12 + begins.month + n for n in range(round(plan.weeks / 4) + 5)]
    contracts = tuple(calendar.contract("MCL", month // 12, month % 12 + 1) for month in months)
    frames = [
        _bars(contract, closes, days, path + 30 * n, rng) for n, contract in enumerate(contracts)
    ]
    frame = pd.concat(frames).sort_values(["time", "symbol"], ignore_index=True)
    return Market(frame, contracts, traded, plan.interval)


def _bars(
    contract: Contract, closes: Any, days: Any, path: Any, rng: np.random.Generator
) -> pd.DataFrame:
    path = path + np.rint(rng.normal(0.0, 1.0, path.shape))
    wicks = np.rint(rng.exponential(2.0, path.shape))
    ticks = {
        "open": path[:, 0],
        "high": path.max(axis=1) + wicks[:, 0],
        "low": path.min(axis=1) - wicks[:, 1],
        "close": path[:, 1],
    }
    prices = {name: np.round(values * MCL.tick_size, 2) for name, values in ticks.items()}
    volume = rng.integers(1, 50, len(closes))
    frame = pd.DataFrame(
        {"time": closes, **prices, "volume": volume, "symbol": contract.symbol, "session": days}
    )
    traded: pd.DataFrame = frame.loc[days <= calendar.to_day(contract.last_trade_date)]
    return traded


def faults(sessions: calendar.Sessions, bar_sec: float, seed: int) -> list[Fault]:
    """Each night the restart of the TWS, and two more losses of the connection at random
    moments.
    """
    luck, found = random.Random(seed), list[Fault]()
    for opens, closes in zip(sessions.open_ns.tolist(), sessions.close_ns.tolist(), strict=True):
        evening = calendar.from_day(int(calendar.session_of(opens))) - timedelta(days=1)
        evening = evening if calendar.ns_of(evening, 18) >= opens else evening + timedelta(days=1)
        reset = opens - calendar.ns_of(evening, 18) + calendar.ns_of(evening, *NIGHTLY)
        found.append(
            (
                reset,
                "restart",
                {"sec": luck.uniform(0.5, 1.5) * bar_sec, "ids": luck.choice(("keep", "higher"))},
            )
        )
        until = min(closes, opens + 14 * 3600 * NS) - 3600 * NS
        found += [
            (luck.randrange(opens + 1800 * NS, until), *_loss(luck, bar_sec)) for _ in range(2)
        ]
    return sorted(found, key=lambda fault: fault[0])


def _loss(luck: random.Random, bar_sec: float) -> tuple[str, dict[str, Any]]:
    if luck.random() < 0.5:
        return "disconnect", {"how": luck.choice(("fin", "rst", "half_open"))}
    return "connectivity", {
        "back": luck.choice((1102, 1101, 0)),
        "sec": luck.uniform(0.2, 1.0) * bar_sec,
    }


# --------------------------------------------------------------------------------------- the broker


@dataclass(frozen=True)
class Plan:
    """What the weeks are made of: both processes draw the same from it."""

    first: date
    weeks: int
    sessions: int  # 0: whole weeks
    interval: str
    bar_sec: float
    seed: int
    root: Path

    @property
    def rate(self) -> float:
        return INTERVAL_NS[self.interval] / NS / self.bar_sec

    @property
    def data(self) -> Path:
        return self.root / "bars.csv"

    def table(self) -> calendar.Sessions:
        """The sessions that are traded."""
        whole = calendar.sessions(self.first, self.first + timedelta(days=7 * self.weeks))
        if not self.sessions:
            return whole
        days = whole.dates[: self.sessions]
        return calendar.sessions(days[0], days[-1] + timedelta(days=1))


@dataclass(frozen=True)
class Sent:
    """An order as the broker has it at the end."""

    ref: str
    working: bool


@dataclass(frozen=True)
class Executed:
    """An execution as the broker has it."""

    execution_id: str
    ref: str
    quantity: int


@dataclass(frozen=True)
class Books:
    """What the broker has at the end. `struck`: faults by name."""

    orders: list[Sent]
    executions: list[Executed]
    positions: dict[str, int]
    struck: Counter[str]


@dataclass(frozen=True)
class Clocks:
    """Shared memory of both processes: the market's clock, and a number that moves while the
    session's process runs.
    """

    market_ns: Any
    beats: Any


def serve(plan: Plan, clocks: Clocks, line: Connection) -> None:
    """The other process: a project with a promoted version, then the market and its broker, until
    the line says that it is over.
    """
    _quiet()
    whole = market(plan)
    prepare(plan, whole)
    asyncio.run(_play(plan, whole, clocks, line))


async def _play(plan: Plan, whole: Market, clocks: Clocks, line: Connection) -> None:
    tape, *also = whole.tapes()
    start = int(whole.sessions.open_ns[0]) - 4 * 3600 * NS
    spread: dict[str, Any] = {
        "closed_sec": CLOSED_SEC,
        "stride_sec": STRIDE_SEC,
        "silent_end": True,
    }
    async with SimulatedTWS(
        tape, *also, rate=plan.rate, start_ns=start, account=ACCOUNT, seed=plan.seed, **spread
    ) as tws:
        tws.fault("slow", on="receive placeOrder", times=0, least=0.01, most=0.1 * plan.bar_sec)
        line.send(tws.port)
        struck: Counter[str] = Counter()
        tasks = [
            asyncio.create_task(_tick(tws, clocks, line)),
            asyncio.create_task(_happen(plan, whole, tws, struck)),
        ]
        while not line.poll():
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
    working = {id(order) for order in tws.book.working()}
    orders = [Sent(order.ref, id(order) in working) for order in tws.book.orders.values()]
    executions = [Executed(e.execution_id, e.order.ref, e.quantity) for e in tws.executions]
    line.send(Books(orders, executions, tws.positions, struck))


async def _tick(tws: SimulatedTWS, clocks: Clocks, line: Connection) -> None:
    """Tell the time, and stand still while the process of the session does, until that says that
    it is over.
    """
    beats, since = -1, time.monotonic()
    while True:
        clocks.market_ns.value = tws.player.now()
        await asyncio.sleep(BEAT_SEC)
        if clocks.beats.value != beats:
            beats, since = clocks.beats.value, time.monotonic()
        while (
            clocks.beats.value == beats
            and STRIDE_SEC < time.monotonic() - since < STALLED_SEC
            and not line.poll()
        ):
            time.sleep(BEAT_SEC)


async def _happen(plan: Plan, whole: Market, tws: SimulatedTWS, struck: Counter[str]) -> None:
    """What happens at its hour: faults, and the bars of a session that is over are stored."""
    due = faults(whole.sessions, plan.bar_sec, plan.seed)
    stored = list(zip(whole.sessions.close_ns.tolist(), whole.sessions.day.tolist(), strict=True))
    while True:
        await asyncio.sleep(0.01)
        now = tws.player.now()
        while due and due[0][0] <= now:
            _, name, options = due.pop(0)
            struck[name] += 1
            tws.fault(name, **options)
        if stored and now >= stored[0][0] + STORED_NS:
            await asyncio.to_thread(whole.store, plan.data, stored.pop(0)[1])


# ---------------------------------------------------------------------------------------- the weeks


@dataclass
class Weeks:
    """The service; `rows` has one row a session."""

    plan: Plan
    clocks: Clocks
    rows: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def run(self, port: int) -> None:
        plan = self.plan
        guards.PAPER_PORTS[port] = "a simulated TWS"
        clock = MarketClock(lambda: int(self.clocks.market_ns.value), plan.rate)
        service = Service(NAME, self.broker(port), Operations(), Project.at(plan.root), clock=clock)
        with control_socket.alone(service.folder):
            beating = asyncio.create_task(self._beat())
            running = asyncio.create_task(service.run())
            watching = asyncio.create_task(self._watch(service))
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
            service.standby.stop("the weeks are over")
            await asyncio.gather(running, watching)
            beating.cancel()

    def broker(self, port: int) -> schema.BrokerConfig:
        """As `ib_paper` has it, with waits for a market of so many times the speed."""
        reconnect = {"first_sec": 0.01, "longest_sec": 0.05, "heartbeat_sec": 0.3}
        raw = {
            "kind": "tws",
            "port": port,
            "account": ACCOUNT,
            "timeout_sec": 1.5,
            "reconnect": reconnect,
            "guards": {},
        }
        return schema.BrokerConfig.model_validate(raw)

    async def _beat(self) -> None:
        while True:
            self.clocks.beats.value += 1
            await asyncio.sleep(BEAT_SEC)

    async def _watch(self, service: Service) -> None:
        """Until the last session is audited."""
        moved, done, sessions = time.monotonic(), 0, len(self.plan.table())
        while done < sessions:
            await asyncio.sleep(0.01)
            self._halted(service)
            if len(service.audits) > done and not service.standby.status().why.startswith(
                "auditing"
            ):
                done, moved = done + 1, time.monotonic()
                self._session(service)
            if time.monotonic() - moved > STALLED_SEC + 200 * self.plan.bar_sec:
                self.wrong.append(
                    f"no session ended for {time.monotonic() - moved:.0f} s:"
                    f" {service.standby.status().why}"
                )
                return

    def _halted(self, service: Service) -> None:
        status = service.standby.status()
        if status.state is State.HALTED and f"HALTED: {status.why}" not in self.wrong:
            self.wrong.append(f"HALTED: {status.why}")
            if service.standby.current is not None:
                service.standby.current.request("adopt", "soak")

    def _session(self, service: Service) -> None:
        audited = service.audits[-1]
        rss = psutil.Process().memory_info().rss / 2**20
        entries = read(service.folder / f"{audited.session}.sqlite")
        kinds = Counter(entry.kind for entry in entries)
        facts = service.project.store.run(audited.run_id).metrics
        row: dict[str, Any] = {
            name: int(facts[name])
            for name in ("decisions", "orders", "fills", "differences", "unexplained")
        }
        begins = sum(e.kind == "state" and e.body["state"] == State.TRADING for e in entries)
        row |= {
            "session": audited.session,
            "rss_mb": rss,
            "rolls": kinds["roll"],
            "trading": begins,
        }
        self.rows.append(row)
        shown = ", ".join(
            f"{row[name]} {name}"
            for name in ("decisions", "orders", "fills", "differences", "unexplained")
        )
        print(f"{audited.session}: {shown}, {rss:.1f} MB", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------- the judge


def judge(weeks: Weeks, books: Books) -> dict[str, list[str]]:
    """What is wrong, by kind."""
    root = weeks.plan.root
    folder = control_socket.folder_of(root, NAME)
    paths = sorted(folder.glob("*.sqlite"))
    entries = [entry for path in paths for entry in read(path)]
    ours = Counter(
        (execution_root(str(e.key)), e.body["quantity"]) for e in entries if e.kind == "fill"
    )
    theirs = Counter((execution_root(e.execution_id), e.quantity) for e in books.executions)
    sent = Counter(order.ref for order in books.orders if order.ref)
    lost = [
        f"the journals lack the execution {root} of {quantity:+d}"
        for root, quantity in theirs - ours
    ]
    twice = [
        f"the journals have the execution {root} of {quantity:+d} too often"
        for root, quantity in ours - theirs
    ]
    twice += [f"{ref} was sent {count} times" for ref, count in sent.items() if count > 1]
    both = [*_traded(entries, books, sent)]
    working = [
        order.ref
        for order in books.orders
        if order.working and not order.ref.endswith((STOP, TAKE_PROFIT))
    ]
    lost += [f"{ref} still works at the broker" for ref in working]
    short = Counter(kind for kind, _ in both if kind != "twice")
    print(
        f"decisions behind which the connection was lost: {dict(short) or 'none'}; the audits"
        " account for them"
    )
    twice += [sentence for kind, sentence in both if kind == "twice"]
    deployed = promoted(NAME, Project.at(root))
    session_config = SessionConfig(
        deployed, build(deployed.config.strategy), weeks.broker(1), folder
    )
    held = {
        symbol: quantity
        for symbol, quantity in book_of(
            paths[-1], *session_config.terms, session_config.chain
        ).positions.items()
        if quantity
    }
    apart = (
        []
        if sorted(held.values()) == sorted(books.positions.values())
        else [f"the journals hold {held}, the broker {books.positions}"]
    )
    return {"lost": lost + apart, "doubled": twice, "other": weeks.wrong}


def _traded(entries: list[Entry], books: Books, sent: Counter[str]) -> Iterator[tuple[str, str]]:
    """Orders of the journals whose executions are not what they were written down for. One that was
    cut off, and the half of a reversal that was not sent any more, are no loss: the next decision
    speaks for itself.
    """
    meant = {str(e.key): abs(e.body["to"] - e.body["from"]) for e in entries if e.kind == "order"}
    refused = {str(e.key) for e in entries if e.kind == "refused"}
    traded: Counter[str] = Counter()
    for execution in books.executions:
        traded[traded_for(execution.ref)] += abs(execution.quantity)
    reached = {traded_for(ref) for ref in sent}
    stops = {
        decision_of(str(e.body["ref"]))
        for e in entries
        if e.kind == "fill" and e.body["reason"] != "target"
    }
    for ref, quantity in meant.items():
        if traded[ref] > quantity and not stops:
            yield "twice", f"{ref} traded {traded[ref]}, meant {quantity}"
        if traded[ref] < quantity and ref not in refused:
            yield ("cut short" if ref in reached else "not sent"), ref
    written = {decision_of(str(e.key)) for e in entries if e.kind in ("order", "protect", "roll")}
    for ref in sent:
        if decision_of(ref) not in written:
            yield "twice", f"{ref} was sent but not written down"


def slope(rows: list[dict[str, Any]]) -> float:
    """Megabytes a session, over the second half: before it caches fill."""
    late = [row["rss_mb"] for row in rows[len(rows) // 2 :]]
    return float(np.polyfit(range(len(late)), late, 1)[0]) if len(late) > 2 else 0.0


def report(weeks: Weeks, books: Books, found: dict[str, list[str]], seconds: float) -> bool:
    """Print the table and the verdict; True when nothing is wrong."""
    names = ("decisions", "orders", "fills", "differences", "unexplained")
    print(
        f"{'week of':12}{'sessions':>9}"
        + "".join(f"{name:>13}" for name in names)
        + f"{'rolls':>7}{'RSS MB':>9}"
    )
    for monday, rows in groupby(weeks.rows, lambda row: _monday(row["session"])):
        week = list(rows)
        sums = "".join(f"{sum(row[name] for row in week):13,d}" for name in names)
        print(
            f"{monday!s:12}{len(week):9d}{sums}"
            f"{sum(row['rolls'] for row in week):7d}{week[-1]['rss_mb']:9.1f}"
        )
    total = {name: sum(row[name] for row in weeks.rows) for name in names}
    sessions = len(weeks.plan.table())
    print(f"{'all':12}{len(weeks.rows):9d}" + "".join(f"{total[name]:13,d}" for name in names))
    nights = ", ".join(f"{count} × {name}" for name, count in sorted(books.struck.items()))
    print(f"{sessions} sessions in {seconds / 60:.1f} minutes; connection: {nights}")
    growth = slope(weeks.rows)
    print(
        f"memory: {weeks.rows[0]['rss_mb']:.1f} MB after the first session,"
        f" {weeks.rows[-1]['rss_mb']:.1f} MB after the last, ",
        end="",
    )
    print(f"slope of the second half {growth:+.3f} MB a session")
    print(
        f"orders lost: {len(found['lost'])}, doubled: {len(found['doubled'])}, unexplained"
        f" differences: {total['unexplained']}"
    )
    for sentence in [*found["lost"], *found["doubled"], *found["other"]][:20]:
        print(f"wrong: {sentence}")
    whole = len(weeks.rows) == sessions and total["decisions"] > 0
    if not whole:
        print(f"wrong: {len(weeks.rows)} of {sessions} sessions were audited")
    flat = len(weeks.rows) < 20 or growth <= FLAT_MB  # a few sessions show no slope
    if not flat:
        print(f"wrong: the memory grows by more than {FLAT_MB} MB a session")
    return whole and flat and not any(found.values()) and not total["unexplained"]


def _monday(session: str) -> date:
    day = date.fromisoformat(session)
    return day - timedelta(days=day.weekday())


def prepare(plan: Plan, whole: Market) -> None:
    """A project whose version is promoted on the bars before the first session."""
    first = whole.sessions.dates[0]
    whole.store(plan.data, int(whole.sessions.day[0]) - 1)
    columns = {name: name for name in ("time", "open", "high", "low", "close", "volume", "symbol")}
    raw = {
        "data": {
            "source": "csv",
            "path": plan.data.name,
            "interval": plan.interval,
            "columns": columns,
            "stamped_at": "close",
            "roll": {"rule": "calendar", "sessions_before_last_trade": 3},
            "holdout_start": str(first - timedelta(days=10)),
        },
        "strategy": {"name": "random", "hold_sec": 3600, "seed": plan.seed},
        "risk": {
            "size": {"method": "fixed", "contracts": 1.0},
            "protection": {"unit": "ticks", "stop": 25.0, "take_profit": 40.0},
        },
        "costs": {"slippage_ticks": 1.0, "commission_usd": 0.77},
        "study": "weeks",
    }
    project = Project.at(plan.root)
    run = composition.run_config(raw)
    run_id = backtest_run.backtest(run, project=project, report=False).run_id
    promote(run_id, project=project, gates=OPEN_GATES)


def _quiet() -> None:
    for name in ("ib_async", "mcl", "asyncio", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weeks", type=int, default=10)
    parser.add_argument(
        "--first", type=date.fromisoformat, default=FIRST, help="the first trade date, a Monday"
    )
    parser.add_argument("--sessions", type=int, help="so many sessions in place of whole weeks")
    parser.add_argument("--interval", choices=("5m", "15m", "30m"), default="15m")
    parser.add_argument("--bar-sec", type=float, default=0.4, help="real seconds a bar")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="keep project, journals and log there")
    args = parser.parse_args()
    _quiet()
    Clock.away_sec = 0.0  # type: ignore[method-assign, assignment]  # this machine's clock is not that of the market
    root = args.folder or Path(tempfile.mkdtemp(prefix="soak-weeks-"))
    root.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        args.first, args.weeks, args.sessions or 0, args.interval, args.bar_sec, args.seed, root
    )
    spawn, began = multiprocessing.get_context("spawn"), time.monotonic()
    clocks = Clocks(spawn.Value("q", 0), spawn.Value("q", 0))
    line, other = spawn.Pipe()
    broker = spawn.Process(target=serve, args=(plan, clocks, other), daemon=True)
    broker.start()
    other.close()
    weeks = Weeks(plan, clocks)
    asyncio.run(weeks.run(line.recv()))
    line.send("over")
    books: Books = line.recv()
    broker.join()
    fine = bool(weeks.rows) and report(weeks, books, judge(weeks, books), time.monotonic() - began)
    if args.folder is None and fine:
        with suppress(OSError):
            shutil.rmtree(root)
    elif not fine:
        print(f"kept: {root}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
