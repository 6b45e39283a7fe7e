"""The tear sheet of a run, from its session closes: returns by month and year, their distribution,
the worst drawdowns, rolling figures, and buy-and-hold of the same contract. All percentages are of
the start capital, since a run does not reinvest its gains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mcl.base.words import many
from mcl.engine.result import Result
from mcl.metrics import performance as perf
from mcl.metrics.performance import LEAST_ANNUAL_SESSIONS
from mcl.report import charts
from mcl.report.format import SHORT, number, too_short
from mcl.report.theme import Cell, Figure, Section, chart, columns, facts, scroll, table, titled

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DEEPEST = 5
ROLLING = 126  # sessions: half a year
STRONGEST = 45  # % of the colour that the largest cell of a heat map gets: text stays legible
FEWEST = 20  # sessions of which a distribution says something


class Drawdown(NamedTuple):
    """Rows of the session closes; `peak` is -1 for the start capital, `recovery` the number of
    sessions while it has not recovered.
    """

    peak: int
    trough: int
    recovery: int
    depth_usd: float  # <= 0
    depth_frac: float  # of the peak


def tear_sheet(result: Result, benchmark: Result | None = None) -> list[Section]:
    """The sections, in reading order. `benchmark` is buy-and-hold on the same bars."""
    sections = [
        Section(
            "Returns by month",
            months(result) + years(result),
            "Net P&L in % of the start capital, by the month of the trade date.",
        ),
        Section(
            "Session returns",
            distribution(result),
            "Net P&L per session in % of the start capital.",
        ),
        Section(
            "Worst drawdowns",
            drawdowns(result),
            "From peak to recovery, at session closes. They are shaded in the equity above.",
        ),
        Section("Rolling figures", rolling(result), _rolling_note(result)),
        Section(
            "Exposure over time",
            exposure_over_time(result),
            "Contracts at the close of each session, and the largest notional of the session over"
            " the equity.",
        ),
    ]
    if benchmark is not None:
        sections.append(
            Section(
                "Buy and hold",
                buy_and_hold(result, benchmark),
                "One contract, long from the first bar to the last, rolled and costed like the"
                " run.",
            )
        )
    return sections


# ------------------------------------------------------------------------------------------ returns


def months(result: Result) -> str:
    by_month = (
        result.session_returns.groupby([_days(result).year, _days(result).month]).sum().unstack()
    )
    strongest = float(np.nanmax(np.abs(by_month.to_numpy()), initial=0.0))
    rows: list[list[Cell | str]] = []
    for year, values in by_month.iterrows():
        total = float(values.sum())
        cells = [_heat(values.get(m, np.nan), strongest, result.capital_usd) for m in range(1, 13)]
        usd = total * result.capital_usd
        rows.append(
            [
                Cell(str(year), head=True),
                *cells,
                _signed(total, "percent", usd),
                Cell(number(usd, "count"), "n", number(usd, "usd")),
            ]
        )
    return scroll(table(("", *MONTHS, "Year", "USD"), rows, css="months heat held"), tall=True)


def years(result: Result) -> str:
    """A bar for each year; nothing for a run within one."""
    by_year = result.session_returns.groupby(_days(result).year).sum()
    if len(by_year) < 2:
        return ""
    bars = {
        "type": "bar",
        "x": [str(year) for year in by_year.index],
        "y": (100 * by_year).tolist(),
        "width": 0.6 if len(by_year) > 3 else 0.3,
        "customdata": (by_year * result.capital_usd).tolist(),
        "marker": {"color": ["@blue" if value >= 0 else "@orange" for value in by_year]},
        "hovertemplate": "%{x}: %{y:,.2f} %, %{customdata:,.2f} USD<extra></extra>",
    }
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": "% of capital"}},
        "showlegend": False,
    }
    return titled(
        "Years",
        chart("chart-years", {"data": [bars], "layout": layout}, 220, "Net P&L of each year"),
    )


def distribution(result: Result) -> str:
    returns = result.session_returns.to_numpy()
    if len(returns) < FEWEST:
        return _empty(f"A distribution needs {FEWEST} sessions; this run has {len(returns)}.")
    if not result.trades.size:
        return _empty("Nothing was traded: every session returned 0.")
    var, shortfall = perf.value_at_risk(returns), perf.expected_shortfall(returns)
    percent = 100 * returns
    lines = (
        (100 * var, "dash", "VaR 95 %", "left"),
        (100 * shortfall, "dot", "CVaR 95 % ", "right"),
        (float(percent.mean()), "solid", "mean", "left"),
    )
    figure = charts.histogram(percent, "% of capital per session", "Sessions", "%", lines)
    figure["layout"]["margin"] = {"l": 8, "r": 8, "t": 40, "b": 8}
    figure["layout"]["showlegend"] = False
    m = perf.moments(returns)
    best, worst = int(np.argmax(returns)), int(np.argmin(returns))
    rows = [
        ("Mean", number(m.mean, "percent")),
        ("Standard deviation", number(m.std, "percent")),
        ("VaR 95 %", _money(var, result.capital_usd)),
        ("CVaR 95 %", _money(shortfall, result.capital_usd)),
        ("Skew", number(m.skew, "ratio")),
        ("Kurtosis (normal 3)", number(m.kurtosis, "ratio")),
        ("Best session", _on(result, best, returns[best])),
        ("Worst session", _on(result, worst, returns[worst])),
        ("Sessions with a gain", number(float(np.mean(returns > 0)), "percent")),
    ]
    drawing = chart("chart-sessions", figure, 280, "Distribution of the returns per session")
    return columns(drawing, facts(rows), css="wide")


# --------------------------------------------------------------------------------------------- risk


def worst_drawdowns(result: Result, most: int = DEEPEST) -> list[Drawdown]:
    """The deepest drawdowns of the session closes in USD, deepest first."""
    equity = result.session_equity.to_numpy(np.float64)
    money, part = perf.drawdown(equity, result.capital_usd)
    spells = perf.episodes(money)
    deepest = []
    for start, stop in zip(spells.start.tolist(), spells.stop.tolist(), strict=True):
        trough = start + int(np.argmin(money[start:stop]))
        deepest.append(Drawdown(start - 1, trough, stop, float(money[trough]), float(part[trough])))
    return sorted(deepest, key=lambda d: (d.depth_usd, d.peak))[:most]


def drawdowns(result: Result) -> str:
    deepest = worst_drawdowns(result)
    if not deepest:
        return _empty("The equity never closed a session below an earlier one.")
    sessions = len(result.session_equity)
    names = ("Peak", "Trough", "Recovered", "Depth USD", "Of the peak", "To the trough")
    rows: list[list[Cell | str]] = []
    for number_of, d in enumerate(deepest, 1):
        back = d.recovery < sessions
        rows.append(
            [
                Cell(str(number_of), head=True),
                "start" if d.peak < 0 else _day(result, d.peak),
                _day(result, d.trough),
                _day(result, d.recovery) if back else "not yet",
                Cell(number(d.depth_usd, "usd"), "n", repr(d.depth_usd)),
                number(d.depth_frac, "percent"),
                number(d.trough - d.peak, "sessions"),
                number(d.recovery - d.trough, "sessions") if back else "",
                number(min(d.recovery, sessions - 1) - d.peak, "sessions"),
            ]
        )
    head = ("", *names, "To recovery", "In all")
    return scroll(table(head, rows, numeric=range(4, 9)), tall=True)


def drawdown_shades(result: Result, axis: str) -> list[dict[str, Any]]:
    """The worst drawdowns as shapes of the panel whose y axis is `axis`."""
    times = result.bars.close_time[result.bars.session_ends] / 1e6
    last = len(times) - 1
    return [
        {
            **{"type": "rect", "layer": "below", "line": {"width": 0}},
            **{"xref": "x", "x0": float(times[max(0, d.peak)])},
            "x1": float(times[min(last, d.recovery)]),
            **{"yref": f"{axis} domain", "y0": 0, "y1": 1, "fillcolor": "@orange-soft"},
        }
        for d in worst_drawdowns(result)
    ]


def rolling_window(sessions: int) -> int:
    """Half a year, a quarter for a run that is shorter than twice that; 0 for too short a run."""
    if sessions >= 2 * ROLLING:
        return ROLLING
    return LEAST_ANNUAL_SESSIONS if sessions > LEAST_ANNUAL_SESSIONS else 0


def rolling(result: Result) -> str:
    returns = result.session_returns
    window = rolling_window(len(returns))
    if not window:
        return _empty(
            too_short(len(returns))
            or f"{many(len(returns), 'session')} hold one window of {LEAST_ANNUAL_SESSIONS} only."
        )
    ratios, volatility = perf.rolling_ratios(returns.to_numpy(), window)
    days = pd.DatetimeIndex(returns.index)
    data = [
        charts.session_line(pd.Series(ratios, days), "Sharpe", "@blue"),
        charts.session_line(pd.Series(100 * volatility, days), "Volatility", "@plum", yaxis="y2"),
    ]
    data[0]["hovertemplate"] = "%{x|%Y-%m-%d}: %{y:.2f}<extra>Sharpe</extra>"
    data[1]["hovertemplate"] = "%{x|%Y-%m-%d}: %{y:.2f} %<extra>Volatility</extra>"
    return chart(
        "chart-rolling",
        _two_panels(data, "Sharpe", "Volatility %"),
        320,
        "Rolling Sharpe ratio and volatility",
    )


def _rolling_note(result: Result) -> str:
    window = rolling_window(len(result.session_returns))
    return f"Over the last {window} sessions up to each day, per year." if window else ""


def exposure_over_time(result: Result) -> str:
    bars, last = result.bars, result.bars.session_ends
    first = np.append(0, last[:-1] + 1)
    notional = np.abs(result.position * bars.close) * bars.instrument.multiplier
    with np.errstate(invalid="ignore", divide="ignore"):
        leverage = np.maximum.reduceat(notional, first) / result.session_equity.to_numpy()
    leverage[~np.isfinite(leverage) | (result.session_equity.to_numpy() <= 0)] = np.nan
    days = pd.DatetimeIndex(result.session_equity.index)
    contracts = pd.Series(result.position[last].astype(np.float64), days)
    step = {"line": {"shape": "hv"}}
    data = [
        charts.session_line(contracts, "Contracts", "@grey", **step),
        charts.session_line(pd.Series(leverage, days), "Leverage", "@teal", yaxis="y2", **step),
    ]
    data[0]["hovertemplate"] = "%{x|%Y-%m-%d}: %{y:+d}<extra>Contracts</extra>"
    data[1]["hovertemplate"] = "%{x|%Y-%m-%d}: %{y:.2f} ×<extra>Leverage</extra>"
    figure = _two_panels(data, "Contracts", "Leverage ×")
    return chart("chart-exposure", figure, 300, "Contracts and leverage over time")


def _two_panels(data: Sequence[dict[str, Any]], upper: str, lower: str) -> Figure:
    return {
        "data": list(data),
        "layout": {
            "xaxis": {"type": "date", "anchor": "y2"},
            "yaxis": {"domain": [0.54, 1], "title": {"text": upper}},
            "yaxis2": {"domain": [0, 0.46], "title": {"text": lower}, "rangemode": "tozero"},
            "showlegend": False,
        },
    }


# ---------------------------------------------------------------------------------------- benchmark


def buy_and_hold(result: Result, benchmark: Result) -> str:
    lines = [
        charts.session_line(result.session_equity - result.capital_usd, "This run", "@blue"),
        charts.session_line(
            benchmark.session_equity - benchmark.capital_usd, "Buy and hold", "@grey"
        ),
    ]
    for trace in lines:
        trace["hovertemplate"] = f"%{{x|%Y-%m-%d}}: %{{y:,.2f}} USD<extra>{trace['name']}</extra>"
    figure: Figure = {
        "data": lines,
        "layout": {"xaxis": {"type": "date"}, "yaxis": {"title": {"text": "Net P&L USD"}}},
    }
    drawing = chart("chart-hold", figure, 300, "Net P&L of the run and of buy-and-hold")
    own, market = _figures(result), _figures(benchmark)
    rows: list[list[Cell | str]] = [
        [Cell(label, head=True), own[label], market[label]] for label in own
    ]
    compared = table(("", "This run", "Buy and hold"), rows, numeric=(1, 2))
    return columns(drawing, compared + _explained(result, benchmark), css="wide")


def _figures(of: Result) -> dict[str, str]:
    """The figures of a run that are compared with those of holding."""
    returns = of.session_returns.to_numpy()
    money, _ = perf.drawdown(of.session_equity.to_numpy(), of.capital_usd)
    return {
        "Net P&L USD": number(of.net_pnl_usd, "usd"),
        "Return on capital": number(of.net_pnl_usd / of.capital_usd, "percent"),
        "Sharpe": _per_year(perf.sharpe(returns), "ratio", len(returns)),
        "Annual volatility": _per_year(perf.annual_volatility(returns), "percent", len(returns)),
        "Max drawdown USD, session closes": number(float(money.min(initial=0.0)), "usd"),
    }


def _explained(result: Result, benchmark: Result) -> str:
    """alpha, beta and correlation of the returns per session."""
    returns = result.session_returns.to_numpy()
    fit = perf.regression(returns, benchmark.session_returns.to_numpy())
    rows = [
        ("Alpha, annual", _per_year(fit.alpha_ann_frac, "percent", len(returns))),
        ("Beta to one contract", number(fit.beta, "ratio")),
        ("Correlation of session returns", number(fit.correlation, "ratio")),
    ]
    return facts(rows)


# -------------------------------------------------------------------------------------------- texts


def _days(result: Result) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(result.session_returns.index)


def _per_year(value: float, style: str, sessions: int) -> str:
    """A figure per year, or that the sessions are too few for one."""
    return SHORT if math.isfinite(value) and too_short(sessions) else number(value, style)


def _day(result: Result, row: int) -> str:
    return f"{_days(result)[row]:%Y-%m-%d}"


def _on(result: Result, row: int, value: float) -> str:
    return f"{_money(value, result.capital_usd)} on {_day(result, row)}"


def _money(fraction: float, capital_usd: float) -> str:
    if not math.isfinite(fraction):
        return number(fraction, "percent")
    return f"{number(fraction, 'percent')}, {number(fraction * capital_usd, 'usd')} USD"


def _heat(value: float, strongest: float, capital_usd: float) -> Cell:
    if pd.isna(value):
        return Cell("")
    part = STRONGEST * abs(float(value)) / strongest if strongest > 0 else 0.0
    return _signed(float(value), "percent", float(value) * capital_usd, part)


def _signed(value: float, style: str, usd: float, part: float = 0.0) -> Cell:
    css = "gain" if value > 0 else "loss" if value < 0 else ""
    text = number(value, style).removesuffix(" %")
    return Cell(text, css, f"{number(usd, 'usd')} USD", (("style", f"--heat:{part:.1f}%"),))


def _empty(sentence: str) -> str:
    return f'<p class="empty">{sentence}</p>'
