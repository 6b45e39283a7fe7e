"""Constraints are parsed by their own grammar and never evaluated as code."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base.errors import ConfigError
from mcl.search.constraints import COMPARISONS, parse

KEYS = ("strategy.fast", "strategy.slow", "costs.slippage_ticks")
METRICS = ("trades", "max_drawdown_frac", "sharpe")


@pytest.mark.parametrize(
    ("text", "values_by_name", "broken"),
    [
        (
            "strategy.fast < strategy.slow",
            {"strategy.fast": 30, "strategy.slow": 20},
            "strategy.fast=30, strategy.slow=20 breaks",
        ),
        ("strategy.fast < strategy.slow", {"strategy.fast": 10, "strategy.slow": 20}, ""),
        (
            "strategy.slow >= 2 * strategy.fast",
            {"strategy.fast": 11, "strategy.slow": 20},
            "breaks strategy.slow >= 2 * strategy.fast",
        ),
        ("strategy.slow>=2*strategy.fast", {"strategy.fast": 10, "strategy.slow": 20}, ""),
        (
            "max_drawdown_frac > -0.25",
            {"max_drawdown_frac": -0.31},
            "max_drawdown_frac=-0.31 breaks max_drawdown_frac > -0.25",
        ),
        ("trades >= 1e2", {"trades": 100.0}, ""),
        ("100 <= trades", {"trades": 99.0}, "trades=99 breaks 100 <= trades"),
        # what is not defined holds no rule
        ("sharpe != 0", {"sharpe": math.nan}, "sharpe=nan breaks"),
    ],
)
def test_rules(text: str, values_by_name: dict[str, float], broken: str) -> None:
    (rule,) = parse([text], KEYS, METRICS)
    sentence = rule.broken(values_by_name)
    assert bool(sentence) == bool(broken)
    assert broken in sentence


@given(st.sampled_from(sorted(COMPARISONS)), st.integers(-100, 100), st.integers(-100, 100))
def test_a_rule_means_what_python_means(comparison: str, value: int, bound: int) -> None:
    (rule,) = parse([f"strategy.fast {comparison} {bound}"], KEYS, METRICS)
    assert bool(rule.broken({"strategy.fast": value})) != COMPARISONS[comparison](value, bound)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trades", "is not a valid constraint"),
        ("trades > ", "is not a valid constraint"),
        ("1 < trades < 5", "is not a valid constraint"),
        ("1 < 2", "compares two numbers"),
        ("trade > 5", "did you mean 'trades'"),
        ("strategy.fst > 5", "did you mean 'strategy.fast'"),
        ("__import__('os').system('true') > 5", "is not a valid constraint"),
        ("trades + sharpe > 5", "is not a valid constraint"),
    ],
)
def test_everything_else_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse([text], KEYS, METRICS)


def test_what_is_known_before_the_run() -> None:
    before, after, mixed = parse(
        ["strategy.fast < 5", "trades > 5", "trades > strategy.fast"], KEYS, METRICS
    )
    assert (before.before_the_run, after.before_the_run, mixed.before_the_run) == (
        True,
        False,
        False,
    )
