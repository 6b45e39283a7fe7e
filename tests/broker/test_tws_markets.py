"""Several dated contracts in one server, one clock: what a roll needs, and a second instrument next to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import ib_async
import numpy as np
import pytest
from tws_harness import MINUTE_NS, RawClient, eventually, run, walk

from mcl import calendar
from mcl.broker.tws import SimulatedTWS, Tape
from mcl.errors import BrokerError
from mcl.market import CL

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
    return ib, await ib.qualifyContractsAsync(*months)


def without(tape: Tape, rows: list[int]) -> Tape:
    """The same tape with these of its played rows missing: nobody traded in those minutes."""
    kept = np.delete(np.arange(len(tape)), np.array(rows) + tape.first)
    return replace(tape, **{name: getattr(tape, name)[kept] for name in ("start", "open", "high", "low", "close", "volume")})


def test_both_contracts_of_a_roll_have_history_quotes_bars_and_orders_at_once() -> None:
    async def main() -> None:
        async with SimulatedTWS(OUTGOING, INCOMING, BIG, stepped=True, slippage_ticks=1.0, capital_usd=100_000) as tws:
            ib, contracts = await client_of(tws)
            bars = [await ib.reqHistoricalDataAsync(c, "", "600 S", "1 min", "TRADES", False, 2, True) for c in contracts]
            tickers = [ib.reqMktData(c) for c in contracts]
            await eventually(lambda: all(t.last == t.last for t in tickers))
            for tape, rows, ticker in zip((OUTGOING, INCOMING, BIG), bars, tickers, strict=True):
                assert [b.close for b in rows[:-1]] == tape.close[50:60].tolist()
                assert ticker.last == tape.open[60]
            ib.placeOrder(contracts[0], ib_async.MarketOrder("BUY", 2, **COMMON))
            await eventually(lambda: tws.positions == {"MCLG6": 2})
            await tws.player.step()
            out, into = (
                ib.placeOrder(c, ib_async.MarketOrder(side, 2, **COMMON)) for c, side in ((contracts[0], "SELL"), (contracts[1], "BUY"))
            )
            resting = ib.placeOrder(contracts[2], ib_async.LimitOrder("BUY", 1, 40.0, **COMMON))
            await eventually(lambda: into.isDone() and out.isDone() and resting.orderStatus.status == "Submitted")
            assert tws.positions == {"MCLH6": 2}
            assert out.orderStatus.avgFillPrice == pytest.approx(OUTGOING.open[61] - 0.01)
            assert into.orderStatus.avgFillPrice == pytest.approx(INCOMING.open[61] + 0.01)
            assert {p.contract.localSymbol: p.position for p in ib.positions()} == {"MCLH6": 2}
            await tws.player.step(19)
            shown = [tape.close[50:].tolist() for tape in (OUTGOING, INCOMING, BIG)]
            await eventually(lambda: [[b.close for b in rows] for rows in bars] == shown)
            gained = 2 * 100 * (OUTGOING.open[61] - OUTGOING.open[60] - 0.02 + INCOMING.close[79] - INCOMING.open[61] - 0.01) - 6 * 0.77
            assert tws.account.equity == pytest.approx(100_000 + gained)
            ib.disconnect()

    run(main())


def test_margin_grows_with_the_contract() -> None:
    async def main() -> None:
        async with SimulatedTWS(OUTGOING, BIG, stepped=True, capital_usd=100_000) as tws:
            ib, contracts = await client_of(tws)
            ib.placeOrder(contracts[0], ib_async.MarketOrder("BUY", 1, **COMMON))
            await eventually(lambda: tws.positions == {"MCLG6": 1})
            state = await ib.whatIfOrderAsync(contracts[2], ib_async.MarketOrder("SELL", 2, **COMMON))
            figures = (state.initMarginBefore, state.initMarginChange, state.initMarginAfter, state.maintMarginAfter)
            assert [float(f) for f in figures] == [1_755, 35_100, 36_855, 27_300]
            ib.disconnect()

    run(main())


def test_lock_step_waits_only_for_who_follows_the_contract_that_traded() -> None:
    """In minutes in which only the other contract trades nothing comes to wait for; the clock of both is one."""

    async def main() -> None:
        async with SimulatedTWS(without(OUTGOING, [3, 4, 5, 9]), without(INCOMING, [7]), patience_sec=20) as tws:
            client = await RawClient.connect(tws.port)
            await client.until(9)
            contract = ("202602", "0.0", "", "", "NYMEX", "", "USD", "", "")
            client.send("20", "900", "0", "MCL", "FUT", *contract, "0", "", "1 min", "600 S", "0", "TRADES", "2", "1", "")
            opened = set()
            while not tws.finished.is_set():
                client.send("49", "1")
                seen = await client.until(49)
                opened |= {int(client.decode(m)["date"]) for m in seen if m[0] == "90"}
                await asyncio.sleep(0)
            minutes = {(ns - int(OUTGOING.start[60])) // MINUTE_NS for ns in (np.array(sorted(opened)) * calendar.NS).tolist()}
            assert minutes == set(range(20)) - {3, 4, 5, 9}
            await client.close()

    run(main())


def test_tapes_of_different_bars_are_refused() -> None:
    with pytest.raises(BrokerError, match="bars of one interval, not of 1m, 5m"):
        SimulatedTWS(OUTGOING, replace(INCOMING, interval="5m"))
