"""The main chart of a run: everything over one time axis, drawn from extremes, with every bar
behind it for the zoomed window.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import cycle
from typing import Any

import numpy as np

from mcl.base.instants import NS
from mcl.data.bars import Bars
from mcl.engine.result import FILL_REASONS, Result
from mcl.market.intervals import BAR_SEC, DAY_SEC
from mcl.metrics.performance import drawdown
from mcl.metrics.regime import THIRDS, market_volatility, terciles
from mcl.report.charts import line
from mcl.report.downsampling import Floats, Ints, broken, extremes
from mcl.report.overlay import Overlay
from mcl.report.range_coding import stream
from mcl.report.tear_sheet import drawdown_shades
from mcl.report.theme import Figure, milliseconds, packed
from mcl.report.zoom_data import dated_exits, detail

NAME = "chart-strip"
BUCKETS = 1500  # more than a screen has columns for
CANDLES = 300  # fewer bars than this are drawn as candles with their volume
CONNECTORS = 400  # of more trades than this the lines from entry to exit would hide the price
# opacity of marks that would hide the price: where there are many, and all of them are shown
CROWDED = 0.55
CLOSED_SEC = DAY_SEC  # a time without bars that a line of prices does not cross
SPARSE = 800  # fewer markers than this are drawn large
GL_FROM = 3000  # more markers than this are drawn by WebGL
MARKS = {  # fill reason -> legend, marker symbol
    "stop": ("Stop", "x"),
    "take_profit": ("Take-profit", "star"),
    "roll": ("Roll", "diamond"),
    "risk": ("Risk limit", "square"),
}
INKS = ("@teal", "@plum", "@blue", "@orange", "@ink", "@grey")  # of indicators, in order
PROTECTIVE = {"Stop level": "@orange", "Take-profit level": "@blue"}
# axis -> its part of the height, with and without a panel for indicators that are no price
PANELS = {
    False: {
        "yaxis": [0.53, 1],
        "yaxis5": [0.505, 0.52],
        "yaxis2": [0.28, 0.49],
        "yaxis3": [0.11, 0.25],
        "yaxis4": [0, 0.08],
        "yaxis7": [0.53, 0.62],
    },
    True: {
        **{"yaxis": [0.6, 1], "yaxis6": [0.46, 0.575], "yaxis5": [0.43, 0.443]},
        "yaxis7": [0.6, 0.68],
        **{"yaxis2": [0.25, 0.415], "yaxis3": [0.1, 0.22], "yaxis4": [0, 0.07]},
    },
}


def strip(result: Result, overlays: Sequence[Overlay] = ()) -> Figure:
    """Price with its overlays, fills and rolls, the volatility of the market, equity, drawdown and
    position.

    Drawn from the lowest and highest value per span of bars; `detail` holds every bar for the
    windows that a reader zooms to.
    """
    times = milliseconds(result.bars.close_time)
    money, _ = drawdown(result.equity, result.capital_usd)
    position = result.position.astype(np.float64)
    lines = [
        _price(result, times),
        _span(times, result.equity, "Equity", "@blue", yaxis="y2", showlegend=False),
        _span(
            times,
            money,
            "Drawdown",
            "@orange",
            yaxis="y3",
            fill="tozeroy",
            fillcolor="@orange-soft",
            showlegend=False,
        ),
        _span(
            times,
            position,
            "Position",
            "@grey",
            yaxis="y4",
            line={"shape": "hv"},
            showlegend=False,
        )
        | {"y": steps(extremes(position, position, BUCKETS)[1], 1)},
        _percent(result, times),
        *_overlay_traces(times, overlays),
        *_connectors(result, times),
        *_candles(),
    ]
    groups = _groups(result)
    trace_of = np.zeros(len(result.fills), np.int64)
    for k, (_, chosen) in enumerate(groups):
        trace_of[chosen] = len(lines) + k
    commission = result.commission_usd / max(1, int(np.abs(result.fills["quantity"]).sum()))
    behind = detail(result, trace_of, commission, overlays)
    data = [
        *(trace | {"hoverinfo": "skip"} for trace in lines),  # the hover line says their values
        *(_marks(result, times, look, chosen) for look, chosen in groups),
        _ribbon(result, times),
    ]
    layout = _layout(result, times, any(not o.on_price for o in overlays))
    rolls = times[result.bars.roll]
    return {
        "data": data,
        "layout": layout,
        "keepsZoom": True,
        "buckets": BUCKETS,
        "candles": CANDLES,
        "connectors": CONNECTORS,
        "rollLines": [_roll_line(x) for x in rolls],
        "detail": behind,
    }


def controls(result: Result, overlays: Sequence[Overlay] = ()) -> str:
    """Buttons that go from trade to trade, switches of what is hidden at first, and the place of
    the sentence about the trade in view.
    """
    parts = []
    if len(result.trades):
        moves = (("previous", "Previous trade", "p"), ("next", "Next trade", "n"))
        parts += [
            f'<button type="button" data-move="{move}">{label} <kbd>{key}</kbd></button>'
            for move, label, key in moves
        ]
        parts.append('<button type="button" data-move="whole">Whole run</button>')
    hidden = {
        "indicator": ("Indicators", any(not o.protective for o in overlays)),
        "roll": ("Rolls", bool(result.bars.roll.any())),
    }
    parts += [
        f'<label><input type="checkbox" data-part="{part}"> {escape(label)}</label>'
        for part, (label, present) in hidden.items()
        if present
    ]
    if not parts:
        return ""
    return (
        f'<div class="controls" role="group" aria-label="Trades and lines of the chart"'
        f' data-controls="{NAME}">{"".join(parts)}</div>'
        f'<p class="trade" role="status" id="{NAME}-trade"></p>'
    )


def _layout(result: Result, times: Floats, apart: bool) -> Figure:
    titles = {
        "yaxis": f"{result.bars.instrument.symbol} price",
        "yaxis2": "Equity USD",
        "yaxis3": "Drawdown USD",
        "yaxis4": "Contracts",
        "yaxis8": "%",
    }
    axes = {
        axis: {"domain": part, "fixedrange": True, "title": {"text": titles.get(axis, "")}}
        for axis, part in PANELS[apart].items()
    }
    axes["yaxis2"] |= {"tickformat": ",.2~f"}  # 24,950 and not 24.95k
    axes["yaxis3"] |= {"tickformat": ",.2~f"}
    most = int(np.abs(result.position).max(initial=0))
    own = {"overlaying": "y2", "side": "right", "showgrid": False, "zeroline": False}
    title = {"text": titles["yaxis8"], "standoff": 4}
    axes["yaxis8"] = own | {"fixedrange": True, "title": title, "nticks": 5, "anchor": "x"}
    axes["yaxis4"] |= {"dtick": 1} if most <= 2 else {"nticks": 3}
    axes["yaxis"] |= {"tickformat": f",.{_decimals(result)}f"}
    for axis in ("yaxis5", "yaxis7"):
        axes[axis] |= {"visible": False}
    axes["yaxis7"] |= {"rangemode": "tozero"}
    return axes | {
        "xaxis": {
            "type": "date",
            "anchor": "y4",
            "range": [float(times[0]), float(times[-1])],
            "rangeslider": {"visible": False},
        },
        "shapes": drawdown_shades(result, "y2"),
        "hovermode": "closest",
        "dragmode": "zoom",
        "margin": {"l": 8, "r": 8, "t": 60, "b": 8},  # the buttons are above the legend
    }


def _decimals(result: Result) -> int:
    """Decimals of a price."""
    return int(max(0, round(-np.log10(result.bars.instrument.tick_size) + 0.49)))


def _span(times: Floats, values: Floats, name: str, color: str, **more: Any) -> dict[str, Any]:
    rows, buckets = extremes(values, values, BUCKETS)
    return line(times[rows], buckets, name, color, **more) | {"x": moments(times[rows])}


def _price(result: Result, times: Floats) -> dict[str, Any]:
    bars = result.bars
    whole = len(bars) <= 2 * BUCKETS
    rows, values = (
        extremes(bars.close, bars.close, BUCKETS)
        if whole
        else extremes(bars.low, bars.high, BUCKETS)
    )
    rows, values = broken(rows, values, _pieces(bars))
    gaps, tick = np.flatnonzero(np.isnan(values)), bars.instrument.tick_size
    ticks = np.rint(np.nan_to_num(values) / tick)
    points = {"x": moments(times[rows]), "y": steps(ticks, tick, gaps.tolist())}
    look = line(times[:0], values[:0], "Price", "@grey", width=1, showlegend=False)
    return look | points


def _pieces(bars: Bars) -> Ints:
    """Number the pieces of the line of prices: each contract, and the time between two weekends
    where a span of the chart is not longer than a session.
    """
    contracts = np.cumsum(np.diff(bars.contract, prepend=bars.contract[:1]) != 0)
    between = np.diff(bars.close_time, prepend=bars.close_time[:1])
    short = len(bars.session_ends) <= BUCKETS and BAR_SEC[bars.interval] < DAY_SEC
    closed = np.cumsum(between > CLOSED_SEC * NS) if short else 0
    return np.asarray(contracts + closed, np.int64)


def _percent(result: Result, times: Floats) -> dict[str, Any]:
    """The lowest and the highest equity in % of the start capital: nothing to see, the range of the
    axis on the right.
    """
    rows = np.array([result.equity.argmin(), result.equity.argmax()])
    share = 100 * (result.equity[rows] / result.capital_usd - 1)
    unseen = {"opacity": 0, "showlegend": False, "yaxis": "y8"}
    return line(times[rows], share, "Return", "@blue", **unseen)


def steps(values: Any, unit: float, gaps: Sequence[int] = ()) -> dict[str, Any]:
    """Whole multiples of `unit` as their differences, a fifth of the letters of floats; what stands
    at `gaps` is not a number.
    """
    return {"steps": stream(np.diff(values, prepend=0)), "unit": unit, "gaps": list(gaps)}


def moments(times: Floats) -> dict[str, Any]:
    """Milliseconds of whole seconds."""
    return steps(times // 1000, 1000)


def _overlay_traces(times: Floats, overlays: Sequence[Overlay]) -> list[dict[str, Any]]:
    inks = cycle(INKS)
    return [
        _overlay(times, o, PROTECTIVE[o.name] if o.protective else next(inks)) for o in overlays
    ]


def _overlay(times: Floats, overlay: Overlay, color: str) -> dict[str, Any]:
    finite = np.flatnonzero(np.isfinite(overlay.values))
    none = np.empty(0)
    if overlay.protective:
        style = {"dash": "dot", "shape": "hv"}
        look = {"connectgaps": False, "width": 1.5, "showlegend": False}
        return line(none, none, overlay.name, color, line=style, **look)
    if overlay.on_price:  # hidden until it is wanted, and then drawn from all bars
        hidden = {"visible": False, "meta": "indicator"}
        return line(none, none, overlay.name, color, width=1, **hidden)
    return _span(times[finite], overlay.values[finite], overlay.name, color, width=1, yaxis="y6")


def _connectors(result: Result, times: Floats) -> list[dict[str, Any]]:
    """Lines from the entry to the exit of each trade, gains and losses apart."""
    trades, tick = result.trades, result.bars.instrument.tick_size
    net = trades["gross_usd"] - trades["commission_usd"]
    few = len(trades) <= CONNECTORS
    traces = []
    for name, color, of in (("Gain", "@blue", net > 0), ("Loss", "@orange", net <= 0)):
        rows = np.flatnonzero(of) if few else np.empty(0, np.int64)
        gaps = np.full(len(rows), np.nan)
        ends = [times[trades[row][rows]] for row in ("entry_bar", "exit_bar")]
        prices = [trades["entry_ticks"][rows] * tick, dated_exits(result)[rows] * tick]
        x, y = (np.column_stack([*pair, gaps]).ravel() for pair in (ends, prices))
        style = {"dash": "dash"}
        traces.append(line(x, y, f"{name} ({of.sum():,})", color, width=2, line=style))
    return traces


def _candles() -> list[dict[str, Any]]:
    """The candles and the volume of a short window, empty until there is one."""
    rising, falling = (
        {"line": {"color": "@ink", "width": 1}, "fillcolor": fill} for fill in ("@panel", "@grey")
    )
    candles = {"type": "candlestick", "name": "Candles", "whiskerwidth": 0, "visible": False}
    volume = {"type": "bar", "name": "Volume", "yaxis": "y7", "visible": False, "x": [], "y": []}
    none: dict[str, list[float]] = {key: [] for key in ("x", "open", "high", "low", "close")}
    return [
        candles | none | {"increasing": rising, "decreasing": falling, "showlegend": False},
        volume
        | {"marker": {"color": "@grey", "line": {"width": 0}}, "opacity": 0.45}
        | {"showlegend": False},
    ]


def _ribbon(result: Result, times: Floats) -> dict[str, Any]:
    """One cell per session, the darker the more the market moved in it."""
    first = np.append(0, np.flatnonzero(np.diff(result.bars.session)) + 1)
    third = terciles(market_volatility(result.bars))
    days = result.bars.session[first].astype("datetime64[D]").astype(str)
    return {
        "type": "heatmap",
        "x": packed(np.append(times[first], times[-1])),
        "y": [""],
        "z": [third.tolist()],
        "text": [[f"{day}: {THIRDS[k]}" for day, k in zip(days, third, strict=True)]],
        "hovertemplate": "%{text} of sessions by volatility<extra></extra>",
        "colorscale": [[0, "@grid"], [0.5, "@line"], [1, "@grey"]],
        "zmin": 0,
        "zmax": 2,
        "showscale": False,
        "yaxis": "y5",
    }


def _roll_line(x: float) -> dict[str, Any]:
    style = {"color": "@grey", "width": 1, "dash": "dot"}
    place = {"xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
    return {"type": "line", "layer": "below", "line": style, "opacity": 0.5} | place


def _groups(result: Result) -> list[tuple[tuple[str, str, str], Ints]]:
    """((legend, marker symbol, colour), rows of `fills`) of every kind of fill that occurs."""
    fills = result.fills
    reason = np.array(FILL_REASONS, dtype=object)[fills["reason"]]
    plain, bought = reason == "signal", fills["quantity"] > 0
    kinds = [
        (("Bought", "triangle-up", "@blue"), plain & bought),
        (("Sold", "triangle-down", "@orange"), plain & ~bought),
    ]
    kinds += [
        ((legend, symbol, "@plum"), reason == name) for name, (legend, symbol) in MARKS.items()
    ]
    return [(look, np.flatnonzero(of)) for look, of in kinds if of.any()]


def _marks(
    result: Result, times: Floats, look: tuple[str, str, str], chosen: Ints
) -> dict[str, Any]:
    name, symbol, color = look
    f, tick = result.fills[chosen], result.bars.instrument.tick_size
    many, decimals = len(result.fills) > GL_FROM, _decimals(result)
    return {
        "type": "scattergl" if many else "scatter",
        "mode": "markers",
        "name": f"{name} ({len(f):,})",
        "x": moments(times[f["bar"]]),
        "y": packed(f["price_ticks"] * tick, "float32" if many else "float64"),
        "customdata": packed(f["quantity"], "int16"),
        "hovertemplate": (
            "%{x|%Y-%m-%d %H:%M}<br>%{customdata:+d} at"
            f" %{{y:,.{decimals}f}}<extra>{name}</extra>"
        ),
        "marker": {
            "symbol": symbol,
            "size": 9 if len(result.fills) < SPARSE else 6,
            "color": color,
            "opacity": 1 if len(result.fills) < SPARSE else CROWDED,
            # an edge in the colour of the ground: marks are seen on lines and candles of any colour
            "line": {"color": "@panel", "width": 1},
        },
    } | ({"visible": False, "meta": "roll"} if name == MARKS["roll"][0] else {})
