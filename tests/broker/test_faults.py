"""Every entry of the list of faults F1 to F28 can be made, does what it says, and says so; mostly
seen by a bare client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ib_async
import pytest

from mcl.base.errors import BrokerError
from mcl.simulators.tws import SimulatedTWS
from mcl.simulators.tws.control import Control, ask
from mcl.simulators.tws.fault_catalog import CATALOG
from mcl.simulators.tws.matching import Range

from .test_tws_orders import FLAT_TAPE, KEEP_UP, by_id, market, steps
from .test_tws_start import connected, gone
from .tws_harness import RawClient, eventually, order_request, qualified, run

FILL = ["11", "5 Filled", "3 Filled", "5 Filled", "3 Filled", "59"]
BORN = ["5 PreSubmitted", "3 PreSubmitted"]
LIVED = [*BORN, *FILL]


@asynccontextmanager
async def pair(**settings: Any) -> AsyncIterator[tuple[SimulatedTWS, RawClient]]:
    async with SimulatedTWS(FLAT_TAPE, **settings) as tws, market(tws) as client:
        yield tws, client


async def to_the_end(client: RawClient) -> tuple[list[list[str]], Exception]:
    """Everything until the connection ends, and how it ended."""
    seen = []
    while True:
        try:
            seen.append(await client.read())
        except (asyncio.IncompleteReadError, ConnectionError) as end:
            return seen, end


async def life(client: RawClient, order_id: int = 1, **values: str) -> list[str]:
    client.send(*order_request(order_id=str(order_id), **values))
    return steps(client, await client.quiet())


def scene(script: Any, **settings: Any) -> None:
    async def main() -> None:
        async with pair(**settings) as (tws, client):
            await script(tws, client)

    run(main())


def test_every_code_of_the_list_has_an_entry() -> None:
    made = {code for entry in CATALOG.values() for code in entry.codes.split()}
    assert made == {f"F{n}" for n in range(1, 29)}
    assert all(entry.summary.endswith(".") for entry in CATALOG.values())


# --------------------------------------------------------------------------- connections: F1 to F13


async def open_again(port: int, client_id: int = 1) -> RawClient:
    """A connection as soon as something listens."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        try:
            return await RawClient.connect(port, client_id)
        except ConnectionRefusedError:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)


def test_f1_nothing_listens_for_a_while() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("refuse", sec=1.0)
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(tws.port, 2)
        assert (await life(client)) == LIVED  # who is there stays
        await (await open_again(tws.port, 2)).close()

    scene(script)


def test_f2_f3_a_handshake_that_is_late_or_strange() -> None:
    async def script(tws: SimulatedTWS, _: RawClient) -> None:
        tws.fault("mute", sec=0.1)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await (await RawClient.connect(tws.port, 2)).close()
        assert loop.time() - start >= 0.1
        tws.fault("mute")
        ib = ib_async.IB()
        with pytest.raises(TimeoutError):
            await ib.connectAsync("127.0.0.1", tws.port, 3, timeout=0.2)
        tws.greeting.delay_sec = 0.0
        tws.fault("version", number=150)
        with pytest.raises((TimeoutError, ConnectionError)):
            await ib.connectAsync("127.0.0.1", tws.port, 3, timeout=0.2)
        ib.disconnect()

    scene(script)


@pytest.mark.parametrize("names", ["", "U1234567", "DU1,DU2"])
def test_f4_other_accounts(names: str) -> None:
    async def script(tws: SimulatedTWS, _: RawClient) -> None:
        tws.fault("accounts", names=names)
        other = await RawClient.connect(tws.port, 2)
        assert (await other.until(15))[-1] == ["15", "1", names]
        await other.close()

    scene(script)


def test_f5_the_client_id_is_taken_once() -> None:
    async def script(tws: SimulatedTWS, _: RawClient) -> None:
        tws.fault("taken")
        other = await RawClient.connect(tws.port, 2)
        assert (await other.until(4))[-1][3] == "326"
        again = await RawClient.connect(tws.port, 2)
        await again.until(9)
        for one in (other, again):
            await one.close()

    scene(script)


@pytest.mark.parametrize(
    "name",
    [
        "positionEnd",
        "openOrderEnd",
        "completedOrdersEnd",
        "accountDownloadEnd",
        "accountUpdateMultiEnd",
        "execDetailsEnd",
    ],
)
def test_f6_a_missing_end_fails_the_start_visibly(name: str) -> None:
    async def script(tws: SimulatedTWS, _: RawClient) -> None:
        tws.fault("drop", on=f"send {name}")
        ib = ib_async.IB()
        with pytest.raises(ConnectionError):
            await ib.connectAsync("127.0.0.1", tws.port, 3, timeout=0.2, raiseSyncErrors=True)
        ib.disconnect()

    scene(script)


