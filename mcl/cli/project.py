"""doctor, init."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

from mcl import composition
from mcl.base import terminal
from mcl.base.words import many
from mcl.ops import doctor


def examine(args: Namespace) -> int:
    """1 when something will stop a command."""
    del args
    checks = doctor.examine(composition.root())
    rows = [
        [f.subject, f.level if f.level != "fail" else "FAIL", f.detail, f.remedy] for f in checks
    ]
    failed = sum(f.level == "fail" for f in checks)
    data = {"findings": [f.as_dict() for f in checks], "failed": failed}
    terminal.answer(
        data, lambda: terminal.table("doctor", ["", "", "found", "what to do"], rows, left=4)
    )
    return 1 if failed else 0


def init(args: Namespace) -> int:
    from mcl.ops.init import create

    folder = Path(args.folder).resolve()
    written = create(folder)
    terminal.answer(
        {"folder": str(folder), "files": written}, lambda: _show_project(folder, len(written))
    )
    return 0


def _show_project(folder: Path, count: int) -> None:
    terminal.say(f"{folder}: {many(count, 'file')}")
    change_folder = "" if folder == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    terminal.say(
        f"next: {change_folder}mcl backtest        (no key needed: embedded synthetic data)"
    )
