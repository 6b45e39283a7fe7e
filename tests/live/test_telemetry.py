"""Metrics, health and readiness over real HTTP, read by a strict reader of Prometheus' text
format.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base.errors import LiveError
from mcl.config import schema
from mcl.live.ops import metrics
from mcl.live.ops.control_socket import ask, folder_of
from mcl.live.ops.metrics import METRICS, SessionCounters, exposition, fresh
from mcl.live.ops.monitoring import Operations, monitor
from mcl.live.status import State

from .desks import SmallDesk, a_status

LINE = re.compile(
    r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\} (\+Inf|-?[0-9.e+-]+)'
)
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
WHOSE = {"alias": "paper", "version": "3", "account": "DU0000001"}


def parsed(text: str) -> Samples:
    """Every sample once; each below the HELP and TYPE of its own family, families whole and in one
    place.
    """
    assert text.endswith("\n")
    samples: Samples = {}
    family = kind = ""
    seen: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in seen
            seen.append(family)
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == family
            kind = line.split(" ")[3]
        else:
            match = LINE.fullmatch(line)
            assert match, line
            name = match[1]
            assert name in (
                [f"{family}_{end}" for end in ("bucket", "sum", "count")]
                if kind == "histogram"
                else [family]
            )
            key = (name, frozenset(LABEL.findall(match[2])))
            assert key not in samples
            samples[key] = float(match[3])
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset((WHOSE | labels).items())]


def at_the_endpoint(
    desk: SmallDesk, folder: Path, visit: Callable[[int], Any], **settings: Any
) -> Any:
    async def both() -> Any:
        operations = Operations(
            schema.Alerts(log=False), schema.Telemetry(**({"port": 0} | settings))
        )
        async with monitor(desk, folder, operations) as port:
            assert port is not None
            return await asyncio.to_thread(visit, port)

    return asyncio.run(both())


def got(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers["Content-Type"], text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path, "paper")


def test_the_numbers_are_those_of_the_session(folder: Path) -> None:
    desk = SmallDesk()
    desk.set(
        latency_ms=(0.3, 1.5, 30.0, 5_000.0),
        counters={"orders": 4.0, "fills": 3.0, "reconnects": 2.0},
        data_age_sec=4.5,
    )
    desk.set(
        decisions=(
            {"time": 1, "block": "MAX_POSITION"},
            {"time": 2, "block": 0},
            {"time": 3, "block": "MAX_POSITION"},
        )
    )
    desk.alert("STALE_DATA")
    status, kind, text = at_the_endpoint(desk, folder, lambda port: got(port, "/metrics"))
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = parsed(text)
    assert value(samples, "mcl_position_contracts") == 1
    assert value(samples, "mcl_equity_usd") == 25_006.46
    assert value(samples, "mcl_data_age_seconds") == 4.5
    assert [value(samples, "mcl_state", state=s) for s in ("TRADING", "HALTED")] == [1, 0]
    assert (
        value(samples, "mcl_orders_total"),
        value(samples, "mcl_fills_total"),
        value(samples, "mcl_reconnects_total"),
    ) == (4, 3, 2)
    assert value(samples, "mcl_blocks_total", block="MAX_POSITION") == 2
    assert value(samples, "mcl_alerts_total", severity="warning", code="STALE_DATA") == 1
    buckets = {
        le: value(samples, "mcl_order_latency_seconds_bucket", le=le)
        for le in ("0.0005", "0.002", "0.05", "1", "+Inf")
    }
    assert buckets == {"0.0005": 1, "0.002": 2, "0.05": 3, "1": 3, "+Inf": 4}
    assert value(samples, "mcl_order_latency_seconds_count") == 4
    assert value(samples, "mcl_order_latency_seconds_sum") == pytest.approx(5.0318)


def test_what_is_not_known_has_no_sample() -> None:
    unknown = dict.fromkeys(
        (
            "target",
            "last_price",
            "equity_usd",
            "session_pnl_usd",
            "realized_usd",
            "unrealized_usd",
            "data_age_sec",
        )
    )
    names = {name for name, _ in parsed(exposition(SessionCounters(a_status(**unknown))))}
    assert names.isdisjoint(
        {"mcl_target_contracts", "mcl_last_price", "mcl_equity_usd", "mcl_data_age_seconds"}
    )
    assert "mcl_position_contracts" in names


def test_counters_only_grow_though_a_status_shows_the_last_of_many() -> None:
    tally = SessionCounters(a_status())
    for last in range(1, 50):
        shown = tuple(float(n) for n in range(max(0, last - 5), last))
        decisions = tuple({"time": n + 1, "block": "NEWS"} for n in range(max(0, last - 5), last))
        for _ in range(2):
            tally(a_status(latency_ms=shown, decisions=decisions))
    assert sum(tally.latency) == 49
    assert tally.latency_sum_ms == sum(range(49))
    assert tally.blocks["NEWS"] == 49


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 30), st.integers(1, 10))
def test_a_window_that_moves_on_shows_what_is_new(values: list[int], cut: int, size: int) -> None:
    """The new ones always stand at the end; equal neighbours may hide one another, never be counted
    twice.
    """
    before, now = tuple(values[:cut][-size:]), tuple(values[-size:])
    new = fresh(before, now)
    assert now[len(now) - len(new) :] == new
    assert len(new) <= max(0, len(values) - cut)


@given(st.text(max_size=20))
def test_any_text_can_be_a_label(text: str) -> None:
    name = text.replace("\r", "").replace("\x85", "").replace("\u2028", "").replace("\u2029", "")
    name = "".join(c for c in name if c not in "\x0b\x0c\x1c\x1d\x1e")
    samples = parsed(exposition(SessionCounters(a_status(alias=name))))
    escaped = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    assert {dict(labels)["alias"] for _, labels in samples} == {escaped}


def test_health_is_that_it_answers_and_ready_that_it_trades(folder: Path) -> None:
    def visit(port: int) -> list[tuple[int, int]]:
        codes = []
        for state in (State.STARTING, State.TRADING, State.HALTED, State.STOPPED):
            desk.set(state=state)
            codes.append((got(port, "/health")[0], got(port, "/ready")[0]))
        return codes

    desk = SmallDesk()
    assert at_the_endpoint(desk, folder, visit) == [(200, 503), (200, 200), (200, 503), (503, 503)]
    told = json.loads(at_the_endpoint(SmallDesk(), folder, lambda port: got(port, "/ready")[2]))
    assert (told["state"], told["ready"], told["alias"]) == ("TRADING", True, "paper")


def test_nothing_can_be_done_over_http_and_strangers_are_refused(folder: Path) -> None:
    def visit(port: int) -> list[int]:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            nonsense = int(raw.recv(100).split()[1])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n")
            large = int(raw.recv(100).split()[1])
        return [
            got(port, "/metrics", "POST")[0],
            got(port, "/nothing")[0],
            got(port, "/metrics", Host="attacker.example")[0],
            got(port, "/metrics", Host=f"localhost:{port}")[0],
            nonsense,
            large,
        ]

    assert at_the_endpoint(SmallDesk(), folder, visit) == [405, 404, 421, 200, 400, 431]


def test_a_port_that_is_taken_is_a_sentence_before_the_session(folder: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(LiveError, match="cannot be listened on"),
    ):
        at_the_endpoint(SmallDesk(), folder, lambda _: None, port=other.getsockname()[1])


def test_without_an_endpoint_the_session_can_still_be_asked(folder: Path) -> None:
    async def both() -> Any:
        async with monitor(SmallDesk(), folder, Operations()) as port:
            assert port is None
            return await asyncio.to_thread(ask, folder, {"do": "status"})

    assert asyncio.run(both())["status"]["state"] == "TRADING"


def test_the_document_is_made_from_the_code() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
    assert path.read_text(encoding="utf-8") == metrics.document(), (
        "write it again: python -m mcl.live.ops.metrics > docs/metrics.md"
    )
    assert len({m.name for m in METRICS}) == len(METRICS)