def test_f7_read_only() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        for request in ("reqOpenOrders", "reqCompletedOrders", "placeOrder"):
            tws.fault(
                "answer",
                on=f"receive {request}",
                times=0,
                code=321,
                on_id=-1,
                text="The API interface is currently in Read-Only mode.",
            )
        client.send("5", "1")
        client.send("99", "0")
        assert await life(client) == ["4 321"] * 3
        assert not tws.book.orders

    scene(script)


@pytest.mark.parametrize("how", ["fin", "rst", "mid_frame"])
def test_f8_the_connection_ends(how: str) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("cut", on="send openOrder", how=how)
        client.send(*order_request(order_id="1"))
        _, end = await to_the_end(client)
        if how == "mid_frame":
            assert isinstance(end, asyncio.IncompleteReadError)
            assert end.partial
        assert tws.positions == {"MCLG6": 1}  # the order lives on without its client

    scene(script)


def test_f8_half_open_and_single_bytes() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("chop")
        assert await life(client) == LIVED
        tws.fault("disconnect", how="half_open")
        client.send(*order_request(order_id="2"))
        client.send("49", "1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.read(), 0.1)
        assert len(tws.book.orders) == 1

    scene(script)


@pytest.mark.parametrize(
    ("on", "when", "orders", "fills"),
    [
        ("receive placeOrder", "before", 0, 0),
        ("receive placeOrder", "after", 1, 1),
        ("send openOrder", "before", 1, 1),
        ("send execDetails", "before", 1, 1),
        ("send commissionReport", "before", 1, 1),
    ],
)
def test_f9_the_connection_ends_at_the_worst_moment_and_the_truth_is_found_again(
    on: str, when: str, orders: int, fills: int
) -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws:
            ib = await connected(tws)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            bars = await ib.reqHistoricalDataAsync(
                contract, "", "600 S", "1 min", "TRADES", False, 2, True
            )
            await eventually(lambda: len(bars) == 11)
            tws.fault("cut", on=on, when=when)
            ib.placeOrder(
                contract,
                ib_async.MarketOrder("BUY", 1, tif="DAY", account="DU0000001", orderRef="only"),
            )
            await eventually(lambda: not ib.isConnected())
            await asyncio.sleep(0.01)
            again = await connected(tws)
            assert [p.position for p in again.positions()] == [1] * fills
            assert [f.execution.orderRef for f in again.fills()] == ["only"] * fills
            assert len(again.trades()) == orders
            await gone(again)

    run(main())


@pytest.mark.parametrize("back", [1102, 1101])
def test_f10_the_broker_is_lost_and_comes_back(back: int) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("connectivity", back=back, sec=0.1)
        client.send(*order_request(order_id="1"))
        first = await client.quiet()
        assert [m[3] for m in first] == ["1100"]
        assert not tws.book.orders
        await asyncio.sleep(0.15)
        said = steps(client, await client.quiet())
        assert (said[0], said[1:]) == (f"4 {back}", LIVED)
        [session] = tws.sessions
        assert not session.subscribed.bars  # they stay dead, as users report

    scene(script)


def test_f10_the_broker_is_lost_for_good() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("connectivity", back=0, sec=0.05)
        seen, _ = await to_the_end(client)
        assert [m[3] for m in seen] == ["1100"]

    scene(script)


def test_f11_farms_break_and_heal_one_by_one() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        for code in (2103, 2105, 2157, 2107, 2108, 2110, 2119):
            tws.fault("farm", code=code)
        client.send("9", "8", "-10", "0", "MCL", "FUT", *KEEP_UP, "0", "", "", "")
        seen = await client.quiet()
        assert [m[3] for m in by_id(seen, 4)] == [
            "2103",
            "2105",
            "2157",
            "2107",
            "2108",
            "2110",
            "2119",
        ]
        assert not by_id(seen, 10)
        tws.fault("farm", code=2158)
        client.send("9", "8", "-10", "0", "MCL", "FUT", *KEEP_UP, "0", "", "", "")
        assert by_id(await client.until(52), 10)

    scene(script)


@pytest.mark.parametrize(("ids", "expected"), [("keep", 2), ("lower", 1), ("higher", 1002)])
def test_f12_f13_the_daily_reset(ids: str, expected: int) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        await life(client)
        tws.fault("restart", sec=1.0, ids=ids, forget=ids == "lower")
        with pytest.raises(asyncio.IncompleteReadError):
            await client.read()
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(tws.port)
        again = await open_again(tws.port)
        assert (await again.until(9))[-1] == ["9", "1", str(expected)]
        again.send("7", "3", "5", "0", *[""] * 6)
        assert len(by_id(await again.until(55), 11)) == (0 if ids == "lower" else 1)
        await again.close()

    scene(script)


# ------------------------------------------------------------------------------- orders: F14 to F21


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["4 201"]),
        ({"first": "Inactive"}, ["5 Inactive", "3 Inactive", "4 201"]),
        ({"first": "PreSubmitted"}, [*BORN, "4 201"]),
        ({"code": 110}, ["4 110"]),
    ],
)
def test_f14_rejections(options: dict[str, Any], expected: list[str]) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("reject", on="receive placeOrder", **options)
        assert await life(client) == expected
        assert await life(client, 2) == LIVED
        assert tws.positions == {"MCLG6": 1}

    scene(script)


