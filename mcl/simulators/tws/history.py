"""Historical bars: rows of the tape that answer a request, put together to the bar size that was
asked for.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.base.instants import NS
from mcl.market import calendar
from mcl.simulators.tws import stamps
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.stamps import instant
from mcl.simulators.tws.tape import Tape

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


class HistoryBar(NamedTuple):
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
    """Rows that answer a historical request when only rows before `stop` have completed; None for a
    request it cannot serve.
    """
    duration = _DURATION.fullmatch(request["duration"])
    if duration is None or request["what"] not in WHAT:
        return None
    if request["end"]:
        stop = min(
            stop,
            int(np.searchsorted(tape.start + tape.interval_ns, instant(request["end"]), "right")),
        )
    if stop == 0:
        return None
    first = _first(tape, stop, int(duration[1]), duration[2])
    indices = np.arange(first, stop)
    if request["use_rth"]:
        clock = calendar.new_york_ns(tape.start[indices]) % DAY_NS
        indices = indices[(clock >= _LIQUID_FROM_NS) & (clock < _LIQUID_TO_NS)]
    return indices


def _first(tape: Tape, stop: int, count: int, unit: str) -> int:
    if unit == "D":
        session = calendar.session_of(tape.start[:stop])
        days = np.unique(session)
        return int(np.searchsorted(session, days[max(0, len(days) - count)]))
    from_ns = int(tape.start[stop - 1]) + tape.interval_ns - count * _SECONDS[unit] * NS
    return int(np.searchsorted(tape.start, from_ns, "left"))


class BarForm(NamedTuple):
    """The form of bars that a client asks for. `away`: price units from a trade to bid and ask, for
    a tape without quotes.
    """

    step_ns: int
    date_format: int | None
    what: str
    away: float


def bars(tape: Tape, which: Ints, form: BarForm) -> list[Values]:
    """The rows as bars of `form.step_ns`; bars above an hour count from the start of the
    session.
    """
    if form.step_ns == tape.interval_ns:
        parts = np.split(which, np.arange(1, len(which)))
    else:
        parts = np.split(
            which, np.flatnonzero(np.diff(_buckets(tape.start[which], form.step_ns))) + 1
        )
    return [_values(priced(tape, _merged(tape, part, form.step_ns), form), form) for part in parts]


def _buckets(start: Ints, step: int) -> Ints:
    """Return the opening time of the bar of `step` that each row belongs to."""
    into: Ints = (calendar.new_york_ns(start) + _SIX_HOURS_NS) % step
    return start - into


def _merged(tape: Tape, part: Ints, step: int) -> HistoryBar:
    first, last = int(part[0]), int(part[-1])
    start = int(
        tape.start[first] if step == tape.interval_ns else _buckets(tape.start[part[:1]], step)[0]
    )
    high, low = float(tape.high[part].max()), float(tape.low[part].min())
    return HistoryBar(
        start,
        float(tape.open[first]),
        high,
        low,
        float(tape.close[last]),
        int(tape.volume[part].sum()),
    )


def current(tape: Tape, row: int, forming: HistoryBar | None, form: BarForm, now_ns: int) -> Values:
    """The bar that `row` belongs to, when the row is complete (`forming` None) or is known as far
    as `forming`, at `now_ns`.
    """
    step = form.step_ns
    whole = (
        HistoryBar(int(tape.start[row]), *tape.prices(row), int(tape.volume[row]))
        if forming is None
        else forming
    )
    if step != tape.interval_ns:
        opens = int(_buckets(tape.start[row : row + 1], step)[0])
        first = int(np.searchsorted(tape.start, opens, "left"))
        last, whole = whole, whole._replace(start=opens)
        if first < row:
            before = _merged(tape, np.arange(first, row), step)
            high, low = max(before.high, last.high), min(before.low, last.low)
            whole = before._replace(
                high=high, low=low, close=last.close, volume=before.volume + last.volume
            )
    return _values(priced(tape, whole, form, now_ns), form)


def priced(tape: Tape, bar: HistoryBar, form: BarForm, now_ns: int | None = None) -> HistoryBar:
    """A bar of trades as one of bids, asks or middles over the same time, as far as it is known at
    `now_ns`.

    With quotes these are the first, highest, lowest and last quote of that time. Without, bid and
    ask are `form.away` from the trades.
    """
    if form.what == "TRADES":
        return bar
    end = bar.start + form.step_ns if now_ns is None else min(bar.start + form.step_ns, now_ns + 1)
    if tape.quotes is not None and bar.start >= int(tape.start[tape.first]):
        ticks = tape.quotes.between(bar.start, end)
        bid, ask = ticks.bid[0], ticks.ask[0]
        side = {"BID": bid, "ASK": ask}.get(form.what)
        quoted = (bid + ask) / 2 if side is None else side
        quoted = np.round(quoted[np.isfinite(quoted)], 10)
        if len(quoted):
            open_, high, low, close = (
                float(v) for v in (quoted[0], quoted.max(), quoted.min(), quoted[-1])
            )
            return HistoryBar(bar.start, open_, high, low, close, bar.volume)
    shift = {"BID": -form.away, "ASK": form.away}.get(form.what, 0.0)
    open_, high, low, close = (round(price + shift, 10) for price in bar[1:5])
    return HistoryBar(bar.start, open_, high, low, close, bar.volume)


def _values(bar: HistoryBar, form: BarForm) -> Values:
    traded = form.what == "TRADES"
    volume = bar.volume if traded else -1
    average = round((bar.open + bar.high + bar.low + bar.close) / 4, 3) if traded else -1.0
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
    date = _date(bar.start, form.step_ns, form.date_format)
    return {"date": date, **prices, "volume": volume, "wap": average, "count": volume}


def _date(start_ns: int, step: int, date_format: int | None) -> str:
    if step >= DAY_NS:
        return f"{calendar.from_day(int(calendar.session_of(start_ns))):%Y%m%d}"
    return str(start_ns // NS) if date_format == 2 else stamps.local_time(start_ns)
