"""The main chart in a real Chromium along a reader's path: zoom, go from trade to trade, hover,
switch lines on. Every number is that of the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium
from walks import random_bars

from mcl.config import schema
from mcl.engine.backtest import Plan, simulate
from mcl.engine.result import Result
from mcl.metrics.performance import drawdown
from mcl.report.main_chart import CANDLES
from mcl.report.overlay import indicators
from mcl.report.plotly_bundle import KINDS, bundle
from mcl.report.range_coding import opened, stream
from mcl.report.run import RunView, run_page
from mcl.report.zoom_data import dated_exits
from mcl.strategy import build

STRATEGY = build({"name": "ema_cross", "fast": 60, "slow": 200})
CHART = "document.getElementById('chart-strip')"
DATA = f"{CHART}.data"
TRADES = f"{CHART}._fullData.filter(t => /^(Gain|Loss)/.test(t.name))"
TIMES = "x => x === null ? null : typeof x === 'number' ? x : Date.parse(x)"
FACTS = (
    "return Object.fromEntries([...document.querySelectorAll('.hover-facts dt')].map(dt =>"
    " [dt.textContent, dt.nextElementSibling.textContent]))"
)


@pytest.fixture(scope="module")
def result() -> Result:
    """9,000 bars of the engine, trades that go over rolls among them."""
    bars = random_bars(9_000, seed=2, bars_per_session=200, rolls=4)
    volume = np.random.default_rng(1).integers(1, 5_000, len(bars)).astype(np.int32)
    bars = replace(bars, volume=volume)
    plan = Plan(STRATEGY.signal(bars), np.empty(0), np.empty(0))
    return simulate(bars, plan, schema.Limits(), schema.Costs(), 25_000.0)


@pytest.fixture
def shown(
    browser: Chromium, result: Result, make_view: Callable[..., RunView], tmp_path: Path
) -> Chromium:
    view = make_view(result, overlays=indicators(STRATEGY, result.bars))
    browser.show(tmp_path, run_page(view))
    return browser


def key(browser: Chromium, name: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser.driver).send_keys(name).perform()


def hover(browser: Chromium, share: float) -> int:
    """Move the pointer to this share of the width; the row of the bar under the line."""
    browser.run(
        f"const h = {CHART}, b = h.getBoundingClientRect(), s = h._fullLayout._size; delete"
        " h.dataset.bar; h.dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX:"
        f" b.left + s.l + s.w * {share}, clientY: b.top + s.t + 50 }}))"
    )
    browser.wait(f"return {CHART}.dataset.bar !== undefined")
    return int(browser.run(f"return {CHART}.dataset.bar"))


def trade_shown(browser: Chromium, number: int) -> str:
    sentence = f"Trade {number} of"
    browser.wait(lambda: browser.text("chart-strip-trade").startswith(sentence))
    return browser.text("chart-strip-trade")


def spoken(result: Result, i: int) -> dict[str, str]:
    """What the hover line must say of bar `i`, from the result alone."""
    bars, size = result.bars, int(result.position[i])
    money, _ = drawdown(result.equity, result.capital_usd)
    side = "long" if size > 0 else "short"
    return {
        "Time": f"{bars.times[i]:%Y-%m-%d %H:%M} UTC",
        "Price": f"{bars.close[i]:,.2f}",
        "Open, high, low": f"{bars.open[i]:,.2f}, {bars.high[i]:,.2f}, {bars.low[i]:,.2f}",
        "Volume": f"{bars.volume[i]:,}",
        "Position": f"{side} {abs(size)}" if size else "flat",
        "Equity": f"{result.equity[i]:,.2f} USD",
        "Drawdown": f"{money[i]:,.2f} USD".replace("-0.00", "0.00"),
    }


def test_a_short_window_has_candles_and_volume_of_its_bars(shown: Chromium, result: Result) -> None:
    bars = result.bars
    kinds = (
        f"return {DATA}.filter(t => t.visible && ['candlestick', 'bar'].includes(t.type)).length"
    )
    assert shown.run(kinds) == 0
    first, last = (int(bars.close_time[row]) // 10**6 for row in (4_000, 4_200))
    shown.run(f"Plotly.relayout({CHART}, {{ 'xaxis.range': [{first}, {last}] }})")
    shown.wait(f"{kinds} === 2")
    candles = shown.run(
        f"const c = {DATA}.find(t => t.type === 'candlestick'), v = {DATA}.find(t => t.name ==="
        " 'Volume'); return [[...c.x], [...c.open], [...c.high], [...c.low], [...c.close],"
        " [...v.y]]"
    )
    rows = np.searchsorted(bars.close_time, np.array(candles[0], np.int64) * 10**6)
    assert 200 <= len(rows) < CANDLES
    assert np.array_equal(np.diff(rows), np.ones(len(rows) - 1))
    columns: tuple[Any, ...] = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    for drawn, values in zip(candles[1:], columns, strict=True):
        assert np.allclose(drawn, values[rows], atol=1e-9)
    assert shown.run("return document.querySelectorAll('#chart-strip .boxlayer path').length") > 199
    shown.run("document.querySelector('[data-move=whole]').click()")
    shown.wait(f"{kinds} === 0")
    assert shown.severe() == []


def test_no_price_is_drawn_while_the_market_is_closed(
    browser: Chromium, month: Result, make_view: Callable[..., RunView], tmp_path: Path
) -> None:
    """A gap in the line over each weekend, and none at all in the axis of a short window. The axis
    on the right is that of the equity in % of the start capital.
    """
    times = month.bars.close_time // 10**6
    weekend = int(np.flatnonzero(np.diff(times) > 86_400_000)[0])  # the last bar before it
    before, after = int(times[weekend]), int(times[weekend + 1])
    browser.show(tmp_path, run_page(make_view(month)))
    crossing = (
        f"const t = {DATA}[0], x = [...t.x].map({TIMES}); return x.filter((v, k) => k && v >="
        f" {after} && x[k - 1] <= {before} && t.y[k] !== null && !Number.isNaN(t.y[k]) &&"
        " t.y[k - 1] !== null && !Number.isNaN(t.y[k - 1])).length"
    )
    assert browser.run(crossing) == 0
    zoom = f"delete {CHART}.dataset.bars; Plotly.relayout({CHART}, {{ 'xaxis.range': [%d, %d] }})"
    closed = [before + 30_000, after - 30_000]
    for hours, short in ((60, False), (2, True)):
        reach = hours * 3_600_000
        browser.run(zoom % (before - reach, after + reach))
        browser.wait(f"return {CHART}.dataset.bars !== undefined")
        assert browser.run(crossing) == 0
        left_out = browser.run(f"return {CHART}.layout.xaxis.rangebreaks.map(b => b.bounds)")
        assert bool(left_out) == short
    # and the pauses of the sessions next to it: somebody may move the window
    assert closed in [
        [int(np.datetime64(text, "ms").astype(int)) for text in pair] for pair in left_out
    ]
    assert abs(hover(browser, 0.5) - weekend) <= 1
    assert abs(hover(browser, 0.25) - (weekend - 60)) <= 2
    usd, share = browser.run(
        f"const l = {CHART}._fullLayout; return [l.yaxis2.range, l.yaxis8.range]"
    )
    assert np.allclose(100 * (np.array(usd) / month.capital_usd - 1), share)
    assert browser.severe() == []


def test_n_and_p_go_from_trade_to_trade_and_say_what_happened(
    shown: Chromium, result: Result
) -> None:
    frame = result.trades_frame()
    assert len(frame) > 10
    for name, number in (("n", 1), ("n", 2), ("n", 3), ("p", 2)):
        key(shown, name)
        sentence = trade_shown(shown, number)
    trade = frame.iloc[1]
    side = "long" if trade.quantity > 0 else "short"
    figures = [f"{v:,.2f}" for v in (trade.entry_price, trade.exit_price)]
    assert f"{side} {abs(trade.quantity)} at {figures[0]} on" in sentence
    assert f"closed at {figures[1]} on {trade.exit_time:%Y-%m-%d %H:%M}" in sentence
    assert f"Net {trade.net_usd:+,.2f} USD with {trade.commission_usd:,.2f}" in sentence
    numbers = re.search(r"open result from (\S+) to \+?(\S+) USD", sentence)
    assert numbers is not None
    assert [float(x.replace(",", "")) for x in numbers.groups()] == [
        round(trade.mae_usd, 2),
        round(trade.mfe_usd, 2),
    ]
    assert shown.run("return document.querySelector('tr[aria-current]').dataset.trade") == "1"
    begin, end = (int(trade[name].value) // 10**6 for name in ("entry_time", "exit_time"))
    inside = f"const [a, b] = {CHART}.layout.xaxis.range.map({TIMES})"
    shown.wait(f"{inside}; return a < {begin} && {end} < b")
    shown.run("document.querySelector('[data-move=previous]').click()")
    trade_shown(shown, 1)
    shown.run("document.querySelector('[data-move=whole]').click()")
    shown.wait("return document.querySelector('tr[aria-current]') === null")
    assert shown.text("chart-strip-trade") == ""
    assert shown.severe() == []


def test_the_hover_line_says_the_numbers_of_the_result(shown: Chromium, result: Result) -> None:
    lines = indicators(STRATEGY, result.bars)
    for share in (0.11, 0.5, 0.93):
        i = hover(shown, share)
        facts = shown.run(FACTS)
        assert {name: facts[name] for name in spoken(result, i)} == spoken(result, i)
        for line in lines:
            assert abs(float(facts[line.name]) - line.values[i]) <= 0.0011
    line, plot = shown.run(
        "const r = document.querySelector('.hover-line').getBoundingClientRect(), p ="
        f" {CHART}._fullLayout._size; return [r.height, p.h]"
    )
    assert abs(line - plot) < 1  # over all panels
    fill = int(result.fills["bar"][4])
    middle = int(result.bars.close_time[fill]) // 10**6
    shown.run(
        f"Plotly.relayout({CHART}, {{ 'xaxis.range': [{middle - 600_000}, {middle + 600_000}] }})"
    )
    shown.wait(f"return Number({CHART}.dataset.bars) < {CANDLES}")
    assert hover(shown, 0.5) == fill
    said = " ".join(shown.run(FACTS).values())
    for of in result.fills[result.fills["bar"] == fill]:
        word = "bought" if of["quantity"] > 0 else "sold"
        assert f"{word} {abs(of['quantity'])} at {of['price_ticks'] / 100:,.2f}" in said
    shown.run(f"{CHART}.dispatchEvent(new PointerEvent('pointerleave'))")
    assert shown.run("return document.querySelector('.hover-facts').hidden")
    assert shown.severe() == []


def ends(traces: Any) -> set[tuple[int, float, int, float]]:
    """(entry time, price, exit time, price) of the connectors of some traces."""
    found = set()
    for x, y in traces:
        for k in range(0, len(x) - 1, 3):
            found.add((round(x[k]), round(y[k], 4), round(x[k + 1]), round(y[k + 1], 4)))
    return found


def test_connectors_join_entry_and_exit_in_the_colour_of_the_result(
    shown: Chromium, result: Result
) -> None:
    trades, times = result.trades, result.bars.close_time // 10**6
    net, exits = trades["gross_usd"] - trades["commission_usd"], dated_exits(result)
    assert not np.allclose(exits, trades["exit_ticks"])  # a roll lies within one of them

    def expected(of: Any) -> set[tuple[int, float, int, float]]:
        return {
            (
                int(times[t["entry_bar"]]),
                round(t["entry_ticks"] / 100, 4),
                int(times[t["exit_bar"]]),
                round(price / 100, 4),
            )
            for t, price in zip(trades[of], exits[of], strict=True)
        }

    drawn = f"return {TRADES}.map(t => [[...t.x].map({TIMES}), [...t.y]])"
    at_first = shown.run(drawn)
    assert [ends([one]) for one in at_first] == [expected(net > 0), expected(net <= 0)]
    key(shown, "n")
    shown.wait(f"return {CHART}.dataset.bars !== undefined")
    window = ends(shown.run(drawn))
    assert window
    assert window <= expected(np.ones(len(net), bool))
    colours = shown.run(f"return {TRADES}.map(t => t.line.color)")
    assert colours == ["#1f5fa8", "#b4530b"]


def test_the_dated_exit_is_the_price_of_the_last_fill(result: Result) -> None:
    """In the contract that the trade ended in; open ones are marked at its close."""
    closed = result.trades[:-1]
    turns = result.fills[result.fills["reason"] != 3]
    for trade, price in zip(closed, dated_exits(result), strict=False):
        at = turns[turns["bar"] == trade["exit_bar"]]
        assert np.isclose(at["price_ticks"], price).any()


def test_indicators_and_rolls_appear_when_they_are_wanted(shown: Chromium, result: Result) -> None:
    seen = f"return {DATA}.filter(t => t.meta === 'indicator' && t.visible).length"
    rolls = f"return {CHART}.layout.shapes.filter(s => s.yref === 'paper').length"
    assert (shown.run(seen), shown.run(rolls)) == (0, 0)
    for part in ("indicator", "roll"):
        shown.run(f"document.querySelector('[data-part={part}]').click()")
    shown.wait(f"{seen} === 2")
    shown.wait(f"{rolls} === {int(result.bars.roll.sum())}")
    key(shown, "n")
    trade_shown(shown, 1)
    shown.wait(f"{rolls} === {int(result.bars.roll.sum()) + 1}")  # and the trade itself
    with shown.seen_at(1440, "dark"):
        ink = f"return {DATA}.find(t => t.meta === 'indicator').line.color"
        shown.wait(f"{ink} === '#5fbdb4'")
        shown.wait(f"{seen} === 2")
    for part in ("indicator", "roll"):
        shown.run(f"document.querySelector('[data-part={part}]').click()")
    shown.wait(f"{seen} === 0")
    shown.wait(f"{rolls} === 1")
    assert shown.severe() == []


def test_whole_numbers_come_back_from_their_letters(browser: Chromium, shown: Chromium) -> None:
    """In Python and in the browser: none, one, constants, noise, the ends of 32 bits."""
    rng = np.random.default_rng(3)
    ends = [0, -1, 1, 2**31 - 1, -(2**31), 255, -256]
    cases = [[], [5], [7] * 400, ends, rng.integers(-300, 300, 999), np.rint(rng.normal(0, 2, 999))]
    for values in cases:
        whole = np.asarray(values, np.int64)
        side = np.abs(whole) % 32
        for given in (None, side):
            text = stream(whole, given)
            assert np.array_equal(opened(text, given), whole)
            assert not set(text) & set('"<\\ ')
            known = "undefined" if given is None else given.tolist()
            back = shown.run(f"return [...Packed.integers({text!r}, {known})]")
            assert back == whole.tolist()


def test_the_bundle_is_a_fraction_and_holds_the_kinds_that_a_page_has() -> None:
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs()
    plain, fast = bundle(source, KINDS), bundle(source, KINDS | {"scattergl"})
    assert len(plain) < len(fast) < len(source) / 3
    for kind in KINDS - {"scatter"}:
        assert f'moduleType:"trace",name:"{kind}"' in plain
    assert 'name:"choroplethmap"' not in plain
    assert "Licensed under the MIT license" in plain
    assert bundle("a file of another form", KINDS) == "a file of another form"
