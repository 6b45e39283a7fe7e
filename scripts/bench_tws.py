"""How fast the simulated TWS is: messages out, connecting, a session with a trading client, a day
of quotes, memory over a week.

python scripts/bench_tws.py [messages|connect|session|books|memory …]
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import ib_async
import numpy as np
import psutil

from mcl.base.instants import NS
from mcl.market import calendar
from mcl.market.instruments import MCL
from mcl.simulators.tws import SimulatedTWS, Tape, render
from mcl.simulators.tws.orders import order_from
from mcl.simulators.tws.quotes import bars_of
from mcl.simulators.tws.request_messages import blank_order
from mcl.simulators.tws.tape import Ticks

SESSION_BARS = 1_380  # 23 hours of minutes
DAYS = 7
EVENTS = SESSION_BARS * 900  # of a book, in a day
OPENS_NS = calendar.ns_of(calendar.from_day(20_458), 18)
MONTH = "202612"
COMMON = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}


def tape(sessions: int = 1) -> Tape:
    """A random walk in ticks: an hour of history, then whole sessions on the days that follow each
    other.
    """
    luck = np.random.default_rng(1)
    played = np.concatenate([24 * 60 * day + np.arange(SESSION_BARS) for day in range(sessions)])
    minute = np.concatenate([np.arange(-60, 0), played])
    close = 6000 + np.cumsum(luck.integers(-3, 4, len(minute)))
    open_ = np.concatenate([[6000], close[:-1]])
    high, low = np.maximum(open_, close) + 2, np.minimum(open_, close) - 2
    prices: dict[str, Any] = {
        name: np.round(ticks * 0.01, 10)
        for name, ticks in (("open", open_), ("high", high), ("low", low), ("close", close))
    }
    start = OPENS_NS + minute * 60 * NS
    contract = calendar.contract("MCL", int(MONTH[:4]), int(MONTH[4:]))
    return Tape(
        contract,
        MCL,
        "1m",
        start,
        **prices,
        volume=np.full(len(minute), 50),
        first=60,
        synthetic=True,
    )


READER = """
import socket, sys
from mcl.simulators.tws import framing as wire
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
peer.sendall(wire.GREETING + wire.pack(b"v157..178") + wire.frame(["71", "2", "1", ""]))
while peer.recv(1 << 20):
    pass
