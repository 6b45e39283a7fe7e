"""The learning samplers are Optuna's, only faster; and what they and the pruners know outlives the process that knew it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, TPESampler
from optuna.samplers._tpe import probability_distributions
from optuna.trial import TrialState

from mcl import schema
from mcl.search import parzen
from mcl.search.evolution import Evolution
from mcl.search.mind import Mind
from mcl.search.points import at
from mcl.search.study import Study
from mcl.search.trial import Outcome

SPACE: dict[str, BaseDistribution] = {  # in the order of the keys, as Optuna's samplers see it
    "a": IntDistribution(10, 480, step=10),
    "b": FloatDistribution(0.1, 0.9),
    "c": CategoricalDistribution(["x", "y", "z"]),
    "d": FloatDistribution(1e-4, 1.0, log=True),
    "e": IntDistribution(2, 500, log=True),
    "f": FloatDistribution(0.0, 1.0, step=0.25),
    "g": IntDistribution(7, 7),
}
SEED = 11
COMPLETE = TrialState.COMPLETE
Score = Callable[[dict[str, Any]], float]


def score(values: dict[str, Any]) -> float:
    """Highest inside of the axes for some keys, on their edge for others; NaN (a broken rule) here and there."""
    return math.nan if values["a"] % 50 == 0 else _score(values)


def seldom(values: dict[str, Any]) -> float:
    return _score(values) if values["a"] == 190 else math.nan


def _score(values: dict[str, Any]) -> float:
    far = (values["a"] - 200) / 470, values["b"] - 0.8, math.log10(values["d"]) + 3, math.log(values["e"] / 490), values["f"]
    return -float(np.square(far).sum()) - 0.1 * (values["c"] != "y")


def thought(sampler: str, trials: int, value: Score = score, **choices: Any) -> list[dict[str, Any]]:
    """The points of a mind with one worker; the first one comes from elsewhere."""
    mind = Mind(SPACE, schema.Search(sampler=sampler, **choices), SEED, [])  # type: ignore[arg-type]
    points = []
    for number in range(trials):
        if number == 0:
            values = {"a": 190, "b": 0.5, "c": "x", "d": 0.1, "e": 20, "f": 0.5, "g": 7}
            mind.begin(number, values, {})
        else:
            values, _ = mind.ask(number)
        points.append(values)
        if choices.get("pruner", "none") != "none":
            mind.judge(number, 0, -values["b"])
        mind.tell(Outcome(number, values, "COMPLETE" if math.isfinite(value(values)) else "PRUNED", value=value(values)))
    return points


def stock(
    sampler: Callable[[int], BaseSampler],
    points: list[dict[str, Any]],
    value: Score = score,
    *,
    direction: str = "maximize",
    reports: bool = False,
) -> list[dict[str, Any]]:
    """The points of Optuna's own sampler in its own study, made anew with the same random numbers for every trial."""
    study = optuna.create_study(direction=direction)
    reported = {0: -points[0]["b"]} if reports else {}
    study.add_trial(optuna.create_trial(params=points[0], distributions=SPACE, value=value(points[0]), intermediate_values=reported))
    for number in range(1, len(points)):
        study.sampler = sampler(int(np.random.SeedSequence([SEED, number]).generate_state(1)[0]))
        trial = study.ask(SPACE)
        found = value(trial.params)
        if reports:
            trial.report(-trial.params["b"], 0)
        study.tell(trial, *((found, TrialState.COMPLETE) if math.isfinite(found) else (None, TrialState.PRUNED)))
    return [trial.params for trial in study.trials]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Numbers to the last roundings, which differ with the order of sums."""
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert one[key] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), (number, key)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_cma_es_finds_the_points_of_optunas_sampler(direction: str) -> None:
    points = thought("cmaes", 120, direction=direction)
    assert_same(points, stock(lambda own: CmaEsSampler(seed=own, warn_independent_sampling=False), points, direction=direction))
    assert sum(math.isnan(score(point)) for point in points) > 2  # trials without a value were among them


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_tpe_finds_the_points_of_optunas_sampler(direction: str) -> None:
    points = thought("tpe", 120, direction=direction)
    assert_same(points, stock(lambda own: TPESampler(seed=own), points, direction=direction))
    assert sum(math.isnan(score(point)) for point in points) > 2


def test_tpe_ranks_what_was_given_up_as_optunas_sampler_does() -> None:
    """Where fewer trials than a tenth have a value, those that were pruned late and high are among the best."""
    points = thought("tpe", 60, seldom, pruner="median")
    assert_same(points, stock(lambda own: TPESampler(seed=own), points, seldom, reports=True))
    complete = np.cumsum([math.isfinite(seldom(point)) for point in points])
    assert any(complete[n - 1] < 0.1 * n for n in range(11, 60))


def test_nsga2_finds_the_points_of_optunas_sampler() -> None:
    points = thought("nsga2", 160)  # three generations
    assert_same(points, stock(lambda own: NSGAIISampler(seed=own), points))


def test_tpe_is_optunas_own_where_its_parts_are_not_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = thought("tpe", 40)
    assert parzen.trusted()
    monkeypatch.setattr("mcl.search.mind.trusted", lambda: False)
    assert_same(thought("tpe", 40), fast)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("optuna.samplers._tpe.probability_distributions._BatchedTruncNormDistributions", "adapted_low"),
        ("optuna.samplers._tpe.probability_distributions._MixtureOfProductDistribution", "sample"),
        ("optuna.samplers._tpe.parzen_estimator", "_ParzenEstimator"),
    ],
)
def test_parts_of_optuna_that_have_gone_are_not_trusted(owner: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(f"{owner}.{name}")
    assert not parzen.trusted.__wrapped__()


def test_a_density_that_optuna_has_come_to_compute_otherwise_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = probability_distributions._MixtureOfProductDistribution
    other = mixture.log_pdf
    monkeypatch.setattr(mixture, "log_pdf", lambda self, points: 0.5 * other(self, points))
    assert not parzen.trusted.__wrapped__()


@given(st.integers(0, 2**32 - 1), st.integers(1, 150), st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), st.booleans())
@settings(max_examples=40)
def test_the_densities_that_are_left_out_add_nothing(seed: int, many: int, keys: list[str], gathered: bool) -> None:
    """Trials all over the space or about one place, and points that lie anywhere: what Optuna computes from all kernels."""
    rng = np.random.default_rng(seed)
    axes = {key: SPACE[key] for key in keys}
    place = rng.random(len(axes))

    def rows(count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        at_ = rng.random((count, len(axes)))
        at_ = np.where(rng.random(len(axes)) < 0.8, 0.98 * place + 0.02 * at_, at_) if gathered else at_
        return np.array([[axis.to_internal_repr(at(axis, x)) for axis, x in zip(axes.values(), one, strict=True)] for one in at_])

    mixture = parzen._mixture(axes, rows(many), TPESampler())
    points = np.concatenate([rows(6), mixture.sample(np.random.RandomState(seed), 18)])
    np.testing.assert_allclose(parzen.log_density(mixture, points), mixture.log_pdf(points), rtol=1e-11, atol=1e-11)


def test_cma_es_learns_from_the_first_of_a_generation_in_whatever_order_they_are_told() -> None:
    """Four workers: trials of an ended generation come in late, and a mind made again from what was written down has come as far."""
    axes = {key: SPACE[key] for key in ("a", "b", "d")}
    evolution, again = Evolution(axes, maximize=True), Evolution(axes, maximize=True)
    evolution.begin(0, {"a": 10, "b": 0.1, "d": 1.0}, {})
    evolution.tell(0, COMPLETE, [0.0])
    history: list[tuple[int, dict[str, Any], dict[str, Any]]] = []
    out: list[tuple[int, dict[str, Any]]] = []
    rng = np.random.default_rng(3)
    for number in range(1, 80):
        values, learned = evolution.ask(number, number)
        evolution.begin(number, values, learned)
        history.append((number, values, learned))
        out.append((number, values))
        while len(out) > 3:
            told, point = out.pop(int(rng.integers(len(out))))
            evolution.tell(told, COMPLETE, [-point["b"]])
    generations = [learned["cma:generation"] for *_, learned in history]
    assert generations == sorted(generations)
    assert len(set(generations)) > 5
    assert max(map(generations.count, generations)) > 7  # more than a population: the late ones
    for told, point in out:
        evolution.tell(told, COMPLETE, [-point["b"]])
    again.tell(0, COMPLETE, [0.0])
    for number, values, learned in history:
        again.begin(number, values, learned)
        again.tell(number, COMPLETE, [-values["b"]])
    assert again.ask(80, 80)[1] == evolution.ask(80, 80)[1]


def test_cma_es_without_an_axis_to_vary_repeats_the_one_point() -> None:
    evolution = Evolution({"g": SPACE["g"]}, maximize=True)
    for number in range(3):
        assert evolution.ask(number, 1) == ({"g": 7}, {})
        evolution.begin(number, {"g": 7}, {})
        evolution.tell(number, COMPLETE, [1.0])


def run(study: Study, upto: int, *, folds: int = 0) -> list[Outcome]:
    """Finish what is begun, and go on until `upto` trials are; a trial has `folds` folds, after each of which it may be given up."""
    done, begun = [], study.unfinished()
    while begun or study.asked < upto:
        number, values = begun.pop(0) if begun else study.ask()
        given_up = next((fold for fold in range(folds) if study.judge(number, fold, fold_score(values, fold))), None)
        value = math.nan if given_up is not None else score(values)
        reason = "" if math.isfinite(value) else f"fold {given_up}"
        done.append(Outcome(number, values, "PRUNED" if reason else "COMPLETE", reason, value=value))
        study.tell(done[-1])
    return done


def fold_score(values: dict[str, Any], fold: int) -> float:
    return -abs(values["b"] - 0.5) + 0.1 * math.sin(values["a"] * (fold + 1))


def told(outcomes: list[Outcome]) -> list[tuple[int, dict[str, Any], str]]:
    return [(outcome.number, outcome.params, outcome.reason) for outcome in outcomes]


@pytest.mark.parametrize("pruner", ["median", "halving", "wilcoxon"])
def test_a_pruner_judges_after_an_interruption_as_it_would_have(pruner: str, tmp_path: Path) -> None:
    choices = schema.Search(sampler="cmaes", trials=40, pruner=pruner)  # type: ignore[arg-type]
    whole = Study("s", tmp_path / "whole", SPACE, choices, SEED)
    expected = run(whole, 40, folds=6)
    whole.close()
    assert len({outcome.reason for outcome in expected}) > 2  # given up after different folds
    found: list[Outcome] = []
    for upto in (7, 19, 31, 40):
        study = Study("s", tmp_path / "part", SPACE, choices, SEED)
        found += run(study, upto, folds=6)
        if upto < 40:
            number, values = study.ask()
            for fold in range(upto % 6):  # and is killed after some folds, the last of which may have been too much
                study.judge(number, fold, fold_score(values, fold))
        study.close()
    assert told(found) == told(expected)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2"])
def test_a_mind_whose_journal_has_lost_its_tail_thinks_as_before(sampler: str, tmp_path: Path) -> None:
    """The outcomes are all there, and tell what the journal has forgotten."""
    choices = schema.Search(sampler=sampler, trials=120)  # type: ignore[arg-type]
    fixed = [{"a": 190, "b": 0.5, "c": "x", "d": 0.1, "e": 20, "f": 0.5, "g": 7}]
    whole = Study("s", tmp_path / "journal", SPACE, choices, SEED, fixed)
    expected = run(whole, 120)
    whole.close()
    lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal").write_bytes(b"".join(lines[: len(lines) // 3]))
    again = Study("s", tmp_path / "journal", SPACE, choices, SEED, fixed)
    assert again.asked < 60
    for outcome in expected[:100]:
        again.adopt(outcome)
    found = run(again, 120)
    again.close()
    assert told(found) == told(expected[100:])


def test_nsga2_has_the_parents_after_an_interruption_that_it_had_before(tmp_path: Path) -> None:
    """In the third generation, whose parents come from two before it."""
    choices = schema.Search(sampler="nsga2", trials=200)
    whole = Study("s", tmp_path / "whole", SPACE, choices, SEED)
    expected = run(whole, 200)
    whole.close()
    parts = []
    for upto in (75, 130, 150, 200):
        study = Study("s", tmp_path / "parts", SPACE, choices, SEED)
        parts += run(study, upto)
        study.close()
    assert told(parts) == told(expected)
