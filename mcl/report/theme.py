"""The house style: one HTML shell for every page, self-contained, light and dark, without a request
to anywhere.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from mcl.base import files
from mcl.base.undefined import finite
from mcl.metrics.undefined import reasons
from mcl.report import plotly_bundle
from mcl.report.base91 import letters
from mcl.report.format import Verdict, exact, metric, value_text

FOLDER = Path(__file__).parent
NEGATIVE_ZERO = re.compile(r"(?<=[\[,:])-0\.0(?=[,\]}])")  # in JSON: nothing has no sign
UNNAMED = ' aria-label=""'  # filled by the title of what it is in
DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
}

Figure = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A table cell. `css` may hold `n` (right-aligned number), gain, loss, best, wrap; `title` is
    its tooltip, `href` makes it a link, `head` the name of its row.
    """

    text: str
    css: str = ""
    title: str = ""
    data: tuple[tuple[str, str], ...] = ()
    href: str = ""
    head: bool = False

    def html(self) -> str:
        attributes = "".join(
            f' {name}="{escape(value)}"'
            for name, value in (("class", self.css), ("title", self.title), *self.data)
            if value
        )
        content = Link(self.text, self.href).html() if self.href else escape(self.text)
        return (
            f'<th scope="row"{attributes}>{content}</th>'
            if self.head
            else f"<td{attributes}>{content}</td>"
        )


@dataclass(frozen=True)
class Link:
    """A way out of the page: to the run in MLflow, the registry, another page of the project."""

    text: str
    href: str
    title: str = ""

    def html(self) -> str:
        title = f' title="{escape(self.title)}"' if self.title else ""
        return (
            f'<a class="out" href="{escape(self.href)}" target="_blank"'
            f' rel="noopener"{title}>{escape(self.text)}</a>'
        )


@dataclass(frozen=True)
class Section:
    title: str
    html: str
    note: str = ""
    closed: bool = False  # shows its heading alone until somebody opens it

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def metric_cell(name: str, metrics: Mapping[str, float], css: str = "n") -> Cell:
    """The metric as text; `data-value` carries the float with all its digits, the tooltip too, or
    why there is none.
    """
    digits = exact(metrics[name])
    why = reasons({name: metrics[name]}).get(name, digits)
    data = (("data-metric", name), ("data-value", digits))
    return Cell(value_text(name, metrics), css, why, data)


def card(name: str, metrics: Mapping[str, float], note: str = "") -> str:
    """One headline number of a run with its interval, when it has one, as the small line."""
    text, _, interval = value_text(name, metrics).partition(" [")
    note = f"95 % bootstrap [{interval}" if interval else note
    return fact_card(
        metric(name).title.partition(" [")[0],
        text,
        note,
        data=(("data-card", name), ("data-value", exact(metrics[name]))),
    )


def fact_card(label: str, figure: str, note: str = "", data: Iterable[tuple[str, str]] = ()) -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in data)
    return (
        f'<div class="card"><div class="label">{escape(label)}</div><div'
        f' class="figure"{attributes}>{escape(figure)}</div><div'
        f' class="note">{escape(_unbroken(note))}</div></div>'
    )


def _unbroken(text: str) -> str:
    """An interval stays on one line."""
    before, bracket, interval = text.partition(" [")
    return before + bracket + interval.replace(" ", "\N{NO-BREAK SPACE}")


Heading = str | tuple[str, str]  # or a name and the words below it


def table(
    columns: Sequence[Heading],
    rows: Iterable[Sequence[Cell | str]],
    *,
    numeric: Collection[int] = (),
    css: str = "",
) -> str:
    """An HTML table; columns whose position is in `numeric` are aligned right. No header row when
    no column has a name.
    """
    body = "".join(f"<tr>{_cells(row, numeric)}</tr>" for row in rows)
    head = "".join(_heading(name, i in numeric) for i, name in enumerate(columns))
    head = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    return f'<table class="{escape(css)}"{UNNAMED}>{head}<tbody>{body}</tbody></table>'


def _heading(name: Heading, right: bool) -> str:
    css = ' class="n"' if right else ""
    if isinstance(name, tuple):
        return f'<th scope="col"{css}>{escape(name[0])}<small>{escape(name[1])}</small></th>'
    # a heading without words is none
    return f'<th scope="col"{css}>{escape(name)}</th>' if name else f"<td{css}></td>"


