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
from mcl.report.search import ParameterAxis, SearchView, short, value_of
from mcl.report.theme import (
    Cell,
    Figure,
    Section,
    chart,
    columns,
    empty,
    finite_list,
    scroll,
    table,
    titled,
)

Floats = npt.NDArray[np.float64]
MOST_NEIGHBOURS = 8
MOST_TEXTS = 100  # cells of a map that all show their value; of more, those around the chosen one
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
    mark = f"the ring is trial {search.choice['number']}, the chosen one"
    if search.choice["number"] != search.ranked.iloc[0]["number"]:
        mark += f", the diamond trial {search.ranked.iloc[0]['number']}, the best"
    note = (
        f"Mean of the trials in a cell; {mark}. Empty space was not tried. Each map has its own"
        " range of colours. A good region is a plateau, not a single cell."
    )
    if search.brief:
        note += " The sessions are too few for figures per year: colours show only the order."
    html = "".join(
        _measure(search, pairs, name, label, i) for i, (name, label) in enumerate(measures.items())
    )
    choices = picker("map-of", "Show", measures) + RANGE
    return [
        Section("Parameter map", choices + html, note),
        Section("Neighbours", *_neighbours(search)),
    ]


# of all maps that are shown; page.js sets them
RANGE = (
    '<p class="picker" data-colours><label>Colours from <input type="number" step="any"'
    ' placeholder="own" name="low"></label><label>to <input type="number" step="any"'
    ' placeholder="own" name="high"></label><button type="button">Own range of each map</button>'
    "</p>"
)


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
    across, up = search.axis(a), search.axis(b)
    values, count = cells(x, y, search.scored[name].to_numpy(float))
    (xs, columns), (ys, rows) = across.bricks(), up.bricks()
    hidden = name == search.metric and search.brief
    style = metric(name).style
    written = np.full(values.shape, values.size <= MOST_TEXTS)
    chosen, row = search.choice, search.row_of(search.choice)
    i, j = int(y.cat.codes.iloc[row]), int(x.cat.codes.iloc[row])
    written[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = True  # what lies around the choice

    def cell(r: int, c: int) -> tuple[str, str]:
        """(text in the map, words of the hover)"""
        if r < 0 or c < 0 or math.isnan(values[r, c]):
            return "", ""
        text = number(values[r, c], style)
        trials = "1 trial" if count[r, c] == 1 else f"{count[r, c]:,} trials"
        place = f"{short(a)} {across.names[c]}, {short(b)} {up.names[r]}"
        words = f"{place}<br>{trials}" + ("" if hidden else f", mean {text}")
        return (text if written[r, c] and not hidden else ""), words

    texts = [[cell(r, c) for c in columns] for r in rows]
    bar = {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%" if style == "percent" else ""}
    heat = {
        "type": "heatmap",
        "x": xs,
        "y": ys,
        "z": [
            finite_list([values[r, c] if min(r, c) >= 0 else math.nan for c in columns])
            for r in rows
        ],
        "text": [[text for text, _ in row] for row in texts],
        "texttemplate": "%{text}",
        "textfont": {"size": 11},
        "customdata": [[words for _, words in row] for row in texts],
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorbar": bar | ({"showticklabels": False} if hidden else {}),
    } | _scale(values, search.maximize if name == search.metric else True)
    marks = [_mark(search, chosen, a, b, "circle-open", "chosen")]
    if chosen["number"] != search.ranked.iloc[0]["number"]:
        marks.append(_mark(search, search.ranked.iloc[0], a, b, "diamond-open", "best"))
    layout = {"xaxis": across.layout(short(a)), "yaxis": up.layout(short(b))}
    return {"data": [heat, *marks], "layout": layout | {"showlegend": False}}


def _mark(search: SearchView, row: Any, a: str, b: str, symbol: str, word: str) -> Figure:
    """A ring around the cell of one trial."""

    def place(name: str, axis: ParameterAxis) -> list[float]:
        code = int(search.levels[name].cat.codes.iloc[search.row_of(row)])
        return [float(axis.places[code])] if code >= 0 else []

    return {
        "type": "scatter",
        "mode": "markers",
        "x": place(a, search.axis(a)),
        "y": place(b, search.axis(b)),
        "name": f"trial {row['number']}, {word}",
        "marker": {"symbol": symbol, "size": 38, "color": "@ink", "line": {"width": 2}},
        "hoverinfo": "skip",
    }


def _neighbours(search: SearchView) -> tuple[str, str]:
    """(table of the trials around the chosen one, what they are)"""
    chosen, names = search.choice, list(search.parameters)
    codes = pd.DataFrame({name: search.levels[name].cat.codes for name in names}).astype(int)
    steps = (codes - codes.iloc[search.row_of(chosen)]).abs()
    others = np.arange(len(codes)) != search.row_of(chosen)
    near = search.scored[others & (steps.sum(axis=1) == 1).to_numpy()]
    about = "One step of one parameter away, all others equal."
    if len(near) < 2:
        about = "The nearest trials, by their distance as a share of each parameter's range."
        widths = codes.max() - codes.min()
        apart = (steps / widths.where(widths > 0, 1)).sum(axis=1)[others]
        nearest = apart.sort_values(kind="stable").index[:MOST_NEIGHBOURS]
        near = search.scored.loc[nearest]
    if not len(near):
        return empty("No other trial has a score: search more trials."), ""
    rows = [_neighbour(search, row, names) for _, row in near.iterrows()]
    head = (f"From trial {chosen['number']}", "Trial", search.label, "Difference")
    note = f"{about} A choice whose neighbours fall far below it is a peak of noise."
    return scroll(table(head, rows, numeric=(1, 2, 3)), tall=True), note


def _neighbour(search: SearchView, row: Any, names: list[str]) -> list[Cell | str]:
    chosen = search.choice
    changes = [
        f"{short(name)} {value_of(chosen[name])} → {value_of(row[name])}"
        for name in names
        if value_of(chosen[name]) != value_of(row[name])
    ]
    value, own = float(row[search.metric]), float(chosen[search.metric])
    gap = search.text(value - own)
    signed = f"+{gap}" if value > own and not search.brief else gap
    return [
        Cell(", ".join(changes) or "the same values", "wrap"),
        Cell(str(row["number"]), "n"),
        Cell(search.text(value), "n", repr(value)),
        Cell(signed, "n", repr(value - own)),
    ]


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
    search wants to be; orange for what only loses, strong where it loses most. The range is that of
    the map's own cells.
    """
    if np.isnan(values).all():
        return {"colorscale": [[0, "@ramp1"], [1, "@ramp2"]]}
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low < 0 < high:
        most = max(-low, high)
        both = [[0, "@ramp0"], [0.5, "@ramp1"], [1, "@ramp2"]]
        return {"colorscale": both, "zmin": -most, "zmax": most}
    own = {"zmin": low, "zmax": high} if high > low else {}
    if maximize and high <= 0:
        return {"colorscale": [[0, "@ramp0"], [1, "@ramp1"]]} | own
    good = [[0, "@ramp1"], [1, "@ramp2"]]
    return {"colorscale": good if maximize else [[0, "@ramp2"], [1, "@ramp1"]]} | own
