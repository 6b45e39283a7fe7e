"""Command lines from the grammar of mcl: its own verbs, options and keys, with values that nobody
should type.

Verbs and options are read from the parser, keys from the models and groups from conf/, so that new
ones are in. A line must end within a time, with exit code 0, 1 or 2, without a traceback, and with
one JSON object where --json was asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

from mcl import strategy
from mcl.cli.main import main
from mcl.cli.table import UNENDING, VERBS
from mcl.composition import conf_dir, schema_keys

LONGEST_SEC = 20  # of processor time
WAITED_SEC = 90  # in all, on a machine that does other things
COMPOSED = {  # the configuration that a verb's overrides are of; the others have that of a backtest
    "sweep": "sweep",
    "sweep resume": "sweep",
    "sweep extend": "sweep",
    "live": "live",
    "promote": "promote",
    "validate": "validate",
}
RARE = {
    "doctor",
    "init",
    "store backup",
    "store restore",
    "new strategy",
    "new source",
}  # slow, or about files
OFTEN = {
    "backtest",
    "sweep",
    "data info",
    "data check",
    "explain",
    "check lookahead",
    "check warmup",
}
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "-0.0",
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "99999",
    "1e9",
    str(2**63),
    str(-(2**70)),
    "007",
    "1_000",
)
TEXTS = (
    "",
    "x",
    "last",
    "paper",
    "None",
    "null",
    "true",
    "a b",
    "ü",
    "🙂",
    "x" * 300,
    "../x",
    "..",
    "/",
    ".",
    "-",
    "'",
    '"',
    "\udcff",
    "\x07",
)
MANY_TRIALS = ("99999", "1_000")  # legal numbers of trials, which take their time
DATES = (
    "2024-02-30",
    "2024-02-01",
    "9999-12-31",
    "0000-00-00",
    "20240201",
    "'2024-02-01'",
    "tomorrow",
)
NESTED = (
    "[]",
    "{}",
    "[1,2]",
    "{a:1}",
    "[[[1]]]",
    "{a:{b:{c:1}}}",
    "[null]",
    "{1:2}",
    "[" * 40 + "]" * 40,
    "[" * 2000 + "]" * 2000,
)
SWEEPS = (
    *(
        "1,2",
        "range(1,3)",
        "range(3,1)",
        "range(1,1e9)",
        "range(0,1,0)",
        "interval(1,2)",
        "interval(2,1)",
        "choice()",
        "choice(1,2)",
    ),
    *(
        "tag(log,interval(1,9))",
        "int(interval(1,9))",
        "glob(*)",
        "shuffle(1,2)",
        "sort(2,1)",
        "choice([1],[2])",
        "choice({a:1},{a:2})",
    ),
    *(
        "range(1,99999999999)",
        "interval(nan,inf)",
        "tag(x,1,2)",
        "range(1.0,2.0,0.1)",
        "int(3.7)",
        "str(x)",
        "bool(x)",
        "float(range(1,3))",
    ),
)
ODD = (
    "???",
    "${notes}",
    "${nope}",
    "${oc.env:HOME}",
    "${",
    "$",
    "\\",
    "=",
    "a=b",
    "%d",
    "{",
    "]",
    "!",
    "*",
    "&a",
    "#",
    "@x",
    "~",
    "+",
)
FILES = (
    "/dev/zero",
    "pipe",
    ".",
    "bars.csv",
    "nowhere.csv",
    "/dev/null",
    "conf",
    "/dev/stdin",
    "broken.csv",
    "/proc/self/mem",
    "loop",
)
HYDRA = (
    *(
        "hydra",
        "hydra.run.dir",
        "hydra.job.name",
        "hydra.verbose",
        "hydra/job_logging",
        "hydra/launcher",
        "hydra/sweeper",
        "hydra.mode",
    ),
    *(
        "hydra.sweeper.params",
        "hydra.searchpath",
        "hydra.sweep.dir",
        "hydra.nope",
        "hydra.launcher.x",
        "hydra/hydra_logging",
    ),
)
RULES = (
    "strategy.fast < strategy.slow",
    "trades >= 1",
    "strategy.fast <",
    "nope > 1",
    "1 < 2",
    "strategy.name > 3",
    "",
)


@dataclass(frozen=True)
class Ending:
    """How a command line ended. `fault` is empty for one that ended as it should."""

    line: tuple[str, ...]
    code: int | None
    fault: str
    seconds: float
    out: str
    err: str


def run(line: Sequence[str]) -> Ending:
    """One command line in this process."""
    out, err, began, late = io.StringIO(), io.StringIO(), time.monotonic(), []

    def ring(number: int, frame: FrameType | None) -> None:
        late.append(number)
        raise KeyboardInterrupt

    before, before_busy = signal.signal(signal.SIGALRM, ring), signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_SEC)
    signal.alarm(WAITED_SEC)
    code: int | None = None
    raised = ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(line))
    except BaseException as error:
        raised = f"raised {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGPROF, before_busy)
    said, told = out.getvalue(), err.getvalue()
    fault = (
        f"longer than {LONGEST_SEC} s of work, or {WAITED_SEC} s of waiting"
        if late
        else raised or _fault(line, code, said, told)
    )
    return Ending(tuple(line), code, fault, time.monotonic() - began, said, told)


def _fault(line: Sequence[str], code: int | None, out: str, err: str) -> str:
    if "Traceback" in err or "Traceback" in out:
        return "a traceback"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if "met what it did not expect" in out or "met what it did not expect" in err:
        return f"a fault of mcl: {(out + err)[:500]}"
    if "--json" not in line:
        return "" if code == 0 or out or err else "no word about it"
    try:
        answer = json.loads(out)
    except ValueError:
        return f"no JSON: {out[:200]!r}"
    if code and "error" in answer and not answer["error"]["message"]:
        return "an error without a sentence"
    return ""


def lines(seed: int, count: int) -> Iterator[list[str]]:
    """`count` command lines that follow from the seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield line(draw)


