"""Pictures of a whole search: its history, the luck in it, its parameters one by one and all at
once, and the peak next to the plateau.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mcl.metrics.overfit import Luck
from mcl.report import charts
from mcl.report.format import number
from mcl.report.search import SearchView, numeric, short, value_of
from mcl.report.theme import (
    Cell,
    Figure,
    Section,
    chart,
    columns,
    finite_list,
    scroll,
    table,
    titled,
)

MOST_TICKS = 8  # tested values that label an axis; of more, round numbers do


def history(search: SearchView, total: int, luck: Luck | None) -> str:
    return chart(
        "chart-history",
        _history(search, total, luck),
        340,
        "Score of every trial and the best so far",
    )


def _history(search: SearchView, total: int, luck: Luck | None) -> Figure:
    frame = search.scored
    values = frame[search.metric].astype(float)
    best = values.cummax() if search.maximize else values.cummin()
    numbers = frame["number"].astype(int).tolist()
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers,
        "y": finite_list(values),
        "name": "Trial",
        "marker": {"color": "@grey", "size": 6, "opacity": 0.8},
    }
    steps = {
        "type": "scatter",
        "mode": "lines",
        "x": numbers,
        "y": finite_list(best),
        "name": "Best so far",
        "line": {"shape": "hv", "color": "@blue", "width": 2},
    }
    data = [points, steps, *_by_luck(search, numbers, total, luck)]
    return {
        "data": data,
        "layout": {
            "xaxis": {"title": {"text": "Trial"}},
            "yaxis": {"title": {"text": search.label}} | hidden_ticks(search),
            "hovermode": "closest",
        },
    }


def _has_luck(search: SearchView, luck: Luck | None) -> bool:
    """Whether scores can be compared with chance: Sharpe ratios, searched upwards, that the trial
    ledger has deflated.
    """
    if search.brief:
        return False
    applicable = search.metric == "sharpe" and search.maximize and len(search.scored) > 1
    return applicable and luck is not None and np.isfinite(luck.best_by_luck)


def _by_luck(search: SearchView, numbers: list[int], total: int, luck: Luck | None) -> list[Figure]:
    """The best Sharpe ratio that the trials until then would show without any edge, those before
    this search included.
    """
    if luck is None or not _has_luck(search, luck):
        return []
    counts = np.linspace(1, total, min(total, 200))
    before = max(0, luck.trials - total)
    line: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": np.interp(counts, np.linspace(1, total, len(numbers)), numbers).tolist(),
        "y": [luck.best_of(before + float(n)) for n in counts],
        "name": "Best by luck alone",
        "line": {"color": "@orange", "width": 1.5, "dash": "dot"},
    }
    return [line]


def deflation(search: SearchView, luck: Luck | None) -> list[Section]:
    """Plot all scores with the best that so many would show without any edge."""
    if luck is None or not _has_luck(search, luck):
        return []
    values = search.scored["sharpe"].astype(float)
    best, chance = float(values.max()), luck.best_by_luck
    bars: Figure = {
        "type": "histogram",
        "x": finite_list(values),
        "nbinsx": 40,
        "marker": {"color": "@blue"},
        "name": "Trials",
    }
    marks = (("best by luck", chance, "@orange"), ("best found", best, "@ink"))
    shapes = [charts.upright(x, color=color, width=1.5, dash="dot") for _, x, color in marks]
    notes = [
        {
            "x": x,
            "yref": "paper",
            "y": 1 - 0.1 * k,
            "text": f"{name} {number(x, 'ratio')}",
            "showarrow": False,
            "xanchor": "right",
            "xshift": -5,
            "bgcolor": "@panel",
            "font": {"color": color},
        }
        for k, (name, x, color) in enumerate(marks)
    ]
    axes = {
        "xaxis": {"title": {"text": "Sharpe"}},
        "yaxis": charts.counted("Trials", np.asarray(values), 40),
    }
    layout = axes | {"shapes": shapes, "annotations": notes}
    note = (
        f"Without any edge the best of {luck.count} would show {number(chance, 'ratio')}. The best"
        f" is {luck.sentence}."
    )
    return [
        Section(
            "Luck",
            chart(
                "chart-luck",
                {"data": [bars], "layout": layout},
                280,
                "Sharpe ratios and what luck would show",
            ),
            note,
        )
    ]


def plateau(search: SearchView) -> list[Section]:
    """Each trial's own score against the mean of its neighbourhood; none when the search knew no
    neighbourhoods.
    """
    frame = search.scored
    if "plateau" not in frame or frame["plateau"].isna().all():
        return []
    around = frame["plateau"].astype(float)
    points: Figure = {
        "type": "scatter",
        "mode": "markers",
        "x": finite_list(around),
        "y": finite_list(frame[search.metric]),
        "text": [f"trial {n}" for n in frame["number"]],
        "marker": {"color": "@blue", "size": 6, "opacity": 0.6},
    }
    low, high = (float(f([f(around), f(frame[search.metric])])) for f in (np.nanmin, np.nanmax))
    same = {
        "type": "line",
        "x0": low,
        "x1": high,
        "y0": low,
        "y1": high,
        "line": {"color": "@line", "width": 1},
    }
    hidden = hidden_ticks(search)
    axes = {
        "xaxis": {"title": {"text": "Mean of the neighbourhood"}} | hidden,
        "yaxis": {"title": {"text": search.label}} | hidden,
    }
    figure = {
        "data": [points],
        "layout": axes | {"shapes": [same], "hovermode": "closest", "showlegend": False},
    }
    chosen = [
        ("By peak", search.ranked.iloc[0]),
        (
            "By plateau",
            frame.iloc[int(np.nanargmax(around) if search.maximize else np.nanargmin(around))],
        ),
    ]
    rows: list[list[Cell | str]] = [
        [
            name,
            str(row["number"]),
            search.text(float(row[search.metric])),
            search.text(float(row["plateau"])),
            *(value_of(row[p]) for p in search.parameters),
        ]
        for name, row in chosen
    ]
    head = ("Chosen", "Trial", search.label, "Neighbourhood", *map(short, search.parameters))
    note = (
        "A trial far above the line is a peak that its neighbours do not share; choose from the"
        " right, not from the top."
    )
    listed = titled(
        "Best by peak and by plateau",
        scroll(table(head, rows, numeric=range(1, len(head))), tall=True),
    )
    return [
        Section(
            "Plateau",
            columns(
                chart("chart-plateau", figure, 300, "Score against neighbourhood"),
                listed,
                css="wide",
            ),
            note,
        )
    ]


def parallel(search: SearchView) -> list[Section]:
    """One line per trial across all parameters; drag along an axis to select."""
    names = [n for n in search.parameters if search.scored[n].nunique() > 1]
    if len(names) < 2:
        return []
    frame = search.scored
    score = frame[search.metric].astype(float)
    scored = {"label": search.label, "values": finite_list(score), "tickformat": ".3~g"}
    dimensions = [*(_dimension(frame[n], short(n)) for n in names), scored]
    bar = {"thickness": 10, "outlinewidth": 0}
    line = {
        "color": finite_list(score),
        "colorscale": [[0, "@ramp0"], [0.5, "@grey"], [1, "@ramp2"]],
        "showscale": True,
        "colorbar": bar,
    }
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": line,
        "labelfont": {"color": "@ink"},
        "tickfont": {"color": "@muted"},
    }
    figure = {"data": [trace], "layout": {"margin": {"l": 60, "r": 30, "t": 40, "b": 20}}}
    note = "Each line is a trial, coloured by its score; drag along an axis to keep only some."
    picture = chart("chart-parallel", figure, 380, "Every trial across all parameters")
    request = (
        '<p class="picker"><button type="button" data-draws="parallel-picture">Draw the parallel'
        " coordinates</button><span>It takes long without a graphics card.</span></p>"
    )
    return [
        Section(
            "Parallel coordinates",
            f'{request}<div id="parallel-picture" hidden>{picture}</div>',
            note,
        )
    ]


def _dimension(values: pd.Series, label: str) -> Figure:
    if numeric(values):
        return {"label": label, "values": finite_list(values)}
    texts = [value_of(v) for v in values]
    names = sorted(set(texts))
    return {
        "label": label,
        "values": [names.index(t) for t in texts],
        "tickvals": list(range(len(names))),
        "ticktext": names,
    }


def causes(counts: Mapping[str, int]) -> str:
    """Trials without a score by their cause; a single cause needs no picture."""
    if len(counts) < 2:
        return ""
    ordered = sorted(counts.items(), key=lambda item: item[1])
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "x": [n for _, n in ordered],
        "y": [name for name, _ in ordered],
        "marker": {"color": "@grey"},
    }
    layout = {"xaxis": {"title": {"text": "Trials"}}, "yaxis": {"type": "category"}}
    return chart(
        "chart-causes",
        {"data": [bars], "layout": layout},
        90 + 26 * len(ordered),
        "Trials without a score by cause",
    )


def slices(search: SearchView) -> str:
    shares = search.importance
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "x": finite_list(100 * shares[::-1]),
        "y": [short(n) for n in shares.index[::-1]],
        "marker": {"color": "@blue"},
    }
    bars |= {
        "texttemplate": "%{x:.0f} %",
        "textposition": "outside",
        "textangle": 0,
        "cliponaxis": False,
    }
    # with room for the number
    axis = {"title": {"text": "% of variance"}, "range": [0, 115], "tickvals": [0, 25, 50, 75, 100]}
    layout = {
        "xaxis": axis,
        "yaxis": {"type": "category"},
        "bargap": max(0.2, 1 - 0.25 * len(shares)),
    }
    parts = [
        titled(
            "Importance",
            chart(
                "chart-importance",
                {"data": [bars], "layout": layout},
                240,
                "Importance of each parameter",
            ),
        )
    ]
    parts += [
        titled(
            short(name),
            chart(
                f"chart-slice-{i}",
                _slice(search, name),
                240,
                f"{search.label} against {short(name)}",
            ),
        )
        for i, name in enumerate(shares.index)
    ]
    return columns(*parts)


def _slice(search: SearchView, name: str) -> Figure:
    frame, chosen = search.scored, search.choice
    continuous = numeric(frame[name])
    x: Sequence[Any] = finite_list(frame[name]) if continuous else [*map(value_of, frame[name])]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": finite_list(frame[search.metric]),
        "marker": {"color": "@blue", "size": 6, "opacity": 0.6},
        "text": [f"trial {n}" for n in frame["number"]],
    }
    mark = {"symbol": "circle-open", "size": 13, "color": "@ink", "line": {"width": 2}}
    ring = {
        "type": "scatter",
        "mode": "markers",
        "x": [x[search.row_of(chosen)]],
        "y": [float(chosen[search.metric])],
        "marker": mark,
        "text": [f"trial {chosen['number']}, chosen"],
    }
    axis: Figure = {} if continuous else {"type": "category"}
    if continuous and search.axis(name).scale == "log":
        values = sorted(frame[name].dropna().unique())
        labels = {"tickvals": finite_list(values), "ticktext": [value_of(v) for v in values]}
        few = labels if len(values) <= MOST_TICKS else {}
        axis = {"type": "log", "title": {"text": "log scale"}} | few
    layout: Figure = {
        "xaxis": axis,
        "yaxis": {"title": {"text": search.label}} | hidden_ticks(search),
        "showlegend": False,
        "hovermode": "closest",
    }
    return {"data": [points, ring], "layout": layout}


def hidden_ticks(search: SearchView) -> Figure:
    """The numbers of an axis are left out where they are figures per year of too few sessions."""
    return {"showticklabels": False, "hoverformat": "s"} if search.brief else {}
