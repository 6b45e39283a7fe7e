"""The contract master: finds the dated contract that an `instrument_id` meant at a time, from
definitions.

An id is reused and a one-digit year comes back every ten years, so neither is an identity: a bar
belongs to the definition of its id that was last received before the bar was known. Only outright
futures of one product are kept; calendar spreads, butterflies, strips, options and user-defined
instruments are recognised and counted out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError
from mcl.market.calendar import DAY_NS, from_day, last_trade_date, parse_symbol, session_of, to_day
from mcl.market.instruments import MONTH_CODES, Contract, Instrument

Ints = npt.NDArray[np.int64]

EXCLUDED = -1  # defined, but not an outright of the product
UNKNOWN = -2  # no definition of the id at that time
# `secsubtype` of every outright in a generated world: a copied or re-encoded file keeps its mark
WATERMARK = b"SYNTH"
# + 100 * year + month: the `instrument_id` of an outright in a generated world
GENERATED_ID = 42_000_000
NOTICE = "SYNTHETIC DATA: generated, not recorded; results on it say nothing about the market"
_NO_YEAR, _NO_MONTH = 65535, 255
_MEANING = ("instrument_id", "raw_symbol", "maturity_year", "maturity_month", "expiration")
_OUTRIGHT = ("instrument_class", "asset", "security_type", "user_defined_instrument", "leg_count")
_COMPARED = (*_MEANING, *_OUTRIGHT, "min_price_increment", "unit_of_measure_qty", "secsubtype")


@dataclass(frozen=True)
class Master:
    """Contracts by last trade date, when each was first known (ns), and the meaning of every id
    from a time on.

    ids, since, meaning are aligned and ordered by (id, since): from `since` (ns) the id means
    contract `meaning`, or EXCLUDED.
    """

    contracts: tuple[Contract, ...]
    listed_at: Ints
    ids: Ints
    since: Ints
    meaning: Ints

    def lookup(self, instrument_id: Ints, ts: Ints) -> Ints:
        """Contract index of each (id, time), EXCLUDED or UNKNOWN. A definition also covers the UTC
        day on which it came.
        """
        names, code = np.unique(instrument_id, return_inverse=True)
        out = np.full(len(code), UNKNOWN, np.int64)
        simple = np.full(len(names), UNKNOWN, np.int64)
        for i, name in enumerate(names):
            low, high = (
                np.searchsorted(self.ids, name, "left"),
                np.searchsorted(self.ids, name, "right"),
            )
            if low == high:
                continue
            begin = self.since[low] - self.since[low] % DAY_NS
            if high - low == 1 and begin <= ts.min():
                simple[i] = self.meaning[low]
                continue
            mine = np.flatnonzero(code == i)
            last = np.maximum(np.searchsorted(self.since[low:high], ts[mine], "right") - 1, 0)
            out[mine] = np.where(ts[mine] >= begin, self.meaning[low:high][last], UNKNOWN)
        plain = simple[code]
        index: Ints = np.where(plain != UNKNOWN, plain, out)
        return index


def from_definitions(records: npt.NDArray[np.void], root: str) -> Master:
    """The master of one product from raw definition records (any order, repeated as often as the
    vendor sends them).
    """
    order = np.lexsort((records["ts_recv"], records["instrument_id"]))
    sorted_ = records[order]
    outright = _outright(sorted_, root)
    changed = np.ones(len(sorted_), bool)
    if len(sorted_) > 1:
        same = np.logical_and.reduce([sorted_[name][1:] == sorted_[name][:-1] for name in _MEANING])
        changed[1:] = ~(same & (outright[1:] == outright[:-1]))
    rows, mask = sorted_[changed], outright[changed]
    contracts = [
        _contract(record, root) if ok else None for record, ok in zip(rows, mask, strict=True)
    ]
    return _master(
        rows["instrument_id"].astype(np.int64), rows["ts_recv"].astype(np.int64), contracts
    )


def distinct(records: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """The first of every run of definitions of one id that say the same; vendors send each one
    again every day.
    """
    order = np.lexsort((records["ts_recv"], records["instrument_id"]))
    rows = records[order]
    repeated = np.zeros(len(rows), bool)
    repeated[1:] = np.logical_and.reduce([rows[name][1:] == rows[name][:-1] for name in _COMPARED])
    return rows[~repeated]


def agree(records: npt.NDArray[np.void], of: Instrument, origin: str) -> None:
    """Refuse definitions whose tick or contract size is not that of `market`: prices of another
    scale would pass for real ones.
    """
    rows = records[_outright(records, of.symbol)]
    facts = (
        ("tick", "min_price_increment", of.tick_size),
        ("contract size", "unit_of_measure_qty", of.multiplier),
    )
    for word, name, expected in facts:
        raw = rows[name].astype(np.int64)
        bad = np.flatnonzero(
            (raw != round(expected * 1e9)) & (raw > 0) & (raw < np.iinfo(np.int64).max)
        )
        if len(bad):
            symbol = bytes(rows["raw_symbol"][bad[0]]).decode()
            raise DataError(
                f"{origin}: the definition of {symbol} gives a {word} of {raw[bad[0]] / 1e9:g}, but"
                f" {of.symbol} has {expected:g}",
                "is data.instrument right?",
            )


def watermark(records: npt.NDArray[np.void]) -> dict[str, Any]:
    """Return the facts of a generated world when only its definitions are left; {} for recorded
    ones.
    """
    if not (records["secsubtype"] == WATERMARK).any():
        return {}
    words = "not known: these files have no world.json, only the watermark in the definitions"
    return {"synthetic": True, "notice": NOTICE, "edge": {"words": words}}


def watermark_of_ids(ids: Sequence[float], contracts: Sequence[Contract]) -> dict[str, Any]:
    """Return the same when every outright has the id that the generator gives it: no vendor's ids
    spell year and month. `ids` and `contracts` go together.
    """
    spelled = [GENERATED_ID + 100 * each.year + each.month for each in contracts]
    if not spelled or list(ids) != spelled:
        return {}
    words = "not known: these files have no world.json, only the ids of its contracts"
    return {"synthetic": True, "notice": NOTICE, "edge": {"words": words}}


def _outright(records: npt.NDArray[np.void], root: str) -> npt.NDArray[np.bool_]:
    shape = re.compile(rf"{root}[{MONTH_CODES}]\d{{1,2}}".encode())
    symbols, code = np.unique(records["raw_symbol"], return_inverse=True)
    shaped = np.array([shape.fullmatch(bytes(s)) is not None for s in symbols], bool)[code]
    facts = {
        "instrument_class": b"F",
        "asset": root.encode(),
        "security_type": b"FUT",
        "user_defined_instrument": b"N",
        "leg_count": 0,
    }
    mask: npt.NDArray[np.bool_] = np.logical_and.reduce(
        [shaped, *(records[name] == value for name, value in facts.items())]
    )
    return mask


def _contract(record: Any, root: str) -> Contract:
    symbol = bytes(record["raw_symbol"]).decode()
    expiration = int(record["expiration"])
    year, month = int(record["maturity_year"]), int(record["maturity_month"])
    dated = expiration < np.iinfo(np.int64).max
    if year == _NO_YEAR or month == _NO_MONTH:
        on = from_day(int(session_of(expiration if dated else int(record["ts_recv"]))))
        parsed = parse_symbol(symbol, on)
        year, month = parsed.year, parsed.month
    expiry = from_day(int(session_of(expiration))) if dated else last_trade_date(root, year, month)
    return Contract(symbol, root, year, month, expiry)


def from_symbols(mappings: Iterable[tuple[str, int, date]], root: str) -> Master:
    """The master of files without definitions, from the raw symbols in their headers: (symbol, id,
    first day).
    """
    ids, since, contracts = [], [], []
    for symbol, instrument_id, start in sorted(mappings, key=lambda m: (m[1], m[2])):
        ids.append(instrument_id)
        since.append(to_day(start) * DAY_NS)
        contracts.append(_parsed(symbol, root, start))
    return _master(np.array(ids, np.int64), np.array(since, np.int64), contracts)


def _parsed(symbol: str, root: str, on: date) -> Contract | None:
    return (
        parse_symbol(symbol, on)
        if re.fullmatch(rf"{root}[{MONTH_CODES}]\d{{1,2}}", symbol)
        else None
    )


def _master(ids: Ints, since: Ints, meanings: list[Contract | None]) -> Master:
    first: dict[tuple[int, int], tuple[int, Contract]] = {}
    for time, contract in zip(since.tolist(), meanings, strict=True):
        if contract is not None:
            key = (contract.year, contract.month)
            first[key] = min(
                first.get(key, (time, contract)), (time, contract), key=lambda pair: pair[0]
            )
    contracts = tuple(
        c
        for _, c in sorted(
            first.values(), key=lambda pair: (pair[1].last_trade_date, pair[1].year, pair[1].month)
        )
    )
    index = {(c.year, c.month): i for i, c in enumerate(contracts)}
    meaning = np.array(
        [EXCLUDED if c is None else index[c.year, c.month] for c in meanings], np.int64
    )
    listed = np.array([first[c.year, c.month][0] for c in contracts], np.int64)
    return Master(contracts, listed, ids, since, meaning)
