"""Sessions, holidays, daylight saving, expiries and symbols against dates that are known from the
exchange and from real bars.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base.errors import DataError
from mcl.market import calendar

EXPIRIES = {  # broker's contract master and the exchange calendar
    "MCLF6": "2025-12-18", "MCLG6": "2026-01-16", "MCLH6": "2026-02-19", "MCLJ6": "2026-03-19",
    "MCLK6": "2026-04-20",
    "MCLM6": "2026-05-18", "MCLN6": "2026-06-18", "MCLQ6": "2026-07-20", "MCLU6": "2026-08-19",
    "MCLV6": "2026-09-21",
    "MCLX6": "2026-10-19", "MCLZ6": "2026-11-19", "MCLF7": "2026-12-18", "MCLG7": "2027-01-19",
    "MCLN7": "2027-06-21",
}  # fmt: skip
CLOSED = [  # weekdays without a session
    "2021-12-24", "2022-04-15", "2022-12-26", "2023-01-02", "2023-04-07", "2023-12-25",
    "2024-01-01", "2024-03-29", "2024-12-25",
    "2025-01-01", "2025-04-18", "2025-12-25", "2026-01-01", "2026-04-03", "2026-12-25",
]  # fmt: skip
EARLY = {  # New York close, from real one-minute bars
    "2022-09-05": "14:30", "2023-09-04": "14:30", "2024-09-02": "14:30", "2025-09-01": "14:30",
    "2024-11-28": "14:30",
    "2024-11-29": "14:45", "2025-11-28": "14:45", "2024-12-24": "13:45", "2025-12-24": "13:45",
    "2025-07-04": "13:00",
    "2025-01-20": "14:30", "2024-06-19": "14:30", "2021-09-06": "13:00",
}  # fmt: skip


def ns(text: str, zone: str = "America/New_York") -> int:
    return pd.Timestamp(text, tz=zone).value


@pytest.mark.parametrize(("symbol", "expiry"), EXPIRIES.items())
def test_last_trade_dates_of_mcl(symbol: str, expiry: str) -> None:
    found = calendar.parse_symbol(symbol, date(2025, 11, 3))
    assert found.last_trade_date == date.fromisoformat(expiry)
    assert calendar.contract("MCL", found.year, found.month).symbol == symbol


def test_last_trade_dates_of_other_products() -> None:
    # the month of the negative settlement
    assert calendar.last_trade_date("CL", 2020, 5) == date(2020, 4, 21)
    assert calendar.last_trade_date("CL", 2025, 11) == date(2025, 10, 21)
    assert calendar.last_trade_date("GC", 2013, 12) == date(2013, 12, 27)
    assert calendar.last_trade_date("GC", 2013, 10) == date(2013, 10, 29)
    # the third Friday is Juneteenth
    assert calendar.last_trade_date("MES", 2026, 6) == date(2026, 6, 18)


def test_weekdays_without_a_session_and_session_count() -> None:
    table = calendar.sessions(date(2021, 7, 12), date(2027, 1, 1))
    weekdays = pd.bdate_range("2021-07-12", "2026-12-31").difference(
        pd.DatetimeIndex(table.day.astype("datetime64[D]"))
    )
    assert [str(d.date()) for d in weekdays] == CLOSED
    assert len(calendar.sessions(date(2023, 12, 11), date(2026, 1, 9))) == 544 - 8


MOURNING = (date(2018, 12, 5), date(2025, 1, 9))  # CME Group press releases


@pytest.mark.parametrize("root", ["ES", "MES"])
def test_equity_futures_close_early_beside_holidays_and_on_days_of_mourning(root: str) -> None:
    table = calendar.sessions(date(2018, 1, 1), date(2028, 1, 1), root)
    closes = dict(zip(table.dates, table.close_ns.tolist(), strict=True))
    for day in MOURNING:
        assert closes[day] == ns(f"{day} 09:30")
    for text in ("2018-07-03", "2019-11-29", "2024-12-24", "2025-07-03", "2026-11-27"):
        assert closes[date.fromisoformat(text)] == ns(f"{text} 13:15")
    for text in ("2024-11-28", "2025-09-01", "2026-07-03", "2027-06-18", "2027-09-06"):
        assert closes[date.fromisoformat(text)] == ns(f"{text} 13:00")
    assert closes[date(2026, 4, 3)] == ns("2026-04-03 09:15")  # the jobs report
    assert not {date(2024, 3, 29), date(2025, 4, 18), date(2027, 3, 26)} & closes.keys()
    assert (np.diff(table.day) > 0).all()


@pytest.mark.parametrize("root", ["GC", "MGC", "CL", "MCL"])
def test_metals_and_energy_keep_the_same_short_hours_and_trade_on_days_of_mourning(
    root: str,
) -> None:
    table = calendar.sessions(date(2018, 1, 1), date(2028, 1, 1), root)
    closes = dict(zip(table.dates, table.close_ns.tolist(), strict=True))
    short = EARLY | {"2020-12-24": "13:45", "2027-06-18": "13:00", "2027-09-06": "14:30"}
    for text, clock in short.items():
        assert closes[date.fromisoformat(text)] == ns(f"{text} {clock}"), text
    for day in MOURNING:
        assert closes[day] == ns(f"{day} 17:00")


def test_gold_is_left_before_its_notices_and_oil_at_its_last_trade_date() -> None:
    assert calendar.last_day_held("GC", 2024, 4) == date(2024, 3, 27)  # notices from 2024-03-28
    assert calendar.last_day_held("MGC", 2013, 12) == date(2013, 11, 27)
    assert calendar.last_day_held("MCL", 2026, 1) == calendar.last_trade_date("MCL", 2026, 1)


def test_every_short_session_until_2027_is_a_holiday_or_the_day_beside_one() -> None:
    table = calendar.sessions(date(2021, 7, 12), date(2028, 1, 1))
    short = [d for d, minutes in zip(table.dates, table.minutes, strict=True) if minutes != 1380]
    full = {d for d in table.dates if d not in set(short)}
    for day in short:
        beside = day + timedelta(days=1), day - timedelta(days=1)
        assert not calendar.is_business_day(day) or any(
            not calendar.is_business_day(b) for b in beside
        ), day
    assert not [d for d in full if not calendar.is_business_day(d)]  # a holiday is closed or short
    per_year = {year: sum(d.year == year for d in short) for year in range(2022, 2028)}
    assert per_year == {2022: 8, 2023: 8, 2024: 9, 2025: 9, 2026: 9, 2027: 8}
    assert table.minutes.min() == 1140  # 13:00
    fridays = {
        d for d in short if d.weekday() == 4 and not calendar.is_business_day(d) and d.year >= 2025
    }
    assert {int(table.minutes[table.dates.index(d)]) for d in fridays} == {1140}


@pytest.mark.parametrize("year", range(2021, 2028))
def test_mcl_stops_one_business_day_before_cl(year: int) -> None:
    for month in range(1, 13):
        mcl, cl = (calendar.last_trade_date(root, year, month) for root in ("MCL", "CL"))
        assert calendar.business_days_before(cl, 1) == mcl
        assert calendar.is_business_day(mcl)


@pytest.mark.parametrize(("day", "clock"), EARLY.items())
def test_early_closes(day: str, clock: str) -> None:
    on = date.fromisoformat(day)
    assert calendar.sessions(on, on + timedelta(days=1)).close_ns.tolist() == [ns(f"{day} {clock}")]


def test_sessions_run_from_18_to_17_new_york_through_both_clock_changes() -> None:
    for first in (date(2024, 3, 8), date(2024, 11, 1), date(2025, 3, 7), date(2025, 10, 31)):
        table = calendar.sessions(first, first + timedelta(days=6))
        for on, begin, end in zip(table.dates, table.open_ns, table.close_ns, strict=True):
            assert begin == ns(f"{on - timedelta(days=1)} 18:00")
            assert end == ns(f"{on} 17:00")
        assert set(table.minutes.tolist()) == {1380}
        assert calendar.session_of(table.open_ns).tolist() == table.day.tolist()
        assert calendar.session_of(table.close_ns - 1).tolist() == table.day.tolist()


def test_range_is_half_open_and_refusals_say_why() -> None:
    assert calendar.sessions(date(2024, 1, 8), date(2024, 1, 10)).dates == [
        date(2024, 1, 8),
        date(2024, 1, 9),
    ]
    with pytest.raises(DataError, match="need start < end"):
        calendar.sessions(date(2024, 1, 8), date(2024, 1, 8))
    with pytest.raises(DataError, match="no MCL session between 2024-12-25"):
        calendar.sessions(date(2024, 12, 25), date(2024, 12, 26))
    with pytest.raises(DataError, match="'MXL'; did you mean 'MCL'"):
        calendar.sessions(date(2024, 1, 8), date(2024, 1, 9), root="MXL")


@given(st.datetimes(datetime(1975, 1, 1), datetime(2036, 12, 31)))
def test_trade_date_is_new_york_plus_six_hours(moment: datetime) -> None:
    utc = pd.Timestamp(moment, tz="UTC").floor("s")
    local = utc.to_pydatetime().astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None)
    expected = (local + timedelta(hours=6)).date()
    assert calendar.from_day(int(calendar.session_of(utc.value))) == expected


def test_session_of_is_vectorised_and_takes_an_empty_array() -> None:
    assert calendar.session_of(np.empty(0, np.int64)).size == 0
    sunday, friday = ns("2024-03-10 18:00"), ns("2024-03-08 16:59")
    assert calendar.session_of([friday, sunday]).astype("datetime64[D]").astype(str).tolist() == [
        "2024-03-08",
        "2024-03-11",
    ]


def test_business_days_agree_with_the_exchange_calendar() -> None:
    """A holiday is a weekday that is closed, or closes early without being the day beside
    Thanksgiving or Christmas.
    """
    table = calendar.sessions(date(2022, 1, 1), date(2028, 1, 1))
    short = {d for d, m in zip(table.dates, table.minutes, strict=True) if m < 1380}
    beside = {
        d for d in short if (d.month, d.day) == (12, 24) or (d.month == 11 and d.weekday() == 4)
    }
    closed = {d.date() for d in pd.bdate_range("2022-01-01", "2027-12-31")} - set(table.dates)
    ours = {d for year in range(2022, 2028) for d in calendar.holidays(year) if d.weekday() < 5}
    assert ours == closed | (short - beside)


def test_symbols_take_their_decade_from_the_date() -> None:
    assert calendar.parse_symbol("MCLG6", date(2025, 12, 1)).name == "MCL 2026-02"
    # expired on Friday; its volume is published now
    assert calendar.parse_symbol("MCLG6", date(2026, 1, 20)).name == "MCL 2026-02"
    assert calendar.parse_symbol("CLG6", date(2015, 12, 1)).name == "CL 2016-02"
    assert calendar.parse_symbol("CLG6", date(2029, 6, 1)).name == "CL 2036-02"
    assert calendar.parse_symbol("CLK35", date(2025, 10, 23)).name == "CL 2035-05"
    assert calendar.parse_symbol("GCZ98", date(1998, 3, 2)).name == "GC 1998-12"
    assert calendar.parse_symbol("CLK35", date(2025, 10, 23)).symbol == "CLK35"


@given(st.integers(2015, 2040), st.integers(1, 12), st.integers(0, 3000))
def test_a_listed_contract_parses_back(year: int, month: int, days_before: int) -> None:
    made = calendar.contract("CL", year, month)
    assert (
        calendar.parse_symbol(
            made.symbol, made.last_trade_date - timedelta(days=days_before % 2900)
        )
        == made
    )


@pytest.mark.parametrize(("symbol", "message"), [
    ("MCX", "not an outright"), ("MCLG6-MCLH6", "not an outright"), ("MXLG6", "did you mean 'MCL'"),
    ("", "not an outright"),
])  # fmt: skip
def test_bad_symbols(symbol: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        calendar.parse_symbol(symbol, date(2025, 1, 6))


def test_bad_contracts() -> None:
    with pytest.raises(DataError, match="month 13"):
        calendar.contract("MCL", 2025, 13)
    with pytest.raises(DataError, match="no expiry rule for 'NG'"):
        calendar.last_trade_date("NG", 2025, 1)


def test_the_usual_gap_is_longer_at_night_than_in_the_day() -> None:
    """Every tenth minute from 19:00 to 20:00 is empty: four in a row are usual."""
    day = date(2026, 1, 6)
    gaps = {
        hour: calendar.usual_gap_minutes(calendar.ns_of(day, hour), "MCL")
        for hour in (2, 12, 19, 20)
    }
    assert gaps == {2: 3, 12: 2, 19: 4, 20: 3}
    assert calendar.usual_gap_minutes(calendar.ns_of(day, 12), "ES") == 0
