"""Durations in a configuration: `12h` means the same time at every interval, and the validated
configuration holds the number of bars.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest

from mcl import composition, strategy
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.data.loader import load
from mcl.engine.backtest import backtest as simulate
from mcl.market import intervals
from mcl.search import axes as axis_rules
from mcl.search import space
from mcl.tracking.backtest_run import refuse_silence


def params(*words: str) -> dict[str, Any]:
    return composition.compose("backtest", ["data=synthetic", *words]).config.strategy


def test_the_schema_has_the_intervals_of_the_table() -> None:
    assert get_args(schema.Interval) == tuple(intervals.STEPS_SEC)


@pytest.mark.parametrize(
    ("interval", "bars"),
    [("1s", 43_200), ("10s", 4_320), ("1m", 720), ("5m", 144), ("1h", 12), ("session", 1)],
)
def test_a_duration_is_as_many_bars_as_make_it(interval: str, bars: int) -> None:
    assert params("strategy=tsmom", "strategy.lookback=12h", f"data.interval={interval}") == {
        "name": "tsmom",
        "lookback": bars,
    }


def test_a_number_is_a_number_of_bars_at_every_interval() -> None:
    for interval in ("1s", "1m", "1h", "session"):
        words = ("strategy=tsmom", "strategy.lookback=720", f"data.interval={interval}")
        assert params(*words)["lookback"] == 720


def test_the_same_run_has_one_identity_however_it_was_written() -> None:
    words = ["strategy=tsmom", "strategy.lookback=720"]
    bars = composition.compose("backtest", words).config
    hours = composition.compose("backtest", [*words[:1], "strategy.lookback=12h"]).config
    assert composition.fingerprint(bars) == composition.fingerprint(hours)


# ema_cross is chosen where no strategy is, and has to fit every source: its default is in bars
@pytest.mark.parametrize("name", sorted(strategy.builtin().keys() - {"ema_cross"}))
@pytest.mark.parametrize("interval", ["1s", "5s", "1m"])
def test_the_defaults_of_every_strategy_scale_in_time(name: str, interval: str) -> None:
    """Of every shipped file: as many seconds at each interval."""
    minutes = params(f"strategy={name}")
    own = params(f"strategy={name}", f"data.interval={interval}")
    counted = strategy.bar_counts(name)
    step = intervals.STEPS_SEC[interval]
    assert {key: own[key] * step for key in counted} == {key: minutes[key] * 60 for key in counted}


def test_strategies_inside_others_scale_too() -> None:
    members = params("strategy=ensemble", "data.interval=10s")["members"]
    assert members["trend"]["fast"] == 4 * 360
    assert params("strategy=trend_filter", "data.interval=10s")["inner"]["slow"] == 8 * 360


def test_risk_and_execution_take_durations() -> None:
    words = ["risk=bracket", "risk.protection.atr_bars=2h", "risk.limits.cool_down_bars=30m"]
    words += ["execution=limit", "execution.ttl_bars=1h", "data.interval=5m"]
    config = composition.compose("backtest", words).config
    assert config.risk.protection.atr_bars == 24
    assert config.risk.limits.cool_down_bars == 6
    assert config.execution.ttl_bars == 12
    size = composition.compose("backtest", ["risk=atr_unit", "risk.size.atr_bars=2h"]).config
    assert getattr(size.risk.size, "atr_bars") == 120  # noqa: B009


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["strategy.fast=10m", "data.interval=1h"],
            "strategy.fast=10m is shorter than a bar of data.interval=1h",
        ),
        (
            ["strategy.fast=11h", "data.interval=session"],
            "strategy.fast=11h is shorter than a bar of data.interval=session",
        ),
        (["strategy.fast=0h"], "strategy.fast='0h' does not fit ema_cross"),
        (["strategy.fast=12x"], "strategy.fast='12x' does not fit ema_cross"),
    ],
)
def test_a_duration_that_is_no_bar_is_a_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        _ = composition.compose("backtest", ["strategy=ema_cross", *words]).config
    if "shorter" in sentence:
        assert "or longer, a number of bars, or a shorter data.interval" in refused.value.hint


# ---------------------------------------------------------------------------------- search spaces


def axis(*words: str, key: str = "strategy.lookback") -> Any:
    raw = composition.compose("sweep", ["strategy=tsmom", *words]).raw
    return space.parse(raw["search"]["space"], raw)[key]


def test_ranges_of_durations_are_axes_in_bars() -> None:
    for interval, step in (("1m", 1), ("5m", 5)):
        found = axis("strategy.lookback=range(30m, 4h, 30m)", f"data.interval={interval}")
        assert (found.low, found.high, found.step) == (30 // step, 210 // step, 30 // step)


def test_quoted_ranges_intervals_and_choices_of_durations() -> None:
    log = axis("'strategy.lookback=tag(log, int(interval(1h, 2d)))'".strip("'"))
    assert (log.low, log.high, log.log) == (60, 2760, True)
    assert axis("strategy.lookback=30m,1h,1d").choices == (30, 60, 1380)
    assert axis("strategy.lookback=choice(30m,1h)").choices == (30, 60)


def test_each_shipped_space_is_the_same_time_at_seconds() -> None:
    minutes, seconds = axis(), axis("data.interval=10s")
    assert (seconds.low, seconds.high) == (6 * minutes.low, 6 * minutes.high)


def test_a_searched_interval_converts_each_trial_by_its_own() -> None:
    words = ["strategy=tsmom", "data.interval=1m,5m", "strategy.lookback=choice(1h,2h)"]
    raw = composition.compose("sweep", words).raw
    axes = space.parse(raw["search"]["space"], raw)
    assert axes["strategy.lookback"].choices == ("1h", "2h")  # type: ignore[attr-defined]
    for interval, bars in (("1m", 120), ("5m", 24)):
        point = {"data.interval": interval, "strategy.lookback": "2h"}
        run = composition.run_config(space.overlay(raw, point))
        assert run.strategy["lookback"] == bars
    axis_rules.refuse_axes(axes, raw)


def test_a_range_of_durations_beside_a_searched_interval_is_refused() -> None:
    words = ["strategy=tsmom", "data.interval=1m,5m", "strategy.lookback=range(1h, 9h, 1h)"]
    with pytest.raises(ConfigError, match=r"has durations, and data\.interval is searched, too"):
        composition.compose("sweep", words)


def test_first_trials_are_in_bars() -> None:
    words = ["strategy=tsmom", "search.enqueue=[{strategy.lookback: 12h}]"]
    raw = composition.compose("sweep", words).raw
    assert raw["search"]["enqueue"] == [{"strategy.lookback": 720}]


def test_a_look_back_longer_than_the_data_is_a_sentence_and_no_run_without_trades() -> None:
    run = composition.compose("backtest", ["data=eia", "strategy=tsmom"]).config
    bars = load(run.data, composition.root()).rows(0, 1000)
    long = run.model_copy(update={"strategy": {"name": "tsmom", "lookback": 1380}})
    with pytest.raises(ConfigError) as refusal:
        refuse_silence(long, bars, simulate(long, bars))
    assert "strategy.lookback=1,380 is not less than the 1,000 bars" in str(refusal.value)
    assert "at most 999" in str(refusal.value.hint)
    short = run.model_copy(update={"strategy": {"name": "tsmom", "lookback": 999}})
    refuse_silence(short, bars, simulate(short, bars))
