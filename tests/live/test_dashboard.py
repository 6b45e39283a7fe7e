"""The dashboard over real HTTP: what it shows of a running and of a finished session, and that
nobody commands without the token.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from journals import written

from mcl.base.errors import LiveError
from mcl.engine.account import FLAT
from mcl.engine.legs import NO_LEG, Leg, Legs
from mcl.live import journal_queries
from mcl.live.journal import Draft
from mcl.live.ops import http as http_server
from mcl.live.ops.dashboard import Dashboard, open_dashboard
from mcl.live.ops.http import MOST_STREAMS
from mcl.live.status import State, levels_of
from mcl.report.dashboard import dashboard_page
from mcl.tracking.project import Project

from .desks import SmallDesk
from .test_operate import running

TOKEN = "a-token-of-some-length"
JSON = {"Content-Type": "application/json"}
Answer = tuple[int, dict[str, Any]]


def visited(home: Path, visit: Callable[[int], Any], token: str = "") -> Any:
    async def both() -> Any:
        async with open_dashboard(Dashboard(Project.at(home), "paper", token), 0) as address:
            return await asyncio.to_thread(visit, urlsplit(address).port or 0)

    return asyncio.run(both())


def asked(
    port: int,
    path: str,
    method: str = "GET",
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body), headers or {})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    return answer.status, json.loads(told)


@contextmanager
def events(port: int, name: str = "paper") -> Iterator[Iterator[dict[str, Any]]]:
    """The statuses that are told, one by one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/events?name={name}")
    lines = connection.getresponse()
    yield (
        json.loads(line[6:])["status"]
        for line in lines
        if line.startswith(b"data: {") and line != b"data: {}\n"
    )
    connection.close()


def test_the_page_is_whole_and_allows_nothing_but_itself() -> None:
    page = dashboard_page("<paper>")
    assert "<paper>" not in page.html
    assert "http" not in page.html.replace("http://www.w3.org/2000/svg", "")
    assert page.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(page.html) < 60_000


def test_a_finished_session_is_shown_until_the_next_one_runs(tmp_path: Path) -> None:
    written(tmp_path)

    def visit(port: int) -> list[tuple[Any, str]]:
        with events(port) as told:
            seen = [next(told)]
            desk = SmallDesk()
            with running(tmp_path, desk):
                seen.append(next(told))
                desk.set(state=State.DEGRADED)
                seen.append(next(s for s in told if s["state"] == "DEGRADED"))
            seen.append(next(s for s in told if s.get("running") is False))
        return [(s.get("running", True), s["state"]) for s in seen]

    assert visited(tmp_path, visit) == [
        (False, "LOST"),
        (True, "TRADING"),
        (True, "DEGRADED"),
        (False, "LOST"),
    ]


def test_a_stopped_session_keeps_its_prices_and_the_levels_of_its_position(tmp_path: Path) -> None:
    holding = {"position": 1, "entry_ticks": 6006.0, "stop_at": 5966.0, "take_profit_at": None}
    decision = {"position": 1, "target": 1, "equity_usd": 25_000.0, "ledger": {"holding": holding}}
    bar = {"open": 60.0, "high": 60.3, "low": 60.0, "close": 60.2, "volume": 3, "close_time": 4}
    path = written(tmp_path, Draft("bar", bar, "4"), Draft("decision", decision, "4"))
    status = journal_queries.last_status(path)
    assert status["prices"] == [(1, 60.05), (2, 60.05), (3, 60.05), (4, 60.2)]
    assert status["levels"] == {"entry": 60.06, "stop": 59.66}
    assert status["max_daily_loss_usd"] is None
    legs = Legs(
        stops=(Leg(level=5966.0, distance=math.nan), Leg(level=5980.0, distance=40.0)),
        take_profits=(NO_LEG,),
    )
    held = FLAT._replace(position=1, entry_ticks=6006.0, legs=legs)
    assert levels_of(held, 0.01) == {"entry": 60.06, "stop": 59.8}  # the nearest
    assert levels_of(held._replace(position=-1), 0.01)["stop"] == 59.66
    assert levels_of(held._replace(position=0), 0.01) == {}