def test_f14_a_change_that_is_refused_leaves_the_order_as_it_was() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        resting: dict[str, Any] = {"order_type": "LMT", "tif": "GTC"}
        assert await life(client, limit_price="50.0", **resting) == ["5 Submitted", "3 Submitted"]
        tws.fault("reject", on="receive placeOrder", first="PreSubmitted")
        assert await life(client, limit_price="51.0", **resting) == ["4 201"]
        assert [order.limit for order in tws.book.working()] == [50.0]
        client.send("4", "1", "1", "")
        assert steps(client, await client.quiet()) == ["3 Cancelled", "4 202"]
        assert tws.book.working() == []

    scene(script)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("", ["4 201", "4 201"]),
        ("Inactive", ["5 Inactive", "3 Inactive", *BORN, "4 201", "3 Cancelled", "4 202"]),
        ("PreSubmitted", [*BORN, *BORN, "4 201", "3 Cancelled", "4 202"]),
    ],
)
def test_f14_a_parent_that_is_refused_takes_its_children_along(
    first: str, expected: list[str]
) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("reject", on="receive placeOrder", first=first)
        assert await life(client, transmit="0") == []
        assert (
            await life(client, 2, parent_id="1", action="SELL", order_type="STP", aux_price="59.0")
            == expected
        )
        assert (tws.book.working(), tws.positions) == ([], {})
        assert await life(
            client, 3, parent_id="1", action="SELL", order_type="STP", aux_price="59.0"
        ) == ["4 201"]

    scene(script)


@pytest.mark.parametrize("code", [10349, 104, 161, 10148, 399, 2109])
def test_f15_f16_codes_on_orders_that_live(code: int) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault(
            "say",
            on="receive placeOrder",
            code=code,
            text="Order TIF was set to DAY based on order preset.",
        )
        assert await life(client, order_type="LMT", limit_price="50.0") == [
            "5 Submitted",
            "3 Submitted",
            f"4 {code}",
        ]
        assert len(tws.book.working()) == 1

    scene(script)


def test_f17_what_can_become_of_a_cancel() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        async def rest_and_cancel(order_id: int, quantity: int = 1) -> list[str]:
            rest = {"order_type": "LMT", "limit_price": "59.0", "quantity": str(quantity)}
            client.send(*order_request(order_id=str(order_id), **rest))
            client.send("4", "1", str(order_id), "")
            return steps(client, await client.quiet())[2:]

        ended = ["3 Cancelled", "4 202"]
        assert await rest_and_cancel(1) == ended
        tws.fault("drop", on="receive cancelOrder")
        assert await rest_and_cancel(2) == []
        tws.fault("answer", on="receive cancelOrder", code=10147)
        assert await rest_and_cancel(3) == ["4 10147"]
        tws.fault("race", on="receive cancelOrder")
        assert await rest_and_cancel(4) == [*FILL, "4 10148"]
        tws.fault("race", on="receive cancelOrder", quantity=1)
        assert await rest_and_cancel(5, 3) == ["11", "5 Submitted", "3 Submitted", "59", *ended]
        tws.fault("race", on="receive cancelOrder", when="after", price=58.5)
        assert await rest_and_cancel(6) == [*ended, *FILL]
        assert tws.positions == {"MCLG6": 3}

    scene(script)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([("drop", {"on": "send openOrder"}), ("drop", {"on": "send orderStatus"})], FILL),
        (
            [("hold", {"on": "send execDetails", "until": "orderStatus", "nth": 1})],
            [*BORN, "5 Filled", "3 Filled", "11", *FILL[3:]],
        ),
        ([("repeat", {"on": "send execDetails"})], [*BORN, "11", *FILL]),
        (
            [("drop", {"on": "send orderStatus", "times": 0})],
            ["5 PreSubmitted", "11", "5 Filled", "5 Filled", "59"],
        ),
        ([("drop", {"on": "send commissionReport"})], LIVED[:-1]),
        ([("drop", {"on": "send execDetails"})], [*BORN, *FILL[1:]]),
    ],
)
def test_f18_fills_that_are_told_badly(
    faults: list[tuple[str, dict[str, Any]]], expected: list[str]
) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        for name, options in faults:
            tws.fault(name, **options)
        assert await life(client) == expected
        assert tws.positions == {"MCLG6": 1}

    scene(script)


