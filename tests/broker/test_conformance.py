"""The server against recorded traffic, random framing, and a second set of books."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import ib_async
import pytest

from mcl.simulators.tws import SimulatedTWS, framing
from mcl.simulators.tws.messages import Field
from mcl.simulators.tws.request_messages import REQUESTS

from .random_orders import trade
from .test_tws_orders import FLAT_TAPE, market, shape, steps
from .tws_harness import BY_ID, order_request, run


def recorded(folder: Path, direction: str) -> list[tuple[int, list[str]]]:
    rows = [
        line.split("\t")
        for line in (folder / "ib_recorded_part.txt").read_text().splitlines()
        if line and line[0] != "#"
    ]
    return [
        (int(row[3]), json.loads(row[6]))
        for row in rows
        if row[2] == direction and row[3].isdigit()
    ]


def test_every_recorded_request_is_understood_and_written_again(shared_data: Path) -> None:
    """Requests of ib_insync and of the official client (which adds an empty field at the end of
    some).
    """
    seen = [
        (version, fields) for version, fields in recorded(shared_data, "C") if fields[0].isdigit()
    ]
    assert len(seen) > 10
    for version, fields in seen:
        message = REQUESTS[int(fields[0])]
        again = message.encode(version, message.decode(version, fields))
        same = [
            a == b or (a, b) == ("0", "") or _number(a) == _number(b)
            for a, b in zip(again, fields, strict=False)
        ]
        assert all(same), (
            message.name,
            [
                pair
                for pair, ok in zip(zip(again, fields, strict=False), same, strict=True)
                if not ok
            ],
        )
        assert len(fields) - len(again) in {0, 1}


def _number(text: str) -> float | str | None:
    try:
        value = float(text)
    except ValueError:
        return text or None
    return None if value >= 1.7e308 or value == 2147483647 else value


def test_every_recorded_answer_follows_its_table(shared_data: Path) -> None:
    """The tables read all that a real server said, and write it again field by field."""
    kinds = set()
    for version, fields in recorded(shared_data, "S"):
        if not fields[0].isdigit() or (len(fields) == 2 and not fields[1].isdigit()):
            continue
        message = BY_ID[int(fields[0])]
        kinds.add(message.id)
        values = message.decode(version, fields)
        assert len(message.encode(version, values)) == len(fields), message.name
        if message.id in {3, 4, 6, 7, 9, 15, 53, 54, 59, 62, 63, 64, 73, 74, 102}:
            again = message.encode(version, values)
            assert [shape(a) for a in again] == [shape(b) for b in fields] or [
                _number(a) for a in again
            ] == [_number(b) for b in fields]
    assert kinds >= {5, 6, 9, 15, 53, 62, 73, 74, 102}


def test_the_clients_own_decoder_reads_what_the_tables_write() -> None:
    """Each answer with plausible values goes through the decoder of ib_async at each version; the
    gate of this folder watches its log.
    """

    kinds = {"tickGeneric": 49, "tickString": 45, "tickSize": 8}

    async def main() -> None:
        for version in (176, 178):
            wrapper = ib_async.IB().wrapper
            decoder = ib_async.decoder.Decoder(wrapper, version)
            wrapper.startTicker(1, ib_async.Future("MCL", "202602", "NYMEX", conId=1), "mktDepth")
            for message in BY_ID.values():
                if any(not isinstance(part, Field) for part in message.parts) or message.name in {
                    "completedOrder",
                    "openOrder",
                }:
                    continue
                values: dict[str, Any] = {
                    part.name: _plausible(part)
                    for part in message.parts
                    if isinstance(part, Field) and part.default is None
                }
                if message.name in {"contractDetails", "symbolSamples"}:
                    wrapper._results[1] = []
                    wrapper.startReq(1)
                values |= {"tick_type": kinds[message.name]} if message.name in kinds else {}
                decoder.interpret(message.encode(version, values))

    run(main())


def _plausible(part: Field) -> Any:
    special = {
        "tick_type": 1,
        "time": "20260105 18:00:00 US/Eastern",
        "accounts": "DU1",
        "side": "BOT",
        "size": 1,
        "last_trade_date": "20260116",
        "status": "Submitted",
    }
    if part.name in special and (part.name not in {"time", "side"} or part.kind == "s"):
        return special[part.name]
    return "1" if part.kind == "s" else 1


@pytest.mark.parametrize("seed", range(12))
def test_bytes_may_come_in_any_pieces(seed: int) -> None:
    """Requests glued and cut at random places are answered as if each came alone."""
    luck = random.Random(seed)

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            stream = b"".join(
                framing.frame(order_request(order_id=str(n), action="BUY" if n % 2 else "SELL"))
                for n in range(1, 9)
            )
            while stream:
                size = luck.choice([1, 2, 3, 5, 50, 400, 2000])
                client.writer.write(stream[:size])
                stream = stream[size:]
                if luck.random() < 0.3:
                    await asyncio.sleep(0)
            said = steps(client, await client.quiet())
            assert (said.count("11"), said.count("59"), said.count("3 Filled")) == (8, 8, 16)
            assert tws.positions == {}

    run(main())


@pytest.mark.parametrize("seed", range(40))
def test_nonsense_ends_the_connection_and_nothing_else(seed: int) -> None:
    """Random bytes after the handshake: that client is cut off or ignored, the server and its other
    clients live on.
    """
    luck = random.Random(seed)

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", tws.port)
            del reader
            writer.write(
                b"API\0" + framing.pack(b"v157..178") + framing.frame(["71", "2", "9", ""])
            )
            for _ in range(20):
                fields = [
                    luck.choice(["3", "1", "9", "20", "7", "", "x", "-1", "99999", "1e400", "nan"])
                    for _ in range(luck.randint(0, 130))
                ]
                writer.write(framing.frame(fields) if luck.random() < 0.9 else luck.randbytes(30))
            await asyncio.sleep(0.01)
            client.send(*order_request(order_id="1"))
            assert steps(client, await client.quiet())[-1] == "59"
            writer.close()

    run(main())


@pytest.mark.parametrize("block", range(10))
def test_random_orders_agree_with_a_second_set_of_books(block: int) -> None:
    assert sum(trade(100_000 + 30 * block + n, steps=40) for n in range(30)) > 100
