"""What an operator sees and says at another shell: with a session that runs, and from the journal
of one that does not.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from journals import REF, written

from mcl.cli.main import main
from mcl.live import journal_queries
from mcl.live.journal import Draft, Journal
from mcl.live.ops import control_socket
from mcl.live.ops.status_poller import StatusPoller
from mcl.live.status import Mode

from .desks import SmallDesk


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    return tmp_path


@contextmanager
def running(home: Path, desk: SmallDesk) -> Iterator[None]:
    """A session in a thread of its own, as another process would be."""
    up, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def session() -> None:
        folder = control_socket.folder_of(home, "paper")
        with control_socket.alone(folder):
            async with (
                StatusPoller(desk, every_sec=0.01) as watch,
                control_socket.listening(watch, folder),
            ):
                up.set()
                await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(session()))
    thread.start()
    try:
        assert up.wait(60)
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)
        loop.close()


def told(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    assert main(["--json", *args]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_nothing_ever_ran(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "orders", "fills", "why"):
        error = told(capsys, verb, code=1)["error"]
        assert error["message"] == "nothing runs, and no session was ever traded here"
    assert told(capsys, "pause", code=1)["error"]["message"] == "no session is running"
    written(home)
    assert told(capsys, "status", "papr", code=1)["error"]["message"].endswith(
        "did you mean 'paper'?"
    )


def test_a_running_session_answers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(home)
    desk = SmallDesk()
    working = {
        "order_id": 5,
        "permanent_id": 6,
        "ref": REF + "/stop",
        "kind": "STP",
        "quantity": -1,
        "price": 59.66,
        "status": "PreSubmitted",
    }
    desk.set(working=(working,))
    with running(home, desk):
        one = told(capsys, "status", "paper")
        assert (one["running"], one["state"], one["position"]) == (True, "TRADING", 1)
        assert [s["alias"] for s in told(capsys, "status")["sessions"]] == ["paper"]
        assert told(capsys, "orders")["working"] == [working]
        said = told(capsys, "reduce-only", "--because", "news in [10] minutes")
        assert said == {"alias": "paper", "command": "reduce-only", "said": "reduce-only: done"}
        assert main(["status", "paper"]) == 0
        text = capsys.readouterr().out
    assert "news in [10] minutes" in text
    assert "REDUCE_ONLY" in text
    assert desk.now.mode is Mode.REDUCE_ONLY
    assert desk.told[0][1].startswith("mcl reduce-only, ")


def test_a_refusal_of_the_session_is_the_answer(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = SmallDesk()
    with running(home, desk):
        error = told(capsys, "adopt", "--because", "it is ours", code=1)["error"]
        assert error["message"] == "there is nothing to adopt: the session is TRADING"
        assert told(capsys, "kill", "paper")["said"] == "kill: done"
    assert [word for word, _, _ in desk.told] == ["kill"]


def test_watching_follows_until_the_end(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = SmallDesk()
    with running(home, desk):
        timer = threading.Timer(0.3, lambda: desk.set(position=2))
        timer.start()
        states = control_socket.watched(control_socket.folder_of(home, "paper"))
        assert next(states)["position"] == 1
        assert next(s for s in states if s["position"] == 2)["state"] == "TRADING"
        timer.join()
    assert told(capsys, "status", "--watch", code=1)["error"]["message"] == "no session is running"


@pytest.mark.parametrize(
    ("last", "state", "why"),
    [
        (
            (),
            "LOST",
            "the process ended without a word after RUNNING (flat); a new start recovers it",
        ),
        (
            (Draft("state", {"state": "halted", "why": "the position is unknown"}),),
            "HALTED",
            "the position is unknown",
        ),
        (
            (Draft("state", {"state": "ended", "why": "the session's bars ended"}),),
            "STOPPED",
            "the session's bars ended",
        ),
    ],
)
def test_without_a_process_the_last_journal_says_how_it_ended(
    home: Path, capsys: pytest.CaptureFixture[str], last: tuple[Draft, ...], state: str, why: str
) -> None:
    written(home, *last)
    answer = told(capsys, "status", "paper")
    assert (answer["running"], answer["state"], answer["why"]) == (False, state, why)
    assert (answer["position"], answer["target"], answer["bars"], answer["equity_usd"]) == (
        1,
        1,
        3,
        25_002.0,
    )
    assert (answer["counters"], answer["last_bar_close_ns"], answer["last_price"]) == (
        {"orders": 1, "fills": 1},
        3,
        60.05,
    )
    assert answer["equity"] == [[1, 25_000.0], [2, 25_001.0], [3, 25_002.0]]
    assert [d["block"] for d in answer["decisions"]] == ["NONE", "MAX_POSITION", "NONE"]
    assert [f["execution_id"] for f in answer["fills"]] == ["e.1"]
    assert main(["status"]) == 0
    assert "not running" in capsys.readouterr().out


def test_orders_and_fills_from_the_journal_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(home)
    [order] = told(capsys, "orders")["orders"]
    assert (order["ref"], order["quantity"], order["filled"], order["price"]) == (REF, 1, 1, 60.06)
    assert (order["stop_ticks"], order["take_profit_ticks"]) == (40.0, None)
    [fill] = told(capsys, "fills", "paper")["fills"]
    assert (fill["execution_id"], fill["price"]) == ("e.1", 60.06)


def test_why_tells_the_whole_chain(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(home)
    flat, cut, held = (row["sentence"] for row in told(capsys, "why")["decisions"])
    assert flat == "signal 0 × scale 2 = wanted 0 → target 0, which is held"
    assert (
        cut == "signal +1 × scale 2 = wanted +2 → MAX_POSITION (wanted more contracts than"
        f" max_position) → target +1 → order {REF}: bought 1 at 60.06"
    )
    assert held == "signal +1 × scale 2 = wanted +2 → target +1, which is held"
    assert [row["order"] for row in told(capsys, "why", "--trades")["decisions"]] == [REF]
    assert [row["close_time_ns"] for row in told(capsys, "why", "--count", "2")["decisions"]] == [
        2,
        3,
    ]


def test_a_block_is_told_with_its_limit_while_the_version_is_the_sessions(home: Path) -> None:
    path = written(home)
    promoted = home / "conf" / "promoted" / "paper.yaml"
    promoted.parent.mkdir(parents=True)
    head = "# paper: version {} of model mcl, content_sha256 " + "0" * 64 + "\n"
    for version, limit in ((3, "max_position=1"), (4, None)):
        promoted.write_text(head.format(version) + "risk: {limits: {max_position: 1}}\n")
        cut = journal_queries.reasons(path, 2, journal_queries.deployed_limits(home, path))[0]
        assert cut["limit"] == limit
    assert "MAX_POSITION (wanted more contracts than max_position)" in cut["sentence"]


def test_the_newest_journal_is_the_one_that_was_written_to_last(home: Path) -> None:
    path = written(home)
    later = path.with_name("2025-11-12.2.sqlite")
    journal = Journal(later)
    journal.append(Draft("state", {"state": "running", "why": ""}))
    assert journal_queries.last_journal(home, "paper") == later
    journal.close()
