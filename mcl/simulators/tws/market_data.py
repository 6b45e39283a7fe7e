"""Answers requests about contracts, history and live data."""

from __future__ import annotations

from mcl.base.instants import NS
from mcl.market import calendar
from mcl.simulators.tws import historical_ticks, history, other_requests, stamps
from mcl.simulators.tws.checks import NO_CONTRACT
from mcl.simulators.tws.contracts import CONTINUOUS, Listed
from mcl.simulators.tws.history import WHAT
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.session import BarStream, ClientSession, DepthOf, Following, QuoteStream
from mcl.simulators.tws.stream import TICK_TYPES, Stream
from mcl.simulators.tws.trading import Handler, nothing

MAX_TICK_STREAMS = 3
MAX_DEPTHS = 3
_TICKS = {
    "TRADES": "historicalTicksLast",
    "BID_ASK": "historicalTicksBidAsk",
    "MIDPOINT": "historicalTicks",
}
_HISTORY_ERROR = "Historical Market Data Service error message:"


def _contract_details(session: ClientSession, request: Values) -> None:
    req_id, tws = request["req_id"], session.tws
    sec_type = request["sec_type"] or "FUT"
    if sec_type not in {"FUT", CONTINUOUS}:
        session.error(
            req_id,
            321,
            "Error validating request.-'bQ' : cause - Please enter a valid security type",
        )
        return
    matching = tws.listings.find(request)
    if not matching:
        session.error(req_id, 200, NO_CONTRACT)
        return
    today = calendar.from_day(int(calendar.session_of(tws.book.now)))
    for listed in matching:
        session.send("contractDetails", **listed.details(req_id, today, sec_type))
    session.send("contractDetailsEnd", req_id=req_id)


def _matching_symbols(session: ClientSession, request: Values) -> None:
    pattern = request["pattern"].upper()
    first_of_root = {
        listed.contract.root: listed
        for listed in session.tws.listings.roots()
        if listed.contract.root.startswith(pattern)
    }
    samples = [
        {
            "con_id": listed.con_id,
            "symbol": root,
            "sec_type": "IND",
            "primary_exchange": listed.instrument.exchange,
            "currency": "USD",
        }
        | {"derivatives": [{"sec_type": "FUT"}], "description": listed.instrument.name}
        for root, listed in first_of_root.items()
    ]
    session.send("symbolSamples", req_id=request["req_id"], samples=samples)