def test_a_name_that_never_traded_is_not_found(tmp_path: Path) -> None:
    written(tmp_path)
    assert visited(tmp_path, lambda port: asked(port, "/events?name=other")) == (
        404,
        {"error": "nothing is called 'other'"},
    )
    assert visited(tmp_path, lambda port: asked(port, "/nothing"))[0] == 404


def act(port: int, word: str = "pause", token: str = TOKEN, **headers: str) -> Answer:
    wish = {"name": "paper", "word": word, "because": "a test"}
    return asked(port, "/act", "POST", wish, JSON | {"Authorization": f"Bearer {token}"} | headers)


def test_with_its_token_the_page_commands(tmp_path: Path) -> None:
    desk = SmallDesk()

    def visit(port: int) -> list[Any]:
        may = asked(port, "/may", headers={"Authorization": f"Bearer {TOKEN}"})[1]["may"]
        return [
            may,
            act(port),
            act(port, Origin=f"http://127.0.0.1:{port}"),
            act(port, "adopt"),
            act(port, "kill"),
        ]

    with running(tmp_path, desk):
        may, plain, own, adopt, kill = visited(tmp_path, visit, TOKEN)
    assert (may, plain, own) == (
        True,
        (200, {"said": "pause: done"}),
        (200, {"said": "pause: done"}),
    )
    assert (adopt[0], kill[0]) == (400, 400)
    assert [(word, why) for word, _, why in desk.told] == [("pause", "a test")] * 2
    assert desk.told[0][1].startswith("mcl dashboard, ")


def test_nobody_else_commands(tmp_path: Path) -> None:
    desk = SmallDesk()

    def visit(port: int) -> list[int]:
        # what a form of another page could send
        simple = {"Content-Type": "text/plain", "Authorization": f"Bearer {TOKEN}"}
        wish = {"name": "paper", "word": "flatten"}
        return [
            act(port, token="wrong-token-of-some-length")[0],
            asked(port, "/act", "POST", wish, JSON)[0],
            asked(port, "/act", "POST", wish, simple)[0],
            act(port, Origin="http://attacker.example")[0],
            asked(port, f"/act?token={TOKEN}&word=flatten&name=paper")[0],
            asked(port, "/", "POST", {})[0],
        ]

    with running(tmp_path, desk):
        assert visited(tmp_path, visit, TOKEN) == [403, 403, 403, 403, 403, 405]
        # a dashboard without a token
        assert visited(tmp_path, lambda port: act(port, token="")[0]) == 403
    assert desk.told == []


def test_a_command_to_a_session_that_is_over_is_answered(tmp_path: Path) -> None:
    written(tmp_path)
    status, told = visited(tmp_path, act, TOKEN)
    assert (status, told["error"]) == (409, "no session of 'paper' is running")


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LiveError, match="a token of 5 characters can be guessed; use at least 16"):
        visited(tmp_path, lambda _: None, "short")


def test_open_streams_lock_nobody_out(tmp_path: Path) -> None:
    """More streams than there are places: all pages are still answered, and a stream that ends
    makes room for another.
    """

    def visit(port: int) -> tuple[list[int], list[int], int]:
        opened = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for _ in range(MOST_STREAMS + 2)
        ]
        for connection in opened:
            connection.request("GET", "/events?name=paper")
        streams = [connection.getresponse() for connection in opened]
        pages = [asked(port, "/may")[0] for _ in range(5)]
        statuses = [stream.status for stream in streams]
        for stream in streams:
            stream.close()
        for _ in range(200):
            with events(port) as told:
                if next(told, None) is not None:
                    return statuses, pages, 200
            time.sleep(0.1)
        return statuses, pages, 503

    statuses, pages, again = visited(tmp_path, visit)
    assert sorted(statuses) == [200] * MOST_STREAMS + [503] * 2
    assert pages == [200] * 5
    assert again == 200


def test_who_does_not_read_an_answer_does_not_keep_a_place_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "PATIENCE_SEC", 0.5)

    async def answer(_: http_server.HttpRequest) -> http_server.HttpReply:
        return http_server.HttpReply(bytes(50_000_000))

    async def deaf() -> bytes:
        async with http_server.serving(answer, "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asyncio.sleep(3)  # nothing is read meanwhile but what the buffers take
            try:
                return await reader.read(-1)
            finally:
                writer.close()

    with suppress(ConnectionError):  # it was cut off
        assert len(asyncio.run(deaf())) < 50_000_000
