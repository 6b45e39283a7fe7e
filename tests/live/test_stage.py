"""What a session knows before it starts, and the window that grows bar by bar."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from deployments import Project, write_walks

from mcl import composition
from mcl.base.errors import LiveError
from mcl.base.instants import NS
from mcl.broker.protocol import Bar
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine.orders import live_supported
from mcl.live import session_setup as staging
from mcl.live.bar_window import Window
from mcl.market import calendar
from mcl.market.instruments import INSTRUMENTS
from mcl.strategy import build

DAY = date(2025, 11, 11)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


def replayed(shop: Project, session: date | None = DAY, **changes: object) -> staging.Stage:
    run = shop.config(**changes)  # type: ignore[arg-type]
    return staging.replayed(run, session, build(run.strategy), shop.root)


def rows(bars: Bars) -> list[Bar]:
    columns = (getattr(bars, name).tolist() for name in Bar._fields)
    return [Bar(*values) for values in zip(*columns, strict=True)]


def test_the_warmup_ends_where_the_session_begins(shop: Project) -> None:
    stage = replayed(shop)
    recorded = stage.recorded
    assert recorded is not None
    assert stage.date == DAY
    assert len(recorded) == stage.room == 1380
    assert stage.warmup.session[-1] < stage.day == recorded.session[0] == recorded.session[-1]
    assert stage.close_ns == calendar.ns_of(DAY, 17)
    assert len(stage.warmup) >= build(shop.config().strategy).memory
    assert stage.contract.symbol == "MCLF6"


def test_the_default_is_the_last_complete_session_of_the_holdout(shop: Project) -> None:
    assert replayed(shop, None).date == date(2025, 11, 12)


def test_sizing_by_volatility_warms_up_on_whole_sessions(shop: Project) -> None:
    stage = replayed(shop, risk={"size": {"method": "vol_target", "lookback_sessions": 5}})
    assert len(np.unique(stage.warmup.session)) >= 6
    with pytest.raises(
        LiveError, match=r"looks back over .* bars and 21 sessions; only 15180 bars lie before"
    ):
        replayed(shop, risk={"size": {"method": "vol_target", "lookback_sessions": 20}})


def test_a_session_that_the_data_do_not_hold_is_refused(shop: Project) -> None:
    with pytest.raises(
        LiveError,
        match=(
            r"broker.replay.session=2025-11-09 is no session of the data, which hold 2025-10-27 to"
            r" 2025-11-12"
        ),
    ):
        replayed(shop, date(2025, 11, 9))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"execution": {"entry": "limit", "offset_ticks": 2}},
            "execution.entry=limit: a session enters at the market only",
        ),
        ({"execution": {"latency_bars": 1}}, "execution.latency_bars=1"),
        ({"execution": {"participation_frac": 0.1}}, "execution.participation_frac=0.1"),
        (
            {"risk": {"size": {"method": "fixed"}, "limits": {"price_collar_ticks": 5.0}}},
            "risk.limits.price_collar_ticks=5.0",
        ),
        (
            {"risk": {"size": {"method": "fixed"}, "limits": {"flatten_before_roll_sec": 60}}},
            "risk.limits.flatten_before_roll_sec",
        ),
        (
            {"costs": {"impact_ticks": 1.0}},
            "costs.impact_ticks=1.0: the simulated TWS has no depth",
        ),
        ({"costs": {"slippage_by_hour_ticks": [1.0] * 24}}, "costs.slippage_by_hour_ticks"),
    ],
)
def test_what_a_session_cannot_do_is_refused_at_the_start(
    shop: Project, changes: dict[str, object], sentence: str
) -> None:
    run = composition.run_config(shop.config().model_dump(mode="json") | changes)
    with pytest.raises(LiveError, match=re.escape(sentence)):
        staging.replayed(run, DAY, build(run.strategy), shop.root)


def test_a_session_on_a_real_broker_has_its_own_prices(shop: Project) -> None:
    run = composition.run_config(
        shop.config().model_dump(mode="json") | {"costs": {"impact_ticks": 1.0}}
    )
    assert live_supported(run.risk, run.execution, run.costs, simulated=False) == []


def test_a_real_session_needs_data_up_to_yesterday_and_an_open_market(shop: Project) -> None:
    run = shop.config()

    def today(year: int, month: int, day: int, hour: int, minute: int = 0) -> staging.Stage:
        return staging.today(
            run,
            build(run.strategy),
            shop.root,
            int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * NS,
        )

    stage = today(2025, 11, 13, 15)
    assert (stage.date, stage.room, stage.recorded) == (date(2025, 11, 13), 1381, None)
    assert stage.close_ns == calendar.ns_of(date(2025, 11, 13), 17)
    with pytest.raises(
        LiveError,
        match=(
            "stored bars end with session 2025-11-12, today's is 2025-12-01: rolls may be missing"
        ),
    ):
        today(2025, 12, 1, 15)
    with pytest.raises(LiveError, match="session 2025-11-13 is over at 2025-11-13 22:30 UTC"):
        today(2025, 11, 13, 22, 30)


def test_bars_that_closed_since_are_taken_from_the_broker(shop: Project) -> None:
    """The broker's history continues the stored bars as if they had been stored."""
    run, whole = shop.config(), load(shop.config().data, shop.root, holdout=True)
    short = shop.config(end="2025-11-12")
    now = calendar.ns_of(date(2025, 11, 12), 10)
    stage = staging.today(short, build(run.strategy), shop.root, now)
    newer = [bar for bar in rows(whole) if int(stage.warmup.close_time[-1]) < bar.close_time <= now]
    assert len(newer) == 16 * 60
    filled = staging.with_history(stage, newer).warmup
    first = int(np.searchsorted(whole.close_time, filled.close_time[0]))
    for name in (
        "close_time",
        "open",
        "close",
        "volume",
        "adjustment",
        "session",
        "to_close_sec",
        "contract",
        "roll",
    ):
        np.testing.assert_array_equal(
            getattr(filled, name), getattr(whole, name)[first : first + len(filled)], err_msg=name
        )


