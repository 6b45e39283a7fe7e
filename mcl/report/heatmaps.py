"""Heat maps of every pair of parameters: a good region is a plateau, not a single cell."""

from __future__ import annotations

import math
from html import escape
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.report.format import metric, number
from mcl.report.search import SearchView, short
from mcl.report.theme import Figure, Section, chart, columns, finite_list, titled

Floats = npt.NDArray[np.float64]
AT_ONCE = 6  # pairs that are shown side by side; the others one at a time
MEASURES = {"trades": "Trades", "max_drawdown_frac": "Max drawdown"}  # besides the score


def maps(search: SearchView) -> list[Section]:
    """One section, none when fewer than two parameters vary. A choice switches between the score,
    trades and drawdown.
    """
    names = [n for n in search.importance.index if search.scored[n].nunique() > 1]
    pairs = list(combinations(names, 2))
    if not pairs:
        return []
    measures = {search.metric: search.label} | {
        n: label for n, label in MEASURES.items() if n in search.scored and n != search.metric
    }
    note = (
        "Mean of the trials in a cell; the ring is the best trial. A good region is a plateau, not"
        " a single cell."
    )
    html = "".join(
        _measure(search, pairs, name, label, i) for i, (name, label) in enumerate(measures.items())
    )
    return [Section("Parameter map", picker("map-of", "Show", measures) + html, note)]


def picker(name: str, label: str, choices: dict[str, str]) -> str:
    """A select that shows one of the `shown` parts with this name."""
    options = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>'
        for value, text in choices.items()
    )
    return (
        f'<p class="picker"><label for="{name}">{escape(label)}</label><select'
        f' id="{name}">{options}</select></p>'
    )


def toggle(by: str, value: str, html: str, first: bool) -> str:
    hidden = "" if first else " hidden"
    return f'<div data-shown-by="{by}" data-value="{escape(value)}"{hidden}>{html}</div>'


def _measure(
    search: SearchView, pairs: list[tuple[str, str]], name: str, label: str, number_of: int
) -> str:
    charts = [
        _titled(
            search,
            pair,
            name,
            label,
            f"chart-map-{number_of}-{i}" if number_of else f"chart-map-{i}",
        )
        for i, pair in enumerate(pairs)
    ]
    grid, rest = charts[:AT_ONCE], charts[AT_ONCE:]
    html = columns(*grid, css="wide")
    if rest:
        by, titles = (
            f"pair-{number_of}",
            {str(i): f"{short(a)} × {short(b)}" for i, (a, b) in enumerate(pairs[AT_ONCE:])},
        )
        others = "".join(
            toggle(by, str(i), columns(part, css="wide"), i == 0) for i, part in enumerate(rest)
        )
        html += picker(by, f"The other {len(rest)} pairs", titles) + others
    return toggle("map-of", name, html, number_of == 0)


def _titled(search: SearchView, pair: tuple[str, str], name: str, label: str, holder: str) -> str:
    a, b = map(short, pair)
    return titled(
        f"{a} × {b}", chart(holder, _map(search, *pair, name), 380, f"{label} by {a} and {b}")
    )


def _map(search: SearchView, a: str, b: str, name: str) -> Figure:
    x, y = search.levels[a], search.levels[b]
    values, count = cells(x, y, search.scored[name].to_numpy(float))
    style = metric(name).style
    texts = [["" if math.isnan(v) else number(v, style) for v in row] for row in values]
    best = search.ranked.index[0]
    heat = {
        "type": "heatmap",
        "x": list(x.cat.categories.astype(str)),
        "y": list(y.cat.categories.astype(str)),
        "z": [finite_list(row) for row in values],
        "text": texts,
        "customdata": count.tolist(),
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": (
            f"{short(a)} %{{x}}, {short(b)} %{{y}}<br>mean %{{text}} of %{{customdata}}"
            " trials<extra></extra>"
        ),
        "colorbar": {"thickness": 10, "outlinewidth": 0},
    } | _scale(values, search.maximize if name == search.metric else True)
    if values.size <= 100:
        heat["texttemplate"] = "%{text}"
    ring = {
        "type": "scatter",
        "mode": "markers",
        "x": [str(x[best])],
        "y": [str(y[best])],
        "marker": {"symbol": "circle-open", "size": 38, "color": "@ink", "line": {"width": 2}},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    axes = {
        "xaxis": {"type": "category", "title": {"text": short(a)}},
        "yaxis": {"type": "category", "title": {"text": short(b)}},
    }
    return {"data": [heat, ring], "layout": axes}


def cells(x: pd.Series, y: pd.Series, values: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(means, counts) of the values by the categories of `y` (rows) and `x` (columns); the mean of
    a cell without a value is NaN.
    """
    shape = len(y.cat.categories), len(x.cat.categories)
    rows, columns = y.cat.codes.to_numpy(np.int64), x.cat.codes.to_numpy(np.int64)
    inside = (rows >= 0) & (columns >= 0)  # a trial without one of the parameters is in no cell
    scored = inside & ~np.isnan(values)
    flat, size = rows * shape[1] + columns, shape[0] * shape[1]
    sums = np.bincount(flat[scored], values[scored], size)
    with np.errstate(invalid="ignore"):
        means = sums / np.bincount(flat[scored], minlength=size)
    return means.reshape(shape), np.bincount(flat[inside], minlength=size).reshape(shape)


def _scale(values: Any, maximize: bool) -> dict[str, Any]:
    """Orange below zero and blue above; one hue when all have one sign: blue, strong where the
    search wants to be; orange for what only loses, strong where it loses most.
    """
    if np.isnan(values).all():
        return {"colorscale": [[0, "@ramp1"], [1, "@ramp2"]]}
    if np.nanmin(values) < 0 < np.nanmax(values):
        return {"colorscale": [[0, "@ramp0"], [0.5, "@ramp1"], [1, "@ramp2"]], "zmid": 0}
    if maximize and np.nanmax(values) <= 0:
        return {"colorscale": [[0, "@ramp0"], [1, "@ramp1"]]}
    good = [[0, "@ramp1"], [1, "@ramp2"]]
    return {"colorscale": good if maximize else [[0, "@ramp2"], [1, "@ramp1"]]}
