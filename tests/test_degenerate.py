"""Data on which next to nothing can be computed: what is printed, drawn and refused stays a
sentence, with `n/a` or its reason where there is no number.
"""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcl.base.instants import NS
from mcl.cli.main import main
from mcl.market import calendar

REPOSITORY = Path(__file__).resolve().parents[1]
FIRST = date(2024, 1, 2)
ENDS = {2: date(2024, 1, 4), 40: date(2024, 2, 29)}
FAULTS = re.compile(
    r"(?<![\w/.-])(?:nan|-?inf|None(?! of)|NaT|NaN)(?:(?=%)|\b(?![\w/.-]))"
    r"|(?<![\d.,])1 (?:purged )?(?:trials|trades|sessions|runs|neighbours|points|configurations|"
    r"folds|paths|findings|gates|bars|days|versions|fills)\b"
    r"|\b0 (?:nearest|of its)"
    r"|(?<![\w.,/~-])[-+]0(?:\.0*)?(?![\w.,/-])"  # nothing has no sign
)
TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.S)


def bars(sessions: int, moves: bool) -> pd.DataFrame:
    """Half-hourly bars of one contract: a walk, or a price that never moves."""
    days, step = calendar.sessions(FIRST, ENDS[sessions]), 1800 * NS
    closes = np.concatenate(
        [np.arange(a + step, b + 1, step) for a, b in zip(days.open_ns, days.close_ns, strict=True)]
    )
    shocks = np.random.default_rng(7).normal(0, 12.0, len(closes)) * moves
    path = 7_000 + np.rint(np.cumsum(shocks))
    price = np.round(path * 0.01, 2)
    return pd.DataFrame(
        {
            "time": pd.to_datetime(closes, utc=True).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "open": price,
            "high": price,
            "low": price,
            "close": price,
            "volume": 10,
            "symbol": "MCLH4",
        }
    )


