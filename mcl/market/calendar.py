"""Knows when the exchange trades and when a contract stops: CME sessions, trade dates, expiry
rules, symbols.

A session is named by its CME trade date and runs from 18:00 New York on the evening before to 17:00
(Sunday 18:00 opens Monday). Days are int64 counted from 1970-01-01; instants are int64 nanoseconds
since the epoch, UTC.
"""

from __future__ import annotations

import math
import re
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from dateutil.easter import easter

from mcl.base.errors import DataError, nearest
from mcl.base.instants import NS
from mcl.market.instruments import (
    DELIVERED_AFTER_LAST_TRADE,
    DELIVERED_BY_NOTICE,
    INSTRUMENTS,
    MONTH_CODES,
    SETTLED_IN_CASH,
    Contract,
)

Ints = npt.NDArray[np.int64]

NEW_YORK = ZoneInfo("America/New_York")
DAY_NS = 86_400 * NS
SESSIONS_PER_YEAR = 252  # by which every annual figure is reckoned
SESSION_SHIFT_NS = 6 * 3600 * NS  # 18:00 New York + 6 h = midnight of the trade date

# names in pandas_market_calendars
_ENERGY, _METALS, _EQUITY = "CMEGlobex_CL", "CMEGlobex_GC", "CME_Equity"
_SCHEDULE = {
    "MCL": _ENERGY,
    "CL": _ENERGY,
    "GC": _METALS,
    "MGC": _METALS,
    "ES": _EQUITY,
    "MES": _EQUITY,
}

# Early closes (New York) where pandas_market_calendars contradicts the exchange. Energy and metals
# keep the same hours: from one-minute bars of CL 2024-2026, before and after from the hours that
# the exchange published, as a second database holds them.
_ENERGY_CLOSES = {
    "2018-12-24": "13:45",
    "2019-12-24": "13:45",
    "2020-12-24": "13:45",
    "2022-09-05": "14:30",
    "2023-09-04": "14:30",
    "2024-09-02": "14:30",
    "2025-09-01": "14:30",  # Labor Day
    "2024-11-29": "14:45",
    "2025-11-28": "14:45",  # day after Thanksgiving
    "2024-12-24": "13:45",
    "2025-12-24": "13:45",  # Christmas Eve
    "2025-07-04": "13:00",
    # assumed: as in the years before
    "2027-06-18": "13:00",
    "2027-09-06": "14:30",
    "2027-11-26": "14:45",
}
# The hours of 2026 agree with github.com/rsheftel/pandas_market_calendars/issues/464, which cites
# the exchange. It has published those of 2027, too, as github.com/QuantConnect/Lean/pull/9733 says:
# no session on March 26 and December 24, a whole one on December 31, and pull/9572 June 18. Its
# table of the other hours could not be read when this was written. They are assumed, as all later
# ones: those of the same holiday in the years before.
PUBLISHED_UNTIL = date(2026, 12, 31)
# National days of mourning: equity index futures traded overnight alone. CME Group press releases
# of 2018-12-02 and 2024-12-30; energy and metals kept their hours.
_MOURNING = {"2018-12-05": "09:30", "2025-01-09": "09:30"}
WHOLE = 1380  # minutes of a session that is not short
_EVE_CLOSE = (13, 15)  # of equity index futures on a business day next to a holiday

# Share of the minutes of each hour of a session, from 18:00 New York on, in which the front
# contract traded: one-minute bars of
# 535 sessions, December 2023 to January 2026.
MINUTES_WITH_A_TRADE = {
    "MCL": (
        *(0.936, 0.894, 0.968, 0.976, 0.957, 0.924, 0.913, 0.951, 0.986, 0.996, 0.998, 0.998),
        *(0.996, 0.999, 1.0, 1.0, 1.0, 1.0, 0.999, 0.994, 0.977, 0.953, 0.946),
    )
}


