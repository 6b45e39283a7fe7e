"""Measure the conventions of a file against what its bars show, and refuse what contradicts them.

A config states whose clock a file is on and whether a time is a bar's open or close. The exchange
is closed from 17:00 to 18:00 New York and over the weekend, so bars there show another clock; a
single bar per session in the first minute after the close shows times of closes; a Sunday in a
daily file shows calendar days. Prices that jump by a power of ten, or to zero and back, are errors
of a row. Sessions without a bar between full ones are holes of the vendor.

Each doubt is one sentence with what was measured and the key that cures it, where the source has
such a key. `data.accept` takes the files as they are. The rows of every source are measured while
they are stored, so `mcl data info`, `mcl backtest`, `mcl sweep`, a live session and the library
refuse alike, before a dataset exists. A few bars in closed hours are no other clock: they are
counted among the facts of the table, and said with each run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.config.schema import Convention
from mcl.data.table import PRICES, Chunk, Rows, Table, clock
from mcl.market import calendar
from mcl.market.calendar import DAY_NS, from_day, new_york_ns, to_day
from mcl.market.intervals import STEPS_SEC

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HOUR_NS, MINUTE_NS = 3600 * NS, 60 * NS
OPEN_NS, CLOSE_NS = 18 * HOUR_NS, 17 * HOUR_NS  # of a session, in New York
# the daily break began at 17:15 until then, CME Globex notice of August 2015
LATER_CLOSE_NS, LATER_UNTIL = 17 * HOUR_NS + 15 * 60 * NS, to_day(date(2015, 9, 21))
MEASURED_FROM = to_day(date(2008, 1, 1))  # electronic hours of today's kind
CLOCKS = (
    "America/New_York",
    "UTC",
    "America/Chicago",
    "America/New_York+07:00",  # the server of most MetaTrader brokers
    "Europe/London",
    "Europe/Berlin",
    "Europe/Helsinki",
    "Etc/GMT+5",
    "Etc/GMT+6",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
)
CLOSED_FRAC = 0.002  # of all bars: more in closed hours is another clock
FITTING_FRAC = 0.0002  # at most so many on the right clock
STRAY_FRAC = 0.2  # of the sessions: rarer bars at an edge are strays
EDGE_NS = 1800 * NS  # a session that is traded whole has bars so near to its open and close
FEWEST = 3  # bars that show something
POWERS = (10.0, 100.0, 1000.0, 0.1, 0.01, 0.001)
NEAR = 0.10  # of a power of ten
STRAYS = "bars_in_closed_hours"  # the fact of a table with a few of them
FALL = 5.0  # price units: nothing falls so far to exactly 0.00 and comes back within a bar
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MOST = 5  # places that a sentence names
_FULL_FRAC = 0.25  # of a session's bars: a session that trades


class Contradiction(DataError):
    """The rows of a file contradict a convention that its config states."""


class Stated(NamedTuple):
    """Hold what a config says; without a `timezone` the files carry offsets of their own. `keys`
    are those of the source that can change it; `correction` is the cure where it has none.
    """

    stamped_at: str
    timezone: str | None
    accept: Sequence[str] = ()
    keys: frozenset[str] = frozenset()
    correction: str = "correct the files"

    @property
    def unknown_clock(self) -> str:
        return (
            "set data.timezone to the clock of the files"
            if "timezone" in self.keys
            else self.correction
        )

    def clock_keys(self, timezone: str) -> dict[str, Any]:
        """The keys that read the times on another clock; offsets of the files are ignored then."""
        if self.timezone is not None:
            return {"timezone": timezone}
        offsets = next((key for key in ("format.offsets", "offsets") if key in self.keys), "")
        return {offsets: "ignore", "timezone": timezone}

    def cure(self, values: Mapping[str, Any], why: str = "") -> tuple[str, dict[str, Any]]:
        """The cure that sets these keys, and the keys; a correction where the source lacks one."""
        if not values or not self.keys.issuperset(values):
            return self.correction, {}
        words = " ".join(f"data.{key}={value}" for key, value in values.items())
        return f"set {words}{why}", dict(values)


class Doubt(NamedTuple):
    """A convention that the bars contradict: what was measured, and the key that cures it."""

    name: Convention
    text: str
    cure: str
    keys: Mapping[str, Any] = {}


@dataclass
class _Measure:
    """Collect from the rows that pass what shows their conventions."""

    table: Table
    stated: Stated
    times: list[Ints] = field(default_factory=list)
    spikes: list[Doubt] = field(default_factory=list)
    closes: dict[int, float] = field(default_factory=dict)

    def take(self, chunk: Chunk) -> None:
        rows = chunk.rows
        if len(rows):
            step = STEPS_SEC[self.table.interval] * NS
            times = _distinct(rows.ts_event if step else rows.session, step)
            self.times.append(_ends_of_minutes(times) if 0 < step < MINUTE_NS else times)
        if not self.spikes:
            self.spikes = _spikes(chunk, self.table, self.closes)

    def doubts(self) -> list[Doubt]:
        if not self.times:
            return []
        doubtful = [*self.spikes, *doubts(self.all_times, self.table, self.stated, self.opens)]
        return [doubt for doubt in doubtful if doubt.name not in self.stated.accept]

    @cached_property
    def all_times(self) -> Ints:
        """Of the rows that have passed; asked for when the last one has."""
        return _distinct(np.concatenate(self.times))

    @cached_property
    def opens(self) -> Stamps | None:
        """The opens of bars on the clock of New York; None for bars of sessions."""
        step = STEPS_SEC[self.table.interval] * NS
        return Stamps.of(_recent(self.all_times), step) if step else None

    def strays(self) -> dict[str, Any]:
        """The fact of a table with times in closed hours; {} for one without."""
        if not self.times or self.opens is None:
            return {}
        inside = self.opens.in_closed_hours
        if not len(inside):
            return {}
        places = [f"{_new_york(int(ts))} New York" for ts in inside[:_MOST]]
        return {STRAYS: {"count": len(inside), "of": len(self.all_times), "places": places}}


def _distinct(times: Ints, step: int = 0) -> Ints:
    """The times in order, each once: contracts that trade side by side share most of them. Those of
    bars of one length `step` are counted off, which is quicker than to sort them.
    """
    if (times[1:] > times[:-1]).all():
        return times
    first = times.min()
    offset = times - first
    place = offset // step if step else offset
    if not step or place.max() > _MOST_PLACES * len(times) or (place * step != offset).any():
        return np.unique(times)
    present = np.zeros(int(place.max()) + 1, np.bool_)
    present[place] = True
    distinct: Ints = np.flatnonzero(present) * step + first
    return distinct


def _ends_of_minutes(times: Ints) -> Ints:
    """Of times of seconds the first and last of each minute, which show all that is measured."""
    minute = times // MINUTE_NS
    changes = minute[1:] != minute[:-1]
    ends: Ints = times[np.append(True, changes) | np.append(changes, True)]
    return ends


_MOST_PLACES = 20  # per row: more are sorted


def _recent(times: Ints) -> Ints:
    """The times, in order, of electronic hours of today's kind."""
    return times[np.searchsorted(times, MEASURED_FROM * DAY_NS) :]


