"""Life cycles of orders, message by message, as recorded from a real TWS; shapes of the messages
against recorded ones.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ib_async
import pytest

from mcl.simulators.tws import SimulatedTWS, framing
from mcl.simulators.tws.messages import Field

from .test_tws_start import connected, gone
from .tws_harness import (
    BY_ID,
    RawClient,
    eventually,
    from_ticks,
    order_request,
    qualified,
    run,
    walk,
)

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
KEEP_UP = ("202602", "0.0", "", "", "NYMEX", "", "USD", "", "")
STATUS = {5: "status", 3: "status", 4: "code"}


@asynccontextmanager
async def market(tws: SimulatedTWS, version: int = 178) -> AsyncIterator[RawClient]:
    """A client that has seen the first bar open (in lock-step nothing moves until it asks for the
    time).
    """
    client = await RawClient.connect(tws.port, highest=version)
    client.send(
        "20",
        "900",
        "0",
        "MCL",
        "FUT",
        *KEEP_UP,
        "0",
        "",
        "1 min",
        "600 S",
        "0",
        "TRADES",
        "2",
        "1",
        "",
    )
    await client.until(90)
    try:
        yield client
    finally:
        await client.close()


def steps(client: RawClient, messages: Sequence[list[str]]) -> list[str]:
    """`5 Submitted`, `3 Filled`, `11`, `4 202` …; positions, account and bars left out."""
    told = []
    for fields in messages:
        kind = int(fields[0])
        if kind in {3, 4, 5, 11, 59, 101}:
            told.append(
                f"{kind} {client.decode(fields)[STATUS[kind]]}" if kind in STATUS else str(kind)
            )
    return told


def by_id(messages: Sequence[list[str]], kind: int) -> list[list[str]]:
    return [fields for fields in messages if int(fields[0]) == kind]


FLAT_TAPE = from_ticks([6000] * 40, [6001] * 40, [5999] * 40, [6000] * 40, first=20)


def test_a_market_order_lives_as_recorded() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            client.send(*order_request(order_id="7", order_ref="abc"))
            seen = await client.quiet()
            fill = ["11", "5 Filled", "3 Filled", "5 Filled", "3 Filled", "59"]
            assert steps(client, seen) == ["5 PreSubmitted", "3 PreSubmitted", *fill]
            [execution] = by_id(seen, 11)
            told = client.decode(execution)
            assert (
                told["order_id"],
                told["side"],
                told["shares"],
                told["price"],
                told["req_id"],
            ) == (7, "BOT", 1, "60.01", -1)
            assert (
                told["order_ref"],
                told["cumulative"],
                told["last_liquidity"],
                len(execution),
            ) == ("abc", 1, 2, 32)
            assert told["time"] == "20260105 18:00:00 US/Eastern"
            [report] = by_id(seen, 59)
            assert report[3:] == [
                "0.77",
                "USD",
                "1.7976931348623157E308",
                "1.7976931348623157E308",
                "",
            ]
            assert by_id(seen, 3)[-1] == by_id(seen, 3)[-2]
            assert [client.decode(m).get("commission") for m in by_id(seen, 5)] == ["", "", "0.77"]

    run(main())


def test_a_closing_fill_realises_the_difference_less_fees_of_both_sides() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            client.send("61", "1")
            client.send(*order_request(order_id="1"))
            client.send(*order_request(order_id="2", action="SELL"))
            seen = await client.quiet()
            assert client.decode(by_id(seen, 59)[-1])["realized"] == pytest.approx(
                -2 - 4 * 0.77 / 2
            )
            assert [client.decode(m)["position"] for m in by_id(seen, 61)] == [1, 0]
            assert client.decode(by_id(seen, 61)[0])["average_cost"] == pytest.approx(6001.77)
            assert tws.account.equity == pytest.approx(25_000 - 2 - 2 * 0.77)
            assert tws.positions == {}

    run(main())


def test_a_limit_order_rests_changes_and_is_cancelled() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            client.send(*order_request(order_id="3", order_type="LMT", limit_price="59.5"))
            first = await client.quiet()
            assert steps(client, first) == ["5 Submitted", "3 Submitted"]
            client.send(
                *order_request(order_id="3", order_type="LMT", limit_price="59.4", quantity="2")
            )
            second = await client.quiet()
            assert steps(client, second) == ["5 Submitted", "3 Submitted"]
            changed = client.decode(second[0])
            assert (changed["limit_price"], changed["quantity"]) == (59.4, 2)
            assert (
                changed["shares_allocation"]
                == f"{client.decode(first[0])['perm_id']}.1/DU0000001/100"
            )
            client.send("4", "1", "3", "")
            third = await client.quiet()
            assert steps(client, third) == ["3 Cancelled", "4 202"]
            assert third[1][4] == "Order Canceled - reason:"
            client.send("4", "1", "3", "")
            client.send("4", "1", "99", "")
            client.send(*order_request(order_id="3"))
            assert steps(client, await client.quiet()) == ["4 10148", "4 10147", "4 103"]

    run(main())


def test_a_marketable_limit_fills_no_worse_than_its_limit() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, slippage_ticks=3) as tws, market(tws) as client:
            client.send(*order_request(order_id="3", order_type="LMT", limit_price="60.01"))
            seen = await client.quiet()
            assert steps(client, seen)[:3] == ["5 PreSubmitted", "3 PreSubmitted", "11"]
            assert tws.executions[0].price == 60.01

    run(main())


REFUSED = {
    "no exchange": ({"exchange": ""}, 321),
    "not a future": ({"sec_type": "STK"}, 321),
    "unknown contract": ({"symbol": "XYZ"}, 200),
    "ambiguous contract": ({"last_trade_date": ""}, 200),
    "fraction": ({"quantity": "0.5"}, 10318),
    "nothing": ({"quantity": "0"}, 434),
    "off tick": ({"order_type": "LMT", "limit_price": "60.005"}, 110),
    "no price": ({"order_type": "STP"}, 463),
    "unknown type": ({"order_type": "REL"}, 387),
    "unknown time in force": ({"tif": "XXX"}, 10052),
    "foreign account": ({"account": "DU7654321"}, 321),
    "unknown parent": ({"parent_id": "77"}, 135),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_carry_the_order_id_and_leave_nothing(case: str) -> None:
    values, code = REFUSED[case]

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            client.send(*order_request(order_id="5", **values))
            [refusal] = await client.quiet()
            assert refusal[:4] == ["4", "2", "5", str(code)]
            assert not tws.book.orders

    run(main())


def test_a_bracket_is_silent_until_its_last_leg_and_then_lives_as_recorded() -> None:
    rows = 30
    low = [5999] * rows
    low[22] = 5990
    tape = from_ticks([6000] * rows, [6001] * rows, low, [6000] * rows, first=20)

    async def main() -> None:
        async with SimulatedTWS(tape) as tws, market(tws) as client:
            client.send(*order_request(order_id="10", transmit="0"))
            target = {
                "action": "SELL",
                "order_type": "LMT",
                "limit_price": "60.50",
                "parent_id": "10",
                "transmit": "0",
            }
            client.send(*order_request(order_id="11", **target))
            assert await client.quiet() == []
            stop = {
                "action": "SELL",
                "order_type": "STP",
                "aux_price": "59.95",
                "parent_id": "10",
                "tif": "GTC",
            }
            client.send(*order_request(order_id="12", **stop))
            seen = await client.quiet()
            sent = [client.decode(m) for m in by_id(seen, 5)[:3]]
            assert [o["order_id"] for o in sent] == [10, 11, 12]
            assert [o["perm_id"] - sent[0]["perm_id"] for o in sent] == [0, 1, 2]
            assert {(o["oca_group"], o["oca_type"], o["parent_id"]) for o in sent[1:]} == {
                (str(sent[0]["perm_id"]), 3, 10)
            }
            held = [
                (
                    client.decode(m)["order_id"],
                    client.decode(m)["status"],
                    client.decode(m)["why_held"],
                )
                for m in by_id(seen, 3)
            ]
            assert held[:3] == [
                (10, "PreSubmitted", ""),
                (11, "PreSubmitted", "child"),
                (12, "PreSubmitted", "child,trigger"),
            ]
            assert held[-2:] == [(11, "Submitted", ""), (12, "PreSubmitted", "trigger")]
            for _ in range(3):
                client.send("49", "1")
                last = await client.until(49)
                last += await client.until(90)
            last += await client.quiet()
            assert steps(client, last)[-8:] == [
                "11",
                "5 Filled",
                "3 Filled",
                "5 Filled",
                "3 Filled",
                "59",
                "3 Cancelled",
                "4 202",
            ]
            assert [(e.order.order_id, e.price) for e in tws.executions] == [
                (10, 60.01),
                (12, 59.94),
            ]

    run(main())


def test_cancelling_a_parent_cancels_its_children() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            client.send(
                *order_request(order_id="1", order_type="LMT", limit_price="59.0", transmit="0")
            )
            client.send(
                *order_request(
                    order_id="2", action="SELL", order_type="STP", aux_price="58.0", parent_id="1"
                )
            )
            await client.quiet()
            client.send("4", "1", "1", "")
            assert steps(client, await client.quiet()) == [
                "3 Cancelled",
                "4 202",
                "3 Cancelled",
                "4 202",
            ]

    run(main())


def test_the_end_of_the_session_cancels_day_orders_only() -> None:
    async def main() -> None:
        async with (
            SimulatedTWS(
                from_ticks([6000] * 21, [6001] * 21, [5999] * 21, [6000] * 21, first=20)
            ) as tws,
            market(tws) as client,
        ):
            client.send(*order_request(order_id="1", order_type="LMT", limit_price="50.0"))
            client.send(
                *order_request(order_id="2", order_type="LMT", limit_price="50.0", tif="GTC")
            )
            client.send("49", "1")
            await tws.finished.wait()
            seen = await client.quiet()
            assert steps(client, seen)[4:] == ["3 Cancelled", "4 202", "4 10182"]
            assert [order.order_id for order in tws.book.working()] == [2]
            client.send(*order_request(order_id="3"))
            assert steps(client, await client.quiet()) == ["4 201"]

    run(main())


def test_requests_may_arrive_byte_by_byte() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws, market(tws) as client:
            for byte in framing.frame(order_request(order_id="7")):
                client.writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert steps(client, await client.quiet())[-1] == "59"

    run(main())


# ------------------------------------------------------------------------------------------- shapes


def shape(field: str) -> str:
    """What a field looks like, whatever its value."""
    if field in {
        "",
        "?",
        "None",
        "0",
        "1",
        "-1",
        "0.0",
        "2147483647",
        "1.7976931348623157E308",
        "9223372036854775807",
    }:
        return field
    return re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "9", field))


SHAPES = {
    "open_order_lmt_176": {
        "order_id": "29",
        "order_type": "LMT",
        "limit_price": "59.16",
        "order_ref": "29",
    },
    "open_order_mkt_filled_176": {"order_id": "5", "order_ref": "5"},
}
# names of contracts, ids and references are free; a market order's price field and its echo one
# away from it are noise in TWS too
FREE = {
    "con_id",
    "symbol",
    "exchange",
    "currency",
    "local_symbol",
    "trading_class",
    "multiplier",
    "order_ref",
    "order_id",
    "account",
}
NOISE = {"limit_price", "trail_stop_price_2", "shares_allocation", "client_id"}


@pytest.mark.parametrize("name", SHAPES)
def test_open_orders_have_the_recorded_shape(name: str) -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, server_version=176) as tws, market(tws) as client:
            client.send(*order_request(176, tif="GTC", outside_rth="0", **SHAPES[name]))
            mine = by_id(await client.quiet(), 5)[-1]
            theirs = RECORDED[name]
            assert len(mine) == len(theirs)
            ours, recorded = client.decode(mine), client.decode(theirs)
            free = FREE | (NOISE if ours["order_type"] == "MKT" else {"shares_allocation"})
            names = _names(5, 176)
            different = {
                n: (a, b)
                for n, a, b in zip(names, mine, theirs, strict=True)
                if n not in free and shape(a) != shape(b)
            }
            assert set(different) <= {"commission", "commission_currency"}
            assert (ours["status"], ours["quantity"]) == (recorded["status"], recorded["quantity"])

    run(main())


def _names(kind: int, version: int) -> list[str]:
    """The names of the fields of a message at a server version, its id first."""
    parts = [part for part in BY_ID[kind].parts if isinstance(part, Field)]
    return ["id", *(part.name for part in parts if part.since <= version < part.before)]


@pytest.mark.parametrize(
    ("name", "done"), [("completed_filled_178", True), ("completed_cancelled_178", False)]
)
def test_completed_orders_have_the_recorded_shape(name: str, done: bool) -> None:
    rows = 30
    tape = from_ticks([6000] * rows, [6001] * rows, [5990] * rows, [6000] * rows, first=20)

    async def main() -> None:
        async with SimulatedTWS(tape) as tws, market(tws) as client:
            stop = {
                "action": "SELL",
                "order_type": "STP",
                "aux_price": "59.95",
                "oca_group": "g",
                "oca_type": "1",
            }
            client.send(*order_request(order_id="1", outside_rth=str(int(done)), **stop))
            if done:
                client.send("49", "1")
                await client.until(59)
            else:
                client.send("4", "1", "1", "")
            client.send("99", "0")
            [mine] = by_id(await client.until(102), 101)
            theirs = RECORDED[name]
            assert len(mine) == len(theirs) == 100
            names = _names(101, 178)
            free = FREE | {
                "sec_type",
                "last_trade_date",
                "limit_price",
                "oca_group",
                "oca_type",
                "tif",
                "parent_perm_id",
                "rule_80a",
                "quantity",
            }
            different = [
                n
                for n, a, b in zip(names, mine, theirs, strict=True)
                if n not in free and shape(a) != shape(b)
            ]
            assert different == []
            assert client.decode(mine)["completed_status"] == (
                "Filled Size: 1" if done else "Cancelled by Trader"
            )

    run(main())


def test_what_if_answers_twice_and_leaves_nothing(shared_data: Path) -> None:
    recorded = [
        json.loads(line.split("\t")[6])
        for line in _lines(shared_data)
        if line[:4] in {"0340", "0344"}
    ]

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, server_version=176) as tws, market(tws) as client:
            client.send(*order_request(176, order_id="186", what_if="1", outside_rth="0"))
            mine = await client.quiet()
            assert [m[0] for m in mine] == ["5", "5"]
            assert not tws.book.orders
            names = _names(5, 176)
            contract = (
                FREE | NOISE | {"sec_type", "last_trade_date", "right", "warning", "quantity"}
            )
            figures = {n for n in names if "margin" in n or "equity" in n or "commission" in n}
            for ours, theirs, free in zip(
                mine, recorded, (contract, contract | figures), strict=True
            ):
                different = [
                    n
                    for n, a, b in zip(names, ours, theirs, strict=True)
                    if n not in free and shape(a) != shape(b)
                ]
                assert different == []
            assert client.decode(mine[1])["init_margin_change"] == 1755.0

    run(main())


def test_contract_details_have_the_recorded_shape(shared_data: Path) -> None:
    theirs = next(
        json.loads(line.split("\t")[6]) for line in _lines(shared_data) if line[:4] == "1114"
    )

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, server_version=176) as tws:
            client = await RawClient.connect(tws.port, highest=176)
            client.send("9", "8", "-10", "0", "MCL", "FUT", *KEEP_UP, "0", "", "", "")
            mine = by_id(await client.until(52), 10)[0]
            assert len(mine) == len(theirs)
            assert [a == "" for a in mine] == [b == "" for b in theirs]
            await client.close()

    run(main())


def _lines(folder: Path) -> list[str]:
    return (folder / "ib_recorded_part.txt").read_text().splitlines()


# ------------------------------------------------------------------------------------ with ib_async


def test_ib_async_trades_reconnects_and_finds_everything_again() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws:
            ib = await connected(tws, client_id=5)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            bars = await ib.reqHistoricalDataAsync(
                contract, "", "600 S", "1 min", "TRADES", False, 2, True
            )
            await eventually(lambda: len(bars) == 11)
            common = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}
            trade = ib.placeOrder(
                contract, ib_async.MarketOrder("BUY", 2, orderRef="entry", **common)
            )
            resting = ib.placeOrder(
                contract, ib_async.LimitOrder("SELL", 2, 61.0, orderRef="exit", **common)
            )
            await eventually(lambda: trade.isDone() and resting.orderStatus.status == "Submitted")
            assert [(f.execution.price, f.commissionReport.commission) for f in trade.fills] == [
                (60.01, 1.54)
            ]
            state = await ib.whatIfOrderAsync(contract, ib_async.MarketOrder("BUY", 1, **common))
            assert (float(state.initMarginChange), state.commission) == (1755.0, 0.77)
            assert [(p.position, p.avgCost) for p in ib.positions()] == [(2, 6001.77)]
            await gone(ib)

            again = await connected(tws, client_id=5)
            assert [(p.position, p.avgCost) for p in again.positions()] == [(2, 6001.77)]
            assert [t.order.orderRef for t in again.openTrades()] == ["exit"]
            [fill] = again.fills()
            assert (fill.execution.orderRef, fill.commissionReport.commission) == ("entry", 1.54)
            assert [t.order.permId for t in again.trades() if t.isDone()] == [trade.order.permId]
            assert again.client.getReqId() > resting.order.orderId
            again.cancelOrder(again.openTrades()[0].order)
            await eventually(lambda: not again.openTrades())
            other = await connected(tws, client_id=6)
            assert await other.reqAllOpenOrdersAsync() == []
            assert len(await other.reqExecutionsAsync()) == 1
            await gone(again)
            await gone(other)

    run(main())


def has_played(track: Any, row: int) -> bool:
    return bool(track.row == row)


def test_a_market_order_fills_though_nobody_receives_bars() -> None:
    """In lock-step one interval passes for it; an order that rests makes no time pass."""

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE) as tws:
            ib = await connected(tws, client_id=5)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            common = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}
            resting = ib.placeOrder(contract, ib_async.LimitOrder("SELL", 1, 99.0, **common))
            await eventually(lambda: resting.orderStatus.status in ("PreSubmitted", "Submitted"))
            assert tws.player.tracks[0].row == tws.player.tracks[0].tape.first
            trades = []
            for bars in (1, 2):
                trades.append(ib.placeOrder(contract, ib_async.MarketOrder("BUY", 1, **common)))
                await eventually(lambda: trades[-1].orderStatus.status == "Filled")
                track = tws.player.tracks[0]
                reached = track.tape.first + bars
                await eventually(partial(has_played, track, reached))
            assert [p.position for p in ib.positions()] == [2]
            await gone(ib)

    run(main())


def test_ib_asyncs_own_bracket_and_global_cancel() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(4, 30, 10)) as tws:
            ib = await connected(tws)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            common = {"tif": "GTC", "account": "DU0000001", "outsideRth": True}
            bracket = ib.bracketOrder(
                "BUY", 1, limitPrice=50.0, takeProfitPrice=70.0, stopLossPrice=40.0, **common
            )
            trades = [ib.placeOrder(contract, order) for order in bracket]
            await eventually(
                lambda: all(t.orderStatus.status in {"Submitted", "PreSubmitted"} for t in trades)
            )
            assert [t.orderStatus.whyHeld for t in trades] == ["", "child", "child,trigger"]
            ib.reqGlobalCancel()
            await eventually(lambda: all(t.orderStatus.status == "Cancelled" for t in trades))
            assert not tws.book.working()
            await gone(ib)

    run(main())
