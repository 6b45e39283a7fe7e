"""The page of a search: where in the parameter space the result lives, and how much of its best is luck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from mcl.metrics.overfit import dsr_2012, expected_maximum
from mcl.metrics.performance import SESSIONS_PER_YEAR
from mcl.report.format import Verdict, metric, number, scalar
from mcl.report.theme import Cell, Figure, Section, chart, columns, fact_card, finite_list, page, scroll, table, titled

MOST_PAIRS = 6
MOST_LEVELS = 32  # a parameter with more distinct values is cut into BINS quantile bins
BINS = 12
NEVER_RUN = ("constraint", "duplicate")  # pruned before a simulation: they are no trials of the market
HEADLINES = ("sharpe", "net_pnl_usd", "max_drawdown_frac", "trades", "profit_factor")


@dataclass(frozen=True)
class Search:
    """The trials in order, one row each; `parameters` are column names. Scored means COMPLETE with a finite metric."""

    trials: pd.DataFrame
    metric: str
    maximize: bool
    parameters: tuple[str, ...]

    @cached_property
    def scored(self) -> pd.DataFrame:
        complete = self.trials["state"].astype(str).str.upper() == "COMPLETE"
        values = (
            pd.to_numeric(self.trials[self.metric], errors="coerce")
            if self.metric in self.trials
            else pd.Series(math.nan, self.trials.index)
        )
        kept: pd.DataFrame = self.trials[complete & np.isfinite(values)]
        return kept

    @cached_property
    def ranked(self) -> pd.DataFrame:
        return self.scored.sort_values([self.metric, "number"], ascending=[not self.maximize, True], kind="stable")

    @cached_property
    def importance(self) -> pd.Series:
        """Share of the metric's variance that each parameter's own levels explain (eta squared, no interactions), largest first."""
        shares = {name: _explained(_levels(self.scored[name]), self.scored[self.metric]) for name in self.parameters}
        return pd.Series(shares, dtype=float).sort_values(ascending=False, kind="stable")

    def text(self, value: float) -> str:
        return number(value, metric(self.metric).style)

    @property
    def label(self) -> str:
        return metric(self.metric).label.partition(" [")[0]


def sweep_page(
    trials: pd.DataFrame, metric: str, direction: Literal["maximize", "minimize"], title: str, *, synthetic: str = "", lead: str = ""
) -> str:
    """One self-contained HTML document.

    `trials`: one row per trial, failed and pruned ones too: `number` (or `trial`), `state`, parameters (`params.x`, or any name
    with a dot), metric columns, and, where there is one, `reason` and `detail` of a trial without a score. `synthetic` is the
    watermark sentence, empty for market data.
    """
    frame = trials.rename(columns={"trial": "number"}) if "number" not in trials else trials
    search = Search(
        frame.sort_values("number", kind="stable"), metric, direction == "maximize", tuple(c for c in frame.columns if "." in c)
    )
    sections = [Section("Top trials", _top(search))]
    if len(search.scored):
        sections += _maps(search)
        sections += [
            Section("History", chart("chart-history", _history(search), 340, "Score of every trial and the best so far")),
            Section(
                "Parameters",
                _slices(search),
                "Each point is a trial. The bars say how much of the variance of the score a parameter explains by itself.",
            ),
        ]
    sections.append(Section("Without a score", _lost(search)))
    return page("search", title, sections, verdict=_verdict(search), synthetic=synthetic, cards=_cards(search), lead=lead)


# ------------------------------------------------------------------------------------------------------------------ words


def _verdict(search: Search) -> Verdict:
    if not len(search.scored):
        return Verdict("bad", "No result", f"None of {len(search.trials)} trials has a score: see the reasons below.")
    best, total = search.ranked.iloc[0], _simulated(search.trials)
    found = f"Best of {total} trials: {search.label} {search.text(float(best[search.metric]))}."
    if search.metric != "sharpe" or len(search.scored) < 2 or not search.maximize:
        return Verdict("unclear", "Selected", f"{found} It is the best of many: only data that the search has not seen can confirm it.")
    spread = float(search.scored["sharpe"].std(ddof=1))
    chance = number(spread * expected_maximum(total), "ratio")
    luck = f"{found} With no edge at all, the best of {total} such trials would show about {chance}."
    deflated = _deflated(best, total, spread)
    if not math.isfinite(deflated):
        return Verdict("unclear", "Selected", luck)
    level, word = ("good", "Beyond luck") if deflated >= 0.95 else ("unclear", "Within luck")
    return Verdict(level, word, f"{luck} Deflated Sharpe (probability of an edge after {total} trials): {number(deflated, 'percent')}.")


def _simulated(trials: pd.DataFrame) -> int:
    """How many trials have looked at the data: the number that luck had to choose from."""
    return int((~trials["reason"].isin(NEVER_RUN)).sum()) if "reason" in trials else len(trials)


def _deflated(best: pd.Series, total: int, spread: float) -> float:
    if any(name not in best for name in ("sessions", "skew", "kurtosis")):
        return math.nan
    ratio, variance = float(best["sharpe"]) / math.sqrt(SESSIONS_PER_YEAR), spread**2 / SESSIONS_PER_YEAR
    return dsr_2012(ratio, int(best["sessions"]), float(best["skew"]), float(best["kurtosis"]), trials=total, trial_variance=variance)


def _cards(search: Search) -> str:
    states = search.trials["state"].astype(str).str.upper()
    best = search.text(float(search.ranked.iloc[0][search.metric])) if len(search.scored) else number(math.nan, "ratio")
    middle = search.text(float(search.scored[search.metric].median())) if len(search.scored) else number(math.nan, "ratio")
    items = [
        (f"Best {search.label}", best, f"median of all scored {middle}"),
        ("Trials", f"{len(search.trials):,}", f"{len(search.scored):,} with a score"),
        ("Pruned", f"{int((states == 'PRUNED').sum()):,}", "a constraint was not met"),
        ("Failed", f"{int(states.str.startswith('FAIL').sum()):,}", "an error, listed below"),
    ]
    return "".join(fact_card(*item) for item in items)


def _short(name: str) -> str:
    return name.removeprefix("params.").removeprefix("strategy.").removeprefix("risk.")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else scalar(value)


def _top(search: Search) -> str:
    if not len(search.scored):
        return '<p class="empty">No trial has a score.</p>'
    names = list(dict.fromkeys(n for n in (search.metric, *HEADLINES) if n in search.trials.columns))
    rows: list[list[Cell | str]] = []
    for rank, (_, row) in enumerate(search.ranked.head(10).iterrows()):
        numbers = [
            Cell(number(float(row[n]), metric(n).style), "n best" if rank == 0 and n == search.metric else "n", repr(float(row[n])))
            for n in names
        ]
        rows.append([str(row["number"]), *(_value(row[p]) for p in search.parameters), *numbers])
    head = ("Trial", *(_short(p) for p in search.parameters), *(metric(n).label.partition(" [")[0] for n in names))
    return scroll(table(head, rows, numeric=range(len(head))))


def _lost(search: Search) -> str:
    rest = search.trials.drop(search.scored.index)
    if not len(rest):
        return '<p class="empty">Every trial has a score.</p>'
    reasons = rest["reason"].fillna("") if "reason" in rest else pd.Series("", rest.index)
    detail = rest["detail"].fillna("") if "detail" in rest else pd.Series("", rest.index)
    rows: list[list[Cell | str]] = []
    for (state, reason), group in rest.groupby([rest["state"].astype(str), reasons], sort=True):
        numbers = ", ".join(str(n) for n in group["number"].head(8)) + (" …" if len(group) > 8 else "")
        rows.append([str(state), str(reason) or "not said", f"{len(group):,}", numbers, Cell(str(detail[group.index[0]]), "wrap")])
    return scroll(table(("State", "Reason", "Trials", "Numbers", "First, in words"), rows, numeric=(2,)))


# --------------------------------------------------------------------------------------------------------------- pictures


def _levels(values: pd.Series) -> pd.Series:
    """The values as ordered categories; many numeric ones as quantile bins named "low – high"."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and values.nunique() > MOST_LEVELS:
        bins = pd.qcut(values, BINS, duplicates="drop").cat.remove_unused_categories()
        groups = values.groupby(bins, observed=True)
        spans = zip(groups.min().index, groups.min(), groups.max(), strict=True)
        names = {b: _value(low) if low == high else f"{_value(low)} – {_value(high)}" for b, low, high in spans}
        return bins.cat.rename_categories(names)
    ordered = sorted(values.dropna().unique(), key=lambda v: (isinstance(v, str), v))
    return pd.Series(pd.Categorical([_value(v) for v in values], [_value(v) for v in ordered], ordered=True), values.index)


