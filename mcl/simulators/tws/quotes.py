"""Ticks out of the order books of the store, and the bars that their trades make."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from mcl.base.errors import BrokerError
from mcl.data.depth import Depth
from mcl.market import calendar
from mcl.simulators.tws.tape import INTERVAL_NS, BarColumns, Tape, Ticks, joined


@dataclass
class BookQuotes:
    """The stored books of one contract, one session in memory at a time. States without two sides,
    and crossed ones, are left out.
    """

    books: Depth
    symbol: str
    _day: int = -1
    _ticks: Ticks | None = field(default=None, repr=False)

    def between(self, from_ns: int, to_ns: int) -> Ticks:
        first, last = (int(calendar.session_of(ns)) for ns in (from_ns, max(from_ns, to_ns - 1)))
        pieces = [self.session(day).rows(from_ns, to_ns) for day in range(first, last + 1)]
        return joined([piece for piece in pieces if len(piece)] or pieces[:1])

    def session(self, day: int) -> Ticks:
        """All ticks of a session; none when no book of it is held."""
        if self._ticks is None or day != self._day:
            on = calendar.from_day(day)
            self._ticks = (
                _ticks(self.books, self.symbol, on)
                if (self.symbol, on) in self.books.book_keys
                else _EMPTY
            )
            self._day = day
        return self._ticks


_NO_PRICES, _NO_SIZES = np.empty((1, 0)), np.empty((1, 0), np.int64)
_EMPTY = Ticks(
    np.empty(0, np.int64),
    _NO_PRICES,
    _NO_PRICES,
    _NO_SIZES,
    _NO_SIZES,
    np.empty(0),
    np.empty(0, np.int64),
)


def _ticks(books: Depth, symbol: str, day: date) -> Ticks:
    book = books.book(symbol, day)
    rows = np.flatnonzero(book.sound)
    sides: dict[str, Any] = {
        name: getattr(book, name)[:, rows] for name in ("bid", "ask", "bid_size", "ask_size")
    }
    prices = {name: np.round(sides[name], 10) for name in ("bid", "ask")}
    return Ticks(
        book.ts[rows],
        **(sides | prices),
        price=np.round(book.price[rows], 10),
        size=book.traded[rows],
    )


def bars_of(ticks: Ticks, interval: str) -> BarColumns:
    """Every bar in which something traded."""
    rows = np.flatnonzero(ticks.size)
    step, price = INTERVAL_NS[interval], ticks.price[rows]
    start, first = np.unique(ticks.ts[rows] // step * step, return_index=True)
    last = np.append(first[1:], len(rows)) - 1
    high, low, volume = (
        np.maximum.reduceat(price, first),
        np.minimum.reduceat(price, first),
        np.add.reduceat(ticks.size[rows], first),
    )
    return BarColumns(start, price[first], high, low, price[last], volume)


def in_ticks(tape: Tape, books: Depth) -> Tape:
    """The same sessions with every quote and trade of the books; the bars that are played are those
    that the trades make.
    """
    quotes = BookQuotes(books, tape.contract.symbol)
    sessions = [
        _bars(quotes, int(day), tape.interval)
        for day in np.unique(calendar.session_of(tape.start[tape.first :]))
    ]
    bars = tape.columns.rows(slice(tape.first)).then(sessions)
    return tape.having(bars, tape.first, quotes=quotes, synthetic=tape.synthetic or books.synthetic)


def in_seconds(tape: Tape, books: Depth) -> Tape:
    """The same sessions in bars of one second, with those of the session before as history."""
    days = np.unique(calendar.session_of(tape.start[tape.first - 1 :]))
    sessions = [_bars(BookQuotes(books, tape.contract.symbol), int(day), "1s") for day in days]
    bars = sessions[0].then(sessions[1:])
    return tape.having(
        bars, len(sessions[0].start), interval="1s", synthetic=tape.synthetic or books.synthetic
    )


def _bars(quotes: BookQuotes, day: int, interval: str) -> BarColumns:
    ticks = quotes.session(day)
    if not ticks.size.any():
        latest = ", ".join(f"{symbol} {on}" for symbol, on in quotes.books.book_keys[-4:])
        raise BrokerError(
            f"the store holds no trades of {quotes.symbol} in session {calendar.from_day(day)}; the"
            f" last books: {latest}"
        )
    return bars_of(ticks, interval)
