"""doctor."""

from __future__ import annotations

from argparse import Namespace

from mcl import config, doctor, screen


def examine(args: Namespace) -> int:
    """1 when something will stop a command."""
    del args
    found = doctor.examine(config.root())
    rows = [[f.subject, f.level if f.level != "fail" else "FAIL", f.found, f.remedy] for f in found]
    failed = sum(f.level == "fail" for f in found)
    data = {"findings": [vars(f) for f in found], "failed": failed}
    screen.answer(data, lambda: screen.table("doctor", ["", "", "found", "what to do"], rows, left=4))
    return 1 if failed else 0
