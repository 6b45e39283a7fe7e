"""Progress of long work: on standard error, in its own time, and never where nobody asked."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from mcl import screen

LONG = """
import sys
from mcl import screen
screen.configure(as_json="json" in sys.argv, verbose=False, quiet="quiet" in sys.argv)
screen.LATE_SEC, screen.LINE_EVERY_SEC = (60.0 if "soon" in sys.argv else 0.0), 0.05
with screen.Work("reading the data") as work:
    sys.stdin.readline()  # as long as the test wants it to last
    step = work.begin("cutting", 4)
    step()
    sys.stdin.readline()
print("answer")
"""


def started(stderr: int) -> subprocess.Popen[bytes]:
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    return subprocess.Popen([sys.executable, "-c", LONG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env)


def go_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[bytes]) -> None:
    """By itself, and standard output holds the answer alone."""
    assert process.communicate(timeout=60)[0] == b"answer\n"
    assert process.returncode == 0


@pytest.mark.parametrize("how", ["soon", "json", "quiet"])
def test_short_work_and_work_that_nobody_watches_say_nothing(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", LONG, how], input="\n\n", capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("answer\n", "")


def test_without_a_terminal_there_are_plain_lines_with_the_time_left() -> None:
    with started(subprocess.PIPE) as process:
        assert process.stderr is not None
        for wanted in (rb"reading the data: \d+ s\n", rb"cutting: 1 of 4, \d+ s left\n"):
            while not re.fullmatch(wanted, line := process.stderr.readline()):
                assert re.fullmatch(rb"[a-z ]+: [\w ,]+\n", line)  # no colour, no bar
            go_on(process)
        ended(process)


def test_a_terminal_gets_bars_and_the_answer_stays_apart() -> None:
    leader, follower = pty.openpty()
    with started(follower) as process:
        os.close(follower)
        for wanted in (b"reading the data", b"1/4"):
            shown = b""
            while wanted not in shown:
                shown += os.read(leader, 4096)
            go_on(process)
        ended(process)
    os.close(leader)


def test_work_that_fails_ends_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(screen._state, "json", False)
    monkeypatch.setitem(screen._state, "quiet", False)

    def fails() -> None:
        with screen.Work("x") as work:
            begun: list[Callable[[], None]] = [work.begin("y", 1)]
            begun[0]()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
