"""Sessions that go wrong on purpose, by the thousand: random bars, random faults F1 to F28, SIGKILL of runner and server.

    python scripts/soak.py --seeds 2000 --workers 2          make soak
    python scripts/soak.py --only 123 --keep                 one seed again, its files kept

Each seed is a session of 40 one-minute bars in two processes, a simulated TWS that keeps its state on disk and a supervised session,
both forked from this one so that a start takes milliseconds. What is killed is started again at once; what is HALTED is told adopt
or flatten. After the session the journal is held against the broker's own books:

* the position of the journal is the position of the broker, execution by execution;
* no order was sent twice for one decision, and none executed more than it was written down for;
* no position that has a stop was without one at the broker for longer than 5 s;
* nothing reached the broker while the session was HALTED;
* every decision is the one that the backtest takes on the recorded bars.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from soak_world import World, world

from mcl.broker.ib import IBBroker
from mcl.broker.ledger import decision_of, execution_root
from mcl.broker.tws import SimulatedTWS
from mcl.errors import LiveError
from mcl.live import audit as auditing
from mcl.live.book import book_of
from mcl.live.journal import Journal, read
from mcl.live.status import State
from mcl.live.supervisor import Supervisor
from mcl.market import MCL

DEADLINE_SEC = 90.0  # a session that has not ended by then is stuck
STILL_SEC = 4.0
UNPROTECTED_SEC = 5.0
ARRIVAL_NS = 50_000_000  # between sending and arriving, on a busy machine


# ----------------------------------------------------------------------------------------------------------- the two processes


def server(w: World, folder: Path, port: int, life: int) -> None:
    asyncio.run(_server(w, folder, port, life))


async def _server(w: World, folder: Path, port: int, life: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    stops = w.run.risk.protection is not None and w.run.risk.protection.stop is not None
    with (folder / "arrivals.jsonl").open("a", buffering=1) as arrivals, (folder / "naked.txt").open("a", buffering=1) as naked:
        async with SimulatedTWS(
            w.tape, port=port, state=folder / "tws.sqlite", seed=w.seed, patience_sec=0.1, slippage_ticks=1.0, capital_usd=w.run.capital_usd
        ) as tws:
            _record_arrivals(tws, arrivals)
            if not life:
                _plan_faults(tws, w)
            watch = asyncio.create_task(_protection(tws, naked)) if stops else None
            await ended.wait()
            if watch:
                watch.cancel()


def _plan_faults(tws: SimulatedTWS, w: World) -> None:
    for _, name, options in w.faults:
        tws.fault(name, **options)


def _record_arrivals(tws: SimulatedTWS, file: Any) -> None:
    for name in ("placeOrder", "cancelOrder"):
        tws.handlers[name] = _recorded(name, tws.handlers[name], file)


def _recorded(name: str, handle: Callable[..., None], file: Any) -> Callable[..., None]:
    def arrived(session: Any, request: Any) -> None:
        file.write(json.dumps([time.time_ns(), name, request.get("order_ref", ""), request["order_id"]]) + "\n")
        handle(session, request)

    return arrived


async def _protection(tws: SimulatedTWS, file: Any) -> None:
    """How long a position of the session stood without enough stops, in real time."""
    since = None
    while True:
        held = tws.account.holding(tws.played).quantity
        stops = sum(-o.side * o.remaining for o in tws.book.working() if o.kind == "STP" and o.listed is tws.played)
        bare = bool(held) and stops * held < held * held and not tws.finished.is_set()  # then it takes no orders any more
        now = time.monotonic()
        since = (since or now) if bare else None
        if since is not None and now > since:
            file.write(f"{now - since:.3f}\n")
        await asyncio.sleep(0.01)


def runner(w: World, folder: Path, port: int, _life: int) -> None:
    asyncio.run(_runner(w, folder, port))


async def _runner(w: World, folder: Path, port: int) -> None:
    duty, journal = w.duty(folder), Journal(folder / "session.sqlite")
    words = defaultdict(list)
    for bar, word in w.words:
        words[bar].append(word)

    def tell(bars: int) -> None:
        said.extend(asyncio.ensure_future(desk.command(word, "soak", "by chance")) for word in words.pop(bars, ()))

    said: list[Any] = []
    desk = Supervisor(
        duty, lambda gate: IBBroker(duty.config, MCL, port=port, gate=gate), w.stage, journal, tell=tell, patient=True, wait=True
    )
    operator = asyncio.create_task(_operator(desk, w, folder))
    try:
        await desk.run()
    finally:
        operator.cancel()
        journal.close()


async def _operator(desk: Supervisor, w: World, folder: Path) -> None:
    """Answers HALTED; what halts again and again is a TWS that needs a restart."""
    halts = 0
    while True:
        await asyncio.sleep(0.02)
        if desk.status().state is State.HALTED:
            await asyncio.sleep(0.05)
            halts += 1
            if halts >= 2:
                (folder / "help").touch()
            with suppress(LiveError):  # it is not HALTED any more
                await desk.command(w.cure if halts < 4 else "adopt", "soak", "HALTED")  # type: ignore[arg-type]
            await asyncio.sleep(0.1)


# ----------------------------------------------------------------------------------------------------------------- the driver


class Process:
    """One of the two, started again whenever it is killed."""

    def __init__(self, main: Callable[..., None], w: World, folder: Path, port: int) -> None:
        self._args, self._main, self.lives, self.pid, self.born = (w, folder, port), main, 0, 0, 0.0
        self.start()

    def start(self) -> None:
        self.born, self.pid = time.time(), os.fork()
        if self.pid == 0:
            self._child()
        self.lives += 1

    def _child(self) -> None:
        code = 0
        try:
            self._main(*self._args, self.lives)
        except BaseException:
            (self._args[1] / f"{self._main.__name__}.{self.lives}.error").write_text(traceback.format_exc())
            code = 1
        os._exit(code)

    def ended(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return None if pid == 0 else os.waitstatus_to_exitcode(status)

    def kill(self, number: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)

    def again(self) -> None:
        self.kill()
        self.start()


def session(w: World, folder: Path) -> dict[str, Any]:
    """One seed, with its kills; then what is wrong with it."""
    port = _free_port()
    tws = Process(server, w, folder, port)
    desk = Process(runner, w, folder, port)
    by_name, kills = {"runner": desk, "server": tws}, list(w.kills)
    began, wrong = time.monotonic(), []
    while (code := desk.ended()) is None:
        passed = time.monotonic() - began
        if passed > DEADLINE_SEC:
            wrong.append("stuck")
            desk.kill()
            break
        if kills and passed >= kills[0][0]:
            by_name[kills.pop(0)[1]].again()
        if (folder / "help").exists() or _still(folder, tws):
            (folder / "help").unlink(missing_ok=True)
            tws.again()
        time.sleep(0.004)
    tws.kill(signal.SIGTERM)
    if code:
        wrong.append("runner ended with " + _last_line(folder))
    found = judge(w, folder)
    return found | {"wrong": wrong + found["wrong"], "seconds": time.monotonic() - began, "restarts": desk.lives + tws.lives - 2}


def _still(folder: Path, tws: Process) -> bool:
    """Nothing was written for seconds: a fault that does not end is ended by a restart of the TWS."""
    written = [tws.born]
    for path in folder.glob("session.sqlite*"):
        with suppress(FileNotFoundError):  # between two looks
            written.append(path.stat().st_mtime)
    return time.time() - max(written) > STILL_SEC


def _last_line(folder: Path) -> str:
    return "; ".join(p.read_text().strip().splitlines()[-1] for p in sorted(folder.glob("*.error"))) or "a code"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------------------------------ the judge


def judge(w: World, folder: Path) -> dict[str, Any]:
    """Both books, after the session."""
    path = folder / "session.sqlite"
    entries = read(path)
    broker = _broker_books(folder / "tws.sqlite")
    book = book_of(path, w.duty(folder).money(MCL.tick_value_usd), MCL.tick_size, None)
    wrong = [*_positions(book.held, broker, entries), *_once(entries, broker), *_silent_while_halted(entries, folder)]
    decisions, equal, bad = _decisions(w, entries)
    naked = max([float(line) for line in (folder / "naked.txt").read_text().split()] or [0.0])
    if naked > UNPROTECTED_SEC:
        wrong.append(f"unprotected for {naked:.1f} s")
    kinds = Counter(e.kind for e in entries)
    halted = sum(e.kind == "state" and e.body["state"] == "halted" for e in entries)
    figures = {
        "decisions": decisions,
        "equal": equal,
        "orders": kinds["order"],
        "fills": kinds["fill"],
        "halted": halted,
        "naked_sec": naked,
    }
    return figures | {"wrong": wrong + bad}


def _broker_books(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as db:
        orders = [json.loads(body) for (body,) in db.execute("select body from orders")]
        refs = {perm: json.loads(body)["ref"] for perm, body in db.execute("select perm_id, body from orders")}
        executions = [(refs[perm], *json.loads(body)) for perm, body in db.execute("select perm_id, body from executions")]
        held = {con_id: json.loads(body)[0] for con_id, body in db.execute("select con_id, body from holdings")}
    return {"orders": orders, "executions": executions, "position": sum(held.values())}


def _positions(held: dict[str, int], broker: dict[str, Any], entries: list[Any]) -> list[str]:
    ours, wrong = sum(held.values()), []
    if ours != broker["position"]:
        wrong.append(f"the journal holds {ours}, the broker {broker['position']}")
    if any(e.kind == "adopt" for e in entries):
        return wrong
    mine = {execution_root(e.key): e.body["quantity"] for e in entries if e.kind == "fill"}
    theirs = {execution_root(row[1]): row[3] for row in broker["executions"]}
    return wrong if mine == theirs else [*wrong, f"executions differ: {sorted(set(mine.items()) ^ set(theirs.items()))}"]


def _once(entries: list[Any], broker: dict[str, Any]) -> list[str]:
    """Every reference is on one order at most, and a decision executes no more than it was written down for."""
    sent = Counter(order["ref"] for order in broker["orders"] if order["ref"])
    wrong = [f"{ref} was sent {count} times" for ref, count in sent.items() if count > 1]
    meant = {e.key: abs(e.body["to"] - e.body["from"]) for e in entries if e.kind == "order"}
    traded: Counter[str] = Counter()
    for ref, _, _, quantity, *_ in broker["executions"]:
        if "/" not in ref:
            traded[ref] += abs(quantity)
    wrong += [f"{ref} traded {traded[ref]}, meant {meant[ref]}" for ref in meant if traded[ref] > meant[ref] + _flipped(entries, ref)]
    written = {decision_of(str(e.key)) for e in entries if e.kind in ("order", "protect")}
    return wrong + [f"{ref} was sent but not written down" for ref in sent if decision_of(ref) not in written]


def _flipped(entries: list[Any], ref: str) -> int:
    """A stop that filled while the decision was under way makes its order that much larger."""
    stops = [e for e in entries if e.kind == "fill" and e.body["reason"] != "target"]
    return max((abs(e.body["quantity"]) for e in stops), default=0) if ref else 0


def _silent_while_halted(entries: list[Any], folder: Path) -> list[str]:
    arrivals = [json.loads(line) for line in (folder / "arrivals.jsonl").read_text().splitlines()]
    told = [e for e in entries if e.kind in ("state", "command", "begin")]
    wrong = []
    for entry, following in pairwise(told):
        if entry.kind == "state" and entry.body["state"] == "halted":
            during = [a for a in arrivals if a[2] and entry.at_ns + ARRIVAL_NS < a[0] < following.at_ns]
            wrong += [f"{name} {ref} while HALTED" for _, name, ref, _ in during]
    return wrong


def _decisions(w: World, entries: list[Any]) -> tuple[int, bool, list[str]]:
    """Every wish and distance is the plan's of the recorded bars; `equal`: every decision and fill is the backtest's too."""
    recorded = [e.body for e in entries if e.kind == "bar"]
    taken = [e.body for e in entries if e.kind == "decision"]
    if not recorded:
        return 0, False, ["no bar was decided on"]
    duty = w.duty(Path())
    bars, plan, result = auditing.replay(recorded, duty.deployed, duty.strategy, w.stage)
    wanted = np.array([np.nan if d["wanted"] is None else d["wanted"] for d in taken])
    wrong = []
    if len(taken) != len(bars) or not np.array_equal(wanted, plan.wanted, equal_nan=True):
        wrong.append("a decision is not the backtest's")
    targets = [d["target"] for d in taken]
    return len(taken), targets == result.target.tolist() and [d["position"] for d in taken] == result.position.tolist(), wrong


# ------------------------------------------------------------------------------------------------------------------- the report


def soak(seeds: list[int], keep: bool) -> list[tuple[World, dict[str, Any]]]:
    done = []
    for seed in seeds:
        w, folder = world(seed), Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
        found = session(w, folder)
        done.append((w, found))
        if found["wrong"]:
            print(f"seed {seed}: {'; '.join(found['wrong'])} · faults {[f[:2] for f in w.faults]} · {folder}", flush=True)
        if not (keep or found["wrong"]):
            shutil.rmtree(folder)
    return done


def _worker(seeds: list[int], keep: bool, out: Path) -> int:
    """Fork: no event loop and no thread lives in this process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        rows = [[w.seed, [f[0] for f in w.faults], len(w.kills), found] for w, found in soak(seeds, keep)]
        out.write_text(json.dumps(rows))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def report(rows: list[Any], seconds: float) -> int:
    figures = [row[3] for row in rows]
    total = {name: sum(f[name] for f in figures) for name in ("decisions", "orders", "fills", "halted", "restarts", "equal")}
    codes = Counter(code for row in rows for codes in row[1] for code in codes.split())
    wrong = [row[0] for row in rows if row[3]["wrong"]]
    print(f"{len(rows)} sessions in {seconds:.0f} s ({sum(f['seconds'] for f in figures) / len(rows):.2f} s each)")
    print(f"{total['decisions']} decisions, {total['orders']} orders, {total['fills']} fills; {total['halted']} times HALTED")
    print(f"{sum(row[2] for row in rows)} SIGKILLs, {total['restarts']} restarts; {total['equal']} sessions equal the backtest throughout")
    print("faults: " + ", ".join(f"{code} {codes[code]}" for code in sorted(codes, key=lambda c: int(c[1:]))))
    print(f"longest without a stop at the broker: {max(f['naked_sec'] for f in figures):.2f} s")
    print(f"violations: {len(wrong)}" + (f" in seeds {wrong}" if wrong else ""))
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, help="one seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the files of every session")
    args = parser.parse_args()
    logging.getLogger("ib_async").setLevel(logging.CRITICAL)
    logging.getLogger("mcl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    seeds = [args.only] if args.only is not None else list(range(args.first, args.first + args.seeds))
    _warm()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{n}.json" for n in range(args.workers)]
        pids = [_worker(seeds[n :: args.workers], args.keep, out) for n, out in enumerate(outs)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        rows = [row for out in outs if out.exists() for row in json.loads(out.read_text())]
    if any(codes) or not rows:
        return 1
    return report(rows, time.monotonic() - began)


def _warm() -> None:
    """One quiet session in this process, so that what is forked finds everything compiled and loaded."""
    w = replace(world(0), faults=(), kills=(), words=())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        async def both() -> None:
            port = _free_port()
            tws = asyncio.create_task(_server(w, folder, port, 1))
            await asyncio.sleep(0.1)
            await _runner(w, folder, port)
            os.kill(os.getpid(), signal.SIGTERM)
            await tws

        asyncio.run(both())
        judge(w, folder)


if __name__ == "__main__":
    sys.exit(main())
