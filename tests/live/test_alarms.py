"""An alarm on its way: the real Alertmanager with the stack's configuration, the relay of the
stack, an address on loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from servers import free_port

from .receivers import Hook, hook

ROOT = Path(__file__).resolve().parents[2]
HALTED = {
    "labels": {"alertname": "SessionHalted", "severity": "critical", "alias": "paper"},
    "annotations": {
        "summary": "paper halted: something is unknown",
        "action": "mcl status paper; then mcl adopt or mcl flatten",
    },
}


@contextmanager
def running(*words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        words,
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def relay(**addresses: str) -> Iterator[int]:
    """The program of the service `alarms`; its port."""
    words = (sys.executable, str(ROOT / "docker/scripts/mcl-relay-alarms"), "127.0.0.1:0")
    with running(*words, env={"MCL_ALERT_URLS": "", "MCL_WEBHOOK_URL": "", **addresses}) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("alarms on 127.0.0.1:"), line + process.stdout.read()
        yield int(line.split(":")[1].split()[0])


def post(url: str, body: Any) -> int:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def port_of(receiver: Hook) -> int:
    return int(receiver.url.split(":")[2].split("/")[0])


def bodies(receiver: Hook) -> list[dict[str, Any]]:
    return [body for _, body in receiver.got]


def until(holds: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def group(status: str = "firing") -> dict[str, Any]:
    alarm = HALTED | {"status": status, "startsAt": "2026-01-15T15:00:00Z", "fingerprint": "5ec0"}
    return {"groupKey": "halted", "alerts": [alarm]}


def test_a_real_alertmanager_reaches_a_service_through_the_stack_s_own_configuration(
    tmp_path: Path,
) -> None:
    manager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if manager is None:
        pytest.skip("alertmanager is not installed")
    with ExitStack() as stack:
        service = stack.enter_context(hook())
        port = stack.enter_context(
            relay(MCL_ALERT_URLS=f"json://127.0.0.1:{port_of(service)}/alarms")
        )
        text = (ROOT / "docker/prometheus/alertmanager.yaml").read_text()
        assert "http://127.0.0.1:9095/" in text
        config = tmp_path / "alertmanager.yaml"
        config.write_text(
            text.replace("127.0.0.1:9095", f"127.0.0.1:{port}").replace(
                "group_wait: 5s", "group_wait: 0s"
            )
        )
        own = f"http://127.0.0.1:{free_port()}"
        words = (
            f"--config.file={config}",
            f"--storage.path={tmp_path}",
            f"--web.listen-address={own[7:]}",
            "--cluster.listen-address=",
        )
        stack.enter_context(running(manager, *words))
        until(lambda: _ready(f"{own}/-/ready"))
        assert (
            post(
                f"{own}/api/v2/alerts",
                [HALTED | {"startsAt": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}],
            )
            == 200
        )
        until(lambda: service.got)
    [body] = bodies(service)
    assert body["title"] == "[mcl paper] critical: SessionHalted"
    assert (
        body["message"]
        == "paper halted: something is unknown. mcl status paper; then mcl adopt or mcl flatten"
    )
    assert body["type"] == "failure"


def _ready(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


def test_an_address_that_is_down_gets_it_later_and_the_others_get_it_once() -> None:
    with hook() as good, hook(503, 200) as weak:
        addresses = f"json://127.0.0.1:{port_of(good)}/ json://127.0.0.1:{port_of(weak)}/"
        with relay(MCL_ALERT_URLS=addresses) as port:
            url = f"http://127.0.0.1:{port}/"
            assert post(url, group()) == 503  # Alertmanager posts again
            assert post(url, group()) == 200
            assert (len(bodies(good)), len(bodies(weak))) == (1, 2)
            assert post(url, group()) == 200  # hours later
            assert (len(bodies(good)), len(bodies(weak))) == (2, 3)


def test_the_webhook_gets_the_words_of_the_session_s_alerts_and_hears_that_it_is_over() -> None:
    with hook() as service, relay(MCL_WEBHOOK_URL=f"http://127.0.0.1:{port_of(service)}/") as port:
        for status in ("firing", "resolved"):
            assert post(f"http://127.0.0.1:{port}/", group(status)) == 200
        assert post(f"http://127.0.0.1:{port}/", "no object") == 400
    first, second = bodies(service)
    assert (first["severity"], first["code"], first["alias"]) == (
        "critical",
        "SessionHalted",
        "paper",
    )
    assert first["text"].startswith("[mcl paper] critical: SessionHalted: paper halted")
    assert (second["severity"], second["sentence"]) == (
        "info",
        "over: paper halted: something is unknown",
    )


def test_without_an_address_an_alarm_is_a_line_of_the_log() -> None:
    with relay() as port:
        assert post(f"http://127.0.0.1:{port}/", group()) == 200
