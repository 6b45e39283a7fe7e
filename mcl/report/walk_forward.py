"""The sections of a walk-forward search: its folds on the equity, what each one chose, and how much
of the result in sample is left out of sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mcl.base.words import many
from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.metrics import performance as perf
from mcl.report import charts
from mcl.report.format import annual_text, number, too_short
from mcl.report.search import short, value_of
from mcl.report.theme import (
    Cell,
    Figure,
    Heading,
    Section,
    chart,
    columns,
    fact_card,
    facts,
    finite_list,
    scroll,
    table,
    titled,
)

MOST_LABELS = 24  # numbers of folds above a chart
FLAT = "none: it stays flat"
ABOUT = (
    "Each fold trades the values that its own search chose on the sessions before it. The equity"
    " is one simulation over all of them. Shading marks every second fold."
)
FOLDS = (
    "In sample is the fold's own search, out of sample what it traded then. Efficiency is the P&L"
    " per session out of sample over that in sample. It is n/a where nothing was earned in sample."
)
STEPS = "The value that each fold traded with. A value that jumps from fold to fold fits noise."


@dataclass(frozen=True)
class Period:
    """The result of some sessions: `sharpe` is annual."""

    first: str
    last: str
    sessions: float
    sharpe: float
    net_pnl_usd: float
    trades: float = math.nan

    @property
    def per_session_usd(self) -> float:
        return self.net_pnl_usd / self.sessions if self.sessions > 0 else math.nan


@dataclass(frozen=True)
class FoldOutcome:
    """One fold: the values that were chosen on `searched` (none: it stayed flat) and what they did
    on `traded`. `href` is the address of its search.
    """

    number: int
    searched: Period
    traded: Period
    chosen: Mapping[str, Any]
    href: str = ""

    @property
    def efficiency(self) -> float:
        """P&L per session out of sample over that in sample; the year cancels out."""
        return perf.ratio(self.traded.per_session_usd, self.searched.per_session_usd)


def pnl_efficiency(folds: Sequence[FoldOutcome]) -> float:
    """Walk-forward efficiency: the annual P&L of all traded sessions over the mean annual P&L in
    sample. NaN where nothing was earned in sample.
    """
    chosen = [fold for fold in folds if fold.chosen]
    sessions = sum(fold.traded.sessions for fold in folds)
    if not chosen or not sessions:
        return math.nan
    inside = sum(fold.searched.per_session_usd for fold in chosen) / len(chosen)
    return perf.ratio(sum(fold.traded.net_pnl_usd for fold in folds) / sessions, inside)


def cards(folds: Sequence[FoldOutcome], efficiency: float) -> str:
    """The headline numbers that only a walk-forward search has."""
    won = sum(fold.traded.net_pnl_usd > 0 for fold in folds)
    by_pnl = number(pnl_efficiency(folds), "percent")
    return fact_card(
        "Efficiency", number(efficiency, "percent"), f"of the Sharpe in sample; of the P&L {by_pnl}"
    ) + fact_card("Folds with a profit", f"{won} of {len(folds)}", "out of sample")


def sections(equity: pd.Series, folds: Sequence[FoldOutcome], efficiency: float) -> list[Section]:
    """List the sections that stand first on the page. `equity` is USD at session ends, indexed by
    trade date; `efficiency` that of the Sharpe ratios.
    """
    names = list(dict.fromkeys(key for fold in folds for key in fold.chosen))
    picture = chart(
        "chart-folds", _equity(equity, folds), 380, "Equity out of sample with the folds' borders"
    )
    return [
        Section("Out-of-sample equity", picture, ABOUT),
        Section("Folds", fold_table(folds), FOLDS),
        Section("Parameters over time", parameters(folds, names), STEPS),
        Section("Efficiency", _efficiency(folds, efficiency)),
    ]


def fold_table(folds: Sequence[FoldOutcome]) -> str:
    """One row per fold: its sessions, the values chosen, in sample, out of sample, and what is left
    of the one in the other.
    """
    names = list(dict.fromkeys(key for fold in folds for key in fold.chosen))
    # a validation judges by session returns alone
    counted = any(math.isfinite(fold.traded.trades) for fold in folds)
    head: tuple[Heading, ...] = (
        "Fold",
        ("Traded", "first and last session"),
        *map(short, names),
        ("Sharpe", "in sample"),
        ("Sharpe", "out of sample"),
        ("Net P&L, USD", "in sample"),
        ("Net P&L, USD", "out of sample"),
        *(["Trades"] if counted else []),
        "Efficiency",
        ("Searched", "first and last session"),
    )
    rows = [_row(fold, names, counted) for fold in folds]
    numeric = (0, *range(2 + len(names), len(head) - 1))
    return scroll(table(head, rows, numeric=numeric, css="held"), tall=True)


def _row(fold: FoldOutcome, names: Sequence[str], counted: bool) -> list[Cell | str]:
    values: list[Cell | str] = [
        Cell(value_of(fold.chosen[name])) if name in fold.chosen else Cell("–", title=FLAT)
        for name in names
    ]
    numbers = [
        _sharpe_cell(fold.searched),
        _sharpe_cell(fold.traded),
        Cell(number(fold.searched.net_pnl_usd, "usd"), "n", repr(fold.searched.net_pnl_usd)),
        _usd(fold.traded.net_pnl_usd),
        *([Cell(number(fold.traded.trades, "count"), "n")] if counted else []),
        Cell(number(fold.efficiency, "percent"), "n", repr(fold.efficiency)),
    ]
    return [
        Cell(str(fold.number), "n", href=fold.href),
        f"{fold.traded.first} – {fold.traded.last}",
        *values,
        *numbers,
        f"{fold.searched.first} – {fold.searched.last}",
    ]


def _sharpe_cell(period: Period) -> Cell:
    why = too_short(period.sessions) or repr(period.sharpe)
    return Cell(annual_text("sharpe", period.sharpe, period.sessions), "n", why)


def _usd(value: float) -> Cell:
    css = "n gain" if value > 0 else "n loss" if value < 0 else "n"
    return Cell(number(value, "usd"), css, repr(value))


def borders(folds: Sequence[FoldOutcome]) -> tuple[list[Figure], list[Figure]]:
    """(shapes, annotations): a line where each fold begins, every second one shaded, its number at
    the top.
    """
    shapes: list[Figure] = []
    notes: list[Figure] = []
    every = -(-len(folds) // MOST_LABELS)
    ends = [*(fold.traded.first for fold in folds[1:]), folds[-1].traded.last if folds else ""]
    for k, (fold, end) in enumerate(zip(folds, ends, strict=True)):
        paper = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
        start = fold.traded.first
        line = {"color": "@line", "width": 1}
        shapes.append({"type": "line", "x0": start, "x1": start, "line": line} | paper)
        if k % 2:
            fill = {"fillcolor": "@blue-soft", "opacity": 0.6, "line": {"width": 0}}
            shapes.append({"type": "rect", "x0": start, "x1": end, "layer": "below"} | fill | paper)
        if k % every == 0:
            notes.append(
                {
                    "x": start,
                    "y": 1,
                    "yref": "paper",
                    "text": f"{fold.number}",
                    "showarrow": False,
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "font": {"color": "@muted", "size": 11},
                }
            )
    return shapes, notes


def _equity(equity: pd.Series, folds: Sequence[FoldOutcome]) -> Figure:
    hover = "%{x|%Y-%m-%d}: %{y:,.2f} USD<extra></extra>"
    line = charts.session_line(equity, "Equity", "@blue", width=1.8, hovertemplate=hover)
    shapes, notes = borders(folds)
    layout: Figure = {
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": "Equity, USD"}},
        "hovermode": "closest",
        "showlegend": False,
        "shapes": shapes,
        "annotations": notes,
        "margin": {"l": 8, "r": 8, "t": 22, "b": 8},
    }
    return {"data": [line], "layout": layout}


def parameters(folds: Sequence[FoldOutcome], names: Sequence[str], prefix: str = "") -> str:
    """One step chart per parameter over the sessions that are traded."""
    if not names:
        return (
            '<p class="empty">No fold chose a value: no trial of any search has a score. Lower'
            " search.min_trades, or search where the strategy trades.</p>"
        )
    parts = []
    for i, name in enumerate(names):
        values = {value_of(fold.chosen[name]) for fold in folds if name in fold.chosen}
        heading = f"{short(name)}: {many(len(values), 'value')} in {many(len(folds), 'fold')}"
        label = f"{short(name)} of every fold"
        picture = chart(f"chart-{prefix}value-{i}", _steps(folds, name), 220, label)
        parts.append(titled(heading, picture))
    return columns(*parts, css="wide")


def _steps(folds: Sequence[FoldOutcome], name: str) -> Figure:
    chosen = [fold.chosen.get(name) for fold in folds]
    present = [value for value in chosen if value is not None]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
    texts = ["–" if value is None else value_of(value) for value in chosen]
    values: list[Any] = [value if numeric or value is None else value_of(value) for value in chosen]
    x = [*(fold.traded.first for fold in folds), folds[-1].traded.last]
    trace: Figure = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": [*values, values[-1]],
        "text": [*(f"fold {f.number}: {t}" for f, t in zip(folds, texts, strict=True)), ""],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"shape": "hv", "color": "@blue", "width": 2},
        # the last point only ends the line
        "marker": {"color": "@blue", "size": [8] * len(folds) + [0], "line": {"width": 0}},
    }
    shapes, _ = borders(folds)
    axis: Figure = {"rangemode": "tozero"} if numeric else {"type": "category"}
    layout: Figure = {
        "xaxis": {"type": "date"},
        "yaxis": axis,
        "hovermode": "closest",
        "showlegend": False,
        "shapes": shapes,
    }
    return {"data": [trace], "layout": layout}


def _efficiency(folds: Sequence[FoldOutcome], efficiency: float) -> str:
    brief = any(too_short(fold.traded.sessions) for fold in folds)
    unit, factor = ("session", 1.0) if brief else ("year", float(SESSIONS_PER_YEAR))
    names = [str(fold.number) for fold in folds]
    bars = [
        {
            "type": "bar",
            "name": label,
            "x": names,
            "y": finite_list([factor * period.per_session_usd for period in periods]),
            "marker": {"color": colour},
            "hovertemplate": f"fold %{{x}}: %{{y:,.2f}} USD per {unit}<extra>{label}</extra>",
        }
        for label, colour, periods in (
            ("In sample", "@grey", [fold.searched for fold in folds]),
            ("Out of sample", "@blue", [fold.traded for fold in folds]),
        )
    ]
    layout: Figure = {
        "barmode": "group",
        "xaxis": {"type": "category", "title": {"text": "Fold"}},
        "yaxis": {"title": {"text": f"USD per {unit}"}},
        "hovermode": "closest",
    }
    sessions = sum(fold.traded.sessions for fold in folds)
    pairs = [
        (
            "Sharpe out of sample / mean Sharpe in sample, both annual",
            annual_text("walk_forward_efficiency", efficiency, sessions),
        ),
        (
            "Annual P&L out of sample / mean annual P&L in sample",
            number(pnl_efficiency(folds), "percent"),
        ),
        ("Folds with a profit out of sample", f"{_won(folds)} of {len(folds)}"),
        ("Sessions out of sample", number(sessions, "count")),
    ]
    return columns(
        titled(
            f"P&L per {unit} of every fold",
            chart(
                "chart-efficiency",
                {"data": bars, "layout": layout},
                280,
                "P&L in and out of sample",
            ),
        ),
        titled("All folds", facts(pairs)),
        css="wide",
    )


def _won(folds: Sequence[FoldOutcome]) -> int:
    return sum(fold.traded.net_pnl_usd > 0 for fold in folds)
