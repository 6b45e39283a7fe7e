"""The section of a run's page on the named days that its data cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcl.base.instants import NS
from mcl.base.words import figure
from mcl.engine.result import Result
from mcl.market.calendar import to_day
from mcl.market.named_days import NAMED_DAYS, ROOTS, NamedDay
from mcl.report.format import number
from mcl.report.theme import Cell, scroll, table
from mcl.risk.blocks import Block

NOTE = (
    "Sessions that a risk manager asks about by name, those that these data cover. The market's"
    " change is that of the active contract from close to close. Positions are those before the"
    " session, the largest inside it and the one after it, each said once. The worst moment is"
    " marked at the closes of bars. A pause is the longest time between two bars of the session."
)
PAUSE_MIN = 30.0  # shorter ones are not shown
WORDS = ("Day", "What happened", "Contract", "Rules that acted", "Pause")


@dataclass(frozen=True)
class DayRecord:
    """The course of a run through one named day.

    Prices in USD per barrel, `change` of the active contract; positions in contracts before and
    after the session, `most` the largest inside it; `pnl_usd` net and `worst_usd` (<= 0) since the
    close before; `pause_min` without a bar, `pause_position` through it.
    """

    named: NamedDay
    contract: str
    close_before: float
    change: float
    low: float
    high: float
    before: int
    most: int
    after: int
    pnl_usd: float
    worst_usd: float
    fills: int
    rules: tuple[str, ...]
    pause_min: float
    pause_position: int


def day_records(result: Result) -> list[DayRecord]:
    """One record per named day inside the data of a run on a crude oil market; none on generated
    bars, which know of no such day.
    """
    bars = result.bars
    if bars.synthetic or bars.instrument.symbol not in ROOTS:
        return []
    rows = ((named, np.flatnonzero(bars.session == to_day(named.day))) for named in NAMED_DAYS)
    return [_record(result, named, of_day) for named, of_day in rows if len(of_day) and of_day[0]]


def _record(result: Result, named: NamedDay, rows: np.ndarray) -> DayRecord:
    bars, previous, last = result.bars, int(rows[0]) - 1, int(rows[-1])
    adjusted = bars.adjusted["close"]
    pnl = result.equity[rows] - result.equity[previous]
    blocks = dict.fromkeys(result.block[rows][result.block[rows] != 0].tolist())
    pauses = np.diff(bars.close_time[rows]) / NS / 60
    longest = int(np.argmax(pauses)) if len(pauses) else 0
    position = result.position[rows]
    change = float(adjusted[last] - adjusted[previous])
    return DayRecord(
        named,
        bars.contracts[int(bars.contract[last])].symbol,
        float(bars.close[last]) - change,
        change,
        float(bars.low[rows].min()),
        float(bars.high[rows].max()),
        int(result.position[previous]),
        int(position[np.argmax(np.abs(position))]),
        int(position[-1]),
        float(pnl[-1]),
        min(0.0, float(pnl.min())),
        int(np.isin(result.fills["bar"], rows).sum()),
        tuple(Block(code).name.lower().replace("_", " ") for code in blocks),
        float(pauses[longest]) if len(pauses) else 0.0,
        int(position[longest]) if len(pauses) else 0,
    )


def named_days(result: Result) -> str:
    """The table of the section; empty where the data cover no named day."""
    records = day_records(result)
    if not records:
        return ""
    cells = [_row(record, result.capital_usd) for record in records]
    # rules and pauses only where there are some
    columns = [name for name in cells[0] if any(_text(row[name]) for row in cells)]
    rows = [[row[name] for name in columns] for row in cells]
    numeric = [i for i, (name, _) in enumerate(columns) if name not in WORDS]
    return scroll(table(columns, rows, numeric=numeric), tall=True)


def _text(cell: Cell | str) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def _row(record: DayRecord, capital_usd: float) -> dict[tuple[str, str], Cell | str]:
    """The cells of a day by the heading of their column."""
    css = "n gain" if record.pnl_usd > 0 else "n loss" if record.pnl_usd < 0 else "n"
    range_usd = "" if record.low == record.high else f"{record.low:,.2f} to {record.high:,.2f}"
    path = dict.fromkeys((record.before, record.most, record.after))
    pause = f"{record.pause_min:,.0f} min, {record.pause_position:+d}"
    event = f"{record.named.title}: {record.named.event}"
    return {
        ("Day", ""): Cell(str(record.named.day), head=True),
        ("What happened", ""): Cell(event, "wrap"),
        ("Contract", ""): record.contract,
        ("Before", "USD"): number(record.close_before, "usd"),
        ("Change", "USD"): figure(record.change, "+,.2f"),
        ("Range", "USD"): range_usd,
        ("Position", "contracts"): ", ".join(f"{contracts:+d}" for contracts in path),
        ("Net P&L", "USD"): Cell(number(record.pnl_usd, "usd"), css),
        ("Of capital", ""): number(record.pnl_usd / capital_usd, "percent"),
        ("Worst moment", "USD"): number(record.worst_usd, "usd"),
        ("Fills", ""): f"{record.fills:,}",
        ("Rules that acted", ""): ", ".join(record.rules),
        ("Pause", "position through it"): pause if record.pause_min >= PAUSE_MIN else "",
    }