def line(draw: random.Random) -> list[str]:
    if draw.random() < 0.02:
        return ["--json", draw.choice(TEXTS), *draw.choices(TEXTS, k=draw.randrange(3))]
    name = draw.choice(list(OFTEN)) if draw.random() < 0.6 else draw.choice(list(VERBS))
    if name in RARE and draw.random() < 0.7:
        name = "backtest"
    flags = ["--json"] if draw.random() < 0.8 else draw.choice([[], ["-v"], ["--quiet"]])
    return [*flags, *name.split(), *words(draw, name)]


def words(draw: random.Random, name: str) -> list[str]:
    """What stands behind a verb: some of its options, its positional words, overrides."""
    made: list[str] = []
    refused = name not in UNENDING
    for action in actions(name):
        if action.dest in ("help", "overrides", "rest"):
            continue
        if action.option_strings:
            if draw.random() < 0.25:
                made += _option(draw, action)
        elif action.nargs not in ("?", "*") or draw.random() < 0.5:
            made += [
                _word(draw, action)
                for _ in range(draw.randrange(1, 3) if action.nargs == "+" else 1)
            ]
    if any(action.dest in ("overrides", "rest") for action in actions(name)):
        made += [override(draw, name) for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))]
    if name in ("sweep", "sweep resume", "sweep extend"):
        short = [number for number in NUMBERS if number not in MANY_TRIALS]
        made.append(
            f"search.trials={draw.choice(('1', '2', '2', *short))}"
            if name == "sweep"
            else "search.workers=1"
        )
    if not refused:  # it would go on for ever: one word is wrong for certain
        made.append(
            draw.choice(("--port=70000", "--nonsense", "--port=-1", "--count=-1", "--samples=nan"))
        )
    return made


@cache
def actions(name: str) -> tuple[argparse.Action, ...]:
    parser = argparse.ArgumentParser()
    VERBS[name].arguments(parser)
    return tuple(parser._actions)


def _option(draw: random.Random, action: argparse.Action) -> list[str]:
    flag = action.option_strings[-1]
    if action.nargs == 0:
        return [] if action.dest in ("show", "watch", "stay", "yes") else [flag]
    return [f"{flag}={_word(draw, action)}"]


