"""The live data of one contract: quotes, ticks, depth, 5-second bars and bars that are kept up to
date.

A tape without quotes shows a bar's open when it opens, and the rest when it is complete: its path
is then open, the nearer extreme, the other one, close, with bid and ask at the slippage that a
market order would pay. A tape with quotes shows each of them as it comes. Quotes are sent as a TWS
sends them, at most four times a second of market time; ticks and depth are sent one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mcl.base.instants import NS
from mcl.simulators.tws import history
from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.history import HistoryBar
from mcl.simulators.tws.replay import TapeTrack
from mcl.simulators.tws.session import ClientSession, QuoteStream
from mcl.simulators.tws.tape import Tape, Tick

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS

TICK_TYPES = {"Last": 1, "AllLast": 2, "BidAsk": 3, "MidPoint": 4}
FIVE_NS = 5 * NS
SAMPLED_NS = NS // 4
BID_SIZE, BID, ASK, ASK_SIZE, LAST, LAST_SIZE, HIGH, LOW, VOLUME, CLOSE, OPEN, TIME, HALTED = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    14,
    45,
    49,
)
_DELAYED = {
    BID: 66,
    ASK: 67,
    LAST: 68,
    HIGH: 72,
    LOW: 73,
    CLOSE: 75,
    OPEN: 76,
    BID_SIZE: 69,
    ASK_SIZE: 70,
    LAST_SIZE: 71,
    VOLUME: 74,
}
_DELAYED |= {TIME: 88, HALTED: 90}
_SIZE_OF = {BID: BID_SIZE, ASK: ASK_SIZE, LAST: LAST_SIZE}
_INSERT, _UPDATE, _DELETE = 0, 1, 2

Figures = dict[int, tuple[float, int]]  # tick type -> price and size


def path(open_: float, high: float, low: float, close: float) -> tuple[float, float, float, float]:
    """Return one possible path of the price through a bar."""
    first, second = (low, high) if open_ - low <= high - open_ else (high, low)
    return open_, first, second, close


def seconds(tape: Tape, row: int) -> list[HistoryBar]:
    """A bar of five seconds or more, cut into pieces of five along its path; the volume is spread
    evenly.
    """
    count = tape.interval_ns // FIVE_NS
    start, prices, volume = int(tape.start[row]), tape.prices(row), int(tape.volume[row])
    if count == 1:
        return [HistoryBar(start, *prices, volume)]
    size = tape.instrument.tick_size
    corners, anchors = path(*prices), (0, count // 3, 2 * count // 3, count)
    points = [corners[0]]
    for a, b, from_, to in zip(anchors, anchors[1:], corners, corners[1:], strict=False):
        points += [
            round(round((from_ + (to - from_) * n / (b - a)) / size) * size, 10)
            for n in range(1, b - a + 1)
        ]
    shares = [volume * (n + 1) // count - volume * n // count for n in range(count)]
    return [
        HistoryBar(start + FIVE_NS * n, a, max(a, b), min(a, b), b, shares[n])
        for n, (a, b) in enumerate(pairwise(points))
    ]


def around(price: float, size: int, ts: int, away: float, top: int) -> Tick:
    """A tick of a tape without quotes: a trade in the middle of a book of one level."""
    return Tick(
        ts, (round(price - away, 8),), (round(price + away, 8),), (top,), (top,), price, size
    )


def grown(bar: HistoryBar | None, start: int, price: float, size: int) -> HistoryBar:
    """A bar in progress after one more trade."""
    if bar is None or bar.start != start:
        return HistoryBar(start, price, price, price, price, size)
    return HistoryBar(
        start, bar.open, max(bar.high, price), min(bar.low, price), price, bar.volume + size
    )


class Stream:
    """Keeps what a new subscriber is told: the last tick, the day's open, range and volume, and the
    bars in progress.
    """

    def __init__(self, tws: SimulatedTWS, track: TapeTrack) -> None:
        self._tws, self.track, self.listed = tws, track, track.listed
        self.forming: HistoryBar | None = None  # the bar in progress as far as it is known
        self._five: HistoryBar | None = None  # the same of five seconds
        self._tick: Tick | None = None
        self._last: tuple[float, int] | None = None  # price and size of the last trade
        self._day: tuple[float, float, float] | None = None  # open, high, low of the session
        self._volume = 0
        self._yesterday = float(track.tape.close[max(0, track.tape.first - 1)])
        self._last_figures: Figures = {}
        self._shown_ns = 0

    def session_closed(self) -> None:
        if self._last is not None:
            self._yesterday = self._last[0]
        self._push_five(None)
        self._day, self._volume, self.forming, self._tick, self._last_figures = (
            None,
            0,
            None,
            None,
            {},
        )

    # ---------------------------------------------------------------------------------------- tapes

    def opened(self) -> None:
        """A bar of a tape without quotes opens."""
        tape, row = self.track.tape, self.track.row
        price = float(tape.open[row])
        self.forming = HistoryBar(int(tape.start[row]), price, price, price, price, 0)
        self.bars(self.forming)
        self._show(self._around(price, 1), counted=False)

    def completed(self, row: int) -> None:
        tape = self.track.tape
        self.bars(None)
        if tape.quotes is None:
            corners, volume = path(*tape.prices(row)), int(tape.volume[row])
            for n, price in enumerate(corners[1:]):
                self._show(
                    self._around(price, max(1, volume * (n + 1) // 3 - volume * n // 3)),
                    counted=False,
                )
            self._volume += volume
            for bar in seconds(tape, row) if tape.interval_ns >= FIVE_NS else ():
                self._push_second(bar)
            if tape.interval_ns < FIVE_NS:
                self._collect(row)
        self._push_quotes()
        self.forming = None

    def ticked(self, tick: Tick) -> None:
        """A tick of a tape with quotes."""
        if tick.size:
            at = tick.ts // self.track.tape.interval_ns * self.track.tape.interval_ns
            self.forming = grown(self.forming, at, tick.price, tick.size)
        self._flow(tick)
        self._show(tick)

    def _around(self, price: float, size: int) -> Tick:
        top = self._tws.book.exchange.options.top_size or 1
        return around(price, size, self._tws.book.now, self.away, top)

    @property
    def away(self) -> float:
        """From a trade to bid and ask on a tape without quotes, in price units."""
        return self._tws.book.exchange.slippage_ticks * self.listed.instrument.tick_size

    # --------------------------------------------------------------------------------------- quotes

    def first(self, session: ClientSession, req_id: int, quote: QuoteStream) -> None:
        """Send a new subscriber the figures of now."""
        self._push_quotes()
        if self._tick is None:
            return
        self._send_time(session, req_id, quote)
        for tick_type, (price, size) in (self._figures() | {CLOSE: (self._yesterday, 0)}).items():
            self._send_figure(session, req_id, quote, tick_type, price, size)
        session.send(
            "tickGeneric",
            req_id=req_id,
            tick_type=_typed(quote, HALTED),
            value=float(self._tws.book.exchange.halted),
        )

    def _show(self, tick: Tick, counted: bool = True) -> None:
        before, self._tick = self._tick, tick
        if tick.size or self._last is None:
            price = tick.price if tick.size else (tick.bid[0] + tick.ask[0]) / 2
            first, top, bottom = self._day or (price, price, price)
            self._day = (first, max(top, price), min(bottom, price))
            self._last = (price, tick.size or 1)
            self._volume += tick.size if counted else 0
        self._push_ticks(tick, before)
        self._push_depth(tick, before)
        if tick.ts - self._shown_ns >= SAMPLED_NS:
            self._push_quotes()

    def _figures(self) -> Figures:
        tick, figures = self._tick, Figures()
        if tick is not None:
            for tick_type, price, size in (
                (BID, tick.bid[0], tick.bid_size[0]),
                (ASK, tick.ask[0], tick.ask_size[0]),
            ):
                figures[tick_type] = (price, size) if price == price else (-1.0, 0)  # noqa: PLR0124 (NaN: nobody is there)
        if self._last is not None and self._day is not None:
            figures[LAST] = self._last
            figures |= {
                tick_type: (price, 0)
                for tick_type, price in zip((OPEN, HIGH, LOW), self._day, strict=True)
            }
            figures[VOLUME] = (0.0, self._volume)
        return figures

    def _push_quotes(self) -> None:
        """To all subscribers what has changed since the last time."""
        if self._tick is None:
            return
        now = self._figures()
        changed = {
            tick_type: pair
            for tick_type, pair in now.items()
            if self._last_figures.get(tick_type) != pair
        }
        self._shown_ns = self._tick.ts
        for session, req_id, quote in self._quotes() if changed else ():
            if VOLUME in changed:
                self._send_time(session, req_id, quote)
            for tick_type, (price, size) in changed.items():
                previous = self._last_figures.get(tick_type)
                if previous is not None and previous[0] == price and tick_type in _SIZE_OF:
                    session.send(
                        "tickSize",
                        req_id=req_id,
                        tick_type=_typed(quote, _SIZE_OF[tick_type]),
                        size=size,
                    )
                else:
                    self._send_figure(session, req_id, quote, tick_type, price, size)
        self._last_figures = now

    def _quotes(self) -> list[tuple[ClientSession, int, QuoteStream]]:
        return [
            (s, r, q)
            for s in list(self._tws.sessions)
            for r, q in list(s.subscribed.quotes.items())
            if q.listed is self.listed
        ]

    def _send_time(self, session: ClientSession, req_id: int, quote: QuoteStream) -> None:
        session.send(
            "tickString",
            req_id=req_id,
            tick_type=_typed(quote, TIME),
            value=str(self._tws.book.now // NS),
        )

    def _send_figure(
        self,
        session: ClientSession,
        req_id: int,
        quote: QuoteStream,
        tick_type: int,
        price: float,
        size: int,
    ) -> None:
        typed = _typed(quote, tick_type)
        if tick_type == VOLUME:
            session.send("tickSize", req_id=req_id, tick_type=typed, size=size)
        else:
            session.send(
                "tickPrice",
                req_id=req_id,
                tick_type=typed,
                price=self.listed.price(round(price, 8)),
                size=size,
                mask=0,
            )

    # ------------------------------------------------------------------------------ ticks and depth

    def _push_ticks(self, tick: Tick, before: Tick | None) -> None:
        for session in list(self._tws.sessions):
            for req_id, (listed, what) in list(session.subscribed.ticks.items()):
                values = (
                    tick_by_tick(tick, before, what, self.listed) if listed is self.listed else None
                )
                if values is not None:
                    session.send(
                        "tickByTick",
                        req_id=req_id,
                        kind=TICK_TYPES[what],
                        time=tick.ts // NS,
                        **values,
                    )

    def first_depth(self, session: ClientSession, req_id: int) -> None:
        if self._tick is not None:
            self._send_depth(session, req_id, self._tick, None)

    def _push_depth(self, tick: Tick, before: Tick | None) -> None:
        for session in list(self._tws.sessions):
            for req_id, wanted in list(session.subscribed.depth.items()):
                if wanted.listed is self.listed:
                    self._send_depth(session, req_id, tick, before)

    def _send_depth(
        self, session: ClientSession, req_id: int, tick: Tick, before: Tick | None
    ) -> None:
        wanted = session.subscribed.depth[req_id]
        for position, operation, side, price, size in depth_changes(tick, before, wanted.rows):
            values: dict[str, Any] = {
                "req_id": req_id,
                "position": position,
                "operation": operation,
                "side": side,
                "size": size,
            }
            values["price"] = self.listed.price(round(price, 8))
            if wanted.smart:
                session.send(
                    "updateMktDepthL2", **values, maker=self.listed.instrument.exchange, smart=True
                )
            else:
                session.send("updateMktDepth", **values)

    # ----------------------------------------------------------------------------------------- bars

    def bars(self, forming: HistoryBar | None) -> None:
        """Streams that are kept up to date get the bar in progress, or (None) the one that has just
        completed.

        Of a finer tape they are told every five seconds, and when their own bar opens or ends.
        """
        tape, row = self.track.tape, self.track.row if forming is not None else self.track.row - 1
        moment = int(tape.start[row]) + (tape.interval_ns if forming is None else 0)
        for session in list(self._tws.sessions):
            for req_id, stream in list(session.subscribed.bars.items()):
                often = (
                    tape.interval_ns >= FIVE_NS or moment % min(FIVE_NS, stream.form.step_ns) == 0
                )
                if stream.listed is self.listed and often:
                    values = history.current(tape, row, forming, stream.form, self._tws.book.now)
                    session.send("historicalDataUpdate", req_id=req_id, **values)

    def _flow(self, tick: Tick) -> None:
        """Five-second bars out of ticks; at the end of each the bars in progress are told too."""
        start = tick.ts // FIVE_NS * FIVE_NS
        if self._five is not None and start > self._five.start:
            self._push_five(start)
        if tick.size:
            self._five = grown(
                self._five if self._five and self._five.volume else None,
                start,
                tick.price,
                tick.size,
            )

    def _push_five(self, until: int | None) -> None:
        """The one in progress, and one without trades for each five seconds since."""
        done, self._five = self._five, None
        if done is None:
            return
        self._push_second(done)
        if until is None:
            return
        if self.forming is not None and self.track.in_progress:
            self.bars(self.forming)
        last = done.close
        for start in range(done.start + FIVE_NS, until, FIVE_NS):
            self._push_second(HistoryBar(start, last, last, last, last, 0))
        self._five = HistoryBar(until, last, last, last, last, 0)

    def _collect(self, row: int) -> None:
        """Five-second bars out of finer ones."""
        tape = self.track.tape
        start = int(tape.start[row]) // FIVE_NS * FIVE_NS
        if self._five is not None and self._five.start != start:
            self._push_five(None)
        for price, size in zip(tape.prices(row), (0, 0, 0, int(tape.volume[row])), strict=True):
            self._five = grown(self._five, start, price, size)
        if int(tape.start[row]) + tape.interval_ns == start + FIVE_NS:
            self._push_five(None)

    def _push_second(self, bar: HistoryBar) -> None:
        traded = {"volume": bar.volume, "wap": bar.close, "count": bar.volume}
        for session in list(self._tws.sessions):
            for req_id, (listed, what) in list(session.subscribed.seconds.items()):
                if listed is self.listed:
                    figures = (
                        traded if what == "TRADES" else {"volume": -1, "wap": -1.0, "count": -1}
                    )
                    form = history.BarForm(FIVE_NS, None, what, self.away)
                    ohlc = history.priced(self.track.tape, bar, form)
                    prices = {
                        "open": ohlc.open,
                        "high": ohlc.high,
                        "low": ohlc.low,
                        "close": ohlc.close,
                    }
                    session.send(
                        "realTimeBar", req_id=req_id, time=bar.start // NS, **prices, **figures
                    )


def _typed(quote: QuoteStream, tick_type: int) -> int:
    return _DELAYED[tick_type] if quote.delayed else tick_type


def tick_by_tick(
    tick: Tick, before: Tick | None, what: str, listed: Listed
) -> dict[str, Any] | None:
    """The values of one kind of tick; None where this tick is none of that kind."""
    bid, ask = tick.bid[0], tick.ask[0]
    if what in {"Last", "AllLast"}:
        return (
            {
                "price": listed.price(tick.price),
                "size": tick.size,
                "exchange": listed.instrument.exchange,
            }
            if tick.size
            else None
        )
    if math.isnan(bid + ask):
        return None
    if what == "MidPoint":
        same = before is not None and before.bid[0] + before.ask[0] == bid + ask
        return None if same else {"mid": listed.price(round((bid + ask) / 2, 8))}
    sizes = {"bid_size": tick.bid_size[0], "ask_size": tick.ask_size[0]}
    if before is not None and (
        before.bid[0],
        before.ask[0],
        before.bid_size[0],
        before.ask_size[0],
    ) == (bid, ask, *sizes.values()):
        return None
    return {"bid": listed.price(bid), "ask": listed.price(ask), **sizes}


def depth_changes(
    tick: Tick, before: Tick | None, rows: int
) -> Iterator[tuple[int, int, int, float, int]]:
    """(position, operation, side, price, size): operation 0 insert, 1 update, 2 delete; side 0 ask,
    1 bid.
    """
    for side, prices, sizes in ((1, tick.bid, tick.bid_size), (0, tick.ask, tick.ask_size)):
        old = () if before is None else (before.bid_size, before.ask_size)[1 - side]
        old_prices = () if before is None else (before.bid, before.ask)[1 - side]
        for level in range(min(rows, len(prices))):
            had = level < len(old) and old[level] > 0
            if sizes[level] <= 0:
                if had:
                    yield level, _DELETE, side, 0.0, 0
            elif not had:
                yield level, _INSERT, side, prices[level], sizes[level]
            elif (prices[level], sizes[level]) != (old_prices[level], old[level]):
                yield level, _UPDATE, side, prices[level], sizes[level]
