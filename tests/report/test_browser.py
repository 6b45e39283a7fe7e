"""Pages in a real Chromium: no console error, everything drawn, and a zoomed window that shows the bars themselves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcl.engine.result import Result
from mcl.report.compare import compare_page
from mcl.report.run import run_page
from mcl.report.sweep import sweep_page

from .conftest import view_of
from .test_pages import compared, trials

FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--hide-scrollbars",
        "--window-size=1440,1000",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


def show(browser: Any, folder: Path, html: str) -> None:
    """Open the page and wait until every chart is drawn; console errors and uncaught rejections fail."""
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    browser.get(page.as_uri())
    wait(browser, "return document.documentElement.dataset.drawn !== undefined")
    assert severe(browser) == []


def severe(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def wait(browser: Any, condition: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not browser.execute_script(condition):
        assert time.monotonic() < deadline, (condition, severe(browser))
        time.sleep(0.05)


def test_run_page_draws_all_charts_and_fits_every_width(browser: Any, month: Result, tmp_path: Path) -> None:
    show(browser, tmp_path, run_page(view_of(month)))
    assert browser.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == 5
    assert browser.execute_script("return document.querySelectorAll('tr[data-from]').length") == 500
    fetched = "return performance.getEntriesByType('resource').map(e => e.name).filter(name => !name.startsWith('data:'))"
    assert browser.execute_script(fetched) == []
    buttons = browser.execute_script("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert len(buttons) == 6
    assert not any("cloud" in title.lower() for title in buttons)
    for width in (800, 1100, 1440):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wait(browser, f"return document.documentElement.scrollWidth <= {width}", 5)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_click_on_a_trade_shows_its_bars(browser: Any, month: Result, tmp_path: Path) -> None:
    show(browser, tmp_path, run_page(view_of(month)))
    browser.execute_script("document.querySelectorAll('tr[data-from]')[3].click()")
    wait(browser, "return document.getElementById('chart-strip').dataset.bars !== undefined")
    bars = int(browser.execute_script("return document.getElementById('chart-strip').dataset.bars"))
    assert 100 < bars < 1500
    times, equity = browser.execute_script("const d = document.getElementById('chart-strip').data[1]; return [[...d.x], [...d.y]]")
    rows = np.searchsorted(month.bars.close_time, np.array(times, np.int64) * 10**6)
    assert len(times) == bars
    tick = browser.execute_script("return document.querySelector('#chart-strip .xtick text').textContent")
    assert ":" in tick  # still a time axis
    assert np.array_equal(np.diff(rows), np.ones(bars - 1))
    assert np.allclose(equity, month.equity[rows], atol=1e-6)
    marks = "return document.getElementById('chart-strip').data.filter(t => t.mode === 'markers')"
    fills = browser.execute_script(f"{marks}.map(t => [[...t.x], [...t.y], [...t.customdata]])")
    shown = sorted((int(x), round(y, 2), q) for trace in fills for x, y, q in zip(*trace, strict=True))
    inside = month.fills[(month.fills["bar"] >= rows[0]) & (month.fills["bar"] <= rows[-1])]
    expected = zip(month.bars.close_time[inside["bar"]] // 10**6, inside["price_ticks"] / 100, inside["quantity"], strict=True)
    assert shown == sorted((int(x), round(float(y), 2), int(q)) for x, y, q in expected)
    assert severe(browser) == []


def test_dark_and_light_colours_follow_the_system(browser: Any, month: Result, tmp_path: Path) -> None:
    show(browser, tmp_path, run_page(view_of(month)))
    ink = "return getComputedStyle(document.querySelector('#chart-trades .xtick text')).fill"
    seen = {}
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        wanted = "rgb(28, 33, 37)" if scheme == "light" else "rgb(227, 231, 233)"
        wait(browser, f"return (() => {{ {ink} }})() === '{wanted}'")
        seen[scheme] = browser.execute_script("return document.getElementById('chart-strip').data[1].line.color")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen == {"light": "#1f5fa8", "dark": "#72abea"}
    assert severe(browser) == []


def test_comparison_and_sweep_draw(browser: Any, month: Result, tmp_path: Path) -> None:
    show(browser, tmp_path, compare_page(compared(month)))
    assert browser.execute_script("return document.querySelectorAll('#chart-equity .scatterlayer .trace').length") == 2
    show(browser, tmp_path, sweep_page(trials(), "sharpe", "maximize", "search"))
    assert browser.execute_script("return document.querySelectorAll('.heatmaplayer image').length") == 6
    assert browser.execute_script("return document.querySelectorAll('#chart-history .scatterlayer .trace').length") == 3
    browser.execute_script("const s = document.getElementById('map-of'); s.value = 'trades'; s.dispatchEvent(new Event('change'))")
    wait(browser, "return document.querySelectorAll('.heatmaplayer image').length === 12")
    assert browser.execute_script("return document.getElementById('chart-map-0').getBoundingClientRect().height") == 0
    assert severe(browser) == []
