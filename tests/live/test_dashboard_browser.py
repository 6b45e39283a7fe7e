"""The dashboard in a real Chromium: what it shows, that it updates by itself, its commands, and that it fits a phone."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import AT, SmallDesk
from test_operate import running, written

from mcl.live.dashboard import Dashboard, open_dashboard
from mcl.live.status import Mode, State
from mcl.tracking import Store

TOKEN = "a-token-of-some-length"
MINUTE = 60_000_000_000
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--window-size=1440,1000")


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


@pytest.fixture
def desk() -> SmallDesk:
    made = SmallDesk()
    curve = tuple((AT + n * MINUTE, 25_000.0 + n % 7) for n in range(90))
    decision = {"time": AT, "close": 60.1, "wanted": 2.0, "position": 1, "target": 1, "block": "MAX_POSITION", "reason": "held"}
    stop = {"order_id": 1, "permanent_id": 2, "ref": "paper-v3-20251112-120905/stop", "kind": "STP", "quantity": -1}
    fill = {
        "time": AT + 9 * MINUTE,
        "symbol": "MCLF6",
        "quantity": 1,
        "price": 60.02,
        "commission_usd": 0.77,
        "reason": "target",
        "ref": "x",
    }
    made.set(equity=curve, decisions=(decision,), working=(stop | {"price": 59.66, "status": "PreSubmitted"},), fills=(fill,))
    made.set(latency_ms=(0.4, 1.1, 12.0), counters={"orders": 3.0, "fills": 2.0}, synthetic="SYNTHETIC DATA")
    return made


@pytest.fixture
def address(tmp_path: Path, desk: SmallDesk) -> Iterator[str]:
    """A running session and its dashboard, each on a loop of its own."""
    written(tmp_path)
    up, loop, over, found = threading.Event(), asyncio.new_event_loop(), asyncio.Event(), list[str]()

    async def serve() -> None:
        async with open_dashboard(Dashboard(tmp_path, "paper", Store(tmp_path), TOKEN), 0) as url:
            found.append(url)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    with running(tmp_path, desk):
        thread.start()
        assert up.wait(10)
        yield found[0]
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def text(browser: Any, name: str) -> str:
    return str(browser.execute_script(f"return document.getElementById('{name}').textContent"))


def wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_page_shows_the_session_follows_it_and_commands_it(browser: Any, address: str, desk: SmallDesk) -> None:
    browser.get(address)
    wait(lambda: text(browser, "state") == "TRADING")
    wait(lambda: browser.execute_script("return !document.getElementById('acts').hidden"))
    assert "token" not in browser.current_url
    shown = {name: text(browser, name) for name in ("position", "pnl", "equity", "price", "orders", "latency", "synthetic")}
    assert shown == {
        "position": "+1", "pnl": "+6.46", "equity": "25,006.46", "price": "60.10", "orders": "3 / 2", "latency": "1.10 ms",
        "synthetic": "SYNTHETIC DATA",
    }  # fmt: skip
    assert "MAX_" in text(browser, "decisions")
    assert "120905/stop" in text(browser, "working")
    assert browser.execute_script("return document.querySelectorAll('#plot-session .bought').length") == 1
    assert browser.execute_script("return document.querySelectorAll('#plot-latency .bar').length") == 11

    desk.set(state=State.HALTED, why="the books differ: <b>2</b>", position=2, data_age_sec=400.0)
    wait(lambda: text(browser, "state") == "HALTED")
    assert (text(browser, "why"), text(browser, "position"), browser.title[:9]) == ("the books differ: <b>2</b>", "+2", "HALTED +2")
    assert text(browser, "age") == "7 min"

    browser.execute_script("document.querySelector('[data-act=\"pause\"]').click()")
    assert browser.execute_script("return document.getElementById('dialog').open")
    browser.execute_script("document.querySelector('#dialog [value=no]').click()")
    assert desk.told == []
    browser.execute_script("document.querySelector('[data-act=\"pause\"]').click(); document.getElementById('because').value = 'lunch'")
    browser.execute_script("document.getElementById('confirm').click()")
    wait(lambda: text(browser, "said") == "pause: done")
    assert (desk.told[0][0], desk.told[0][2], desk.now.mode) == ("pause", "lunch", Mode.PAUSED)
    wait(lambda: text(browser, "mode") == "paused")
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_it_fits_every_width_and_scheme(browser: Any, address: str) -> None:
    for width in (1440, 800, 390):
        for scheme in ("light", "dark"):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.get(address.partition("#")[0])
            wait(lambda: text(browser, "state") == "TRADING")
            assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_what_happens_is_on_the_screen_soon(browser: Any, address: str, desk: SmallDesk) -> None:
    """The page notes when each change was in its document; scripts/bench_dashboard.py prints how long after the event."""
    browser.get(address.partition("#")[0])
    wait(lambda: text(browser, "state") == "TRADING")
    browser.execute_script(
        "window.seen = {}; new MutationObserver(() => { window.seen[document.getElementById('why').textContent] ??= Date.now(); })"
        ".observe(document.getElementById('why'), { childList: true, characterData: true, subtree: true })"
    )
    for n in range(3):
        desk.set(why=f"event {n}")
        wait(lambda n=n: f"event {n}" in browser.execute_script("return window.seen"))  # type: ignore[misc]
    assert set(browser.execute_script("return window.seen")) >= {"event 0", "event 1", "event 2"}
