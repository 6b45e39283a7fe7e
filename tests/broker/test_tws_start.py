"""The start-up of a connection, and what can be asked without trading; with the unmodified ib_async
and with a bare client.
"""

from __future__ import annotations

import asyncio

import ib_async
import pytest

from mcl.base.errors import BrokerError
from mcl.market.calendar import NEW_YORK
from mcl.simulators.tws import SimulatedTWS
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.server import SERVER_VERSIONS

from .tws_harness import (
    MINUTE_NS,
    SESSION_OPEN_NS,
    RawClient,
    contract_of,
    eventually,
    moment,
    qualified,
    run,
    walk,
)

NYMEX_MCL = ib_async.Future("MCL", exchange="NYMEX", currency="USD")


async def connected(tws: SimulatedTWS, client_id: int = 1) -> ib_async.IB:
    ib = ib_async.IB()
    await ib.connectAsync(
        "127.0.0.1", tws.port, clientId=client_id, timeout=30, raiseSyncErrors=True
    )
    return ib


async def gone(ib: ib_async.IB) -> None:
    ib.disconnect()
    await eventually(lambda: ib.client.conn.transport is None)


@pytest.mark.parametrize("version", SERVER_VERSIONS)
def test_connects_at_every_version(version: int) -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5), server_version=version) as tws:
            ib = await connected(tws)
            assert ib.client.serverVersion() == version
            assert ib.managedAccounts() == ["DU0000001"]
            assert {v.tag: v.value for v in ib.accountValues()}["NetLiquidation"] == "25000.00"
            assert tws.counters["unknown_requests"] == 0
            await gone(ib)

    run(main())


def test_says_the_same_things_in_the_same_order_as_a_real_tws() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            client = await RawClient.connect(tws.port)
            start = await client.until(4)
            assert [m[0] for m in start] == ["15", "9", "4"]
            assert start[0] == ["15", "1", "DU0000001"]
            assert start[1] == ["9", "1", "1"]
            assert start[2] == [
                "4",
                "2",
                "-1",
                "2104",
                "Market data farm connection is OK:usfuture",
                "",
            ]
            client.send("61", "1")
            client.send("5", "1")
            client.send("99", "0")
            client.send("6", "2", "1", "DU0000001")
            client.send("76", "1", "184", "DU0000001", "", "0")
            seen = await client.until(74)
            ids = [m[0] for m in seen if m[0] != "4"]
            assert ids[:3] == ["62", "53", "102"]
            assert ids[3:] == ["6"] * ids.count("6") + ["8", "54"] + ["73"] * ids.count("73") + [
                "74"
            ]
            assert next(m for m in seen if m[0] == "102") == ["102"]
            await client.close()

    run(main())


def test_a_client_id_is_taken_once() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            first, errors = await connected(tws), []
            second = ib_async.IB()
            second.errorEvent += lambda *args: errors.append(args[1])
            with pytest.raises((TimeoutError, ConnectionError)):
                await second.connectAsync("127.0.0.1", tws.port, clientId=1, timeout=0.2)
            assert 326 in errors
            third = await connected(tws, client_id=2)
            assert len(tws.sessions) == 2
            await gone(first)
            await gone(third)

    run(main())


def test_lower_clients_get_their_version_and_older_ones_none() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            client = await RawClient.connect(tws.port, highest=176)
            assert client.version == 176
            await client.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", tws.port)
            writer.write(b"API\0\0\0\0\x09v200..201")
            assert await reader.read() == b""
            assert tws.counters["protocol_errors"] == 1
            writer.close()
            await writer.wait_closed()

    run(main())


def test_unknown_requests_are_counted_and_ignored() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            client = await RawClient.connect(tws.port)
            client.send("999", "1")
            client.send("nonsense")
            assert all(m[0] in {"15", "9", "4"} for m in await client.quiet())
            assert tws.counters["unknown_requests"] == 2
            await client.close()

    run(main())


def test_every_request_in_the_table_has_a_handler() -> None:
    tws = SimulatedTWS(walk(1, 10, 5))
    assert {message.name for message in REQUESTS.values()} - {"startApi"} == set(tws.handlers)


def test_a_port_in_use_is_named() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            with pytest.raises(
                BrokerError, match=rf"port {tws.port} .*already in use.*broker\.port=0"
            ):
                await SimulatedTWS(walk(1, 10, 5), port=tws.port).__aenter__()

    run(main())


# ---------------------------------------------------------------------------------------- contracts


def test_contracts_by_month_symbol_and_id() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            ib = await connected(tws)
            by_month, by_symbol = (
                ib_async.Future("MCL", "202606", "NYMEX"),
                ib_async.Future(localSymbol="MCLM6", exchange="NYMEX"),
            )
            by_date = ib_async.Future("MCL", "20260518", "NYMEX")
            assert await ib.qualifyContractsAsync(by_month, by_symbol, by_date) == [
                by_month,
                by_symbol,
                by_date,
            ]
            assert by_month.conId == by_symbol.conId == by_date.conId > 0
            assert (
                by_month.lastTradeDateOrContractMonth,
                by_month.localSymbol,
                by_month.multiplier,
            ) == ("20260518", "MCLM6", "100")
            [known] = await ib.reqContractDetailsAsync(ib_async.Future("CL", "202602", "NYMEX"))
            assert (
                contract_of(known).conId,
                contract_of(known).multiplier,
                known.realExpirationDate,
            ) == (
                304037410,
                "1000",
                "20260120",
            )
            [details] = await ib.reqContractDetailsAsync(
                ib_async.Contract(conId=contract_of(known).conId)
            )
            assert contract_of(details).localSymbol == "CLG6"
            assert (details.minTick, details.contractMonth, details.underSymbol) == (
                0.01,
                "202602",
                "CL",
            )
            assert details.tradingHours.startswith("20260105:1800-20260106:1700;")
            assert details.liquidHours.startswith("20260106:0930-20260106:1700;")
            assert "20260110:CLOSED" in details.tradingHours
            await gone(ib)

    run(main())


