"""The model of each JSON answer, and the reference that is written from the models.

docs/json.md and docs/answers.schema.json are written from here. The tests compare every answer with
its model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mcl.cli import data_answers, operating_answers, research_answers
from mcl.cli.answer_model import Answer
from mcl.cli.operating_answers import AuditedSessionsAnswer, FinishedRestoreAnswer
from mcl.cli.research_answers import (
    ForecastAnswer,
    SweepAnswer,
    SweepReportAnswer,
    WalkForwardAnswer,
)
from mcl.cli.table import VERBS, Verb


class ConfigurationAnswer(Answer):
    """Show the composed configuration; where it is invalid, `config` and `error`."""


class InformationAnswer(Answer):
    """Show what Hydra knows: `--info`."""

    info: str


class Failure(Answer):
    """Say what failed."""

    code: str
    message: str
    """One sentence: value, rule, nearest valid choice."""
    hint: str
    """What to do."""


class RefusalAnswer(Answer):
    """Refuse: exit code 1 or 2."""

    error: Failure


# options with an answer of their own, by the verb where it matters
OPTIONS: Mapping[str, type[Answer]] = {
    "info": InformationAnswer,
    "cfg": ConfigurationAnswer,
    "package": ConfigurationAnswer,
    "resolve": ConfigurationAnswer,
    "stay": AuditedSessionsAnswer,
}
SEARCHES: Mapping[str, type[Answer]] = {"backtest": SweepAnswer, "report": SweepReportAnswer}


def model(verb: Verb, options: argparse.Namespace, answer: Mapping[str, Any]) -> type[Answer]:
    """The model of what a command line answers: that of its verb, of an option, or of what it
    turned out to be about (`mcl report` of a search, a search in folds).
    """
    typed = vars(options)
    for name, chosen in OPTIONS.items():
        if typed.get(name):
            return chosen
    if verb.name == "sweep" and typed.get("estimate"):
        return ForecastAnswer
    if verb.name == "store restore" and typed.get("archive") is None:
        return FinishedRestoreAnswer
    if "folds" in answer and "sweep_id" in answer and verb.answer != "SearchStatusAnswer":
        return WalkForwardAnswer
    if "sweep_id" in answer and verb.name in SEARCHES:
        return SEARCHES[verb.name]
    return of_verb(verb)


def of_verb(verb: Verb) -> type[Answer]:
    """The model that the record of a verb names."""
    for module in (research_answers, data_answers, operating_answers):
        named: type[Answer] | None = getattr(module, verb.answer, None)
        if named is not None:
            return named
    raise LookupError(f"{verb.name} names the model {verb.answer!r}, which no module has")


def published() -> dict[str, type[Answer]]:
    """Every model by its title in the reference, the verbs in the order of `mcl --help`."""
    verbs = {f"mcl --json {v.name}": of_verb(v) for v in VERBS.values() if v.answer}
    others = (
        WalkForwardAnswer,
        AuditedSessionsAnswer,
        FinishedRestoreAnswer,
        ConfigurationAnswer,
        InformationAnswer,
        ForecastAnswer,
    )
    return {"A refusal": RefusalAnswer, **verbs, **{each.__name__: each for each in others}}


def markdown() -> str:
    """The reference for people who script mcl."""
    return HEAD + "".join(
        f"\n## {_heading(title)}\n\n{each.__doc__}\n{_table(each)}"
        for title, each in published().items()
    )


def schema() -> str:
    """The JSON Schema of every answer: `verbs` names the model of each verb, `$defs` has them."""
    models = list(dict.fromkeys(published().values()))
    _, definitions = models_json_schema(
        [(each, "validation") for each in models], title="Answers of mcl --json"
    )
    verbs = {verb.name: f"#/$defs/{verb.answer}" for verb in VERBS.values() if verb.answer}
    return json.dumps(definitions | {"verbs": verbs}, indent=1, ensure_ascii=False) + "\n"


HEAD = """# Answers as JSON

Written from `mcl/cli/json_answers.py`, as is the JSON Schema of all of it,
[answers.schema.json](answers.schema.json). A test checks that both are current. Every answer of a
test is compared with its model, and one test sees an answer of every verb.

`mcl --json VERB …` prints one JSON object on stdout and logs on stderr. These keys are promised;
others may be added. What is not a number (NaN, infinite) is `null`; times are ISO text in UTC. The
exit code is 0 when done, 1 when refused or failed, 2 for wrong usage. A refusal is
`{"error": {"code", "message", "hint"}}`. The error of a run that does not repeat has
`differences`, too, in the shape that `compare` and `promoted diff` have. That of a promotion has
`gates` and `notes`, as a promotion that passes. A search that failed in part, or that was
interrupted, has `error` next to its own keys. `report` of a search answers as `sweep report`, a
grid (`backtest -m`) as `sweep`, and a search in folds (`search.walk_forward`) as
`WalkForwardAnswer`.
"""


def _heading(title: str) -> str:
    return f"`{title}`" if title.startswith("mcl ") else title


def _table(answer: type[BaseModel]) -> str:
    rows = list(_rows(answer))
    return "\n| key | type | meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""


def _rows(answer: type[BaseModel]) -> Iterator[str]:
    for key, facts in answer.model_json_schema().get("properties", {}).items():
        kinds = " or ".join(_kind(part) for part in facts.get("anyOf", [facts]))
        meaning = " ".join(facts.get("description", "").split())
        yield f"| `{key}` | {kinds} | {meaning} |\n"


def _kind(facts: Mapping[str, Any]) -> str:
    return "object" if "$ref" in facts else str(facts.get("type", "any"))


if __name__ == "__main__":
    print(schema() if "--schema" in sys.argv else markdown(), end="")