def measured(table: Table, stated: Stated) -> Table:
    """The same table; whoever has read its last row finds stray bars among its facts, or meets
    DataError where the rows contradict what is stated.
    """
    facts = dict(table.facts)

    def chunks() -> Iterator[Chunk]:
        measure = _Measure(table, stated)
        for chunk in table.chunks():
            measure.take(chunk)
            if measure.spikes and "prices" not in stated.accept:
                break
            yield chunk
        for doubt in measure.doubts():
            raise Contradiction(
                f"{table.origin}: {doubt.text}",
                f"{doubt.cure}, or take the file as it is with data.accept=[{doubt.name}]",
            )
        facts.update(measure.strays())

    return replace(table, chunks=chunks, facts=facts)


def of_table(table: Table, stated: Stated) -> list[Doubt]:
    """Every doubt about a table, accepted ones left out."""
    measure = _Measure(table, stated)
    for chunk in table.chunks():
        measure.take(chunk)
    return measure.doubts()


def doubts(times: Ints, table: Table, stated: Stated, opens: Stamps | None) -> list[Doubt]:
    """The doubts that times of bars show, in order: their `opens` in ns UTC, or days for bars of
    sessions.
    """
    step = STEPS_SEC[table.interval] * NS
    if opens is None:
        return [*_days(times, stated), *_absent_days(times, table)]
    recent = _recent(times)
    if not len(recent):
        return []
    stamps = Stamps.of(recent + step, step) if stated.stamped_at == "close" else opens
    doubtful = [*_clock(stamps, stated), *_stamp(stamps, stated)]
    doubtful = [doubt for doubt in doubtful if doubt.name not in stated.accept]
    return doubtful or _absent_sessions(recent, table, step)


# ------------------------------------------------------------------------------------------- clock