Cases = dict[str, tuple[int, bool, list[str], list[str]]]
# name -> (sessions, whether the price moves, words of the run, words of the search)
CASES: Cases = {
    "no trade": (40, True, ["strategy=flat"], []),
    "one trade": (40, True, ["strategy=always_long"], []),
    "constant price": (40, False, ["strategy=always_long"], []),
    "two sessions": (2, True, ["strategy=ema_cross", "strategy.fast=3", "strategy.slow=8"], []),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(
        REPOSITORY / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("promoted")
    )
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data(*more: str) -> list[str]:
    return [
        "data=csv",
        "data.path=bars.csv",
        "data.interval=30m",
        "data.stamped_at=close",
        "data.timezone=UTC",
        "data.columns.symbol=symbol",
        *more,
    ]


class Console:
    """Run verbs and keep what a person reads of them: standard output, refusals and pages."""

    def __init__(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self.capsys, self.faults = project, capsys, list[str]()

    def __call__(self, *words: str, code: int | None = None) -> str:
        done = main(list(words))
        streams = self.capsys.readouterr()
        text = streams.out + streams.err
        assert done in ((0, 1) if code is None else (code,)), text
        assert "did not expect" not in text, text
        self.look(" ".join(["mcl", *words]), text)
        return text

    def pages(self) -> None:
        for page in sorted((self.project / "mlruns").rglob("*.html")):
            self.look(page.name, TAGS.sub("\n", page.read_text()))

    def look(self, where: str, text: str) -> None:
        for line in text.splitlines():
            if FAULTS.search(line):
                self.faults.append(f"{where}: {line.strip()[:200]}")


@pytest.mark.parametrize("case", CASES)
def test_no_number_that_is_none_is_printed(
    case: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions, moves, run, _ = CASES[case]
    bars(sessions, moves).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    last = "data.holdout_start='2024-01-03'" if sessions == 2 else "data.holdout_start='2024-02-15'"
    mcl("backtest", *data(*run, "data.holdout_start=null", "risk=fixed"), code=0)
    mcl("backtest", *data(*run, last, "risk=fixed"), code=0)
    mcl("report", "last", "--all", code=0)
    mcl("compare", "last", "last~1", "--all")
    mcl("critique", "last", code=0)
    mcl("trials", code=0)
    mcl("runs", code=0)
    mcl("validate", "last~1", "validate.budget=4")
    mcl("promote", "last", "--to", "paper")
    mcl("promote", "last~1", "--to", "paper")
    mcl.pages()
    assert not mcl.faults, "\n".join(mcl.faults)


@pytest.mark.parametrize("case", ["constant price", "two sessions", "one trial"])
def test_a_search_on_them_says_why_there_is_nothing(
    case: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions, moves = CASES[case][:2] if case in CASES else (40, True)
    bars(sessions, moves).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    space = ["strategy=ema_cross", "strategy.fast=range(3,6,1)", "strategy.slow=range(8,20,4)"]
    trials = "search.trials=1" if case == "one trial" else "search.trials=4"
    mcl("sweep", *data(*space, "risk=fixed", trials, "search.min_trades=1", "search.name=few"))
    mcl("sweep", "status", "few", code=0)
    mcl("sweep", "report", "few")
    mcl("select", "few")
    mcl("validate", "few", "validate.budget=4")
    mcl("promote", "few")
    mcl("critique", "few")
    mcl("report", "few")
    mcl("sweep", *data(*space, "risk=fixed", trials, "search.min_trades=999", "search.name=none"))
    mcl("sweep", "report", "none")
    mcl("select", "none")
    mcl("validate", "none")
    mcl("runs", code=0)
    mcl("trials", code=0)
    mcl.pages()
    assert not mcl.faults, "\n".join(mcl.faults)


def test_few_sessions_have_no_annual_sharpe_in_any_table(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 sessions: searches, choices, validations and gates keep the number for JSON alone."""
    bars(40, moves=True).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    space = ["strategy=ema_cross", "strategy.fast=range(3,6,1)", "strategy.slow=range(8,20,4)"]
    fence = "data.holdout_start='2024-02-15'"
    sweep = ["sweep", *data(*space, *FEW, "search.trials=6", "search.name=brief", fence)]
    said = mcl(*sweep, code=0) + mcl("sweep", "report", "brief", code=0)
    said += mcl("select", "brief", code=0) + mcl("trials", code=0)
    said += mcl("validate", "brief", "validate.budget=4") + mcl("promote", "brief")
    for page in (project / "mlruns").rglob("*.html"):
        said += TAGS.sub("\n", page.read_text())
    ranked = json.loads(mcl("--json", "select", "brief", code=0))["ranked"]
    ratios = [row[name] for row in ranked for name in ("sharpe", "around")]
    printed = {f"{abs(ratio):{form}}" for ratio in ratios for form in (".4g", ".6g")}
    assert len(ranked) > 2
    assert "too short" in said
    numbers = set(re.findall(r"(?<![\d.,])\d+\.\d+", said))
    assert not {text for text in printed & numbers if len(text) > 4}
    assert re.findall(r"[Ss]harpe (?:ratio )?(?:of )?-?\d[^\n]*", said) == []


LOSER = ["strategy=always_long", "risk=fixed", "risk.limits.max_drawdown_frac=0.01"]
FEW = ["risk=fixed", "search.trials=2", "search.min_trades=1"]
SPACE = ["strategy=ema_cross", "strategy.fast=range(3,6,1)", "strategy.slow=range(8,20,4)"]


def test_an_end_of_all_trading_is_said_wherever_the_run_is_judged(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars(40, moves=True).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    stopped = r"Trading stopped for good on 2024-\d\d-\d\d: the drawdown reached its limit"
    assert re.search(stopped, mcl("backtest", *data(*LOSER), code=0))
    assert re.search(stopped, mcl("validate", "last", "validate.budget=4").replace("\n", " "))
    mcl("promote", "last")
    refusal = mcl("--json", "promote", "last", code=1)
    assert re.search(stopped, refusal)
    pages = [page.read_text() for page in (project / "mlruns").rglob("*.html")]
    assert len(pages) == 2  # of the run and of its validation
    assert all(re.search(r"Trading stopped for good on 2024-\d\d-\d\d", page) for page in pages)
    assert "null" not in "".join(re.findall(r'<ul class="chips".*?</ul>', "".join(pages), re.S))


def test_a_search_without_a_hold_out_says_so_first_with_a_key_that_works(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars(40, moves=True).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    words = data(*SPACE, *FEW)
    began = mcl("sweep", *words, "search.name=open", code=0)
    notice = re.search(r"No hold-out is set: all 42 sessions .* add (data\.\S+) to mcl", began)
    assert notice is not None
    assert began.index("No hold-out") < began.index("2/2 trials")
    fenced = mcl("sweep", *words, "search.name=fenced", notice[1], code=0)
    assert "No hold-out" not in fenced
    refused = mcl("promote", "open", code=1).replace("\n", " ")
    assert f"add {notice[1]} to mcl sweep" in refused


def test_the_name_of_a_search_is_never_used_twice(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars(40, moves=True).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    words = data(
        *SPACE, "risk=fixed", "search.trials=2", "search.min_trades=1", "search.name=twice"
    )
    mcl("sweep", *words, code=0)
    best = (project / "experiments" / "twice_best.yaml").read_bytes()
    same = mcl("sweep", *words, code=1)
    assert "FINISHED with 2 of 2 trials and the same configuration" in same
    other = mcl("sweep", *words, "strategy.slow=range(9,20,3)", code=1)
    assert "and another configuration" in other
    assert "mcl sweep extend twice 4 gives it more trials" in other
    assert (project / "experiments" / "twice_best.yaml").read_bytes() == best
    assert "4/4 trials" in mcl("sweep", "extend", "twice", "4", code=0)


def test_the_id_of_another_kind_names_the_verb_that_takes_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars(40, moves=True).to_csv("bars.csv", index=False)
    mcl = Console(project, capsys)
    words = data(
        *SPACE, "risk=fixed", "search.trials=2", "search.min_trades=1", "search.name=kinds"
    )
    mcl("sweep", *words, code=0)
    assert "2 of 2 trials scored" in mcl("report", "kinds", code=0)
    assert "search " in mcl("explain", "strategy.fast", "kinds", code=0)
    mcl("backtest", *data("strategy=ema_cross", "risk=fixed"), code=0)
    assert "mcl report " in mcl("sweep", "status", "last~1", code=1) + mcl("select", "last", code=1)
    mcl("validate", "last", "validate.budget=4")
    [validation] = [
        line.split(" run ")[1].split(" ")[0]
        for line in mcl("validate", "last", "validate.budget=4").splitlines()
        if " · run " in line
    ]
    assert "shows the run that this validation is of" in mcl("report", validation, code=1)
