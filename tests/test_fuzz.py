"""Six hundred command lines that nobody should type: none ends in a traceback, hangs, or owes its
JSON.

MCL_FUZZ=SEED:COUNT runs others: `MCL_FUZZ=7:5000 pytest -n 0 -s tests/test_fuzz.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fuzz
import pytest

from mcl.cli.main import main
from mcl.cli.table import VERBS

REPOSITORY = Path(__file__).resolve().parents[1]
SEED, COUNT = (int(part) for part in os.environ.get("MCL_FUZZ", "1:600").split(":"))
PARTS = 4
FIRST = (
    ["backtest"],
    ["sweep", "search.trials=2", "search.min_trades=0"],
    ["check", "lookahead", "--samples=2"],
    ["check", "warmup"],
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with six short sessions, one run and one search; what is compiled once is compiled
    here.
    """
    root = tmp_path_factory.mktemp("ground")
    shutil.copytree(REPOSITORY / "conf", root / "conf", ignore=shutil.ignore_patterns("promoted"))
    (root / "experiments").mkdir()
    shutil.copy(REPOSITORY / "experiments" / "001_ema_baseline.yaml", root / "experiments")
    for world in ("synthetic", "planted"):  # two years take seconds to make
        (root / "conf" / "data" / f"{world}.yaml").unlink()
    minutes = [
        f"2024-02-{day:02d}T{9 + i // 60:02d}:{i % 60:02d}:00"
        for day in (1, 2, 5, 6, 7, 8)
        for i in range(120)
    ]
    rows = "".join(
        f"{minute},75.00,75.02,74.98,75.0{i % 3},5\n" for i, minute in enumerate(minutes)
    )
    (root / "bars.csv").write_text(f"time,open,high,low,close,volume\n{rows}")
    (root / "broken.csv").write_text("time,open\n2024-99-01,abc\n")
    few = "defaults:\n  - csv\n  - _self_\npath: bars.csv\nstamped_at: close\ntimezone: UTC\n"
    (root / "conf" / "data" / "few.yaml").write_text(few)
    run = root / "conf" / "run.yaml"
    run.write_text(run.read_text().replace("data: synthetic", "data: few"))
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to("loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(root))
        patch.chdir(root)
        for words in FIRST:
            main(["--quiet", *words])
        yield root


@pytest.mark.parametrize("part", range(PARTS))
def test_no_command_line_ends_in_a_traceback(part: int, ground: Path) -> None:
    each = COUNT // PARTS
    endings = [fuzz.run(words) for words in fuzz.lines(SEED * PARTS + part, each)]
    faults: list[str] = []
    fuzz.report(endings)
    fuzz.report([ending for ending in endings if ending.fault], faults.append)
    assert not any(ending.fault for ending in endings), "\n".join(faults)
    # most are refused, and by a verb
    assert sum(ending.code == 1 for ending in endings) > each // 2
    assert sum(ending.code == 0 for ending in endings) > 0


def test_the_lines_know_every_verb_and_every_option_with_a_value() -> None:
    drawn = [words for seed in range(6) for words in fuzz.lines(seed, 2_000)]
    spoken = {" ".join(words) for words in drawn}
    assert not [name for name in VERBS if not any(f"{name} " in f"{line} " for line in spoken)]
    options = {
        (name, action.option_strings[-1])
        for name in VERBS
        for action in fuzz.actions(name)
        if action.option_strings
    }
    valued = {
        (name, flag)
        for name, flag in options
        if flag not in ("--help", "--show", "--watch", "--stay", "--yes")
    }
    missing = [
        (name, flag)
        for name, flag in sorted(valued)
        if not any(flag in line and name in line for line in spoken)
    ]
    assert missing == []


def test_a_traceback_a_hang_and_a_missing_object_are_seen(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(args: object) -> int:
        while True:
            os.sched_yield()

    handler = f"mcl.cli.{VERBS['runs'].handler.replace(':', '.')}"
    monkeypatch.setattr(fuzz, "LONGEST_SEC", 1)
    monkeypatch.setattr(handler, hang)
    assert fuzz.run(["--json", "runs"]).fault.startswith("longer than 1 s")
    monkeypatch.setattr(fuzz, "LONGEST_SEC", 20)
    monkeypatch.setattr(handler, lambda _: 1 / 0)
    assert fuzz.run(["--json", "runs"]).fault.startswith("a fault of mcl")
    monkeypatch.setattr(handler, lambda _: 0)
    assert fuzz.run(["--json", "runs"]).fault.startswith("no JSON")
    monkeypatch.setattr(handler, lambda _: 7)
    assert fuzz.run(["runs"]).fault == "exit code 7"
