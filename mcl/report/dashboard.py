"""The page of the live dashboard: one self-contained document that listens to the server it came
from. Pictures are its own SVG.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape

from mcl.report.theme import FOLDER

CARDS = (
    ("Position", "position"),
    ("Session P&L, USD", "pnl"),
    ("Until the loss limit, USD", "left"),
    ("Equity, USD", "equity"),
    ("Last price", "price"),
    ("Data age", "age"),
    ("Orders / fills", "orders"),
    ("Close message to order", "latency"),
)
ACTS = (("pause", ""), ("resume", ""), ("reduce-only", ""), ("flatten", "grave"), ("stop", "grave"))


@dataclass(frozen=True)
class Page:
    """`policy` is the Content-Security-Policy to send with it: its own style and script, its own
    server, nothing else.
    """

    html: str
    policy: str


@cache
def dashboard_page(name: str) -> Page:
    """The dashboard of the alias `name`."""
    script = _asset("dashboard.js")
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon"'
        ' href="data:,">'
        f"<title>{escape(name)} · mcl"
        f" dashboard</title><style>{_asset('page.css')}{_asset('dashboard.css')}</style></head>"
        f'<body data-name="{escape(name)}">{_head(name)}<main>{_cards()}{_sections()}</main>'
        "<footer>Times are UTC, money is USD. The page follows the session by itself.</footer>"
        f"{_dialog()}<script>{script}</script></body></html>\n"
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src"
        " 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html, policy)


def _head(name: str) -> str:
    buttons = "".join(
        f'<button type="button" data-act="{word}" class="{css}">{word}</button>'
        for word, css in ACTS
    )
    return (
        '<div class="synthetic" id="synthetic" role="note" hidden></div><header'
        ' class="top"><div><div class="head"><div><div class="eyebrow" id="whose">mcl dashboard ·'
        f' {escape(name)}</div><h1><span id="state" class="state">…</span><span id="mode"'
        ' class="mode"></span></h1></div><div class="pulse" id="pulse" role="status"><i></i><span'
        ' id="heard">connecting …</span></div></div><p class="why" id="why"'
        ' aria-live="polite"></p><p class="said" id="said" role="alert" hidden></p><div'
        f' class="acts" id="acts" role="group" aria-label="Commands" hidden>{buttons}</div><nav'
        ' class="others" id="others" aria-label="Other sessions"></nav></div></header>'
    )


def _cards() -> str:
    return f'<div class="cards">{"".join(_card(label, key) for label, key in CARDS)}</div>'


def _card(label: str, key: str) -> str:
    return (
        f'<div class="card"><div class="label">{escape(label)}</div><div class="figure"'
        f' id="{key}">–</div><div class="note" id="{key}-note"></div></div>'
    )


def _sections() -> str:
    left = (
        _section(
            "Price of this session",
            _plot("price"),
            "At the close of each bar. Triangles are fills, lines are the entry, the stop and the"
            " take-profit of the position.",
        ),
        _section(
            "P&L of this session",
            _plot("session"),
            "After costs, in a scale of its own.",
            "session-note",
        ),
        _section("Alerts", _list("alerts")),
        _section("Last decisions", _list("decisions")),
    )
    right = (
        _section("Against the expected band", _plot("band"), "", "band-note"),
        _section("Working orders", _list("working")),
        _section("Fills", _list("fills")),
        _section(
            "From the close message to the order",
            _plot("latency"),
            "Orders by milliseconds from the message that tells of the close to the order written.",
        ),
    )
    audits = _section(
        "Earlier sessions",
        _list("audits"),
        "Each is replayed through the backtest; every difference has a cause.",
    )
    return f'<div class="two"><div>{"".join(left)}</div><div>{"".join(right)}</div></div>{audits}'


def _section(title: str, body: str, note: str = "", note_id: str = "") -> str:
    note_html = (
        f'<p class="note"{f" id={note_id}" if note_id else ""}>{escape(note)}</p>'
        if note or note_id
        else ""
    )
    return f"<section><h2>{escape(title)}</h2>{note_html}{body}</section>"


def _plot(name: str) -> str:
    return f'<div class="plot" id="plot-{name}"></div>'


def _list(name: str) -> str:
    return f'<div id="{name}"></div>'


def _dialog() -> str:
    return (
        '<dialog id="dialog" aria-labelledby="asked"><form method="dialog"><p id="asked"></p><p'
        ' class="eyebrow" id="holding"></p><label for="because">Reason, for the'
        ' journal</label><input id="because" maxlength="300" autocomplete="off"><div'
        ' class="row"><button value="no">not now</button><button id="confirm"'
        ' value="yes"></button></div></form></dialog>'
    )


@cache
def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
