"""A pruner sees the folds that have a value, whichever those are, and a search without a score says
so.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from mcl.cli import main
from mcl.config import schema
from mcl.search.space import parse
from mcl.search.study import Study
from mcl.search.trial import Outcome

from .conftest import SMALL, Project

PRUNERS = get_args(schema.Search.model_fields["pruner"].annotation)
LATE = [
    "strategy=tsmom",
    # three have no trade in the first fold, one in the first four
    "strategy.lookback=choice(4000,500,300,200,100,7000,13000,50)",
    "search.sampler=grid",
    "search.trials=8",
    "search.min_trades=0",
]
COMPARED = ["trial", "state", "reason", "value"]
CONF = Path(__file__).resolve().parents[2] / "conf"


def late(project: Project, *overrides: str) -> Any:
    from mcl import composition

    small = [o for o in SMALL if o.startswith(("data", "risk"))]
    return project.search(composition.compose("sweep", [*small, *LATE, *overrides]))


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_first_fold_without_a_value_is_no_fault(
    project: Project, pruner: str, workers: int
) -> None:
    sweep_result = late(project, f"search.pruner={pruner}", f"search.workers={workers}")
    assert sweep_result.states.get("FAILED", 0) == 0, sweep_result.trials["detail"].tolist()
    assert sweep_result.trials["trial"].tolist() == list(range(8))
    assert sweep_result.best


@pytest.mark.parametrize("pruner", PRUNERS)
def test_such_a_search_goes_on_where_it_was_ended(
    project: Project, pruner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker, so that the order of the trials is that of the undisturbed search."""
    from mcl.search.runner import _Search

    whole = late(project, f"search.pruner={pruner}")
    loop: Any = _Search._loop

    def ended(self: Any, trials: Any, *others: Any) -> None:
        loop(self, (outcome for outcome, _ in zip(trials, range(4), strict=False)), *others)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Search, "_loop", ended)
    with pytest.raises(KeyboardInterrupt):
        late(project, f"search.pruner={pruner}", f"search.name=late_{pruner}")
    monkeypatch.setattr(_Search, "_loop", loop)
    again = project.resume(f"late_{pruner}")
    pd.testing.assert_frame_equal(again.trials[COMPARED], whole.trials[COMPARED])


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name != "none"])
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2", "random"])
@pytest.mark.parametrize("first", [0, 1, 4])
def test_any_fold_may_be_the_first_and_any_may_be_missing(
    pruner: str, sampler: str, first: int
) -> None:
    space = parse({"strategy.fast": "range(2, 40)"}, {"strategy": {"fast": 5}})
    asked: dict[str, Any] = {"sampler": sampler, "pruner": pruner}
    study = Study(space, schema.Search(**asked), 1)
    for number in range(12):
        _, values = study.ask()
        begins = first if number % 2 else 0
        # the worker of every third trial dies, and another one begins it anew
        for again in range(2):
            for fold in range(begins, 5, 1 + number % 3):
                study.judge(number, fold, float(number + fold))
            if again or number % 3:
                break
        outcome = study.reported(Outcome(number, values, "COMPLETE", value=float(number)))
        assert [fold for fold, _ in outcome.folds] == list(range(begins, 5, 1 + number % 3))
        study.tell(outcome)


def test_a_repeated_trial_is_judged_as_it_was() -> None:
    space = parse({"strategy.fast": "range(2, 40)"}, {"strategy": {"fast": 5}})
    study = Study(space, schema.Search(sampler="tpe", pruner="median"), 1)
    _, values = study.ask()
    decisions = [study.judge(0, fold, value) for fold, value in ((1, 2.0), (2, 4.0), (4, 6.0))]
    assert [
        study.judge(0, fold, value) for fold, value in ((1, 2.0), (2, 4.0), (4, 6.0))
    ] == decisions
    assert study.reported(Outcome(0, values, "COMPLETE", value=1.0)).folds == [
        [1.0, 2.0],
        [2.0, 3.0],
        [4.0, 4.0],
    ]


@pytest.mark.parametrize(
    ("typed", "sentence", "hint"),
    [
        (["search.min_trades=100000"], "no_trades 8 (", "lower search.min_trades"),
        (
            ["search.constraints=['trades >= 100000']"],
            "constraint 8 (",
            "loosen search.constraints",
        ),
    ],
)
def test_a_search_without_a_score_exits_1_and_says_why(
    project: Project,
    tmp_path: Path,
    typed: list[str],
    sentence: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("promoted"))
    shutil.copy(project.root / "walk.csv", tmp_path)
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    small = [o for o in SMALL if o.startswith(("data", "risk"))]
    assert main.main(["--json", "sweep", *small, *LATE, *typed]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "nothing has a score: all 8 trials of sweep" in error["message"]
    assert sentence in error["message"]
    assert hint in error["hint"]
    assert main.main(["--quiet", "sweep", *small, *LATE]) == 0
