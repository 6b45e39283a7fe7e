"""The house style: one HTML shell for every page, self-contained, light and dark, without a request to anywhere."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from mcl.metrics.undefined import reasons
from mcl.report.format import Verdict, metric, value_text

FOLDER = Path(__file__).parent
DTYPES = {"float64": "f8", "float32": "f4", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1"}

Figure = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A table cell. `css` may hold `n` (right-aligned number), gain, loss, best, wrap; `title` is its tooltip."""

    text: str
    css: str = ""
    title: str = ""
    data: tuple[tuple[str, str], ...] = ()

    def html(self) -> str:
        attributes = "".join(
            f' {name}="{escape(value)}"' for name, value in (("class", self.css), ("title", self.title), *self.data) if value
        )
        return f"<td{attributes}>{escape(self.text)}</td>"


@dataclass(frozen=True)
class Section:
    title: str
    html: str
    note: str = ""

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def metric_cell(name: str, metrics: Mapping[str, float], css: str = "n") -> Cell:
    """The metric as text; `data-value` carries the float with all its digits, the tooltip too, or why there is none."""
    exact = repr(float(metrics[name]))
    why = reasons({name: metrics[name]}).get(name, exact)
    return Cell(value_text(name, metrics), css, why, (("data-metric", name), ("data-value", exact)))


def card(name: str, metrics: Mapping[str, float], note: str = "") -> str:
    """One headline number of a run with its interval, when it has one, as the small line."""
    text, _, interval = value_text(name, metrics).partition(" [")
    note = f"95 % bootstrap interval [{interval}" if interval else note
    return fact_card(
        metric(name).label.partition(" [")[0], text, note, data=(("data-card", name), ("data-value", repr(float(metrics[name]))))
    )


def fact_card(label: str, figure: str, note: str = "", data: Iterable[tuple[str, str]] = ()) -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in data)
    return (
        f'<div class="card"><div class="label">{escape(label)}</div><div class="figure"{attributes}>{escape(figure)}</div>'
        f'<div class="note">{escape(note)}</div></div>'
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, numeric: Collection[int] = (), css: str = "") -> str:
    """An HTML table; columns whose position is in `numeric` are aligned right. No header row when no column has a name."""
    head = "".join(f'<th scope="col"{" class=n" if i in numeric else ""}>{escape(name)}</th>' for i, name in enumerate(columns))
    body = "".join(f"<tr>{_cells(row, numeric)}</tr>" for row in rows)
    head = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    return f'<table class="{escape(css)}">{head}<tbody>{body}</tbody></table>'


def _cells(row: Sequence[Cell | str], numeric: Collection[int]) -> str:
    plain: Callable[[int, str], Cell] = lambda i, text: Cell(text, "n" if i in numeric else "")  # noqa: E731
    return "".join((cell if isinstance(cell, Cell) else plain(i, cell)).html() for i, cell in enumerate(row))


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Two columns: a name and its value."""
    return table(("", ""), ((name, Cell(str(value), "wrap")) for name, value in pairs), css="facts")


def scroll(html: str, zooms: str = "", tall: bool = False) -> str:
    """A box that scrolls sideways, and downwards too unless `tall`; a click on a row of it zooms the chart `zooms`."""
    target = f' data-zooms="{escape(zooms)}"' if zooms else ""
    return f'<div class="scroll{" tall" if tall else ""}" tabindex="0"{target}>{html}</div>'


def columns(*parts: str, css: str = "columns") -> str:
    return f'<div class="{css}">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def titled(title: str, html: str) -> str:
    return f"<h3>{escape(title)}</h3>{html}"


def chart(name: str, figure: Figure, height: int, label: str) -> str:
    """A holder and its figure as JSON. Strings like "@blue" become the CSS colour of the scheme in force."""
    data = json.dumps(figure, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    holder = f'<div id="{escape(name)}" style="height:{height}px" role="img" aria-label="{escape(label)}"></div>'
    return f'<figure class="chart">{holder}<script type="application/json" data-for="{escape(name)}">{data}</script></figure>'


def packed(values: Any, dtype: str = "float64") -> dict[str, str]:
    """An array as the base64 typed array that plotly.js reads; NaN is a gap."""
    return {"dtype": DTYPES[dtype], "bdata": base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")}


def milliseconds(close_time: Any) -> Any:
    """Nanoseconds since the epoch as the float64 milliseconds of a date axis."""
    return np.asarray(close_time, dtype=np.int64) / 1e6


def finite_list(values: Any) -> list[float | None]:
    """Floats for JSON: what is not finite becomes null."""
    return [float(v) if math.isfinite(v) else None for v in np.asarray(values, dtype=np.float64)]


def page(
    kind: str,
    title: str,
    sections: Sequence[Section],
    *,
    verdict: Verdict | None = None,
    synthetic: str = "",
    cards: str = "",
    lead: str = "",
    chips: Sequence[str] = (),
) -> str:
    """The whole document. `synthetic` is the watermark sentence, empty for market data; `lead` is the small line above the title,
    `chips` are short facts below the verdict."""
    mark = f'<div class="synthetic" role="note">{escape(synthetic)}</div>' if synthetic else ""
    badge = f'<span class="badge {verdict.level}">{escape(verdict.word)}</span>' if verdict else ""
    said = f'<p class="verdict">{badge}<span>{escape(verdict.text)}</span></p>' if verdict else ""
    small = "".join(f"<li>{escape(chip)}</li>" for chip in chips)
    said += f'<ul class="chips" aria-label="Changed from the defaults">{small}</ul>' if chips else ""
    links = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    body = "".join(_section(s) for s in sections)
    across = max(1, cards.count('<div class="card">'))
    shape = f"--across:{across};--across-narrow:{across if across < 5 else -(-across // 2)}"
    cards = f'<div class="cards" style="{shape}">{cards}</div>' if cards else '<div style="height:20px"></div>'
    eyebrow = " · ".join(filter(None, (f"mcl {kind}", lead)))
    foot = "Times are UTC, money is USD. This file needs no network." + (f" {synthetic}." if synthetic else "")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} · mcl {escape(kind)}</title><style>{_asset('page.css')}</style></head><body>{mark}"
        f'<header class="top"><div><div class="eyebrow">{escape(eyebrow)}</div><h1>{escape(title)}</h1>{said}'
        f'<nav aria-label="Sections">{links}</nav></div></header><main>{cards}{body}</main><footer>{escape(foot)}</footer>'
        f'<script type="application/zlib" id="plotly">{_plotly()}</script>'
        f"<script>{_asset('packed.js')}{_asset('zoom.js')}{_asset('page.js')}</script></body></html>\n"
    )


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{note}{section.html}</section>'


@cache
def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """plotly.js as base64 of zlib, which page.js opens: 2.0 MB in place of 4.8 MB, and the page is read before its charts are drawn."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 5)).decode("ascii")
