"""The page of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mcl import evidence
from mcl.engine.result import Result
from mcl.engine.why import why
from mcl.metrics.performance import Floats
from mcl.metrics.trades import closed, net
from mcl.report import charts
from mcl.report.format import GROUPS, Verdict, flatten, metric, metric_rows, number, scalar, verdict, yaml_lines
from mcl.report.theme import Cell, Section, card, chart, columns, facts, metric_cell, page, scroll, table, titled
from mcl.risk import Block

TRADES_SHOWN = 500
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CARDS = ("net_pnl_usd", "sharpe", "max_drawdown_usd", "profit_factor", "trades", "commission_usd")


@dataclass(frozen=True)
class RunView:
    """All that the page of a run shows. `metrics` are shown as given, nothing is computed again."""

    title: str
    config: Mapping[str, Any]
    overrides: Sequence[str]
    metrics: Mapping[str, float]
    result: Result
    provenance: Mapping[str, Any] = field(default_factory=dict)  # git commit and dirty flag, fingerprints, versions, seed
    run_id: str | None = None


def run_page(view: RunView) -> str:
    """One self-contained HTML document, a few hundred kilobytes beyond plotly.js for any number of bars."""
    bars = view.result.bars
    first, last = (str(np.datetime64(int(bars.session[i]), "D")) for i in (0, -1))
    lead = " · ".join(
        filter(
            None,
            (f"run {view.run_id}" if view.run_id else "", bars.instrument.symbol, bars.interval, f"{first} to {last}", _trial_count(view)),
        )
    )
    sections = [
        Section(
            "Price, equity, drawdown",
            chart("chart-strip", charts.strip(view.result), 860, "Price with fills, equity, drawdown and position"),
            _sampling(view),
        ),
        Section(
            "Metrics", _metrics(view.metrics), "Returns are per session on the fixed start capital; hover a number for all its digits."
        ),
        Section("Months", _months(view.result), "Net P&L in USD by the month of the trade date."),
        Section("Trades", _trades(view.result)),
        Section("Limits", _limits(view.result) + _why(view.result), "Bars at which a rule changed what the strategy wanted."),
        Section("Costs", _costs(view)),
        Section("Rolls", _rolls(view.result)),
        Section("Config", _config(view), "Lines set on the command line are bold."),
        Section("Assumptions", _assumptions(view)),
        Section("Provenance", _provenance(view)),
    ]
    synthetic = evidence.watermark(bars)
    cards = "".join(card(name, view.metrics, _card_note(name, view.metrics)) for name in CARDS if name in view.metrics)
    return page("backtest", view.title, sections, verdict=_judged(view), synthetic=synthetic, cards=cards, lead=lead)


def _trial_count(view: RunView) -> str:
    """How many trials of the strategy on this market the ledger held when the run was made."""
    count = view.metrics.get("trials_counted")
    return "" if count is None else f"1 of {count:,.0f} trials" if count > 1 else "the first trial"


def _card_note(name: str, metrics: Mapping[str, float]) -> str:
    beside = {
        "net_pnl_usd": ("return_frac", "of capital"),
        "max_drawdown_usd": ("max_drawdown_frac", "of the peak"),
        "profit_factor": ("win_rate_frac", "of trades win"),
        "trades": ("avg_trade_usd", "USD each on average"),
        "commission_usd": ("slippage_usd", "USD slippage"),
    }
    other, words = beside.get(name, ("", ""))
    return f"{number(metrics[other], metric(other).style)} {words}" if other in metrics else ""


def _sampling(view: RunView) -> str:
    n, spans = len(view.result.bars), charts.BUCKETS
    drawn = f"All {n:,} bars are drawn."
    if n > 2 * spans:
        drawn = f"Lines keep the lowest and highest value of each of {spans:,} spans of {n:,} bars."
    marks = "Every fill is marked; prices are those of the dated contract; dotted lines are rolls."
    return f"{drawn} {marks} Drag to zoom, double-click to reset."


def _metrics(metrics: Mapping[str, float]) -> str:
    rows = metric_rows(metrics)
    groups = [*GROUPS, "Other"]
    parts = []
    for group in groups:
        chosen = [(label, metric_cell(name, metrics)) for label, _, name in rows if metric(name).group == group]
        if chosen:
            parts.append(titled(group, table(("", ""), chosen, numeric=(1,))))
    return columns(*parts)


def _months(result: Result) -> str:
    equity = result.session_equity
    pnl = equity.diff().fillna(equity.iloc[0] - result.capital_usd)
    days = pd.DatetimeIndex(equity.index)
    by_month = pnl.groupby([days.year, days.month]).sum().unstack()
    rows: list[list[Cell | str]] = []
    for year, values in by_month.iterrows():
        total = float(values.sum())
        cells: list[Cell | str] = [_signed(values.get(month, np.nan)) for month in range(1, 13)]
        rows.append([str(year), *cells, _signed(total), number(total / result.capital_usd, "percent")])
    return scroll(table(("", *MONTHS, "Year", "of capital"), rows, css="months"))


def _signed(value: float) -> Cell:
    if pd.isna(value):
        return Cell("")
    return Cell(f"{value:,.0f}", "gain" if value > 0 else "loss" if value < 0 else "", number(float(value), "usd"))


def _trades(result: Result) -> str:
    pnl = net(closed(result))
    if not len(result.trades):
        return '<p class="empty">No trade was made.</p>'
    return _distribution(pnl) + _trade_list(result) if len(pnl) else _trade_list(result)


def _distribution(pnl: Floats) -> str:
    middle = [number(float(f(pnl)), "usd") for f in (np.mean, np.median)]
    lines = f"The solid line is the mean {middle[0]}, the dotted one the median {middle[1]}"
    said = f"{len(pnl):,} closed trades. {lines}; the end bins hold all beyond."
    figure = charts.histogram(pnl, "Net USD per closed trade")
    return f'<p class="empty">{said}</p>' + chart("chart-trades", figure, 300, "Distribution of trade results")


def _trade_list(result: Result) -> str:
    frame = result.trades_frame()
    total, still_open = len(frame), len(frame) - len(closed(result))
    if total > TRADES_SHOWN:
        frame = frame.loc[frame["net_usd"].abs().nlargest(TRADES_SHOWN).index.sort_values()]
    said = (
        f"The {TRADES_SHOWN} largest gains and losses of {total:,} trades, in time order; trades.parquet has all."
        if total > TRADES_SHOWN
        else f"All {total:,} trades."
    )
    said += " The last one is open, marked at the last close." if still_open else ""
    names = (
        "Entry",
        "Exit",
        "Contracts",
        "Entry price",
        "Exit price",
        "Gross",
        "Commission",
        "Net",
        "Worst open",
        "Best open",
        "Bars",
        "Exit by",
    )
    rows = "".join(_trade_row(trade) for trade in frame.itertuples(index=False))
    head = table(names, [], numeric=range(2, 11)).replace("<tbody></tbody>", f"<tbody>{rows}</tbody>")
    return f'<p class="empty">{escape(said)} Click one to see it in the chart.</p>{scroll(head, zooms="chart-strip")}'


def _trade_row(t: Any) -> str:
    money = [number(v, "usd") for v in (t.gross_usd, t.commission_usd, t.net_usd, t.mae_usd, t.mfe_usd)]
    texts = (
        f"{t.entry_time:%Y-%m-%d %H:%M}",
        f"{t.exit_time:%Y-%m-%d %H:%M}",
        f"{t.quantity:+d}",
        f"{t.entry_price:,.2f}",
        f"{t.exit_price:,.2f}",
        *money,
        f"{t.bars:,}",
        str(t.exit_reason),
    )
    cells = "".join(f'<td class="n">{x}</td>' if 2 <= i < 11 else f"<td>{escape(x)}</td>" for i, x in enumerate(texts))
    return f'<tr data-from="{t.entry_time.value // 10**6}" data-to="{t.exit_time.value // 10**6}">{cells}</tr>'


def _judged(view: RunView) -> Verdict:
    """The verdict on the metrics, and whether the run traded to its end."""
    said, halted = verdict(view.metrics), np.flatnonzero(view.result.block == Block.MAX_DRAWDOWN)
    if not len(halted):
        return said
    day = np.datetime64(int(view.result.bars.session[halted[0]]), "D")
    return replace(said, text=f"{said.text} Trading stopped for good on {day}: {Block.MAX_DRAWDOWN.text.partition(';')[0]}.")


def _limits(result: Result) -> str:
    codes, counts = np.unique(result.block[result.block != 0], return_counts=True)
    if not len(codes):
        return '<p class="empty">No rule changed a decision.</p>'
    first = [result.bars.times[int(np.argmax(result.block == code))] for code in codes]
    names = [(Block(code).name.lower().replace("_", " "), Block(code).text) for code in codes.tolist()]
    rows = [
        [*name, f"{count:,}", f"{count / len(result.bars):.2%}", f"{at:%Y-%m-%d %H:%M}"]
        for name, count, at in zip(names, counts, first, strict=True)
    ]
    return table(("Rule", "Meaning", "Bars", "Share", "First"), rows, numeric=(2, 3))


def _why(result: Result) -> str:
    """Where the bars went: from wish to fill. Nothing for a result without wishes."""
    if result.wanted is None:
        return ""
    steps = why(result).itertuples(index=False)
    rows = [(str(s.stage), str(s.step).lower().replace("_", " "), f"{s.count:,}", str(s.meaning)) for s in steps]
    return titled("From wish to fill", table(("", "Step", "Count", "Meaning"), rows, numeric=(2,)))


def _costs(view: RunView) -> str:
    names = ("net_pnl_usd", "gross_pnl_usd", "commission_usd", "slippage_usd")
    if not all(name in view.metrics for name in names):
        return '<p class="empty">The metrics of this run hold no costs.</p>'
    net_usd, gross, commission, slippage = (view.metrics[name] for name in names)
    steps = [
        ("Before costs", gross + slippage, "absolute"),
        ("Slippage", -slippage, "relative"),
        ("Commission", -commission, "relative"),
        ("Net", net_usd, "total"),
    ]
    traded = int(np.abs(view.result.fills["quantity"]).sum())
    per_side = (commission + slippage) / traded if traded else float("nan")
    ticks = view.result.bars.instrument.tick_value_usd
    rows = [
        ("Contracts traded, both sides", f"{traded:,}"),
        ("Cost per contract and side", f"{number(per_side, 'usd')} USD"),
        ("The same in ticks", number(per_side / ticks, "ratio")),
        ("Net P&L per contract and side", f"{number(net_usd / traded if traded else float('nan'), 'usd')} USD"),
    ]
    return columns(chart("chart-costs", charts.waterfall(steps), 280, "From the P&L before costs to the net P&L"), facts(rows), css="wide")


def _rolls(result: Result) -> str:
    rolls = result.bars.roll_table
    if not len(rolls):
        return '<p class="empty">These bars hold no roll.</p>'
    names = [str(name).replace("_", " ") for name in rolls.columns]
    numeric = [i for i, name in enumerate(rolls.columns) if pd.api.types.is_numeric_dtype(rolls[name])]
    rows = [[_plain(value) for value in row] for row in rolls.itertuples(index=False)]
    return scroll(table(names, rows, numeric=numeric))


def _plain(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return number(value, "ratio")
    return f"{value:,}" if isinstance(value, int | np.integer) else scalar(value)


def _config(view: RunView) -> str:
    set_by_hand = {text.lstrip("+~").partition("=")[0] for text in view.overrides}
    shown = [f"<b>{escape(text)}</b>" if _touched(key, set_by_hand) else escape(text) for key, text in yaml_lines(view.config)]
    said = " ".join(view.overrides) or "none"
    return f'<p class="empty">Overrides: <code>{escape(said)}</code></p><pre tabindex="0">{chr(10).join(shown)}</pre>'


def _touched(key: str, set_by_hand: set[str]) -> bool:
    return key in set_by_hand or any(key == f"{name}.name" for name in set_by_hand)


def _assumptions(view: RunView) -> str:
    costs = view.config.get("costs", {})
    slippage = number(float(costs["slippage_ticks"]), "ticks") if "slippage_ticks" in costs else "the configured slippage"
    parts = [float(costs[name]) for name in ("commission_usd", "exchange_usd", "regulatory_usd") if name in costs]
    commission = f"{sum(parts):g} USD" if parts else "the configured commission"
    capital = number(view.result.capital_usd, "usd")
    texts = (
        "A decision is taken at the close of a bar with what was known then; it trades at the open of the next bar.",
        f"Every contract and side pays {slippage} against us and {commission}, rolls and stops included.",
        "A stop that the bar opens beyond fills at that open, not at the stop; when a bar touches both levels, the stop fills first.",
        "Contracts are whole. A position is rolled at the first open of the new contract: out of the old, into the new, both legs at cost.",
        "Signals see the continuous series (forward difference adjustment); fills and P&L are those of the dated contract.",
        f"{_orders(view.config)} No interest is modelled; mcl/engine/assumptions.md has every term, each with a test.",
        f"Returns stand on the fixed capital of {capital} USD; gains are not reinvested. A year has 252 sessions.",
        "The Sharpe interval assumes independent sessions; it covers skew and fat tails, not the number of other runs tried.",
    )
    return f'<ul class="plain">{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>'


def _orders(config: Mapping[str, Any]) -> str:
    """How risk was entered, in a sentence."""
    asked = config.get("execution", {})
    entry, share, latency = (asked.get(name) for name in ("entry", "participation_frac", "latency_bars"))
    said = (
        "Every order goes to the market"
        if entry in (None, "market")
        else f"Entries are {str(entry).replace('_', '-')} orders, exits go to the market"
    )
    said += f", {latency} bars late" if latency else ""
    return f"{said} and is filled up to {share:.0%} of a bar's volume." if share else f"{said}; whatever the volume, it is filled whole."


def _provenance(view: RunView) -> str:
    bars = view.result.bars
    own = {"run id": view.run_id or "not stored", "data fingerprint": bars.fingerprint, "synthetic": scalar(bars.synthetic)}
    told = {key: value for key, value in flatten(view.provenance).items() if value not in ("", None)}
    data = {f"data.{key}": value for key, value in flatten(bars.provenance).items() if len(str(value)) <= 200}
    return scroll(facts((own | told | data).items()))
