"""Settlements by expiry rank ("contract 1 … 4") as a table of dated contracts.

Rank k on a day is the k-th contract that has not passed its last trade date. There is no open: a
bar is its close (open = high = low = close), so an order that is decided at one settlement fills at
the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError
from mcl.data.table import Chunk, Rows, Table, no_statistics
from mcl.market.calendar import (
    Sessions,
    contract,
    from_day,
    is_business_day,
    last_trade_date,
    ns_of,
    to_day,
)
from mcl.market.instruments import Instrument

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HEADER_LINES = 1  # before the first row
BARS = "settlements: open = high = low = close"


def table(path: Path, of: Instrument, time: str, day: Ints, prices: Mapping[str, Floats]) -> Table:
    """The rows of a file as dated contracts.

    time      the name of the column of days, for sentences
    day       days since 1970-01-01, one per row, increasing
    prices    one column per rank, nearest expiry first; NaN where the publisher has none

    DataError for days out of order and for a file without any price.
    """
    _increasing(path, time, day)
    columns = list(prices.values())
    present = [np.flatnonzero(~np.isnan(price)) for price in columns]
    rank = np.repeat(np.arange(len(columns)), [len(rows) for rows in present])
    row = np.concatenate(present)
    if not len(row):
        raise DataError(f"{path}: the columns {', '.join(prices)} hold no price at all")
    month = _front_months(day, of.symbol)[row] + rank
    price = np.concatenate([p[rows] for p, rows in zip(columns, present, strict=True)])
    months, index = np.unique(month, return_inverse=True)
    contracts = tuple(contract(of.symbol, int(m) // 12, int(m) % 12 + 1) for m in months)
    sessions = daily_calendar(day, contracts[-1].last_trade_date)
    order = np.lexsort((day[row], index))
    days, price = day[row][order], price[order]
    volume = np.zeros(len(price), np.int64)
    rows = Rows(index[order], opens(days, sessions), days, *(price,) * 4, volume=volume)
    empty = len(day) * len(columns) - len(rows)
    chunk = Chunk(rows, str(path), row[order] + 1 + HEADER_LINES, {"excluded_empty_cells": empty})
    facts: dict[str, Any] = {
        "format": "CSV by expiry rank",
        "dated_contracts": True,
        "bars": BARS,
    }
    return Table(
        instrument=of,
        interval="session",
        contracts=contracts,
        listed_at=np.zeros(len(contracts), np.int64),
        calendar=sessions,
        chunks=lambda: iter([chunk]),
        statistics=no_statistics(),
        synthetic=False,
        origin=str(path),
        facts=facts,
    )


def daily_calendar(days: Ints, beyond: date) -> Sessions:
    """The days of a file as sessions, continued by business days to `beyond`: a file knows best
    which old days traded.
    """
    last = from_day(int(days[-1]))
    later = [last + timedelta(days=n) for n in range(1, (beyond - last).days + 31)]
    every = np.concatenate(
        [days, np.array([to_day(d) for d in later if is_business_day(d)], np.int64)]
    )
    dates = [from_day(int(d)) for d in every]
    starts = [ns_of(d - timedelta(days=1), 18) for d in dates]
    return Sessions(
        every, np.array(starts, np.int64), np.array([ns_of(d, 17) for d in dates], np.int64)
    )


def opens(day: Ints, sessions: Sessions) -> Ints:
    """The opening time (ns) of the session of each day."""
    return sessions.open_ns[np.searchsorted(sessions.day, day)]


def _increasing(path: Path, time: str, day: Ints) -> None:
    bad = np.flatnonzero(np.diff(day) <= 0)
    if len(bad):
        at = int(bad[0]) + 1
        here, above = (from_day(int(day[i])) for i in (at, at - 1))
        order = "comes twice" if here == above else f"is earlier than {above} above it"
        raise DataError(f"{path}, line {at + 1 + HEADER_LINES}: {time} {here} {order}")


def _front_months(day: Ints, root: str) -> Ints:
    """year * 12 + month - 1 of the first contract whose last trade date is not before each day."""
    first, last = (from_day(int(day[i])) for i in (0, -1))
    months = np.arange(first.year * 12, (last.year + 2) * 12)
    expiry = np.array(
        [to_day(last_trade_date(root, int(m) // 12, int(m) % 12 + 1)) for m in months], np.int64
    )
    return months[np.searchsorted(expiry, day, side="left")]
