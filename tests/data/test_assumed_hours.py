"""The dates whose short hours are assumed are named, where bars reach them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from mcl.data import loader
from mcl.data.sources.csv import CsvColumns, CsvData
from mcl.market import calendar


def test_the_assumed_hours_are_those_of_short_sessions_not_yet_published() -> None:
    days = calendar.assumed_hours(date(2024, 1, 1), date(2027, 12, 31))
    assert [str(day) for day in days] == [
        "2027-01-18",
        "2027-02-15",
        "2027-05-31",
        "2027-06-18",
        "2027-07-05",
        "2027-09-06",
        "2027-11-25",
        "2027-11-26",
    ]
    assert calendar.assumed_hours(date(2024, 1, 1), calendar.PUBLISHED_UNTIL) == []
    assert calendar.assumed_hours(date(2027, 3, 1), date(2027, 3, 5), "ES") == []


@pytest.mark.parametrize(
    ("day", "close"),
    [
        # published: github.com/rsheftel/pandas_market_calendars/issues/464 cites the exchange
        ("2026-06-19", "13:00"),
        ("2026-07-03", "13:00"),
        ("2026-09-07", "14:30"),
        ("2026-11-27", "14:45"),
        ("2026-12-24", "13:45"),
    ],
)
def test_the_published_hours_of_2026(day: str, close: str) -> None:
    first = date.fromisoformat(day)
    for root in ("MCL", "CL", "GC", "MGC"):
        table = calendar.sessions(first, date.fromordinal(first.toordinal() + 1), root)
        ends = pd.Timestamp(int(table.close_ns[0]), tz="UTC").tz_convert("America/New_York")
        assert f"{ends:%H:%M}" == close, root


def test_data_info_names_them(tmp_path: Path) -> None:
    def assumed(first: str, contract: str) -> list[str]:
        times = pd.date_range(f"{first}T14:00Z", periods=30, freq="min")
        frame = pd.DataFrame({"time": times.strftime("%Y-%m-%dT%H:%M:%SZ"), "close": 70.0})
        path = tmp_path / f"{first}.csv"
        frame.to_csv(path, index=False)
        columns = CsvColumns(time="time", close="close")
        data = CsvData(
            source="csv", path=str(path), stamped_at="open", columns=columns, contract=contract
        )
        days: list[str] = loader.dataset_facts(data, tmp_path)["assumed_hours"]
        return days

    assert assumed("2027-06-16", "MCLQ27") == ["2027-06-18", "2027-07-05"]
    assert assumed("2026-06-16", "MCLQ26") == []
    assert assumed("2026-11-16", "MCLG27") == ["2027-01-18"]
