"""Named days: what the library says of them, and how a run went through those that its data
cover.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from mcl import composition
from mcl.data.bars import COLUMNS
from mcl.data.loader import load
from mcl.data.sources import eia
from mcl.engine.backtest import backtest
from mcl.engine.result import Result
from mcl.market.calendar import to_day
from mcl.market.named_days import NAMED_DAYS
from mcl.report.named_days import day_records, named_days
from mcl.report.run import run_page

from .conftest import SESSION_BARS, simulated, view_of, walk

LONG = ["data=eia", "strategy=always_long", "capital_usd=1000000.0", "costs=free"]
LONG += ["risk.limits.max_daily_loss_usd=null", "risk.limits.max_drawdown_frac=null"]


@pytest.fixture(scope="module")
def forty_years(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One contract from 1983 to 2022, no costs."""
    config = composition.compose("backtest", LONG).config
    return backtest(config, load(config.data, tmp_path_factory.mktemp("eia")))


def test_the_settlements_of_the_library_are_those_of_eia() -> None:
    rows = eia.read(eia.SHIPPED).set_index("date")["c1"]
    covered = [named for named in NAMED_DAYS if named.settlements]
    assert len(covered) == 8
    for named in covered:
        at = list(rows.index).index(pd.Timestamp(named.day))
        assert (rows.iloc[at - 1], rows.iloc[at]) == named.settlements, named.title
    assert sorted(named.day for named in NAMED_DAYS) == [named.day for named in NAMED_DAYS]


def test_a_long_contract_loses_on_each_day_what_the_market_lost(forty_years: Result) -> None:
    records = {str(record.named.day): record for record in day_records(forty_years)}
    assert list(records) == [str(named.day) for named in NAMED_DAYS if named.settlements]
    usd = {day: record.pnl_usd for day, record in records.items()}
    assert usd["1991-01-17"] == pytest.approx(-10_560)
    assert usd["2020-03-09"] == pytest.approx(-10_150)
    negative = records["2020-04-20"]
    assert (negative.contract, negative.low) == ("CLK0", -37.63)
    assert negative.close_before == pytest.approx(18.27)
    assert (negative.pnl_usd, negative.worst_usd) == pytest.approx((-55_900, -55_900))
    assert (negative.before, negative.after, negative.fills) == (1, 1, 0)
    after = records["2020-04-21"]  # out of May at 10.01, into June at its settlement
    assert after.pnl_usd == pytest.approx(47_640)
    assert (after.contract, after.fills) == ("CLM0", 2)
    assert after.close_before == pytest.approx(20.43)
    assert after.change == pytest.approx(-8.86)


def test_the_page_has_the_section_where_the_data_cover_a_day(
    forty_years: Result, month: Result
) -> None:
    page = run_page(view_of(forty_years))
    assert '<section id="named-days"' in page
    assert "Negative settlement" in page
    assert "-55,900.00" in page
    assert "Ban on Russian oil" not in page  # these data end before it
    assert "named-days" not in run_page(view_of(month))  # generated bars know of no such day
    assert named_days(month) == ""
    gold = replace(forty_years.bars.instrument, symbol="GC")
    assert named_days(replace(forty_years, bars=replace(forty_years.bars, instrument=gold))) == ""


def test_a_pause_of_the_exchange_is_shown_with_the_position_through_it() -> None:
    """Two hours without a bar in the third session, which is called 2025-11-28."""
    bars = walk(4 * SESSION_BARS, synthetic=False)
    day = to_day(date(2025, 11, 28))
    third = bars.session == np.unique(bars.session)[2]
    present = np.ones(len(bars), bool)
    start = int(np.flatnonzero(third)[200])
    present[start : start + 120] = False
    session = np.where(third, day, bars.session + np.where(np.cumsum(third) > 0, 3650, 0))
    named = replace(bars, session=session)
    paused = replace(named, **{name: getattr(named, name)[present] for name in COLUMNS})
    result = simulated(paused)
    [record] = day_records(result)
    assert record.named.title == "Outage of the exchange"
    assert record.pause_min == 121
    assert record.pause_position == result.position[start - 1]
    rows = np.flatnonzero(paused.session == day)
    before = result.equity[rows[0] - 1]
    assert record.pnl_usd == pytest.approx(result.equity[rows[-1]] - before)
    assert record.worst_usd == pytest.approx(min(0, (result.equity[rows] - before).min()))
    assert f"121 min, {record.pause_position:+d}" in named_days(result)


def test_generated_bars_of_the_same_date_have_no_such_section() -> None:
    bars = walk(3 * SESSION_BARS)
    session = bars.session - bars.session[-1] + to_day(date(2025, 6, 23))
    generated = replace(bars, session=session)
    assert day_records(simulated(generated)) == []
    market = replace(generated, synthetic=False)
    assert [record.named.title for record in day_records(simulated(market))] == [
        "Relief in the Gulf"
    ]
