"""A validation made again: every question with the settings that it was asked with, the same
numbers and verdicts.
"""

from __future__ import annotations

import json
from typing import Any

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import StoreError
from mcl.config import schema
from mcl.ops.rerun.result import Again
from mcl.promotion.reproduce import moved
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun
from mcl.validation import holdout, verdict
from mcl.validation.checks import ask, numbers
from mcl.validation.subject import subject
from mcl.validation.validate import measured

# move with every trial of the same strategy since
OF_THE_LEDGER = ("deflated_sharpe", "history_ratio", "trials", "best_by_luck")
OF_OLD = ("dsr_2014",)  # stored by version 0.1


def validation(stored: StoredRun, project: Project) -> Again:
    """The hold-out is shown again where it was seen, which is no new look at it."""
    if not (stored.artifacts / "settings.json").is_file():
        raise StoreError(
            f"validation {stored.run_id} does not hold its settings",
            f"mcl validate {stored.parent or 'RUN_ID'} asks again",
        )
    settings = composition.validate(
        schema.Validation, json.loads(stored.file("settings.json")), "validate"
    )
    about = subject(stored.tags["subject"], project)
    looks = int(stored.tags["holdout_looks"])
    answers = ask(
        about, settings, project.root, lambda: holdout.again(about.run, looks, project.root)
    )
    rows = verdict.table(numbers(answers, settings), settings.rules)
    grown = answers.tally.count - int(stored.metrics["validate_trials"])
    left = OF_THE_LEDGER if grown else ()
    uncompared = (*left, *OF_OLD)
    now = {
        name: value
        for name, value in measured(answers, rows).items()
        if name.removeprefix("validate_") not in uncompared
    }
    then = {
        name: value
        for name, value in stored.summary.items()
        if name.removeprefix("validate_") not in uncompared
    }
    differing = differences(then, now) | differences(
        _levels(json.loads(stored.file("validation.json"))["rows"], left), _levels(rows, left)
    )
    sentence = (
        f"{len(now)} numbers and {len(rows) - sum(row.name in left for row in rows)} verdicts"
        " bit-equal"
    )
    if grown:
        sentence += (
            f"; the trial ledger counts {grown:+d} trials since, so that {', '.join(left)} are not"
            " compared"
        )
    return Again(
        stored.run_id, "validation", sentence, differing, moved(stored, about.run, about.bars)
    )


def _levels(rows: list[Any], left: tuple[str, ...]) -> dict[str, str]:
    plain = [row if isinstance(row, dict) else vars(row) for row in rows]
    return {f"verdict {row['name']}": str(row["level"]) for row in plain if row["name"] not in left}