@dataclass(frozen=True)
class Stamps:
    """The times in a file on the clock of New York: `closed` lie inside closed hours, whichever end
    of a bar they name.
    """

    ts: Ints  # ns UTC
    step: int  # ns
    day: Ints
    tod: Ints  # ns since midnight
    close: Ints  # the close of the session that day, ns since midnight
    closed: Bools

    @classmethod
    def of(cls, ts: Ints, step: int) -> Stamps:
        local = new_york_ns(ts)
        day, tod = local // DAY_NS, local % DAY_NS
        weekday = (day + 3) % 7
        close = np.where(day < LATER_UNTIL, LATER_CLOSE_NS, CLOSE_NS)
        closed = (tod > close) & (tod < OPEN_NS)
        closed |= (weekday == 5) | ((weekday == 6) & (tod < OPEN_NS))
        closed |= (weekday == 4) & (tod > close)
        return cls(ts, step, day, tod, close, closed)

    @property
    def in_closed_hours(self) -> Ints:
        """Those of opens of bars at which the exchange is closed, its very close among them."""
        inside: Ints = self.ts[self.closed | (self.tod == self.close)]
        return inside

    def days_with(self, rows: Bools) -> int:
        return len(np.unique(self.day[rows & ~self.closed]))

    @property
    def at_close(self) -> int:
        """The days with a time at the very close of the session."""
        return self.days_with(self.tod == self.close)

    @property
    def at_open(self) -> int:
        """The days with a time at the very open of a session."""
        return self.days_with(self.tod == OPEN_NS)

    @property
    def whole(self) -> bool:
        """Whether bars lie near the open and near the close of sessions."""
        open_ = self.days_with((self.tod >= OPEN_NS) & (self.tod <= OPEN_NS + EDGE_NS))
        close = self.days_with((self.tod >= self.close - EDGE_NS) & (self.tod <= self.close))
        return bool(open_ and close)

    def end(self) -> str:
        """The end of a bar that the times name: open, close, or "" where they do not show it."""
        at_open, at_close = self.at_open, self.at_close
        if at_open and at_close <= STRAY_FRAC * at_open:
            return "open"
        if at_close and at_open <= STRAY_FRAC * at_close:
            return "close"
        return "" if at_open else self._end_of_day_hours()

    def _end_of_day_hours(self) -> str:
        """Of a file of day hours: whether its days begin at a half hour, or end at one."""
        half = 1800 * NS
        _, first = np.unique(self.day, return_index=True)
        last = np.append(first[1:], len(self.day)) - 1
        if len(first) < 5 or self.step >= half:
            return ""
        if (np.diff(self.ts)[last[:-1]] == self.step).mean() > STRAY_FRAC:
            return ""  # bars run on over midnight: no day of them begins or ends there
        begins, ends = self.tod[first] % half, self.tod[last] % half
        if (begins == 0).mean() > 0.8 and (ends == half - self.step).mean() > 0.8:
            return "open"
        if (begins == self.step).mean() > 0.8 and (ends == 0).mean() > 0.8:
            return "close"
        return ""


def _clock(stamps: Stamps, stated: Stated) -> list[Doubt]:
    count, total = int(stamps.closed.sum()), len(stamps.ts)
    if count < FEWEST or count <= CLOSED_FRAC * total:
        return []
    places = ", ".join(_new_york(int(t)) for t in stamps.ts[stamps.closed][:2])
    text = f"{count:,} of {total:,} times of bars lie in hours in which the exchange is closed"
    text += f" ({places} New York)" + (
        "" if stated.timezone is None else f" if the clock is {stated.timezone}"
    )
    fitting = fitting_clocks(wall_clock(stamps.ts, stated.timezone), stamps.step)
    others = [name for name in fitting if name != stated.timezone]
    if not others:
        return [Doubt("clock", text, stated.unknown_clock)]
    cure, keys = stated.cure(stated.clock_keys(others[0]), ", on which none does")
    if not keys:
        cure = f"{cure}; their times fit the clock of {others[0]}"
    return [Doubt("clock", text, cure, keys)]


def wall_clock(ts: Ints, timezone: str | None) -> Ints:
    """The clock of a file whose times were read as those of `timezone`, as ns since 1970."""
    import pandas as pd

    key, ahead = zone_and_lead(timezone or "UTC")
    local = pd.DatetimeIndex(ts).tz_localize("UTC").tz_convert(key).tz_localize(None)
    wall: Ints = local.to_numpy().astype("datetime64[ns]").astype(np.int64)
    return wall + ahead


def fitting_clocks(wall: Ints, step: int) -> list[str]:
    """The clocks on which no bar lies in closed hours, the likeliest first."""
    whole, part = clocks(wall, step)
    return [*whole, *part]