def _current_time(session: ClientSession, _request: Values) -> None:
    """Also the sign of life that lock-step replay waits for."""
    session.send("currentTime", time=session.tws.player.now() // NS)
    session.tws.player.ready(session)


def _market_rule(session: ClientSession, request: Values) -> None:
    tick = session.tws.played.instrument.tick_size
    session.send(
        "marketRule", rule_id=request["rule_id"], increments=[{"low_edge": 0.0, "increment": tick}]
    )


# ------------------------------------------------------------------------------------------ history


def _played(session: ClientSession, request: Values) -> Stream | None:
    """Return the stream of the contract of a data request; send the client an error where no tape
    is of that contract.
    """
    matching = session.tws.listings.find(request)
    if len(matching) != 1:
        session.error(request["req_id"], 200, NO_CONTRACT)
        return None
    stream = session.tws.streams.get(matching[0].con_id)
    if stream is None:
        _no_data(session, request, matching[0])
    return stream


def _no_data(session: ClientSession, request: Values, listed: Listed) -> None:
    text = (
        f"HMDS query returned no data: {listed.local_symbol}@{listed.instrument.exchange}"
        f" {request['what']}"
    )
    session.error(request["req_id"], 162, f"{_HISTORY_ERROR}{text}")


def _historical_data(session: ClientSession, request: Values) -> None:
    stream, req_id = _played(session, request), request["req_id"]
    if stream is None:
        return
    if request["keep_up_to_date"] and request["end"]:
        cause = "End Date Time cannot be specified when live updates are requested"
        session.error(req_id, 321, f"Error validating request.-'bL' : cause - {cause}")
        return
    if request["sec_type"] == CONTINUOUS and request["end"]:
        text = "Setting end date/time for continuous future security type is not allowed."
        session.error(req_id, 10339, text)
        return
    if request["what"] == "SCHEDULE":
        other_requests.schedule(session, request)
        return
    track = stream.track
    step = history.step_ns(track.tape, request["bar_size"])
    rows = None if step is None else history.rows(track.tape, track.row, request)
    if step is None or rows is None or not len(rows):
        _no_data(session, request, track.listed)
        return
    form = history.BarForm(step, request["format_date"], request["what"], stream.away)
    _send_history(session, request, stream, rows, form)
    if request["keep_up_to_date"]:
        session.subscribed.bars[req_id] = BarStream(track.listed, form)
        session.tws.player.listen(session)


def _send_history(
    session: ClientSession,
    request: Values,
    stream: Stream,
    rows: history.Ints,
    form: history.BarForm,
) -> None:
    track = stream.track
    bars = history.bars(track.tape, rows, form)
    if request["keep_up_to_date"] and track.in_progress and stream.forming is not None:
        bar = history.current(track.tape, track.row, stream.forming, form, session.tws.book.now)
        bars = [*(bars[:-1] if bars[-1]["date"] == bar["date"] else bars), bar]
    start, end = (
        stamps.local_time(int(track.tape.start[rows[0]])),
        stamps.local_time(session.tws.book.now),
    )
    session.send("historicalData", req_id=request["req_id"], start=start, end=end, bars=bars)


def _head_timestamp(session: ClientSession, request: Values) -> None:
    if (stream := _played(session, request)) is not None:
        first = int(stream.track.tape.start[0])
        text = (
            str(first // NS)
            if request["format_date"] == 2
            else f"{stamps.moment(first):%Y%m%d-%H:%M:%S}"
        )
        session.send("headTimestamp", req_id=request["req_id"], time=text)


# --------------------------------------------------------------------------------------------- live


def _market_data(session: ClientSession, request: Values) -> None:
    """Live prices; without permission delayed ones for a client that has asked for them, or error
    354.
    """
    req_id, tws = request["req_id"], session.tws
    matching = tws.listings.find(request)
    if len(matching) != 1:
        session.error(req_id, 200, NO_CONTRACT)
        return
    wants_delayed = session.subscribed.data_type in {3, 4}
    if not tws.permitted and not wants_delayed:
        session.error(
            req_id,
            354,
            "Requested market data is not subscribed. Delayed market data is available.",
        )
        return
    quote = QuoteStream(matching[0], delayed=not tws.permitted)
    if quote.delayed:
        session.error(
            req_id,
            10167,
            "Requested market data is not subscribed. Displaying delayed market data.",
        )
    session.send(
        "tickReqParams",
        req_id=req_id,
        min_tick=repr(quote.listed.instrument.tick_size),
        snapshot_permissions=3,
    )
    session.send("marketDataType", req_id=req_id, type=3 if quote.delayed else 1)
    if (stream := tws.streams.get(quote.listed.con_id)) is not None:
        stream.first(session, req_id, quote)
    if request["snapshot"]:
        session.send("tickSnapshotEnd", req_id=req_id)
    else:
        session.subscribed.quotes[req_id] = quote


def _data_type(session: ClientSession, request: Values) -> None:
    session.subscribed.data_type = request["type"]


def _real_time_bars(session: ClientSession, request: Values) -> None:
    if request["what"] not in WHAT or request["bar_size"] != 5:
        session.error(
            request["req_id"],
            321,
            "Error validating request.-'bN' : cause - Only bars of 5 seconds are available",
        )
    elif (stream := _played(session, request)) is not None:
        _follow(
            session,
            session.subscribed.seconds,
            request["req_id"],
            Following(stream.track.listed, request["what"]),
        )


def _tick_by_tick(session: ClientSession, request: Values) -> None:
    kind = request["tick_type"]
    if kind not in TICK_TYPES:
        session.error(
            request["req_id"],
            10189,
            f"Failed to request tick-by-tick data: unknown tick type {kind}",
        )
    elif len(session.subscribed.ticks) >= MAX_TICK_STREAMS:
        session.error(
            request["req_id"], 10190, "Max number of tick-by-tick requests has been reached."
        )
    elif (stream := _played(session, request | {"what": kind})) is not None:
        _follow(
            session,
            session.subscribed.ticks,
            request["req_id"],
            Following(stream.track.listed, kind),
        )


def _follow(
    session: ClientSession, streams: dict[int, Following], req_id: int, what: Following
) -> None:
    streams[req_id] = what
    session.tws.player.listen(session)


def _cancel_stream(name: str, code: int, text: str) -> Handler:
    def cancel(session: ClientSession, request: Values) -> None:
        streams = getattr(session.subscribed, name)
        if streams.pop(request["req_id"], None) is None:
            session.error(request["req_id"], code, f"{text}:{request['req_id']}")
        elif not session.subscribed.paces:
            session.tws.player.leave(session)

    return cancel


def _market_depth(session: ClientSession, request: Values) -> None:
    req_id, matching = request["req_id"], session.tws.listings.find(request)
    stream = session.tws.streams.get(matching[0].con_id) if len(matching) == 1 else None
    if len(matching) != 1:
        session.error(req_id, 200, NO_CONTRACT)
    elif stream is None:
        session.error(
            req_id,
            10092,
            "Deep market data is not supported for this combination of security type/exchange",
        )
    elif len(session.subscribed.depth) >= MAX_DEPTHS:
        session.error(
            req_id, 309, f"Max number ({MAX_DEPTHS}) of market depth requests has been reached"
        )
    else:
        session.subscribed.depth[req_id] = DepthOf(
            matching[0], max(1, request["rows"] or 1), request["smart"]
        )
        stream.first_depth(session, req_id)


def _historical_ticks(session: ClientSession, request: Values) -> None:
    """One message with all ticks, and the flag that says so."""
    what, req_id = request["what"], request["req_id"]
    if what not in historical_ticks.KINDS or bool(request["start"]) == bool(request["end"]):
        cause = (
            "Historical ticks need TRADES, BID_ASK or MIDPOINT, and either a start or an end time"
        )
        session.error(req_id, 321, f"Error validating request.-'bR' : cause - {cause}")
    elif (stream := _played(session, request)) is not None:
        start, end = (
            stamps.instant(request[name]) if request[name] else None for name in ("start", "end")
        )
        count = request["count"] or 1
        ticks = historical_ticks.ticks(
            stream.track, what, start, end, session.tws.book.now, count, stream.away
        )
        session.send(_TICKS[what], req_id=req_id, ticks=ticks, done=True)


def _cancel_market_data(session: ClientSession, request: Values) -> None:
    if session.subscribed.quotes.pop(request["req_id"], None) is None:
        session.error(request["req_id"], 300, f"Can't find EId with tickerId:{request['req_id']}")


def _refusal(code: int, text: str) -> Handler:
    """A kind of data that this server does not have."""

    def refuse(session: ClientSession, request: Values) -> None:
        session.error(request["req_id"], code, text)

    return refuse


HANDLERS: dict[str, Handler] = {
    "reqContractDetails": _contract_details,
    "reqCurrentTime": _current_time,
    "reqHistoricalData": _historical_data,
    "cancelHistoricalData": _cancel_stream(
        "bars", 366, "No historical data query found for ticker id"
    ),
    "reqHeadTimeStamp": _head_timestamp,
    "cancelHeadTimeStamp": nothing,
    "reqMktData": _market_data,
    "cancelMktData": _cancel_market_data,
    "reqMarketDataType": _data_type,
    "reqMarketRule": _market_rule,
    "reqMatchingSymbols": _matching_symbols,
    "reqRealTimeBars": _real_time_bars,
    "reqTickByTickData": _tick_by_tick,
    "reqHistoricalTicks": _historical_ticks,
    "reqMktDepth": _market_depth,
    "cancelRealTimeBars": _cancel_stream("seconds", 300, "Can't find EId with tickerId"),
    "cancelTickByTickData": _cancel_stream("ticks", 300, "Can't find EId with tickerId"),
    "cancelMktDepth": _cancel_stream(
        "depth", 310, "Can't find the subscribed market depth with tickerId"
    ),
}
