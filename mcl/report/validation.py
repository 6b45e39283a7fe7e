"""The page of a validation: the verdict table first, then what each row was read from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from mcl.report import charts
from mcl.report.format import Verdict, annual_text, exact, number, too_short
from mcl.report.theme import (
    Cell,
    Figure,
    Link,
    Section,
    chart,
    columns,
    empty,
    fact_card,
    facts,
    finite_list,
    page,
    scroll,
    table,
    titled,
)
from mcl.report.walk_forward import FOLDS, FoldOutcome, borders, fold_table, parameters

BADGES = {
    "pass": ("good", "Pass"),
    "borderline": ("unclear", "Borderline"),
    "stop": ("bad", "Stop"),
}
BINS = 30  # of a histogram, at most
CELLS = {"pass": "gain", "stop": "loss"}


@dataclass(frozen=True)
class Judged:
    label: str
    value: float
    rule: str
    level: str
    meaning: str
    text: str = ""  # in place of the value


@dataclass(frozen=True)
class EquityCurve:
    """Growth of 1 by trade date (ISO days)."""

    name: str
    days: Sequence[str]
    values: Any
    colour: str = "@blue"
    dash: str = "solid"


@dataclass(frozen=True)
class LineSeries:
    """One condition or regime: a name, numbers, and a note where they could not be found."""

    name: str
    sharpe: float
    net_pnl_usd: float
    count: float
    note: str = ""
    sessions: float = math.inf

    @property
    def sharpe_cell(self) -> Cell:
        return Cell(annual_text("sharpe", self.sharpe, self.sessions), "n", exact(self.sharpe))


@dataclass(frozen=True)
class ValidationView:
    """Plain data of one validation; nothing is computed here."""

    title: str
    lead: str
    level: str
    sentence: str
    data_note: str
    rows: Sequence[Judged]
    cards: Sequence[tuple[str, str, str]]
    curves: Sequence[EquityCurve]
    band: tuple[Sequence[str], Any, Any, Any] | None  # days, low, median, high of resampled equity
    paths: Any  # Sharpe ratios of the CPCV paths
    logits: Any
    neighbours: Sequence[LineSeries]
    drops: Sequence[tuple[str, float, str]]
    cases: Sequence[tuple[str, Sequence[LineSeries]]]
    regimes: Sequence[tuple[str, Sequence[LineSeries]]]
    folds: Sequence[tuple[str, Sequence[FoldOutcome]]]
    facts: Sequence[tuple[str, Any]] = field(default=())
    links: Sequence[Link] = ()


def validation_page(view: ValidationView) -> str:
    """One self-contained HTML document."""
    level, word = BADGES.get(view.level, ("unclear", "Not judged"))
    sections = [
        Section(
            "Verdict",
            _verdict(view),
            "Between pass and stop lies borderline. A question that could not be asked says why.",
        ),
        Section(
            "Equity",
            _equity(view),
            "Grey: nine in ten histories resampled in blocks of sessions. Dashed: chosen anew"
            " before each fold. Shading marks every second fold, with its number above.",
        ),
        Section(
            "Choosing",
            _choosing(view),
            "What the same way of choosing parameters earned on sessions that it had not seen.",
        ),
        Section(
            "Neighbourhood",
            _neighbourhood(view),
            "One step of the search space in every direction, simulated again.",
        ),
        Section(
            "Conditions",
            columns(*(titled(name, _lines(lines, "Trades")) for name, lines in view.cases)),
        ),
        Section(
            "Regimes",
            columns(
                *(
                    titled(name.capitalize(), _lines(lines, "Sessions"))
                    for name, lines in view.regimes
                )
            ),
        ),
        Section("Numbers", facts(view.facts)),
    ]
    cards = "".join(fact_card(*item) for item in view.cards)
    return page(
        "validation",
        view.title,
        sections,
        verdict=Verdict(level, word, view.sentence),
        data_note=view.data_note,
        cards=cards,
        lead=view.lead,
        links=view.links,
    )


def _verdict(view: ValidationView) -> str:
    rows: list[list[Cell | str]] = [
        [
            Cell(r.level, CELLS.get(r.level, "")),
            Cell(r.label, head=True),
            Cell(r.text or number(r.value, "plain"), "n", exact(r.value)),
            r.rule.replace(">=", "≥").replace("<=", "≤"),
            Cell(r.meaning, "wrap"),
        ]
        for r in view.rows
    ]
    return scroll(
        table(("Verdict", "Question", "Number", "Rule", "What it says"), rows, numeric=(2,)),
        tall=True,
    )


def _equity(view: ValidationView) -> str:
    lines: list[Figure] = []
    if view.band is not None:
        days, low, median, high = view.band
        edge = {
            "type": "scatter",
            "mode": "lines",
            "x": list(days),
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        lines += [
            edge | {"y": finite_list(low)},
            edge
            | {
                "y": finite_list(high),
                "fill": "tonexty",
                "fillcolor": "rgba(128,128,128,0.18)",
            },
            edge
            | {
                "y": finite_list(median),
                "line": {"width": 1, "color": "@grey", "dash": "dot"},
                "name": "Median",
                "showlegend": True,
            },
        ]
    lines += [
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(c.days),
            "y": finite_list(c.values),
            "name": c.name,
            "line": {"color": c.colour, "width": 2, "dash": c.dash},
        }
        for c in view.curves
    ]
    shapes, notes = borders(view.folds[0][1]) if view.folds else ([], [])
    layout = {
        "yaxis": {"title": {"text": "Growth of 1"}},
        "xaxis": {"type": "date"},
        "hovermode": "x unified",
        "shapes": shapes,
        "annotations": notes,
        "legend": {"y": 1.06},
    }
    return chart(
        "chart-equity",
        {"data": lines, "layout": layout},
        420,
        "Equity in sample, out of sample and resampled",
    )


def _choosing(view: ValidationView) -> str:
    parts = []
    if len(view.paths):
        figure = _histogram(view.paths, "Sharpe of a path", "Paths")
        parts.append(
            titled("CPCV paths", chart("chart-paths", figure, 260, "Sharpe of out-of-sample paths"))
        )
    if len(view.logits):
        figure = _histogram(view.logits, "logit of the rank out of sample", "Combinations")
        parts.append(
            titled(
                "Overfitting",
                chart("chart-logits", figure, 260, "Rank of the in-sample best out of sample"),
            )
        )
    walks = "".join(_walk(name, folds, i) for i, (name, folds) in enumerate(view.folds))
    return (columns(*parts, css="wide") if parts else "") + walks or (
        '<p class="empty">There was nothing to choose from: the space of the run has one point.'
        " Give conf/space a file for its strategy, then validate again.</p>"
    )


def _walk(name: str, folds: Sequence[FoldOutcome], number_of: int) -> str:
    """The folds of one walk-forward, and what each of them chose."""
    names = list(dict.fromkeys(key for fold in folds for key in fold.chosen))
    return (
        titled(name, fold_table(folds))
        + f'<p class="note">{escape(FOLDS)}</p>'
        + parameters(folds, names, f"walk-{number_of}-")
    )


def _neighbourhood(view: ValidationView) -> str:
    if not view.neighbours:
        return empty(
            "The space has no neighbour of this point.",
            "Give its strategy a wider file in conf/space.",
        )
    rows: list[list[Cell | str]] = [[line.name, line.sharpe_cell] for line in view.neighbours]
    drops: list[list[Cell | str]] = [
        [name, Cell(text, "n", exact(value))] for name, value, text in view.drops
    ]
    brief = any(too_short(line.sessions) for line in view.neighbours)
    bars = {
        "type": "bar",
        "hoverinfo": "x" if brief else "x+y",
        "x": [line.name for line in view.neighbours],
        "y": finite_list([line.sharpe for line in view.neighbours]),
        "marker": {"color": "@blue"},
    }
    figure = {
        "data": [bars],
        "layout": {
            "xaxis": {"type": "category", "showticklabels": False},
            "yaxis": {"title": {"text": "Sharpe"}, "showticklabels": not brief},
        },
    }
    return columns(
        titled(
            "Sharpe of every neighbour",
            chart("chart-plateau", figure, 260, "Sharpe of every neighbour"),
        ),
        titled(
            "Largest fall one step away", table(("Parameter", "Sharpe lost"), drops, numeric=(1,))
        ),
        titled("Points", scroll(table(("Values", "Sharpe"), rows, numeric=(1,)))),
    )


def _lines(lines: Sequence[LineSeries], counted: str) -> str:
    rows: list[list[Cell | str]] = []
    for line in lines:
        numbers = [
            line.sharpe_cell,
            Cell(number(line.net_pnl_usd, "usd"), "n"),
            Cell(number(line.count, "count"), "n"),
        ]
        rows.append(
            [Cell(f"{line.name} ({line.note})" if line.note else line.name, "wrap"), *numbers]
        )
    if not rows:
        return empty("Not applicable.")
    return scroll(table(("Case", "Sharpe", "Net USD", counted), rows, numeric=(1, 2, 3)))


def _histogram(values: Any, label: str, counted: str) -> Figure:
    finite = np.array([float(v) for v in values if math.isfinite(v)])
    bars = {"type": "histogram", "x": finite.tolist(), "marker": {"color": "@blue"}, "nbinsx": BINS}
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 0,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "@ink", "width": 1, "dash": "dot"},
    }
    axes = {"xaxis": {"title": {"text": label}}, "yaxis": charts.counted(counted, finite, BINS)}
    return {"data": [bars], "layout": axes | {"shapes": [zero]}}