def test_f18_a_late_commission_a_correction_and_a_bust() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("delay", on="send commissionReport", sec=0.05)
        client.send("61", "1")
        assert await life(client) == LIVED[:-1]
        assert int((await client.read())[0]) == 59
        before = tws.account.equity
        tws.fault("correct", price=60.51)
        seen = await client.quiet()
        assert [client.decode(m)["execution_id"] for m in seen if m[0] in {"11", "59"}] == [
            "0000e9b5.00000001.01.02"
        ] * 2
        assert client.decode(by_id(seen, 61)[-1])["average_cost"] == pytest.approx(6051.77)
        tws.account.holding(tws.played).mark = 60.01
        assert tws.account.equity == pytest.approx(before - 50)
        tws.fault("bust")
        assert client.decode(by_id(await client.quiet(), 61)[-1])["position"] == 0
        assert tws.account.equity == pytest.approx(25_000)
        assert len(tws.executions) == 0

    scene(script)


def test_f19_a_fill_that_is_told_only_to_who_asks() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        for name in ("openOrder", "orderStatus", "execDetails", "commissionReport", "position"):
            tws.fault("drop", on=f"send {name}", times=0)
        assert await life(client) == []
        tws.faults.clear()
        client.send("7", "3", "5", "0", *[""] * 6)
        assert len(by_id(await client.until(55), 11)) == 1

    scene(script)


def test_f20_others_trade_in_the_account() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        client.send("61", "1")
        await client.quiet()
        tws.fault("foreign", action="SELL", quantity=2)
        tws.fault("foreign", kind="LMT", price=50.0, client_id=9)
        tws.fault("transfer", quantity=5)
        assert [client.decode(m)["position"] for m in by_id(await client.quiet(), 61)] == [-2, 3]
        client.send("16", "1")
        [foreign] = by_id(await client.until(53), 5)
        assert (client.decode(foreign)["client_id"], client.decode(foreign)["order_id"]) == (9, 1)
        client.send("4", "1", "1", "")
        assert steps(client, await client.quiet()) == ["4 10147"]

    scene(script)


def test_f21_brackets_that_do_not_protect() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("reject", on="receive placeOrder", where={"parent_id": 1})
        client.send(*order_request(order_id="1"))
        child = {"action": "SELL", "oca_group": "g"}
        assert await life(
            client, 2, parent_id="1", order_type="STP", aux_price="59.0", **child
        ) == [*LIVED, "4 201"]
        tws.fault("reject", on="receive placeOrder", first="Inactive", where={"parent_id": 5})
        assert await life(client, 5, action="SELL", transmit="0") == []
        # the last leg: the others live on without it
        told = await life(client, 6, parent_id="5", order_type="STP", aux_price="61.0")
        assert told == [*BORN, "5 Inactive", "3 Inactive", "4 201", *FILL]
        tws.fault("no_oca")
        client.send(*order_request(order_id="3", order_type="LMT", limit_price="59.0", **child))
        assert (await life(client, 4, order_type="LMT", limit_price="61.0", **child))[
            -1
        ] == "3 Submitted"
        tws.book.exchange.traded(tws.played, Range(60.0, 62.0, 58.0, 60.0))
        assert tws.positions == {"MCLG6": -2}

    scene(script)


# --------------------------------------------------------------------------------- data: F22 to F24


def quote_request(req_id: int = 7) -> list[str]:
    return ["1", "11", str(req_id), "0", "MCL", "FUT", *KEEP_UP, "0", "", "0", "0", ""]


