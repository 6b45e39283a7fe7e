"""Resolves symbols to instruments by day: parent, raw symbol, instrument id and the continuous c, v
and n.

Days are UTC dates, intervals are start <= day < end. A parent is every outright and every spread of
its root. `ROOT.c.K` is the K-th outright by expiry and keeps a contract until the day of its last
trade; `v` ranks by the volume of the day before, `n` by the open interest that was last published
before the day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import groupby
from typing import NamedTuple

from mcl.base.errors import DataError
from mcl.data.dbn import Mapping
from mcl.market import calendar
from mcl.market.instruments import MONTH_CODES

# what was known before a day: volume or open interest by instrument id
Ranking = Callable[[date], dict[int, int]]

_CONTINUOUS = re.compile(r"([A-Z0-9]+)\.([cvn])\.(\d+)")
_OUTRIGHT = re.compile(rf"([A-Z0-9]{{1,3}}?)[{MONTH_CODES}]\d{{1,2}}")


class Meaning(NamedTuple):
    """On start <= day < end the symbol is this instrument."""

    start: date
    end: date
    instrument_id: int
    raw_symbol: str


class Symbols:
    """The mappings of many DBN headers, joined."""

    def __init__(self, mappings: Iterable[Mapping], volume: Ranking, interest: Ranking) -> None:
        self._by_symbol: dict[str, list[Meaning]] = {}
        for mapping in sorted(set(mappings), key=lambda m: (m.raw_symbol, m.start, m.end)):
            meaning = Meaning(mapping.start, mapping.end, mapping.instrument_id, mapping.raw_symbol)
            _append(self._by_symbol.setdefault(mapping.raw_symbol, []), meaning)
        self._rankings = {"v": volume, "n": interest}

    def resolve(self, symbol: str, stype_in: str, first: date, last: date) -> list[Meaning]:
        """Return the meanings of `symbol` on first <= day < last, by time; empty if it has none."""
        return [
            m._replace(start=max(m.start, first), end=min(m.end, last))
            for m in self._meanings(symbol, stype_in, first, last)
            if m.start < last and m.end > first
        ]

    def _meanings(self, symbol: str, stype_in: str, first: date, last: date) -> list[Meaning]:
        everything = (m for meanings in self._by_symbol.values() for m in meanings)
        if symbol == "ALL_SYMBOLS":
            return list(everything)
        if stype_in == "parent":
            belongs = re.compile(rf"{re.escape(symbol.removesuffix('.FUT'))}([{MONTH_CODES}]\d|:)")
            return [m for m in everything if belongs.match(m.raw_symbol)]
        if stype_in == "instrument_id":
            return [m for m in everything if str(m.instrument_id) == symbol]
        if stype_in == "continuous" and symbol not in self._by_symbol:
            return self._continuous(symbol, first, last)
        return self._by_symbol.get(symbol, [])

    def _continuous(self, symbol: str, first: date, last: date) -> list[Meaning]:
        match = _CONTINUOUS.fullmatch(symbol)
        if match is None:
            return []
        root, rule, rank = match[1], match[2], int(match[3])
        chain = [
            (m, expiry) for m, expiry in self._outrights(root) if m.start < last and m.end > first
        ]
        days = [first + timedelta(days=n) for n in range((last - first).days)]
        chosen = [(day, self._ranked(chain, rule, rank, day)) for day in days]
        meanings = []
        for meaning, run in groupby(chosen, key=lambda pair: pair[1]):
            days_of = [day for day, _ in run]
            if meaning is not None:
                meanings.append(
                    meaning._replace(start=days_of[0], end=days_of[-1] + timedelta(days=1))
                )
        return meanings

    def _outrights(self, root: str) -> list[tuple[Meaning, date]]:
        """The outrights of a root with their last trade dates, nearest first."""
        outrights = []
        for symbol, meanings in self._by_symbol.items():
            match = _OUTRIGHT.fullmatch(symbol)
            if match is not None and match[1] == root:
                outrights += [(m, _last_trade(symbol, m.start)) for m in meanings]
        return sorted(outrights, key=lambda pair: pair[1])

    def _ranked(
        self, chain: list[tuple[Meaning, date]], rule: str, rank: int, day: date
    ) -> Meaning | None:
        live = [m for m, expiry in chain if m.start <= day < m.end and expiry >= day]
        if rule != "c":
            figures = self._rankings[rule](day)
            # stable: equals stay in order of expiry
            live.sort(key=lambda m: -figures.get(m.instrument_id, 0))
        return live[rank] if rank < len(live) else None


def _append(meanings: list[Meaning], meaning: Meaning) -> None:
    """Join an interval that continues or overlaps the last one of the same instrument."""
    if (
        meanings
        and meanings[-1].instrument_id == meaning.instrument_id
        and meaning.start <= meanings[-1].end
    ):
        meanings[-1] = meanings[-1]._replace(end=max(meanings[-1].end, meaning.end))
    else:
        meanings.append(meaning)


def _last_trade(symbol: str, on: date) -> date:
    try:
        return calendar.parse_symbol(symbol, on).last_trade_date
    except DataError:
        # a root without an expiry rule here: its contracts end when their mapping ends
        return date.max
