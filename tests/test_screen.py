"""Progress of long work: on standard error, in its own time, and never where nobody asked."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcl import screen

LONG = """
import sys, time
from mcl import screen
screen.configure(as_json="json" in sys.argv, verbose=False, quiet="quiet" in sys.argv)
screen.LATE_SEC, screen.LINE_EVERY_SEC = (60.0 if "soon" in sys.argv else 0.0), 0.05
with screen.Work("reading the data") as work:
    if "soon" not in sys.argv:
        time.sleep(0.3)
    step = work.begin("cutting", 4)
    step()
    while not sys.stdin.readline():
        pass
print("answer")
"""


def ran(*how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LONG, *how], input="go\n", capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.parametrize("how", ["soon", "json", "quiet"])
def test_short_work_and_work_that_nobody_watches_say_nothing(how: str) -> None:
    done = ran(how)
    assert (done.stdout, done.stderr) == ("answer\n", "")


def test_without_a_terminal_there_are_plain_lines_with_the_time_left() -> None:
    program = LONG.replace("while not sys.stdin.readline():\n        pass", "time.sleep(0.5)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "answer\n"
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"reading the data: \d+ s", lines[0])
    assert re.fullmatch(r"cutting: 1 of 4, \d+ s left", lines[-1])
    assert "\x1b" not in done.stderr


def test_a_terminal_gets_bars_that_go_away_and_the_answer_stays_apart(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", LONG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=follower, env=env)
    os.close(follower)
    shown = b""
    assert process.stdin is not None
    while b"cutting" not in shown or b"1/4" not in shown:
        shown += os.read(leader, 4096)
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.stdout is not None
    assert process.stdout.read() == b"answer\n"
    process.stdout.close()
    assert process.wait(60) == 0
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
