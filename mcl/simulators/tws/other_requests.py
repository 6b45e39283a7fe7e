"""Answers or refuses, as a TWS does, requests that a futures account seldom makes: news, scanners,
options, advisors.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np

from mcl.market import calendar
from mcl.simulators.tws import render, stamps
from mcl.simulators.tws.checks import NO_CONTRACT
from mcl.simulators.tws.contracts import TIME_ZONE
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.session import ClientSession
from mcl.simulators.tws.trading import Handler, nothing

NO_NEWS = "News feed is not allowed."
SPAN_DAYS = {"second": 1, "day": 1, "week": 7, "month": 30, "year": 365}


def _refusal(code: int, text: str) -> Handler:
    def refuse(session: ClientSession, request: Values) -> None:
        session.error(request.get("req_id", -1), code, text)

    return refuse


def _answer(name: str, **values: object) -> Handler:
    """Always the same answer."""

    def answer(session: ClientSession, request: Values) -> None:
        fields = {"req_id": request["req_id"]} if "req_id" in request else {}
        session.send(name, **fields, **values)

    return answer


def _positions_multi(session: ClientSession, request: Values) -> None:
    account = session.tws.account
    for holding in account.holdings.values():
        if holding.quantity:
            session.send(
                "positionMulti", req_id=request["req_id"], **render.position(holding, account.name)
            )
    session.send("positionMultiEnd", req_id=request["req_id"])


def _depth_exchanges(session: ClientSession, _request: Values) -> None:
    places = sorted({listed.instrument.exchange for listed in session.tws.listings.roots()})
    session.send("mktDepthExchanges", exchanges=[{"exchange": place} for place in places])


def _histogram(session: ClientSession, request: Values) -> None:
    """Contracts traded at each closing price over the period that is asked for (`3 days`)."""
    matching = session.tws.listings.find(request)
    stream = session.tws.streams.get(matching[0].con_id) if len(matching) == 1 else None
    count, _, unit = request["period"].partition(" ")
    if stream is None or not count.isdigit() or unit.rstrip("s") not in SPAN_DAYS:
        session.error(request["req_id"], 200, NO_CONTRACT)
        return
    tape, traded = stream.track.tape, Counter[float]()
    since = session.tws.book.now - int(count) * SPAN_DAYS[unit.rstrip("s")] * calendar.DAY_NS
    for row in range(int(np.searchsorted(tape.start, since)), stream.track.row):
        traded[float(tape.close[row])] += int(tape.volume[row])
    session.send(
        "histogramData",
        req_id=request["req_id"],
        bins=[{"price": p, "count": n} for p, n in sorted(traded.items())],
    )


def schedule(session: ClientSession, request: Values) -> None:
    """Sessions of the exchange, as many days back as are asked for."""
    end = stamps.instant(request["end"]) if request["end"] else session.tws.book.now
    last = calendar.from_day(int(calendar.session_of(end)))
    count, _, unit = request["duration"].partition(" ")
    days = int(count) * {"D": 1, "W": 7, "M": 30, "Y": 365}.get(unit, 1) if count.isdigit() else 1
    table = calendar.sessions(
        last - timedelta(days=days + 7), last + timedelta(days=1), session.tws.played.contract.root
    )
    last_days = slice(-max(1, days * 5 // 7 if unit != "D" else days), None)
    rows = [
        {
            "opens": _schedule_time(opens),
            "closes": _schedule_time(closes),
            "day": f"{calendar.from_day(day):%Y%m%d}",
        }
        for day, opens, closes in zip(
            table.day[last_days].tolist(),
            table.open_ns[last_days].tolist(),
            table.close_ns[last_days].tolist(),
            strict=True,
        )
    ]
    values = {
        "start": rows[0]["opens"],
        "end": rows[-1]["closes"],
        "zone": TIME_ZONE,
        "sessions": rows,
    }
    session.send("historicalSchedule", req_id=request["req_id"], **values)


def _schedule_time(ns: int) -> str:
    """`20260105-18:00:00`, in the zone that the message names."""
    return stamps.local_time(ns).removesuffix(f" {TIME_ZONE}").replace(" ", "-")


_NO_SCAN = "Historical Market Data Service error message:No items retrieved"
HANDLERS: dict[str, Handler] = {
    "reqPositionsMulti": _positions_multi,
    "cancelPositionsMulti": nothing,
    "reqMktDepthExchanges": _depth_exchanges,
    "reqHistogramData": _histogram,
    "cancelHistogramData": nothing,
    "reqSmartComponents": _answer("smartComponents", components=[]),
    "reqSoftDollarTiers": _answer("softDollarTiers", tiers=[]),
    "reqFamilyCodes": _answer("familyCodes", codes=[{"account": "*", "code": ""}]),
    "reqSecDefOptParams": _answer("optionParametersEnd"),
    "reqNewsProviders": _answer("newsProviders", providers=[]),
    "reqHistoricalNews": _answer("historicalNewsEnd", more=False),
    "reqNewsArticle": _refusal(10172, "Failed to request news article"),
    "reqNewsBulletins": nothing,
    "cancelNewsBulletins": nothing,
    "reqWshMetaData": _refusal(10276, NO_NEWS),
    "cancelWshMetaData": nothing,
    "reqWshEventData": _refusal(10276, NO_NEWS),
    "cancelWshEventData": nothing,
    "reqUserInfo": _answer("userInfo", brand=""),
    "reqScannerParameters": _answer(
        "scannerParameters", xml="<ScanParameterResponse></ScanParameterResponse>"
    ),
    "reqScannerSubscription": _refusal(162, _NO_SCAN),
    "cancelScannerSubscription": nothing,
    "reqFundamentalData": _refusal(
        430, "We are sorry, but fundamentals data for the security specified is not available."
    ),
    "cancelFundamentalData": nothing,
    "calculateImpliedVolatility": _refusal(200, NO_CONTRACT),
    "cancelCalculateImpliedVolatility": nothing,
    "calculateOptionPrice": _refusal(200, NO_CONTRACT),
    "cancelCalculateOptionPrice": nothing,
    "exerciseOptions": _refusal(200, NO_CONTRACT),
    "requestFA": _refusal(
        321,
        "Error validating request.-'cH' : cause - FA data operations ignored for non FA customers.",
    ),
    "replaceFA": _refusal(
        321,
        "Error validating request.-'cH' : cause - FA data operations ignored for non FA customers.",
    ),
    "queryDisplayGroups": _answer("displayGroupList", groups=""),
    "subscribeToGroupEvents": nothing,
    "updateDisplayGroup": nothing,
    "unsubscribeFromGroupEvents": nothing,
}
