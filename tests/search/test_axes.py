"""What is judged before a search starts, and what is said of one of which nothing is left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcl import composition, search
from mcl.base.errors import ConfigError
from mcl.cli.main import main
from mcl.risk.sizes.fixed import FixedSize
from mcl.search.result import SweepResult
from mcl.tracking.project import Project

HEAD = "# @package _global_\n"
OWN = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np

@dataclass(frozen=True)
class Odd:
    n: int = 3
    name: ClassVar[str] = "odd"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = 1

    def __post_init__(self):
        if self.n > 5:
            raise {error}

    def signal(self, bars):
        return np.zeros(len(bars))
"""


@pytest.mark.parametrize(
    ("axis", "sentence", "cure"),
    [
        (
            "strategy.fast=interval(100,500)",
            r"strategy\.fast=100\.0 does not fit: .*integer",
            "int(interval(100, 500))",
        ),
        (
            "strategy.fast=tag(log,interval(1,9))",
            r"strategy\.fast=1\.0 does not fit",
            "tag(log, int(interval(1, 9)))",
        ),
        ("strategy.fast=range(1,10,2.5)", r"strategy\.fast=1\.0 does not fit", "range(1, 9, 2)"),
        (
            "strategy.fast=choice(5,word)",
            r"strategy\.fast='word' does not fit: .*integer",
            "narrow",
        ),
        (
            "strategy.fast=range(0,10)",
            r"strategy\.fast=0 does not fit: .*greater than or equal to 1",
            "narrow",
        ),
        (
            "strategy.fast=range(1,100000000000)",
            r"does not fit: .*less than or equal to 100000",
            "narrow",
        ),
        (
            "costs.slippage_ticks=range(0,1000,100)",
            r"costs\.slippage_ticks=900 does not fit",
            "narrow",
        ),
        ("risk.limits.trading_windows=choice(['x'],[])", r"does not fit: must match", "narrow"),
        ("strategy.fast=interval(1,inf)", r"is not finite", "write range"),
    ],
)
def test_an_axis_has_the_type_and_the_range_of_its_parameter(
    axis: str, sentence: str, cure: str, project: Any
) -> None:
    before = set((project.root / "mlruns" / "sweeps").glob("*.card"))
    with pytest.raises(ConfigError, match=sentence) as caught:
        project.sweep(axis)
    assert cure in caught.value.hint
    assert set((project.root / "mlruns" / "sweeps").glob("*.card")) == before


def test_a_list_and_a_mapping_are_choices(project: Any) -> None:
    windows = "risk.limits.trading_windows=choice(['09:00-14:30'],[])"
    sizes = "risk.size=choice({method:fixed,contracts:1.0},{method:fixed,contracts:2.0})"
    sweep_result = project.sweep(
        windows,
        sizes,
        "search.sampler=random",
        "search.trials=6",
        "search.min_trades=0",
        "search.name=nested",
    )
    assert set(sweep_result.trials["state"]) <= {"COMPLETE", "PRUNED"}  # fast >= slow
    assert set(sweep_result.trials["risk.limits.trading_windows"]) <= {'["09:00-14:30"]', "[]"}
    assert sweep_result.best is not None
    again = composition.compose("backtest", ["experiment=nested_best"]).config
    assert isinstance(again.risk.size, FixedSize)
    assert again.risk.size.contracts in (1.0, 2.0)
    assert list(again.risk.limits.trading_windows) == json.loads(
        sweep_result.best["params"]["risk.limits.trading_windows"]
    )


def test_a_grid_varies_lists_and_mappings(project: Any) -> None:
    sweep_result = project.grid(
        "strategy=ema_cross", "risk.limits.trading_windows=['09:00-14:30'],[]"
    )
    assert list(sweep_result.trials["state"]) == ["COMPLETE", "COMPLETE"]
    sweep_result = project.grid(
        "strategy=ema_cross", "risk.size={method:fixed,contracts:1.0},{method:fixed,contracts:2.0}"
    )
    assert list(sweep_result.trials["state"]) == ["COMPLETE", "COMPLETE"]


def test_a_point_that_cannot_be_is_one_failed_child(project: Any) -> None:
    sweep_result = project.grid("strategy=ema_cross", "capital_usd=25000.0,inf")
    assert list(sweep_result.trials["state"]) == ["COMPLETE", "FAILED"]
    assert "capital_usd=inf" in sweep_result.trials["detail"].iloc[1]
    sweep_result = project.grid("strategy=ema_cross", "data.path=walk.csv,nowhere.csv")
    assert list(sweep_result.trials["state"]) == ["COMPLETE", "FAILED"]
    assert "nowhere.csv" in sweep_result.trials["detail"].iloc[1]


def test_an_own_constructor_that_refuses_a_point_fails_that_trial(project: Any) -> None:
    write_own(project.root, "ValueError(f'no {self.n}')")
    sweep_result = search.sweep(composition.compose("sweep", list(OWN_SPACE)), project=project)
    assert isinstance(sweep_result, SweepResult)
    states = dict(zip(sweep_result.trials["strategy.n"], sweep_result.trials["state"], strict=True))
    assert {n: state for n, state in states.items() if n > 5} == {
        6: "FAILED",
        7: "FAILED",
        8: "FAILED",
    }
    trials = sweep_result.trials
    detail = trials[trials["strategy.n"] == 7]["detail"].iloc[0]
    assert re.search(r"odd\.py, line 15: ValueError: no 7", detail)


def test_an_own_constructor_that_breaks_at_an_end_is_told_before_the_search(project: Any) -> None:
    write_own(project.root, "KeyError('n')")
    with pytest.raises(
        ConfigError,
        match=r"search\.space\.strategy\.n: at strategy\.n=8 .*odd\.py, line 15: KeyError",
    ):
        search.sweep(composition.compose("sweep", list(OWN_SPACE)), project=project)


