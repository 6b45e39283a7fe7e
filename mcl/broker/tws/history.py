"""Historical bars: rows of the tape that answer a request, put together to the bar size that was asked for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mcl import calendar
from mcl.broker.tws import render
from mcl.broker.tws.feed import NS, Tape
from mcl.broker.tws.messages import Values

Ints = npt.NDArray[np.int64]
DAY_NS = calendar.DAY_NS
_SIX_HOURS_NS = 6 * 3600 * NS  # a session starts at 18:00 New York
_UNITS = {"sec": 1, "secs": 1, "min": 60, "mins": 60, "hour": 3600, "hours": 3600, "day": 86_400}
BAR_SIZES = frozenset(
    [f"{n} secs" for n in (1, 5, 10, 15, 30)]
    + ["1 min", "1 hour", "1 day"]
    + [f"{n} mins" for n in (2, 3, 5, 10, 15, 20, 30)]
    + [f"{n} hours" for n in (2, 3, 4, 8)]
)
_DURATION = re.compile(r"(\d+) ([SDWMY])")
_SECONDS = {"S": 1, "W": 7 * 86_400, "M": 30 * 86_400, "Y": 365 * 86_400}
WHAT = frozenset({"TRADES", "MIDPOINT", "BID", "ASK"})
_LIQUID_FROM_NS, _LIQUID_TO_NS = (9 * 60 + 30) * 60 * NS, 17 * 3600 * NS


class Bar(NamedTuple):
    start: int  # ns
    open: float
    high: float
    low: float
    close: float
    volume: int


def step_ns(tape: Tape, bar_size: str) -> int | None:
    """The length of the bars that are asked for; None when this tape cannot give them."""
    if bar_size not in BAR_SIZES:
        return None
    count, unit = bar_size.split()
    step = int(count) * _UNITS[unit] * NS
    return step if step % tape.interval_ns == 0 else None


def rows(tape: Tape, stop: int, request: Values) -> Ints | None:
    """Rows that answer a historical request when only rows before `stop` have completed; None for a request it cannot serve."""
    duration = _DURATION.fullmatch(request["duration"])
    if duration is None or request["what"] not in WHAT:
        return None
    if request["end"]:
        stop = min(stop, int(np.searchsorted(tape.start + tape.interval_ns, instant(request["end"]), "right")))
    if stop == 0:
        return None
    first = _first(tape, stop, int(duration[1]), duration[2])
    found = np.arange(first, stop)
    if request["use_rth"]:
        clock = calendar.new_york_ns(tape.start[found]) % DAY_NS
        found = found[(clock >= _LIQUID_FROM_NS) & (clock < _LIQUID_TO_NS)]
    return found


def _first(tape: Tape, stop: int, count: int, unit: str) -> int:
    if unit == "D":
        session = calendar.session_of(tape.start[:stop])
        days = np.unique(session)
        return int(np.searchsorted(session, days[max(0, len(days) - count)]))
    from_ns = int(tape.start[stop - 1]) + tape.interval_ns - count * _SECONDS[unit] * NS
    return int(np.searchsorted(tape.start, from_ns, "left"))


def instant(text: str) -> int:
    """`20260811-13:00:00` and `20260811 13:00:00 UTC` are UTC, `20260811 09:00:00 US/Eastern` is not."""
    stamp, zone = text[:17].replace("-", " "), text[17:].strip()
    moment = datetime.strptime(stamp, "%Y%m%d %H:%M:%S").replace(tzinfo=calendar.NEW_YORK if zone.startswith(("US", "America")) else UTC)
    return int(moment.timestamp()) * NS


def bars(tape: Tape, which: Ints, step: int, date_format: int | None, what: str) -> list[Values]:
    """The rows as bars of `step` nanoseconds; bars above an hour count from the start of the session."""
    if step == tape.interval_ns:
        return [current(tape, int(row), None, step, date_format, what) for row in which]
    cuts = np.flatnonzero(np.diff(_buckets(tape.start[which], step))) + 1
    return [_values(_merged(tape, part, step), step, date_format, what) for part in np.split(which, cuts)]


def _buckets(start: Ints, step: int) -> Ints:
    """When the bar of `step` opens that each row belongs to."""
    into: Ints = (calendar.new_york_ns(start) + _SIX_HOURS_NS) % step
    return start - into


def _merged(tape: Tape, part: Ints, step: int) -> Bar:
    first, last = int(part[0]), int(part[-1])
    start = int(_buckets(tape.start[part[:1]], step)[0])
    high, low = float(tape.high[part].max()), float(tape.low[part].min())
    return Bar(start, float(tape.open[first]), high, low, float(tape.close[last]), int(tape.volume[part].sum()))


def current(tape: Tape, row: int, forming: Bar | None, step: int, date_format: int | None, what: str = "TRADES") -> Values:
    """The bar of `step` that `row` belongs to, when the row is complete (`forming` None) or is known as far as `forming`."""
    last = Bar(int(tape.start[row]), *tape.prices(row), int(tape.volume[row])) if forming is None else forming
    if step == tape.interval_ns:
        return _values(last, step, date_format, what)
    opens = int(_buckets(tape.start[row : row + 1], step)[0])
    first = int(np.searchsorted(tape.start, opens, "left"))
    whole = last._replace(start=opens)
    if first < row:
        known = _merged(tape, np.arange(first, row), step)
        high, low = max(known.high, last.high), min(known.low, last.low)
        whole = known._replace(high=high, low=low, close=last.close, volume=known.volume + last.volume)
    return _values(whole, step, date_format, what)


def _values(bar: Bar, step: int, date_format: int | None, what: str) -> Values:
    traded = bar.volume if what == "TRADES" else -1
    average = round((bar.open + bar.high + bar.low + bar.close) / 4, 3) if what == "TRADES" else -1.0
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
    return {"date": _date(bar.start, step, date_format), **prices, "volume": traded, "wap": average, "count": traded}


def _date(start_ns: int, step: int, date_format: int | None) -> str:
    if step >= DAY_NS:
        return f"{calendar.from_day(int(calendar.session_of(start_ns))):%Y%m%d}"
    return str(start_ns // NS) if date_format == 2 else render.local_time(start_ns)