def test_f22_permissions_and_prices() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("delayed")
        client.send(*quote_request())
        assert steps(client, await client.quiet()) == ["4 354"]
        client.send("59", "1", "3")
        client.send(*quote_request())
        seen = await client.quiet()
        assert steps(client, seen) == ["4 10167"]
        assert by_id(seen, 58)[0][3] == "3"
        assert {m[3] for m in by_id(seen, 1)} == {"66", "67", "68", "72", "73", "75", "76"}
        tws.permitted = True
        tws.fault("shift", on="send tickPrice", where={"tick_type": 1}, of="price", factor=1.2)
        tws.fault(
            "change", on="send tickPrice", where={"tick_type": 2}, values={"price": "-1", "size": 0}
        )
        client.send(*quote_request(8))
        ticks = {m[3]: m[4:6] for m in by_id(await client.quiet(), 1)}
        assert (ticks["1"][0], ticks["2"]) == ("71.988", ["-1", "0"])
        tws.fault(
            "answer",
            on="receive reqMktData",
            code=10197,
            text="No market data during competing live session",
        )
        client.send(*quote_request(9))
        assert steps(client, await client.quiet()) == ["4 10197"]

    scene(script)


def test_f22_bars_that_stop_repeat_and_come_in_disorder() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        async def next_bar() -> list[list[str]]:
            client.send("49", "1")
            return by_id(await client.until(49), 90) + by_id(await client.quiet(), 90)

        tws.fault("repeat", on="send historicalDataUpdate", copies=3)
        assert len(await next_bar()) == 4
        tws.fault("freeze", names="historicalDataUpdate")
        assert await next_bar() == []
        tws.fault("freeze", names="none")
        tws.fault("halt")
        assert await life(client) == BORN
        tws.fault("halt", trading=True)

    scene(script)


def test_f23_history() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        ask_ = [
            "20",
            "5",
            "0",
            "MCL",
            "FUT",
            *KEEP_UP,
            "0",
            "",
            "1 min",
            "300 S",
            "0",
            "TRADES",
            "2",
            "0",
            "",
        ]
        pacing = (
            "Historical Market Data Service error message:Historical data request pacing violation"
        )
        tws.fault("answer", on="receive reqHistoricalData", code=162, text=pacing)
        client.send(*ask_)
        assert (await client.quiet())[0][3:5] == ["162", pacing]
        tws.fault("change", on="send historicalData", values={"bars": []})
        client.send(*ask_)
        assert (await client.quiet())[0][-1] == "0"
        tws.fault("delay", on="send historicalData", sec=0.05)
        client.send(*ask_)
        assert await client.quiet() == []
        assert (await client.read())[0] == "17"
        client.send("25", "1", "99")
        assert steps(client, await client.quiet()) == ["4 366"]

    scene(script)


def test_f24_contracts() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        ask_ = ["9", "8", "-10", "0", "MCL", "FUT", *KEEP_UP, "0", "", "", ""]
        tws.fault("repeat", on="send contractDetails")
        changed = {
            "min_tick": "0.05",
            "con_id": 1,
            "last_trade_date": "20260120 20:30:00 Europe/Zurich",
            "real_expiration": "20260119",
        }
        tws.fault("change", on="send contractDetails", values=changed)
        client.send(*ask_)
        found = by_id(await client.until(52), 10)
        assert len(found) == 2
        assert client.decode(found[0])["min_tick"] == "0.05"
        tws.fault("answer", on="receive reqContractDetails", code=200)
        client.send(*ask_)
        assert steps(client, await client.quiet()) == ["4 200"]

    scene(script)


# ----------------------------------------------------------------------------- the rest: F25 to F28


def test_f25_clocks() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        now = tws.book.now // 10**9
        tws.fault("shift", on="send currentTime", of="time", by=3600)
        client.send("49", "1")
        assert (await client.until(49))[-1][2] == str(now + 3600)
        tws.fault("change", on="send execDetails", values={"time": "20260105  18:00:00"})
        client.send(*order_request(order_id="1"))
        assert client.decode(by_id(await client.quiet(), 11)[0])["time"] == "20260105  18:00:00"

    scene(script)


