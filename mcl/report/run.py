"""The page of one run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np

from mcl.base.differences import differences, flatten
from mcl.base.words import many
from mcl.data.data_note import data_note
from mcl.engine.result import Result
from mcl.report.activity import costs, exposure, hours, limits, rolls, waterfall
from mcl.report.format import (
    GROUPS,
    Verdict,
    metric,
    metric_rows,
    number,
    scalar,
    verdict,
    yaml_lines,
)
from mcl.report.header_chips import chips
from mcl.report.main_chart import BUCKETS, CANDLES, NAME, controls, strip
from mcl.report.named_days import NOTE as NAMED_DAYS_NOTE
from mcl.report.named_days import named_days
from mcl.report.overlay import Overlay
from mcl.report.tear_sheet import tear_sheet
from mcl.report.theme import (
    Cell,
    Link,
    Section,
    card,
    chart,
    columns,
    empty,
    facts,
    metric_cell,
    page,
    scroll,
    table,
    titled,
)
from mcl.report.trades import trades
from mcl.report.zoom_data import drawn_rows
from mcl.risk import sizes
from mcl.risk.blocks import Block

CARDS = ("net_pnl_usd", "sharpe", "dsr", "max_drawdown_usd", "trades", "commission_usd")
NOT_COMPARED = ("broker", "study", "notes")  # they decide no result


@dataclass(frozen=True)
class RunView:
    """All that the page of a run shows. `metrics` are shown as given, nothing is computed again."""

    title: str
    config: Mapping[str, Any]
    overrides: Sequence[str]
    metrics: Mapping[str, float]
    result: Result
    # git commit and dirty flag, fingerprints, versions, seed
    provenance: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    defaults: Mapping[str, Any] | None = None  # the configuration without any override
    overlays: Sequence[Overlay] = ()
    # 95 %, of metrics that have no bounds of their own
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    links: Sequence[Link] = ()
    luck: str = ""  # how and when `dsr` was deflated
    benchmark: Result | None = None  # buy-and-hold of the same bars
    kind: str = "backtest"
    first: Sequence[Section] = ()  # of a page that shows more than the run: before all others
    first_cards: str = ""
    data_note: str = ""  # of data of which `result` has a part
    search: Mapping[str, Any] | None = None  # that chose the values of the keys `searched`
    searched: Sequence[str] = ()

    @property
    def changed(self) -> list[tuple[str, Any, Any]]:
        """(dotted key, default, value) of everything that decides a result and is not as the
        project's defaults have it.
        """
        if self.defaults is None:
            return []
        rows = differences(flatten(self.defaults), flatten(self.config))
        return [
            (key, default, value)
            for key, (default, value) in rows.items()
            if key.split(".")[0] not in NOT_COMPARED
        ]


def run_page(view: RunView) -> str:
    """One self-contained HTML document, a few hundred kilobytes beyond plotly.js for any number of
    bars.
    """
    bars = view.result.bars
    first, last = (str(np.datetime64(int(bars.session[i]), "D")) for i in (0, -1))
    lead = " · ".join(
        filter(
            None,
            (
                f"run {view.run_id}" if view.run_id else "",
                bars.instrument.symbol,
                bars.interval,
                f"{first} to {last}",
                _trial_count(view),
            ),
        )
    )
    days = named_days(view.result)
    label = "Price with indicators, fills and stops, equity, drawdown and position"
    main = [
        Section(
            "Price, equity, drawdown",
            controls(view.result, view.overlays)
            + chart(NAME, strip(view.result, view.overlays), _height(view), label),
            _sampling(view),
        ),
        Section("Metrics", _metrics(view.metrics), _metrics_note(view)),
    ]
    more = [
        *tear_sheet(view.result, view.benchmark),
        Section(
            "Hours",
            hours(view.result),
            "Net P&L in USD by the day of the session and the hour in New York, marked at every"
            " bar.",
        ),
        *([Section("Named days", days, NAMED_DAYS_NOTE)] if days else []),
        Section("Trades", trades(view.result)),
        Section("Exposure", exposure(view.result), "At the close of each bar."),
        Section(
            "Limits",
            limits(view.result) + waterfall(view.result),
            "Bars at which a rule changed what the strategy wanted.",
        ),
        Section("Costs", costs(view.result, view.metrics)),
        Section("Rolls", rolls(view.result)),
        Section("Config", _config(view), _config_note(view)),
        Section("Assumptions", _assumptions(view)),
        Section("Provenance", _provenance(view)),
    ]
    # below sections of its own the rest is there for who asks
    more = [replace(section, closed=bool(view.first)) for section in more]
    sections = [*view.first, *main, *more]
    cards = view.first_cards + "".join(
        card(name, view.metrics, _card_note(name, view)) for name in CARDS if name in view.metrics
    )
    return page(
        view.kind,
        view.title,
        sections,
        verdict=_judged(view),
        data_note=view.data_note or data_note(bars),
        cards=cards,
        lead=lead,
        chips=chips(view.config, search=view.search, searched=view.searched),
        links=view.links,
    )


def _height(view: RunView) -> int:
    return 860 if all(o.on_price for o in view.overlays) else 980


def _metrics_note(view: RunView) -> str:
    sentence = (
        "Returns are per session on the fixed start capital; hover a number for all its digits."
    )
    return f"{sentence} The Sharpe is {view.luck}." if view.luck else sentence


def _trial_count(view: RunView) -> str:
    """Say how many trials of the strategy on this market the ledger had when the page was made."""
    count = view.metrics.get("trials_counted")
    return "" if count is None else f"1 of {count:,.0f} trials" if count > 1 else "the first trial"


def _card_note(name: str, view: RunView) -> str:
    if name in view.intervals:
        low, high = (number(v, metric(name).style) for v in view.intervals[name])
        return f"95 % bootstrap [{low}, {high}]"
    metrics = view.metrics
    if name == "dsr" and "trials_counted" in metrics:
        count = metrics["trials_counted"]
        chance = (
            f"best by luck {number(metrics['best_by_luck'], 'ratio')}, "
            if "best_by_luck" in metrics
            else ""
        )
        return f"{chance}{many(count, 'trial')}"
    notes = {
        "net_pnl_usd": ("return_frac", "of capital"),
        "max_drawdown_usd": ("max_drawdown_frac", "of the peak"),
        "trades": ("win_rate_frac", "of them win"),
        "commission_usd": ("slippage_usd", "USD slippage"),
    }
    other, words = notes.get(name, ("", ""))
    finite = math.isfinite(metrics.get(other, math.nan))
    return f"{number(metrics[other], metric(other).style)} {words}" if finite else ""


def _sampling(view: RunView) -> str:
    n, (rows, interval) = len(view.result.bars), drawn_rows(view.result.bars)
    zoomed = "every bar" if len(rows) == n else f"{len(rows):,} bars of {interval} made of them"
    sentence = f"All {n:,} bars are drawn." if n != 1 else "The only bar is drawn."
    if n > 2 * BUCKETS:
        sentence = (
            f"Lines keep the lowest and highest value of each of {BUCKETS:,} spans of {n:,} bars;"
            f" zoomed in, {zoomed}."
        )
    marks = (
        "Every fill is marked; prices are those of the dated contract. Fewer than"
        f" {CANDLES} bars are drawn as candles with their volume."
    )
    ribbon = "The ribbon is darker in the third of the sessions in which the market moved most."
    levels = (
        " Stops and take-profits appear as lines in a zoomed window."
        if any(o.protective for o in view.overlays)
        else ""
    )
    return f"{sentence} {marks}{levels} {ribbon} Drag to zoom, double-click to reset."


def _metrics(metrics: Mapping[str, float]) -> str:
    rows = metric_rows(metrics)
    groups = [*GROUPS, "Other"]
    parts = []
    for group in groups:
        chosen = [
            (Cell(label, head=True), metric_cell(name, metrics))
            for label, _, name in rows
            if metric(name).group == group
        ]
        if chosen:
            parts.append(titled(group, table(("", ""), chosen, numeric=(1,))))
    return columns(*parts)


def _judged(view: RunView) -> Verdict:
    """The verdict on the metrics, and whether the run traded to its end."""
    judgement, halted = (
        verdict(view.metrics),
        np.flatnonzero(view.result.block == Block.MAX_DRAWDOWN),
    )
    if not len(halted):
        return judgement
    day = np.datetime64(int(view.result.bars.session[halted[0]]), "D")
    return replace(
        judgement,
        text=(
            f"{judgement.text} Trading stopped for good on {day}:"
            f" {Block.MAX_DRAWDOWN.text.partition(';')[0]}."
        ),
    )


def _config(view: RunView) -> str:
    set_by_hand = {text.lstrip("+~").partition("=")[0] for text in view.overrides}
    lines = [
        f"<b>{escape(text)}</b>" if _touched(key, set_by_hand) else escape(text)
        for key, text in yaml_lines(view.config)
    ]
    overrides = " ".join(view.overrides) or "none"
    whole = (
        f'<p class="empty">Overrides: <code>{escape(overrides)}</code></p><pre'
        f' tabindex="0">{chr(10).join(lines)}</pre>'
    )
    if view.defaults is None:
        return whole
    rows: list[list[Cell | str]] = [
        [key, *(Cell("—" if v is None else scalar(v), "wrap") for v in (default, value))]
        for key, default, value in view.changed
    ]
    diff = (
        table(("Key", "Default", "This run"), rows)
        if rows
        else empty(
            "Nothing differs from the defaults.",
            "Words such as risk=vol_target on the command line change them.",
        )
    )
    return (
        titled("Differences from the defaults", diff)
        + f"<details><summary>The whole configuration</summary>{whole}</details>"
    )


def _config_note(view: RunView) -> str:
    return (
        "Lines set on the command line are bold."
        if view.defaults is None
        else "The defaults are those of the project's conf folder at the time of the run."
    )


def _touched(key: str, set_by_hand: set[str]) -> bool:
    return key in set_by_hand or any(key == f"{name}.name" for name in set_by_hand)


def _assumptions(view: RunView) -> str:
    costs = view.config.get("costs", {})
    slippage = (
        number(float(costs["slippage_ticks"]), "ticks")
        if "slippage_ticks" in costs
        else "the configured slippage"
    )
    parts = [
        float(costs[name])
        for name in ("commission_usd", "exchange_usd", "regulatory_usd")
        if name in costs
    ]
    commission = f"{sum(parts):g} USD" if parts else "the configured commission"
    capital = number(view.result.capital_usd, "usd")
    texts = (
        (
            "A decision is taken at the close of a bar with what was known then; it trades at the"
            " open of the next bar."
        ),
        (
            f"Every contract and side pays {slippage} against us and {commission}, rolls and stops"
            " included."
        ),
        (
            "A stop that the bar opens beyond fills at that open, not at the stop; when a bar"
            " touches both levels, the stop fills first."
        ),
        (
            "Contracts are whole. A position is rolled at the first open of the new contract: out"
            " of the old, into the new, both legs at cost."
        ),
        (
            "Signals see the continuous series (forward difference adjustment); fills and P&L are"
            " those of the dated contract."
        ),
        (
            f"{_orders(view.config)} No interest is modelled; mcl/engine/assumptions.md has every"
            " term, each with a test."
        ),
        (
            f"Returns are on the fixed capital of {capital} USD; gains are not reinvested. A year"
            " has 252 sessions."
        ),
        _size(view.config),
        (
            "The Sharpe interval resamples blocks of sessions (stationary bootstrap, BCa). It"
            " covers skew, fat tails and short dependence, not the number of other runs tried."
        ),
    )
    return f'<ul class="plain">{"".join(f"<li>{escape(text)}</li>" for text in texts if text)}</ul>'


def _size(config: Mapping[str, Any]) -> str:
    """Say in a sentence how many contracts a signal is; nothing for a page without a whole
    configuration.
    """
    size = config.get("risk", {}).get("size", {})
    method = sizes.BY_NAME.get(size.get("method", ""))
    return method.sentence(method.model.model_validate(size)) if method is not None else ""


def _orders(config: Mapping[str, Any]) -> str:
    """Say in a sentence how orders enter and leave the market."""
    execution = config.get("execution", {})
    entry, share, latency = (
        execution.get(name) for name in ("entry", "participation_frac", "latency_bars")
    )
    sentence = (
        "Every order goes to the market"
        if entry in (None, "market")
        else f"Entries are {str(entry).replace('_', '-')} orders, exits go to the market"
    )
    sentence += f", {latency} bars late" if latency else ""
    return (
        f"{sentence} and is filled up to {share:.0%} of a bar's volume."
        if share
        else f"{sentence}; whatever the volume, it is filled whole."
    )


def _provenance(view: RunView) -> str:
    bars = view.result.bars
    entries = {
        key: value for key, value in flatten(view.provenance).items() if value not in ("", None)
    }
    own = {
        "run_id": view.run_id or "not stored",
        "data_fingerprint": bars.fingerprint,
        "synthetic": scalar(bars.synthetic),
    }
    called = Counter(dict(bars.provenance.get("conditions") or {}).values())
    short = dict(bars.provenance) | {"conditions": dict(called)}  # of days: a vendor names many
    data = {
        f"data.{key}": scalar(value)
        for key, value in flatten(short).items()
        if value is not None and len(str(value)) <= 200
    }
    return scroll(facts((own | entries | data).items()))
