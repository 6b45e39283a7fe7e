"""MLflow's own pages over runs of mcl, in a real Chromium: filter, open, compare, and look at the report inside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcl.engine.result import Result
from mcl.report.run import run_page
from mcl.tracking import Record, Store
from mcl.tracking.filing import EXPERIMENT, NOTE, RUN

from .conftest import view_of
from .test_browser import browser, wait

__all__ = ["browser"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, month: Result) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("project")
    page = run_page(view_of(month)).encode()
    records = [
        Record(
            study="mcl",
            name=f"ema_cross f{fast} s30 · 2024-01..2024-01",
            metrics={"sharpe": fast / 10},
            tags={"mcl.kind": "backtest", NOTE: f"**Beyond luck.** [Report](#/experiments/{EXPERIMENT}/runs/{RUN}/artifacts/report.html)"},
            series={"curve/equity_usd": [(i, 25_000.0 + i * fast) for i in range(20)]},
            files={"report.html": page},
        )
        for fast in (10, 20)
    ]
    return root, Store(root).record_many(records)


@pytest.fixture(scope="module")
def server(runs: tuple[Path, list[str]]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mcl", "ui", "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"MCL_HOME": str(runs[0])}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _answers(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail("mcl ui did not answer")


def shows(driver: Any, url: str, text: str) -> None:
    driver.get("about:blank")
    driver.get(url)
    wait(driver, f"return document.body !== null && document.body.innerText.includes({text!r})", 90)


def test_runs_are_found_described_compared_and_their_report_is_drawn(browser: Any, server: str, runs: tuple[Path, list[str]]) -> None:
    root, ids = runs
    experiment = Store(root).door.client.get_experiment_by_name("mcl").experiment_id
    place = f"{server}/#/experiments/{experiment}"
    shows(browser, f"{place}/runs?searchFilter=metrics.%60result%2Fsharpe%60%20%3E%201.5", "ema_cross f20 s30")
    assert "ema_cross f10 s30" not in browser.execute_script("return document.body.innerText")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1800, "height": 1200, "deviceScaleFactor": 1, "mobile": False})
    shows(browser, f"{place}/runs/{ids[0]}", "Beyond luck.")
    link = browser.execute_script("return [...document.querySelectorAll('a')].find(a => a.textContent === 'Report').getAttribute('href')")
    assert link.endswith(f"/experiments/{experiment}/runs/{ids[0]}/artifacts/report.html")
    both = f"%5B%22{ids[0]}%22,%22{ids[1]}%22%5D"
    shows(browser, f"{server}/#/compare-runs?runs={both}&experiments=%5B%22{experiment}%22%5D", "Comparing 2 Runs")
    shows(browser, f"{place}/runs/{ids[0]}/artifacts/report.html", "report.html")
    wait(browser, "return document.querySelector('iframe') !== null", 60)
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    wait(browser, "return document.documentElement.dataset.drawn === '5'", 60)
    browser.switch_to.default_content()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
