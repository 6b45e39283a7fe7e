"""Sessions that go wrong on purpose, by the thousand: random bars, random faults F1 to F28, SIGKILL
of runner and server.

    python scripts/soak.py --seeds 2000                      make soak
    python scripts/soak.py --seeds 2000 --minutes 4          a slice of it; again for the next one
    python scripts/soak.py --only 123 --keep                 one seed again, its files kept

What was run stands in a record (build/soak.jsonl), under a fingerprint of the code that ran: a seed
that this code has survived is not run again, and the report is of all seeds of this code.

Each seed is a session of 40 one-minute bars with the guards and the time-outs of `ib_paper`; every
order and every cancel is served after 0.2 to 1 s. It runs in two processes, a simulated TWS that
keeps its state on disk and a supervised session, both forked from this one so that a start takes
milliseconds. What is killed is started again at once; what is HALTED is told adopt or flatten.
After the session the journal is held against the broker's own books: see `soak_judge`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from soak_judge import judge
from soak_world import ANSWER_SEC, World, world

from mcl.base.errors import LiveError
from mcl.broker.ib import IBBroker
from mcl.live.journal import Journal
from mcl.live.status import Command, State
from mcl.live.supervisor import Supervisor
from mcl.market.instruments import MCL
from mcl.simulators.tws import SimulatedTWS
from mcl.simulators.tws.session import ClientSession

DEADLINE_SEC = 600.0  # a session that has not ended by then is stuck
STILL_SEC = 50.0  # more than two time-outs
WARM_SEC = 30.0
ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "build" / "soak.jsonl"
SERVE = ClientSession._serve
MEMORY = Path("/dev/shm")  # SIGKILL does not care whether a file is on a disk


# -------------------------------------------------------------------------------- the two processes


def server(w: World, folder: Path, port: int, life: int) -> None:
    asyncio.run(_server(w, folder, port, life))


async def _server(w: World, folder: Path, port: int, life: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    stops = w.run.risk.protection is not None and w.run.risk.protection.stop is not None
    with (
        (folder / "arrivals.jsonl").open("a", buffering=1) as arrivals,
        (folder / "naked.txt").open("a", buffering=1) as naked,
    ):
        async with SimulatedTWS(
            w.tape,
            port=port,
            state=folder / "tws.sqlite",
            seed=w.seed,
            patience_sec=1.0,
            slippage_ticks=1.0,
            capital_usd=w.run.capital_usd,
            options=w.options,
        ) as tws:
            _record_arrivals(arrivals)
            for request in ("placeOrder", "cancelOrder"):
                tws.fault(
                    "slow",
                    on=f"receive {request}",
                    times=0,
                    least=ANSWER_SEC[0],
                    most=ANSWER_SEC[1],
                )
            if not life:
                _plan_faults(tws, w)
            watch = asyncio.create_task(_protection(tws, naked)) if stops else None
            await ended.wait()
            if watch:
                watch.cancel()


def _plan_faults(tws: SimulatedTWS, w: World) -> None:
    for _, name, options in w.faults:
        tws.fault(name, **options)


def _record_arrivals(file: Any) -> None:
    """Every order and every cancel that comes in, whatever a fault then makes of it."""

    def arrived(self: ClientSession, name: str, request: Any) -> None:
        if name in ("placeOrder", "cancelOrder"):
            file.write(
                json.dumps(
                    [time.time_ns(), name, request.get("order_ref", ""), request["order_id"]]
                )
                + "\n"
            )
        SERVE(self, name, request)

    ClientSession._serve = arrived  # type: ignore[method-assign]


async def _protection(tws: SimulatedTWS, file: Any) -> None:
    """How long a position of the session stood without enough stops, in real time; `foreign` is
    what came into or left the account without an order, from then until it has its stops: no
    session may touch it before a person has said what it is.
    """
    since: float | None = None
    foreign, unordered = False, 0
    while True:
        held = tws.account.holding(tws.played).quantity
        stops = sum(
            -o.side * o.remaining
            for o in tws.book.working()
            if o.kind == "STP" and o.listed is tws.played
        )
        # then it takes no orders any more
        bare = bool(held) and stops * held < held * held and not tws.finished.is_set()
        away = held - sum(execution.quantity for execution in tws.executions)
        foreign, unordered = bare and (foreign or away != unordered), away
        now = time.monotonic()
        since = (since or now) if bare else None
        if since is not None and now > since:
            file.write(f"{now - since:.3f} {'foreign' if foreign else 'own'}\n")
        await asyncio.sleep(0.01)


def runner(w: World, folder: Path, port: int, _life: int) -> None:
    asyncio.run(_runner(w, folder, port))


async def _runner(w: World, folder: Path, port: int) -> None:
    session_config, journal = w.session_config(folder), Journal(folder / "session.sqlite")
    words: dict[int, list[Command]] = defaultdict(list)
    for bar, word in w.words:
        words[bar].append(word)

    def tell(bars: int) -> None:
        said.extend(
            asyncio.ensure_future(desk.command(word, "soak", "by chance"))
            for word in words.pop(bars, ())
        )

    said: list[Any] = []
    desk = Supervisor(
        session_config,
        lambda gate: IBBroker(session_config.broker, MCL, port=port, gate=gate),
        w.stage,
        journal,
        tell=tell,
        wait=True,
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


# --------------------------------------------------------------------------------------- the driver


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
            (self._args[1] / f"{self._main.__name__}.{self.lives}.error").write_text(
                traceback.format_exc()
            )
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
    began, wrong, killed = time.monotonic(), [], Counter[str]()
    while (code := desk.ended()) is None:
        passed = time.monotonic() - began
        if passed > DEADLINE_SEC:
            wrong.append("stuck")
            desk.kill()
            break
        if kills and passed >= kills[0][0]:
            killed[kills[0][1]] += 1
            by_name[kills.pop(0)[1]].again()
        if (folder / "help").exists() or _still(folder, tws):
            (folder / "help").unlink(missing_ok=True)
            tws.again()
        time.sleep(0.004)
    tws.kill(signal.SIGTERM)
    if code:
        wrong.append("runner ended with " + _last_line(folder))
    found = judge(w, folder)
    spent = {"seconds": time.monotonic() - began, "restarts": desk.lives + tws.lives - 2}
    return found | spent | {"kills": dict(killed), "wrong": wrong + found["wrong"]}


def _still(folder: Path, tws: Process) -> bool:
    """Nothing was written for seconds: a fault that does not end is ended by a restart of the
    TWS.
    """
    written = [tws.born]
    for path in folder.glob("session.sqlite*"):
        with suppress(FileNotFoundError):  # between two looks
            written.append(path.stat().st_mtime)
    return time.time() - max(written) > STILL_SEC


def _last_line(folder: Path) -> str:
    return (
        "; ".join(p.read_text().strip().splitlines()[-1] for p in sorted(folder.glob("*.error")))
        or "a code"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -------------------------------------------------------------------------------- record and report


def fingerprint() -> str:
    """Of the sources that this process has loaded: the code of a session, and the soak's own."""
    files = {
        Path(file)
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None))
    }
    ours = sorted(
        f
        for f in files
        if f.suffix == ".py" and f.is_relative_to(ROOT) and not f.is_relative_to(sys.prefix)
    )
    return hashlib.sha256(b"".join(f.read_bytes() for f in ours)).hexdigest()[:12]


