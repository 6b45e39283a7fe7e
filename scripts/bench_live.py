"""How fast a session reacts, how soon it is back, and what it keeps: figures of this machine.

    python scripts/bench_live.py                 all three
    python scripts/bench_live.py latency         from the bytes that close a bar to the first byte
                                                 of its order
    python scripts/bench_live.py recovery        from the server's return to TRADING
    python scripts/bench_live.py memory          a simulated week of minutes in one process

Server and session are two processes on loopback. Under load the wall-clock figures are the load's;
the share of the processor says so.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from soak import Process, _free_port, _server, _warm
from soak_world import World, world

from mcl import composition
from mcl.broker.ib import IBBroker
from mcl.config import broker_schema
from mcl.live.journal import Journal
from mcl.live.memory import collect_between_bars
from mcl.live.status import State
from mcl.live.supervisor import Supervisor
from mcl.market.instruments import MCL

WEEK = 5
SHIPPED = broker_schema.Reconnect()  # heartbeats and comparisons as a session has them
IMPATIENT = broker_schema.Reconnect(
    first_sec=0.01, longest_sec=0.1, heartbeat_sec=0.3, compare_sec=0.1
)


def quiet(seed: int, played: int, protection: bool = False) -> World:
    """No faults; a new wish every minute."""
    w = replace(world(seed, played), faults=(), kills=(), words=())
    raw = w.run.model_dump(mode="json") | {
        "strategy": {"name": "random", "hold_sec": 60, "seed": seed}
    }
    raw["risk"] = {"size": {"method": "fixed", "contracts": 1.0}} | (
        {"protection": {"unit": "ticks", "stop": 60.0}} if protection else {}
    )
    return replace(w, run=composition.run_config(raw))


def server(w: World, folder: Path, port: int, _life: int) -> None:
    asyncio.run(_server(w, folder, port, 1))


def serving(w: World, folder: Path, port: int) -> Process:
    """A server that listens."""
    tws, deadline = Process(server, w, folder, port), time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return tws
        time.sleep(0.02)
    raise TimeoutError(f"the simulated TWS does not listen on {port}")


def desk_of(
    w: World,
    folder: Path,
    port: int,
    tell: Any = lambda _: None,
    reconnect: broker_schema.Reconnect = SHIPPED,
) -> tuple[Supervisor, Journal]:
    session_config, journal = w.session_config(folder), Journal(folder / f"{time.time_ns()}.sqlite")
    settings = {
        "timeout_sec": 10.0,
        "replay": session_config.broker.replay.model_copy(update={"speed": 1.0}),
        "reconnect": reconnect,
    }
    paced = session_config.broker.model_copy(update=settings)
    # a paced session puts the reference of the next order on the disk ahead of time
    session_config = replace(session_config, broker=paced)
    return (
        Supervisor(
            session_config,
            lambda gate: IBBroker(paced, MCL, port=port, gate=gate),
            w.stage,
            journal,
            tell=tell,
        ),
        journal,
    )


async def _run(w: World, folder: Path, port: int) -> Supervisor:
    with collect_between_bars() as between:
        desk, journal = desk_of(w, folder, port, between)
        try:
            await desk.run()
        finally:
            journal.close()
    return desk


def latency(bars: int) -> None:
    for protection in (False, True):
        w = quiet(1, bars, protection)
        with tempfile.TemporaryDirectory() as name:
            folder, port = Path(name), _free_port()
            tws = serving(w, folder, port)
            began = time.perf_counter(), time.process_time()
            desk = asyncio.run(_run(w, folder, port))
            share = (time.process_time() - began[1]) / (time.perf_counter() - began[0])
            tws.kill(signal.SIGTERM)
        took = sorted(desk.status().latency_ms)
        p50, p90, p99 = (took[int(q * len(took))] for q in (0.5, 0.9, 0.99))
        what = "orders with a stop" if protection else "orders"
        print(
            f"latency of {len(took)} {what}: p50 {p50:.2f} ms, p90 {p90:.2f}, p99 {p99:.2f}, max"
            f" {took[-1]:.2f} (processor {share:.0%})"
        )


def recovery(times: int) -> None:
    """SIGKILL the server, start it again at once, and wait until the session trades."""
    w = quiet(2, 1200, protection=True)
    took: list[float] = []

    async def main(folder: Path, port: int, tws: Process) -> None:
        desk, journal = desk_of(w, folder, port, reconnect=IMPATIENT)
        session = asyncio.create_task(desk.run())
        while desk.status().bars < 3:
            await asyncio.sleep(0.01)
        for _ in range(times):
            tws.again()
            back = time.perf_counter()
            while desk.status().state is State.TRADING:
                await asyncio.sleep(0.001)
            while desk.status().state is not State.TRADING:
                await asyncio.sleep(0.001)
            took.append(time.perf_counter() - back)
            await asyncio.sleep(0.1)
        await desk.command("stop", "bench", "done")
        await session
        journal.close()

    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        tws = serving(w, folder, port)
        asyncio.run(main(folder, port, tws))
        tws.kill(signal.SIGTERM)
    took.sort()
    print(
        f"recovery after {times} SIGKILLs of the server: median {took[len(took) // 2]:.2f} s,"
        f" longest {took[-1]:.2f} s"
    )


def memory(minutes: int) -> None:
    """Five sessions in one process; the first one loads what is loaded once."""
    print(f"after each of {WEEK} sessions of {minutes:,} minutes in one process:")
    for day in range(WEEK):
        w = quiet(10 + day, minutes, protection=True)
        with tempfile.TemporaryDirectory() as name:
            folder, port = Path(name), _free_port()
            tws = serving(w, folder, port)
            desk = asyncio.run(_run(w, folder, port))
            tws.kill(signal.SIGTERM)
        bars, orders = desk.status().bars, desk.status().counters["orders"]
        del desk, w
        gc.collect()
        print(
            f"  {day + 1}: {_rss_mb():.1f} MB resident, {len(gc.get_objects()):,} objects ({bars}"
            f" bars, {orders} orders)",
            flush=True,
        )


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", default=["latency", "recovery", "memory"])
    parser.add_argument("--bars", type=int, default=600)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--minutes", type=int, default=1380, help="of each of the week's sessions")
    args = parser.parse_args()
    for name in ("ib_async", "mcl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _warm()
    if "latency" in args.what:
        latency(args.bars)
    if "recovery" in args.what:
        recovery(args.times)
    if "memory" in args.what:
        memory(args.minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
