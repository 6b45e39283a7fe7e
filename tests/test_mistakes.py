"""Whatever a person writes in a file of theirs, or types, is refused with one sentence, its place
and its cure; never a traceback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mcl.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[1]
HEAD = "# @package _global_\n"
VERBS = (
    ["backtest"],
    ["backtest", "--cfg"],
    ["backtest", "-m"],
    ["sweep"],
    ["sweep", "--estimate"],
    ["data", "info"],
    ["data", "check"],
    ["check", "lookahead"],
)


def verbs_of(number: int) -> list[list[str]]:
    """Three of the verbs for each mistake, in turn: all share one boundary, and each meets many
    mistakes.
    """
    return [VERBS[(number + step) % len(VERBS)] for step in (0, 3, 6)]


class Study(NamedTuple):
    """A study file and what is said of it."""

    name: str
    content: str | bytes
    sentence: str
    cure: str = ""


STUDIES = (
    Study(
        "indent",
        f"{HEAD}strategy:\n  fast: 3\n slow: 4\n",
        r"indent\.yaml, line 4 is not YAML",
        "the same column",
    ),
    Study(
        "twice",
        f"{HEAD}strategy:\n  fast: 3\n  fast: 4\n",
        r"twice\.yaml, line 4: the key fast .* first in line 3",
        "keep one",
    ),
    Study(
        "tab", f"{HEAD}strategy:\n\tfast: 3\n", r"tab\.yaml, line 3 is not YAML", "never with a tab"
    ),
    Study(
        "bytes",
        HEAD.encode() + b"notes: \xff\n",
        r"bytes\.yaml, line 2: byte 0xff is not UTF-8",
        "UTF-8",
    ),
    Study(
        "nul", f'{HEAD}notes: "a\0b"\n', r"nul\.yaml, line 2 is not YAML", "remove the character"
    ),
    Study(
        "tag",
        f"{HEAD}notes: !!python/object/apply:os.system [ls]\n",
        r"tag\.yaml, line 2 is not YAML",
        "no !tag",
    ),
    Study(
        "two",
        f"{HEAD}notes: a\n---\nnotes: b\n",
        r"two\.yaml, line 3 is not YAML",
        "one document a file",
    ),
    Study(
        "self",
        f"{HEAD}notes: ${{notes}}\n",
        r"notes: Recursive interpolation .*self\.yaml, line 2",
        "write it out",
    ),
    Study(
        "circle",
        f"{HEAD}notes: ${{study}}\nstudy: ${{notes}}\n",
        r"Recursive interpolation .*circle\.yaml, line",
        "write it out",
    ),
    Study(
        "alias",
        f"{HEAD}strategy: &a\n  fast: 3\n  more: *a\n",
        r"alias\.yaml stands for more than",
        "without aliases",
    ),
    Study("itself", f"{HEAD}defaults:\n  - itself\n", r"itself .*includes itself"),
    Study(
        "unknown",
        f"{HEAD}notes: ${{nope}}\n",
        r"notes: Interpolation key 'nope' not found .*unknown\.yaml, line 2",
    ),
    Study("open", f"{HEAD}notes: ${{nope\n", r"open\.yaml, line 2: an interpolation", "close it"),
    Study(
        "environment",
        f"{HEAD}notes: ${{oc.env:NO_SUCH}}\n",
        r"'NO_SUCH' not found.*environment\.yaml, line 2",
        "give a default",
    ),
    Study("list", f"{HEAD}- a\n- b\n", r"list\.yaml holds a list", "key: value"),
    Study("word", f"{HEAD}hello\n", r"word\.yaml holds the single value 'hello'", "key: value"),
    Study("number", f"{HEAD}strategy:\n  1: 2\n", r"number\.yaml, line 3: the key 1 is no word"),
    Study(
        "defaults",
        f"{HEAD}defaults: 3\n",
        r"defaults\.yaml, line 2: defaults holds 3, not a list",
        "override /strategy",
    ),
    Study("nothing", f"{HEAD}risk: null\n", r"risk=None: .*nothing\.yaml, line 2"),
    Study("type", f"{HEAD}capital_usd: much\n", r"capital_usd='much': .*type\.yaml, line 2"),
    Study(
        "infinite",
        f"{HEAD}capital_usd: .inf\n",
        r"capital_usd=inf: .*finite.*infinite\.yaml, line 2",
    ),
    Study(
        "cost",
        f"{HEAD}costs:\n  slippage_ticks: .nan\n",
        r"slippage_ticks=nan: .*cost\.yaml, line 3",
    ),
    Study("deep", f"{HEAD}notes: {'[' * 5000}{']' * 5000}\n", r"deep\.yaml is nested too deep"),
    Study(
        "bare",
        "strategy:\n  fast: 3\n",
        r"bare\.yaml has no line '# @package _global_'",
        "first line: # @package _global_",
    ),
    Study(
        "packaged",
        "# @package strategy\nfast: 3\n",
        r"packaged\.yaml says @package strategy",
        "first line: # @package _global_",
    ),
    Study(
        "folder",
        f"{HEAD}hydra:\n  run:\n    dir: /tmp/x\n",
        r"folder\.yaml: hydra\.run\.dir has no effect",
        "MCL_HOME",
    ),
    Study(
        "named",
        f"{HEAD}hydra:\n  job:\n    name: x\n",
        r"named\.yaml: hydra\.job\.name has no effect",
        "study=NAME",
    ),
    Study(
        "loud",
        f"{HEAD}hydra:\n  verbose: true\n",
        r"loud\.yaml: hydra\.verbose has no effect",
        "mcl -v",
    ),
    Study(
        "log",
        f"{HEAD}defaults:\n  - override /hydra/job_logging: none\n",
        r"log\.yaml: hydra\.job_logging has no effect",
        "mcl -v",
    ),
)
STRATEGY = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
{before}
@dataclass(frozen=True)
class Own:
    {field}
    name: ClassVar[str] = "{name}"
    uses_levels: ClassVar[bool] = False

    def __post_init__(self):
        {made}

    @property
    def memory(self):
        return {memory}

    def signal(self, bars):
        return np.zeros(len(bars))
"""


