"""The trades of a run: how their results are spread, what they went through, and each of them."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from mcl.base.words import many
from mcl.engine.result import Result
from mcl.engine.trades import Table
from mcl.metrics.performance import Floats
from mcl.metrics.trades import closed, expectancy, net, profit_factor, win_rate
from mcl.report import charts
from mcl.report.format import number, reason_words
from mcl.report.theme import Cell, Figure, chart, columns, empty, packed, scroll, table, titled

MOST_ROWS = 500
# points of a scatter; of more trades the largest results and an even choice of the others
MOST_POINTS = 2000
NAMES = (
    "Entry (UTC)",
    "Exit (UTC)",
    "Contracts",
    "Entry price",
    "Exit price",
    "Gross USD",
    "Commission USD",
    "Net USD",
    "MAE USD",
    "MFE USD",
    "Bars",
    "Exit by",
)


def trades(result: Result) -> str:
    if not len(result.trades):
        return empty(
            "No trade was made.",
            "Look under Limits for a rule that held orders back, choose an earlier data.start, or"
            " search other values with mcl sweep.",
        )
    done = closed(result)
    pnl = net(done)
    if not len(pnl):
        return _listed(result)
    return _spread(pnl) + _excursions(done, pnl) + _sides(result, done, pnl) + _listed(result)


def _spread(pnl: Floats) -> str:
    mean, median = float(np.mean(pnl)), float(np.median(pnl))
    sentence = (
        f"{many(len(pnl), 'closed trade')}. The solid line is the mean {number(mean, 'usd')}, the"
        f" dotted one the median {number(median, 'usd')}. The end bins hold all beyond."
    )
    lines = ((mean, "solid", "", "left"), (median, "dot", "", "left"))
    figure = charts.histogram(pnl, "Net USD per closed trade", "Trades", "USD", lines)
    return f'<p class="empty">{sentence}</p>' + chart(
        "chart-trades", figure, 300, "Distribution of trade results"
    )


def _excursions(done: Table, pnl: Floats) -> str:
    """Net result against the worst and the best open result of each trade."""
    rows = chosen(pnl)
    sample_note = (
        ""
        if len(rows) == len(pnl)
        else f" {len(rows):,} of {len(pnl):,} trades are drawn, the largest results among them."
    )
    parts = (
        ("mae_usd", "Maximum adverse excursion (MAE), USD"),
        ("mfe_usd", "Maximum favourable excursion (MFE), USD"),
    )
    figures = [_scatter(done[name][rows], pnl[rows], label) for name, label in parts]
    charts = [
        titled(label, chart(f"chart-{name[:3]}", figure, 280, f"Net result against {label}"))
        for (name, label), figure in zip(parts, figures, strict=True)
    ]
    note = (
        "A winner that was far under water was luck with its stop; a loser that had been far ahead"
        " gave its profit back."
    )
    return f'<p class="empty">{note}{sample_note}</p>' + columns(*charts, css="wide")


def chosen(pnl: Floats) -> Any:
    """Rows of at most DRAWN trades: half of them the largest results, the others evenly spread."""
    if len(pnl) <= MOST_POINTS:
        return np.arange(len(pnl))
    largest = np.argsort(-np.abs(pnl), kind="stable")[: MOST_POINTS // 2]
    others = np.setdiff1d(np.arange(len(pnl)), largest)
    return np.sort(
        np.concatenate(
            [largest, others[np.linspace(0, len(others) - 1, MOST_POINTS // 2).astype(int)]]
        )
    )


def _scatter(x: Floats, pnl: Floats, label: str) -> Figure:
    hover = "%{x:,.2f} open, %{y:,.2f} net<extra></extra>"
    data = []
    for name, color, of in (("Loss", "@orange", pnl <= 0), ("Gain", "@blue", pnl > 0)):
        marker = {"color": color, "size": 5, "opacity": 0.55}
        points = {
            "x": packed(x[of]),
            "y": packed(pnl[of]),
            "name": name,
            "marker": marker,
            "hovertemplate": hover,
        }
        data.append({"type": "scatter", "mode": "markers"} | points)
    axes = {"xaxis": {"title": {"text": label}}, "yaxis": {"title": {"text": "Net USD"}}}
    return {"data": data, "layout": axes | {"hovermode": "closest", "showlegend": False}}


def _sides(result: Result, done: Table, pnl: Floats) -> str:
    """Long and short apart, and how trades ended."""
    frame = result.trades_frame().iloc[: len(done)]
    groups = [(name, done["quantity"] * side > 0) for name, side in (("Long", 1), ("Short", -1))]
    ends = [
        (reason_words(str(reason)), (frame["exit_reason"] == reason).to_numpy())
        for reason in sorted(set(frame["exit_reason"]))
    ]
    head = ("Trades", "Win rate", "Profit factor", "Average USD", "Net USD")
    parts = [
        titled(
            f"By {by.lower()}", scroll(table((by, *head), listed, numeric=range(1, 6)), tall=True)
        )
        for by, rows in (("Side", groups), ("Exit", ends))
        if (listed := [_group(name, pnl[of]) for name, of in rows if of.any()])
    ]
    return columns(*parts, css="wide")


def _group(name: str, pnl: Floats) -> list[Cell | str]:
    texts = (
        f"{len(pnl):,}",
        number(win_rate(pnl), "percent"),
        number(profit_factor(pnl), "ratio"),
        number(expectancy(pnl), "usd"),
    )
    return [name, *texts, Cell(number(float(pnl.sum()), "usd"), "n", repr(float(pnl.sum())))]


def _listed(result: Result) -> str:
    frame = result.trades_frame()
    total, still_open = len(frame), len(frame) - len(closed(result))
    if total > MOST_ROWS:
        frame = frame.loc[frame["net_usd"].abs().nlargest(MOST_ROWS).index.sort_values()]
    note = (
        f"The {MOST_ROWS} largest gains and losses of {total:,} trades, in time order;"
        " trades.parquet has all."
        if total > MOST_ROWS
        else f"All {total:,} trades."
        if total != 1
        else "One trade."
    )
    note += " The last one is open, marked at the last close." if still_open else ""
    note += (
        " A click, or Enter, shows one in the chart. The arrow keys go on from it, and the keys n"
        " and p from anywhere. Escape shows the whole run."
    )
    rows = "".join(_row(trade) for trade in frame.itertuples())
    head = table(NAMES, [], numeric=range(2, 11)).replace(
        "<tbody></tbody>", f"<tbody>{rows}</tbody>"
    )
    return titled(
        "Every trade", f'<p class="empty">{escape(note)}</p>{scroll(head, zooms="chart-strip")}'
    )


def _row(t: Any) -> str:
    money = [
        number(v, "usd") for v in (t.gross_usd, t.commission_usd, t.net_usd, t.mae_usd, t.mfe_usd)
    ]
    texts = (
        f"{t.entry_time:%Y-%m-%d %H:%M}",
        f"{t.exit_time:%Y-%m-%d %H:%M}",
        f"{t.quantity:+d}",
        f"{t.entry_price:,.2f}",
        f"{t.exit_price:,.2f}",
        *money,
        f"{t.bars:,}",
        reason_words(str(t.exit_reason)),
    )
    cells = "".join(
        f'<td class="n">{x}</td>' if 2 <= i < 11 else f"<td>{escape(x)}</td>"
        for i, x in enumerate(texts)
    )
    return (
        f'<tr data-from="{t.entry_time.value // 10**6}"'
        f' data-to="{t.exit_time.value // 10**6}" data-trade="{t.Index}">{cells}</tr>'
    )
