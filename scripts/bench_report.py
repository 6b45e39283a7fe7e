"""How long does a run's page take? Run by `make bench`; prints each figure with its bound and exits
with 1 when one misses.

build     processor time for the page of a run of two years of 1-minute bars, indicators and stops
          included, without the backtest
size      that page, plotly.js inside
paint     first contentful paint in Chromium, from the file, of the best of some loads
zoom      processor time of scripts, style and layout for the costliest of ten moves between the
          whole run and an hour of it, all bars behind it: a move is several tasks, so none of them
          is longer

Without chromium, chromedriver and selenium the last two are left out, and said to be.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from processor import repeated

from mcl import composition
from mcl.data.loader import load
from mcl.engine.backtest import backtest
from mcl.metrics.summary import summary
from mcl.tracking import backtest_run, provenance

OVERRIDES = [
    "data=planted",
    "data.holdout_start=null",
    "strategy.fast=240",
    "strategy.slow=960",
    "risk=bracket",
]
BOUNDS = {"build": (2.0, "s"), "size": (3.0, "MB"), "paint": (1.5, "s"), "zoom": (200.0, "ms")}
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--window-size=1440,1000",
    "--disable-background-networking",
)
MOVE = """const [from, to, done] = arguments, holder = document.getElementById('chart-strip');
delete holder.dataset.bars;
const seen = () => {
  if (holder.dataset.bars === undefined) setTimeout(seen, 10);
  else setTimeout(() => done(Number(holder.dataset.bars)), 120);
};
// A task of the page, not of the driver.
setTimeout(() => Plotly.relayout(holder, {'xaxis.range': [from, to]}).then(seen));"""
RANGE = """return document.getElementById('chart-strip').layout.xaxis.range
.map(v => typeof v === 'number' ? v : Date.parse(v.replace(' ', 'T') + 'Z'))"""
SHARES = (
    (0.0, 1.0),
    (0.0, 0.7),
    (0.3, 1.0),
    (0.2, 0.7),
    (0.4, 0.6),
    (0.45, 0.55),
    (0.5, 0.51),
    (0.505, 0.506),
    (0.507, 0.508),
    (0.0, 1.0),
)


def build(folder: Path) -> tuple[float, Path, int]:
    """Processor seconds of the fastest of three builds, the page, and how many bars are behind
    it.
    """
    composed = composition.compose("backtest", OVERRIDES)
    run = composed.config
    bars = load(run.data, composition.root())
    result = backtest(run, bars)
    measured, tags = summary(result), provenance.tags(run, bars)
    luck = backtest_run.counted(run, bars, measured, composition.root())
    taken = []
    for _ in range(3):
        began = time.process_time()
        page = backtest_run.page(run, result, measured, tags, composed.overrides, "0" * 32, luck)
        taken.append(time.process_time() - began)
    path = folder / "report.html"
    path.write_bytes(page)
    return min(taken), path, len(bars)


def browser(folder: Path) -> Any:
    """A Chromium under selenium; None where one of the three is missing."""
    chromium, chromedriver = (
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    )
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        return None
    if not (chromium and chromedriver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(chromedriver))


def opened(driver: Any, page: Path) -> float:
    """Seconds to the first contentful paint; returns when every chart is drawn."""
    driver.get(page.as_uri())
    while driver.execute_script("return document.documentElement.dataset.drawn") is None:
        time.sleep(0.05)
    paint = (
        "return performance.getEntriesByType('paint').find(e => e.name ==="
        " 'first-contentful-paint').startTime"
    )
    return float(driver.execute_script(paint)) / 1000


def zoomed(driver: Any) -> float:
    """Milliseconds of the costliest move, of the better of two walks through the windows."""
    driver.set_script_timeout(60)
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    first, last = driver.execute_script(RANGE)
    walks = []
    for _ in range(2):
        costs = [spent(driver)]
        for a, b in SHARES:
            driver.execute_async_script(
                MOVE, first + a * (last - first), first + b * (last - first)
            )
            costs.append(spent(driver))
        walks.append(1000 * max(after - before for before, after in pairwise(costs)))
    return min(walks)


def spent(driver: Any) -> float:
    """Processor seconds of the page's main thread in scripts, style and layout so far."""
    known = {
        entry["name"]: entry["value"]
        for entry in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    }
    return float(known["ScriptDuration"] + known["LayoutDuration"] + known["RecalcStyleDuration"])


def main() -> int:
    return repeated(measured)


def measured() -> bool:
    """Print every figure; whether all bounds are kept."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["build"], page, bars = build(folder)
        found["size"] = page.stat().st_size / 1e6
        driver = browser(folder)
        if driver is None:
            print("no chromium, chromedriver and selenium: paint and zoom are left out")
        else:
            try:
                found["paint"] = min(opened(driver, page) for _ in range(3))
                found["zoom"] = zoomed(driver)
            finally:
                driver.quit()
    print(f"page of {bars:,} bars")
    for what, value in found.items():
        bound, unit = BOUNDS[what]
        print(
            f"{what:<6} {value:8.2f} {unit:<3} bound {bound:g}"
            f" {unit}{'' if value <= bound else '   MISSED'}"
        )
    return all(value <= BOUNDS[what][0] for what, value in found.items())


if __name__ == "__main__":
    sys.exit(main())
