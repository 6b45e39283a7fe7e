"""A small soak: sessions with faults and SIGKILLs in real processes, judged by both books. `make
soak` runs thousands.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_few_seeds_hold_every_invariant_and_are_not_run_twice(tmp_path: Path) -> None:
    record = tmp_path / "soak.jsonl"

    def soak(seeds: int) -> str:
        command = [
            sys.executable,
            str(ROOT / "scripts" / "soak.py"),
            "--seeds",
            str(seeds),
            "--workers",
            "4",
            "--record",
            str(record),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "violations: 0" in soak(5)
    first = [json.loads(line) for line in record.read_text().splitlines()]
    assert sorted(row["seed"] for row in first) == list(range(5))
    assert sum(row["fills"] for row in first) > 0
    assert sum(row["decisions"] for row in first) == sum(row["right"] for row in first) > 0
    assert "6 sessions of this code" in soak(6)
    assert [row["seed"] for row in map(json.loads, record.read_text().splitlines()[5:])] == [5]


def test_sessions_over_half_days_in_one_process_lose_nothing(tmp_path: Path) -> None:
    """The short form of `make soak-weeks`: Thanksgiving and the day after, both half days, with
    two lost connections a night.
    """
    command = [
        sys.executable,
        str(ROOT / "scripts" / "soak_weeks.py"),
        "--weeks",
        "1",
        "--first",
        "2025-11-27",
        "--sessions",
        "2",
    ]
    command += ["--interval", "30m", "--bar-sec", "0.3", "--folder", str(tmp_path / "weeks")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "orders lost: 0, doubled: 0, unexplained differences: 0" in done.stdout
    assert "2 sessions in" in done.stdout
    assert "2 × restart" in done.stdout
    assert "MB a session" in done.stdout
