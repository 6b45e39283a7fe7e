"""Figures as the plain JSON that plotly.js draws, typed arrays inside. Colours are names of the theme ("@blue")."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mcl.engine.result import FILL_REASONS, Result
from mcl.metrics.performance import drawdown
from mcl.report.detail import detail
from mcl.report.sample import Floats, Ints, broken, extremes
from mcl.report.theme import Figure, milliseconds, packed

BUCKETS = 3000
SPIKES = {"showspikes": True, "spikemode": "across", "spikethickness": 1, "spikecolor": "@grey"}
GL_FROM = 3000  # more markers than this are drawn by WebGL
MARKS = {  # fill reason -> legend, marker symbol
    "stop": ("Stop", "x"),
    "take_profit": ("Take-profit", "star"),
    "roll": ("Roll", "diamond-open"),
    "risk": ("Risk limit", "square-open"),
}


def line(x: Floats, y: Floats, name: str, color: str, **more: Any) -> dict[str, Any]:
    style = {"color": color, "width": more.pop("width", 1.3)} | more.pop("line", {})
    return {"type": "scatter", "mode": "lines", "x": packed(x), "y": packed(y), "name": name, "line": style} | more


def strip(result: Result) -> Figure:
    """Price with fills and rolls, equity, drawdown and position over one time axis.

    Drawn from the lowest and highest value per span of bars; `detail` holds every bar for the windows that a reader zooms to.
    """
    bars, times = result.bars, milliseconds(result.bars.close_time)
    money, _ = drawdown(result.equity, result.capital_usd)
    lines = [
        _price(result, times),
        _span(times, result.equity, "Equity", "@blue", yaxis="y2"),
        _span(times, money, "Drawdown", "@orange", yaxis="y3", fill="tozeroy", fillcolor="@orange-soft"),
        _span(times, result.position.astype(np.float64), "Position", "@grey", yaxis="y4", line={"shape": "hv"}),
    ]
    groups = _groups(result)
    trace_of = np.zeros(len(result.fills), np.int64)
    for k, (_, chosen) in enumerate(groups):
        trace_of[chosen] = len(lines) + k
    commission = result.commission_usd / max(1, int(np.abs(result.fills["quantity"]).sum()))
    layout: Figure = {
        "xaxis": {"type": "date", "anchor": "y4", "range": [float(times[0]), float(times[-1])], **SPIKES},
        "yaxis": {"domain": [0.53, 1], "fixedrange": True, "title": {"text": f"{bars.instrument.symbol} price"}},
        "yaxis2": {"domain": [0.28, 0.5], "fixedrange": True, "title": {"text": "Equity USD"}},
        "yaxis3": {"domain": [0.11, 0.25], "fixedrange": True, "title": {"text": "Drawdown USD"}},
        "yaxis4": {"domain": [0, 0.08], "fixedrange": True, "title": {"text": "Contracts"}, "nticks": 3},
        "shapes": [_roll_line(times[row]) for row in np.flatnonzero(bars.roll)],
        "hovermode": "closest",
        "dragmode": "zoom",
    }
    data = lines + [_marks(result, times, look, chosen) for look, chosen in groups]
    return {"data": data, "layout": layout, "keepsZoom": True, "buckets": BUCKETS, "detail": detail(result, trace_of, commission)}


def _span(times: Floats, values: Floats, name: str, color: str, **more: Any) -> dict[str, Any]:
    rows, kept = extremes(values, values, BUCKETS)
    return line(times[rows], kept, name, color, showlegend=False, **more)


def _price(result: Result, times: Floats) -> dict[str, Any]:
    bars = result.bars
    whole = len(bars) <= 2 * BUCKETS
    rows, values = extremes(bars.close, bars.close, BUCKETS) if whole else extremes(bars.low, bars.high, BUCKETS)
    rows, values = broken(rows, values, bars.contract)
    return line(times[rows], values, "Price", "@grey", width=1)


def _roll_line(x: float) -> dict[str, Any]:
    style = {"color": "@grey", "width": 1, "dash": "dot"}
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": style,
        "opacity": 0.5,
    }


def _groups(result: Result) -> list[tuple[tuple[str, str, str], Ints]]:
    """((legend, marker symbol, colour), rows of `fills`) of every kind of fill that occurs."""
    fills = result.fills
    reason = np.array(FILL_REASONS, dtype=object)[fills["reason"]]
    plain, bought = reason == "target", fills["quantity"] > 0
    kinds = [(("Bought", "triangle-up", "@blue"), plain & bought), (("Sold", "triangle-down", "@orange"), plain & ~bought)]
    kinds += [((legend, symbol, "@plum"), reason == name) for name, (legend, symbol) in MARKS.items()]
    return [(look, np.flatnonzero(of)) for look, of in kinds if of.any()]


def _marks(result: Result, times: Floats, look: tuple[str, str, str], chosen: Ints) -> dict[str, Any]:
    name, symbol, color = look
    f, tick = result.fills[chosen], result.bars.instrument.tick_size
    many = len(result.fills) > GL_FROM
    decimals = max(0, round(-np.log10(tick) + 0.49))
    return {
        "type": "scattergl" if many else "scatter",
        "mode": "markers",
        "name": f"{name} ({len(f):,})",
        "x": packed(times[f["bar"]]),
        "y": packed(f["price_ticks"] * tick, "float32" if many else "float64"),
        "customdata": packed(f["quantity"], "int16"),
        "hovertemplate": f"%{{x|%Y-%m-%d %H:%M}}<br>%{{customdata:+d}} at %{{y:,.{decimals}f}}<extra>{name}</extra>",
        "marker": {"symbol": symbol, "size": 5 if many else 8, "color": color, "opacity": 0.6 if many else 0.9},
    }


def histogram(values: Floats, name: str) -> Figure:
    """Counts of net results, losses and gains apart, mean (solid) and median (dotted) as lines; the end bins hold all beyond."""
    edges = _edges(values)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    middle = (edges[1:] + edges[:-1]) / 2
    hover = "%{customdata[0]:,.2f} to %{customdata[1]:,.2f} USD: %{y:,}<extra></extra>"
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
        data.append(bar | {"name": label, "marker": {"color": color, "line": {"width": 0}}, "hovertemplate": hover, "opacity": 0.85})
    lines = ((float(values.mean()), "solid"), (float(np.median(values)), "dot"))
    shapes = [
        {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": "@ink", "width": 1, "dash": dash}}
        for x, dash in lines
    ]
    layout = {
        "xaxis": {"title": {"text": name}},
        "yaxis": {"title": {"text": "Trades"}},
        "barmode": "overlay",
        "bargap": 0.02,
        "shapes": shapes,
    }
    return {"data": data, "layout": layout}


def _edges(values: Floats) -> Floats:
    """About 40 bins of a round width with an edge at zero, from the 0.5 % to the 99.5 % quantile."""
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
        "text": [f"{value:,.0f}" for _, value, _ in steps],
        "textposition": "outside",
        "cliponaxis": False,
        "connector": {"line": {"color": "@line", "width": 1}},
        "increasing": {"marker": {"color": "@blue"}},
        "decreasing": {"marker": {"color": "@orange"}},
        "totals": {"marker": {"color": "@grey"}},
    }
    return {
        "data": [data],
        "layout": {"yaxis": {"title": {"text": "USD"}}, "showlegend": False, "margin": {"l": 8, "r": 8, "t": 24, "b": 8}},
    }


def session_line(series: pd.Series, name: str, color: str, **more: Any) -> dict[str, Any]:
    """A series indexed by trade date as one line."""
    days = pd.DatetimeIndex(series.index).as_unit("ms").asi8.astype(np.float64)
    return line(days, series.to_numpy(dtype=np.float64), name, color, **more)