def own(
    name: str, before: str = "", field: str = "n: int = 3", made: str = "pass", memory: str = "1"
) -> str:
    return STRATEGY.format(name=name, before=before, field=field, made=made, memory=memory)


STRATEGIES = (
    Study(
        "syntax",
        "def f(:\n",
        r"syntax\.py, line 1 cannot be loaded: SyntaxError",
        "correct this line",
    ),
    Study(
        "imports",
        "import no_such_thing\n",
        r"imports\.py, line 1 cannot be loaded: ModuleNotFoundError",
        "pip install",
    ),
    Study(
        "leaves",
        "import sys\nsys.exit(3)\n",
        r"leaves\.py, line 2 cannot be loaded: SystemExit",
        "sys.exit",
    ),
    Study("foreign", b"\xff\xfe", r"foreign\.py, line 1 cannot be loaded: SyntaxError"),
    Study(
        "refuses",
        own("refuses", made="raise ValueError('no n')"),
        r"refuses\.py, line 13: ValueError: no n",
    ),
    Study("lacks", own("lacks", made="{}['n']"), r"lacks\.py, line 13: KeyError: 'n'"),
    Study("exits", own("exits", made="raise SystemExit(4)"), r"exits\.py, line 13: SystemExit"),
    Study(
        "must",
        own("must", field="n: int"),
        r"must\.py: parameter n of class Own has no default",
        "int = 10",
    ),
    Study(
        "hint",
        own("hint", field='n: "Nope" = 3'),
        r"hint\.py: a type of class Own cannot be read: NameError",
    ),
    Study("divides", own("divides", memory="1 / 0"), r"divides\.py, line 17: ZeroDivisionError"),
    Study(
        "negative",
        own("negative", memory="-1"),
        r"negative\.py: memory of negative is -1",
        "0 or more",
    ),
    Study(
        "undefined",
        own("undefined", memory="float('nan')"),
        r"undefined\.py: memory of undefined is nan",
        "0 or more",
    ),
)
TYPED = (
    ("risk=null", r"risk=null: risk is chosen by the name", "valid: "),
    ("+risk=null", r"\+risk=null: risk is chosen by the name", "valid: "),
    ("strategy=[1,2]", r"strategy is chosen by the name", "valid: "),
    ("experiment=null", r"experiment=null: a study is chosen by its name", "leave it out"),
    ("experiment=1", r"experiment=1: experiment is chosen by the name", "valid: "),
    ("experiment=../conf/data/csv", r"leads out of the folder of experiment", "valid: "),
    ("hydra=1", r"hydra=1: hydra is no group", "one by one"),
    ("hydra.run.dir=/tmp/x", r"hydra\.run\.dir has no effect", "MCL_HOME"),
    ("hydra.job.name=x", r"hydra\.job\.name has no effect", "study=NAME"),
    ("hydra.verbose=true", r"hydra\.verbose has no effect", "mcl -v"),
    ("hydra/job_logging=none", r"hydra\.job_logging has no effect", "mcl -v"),
    ("=1", r"names no key", "key=value"),
    (f"{'x' * 300}=1", r"the key x+… has 300 characters", "255"),
    (f"strategy={'x' * 300}", r"strategy=x+… has 300 characters", "valid: "),
    (f"experiment={'x' * 300}", r"experiment=x+… has 300 characters", "valid: "),
    (f"study={'x' * 300}", r"has 300 bytes and cannot name a file", "200 bytes"),
    (f"notes={'[' * 3000}{']' * 3000}", r"nested too deep", ""),
    ("capital_usd=inf", r"capital_usd=inf: .*finite", ""),
    ("capital_usd=1e400", r"capital_usd=inf: .*finite", ""),
    ("capital_usd=nan", r"capital_usd=nan: .*", ""),
    ("strategy.fast=1e400", r"strategy\.fast=inf .*not a finite number", ""),
    ("seed=99999999999999999999999", r"seed=9+: .*64 bits", ""),
    ("notes=${notes}", r"notes: Recursive interpolation", "write it out"),
    (
        "data.stamped_at=null",
        r"stamped_at is not said.*data\.stamped_at=open .*data\.stamped_at=close",
        "",
    ),
)
DATA = (
    ("data.path=/dev/zero", r"is a pipe, a device or a socket"),
    ("data.path=pipe", r"is a pipe, a device or a socket"),
    ("data.path=.", r"data\.path=\. is the folder of the project, not one of files"),
    ("data.path=''", r"data\.path is empty"),
    (f"data.path={'x' * 300}", r"has 300 characters: a name has at most 255 bytes"),
    ("data.timezone=null", r"carries no offset, and data\.timezone is not said"),
    ("data.timezone=Mars", r"unknown timezone 'Mars'"),
    ("data.timezone=''", r"unknown timezone ''"),
)


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a few bars, and every wrong file of this module."""
    root = tmp_path_factory.mktemp("mistaken")
    shutil.copytree(REPOSITORY / "conf", root / "conf", ignore=shutil.ignore_patterns("promoted"))
    rows = "".join(
        f"2024-02-01T{9 + i // 60:02d}:{i % 60:02d}:00,75.00,75.02,74.98,75.0{i % 3},5\n"
        for i in range(240)
    )
    (root / "bars.csv").write_text(f"time,open,high,low,close,volume\n{rows}")
    bars = "defaults:\n  - csv\n  - _self_\npath: bars.csv\nstamped_at: close\ntimezone: UTC\n"
    (root / "conf" / "data" / "few.yaml").write_text(bars)
    run = root / "conf" / "run.yaml"
    run.write_text(run.read_text().replace("data: synthetic", "data: few"))
    strategies = root / "experiments" / "strategies"
    strategies.mkdir(parents=True)
    for study in STUDIES:
        content = study.content if isinstance(study.content, bytes) else study.content.encode()
        (root / "experiments" / f"{study.name}.yaml").write_bytes(content)
    for strategy in STRATEGIES:
        content = (
            strategy.content if isinstance(strategy.content, bytes) else strategy.content.encode()
        )
        (strategies / f"{strategy.name}.py").write_bytes(content)
        (root / "conf" / "strategy" / f"{strategy.name}.yaml").write_text(
            f"name: {strategy.name}\n"
        )
    (root / "conf" / "risk" / "cut.yaml").write_text("size: [\n")
    os.mkfifo(root / "pipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(root))
        yield root


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The error of a command line, which must be one JSON object on standard output, exit code 1,
    and no word elsewhere.
    """
    assert main(["--json", *words]) == 1, words
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    answer: dict[str, Any] = json.loads(out)
    assert answer["error"]["code"] in ("config", "data"), answer
    assert "\n" not in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 800
    return {key: str(value) for key, value in answer["error"].items()}