def test_the_window_shows_what_the_stored_bars_hold(shop: Project) -> None:
    stage = replayed(shop)
    window = Window(stage)
    assert stage.recorded is not None
    assert stage.stored is not None
    for bar in rows(stage.recorded):
        window.append(bar)
    seen = window.bars()
    for name in (
        "close_time",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "adjustment",
        "session",
        "to_close_sec",
        "contract",
    ):
        np.testing.assert_array_equal(
            getattr(seen, name), getattr(stage.stored, name), err_msg=name
        )
    assert window.full
    assert np.shares_memory(window.bars(5).close_ticks, window.bars(6).close_ticks)


def test_a_shown_window_never_changes(shop: Project) -> None:
    stage = replayed(shop)
    assert stage.recorded is not None
    window, bars = Window(stage), rows(stage.recorded)
    window.append(bars[0])
    before = window.bars()
    closes = before.close_ticks.copy()
    window.append(bars[1])
    assert len(before) == len(closes) == len(window.bars()) - 1
    np.testing.assert_array_equal(before.close_ticks, closes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"close_time": -7_200}, "came after the bar of"),
        ({"close_time": 86_400}, "is after the close of session 2025-11-11"),
        ({"close": 60.005}, "has the price 60.005, which is off the tick of 0.01"),
        ({"close": float("nan")}, "has the price nan"),
        ({"high": 1.0}, "contradicts itself"),
        ({"volume": -1}, "contradicts itself"),
    ],
)
def test_a_bar_that_cannot_be_decided_on_is_refused(
    shop: Project, changes: dict[str, float], sentence: str
) -> None:
    stage = replayed(shop)
    assert stage.recorded is not None
    first = rows(stage.recorded)[0]
    if "close_time" in changes:
        changes = {"close_time": first.close_time + int(changes["close_time"]) * NS}
    window = Window(stage)
    with pytest.raises(LiveError, match=sentence):
        window.append(first._replace(**changes))  # type: ignore[arg-type]
    assert window.rows == len(stage.warmup)


def test_a_product_whose_delivery_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cash, after the last trade or by notice: it has to be one of them, or nothing is traded."""
    gold, day = calendar.contract("GC", 2024, 4), calendar.to_day(date(2024, 3, 1))
    staging._refuse_late(gold, day)
    with pytest.raises(LiveError, match="can be delivered to its holder after 2024-03-27"):
        staging._refuse_late(gold, calendar.to_day(date(2024, 3, 27)))
    monkeypatch.setattr(calendar, "DELIVERED_BY_NOTICE", frozenset())
    words = "GCJ4: it is not known when a position in GC can be delivered"
    with pytest.raises(LiveError, match=words) as refused:
        staging._refuse_late(gold, day)
    assert "first notices" in str(refused.value.hint)


def test_every_instrument_states_its_delivery() -> None:
    for root in INSTRUMENTS:
        calendar.refuse_unknown_delivery(root)


def test_the_hours_that_are_assumed_are_known_at_the_start(shop: Project) -> None:
    stage = replayed(shop)
    assert stage.assumed_hours == []
    later = replace(
        stage, day=calendar.to_day(date(2027, 6, 1)), contract=calendar.contract("MCL", 2027, 8)
    )
    assert later.assumed_hours == ["2027-06-18", "2027-07-05"]