def headings(frame: Any) -> tuple[list[str], list[int]]:
    """The columns of a data frame as headings, and which of them hold numbers."""
    import pandas as pd

    kinds = [
        (pd.api.types.is_numeric_dtype(frame[n]), pd.api.types.is_bool_dtype(frame[n]))
        for n in frame.columns
    ]
    return [heading(str(name)) for name in frame.columns], [
        i for i, (number, flag) in enumerate(kinds) if number and not flag
    ]


def heading(name: str) -> str:
    """`slippage_usd` as the heading "Slippage USD"."""
    words = [word.upper() if word in ("usd", "id") else word for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def named(html: str, name: str) -> str:
    """The tables and scrolling boxes of `html` that have no name yet are called `name`."""
    return html.replace(UNNAMED, f' aria-label="{escape(name)}"')


def _cells(row: Sequence[Cell | str], numeric: Collection[int]) -> str:
    plain: Callable[[int, str], Cell] = lambda i, text: Cell(text, "n" if i in numeric else "")  # noqa: E731
    return "".join(
        (cell if isinstance(cell, Cell) else plain(i, cell)).html() for i, cell in enumerate(row)
    )


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Two columns: a name and its value."""
    return table(
        ("", ""),
        ((Cell(name, head=True), Cell(str(value), "wrap")) for name, value in pairs),
        css="facts",
    )


def empty(sentence: str, next_step: str = "") -> str:
    """A place without content: that it has none, and what to do next."""
    return f'<p class="empty">{escape(" ".join(filter(None, (sentence, next_step))))}</p>'


def scroll(html: str, zooms: str = "", tall: bool = False) -> str:
    """A box that scrolls sideways, and downwards too unless `tall`; a click on a row of it zooms
    the chart `zooms`.
    """
    target = f' data-zooms="{escape(zooms)}"' if zooms else ""
    return (
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0"'
        f' role="region"{UNNAMED}{target}>{html}</div>'
    )


def columns(*parts: str, css: str = "columns") -> str:
    return f'<div class="{css}">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def titled(title: str, html: str) -> str:
    return f"<h3>{escape(title)}</h3>{named(html, title)}"


def chart(name: str, figure: Figure, height: int, label: str) -> str:
    """A holder and its figure as JSON. Strings like "@blue" become the CSS colour of the scheme in
    force.
    """
    kinds = {trace.get("type", "scatter") for trace in figure["data"]}
    if unknown := kinds - plotly_bundle.KINDS - plotly_bundle.EXTRA:
        raise ValueError(f"{name}: the pages' plotly.js draws no {', '.join(sorted(unknown))}")
    data = json.dumps(figure, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    data = NEGATIVE_ZERO.sub("0.0", data)
    role = "group" if figure.get("detail") else "img"  # the one that can be zoomed holds buttons
    holder = (
        f'<div id="{escape(name)}" style="height:{height}px" role="{role}"'
        f' aria-label="{escape(label)}"></div>'
    )
    return (
        f'<figure class="chart">{holder}<script type="application/json"'
        f' data-for="{escape(name)}">{data}</script></figure>'
    )


def packed(values: Any, dtype: str = "float64") -> dict[str, str]:
    """An array as the base64 typed array that plotly.js reads; NaN is a gap."""
    array = np.ascontiguousarray(values, dtype=dtype)
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0)  # nothing has no sign
    return {
        "dtype": DTYPES[dtype],
        "bdata": base64.b64encode(array.tobytes()).decode("ascii"),
    }


def milliseconds(close_time: Any) -> Any:
    """Nanoseconds since the epoch as the float64 milliseconds of a date axis."""
    return np.asarray(close_time, dtype=np.int64) / 1e6


def finite_list(values: Any) -> list[float | None]:
    """Floats for JSON: what is not finite becomes null."""
    return [finite(float(value)) for value in np.asarray(values, dtype=np.float64)]


def page(
    kind: str,
    title: str,
    sections: Sequence[Section],
    *,
    verdict: Verdict | None = None,
    data_note: str = "",
    cards: str = "",
    lead: str = "",
    chips: Sequence[str] = (),
    links: Sequence[Link] = (),
) -> str:
    """The whole document. `data_note` is the sentence about the data above everything
    (`mcl.data.data_note`), empty where there is none; `lead` is the small line above the title,
    `chips` are short facts below the verdict, `links` lead out of the page.
    """
    note_class = "synthetic" if data_note.startswith("SYNTHETIC") else "limits"
    mark = f'<div class="{note_class}" role="note">{escape(data_note)}</div>' if data_note else ""
    badge = f'<span class="badge {verdict.level}">{escape(verdict.word)}</span>' if verdict else ""
    head = f'<p class="verdict">{badge}<span>{escape(verdict.text)}</span></p>' if verdict else ""
    small = "".join(f"<li>{escape(chip)}</li>" for chip in chips)
    head += f'<ul class="chips" aria-label="Chosen">{small}</ul>' if chips else ""
    out = f'<p class="links">{"".join(link.html() for link in links)}</p>' if links else ""
    inside = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    body = "".join(_section(s) for s in sections)
    across = max(1, cards.count('<div class="card">'))
    shape = f"--across:{across};--across-narrow:{across if across < 5 else -(-across // 2)}"
    cards = (
        f'<div class="cards" style="{shape}">{cards}</div>'
        if cards
        else '<div style="height:20px"></div>'
    )
    eyebrow = " · ".join(filter(None, (f"mcl {kind}", lead)))
    foot = "Times are UTC, money is USD. This file needs no network." + (
        f" {data_note}." if data_note else ""
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon"'
        ' href="data:,">'
        f"<title>{escape(title)} · mcl"
        f" {escape(kind)}</title><style>{_asset('page.css')}</style></head><body>"
        f'<a class="skip" href="#content">To the content</a>{mark}'
        '<header class="top"><div><div'
        f' class="eyebrow">{escape(eyebrow)}</div>{out}<h1>{escape(title)}</h1>{head}'
        f'<nav aria-label="Sections">{inside}</nav></div></header><main id="content"'
        f' tabindex="-1">{cards}{body}</main>'
        f"<footer>{escape(foot)}</footer>"
        f"{_plotly(_kinds(body))}"
        f"<script>{_asset('packed.js')}{_asset('zoom.js')}{_asset('main_chart.js')}"
        f"{_asset('tables.js')}{_asset('page.js')}</script></body></html>\n"
    )


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    heading = f'<h2 id="{section.anchor}-title">{escape(section.title)}</h2>'
    html = named(section.html, section.title)
    content = f"{heading}{note}{html}"
    if section.closed:
        content = f"<details><summary>{heading}</summary>{note}{html}</details>"
    return (
        f'<section id="{section.anchor}"'
        f' aria-labelledby="{section.anchor}-title">{content}</section>'
    )


@cache
def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _kinds(body: str) -> tuple[str, ...]:
    """The kinds of chart of a page beyond those that every page can draw."""
    present = set(re.findall(r'"type":"(\w+)"', body))
    return tuple(sorted(present & plotly_bundle.EXTRA))


@cache
def _plotly(extra: tuple[str, ...]) -> str:
    """plotly.js for the charts of a page, which page.js opens: 0.5 MB in place of 4.8 MB. Packed
    once for a project: that takes longer than to write all else.
    """
    packed = _packed_plotly(extra)
    return (
        f'<script type="application/zlib" id="plotly" data-size="{len(packed)}">'
        f"{letters(packed)}</script>"
    )


def _packed_plotly(extra: tuple[str, ...]) -> bytes:
    import plotly

    name = "-".join(("plotly", plotly.__version__, *extra))
    path = files.cache_path(f"{name}.bundle.zlib")
    with suppress(OSError, ValueError, zlib.error):  # absent, or not whole
        packed = path.read_bytes() if path else b""
        if zlib.decompress(packed)[:1]:
            return packed
    from plotly.offline import get_plotlyjs

    source = plotly_bundle.bundle(get_plotlyjs(), plotly_bundle.KINDS | set(extra))
    packed = zlib.compress(source.encode(), 9)
    if path:
        with suppress(OSError):
            files.write_whole(path, packed)
    return packed
