"""A small soak: sessions with faults and SIGKILLs in real processes, judged by both books. `make soak` runs thousands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_few_seeds_hold_every_invariant_and_are_not_run_twice(tmp_path: Path) -> None:
    record = tmp_path / "soak.jsonl"

    def soak(seeds: int) -> str:
        command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--seeds", str(seeds), "--workers", "4", "--record", str(record)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "violations: 0" in soak(8)
    first = [json.loads(line) for line in record.read_text().splitlines()]
    assert sorted(row["seed"] for row in first) == list(range(8))
    assert sum(row["fills"] for row in first) > 0
    assert sum(row["decisions"] for row in first) == sum(row["right"] for row in first) > 0
    assert "9 sessions of this code" in soak(9)
    assert [row["seed"] for row in map(json.loads, record.read_text().splitlines()[8:])] == [8]
