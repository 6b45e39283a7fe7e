"""A real, headless Chromium for the tests of pages: it shows, waits for what must come, presses
keys, and judges accessibility.
"""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

PATIENCE_SEC = 60.0  # for what must come; a loaded machine is slow, and nothing here is timed
FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--hide-scrollbars",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1440,1000",
    ),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# page.js says so when every chart is
DRAWN = "return document.documentElement.dataset.drawn !== undefined"


def programs() -> tuple[str, str] | None:
    """The browser and its driver, when both are installed."""
    browser, driver = (
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    )
    return (browser, driver) if browser and driver else None


@contextmanager
def launched(profile: Path) -> Iterator[Chromium]:
    found = programs()
    assert found, "chromium and chromedriver are not installed"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found[1]))
    try:
        yield Chromium(driver)
    finally:
        driver.quit()


class Chromium:
    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def open(self, url: str, ready: str = "return true") -> None:
        self.driver.get("about:blank")  # else a new hash is no new page
        self.severe()  # what the page before said when its server went away is not about this one
        self.driver.get(url)
        self.wait(ready)

    def show(self, folder: Path, html: str) -> None:
        """Open the page and wait until every chart is drawn; console errors and uncaught rejections
        fail.
        """
        page = folder / "page.html"
        page.write_text(html, encoding="utf-8")
        self.open(page.as_uri(), DRAWN)
        severe = self.severe()
        assert severe == [], severe

    def wait(self, condition: str | Callable[[], Any], seconds: float = PATIENCE_SEC) -> None:
        """Until a script returns, or a function finds, something true."""
        deadline = time.monotonic() + seconds
        while not (self.run(condition) if isinstance(condition, str) else condition()):
            assert time.monotonic() < deadline, (condition, self.severe())
            time.sleep(0.05)

    def severe(self) -> list[str]:
        """Errors on the console since the last look."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]

    def text(self, name: str) -> str:
        """The text of the element with this id."""
        return str(self.run(f"return document.getElementById('{name}').textContent"))

    def press(self, *keys: str) -> None:
        """Keys by their name in selenium's list (TAB, ARROW_DOWN), to what has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        ActionChains(self.driver).send_keys(*(getattr(Keys, key) for key in keys)).perform()

    @contextmanager
    def seen_at(self, width: int, scheme: str = "light", height: int = 900) -> Iterator[None]:
        """The page on a screen of this width, with this colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def keep(self, name: str) -> None:
        """A picture of the whole page, for people, in the folder that MCL_SCREENSHOTS names; none
        without it.
        """
        if not (folder := os.environ.get("MCL_SCREENSHOTS")):
            return
        taken = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
        )
        target = Path(folder) / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(base64.b64decode(taken["data"]))

    # -------------------------------------------------------------------------------- accessibility

    def faults(self) -> list[str]:
        """What hinders people who see little, or hear the page, or have no mouse:
        tests/accessibility.js says what is looked for.
        """
        return list(self.run(_audit()))

    def examine(self, name: str, widths: tuple[int, ...] = (1440, 800, 390)) -> None:
        """The page that is open, at every width and in both colour schemes: without faults, never
        wider than the screen, and kept.
        """
        for width in widths:
            for scheme in ("light", "dark"):
                with self.seen_at(width, scheme):
                    self.wait(f"return document.documentElement.scrollWidth <= {width}")
                    faults = self.faults()
                    deadline = time.monotonic() + PATIENCE_SEC / 4
                    # charts are drawn anew in the other colours
                    while faults and time.monotonic() < deadline:
                        time.sleep(0.2)
                        faults = self.faults()
                    assert faults == [], (name, width, scheme, faults[:20])
                    self.keep(f"{name}-{scheme}-{width}")
        severe = self.severe()
        assert severe == [], severe

    def stops(self, most: int = 200) -> list[dict[str, Any]]:
        """What the Tab key reaches from the top, in its order: `name`, `place` in the document,
        `ring` (px), `seen`.
        """
        self.run(
            "document.activeElement.blur(); window.getSelection().removeAllRanges();"
            " window.scrollTo(0, 0)"
        )
        found: list[dict[str, Any]] = []
        while len(found) < most:
            self.press("TAB")
            stop, deadline = self.run(FOCUS), time.monotonic() + PATIENCE_SEC / 10
            while stop and not stop["seen"] and time.monotonic() < deadline:  # the page moves to it
                time.sleep(0.05)
                stop = self.run(FOCUS)
            if stop is None or (found and stop["place"] <= found[0]["place"]):
                return found
            found.append(stop)
        raise AssertionError(f"the Tab key finds no end: {[stop['name'] for stop in found[-5:]]}")


FOCUS = """
const at = document.activeElement;
if (!at || at === document.body || at === document.documentElement) return null;
const style = getComputedStyle(at), box = at.getBoundingClientRect();
const all = [...document.querySelectorAll("*")];
return { name: (at.getAttribute("aria-label") || at.textContent).trim().slice(0, 60),
  tag: at.tagName, place: all.indexOf(at),
  ring: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
  seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight };
"""


@cache
def _audit() -> str:
    return (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8")
