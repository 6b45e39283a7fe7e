"""`mcl demo`: the whole line once in a project of its own, with no key, no account and no network.

Three acts. The first is a real market: forty years of crude oil settlements, on which the searched
winner is refused. The others are generated: a world without an edge and one with a planted edge,
then the promotion of a winner and one audited session on the simulated TWS.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl.base import terminal
from mcl.base.errors import MclError
from mcl.tracking.store import Store

RULE = "─" * 100
STUDY = "002_tsmom_forty_years"
SERVERS = ("MLFLOW_TRACKING_URI", "MCL_STUDY_URL")  # a demo fills no store of others


@dataclass(frozen=True)
class Command:
    """A command line of mcl. A name in braces is the run that the newest search of that study
    chose, `code` the exit code that the command must end with.
    """

    line: str
    code: int = 0


@dataclass(frozen=True)
class Act:
    title: str
    synthetic: bool
    commands: tuple[Command, ...]
    ending: str


ACTS = (
    Act(
        "A real market: EIA's settlements of NYMEX crude oil, 1983 to 2022. A search finds a"
        " momentum rule, its luck is counted, and the unseen years decide.",
        False,
        (
            Command("data info data=eia"),
            Command(f"backtest experiment={STUDY} data.holdout_start=null"),
            Command(f"sweep experiment={STUDY}"),
            Command(f"promote {{{STUDY}}} --to paper", code=1),
        ),
        "Refused: ten unseen years leave too little of it. Most results should end like this.",
    ),
    Act(
        "SYNTHETIC DATA: a generated world of minutes without any edge, then one with a planted"
        " edge of known size.",
        True,
        (
            Command("data info data=synthetic"),
            Command("sweep data=synthetic study=zero_edge search.trials=24 search.sampler=random"),
            Command("promote {zero_edge} --to paper", code=1),
            Command("sweep data=planted study=planted_edge search.trials=24 search.sampler=random"),
            Command(
                "backtest -m data=planted study=planted_edge strategy.fast=120,240"
                " strategy.slow=480,960"
            ),
            Command("compare {planted_edge} {zero_edge}"),
            Command("rerun {planted_edge}"),
        ),
        "Luck is refused, and the planted edge is found.",
    ),
    Act(
        "SYNTHETIC DATA: the winner is promoted and trades one session on the simulated TWS,"
        " audited decision by decision.",
        True,
        (
            Command("promote {planted_edge} --to paper"),
            Command("registry"),
            Command("live paper"),
        ),
        "The session decided as its backtest does.",
    ),
)


def _run(command: Command) -> dict[str, Any]:
    """Run a command as a person types it. MclError when it does not end with its code."""
    line = command.line.format(**_chosen(command.line))
    terminal.say(f"\n{RULE}\n$ mcl {line}")
    began = time.monotonic()
    code, answer = _main(shlex.split(line))
    if code != command.code:
        raise MclError(
            f"`mcl {line}` ended with {code}, and the demo expects {command.code}",
            "mcl doctor checks this machine",
        )
    seconds = round(time.monotonic() - began, 1)
    return {"line": f"mcl {line}", "code": code, "seconds": seconds, "answer": answer}


def demo(args: Namespace) -> int:
    from mcl.ops import init

    folder, began = Path(args.folder).resolve(), time.monotonic()
    init.create(folder)
    acts = []
    with _project(folder):
        for number, act in enumerate(ACTS[: args.acts], start=1):
            terminal.say(f"\n{number}. {act.title}")
            answers = [_run(command) for command in act.commands]
            acts.append({"title": act.title, "synthetic": act.synthetic, "commands": answers})
            terminal.say(f"\n   {act.ending}")
    seconds = round(time.monotonic() - began, 1)
    terminal.answer(
        {"folder": str(folder), "seconds": seconds, "acts": acts}, lambda: _end(folder, seconds)
    )
    return 0


def _end(folder: Path, seconds: float) -> None:
    terminal.say(
        f"\nDone in {seconds:.0f} s. Every run and page is in {folder}:"
        f" cd {shlex.quote(str(folder))} && mcl ui"
    )


@contextlib.contextmanager
def _project(folder: Path) -> Iterator[None]:
    """Work in `folder` and on no server until the end of the block."""
    before = dict(os.environ)
    os.environ["MCL_HOME"] = str(folder)
    for name in SERVERS:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _main(words: list[str]) -> tuple[int, dict[str, Any] | None]:
    """The exit code, and with --json the answer, which is kept from standard output."""
    from mcl.cli.main import main

    if not terminal.as_json():
        return main([*(["--quiet"] if terminal.quiet() else []), *words]), None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["--json", *words])
    lines = printed.getvalue().strip().splitlines()
    return code, json.loads(lines[-1]) if lines else None


def _chosen(line: str) -> dict[str, str]:
    """The run that the newest search of each study chose whose name is in braces."""
    studies = [study for study in (STUDY, "zero_edge", "planted_edge") if f"{{{study}}}" in line]
    return {study: _best(Store(), study) for study in studies}


def _best(store: Store, study: str) -> str:
    search = next(
        run
        for run in store.in_study(study, tops=True)
        if run.tags.get("mcl.kind") == "sweep" and run.status == "FINISHED"
    )
    return search.tags["best_run_id"][:12]
