"""How fast the simulated TWS is: messages out, connecting, a session with a trading client, memory over a week.

python scripts/bench_tws.py [messages|connect|session|memory …]
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import ib_async
import numpy as np

from mcl import calendar
from mcl.broker.tws import SimulatedTWS, Tape, render, wire
from mcl.broker.tws.orders import order_from
from mcl.broker.tws.requests import blank_order
from mcl.market import MCL

SESSION_BARS = 1_380  # 23 hours of minutes
OPENS_NS = calendar.ns_of(calendar.from_day(20_458), 18)
COMMON = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}


def tape(sessions: int = 1) -> Tape:
    """A random walk in ticks: an hour of history, then whole sessions on the days that follow each other."""
    luck = np.random.default_rng(1)
    played = np.concatenate([24 * 60 * day + np.arange(SESSION_BARS) for day in range(sessions)])
    minute = np.concatenate([np.arange(-60, 0), played])
    close = 6000 + np.cumsum(luck.integers(-3, 4, len(minute)))
    open_ = np.concatenate([[6000], close[:-1]])
    high, low = np.maximum(open_, close) + 2, np.minimum(open_, close) - 2
    prices = {name: np.round(ticks * 0.01, 10) for name, ticks in (("open", open_), ("high", high), ("low", low), ("close", close))}
    start = OPENS_NS + minute * 60 * calendar.NS
    contract = calendar.contract("MCL", 2026, 12)
    return Tape(contract, MCL, "1m", start, **prices, volume=np.full(len(minute), 50), first=60, synthetic=True)


async def messages() -> dict[str, float]:
    """Ticks and order messages to a client that only reads; the server's own work is what is timed."""
    async with SimulatedTWS(tape(), stepped=True) as tws:
        reader, writer = await asyncio.open_connection("127.0.0.1", tws.port)
        writer.write(wire.GREETING + wire.pack(b"v157..178") + wire.frame(["71", "2", "1", ""]))
        drain = asyncio.create_task(_drain(reader))
        while not any(session.client_id > 0 for session in tws.sessions):
            await asyncio.sleep(0.001)
        [session] = tws.sessions
        ticks = await _rate(lambda: session.send("tickPrice", req_id=1, tick_type=1, price="60.01", size=1, mask=0), 100_000)
        order = order_from(blank_order() | {"order_id": 1, "quantity": 1.0, "order_type": "MKT", "action": "BUY"}, 1, 5, tws.played)
        orders = await _rate(lambda: session.send("openOrder", **render.open_order(order)), 20_000)
        writer.close()
        await drain
    return {"tick messages per second": ticks, "openOrder messages per second (135 fields)": orders}


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 20):
        pass


async def _rate(send: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    for n in range(count):
        send()
        if n % 1000 == 999:
            await asyncio.sleep(0)
    return count / (time.perf_counter() - start)


async def connect() -> dict[str, float]:
    async with SimulatedTWS(tape(), stepped=True) as tws:
        spent = []
        for client_id in range(1, 12):
            ib = ib_async.IB()
            start = time.perf_counter()
            await ib.connectAsync("127.0.0.1", tws.port, client_id)
            spent.append(time.perf_counter() - start)
            ib.disconnect()
            await asyncio.sleep(0.01)
    return {"connectAsync, median, ms": 1000 * sorted(spent[1:])[5]}


async def trade(sessions: int, after: Callable[[int], None] = lambda _: None) -> dict[str, float]:
    """A client that follows the bars, turns its position every 30 and changes a resting order at each."""
    played = tape(sessions)
    async with SimulatedTWS(played) as tws:
        ib = ib_async.IB()
        ib.client.MaxRequests = 0
        await ib.connectAsync("127.0.0.1", tws.port, 1)
        month = f"{played.contract.year}{played.contract.month:02d}"
        [contract] = await ib.qualifyContractsAsync(ib_async.Future("MCL", month, "NYMEX"))
        start = time.perf_counter()
        bars = await ib.reqHistoricalDataAsync(contract, "", "3600 S", "1 min", "TRADES", False, 2, True)
        seen, side = 0, 1
        while not tws.finished.is_set():
            before = len(bars)
            await ib.reqCurrentTimeAsync()
            while len(bars) == before and not tws.finished.is_set():
                await asyncio.sleep(0)
            seen += 1
            if seen % 30 == 0:
                ib.placeOrder(contract, ib_async.MarketOrder("BUY" if side > 0 else "SELL", 1, **COMMON))
                side = -side
            if seen % 100 == 0:
                after(seen)
        spent = time.perf_counter() - start
        fills = len(tws.executions)
        ib.disconnect()
    return {"bars": seen, "fills": fills, "seconds": spent, "bars per second": seen / spent}


async def memory() -> dict[str, float]:
    """Resident size after the first session and after five."""
    sizes: list[float] = []
    figures = await trade(5, lambda _: sizes.append(_resident_mb()))
    first = sizes[SESSION_BARS // 100]
    return {"bars": figures["bars"], "MB after one session": first, "MB after five": sizes[-1], "growth, MB": sizes[-1] - first}


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def session() -> dict[str, float]:
    return await trade(1)


BENCHES: dict[str, Callable[[], Coroutine[Any, Any, dict[str, float]]]] = {
    "messages": messages,
    "connect": connect,
    "session": session,
    "memory": memory,
}


def main() -> None:
    for name in sys.argv[1:] or BENCHES:
        print(name)
        for label, value in asyncio.run(BENCHES[name]()).items():
            print(f"  {label:<45} {value:>12,.1f}")


if __name__ == "__main__":
    main()
