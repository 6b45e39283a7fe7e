"""The dashboard in a real Chromium: what it shows, that it updates by itself, its commands, and
that it fits a phone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chromium import Chromium
from journals import written

from mcl.live.ops.dashboard import Dashboard, open_dashboard
from mcl.live.status import Mode, State
from mcl.tracking.project import Project

from .desks import AT, SmallDesk
from .test_operate import running

TOKEN = "a-token-of-some-length"
MINUTE = 60_000_000_000


@pytest.fixture
def desk() -> SmallDesk:
    made = SmallDesk()
    curve = tuple((AT + n * MINUTE, 25_000.0 + n % 7) for n in range(90))
    decision = {
        "time": AT,
        "close": 60.1,
        "wanted": 2.0,
        "position": 1,
        "target": 1,
        "block": "MAX_POSITION",
        "reason": "held",
    }
    stop = {
        "order_id": 1,
        "permanent_id": 2,
        "ref": "paper-v3-20251112-120905/stop",
        "kind": "STP",
        "quantity": -1,
    }
    fill = {
        "time": AT + 9 * MINUTE,
        "symbol": "MCLF6",
        "quantity": 1,
        "price": 60.02,
        "commission_usd": 0.77,
        "reason": "target",
        "ref": "x",
    }
    again = [decision | {"time": AT + n * MINUTE, "block": "NONE"} for n in range(1, 5)]
    made.set(
        equity=curve,
        prices=tuple((at, 60.0 + n % 5 / 100) for n, (at, _) in enumerate(curve)),
        levels={"entry": 60.02, "stop": 59.66, "take_profit": 60.8},
        max_daily_loss_usd=500.0,
        decisions=(decision, *again),
        working=(stop | {"price": 59.66, "status": "PreSubmitted"},),
        fills=(fill,),
    )
    made.set(
        latency_ms=(0.4, 1.1, 12.0),
        counters={"orders": 3.0, "fills": 2.0},
        synthetic="SYNTHETIC DATA",
    )
    return made


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of a dashboard that runs on a loop of its own."""
    up, loop, over, found = (
        threading.Event(),
        asyncio.new_event_loop(),
        asyncio.Event(),
        list[str](),
    )

    async def serve() -> None:
        async with open_dashboard(Dashboard(Project.at(home), "paper", TOKEN), 0) as url:
            found.append(url)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert up.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def address(tmp_path: Path, desk: SmallDesk) -> Iterator[str]:
    """A running session and its dashboard, each on a loop of its own."""
    written(tmp_path)
    with running(tmp_path, desk), served(tmp_path) as url:
        yield url


def test_the_page_shows_the_session_follows_it_and_commands_it(
    browser: Chromium, address: str, desk: SmallDesk
) -> None:
    browser.open(address)
    browser.wait(lambda: browser.text("state") == "TRADING")
    browser.wait(lambda: browser.run("return !document.getElementById('acts').hidden"))
    assert "token" not in browser.driver.current_url
    shown = {
        name: browser.text(name)
        for name in ("position", "pnl", "equity", "price", "orders", "latency", "synthetic")
    }
    assert shown == {
        "position": "+1",
        "pnl": "+6.46",
        "equity": "25,006.46",
        "price": "60.10",
        "orders": "3 / 2",
        "latency": "1.10 ms",
        "synthetic": "SYNTHETIC DATA",
    }
    assert "MAX_" in browser.text("decisions")
    assert "120905/stop" in browser.text("working")
    assert browser.run("return document.querySelectorAll('#plot-price .bought').length") == 1
    texts = "return [...document.querySelectorAll('{}')].map(part => part.textContent)"
    levels = browser.run(texts.format("#plot-price text.level"))
    assert levels == ["entry 60.02", "stop 59.66", "take-profit 60.80"]
    assert (browser.text("left"), browser.text("left-note")) == ("506.46", "of 500.00 a session")
    rows = texts.format("#decisions tbody td:nth-child(2)")
    assert browser.run(rows) == ["×4", "1"]  # equal decisions are one row
    # its own scale: the curve fills its frame, whatever the band and the limit are
    height = "document.querySelector('#plot-session .line').getBBox().height"
    assert browser.run(f"return {height} > 100")
    assert "-500.00" in browser.text("session-note").replace("−", "-")
    assert browser.run("return document.querySelectorAll('#plot-latency .bar').length") == 11

    desk.set(state=State.HALTED, why="the books differ: <b>2</b>", position=2, data_age_sec=400.0)
    browser.wait(lambda: browser.text("state") == "HALTED")
    assert (browser.text("why"), browser.text("position"), browser.driver.title[:9]) == (
        "the books differ: <b>2</b>",
        "+2",
        "HALTED +2",
    )
    assert browser.text("age") == "7 min"

    idle = "return [...document.querySelectorAll('[data-act]:disabled')].map(b => b.dataset.act)"
    assert browser.run(idle) == []  # what is halted can be resumed
    browser.run("document.querySelector('[data-act=\"pause\"]').click()")
    assert browser.run("return document.getElementById('dialog').open")
    browser.run("document.querySelector('#dialog [value=no]').click()")
    assert desk.told == []
    browser.run(
        "document.querySelector('[data-act=\"pause\"]').click();"
        " document.getElementById('because').value = 'lunch'"
    )
    browser.run("document.getElementById('confirm').click()")
    browser.wait(lambda: browser.text("said") == "pause: done")
    assert (desk.told[0][0], desk.told[0][2], desk.now.mode) == ("pause", "lunch", Mode.PAUSED)
    browser.wait(lambda: browser.text("mode") == "paused")
    assert browser.run(idle) == ["pause"]
    desk.set(state=State.TRADING, mode=Mode.NORMAL, position=0, working=(), levels={})
    browser.wait(lambda: browser.run(idle) == ["resume", "flatten"])
    why = browser.run("return document.querySelector('[data-act=flatten]').title")
    assert why == "there is no position and no order"
    assert browser.severe() == []