@dataclass(frozen=True)
class Sessions:
    """Aligned int64 arrays, one element per session, increasing: trade date in days, open and
    official close in ns UTC.
    """

    day: Ints
    open_ns: Ints
    close_ns: Ints

    def __len__(self) -> int:
        return len(self.day)

    @cached_property
    def dates(self) -> list[date]:
        return [from_day(int(d)) for d in self.day]

    @property
    def minutes(self) -> Ints:
        """Length of each session in minutes: 1380, less on a day with an early close."""
        return (self.close_ns - self.open_ns) // (60 * NS)


def to_day(value: date) -> int:
    return value.toordinal() - _EPOCH_ORDINAL


def from_day(day: int) -> date:
    return date.fromordinal(day + _EPOCH_ORDINAL)


_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def ns_of(day: date, hour: int, minute: int = 0) -> int:
    """The instant of a New York clock time."""
    return (
        int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).timestamp()) * NS
    )


@lru_cache(maxsize=8)
def _offsets(first_year: int, last_year: int) -> tuple[Ints, Ints]:
    """Instants (ns UTC) from which New York's UTC offset (ns) holds; asked of the time zone
    database day by day.
    """
    starts, offsets = (
        [np.iinfo(np.int64).min],
        [_offset_sec(int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp()))],
    )
    for year in range(first_year, last_year + 1):
        begin, end = (int(datetime(y, 1, 1, tzinfo=UTC).timestamp()) for y in (year, year + 1))
        for second in range(begin, end, 86_400):
            after = _offset_sec(second + 86_400)
            if after != offsets[-1]:
                starts.append(
                    next(s for s in range(second, second + 86_401, 1800) if _offset_sec(s) == after)
                    * NS
                )
                offsets.append(after)
    return np.array(starts, np.int64), np.array(offsets, np.int64) * NS


def _offset_sec(second: int) -> int:
    offset = datetime.fromtimestamp(second, NEW_YORK).utcoffset()
    return int((offset or timedelta()).total_seconds())


def new_york_ns(ts_ns: npt.ArrayLike) -> Ints:
    """The New York wall clock of UTC instants, as ns since 1970-01-01 00:00 of that clock."""
    ts = np.asarray(ts_ns, dtype=np.int64)
    if ts.size == 0:
        return ts.copy()
    first, last = (
        int(np.datetime64(int(t), "ns").astype("datetime64[Y]").astype(int)) + 1970
        for t in (ts.min(), ts.max())
    )
    starts, offsets = _offsets(first - first % 10, last - last % 10 + 9)
    local: Ints = ts + offsets[np.searchsorted(starts, ts, "right") - 1]
    return local


def session_of(ts_ns: npt.ArrayLike) -> Ints:
    """Trade date (days) of UTC instants: New York + 6 h. An instant in the 17:00-18:00 break counts
    to the session that ended.
    """
    return (new_york_ns(ts_ns) + SESSION_SHIFT_NS) // DAY_NS


_library = threading.Lock()  # its calendars are built lazily, and not by two threads at once


def sessions(start: date, end: date, root: str = "MCL") -> Sessions:
    """The sessions with start <= trade date < end, holidays left out, early closes corrected.
    DataError if there is none.
    """
    import pandas_market_calendars

    name = _SCHEDULE.get(root)
    if name is None:
        raise DataError(f"no trading calendar for {root!r}; {nearest(root, _SCHEDULE)}")
    if start >= end:
        raise DataError(f"need start < end for a range of sessions; start={start}, end={end}")
    with _library:
        table = pandas_market_calendars.get_calendar(name).schedule(start, end - timedelta(days=1))
    if not len(table):
        raise DataError(f"no {root} session between {start} and {end}")
    days = table.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    naive = (
        table[column].dt.tz_convert(None).to_numpy() for column in ("market_open", "market_close")
    )
    opens, closes = (times.astype("datetime64[ns]").astype(np.int64) for times in naive)
    if name == _EQUITY:
        return _equity(Sessions(days, opens, closes), start, end)
    return Sessions(days, opens, _with_closes(days, closes, _ENERGY_CLOSES))


