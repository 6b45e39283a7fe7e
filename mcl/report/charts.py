"""Figures as the plain JSON that plotly.js draws, typed arrays inside. Colours are names of the
theme ("@blue").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.words import unsigned_zero
from mcl.report.downsampling import Floats
from mcl.report.theme import Figure, packed


def line(x: Floats, y: Floats, name: str, color: str, **more: Any) -> dict[str, Any]:
    style = {"color": color, "width": more.pop("width", 1.3)} | more.pop("line", {})
    return {
        "type": "scatter",
        "mode": "lines",
        "x": packed(x),
        "y": packed(y),
        "name": name,
        "line": style,
    } | more


def histogram(
    values: Floats,
    name: str,
    counts_of: str,
    unit: str,
    lines: Sequence[tuple[float, str, str, str]],
) -> Figure:
    """Counts of results, losses and gains apart; the end bins hold all beyond. `lines` are (value,
    dash, its words, the side of the line that the words end at).
    """
    edges = _edges(values)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    middle = (edges[1:] + edges[:-1]) / 2
    hover = f"%{{customdata[0]:,.2f}} to %{{customdata[1]:,.2f}} {unit}: %{{y:,}}<extra></extra>"
    data = []
    for label, color, of in (("Loss", "@orange", middle < 0), ("Gain", "@blue", middle >= 0)):
        sides = np.column_stack([edges[:-1][of], edges[1:][of]])
        bar = {
            "type": "bar",
            "x": middle[of].tolist(),
            "y": counts[of].tolist(),
            "width": np.diff(edges)[of].tolist(),
            "customdata": sides.tolist(),
        }
        data.append(
            bar
            | {
                "name": label,
                "marker": {"color": color, "line": {"width": 0}},
                "hovertemplate": hover,
                "opacity": 0.85,
            }
        )
    shapes = [upright(x, color="@ink", width=1, dash=dash) for x, dash, *_ in lines]
    words = [
        {
            **{"x": x, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False},
            **{"xanchor": side, "text": text, "font": {"size": 11, "color": "@muted"}},
        }
        for x, _, text, side in lines
        if text
    ]
    layout = {
        "xaxis": {"title": {"text": name}},
        "yaxis": {"title": {"text": counts_of}},
        "annotations": words,
        "barmode": "overlay",
        "bargap": 0.02,
        "shapes": shapes,
    }
    return {"data": data, "layout": layout}


def counted(name: str, values: Any, bins: int) -> Figure:
    """The axis of a histogram that counts `values`: no half of a thing between two ticks."""
    most = int(np.histogram(values, bins=bins)[0].max()) if len(values) else 0
    return {"title": {"text": name}} | ({"dtick": 1} if most < 6 else {"tickformat": ",d"})


def _edges(values: Floats) -> Floats:
    """About 40 bins of a round width with an edge at zero, from the 0.5 % to the 99.5 %
    quantile.
    """
    low, high = np.quantile(values, [0.005, 0.995])
    span = max(high, 0.0) - min(low, 0.0)
    raw = span / 40 if span > 0 else 1.0
    unit = 10.0 ** np.floor(np.log10(raw))
    width = float(unit * next(m for m in (1, 2, 5, 10) if unit * m >= raw))
    edges = np.arange(np.floor(min(low, 0.0) / width), np.ceil(max(high, 0.0) / width) + 1) * width
    if len(edges) < 2:
        return np.array([-width, 0.0, width])
    return edges


def waterfall(steps: list[tuple[str, float, str]]) -> Figure:
    """(label, value, relative | total) from the P&L before costs to the net one."""
    data = {
        "type": "waterfall",
        "orientation": "v",
        "x": [label for label, _, _ in steps],
        "y": [value for _, value, _ in steps],
        "measure": [kind for _, _, kind in steps],
        "text": [unsigned_zero(f"{value:,.0f}") for _, value, _ in steps],
        "textposition": "outside",
        "cliponaxis": False,
        "connector": {"line": {"color": "@line", "width": 1}},
        "increasing": {"marker": {"color": "@blue"}},
        "decreasing": {"marker": {"color": "@orange"}},
        "totals": {"marker": {"color": "@grey"}},
    }
    return {
        "data": [data],
        "layout": {
            "yaxis": {"title": {"text": "USD"}},
            "showlegend": False,
            "margin": {"l": 8, "r": 8, "t": 24, "b": 8},
        },
    }


def session_line(series: pd.Series, name: str, color: str, **more: Any) -> dict[str, Any]:
    """A series indexed by trade date as one line."""
    days = pd.DatetimeIndex(series.index).as_unit("ms").asi8.astype(np.float64)
    return line(days, series.to_numpy(dtype=np.float64), name, color, **more)


def upright(x: float, **line: Any) -> dict[str, Any]:
    """A line over the whole height of a chart at one value of its x axis."""
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}
