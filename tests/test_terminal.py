"""Tables on real terminals of 80, 120 and 200 columns: no word is broken, no id is cut, no header
is a stack of letters.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployments import HOLDOUT, empty_store, project
from hypothesis import given
from hypothesis import strategies as st
from journals import written

from mcl.base import tables
from mcl.cli import main
from mcl.tracking.store import Store

REPOSITORY = Path(__file__).resolve().parents[1]
WIDTHS = (80, 120, 200)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
MARK = "=== "
RUNNER = f"""
import json, sys
from mcl.cli.main import main
for words in json.load(open(sys.argv[1])):
    print({MARK!r} + " ".join(words), flush=True)
    print("exit", main(words), flush=True)
"""
DATA = {
    "source": "csv",
    "path": "walk-1m.csv",
    "interval": "1m",
    "stamped_at": "close",
    "columns": {
        name: name for name in ("time", "open", "high", "low", "close", "volume", "symbol")
    },
    "holdout_start": str(HOLDOUT),
}
COMMON = ["data=walk", "risk=fixed", "study=test"]
SEARCH = [
    "strategy.fast=choice(5,10,15)",
    "strategy.slow=choice(30,60)",
    "search.sampler=grid",
    "search.min_trades=0",
    "search.name=six",
]
VERBS = [
    ["report", "last"],
    ["report", "last", "--all"],
    ["runs", "--study", "test"],
    ["compare", "last", "last~1", "--all"],
    ["trials"],
    ["critique", "last"],
    ["select", "six"],
    ["sweep", "status", "six"],
    ["sweep", "report", "six"],
    ["registry"],
    ["promoted", "history"],
    ["data", "info", *COMMON[:1]],
    ["data", "check", *COMMON[:1]],
    ["check", "lookahead", *COMMON[:2], "--samples", "3"],
    ["check", "warmup", *COMMON[:2], "--samples", "3"],
    ["contract", "check", *COMMON[:1], "--on", "2025-10-01"],
    ["promote", "six", "promotion.max_biased_rows=null"],
    ["status"],
    ["why"],
    ["why", "--trades"],
    ["orders"],
    ["fills"],
    ["doctor"],
    ["explain", "strategy.fast"],
    ["promoted", "diff", "1", "paper"],
    ["validate", "last", "validate.budget=4"],
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two runs, a search, a promoted version and the journal of a session."""
    made = project(
        tmp_path_factory.mktemp("terminal") / "project",
        empty_store(tmp_path_factory.mktemp("store")),
    ).root
    shutil.copytree(REPOSITORY / "conf", made / "conf")
    head = "defaults: [{/roll@roll: volume}, _self_]\n"
    (made / "conf" / "data" / "walk.yaml").write_text(head + yaml.safe_dump(DATA))
    rules = yaml.safe_load((REPOSITORY / "conf/promotion/default.yaml").read_text())
    gates = [f"promotion.{name}=null" for name in rules if name != "live"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(made))
        patch.chdir(made)
        assert main.main(["--quiet", "sweep", *COMMON, *SEARCH]) == 0
        assert main.main(["--quiet", "backtest", *COMMON, "strategy.fast=7"]) == 0
        assert main.main(["--quiet", "backtest", *COMMON]) == 0
        assert main.main(["--quiet", "promote", "last", *gates]) == 0
        written(made)
    return made


def shown(home: Path, width: int, verbs: list[list[str]]) -> dict[str, list[str]]:
    """What each command line prints on a terminal of that width, as lines without colours."""
    script = home / "verbs.json"
    script.write_text(json.dumps(verbs))
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {
        "MCL_HOME": str(home),
        "TERM": "xterm-256color",
    }
    command = [sys.executable, "-c", RUNNER, str(script)]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=subprocess.DEVNULL, env=env, cwd=home
    ) as process:
        os.close(follower)
        read = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            read += part
        process.wait(timeout=60)
    os.close(leader)
    text = ESCAPE.sub("", read.decode()).replace("\r", "")
    blocks = (block.split("\n") for block in text.split(MARK)[1:])
    return {block[0]: block[1:] for block in blocks}


