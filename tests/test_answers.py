"""What `--json` promises is written down, current, and refused where an answer lacks it."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mcl.cli import json_answers
from mcl.cli.answer_model import Answer
from mcl.cli.data_answers import DownloadAnswer
from mcl.cli.json_answers import ConfigurationAnswer, InformationAnswer
from mcl.cli.main import main
from mcl.cli.operating_answers import (
    AuditedSessionsAnswer,
    FinishedRestoreAnswer,
    NewProjectAnswer,
    RestoreAnswer,
)
from mcl.cli.research_answers import (
    BacktestAnswer,
    ForecastAnswer,
    SearchStatusAnswer,
    SweepAnswer,
    SweepReportAnswer,
    WalkForwardAnswer,
)
from mcl.cli.table import VERBS

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_verb_names_a_model() -> None:
    """`mcl ui` runs until it is stopped and answers nothing."""
    assert [verb.name for verb in VERBS.values() if not verb.answer] == ["ui"]
    for verb in VERBS.values():
        if verb.answer:
            assert issubclass(json_answers.of_verb(verb), Answer), verb.name


def test_the_page_and_the_schema_are_current() -> None:
    page = (DOCS / "json.md").read_text(encoding="utf-8") == json_answers.markdown()
    schema = (DOCS / "answers.schema.json").read_text(encoding="utf-8") == json_answers.schema()
    assert page, "python -m mcl.cli.json_answers > docs/json.md"
    assert schema, "python -m mcl.cli.json_answers --schema > docs/answers.schema.json"


@pytest.mark.parametrize(
    ("verb", "answer", "keys"),
    [
        ("init", {"folder": None, "files": "a"}, ["folder", "files"]),
        ("init", {"files": []}, ["folder"]),
        ("store gc", {"removed": True, "bytes": True, "items": []}, ["bytes"]),
        ("store gc", {"removed": 1, "bytes": 1, "items": []}, ["removed"]),
    ],
)
def test_what_an_answer_lacks_is_refused(
    verb: str, answer: dict[str, Any], keys: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        json_answers.of_verb(VERBS[verb]).model_validate(answer)
    assert [error["loc"][0] for error in refused.value.errors()] == keys


def test_more_keys_may_be_there() -> None:
    answer = NewProjectAnswer.model_validate({"folder": "x", "files": [], "more": 1})
    assert answer.model_extra == {"more": 1}


@pytest.mark.parametrize(
    ("verb", "options", "answer", "model"),
    [
        ("sweep", {}, {"sweep_id": "a"}, SweepAnswer),
        ("sweep", {}, {"sweep_id": "a", "folds": []}, WalkForwardAnswer),
        ("sweep", {"cfg": "run"}, {}, ConfigurationAnswer),
        ("sweep", {"info": "config"}, {}, InformationAnswer),
        ("sweep", {"estimate": True}, {}, ForecastAnswer),
        ("data download", {"estimate": True}, {}, DownloadAnswer),
        ("sweep status", {}, {"sweep_id": "a", "folds": 3}, SearchStatusAnswer),
        ("backtest", {}, {"run_id": "a"}, BacktestAnswer),
        ("backtest", {}, {"sweep_id": "a"}, SweepAnswer),
        ("report", {}, {"sweep_id": "a"}, SweepReportAnswer),
        ("store restore", {"archive": None}, {}, FinishedRestoreAnswer),
        ("store restore", {"archive": "x"}, {}, RestoreAnswer),
        ("live", {"stay": True}, {}, AuditedSessionsAnswer),
    ],
)
def test_the_model_follows_the_command_line(
    verb: str, options: dict[str, Any], answer: dict[str, Any], model: type[Answer]
) -> None:
    assert json_answers.model(VERBS[verb], Namespace(**options), answer) is model


@pytest.mark.parametrize(
    "verb", ["runs", "registry", "trials", "tws status", "contract check", "status"]
)
def test_answers_of_an_empty_project(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """tests/answers.py validates those that are none of a refusal."""
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    code = main(["--json", *verb.split()])
    answer = json.loads(capsys.readouterr().out)
    assert ("error" in answer) == (code != 0)
    if code:
        assert set(answer["error"]) == {"code", "message", "hint"}


def test_a_reader_that_leaves_is_no_error() -> None:
    program = f"{sys.executable} -m mcl --help | head -1"
    done = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mcl:")
    assert done.stderr == ""
