"""Progress of long work: on standard error, in its own time, with the time left, and never where
nobody asked.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base import duration_history, progress, terminal
from mcl.cli import main

LONG = """
import sys
from pathlib import Path
from mcl.base import terminal as screen, progress as steps
screen.configure(as_json="json" in sys.argv, verbose=False, quiet="quiet" in sys.argv)
screen.START_SEC = 0.0
screen.LATE_SEC, screen.LINE_EVERY_SEC = (60.0 if "soon" in sys.argv else 0.0), 0.05
with screen.Work(["verb"], Path(sys.argv[1])):
    sys.stdin.readline()  # as long as the test wants it to last
    tick = steps.begin("cutting", 4)
    tick()
    sys.stdin.readline()
    for _ in range(3):
        tick()
    steps.begin("sewing")
    sys.stdin.readline()
    screen.answer({}, lambda: print("answer"))
    sys.stdin.readline()
"""
LINES = 4  # of standard input
COLOUR = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


def started(memory: Path, stderr: int, *how: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    command = [sys.executable, "-c", LONG, str(memory), *how]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env
    )


def go_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[bytes]) -> None:
    """By itself, and standard output holds the answer alone."""
    assert process.communicate(timeout=60)[0] == b"answer\n"
    assert process.returncode == 0


@pytest.mark.parametrize("how", ["soon", "json", "quiet"])
def test_short_work_and_work_that_nobody_watches_say_nothing(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", LONG, str(tmp_path / "memory.json"), how]
    done = subprocess.run(
        command, input="\n" * LINES, capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (
        {"soon": "answer\n", "json": "{}\n", "quiet": ""}[how],
        "",
    )


def test_without_a_terminal_there_are_plain_lines_with_the_time_left(tmp_path: Path) -> None:
    with started(tmp_path / "memory.json", subprocess.PIPE) as process:
        assert process.stderr is not None
        unknown = (
            rb"starting: \d+ s, time left unknown\n",
            rb"cutting: 1 of 4, \d+ s left in this step\n",
            rb"sewing: \d+ s, time left unknown\n",
        )
        for wanted in unknown:
            while not re.fullmatch(wanted, line := process.stderr.readline()):
                assert re.fullmatch(rb"[a-z]+: [\w ,]+\n", line)  # no colour, no bar
            go_on(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"answer\n"
        go_on(process)
        said, told = process.communicate(timeout=60)
        assert said == b""
        assert all(line.startswith(b"sewing: ") for line in told.splitlines())


def test_what_was_done_before_has_a_time_left_from_its_first_line(tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    duration_history.remember(
        memory, ["verb"], [("starting", 100.0), ("cutting", 60.0), ("sewing", 40.0)]
    )
    with started(memory, subprocess.PIPE) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert re.fullmatch(rb"starting: \d+ s, about 3 min \d+ s left\n", line), line
        process.stdin.write(b"\n" * LINES)  # type: ignore[union-attr]
        ended(process)


def test_a_terminal_gets_a_bar_and_the_answer_stays_apart(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with started(tmp_path / "memory.json", follower) as process:
        os.close(follower)
        for wanted in (
            rb"starting.*time left unknown",
            rb"cutting.*1/4.* s left in this step",
            rb"sewing.*time left unknown",
        ):
            shown = b""
            while not re.search(wanted, COLOUR.sub(b"", shown), re.DOTALL):
                shown += os.read(leader, 4096)
            go_on(process)
        go_on(process)
        ended(process)
    os.close(leader)


def test_work_that_fails_ends_its_progress_and_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(terminal._state, "json", False)
    monkeypatch.setitem(terminal._state, "quiet", False)
    before, memory = threading.active_count(), tmp_path / "memory.json"

    def fails() -> None:
        with terminal.Work(["x"], memory):
            progress.begin("y", 1)()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert threading.active_count() == before
    assert not memory.exists()
    assert progress.begin("nobody listens")() is None


# -------------------------------------------------------------------------------------------- steps


def listener(heard: list[tuple[str, int]]) -> progress.Listener:
    def listen(step: str, count: int) -> progress.Tick:
        heard.append((step, count))
        return lambda: heard.append((step, -1))

    return listen


def test_what_begins_inside_a_counted_loop_belongs_to_it() -> None:
    heard: list[tuple[str, int]] = []
    with progress.subscription(listener(heard)):
        for number in progress.each("runs", [1, 2, 3]):
            progress.begin("reading")
            assert list(progress.each("files", "ab")) == ["a", "b"]
            if number == 2:
                break
        progress.begin("after it")
    progress.begin("nobody listens any more")
    assert heard == [("runs", 3), ("runs", -1), ("after it", 0)]


# ------------------------------------------------------------------------------------------- memory

TAKEN = [("starting", 1.0), ("reading", 2.0), ("simulating", 4.0), ("drawing", 3.0)]
seconds = st.floats(0.0, 1e4)
steps_taken = st.lists(st.tuples(st.sampled_from("abcdef"), seconds), max_size=8)


def test_the_time_left_is_counted_and_else_as_the_last_time_at_todays_pace() -> None:
    assert duration_history.time_left(TAKEN, [], "starting", 0.25, 0.0) == 9.75
    assert duration_history.time_left(TAKEN, TAKEN[:1], "reading", 0.5, 0.0) == 1.5 + 7.0
    twice = [("starting", 2.0), ("reading", 4.0)]
    # everything takes twice as long today
    assert duration_history.time_left(TAKEN, twice, "simulating", 1.0, 0.0) == 7.0 + 6.0
    # it should be over, and says so
    assert duration_history.time_left(TAKEN, twice, "drawing", 9.0, 0.0) == 0.0
    # steps that were not needed today
    assert duration_history.time_left(TAKEN, [("starting", 1.0)], "drawing", 1.0, 0.0) == 2.0
    # counted: it will take 8, and not 4
    assert (
        duration_history.time_left(TAKEN, TAKEN[:2], "simulating", 2.0, 0.25) == 6.0 + 3.0 * 11 / 7
    )
    assert duration_history.time_left([], [], "counted", 2.0, 0.25) == 6.0
    assert duration_history.time_left([], TAKEN, "new", 2.0, 0.0) is None
    assert duration_history.time_left(TAKEN, TAKEN[:1], "new", 2.0, 0.0) is None


@given(
    known=steps_taken,
    taken=steps_taken,
    step=st.sampled_from("abcdefg"),
    spent=seconds,
    share=st.floats(0.001, 1.0) | st.just(0.0),
)
def test_no_memory_makes_the_time_left_negative_or_absurd(
    known: duration_history.Durations,
    taken: duration_history.Durations,
    step: str,
    spent: float,
    share: float,
) -> None:
    left = duration_history.time_left(known, taken, step, spent, share)
    longest = duration_history.SLOWER * sum(took for _, took in known) + (
        spent * (1 - share) / share if share else 0.0
    )
    assert left is None or 0.0 <= left <= longest * 1.000001


def test_the_nearest_command_line_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "deep" / "durations.json"
    assert duration_history.history_of(memory, ["backtest", "data=planted"]).durations == []
    duration_history.remember(memory, ["backtest", "data=planted", "strategy=donchian"], TAKEN)
    duration_history.remember(memory, ["backtest", "data=eia"], TAKEN[:3])
    duration_history.remember(memory, ["runs"], TAKEN[:2])
    assert (
        duration_history.history_of(memory, ["backtest", "data=planted", "strategy=flat"]).durations
        == TAKEN
    )
    # none is nearer: the latest
    assert duration_history.history_of(memory, ["backtest", "data=csv"]).durations == TAKEN[:3]
    assert duration_history.history_of(memory, ["validate", "data=planted"]).durations == []
    assert duration_history.history_of(memory, ["runs"]).same
    assert not duration_history.history_of(memory, ["runs", "--limit"]).same
    duration_history.remember(memory, ["short"], [("starting", 0.5)])
    assert duration_history.history_of(memory, ["short"]).durations == []  # shown to nobody


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{", '{"runs": 3}', '{"runs": [["a"]]}', '{"runs": [["a", "b"]]}', "\x00\xff"],
)
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, damage: str) -> None:
    memory = tmp_path / "durations.json"
    memory.write_text(damage, encoding="latin-1")
    assert duration_history.history_of(memory, ["runs"]).durations == []
    duration_history.remember(memory, ["runs"], TAKEN)
    assert duration_history.history_of(memory, ["runs"]).durations == TAKEN


def test_the_memory_stays_small_and_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "durations.json"
    monkeypatch.setattr(duration_history, "MOST", 3)
    monkeypatch.setenv("DATABENTO_API_KEY", "db-" + "a" * 29)
    for n in range(5):
        duration_history.remember(memory, ["verb", f"n={n}", "key=db-" + "a" * 29], TAKEN)
    held = json.loads(memory.read_text())
    assert [line.split("\n")[1] for line in held] == ["n=2", "n=3", "n=4"]
    assert "db-aaa" not in memory.read_text()


def test_a_project_that_cannot_be_written_has_no_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    duration_history.remember(tmp_path / "file" / "durations.json", ["runs"], TAKEN)
    assert (
        duration_history.history_of(tmp_path / "file" / "durations.json", ["runs"]).durations == []
    )


def test_every_verb_remembers_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path / "project"))
    monkeypatch.setattr(duration_history, "WORTH_SEC", 0.0)
    assert main.main(["init", str(tmp_path / "project")]) == 0
    assert main.main(["--json", "trials", "--limit", "3"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["places"] == []
    memory = tmp_path / "project" / ".cache" / "durations.json"
    ((step, _),) = duration_history.history_of(memory, ["trials", "--limit", "3"]).durations
    assert step == "starting"
    memory.unlink()
    assert main.main(["--json", "trials", "--limit", "3"]) == 0


def test_spans_are_read_at_a_glance() -> None:
    assert [terminal.span(s) for s in (0.4, 59.4, 59.6, 200, 7_500)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]


def test_a_time_that_is_none_is_said_in_words_and_is_null() -> None:
    assert terminal.text(pd.NaT) == "n/a"
    assert terminal.plain({"time": pd.NaT}) == {"time": None}
