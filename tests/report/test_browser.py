"""Pages in a real Chromium: no console error, everything drawn, and a zoomed window that shows the
bars themselves.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from chromium import Chromium

from mcl.engine.result import Result
from mcl.report.compare import compare_page
from mcl.report.registry import LiveSession, RegistryView, registry_page
from mcl.report.run import run_page
from mcl.report.sweep import sweep_page

from .conftest import CONFIG, view_of
from .test_pages import compared, deflated, trials

SHOWN_BARS = "return document.getElementById('chart-strip').dataset.bars"
MS = "v => typeof v === 'number' ? v : Date.parse(v.replace(' ', 'T') + 'Z')"
RANGE = f"document.getElementById('chart-strip').layout.xaxis.range.map({MS})"


def test_run_page_draws_all_charts(browser: Chromium, month: Result, tmp_path: Path) -> None:
    browser.show(tmp_path, run_page(view_of(month)))
    # five of the run, and the distribution of its sessions and their exposure
    assert browser.run("return document.querySelectorAll('.js-plotly-plot').length") == 7
    assert browser.run("return document.querySelectorAll('tr[data-from]').length") == 500
    fetched = (
        "return performance.getEntriesByType('resource').map(e => e.name).filter(name =>"
        " !name.startsWith('data:'))"
    )
    assert browser.run(fetched) == []
    buttons = browser.run(
        "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)"
    )
    assert len(buttons) == 6
    assert not any("cloud" in title.lower() for title in buttons)


def test_a_click_on_a_trade_shows_its_bars(
    browser: Chromium, month: Result, tmp_path: Path
) -> None:
    browser.show(tmp_path, run_page(view_of(month)))
    browser.run("document.querySelectorAll('tr[data-from]')[3].click()")
    browser.wait(f"{SHOWN_BARS} !== undefined")
    bars = int(browser.run(SHOWN_BARS))
    assert 100 < bars < 1500
    times, equity = browser.run(
        "const d = document.getElementById('chart-strip').data[1]; return [[...d.x], [...d.y]]"
    )
    rows = np.searchsorted(month.bars.close_time, np.array(times, np.int64) * 10**6)
    assert len(times) == bars
    tick = browser.run("return document.querySelector('#chart-strip .xtick text').textContent")
    assert ":" in tick  # still a time axis
    assert np.array_equal(np.diff(rows), np.ones(bars - 1))
    assert np.allclose(equity, month.equity[rows], atol=1e-6)
    marks = "return document.getElementById('chart-strip').data.filter(t => t.mode === 'markers')"
    fills = browser.run(f"{marks}.map(t => [[...t.x], [...t.y], [...t.customdata]])")
    shown = sorted(
        (int(x), round(y, 2), q) for trace in fills for x, y, q in zip(*trace, strict=True)
    )
    inside = month.fills[(month.fills["bar"] >= rows[0]) & (month.fills["bar"] <= rows[-1])]
    expected = zip(
        month.bars.close_time[inside["bar"]] // 10**6,
        inside["price_ticks"] / 100,
        inside["quantity"],
        strict=True,
    )
    assert shown == sorted((int(x), round(float(y), 2), int(q)) for x, y, q in expected)
    assert browser.severe() == []


def test_the_keyboard_goes_through_the_page_and_from_trade_to_trade(
    browser: Chromium, month: Result, tmp_path: Path
) -> None:
    browser.show(tmp_path, run_page(view_of(month)))
    stops = browser.stops()
    assert stops[0]["name"] == "To the content"
    # as the eye reads
    assert [stop["place"] for stop in stops] == sorted(stop["place"] for stop in stops)
    assert [stop for stop in stops if stop["ring"] < 2 or not stop["seen"]] == []
    assert sum(stop["tag"] == "TR" for stop in stops) == 1  # 500 trades are one stop
    whole, start = browser.run(f"return {RANGE}"), "Number(document.activeElement.dataset.from)"
    browser.run("document.querySelector('tr[data-from]').focus()")
    for keys, row in (
        (("ENTER",), 0),
        (("ARROW_DOWN",), 1),
        (("ARROW_DOWN",), 2),
        (("ARROW_UP",), 1),
        (("END",), 499),
        (("HOME",), 0),
    ):
        browser.press(*keys)
        browser.wait(
            f"return document.activeElement === document.querySelectorAll('tr[data-from]')[{row}]"
        )
        browser.wait(
            "return document.querySelector('tr[aria-current]') === document.activeElement &&"
            f" {RANGE}[0] <= {start}"
        )
        assert browser.run(f"return {RANGE}[1] >= {start}")
    browser.press("ESCAPE")
    browser.wait(lambda: np.allclose(browser.run(f"return {RANGE}"), whole))
    assert browser.severe() == []


def test_dark_and_light_colours_follow_the_system(
    browser: Chromium, month: Result, tmp_path: Path
) -> None:
    browser.show(tmp_path, run_page(view_of(month)))
    ink = "return getComputedStyle(document.querySelector('#chart-trades .xtick text')).fill"
    seen = {}
    for scheme in ("light", "dark"):
        with browser.seen_at(1440, scheme):
            wanted = "rgb(28, 33, 37)" if scheme == "light" else "rgb(227, 231, 233)"
            browser.wait(f"return (() => {{ {ink} }})() === '{wanted}'")
            seen[scheme] = browser.run(
                "return document.getElementById('chart-strip').data[1].line.color"
            )
    assert seen == {"light": "#1f5fa8", "dark": "#72abea"}
    assert browser.severe() == []


def dumped(value: object) -> str:
    """As JSON.stringify writes it."""
    return json.dumps(value, separators=(",", ":"))


def test_comparison_and_sweep_draw(browser: Chromium, month: Result, tmp_path: Path) -> None:
    browser.show(tmp_path, compare_page(compared(month)))
    assert (
        browser.run("return document.querySelectorAll('#chart-equity .scatterlayer .trace').length")
        == 2
    )
    browser.examine("compare")
    many = [replace(compared(month)[0], run_id=f"{k:08d}") for k in range(5)]
    browser.show(tmp_path, compare_page(many))
    browser.examine("compare-many")
    browser.show(
        tmp_path, sweep_page(trials(), "sharpe", "maximize", "search", luck=deflated(trials(), 60))
    )
    assert browser.run("return document.querySelectorAll('.heatmaplayer image').length") == 6
    assert (
        browser.run(
            "return document.querySelectorAll('#chart-history .scatterlayer .trace').length"
        )
        == 3
    )
    # parallel coordinates take long without a graphics card: on request
    assert browser.run("return document.querySelectorAll('.parcoords').length") == 0
    browser.examine("sweep")
    ranges = "[...document.querySelectorAll('#parameter-map .js-plotly-plot')].map(h => h.data[0])"
    own = browser.run(f"return {ranges}.map(h => [h.zmin, h.zmax])")
    assert len({tuple(each) for each in own}) > 1  # each map has its own
    typed = (
        "const b = document.querySelector('[data-colours]'); b.querySelector('[name=low]').value ="
        " '0.5'; b.querySelector('[name=high]').value = '1.5';"
        " b.dispatchEvent(new Event('input'))"
    )
    browser.run(typed)
    browser.wait(f"return {ranges}.every(h => h.zmin === 0.5 && h.zmax === 1.5)")
    browser.run("document.querySelector('[data-colours] button').click()")
    browser.wait(f"return JSON.stringify({ranges}.map(h => [h.zmin, h.zmax])) === '{dumped(own)}'")
    browser.run(
        "const s = document.getElementById('map-of'); s.value = 'trades'; s.dispatchEvent(new"
        " Event('change'))"
    )
    browser.wait("return document.querySelectorAll('.heatmaplayer image').length === 12")
    assert (
        browser.run("return document.getElementById('chart-map-0').getBoundingClientRect().height")
        == 0
    )
    browser.run("document.querySelector('[data-draws]').click()")
    browser.wait("return document.querySelectorAll('#chart-parallel .parcoords').length === 1")
    assert browser.severe() == []


def test_the_page_of_a_version_is_for_everybody(browser: Chromium, tmp_path: Path) -> None:
    """Traded and outside its band, and not yet traded."""
    rng = np.random.default_rng(5)
    sessions = [
        LiveSession(
            f"2025-11-{day:02d}",
            float(rng.normal(-40, 60)),
            float(rng.normal(5, 60)),
            1.25,
            1.0,
            "1 explained",
            "ib_paper DU0000001",
            f"{day:032x}",
            "http://127.0.0.1:5000/#/experiments/1/runs/1",
        )
        for day in range(3, 15)
    ]
    pnl = np.cumsum([session.net_pnl_usd for session in sessions])
    steps = np.arange(1.0, 41.0)
    gate = {"waived": "", "value": 0.41, "rule": "at least 0.95", "asked": True}
    gates = [
        gate | {"name": "deflated_sharpe", "passed": False, "meaning": "No more than luck."},
        gate | {"name": "look_ahead", "passed": True, "value": "none", "meaning": "Nothing ahead."},
        gate | {"name": "trades", "passed": False, "waived": "few by design", "meaning": ""},
        gate | {"name": "hold_out", "passed": True, "asked": False, "value": None, "meaning": ""},
    ]
    case = {
        **{"note": "", "at": "2025-06-20 15:00", "position": 1, "price": 70.1, "move": -17.24},
        **{"pnl_usd": -1724.0, "pnl_frac": -0.069, "usual_usd": 12.0, "exit": "stop at 52.86"},
    }
    view = RegistryView(
        title="paper v3",
        lead="ema_cross f10 s30",
        data_note="",
        sentence="Net P&L after 12 sessions is lower than 95 % of honest histories.",
        outside=True,
        sessions=sessions,
        drawdown=np.minimum.accumulate(pnl - np.maximum.accumulate(np.append(0, pnl))[1:]),
        band=(-60 * np.sqrt(steps), 5 * steps, 90 * np.sqrt(steps), -80 * np.sqrt(steps)),
        gates=gates,
        facts={
            "run": {"id": "8f0c7f0e", "git": "0" * 40},
            "stress": {"gap through the stop": case},
        },
    )
    browser.show(tmp_path, registry_page(view))
    lines = "return document.querySelectorAll('#chart-live .scatterlayer .trace').length"
    assert browser.run(lines) == 7
    head = "return document.querySelector('#sessions th').textContent"
    assert browser.run(head) == "Session"
    browser.examine("registry")
    untraded = replace(view, sessions=[], drawdown=np.empty(0), band=None, outside=False, facts={})
    browser.show(tmp_path, registry_page(untraded))
    browser.examine("registry-untraded", (390,))


def test_the_run_page_is_for_everybody(browser: Chromium, month: Result, tmp_path: Path) -> None:
    browser.show(tmp_path, run_page(view_of(month)))
    browser.run("for (const part of document.querySelectorAll('details')) part.open = true")
    browser.examine("run")


def test_on_paper_every_chart_fits_its_sheet_and_the_screen_comes_back(
    browser: Chromium, month: Result, tmp_path: Path
) -> None:
    """In dark colours too: paper is light."""
    width = "querySelector('.main-svg').width.baseVal.value"
    too_wide = (
        f"[...document.querySelectorAll('.chart > div')].filter(h => h.{width} > h.clientWidth +"
        " 1).length"
    )
    ink = "getComputedStyle(document.querySelector('#chart-trades .xtick text')).fill"
    strip = "document.getElementById('chart-strip')"
    with browser.seen_at(1440, "dark"):
        browser.show(tmp_path, run_page(view_of(month, defaults=CONFIG)))
        assert browser.run("return document.querySelectorAll('details:not([open])').length") > 0
        before = browser.run(f"return {strip}.clientWidth")
        browser.run("window.dispatchEvent(new Event('beforeprint'))")
        browser.wait(f"return {too_wide} === 0 && {ink} === 'rgb(28, 33, 37)'")
        assert browser.run(f"return {strip}.clientWidth") < before
        assert browser.run("return document.querySelectorAll('details:not([open])').length") == 0
        browser.run("window.dispatchEvent(new Event('afterprint'))")
        browser.wait(f"return {strip}.{width} === {before} && {ink} === 'rgb(227, 231, 233)'")
        assert browser.run("return document.querySelectorAll('details[open]').length") == 0
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        hidden = "return getComputedStyle(document.querySelector('.controls')).display"
        assert browser.run(hidden) == "none"
        rows = "[...document.querySelectorAll('.scroll tbody tr')]"
        assert browser.run(
            f"return {rows}.every(row => row.getClientRects().length)"
        )  # all of them
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert browser.severe() == []


def test_a_phone_scrolls_tables_and_never_the_page(
    browser: Chromium, month: Result, tmp_path: Path
) -> None:
    with browser.seen_at(390):
        browser.show(tmp_path, run_page(view_of(month)))
        browser.wait("return document.documentElement.scrollWidth <= 390")
        scrolls = "b.scrollWidth > b.clientWidth + 1 || b.scrollHeight > b.clientHeight + 1"
        stops = f"[...document.querySelectorAll('.scroll')].map(b => [b.tabIndex === 0, {scrolls}])"
        names = "[...document.querySelectorAll('#chart-strip-legend li')].map(e => e.textContent)"
        listed = [name.split()[1] for name in browser.run(f"return {names}")]
        assert listed == ["Gain", "Loss", "Bought", "Sold"]  # in words above the chart
        assert browser.run("return document.querySelector('#chart-strip .legend')") is None
        # a stop where there is something to scroll
        browser.wait(f"return {stops}.every(([reached, scrolls]) => reached === scrolls)")
        assert browser.run(f"return {stops}.some(([reached]) => reached)")


def test_the_judge_of_accessibility_sees_faults(browser: Chromium, tmp_path: Path) -> None:
    html = (
        "<html><head><title></title></head><body style='background:#fff'><h1>x</h1><h3>y</h3><p"
        " style='color:#999'>pale</p><button></button><svg width=9"
        " height=9></svg><table><tr><th></th></tr></table><i tabindex=3>i</i></body></html>"
    )
    page = tmp_path / "bad.html"
    page.write_text(html, encoding="utf-8")
    browser.open(page.as_uri())
    found = " | ".join(browser.faults())
    for fault in (
        "contrast 2.8",
        "no name: button",
        "no name: table",
        "a graphic without a name",
        "an empty heading",
        "no language",
    ):
        assert fault in found
    for fault in (
        "no title",
        "h3 after h1",
        "0 main, not 1",
        "an order of its own",
        "a heading without a scope",
    ):
        assert fault in found