def clocks(wall: Ints, step: int) -> tuple[list[str], list[str]]:
    """The clocks on which no bar lies in closed hours: those on which sessions are traded from open
    to close, and others. Of clocks that agree all the time one stands for all.
    """
    whole: dict[tuple[int, ...], str] = {}
    part: dict[tuple[int, ...], str] = {}
    for name in CLOCKS:
        ts = _utc(wall, name)
        real = ts != _NOT_A_TIME
        if (~real).mean() > FITTING_FRAC:
            continue
        stamps = Stamps.of(ts[real], step)
        if stamps.closed.mean() <= FITTING_FRAC:
            offsets = tuple(int(v) for v in np.unique(wall[real] - ts[real]))
            (whole if stamps.whole else part).setdefault(offsets, name)
    return list(whole.values()), list(part.values())


_NOT_A_TIME = np.iinfo(np.int64).min


def _utc(wall: Ints, timezone: str) -> Ints:
    import pandas as pd

    key, ahead = zone_and_lead(timezone)
    naive = pd.DatetimeIndex(wall - ahead)
    utc = naive.tz_localize(key, ambiguous="NaT", nonexistent="NaT").tz_convert("UTC")
    ts: Ints = utc.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    return ts


def zone_and_lead(timezone: str) -> tuple[str, int]:
    """A zone and how far a clock is ahead of it, in ns: America/New_York+07:00 is seven hours."""
    match = re.fullmatch(r"([A-Za-z_]+/[A-Za-z_]+|UTC)([+-])(\d\d):(\d\d)", timezone)
    if match is None:
        return timezone, 0
    ahead = int(match[3]) * HOUR_NS + int(match[4]) * 60 * NS
    return match[1], ahead if match[2] == "+" else -ahead


def _new_york(ts: int) -> str:
    import pandas as pd

    return f"{pd.Timestamp(int(new_york_ns(ts))):%Y-%m-%d %H:%M}"


# ------------------------------------------------------------------------------------------- stamp


def _stamp(stamps: Stamps, stated: Stated) -> list[Doubt]:
    """Times of closes that are stated to be opens, or the other way round: one bar per session lies
    outside it.
    """
    end = stamps.end()
    if not end and stamps.at_open and stamps.at_close:
        text = (
            f"{stamps.at_close:,} sessions have a time at 17:00 New York, their close, and"
            f" {stamps.at_open:,} one at 18:00, their open: no bar of a session has both"
        )
        return [Doubt("clock", text, stated.unknown_clock)]
    if end in ("", stated.stamped_at):
        return []
    if end == "close":
        text = f"{stamps.at_close:,} sessions have a bar that would begin at their close"
    else:
        text = f"{stamps.at_open:,} sessions have a bar that would end at their open"
    if not (stamps.at_close if end == "close" else stamps.at_open):
        text = f"its days begin and end as those of bar {end}s do"
    return [Doubt("stamp", text, *stated.cure({"stamped_at": end}))]


# ----------------------------------------------------------------------------------- days and holes