"""


async def messages() -> dict[str, float]:
    """Ticks and order messages to a client in another process, which only reads; per second of this
    core's time.
    """
    async with SimulatedTWS(tape(), stepped=True) as tws:
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, str(tws.port))
        while not any(session.client_id > 0 for session in tws.sessions):
            await asyncio.sleep(0.001)
        [session] = tws.sessions
        ticks = await _rate(
            lambda: session.send("tickPrice", req_id=1, tick_type=1, price="60.01", size=1, mask=0),
            200_000,
        )
        order = order_from(
            blank_order() | {"order_id": 1, "quantity": 1.0, "order_type": "MKT", "action": "BUY"},
            1,
            5,
            tws.played,
        )
        orders = await _rate(lambda: session.send("openOrder", **render.open_order(order)), 50_000)
        session.close()
        await reader.wait()
    return {"tick messages per second": ticks, "openOrder messages per second (135 fields)": orders}


async def _rate(send: Callable[[], None], count: int) -> float:
    start = time.process_time()
    for n in range(count):
        send()
        if n % 100 == 99:
            await asyncio.sleep(0)
    return count / (time.process_time() - start)


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


async def follow(port: int, kinds: tuple[str, ...] = (), every: int = 30) -> tuple[int, int]:
    """A client that follows the bars to their end and turns its position every so many. Returns
    bars seen and fills.
    """
    ib = ib_async.IB()
    ib.client.MaxRequests = 0
    await ib.connectAsync("127.0.0.1", port, 1)
    [contract] = await ib.qualifyContractsAsync(ib_async.Future("MCL", MONTH, "NYMEX"))
    assert isinstance(contract, ib_async.Contract)
    bars = await ib.reqHistoricalDataAsync(
        contract, "", "3600 S", "1 min", "TRADES", False, 2, True
    )
    for kind in kinds:
        ib.reqTickByTickData(contract, kind)
    over: list[int] = []
    ib.errorEvent += lambda _id, code, *_: over.append(code) if code == 10182 else None
    seen, side = 0, 1
    while not over:
        before = len(bars)
        await ib.reqCurrentTimeAsync()
        while len(bars) == before and not over:
            await asyncio.sleep(0)
        seen += 1
        if seen % every == 0:
            ib.placeOrder(
                contract, ib_async.MarketOrder("BUY" if side > 0 else "SELL", 1, **COMMON)
            )
            side = -side
    fills = len(ib.fills())
    ib.disconnect()
    return seen, fills


async def session() -> dict[str, float]:
    async with SimulatedTWS(tape()) as tws:
        start = time.perf_counter()
        seen, fills = await follow(tws.port)
        spent = time.perf_counter() - start
    return {"bars": seen, "fills": fills, "seconds": spent, "bars per second": seen / spent}


async def _elsewhere(port: int, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "client", str(port), *words, stderr=asyncio.subprocess.DEVNULL
    )


async def memory() -> dict[str, float]:
    """Resident size of a server with an order every other minute, at the end of each day of a week;
    its client is another process.
    """
    sizes: list[float] = []
    async with SimulatedTWS(tape(DAYS)) as tws:
        client = await _elsewhere(tws.port, "2")
        for day in range(1, DAYS + 1):
            while tws.player.tracks[0].row < 60 + day * SESSION_BARS and not tws.finished.is_set():
                await asyncio.sleep(0.005)
            sizes.append(_resident_mb())
        await client.wait()
        fills = len(tws.executions)
    return {f"MB after day {n}": size for n, size in enumerate(sizes, 1)} | {
        "fills": fills,
        "growth after day 1, MB": sizes[-1] - sizes[0],
    }


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


class Books:
    """A day of quotes as busy as a real one: a book that changes 15 times a second and trades once
    a second.
    """

    def __init__(self, bars: Tape) -> None:
        rows = np.repeat(np.arange(bars.first, len(bars)), EVENTS // SESSION_BARS)
        luck = np.random.default_rng(2)
        ts = bars.start[rows] + np.tile(
            np.arange(EVENTS // SESSION_BARS) * (60 * NS // (EVENTS // SESSION_BARS)),
            SESSION_BARS,
        )
        below = luck.integers(0, 3, len(rows))
        bid = np.round(bars.open[rows] - 0.01 * below, 10)[None].astype(np.float64)
        sizes = luck.integers(1, 40, (2, len(rows)))
        traded = np.where(np.arange(len(rows)) % 15 == 0, 1, 0)
        self.ticks = Ticks(ts, bid, np.round(bid + 0.01, 10), sizes[:1], sizes[1:], bid[0], traded)

    def between(self, from_ns: int, to_ns: int) -> Ticks:
        return self.ticks.rows(from_ns, to_ns)


async def books() -> dict[str, float]:
    """A day of quotes, all of them told tick by tick to a trading client in another process, as
    fast as it goes.
    """
    bars = tape()
    source = Books(bars)
    quoted = bars.having(
        bars.columns.rows(slice(bars.first)).then([bars_of(source.ticks, "1m")]),
        bars.first,
        quotes=source,
    )
    async with SimulatedTWS(quoted) as tws:
        start, spent = time.perf_counter(), time.process_time()
        client = await _elsewhere(tws.port, "30", "BidAsk", "AllLast")
        await client.wait()
        seconds, busy = time.perf_counter() - start, time.process_time() - spent
        sent = tws.counters["sent"]
    figures = {
        "quotes and trades replayed": EVENTS,
        "messages": sent,
        "seconds": seconds,
        "of them this core": busy,
    }
    return figures | {"times real time (23 h)": 23 * 3600 / seconds}


BENCHES: dict[str, Callable[[], Coroutine[Any, Any, dict[str, float]]]] = {
    "messages": messages,
    "connect": connect,
    "session": session,
    "books": books,
    "memory": memory,
}


def main() -> None:
    if sys.argv[1:2] == ["client"]:
        asyncio.run(follow(int(sys.argv[2]), tuple(sys.argv[4:]), int(sys.argv[3])))
        return
    for name in sys.argv[1:] or BENCHES:
        print(name)
        for label, value in asyncio.run(BENCHES[name]()).items():
            print(f"  {label:<45} {value:>12,.1f}")


if __name__ == "__main__":
    main()
