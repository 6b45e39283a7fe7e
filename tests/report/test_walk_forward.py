"""The page of a walk-forward search: folds on the equity, what each chose, and what was left of
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from chromium import Chromium

from mcl.engine.result import Result
from mcl.report.run import RunView, run_page
from mcl.report.walk_forward import (
    FoldOutcome,
    Period,
    borders,
    cards,
    fold_table,
    pnl_efficiency,
    sections,
)

from .test_pages import Document


def fold(
    number: int, before: float, after: float, fast: int | None, sessions: int = 80
) -> FoldOutcome:
    year = 2023 + number
    searched = Period("2023-01-02", f"{year}-12-29", 250.0, 1.5, before)
    traded = Period(f"{year + 1}-01-02", f"{year + 1}-06-28", sessions, 0.5, after, 12.0)
    chosen = {} if fast is None else {"strategy.fast": fast, "strategy.exit": "time"}
    return FoldOutcome(number, searched, traded, chosen, f"http://127.0.0.1/{number}")


FOLDS = [fold(1, 500.0, 40.0, 10), fold(2, 250.0, -80.0, 40), fold(3, 0.0, 0.0, None)]


def test_efficiency_by_hand() -> None:
    """500 USD in 250 sessions are 2 a session, 40 in 80 are 0.5."""
    assert FOLDS[0].efficiency == 0.25
    assert FOLDS[1].efficiency == -1.0
    assert math.isnan(FOLDS[2].efficiency)  # nothing was earned in sample
    # -40 USD in 240 sessions, over the mean of 2 and 1 a session
    assert pnl_efficiency(FOLDS) == pytest.approx((-40 / 240) / 1.5)
    assert math.isnan(pnl_efficiency(FOLDS[2:]))
    assert math.isnan(pnl_efficiency([]))
    assert "1 of 3" in cards(FOLDS, 0.3)


def test_the_table_says_what_was_chosen_and_what_came_out() -> None:
    document = Document(fold_table(FOLDS))
    text = [part for part in document.text if part.strip()]
    row = text[text.index("1") :]
    assert row[:10] == [
        *("1", "2025-01-02 – 2025-06-28", "10", "time", "1.50", "0.50"),
        *("500.00", "40.00", "12", "25.00 %"),
    ]
    assert document.outside == [f"http://127.0.0.1/{n}" for n in (1, 2, 3)]
    assert text.count("–") == 2  # the fold that chose nothing


def test_a_short_fold_has_no_annual_sharpe() -> None:
    """The same rule as on every page: 63 sessions are the least for a figure per year."""
    text = Document(fold_table([fold(1, 500.0, 40.0, 10, sessions=62)])).text
    assert "too short" in text
    assert "0.50" not in text
    assert "32.26 %" in text  # a ratio per session has no year in it
    assert "0.50" in Document(fold_table([fold(1, 500.0, 40.0, 10, sessions=63)])).text


def test_borders_stand_where_the_folds_begin() -> None:
    shapes, notes = borders(FOLDS)
    lines = [shape["x0"] for shape in shapes if shape["type"] == "line"]
    assert lines == ["2025-01-02", "2026-01-02", "2027-01-02"]
    shaded = [(s["x0"], s["x1"]) for s in shapes if s["type"] == "rect"]
    assert shaded == [("2026-01-02", "2027-01-02")]
    assert [note["text"] for note in notes] == ["1", "2", "3"]
    many = [fold(n, 1.0, 1.0, 1) for n in range(1, 61)]
    assert len(borders(many)[1]) <= 24


def test_values_are_steps_over_the_sessions_that_are_traded() -> None:
    html = "".join(
        section.html
        for section in sections(pd.Series([1.0], pd.to_datetime(["2025-01-02"])), FOLDS, 0.1)
    )
    figures = Document(html).figures
    fast = figures["chart-value-0"]["data"][0]
    assert fast["x"] == ["2025-01-02", "2026-01-02", "2027-01-02", "2027-06-28"]
    assert fast["y"] == [10, 40, None, None]
    assert fast["line"]["shape"] == "hv"
    assert figures["chart-value-1"]["layout"]["yaxis"]["type"] == "category"
    per_year = figures["chart-efficiency"]["data"]
    assert per_year[0]["y"][:2] == [504.0, 252.0]
    assert per_year[1]["y"][:2] == [126.0, -252.0]


def test_no_choice_at_all_says_what_to_do() -> None:
    html = "".join(
        section.html
        for section in sections(
            pd.Series([1.0], pd.to_datetime(["2025-01-02"])), FOLDS[2:], math.nan
        )
    )
    assert "Lower search.min_trades" in html


def test_the_page_is_for_everybody_at_every_width(
    browser: Chromium, month: Result, make_view: Callable[..., RunView], tmp_path: Path
) -> None:
    days = [str(day)[:10] for day in month.session_equity.index]
    folds = [
        FoldOutcome(
            k + 1,
            Period("2023-01-02", "2023-12-29", 250.0, 1.2, 900.0),
            Period(days[5 * k], days[5 * k + 4], 5.0, 3.0, 10.0 - 8 * k, 4.0),
            {"strategy.fast": 5 * 2**k, "risk.protection.kind": "stop"},
            "http://127.0.0.1/1",
        )
        for k in range(4)
    ]
    view = make_view(
        month,
        kind="walk-forward",
        first=sections(month.session_equity, folds, 0.3),
        first_cards=cards(folds, 0.3),
    )
    browser.show(tmp_path, run_page(view))
    drawn = "return document.querySelectorAll('#chart-folds .scatterlayer .trace').length"
    assert browser.run(drawn) == 1
    lines = "return document.querySelectorAll('#chart-folds .shapelayer path').length"
    assert browser.run(lines) == 6  # four borders, two of them shaded
    # what every run has is closed, and opened by its link: the page is about the folds
    hours, charts = "document.querySelector('#hours details').open", "#exposure-over-time .main-svg"
    assert not browser.run(f"return {hours}")
    browser.examine("walk-forward")
    for name in ("hours", "exposure-over-time"):
        browser.run(f"document.querySelector('nav a[href=\"#{name}\"]').click()")
    browser.wait(f"return {hours} && document.querySelector('{charts}') !== null")