@pytest.mark.parametrize(
    ("study", "verb"),
    [
        pytest.param(study, verb, id=f"{study.name}-{' '.join(verb)}")
        for number, study in enumerate(STUDIES)
        for verb in verbs_of(number)
    ],
)
def test_a_study_is_refused_with_its_place(
    study: Study, verb: list[str], mistaken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal([*verb, f"experiment={study.name}"], capsys)
    assert re.search(study.sentence, error["message"]), error
    assert study.cure in error["hint"]


@pytest.mark.parametrize(
    ("own", "verb"),
    [
        pytest.param(own, verb, id=f"{own.name}-{' '.join(verb)}")
        for number, own in enumerate(STRATEGIES)
        for verb in verbs_of(number)
    ],
)
def test_a_strategy_is_refused_with_its_line(
    own: Study, verb: list[str], mistaken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["strategy.n=range(1,4)"] if verb[0] == "sweep" else []
    error = refusal([*verb, f"strategy={own.name}", *words], capsys)
    assert re.search(own.sentence, error["message"]), error
    assert own.cure in error["hint"]


@pytest.mark.parametrize(
    ("override", "sentence", "cure", "verb"),
    [
        pytest.param(*typed, verb, id=f"{typed[0][:30]}-{' '.join(verb)}")
        for number, typed in enumerate(TYPED)
        for verb in verbs_of(number)
    ],
)
def test_what_is_typed_is_refused(
    override: str,
    sentence: str,
    cure: str,
    verb: list[str],
    mistaken: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = refusal([*verb, override], capsys)
    assert re.search(sentence, error["message"]), error
    assert cure in error["hint"]


@pytest.mark.parametrize(
    "verb",
    [["backtest"], ["sweep"], ["data", "info"], ["data", "build"], ["check", "warmup"]],
    ids=" ".join,
)
@pytest.mark.parametrize(("override", "sentence"), DATA, ids=[typed[0][:30] for typed in DATA])
def test_what_is_no_file_of_bars_is_refused(
    override: str,
    sentence: str,
    verb: list[str],
    mistaken: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert re.search(sentence, refusal([*verb, override], capsys)["message"])


def test_a_choice_of_a_group_is_refused_with_its_place(
    mistaken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(
        r"risk/cut\.yaml, line 2 is not YAML", refusal(["backtest", "risk=cut"], capsys)["message"]
    )


@pytest.mark.parametrize(
    "words",
    [
        ["backtest", "experiment=indent"],
        ["sweep", "strategy=refuses", "strategy.n=range(1,3)"],
        ["data", "info", "data.path=pipe"],
    ],
)
def test_a_real_process_says_it_too(words: list[str], mistaken: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mcl", "--json", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"]["message"]
    spoken = subprocess.run(
        [sys.executable, "-m", "mcl", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert spoken.returncode == 1
    assert spoken.stdout == ""
    assert "\nmcl: " in f"\n{spoken.stderr}"
    assert "Traceback" not in spoken.stderr


@pytest.mark.parametrize(
    "verb", [("backtest",), ("data", "check"), ("check", "lookahead")], ids=" ".join
)
def test_a_key_below_a_group_that_was_left_out_is_a_sentence(
    mistaken: Path, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    assert main(["--json", *verb, "~risk", "risk.size.fraction=1"]) == 1
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error["code"] != "unexpected"
    assert "risk" in error["message"]


def test_a_space_that_is_no_space_is_a_sentence(
    mistaken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(["sweep", "--estimate", "search.space=nowhere.csv"], capsys)
    assert error["message"] == "search.space='nowhere.csv' is no space of axes"
    assert "strategy.fast=range(10,100,10)" in error["hint"]
