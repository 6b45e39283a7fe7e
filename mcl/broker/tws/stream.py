"""Live data from a tape: quotes, 5-second bars and ticks, as far as a bar in progress is known.

A bar shows its open when it opens, and the rest when it is complete: its path is then open, the nearer extreme, the other one,
close. Bid and ask stand at the slippage that a market order would pay; last is the price it is measured from.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from mcl.broker.tws import history
from mcl.broker.tws.contracts import Listed
from mcl.broker.tws.feed import NS, Tape
from mcl.broker.tws.player import Reel
from mcl.broker.tws.session import Quote, Session

if TYPE_CHECKING:
    from mcl.broker.tws.server import SimulatedTWS

TICK_TYPES = {"Last": 1, "AllLast": 2, "BidAsk": 3, "MidPoint": 4}
FIVE_NS = 5 * NS
_DELAYED = {1: 66, 2: 67, 4: 68, 6: 72, 7: 73, 9: 75, 14: 76, 0: 69, 3: 70, 5: 71, 8: 74, 45: 88, 49: 90}
BID, ASK, LAST, HIGH, LOW, CLOSE, OPEN, VOLUME, TIME, HALTED = 1, 2, 4, 6, 7, 9, 14, 8, 45, 49


class Second(NamedTuple):
    """A 5-second bar; `start` in seconds."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: int


def path(open_: float, high: float, low: float, close: float) -> tuple[float, float, float, float]:
    """How the price may have gone through a bar."""
    first, second = (low, high) if open_ - low <= high - open_ else (high, low)
    return open_, first, second, close


