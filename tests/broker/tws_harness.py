"""What the broker tests share: a deterministic tape, a client that speaks the bare protocol, and
waiting.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import date, datetime
from typing import Any, NamedTuple

import ib_async
import numpy as np

from mcl.engine.decision import NO_BRACKET, Bracket
from mcl.market import calendar
from mcl.market.instruments import MCL
from mcl.simulators.tws import Tape, framing
from mcl.simulators.tws.messages import Field, Values
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.response_messages import ANSWERS

MINUTE_NS = 60_000_000_000
SESSION_OPEN_NS = calendar.ns_of(date(2026, 1, 5), 18)  # the session of 2026-01-06
BY_ID = {message.id: message for message in ANSWERS.values()}


class Goal(NamedTuple):
    position: int
    stop_ticks: float = math.nan
    take_profit_ticks: float = math.nan

    @property
    def bracket(self) -> Bracket:
        return NO_BRACKET._replace(
            stop_ticks=float(self.stop_ticks), take_profit_ticks=float(self.take_profit_ticks)
        )


def run(main: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
    """One event loop per test, closed with nothing left open; a test that hangs fails."""

    async def bounded() -> Any:
        return await asyncio.wait_for(main, seconds)

    return asyncio.run(bounded())


def walk(seed: int, history: int, played: int) -> Tape:
    """A random walk of MCLG6 in whole ticks, one-minute bars, `played` of them in the session of
    2026-01-06.
    """
    rng = np.random.default_rng(seed)
    n = history + played
    steps = rng.integers(-3, 4, (n, 2))
    close = 6000 + np.cumsum(steps[:, 0])
    open_ = np.concatenate([[6000], close[:-1]]) + steps[:, 1]
    high = np.maximum(open_, close) + rng.integers(0, 5, n)
    low = np.minimum(open_, close) - rng.integers(0, 5, n)
    return from_ticks(open_, high, low, close, first=history)


def from_ticks(
    open_: Any, high: Any, low: Any, close: Any, first: int, opens_ns: int = SESSION_OPEN_NS
) -> Tape:
    """A tape from prices in ticks; row `first` opens at `opens_ns`, usually 18:00 New York."""
    ticks = {"open": open_, "high": high, "low": low, "close": close}
    prices: dict[str, Any] = {
        name: np.round(np.asarray(values) * 0.01, 10) for name, values in ticks.items()
    }
    start = opens_ns + MINUTE_NS * np.arange(-first, len(prices["open"]) - first)
    volume = np.full(len(start), 5, np.int64)
    return Tape(
        calendar.contract("MCL", 2026, 2),
        MCL,
        "1m",
        start,
        **prices,
        volume=volume,
        first=first,
        synthetic=True,
    )


class RawClient:
    """Speaks frames and nothing more, so that what the server says is seen message by message."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int
    ) -> None:
        self.reader, self.writer, self.version = reader, writer, version

    @classmethod
    async def connect(cls, port: int, client_id: int = 1, highest: int = 178) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        versions = f"v157..{highest}".encode()
        writer.write(b"API\0" + struct.pack(">I", len(versions)) + versions)
        client = cls(reader, writer, 0)
        try:
            client.version = int((await client.read())[0])
        except asyncio.IncompleteReadError:
            await client.close()
            raise
        client.send("71", "2", str(client_id), "")
        return client

    def send(self, *fields: str) -> None:
        self.writer.write(framing.frame(fields))

    async def read(self) -> list[str]:
        size = struct.unpack(">I", await asyncio.wait_for(self.reader.readexactly(4), 5))[0]
        return framing.fields(await self.reader.readexactly(size))

    async def until(self, *ids: int) -> list[list[str]]:
        """All messages up to and including the first one with one of these ids."""
        seen: list[list[str]] = []
        while not seen or int(seen[-1][0]) not in ids:
            seen.append(await self.read())
        return seen

    async def quiet(self) -> list[list[str]]:
        """Everything that was sent until now: up to the answer to a question for the accounts."""
        self.send("17", "1")
        return (await self.until(15))[:-1]

    def decode(self, fields: list[str]) -> Values:
        return BY_ID[int(fields[0])].decode(self.version, fields)

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the server may have reset it
            await self.writer.wait_closed()


async def qualified(ib: ib_async.IB, *futures: ib_async.Contract) -> list[ib_async.Contract]:
    """The listed contracts, each of which the simulator knows once."""
    answers = await ib.qualifyContractsAsync(*futures)
    contracts = [answer for answer in answers if isinstance(answer, ib_async.Contract)]
    assert len(contracts) == len(futures)
    return contracts


def contract_of(details: ib_async.ContractDetails) -> ib_async.Contract:
    assert details.contract is not None
    return details.contract


def moment(bar: ib_async.BarData) -> datetime:
    """When a bar of less than a day opens."""
    assert isinstance(bar.date, datetime)
    return bar.date


def order_request(version: int = 178, /, **values: str) -> list[str]:
    """A placeOrder for MCLG6, one contract, held by DU0000001; texts as they stand on the wire."""
    contract = {
        "symbol": "MCL",
        "sec_type": "FUT",
        "last_trade_date": "20260116",
        "exchange": "NYMEX",
        "currency": "USD",
    }
    order = {
        "action": "BUY",
        "quantity": "1",
        "order_type": "MKT",
        "tif": "DAY",
        "account": "DU0000001",
        "transmit": "1",
        "outside_rth": "1",
    }
    blank = {part.name: "" for part in REQUESTS[3].parts if isinstance(part, Field)}
    return REQUESTS[3].encode(version, blank | contract | order | values)


async def eventually(holds: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "what was awaited did not happen"
        await asyncio.sleep(0.002)
