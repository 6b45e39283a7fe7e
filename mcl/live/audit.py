"""The audit: replay the bars that a session recorded through the backtest engine and hold every decision and every fill against it.

The backtest starts flat at the session's first bar, with indicators warmed up on the same stored bars. What a session recorded is
read from its journal alone, so that a session can be audited at any later time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mcl.broker import Bar
from mcl.data.bars import Bars
from mcl.engine.backtest import Plan, plan, simulate
from mcl.engine.result import Result
from mcl.errors import LiveError
from mcl.live.journal import Entry, read
from mcl.live.stage import Stage
from mcl.live.window import Window
from mcl.promote.deploy import Deployable
from mcl.risk import Block
from mcl.strategy import Strategy

Cause = Literal["data", "timing", "price", "missed", "risk block", "unexplained"]
DIFFERENCE = ("time", "what", "live", "backtest", "cause")
DECISION = ("position", "target", "block", "stop_ticks", "take_profit_ticks")  # compared bar by bar
BAR = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Audit:
    """`result` is the backtest of the recorded bars; `differences` has the columns of DIFFERENCE and is empty when all is equal."""

    result: Result
    decisions: pd.DataFrame
    orders: pd.DataFrame
    fills: pd.DataFrame
    differences: pd.DataFrame


@dataclass(frozen=True)
class _Fill:
    bar: int  # number of the bar in which it happened
    quantity: int
    price: float

    def __str__(self) -> str:
        return f"{self.quantity:+d} at {self.price:.10g}"


def audit(journal: Path, deployed: Deployable, strategy: Strategy, stage: Stage, exact_prices: bool) -> Audit:
    """Compare the session in `journal` with the backtest of its bars. Without `exact_prices` fill prices are the market's own."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in read(journal):
        entries[entry.kind].append(entry)
    if not entries["bar"]:
        raise LiveError(f"{journal} holds no bar: the session ended before its first decision", "its last entry of kind state says why")
    bars, intent, result = replay([entry.body for entry in entries["bar"]], deployed, strategy, stage)
    decisions = _decisions(bars, entries["decision"])
    wrong = dict(_wrong_bars(bars, stage.recorded))
    live, backtest = _live_fills(entries["fill"]), _backtest_fills(result)
    theirs = expected(result, intent)
    rows = [*wrong.values(), *_decision_rows(decisions, theirs, wrong), *_fill_rows(bars, live, backtest, exact_prices)]
    rows = rows or list(_equity_rows(decisions, theirs) if exact_prices else ())
    differences = pd.DataFrame(rows, columns=list(DIFFERENCE)).sort_values("time", kind="stable", ignore_index=True)
    orders = _frame([e.body | {"ref": e.key} for e in entries["order"]], ("ref", "bar", "from", "to", "stop_ticks", "take_profit_ticks"))
    return Audit(result, decisions, orders, _fills_frame(entries["fill"]), differences)


def replay(recorded: list[dict[str, Any]], deployed: Deployable, strategy: Strategy, stage: Stage) -> tuple[Bars, Plan, Result]:
    """The backtest of the recorded bars: the same configuration, flat at the first of them. Bars and plan of the session alone."""
    config, window = deployed.config, Window(stage)
    for body in recorded:
        window.append(Bar(**body))
    whole, start = window.bars(), window.warmup_rows
    intent = plan(whole, strategy, config.risk, config.capital_usd).rows(start, len(whole))
    bars = whole.rows(start, len(whole))
    return bars, intent, simulate(bars, intent, config.risk.limits, config.costs, config.capital_usd, config.execution)


def expected(result: Result, intent: Plan) -> pd.DataFrame:
    """What the backtest decided at each bar, in the columns of DECISION, and its equity."""
    missing = np.full(len(result.bars), np.nan)
    return pd.DataFrame(
        {
            "position": result.position,
            "target": result.target,
            "block": result.block,
            "stop_ticks": intent.stop_ticks if len(intent.stop_ticks) else missing,
            "take_profit_ticks": intent.take_profit_ticks if len(intent.take_profit_ticks) else missing,
            "equity_usd": result.equity,
        }
    )


# ------------------------------------------------------------------------------------------------------- what was recorded


def _decisions(bars: Bars, entries: list[Entry]) -> pd.DataFrame:
    """One row per recorded bar; NaN where the journal has no decision for it."""
    frame = _frame([e.body | {"close_time": int(e.key or 0)} for e in entries], ("close_time", *DECISION, "equity_usd"))
    frame = frame.astype(dict.fromkeys((*DECISION, "equity_usd"), "float64")).set_index("close_time").reindex(bars.close_time)
    frame.insert(0, "close", bars.close)
    frame.insert(0, "close_time", bars.times)
    return frame.reset_index(drop=True)


def _fills_frame(entries: list[Entry]) -> pd.DataFrame:
    columns = ("execution_id", "time", "symbol", "quantity", "price", "commission_usd", "reason", "ref", "bar")
    frame = _frame([e.body for e in entries], columns)
    return frame.assign(time=pd.to_datetime(frame["time"].astype("int64"), utc=True))


def _live_fills(entries: list[Entry]) -> list[_Fill]:
    """Executions of one order in one bar are one fill at their average price."""
    parts: dict[tuple[int, str, str], list[tuple[int, float]]] = defaultdict(list)
    for entry in entries:
        body = entry.body
        parts[body["bar"], body["ref"], body["reason"]].append((body["quantity"], body["price"]))
    return [_Fill(bar, sum(q for q, _ in group), _average(group)) for (bar, _, _), group in parts.items()]


