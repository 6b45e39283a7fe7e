"""A small soak: sessions with faults and SIGKILLs in real processes, judged by both books. `make soak` runs thousands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_few_seeds_hold_every_invariant() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--seeds", "8", "--workers", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations: 0" in done.stdout