def test_ambiguous_and_unknown_contracts() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5)) as tws:
            ib = await connected(tws)
            ib.RaiseRequestErrors = True
            months = await ib.reqContractDetailsAsync(NYMEX_MCL)
            assert len(months) >= 12
            assert await ib.qualifyContractsAsync(ib_async.Future("MCL", exchange="NYMEX")) == [
                None
            ]
            elsewhere, nothing = (
                ib_async.Future("MCL", "202602", "COMEX"),
                ib_async.Future("XYZ", "202602", "NYMEX"),
            )
            for unknown in (elsewhere, nothing, ib_async.Contract(conId=5)):
                with pytest.raises(ib_async.wrapper.RequestError) as refusal:
                    await ib.reqContractDetailsAsync(unknown)
                assert refusal.value.code == 200
            await gone(ib)

    run(main())


# ------------------------------------------------------------------------------------------ history


def test_history_ends_before_the_session_and_honours_its_duration() -> None:
    async def main() -> None:
        tape = walk(3, 3000, 5)
        async with SimulatedTWS(tape) as tws:
            ib = await connected(tws)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))

            async def ask(
                duration: str, end: str = "", size: str = "1 min", rth: bool = False
            ) -> ib_async.BarDataList:
                return await ib.reqHistoricalDataAsync(
                    contract, end, duration, size, "TRADES", rth, 2
                )

            bars = await ask("600 S")
            assert len(bars) == 10
            assert int(moment(bars[-1]).timestamp()) * 10**9 == SESSION_OPEN_NS - MINUTE_NS
            last = [(b.open, b.high, b.low, b.close, b.volume) for b in bars]
            rows = slice(2990, 3000)
            columns = (tape.open, tape.high, tape.low, tape.close, tape.volume)
            assert last == list(zip(*(column[rows].tolist() for column in columns), strict=True))
            day = await ask("1 D")
            assert int(moment(day[0]).timestamp()) * 10**9 >= SESSION_OPEN_NS - 24 * 60 * MINUTE_NS
            assert 1300 <= len(day) <= 1440
            earlier = await ask("60 S", end="20260105-22:30:00")
            assert [int(moment(b).timestamp()) * 10**9 for b in earlier] == [
                SESSION_OPEN_NS - 31 * MINUTE_NS
            ]
            assert all(
                9 <= moment(b).astimezone(NEW_YORK).hour < 17 for b in await ask("1 D", rth=True)
            )
            assert not await ask("1 D", size="30 secs")  # finer than the tape
            fives = await ask("600 S", size="5 mins")
            assert [(b.open, b.close, b.volume) for b in fives] == [
                (tape.open[n], tape.close[n + 4], 25) for n in (2990, 2995)
            ]
            assert [(b.high, b.low) for b in fives] == [
                (max(tape.high[n : n + 5]), min(tape.low[n : n + 5])) for n in (2990, 2995)
            ]
            assert [str(b.date) for b in await ask("2 D", size="1 day")][-1] == "2026-01-05"
            assert not await ask("soon")
            head = await ib.reqHeadTimeStampAsync(contract, "TRADES", False, 2)
            assert int(head.timestamp()) * 10**9 == int(tape.start[0])
            await gone(ib)

    run(main())


def test_account_figures_and_small_questions() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(1, 10, 5), capital_usd=50_000) as tws:
            ib = await connected(tws)
            summary = {(v.tag, v.currency): v.value for v in await ib.accountSummaryAsync()}
            assert summary["NetLiquidation", "USD"] == "50000.00"
            assert summary["CashBalance", "BASE"] == "50000.00"
            assert int((await ib.reqCurrentTimeAsync()).timestamp()) * 10**9 == SESSION_OPEN_NS
            matches = await ib.reqMatchingSymbolsAsync("MC") or []
            assert [d.contract.symbol for d in matches if d.contract] == ["MCL"]
            increments = await ib.reqMarketRuleAsync(32) or []
            assert increments[0].increment == 0.01
            assert await ib.reqExecutionsAsync() == []
            assert await ib.reqCompletedOrdersAsync(False) == []
            assert await ib.reqAllOpenOrdersAsync() == []
            pnl = ib.reqPnL("DU0000001")
            await eventually(lambda: pnl.dailyPnL == 0.0)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            ticker = ib.reqMktData(contract)
            await eventually(lambda: ticker.marketDataType == 1 and ticker.minTick == 0.01)
            ib.cancelMktData(contract)
            assert tws.counters["unknown_requests"] == 0
            await gone(ib)

    run(main())
