"""The grammar of search spaces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.risk.sizes import METHODS
from mcl.search.axes import refuse_axes
from mcl.search.space import combinations, conditional, count, distribution, overlay, parse, points

RAW: dict[str, Any] = {
    "data": {"source": "csv", "interval": "1m"},
    "strategy": {"name": "ema_cross", "fast": 10, "slow": 30},
    "costs": {"slippage_ticks": 1.0},
    "broker": {"port": 7497},
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("range(10, 481, 10)", IntDistribution(10, 480, step=10)),
        ("range(10, 20, 5)", IntDistribution(10, 15, step=5)),  # the stop is exclusive, as in Hydra
        ("range(3)", IntDistribution(0, 2)),
        ("range(5, 0, -2)", IntDistribution(1, 5, step=2)),
        ("range(0.1, 0.5, 0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("float(range(1, 4))", FloatDistribution(1.0, 3.0, step=1.0)),
        ("interval(0.5, 2)", FloatDistribution(0.5, 2.0)),
        # an interval is continuous, also with whole ends
        ("interval(1, 10)", FloatDistribution(1.0, 10.0)),
        ("int(interval(1, 10))", IntDistribution(1, 10)),
        ("tag(log, interval(0.001, 1))", FloatDistribution(0.001, 1.0, log=True)),
        ("tag(log, int(interval(2, 500)))", IntDistribution(2, 500, log=True)),
        ("tag(log, range(1, 100))", IntDistribution(1, 99, log=True)),
        ("choice(a, b, 3)", CategoricalDistribution(["a", "b", 3])),
        ("5, 10, 20", CategoricalDistribution([5, 10, 20])),
        ([1, 2.5], CategoricalDistribution([1, 2.5])),
        ("'1m','5m'", CategoricalDistribution(["1m", "5m"])),
        (7, CategoricalDistribution([7])),
        (True, CategoricalDistribution([True])),
    ],
)
def test_expressions(expression: Any, expected: object) -> None:
    assert distribution("strategy.fast", expression) == expected


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("range(10, 10)", "holds no value"),
        ("range(10, 5)", "holds no value"),
        ("interval(3, 1)", "need low < high"),
        ("tag(log, interval(0, 1))", "logarithmic scale"),
        ("tag(log, range(1, 100, 2))", "step 1"),
        ("glob(*)", "no search expression"),
        ("often", "no search expression"),
        ([], "holds no choice"),
    ],
)
def test_unusable_expressions_are_refused_by_name(expression: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refusal:
        distribution("strategy.fast", expression)
    assert "strategy.fast" in refusal.value.message


def test_hydra_says_what_it_cannot_read() -> None:
    with pytest.raises(ConfigError):
        distribution("strategy.fast", "range(1, ")


@given(start=st.integers(-50, 50), count=st.integers(1, 30), step=st.integers(1, 9))
def test_whole_ranges_mean_what_python_and_hydra_mean(start: int, count: int, step: int) -> None:
    stop = start + (count - 1) * step + 1
    assert points("k", distribution("k", f"range({start}, {stop}, {step})")) == list(
        range(start, stop, step)
    )


@given(
    start=st.integers(-20, 20),
    count=st.integers(1, 40),
    step=st.sampled_from([0.1, 0.05, 0.25, 0.3]),
)
def test_decimal_ranges_have_no_rounding_tail(start: int, count: int, step: float) -> None:
    stop = round(start + count * step, 10)
    values = points("k", distribution("k", f"range({float(start)}, {stop}, {step})"))
    assert values == [round(start + i * step, 10) for i in range(count)]


def test_a_grid_is_the_product_in_order() -> None:
    space = parse({"strategy": {"fast": "range(1, 3)", "slow": "5, 6"}}, RAW)
    assert list(combinations(space)) == [
        {"strategy.fast": fast, "strategy.slow": slow} for fast in (1, 2) for slow in (5, 6)
    ]
    with pytest.raises(ConfigError, match=r"costs.slippage_ticks is a continuous interval"):
        list(combinations(parse({"costs": {"slippage_ticks": "interval(0, 2)"}}, RAW)))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({}, "search space is empty: conf/space/ names no parameter of strategy 'ema_cross'"),
        ({"strategy": {}}, "search space is empty"),
        ({"strategy": {"fasst": "range(1, 9)"}}, "did you mean 'strategy.fast'"),
        (
            {"strategy": {"name": "ema_cross, donchian"}},
            "strategy.name decides which other keys there are: no search may vary it",
        ),
        (
            {"data": {"holdout_start": "2024-01-01, 2025-01-01"}},
            "data.holdout_start is the fence before the hold-out",
        ),
        ({"broker": {"port": "1, 2"}}, "broker.port is not a key that a search may vary"),
    ],
)
def test_a_space_names_keys_that_decide_a_result(entries: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(entries, RAW)


def test_overlay_leaves_the_original_alone() -> None:
    changed = overlay(RAW, {"strategy.fast": 3, "costs.slippage_ticks": 0.5})
    assert (
        changed["strategy"]["fast"],
        changed["costs"]["slippage_ticks"],
        changed["strategy"]["slow"],
    ) == (3, 0.5, 30)
    assert RAW["strategy"]["fast"] == 10
    assert changed["data"] is RAW["data"]
    for key in ("strategy.fasst", "strategie.fast", "costs.slippage_ticks.x"):
        with pytest.raises(ConfigError, match=f"unknown key {key}"):
            overlay(RAW, {key: 1})


@pytest.mark.parametrize("strategy", ["ema_cross", "donchian", "tsmom"])
def test_every_strategy_with_parameters_has_a_space_that_fits_it(strategy: str) -> None:
    composed = composition.compose("sweep", [f"strategy={strategy}"])
    space = parse(composed.search.space, composed.raw)
    assert {key.partition(".")[0] for key in space} == {"strategy"}
    first = {key: points(key, axis)[0] for key, axis in space.items()}
    assert composition.run_config(overlay(composed.raw, first)).strategy["name"] == strategy


@pytest.mark.parametrize("strategy", ["flat", "always_long", "random"])
def test_controls_have_nothing_to_search(strategy: str) -> None:
    composed = composition.compose("sweep", [f"strategy={strategy}"])
    with pytest.raises(ConfigError, match="search space is empty"):
        parse(composed.search.space, composed.raw)


@pytest.mark.parametrize(
    "override",
    [
        "strategy.fast=range(5, 20, 5)",
        "search.space.strategy.fast=range(5, 20, 5)",
        "search.space.strategy.fast='range(5, 20, 5)'",
    ],
)
def test_the_command_line_narrows_an_axis(override: str) -> None:
    composed = composition.compose(
        "sweep", ["strategy=ema_cross", override, "costs.slippage_ticks=0,1"]
    )
    space = parse(composed.search.space, composed.raw)
    assert space["strategy.fast"] == IntDistribution(5, 15, step=5)
    assert space["costs.slippage_ticks"] == CategoricalDistribution([0, 1])
    assert composed.config.strategy["fast"] == 10  # the value itself stays as it is


def test_a_typed_value_is_fixed() -> None:
    composed = composition.compose("sweep", ["strategy=ema_cross", "strategy.fast=7"])
    assert list(parse(composed.search.space, composed.raw)) == ["strategy.slow"]
    assert composed.config.strategy["fast"] == 7
    explicit = composition.compose(
        "sweep", ["strategy=ema_cross", "strategy.fast=7", "search.space.strategy.fast=range(1, 9)"]
    )
    assert list(parse(explicit.search.space, explicit.raw)) == ["strategy.fast", "strategy.slow"]


def test_choosing_groups_is_the_business_of_a_grid() -> None:
    with pytest.raises(ConfigError, match="chooses between groups") as refusal:
        composition.compose("sweep", ["data=csv,synthetic"])
    assert "mcl backtest -m" in refusal.value.hint


def test_a_choice_of_a_group_is_an_axis_and_its_parameters_exist_for_it_alone() -> None:
    words = [
        "strategy=ema_cross,tsmom",
        "risk=fixed,vol_target",
        "strategy.lookback=range(10,50,10)",
        "strategy.slow=960",
    ]
    composed = composition.compose("sweep", words)
    space = parse(composed.search.space, composed.raw)
    assert list(space) == ["strategy", "risk", "strategy.fast", "strategy.lookback"]
    assert space["strategy"] == CategoricalDistribution(["ema_cross", "tsmom"])
    conditions = composed.search.conditions
    assert conditions == {
        "strategy.fast": {"strategy": ["ema_cross"]},
        "strategy.lookback": {"strategy": ["tsmom"]},
    }
    overlaid = overlay(
        composed.raw, {"strategy.lookback": 20, "strategy": "tsmom", "risk": "vol_target"}
    )
    alone = composition.compose(
        "backtest", ["strategy=tsmom", "strategy.lookback=20", "risk=vol_target"]
    )
    assert composition.fingerprint(composition.run_config(overlaid)) == composition.fingerprint(
        alone.config
    )
    assert composed.raw["search"]["alternatives"]["strategy"]["ema_cross"]["slow"] == 960
    grid = list(conditional(space, conditions))
    assert len(grid) == 2 * (count("", space["strategy.fast"]) + 4)
    assert len({str(point) for point in grid}) == len(grid)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["strategy=ema_cross,nope"], "no strategy is called 'nope'"),
        (["strategy=ema_cross,tsmom", "strategy.zzz=range(1,5)"], "strategy.zzz is not a key"),
        (["strategy=ema_cross,tsmom", "strategy.zzz=1"], "unknown key strategy.zzz"),
        (["strategy=ema_cross,tsmom", "strategy.lookback=interval(0.5,1.5)"], "lookback"),
        (["search.alternatives={data: {csv: {}}}"], "is no group that a search varies"),
        (
            ["strategy=tsmom,tsmom_multi", "~space@search.space", "search.space.broker.port=1,2"],
            "broker.port",
        ),
    ],
)
def test_a_choice_that_cannot_be_searched_is_a_sentence(words: list[str], sentence: str) -> None:
    def begin() -> None:
        composed = composition.compose("sweep", words)
        refuse_axes(parse(composed.search.space, composed.raw), composed.raw)

    with pytest.raises(ConfigError, match=sentence):
        begin()


@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_every_risk_method_has_a_space_of_its_own(method: str) -> None:
    """It can be searched alone, or with the axes of the strategy."""
    alone = composition.compose(
        "sweep",
        ["strategy=ema_cross", f"risk={method}", f"space@search.space=risk_{method}"],
    )
    axes = parse(alone.raw["search"]["space"], alone.raw)
    assert axes
    assert all(key.startswith("risk.size.") for key in axes)
    both = composition.compose(
        "sweep",
        ["strategy=ema_cross", f"risk={method}", f"space@search.space=[ema_cross,risk_{method}]"],
    )
    assert {"strategy.fast", "strategy.slow", *axes} == set(
        parse(both.raw["search"]["space"], both.raw)
    )
