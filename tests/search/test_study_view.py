"""Optuna's stored study is a view of the trial log: its own tools read it, and it is made again
when it is lost.
"""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mcl.config import schema
from mcl.search.space import Space
from mcl.search.study_view import StudyView
from mcl.search.trial import Outcome

SPACE: Space = {
    "strategy.fast": IntDistribution(2, 100),
    "costs.slippage_ticks": FloatDistribution(0.0, 2.0),
    "strategy.decay": FloatDistribution(1e-4, 1.0, log=True),
    "strategy.side": CategoricalDistribution(["long", "short", None, True]),
}
VALUES = {
    "strategy.fast": 17,
    "costs.slippage_ticks": 0.1 + 0.2,
    "strategy.decay": 0.03,
    "strategy.side": None,
}
SEARCH = schema.Search(name="carry", also={"trades": "minimize"}, soft_constraints=("trades > 5",))
OUTCOMES = {
    0: Outcome(
        0,
        VALUES,
        "COMPLETE",
        value=0.5,
        others=[40.0],
        excess=[-35.0],
        metrics={"sharpe": 0.5, "sortino": math.nan},
        seconds=2.0,
    ),
    1: Outcome(
        1,
        VALUES | {"strategy.side": True},
        "PRUNED",
        "fold 2",
        "behind",
        folds=[[0.0, 1.5], [1.0, -0.25]],
    ),
    2: Outcome(2, {"strategy.fast": 3}, "FAILED", "ValueError", "no such row"),
    3: Outcome(3, VALUES, "PRUNED", "duplicate", value=0.5, others=[40.0], excess=[-35.0]),
}
NAME = "carry 0123456789ab"


def filled(path: Path, outcomes: dict[int, Outcome]) -> None:
    view = StudyView("0123456789abcdef", path, SPACE, SEARCH, outcomes)
    while view.count in outcomes:
        view.add(outcomes[view.count])
    view.close()


def read(path: Path) -> list[FrozenTrial]:
    return loaded(path).trials


def loaded(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=JournalStorage(JournalFileBackend(str(path))))


def test_optuna_reads_the_view_with_names_metrics_and_reasons(tmp_path: Path) -> None:
    filled(tmp_path / "journal", OUTCOMES)
    study = loaded(tmp_path / "journal")
    assert study.metric_names == ["sharpe", "trades"]
    assert study.user_attrs == {"search": "carry", "sampler": "tpe"}
    one, two, three, four = study.trials
    assert (one.params, one.values, one.user_attrs, one.constraints) == (
        VALUES,
        [0.5, 40.0],
        {"sharpe": 0.5},
        {"trades > 5": -35.0},
    )
    assert one.duration is not None
    assert one.duration.total_seconds() == pytest.approx(2.0)
    assert (two.state, two.intermediate_values) == (TrialState.PRUNED, {0: 1.5, 1: -0.25})
    assert two.user_attrs == {"state": "PRUNED", "reason": "fold 2", "detail": "behind"}
    assert (three.state, three.params) == (TrialState.FAIL, {"strategy.fast": 3})
    assert (four.state, four.values) == (TrialState.COMPLETE, [0.5, 40.0])


@pytest.mark.parametrize("fault", ["none", "gone", "torn", "damaged", "other", "ahead", "garbage"])
def test_a_view_that_does_not_agree_is_made_again(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(
        path,
        OUTCOMES
        | ({4: OUTCOMES[0]} if fault == "ahead" else {})
        | ({0: OUTCOMES[2]} if fault == "other" else {}),
    )
    content = path.read_bytes()
    if fault == "gone":
        path.unlink()
    elif fault == "torn":
        path.write_bytes(content[:-40])
    elif fault == "damaged":
        lines = content.splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:4], b"\0\0\n", *lines[5:]]))
    elif fault == "garbage":
        path.write_bytes(b'{"op_code": 99}\n')
    filled(path, OUTCOMES)
    assert [(trial.state, trial.params) for trial in read(path)] == [
        (TrialState.COMPLETE, VALUES),
        (TrialState.PRUNED, OUTCOMES[1].params),
        (TrialState.FAIL, OUTCOMES[2].params),
        (TrialState.COMPLETE, VALUES),
    ]
