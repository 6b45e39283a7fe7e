"""The page that lays runs side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.differences import Differences, differences, flatten
from mcl.base.words import unsigned_zero
from mcl.metrics.multiple import benjamini_hochberg, holm, spa, stepm
from mcl.metrics.performance import fall
from mcl.metrics.resampling import FEWEST_RETURNS
from mcl.report import charts
from mcl.report.format import Verdict, metric, metric_rows, number, scalar, value_text
from mcl.report.header_chips import data_label, market_label
from mcl.report.theme import (
    Cell,
    Figure,
    Link,
    Section,
    chart,
    empty,
    metric_cell,
    page,
    scroll,
    table,
)

COLORS = ("@blue", "@orange", "@teal", "@plum", "@grey")
STARS = (
    "★ marks the best of a metric where more (or less) is a merit; a run without a trade is best at"
    " nothing."
)
JUDGED = (
    "How often a Sharpe ratio this high comes from nothing, by the run alone and among all of these"
    " runs. The other trials of a search are in its deflated value."
)
MOST_TALL = 12  # runs in a table that does not scroll downwards
SIDE_BY_SIDE = 3  # runs; of more, each run is a row
HEADLINES = (
    *("sharpe", "dsr", "net_pnl_usd", "return_frac", "max_drawdown_frac", "trades"),
    *("profit_factor", "exposure_frac"),
)
FAMILY_ERROR = 0.05  # of one run or more that is called better than nothing and is not
# beyond five runs, and for eyes that do not see the colours apart
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class PositionPath:
    """Position by bar: `times` (ns since the epoch, UTC, increasing) and `position` (contracts)
    after each of them.
    """

    times: Any
    position: Any


@dataclass(frozen=True)
class CompareView:
    """One run of the comparison. `equity` is USD at the end of each session, indexed by trade
    date.
    """

    run_id: str
    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    equity: pd.Series = field(repr=False)
    synthetic: bool = False
    notes: str = ""
    positions: PositionPath | None = field(default=None, repr=False)  # when the run had a position
    links: Sequence[Link] = ()
    luck: str = ""  # how and when `dsr` was deflated

    @property
    def short(self) -> str:
        return self.run_id[:8]

    @property
    def heading(self) -> tuple[str, str]:
        """The run, and below it what it did."""
        return self.short, self.name.partition(" · ")[0]

    @property
    def data(self) -> str:
        """The data set in a few words."""
        return data_label(self.config.get("data", {}))


@dataclass(frozen=True)
class Family:
    """The joint test of some runs: their sessions are resampled together, so that what the runs
    have in common stays in.

    `p` is the chance that the best of them shows what `best` shows if none has an edge (Hansen's
    test for superior predictive ability). `superior` are the ids of those that are better than
    nothing with a family-wise error of FAMILY_ERROR (Romano and Wolf's StepM).
    """

    p: float
    best: str
    superior: tuple[str, ...]
    runs: int

    @property
    def sentence(self) -> str:
        if math.isnan(self.p):
            return "No run has enough sessions for a joint test."
        names = ", ".join(run_id[:8] for run_id in self.superior) or "none of them"
        return (
            f"Joint test of these {self.runs} runs: the best, {self.best[:8]}, has a p-value of"
            f" {self.p:.4f} (Hansen's SPA). Profit that luck does not explain, at a family-wise"
            f" error of {FAMILY_ERROR:.0%} (StepM): {names}."
        )


def family(views: Sequence[CompareView]) -> Family:
    """Test the session returns of all runs together."""
    curves = [_returns(view) for view in views]
    frame = pd.concat([curve.diff().fillna(curve) for curve in curves], axis=1)
    if len(frame) < FEWEST_RETURNS:
        return Family(math.nan, "", (), len(views))
    returns = frame.to_numpy(np.float64)
    best, superior = spa(returns), stepm(returns, FAMILY_ERROR)
    return Family(
        best.consistent,
        views[best.best].run_id if best.best >= 0 else "",
        tuple(views[column].run_id for column in superior),
        len(views),
    )


def different_data(views: Sequence[CompareView]) -> str:
    """Warn of runs on more than one market or world; empty where all have the same."""
    where: dict[str, list[str]] = {}
    for view in views:
        where.setdefault(market_label(view.config.get("data", {})), []).append(view.short)
    if len(where) < 2:
        return ""
    listed = "; ".join(
        f"{', '.join(runs)} on {label or 'unknown data'}" for label, runs in where.items()
    )
    return (
        f"These runs are of {len(where)} different markets or worlds: {listed}. Their numbers do"
        " not say which is better."
    )


def compare_page(views: Sequence[CompareView], joint: Family | None = None) -> str:
    """One self-contained HTML document: curves on one axis, metrics with the best marked, what
    differs in the configs. `joint` is the test of all runs together, where it was made already.
    """
    joint = joint or family(views)
    changed = differences(*(flatten(v.config) for v in views))
    changed.pop("notes", None)
    sections = [
        Section("Runs", _runs(views)),
        Section(
            "Equity",
            chart("chart-equity", _curves(views), 460, "Profit and loss of every run over time"),
            _scope(views),
        ),
        Section(
            "Drawdown",
            chart("chart-drawdown", _drawdowns(views), 260, "Drawdown of every run over time"),
            "At session ends, as a share of each run's start capital.",
        ),
        Section("Metrics", _metrics(views), _metrics_note(views)),
        Section("Better than nothing", _better_than_nothing(views), f"{JUDGED} {joint.sentence}"),
        Section(
            "Config differences",
            _config(views, changed),
            "Only keys whose values are not the same in all runs.",
        ),
        Section(
            "Correlation",
            _pairs(views, _correlate),
            "Of the session returns on the sessions that two runs share.",
        ),
        Section(
            "Drawdown overlap",
            _pairs(views, _under_both),
            "Share of the sessions in which either of two runs is more than half as deep as its"
            " worst drawdown that both are.",
        ),
    ]
    if all(v.positions is not None for v in views):
        note = (
            "Share of the time in which either of two runs has a position that both have one on the"
            " same side."
        )
        sections.append(Section("Trade overlap", _pairs(views, _same_side), note))
    warning = different_data(views)
    return page(
        "comparison",
        f"{len(views)} runs compared",
        sections,
        verdict=Verdict("bad", "Different data", warning) if warning else None,
        data_note=_note(views),
        lead=" · ".join(v.short for v in views),
    )


def _metrics_note(views: Sequence[CompareView]) -> str:
    counted = dict.fromkeys(v.luck for v in views if v.luck)
    return f"{STARS} {' '.join(f'The Sharpe is {sentence}.' for sentence in counted)}".rstrip()


def _note(views: Sequence[CompareView]) -> str:
    """Return the sentence about the data: the mark of synthetic runs first, then the limits of
    each market source.
    """
    limits = dict.fromkeys(v.notes for v in views if v.notes and not v.synthetic)
    return " · ".join(filter(None, [_watermark(views), *limits]))


def _watermark(views: Sequence[CompareView]) -> str:
    marked = [v for v in views if v.synthetic]
    if not marked:
        return ""
    notes = "; ".join(
        dict.fromkeys(
            v.notes.removeprefix("SYNTHETIC DATA — ").removesuffix(", not a market result")
            for v in marked
            if v.notes
        )
    )
    which = (
        "all runs"
        if len(marked) == len(views)
        else f"{len(marked)} of {len(views)} runs ({', '.join(v.short for v in marked)})"
    )
    return f"SYNTHETIC DATA — {which}, not a market result" + (f" · {notes}" if notes else "")


def _look(i: int) -> tuple[str, str]:
    return COLORS[i % len(COLORS)], DASHES[(i // len(COLORS) + (i % len(COLORS) > 2)) % len(DASHES)]


def _runs(views: Sequence[CompareView]) -> str:
    """One row per run, with its headline numbers where the runs do not stand side by side."""
    many_runs = len(views) > SIDE_BY_SIDE
    names = [n for n in HEADLINES if many_runs and any(n in v.metrics for v in views)]
    compared = [_compared(name, views) for name in names]
    rows: list[list[Cell | str]] = [
        [
            Cell(v.short, title=v.run_id, head=True),
            v.data or ("synthetic" if v.synthetic else "market"),
            *(cells[i] for cells in compared),
            *_span(v.equity),
            Cell(v.name.replace(f" · {v.data}", ""), "wrap"),
            *(Cell(link.text, title=link.title, href=link.href) for link in v.links),
        ]
        for i, v in enumerate(views)
    ]
    ways = max(len(v.links) for v in views)
    span = ("First session", "Last session", "Sessions")
    titles = (metric(name).title.partition(" [")[0] for name in names)
    head = ("Run", "Data", *titles, *span, "Name", *[""] * ways)
    numeric = (*range(2, 2 + len(names)), 4 + len(names))
    return scroll(table(head, rows, numeric=numeric, css="held"), tall=len(views) <= MOST_TALL)


def _better_than_nothing(views: Sequence[CompareView]) -> str:
    rows = [
        [
            Cell(v.short, title=v.name, head=True),
            *(Cell(number(p, "plain"), "n", repr(p)) for p in each),
        ]
        for v, each in zip(views, p_values([v.metrics for v in views]), strict=True)
    ]
    head = (
        "Run",
        "p-value",
        "of all these runs (Holm)",
        "share of false findings (Benjamini-Hochberg)",
    )
    return scroll(table(head, rows, numeric=(1, 2, 3), css="held"))


def p_values(metrics: Sequence[Mapping[str, float]]) -> list[tuple[float, float, float]]:
    """Of "its true Sharpe ratio is not above zero" for each run: alone (1 - PSR), adjusted by Holm
    and by Benjamini-Hochberg.
    """
    alone = [1 - m.get("psr", math.nan) for m in metrics]
    return list(zip(alone, holm(alone), benjamini_hochberg(alone), strict=True))


def _span(equity: pd.Series) -> tuple[str, str, str]:
    return (
        (f"{equity.index[0]:%Y-%m-%d}", f"{equity.index[-1]:%Y-%m-%d}", f"{len(equity):,}")
        if len(equity)
        else ("", "", "0")
    )


def _scope(views: Sequence[CompareView]) -> str:
    spans = {_span(v.equity) for v in views}
    sentence = "Net P&L at session ends as a share of each run's start capital."
    return (
        sentence
        if len(spans) == 1
        else f"{sentence} The runs do not cover the same sessions: compare with care."
    )


def _returns(view: CompareView) -> pd.Series:
    """Cumulative net P&L over the start capital."""
    capital = float(
        view.config.get("capital_usd", view.equity.iloc[0] if len(view.equity) else math.nan)
    )
    return (view.equity - capital) / capital


def _curves(views: Sequence[CompareView]) -> Figure:
    data = []
    for i, view in enumerate(views):
        color, dash = _look(i)
        hover = "%{x|%Y-%m-%d}: %{y:.2f} %<extra>" + view.short + "</extra>"
        data.append(
            charts.session_line(
                100 * _returns(view),
                f"{view.short} {view.name}",
                color,
                line={"dash": dash},
                width=1.8,
                hovertemplate=hover,
            )
        )
    layout: Figure = {
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": "% of capital"}, "ticksuffix": " %", "zeroline": True},
    }
    return {
        "data": data,
        "layout": layout | {"hovermode": "closest", "showlegend": True},
        "keepsZoom": True,
    }


def _drawdowns(views: Sequence[CompareView]) -> Figure:
    data = []
    for i, view in enumerate(views):
        color, dash = _look(i)
        hover = "%{x|%Y-%m-%d}: %{y:.2f} %<extra>" + view.short + "</extra>"
        curve = charts.session_line(
            100 * _depth(view),
            view.short,
            color,
            line={"dash": dash},
            width=1.4,
            hovertemplate=hover,
        )
        data.append(curve | {"showlegend": False})
    layout: Figure = {
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": "% of capital"}, "ticksuffix": " %"},
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout, "keepsZoom": True}


def _metrics(views: Sequence[CompareView]) -> str:
    names = list(dict.fromkeys(name for v in views for _, _, name in metric_rows(v.metrics)))
    if len(views) > SIDE_BY_SIDE:
        return _metrics_of_many(views, names)
    two = len(views) == 2
    rows = [
        [Cell(metric(name).title, head=True), *_compared(name, views), _spread(name, views, two)]
        for name in names
    ]
    head = ("Metric", *(v.heading for v in views), "Difference" if two else "Range")
    return scroll(table(head, rows, numeric=range(1, len(views) + 2), css="held"), tall=True)


def _metrics_of_many(views: Sequence[CompareView], names: Sequence[str]) -> str:
    """Each run is a row, each metric a column that can be sorted."""
    compared = [_compared(name, views) for name in names]
    rows = [
        [Cell(v.short, title=v.name, head=True), v.data, *(cells[i] for cells in compared)]
        for i, v in enumerate(views)
    ]
    head = ("Run", "Data", *(metric(name).title for name in names))
    return scroll(table(head, rows, numeric=range(2, len(head)), css="held"))


def _compared(name: str, views: Sequence[CompareView]) -> list[Cell | str]:
    values = [v.metrics.get(name, math.nan) for v in views]
    rivals = [
        value if v.metrics.get("trades", math.nan) != 0 else math.nan
        for v, value in zip(views, values, strict=True)
    ]
    # who never traded is best at nothing
    if any(_unsaid(name, v.metrics) for v in views):
        rivals = [math.nan] * len(views)  # nor is a figure that is not said
    finite = [value for value in rivals if math.isfinite(value)]
    better = metric(name).better
    best = (
        max(finite, key=lambda value: better * value) if better and len(set(finite)) > 1 else None
    )
    css = ["n best" if best is not None and value == best else "n" for value in rivals]
    return [
        metric_cell(name, v.metrics, mark) if name in v.metrics else ""
        for v, mark in zip(views, css, strict=True)
    ]


def _unsaid(name: str, metrics: Mapping[str, float]) -> bool:
    """Whether the figure has no number on the page: one per year of too few sessions."""
    if not math.isfinite(metrics.get(name, math.nan)):
        return False
    return not any(map(str.isdigit, value_text(name, metrics)))


def _spread(name: str, views: Sequence[CompareView], two: bool) -> str:
    if any(_unsaid(name, v.metrics) for v in views):
        return ""
    values = [v.metrics[name] for v in views if math.isfinite(v.metrics.get(name, math.nan))]
    if len(values) < 2:
        return ""
    gap = values[1] - values[0] if two else max(values) - min(values)
    text = number(gap, metric(name).style)
    if gap == 0 or not two:
        return "" if gap == 0 else text
    return unsigned_zero(f"+{text}" if gap > 0 else text)


def _config(views: Sequence[CompareView], changed: Differences) -> str:
    if not changed:
        return empty(
            "The configs are the same.",
            "Where numbers differ, mcl rerun names what moved: data or code.",
        )
    if len(views) > SIDE_BY_SIDE:
        listed: list[list[Cell | str]] = [
            [
                Cell(v.short, title=v.name, head=True),
                *(
                    Cell("—" if values[i] is None else scalar(values[i]), "wrap")
                    for values in changed.values()
                ),
            ]
            for i, v in enumerate(views)
        ]
        return scroll(table(("Run", *changed), listed, css="held"))
    rows = [
        [
            Cell(key, head=True),
            *(Cell("—" if value is None else scalar(value), "wrap") for value in values),
        ]
        for key, values in changed.items()
    ]
    return scroll(table(("Key", *(v.heading for v in views)), rows, css="held"))


def _pairs(
    views: Sequence[CompareView], measure: Callable[[CompareView, CompareView], float]
) -> str:
    """A square table of what two runs have in common: the same for (a, b) as for (b, a)."""
    half = {
        (i, j): measure(views[i], views[j]) for i in range(len(views)) for j in range(i, len(views))
    }
    rows: list[list[Cell | str]] = [
        [
            Cell(v.short, title=v.name, head=True),
            *(_shared(half[min(i, j), max(i, j)]) for j in range(len(views))),
        ]
        for i, v in enumerate(views)
    ]
    return scroll(
        table(("", *(v.heading for v in views)), rows, numeric=range(1, len(views) + 1), css="held")
    )


def _shared(value: float) -> Cell:
    return Cell(number(value, "ratio"), "n", repr(value))


def _correlate(a: CompareView, b: CompareView) -> float:
    both = (
        pd.concat([_returns(a).diff(), _returns(b).diff()], axis=1, join="inner")
        .dropna()
        .to_numpy()
    )
    moving = len(both) > 2 and both[:, 0].std() > 0 and both[:, 1].std() > 0
    return float(np.corrcoef(both[:, 0], both[:, 1])[0, 1]) if moving else math.nan


def _depth(view: CompareView) -> pd.Series:
    """Drawdown at session ends, <= 0, as a share of the start capital."""
    gained = _returns(view)
    return pd.Series(fall(gained.to_numpy(np.float64), 0.0)[0], gained.index)


def _under_both(a: CompareView, b: CompareView) -> float:
    both = pd.concat([_depth(a), _depth(b)], axis=1, join="inner").dropna()
    deep = both.to_numpy() < 0.5 * both.min().to_numpy()
    return _jaccard(deep[:, 0], deep[:, 1])


def _same_side(a: CompareView, b: CompareView) -> float:
    if a.positions is None or b.positions is None:
        return math.nan
    first, second = (np.sign(position) for position in _on_shared_bars(a.positions, b.positions))
    either = (first != 0) | (second != 0)
    return float(((first == second) & either).sum() / either.sum()) if either.any() else math.nan


def _on_shared_bars(a: PositionPath, b: PositionPath) -> tuple[Any, Any]:
    """The positions of both on the bars that both have; runs of one market have all of them, and
    are not searched.
    """
    if np.array_equal(a.times, b.times):
        return a.position, b.position
    at = np.minimum(np.searchsorted(b.times, a.times), len(b.times) - 1)
    shared = b.times[at] == a.times if len(b.times) else np.zeros(len(a.times), np.bool_)
    return a.position[shared], b.position[at[shared]]


def _jaccard(a: Any, b: Any) -> float:
    either = int((a | b).sum())
    return float((a & b).sum()) / either if either else math.nan
