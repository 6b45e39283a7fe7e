"""What the page about the simulated TWS shows is done here, against a server that was started as it
says.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcl.cli.main import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "simulated-tws.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
SERVE, _, LOOK = re.findall(r"^```sh elsewhere\n(.*?)^```", PAGE, re.M | re.S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_commands_and_programs_of_the_page_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    connect, fault, test = PROGRAMS
    ports = {"7499": str(free_port()), "7500": str(free_port())}

    def here(text: str) -> str:
        return re.sub("7499|7500", lambda found: ports[found[0]], text)

    def program(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", here(text)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = shlex.split(here(SERVE))
    server = subprocess.Popen(
        [sys.executable, "-m", "mcl", *words[1:]],
        env=os.environ | {"MCL_LOG": "json"},
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "data" / "tws").glob("*.json")):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        said = program(connect).split()
        assert int(said[0]) > 200
        assert said[1] == "Filled"
        answers = program(fault).splitlines()
        assert "'fault'" not in answers[0]
        assert "'faults_pending': ['cut'" in answers[-1]
        for line in LOOK.splitlines():
            assert main(shlex.split(here(line), comments=True)[1:]) == 0
        shown = capsys.readouterr().out
        assert "MCLJ6" in shown
        assert "openOrder" in shown
    finally:
        server.send_signal(signal.SIGINT)
        _, logged = server.communicate(timeout=60)
    events = [json.loads(line)["event"] for line in logged.splitlines() if line.startswith(b"{")]
    assert {"tws_listening", "tws_client_connected", "tws_fill", "tws_client_gone"} <= set(events)
    program(test)
