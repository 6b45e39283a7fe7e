"""The notebook of a day's research prints what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "research.ipynb"


def test_every_cell_prints_what_the_notebook_says(worlds: Path) -> None:
    script = ROOT / "scripts" / "run_notebook.py"
    command = [sys.executable, str(script), "--check", "--data", str(worlds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_notebook_is_small_and_has_no_trace_of_a_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 40_000
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.metadata for cell in cells)
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    assert [word for word in ("/home", "/tmp", "/work", "text/html") if word in text] == []
