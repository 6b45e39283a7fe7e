"""Stress by construction: what a run loses when the market does, at its largest position, what no
stop and no limit can prevent.

Each scenario changes the bars from one moment on and simulates the same configuration on them. The
sizes are those of days that were: the gap of 2020-03-09, the outage of 2025-11-28 with the fall of
2025-06-23 behind it, and two sessions without a trade at a limit of 10 % each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import MclError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data.bars import COLUMNS, Bars
from mcl.data.table import PRICES
from mcl.engine.backtest import backtest as simulate
from mcl.engine.result import FILL_REASONS, Result
from mcl.report.format import reason_words

Rows = npt.NDArray[np.int64]
GAP_FRAC = 0.246  # of the price
OUTAGE_SEC, OUTAGE_FRAC = 643 * 60, 0.09
LOCKED_SESSIONS, LIMIT_FRAC = 2, 0.10
MOST_MOMENTS = 2000  # that are tried at one size of the position
LEAST_PRICE = 10.0  # a share of less is no size of a move


@dataclass(frozen=True)
class Stressed:
    """The outcome of one scenario, from the close before it to the end of the session after it.

    `at` is that close (UTC), `position` (contracts) the one held then, `price` that close.
    `move` is the change of the price against the position when trading resumes, `pnl_usd` the
    result, `usual_usd` what the run made in that time. `exit` is the first fill after the move.
    NaN and a `note` where the data cannot show it.
    """

    name: str
    at: str = ""
    position: int = 0
    price: float = np.nan
    move: float = np.nan
    pnl_usd: float = np.nan
    pnl_frac: float = np.nan  # of the capital
    usual_usd: float = np.nan
    exit: str = ""
    note: str = ""


def constructed(config: schema.Config, result: Result) -> list[Stressed]:
    """Every scenario at the run's largest position, as late in the data as there is room for the
    scenario before the next roll.
    """
    return [
        _scenario("gap through the stop", config, result, _after_gap, GAP_FRAC),
        _scenario("outage with a position", config, result, _after_outage, OUTAGE_FRAC),
        _scenario("limit-locked market", config, result, _after_lock, LOCKED_SESSIONS * LIMIT_FRAC),
    ]


Resumption = Callable[[Bars, int], int]  # the row at which trading resumes


def _after_gap(bars: Bars, row: int) -> int:
    return min(row + 1, len(bars))


def _after_outage(bars: Bars, row: int) -> int:
    until = bars.close_time[row] + OUTAGE_SEC * NS
    return int(np.searchsorted(bars.close_time, until, "right"))


def _after_lock(bars: Bars, row: int) -> int:
    """The first row of the session behind the locked ones, the rest of the own one included."""
    first = np.flatnonzero(np.diff(bars.session, prepend=bars.session[:1] - 1))
    following = np.searchsorted(first, row, "right") + LOCKED_SESSIONS - 1
    return int(first[following]) if following < len(first) else len(bars)


def _scenario(
    name: str, config: schema.Config, result: Result, resumption: Resumption, move_frac: float
) -> Stressed:
    bars = result.bars
    if resumption is _after_outage and bars.interval == "session":
        return Stressed(name, note="bars of a whole session know no outage")
    moment = _moment(result, resumption)
    if moment is None:
        return Stressed(name, note="no position with room for it before a roll")
    row, resumed, end = moment
    side = int(np.sign(result.position[row]))
    price = float(bars.instrument.price(bars.close_ticks[row]))
    size = move_frac * max(abs(price), LEAST_PRICE)
    ticks = -side * round(size / bars.instrument.tick_size)
    try:
        stressed = simulate(_own_bars(config), _changed(bars, row, resumed, end, ticks))
    except MclError as error:  # a strategy of finer bars has none of the scenario
        return Stressed(name, note=f"the strategy does not run on it: {error.message}")
    pnl = float(stressed.equity[-1] - stressed.equity[row])
    return Stressed(
        name,
        at=f"{bars.times[row]:%Y-%m-%d %H:%M}",
        position=int(result.position[row]),
        price=price,
        move=ticks * bars.instrument.tick_size,
        pnl_usd=pnl,
        pnl_frac=pnl / result.capital_usd,
        usual_usd=float(result.equity[end] - result.equity[row]),
        exit=_exit(stressed, row),
    )


def _moment(result: Result, resumption: Resumption) -> tuple[int, int, int] | None:
    """The row before the scenario, the one after it, and the last one that is simulated; all in one
    contract.
    """
    bars, size = result.bars, np.abs(result.position)
    ends = bars.session_ends
    for contracts in np.unique(size[size > 0])[::-1]:
        rows = np.flatnonzero(size == contracts)
        some = np.unique(np.linspace(0, len(rows) - 1, MOST_MOMENTS).astype(np.int64))
        for row in rows[some][::-1].tolist():
            resumed = resumption(bars, row)
            if resumed >= len(bars):
                continue
            end = int(ends[np.searchsorted(ends, resumed)])
            if bars.contract[end] == bars.contract[row]:
                return row, resumed, end
    return None


def _changed(bars: Bars, row: int, resumed: int, end: int, ticks: int) -> Bars:
    """The bars up to `end`, those between `row` and `resumed` left out, and the later prices moved
    by `ticks`.
    """
    before = bars.rows(0, end + 1)
    remaining = np.concatenate([np.arange(row + 1), np.arange(resumed, end + 1)])
    columns: dict[str, Any] = {name: getattr(before, name)[remaining] for name in COLUMNS}
    for name in PRICES:
        moved = columns[f"{name}_ticks"].copy()
        moved[row + 1 :] += np.int32(ticks)
        columns[f"{name}_ticks"] = moved
    book = before.quote_columns
    quotes = None if book is None else book.take(remaining).moved(row + 1, ticks)
    return replace(before, **columns, finer=None, quote_columns=quotes)


def _own_bars(config: schema.Config) -> schema.Config:
    """The finer bars did not see the scenario."""
    execution = config.execution.model_copy(update={"bracket": "pessimistic"})
    return config.model_copy(update={"execution": execution})


def _exit(stressed: Result, row: int) -> str:
    later = stressed.fills[stressed.fills["bar"] > row]
    if not len(later):
        return "none until the end of the session"
    first, tick = later[0], stressed.bars.instrument.tick_size
    reason = FILL_REASONS[first["reason"]]
    return f"{reason_words(reason)} at {first['price_ticks'] * tick:,.2f}"
