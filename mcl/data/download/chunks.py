"""The chunks of a download: trade dates cut into requests, and those that are still missing.

Days are trade dates, start <= day < end. A chunk begins when the first of its sessions opens, 18:00
New York on the evening before, and ends where the next one begins, so that no session is cut in
two. Definitions follow the UTC day instead: they are sent at midnight, must be known before the
session opens, and begin with the day on which it opens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from mcl.base.errors import DataError, nearest
from mcl.base.files import plain_name
from mcl.base.instants import NS, instant
from mcl.market import calendar

# How much one request asks for, and how much one batch job does.
_EVERY = {
    **dict.fromkeys(("ohlcv-1h",), ("year", "year")),
    **dict.fromkeys(("ohlcv-1m", "bbo-1m", "definition", "statistics"), ("month", "year")),
    **dict.fromkeys(("ohlcv-1s", "bbo-1s", "tbbo"), ("week", "month")),
    **dict.fromkeys(("mbp-1", "mbp-10"), ("session", "month")),
}
SCHEMAS = tuple(_EVERY)
# what the vendor has and nothing here reads: refused before it is paid
UNREAD = {
    "ohlcv-1d": "its bars are UTC days, which are no sessions; ohlcv-1m makes bars of sessions",
    "trades": "nothing reads single trades; tbbo holds them with the quotes before each",
    "status": "nothing reads it; the calendar says when the exchange is open",
    "mbo": "nothing reads single orders; mbp-10 holds the book that they make",
}
ALONG = ("definition", "statistics")  # a parent's bars mean nothing without them

Span = tuple[date, date]


@dataclass(frozen=True)
class DownloadChunk:
    """One request and one file: what a symbol did in the sessions start <= trade date < end."""

    symbol: str
    stype_in: str
    schema: str
    start: date
    end: date

    @property
    def name(self) -> str:
        return f"{folder_name(self.symbol)}_{self.schema}_{self.start}_{self.end}.dbn.zst"

    @property
    def begin(self) -> str:
        return edge(self.schema, self.start)

    @property
    def until(self) -> str:
        return edge(self.schema, self.end)

    def __str__(self) -> str:
        return f"{self.symbol} {self.schema} {self.start} to {self.end}"


def folder_name(symbol: str) -> str:
    return plain_name(symbol.replace(".", "_"))


def symbology(symbol: str) -> str:
    """The vendor's stype_in of a symbol. DataError with the shapes there are."""
    shapes = {
        "parent": r"[A-Z0-9]+\.FUT",
        "raw_symbol": r"[A-Z0-9]+[FGHJKMNQUVXZ]\d{1,2}",
    }
    stype = next((kind for kind, shape in shapes.items() if re.fullmatch(shape, symbol)), None)
    if stype is None and re.fullmatch(r"[A-Z0-9]+\.[cvn]\.\d+", symbol):
        root = symbol.partition(".")[0]
        raise DataError(
            f"{symbol} is a continuous symbol: the vendor's rolls are in its prices, and no bar"
            " says which contract it is of",
            f"download {root}.FUT, all expiries: mcl rolls them itself",
        )
    if stype is None:
        raise DataError(
            f"{symbol!r} is no symbol that can be downloaded; for instance MCL.FUT (all expiries)"
            " or MCLG6"
        )
    return stype


def schemas(symbol: str, schema: str) -> list[str]:
    """The schema and, for a parent's prices, what they mean nothing without. DataError with the
    nearest schema there is.
    """
    if schema in UNREAD:
        raise DataError(
            f"schema {schema!r} is not downloaded: {UNREAD[schema]}", "nothing was paid"
        )
    if schema not in SCHEMAS:
        raise DataError(f"unknown schema {schema!r}; {nearest(schema, SCHEMAS)}")
    alone = symbology(symbol) != "parent" or schema in ALONG
    return [schema] if alone else [schema, *ALONG]


def day(text: str, name: str) -> date:
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise DataError(f"{name}={text!r} is not written YYYY-MM-DD: {error}") from error


def edge(schema: str, on: date) -> str:
    """The instant at which the chunk of a trade date begins, ISO 8601 in UTC."""
    if schema == "definition":
        return f"{on - timedelta(days=1)}T00:00:00Z"
    opens = datetime.fromtimestamp(calendar.ns_of(on - timedelta(days=1), 18) // NS, UTC)
    return f"{opens:%Y-%m-%dT%H:%M:%SZ}"


def last_whole(schema: str, available: str) -> date:
    """The first trade date of a schema that is not wholly there when data end at the instant
    `available`.
    """
    end = day(available, "end") + timedelta(days=2)
    while instant(edge(schema, end)) > instant(available):
        end -= timedelta(days=1)
    return end


def later(first: str, second: str) -> str:
    return max(first, second, key=instant)


def missing(wanted: Span, spans: Iterable[Span]) -> list[Span]:
    """The parts of `wanted` that no one of `spans` covers."""
    gaps, at = [], wanted[0]
    for start, end in sorted(spans):
        if start > at:
            gaps.append((at, min(start, wanted[1])))
        at = max(at, end)
    gaps.append((at, wanted[1]))
    return [(start, end) for start, end in gaps if start < end]


def split(schema: str, gap: Span, batch: bool) -> Iterator[Span]:
    """A gap cut at years, months, weeks (Monday) or sessions, the same cuts whatever its ends
    are.
    """
    step, at = _EVERY[schema][batch], gap[0]
    while at < gap[1]:
        following = min(_next(at, step), gap[1])
        yield at, following
        at = following


def _next(on: date, step: str) -> date:
    if step == "year":
        return date(on.year + 1, 1, 1)
    if step == "month":
        return (on.replace(day=1) + timedelta(days=32)).replace(day=1)
    if step == "week":
        return on + timedelta(days=7 - on.weekday())
    # a weekend has no session of its own
    return on + timedelta(days=3 if on.weekday() == 4 else 2 if on.weekday() == 5 else 1)
