"""What a person sees while trials run: the standing, on a terminal and elsewhere."""

from __future__ import annotations

import io
import math

import pytest

from mcl.search.progress import LineProgress, SweepStatistics, TableProgress, progress_display
from mcl.search.trial import Outcome


def scored(number: int, value: float, **metrics: float) -> Outcome:
    params = {"strategy.fast": 10 * number, "strategy.slow": 100}
    return Outcome(
        number,
        params,
        "COMPLETE",
        value=value,
        metrics={"sharpe": value, "trades": 40.0} | metrics,
        seconds=0.5,
    )


FAILED = Outcome(7, {"strategy.fast": 1}, "FAILED", "ZeroDivisionError", "division by zero")
PRUNED = Outcome(8, {"strategy.fast": 2}, "PRUNED", "constraint", "fast < slow is broken")


def statistics_of(*outcomes: Outcome, maximize: bool = True) -> SweepStatistics:
    statistics = SweepStatistics("a search", 10, "sharpe", maximize)
    for outcome in outcomes:
        statistics.add(outcome)
    return statistics


def test_the_best_is_the_first_of_the_equal_and_a_score_that_is_none_leads_nothing() -> None:
    standing = statistics_of(
        scored(3, 1.0), scored(1, 1.0), scored(2, math.nan), FAILED, PRUNED, scored(4, 0.5)
    )
    assert standing.best is not None
    assert standing.best.number == 1
    assert standing.improvements == [(1, 1.0), (2, 1.0)]
    assert (standing.done, dict(standing.states)) == (6, {"COMPLETE": 4, "FAILED": 1, "PRUNED": 1})
    lowest = statistics_of(scored(3, 1.0), scored(4, 0.5), maximize=False).best
    assert lowest is not None
    assert lowest.number == 4


def test_speed_and_time_left_are_those_of_this_process() -> None:
    standing = statistics_of()
    standing.begin([scored(0, 1.0), scored(1, 2.0)])
    standing.add(scored(2, 3.0))
    standing.ended = standing.started + 2.0
    assert (standing.rate, standing.eta_sec) == (0.5, 14.0)
    facts = standing.facts()
    assert (facts["done"], facts["total"], facts["here"], facts["trial_sec"]) == (3, 10, 1, 0.5)
    assert facts["best"] == {
        "trial": 2,
        "value": 3.0,
        "params": {"strategy.fast": 20, "strategy.slow": 100},
        "trades": 40.0,
        "max_drawdown_frac": None,
    }


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    lines = progress_display(stream)
    assert isinstance(lines, LineProgress)
    standing = statistics_of()
    lines.begin(standing)
    for outcome in (scored(1, 1.25), FAILED, PRUNED):
        lines.trial(standing, outcome, standing.add(outcome))
    lines.end(standing)
    output_lines = stream.getvalue().splitlines()
    assert output_lines[:2] == ["a search", "trial 7 failed: division by zero"]
    assert output_lines[-1].startswith("3/10 trials")
    assert "1 failed (ZeroDivisionError 1) · 1 pruned (constraint 1)" in output_lines[-1]
    assert output_lines[-1].endswith(
        "best sharpe 1.25 in trial 1: strategy.fast=10 strategy.slow=100"
    )


def test_a_table_of_improvements_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    stream = io.StringIO()
    screen, standing = TableProgress(stream), statistics_of()
    screen.begin(standing)
    for outcome in (
        scored(1, 1.25, max_drawdown_frac=-0.125),
        scored(2, 0.5),
        scored(3, 2.5),
        FAILED,
    ):
        screen.trial(standing, outcome, standing.add(outcome))
    screen.end(standing)
    text = stream.getvalue()
    head, *rows = [
        line.split() for line in text.splitlines() if "trial " in line or "best so far" in line
    ][-3:]
    assert "trial 7 failed: division by zero" in text
    assert head == [
        "best",
        "so",
        "far",
        "fast",
        "slow",
        "sharpe",
        "trades",
        "max_drawdown_frac",
        "net_pnl_usd",
    ]
    assert rows == [
        ["trial", "3", "30", "100", "2.5", "40", "–", "–"],
        ["trial", "1", "10", "100", "1.25", "40", "-0.125", "–"],
    ]
    assert "4/10 trials" in text