def test_a_stopped_session_shows_its_last_state_and_takes_no_command(
    browser: Chromium, tmp_path: Path
) -> None:
    """Read from its journal: no session runs here."""
    written(tmp_path)
    with served(tmp_path) as url:
        browser.open(url)
        browser.wait(lambda: browser.text("state") == "LOST")
        browser.wait(lambda: browser.run("return !document.getElementById('acts').hidden"))
        assert browser.text("mode").startswith("stopped; this is its last state, written 20")
        assert (browser.text("position"), browser.text("price")) == ("+1", "60.05")
        assert browser.run("return document.querySelectorAll('#plot-price .price').length") == 1
        assert browser.run("return document.querySelectorAll('[data-act]:disabled').length") == 5
        assert browser.text("age-note") == "stopped; 3 bars"
        assert browser.text("left-note") == "no max_daily_loss_usd is set"
        browser.examine("dashboard-stopped", (1440, 800, 390))


def test_it_fits_every_screen_and_is_for_everybody(browser: Chromium, address: str) -> None:
    """With its commands, and with every list full: the token gives the first, the desk the
    second.
    """
    browser.open(
        address,
        "return document.documentElement.dataset.recorded === 'yes' &&"
        " !document.getElementById('acts').hidden",
    )
    browser.examine("dashboard")
    stops = browser.stops()
    assert [stop["place"] for stop in stops] == sorted(stop["place"] for stop in stops)
    assert [stop for stop in stops if stop["ring"] < 2 or not stop["seen"]] == []
    assert [stop["name"] for stop in stops if stop["tag"] == "BUTTON"] == [
        "pause",
        "reduce-only",
        "flatten",
        "stop",
    ]
    browser.run("document.querySelector('[data-act=\"flatten\"]').focus()")
    browser.press("ENTER")
    browser.wait(
        "return document.getElementById('dialog').open && document.activeElement.id === 'because'"
    )
    browser.examine("dashboard-asks", (1440, 390))
    browser.press("ESCAPE")
    browser.wait(
        "return !document.getElementById('dialog').open && document.activeElement.dataset.act ==="
        " 'flatten'"
    )


def test_what_happens_is_on_the_screen_soon(
    browser: Chromium, address: str, desk: SmallDesk
) -> None:
    """The page notes when each change was in its document; scripts/bench_dashboard.py prints how
    long after the event.
    """
    browser.open(address.partition("#")[0])
    browser.wait(lambda: browser.text("state") == "TRADING")
    browser.run(
        "window.seen = {}; new MutationObserver(() => {"
        " window.seen[document.getElementById('why').textContent] ??= Date.now();"
        " }).observe(document.getElementById('why'), { childList: true, characterData: true,"
        " subtree: true })"
    )
    for n in range(3):
        desk.set(why=f"event {n}")
        browser.wait(lambda n=n: f"event {n}" in browser.run("return window.seen"))  # type: ignore[misc]
    assert set(browser.run("return window.seen")) >= {"event 0", "event 1", "event 2"}
