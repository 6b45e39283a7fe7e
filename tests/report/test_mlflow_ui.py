"""MLflow's own pages over runs of mcl, in a real Chromium: filter, open, compare, and look at the
report inside.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium

from mcl.engine.result import Result
from mcl.report.run import run_page
from mcl.tracking.naming import EXPERIMENT, MODEL_VIEW, NOTE, RUN
from mcl.tracking.store import Record, Store
from mcl.tracking.urls import run_address, study_address, version
from mcl.tracking.urls import server as links_server

from .conftest import view_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, month: Result) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("project")
    page = run_page(view_of(month)).encode()
    records = [
        Record(
            study="mcl",
            name=f"ema_cross f{fast} s30 · 2024-01..2024-01",
            metrics={"sharpe": fast / 10, "trades": 7.0},
            tags={
                "mcl.kind": "backtest",
                NOTE: (
                    "**Beyond luck.**"
                    f" [Report](#/experiments/{EXPERIMENT}/runs/{RUN}/artifacts/report.html"
                    f"?{MODEL_VIEW})"
                ),
            },
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
    process = subprocess.Popen(
        command,
        env=os.environ | {"MCL_HOME": str(runs[0])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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


def shows(browser: Chromium, url: str, text: str) -> None:
    browser.open(url)
    browser.wait(
        f"return document.body !== null && document.body.innerText.includes({text!r})", 120
    )


def pressed(text: str) -> str:
    """A script that presses the button with this text, once there is one that can be pressed."""
    found = (
        f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() === {text!r} &&"
        " !b.disabled)"
    )
    return f"const button = {found}; if (button) button.click(); return button !== undefined"


def test_runs_are_found_described_compared_and_their_report_is_drawn(
    browser: Chromium, server: str, runs: tuple[Path, list[str]]
) -> None:
    root, ids = runs
    study = Store(root).connection.client.get_experiment_by_name("mcl")
    assert study is not None
    experiment = study.experiment_id
    place = f"{server}/#/experiments/{experiment}"
    with browser.seen_at(1800, height=1200):
        # the address that mcl ui prints: no page for language models, the columns that help
        shows(browser, study_address(experiment, server), "trades")
        browser.wait("return document.body.innerText.includes('Model registry')")
        assert "Prompts" not in browser.run("return document.body.innerText")
        browser.keep("mlflow-runs")
        shows(
            browser,
            f"{place}/runs?searchFilter=metrics.sharpe%20%3E%201.5",
            "ema_cross f20 s30",
        )
        assert "ema_cross f10 s30" not in browser.run("return document.body.innerText")

        shows(
            browser,
            f"{place}/runs?searchFilter=metrics.sharpe%20%3E%200",
            "ema_cross f10 s30",
        )
        for row in range(2):
            box = f"document.querySelectorAll('input[aria-label*=\"toggle row selection\"]')[{row}]"
            browser.wait(
                f"const box = {box}; if (box && !box.checked) box.click(); return box &&"
                " box.checked"
            )
        browser.wait(pressed("Compare"))
        browser.wait("return document.body.innerText.includes('Comparing 2 Runs')")
        assert all(run_id in browser.driver.current_url for run_id in ids)
        browser.keep("mlflow-compare")

        # the link of the pages
        address = run_address(ids[0], experiment).removeprefix(links_server())
        shows(browser, f"{server}{address}", "Beyond luck.")
        browser.wait("return document.body.innerText.includes('Model registry')")
        assert "Prompts" not in browser.run("return document.body.innerText")
        link = browser.run(
            "return [...document.querySelectorAll('a')].find(a => a.textContent ==="
            " 'Report').getAttribute('href')"
        )
        assert link.endswith(
            f"/experiments/{experiment}/runs/{ids[0]}/artifacts/report.html?{MODEL_VIEW}"
        )
        browser.keep("mlflow-run")
        shows(browser, f"{place}/runs/{ids[0]}/artifacts/report.html", "report.html")
        browser.wait("return document.querySelector('iframe') !== null")
        browser.driver.switch_to.frame(browser.driver.find_element("css selector", "iframe"))
        browser.wait("return document.documentElement.dataset.drawn > 0")
        browser.driver.switch_to.default_content()

        # from the run to its version, and back
        Store(root).register("mcl", ids[0], {"config.yaml": b"a: 1\n"}, {"stage": "paper"})
        shows(
            browser, f"{server}{version('mcl', 1).href.removeprefix(links_server())}", "Version 1"
        )
        browser.keep("mlflow-version")
        link = f"[...document.querySelectorAll('a')].find(a => a.href.includes('{ids[0]}'))"
        browser.wait(f"const link = {link}; if (link) link.click(); return link !== undefined")
        browser.wait("return document.body.innerText.includes('Beyond luck.')")
