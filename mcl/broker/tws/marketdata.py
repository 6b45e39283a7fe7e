"""How the server answers requests about contracts, history and live data."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mcl import calendar
from mcl.broker.tws import render
from mcl.broker.tws.contracts import Listed
from mcl.broker.tws.feed import NS, Tape
from mcl.broker.tws.messages import Values
from mcl.broker.tws.trading import Handler, nothing

if TYPE_CHECKING:
    from mcl.broker.tws.session import Session

BAR_SIZES = {"1 min": "1m", "5 mins": "5m", "15 mins": "15m", "30 mins": "30m", "1 hour": "1h"}
_DURATION = re.compile(r"(\d+) ([SDWMY])")
_SECONDS = {"S": 1, "W": 7 * 86_400, "M": 30 * 86_400, "Y": 365 * 86_400}
_WHAT = frozenset({"TRADES", "MIDPOINT", "BID", "ASK"})
_LIQUID_FROM_NS, _LIQUID_TO_NS = (9 * 60 + 30) * 60 * NS, 17 * 3600 * NS
_NO_CONTRACT = "No security definition has been found for the request"
_HISTORY_ERROR = "Historical Market Data Service error message:"


def _contract_details(session: Session, request: Values) -> None:
    req_id, tws = request["req_id"], session.tws
    if request["sec_type"] not in {"FUT", ""}:
        session.error(req_id, 321, "Error validating request.-'bQ' : cause - Please enter a valid security type")
        return
    found = tws.listings.find(request)
    if not found:
        session.error(req_id, 200, _NO_CONTRACT)
        return
    today = calendar.from_day(int(calendar.session_of(tws.book.now)))
    for listed in found:
        session.send("contractDetails", **listed.details(req_id, today))
    session.send("contractDetailsEnd", req_id=req_id)


def _matching_symbols(session: Session, request: Values) -> None:
    pattern = request["pattern"].upper()
    known = {listed.contract.root: listed for listed in session.tws.listings.roots() if listed.contract.root.startswith(pattern)}
    samples = [
        {"con_id": listed.con_id, "symbol": root, "sec_type": "IND", "primary_exchange": listed.instrument.exchange, "currency": "USD"}
        | {"derivatives": [{"sec_type": "FUT"}], "description": listed.instrument.name}
        for root, listed in known.items()
    ]
    session.send("symbolSamples", req_id=request["req_id"], samples=samples)


def _current_time(session: Session, _request: Values) -> None:
    """Also the sign of life that lock-step replay waits for."""
    session.send("currentTime", time=session.tws.book.now // NS)
    session.tws.player.ready(session)


def _market_rule(session: Session, request: Values) -> None:
    tick = session.tws.tape.instrument.tick_size
    session.send("marketRule", rule_id=request["rule_id"], increments=[{"low_edge": 0.0, "increment": tick}])


# ------------------------------------------------------------------------------------------------------------- history


def _played(session: Session, request: Values) -> Listed | None:
    """The contract of a data request if it is the one on the tape; tells the client otherwise."""
    found = session.tws.listings.find(request)
    if len(found) != 1:
        session.error(request["req_id"], 200, _NO_CONTRACT)
        return None
    if found[0] is not session.tws.played:
        text = f"HMDS query returned no data: {found[0].local_symbol}@{found[0].instrument.exchange} {request['what']}"
        session.error(request["req_id"], 162, f"{_HISTORY_ERROR}{text}")
        return None
    return found[0]


def _historical_data(session: Session, request: Values) -> None:
    listed, req_id, tws = _played(session, request), request["req_id"], session.tws
    if listed is None:
        return
    if request["keep_up_to_date"] and request["end"]:
        cause = "End Date Time cannot be specified when live updates are requested"
        session.error(req_id, 321, f"Error validating request.-'bL' : cause - {cause}")
        return
    rows = history_rows(tws.tape, tws.player.row, request)
    if rows is None or not len(rows):
        text = f"HMDS query returned no data: {listed.local_symbol}@{listed.instrument.exchange} {request['what']}"
        session.error(req_id, 162, f"{_HISTORY_ERROR}{text}")
        return
    bars = [bar_values(tws.tape, int(row), request["format_date"], request["what"]) for row in rows]
    start, end = render.local_time(int(tws.tape.start[rows[0]])), render.local_time(tws.book.now)
    if request["keep_up_to_date"] and tws.player.in_progress:
        bars.append(opening_values(tws.tape, tws.player.row, request["format_date"]))
    session.send("historicalData", req_id=req_id, start=start, end=end, bars=bars)
    if request["keep_up_to_date"]:
        session.subscribed.bars[req_id] = (listed, request["format_date"])
        tws.player.listen(session)


def history_rows(tape: Tape, stop: int, request: Values) -> np.ndarray | None:
    """Rows that answer a historical request when only rows before `stop` have completed; None for a request it cannot serve."""
    duration = _DURATION.fullmatch(request["duration"])
    if duration is None or BAR_SIZES.get(request["bar_size"]) != tape.interval or request["what"] not in _WHAT:
        return None
    if request["end"]:
        stop = min(stop, int(np.searchsorted(tape.start + tape.interval_ns, _instant(request["end"]), "right")))
    if stop == 0:
        return None
    count, unit = int(duration[1]), duration[2]
    if unit == "D":
        session = calendar.session_of(tape.start[:stop])
        days = np.unique(session)
        first = int(np.searchsorted(session, days[max(0, len(days) - count)]))
    else:
        from_ns = int(tape.start[stop - 1]) + tape.interval_ns - count * _SECONDS[unit] * NS
        first = int(np.searchsorted(tape.start, from_ns, "left"))
    rows = np.arange(first, stop)
    if request["use_rth"]:
        clock = calendar.new_york_ns(tape.start[rows]) % calendar.DAY_NS
        rows = rows[(clock >= _LIQUID_FROM_NS) & (clock < _LIQUID_TO_NS)]
    return rows


def _instant(text: str) -> int:
    """`20260811-13:00:00` and `20260811 13:00:00 UTC` are UTC, `20260811 09:00:00 US/Eastern` is not."""
    stamp, zone = text[:17].replace("-", " "), text[17:].strip()
    moment = datetime.strptime(stamp, "%Y%m%d %H:%M:%S").replace(tzinfo=calendar.NEW_YORK if zone.startswith(("US", "America")) else UTC)
    return int(moment.timestamp()) * NS


def _date(start_ns: int, date_format: int | None) -> str:
    return str(start_ns // NS) if date_format == 2 else render.local_time(start_ns)


def bar_values(tape: Tape, row: int, date_format: int | None, what: str = "TRADES") -> Values:
    """One complete bar. Quotes (BID, ASK, MIDPOINT) have no volume: TWS writes -1."""
    open_, high, low, close = (float(getattr(tape, name)[row]) for name in ("open", "high", "low", "close"))
    traded = int(tape.volume[row]) if what == "TRADES" else -1
    average = round((open_ + high + low + close) / 4, 3) if what == "TRADES" else -1.0
    date = _date(int(tape.start[row]), date_format)
    return {"date": date, "open": open_, "high": high, "low": low, "close": close, "volume": traded, "wap": average, "count": traded}


def opening_values(tape: Tape, row: int, date_format: int | None) -> Values:
    """A bar of which only the open is known."""
    price = float(tape.open[row])
    date = _date(int(tape.start[row]), date_format)
    return {"date": date, "open": price, "high": price, "low": price, "close": price, "volume": 0, "wap": price, "count": 0}


def _cancel_historical(session: Session, request: Values) -> None:
    if session.subscribed.bars.pop(request["req_id"], None) is None:
        session.error(request["req_id"], 366, f"No historical data query found for ticker id:{request['req_id']}")
    elif not session.subscribed.bars:
        session.tws.player.leave(session)


def _head_timestamp(session: Session, request: Values) -> None:
    if _played(session, request) is not None:
        first = int(session.tws.tape.start[0])
        text = str(first // NS) if request["format_date"] == 2 else f"{render.moment(first):%Y%m%d-%H:%M:%S}"
        session.send("headTimestamp", req_id=request["req_id"], time=text)


# ---------------------------------------------------------------------------------------------------------------- live


def _market_data(session: Session, request: Values) -> None:
    req_id, tws = request["req_id"], session.tws
    found = tws.listings.find(request)
    if len(found) != 1:
        session.error(req_id, 200, _NO_CONTRACT)
        return
    session.send("tickReqParams", req_id=req_id, min_tick=repr(found[0].instrument.tick_size), snapshot_permissions=3)
    session.send("marketDataType", req_id=req_id, type=1)
    price = tws.book.price(found[0])
    if price is not None:
        push_quote(session, req_id, found[0], price, tws.book.now)
    if request["snapshot"]:
        session.send("tickSnapshotEnd", req_id=req_id)
    else:
        session.subscribed.quotes[req_id] = found[0]


def push_quote(session: Session, req_id: int, listed: Listed, last: float, now: int) -> None:
    """Bid and ask stand at the slippage that a market order would pay; last is the price it is measured from."""
    away = session.tws.book.slippage_ticks * listed.instrument.tick_size
    session.send("tickString", req_id=req_id, tick_type=45, value=str(now // NS))
    for tick_type, price in ((1, last - away), (2, last + away), (4, last)):
        session.send("tickPrice", req_id=req_id, tick_type=tick_type, price=listed.price(round(price, 8)), size=1, mask=0)


def push_range(session: Session, req_id: int, listed: Listed, bar: Values, volume: int) -> None:
    """What a completed bar adds: the close as last price, the day's high and low so far are left to the client, the day's volume."""
    session.send("tickPrice", req_id=req_id, tick_type=4, price=listed.price(bar["close"]), size=1, mask=0)
    session.send("tickSize", req_id=req_id, tick_type=8, size=volume)


def _cancel_market_data(session: Session, request: Values) -> None:
    if session.subscribed.quotes.pop(request["req_id"], None) is None:
        session.error(request["req_id"], 300, f"Can't find EId with tickerId:{request['req_id']}")


def _refusal(code: int, text: str) -> Handler:
    """A kind of data that this server does not have."""

    def refuse(session: Session, request: Values) -> None:
        session.error(request["req_id"], code, text)

    return refuse


HANDLERS: dict[str, Handler] = {
    "reqContractDetails": _contract_details,
    "reqCurrentTime": _current_time,
    "reqHistoricalData": _historical_data,
    "cancelHistoricalData": _cancel_historical,
    "reqHeadTimeStamp": _head_timestamp,
    "cancelHeadTimeStamp": nothing,
    "reqMktData": _market_data,
    "cancelMktData": _cancel_market_data,
    "reqMarketDataType": nothing,
    "reqMarketRule": _market_rule,
    "reqMatchingSymbols": _matching_symbols,
    "reqRealTimeBars": _refusal(420, "Invalid Real-time Query:Historical data bars of 5 seconds are not available"),
    "reqHistoricalTicks": _refusal(162, f"{_HISTORY_ERROR}HMDS query returned no data: ticks are not available"),
    "reqTickByTickData": _refusal(10190, "Max number of tick-by-tick requests has been reached: 0"),
    "reqMktDepth": _refusal(10092, "Deep market data is not supported for this combination of security type/exchange"),
    "cancelRealTimeBars": nothing,
    "cancelTickByTickData": nothing,
    "cancelMktDepth": nothing,
}