def recorded(record: Path) -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    )


def soak(seeds: list[int], until: float, keep: bool) -> Iterable[dict[str, Any]]:
    for seed in seeds:
        if time.monotonic() > until:
            return
        w, folder = (
            world(seed),
            Path(
                tempfile.mkdtemp(
                    prefix=f"soak-{seed}-", dir=MEMORY if MEMORY.is_dir() and not keep else None
                )
            ),
        )
        found = session(w, folder)
        if found["wrong"]:
            print(
                f"seed {seed}: {'; '.join(found['wrong'])} · faults {[f[:2] for f in w.faults]} ·"
                f" {folder}",
                flush=True,
            )
        elif not keep:
            shutil.rmtree(folder)
        yield {
            "seed": seed,
            "faults": [code for codes, *_ in w.faults for code in codes.split()],
        } | found


def _worker(seeds: list[int], until: float, keep: bool, code: str, record: Path) -> int:
    """Fork: no event loop and no thread lives in this process. Every session is one line of the
    record.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        with record.open("a", buffering=1) as file:
            for row in soak(seeds, until, keep):
                file.write(json.dumps({"code": code} | row) + "\n")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def report(rows: list[dict[str, Any]], earlier: int, code: str) -> None:
    names = (
        "decisions",
        "right",
        "equal",
        "orders",
        "fills",
        "halted",
        "restarts",
        "duplicates",
        "sent_while_halted",
        "seconds",
    )
    total = {name: sum(row[name] for row in rows) for name in names}
    faults, kills = (
        Counter(f for row in rows for f in row["faults"]),
        sum((Counter(row["kills"]) for row in rows), Counter[str]()),
    )
    print(
        f"{len(rows)} sessions of this code ({code}), {total['seconds'] / len(rows):.2f} s each;"
        f" {earlier} of earlier code in the record"
    )
    print(
        f"faults: {faults.total()}: "
        + ", ".join(f"{f} {faults[f]}" for f in sorted(faults, key=lambda f: int(f[1:])))
    )
    print(
        f"SIGKILLs: {kills['runner']} of the runner, {kills['server']} of the server;"
        f" {total['restarts']} restarts of both"
    )
    print(
        f"decisions: {total['decisions']} compared, {total['right']} equal to the rules on the same"
        " data and account, ",
        end="",
    )
    print(f"{total['equal']} to a backtest that nothing disturbs")
    print(
        f"orders: {total['orders']} with {total['fills']} fills, {total['duplicates']} sent twice"
    )
    print(f"HALTED {total['halted']} times, {total['sent_while_halted']} orders sent meanwhile")
    quiet = [row["naked_sec"] for row in rows if not (row["faults"] or row["kills"])]
    undisturbed = f"{max(quiet):.2f} s in {len(quiet)} sessions" if quiet else "none"
    print(
        f"longest without a stop at the broker: undisturbed {undisturbed}, of all"
        f" {max(row['naked_sec'] for row in rows):.2f} s"
    )
    foreign = max(row["foreign_sec"] for row in rows)
    print(
        "of what waited for a person (no order of ours, a trade taken back, an unknown server):"
        f" {foreign:.2f} s"
    )
    wrong = sorted(row["seed"] for row in rows if row["wrong"])
    print(f"violations: {len(wrong)}" + (f" in seeds {wrong}" if wrong else ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, help="one seed, whatever the record says")
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="end after so long; the next run continues"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2 * (os.cpu_count() or 1),
        help="sessions at a time; most of one is waiting",
    )
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--keep", action="store_true", help="keep the files of every session")
    args = parser.parse_args()
    for name in ("ib_async", "mcl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    until = time.monotonic() + 60 * args.minutes
    _warm()
    code = fingerprint()
    args.record.parent.mkdir(parents=True, exist_ok=True)
    done = (
        set()
        if args.only is not None
        else {row["seed"] for row in recorded(args.record) if row["code"] == code}
    )
    wanted = [args.only] if args.only is not None else range(args.first, args.first + args.seeds)
    left = [seed for seed in wanted if seed not in done]
    gc.freeze()  # children share what is here
    pids = [
        _worker(left[n :: args.workers], until, args.keep, code, args.record)
        for n in range(args.workers)
    ]
    failed = [pid for pid in pids if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    everything = recorded(args.record)
    mine = {row["seed"]: row for row in everything if row["code"] == code}
    rows = [mine[seed] for seed in wanted if seed in mine]
    if rows:
        report(rows, sum(row["code"] != code for row in everything), code)
    return 1 if failed or not rows or any(row["wrong"] for row in rows) else 0


def _warm() -> None:
    """One quiet session in this process, so that what is forked finds everything compiled and
    loaded.
    """
    w = replace(world(0), faults=(), kills=(), words=())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        async def both() -> None:
            port = _free_port()
            tws = asyncio.create_task(_server(w, folder, port, 1))
            await asyncio.sleep(0.1)
            # nobody starts this server again; what was to be loaded is loaded by then
            with suppress(TimeoutError):
                async with asyncio.timeout(WARM_SEC):
                    await _runner(w, folder, port)
            os.kill(os.getpid(), signal.SIGTERM)
            await tws

        asyncio.run(both())
        judge(w, folder)


if __name__ == "__main__":
    sys.exit(main())