def _days(days: Ints, stated: Stated) -> list[Doubt]:
    """Dates of a daily file on which no session is named."""
    count = np.bincount((days + 3) % 7, minlength=7)
    monday, friday, saturday, sunday = (int(count[i]) for i in (0, 4, 5, 6))
    few = max(FEWEST, len(days) // 10)
    if sunday >= few and not friday:
        text = f"{sunday:,} of {len(days):,} dates are Sundays, and none is a Friday"
        early = stated.cure({"format.shift_days": 1}, ": each date is a day early")
        return [Doubt("days", text, *early)]
    if saturday >= few and not monday:
        text = f"{saturday:,} of {len(days):,} dates are Saturdays, and none is a Monday"
        late = stated.cure({"format.shift_days": -1}, ": each date is a day late")
        return [Doubt("days", text, *late)]
    weekend = days[np.isin((days + 3) % 7, (5, 6))]
    if not len(weekend):
        return []
    first = from_day(int(weekend[0]))
    text = (
        f"{len(weekend):,} of {len(days):,} dates are no trade dates ({WEEKDAYS[first.weekday()]}"
        f" {first}): the bars are of calendar days, which cut sessions in two"
    )
    cure, keys = stated.cure({"format.sundays": "skip"})
    if keys:  # it leaves bars out, so nobody but the user chooses it
        cure = f"read bars of minutes, or {cure}"
    return [Doubt("days", text, cure)]


def _absent_days(days: Ints, table: Table) -> list[Doubt]:
    """Runs of sessions of the exchange without a date in the file."""
    recent = days[days >= MEASURED_FROM]
    if len(recent) < 2:
        return []
    first, last = from_day(int(recent[0])), from_day(int(recent[-1]))
    official = calendar.sessions(first, last + timedelta(days=1), table.instrument.symbol).day
    present = np.isin(official, recent)
    runs = [run for run in _runs(~present) if run.stop - run.start >= _ABSENT_DAYS]
    return _holes([official[run] for run in runs])


_ABSENT_DAYS = 3  # one or two missing dates of a daily file are no hole


def _absent_sessions(ts: Ints, table: Table, step: int) -> list[Doubt]:
    """Sessions without any bar between sessions that were traded. Those that the vendor calls
    degraded are known to lack bars.
    """
    unit = max(step, MINUTE_NS)  # few seconds of a session that trades have a bar
    units = ts if unit == step else _distinct(ts // unit, 1) * unit
    official = table.calendar
    first, last = np.searchsorted(official.open_ns, (ts[0], ts[-1]), "right") - 1
    inside = slice(max(0, int(first)), int(last) + 1)
    edges = (np.searchsorted(units, at[inside]) for at in (official.open_ns, official.close_ns))
    bars = -np.subtract(*edges)
    full = (official.close_ns - official.open_ns)[inside] // unit
    active = bars >= _FULL_FRAC * full
    holes = []
    absent = (bars == 0) & ~np.isin(official.day[inside], table.degraded)
    for run in _runs(absent):
        around = [*active[max(0, run.start - 2) : run.start], *active[run.stop : run.stop + 2]]
        if len(around) >= 2 and all(around):
            holes.append(official.day[inside][run])
    return _holes(holes)


def _runs(rows: Bools) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _holes(runs: list[Ints]) -> list[Doubt]:
    if not runs:
        return []
    count = sum(len(run) for run in runs)
    places = ", ".join(_span(run) for run in runs[:_MOST]) + (" …" if len(runs) > _MOST else "")
    text = f"the file has no bar in {count:,} sessions between others that it has ({places})"
    return [Doubt("holes", text, "get these days from the vendor")]


def _span(days: Ints) -> str:
    first, last = from_day(int(days[0])), from_day(int(days[-1]))
    return str(first) if first == last else f"{first} to {last}"


# ------------------------------------------------------------------------------------------ prices


def _spikes(chunk: Chunk, table: Table, closes: dict[int, float]) -> list[Doubt]:
    """The first price that is a power of ten away from the close before it, or at 0.00 far below
    it; `closes` are those of the chunk before.
    """
    rows = chunk.rows
    if not len(rows):
        return []
    first = np.flatnonzero(np.diff(rows.contract, prepend=-1))
    before = np.append(np.nan, rows.close[:-1])
    before[first] = [closes.get(int(rows.contract[i]), np.nan) for i in first]
    after = np.append(rows.open[1:], np.nan)
    last = np.append(first[1:], len(rows)) - 1
    after[last] = np.nan
    reference = np.where(np.isnan(before), after, before)
    closes.update({int(rows.contract[i]): float(rows.close[i]) for i in last})
    far = np.zeros(len(rows), np.bool_)  # few rows are: the rest of the work is theirs alone
    for name in PRICES:
        far |= np.abs(getattr(rows, name) - reference) > FALL
    at = np.flatnonzero(far)
    for name in PRICES:
        bad = at[_is_spike(getattr(rows, name)[at], reference[at])]
        if len(bad):
            return [_spike(chunk, table, name, int(bad[0]), float(reference[bad[0]]))]
    return []


def _is_spike(price: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> Bools:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = price / reference
        scaled = np.logical_or.reduce([np.abs(ratio / p - 1) < NEAR for p in POWERS])
    spike: Bools = (scaled | (price == 0)) & (np.abs(price - reference) > FALL)
    return spike


def _spike(chunk: Chunk, table: Table, name: str, row: int, reference: float) -> Doubt:
    rows: Rows = chunk.rows
    at = f"{table.contracts[rows.contract[row]].symbol} at {clock(rows.ts_event[row])}"
    price = float(getattr(rows, name)[row])
    cure = "download the file again"
    if chunk.lines is not None:
        line = int(chunk.lines[row])
        at += f", line {line}" + (f" of {chunk.origin_of(row)}" if chunk.origins else "")
        cure = f"leave the line out with data.format.without=[{line}]"
        if chunk.origins:
            cure = f"correct line {line} of that file"
    return Doubt(
        "prices", f"{at}: {name} is {price:g}, and the price next to it {reference:g}", cure
    )
