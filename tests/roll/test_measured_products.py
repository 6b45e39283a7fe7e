"""The volume rule on the calendars of gold and of the S&P 500 future, with measured shares.

The shares are medians of the front's volume over that of front and next, from the daily volumes by
contract that the LEAN project ships (Apache-2.0; AlgoSeek): gold on the last four days of
GCZ3, GCG4, GCJ4 and GCM4 on which a holder is safe from delivery, ES on the days before the last
trade dates of ESZ3, ESH4 and ESM4. Where no day was read, the front is assumed to lead.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from mcl import composition
from mcl.base.instants import NS
from mcl.config.schema import Roll
from mcl.data import roll
from mcl.data.roll import Volumes
from mcl.market import calendar
from mcl.market.instruments import ACTIVE_MONTHS

FIRST, LAST = date(2013, 7, 1), date(2015, 3, 1)
MORNING = 16 * 3600 * NS  # after the open
LEADS = 0.9
GOLD = {3: 0.73, 2: 0.54, 1: 0.26, 0: 0.02}  # by sessions to the last safe day
SP500 = {7: 0.76, 6: 0.29, 5: 0.16, 4: 0.12, 3: 0.1, 2: 0.1, 1: 0.1, 0: 0.1}
QUARTERS = (3, 6, 9, 12)


def days_left(root: str, months: tuple[int, ...]) -> tuple[calendar.Sessions, np.ndarray]:
    """Sessions, and the last day that each contract is held, in order."""
    table = calendar.sessions(FIRST, LAST)
    ends = [
        calendar.to_day(calendar.last_day_held(root, year, month))
        for year in (2013, 2014, 2015)
        for month in months
    ]
    return table, np.array([end for end in ends if end >= table.day[0]], np.int64)


def decided(
    root: str, months: tuple[int, ...], share: dict[int, float], rule: Roll, lag: int
) -> list[tuple[str, int]]:
    """Why and how many sessions before its last day each contract was left. The volumes of a
    session are known at the next open (lag 0, from bars), or one session later.
    """
    table, ends = days_left(root, months)
    n = len(table)
    volume = np.zeros((n, len(ends)), np.int64)
    for i, day in enumerate(table.day):
        near = int(np.searchsorted(ends, day))
        if near + 1 < len(ends):
            left = int(np.searchsorted(table.day, ends[near], "right")) - 1 - i
            front = share.get(left, LEADS)
            volume[i, near : near + 2] = round(10_000 * front), round(10_000 * (1 - front))
    session, contract = np.indices(volume.shape).reshape(2, -1)
    known = table.open_ns[np.minimum(session + lag, n - 1)] + MORNING
    volumes = Volumes(table.day[session], contract, volume.ravel(), known)
    steps = roll.decide(
        calendar.sessions(FIRST, date(2016, 1, 31)),
        table.day,
        last_trade=ends,
        listed_at=np.zeros(len(ends), np.int64),
        volumes=volumes,
        rule=rule,
    )[1]
    rows = [(step.session, ends[step.outgoing], step.reason) for step in steps]
    place = {int(day): i for i, day in enumerate(table.day)}
    return [
        (reason, int(np.searchsorted(table.day, end, "right")) - 1 - place[day])
        for day, end, reason in rows
        if end <= table.day[-1]
    ]


def preset(*words: str) -> Roll:
    return composition.compose("backtest", list(words)).config.data.roll


@pytest.mark.parametrize(("lag", "left"), [(0, 5), (1, 4)])
def test_on_the_sp500_the_volume_decides_every_roll(lag: int, left: int) -> None:
    """Its volume moves six sessions before the third Friday, on the Thursday of the week before."""
    rule = preset("roll@data.roll=volume")
    steps = decided("ES", QUARTERS, SP500, rule, lag)
    assert len(steps) >= 6
    assert set(steps) == {("volume", left)}


def test_on_gold_the_volume_of_bars_decides_every_roll() -> None:
    """Its volume moves one session before the last safe day: the preset of gold leaves on that
    day's open.
    """
    rule = preset("data=lean_gold", "data.path=x")
    assert rule.rule == "volume"
    steps = decided("GC", ACTIVE_MONTHS["GC"], GOLD, rule, 0)
    assert len(steps) >= 8
    assert set(steps) == {("volume", 0)}


def test_on_gold_an_earlier_deadline_or_later_figures_leave_nothing_to_the_volume() -> None:
    early = preset("roll@data.roll=volume")
    assert set(decided("GC", ACTIVE_MONTHS["GC"], GOLD, early, 0)) == {("forced", 1)}
    latest = preset("data=lean_gold", "data.path=x")
    assert set(decided("GC", ACTIVE_MONTHS["GC"], GOLD, latest, 1)) == {("forced", 0)}


def test_gold_is_never_held_into_its_notices_and_passes_only_active_months() -> None:
    table, ends = days_left("GC", ACTIVE_MONTHS["GC"])
    finished = ends[ends <= table.day[-1]]
    assert len(finished) >= 8
    for end in finished:
        held = calendar.from_day(int(end))
        month_end = (held.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        notice = calendar.business_days_before(month_end, 0)
        assert held < notice
        assert calendar.business_days_before(notice - timedelta(days=1), 0) == held
        assert held.month % 12 + 1 in (2, 4, 6, 8, 10, 12)