OWN_SPACE = (
    *(
        "data=csv",
        "data.path=walk.csv",
        "data.stamped_at=close",
        "strategy=flat",
        "strategy.name=odd",
        "strategy.n=range(1,9)",
    ),
    *("search.sampler=grid", "search.min_trades=0", "search.metric=trades", "risk=fixed"),
)


def write_own(root: Path, error: str) -> None:
    folder = root / "experiments" / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "odd.py").write_text(OWN.format(error=error))


def test_a_rule_between_a_word_and_a_number_is_refused(project: Any) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.name > 3 compares str and float"):
        project.sweep("search.constraints=['strategy.name > 3']")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["search.min_trades=100000"],
            r"nothing has a score: all 3 trials .* were pruned: no_trades 3",
        ),
        (["search.constraints=['strategy.fast > strategy.slow']"], r"were pruned: constraint 3"),
    ],
)
def test_a_search_of_which_nothing_is_left_exits_with_1(
    words: list[str], sentence: str, project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        "data=csv",
        "data.path=walk.csv",
        "data.stamped_at=close",
        "strategy=ema_cross",
        "search.trials=3",
    ]
    assert main(["--json", "sweep", *small, *words]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert re.search(sentence, answer["error"]["message"])
    assert answer["error"]["hint"]


def test_hydras_own_axes_and_mode_work(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    studies = project.root / "experiments"
    studies.mkdir(exist_ok=True)
    axes = "hydra:\n  sweeper:\n    params:\n      strategy.fast: 2,3\n"
    (studies / "axes.yaml").write_text(HEAD + axes)
    (studies / "both.yaml").write_text(f"{HEAD}{axes}  mode: MULTIRUN\n")
    words = [
        "data=csv",
        "data.path=walk.csv",
        "data.stamped_at=close",
        "strategy=ema_cross",
        "risk=fixed",
    ]

    def answer(*typed: str) -> dict[str, Any]:
        main(["--json", *typed, *words])
        content: dict[str, Any] = json.loads(capsys.readouterr().out)
        return content

    for typed in (
        "+hydra.sweeper.params={strategy.fast: '2,3'}",
        "hydra.sweeper.params.strategy.fast='2,3'",
    ):
        assert (
            "hydra.sweeper.params is written in a study file"
            in answer("backtest", typed)["error"]["message"]
        )
    failed = answer("backtest", "-m", "strategy.fast=2,3,500", "strategy.slow=20")
    assert failed["trials"] == {"COMPLETE": 2, "FAILED": 1}
    assert re.match(r"1 trial of 3 failed; trial 2: .*fast", failed["error"]["message"])
    assert (
        "hydra.sweeper.params is read by a grid"
        in answer("backtest", "experiment=axes")["error"]["message"]
    )
    assert answer("backtest", "-m", "experiment=axes")["trials"] == {"COMPLETE": 2}
    assert answer("backtest", "experiment=both")["trials"] == {"COMPLETE": 2}
    sweep_result = answer(
        "sweep", "experiment=axes", "strategy.slow=20", "search.sampler=grid", "search.min_trades=0"
    )
    assert sweep_result["trials"] == {"COMPLETE": 2}
    one = search.sweep(
        composition.compose(
            "sweep",
            [
                *words,
                "experiment=axes",
                "strategy.fast=4",
                "strategy.slow=range(10,30,10)",
                "search.sampler=grid",
            ],
        ),
        project=Project.at(project.root),
    )
    assert set(one.keys) == {"strategy.slow"}  # what is typed goes before what the study says


@pytest.mark.parametrize(
    "words",
    [
        ["strategy.fast=range(1,1000000)"],
        ["strategy.fast=range(1,1000)", "strategy.slow=range(1,1000)"],
    ],
)
def test_a_grid_that_nobody_can_wait_for_is_counted_not_made(words: list[str]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"the grid has 99\d,\d\d\d jobs, more than 100,000; strategy.fast=.* alone has 99",
    ):
        composition.expand(words)


def test_a_range_without_an_end_is_refused() -> None:
    for word in ("strategy.fast=range(1,inf)", "strategy.fast=range(1,9,0)"):
        with pytest.raises(ConfigError, match=r"without an end|zero|cannot read|step"):
            composition.expand([word])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["runs", "--study", "nope"], r"no run is filed under the study 'nope'"),
        (["runs", "--alias", "nope"], r"no session of 'nope'"),
        (
            ["trials", "--family", "ema"],
            r"nothing of the strategy 'ema' was tried here: did you mean 'ema_cross'",
        ),
        (["promoted", "history", "nope"], r"nothing was ever promoted as 'nope'"),
        (["sweep", "resume", ""], r"no sweep is called ''"),
        (["sweep", "status", ""], r"no sweep is called ''"),
        (["report", ""], r"no run has the id ''"),
        (
            ["check", "lookahead", "--samples", "99999"],
            r"samples=99,999 is more than the 15,600 bars",
        ),
        (
            ["check", "warmup", "strategy.fast=2", "strategy.slow=5", "--lengths", "5,99999"],
            r"lengths: 99,999 is not between 1 and 15,598",
        ),
    ],
)
def test_a_filter_that_finds_nothing_is_a_sentence(
    words: list[str], sentence: str, project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    project.sweep("search.trials=2")
    bars = (
        ["data=csv", "data.path=walk.csv", "data.stamped_at=close"] if words[0] == "check" else []
    )
    assert main(["--json", *words, *bars]) == 1
    assert re.search(sentence, json.loads(capsys.readouterr().out)["error"]["message"])
