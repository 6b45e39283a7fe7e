"""Run docs/research.ipynb in a new project and write what its cells print into it. `--check` exits
with 1 when a cell prints something else than the notebook says.

`--data DIR` is a project's `data` folder whose generated worlds are used again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "research.ipynb"
CELL_SEC = 600  # the first cell may generate a world and compile the engine


def run(notebook: Any, project: Path) -> Any:
    """The notebook with the outputs of a run in `project`, as plain text and without what differs
    from one machine to the next.
    """
    os.environ["MCL_HOME"] = str(project)
    resources = {"metadata": {"path": str(project)}}
    again = NotebookClient(
        notebook, timeout=CELL_SEC, kernel_name="python3", resources=resources
    ).execute()
    for cell in again.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [plain(output) for output in cell.outputs if shown(output)]
    again.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return again


def shown(output: Any) -> bool:
    """Notes on standard error (the engine is compiled once) are no result."""
    return bool(output.get("name") != "stderr")


def plain(output: Any) -> Any:
    """An output with its text alone: a table is not stored as HTML a second time."""
    if "data" in output:
        output.data = nbformat.from_dict({"text/plain": output.data["text/plain"]})
        output.metadata.clear()
    return output


def texts(notebook: Any) -> list[str]:
    """What each cell of code prints."""
    return [
        "".join(o.get("text") or o["data"]["text/plain"] for o in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--data", type=Path, metavar="DIR")
    typed = parser.parse_args()
    before = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory(prefix="mcl-notebook-") as folder:
        project = Path(folder)
        shutil.copytree(ROOT / "conf", project / "conf", ignore=shutil.ignore_patterns("promoted"))
        if typed.data:
            (project / "data").symlink_to(typed.data.resolve())
        after = run(nbformat.read(NOTEBOOK, as_version=4), project)
    if not typed.check:
        nbformat.write(after, NOTEBOOK)
        print(f"wrote {NOTEBOOK.relative_to(ROOT)}")
        return 0
    different = [
        f"cell {number} of {NOTEBOOK.name} says\n{then}\nand prints\n{now}"
        for number, (then, now) in enumerate(zip(texts(before), texts(after), strict=True), 1)
        if then != now
    ]
    print("\n".join(different) or f"{NOTEBOOK.name} prints what it says")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
