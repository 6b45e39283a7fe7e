"""The journal: append-only, nothing twice, readable after the writer was killed."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mcl.base.errors import LiveError
from mcl.live.journal import MERGE_ENTRIES, Draft, Journal, read

WRITER = """
import sys
from pathlib import Path
from mcl.live.journal import Draft, Journal
journal = Journal(Path(sys.argv[1]))
for number in range(1_000_000):
    key, body = str(number), {"number": number}
    journal.append(Draft("bar", body, key), Draft("decision", body, key))
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "live" / "paper" / "2026-01-07.sqlite"


def test_entries_come_back_in_order(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(
            Draft("bar", {"close": 60.01}, "1"),
            Draft("decision", {"stop_ticks": math.nan, "target": -1}, "1"),
        )
        journal.append(Draft("state", {"state": "ended", "why": ""}))
    assert [(e.seq, e.kind, e.key, e.body) for e in read(path)] == [
        (1, "bar", "1", {"close": 60.01}),
        (2, "decision", "1", {"stop_ticks": None, "target": -1}),
        (3, "state", None, {"state": "ended", "why": ""}),
    ]
    assert [e.seq for e in read(path, ("decision", "state"))] == [2, 3]


def test_the_log_of_writing_ahead_is_merged_by_what_waits_for_the_disk_anyway(path: Path) -> None:
    """Never in the commit of an order: something is sent right behind it."""
    with Journal(path) as journal:
        for number in range(MERGE_ENTRIES):
            journal.append(Draft("bar", {"text": "x" * 4000}, str(number)))
        empty = path.stat().st_size
        journal.append(Draft("order", {}, "a"))
        assert path.stat().st_size == empty
        journal.append(Draft("state", {"state": "trading", "why": ""}))
        assert path.stat().st_size > 4000 * MERGE_ENTRIES > empty
    assert len(read(path)) == MERGE_ENTRIES + 2


def test_a_float_comes_back_bit_for_bit(path: Path) -> None:
    values = [0.1 + 0.2, 1e300, 5e-324, -0.0, 25_000.77]
    with Journal(path) as journal:
        journal.append(Draft("state", {"values": values}))
    assert [v.hex() for v in read(path)[0].body["values"]] == [v.hex() for v in values]


def test_nothing_is_written_twice_and_a_refused_batch_leaves_nothing(path: Path) -> None:
    refusal = "refused bar 7, order paper-v1-20260107-071301: UNIQUE constraint failed"
    with Journal(path) as journal:
        journal.append(Draft("order", {"to": 1}, "paper-v1-20260107-071301"))
        with pytest.raises(LiveError, match=refusal):
            journal.append(
                Draft("bar", {}, "7"), Draft("order", {"to": 1}, "paper-v1-20260107-071301")
            )
    assert [e.kind for e in read(path)] == ["order"]


@pytest.mark.parametrize("statement", ["UPDATE entry SET body = '{}'", "DELETE FROM entry"])
def test_what_is_written_stays(path: Path, statement: str) -> None:
    with Journal(path) as journal:
        journal.append(Draft("fill", {"quantity": 1}, "0001.01"))
    with (
        closing(sqlite3.connect(path)) as other,
        other,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        other.execute(statement)
    assert read(path)[0].body == {"quantity": 1}


def test_a_killed_writer_leaves_every_acknowledged_entry(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    entries = read(path)
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
    assert [e.kind for e in entries] == ["bar", "decision"] * (len(entries) // 2)
    assert len(entries) // 2 >= len(acknowledged) >= 200


def test_a_reopened_journal_goes_on(path: Path) -> None:
    for number in (1, 2):
        with Journal(path) as journal:
            journal.append(Draft("state", {"number": number}))
    assert [(e.seq, e.body["number"]) for e in read(path)] == [(1, 1), (2, 2)]


def test_a_full_disk_is_a_sentence(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(Draft("bar", {}, "1"))
        journal._connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(LiveError, match="database or disk is full"):
            journal.append(Draft("bar", {"x": "x" * 100_000}, "2"))
    assert [e.key for e in read(path)] == ["1"]


def test_bad_paths_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LiveError, match="cannot open the journal"):
        Journal(tmp_path / "file" / "a.sqlite")
    with pytest.raises(LiveError, match="there is no journal"):
        read(tmp_path / "absent.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be looked at as one")
    with pytest.raises(LiveError, match="is not a readable journal"):
        read(tmp_path / "text.sqlite")