def words_of(lines: list[str]) -> set[str]:
    return {word for line in lines for word in line.split()}


@pytest.fixture(scope="module")
def pages(home: Path) -> dict[int, dict[str, list[str]]]:
    return {width: shown(home, width, VERBS) for width in WIDTHS}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_tables_fit_the_terminal(
    pages: dict[int, dict[str, list[str]]], width: int, verb: list[str]
) -> None:
    lines = pages[width][" ".join(verb)]
    assert len(lines) > 3
    for line in lines:
        # one path may be longer than that
        assert len(line) <= width or max(map(len, line.split())) > width - 20, line
    letters = [line for line in lines if re.fullmatch(r"\s*[a-zA-Z]\s*", line)]
    assert letters == []


@pytest.mark.parametrize(
    "verb",
    [verb for verb in VERBS if verb[0] not in ("promote", "sweep", "validate", "doctor")],
    ids=" ".join,
)
def test_no_word_is_broken(pages: dict[int, dict[str, list[str]]], verb: list[str]) -> None:
    """Every word of a narrow terminal is a word of the wide one, and where nothing is dropped, the
    other way round.
    """
    wide = words_of(pages[200][" ".join(verb)])
    for width in (80, 120):
        lines = pages[width][" ".join(verb)]
        found = {word for word in words_of(lines) if not set(word) <= {"─"}}
        changing = re.compile(r"\d+:\d\d|shown|width|this|not")
        assert not {word for word in found - wide if not changing.search(word)} or any(
            "not shown" in line for line in lines
        )


def test_ids_are_whole_at_every_width(home: Path, pages: dict[int, dict[str, list[str]]]) -> None:
    for width in WIDTHS:
        ids = {
            word
            for word in words_of(pages[width]["runs --study test"])
            if re.fullmatch(r"[0-9a-f]{8,}", word)
        }
        assert ids
        assert {len(each) for each in ids} == {12}


