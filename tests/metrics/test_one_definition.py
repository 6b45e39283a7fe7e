"""A statistic is defined once, in mcl/metrics: what a program can see of a second definition is
refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mcl"
METRICS = PACKAGE / "metrics"
OTHERS = [path for path in sorted(PACKAGE.rglob("*.py")) if METRICS not in path.parents]
DEFLATION = {  # of these only `overfit.luck` and the ledger's threshold are made
    *("psr_2012", "dsr_2012", "expected_maximum", "deflated_threshold"),
    *("trial_variance", "luck_variance", "null_variance"),
}
STATISTICS = {  # functions of mcl/metrics
    *DEFLATION,
    *(
        "sharpe",
        "session_ratios",
        "annual",
        "per_session",
        "sortino",
        "omega",
        "cagr",
        "gain_to_pain",
        "tail_ratio",
        "stability",
    ),
    *(
        "annual_volatility",
        "downside_deviation",
        "value_at_risk",
        "expected_shortfall",
        "drawdown",
        "fall",
        "ulcer",
    ),
    *("win_rate", "profit_factor", "expectancy", "expectancy_r", "payoff", "sqn", "longest_run"),
    *(
        "min_track_record",
        "min_backtest_years",
        "mean_correlation",
        "n_effective",
        "effective_rank",
        "sharpe_variance_factor",
    ),
}
RUNNING = {  # a running maximum that is no drawdown
    "data/bars.py": "the last row of a finer bar",
    "data/synthetic/order_books.py": "the last row that traded",
    "report/zoom_data.py": "the last row that has a value",
    "report/search_charts.py": "the best score so far",
}


def defined(path: Path) -> list[str]:
    return [
        node.name.lstrip("_")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]


def test_every_statistic_is_defined_once_in_metrics() -> None:
    defined_names = [
        name for path in METRICS.glob("*.py") for name in defined(path) if name in STATISTICS
    ]
    assert sorted(defined_names) == sorted(STATISTICS)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2], node


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_outside_defines_a_statistic_again(path: Path) -> None:
    name, tree = path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())
    again = STATISTICS & set(defined(path))
    assert not again, f"{name} defines {again} besides mcl/metrics"
    year = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value == 252
    ]
    assert not year or name in (
        "market/calendar.py",
        "data/synthetic/calibration.py",
    ), f"{name} has its own 252 in lines {year}: calendar.SESSIONS_PER_YEAR"
    defined_names = list(calls(tree))
    rooted = [
        node.lineno
        for func, node in defined_names
        if func == "sqrt" and "SESSIONS_PER_YEAR" in ast.unparse(node)
    ]
    assert not rooted or name in (
        "risk/size_method.py",
        "data/synthetic/generator.py",
        "data/synthetic/price_process.py",
    ), f"{name} annualises in lines {rooted}"
    deflates = {func for func, _ in defined_names} & DEFLATION
    assert not deflates or name == "tracking/trial_ledger.py", (
        f"{name} deflates by {deflates}: take Tally.luck"
    )
    rising = [
        node.lineno
        for func, node in defined_names
        if func == "cummax" or ast.unparse(node.func).endswith("maximum.accumulate")
    ]
    assert not rising or name in RUNNING, (
        f"{name} has a running maximum in lines {rising}: performance.fall"
    )


def test_the_year_has_one_length() -> None:
    from mcl.market import calendar
    from mcl.metrics import performance

    assert performance.annual(performance.per_session(1.7)) == pytest.approx(1.7)
    assert performance.years(calendar.SESSIONS_PER_YEAR) == 1
