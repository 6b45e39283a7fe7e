"""Read the symbols of vendors and platforms: the dated contract that a spelling means.

The exchange writes MCLJ4. Others write MCLJ24, MCLJ2024, `MCL J24`, `MCL APR24`, `MCL 04-24`
(NinjaTrader), `NYMEX:MCLJ2024` (TradingView), `/MCLJ24:XNYM` (thinkorswim), `MCLJ24.NYM` (Yahoo),
`F.US.MCLJ24` (CQG), `@MCLJ24` (TradeStation), `QMCLJ24` (IQFeed), `MCLJ24 Comdty` (Bloomberg) or
`MCLJ24-NYM`. A spread names two months or more, or begins with `UD:`. A continuous series
(`NYMEX:MCL1!`, `CL=F`, `@MCL`, `MCLY00`, `MCL*1`, `MCL.c.0`, `MCL ##-##`) names none.
"""

from __future__ import annotations

import re
from datetime import date
from enum import Enum

from mcl.market.calendar import contract, parse_symbol
from mcl.market.instruments import MONTH_CODES, Contract


class Kind(Enum):
    """The things a symbol can name."""

    OUTRIGHT = "a dated contract"
    SPREAD = "a spread of several months"
    CONTINUOUS = "a continuous series, which has no dated contract"
    OTHER = "another product"


_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_VENUES = "(?:NYMEX|COMEX|CBOT|CME)(?:_MINI)?(?:_DL)?"
_BEFORE = re.compile(rf"(?:{_VENUES}:|F\.US\.|/)")
_AFTER = re.compile(
    r"(?: COMDTY|:X[A-Z]{3}|:(?:NYMEX|COMEX|CME)|\.(?:NYM|CMX|CME|CBT)"
    r"|[-.@](?:NYMEX|COMEX|CME|NYM|CMX|GLOBEX))"
)
_NUMBERED = re.compile(r"\d\d-\d|\d{6}$")  # as a date is written
_MONTH = re.compile(rf"[{MONTH_CODES}]\d{{1,2}}(?:\d\d)?")


def meaning(symbol: str, root: str, on: date) -> Contract | Kind:
    """The contract of `root` that a symbol means on a date, or the kind of thing that it names."""
    text = _core(symbol)
    if re.match(rf"[@Q]{root}[ _-]?[{MONTH_CODES}]\d", text):
        text = text[1:]
    if text == root or _is_continuous(text, root):
        return Kind.CONTINUOUS
    if text.startswith("UD:") or _is_spread(text, root):
        return Kind.SPREAD
    rest = text.removeprefix(root)
    if rest == text:
        return Kind.OTHER
    return _dated(rest.strip(), root, on) or Kind.OTHER


def at_beginning(name: str, root: str, on: date) -> Contract | Kind | None:
    """The contract or the spread that a longer name begins with: that of a file, `MCLJ24_1min.txt`.
    A number behind the root is a date there, but for NinjaTrader's `MCL 04-24`.
    """
    text = name.upper()
    for end in range(len(text), len(root) + 1, -1):
        inside = text[end - 1 : end + 1].isalnum() and end < len(text)
        spelling = text[:end].replace("_", " ")
        platform = re.fullmatch(rf"{root} \d\d-\d\d", text[:end])
        if inside or (_NUMBERED.search(spelling) and not platform):
            continue
        named = meaning(spelling, root, on)
        if isinstance(named, Contract) or named is Kind.SPREAD:
            return named
    return None


def _core(symbol: str) -> str:
    """The symbol in capitals, without the exchange that some write before or behind it."""
    text = " ".join(symbol.upper().split())
    if match := _BEFORE.match(text):
        text = text[match.end() :]
    for match in _AFTER.finditer(text):
        if match.end() == len(text):
            return text[: match.start()].strip()
    return text


def _is_continuous(text: str, root: str) -> bool:
    tails = r"\d!|=F|##|#C|#|\.[CVN]\.\d| ##-##|\.FUT|[ _]?CONT(?:INUOUS)?|\.F|Y00|\*\d|C\d|00"
    return re.fullmatch(rf"@{root}|{root}(?:{tails})", text) is not None


def _is_spread(text: str, root: str) -> bool:
    if not text.startswith(root):
        return False
    body = text.removeprefix(root)
    return ":" in body[:1] or len(_MONTH.findall(body)) > 1 or body.count(root) > 0


_MONTH_CODE = re.compile(rf"[_-]?(?P<code>[{MONTH_CODES}]) ?(?P<year>\d{{1,2}}|(?:19|20)\d\d)")
_MONTH_NAME = re.compile(rf"(?P<name>{'|'.join(_NAMES)})[ '-]?(?P<year>\d\d|(?:19|20)\d\d)")
_NUMBER = re.compile(r"(?P<number>0[1-9]|1[0-2])-(?P<year>\d\d)")
_YEAR_FIRST = re.compile(r"-?(?P<year>(?:19|20)\d\d)-?(?P<number>0[1-9]|1[0-2])")


def _dated(rest: str, root: str, on: date) -> Contract | None:
    """The contract behind the root, in any of the ways to write a month and a year."""
    shapes = (_MONTH_CODE, _MONTH_NAME, _NUMBER, _YEAR_FIRST)
    match = next(filter(None, (shape.fullmatch(rest) for shape in shapes)), None)
    if match is None:
        return None
    parts = match.groupdict()
    if "code" in parts and len(parts["year"]) < 4:  # as the exchange writes it
        return parse_symbol(f"{root}{parts['code']}{parts['year']}", on)
    return contract(root, _year(parts["year"], on), _month(parts))


def _month(parts: dict[str, str]) -> int:
    if "code" in parts:
        return MONTH_CODES.index(parts["code"]) + 1
    return _NAMES.index(parts["name"]) + 1 if "name" in parts else int(parts["number"])


def _year(digits: str, on: date) -> int:
    """Two digits name the year that lies nearest to the date."""
    if len(digits) == 4:
        return int(digits)
    first = on.year - 50
    return first + (int(digits) - first) % 100
