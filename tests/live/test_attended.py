"""A real session on the embedded server, asked and told from outside while it trades."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from deployments import Project

from mcl.config import schema
from mcl.live import journal_queries
from mcl.live.audit.record import AuditedSession
from mcl.live.ops import control_socket
from mcl.live.ops.monitoring import Operations
from mcl.live.session import run_session

Deploy = Callable[..., Project]


def in_the_background(desk: Project, speed: float) -> tuple[threading.Thread, list[AuditedSession]]:
    done: list[AuditedSession] = []
    broker = schema.BrokerConfig.model_validate({"replay": {"speed": speed}})
    operations = Operations(telemetry=schema.Telemetry(port=0))

    def trade() -> None:
        done.append(run_session("paper", broker, operations, project=desk, progress=False))

    thread = threading.Thread(target=trade, daemon=True)
    thread.start()
    return thread, done


def when(states: Any, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return next(state for state in states if reached(state))


def test_a_trading_session_answers_and_obeys(deploy: Deploy) -> None:
    desk = deploy(interval="15m", strategy={"name": "random", "hold_sec": 1800, "seed": 4})
    folder = control_socket.folder_of(desk.root, "paper")
    thread, done = in_the_background(desk, speed=40.0)
    deadline = time.monotonic() + 60
    while (
        control_socket.running(desk.root) != ["paper"]
        or not (folder / control_socket.NAME).exists()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    states = control_socket.watched(folder)
    trading = when(states, lambda s: s["state"] == "TRADING" and s["bars"] >= 5)
    assert (trading["alias"], trading["connected"], trading["mode"]) == ("paper", True, "NORMAL")
    said = control_socket.ask(folder, {"do": "pause", "who": "a test", "why": "lunch"})["said"]
    assert said.startswith("PAUSED")
    paused = when(states, lambda s: s["mode"] == "PAUSED")
    later = when(states, lambda s: s["bars"] >= paused["bars"] + 20)
    assert later["counters"].get("orders", 0) == paused["counters"].get("orders", 0)
    control_socket.ask(folder, {"do": "resume", "who": "a test", "why": "back"})
    when(states, lambda s: s["mode"] == "NORMAL")
    assert control_socket.ask(folder, {"do": "stop", "who": "a test", "why": "enough"})[
        "said"
    ].startswith("STOPPED")
    thread.join(60)
    assert control_socket.running(desk.root) == []
    last = journal_queries.last_status(journal_queries.last_journal(desk.root, "paper"))
    assert (last["state"], last["running"]) == ("STOPPED", False)
    rows = journal_queries.reasons(journal_queries.last_journal(desk.root, "paper"), 500)
    assert any(row["held_back"] == "paused" for row in rows)
    assert all(row["wanted"] is not None for row in rows)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {line["alias"] for line in lines} == {"paper"}
    assert any(line["event"] == "telemetry" for line in lines)
    [session] = done
    found = session.differences
    assert set(found["cause"]) == {"risk block"}, found.to_dict("records")
    assert found["detail"].str.startswith("paused by a test, ").any()
    assert session.facts["unexplained"] == 0


def test_a_second_session_of_an_alias_is_refused_while_the_first_runs(deploy: Deploy) -> None:
    from mcl.base.errors import LiveError

    desk = deploy(interval="15m")
    with (
        control_socket.alone(control_socket.folder_of(desk.root, "paper")),
        pytest.raises(LiveError, match="a session of 'paper' already runs"),
    ):
        run_session("paper", schema.BrokerConfig(), project=desk, progress=False)
