"""What each strategy bets on, against TA-Lib, slow definitions and hand-made prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
import talib
from exam import SMALL
from walks import make_bars, random_bars

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.base.instants import NS
from mcl.data.bars import Bars, Floats
from mcl.market import calendar
from mcl.search import space
from mcl.strategy import build, builtin, exposed

BARS = random_bars(4_000, seed=8, bars_per_session=400, rolls=4, quotes=True)
HIGH, LOW, CLOSE = (BARS.adjusted[name] for name in ("high", "low", "close"))
HLC = (HIGH, LOW, CLOSE)


def signal(name: str, on: Bars = BARS, /, **params: Any) -> Floats:
    return build({"name": name} | params).signal(on)


def test_macd_is_the_side_of_talibs_histogram() -> None:
    line, smooth, _ = talib.MACD(CLOSE, 12, 26, 9)
    np.testing.assert_array_equal(
        signal("macd", fast=12, slow=26, smooth=9), np.sign(line - smooth)
    )


def test_adx_trend_is_the_side_of_talibs_directions_where_there_is_a_trend() -> None:
    # on whole numbers TA-Lib sees ties as ties
    high, low, close = (np.rint(values / 0.01) for values in HLC)
    plus, minus = talib.PLUS_DI(high, low, close, 14), talib.MINUS_DI(high, low, close, 14)
    adx = talib.ADX(high, low, close, 14)
    expected = np.where(np.isnan(adx), np.nan, np.where(adx > 25, np.sign(plus - minus), 0))
    np.testing.assert_array_equal(signal("adx_trend", bars=14, level=25.0), expected)
    assert 0.1 < np.mean(expected == 0) < 0.9


def test_supertrend_is_talibs_side_on_almost_every_bar_of_a_market_that_moves() -> None:
    ours, theirs = (
        signal("supertrend", bars=10, width=3.0, anchor=200, hold=2_000),
        talib.SUPERTREND(HIGH, LOW, CLOSE, 10, 3.0)[1],
    )
    defined = ~np.isnan(ours)
    assert np.mean(ours[defined] == theirs[defined]) > 0.98
    assert np.mean(ours[defined] == 0) < 0.02


@pytest.mark.parametrize("name", ["bollinger", "keltner"])
def test_a_breakout_is_followed_until_the_middle_or_the_hold(name: str) -> None:
    params = {
        "bollinger": {"bars": 20, "width": 2.0, "hold": 30},
        "keltner": {"bars": 20, "atr_bars": 10, "width": 2.0, "hold": 30},
    }[name]
    their = (
        talib.BBANDS(CLOSE, 20, 2.0, 2.0)
        if name == "bollinger"
        else talib.KC(HIGH, LOW, CLOSE, 20, 10, 2.0)
    )
    upper, middle, lower = their
    ours = signal(name, **params)
    side, age = 0.0, 0
    for i in range(len(CLOSE)):
        if np.isnan(upper[i]):
            assert np.isnan(ours[i])
            continue
        side = 0.0 if age >= 29 or side * (CLOSE[i] - middle[i]) <= 1e-9 else side
        age += 1
        if CLOSE[i] > upper[i] or CLOSE[i] < lower[i]:
            side, age = (1.0 if CLOSE[i] > upper[i] else -1.0), 0
        assert ours[i] == side, f"row {i}"
    assert {-1.0, 0.0, 1.0} == set(ours[~np.isnan(ours)])


def test_rsi_reversion_buys_the_fall_and_leaves_at_fifty() -> None:
    strength = talib.RSI(CLOSE, 10)
    ours = signal("rsi_reversion", bars=10, low=25.0, high=75.0, hold=1_000)
    assert (ours[strength < 25] == 1).all()
    assert (ours[strength > 75] == -1).all()
    assert not ((ours == 1) & (strength > 50)).any()
    assert not ((ours == -1) & (strength < 50)).any()


def test_tsmom_multi_is_the_mean_of_clipped_changes_in_sigmas() -> None:
    ours = signal("tsmom_multi", lookback=64, horizons=3, ratio=4, vol_bars=50, full_at=1.5)
    row = 1_234
    sigma = np.diff(CLOSE)[row - 50 : row].std()
    terms = [
        np.clip((CLOSE[row] - CLOSE[row - n]) / (1.5 * sigma * np.sqrt(n)), -1, 1)
        for n in (64, 16, 4)
    ]
    assert ours[row] == pytest.approx(np.mean(terms), abs=1e-9)
    assert np.isnan(ours[63])
    assert not np.isnan(ours[64])


# ------------------------------------------------------------------------------------ opening range


def day_of(
    clock_closes: Mapping[str, float],
    *,
    interval: str = "1m",
    day: date = date(2025, 3, 12),
    close: str = "17:00",
) -> Bars:
    """Bars that close at these New York times, all four prices alike, in a session that officially
    ends at `close`.
    """
    hours = [tuple(map(int, text.split(":"))) for text in clock_closes]
    times = np.array([calendar.ns_of(day, *clock) for clock in hours])
    end = calendar.ns_of(day, *map(int, close.split(":")))
    changes: dict[str, Any] = {
        "session": np.full(len(times), calendar.to_day(day)),
        "to_close_sec": (end - times) // NS,
    }
    bars = make_bars(
        dict.fromkeys(("open", "high", "low", "close"), np.array(list(clock_closes.values()))),
        **changes,
    )
    return replace(bars, close_time=times, interval=interval)


OPENING = {"start": "09:00", "range_min": 30, "hold_min": 120, "leave_min": 15}


def test_the_opening_range_is_followed_from_its_end_to_the_hold() -> None:
    # 09:00 closes the bar before the range
    prices = {"08:59": 500, "09:00": 490, "09:01": 100, "09:15": 110, "09:30": 90, "09:31": 105}
    prices |= {"09:40": 111, "10:00": 100, "10:30": 89, "11:30": 80, "11:31": 70, "12:00": 500}
    assert signal("opening_range", day_of(prices), **OPENING).tolist() == [
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        -1,
        -1,
        0,
        0,
    ]


def test_the_clock_is_new_yorks_in_winter_and_in_summer() -> None:
    prices = {"08:30": 100.0, "09:10": 100.0, "09:30": 101.0, "09:45": 105.0}
    for day in (date(2025, 1, 15), date(2025, 7, 16)):
        assert signal("opening_range", day_of(prices, day=day), **OPENING).tolist() == [0, 0, 0, 1]


def test_the_opening_range_is_left_before_an_early_close() -> None:
    prices = {"08:30": 100, "09:10": 100, "09:45": 105, "10:14": 105, "10:15": 105, "10:30": 105}
    assert signal("opening_range", day_of(prices, close="10:30"), **OPENING).tolist() == [
        0,
        0,
        1,
        1,
        0,
        0,
    ]


def test_data_that_begin_within_the_range_do_not_know_it() -> None:
    late = {"09:10": 100.0, "09:45": 105.0, "11:30": 105.0, "11:31": 105.0}
    np.testing.assert_array_equal(
        signal("opening_range", day_of(late), **OPENING), [np.nan, np.nan, np.nan, 0]
    )
    whole = {"09:01": 100.0, "09:45": 105.0}
    np.testing.assert_array_equal(signal("opening_range", day_of(whole), **OPENING), [0, 1])


@pytest.mark.parametrize("interval", ["1h", "session"])
def test_a_range_shorter_than_a_bar_is_refused(interval: str) -> None:
    with pytest.raises(
        ConfigError,
        match=(
            r"opening_range needs bars of one second up to its range of 30 minutes;"
            rf" data\.interval={interval}"
        ),
    ):
        signal("opening_range", day_of({"09:30": 100.0}, interval=interval), **OPENING)


# ----------------------------------------------------------------------------------------- combined


def test_an_ensemble_is_the_weighted_mean_of_its_members() -> None:
    fast, slow = {"name": "ema_cross", "fast": 3, "slow": 9}, {"name": "tsmom", "lookback": 50}
    mixed = signal("ensemble", members={"a": fast | {"weight": 3}, "b": slow | {"weight": -1.0}})
    np.testing.assert_allclose(
        mixed, 0.75 * build(fast).signal(BARS) - 0.25 * build(slow).signal(BARS)
    )
    idle = signal("ensemble", members={"a": fast, "b": {"name": "always_long", "weight": 0}})
    np.testing.assert_array_equal(idle, build(fast).signal(BARS))


def test_a_trend_filter_only_trades_with_the_trend() -> None:
    inner = {"name": "ema_cross", "fast": 3, "slow": 9}
    strategy = build({"name": "trend_filter", "inner": inner, "interval": "1h", "bars": 4})
    trend, ours, free = (
        exposed(strategy, BARS)["trend"],
        strategy.signal(BARS),
        build(inner).signal(BARS),
    )
    np.testing.assert_array_equal(
        ours, np.where(np.isnan(trend) | np.isnan(free), np.nan, np.where(free == trend, free, 0))
    )
    assert 0.2 < np.mean(ours == 0) < 0.8


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"members": {"a": {"name": "ema_cros"}}},
            r"strategy\.members\.a: there is no strategy 'ema_cros'; did you mean 'ema_cross'",
        ),
        (
            {"members": {"a": {"name": "tsmom", "lookbak": 3}}},
            r"strategy\.members\.a: tsmom has no parameter 'lookbak'",
        ),
        (
            {
                "members": {
                    "b": {"name": "ensemble", "members": {"c": {"name": "tsmom", "lookback": 0}}}
                }
            },
            r"strategy\.members\.b: strategy\.members\.c: strategy\.lookback=0 does not fit tsmom",
        ),
        ({"members": {}}, r"strategy\.members=\{\} does not fit ensemble"),
        (
            {"members": {"a": {"name": "flat", "weight": "x"}}},
            r"strategy\.members\.a\.weight='x' is not a number",
        ),
        (
            {"members": {"a": {"name": "flat", "weight": 0}}},
            "need a member with a weight other than 0",
        ),
        ({"members": [{"name": "flat"}]}, r"does not fit ensemble"),
    ],
)
def test_a_wrong_member_is_named(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build({"name": "ensemble"} | params)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"name": "macd", "fast": 30, "slow": 20}, "need fast < slow; fast=30, slow=20"),
        (
            {"name": "rsi_reversion", "low": 60.0},
            "strategy.low=60.0 does not fit rsi_reversion: input should be less than 50",
        ),
        (
            {"name": "opening_range", "start": "9:00"},
            "strategy.start='9:00' does not fit opening_range",
        ),
        (
            {"name": "opening_range", "range_min": 700, "hold_min": 700},
            "need range_min + hold_min <= 1380",
        ),
        (
            {"name": "tsmom_multi", "lookback": 10, "horizons": 4},
            "4 horizons need a lookback of at least 64; lookback=10",
        ),
        (
            {"name": "trend_filter", "inner": {"name": "nobody"}},
            "strategy.inner: there is no strategy 'nobody'",
        ),
        (
            {"name": "trend_filter", "interval": "2h"},
            "strategy.interval='2h' does not fit trend_filter",
        ),
    ],
)
def test_a_broken_rule_is_a_sentence(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(params)
    assert caught.value.message.startswith(sentence)


# -------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", sorted(builtin()))
def test_what_a_strategy_shows_is_one_value_per_bar(name: str) -> None:
    indicators = exposed(build({"name": name} | SMALL.get(name, {})), BARS)
    assert all(
        values.shape == (len(BARS),) and values.dtype == np.float64
        for values in indicators.values()
    )


@pytest.mark.parametrize("name", sorted(builtin()))
def test_every_search_space_builds_at_the_ends_of_each_axis(name: str) -> None:
    raw = composition.compose("sweep", [f"strategy={name}"]).raw
    if not raw["search"]["space"]:
        assert name in {"flat", "always_long", "random"}
        return
    axes = space.parse(raw["search"]["space"], raw)
    choices = {
        key: getattr(axis, "choices", None) or (vars(axis)["low"], vars(axis)["high"])
        for key, axis in axes.items()
    }
    refusals = [
        refusal(raw, {key: values[end]}) for key, values in choices.items() for end in (0, -1)
    ]
    assert all("need " in text for text in refusals if text), (
        "only a rule between two parameters may prune a trial"
    )


def refusal(raw: dict[str, Any], point: dict[str, Any]) -> str:
    try:
        composition.run_config(space.overlay(raw, point))
    except ConfigError as error:
        return error.message
    return ""