def assumed_hours(first: date, last: date, root: str = "MCL") -> list[date]:
    """The short sessions from `first` to `last` whose hours are not known from the exchange:
    they are assumed to be those of the years before.
    """
    first = max(first, PUBLISHED_UNTIL + timedelta(days=1))
    if first > last:
        return []
    try:
        table = sessions(first, last + timedelta(days=1), root)
    except DataError:
        return []
    return [day for day, minutes in zip(table.dates, table.minutes, strict=True) if minutes < WHOLE]


def _with_closes(days: Ints, closes: Ints, official: dict[str, str]) -> Ints:
    fixed = closes.copy()
    for text, clock in official.items():
        day = date.fromisoformat(text)
        hour, minute = clock.split(":")
        fixed[days == to_day(day)] = ns_of(day, int(hour), int(minute))
    return fixed


def _equity(table: Sessions, start: date, end: date) -> Sessions:
    """Sessions of equity index futures with the days of mourning, without the Good Fridays on which
    no jobs report was published, and with the closes of business days next to holidays.
    """
    mourning = [date.fromisoformat(text) for text in _MOURNING]
    missing = [d for d in mourning if start <= d < end and to_day(d) not in table.day]
    days = np.append(table.day, [to_day(d) for d in missing]).astype(np.int64)
    opens = np.append(table.open_ns, [ns_of(d - timedelta(days=1), 18) for d in missing])
    closes = np.append(table.close_ns, [ns_of(d, 17) for d in missing])
    closes = _with_closes(days, closes.astype(np.int64), _MOURNING)
    keep = np.ones(len(days), np.bool_)
    for i, day in enumerate(map(from_day, days.tolist())):
        if day == _good_friday(day.year):
            keep[i] = day.day <= 7  # the report is published on the first Friday of a month
        elif closes[i] == ns_of(day, 13) and is_business_day(day):
            closes[i] = ns_of(day, *_EVE_CLOSE)
    order = np.flatnonzero(keep)[np.argsort(days[keep], kind="stable")]
    return Sessions(days[order], opens[order].astype(np.int64), closes[order])


# ----------------------------------------------------------------------------------------- expiries


@lru_cache(maxsize=256)
def holidays(year: int) -> frozenset[date]:
    """Weekdays that are no NYMEX business day, for expiry rules: closed, or a half session without
    a settlement.
    """
    days = {
        _observed(date(year, 1, 1), saturday=0),
        _nth(year, 2, 0, 3),  # Presidents
        _good_friday(year),
        _nth(year, 6, 0, 1) - timedelta(days=7),  # Memorial: the last Monday of May
        _observed(date(year, 7, 4), saturday=-1),
        _nth(year, 9, 0, 1),  # Labor
        _nth(year, 11, 3, 4),  # Thanksgiving
        _observed(date(year, 12, 25), saturday=-1),
    }
    if year >= 1998:
        days.add(_nth(year, 1, 0, 3))  # Martin Luther King
    if year >= 2022:
        days.add(_observed(date(year, 6, 19), saturday=-1))  # Juneteenth
    return frozenset(days)


def _good_friday(year: int) -> date:
    easter_sunday: date = easter(year)
    return easter_sunday - timedelta(days=2)


def _observed(day: date, saturday: int) -> date:
    shift = {5: saturday, 6: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def is_business_day(day: date) -> bool:
    return day.weekday() < 5 and day not in holidays(day.year)


def business_days_before(day: date, n: int) -> date:
    """The n-th business day before `day`; n = 0 gives `day` itself or the last business day before
    it.
    """
    while not is_business_day(day):
        day -= timedelta(days=1)
    for _ in range(n):
        day -= timedelta(days=1)
        while not is_business_day(day):
            day -= timedelta(days=1)
    return day


def last_trade_date(root: str, year: int, month: int) -> date:
    """The last day on which the contract trades.

    CL: three business days before the 25th of the month before the contract month, counted from the
    last business day before the 25th if the 25th is none. MCL: one business day before CL. GC, MGC:
    third last business day of the contract month. ES, MES: third Friday of the contract month, or
    the business day before. Sources: NYMEX 200, CME MCL FAQ, COMEX 113, CME 358.
    """
    if not 1 <= month <= 12:
        raise DataError(f"contract month {month} of {root} {year} is outside 1..12")
    if root in ("CL", "MCL"):
        before = date(year - (month == 1), month - 1 or 12, 25)
        return business_days_before(before, 4 if root == "MCL" else 3)
    if root in ("GC", "MGC"):
        return business_days_before(
            date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1), 2
        )
    if root in ("ES", "MES"):
        return business_days_before(_nth(year, month, 4, 3), 0)
    raise DataError(f"no expiry rule for {root!r}; {nearest(root, INSTRUMENTS)}")