def _explained(levels: pd.Series, values: pd.Series) -> float:
    total = float(((values - values.mean()) ** 2).sum())
    groups = values.groupby(levels, observed=True)
    between = float((groups.size() * (groups.mean() - values.mean()) ** 2).sum())
    return between / total if total > 0 else 0.0


def _maps(search: Search) -> list[Section]:
    names = [n for n in search.importance.index if search.scored[n].nunique() > 1]
    pairs = list(combinations(names, 2))
    if not pairs:
        return []
    left = f" The {MOST_PAIRS} pairs of the most important of {len(names)} parameters are shown." if len(pairs) > MOST_PAIRS else ""
    note = f"Mean {search.label} of the trials in a cell; the ring is the best trial. A good region is a plateau, not a single cell.{left}"
    drawn = [
        titled(
            f"{_short(a)} × {_short(b)}", chart(f"chart-map-{i}", _map(search, a, b), 380, f"{search.label} by {_short(a)} and {_short(b)}")
        )
        for i, (a, b) in enumerate(pairs[:MOST_PAIRS])
    ]
    return [Section("Parameter map", columns(*drawn, css="wide"), note)]


def _map(search: Search, a: str, b: str) -> Figure:
    frame = search.scored
    x, y = _levels(frame[a]), _levels(frame[b])
    cells = frame[search.metric].astype(float).groupby([y, x], observed=False)
    mean, count = cells.mean().unstack(), cells.size().unstack()
    values = mean.to_numpy(dtype=float)
    style = metric(search.metric).style
    shown = [["" if math.isnan(v) else number(v, style) for v in row] for row in values]
    best = search.ranked.index[0]
    heat = {
        "type": "heatmap",
        "x": list(mean.columns.astype(str)),
        "y": list(mean.index.astype(str)),
        "z": [finite_list(row) for row in values],
        "text": shown,
        "customdata": count.to_numpy().tolist(),
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": f"{_short(a)} %{{x}}, {_short(b)} %{{y}}<br>mean %{{text}} of %{{customdata}} trials<extra></extra>",
        "colorbar": {"thickness": 10, "outlinewidth": 0},
    } | _scale(values, search.maximize)
    if values.size <= 100:
        heat["texttemplate"] = "%{text}"
    ring = {"symbol": "circle-open", "size": 38, "color": "@ink", "line": {"width": 2}}
    found = {
        "type": "scatter",
        "mode": "markers",
        "x": [str(x[best])],
        "y": [str(y[best])],
        "marker": ring,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    axes = {"xaxis": {"type": "category", "title": {"text": _short(a)}}, "yaxis": {"type": "category", "title": {"text": _short(b)}}}
    return {"data": [heat, found], "layout": axes}


def _scale(values: Any, maximize: bool) -> dict[str, Any]:
    """Orange below zero and blue above; one hue when all have one sign, strong where the search wants to be."""
    if np.nanmin(values) < 0 < np.nanmax(values):
        return {"colorscale": [[0, "@ramp0"], [0.5, "@ramp1"], [1, "@ramp2"]], "zmid": 0}
    good = [[0, "@ramp1"], [1, "@ramp2"]]
    return {"colorscale": good if maximize else [[0, "@ramp2"], [1, "@ramp1"]]}


def _history(search: Search) -> Figure:
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
    return {
        "data": [points, steps],
        "layout": {"xaxis": {"title": {"text": "Trial"}}, "yaxis": {"title": {"text": search.label}}, "hovermode": "closest"},
    }


def _slices(search: Search) -> str:
    shares = search.importance
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "x": finite_list(100 * shares[::-1]),
        "y": [_short(n) for n in shares.index[::-1]],
        "marker": {"color": "@blue"},
    }
    bars |= {"texttemplate": "%{x:.0f} %", "textposition": "outside", "textangle": 0, "cliponaxis": False}
    axes = {"xaxis": {"title": {"text": "% of variance"}, "range": [0, 100]}, "yaxis": {"type": "category"}}
    parts = [titled("Importance", chart("chart-importance", {"data": [bars], "layout": axes}, 240, "Importance of each parameter"))]
    parts += [
        titled(_short(name), chart(f"chart-slice-{i}", _slice(search, name), 240, f"{search.label} against {_short(name)}"))
        for i, name in enumerate(shares.index)
    ]
    return columns(*parts)


def _slice(search: Search, name: str) -> Figure:
    frame = search.scored
    numeric = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
    x: Sequence[Any] = finite_list(frame[name]) if numeric else [_value(v) for v in frame[name]]
    marker = {"color": "@blue", "size": 6, "opacity": 0.6}
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": finite_list(frame[search.metric]),
        "marker": marker,
        "text": [f"trial {n}" for n in frame["number"]],
    }
    axis: Figure = {} if numeric else {"type": "category"}
    layout: Figure = {"xaxis": axis, "yaxis": {"title": {"text": search.label}}, "showlegend": False, "hovermode": "closest"}
    return {"data": [points], "layout": layout}
