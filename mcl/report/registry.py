"""The page of a promoted version: what it has earned since, in the band that its backtest lets one
expect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.differences import flatten
from mcl.base.words import figure
from mcl.metrics.overfit import Luck
from mcl.report import charts
from mcl.report.format import SHORT, Verdict, number, scalar
from mcl.report.theme import (
    Cell,
    Figure,
    Link,
    Section,
    chart,
    empty,
    fact_card,
    facts,
    page,
    scroll,
    table,
)

AHEAD = 1.5  # so many times the sessions so far are drawn, and at least LEAST
LEAST = 20
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LiveSession:
    """One live session; money in USD, slippage in ticks per contract (NaN: nothing filled or
    measured).
    """

    day: str
    net_pnl_usd: float
    backtest_net_pnl_usd: float
    slippage_ticks: float
    assumed_slippage_ticks: float
    audit: str
    broker: str
    run_id: str
    address: str = ""  # of its page


STRESS_NOTE = (
    "Simulated at the promotion on changed bars: at the largest position the market jumps against"
    " it by 24.6 % (as on 2020-03-09), is shut for 643 minutes and opens 9 % worse (2025-11-28,"
    " 2025-06-23), or is locked for two sessions at 10 % each. No stop and no limit prevents such a"
    " loss; usual is what the run made in that time."
)


@dataclass(frozen=True)
class RegistryView:
    """Plain data of one version; nothing is computed here but running sums. `band`: (low, median,
    high, drawdown) by session, USD.
    """

    title: str
    lead: str
    data_note: str
    sentence: str
    outside: bool
    sessions: Sequence[LiveSession]
    drawdown: Floats  # realised, USD, by session
    band: tuple[Floats, Floats, Floats, Floats] | None
    gates: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    luck: Luck | None = None  # of its backtest, by the trial ledger as it is now
    links: Sequence[Link] = ()


def registry_page(view: RegistryView) -> str:
    """One self-contained HTML document."""
    nothing = empty(
        "The backtest has too few sessions to draw from.", "Promote a run of more data."
    )
    expected = (
        "Shaded: what nineteen of twenty honest histories never leave, P&L and drawdown together,"
        " resampled in blocks of sessions."
    )
    own = {key: value for key, value in view.facts.items() if key != "stress"}
    provenance = flatten(own)
    sections = [
        Section(
            "Live curve",
            (
                chart("chart-live", _curve(view), 520, "Live P&L in its expected band")
                if view.band
                else nothing
            ),
            expected,
        ),
        Section("Sessions", _sessions(view.sessions)),
        Section("Gates", _gates(view.gates), _gates_note(view)),
        Section("Stress by construction", _stress(view.facts.get("stress", {})), STRESS_NOTE),
        Section("Provenance", facts((key, scalar(value)) for key, value in provenance.items())),
    ]
    verdict = _verdict(view)
    return page(
        "registry",
        view.title,
        sections,
        verdict=verdict,
        data_note=view.data_note,
        cards=_cards(view),
        lead=view.lead,
        links=view.links,
    )


def _stress(cases: Mapping[str, Mapping[str, Any]]) -> str:
    if not cases:
        return empty(
            "Promoted by an earlier mcl, which computed none.",
            "Promote the run again to have them.",
        )
    head = (
        "Scenario",
        "Last close before (UTC)",
        "Position",
        "At",
        "Then moves",
        "Net USD",
        "Of capital",
        "Usual USD",
        "First fill",
    )
    rows = [_stress_row(name, case) for name, case in cases.items()]
    return scroll(table(head, rows, numeric=(2, 3, 4, 5, 6, 7)), tall=True)


def _stress_row(name: str, case: Mapping[str, Any]) -> list[Cell | str]:
    if case["note"]:
        return [Cell(name, head=True), Cell(case["note"], "wrap"), *[""] * 7]
    return [
        Cell(name, head=True),
        case["at"],
        f"{case['position']:+d}",
        number(case["price"], "usd"),
        figure(case["move"], "+,.2f"),
        Cell(number(case["pnl_usd"], "usd"), "n loss" if case["pnl_usd"] < 0 else "n gain"),
        number(case["pnl_frac"], "percent"),
        number(case["usual_usd"], "usd"),
        case["exit"],
    ]


def _gates_note(view: RegistryView) -> str:
    sentence = "As they were at the promotion. A waived gate keeps its reason for ever."
    return (
        f"{sentence} Today the Sharpe of the backtest is {view.luck.sentence}."
        if view.luck
        else sentence
    )


def _verdict(view: RegistryView) -> Verdict:
    if not view.sessions:
        return Verdict("unclear", "Not yet traded", view.sentence)
    return (
        Verdict("bad", "Outside", view.sentence)
        if view.outside
        else Verdict("good", "Inside", view.sentence)
    )


def _cards(view: RegistryView) -> str:
    total = sum(s.net_pnl_usd for s in view.sessions)
    backtest = sum(s.backtest_net_pnl_usd for s in view.sessions)
    items = [("Sessions", f"{len(view.sessions):,}", "traded under this version")]
    if view.luck is not None:
        note = (
            f"of the backtest, best by luck {number(view.luck.best_by_luck, 'ratio')},"
            f" {view.luck.trials:,} trials"
        )
        items.append(("Deflated Sharpe", number(view.luck.deflated, "percent"), note))
    if view.sessions:
        items.append(("Live P&L", number(total, "usd"), "net"))
        items.append(("Backtest of the same bars", number(backtest, "usd"), "net"))
        items.append(
            ("Deepest drawdown", number(float(view.drawdown[-1]), "usd"), "of the live curve")
        )
    return "".join(fact_card(*item) for item in items)


def _curve(view: RegistryView) -> Figure:
    if view.band is None:
        return {"data": [], "layout": {}}
    low, median, high, drawdown = (
        side[: max(LEAST, round(AHEAD * len(view.sessions)))] for side in view.band
    )
    ahead, sessions = np.arange(1.0, len(low) + 1), np.arange(1.0, len(view.sessions) + 1)
    pnl = np.cumsum([s.net_pnl_usd for s in view.sessions])
    backtest = np.cumsum([s.backtest_net_pnl_usd for s in view.sessions])
    soft = {"fill": "tonexty", "fillcolor": "@blue-soft"}
    data = [
        charts.line(ahead, high, "Expected at most", "@grey", width=0.8),
        charts.line(ahead, low, "Expected at least", "@grey", width=0.8, **soft),
        charts.line(ahead, median, "Median", "@grey", line={"dash": "dot"}),
        charts.line(
            sessions, backtest, "Backtest of the same bars", "@grey", line={"dash": "dash"}
        ),
        charts.line(sessions, pnl, "Live", "@blue", width=2.2, mode="lines+markers"),
        charts.line(
            ahead,
            drawdown,
            "Deepest expected fall",
            "@grey",
            yaxis="y2",
            width=0.8,
            showlegend=False,
        ),
        charts.line(sessions, view.drawdown, "Drawdown", "@orange", yaxis="y2", showlegend=False),
    ]
    layout: Figure = {
        "xaxis": {"title": {"text": "Sessions since the promotion"}, "anchor": "y2"},
        "yaxis": {"domain": [0.34, 1], "title": {"text": "Net P&L USD"}},
        "yaxis2": {"domain": [0, 0.28], "title": {"text": "Deepest fall USD"}},
        "hovermode": "x",
    }
    return {"data": data, "layout": layout}


def _sessions(sessions: Sequence[LiveSession]) -> str:
    if not sessions:
        return empty(
            "No session has been traded under this version.",
            "Start one with mcl live and its name.",
        )
    columns = [
        "Session",
        "Live USD",
        "Backtest USD",
        "Slippage, ticks",
        "Assumed, ticks",
        "Audit",
        "Broker",
        "Run",
    ]
    rows: list[list[Cell | str]] = [
        [
            s.day,
            Cell(number(s.net_pnl_usd, "usd"), "n", repr(s.net_pnl_usd)),
            Cell(number(s.backtest_net_pnl_usd, "usd"), "n", repr(s.backtest_net_pnl_usd)),
            Cell(number(s.slippage_ticks, "plain"), "n"),
            Cell(number(s.assumed_slippage_ticks, "plain"), "n"),
            s.audit,
            s.broker,
            Cell(s.run_id[:8], title=s.run_id, href=s.address),
        ]
        for s in sessions
    ]
    return scroll(table(columns, rows, numeric=(1, 2, 3, 4)))


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Cell | str]] = []
    for gate in gates:
        required = gate.get("asked", True)  # versions of 0.1 asked every gate that they hold
        missed = "waived" if gate["waived"] else "missed"
        word = "not asked" if not required else "pass" if gate["passed"] else missed
        meaning = gate["waived"] or gate["meaning"]
        css = "" if not required else "gain" if gate["passed"] else "loss"
        value = gate["value"]
        value_cell = (
            Cell(number(value, "plain"), "n", repr(value))
            if isinstance(value, int | float)
            else Cell("—" if value is None else scalar(value), "n")
        )
        if gate.get("too_short"):
            value_cell = Cell(SHORT, "n", repr(value))
        rows.append(
            [
                Cell(word, css),
                Cell(gate["name"].replace("_", " "), head=True),
                value_cell,
                gate["rule"],
                Cell(meaning, "wrap"),
            ]
        )
    return scroll(
        table(["Verdict", "Gate", "Value", "Rule", "What it says"], rows, numeric=(2,)), tall=True
    )
