"""Numbers as text: one place, so that terminal and page cannot disagree."""

from __future__ import annotations

import math

import pytest

from mcl.base.differences import differences, flatten
from mcl.report.format import (
    METRICS,
    metric_rows,
    number,
    too_short,
    value_text,
    verdict,
    yaml_lines,
)


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (-1234.5, "usd", "-1,234.50"),
        (0.1234, "percent", "12.34 %"),
        (12.0, "sessions", "12 sessions"),
        (2.25, "bars", "2.2 bars"),
        (1.0, "sessions", "1 session"),
        (1234567.0, "count", "1,234,567"),
        (0.004, "ratio", "0.00"),
        (0.004, "plain", "0.004"),
        (math.nan, "usd", "n/a"),
        (math.inf, "ratio", "n/a"),
    ],
)
def test_number(value: float, style: str, text: str) -> None:
    assert number(value, style) == text


def test_an_interval_stands_in_the_row_of_its_estimate() -> None:
    rows = metric_rows({"sharpe_low": -0.35, "sharpe": 0.84, "sharpe_high": 2.03})
    assert rows == [("Sharpe (annual) [95 % bootstrap]", "0.84 [-0.35, 2.03]", "sharpe")]


def test_a_bound_without_its_estimate_is_not_lost() -> None:
    assert [name for _, _, name in metric_rows({"sharpe_low": 1.0})] == ["sharpe_low"]


def test_unknown_metrics_follow_the_known_ones_and_show_their_unit() -> None:
    rows = metric_rows({"zeta_usd": 3.0, "alpha_frac": 0.5, "net_pnl_usd": 1.0})
    assert rows == [
        ("Net P&L, USD", "1.00", "net_pnl_usd"),
        ("alpha_frac", "50.00 %", "alpha_frac"),
        ("zeta_usd", "3.00", "zeta_usd"),
    ]


def test_names_are_unique() -> None:
    assert len({m.name for m in METRICS}) == len(METRICS) == len({m.label for m in METRICS})


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [(0.1, 2, "good"), (-1, 2, "unclear"), (-2, -1, "bad"), (math.nan, math.nan, "unclear")],
)
def test_verdict(low: float, high: float, level: str) -> None:
    said = verdict({"sharpe": (low + high) / 2, "sharpe_low": low, "sharpe_high": high})
    assert said.level == level
    assert math.isnan(low) or value_text("sharpe", {"sharpe": (low + high) / 2}) in said.text


def test_configs_as_lines_and_differences() -> None:
    a, b = {"s": {"fast": 5, "stop": None}, "n": 1}, {"s": {"fast": 9, "stop": None}, "m": True}
    assert flatten(a) == {"s.fast": 5, "s.stop": None, "n": 1}
    assert differences(flatten(a), flatten(b)) == {
        "s.fast": [5, 9],
        "n": [1, None],
        "m": [None, True],
    }
    assert yaml_lines(b) == [
        ("s", "s:"),
        ("s.fast", "  fast: 9"),
        ("s.stop", "  stop: null"),
        ("m", "m: true"),
    ]


def test_a_loss_that_rounds_to_nothing_has_no_sign() -> None:
    shown = [number(-0.001, style) for style in ("usd", "ratio", "count")] + [
        number(-0.00001, "percent"),
        number(-0.3, "count"),
    ]
    assert shown == ["0.00", "0.00", "0", "0.00 %", "0"]
    assert number(-0.005001, "usd") == "-0.01"


WINNER = {"sharpe": 1.5, "sharpe_low": 0.3, "sharpe_high": 2.7, "psr": 0.99, "sessions": 500.0}
VERDICTS = [
    ({"sharpe": -2.0, "sharpe_low": -3.0, "sharpe_high": -1.0, "psr": 0.0}, "bad", "Losing"),
    ({"sharpe": -2.0, "sharpe_low": -4.0, "sharpe_high": 0.1, "psr": 0.001}, "bad", "Losing"),
    ({"sharpe": -0.4, "sharpe_low": -2.0, "sharpe_high": 1.0, "psr": 0.3}, "bad", "No edge"),
    ({"sharpe_low": -0.2}, "unclear", "Not distinguishable from luck"),
    ({}, "good", "Above zero"),
    ({"dsr": 0.99, "trials_counted": 12.0}, "good", "Beyond luck"),
    ({"dsr": 0.5, "trials_counted": 12.0}, "unclear", "Best of many"),
    ({"sessions": 62.0}, "unclear", "Too short"),
    ({"sharpe_low": math.nan}, "unclear", "No interval"),
    ({"sharpe": math.nan, "sharpe_low": math.nan}, "unclear", "Undefined"),
]


@pytest.mark.parametrize(("change", "level", "word"), VERDICTS)
def test_a_loser_luck_and_an_edge_have_words_of_their_own(
    change: dict[str, float], level: str, word: str
) -> None:
    judged = verdict(WINNER | change)
    assert (judged.level, judged.word) == (level, word)


def test_few_sessions_have_no_figure_per_year() -> None:
    few = WINNER | {"sessions": 62.0, "cagr_frac": 0.4, "net_pnl_usd": 12.0}
    assert value_text("sharpe", few) == value_text("cagr_frac", few) == "too short"
    assert value_text("net_pnl_usd", few) == "12.00"
    assert value_text("sharpe", WINNER | {"sessions": 63.0}) == "1.50 [0.30, 2.70]"
    assert too_short(1) == "1 session is too short a time for figures per year: 63 are the least."
    assert too_short(63) == ""