def last_day_held(root: str, year: int, month: int) -> date:
    """The last day on which a position is safe from delivery: the last trade date, but for gold the
    business day before the first notice day.

    GC, MGC: notices begin on the last business day of the month before the contract month. CL is
    delivered too, but only after its last trade date. Source: COMEX 113.
    """
    if root not in DELIVERED_BY_NOTICE:
        return last_trade_date(root, year, month)
    first = date(year, month, 1) - timedelta(days=1)
    return business_days_before(business_days_before(first, 0) - timedelta(days=1), 0)


def refuse_unknown_delivery(root: str) -> None:
    """DataError for a product of which it is not known when its holders can get a delivery."""
    if root not in DELIVERED_BY_NOTICE | DELIVERED_AFTER_LAST_TRADE | SETTLED_IN_CASH:
        raise DataError(
            f"it is not known when a position in {root} can be delivered to its holder",
            "state it in mcl.market.instruments: settled in cash, or the rule of its first notices",
        )


def contract(root: str, year: int, month: int) -> Contract:
    """The dated contract, named as the exchange names near months: one-digit year."""
    expiry = last_trade_date(root, year, month)
    return Contract(f"{root}{MONTH_CODES[month - 1]}{year % 10}", root, year, month, expiry)


_SYMBOL = re.compile(rf"([A-Z0-9]{{1,3}}?)([{MONTH_CODES}])(\d{{1,2}})")


def parse_symbol(symbol: str, on: date) -> Contract:
    """The contract that a raw symbol means on a date: MCLG6 is 2016, 2026 or 2036.

    One-digit years name the first such contract that had not expired a year before `on` (far months
    carry two digits); two-digit years the century nearest to `on`. Unknown root or shape:
    DataError.
    """
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        raise DataError(
            f"{symbol!r} is not an outright futures symbol; need root, month code ({MONTH_CODES})"
            " and year, for instance MCLG6"
        )
    root, code, digits = match.groups()
    if root not in INSTRUMENTS:
        raise DataError(f"unknown root {root!r} in symbol {symbol!r}; {nearest(root, INSTRUMENTS)}")
    month = MONTH_CODES.index(code) + 1
    if len(digits) == 2:
        year = on.year - 50 + (int(digits) - (on.year - 50)) % 100
    else:
        year = on.year - 2 + (int(digits) - (on.year - 2)) % 10
        if (on - last_trade_date(root, year, month)).days > 366:
            year += 10
    dated = contract(root, year, month)
    return Contract(symbol, root, year, month, dated.last_trade_date)


def usual_gap_minutes(at_ns: int, root: str) -> int:
    """The longest run of minutes without a trade that an hour of the session has about once in a
    hundred sessions; 0 if unknown.

    Minutes are taken as independent: a run of n begins with probability p**n, p being the share of
    minutes without a trade.
    """
    traded = MINUTES_WITH_A_TRADE.get(root)
    if traded is None:
        return 0
    hour = int((new_york_ns(at_ns) + SESSION_SHIFT_NS) % DAY_NS // (3600 * NS))
    empty = 1 - traded[min(hour, len(traded) - 1)]
    rare = 1 / (60 * 100)
    return math.ceil(math.log(rare) / math.log(max(empty, 1e-4)))
