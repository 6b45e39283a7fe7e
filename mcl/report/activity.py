"""Sections on a run's activity: profit by hour, exposure, blocked orders, costs and rolls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.instants import NS
from mcl.engine.diagnostics import why
from mcl.engine.result import FILL_REASONS, Result
from mcl.market import calendar
from mcl.metrics.trades import closed, net, win_rate
from mcl.report import charts
from mcl.report.format import number, scalar
from mcl.report.theme import Cell, chart, columns, empty, facts, headings, scroll, table, titled
from mcl.risk.blocks import Block

HOURS = (*range(18, 24), *range(17))  # of a session, New York
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")
STRESS = (0.0, 0.5, 1.0, 2.0, 3.0)  # times the slippage of the run


def _signed(value: float) -> Cell:
    if pd.isna(value):
        return Cell("")
    return Cell(
        number(float(value), "count"),
        "gain" if value > 0 else "loss" if value < 0 else "",
        number(float(value), "usd"),
    )


def hours(result: Result) -> str:
    """Net USD by weekday of the trade date and hour of the bar, and the trades that began in each
    hour.
    """
    bars = result.bars
    if bars.interval == "session":
        return empty(
            "Bars of a whole session have no hours.", "Choose a shorter data.interval to see them."
        )
    # a bar that closes at 08:00 lies before 08:00
    hour = calendar.new_york_ns(bars.close_time - 1) // (3600 * NS) % 24
    weekday = (bars.session + 3) % 7  # 1970-01-01 was a Thursday
    change = np.diff(result.equity, prepend=result.capital_usd)
    cell = weekday * 24 + hour
    sums = np.bincount(cell, change, 7 * 24).reshape(7, 24)
    traded = np.bincount(cell, minlength=7 * 24).reshape(7, 24) > 0
    rows: list[list[Cell | str]] = [
        [
            Cell(name, head=True),
            *(_signed(sums[day, h] if traded[day, h] else math.nan) for h in HOURS),
            _signed(float(sums[day].sum()) if traded[day].any() else math.nan),
        ]
        for day, name in enumerate(WEEKDAYS)
    ]
    every = [_signed(float(sums[:, h].sum()) if traded[:, h].any() else math.nan) for h in HOURS]
    rows.append([Cell("All", head=True), *every, _signed(float(sums.sum()))])
    done = closed(result)
    began, pnl = hour[done["entry_bar"]], net(done)
    counts = [int((began == h).sum()) for h in HOURS]
    rows.append(
        [Cell("Trades", head=True), *(f"{n:,}" if n else "" for n in counts), f"{len(pnl):,}"]
    )
    won = [
        f"{win_rate(pnl[began == h]):.0%}" if n else "" for h, n in zip(HOURS, counts, strict=True)
    ]
    rows.append([Cell("Won", head=True), *won, f"{win_rate(pnl):.0%}" if len(pnl) else ""])
    return scroll(
        table(("", *(f"{h:02d}" for h in HOURS), "Day"), rows, css="months hours held"), tall=True
    )


def exposure(result: Result) -> str:
    position, bars = result.position, result.bars
    contracts = np.abs(position)
    notional = (
        contracts * np.abs(bars.close) * bars.instrument.tick_value_usd / bars.instrument.tick_size
    )
    sides = [("Long", position > 0), ("Short", position < 0), ("Flat", position == 0)]
    rows = [_side(name, of, contracts) for name, of in sides]
    lines = [
        ("Mean contracts held", number(float(contracts.mean()), "ratio")),
        ("Most contracts held", f"{int(contracts.max(initial=0)):,}"),
        (
            "Mean notional",
            (
                f"{number(float(notional.mean()), 'usd')} USD,"
                f" {notional.mean() / result.capital_usd:.2f} times the capital"
            ),
        ),
        (
            "Largest notional",
            (
                f"{number(float(notional.max()), 'usd')} USD,"
                f" {notional.max() / result.capital_usd:.2f} times the capital"
            ),
        ),
    ]
    sided = scroll(
        table(("Side", "Bars", "Mean contracts", "Most"), rows, numeric=(1, 2, 3)), tall=True
    )
    return columns(sided, facts(lines), css="wide")


def _side(name: str, of: Any, contracts: Any) -> list[str]:
    mean, most = (float(contracts[of].mean()), int(contracts[of].max())) if of.any() else (0.0, 0)
    return [name, number(float(of.mean()), "percent"), number(mean, "ratio"), f"{most:,}"]


def limits(result: Result) -> str:
    codes, counts = np.unique(result.block[result.block != 0], return_counts=True)
    if not len(codes):
        return empty("No rule changed a decision.", "Limits are set with risk.limits.")
    first = [result.bars.times[int(np.argmax(result.block == code))] for code in codes]
    names = [
        (Block(code).name.lower().replace("_", " "), Block(code).text) for code in codes.tolist()
    ]
    rows: list[list[Cell | str]] = [
        [
            rule,
            Cell(meaning, "wrap"),
            f"{count:,}",
            number(count / len(result.bars), "percent"),
            f"{at:%Y-%m-%d %H:%M}",
        ]
        for (rule, meaning), count, at in zip(names, counts.tolist(), first, strict=True)
    ]
    return scroll(
        table(("Rule", "Meaning", "Bars", "Of all bars", "First (UTC)"), rows, numeric=(2, 3)),
        tall=True,
    )


def waterfall(result: Result) -> str:
    """Count the bars from wish to fill. Nothing for a result without wishes."""
    if result.wanted is None:
        return ""
    total = len(result.bars)
    rows: list[list[Cell | str]] = []
    for s in why(result).rename(columns={"count": "number"}).itertuples(index=False):
        count = int(str(s.number))
        of_bars = s.stage in ("bars", "no signal", "blocked", "signal")
        share = number(count / total, "percent") if of_bars else ""
        width = 100 * count / total if of_bars else 0.0
        bar = Cell("", "bar", share, (("style", f"--part:{width:.3f}%"),)) if of_bars else Cell("")
        rows.append(
            [
                str(s.stage),
                str(s.step).lower().replace("_", " "),
                f"{count:,}",
                share,
                bar,
                Cell(str(s.meaning), "wrap"),
            ]
        )
    head = ("Stage", "Step", "Count", "Of all bars", "", "Meaning")
    return titled(
        "From wish to fill: why no trade",
        scroll(table(head, rows, numeric=(2, 3), css="funnel"), tall=True),
    )


def costs(result: Result, metrics: Mapping[str, float]) -> str:
    names = ("net_pnl_usd", "gross_pnl_usd", "commission_usd", "slippage_usd")
    if not all(name in metrics for name in names):
        return empty("The metrics of this run hold no costs.", "Run it again to have them.")
    net_usd, gross, commission, slippage = (metrics[name] for name in names)
    steps = [
        ("Before costs", gross + slippage, "absolute"),
        ("Slippage", -slippage, "relative"),
        ("Commission", -commission, "relative"),
        ("Net", net_usd, "total"),
    ]
    traded = int(np.abs(result.fills["quantity"]).sum())
    ticks = result.bars.instrument.tick_value_usd

    def each(usd: float) -> float:
        return usd / traded if traded else math.nan

    rows = [
        ("Contracts traded, both sides", f"{traded:,}"),
        ("Cost per contract and side", f"{number(each(commission + slippage), 'usd')} USD"),
        ("The same in ticks", number(each(commission + slippage) / ticks, "ratio")),
        ("Net P&L per contract and side", f"{number(each(net_usd), 'usd')} USD"),
        (
            "Break-even slippage",
            f"{number(each(net_usd + slippage) / ticks, 'ratio')} ticks",
        ),
    ]
    stressed: list[list[Cell | str]] = [
        [f"× {factor:g}", _signed(gross + slippage - commission - factor * slippage)]
        for factor in STRESS
    ]
    html = facts(rows) + titled(
        "Net USD with the same fills at other slippage",
        table(("Slippage", "Net USD"), stressed, css="months"),
    )
    return columns(
        chart(
            "chart-costs", charts.waterfall(steps), 280, "From the P&L before costs to the net P&L"
        ),
        html,
        css="wide",
    )


def rolls(result: Result) -> str:
    """The roll table, with what the run paid for each."""
    roll_table = result.bars.roll_table
    if not len(roll_table):
        return empty("These bars hold no roll.", "Choose an earlier data.start to see some.")
    fills = result.fills[result.fills["reason"] == FILL_REASONS.index("roll")]
    days = result.bars.session[fills["bar"]]
    sessions = roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    contracts = [int(np.abs(fills["quantity"][days == day]).sum()) // 2 for day in sessions]
    slip = (
        np.abs(fills["quantity"]) * fills["slippage_ticks"] * result.bars.instrument.tick_value_usd
    )
    paid = [float(slip[days == day].sum()) for day in sessions]
    columns = roll_table.rename(columns={"gap": "price_gap"}).assign(
        contracts_rolled=contracts, slippage_usd=paid
    )
    names, numeric = headings(columns)
    rows = [[_plain(value) for value in row] for row in columns.itertuples(index=False)]
    return scroll(table(names, rows, numeric=numeric))


def _plain(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return number(value, "ratio")
    return f"{value:,}" if isinstance(value, int | np.integer) else scalar(value)
