"""The control socket, real sockets and real processes: who may speak, what is answered, and what a
kill leaves behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcl.base.errors import LiveError
from mcl.live.ops import control_socket
from mcl.live.ops.status_poller import StatusPoller
from mcl.live.status import Command, Mode, State

from .desks import SmallDesk

Visit = Callable[[Path], Any]


def at_a_desk(folder: Path, visit: Visit, desk: SmallDesk | None = None) -> Any:
    """Run the blocking `visit` in a thread beside a session."""

    async def both() -> Any:
        with control_socket.alone(folder):
            async with (
                StatusPoller(desk or SmallDesk()) as watch,
                control_socket.listening(watch, folder),
            ):
                return await asyncio.to_thread(visit, folder)

    return asyncio.run(both())


def raw(folder: Path, sent: bytes) -> dict[str, Any]:
    import socket

    with socket.socket(socket.AF_UNIX) as connection, control_socket._address(folder) as address:
        connection.settimeout(5)
        connection.connect(address)
        connection.sendall(sent)
        with connection.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
            return answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "live" / "paper"


def test_status_over_the_socket_is_the_desks(folder: Path) -> None:
    said = at_a_desk(folder, lambda f: control_socket.ask(f, {"do": "status"}))["status"]
    assert (said["state"], said["mode"], said["position"], said["session_pnl_usd"]) == (
        "TRADING",
        "NORMAL",
        1,
        6.46,
    )
    assert said["latency"]["count"] == 0


def test_a_command_reaches_the_desk_with_who_and_why(folder: Path) -> None:
    desk = SmallDesk()
    answer = at_a_desk(
        folder,
        lambda f: control_socket.ask(f, {"do": "pause", "who": "mcl pause", "why": "EIA [10:30]"}),
        desk,
    )
    assert answer["said"] == "pause: done"
    [(word, who, why)] = desk.told
    assert (word, why) == ("pause", "EIA [10:30]")
    assert who.startswith("mcl pause, ")
    assert f"process {os.getpid()}" in who
    assert desk.now.mode is Mode.PAUSED


def test_who_says_stop_is_told_though_the_session_ends_at_once(folder: Path) -> None:
    """The answer is there in the very turn of the loop in which the session begins to leave."""

    class Leaving(SmallDesk):
        async def command(self, word: Command, who: str, why: str) -> str:
            left.set()
            for _ in range(20):
                await asyncio.sleep(0)
            return await super().command(word, who, why)

    left = asyncio.Event()

    async def session() -> dict[str, Any]:
        with control_socket.alone(folder):
            async with StatusPoller(Leaving()) as watch, control_socket.listening(watch, folder):
                asked = asyncio.create_task(
                    asyncio.to_thread(control_socket.ask, folder, {"do": "stop"})
                )
                await left.wait()
        return await asked

    assert asyncio.run(session())["said"] == "stop: done"


def test_a_refusal_keeps_its_sentence_and_hint(folder: Path) -> None:
    with pytest.raises(LiveError, match="nothing to adopt: the session is TRADING") as refused:
        at_a_desk(folder, lambda f: control_socket.ask(f, {"do": "adopt"}))
    assert refused.value.hint == "mcl status"


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"hello\n", 'a request is one JSON object with "do"'),
        (b"[1]\n", 'a request is one JSON object with "do"'),
        (b'{"do": "flaten"}\n', "a session cannot 'flaten': did you mean 'flatten'?"),
        (
            b'{"do": "status", "x": "' + b"y" * control_socket.LIMIT + b'"}\n',
            "a request is one line of at most 65536 bytes",
        ),
    ],
)
def test_what_is_no_request_is_answered_with_a_sentence(
    folder: Path, sent: bytes, sentence: str
) -> None:
    answer = at_a_desk(folder, lambda f: raw(f, sent))
    assert (answer["ok"], answer["error"]["message"]) == (False, sentence)


def test_a_bad_visitor_does_not_disturb_the_next(folder: Path) -> None:
    def visit(f: Path) -> Any:
        raw(f, b"x" * (control_socket.LIMIT * 2) + b"\n")
        return control_socket.ask(f, {"do": "status"})

    assert at_a_desk(folder, visit)["ok"]


def test_the_socket_is_its_owners_alone_and_gone_afterwards(folder: Path) -> None:
    mode = at_a_desk(folder, lambda f: stat.S_IMODE((f / control_socket.NAME).stat().st_mode))
    assert mode == 0o600
    assert not (folder / control_socket.NAME).exists()


def test_a_deep_folder_has_a_socket_too(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20) / "paper"
    assert at_a_desk(folder, lambda f: control_socket.ask(f, {"do": "status"}))["ok"]


def test_one_session_per_alias(folder: Path) -> None:
    def second(f: Path) -> None:
        with control_socket.alone(f):
            pytest.fail("two sessions hold one alias")

    with pytest.raises(
        LiveError, match=rf"a session of 'paper' already runs \(process {os.getpid()}\)"
    ):
        at_a_desk(folder, second)


def test_nobody_there_is_a_sentence(folder: Path) -> None:
    with pytest.raises(LiveError, match="no session of 'paper' is running"):
        control_socket.ask(folder, {"do": "status"})


def test_changes_are_streamed_and_the_end_is_told(folder: Path) -> None:
    async def both() -> list[tuple[str, int]]:
        desk, seen = SmallDesk(), list[tuple[str, int]]()

        def follow() -> None:
            for state in control_socket.watched(folder):
                seen.append((state["state"], state["position"]))

        async with (
            StatusPoller(desk, every_sec=0.01) as watch,
            control_socket.listening(watch, folder),
        ):
            follower = asyncio.create_task(asyncio.to_thread(follow))
            await until(lambda: bool(seen))
            desk.set(position=2)
            await until(lambda: seen[-1] == ("TRADING", 2))
            desk.set(state=State.DEGRADED)
            await until(lambda: seen[-1] == ("DEGRADED", 2))
        with pytest.raises(LiveError, match="the session of 'paper' ended"):
            await follower
        return seen

    seen = asyncio.run(both())
    assert seen[0] == ("TRADING", 1)
    assert list(dict.fromkeys(seen)) == [("TRADING", 1), ("TRADING", 2), ("DEGRADED", 2)]


async def until(reached: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not reached():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), 60)


SESSION = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from live.desks import SmallDesk
from mcl.live.ops import control_socket as control
from mcl.live.ops.status_poller import StatusPoller

async def main(folder):
    with control.alone(folder):
        async with StatusPoller(SmallDesk()) as watch, control.listening(watch, folder):
            print("up", flush=True)
            await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_what_a_killed_session_leaves_behind_is_no_session(tmp_path: Path) -> None:
    """SIGKILL: socket and lock file stay, nobody answers, and the next session takes the place."""
    folder = tmp_path / "live" / "paper"
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(SESSION),
        str(folder),
        str(Path(__file__).parents[1]),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert control_socket.running(tmp_path) == ["paper"]
        assert control_socket.ask(folder, {"do": "status"})["ok"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / control_socket.NAME).exists()
    assert control_socket.running(tmp_path) == []
    with pytest.raises(LiveError, match="no session of 'paper' is running"):
        control_socket.ask(folder, {"do": "status"})
    assert at_a_desk(folder, lambda f: control_socket.ask(f, {"do": "status"}))["ok"]
