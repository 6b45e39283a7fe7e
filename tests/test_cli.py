"""The table of verbs: each leads to a function, takes its words, and is listed once in its
section.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
from importlib import import_module
from inspect import getsource, isfunction, signature
from pathlib import Path

import pytest

from mcl.cli import arguments, operating_arguments, research_arguments
from mcl.cli.main import main, parse
from mcl.cli.table import SECTIONS, VERBS


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_leads_to_a_function(name: str) -> None:
    module, function = VERBS[name].handler.split(":")
    assert callable(getattr(import_module(f"mcl.cli.{module}"), function))


def test_no_verb_is_listed_twice_and_no_shape_of_arguments_is_left_over() -> None:
    assert sum(map(len, SECTIONS.values())) == len(VERBS)
    modules = (arguments, operating_arguments, research_arguments)
    own = [
        member
        for module in modules
        for member in vars(module).values()
        if isfunction(member) and member.__module__ == module.__name__
    ]
    shapes = {shape.__name__ for shape in own if list(signature(shape).parameters) == ["parser"]}
    used = {verb.arguments.__name__ for verb in VERBS.values()}
    source = "".join(map(getsource, modules))
    shared = {name for name in shapes - used if f"    {name}(parser)" in source}
    assert shapes == used | shared


def test_help_lists_every_verb_below_its_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for title, verbs in SECTIONS.items():
        first = lines.index(title) + 1
        assert [line[2:].split("  ")[0] for line in lines[first : first + len(verbs)]] == [
            verb.name for verb in verbs
        ]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert f"usage: mcl {name}" in capsys.readouterr().out


def test_the_longer_verb_wins_and_options_may_stand_anywhere() -> None:
    verb, parsed = parse(["registry", "report", "paper"])
    assert (verb.name, parsed.verb, parsed.name) == ("registry report", "registry report", "paper")
    verb, parsed = parse(["backtest", "strategy=ema_cross", "-m", "strategy.fast=1,2"])
    assert (verb.name, parsed.multirun, parsed.overrides) == (
        "backtest",
        True,
        ["strategy=ema_cross", "strategy.fast=1,2"],
    )
    assert isinstance(parsed, argparse.Namespace)


def test_usage_errors_are_exit_code_2_and_name_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    assert main(["backtset"]) == 2
    assert main(["promote"]) == 2
    told = capsys.readouterr().err
    assert "backtest" in told
    assert "RUN_ID" in told


@pytest.mark.parametrize("head", ["data", "store", "tws", "check", "promoted"])
def test_a_group_of_verbs_has_its_help(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([head, "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"mcl {name} " in listed for name in VERBS if name.startswith(f"{head} "))
    assert main([head]) == 2


def test_a_verb_that_others_begin_with_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["sweep", "--help"])
    assert "mcl sweep status" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sweep stat channels", "unknown verb 'sweep stat': did you mean 'sweep status'?"),
        ("sweep st channels", "did you mean 'sweep status' or 'sweep stop'?"),
        ("swep status channels", "unknown verb 'swep status': did you mean 'sweep status'?"),
        ("backtst strategy=ema_cross", "unknown verb 'backtst': did you mean 'backtest'?"),
        ("registry rep paper", "unknown verb 'registry rep': did you mean 'registry report'?"),
        ("data inf", "unknown verb 'data inf': did you mean 'data info'?"),
        ("promote", "the following arguments are required: RUN_ID|SEARCH\n"),
    ],
)
def test_a_wrong_verb_is_told_from_its_arguments(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("line", ["live", "live broker=ib_sim", "rollback"])
def test_a_verb_without_its_promoted_name_says_what_is_promoted(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    (tmp_path / "conf").mkdir()
    assert main(line.split()) == 1
    refusal = capsys.readouterr().err
    assert (
        f"nothing is promoted yet, so mcl {line.split(maxsplit=1)[0]} has no version to take"
        in refusal
    )
    assert "mcl promote RUN --to paper" in refusal


def test_an_interrupt_that_a_library_turned_into_something_else_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def list_runs(args: argparse.Namespace) -> int:
        try:
            raise KeyboardInterrupt("mcl sweep resume abc continues")
        except KeyboardInterrupt:
            raise AttributeError("half cleared up") from None

    monkeypatch.setattr(f"mcl.cli.{VERBS['runs'].handler.replace(':', '.')}", list_runs)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "mcl: interrupted: what was done is kept",
        "     mcl sweep resume abc continues",
    ]


def test_a_fault_of_mcl_is_a_sentence_and_its_traceback_a_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCL_TEST_TOKEN", "a-secret-of-the-test")

    def divide(args: argparse.Namespace) -> int:
        raise ZeroDivisionError("by a-secret-of-the-test")

    monkeypatch.setattr(f"mcl.cli.{VERBS['runs'].handler.replace(':', '.')}", divide)
    assert main(["--json", "runs"]) == 1
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert (error["code"], err) == ("unexpected", "")
    assert error["message"] == "mcl runs met what it did not expect: ZeroDivisionError: by [secret]"
    place = Path(error["hint"].rpartition(" ")[2])
    assert place.is_relative_to(project)
    assert place.stat().st_mode & 0o077 == 0
    trace = place.read_text()
    assert "Traceback" in trace
    assert "a-secret-of-the-test" not in trace
    assert main(["-v", "runs"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a system without /proc")
def test_a_file_that_the_system_cannot_read_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = "/proc/self/mem"  # a regular file whose first byte answers EIO
    for kind in (["data=csv", "data.stamped_at=open", "data.timezone=UTC"], ["data=mcl_databento"]):
        assert main(["data", "check", *kind, f"data.path={unreadable}"]) == 1
        answer = "".join(capsys.readouterr())
        assert unreadable in answer
        assert "fault of mcl" not in answer


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_what_a_disk_refuses_in_the_middle_of_a_file_is_no_fault_of_mcl(
    project: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise OSError(number, os.strerror(number))  # as read() and write() raise it: without a name

    monkeypatch.setattr(f"mcl.cli.{VERBS['runs'].handler.replace(':', '.')}", fail)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == f"mcl: a file: {os.strerror(number)}"


def test_wrong_usage_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["nonsense"],
        ["promote"],
        ["runs", "--limit", "many"],
        ["backtest", "--nonsense"],
        ["sweep", "extend", "x", "y"],
    ):
        for line in (["--json", *words], [*words, "--json"]):
            assert main(line) == 2
            out, err = capsys.readouterr()
            assert json.loads(out)["error"]["code"] == "usage"
            assert err == ""


NO_RUNS = "No run is filed under the study 'mcl' yet. mcl backtest makes the first one."


def test_a_list_without_runs_says_where_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mcl.tracking.store import Record, Store

    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.strip() == NO_RUNS
    Store(tmp_path).start(Record("001_forty_years", "parent"))
    assert main(["runs"]) == 0
    assert (
        capsys.readouterr()
        .out.strip()
        .endswith("Other studies have runs: mcl runs --study 001_forty_years")
    )
