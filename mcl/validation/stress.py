"""The same run under worse conditions, and where its result came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcl import composition
from mcl.base import progress
from mcl.base.errors import MclError
from mcl.base.words import many
from mcl.data.loader import load
from mcl.engine.backtest import backtest as simulate
from mcl.engine.result import Result
from mcl.metrics import performance as perf
from mcl.metrics.multiple import random_entry
from mcl.metrics.performance import Floats
from mcl.metrics.regime import THIRDS, market_volatility, terciles
from mcl.metrics.summary import summary
from mcl.validation.subject import Subject

APRIL_2020 = (date(2020, 4, 1), date(2020, 5, 1))
# New York hours
PARTS = (
    ("Asia 18-03", 18, 3),
    ("Europe 03-08", 3, 8),
    ("US morning 08-12", 8, 12),
    ("US afternoon 12-17", 12, 17),
)
ROLLS: tuple[dict[str, Any], ...] = (
    {"rule": "volume"},
    {"rule": "open_interest"},
    {"rule": "calendar", "sessions_before_last_trade": 2},
    {"rule": "calendar", "sessions_before_last_trade": 5},
    {"rule": "calendar", "sessions_before_last_trade": 8},
)


@dataclass(frozen=True)
class Case:
    """One changed condition. NaN and a `note` where it could not be simulated."""

    name: str
    sharpe: float
    net_pnl_usd: float
    trades: float
    note: str = ""


def costs(subject: Subject, factors: tuple[float, ...], tick: Callable[[], None]) -> list[Case]:
    """Every cost, slippage and commissions alike, times each factor."""
    cases = []
    for factor in factors:
        scaled = {key: _times(value, factor) for key, value in subject.raw["costs"].items()}
        cases.append(_case(f"costs × {factor:g}", lambda c=scaled: _again(subject, {"costs": c})))  # type: ignore[misc]
        tick()
    return cases


def break_even_ticks(result: Result) -> float:
    """The slippage per contract and side at which nothing is left, all else equal; NaN when nothing
    was traded.

    Exact as long as the fills stay the same, which fails only where a loss limit or a drawdown halt
    depends on the costs.
    """
    quantity = np.abs(result.fills["quantity"])
    sides = float(quantity.sum())
    if not sides:
        return math.nan
    paid = float((quantity * result.fills["slippage_ticks"]).sum()) / sides
    return paid + result.net_pnl_usd / (sides * result.bars.instrument.tick_value_usd)


def delays(subject: Subject, bars: tuple[int, ...], tick: Callable[[], None]) -> list[Case]:
    """Orders that reach the market some opens later than decided."""
    own = int(subject.raw.get("execution", {}).get("latency_bars", 0))
    cases = []
    for late in bars:
        changed = {"execution": subject.raw.get("execution", {}) | {"latency_bars": own + late}}
        cases.append(_case(f"{many(late, 'bar')} late", partial(_again, subject, changed)))
        tick()
    return cases


def rolls(subject: Subject, root: Path) -> list[Case]:
    """The same strategy on the same data rolled by other rules. A source without that information
    is skipped with its reason.
    """
    own = subject.raw["data"]["roll"]
    cases = []
    for change in progress.each("roll rules", ROLLS):
        rule = own | change
        if rule == own:
            continue
        days = (
            f" {rule['sessions_before_last_trade']} sessions before"
            if rule["rule"] == "calendar"
            else ""
        )
        cases.append(_case(f"{rule['rule']}{days}", lambda r=rule: _rolled(subject, r, root)))  # type: ignore[misc]
    return cases


@dataclass(frozen=True)
class Regime:
    kind: str  # year, volatility, session part, stress
    name: str
    sessions: int
    net_pnl_usd: float
    sharpe: float
    share: float  # of the whole net P&L; NaN when that is not positive


def regimes(result: Result) -> list[Regime]:
    """P&L by year, by tercile of the market's own volatility, by part of the session, and in April
    2020 where the data reach it.
    """
    days = pd.DatetimeIndex(result.session_returns.index)
    pnl = result.session_returns.to_numpy() * result.capital_usd
    parts = [
        _regime("year", str(year), pnl[days.year == year], result)
        for year in sorted(set(days.year))
    ]
    third = terciles(market_volatility(result.bars))
    parts += [_regime("volatility", name, pnl[third == k], result) for k, name in enumerate(THIRDS)]
    parts += [
        _regime("session part", name, values, result) for name, values in by_part(result).items()
    ]
    april = (days >= pd.Timestamp(APRIL_2020[0])) & (days < pd.Timestamp(APRIL_2020[1]))
    if april.any():
        parts.append(_regime("stress", "April 2020", pnl[april], result))
    return parts


def concentration(regimes: list[Regime], kind: str) -> tuple[float, str]:
    """The largest share of the profit that one regime of a kind has, and its name."""
    shares = [(r.share, r.name) for r in regimes if r.kind == kind and math.isfinite(r.share)]
    return max(shares, default=(math.nan, ""))


def by_part(result: Result) -> dict[str, Floats]:
    """P&L per session, USD, earned in each part of the day (New York hours of the close of a bar);
    none for bars of a whole session.
    """
    bars = result.bars
    if bars.interval == "session":
        return {}
    change = np.diff(result.equity, prepend=result.capital_usd)
    hour = bars.times.tz_convert("America/New_York").hour.to_numpy()
    # a bar that closes at 08:00 lies before 08:00
    hour = np.where(bars.times.minute == 0, (hour - 1) % 24, hour)
    starts = np.append(0, np.flatnonzero(np.diff(bars.session)) + 1)
    inside = {
        name: (hour >= a) & (hour < b) if a < b else (hour >= a) | (hour < b)
        for name, a, b in PARTS
    }
    return {
        name: np.add.reduceat(np.where(mask, change, 0.0), starts) for name, mask in inside.items()
    }


def timing(result: Result) -> float:
    """p-value of `metrics.multiple.random_entry` for this run.

    A position is held from the open of its bar, where it is filled, to the open of the next one;
    the last bar ends at its close. What a protective order closes inside a bar counts as closed at
    the open of that bar.
    """
    prices, instrument = result.bars.adjusted, result.bars.instrument
    change = np.diff(prices["open"], append=prices["close"][-1:])
    per_contract = change / instrument.tick_size * instrument.tick_value_usd
    return random_entry(result.position.astype(np.float64), per_contract)


def _regime(kind: str, name: str, pnl: Floats, result: Result) -> Regime:
    total = result.net_pnl_usd
    share = float(pnl.sum()) / total if total > 0 else math.nan
    return Regime(
        kind, name, len(pnl), float(pnl.sum()), perf.sharpe(pnl / result.capital_usd), share
    )


def _case(name: str, run: Callable[[], Result]) -> Case:
    try:
        result = run()
    except MclError as error:
        return Case(name, math.nan, math.nan, math.nan, error.message)
    measured = summary(result)
    return Case(name, measured["sharpe"], measured["net_pnl_usd"], measured["trades"])


def _again(subject: Subject, changes: dict[str, Any]) -> Result:
    return simulate(composition.run_config(subject.raw | changes), subject.bars)


def _rolled(subject: Subject, rule: dict[str, Any], root: Path) -> Result:
    run = composition.run_config(subject.raw | {"data": subject.raw["data"] | {"roll": rule}})
    return simulate(run, load(run.data, root))


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_times(v, factor) for v in value]
    return (
        value * factor if isinstance(value, int | float) and not isinstance(value, bool) else value
    )
