"""The learning samplers are Optuna's, only faster; and what they and the pruners know outlives the process that knew it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.trial import TrialState

from mcl import schema
from mcl.search.evolution import Evolution
from mcl.search.mind import Mind
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


def score(values: dict[str, Any]) -> float:
    """Highest inside of the axes for some keys, on their edge for others; NaN (a broken rule) in a corner."""
    if values["b"] > 0.8:
        return math.nan
    far = (values["a"] - 200) / 470, values["b"] - 0.8, math.log10(values["d"]) + 3, math.log(values["e"] / 490), values["f"]
    return -float(np.square(far).sum()) - 0.1 * (values["c"] != "y")


def thought(sampler: str, trials: int, **settings: Any) -> list[dict[str, Any]]:
    """The points of a mind with one worker; the first one comes from elsewhere."""
    mind = Mind(SPACE, schema.Search(sampler=sampler, **settings), SEED, [])  # type: ignore[arg-type]
    points = []
    for number in range(trials):
        if number == 0:
            values = {"a": 100, "b": 0.5, "c": "x", "d": 0.1, "e": 20, "f": 0.5, "g": 7}
            mind.add(values)
        else:
            values, _ = mind.ask(number)
        points.append(values)
        mind.tell(Outcome(number, values, "COMPLETE" if math.isfinite(score(values)) else "PRUNED", value=score(values)))
    return points


def stock(sampler: Callable[[int], BaseSampler], points: list[dict[str, Any]], direction: str = "maximize") -> list[dict[str, Any]]:
    """The points of Optuna's own sampler in its own study, made anew with the same random numbers for every trial."""
    study = optuna.create_study(direction=direction)
    study.add_trial(optuna.create_trial(params=points[0], distributions=SPACE, value=score(points[0])))
    for number in range(1, len(points)):
        study.sampler = sampler(int(np.random.SeedSequence([SEED, number]).generate_state(1)[0]))
        trial = study.ask(SPACE)
        value = score(trial.params)
        study.tell(trial, *((value, TrialState.COMPLETE) if math.isfinite(value) else (None, TrialState.PRUNED)))
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
    assert_same(points, stock(lambda own: CmaEsSampler(seed=own, warn_independent_sampling=False), points, direction))
    assert sum(math.isnan(score(point)) for point in points) > 2  # trials without a value were among them


def test_cma_es_learns_from_the_first_of_a_generation_in_whatever_order_they_are_told() -> None:
    """Four workers: trials of an ended generation come in late, and a mind made again from what was written down has come as far."""
    axes = {key: SPACE[key] for key in ("a", "b", "d")}
    evolution, again = Evolution(axes, maximize=True), Evolution(axes, maximize=True)
    evolution.begin(0, {"a": 10, "b": 0.1, "d": 1.0}, None)
    evolution.tell(0, 0.0)
    history: list[tuple[int, dict[str, Any], int]] = []
    out: list[tuple[int, dict[str, Any]]] = []
    rng = np.random.default_rng(3)
    for number in range(1, 80):
        values, learned = evolution.ask(number, number)
        evolution.begin(number, values, learned["cma:generation"])
        history.append((number, values, learned["cma:generation"]))
        out.append((number, values))
        while len(out) > 3:
            told, point = out.pop(int(rng.integers(len(out))))
            evolution.tell(told, -point["b"])
    generations = [generation for *_, generation in history]
    assert generations == sorted(generations)
    assert len(set(generations)) > 5
    assert max(map(generations.count, generations)) > 7  # more than a population: the late ones
    for told, point in out:
        evolution.tell(told, -point["b"])
    again.tell(0, 0.0)
    for number, values, generation in history:
        again.begin(number, values, generation)
        again.tell(number, -values["b"])
    assert again.ask(80, 80)[1] == evolution.ask(80, 80)[1]


def test_cma_es_without_an_axis_to_vary_repeats_the_one_point() -> None:
    evolution = Evolution({"g": SPACE["g"]}, maximize=True)
    for number in range(3):
        assert evolution.ask(number, 1) == ({"g": 7}, {})
        evolution.begin(number, {"g": 7}, None)
        evolution.tell(number, 1.0)