def _word(draw: random.Random, action: argparse.Action) -> str:
    if action.choices and draw.random() < 0.5:
        return str(draw.choice(list(action.choices)))
    # it may be written to
    if action.dest in ("to", "folder", "png", "state", "transcript", "archive", "file"):
        return draw.choice(
            ("made", "made/below", "x" * 300, "pipe", "conf", "\udcff", "", "bars.csv/x")
        )
    if action.dest == "constraint":
        return draw.choice(RULES)
    if action.type is not None:
        return draw.choice((*NUMBERS, *TEXTS[:4]))
    if action.dest == "key":
        return draw.choice((_key(draw, "backtest"), *TEXTS, *HYDRA))
    return draw.choice((*TEXTS, *NUMBERS, *DATES, *RULES))


def override(draw: random.Random, name: str) -> str:
    verb = COMPOSED.get(name, "backtest")
    kind = draw.random()
    if kind < 0.55:
        key = _key(draw, verb)
    elif kind < 0.75:
        key = draw.choice(groups())
    elif kind < 0.85:
        key = draw.choice(HYDRA)
    else:
        key = draw.choice(
            (
                *TEXTS,
                "a.b.c",
                ".a",
                "a.",
                "a..b",
                "strategy@risk",
                "data/x",
                "x" * 300,
                ".".join("a" * 400),
            )
        )
    sign = draw.choice(("", "", "", "", "", "+", "++", "~"))
    if sign == "~" and draw.random() < 0.5:
        return f"~{key}"
    return f"{sign}{key}={_value(draw, key)}"


def _key(draw: random.Random, verb: str) -> str:
    kind = draw.random()
    known = modelled(verb)
    if kind < 0.7:
        return draw.choice(known)
    if kind < 0.9:
        return draw.choice(parameters())
    key = draw.choice(known)
    at = draw.randrange(len(key))
    return key[:at] + draw.choice("xz._") + key[at + 1 :]


def _value(draw: random.Random, key: str) -> str:
    if key.endswith("path"):
        return draw.choice(FILES)
    if key in groups() and draw.random() < 0.6:
        return draw.choice((*choices(key), "nope", f"{choices(key)[0]}x"))
    pools: tuple[Sequence[str], ...] = (
        NUMBERS,
        NUMBERS,
        TEXTS,
        DATES,
        NESTED,
        SWEEPS,
        SWEEPS,
        ODD,
        FILES,
        RULES,
    )
    return draw.choice(draw.choice(pools))


@cache
def modelled(verb: str) -> tuple[str, ...]:
    return tuple(key for key, _ in schema_keys.leaves(verb))


@cache
def parameters() -> tuple[str, ...]:
    named = (strategy.parameters(name) for name in strategy.builtin())
    return tuple(sorted({f"strategy.{parameter}" for found in named for parameter in found}))


@cache
def groups() -> tuple[str, ...]:
    named = sorted(
        path.name for path in conf_dir().iterdir() if path.is_dir() and any(path.glob("*.yaml"))
    )
    return (*named, "experiment")


@cache
def choices(group: str) -> tuple[str, ...]:
    folder = conf_dir().parent / "experiments" if group == "experiment" else conf_dir() / group
    return tuple(sorted(path.stem for path in folder.glob("*.yaml"))) or ("nope",)


def report(endings: Sequence[Ending], told: Callable[[str], Any] = print) -> None:
    """Counts, the slowest, and every line that did not end as it should."""
    codes = {code: sum(ending.code == code for ending in endings) for code in (0, 1, 2, None)}
    told(
        f"{len(endings):,} lines: exit codes {codes},"
        f" {sum(ending.seconds for ending in endings):.0f} s"
    )
    for ending in sorted(endings, key=lambda ending: -ending.seconds)[:5]:
        told(f"  {ending.seconds:.1f} s  mcl {shlex.join(ending.line)[:200]!a}")
    for ending in endings:
        if ending.fault:
            told(f"FAULT {ending.fault}\n  mcl {shlex.join(ending.line)[:400]!a}")
