"""Points by number: the same whatever came before, all inside, evenly spread."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mcl.search import plateau
from mcl.search.point_sequences import at, closest, grid, inside, sobol, uniform, worded
from mcl.search.space import combinations, edges

SPACE: dict[str, BaseDistribution] = {
    "a": IntDistribution(10, 480, step=10),
    "b": FloatDistribution(0.1, 0.9),
    "c": CategoricalDistribution(["x", "y", "z"]),
    "d": FloatDistribution(1e-4, 1.0, log=True),
    "e": IntDistribution(2, 500, log=True),
    "f": FloatDistribution(0.0, 1.0, step=0.25),
}
DISCRETE = {key: SPACE[key] for key in ("a", "c", "f")}


@pytest.mark.parametrize("points", [uniform, sobol])
def test_a_point_depends_on_its_number_alone(points: object) -> None:
    forwards = [points(SPACE, 3)(n) for n in range(40)]  # type: ignore[operator]
    jumping = points(SPACE, 3)  # type: ignore[operator]
    for n in (39, 0, 17, 16, 5, 30):
        assert jumping(n) == forwards[n]
    assert points(SPACE, 4)(7) != forwards[7]  # type: ignore[operator]
    assert all(inside(axis, point[key]) for point in forwards for key, axis in SPACE.items())


@given(st.sampled_from(sorted(SPACE)), st.floats(0, 1, exclude_max=True))
def test_every_place_is_a_value_of_the_axis(key: str, place: float) -> None:
    assert inside(SPACE[key], at(SPACE[key], place))


@given(st.sampled_from(sorted(SPACE)), st.floats(-1e6, 1e6))
def test_the_closest_value_is_one_of_the_axis(key: str, value: float) -> None:
    near = closest(SPACE[key], value)
    assert inside(SPACE[key], near)
    assert closest(SPACE[key], near) == (near if key != "c" else "x")


def test_an_axis_in_words() -> None:
    assert [worded(SPACE[key]) for key in "abc"] == [
        "10 to 480 in steps of 10",
        "0.1 to 0.9",
        "x or y or z",
    ]


def test_stepped_values_have_equal_shares() -> None:
    values = Counter(at(SPACE["a"], (i + 0.5) / 4800) for i in range(4800))
    assert set(values.values()) == {100}
    assert len(values) == 48
    assert Counter(at(SPACE["f"], (i + 0.5) / 500) for i in range(500)) == dict.fromkeys(
        (0.0, 0.25, 0.5, 0.75, 1.0), 100
    )


def test_a_logarithmic_axis_spends_half_its_points_below_the_geometric_mean() -> None:
    values = [at(SPACE["d"], (i + 0.5) / 1000) for i in range(1000)]
    assert sum(value < 1e-2 for value in values) == 500


def test_a_grid_by_number_is_the_product_in_order() -> None:
    point = grid(DISCRETE)
    count = 48 * 3 * 5
    assert [point(n) for n in range(count)] == list(combinations(DISCRETE))


def test_a_plateau_beats_a_lucky_cell() -> None:
    points = pd.DataFrame(itertools.product(range(10), range(10)), columns=["a", "b"])
    values = np.where((points["a"] >= 5) & (points["b"] >= 5), 1.0, 0.0)
    values[11] = 2.0  # (1, 1): a lucky cell
    around, _ = plateau.plateaus(points, values)
    assert (points.iloc[int(np.argmax(around))] >= 5).all()
    assert around[11] == 0.0
    upside_down, _ = plateau.plateaus(points, -values, maximize=False)
    np.testing.assert_array_equal(upside_down, -around)


@pytest.mark.parametrize("many", [1, 2, 4, 40, 333])
def test_a_plateau_is_the_lower_quartile_of_the_neighbours(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plateau, "AT_ONCE", 10_000)  # several chunks
    rng = np.random.default_rng(many)
    points = pd.DataFrame(
        {
            "n": rng.integers(0, 12, many),
            "x": rng.random(many),
            "word": rng.choice(["long", "short"], many),
        }
    )
    scores = rng.normal(size=many).round(1)
    around, counted = plateau.plateaus(points, scores)
    ranks = np.column_stack([np.unique(points[name], return_inverse=True)[1] for name in points])
    for i in range(many):
        distance = np.abs(ranks - ranks[i]).max(axis=1)
        near = distance <= max(1, np.sort(distance)[min(max(5, math.ceil(0.15 * many)), many) - 1])
        assert around[i] == pytest.approx(np.quantile(scores[near], 0.25), abs=1e-12)
        assert counted[i] == near.sum()


def test_edges_are_named() -> None:
    assert edges({"a": 10, "c": "x", "b": 0.5}, {k: SPACE[k] for k in ("a", "c", "b")}) == [
        "a=10 is the lowest value searched"
    ]
    assert edges({"a": 480}, {"a": SPACE["a"]}) == ["a=480 is the highest value searched"]
    assert edges({"a": 240}, {"a": SPACE["a"]}) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_front_is_what_no_other_beats(rows: list[tuple[int, int]]) -> None:
    values = np.array(rows, float)
    front = plateau.front(values, [True, False])

    def beaten(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return b[0] >= a[0] and b[1] <= a[1] and a != b

    assert front.tolist() == [not any(beaten(a, b) for b in rows) for a in rows]
