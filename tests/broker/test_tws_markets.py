"""Several dated contracts in one server, one clock: what a roll needs, and a second instrument next
to it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import ib_async
import numpy as np
import pytest

from mcl.base.errors import BrokerError
from mcl.base.instants import NS
from mcl.market import calendar
from mcl.market.instruments import CL
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.simulators.tws.random_walk import watched

from .tws_harness import MINUTE_NS, RawClient, contract_of, eventually, qualified, run, walk

OUTGOING = walk(1, 60, 20)
INCOMING = replace(walk(2, 60, 20), contract=calendar.contract("MCL", 2026, 3))
BIG = replace(walk(3, 60, 20), contract=calendar.contract("CL", 2026, 3), instrument=CL)
COMMON = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}


async def client_of(tws: SimulatedTWS) -> tuple[ib_async.IB, list[ib_async.Contract]]:
    ib = ib_async.IB()
    await ib.connectAsync("127.0.0.1", tws.port, clientId=1, timeout=30, raiseSyncErrors=True)
    months = (
        ib_async.Future("MCL", "202602", "NYMEX"),
        ib_async.Future("MCL", "202603", "NYMEX"),
        ib_async.Future("CL", "202603", "NYMEX"),
    )
    return ib, await qualified(ib, *months)


def without(tape: Tape, rows: list[int]) -> Tape:
    """The same tape with these of its played rows missing: nobody traded in those minutes."""
    kept = np.delete(np.arange(len(tape)), np.array(rows) + tape.first)
    return replace(
        tape,
        **{
            name: getattr(tape, name)[kept]
            for name in ("start", "open", "high", "low", "close", "volume")
        },
    )


def test_both_contracts_of_a_roll_have_history_quotes_bars_and_orders_at_once() -> None:
    async def main() -> None:
        async with SimulatedTWS(
            OUTGOING, INCOMING, BIG, stepped=True, slippage_ticks=1.0, capital_usd=100_000
        ) as tws:
            ib, contracts = await client_of(tws)
            bars = [
                await ib.reqHistoricalDataAsync(c, "", "600 S", "1 min", "TRADES", False, 2, True)
                for c in contracts
            ]
            tickers = [ib.reqMktData(c) for c in contracts]
            await eventually(lambda: all(t.last == t.last for t in tickers))
            for tape, rows, ticker in zip((OUTGOING, INCOMING, BIG), bars, tickers, strict=True):
                assert [b.close for b in rows[:-1]] == tape.close[50:60].tolist()
                assert ticker.last == tape.open[60]
            ib.placeOrder(contracts[0], ib_async.MarketOrder("BUY", 2, **COMMON))
            await eventually(lambda: tws.positions == {"MCLG6": 2})
            await tws.player.step()
            out, into = (
                ib.placeOrder(c, ib_async.MarketOrder(side, 2, **COMMON))
                for c, side in ((contracts[0], "SELL"), (contracts[1], "BUY"))
            )
            resting = ib.placeOrder(contracts[2], ib_async.LimitOrder("BUY", 1, 40.0, **COMMON))
            await eventually(
                lambda: into.isDone() and out.isDone() and resting.orderStatus.status == "Submitted"
            )
            assert tws.positions == {"MCLH6": 2}
            assert out.orderStatus.avgFillPrice == pytest.approx(OUTGOING.open[61] - 0.01)
            assert into.orderStatus.avgFillPrice == pytest.approx(INCOMING.open[61] + 0.01)
            assert {p.contract.localSymbol: p.position for p in ib.positions()} == {"MCLH6": 2}
            await tws.player.step(19)
            shown = [tape.close[50:].tolist() for tape in (OUTGOING, INCOMING, BIG)]
            await eventually(lambda: [[b.close for b in rows] for rows in bars] == shown)
            gained = (
                2
                * 100
                * (
                    OUTGOING.open[61]
                    - OUTGOING.open[60]
                    - 0.02
                    + INCOMING.close[79]
                    - INCOMING.open[61]
                    - 0.01
                )
                - 6 * 0.77
            )
            assert tws.account.equity == pytest.approx(100_000 + gained)
            ib.disconnect()

    run(main())


def test_margin_grows_with_the_contract() -> None:
    async def main() -> None:
        async with SimulatedTWS(OUTGOING, BIG, stepped=True, capital_usd=100_000) as tws:
            ib, contracts = await client_of(tws)
            ib.placeOrder(contracts[0], ib_async.MarketOrder("BUY", 1, **COMMON))
            await eventually(lambda: tws.positions == {"MCLG6": 1})
            state = await ib.whatIfOrderAsync(
                contracts[2], ib_async.MarketOrder("SELL", 2, **COMMON)
            )
            figures = (
                state.initMarginBefore,
                state.initMarginChange,
                state.initMarginAfter,
                state.maintMarginAfter,
            )
            assert [float(f) for f in figures] == [1_755, 35_100, 36_855, 27_300]
            ib.disconnect()

    run(main())


def test_lock_step_waits_only_for_who_follows_the_contract_that_traded() -> None:
    """In minutes in which only the other contract trades nothing comes to wait for; the clock of
    both is one.
    """

    async def main() -> None:
        async with SimulatedTWS(
            without(OUTGOING, [3, 4, 5, 9]), without(INCOMING, [7]), patience_sec=20
        ) as tws:
            client = await RawClient.connect(tws.port)
            await client.until(9)
            contract = ("202602", "0.0", "", "", "NYMEX", "", "USD", "", "")
            client.send(
                "20",
                "900",
                "0",
                "MCL",
                "FUT",
                *contract,
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
            opened = set()
            while not tws.finished.is_set():
                client.send("49", "1")
                seen = await client.until(49)
                opened |= {int(client.decode(m)["date"]) for m in seen if m[0] == "90"}
                await asyncio.sleep(0)
            minutes = {
                (ns - int(OUTGOING.start[60])) // MINUTE_NS
                for ns in (np.array(sorted(opened)) * NS).tolist()
            }
            assert minutes == set(range(20)) - {3, 4, 5, 9}
            await client.close()

    run(main())


def test_tapes_of_different_bars_are_refused() -> None:
    with pytest.raises(BrokerError, match="bars of one interval, not of 1m, 5m"):
        SimulatedTWS(OUTGOING, replace(INCOMING, interval="5m"))


def test_a_continuous_future_is_the_contract_that_is_played() -> None:
    async def main() -> None:
        async with SimulatedTWS(OUTGOING, INCOMING, stepped=True) as tws:
            ib, [front, *_] = await client_of(tws)
            continuous = ib_async.ContFuture("MCL", "NYMEX")
            [details] = await ib.reqContractDetailsAsync(continuous)
            described = contract_of(details)
            assert (described.secType, described.localSymbol) == ("CONTFUT", "MCLG6")
            assert described.conId == front.conId
            [same] = await qualified(ib, continuous)
            assert same.conId == front.conId
            bars = await ib.reqHistoricalDataAsync(same, "", "600 S", "1 min", "TRADES", False, 2)
            dated = await ib.reqHistoricalDataAsync(front, "", "600 S", "1 min", "TRADES", False, 2)
            assert [b.close for b in bars] == [b.close for b in dated] != []
            codes: list[int] = []
            ib.errorEvent += lambda _id, code, *_: codes.append(code)
            end = "20260105 18:00:00 US/Eastern"
            unspecific = ib_async.ContFuture("MCL", "NYMEX")
            assert not await ib.reqHistoricalDataAsync(
                unspecific, end, "600 S", "1 min", "TRADES", False, 2
            )
            ib.placeOrder(unspecific, ib_async.MarketOrder("BUY", 1, **COMMON))
            await eventually(lambda: len(codes) == 2)
            assert codes == [10339, 321]
            assert not tws.book.orders
            ib.disconnect()

    run(main())


def test_an_order_in_an_expired_contract_is_refused() -> None:
    """Described by its month or by its id: it is no longer listed, except for who asks for expired
    ones.
    """

    async def main() -> None:
        async with SimulatedTWS(OUTGOING, stepped=True) as tws:
            ib, _ = await client_of(tws)
            past = ib_async.Future("MCL", "202512", "NYMEX", includeExpired=True)
            [details] = await ib.reqContractDetailsAsync(past)
            by_id = ib_async.Contract(conId=contract_of(details).conId, exchange="NYMEX")
            codes: list[int] = []
            ib.errorEvent += lambda _id, code, *_: codes.append(code)
            for contract in (ib_async.Future("MCL", "202512", "NYMEX"), by_id):
                ib.placeOrder(contract, ib_async.MarketOrder("BUY", 1, **COMMON))
            await eventually(lambda: codes == [200, 200])
            assert not tws.book.orders
            ib.disconnect()

    run(main())


def test_a_resting_order_ends_with_its_contract() -> None:
    last = calendar.ns_of(calendar.contract("MCL", 2026, 2).last_trade_date, 16, 50)
    two_days = replace(
        OUTGOING,
        start=np.append(
            last + MINUTE_NS * np.arange(-60, 10),
            last + 100 * 3600 * NS + MINUTE_NS * np.arange(10),
        ),
    )

    async def main() -> None:
        async with SimulatedTWS(two_days, stepped=True) as tws:
            ib, [front, *_] = await client_of(tws)
            resting = ib.placeOrder(
                front, ib_async.LimitOrder("BUY", 1, 1.0, **COMMON | {"tif": "GTC"})
            )
            await eventually(lambda: resting.orderStatus.status == "Submitted")
            texts: list[str] = []
            ib.errorEvent += lambda _id, _code, text, *_: texts.append(text)
            await tws.player.step(11)
            await eventually(lambda: resting.isDone() and texts)
            assert texts == ["Order Canceled - reason:The contract has expired"]
            ib.disconnect()

    run(main())


@pytest.mark.parametrize("tape", [OUTGOING, watched(OUTGOING, 1)], ids=["bars", "quotes"])
def test_bid_ask_and_middle_have_a_history_of_their_own(tape: Tape) -> None:
    async def main() -> None:
        async with SimulatedTWS(tape, stepped=True, slippage_ticks=1.0) as tws:
            ib, [front, *_] = await client_of(tws)
            live = {}
            for what in ("TRADES", "BID", "ASK", "MIDPOINT"):
                live[what] = await ib.reqHistoricalDataAsync(
                    front, "", "600 S", "1 min", what, False, 2, True
                )
            await tws.player.step(5)
            await eventually(lambda: all(len(rows) >= 15 for rows in live.values()))
            for what, rows in live.items():
                again = await ib.reqHistoricalDataAsync(front, "", "900 S", "1 min", what, False, 2)
                prices = {b.date: (b.open, b.high, b.low, b.close, b.volume) for b in again}
                same = [
                    (b.open, b.high, b.low, b.close, b.volume) == prices[b.date]
                    for b in rows
                    if b.date in prices
                ]
                assert sum(same) >= len(same) - 1  # the one in progress
            bid, ask, middle = (
                [b.close for b in live[what]] for what in ("BID", "ASK", "MIDPOINT")
            )
            assert all(b < m < a for b, m, a in zip(bid, middle, ask, strict=True))
            assert all(b.volume == -1 for b in live["BID"])
            assert all(b.high >= b.open >= b.low for rows in live.values() for b in rows)
            ib.disconnect()

    run(main())


def test_a_client_of_an_older_protocol_is_sent_away() -> None:
    async def main() -> None:
        async with SimulatedTWS(OUTGOING, stepped=True) as tws:
            with pytest.raises(asyncio.IncompleteReadError):
                await RawClient.connect(tws.port, highest=175)
            assert tws.counters["protocol_errors"] == 1
            client = await RawClient.connect(tws.port, highest=176)
            assert client.version == 176
            await client.close()

    run(main())