def test_the_list_of_runs_names_the_choice_by_plateau(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCL_HOME", str(home))
    monkeypatch.chdir(home)
    assert main.main(["--json", "select", "six"]) == 0
    chosen = json.loads(capsys.readouterr().out)["winner"]
    assert main.main(["--json", "runs", "--study", "test"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    search = next(run for run in listed if run["kind"] == "sweep")
    store = Store(home)
    assert store.run(search["winner"]).tags["trial"] == str(chosen["trial"])
    assert store.run(search["best"]).tags["trial"] == store.run(search["run_id"]).tags["best_trial"]


def test_a_search_is_promoted_by_its_choice_and_says_so(
    pages: dict[int, dict[str, list[str]]],
) -> None:
    text = " ".join(" ".join(pages[200]["promote six promotion.max_biased_rows=null"]).split())
    assert "has the highest plateau" in text
    assert "gates" in text


def test_quiet_prints_the_id_alone(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCL_HOME", str(home))
    monkeypatch.chdir(home)
    assert main.main(["--quiet", "report", "last"]) == 0
    assert re.fullmatch(r"[0-9a-f]{32}\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["strategy=tsmom", "strategy.lookback=90"],
        ['notes="a b: c, 10"', "risk.limits.max_trades_per_session=9"],
    ],
)
def test_the_line_after_a_run_repeats_it(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
) -> None:
    monkeypatch.setenv("MCL_HOME", str(home))
    monkeypatch.chdir(home)
    assert main.main(["--json", "backtest", *COMMON, "costs.slippage_ticks=1.0", *typed]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    line = shlex.split(first["repeat"])
    assert line[:2] == ["mcl", "backtest"]
    assert "costs.slippage_ticks=1.0" not in line  # as the default
    assert main.main(["--json", *line[1:]]) == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["config_sha256"], first["metrics"]["sharpe"]) == (
        second["config_sha256"],
        second["metrics"]["sharpe"],
    )
    assert first["run_id"] != second["run_id"]


@pytest.mark.parametrize(
    "words",
    [
        ("backtest", "-m", "strategy.fast=5,10"),
        (
            "sweep",
            "strategy.fast=range(5,15,5)",
            "search.sampler=grid",
            "search.min_trades=0",
            "search.workers=1",
        ),
    ],
    ids=["grid", "search"],
)
def test_the_line_after_a_search_repeats_it(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("MCL_HOME", str(home))
    monkeypatch.chdir(home)

    def searched(*line: str) -> dict[str, Any]:
        assert main.main(["--json", *line]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return answer

    first = searched(words[0], *words[1:2], *COMMON, *words[2:])
    second = searched(*shlex.split(first["repeat"])[1:])
    assert first["sweep_id"] != second["sweep_id"]
    assert first["best"]["params"] == second["best"]["params"]
    assert first["best"]["value"] == second["best"]["value"]


def test_a_run_begins_at_what_is_promoted_or_at_another_run(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCL_HOME", str(home))
    monkeypatch.chdir(home)

    def ran(*words: str) -> dict[str, str]:
        assert main.main(["--json", "backtest", *words]) == 0
        answer: dict[str, str] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return answer

    other = ran(*COMMON, "strategy.fast=20", "costs=pessimistic")
    assert (
        ran("--from", "paper", "strategy.fast=20", "costs=pessimistic")["config_sha256"]
        == other["config_sha256"]
    )
    assert ran("--from", other["run_id"])["config_sha256"] == other["config_sha256"]
    assert shlex.split(other["repeat"]) == shlex.split(ran("--from", other["run_id"])["repeat"])
    assert main.main(["--json", "backtest", "--from", "paper", "strategy.fst=20"]) == 1
    assert "strategy.fst" in json.loads(capsys.readouterr().out)["error"]["message"]


# --------------------------------------------------------------------------------------- the layout


WORD = st.text("abcdefgh0123456789", min_size=1, max_size=12)
CELL = st.lists(WORD, min_size=0, max_size=9).map(" ".join)


@given(
    width=st.integers(20, 200),
    columns=st.lists(CELL.filter(bool), min_size=1, max_size=9, unique=True),
    data=st.data(),
)
def test_a_table_keeps_every_word_whole(
    width: int, columns: list[str], data: st.DataObject
) -> None:
    rows = data.draw(
        st.lists(st.lists(CELL, min_size=len(columns), max_size=len(columns)), max_size=7)
    )
    lines = tables.lines(columns, rows, width)
    wanted = [word for row in rows for cell in row for word in cell.split()]
    found = [word for line in lines for word in line.split()]
    assert all(found.count(word) >= wanted.count(word) for word in set(wanted))
    texts = [*columns, *(cell for row in rows for cell in row)]
    longest = max((len(word) for text in texts for word in text.split()), default=0)
    names = max(map(len, columns))
    assert all(len(line) <= max(width, names + 2 + longest) for line in lines)


def test_a_list_of_facts_stays_one_when_a_value_is_wider_than_the_terminal() -> None:
    path = "/a/very/long/path/" * 4
    lines = tables.lines(
        ["", "value"], [["why", "it was asked to"], ["position", "1 MCLF6"], ["journal", path]], 40
    )
    assert lines == [
        "          value",
        "────────  ─────",
        "why       it was asked to",
        "position  1 MCLF6",
        "journal",
        f"  {path}",
    ]


def test_columns_are_dropped_by_rank_before_the_table_is_turned() -> None:
    columns, rows = (
        ["run", "name", "least", "less"],
        [["0123456789ab", "x" * 12, "y" * 12, "z" * 12]] * 9,
    )
    lines = tables.lines(columns, rows, 40, 4, least=["least", "less"])
    assert lines[0].split() == ["run", "name"] or lines[0].split() == ["run", "name", "less"]
    assert lines[-1].startswith("not shown at this width: least")
    turned = tables.lines(columns, rows[:2], 40, 4)
    assert [line.split()[0] for line in turned[2:]] == ["name", "least", "less"]
    blocks = tables.lines(columns, rows, 40, 4)
    assert [line.split()[0] for line in blocks[:4]] == columns