def seconds(tape: Tape, row: int) -> list[Second]:
    """A bar of five seconds or more, cut into pieces of five along its path; the volume is spread evenly."""
    count = tape.interval_ns // FIVE_NS
    start, prices, volume = int(tape.start[row]) // NS, tape.prices(row), int(tape.volume[row])
    if count == 1:
        return [Second(start, *prices, volume)]
    size = tape.instrument.tick_size
    corners, anchors = path(*prices), (0, count // 3, 2 * count // 3, count)
    points = [corners[0]]
    for a, b, from_, to in zip(anchors, anchors[1:], corners, corners[1:], strict=False):
        points += [round(round((from_ + (to - from_) * n / (b - a)) / size) * size, 10) for n in range(1, b - a + 1)]
    shares = [volume * (n + 1) // count - volume * n // count for n in range(count)]
    return [Second(start + 5 * n, a, max(a, b), min(a, b), b, shares[n]) for n, (a, b) in enumerate(pairwise(points))]


class Stream:
    """What flows about one contract to the clients that have subscribed. Keeps the day's open, range and volume."""

    def __init__(self, tws: SimulatedTWS, reel: Reel) -> None:
        self._tws, self.reel = tws, reel
        self._day: tuple[float, float, float] | None = None  # open, high, low of the session
        self._volume = 0
        self._last = 0.0
        self._yesterday = float(reel.tape.close[max(0, reel.tape.first - 1)])
        self._collected: list[int] = []  # rows of the 5-second bar in progress, when the tape is finer

    def session_closed(self) -> None:
        if self._day is not None:
            self._yesterday = self._last
        self._day, self._volume = None, 0

    def first(self, session: Session, req_id: int, quote: Quote) -> None:
        """What a new subscription is told at once."""
        price = self._tws.book.floor.price(quote.listed)
        if price is None:
            return
        self._quote(session, req_id, quote, price)
        self._range(session, req_id, quote)
        self._tick(session, req_id, quote, CLOSE, self._yesterday)
        session.send("tickGeneric", req_id=req_id, tick_type=self._type(quote, HALTED), value=float(self._tws.book.floor.halted))

    def opened(self) -> None:
        price = float(self.reel.tape.open[self.reel.row])
        self._note(price, price)
        self._last = price
        for session, req_id, quote in self._quotes():
            self._quote(session, req_id, quote, price)
        self._ticks(price, 1)

    def completed(self, row: int) -> None:
        tape = self.reel.tape
        open_, high, low, close = tape.prices(row)
        self._note(high, low)
        self._last, volume = close, int(tape.volume[row])
        self._volume += volume
        for session, req_id, quote in self._quotes():
            self._tick(session, req_id, quote, LAST, close, 1)
            self._range(session, req_id, quote)
        for n, price in enumerate(path(open_, high, low, close)[1:]):
            self._ticks(price, max(1, volume * (n + 1) // 3 - volume * n // 3))
        self._five_seconds(row)

    def _note(self, high: float, low: float) -> None:
        first, top, bottom = self._day or (low, high, low)
        self._day = (first, max(top, high), min(bottom, low))

    # --------------------------------------------------------------------------------------------------------- quotes

    def _quotes(self) -> list[tuple[Session, int, Quote]]:
        listed = self.reel.listed
        return [(s, r, q) for s in list(self._tws.sessions) for r, q in list(s.subscribed.quotes.items()) if q.listed is listed]

    def _type(self, quote: Quote, tick_type: int) -> int:
        return _DELAYED[tick_type] if quote.delayed else tick_type

    def _tick(self, session: Session, req_id: int, quote: Quote, tick_type: int, price: float, size: int = 0) -> None:
        text = quote.listed.price(round(price, 8))
        session.send("tickPrice", req_id=req_id, tick_type=self._type(quote, tick_type), price=text, size=size, mask=0)

    def _quote(self, session: Session, req_id: int, quote: Quote, last: float) -> None:
        away, size = self._spread(quote.listed), self._tws.book.habits.top_size or 1
        stamp = str(self._tws.book.now // NS)
        session.send("tickString", req_id=req_id, tick_type=self._type(quote, TIME), value=stamp)
        for tick_type, price in ((BID, last - away), (ASK, last + away), (LAST, last)):
            self._tick(session, req_id, quote, tick_type, price, size)

    def _range(self, session: Session, req_id: int, quote: Quote) -> None:
        if self._day is not None:
            for tick_type, price in zip((OPEN, HIGH, LOW), self._day, strict=True):
                self._tick(session, req_id, quote, tick_type, price)
        session.send("tickSize", req_id=req_id, tick_type=self._type(quote, VOLUME), size=self._volume)

    def _spread(self, listed: Listed) -> float:
        return self._tws.book.floor.slippage_ticks * listed.instrument.tick_size

    # ---------------------------------------------------------------------------------------------------------- ticks

    def _ticks(self, price: float, size: int) -> None:
        listed, now = self.reel.listed, self._tws.book.now // NS
        away = self._spread(listed)
        bid, ask = (listed.price(round(price + side * away, 8)) for side in (-1, 1))
        top = self._tws.book.habits.top_size or 1
        for session in list(self._tws.sessions):
            for req_id, (followed, what) in list(session.subscribed.ticks.items()):
                if followed is not listed:
                    continue
                kind = TICK_TYPES[what]
                if what == "BidAsk":
                    session.send("tickByTick", req_id=req_id, kind=kind, time=now, bid=bid, ask=ask, bid_size=top, ask_size=top)
                elif what == "MidPoint":
                    session.send("tickByTick", req_id=req_id, kind=kind, time=now, mid=listed.price(price))
                else:
                    where = listed.instrument.exchange
                    session.send("tickByTick", req_id=req_id, kind=kind, time=now, price=listed.price(price), size=size, exchange=where)

    # ----------------------------------------------------------------------------------------------------------- bars

    def bar(self, row: int, complete: bool) -> None:
        """As streams of bars (keepUpToDate) are told of it."""
        for session in list(self._tws.sessions):
            for req_id, stream in list(session.subscribed.bars.items()):
                if stream.listed is self.reel.listed:
                    values = history.current(self.reel.tape, row, complete, stream.step_ns, stream.date_format, stream.what)
                    session.send("historicalDataUpdate", req_id=req_id, **values)

    def _five_seconds(self, row: int) -> None:
        tape = self.reel.tape
        if tape.interval_ns >= FIVE_NS:
            for bar in seconds(tape, row):
                self._push_second(bar)
            return
        opens = int(tape.start[row]) // FIVE_NS
        if self._collected and int(tape.start[self._collected[0]]) // FIVE_NS != opens:
            self._push_collected()
        self._collected.append(row)
        if (int(tape.start[row]) + tape.interval_ns) % FIVE_NS == 0:
            self._push_collected()

    def _push_collected(self) -> None:
        tape, rows = self.reel.tape, self._collected
        start = int(tape.start[rows[0]]) // FIVE_NS * 5
        high, low = float(tape.high[rows].max()), float(tape.low[rows].min())
        self._push_second(Second(start, float(tape.open[rows[0]]), high, low, float(tape.close[rows[-1]]), int(tape.volume[rows].sum())))
        self._collected = []

    def _push_second(self, bar: Second) -> None:
        prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
        for session in list(self._tws.sessions):
            for req_id, (followed, what) in list(session.subscribed.seconds.items()):
                if followed is not self.reel.listed:
                    continue
                trades = what == "TRADES"
                figures = (
                    {"volume": bar.volume, "wap": bar.close, "count": bar.volume} if trades else {"volume": -1, "wap": -1.0, "count": -1}
                )
                session.send("realTimeBar", req_id=req_id, time=bar.start, **prices, **figures)
