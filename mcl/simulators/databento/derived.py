"""Schemas that a folder does not hold but that follow from what it holds.

Hourly and daily bars are made of 1-minute bars. Of a generated world also, session by session:
the trades and the 1-second bars of every instrument, the order books of the two busiest contracts,
and from these tbbo and the best bid and offer of every second or minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mcl.base.instants import NS
from mcl.data import dbn
from mcl.market import calendar
from mcl.market.calendar import DAY_NS, from_day

COARSER = {"ohlcv-1h": 3600 * NS, "ohlcv-1d": DAY_NS}
_SNAPSHOTS = {"bbo-1s": NS, "bbo-1m": 60 * NS}
_BOOKS = ("mbp-1", "mbp-10")
_TAPE = ("trades", "ohlcv-1s")
FROM_BOOKS = (*_BOOKS, *_TAPE, "tbbo", *_SNAPSHOTS)


@dataclass(frozen=True)
class Stored:
    """One file, or what would be one, and what it says about itself. `read` gives its records."""

    path: Path
    header: dbn.Header
    read: Callable[[], dbn.Records] = field(compare=False)


def stored(path: Path) -> Stored:
    """A file as it is."""
    return Stored(path, dbn.header(path), lambda: dbn.read(path)[1])


def coarser(minutes: list[Stored], schema: str) -> list[Stored]:
    """Longer bars from 1-minute bars; none where a file begins inside one."""
    step = COARSER[schema]
    if any(file.header.start % step for file in minutes):
        return []
    return [
        Stored(f.path, replace(f.header, schema=schema), partial(_from_minutes, f, schema, step))
        for f in minutes
    ]


def books(home: Path, minutes: list[Stored], schema: str) -> Iterator[Stored]:
    """A schema that follows from the order books of the world at `home`, session by session, over
    the whole span of its bars.
    """
    start, end = minutes[0].header.start, minutes[-1].header.end or 0
    table = _sessions(from_day(start // DAY_NS), from_day(end // DAY_NS))
    edges = [start, *table.open_ns[1:].tolist(), end]
    for n, day in enumerate(table.dates):
        header = dbn.Header(
            minutes[0].header.dataset,
            schema,
            "raw_symbol",
            (),
            int(edges[n]),
            int(edges[n + 1]),
            (),
        )
        yield Stored(home / schema / str(day), header, partial(_of_session, home, day, schema))


_sessions = lru_cache(maxsize=4)(calendar.sessions)


def _of_session(home: Path, day: Any, schema: str) -> dbn.Records:
    # with pandas, which a recorded folder does not need
    from mcl.data.synthetic import order_books, trade_tape

    if schema in _TAPE:
        session = trade_tape.session_bars(home, day)
        return trade_tape.SCHEMAS[schema](session)
    if schema in _BOOKS:
        return order_books.session(home, day, schema)[0]
    best = order_books.session(home, day, "mbp-1")[0]
    if schema in _SNAPSHOTS:
        return _snapshots(best, schema, _SNAPSHOTS[schema])
    traded: dbn.Records = best[best["action"] == b"T"]
    return traded


def _from_minutes(file: Stored, schema: str, step: int) -> dbn.Records:
    return bars(
        file.read(),
        schema,
        step,
        {name: name for name in ("open", "high", "low", "close")},
        "volume",
    )


def bars(
    rows: dbn.Records, schema: str, step: int, prices: dict[str, str], volume: str
) -> dbn.Records:
    """Bars of `step` ns from rows, stamped with their open, by time and then instrument. `prices`:
    the bar's field -> the row's.
    """
    bucket, order = _sorted(rows["ts_event"].astype(np.int64) // step, rows)
    rows = rows[order]
    first = _starts(bucket, rows)
    records = dbn.blank(schema, len(first))
    if len(first):
        last = np.r_[first[1:], len(rows)] - 1
        records["instrument_id"], records["ts_event"] = (
            rows["instrument_id"][first],
            bucket[first] * step,
        )
        records["open"], records["close"] = rows[prices["open"]][first], rows[prices["close"]][last]
        records["high"] = np.maximum.reduceat(rows[prices["high"]], first)
        records["low"] = np.minimum.reduceat(rows[prices["low"]], first)
        records["volume"] = np.add.reduceat(rows[volume].astype(np.uint64), first)
    return records


def _snapshots(best: dbn.Records, schema: str, step: int) -> dbn.Records:
    """The last book of every interval in which something happened, stamped with the end of the
    interval.
    """
    bucket, order = _sorted(best["ts_recv"].astype(np.int64) // step, best)
    rows = best[order]
    last = np.r_[_starts(bucket, rows)[1:], len(rows)] - 1 if len(rows) else np.empty(0, np.int64)
    records = _as(rows[last], schema)
    records["ts_recv"] = (bucket[last] + 1) * step
    return records


def _sorted(bucket: Any, rows: dbn.Records) -> tuple[Any, Any]:
    order = np.lexsort((rows["ts_event"], rows["instrument_id"], bucket))
    return bucket[order], order


def _starts(bucket: Any, rows: dbn.Records) -> Any:
    """Return the rows at which a new bucket or another instrument begins."""
    fresh = (bucket[1:] != bucket[:-1]) | (rows["instrument_id"][1:] != rows["instrument_id"][:-1])
    return np.flatnonzero(np.r_[True, fresh][: len(rows)])


def _as(rows: dbn.Records, schema: str) -> dbn.Records:
    """The fields that two layouts share; length and type of the new one."""
    records = dbn.blank(schema, len(rows))
    for name in set(records.dtype.names or ()) & set(rows.dtype.names or ()) - {"length", "rtype"}:
        records[name] = rows[name]
    return records