def _backtest_fills(result: Result) -> list[_Fill]:
    tick = result.bars.instrument.tick_size
    return [_Fill(int(f["bar"]), int(f["quantity"]), float(f["price_ticks"] * tick)) for f in result.fills]


# -------------------------------------------------------------------------------------------------------------- comparison


def _wrong_bars(bars: Bars, stored: Bars | None) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Recorded bars that are not the stored ones, by close time; a session on a real broker has no stored bars yet."""
    if stored is None:
        return
    live, known = (_by_time(b) for b in (bars, stored))
    for at in sorted(live.keys() | known.keys()):
        if live.get(at) != known.get(at):
            yield at, _row(at, "bar", _text(live.get(at)), _text(known.get(at)), "data")


def _decision_rows(live: pd.DataFrame, backtest: pd.DataFrame, wrong: dict[int, Any]) -> Iterator[tuple[Any, ...]]:
    ours, theirs = live[[*DECISION]].to_numpy(), backtest[[*DECISION]].to_numpy(np.float64)
    unequal = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
    for row in np.flatnonzero(unequal.any(axis=1)):
        at = live["close_time"].iloc[row].value
        names = [name for name, bad in zip(DECISION, unequal[row], strict=True) if bad]
        missing = bool(np.isnan(ours[row, 1]))
        shown = ("none" if missing else _named(names, ours[row]), _named(names, theirs[row]))
        yield _row(at, "decision", *shown, _decision_cause(names, missing, at in wrong))


def _decision_cause(names: list[str], missing: bool, wrong_bar: bool) -> Cause:
    if wrong_bar:
        return "data"
    if missing:
        return "timing"
    if "position" in names:
        return "missed"
    return "risk block" if "block" in names else "unexplained"


def _fill_rows(bars: Bars, live: list[_Fill], backtest: list[_Fill], exact_prices: bool) -> Iterator[tuple[Any, ...]]:
    """Pair fills bar by bar in their order; what is left over is late (the same quantity elsewhere), missed, or unexplained."""
    ours, theirs = _by_bar(live), _by_bar(backtest)
    late: list[_Fill] = []
    absent: list[_Fill] = []
    for bar in sorted(ours.keys() | theirs.keys()):
        mine, expected_ = ours.get(bar, []), theirs.get(bar, [])
        for a, b in zip(mine, expected_, strict=False):
            if a.quantity != b.quantity:
                yield _row(_time(bars, bar), "fill", str(a), str(b), "missed")
            elif exact_prices and abs(a.price - b.price) > 1e-9:
                yield _row(_time(bars, bar), "fill", str(a), str(b), "price")
        late += mine[len(expected_) :]
        absent += expected_[len(mine) :]
    for fill in late:
        twin = next((b for b in absent if b.quantity == fill.quantity), None)
        if twin is not None:
            absent.remove(twin)
        yield _row(_time(bars, fill.bar), "fill", str(fill), str(twin or "none"), "timing" if twin else "unexplained")
    for fill in absent:
        yield _row(_time(bars, fill.bar), "fill", "none", str(fill), "missed")


def _equity_rows(live: pd.DataFrame, backtest: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """The first bar at which the account's equity is not the backtest's bit for bit, though all decisions and fills are equal."""
    ours, theirs = live["equity_usd"].to_numpy(), backtest["equity_usd"].to_numpy()
    for row in np.flatnonzero(ours != theirs)[:1]:
        yield _row(live["close_time"].iloc[row].value, "equity", repr(float(ours[row])), repr(float(theirs[row])), "unexplained")


def _named(names: list[str], values: Iterable[float]) -> str:
    """`target 1, block 0 NONE` for the columns that differ."""
    row = dict(zip(DECISION, values, strict=True))
    return ", ".join(f"{n} {row[n]:g}" + (f" {Block(int(row[n])).name}" if n == "block" and not np.isnan(row[n]) else "") for n in names)


def _by_time(bars: Bars) -> dict[int, tuple[float, ...]]:
    columns = (getattr(bars, name).tolist() for name in BAR)
    return dict(zip(bars.close_time.tolist(), zip(*columns, strict=True), strict=True))


def _by_bar(fills: list[_Fill]) -> dict[int, list[_Fill]]:
    found: dict[int, list[_Fill]] = defaultdict(list)
    for fill in fills:
        found[fill.bar].append(fill)
    return found


def _time(bars: Bars, bar: int) -> int:
    return int(bars.close_time[min(bar, len(bars) - 1)])


def _row(at: int, what: str, live: str, backtest: str, cause: Cause) -> tuple[Any, ...]:
    return pd.Timestamp(at, tz="UTC"), what, live, backtest, cause


def _text(values: tuple[float, ...] | None) -> str:
    return "none" if values is None else json.dumps(dict(zip(BAR, values, strict=True)))


def _average(group: list[tuple[int, float]]) -> float:
    """Volume-weighted; the price itself when all parts have one price, so that it stays exact."""
    prices = {price for _, price in group}
    return prices.pop() if len(prices) == 1 else sum(q * p for q, p in group) / sum(q for q, _ in group)


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