@pytest.mark.parametrize("how", ["unknown_id", "surplus", "missing", "empty", "bytes", "megabyte"])
def test_f26_a_broken_protocol(how: str) -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        client.send("17", "1")
        whole = (await client.until(15))[-1]
        tws.fault("damage", on="send managedAccounts", how=how)
        client.send("17", "1")
        broken = await client.read()
        assert (
            broken
            == {
                "unknown_id": ["9999", *whole[1:]],
                "surplus": [*whole, "surplus"],
                "missing": whole[:-1],
                "empty": [*whole[:-1], ""],
                "bytes": whole,
                "megabyte": [*whole, "x" * 1_000_000],
            }[how]
        )
        if how == "bytes":
            assert (await client.read())[4] == "\\xff\\xfe"

    scene(script)


def test_f27_too_fast_and_too_slow() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("deaf", sec=0.1)
        client.send("17", "1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.read(), 0.05)
        await client.until(15)
        tws.fault("throttle", per_sec=20)
        for _ in range(100):
            client.send("17", "1")
        seen, _ = await to_the_end(client)
        assert [m[3] for m in by_id(seen, 4)] == ["100"] * 3

    scene(script)


def test_f28_the_account() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("change", on="send pnl", values={"daily": None, "unrealized": None})
        client.send("92", "5", "DU0000001", "")
        assert by_id(await client.quiet(), 94)[0][2:4] == ["1.7976931348623157E308"] * 2
        client.send("6", "2", "1", "DU0000001")
        await client.until(54)
        tws.fault(
            "change",
            on="send updateAccountValue",
            where={"key": "NetLiquidation"},
            values={"currency": "EUR"},
        )
        tws.fault("funds", cash_usd=0.0)
        told = {m[2]: m[3:5] for m in by_id(await client.quiet(), 6)}
        assert told["TotalCashValue"][0] == "0.00"
        assert told["NetLiquidation"] == ["0.00", "EUR"]

    scene(script)


# -------------------------------------------------------------------------------- the script itself


def test_faults_strike_at_a_market_time_after_a_time_and_by_chance() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        tws.fault("farm", code=2103, at_sec=120)
        client.send("49", "1")
        assert not by_id(await client.until(90), 4)
        for _ in range(2):
            client.send("49", "1")
        await client.quiet()
        client.send("49", "1")
        await asyncio.sleep(0.2)
        assert "2103" in {m[3] for m in by_id(await client.quiet(), 4)}
        tws.fault("farm", code=2104, after_sec=0.05)
        await asyncio.sleep(0.1)
        assert [m[3] for m in by_id(await client.quiet(), 4)] == ["2104"]

    scene(script)

    async def draws(seed: int) -> list[str]:
        async with pair(seed=seed) as (tws, client):
            tws.fault("drop", on="send orderStatus", times=0, chance=0.5)
            return [step for n in range(1, 6) for step in await life(client, n)]

    first, again, other = (run(draws(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert 0 < first.count("3 Filled") < 10


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("connectivty", {}, "connectivity"),
        ("drop", {"on": "send execDetail"}, "execDetails"),
        ("drop", {}, "needs on='send"),
        ("cut", {"on": "send execDetails", "hwo": "rst"}, "'hwo'.*how"),
        ("answer", {"on": "receive placeOrder"}, "code"),
        ("drop", {"on": "around noon"}, "neither send nor receive"),
        ("disconnect", {"how": "softly"}, "fin"),
    ],
)
def test_a_fault_that_is_not_on_the_menu_is_a_sentence(
    name: str, options: dict[str, Any], text: str
) -> None:
    async def script(tws: SimulatedTWS, _: RawClient) -> None:
        with pytest.raises(BrokerError, match=text):
            tws.fault(name, **options)

    scene(script)


def test_the_control_socket_does_what_python_can() -> None:
    async def script(tws: SimulatedTWS, client: RawClient) -> None:
        async with Control(tws) as control:
            status = await asyncio.to_thread(ask, control.port, {"do": "status"})
            assert (status["port"], status["clients"], status["synthetic"]) == (tws.port, [1], True)
            assert json.dumps(status)
            await asyncio.to_thread(
                ask, control.port, {"do": "fault", "name": "drop", "on": "send commissionReport"}
            )
            assert await life(client) == LIVED[:-1]
            menu = await asyncio.to_thread(ask, control.port, {"do": "menu"})
            assert set(menu["faults"]) == set(CATALOG)
            for wrong, text in (
                ({"do": "fault", "name": "cutt"}, "cut"),
                ({"do": "stauts"}, "status"),
                ({"do": "fault"}, "name"),
            ):
                with pytest.raises(BrokerError, match=text):
                    await asyncio.to_thread(ask, control.port, wrong)

    scene(script)
