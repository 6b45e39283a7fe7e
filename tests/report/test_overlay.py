"""Indicators beside the price: which of them are prices, and what the page keeps of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from walks import random_bars

from mcl.base.errors import ConfigError
from mcl.data.bars import Bars
from mcl.engine.result import Result
from mcl.report.overlay import MOST, Overlay, indicators, protection
from mcl.report.range_coding import opened
from mcl.report.run import run_page
from mcl.strategy import build, builtin, exposed

from .conftest import view_of
from .test_pages import Document

BARS = random_bars(9_000, seed=2, bars_per_session=200, rolls=4, quotes=True)
OFF_PRICE = {
    "macd",
    "rsi_reversion",
    "adx_trend",
    "tsmom",
    "tsmom_multi",
    "random",
    "flat",
    "always_long",
}


@pytest.mark.parametrize(
    "name", ["ema_cross", "bollinger", "keltner", "donchian", "macd", "rsi_reversion", "adx_trend"]
)
def test_a_price_is_known_by_moving_with_the_prices(name: str) -> None:
    found = indicators(build({"name": name}), BARS)
    assert found
    assert {overlay.on_price for overlay in found} == {name not in OFF_PRICE}


def test_prices_stand_on_the_dated_contract() -> None:
    strategy = build({"name": "ema_cross", "fast": 1, "slow": 30})
    fast = indicators(strategy, BARS)[0]
    # a mean of one bar is its close, rolls and all
    assert np.allclose(fast.values, BARS.close, equal_nan=True)
    assert not np.allclose(exposed(strategy, BARS)["ema_1"], BARS.close)


def test_every_strategy_can_be_drawn() -> None:
    for name in builtin():
        found = indicators(build({"name": name}), BARS)
        assert len(found) <= MOST
        assert all(overlay.values.shape == (len(BARS),) for overlay in found)


@dataclass(frozen=True)
class Broken:
    name: ClassVar[str] = "broken"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = 1

    def signal(self, bars: Bars) -> Any:
        return np.zeros(len(bars))

    def indicators(self, bars: Bars) -> dict[str, Any]:
        return {"short": bars.close[:3]}


def test_a_broken_indicator_is_a_sentence() -> None:
    with pytest.raises(
        ConfigError,
        match=r"broken.indicators: short has shape \(3,\); it must be one value per bar, \(9000,\)",
    ):
        indicators(Broken(), BARS)


def test_the_page_keeps_every_value_of_an_overlay(month: Result) -> None:
    n = len(month.bars)
    values = np.round(month.bars.close + 0.123, 3)
    values[:50], values[700:900] = np.nan, np.nan
    ticks = np.where(month.position != 0, np.rint(month.bars.close * 100) - 20, np.nan)
    lines = [
        Overlay("mean", values),
        Overlay("score", np.linspace(-3, 70, n), on_price=False),
        *protection(ticks, np.full(n, np.nan), month.bars),
    ]
    figure = Document(run_page(view_of(month, overlays=lines))).figures["chart-strip"]
    stored = figure["detail"]["lines"]
    assert [line["protective"] for line in stored] == [False, False, True]
    for line, overlay in zip(stored, lines, strict=True):
        back = opened(line["steps"])
        for _ in range(line["order"]):
            back = np.cumsum(back)
        back = back * line["step"]
        edges = [*np.cumsum(opened(line["holes"])).tolist(), n]
        for start, stop in zip(edges[::2], edges[1::2], strict=False):
            back[start:stop] = np.nan
        assert np.allclose(back, overlay.values, atol=line["step"] * 0.5001, equal_nan=True)
    axes = {trace.get("name"): trace.get("yaxis", "y") for trace in figure["data"][4:]}
    assert {"mean", "score", "Stop level"} <= set(axes)
    assert axes["score"] not in (axes["mean"], axes["Stop level"])
    assert json.dumps(figure, allow_nan=False)
