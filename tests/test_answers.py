"""What `--json` promises is written down, current, and true of answers that cost nothing to get."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mcl.cli.json_answers import PROMISED, SILENT, TYPES, faults, markdown
from mcl.cli.main import main
from mcl.cli.table import VERBS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "json.md"


def test_every_verb_promises_something() -> None:
    assert set(PROMISED) | set(SILENT) == set(VERBS)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "python -m mcl.cli.json_answers > docs/json.md"
    )


def test_types_are_known() -> None:
    assert {
        said.partition(" · ")[0].removesuffix("?")
        for keys in PROMISED.values()
        for said in keys.values()
    } <= set(TYPES)


def test_faults_are_named() -> None:
    good = {"folder": "x", "files": []}
    assert faults("init", good) == []
    assert faults("init", {"folder": None, "files": "a"}) == [
        "init: folder is NoneType, not text",
        "init: files is str, not list",
    ]
    assert faults("init", {}) == ["init: folder is missing", "init: files is missing"]
    assert faults("store gc", {"removed": True, "bytes": True, "items": []}) == [
        "store gc: bytes is bool, not count"
    ]


@pytest.mark.parametrize(
    "verb", ["runs", "registry", "trials", "tws status", "contract check", "status"]
)
def test_answers_of_an_empty_project(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    code = main(["--json", *verb.split()])
    answer = json.loads(capsys.readouterr().out)
    if code == 0:
        assert faults(verb, answer) == []
    else:
        assert set(answer["error"]) == {"code", "message", "hint"}


def test_a_reader_that_leaves_is_no_error() -> None:
    program = f"{sys.executable} -m mcl --help | head -1"
    done = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mcl:")
    assert done.stderr == ""
