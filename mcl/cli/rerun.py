"""rerun."""

from __future__ import annotations

from argparse import Namespace

from mcl.base import terminal
from mcl.base.errors import MclError
from mcl.tracking.project import Project


def rerun(args: Namespace) -> int:
    """Make a stored run again and compare bit by bit; 1 with the moved inputs when anything
    differs.
    """
    from mcl.ops.rerun import rerun as make
    from mcl.promotion.reproduce import sentence

    again = make(args.run_id, Project.current())
    name = f"{again.kind.replace('_', '-')} {again.run_id}"
    if not again.equal:
        several = f"{len(again.differing)} values differ; " if len(again.differing) > 1 else ""
        raise MclError(
            f"{name} does not reproduce: {several}{sentence(again.differing, again.causes)}",
            "the inputs that moved are named above",
            again.differing,
        )
    data = {
        "run_id": again.run_id,
        "kind": again.kind,
        "equal": True,
        "said": again.sentence,
        "metrics": {},
        "causes": again.causes,
        "runs": again.runs,
    }
    terminal.answer(data, lambda: terminal.say(f"{name}: {again.sentence}"))
    return 0
