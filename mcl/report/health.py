"""The page of a data check: is this data set fit to trade on, and if not, where and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from mcl.base.differences import flatten
from mcl.base.words import figure, many
from mcl.data.quality import Health
from mcl.market.calendar import from_day
from mcl.report.format import Verdict, number, scalar
from mcl.report.theme import (
    Cell,
    Figure,
    Section,
    chart,
    empty,
    fact_card,
    facts,
    headings,
    page,
    scroll,
    table,
)

SLOT_SEC = 1800
_CSS = {"error": "loss", "warning": "", "note": ""}


def health_page(health: Health, *, title: str, data_note: str = "", lead: str = "") -> str:
    """One self-contained HTML document. `data_note` is the sentence about the data, empty
    where there is none.
    """
    sections = [
        Section(
            "Findings",
            _findings(health),
            "An error means that the build refuses, or that a session is absent.",
        )
    ]
    if health.coverage is not None and health.bars is not None:
        note = (
            "Share of the minutes with a bar of the active contract, New York time. A minute in"
            " which nothing traded has no bar, so quiet hours are pale by nature; a pale block"
            " within a busy hour, or a pale row, is not."
        )
        sections.append(
            Section(
                "Coverage",
                chart(
                    "chart-coverage",
                    _coverage(health),
                    560,
                    "Share of minutes with a bar by session",
                ),
                note,
            )
        )
        sections.append(
            Section(
                "Gaps",
                _gaps(health),
                "Stretches without a bar that would happen by chance less than once in 10¹³.",
            )
        )
    if health.bars is not None:
        sections += [Section("Rolls", _rolls(health)), Section("Facts", facts(_facts(health)))]
    return page(
        "data check",
        title,
        sections,
        verdict=_verdict(health),
        data_note=data_note,
        cards=_cards(health),
        lead=lead,
    )


def _verdict(health: Health) -> Verdict:
    errors, warnings = health.count("error"), health.count("warning")
    if errors:
        kinds = ", ".join(dict.fromkeys(f.kind for f in health.findings if f.severity == "error"))
        return Verdict(
            "bad",
            "Not fit",
            f"{many(errors, 'error')} ({kinds}): no result on these data should be believed.",
        )
    if warnings:
        kinds = ", ".join(dict.fromkeys(f.kind for f in health.findings if f.severity == "warning"))
        return Verdict(
            "unclear", "Usable", f"No error; {many(warnings, 'warning')} to look at ({kinds})."
        )
    return Verdict("good", "Fit", "No error and no warning.")


def _cards(health: Health) -> str:
    items = [
        ("Errors", f"{health.count('error'):,}", "kinds of damage"),
        ("Warnings", f"{health.count('warning'):,}", "kinds of doubt"),
    ]
    if health.bars is not None:
        first, last = (from_day(int(health.bars.session[i])) for i in (0, -1))
        items.append(("Sessions", f"{len(np.unique(health.bars.session)):,}", f"{first} to {last}"))
        items.append(
            (
                "Bars",
                f"{len(health.bars):,}",
                f"{health.bars.instrument.symbol}, {health.bars.interval}, active contract",
            )
        )
    if health.coverage is not None:
        items.append(
            (
                "Coverage",
                number(health.coverage.share, "percent"),
                "of the minutes in which the exchange is open",
            )
        )
        items.append(
            ("Gaps", f"{len(health.gaps):,}", f"{sum(g.minutes for g in health.gaps):,} minutes")
        )
    return "".join(fact_card(*item) for item in items)


def _findings(health: Health) -> str:
    if not health.findings:
        return empty("There is none.")
    rows: list[list[Cell | str]] = []
    for finding in health.findings:
        places = "; ".join(finding.places[:3]) + (
            f" … {finding.count - 3:,} more" if finding.count > 3 and finding.places else ""
        )
        text = finding.text if not places else f"{finding.text}: {places}"
        rows.append(
            [
                Cell(finding.severity, _CSS[finding.severity]),
                finding.kind,
                Cell(f"{finding.count:,}", "n"),
                Cell(text, "wrap", "\n".join(finding.places)),
                Cell(finding.action, "wrap"),
            ]
        )
    return scroll(
        table(("Severity", "Kind", "Count", "What and where", "What to do"), rows, numeric=(2,)),
        tall=True,
    )


def _coverage(health: Health) -> Figure:
    coverage = health.coverage
    if coverage is None:
        return {"data": [], "layout": {}}
    shares = coverage.by_slot(SLOT_SEC)
    slots = [
        f"{(18 * 60 + k * SLOT_SEC // 60) // 60 % 24:02d}:{k * SLOT_SEC // 60 % 60:02d}"
        for k in range(shares.shape[1])
    ]
    days = [str(from_day(int(d))) for d in coverage.sessions]
    heat = {
        "type": "heatmap",
        "x": slots,
        "y": days,
        "z": [[None if math.isnan(v) else round(float(v), 3) for v in row] for row in shares],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "@ramp0"], [0.35, "@ramp1"], [1, "@ramp2"]],
        "hovertemplate": "%{y} %{x}<br>%{z:.0%} of the minutes<extra></extra>",
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%"},
    }
    flagged = [str(from_day(int(d))) for d in health.degraded if d in coverage.sessions]
    marks = {
        "type": "scatter",
        "mode": "markers",
        "name": "Degraded, says the vendor",
        "x": [slots[0]] * len(flagged),
        "y": flagged,
        "marker": {"symbol": "triangle-right", "size": 11, "color": "@ink"},
        "hovertemplate": "%{y}: degraded<extra></extra>",
        "showlegend": bool(flagged),
    }
    layout: Figure = {
        "xaxis": {
            "type": "category",
            "title": {"text": "New York"},
            "nticks": 12,
            "showgrid": False,
        },
        "yaxis": {"type": "category", "autorange": "reversed", "nticks": 14, "showgrid": False},
        "hovermode": "closest",
    }
    return {"data": [heat, marks] if flagged else [heat], "layout": layout}


def _gaps(health: Health) -> str:
    if not health.gaps:
        return empty("There is none.")
    rows: list[list[Cell | str]] = [
        [str(from_day(g.session)), str(g).split(": ", 1)[1], Cell(f"{g.minutes:,}", "n")]
        for g in health.gaps
    ]
    return scroll(table(("Session", "When", "Minutes"), rows, numeric=(2,)))


def _rolls(health: Health) -> str:
    if health.bars is None or not len(health.bars.roll_table):
        return empty("These bars hold no roll.", "Choose an earlier data.start to see some.")
    rolls = health.bars.roll_table
    bars: Figure = {
        "data": [
            {
                "type": "bar",
                "x": [f"{r.from_symbol} → {r.to_symbol}" for r in rolls.itertuples()],
                "y": rolls["gap"].tolist(),
                "customdata": [[f"{r.session:%Y-%m-%d}", r.reason] for r in rolls.itertuples()],
                "marker": {"color": "@blue"},
                "hovertemplate": (
                    "%{customdata[0]} %{x}<br>%{y:+.2f}, %{customdata[1]}<extra></extra>"
                ),
            }
        ],
        "layout": {
            "xaxis": {"type": "category", "nticks": 12},
            "yaxis": {"title": {"text": "Price gap, incoming − outgoing"}},
        },
    }
    names, numeric = headings(rolls.rename(columns={"gap": "price_gap"}))
    rows = [[_value(v) for v in row] for row in rolls.itertuples(index=False)]
    return chart("chart-rolls", bars, 240, "Gap of each roll") + scroll(
        table(names, rows, numeric=numeric)
    )


def _value(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else f"{value:%Y-%m-%d %H:%M}"
    return (
        figure(value, "+.2f")
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _facts(health: Health) -> Iterator[tuple[str, str]]:
    if health.table is None:
        return
    rows = {"origin": health.table.origin} | health.table.facts | health.table.counts
    rows["conditions"] = (
        ", ".join(f"{d} {w}" for d, w in health.table.conditions.items())
        or "none given, or every day available"
    )
    for name, value in flatten(rows).items():
        yield name, f"{value:.6g}" if isinstance(value, float) else scalar(value)
