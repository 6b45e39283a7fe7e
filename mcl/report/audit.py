"""The page of a paper or live session: what was decided and done, and whether a backtest of the
same bars agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.differences import flatten
from mcl.base.words import figure
from mcl.report import charts
from mcl.report.format import Verdict, number, scalar
from mcl.report.theme import (
    Cell,
    Figure,
    Link,
    Section,
    chart,
    columns,
    empty,
    fact_card,
    facts,
    headings,
    milliseconds,
    packed,
    page,
    scroll,
    table,
    titled,
)
from mcl.risk.blocks import Block

ROWS_SHOWN = 1500
WHOLE = ("position", "target", "quantity")  # contracts


@dataclass(frozen=True)
class BasisTable:
    """The broker's bars compared with the vendor's: `note` in place of a table, one row per
    field, and counts by name.
    """

    note: str
    table: pd.DataFrame
    counts: Mapping[str, Any]


def session_page(
    decisions: pd.DataFrame,
    fills: pd.DataFrame,
    differences: pd.DataFrame,
    session: Mapping[str, Any],
    *,
    title: str,
    data_note: str = "",
    lead: str = "",
    slippage: pd.DataFrame | None = None,
    basis: BasisTable | None = None,
    links: Sequence[Link] = (),
) -> str:
    """One self-contained HTML document.

    decisions    one row per decision: `close_time` (UTC), `close` (price), `target`, `position`,
                 and whatever else is known
    fills        one row per execution: `time` (UTC), `price`, `quantity` (bought > 0), and whatever
                 else is known
    differences  one row per decision that a backtest of the same bars takes otherwise; empty when
    all agree
    slippage     one row per fill: what delay, spread and execution cost, in ticks per contract
    basis        the bars of the broker compared with those of the data vendor
    session      facts of the session: account, version, latency, hashes; nested mappings are
                 flattened
    """
    n, wrong = len(decisions), len(differences)
    sections = [
        Section(
            "Differences",
            _listed(differences, "There is none."),
            "The session against a backtest of the same bars, each difference with its cause.",
        ),
        *([Section("Causes", _causes(differences))] if wrong else []),
        Section("Price and fills", _picture(decisions, fills)),
        Section(
            "Fills",
            _listed(
                fills,
                NO_FILL,
            ),
        ),
        *(
            [Section("Slippage", _slippage(slippage), SLIPPAGE)]
            if slippage is not None and len(slippage)
            else []
        ),
        *([Section("Basis", _basis(basis), BASIS)] if basis is not None else []),
        Section(
            "Decisions",
            _listed(
                _readable(decisions),
                NO_DECISION,
            ),
        ),
        Section("Facts", facts((key, _fact(value)) for key, value in flatten(session).items())),
    ]
    return page(
        "session",
        title,
        sections,
        verdict=_verdict(n, wrong, _unexplained(differences)),
        data_note=data_note,
        cards=_cards(n, fills, wrong),
        lead=lead,
        links=links,
    )


NO_FILL = "The session had no fill. The decisions below name the rule that held an order back."
NO_DECISION = (
    "No decision was taken: no bar closed while the session ran. Start it in the hours of trading."
)
SLIPPAGE = (
    "Ticks per contract, positive is a cost. Delay: from the close that was decided on to the next"
    " open. Spread: what the promoted costs assume, which the backtest pays too. Execution: the"
    " rest."
)


BASIS = (
    "The broker's bars less the data vendor's, in bars that both have: prices in ticks, volume in"
    " contracts. A backtest of the vendor's bars says how many decisions differ because of data."
)


def _basis(basis: BasisTable) -> str:
    if basis.note:
        return f'<p class="empty">{escape(basis.note)}</p>'
    counts = basis.counts
    lines = facts(
        [
            ("Bars of the broker alone", f"{counts['bars_only_broker']:,}"),
            ("Bars of the vendor alone", f"{counts['bars_only_vendor']:,}"),
            ("Decisions that differ because of data", f"{counts['data_decisions']:,}"),
            ("Their share", number(counts["data_decisions_frac"], "percent")),
        ]
    )
    return lines + titled("Differences by field", _listed(basis.table, "No bar is in both."))


def _causes(differences: pd.DataFrame) -> str:
    counted = (
        differences["cause"].value_counts() if "cause" in differences else pd.Series(dtype=int)
    )
    rows = [[str(cause), f"{n:,}"] for cause, n in counted.items()]
    return columns(scroll(table(("Cause", "Differences"), rows, numeric=(1,)), tall=True))


def _slippage(slippage: pd.DataFrame) -> str:
    """The mean of each part over all contracts, then every fill."""
    parts = ("delay_ticks", "spread_ticks", "execution_ticks")
    measured = slippage.dropna(subset=list(parts))
    weights = measured["quantity"].abs()
    means = [
        float((measured[part] * weights).sum() / weights.sum()) if len(measured) else float("nan")
        for part in parts
    ]
    ticks = [figure(mean, "+.2f") for mean in (*means, means[1] + means[2])]
    cells = [[*ticks, f"{int(weights.sum()):,}"]]
    head = table(
        ("Delay", "Spread", "Execution", "Spread and execution", "Contracts"),
        cells,
        numeric=range(5),
    )
    return titled("Mean of all contracts", scroll(head, tall=True)) + titled(
        "Every fill", _listed(slippage, "No fill.")
    )


def _verdict(decisions: int, wrong: int, unexplained: int) -> Verdict:
    if not decisions:
        return Verdict(
            "unclear",
            "Nothing decided",
            "The session took no decision, so there is nothing to compare.",
        )
    if unexplained:
        return Verdict(
            "bad",
            "Unexplained",
            f"{unexplained:,} of {wrong:,} differences from a backtest of the same bars have no"
            " known cause.",
        )
    if wrong:
        return Verdict(
            "unclear",
            "Explained",
            f"{wrong:,} differences from a backtest of the same bars, each with its cause.",
        )
    return Verdict(
        "good", "Equal", f"All {decisions:,} decisions equal those of a backtest of the same bars."
    )


def _unexplained(differences: pd.DataFrame) -> int:
    return (
        int((differences["cause"] == "unexplained").sum())
        if "cause" in differences
        else len(differences)
    )


def _cards(decisions: int, fills: pd.DataFrame, wrong: int) -> str:
    traded = int(fills["quantity"].abs().sum()) if "quantity" in fills and len(fills) else 0
    items = (
        ("Decisions", decisions),
        ("Differences", wrong),
        ("Fills", len(fills)),
        ("Contracts traded", traded),
    )
    return "".join(fact_card(label, f"{value:,}") for label, value in items)


def _readable(decisions: pd.DataFrame) -> pd.DataFrame:
    """Contracts as whole numbers and blocks by name; distances that no decision set are left
    out.
    """
    visible = decisions.dropna(axis="columns", how="all") if len(decisions) else decisions
    whole = {
        name: visible[name].astype(np.int64)
        for name in WHOLE
        if name in visible and visible[name].notna().all()
    }
    named = (
        {
            "block": [
                Block(int(v)).name.lower() if pd.notna(v) and v else "" for v in visible["block"]
            ]
        }
        if "block" in visible
        else {}
    )
    return visible.assign(**whole, **named)


def _fact(value: Any) -> str:
    return number(value, "usd") if isinstance(value, float) else scalar(value)


def _listed(frame: pd.DataFrame, nothing: str) -> str:
    if not len(frame):
        return f'<p class="empty">{nothing}</p>'
    visible = frame.head(ROWS_SHOWN)
    cut = (
        f'<p class="empty">The first {ROWS_SHOWN:,} of {len(frame):,} rows.</p>'
        if len(frame) > ROWS_SHOWN
        else ""
    )
    names, numeric = headings(frame)
    rows = [
        [_cell(value, i in numeric) for i, value in enumerate(row)]
        for row in visible.itertuples(index=False)
    ]
    return cut + scroll(table(names, rows, numeric=numeric))


def _cell(value: Any, numeric: bool) -> Cell:
    if value is pd.NaT:
        return Cell("–")
    if isinstance(value, pd.Timestamp):
        return Cell(
            f"{value:%Y-%m-%d}"
            if value == value.normalize() and value.tz is None
            else f"{value:%Y-%m-%d %H:%M:%S}"
        )
    if isinstance(value, float):
        return Cell(number(value, "usd"), "n" if numeric else "", repr(value))
    return Cell(scalar(value), "n" if numeric else "")


def _picture(decisions: pd.DataFrame, fills: pd.DataFrame) -> str:
    if not len(decisions) or not {"close_time", "close"} <= set(decisions):
        return empty("There are no bars to draw: the session saw no closed bar.")
    return chart(
        "chart-session",
        _session(decisions, fills),
        560,
        "Price with fills, target and position of the session",
    )


def _session(decisions: pd.DataFrame, fills: pd.DataFrame) -> Figure:
    times = _ms(decisions["close_time"])
    data = [charts.line(times, decisions["close"].to_numpy(float), "Close", "@grey")]
    for name, color, dash in (("target", "@blue", "dot"), ("position", "@grey", "solid")):
        if name in decisions:
            line = {"shape": "hv", "dash": dash}
            data.append(
                charts.line(
                    times,
                    decisions[name].to_numpy(float),
                    name.capitalize(),
                    color,
                    yaxis="y2",
                    line=line,
                )
            )
    if len(fills) and {"time", "price", "quantity"} <= set(fills):
        data += [
            _marks(fills[fills["quantity"] > 0], "Bought", "triangle-up", "@blue"),
            _marks(fills[fills["quantity"] < 0], "Sold", "triangle-down", "@orange"),
        ]
    layout: Figure = {
        "xaxis": {"type": "date", "anchor": "y2"},
        "yaxis": {"domain": [0.3, 1], "title": {"text": "Price"}},
        "yaxis2": {"domain": [0, 0.24], "title": {"text": "Contracts"}, "nticks": 4},
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout, "keepsZoom": True}


def _marks(fills: pd.DataFrame, name: str, symbol: str, color: str) -> dict[str, Any]:
    hover = "%{x|%H:%M:%S}<br>%{customdata:+d} at %{y}<extra>" + name + "</extra>"
    points = {
        "x": packed(_ms(fills["time"])),
        "y": packed(fills["price"].to_numpy(float)),
        "customdata": fills["quantity"].astype(int).tolist(),
    }
    marker = {"symbol": symbol, "color": color, "size": 10}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{name} ({len(fills)})",
        "marker": marker,
        "hovertemplate": hover,
    } | points


def _ms(times: pd.Series) -> Any:
    return milliseconds(
        pd.DatetimeIndex(pd.to_datetime(times, utc=True)).as_unit("ns").asi8.astype(np.int64)
    )
