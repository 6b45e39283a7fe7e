"""The public interface of ib_async, call by call: everything it can ask for is answered, or refused
with a code that ends the question.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import ib_async
import pytest

from mcl.simulators.tws import SimulatedTWS
from mcl.simulators.tws.random_walk import watched
from mcl.simulators.tws.request_messages import REQUESTS

from .tws_harness import eventually, qualified, run, walk

NO_ORDER = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}
TAPE = watched(walk(8, 3000, 10), 1)


async def connected(tws: SimulatedTWS) -> tuple[ib_async.IB, ib_async.Contract]:
    ib = ib_async.IB()
    ib.client.MaxRequests = 0
    await ib.connectAsync("127.0.0.1", tws.port, clientId=1, timeout=30, raiseSyncErrors=True)
    [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
    return ib, contract


def test_every_message_that_the_client_can_send_is_understood() -> None:
    """Its source names them; verification of signed applications is not part of the interface that
    programs use.
    """
    source = Path(ib_async.client.__file__).read_text()
    sent = {int(number) for number in re.findall(r"self\.send\(\s*(\d+)", source)} | {3, 22, 102}
    assert sent - {65, 66, 72, 73} <= REQUESTS.keys()


ANSWERED = {
    "reqMktDepthExchangesAsync": ((), lambda found: [d.exchange for d in found] == ["NYMEX"]),
    "reqSmartComponentsAsync": (("a6",), lambda found: found == []),
    "reqNewsProvidersAsync": ((), lambda found: found == []),
    "reqScannerParametersAsync": ((), lambda found: found.startswith("<ScanParameterResponse")),
    "reqUserInfoAsync": ((), lambda found: not found),
    "reqSecDefOptParamsAsync": (("MCL", "", "IND", 1), lambda found: found == []),
    "reqMatchingSymbolsAsync": (
        ("CL",),
        lambda found: [d.contract.symbol for d in found] == ["CL"],
    ),
    "reqMarketRuleAsync": ((32,), lambda found: found[0].increment == 0.01),
    "reqPositionsAsync": ((), lambda found: found == []),
    "reqOpenOrdersAsync": ((), lambda found: found == []),
    "reqAllOpenOrdersAsync": ((), lambda found: found == []),
    "reqExecutionsAsync": ((), lambda found: found == []),
    "reqHistoricalNewsAsync": ((1, "BRF", "", "", 10), lambda found: found is None or found == []),
    "accountSummaryAsync": (
        (),
        lambda found: {v.tag for v in found} >= {"NetLiquidation", "BuyingPower"},
    ),
    "reqCompletedOrdersAsync": ((False,), lambda found: found == []),
}


@pytest.mark.parametrize("call", ANSWERED)
def test_questions_without_a_contract(call: str) -> None:
    arguments, holds = ANSWERED[call]

    async def main() -> None:
        async with SimulatedTWS(TAPE, stepped=True) as tws:
            ib, _ = await connected(tws)
            assert holds(await asyncio.wait_for(getattr(ib, call)(*arguments), 3))
            assert tws.counters["unknown_requests"] == 0
            ib.disconnect()

    run(main())


def test_questions_about_a_contract() -> None:
    async def main() -> None:
        async with SimulatedTWS(TAPE, stepped=True) as tws:
            ib, contract = await connected(tws)
            await ib.reqCurrentTimeAsync()
            await tws.player.step(3)
            [ticker] = await asyncio.wait_for(ib.reqTickersAsync(contract), 5)
            assert ticker.bid < ticker.ask
            histogram = await ib.reqHistogramDataAsync(contract, False, "3 days")
            since = TAPE.start >= tws.book.now - 3 * 86_400 * 10**9
            rows = slice(int(since.argmax()), tws.player.tracks[0].row)
            assert sum(b.count for b in histogram) == TAPE.volume[rows].sum()
            held = await ib.reqHistoricalScheduleAsync(contract, 3)
            assert held.timeZone == "US/Eastern"
            assert [s.refDate for s in held.sessions] == ["20260102", "20260105", "20260106"]
            assert (held.sessions[-1].startDateTime, held.sessions[-1].endDateTime) == (
                "20260105-18:00:00",
                "20260106-17:00:00",
            )
            assert await ib.reqHeadTimeStampAsync(contract, "TRADES", False, 2)
            # the first one is cut
            assert (
                len(
                    await ib.reqHistoricalDataAsync(
                        contract, "", "1800 S", "5 mins", "MIDPOINT", False, 2
                    )
                )
                == 7
            )
            assert ib.reqPnLSingle("DU0000001", "", contract.conId).conId == contract.conId
            state = await ib.whatIfOrderAsync(
                contract, ib_async.LimitOrder("BUY", 1, 59.0, **NO_ORDER)
            )
            assert float(state.initMarginChange) == 1755.0
            ib.disconnect()

    run(main())


def test_what_is_not_there_is_refused_with_a_code() -> None:
    option = ib_async.FuturesOption("MCL", "202602", 60.0, "C", "NYMEX")
    scan = ib_async.ScannerSubscription(
        instrument="STK", locationCode="STK.US", scanCode="TOP_PERC_GAIN"
    )
    refused: dict[int, Any] = {
        162: lambda ib, _c: ib.reqScannerDataAsync(scan),
        430: lambda ib, c: ib.reqFundamentalDataAsync(c, "ReportSnapshot"),
        200: lambda ib, _c: ib.calculateImpliedVolatilityAsync(option, 1.0, 60.0),
        10172: lambda ib, _c: ib.reqNewsArticleAsync("BRF", "BRF$1"),
        10276: lambda ib, _c: ib.getWshMetaDataAsync(),
    }

    async def main() -> None:
        async with SimulatedTWS(TAPE, stepped=True) as tws:
            ib, contract = await connected(tws)
            codes: list[int] = []
            ib.errorEvent += lambda _id, code, *_: codes.append(code)
            for ask in refused.values():
                await asyncio.wait_for(ask(ib, contract), 5)
            ib.client.requestFA(1)
            ib.reqNewsBulletins(True)
            ib.cancelNewsBulletins()
            ib.client.queryDisplayGroups(ib.client.getReqId())
            ib.client.reqPositionsMulti(ib.client.getReqId(), "DU0000001", "")
            ib.client.reqFamilyCodes()
            ib.client.reqSoftDollarTiers(ib.client.getReqId())
            ib.client.exerciseOptions(ib.client.getReqId(), option, 1, 1, "DU0000001", 0)
            await eventually(lambda: codes.count(200) == 2)
            assert set(codes) == {*refused, 321}
            assert tws.counters["unknown_requests"] == 0
            ib.disconnect()

    run(main())
