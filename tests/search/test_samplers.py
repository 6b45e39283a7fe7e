"""Adaptive searches draw Optuna's own points, whatever the order in which trials end and however
often the process is killed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.search import samplers
from mcl.search.space import check_conditions
from mcl.search.study import Study, planned
from mcl.search.trial import Outcome
from mcl.search.trial_log import TrialLog

SPACE: dict[str, BaseDistribution] = {
    "a": IntDistribution(10, 480, step=10),
    "b": FloatDistribution(0.1, 0.9),
    "c": CategoricalDistribution(["x", "y", "z"]),
    "d": FloatDistribution(1e-4, 1.0, log=True),
    "e": IntDistribution(2, 500, log=True),
    "f": FloatDistribution(0.0, 1.0, step=0.25),
    "g": IntDistribution(7, 7),
}
SEED = 11
ADAPTIVE = ["tpe", "cmaes", "nsga2", "nsga3"]
FIRST = {"a": 190, "b": 0.5, "c": "x", "d": 0.1, "e": 20, "f": 0.5, "g": 7}
Point = tuple[int, dict[str, Any]]


def score(values: dict[str, Any]) -> float:
    """Highest inside of the axes for some keys, on their edge for others; NaN (a broken rule) here
    and there.
    """
    if values["a"] % 50 == 0:
        return math.nan
    far = (
        (values["a"] - 200) / 470,
        values["b"] - 0.8,
        math.log10(values["d"]) + 3,
        math.log(values["e"] / 490),
        values["f"],
    )
    return -float(np.square(far).sum()) - 0.1 * float(values["c"] != "y")


def fold_score(values: dict[str, Any], fold: int) -> float:
    return -abs(float(values["b"]) - 0.5) + 0.1 * math.sin(values["a"] * (fold + 1))


def simulated(study: Study, number: int, values: dict[str, Any], folds: int = 0) -> Outcome:
    given_up = next(
        (fold for fold in range(folds) if study.judge(number, fold, fold_score(values, fold))), None
    )
    value = math.nan if given_up is not None else score(values)
    state: Literal["COMPLETE", "PRUNED"] = "COMPLETE" if math.isfinite(value) else "PRUNED"
    return study.reported(
        Outcome(
            number, values, state, "" if state == "COMPLETE" else f"fold {given_up}", value=value
        )
    )


def run(study: Study, log: TrialLog, upto: int, *, shuffle: int = 0, folds: int = 0) -> None:
    """Adopt what the log has, then go on to `upto` trials; with `shuffle` the trials that run end
    in an order of its own.
    """
    chance, running = random.Random(shuffle), list[Point]()
    while True:
        while study.next_number in log.outcomes:
            study.adopt(log.outcomes[study.next_number], log.windows[study.next_number])
        while study.ready and study.next_number < upto and study.next_number not in log.outcomes:
            running.append(study.ask())
        if not running:
            return
        number, values = running.pop(chance.randrange(len(running)) if shuffle else 0)
        outcome = simulated(study, number, values, folds)
        log.add(outcome, study.window)
        study.tell(outcome)


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Callable[[str], TrialLog]]:
    """A log by name; all are closed afterwards."""
    with ExitStack() as opened:

        def new_log(name: str) -> TrialLog:
            log = TrialLog(tmp_path / name)
            opened.callback(log.close)
            return log

        yield new_log


Logs = Callable[[str], TrialLog]


def points(log: TrialLog) -> list[tuple[int, dict[str, Any], str]]:
    return [
        (number, log.outcomes[number].params, log.outcomes[number].reason)
        for number in sorted(log.outcomes)
    ]


def test_the_points_are_those_of_optunas_sampler_with_a_seed_for_each_trial(logs: Logs) -> None:
    own_samplers: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda seed: TPESampler(seed=seed),
        "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "nsga2": lambda seed: NSGAIISampler(seed=seed),
    }
    for name, sampler in own_samplers.items():
        log = logs(name)
        run(Study(SPACE, schema.Search.model_validate({"sampler": name}), SEED), log, 60)
        stock = optuna.create_study(direction="maximize")
        for number in range(60):
            stock.sampler = sampler(
                int(np.random.SeedSequence([SEED, number]).generate_state(1)[0])
            )
            trial = stock.ask(SPACE)
            value = score(trial.params)
            stock.tell(
                trial,
                *(
                    (value, TrialState.COMPLETE)
                    if math.isfinite(value)
                    else (None, TrialState.PRUNED)
                ),
            )
        assert [log.outcomes[n].params for n in range(60)] == [
            trial.params for trial in stock.trials
        ], name


@pytest.mark.parametrize("sampler", ADAPTIVE)
@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_search_goes_on_from_its_log_as_it_would_have(
    sampler: str, pruner: str, logs: Logs
) -> None:
    """One worker, killed several times in the middle of a trial; NSGA has come to its third
    generation.
    """
    search, folds = schema.Search(sampler=sampler, pruner=pruner), 0 if pruner == "none" else 6  # type: ignore[arg-type]
    whole, part = logs("whole"), logs("part")
    run(Study(SPACE, search, SEED, [FIRST]), whole, 130, folds=folds)
    for upto in (7, 31, 75, 130):
        study = Study(SPACE, search, SEED, [FIRST])
        run(study, part, upto, folds=folds)
        number, values = study.ask()
        for fold in range(folds and upto % 6):
            study.judge(number, fold, fold_score(values, fold))
    same = points(part) == points(whole)
    assert same
    assert whole.outcomes[0].params == FIRST


@pytest.mark.parametrize("pruner", ["median", "percentile", "halving", "hyperband", "wilcoxon"])
def test_a_pruner_judges_after_an_interruption_as_it_would_have(pruner: str, logs: Logs) -> None:
    search = schema.Search(sampler="cmaes", pruner=pruner)  # type: ignore[arg-type]
    whole, part = logs("whole"), logs("part")
    run(Study(SPACE, search, SEED), whole, 40, folds=6)
    # given up after different folds
    assert len({outcome.reason for outcome in whole.outcomes.values()}) > 2
    for upto in (7, 19, 40):
        run(Study(SPACE, search, SEED), part, upto, folds=6)
    same = points(part) == points(whole)
    assert same


@pytest.mark.parametrize("sampler", ADAPTIVE)
def test_the_order_in_which_workers_end_decides_nothing(
    sampler: str, logs: Logs, tmp_path: Path
) -> None:
    """Three workers, killed with trials in their hands: lower numbers are missing from the log that
    higher ones are in.
    """
    search = schema.Search(sampler=sampler, workers=3)  # type: ignore[arg-type]
    orderly, shuffled = logs("orderly"), logs("shuffled")
    run(Study(SPACE, search, SEED), orderly, 70)
    run(Study(SPACE, search, SEED), shuffled, 70, shuffle=1)
    same = points(shuffled) == points(orderly)
    assert same
    lines = (tmp_path / "shuffled").read_bytes().splitlines(keepends=True)
    for count in (23, 50):
        (tmp_path / "torn").write_bytes(b"".join(lines[:count]))
        torn = logs("torn")
        assert sorted(torn.outcomes) != list(range(count))
        run(Study(SPACE, search, SEED), torn, 70, shuffle=2)
        same = points(torn) == points(orderly)
        assert same


@pytest.mark.parametrize("sampler", ADAPTIVE)
def test_another_number_of_workers_keeps_what_is_done(sampler: str, logs: Logs) -> None:
    log = logs("log")
    run(Study(SPACE, schema.Search(sampler=sampler, workers=3), SEED), log, 40, shuffle=4)  # type: ignore[arg-type]
    before = points(log)
    for _ in range(2):
        run(Study(SPACE, schema.Search(sampler=sampler), SEED), log, 60)  # type: ignore[arg-type]
    assert points(log)[:40] == before
    assert [log.windows[number] for number in (39, 40)] == [6, 1]


@pytest.mark.parametrize("sampler", [*ADAPTIVE, "random", "qmc", "grid"])
def test_a_first_trial_may_name_only_some_values(sampler: str) -> None:
    axes = {key: SPACE[key] for key in ("a", "c", "f")}
    study = Study(axes, schema.Search(sampler=sampler), SEED, [{"a": 190}, {"c": "z", "f": 0.25}])  # type: ignore[arg-type]
    first, second = (study_point(study) for _ in range(2))
    assert first["a"] == 190
    assert first.keys() == axes.keys()
    assert (second["c"], second["f"]) == ("z", 0.25)


def study_point(study: Study) -> dict[str, Any]:
    number, values = study.ask()
    study.tell(Outcome(number, values, "COMPLETE", value=float(number)))
    return values


@pytest.mark.parametrize("sampler", [*ADAPTIVE, "random", "qmc", "grid"])
def test_an_axis_exists_only_where_its_condition_holds(sampler: str, logs: Logs) -> None:
    axes = {key: SPACE[key] for key in ("f", "c", "a")}
    conditions = {"f": {"c": ["y"]}, "a": {"f": [0.0, 0.25, 0.5]}}
    search = schema.Search.model_validate({"sampler": sampler, "conditions": conditions})
    check_conditions(search.conditions, axes)
    log = logs("log")
    study = Study(axes, search, SEED)
    while study.next_number < 60:
        number, values = study.ask()
        outcome = Outcome(
            number, values, "COMPLETE", value=values.get("f", 0.4) - 0.001 * values.get("a", 0)
        )
        log.add(outcome)
        study.tell(outcome)
    points_of_log = {tuple(outcome.params) for outcome in log.outcomes.values()}
    assert {("c",), ("f", "c", "a")} <= points_of_log <= {("c",), ("f", "c"), ("f", "c", "a")}
    for outcome in log.outcomes.values():
        assert ("f" in outcome.params) == (outcome.params["c"] == "y")
        assert ("a" in outcome.params) == (outcome.params.get("f", 1.0) <= 0.5)
    again = Study(axes, search, SEED)
    for number in range(60):
        again.adopt(log.outcomes[number], log.windows[number])
    assert again.ask() == study.ask()


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ({"a": {"x": [1]}}, "names x, which is not searched"),
        ({"x": {"c": ["y"]}}, "names x, which is not searched"),
        ({"a": {"c": ["w"]}}, "c never is 'w'"),
        ({"a": {"c": ["x"]}, "c": {"a": [10]}}, "go in a circle"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(
    conditions: dict[str, dict[str, list[Any]]], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_conditions(conditions, {key: SPACE[key] for key in ("a", "c")})


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3"])
def test_a_soft_constraint_steers_the_sampler(sampler: str) -> None:
    """The score grows with b, and b above 0.4 breaks the rule."""

    def share_inside(soft: tuple[str, ...]) -> float:
        options = {} if sampler == "tpe" else {"population_size": 10}
        search = schema.Search(sampler=sampler, soft_constraints=soft, sampler_options=options)  # type: ignore[arg-type]
        study, inside = Study({"b": SPACE["b"], "d": SPACE["d"]}, search, SEED), 0
        for number in range(100):
            _, values = study.ask()
            study.tell(
                Outcome(
                    number,
                    values,
                    "COMPLETE",
                    value=values["b"],
                    excess=[values["b"] - 0.4] if soft else [],
                )
            )
            inside += number >= 50 and values["b"] <= 0.4
        return inside / 50

    assert share_inside(("b <= 0.4",)) > share_inside(()) + 0.2


def test_options_reach_the_sampler_and_the_pruner() -> None:
    options = {"name": "tpe", "n_startup_trials": 25, "n_ei_candidates": 4}
    search = schema.Search.model_validate(
        {"sampler": options, "pruner": {"name": "hyperband", "reduction_factor": 3}}
    )
    assert (search.sampler, search.pruner) == ("tpe", "hyperband")
    assert search.sampler_options == {"n_startup_trials": 25, "n_ei_candidates": 4}
    samplers.check(search)
    plain, early = (
        Study(SPACE, schema.Search(), SEED),
        Study(SPACE, search.model_copy(update={"pruner": "none"}), SEED),
    )
    point_pairs = [(study_point(plain), study_point(early)) for _ in range(30)]
    assert [one == other for one, other in point_pairs[:10]] == [True] * 10
    # the plain one learns, the other one still draws at random
    assert any(one != other for one, other in point_pairs[10:25])


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (
            {"sampler": {"name": "tpe", "n_startup": 5}},
            r"search\.sampler\.n_startup=5 is no option of search\.sampler=tpe: did you mean",
        ),
        ({"sampler": "random", "sampler_options": {"popsize": 5}}, "it has none"),
        (
            {"sampler": {"name": "tpe", "n_startup_trials": 2.5}},
            "must be a whole number of at least 0",
        ),
        (
            {"sampler": {"name": "nsga2", "mutation_prob": 1.5}},
            "must be a number of at least 0, at most 1",
        ),
        ({"sampler": {"name": "tpe", "group": "yes"}}, "must be true or false"),
        ({"pruner": {"name": "percentile", "percentile": 150.0}}, "at most 100"),
        (
            {"sampler": "cmaes", "soft_constraints": ["trades > 5"]},
            "cannot see search.soft_constraints",
        ),
        ({"sampler": {"name": "tpe", "group": True, "multivariate": False}}, "do not fit together"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence(
    search: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        planned(SPACE, schema.Search.model_validate(search))


def test_gp_says_what_to_install(logs: Logs) -> None:
    search = schema.Search(sampler="gp")
    if find_spec("torch") is None:
        with pytest.raises(
            ConfigError, match=r"search\.sampler=gp needs the package torch, which is not installed"
        ) as refused:
            planned(SPACE, search)
        assert refused.value.hint == "pip install torch"
        return
    whole, part = logs("whole"), logs("part")
    run(Study(SPACE, search, SEED), whole, 16)
    for upto in (12, 16):
        run(Study(SPACE, search, SEED), part, upto)
    assert points(part) == points(whole)
