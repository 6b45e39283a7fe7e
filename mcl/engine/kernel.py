"""One bar after the other: the compiled loop that every backtest runs. One signature, whatever the strategy.

Within bar i, in this order:
  1. a new session resets the daily counters
  2. roll: the old contract is closed at `outgoing_open`, the new one opened at `open`, slippage and commission on both legs
  3. the target decided at the close of bar i - 1 is traded at `open`, slippage against us
  4. the protective stop or take-profit: through a gap at `open`, else at its level; if the bar touches both, the stop was first.
     The levels exist from the fill on, so the bar of the entry counts. Slippage is charged on both kinds.
  5. the position is marked at `close`
  6. `decide` says what to hold from the next open on
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.engine.account import (
    Guard,
    Holding,
    Money,
    account_at_close,
    adds_risk,
    equity_usd,
    filled,
    guard_after,
    guard_at_open,
    rolled,
)
from mcl.engine.decide import FORCED, Target, decide, sign
from mcl.engine.result import FILL_REASONS
from mcl.jit import njit
from mcl.risk import LimitsRecord

TARGET, STOP, TAKE_PROFIT, ROLL, RISK = (FILL_REASONS.index(reason) for reason in ("target", "stop", "take_profit", "roll", "risk"))
NOTHING = -1
Fills = npt.NDArray[np.void]


class Market(NamedTuple):
    """Read-only arrays of length n: prices in ticks, the rest as in `Bars`."""

    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]
    outgoing_open: npt.NDArray[np.float64]
    session: npt.NDArray[np.int64]
    to_close_sec: npt.NDArray[np.int64]
    contract: npt.NDArray[np.int64]
    roll: npt.NDArray[np.bool_]


class Wish(NamedTuple):
    """Read-only arrays: wanted of length n; protective distances of length n, or 0 for none."""

    wanted: npt.NDArray[np.float64]
    stop_ticks: npt.NDArray[np.float64]
    take_profit_ticks: npt.NDArray[np.float64]


class Track(NamedTuple):
    """Arrays of length n that the kernel fills."""

    equity: npt.NDArray[np.float64]
    position: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    block: npt.NDArray[np.int8]


@njit
def run(market: Market, wish: Wish, limits: LimitsRecord, money: Money, track: Track, fills: Fills) -> tuple[Fills, int, int]:
    """Fills `track`; returns the fills, how many contracts were bought or sold, and the first row with an unusable price (-1: none)."""
    holding = Holding(0, 0.0, 0, math.nan, math.nan, math.nan)
    guard = Guard(money.capital_usd, money.capital_usd, 0, False, False, 0)
    target = Target(0, math.nan, math.nan, 0, False, False, 0)
    equity, session, count = money.capital_usd, market.session[0], 0
    has_stop, has_take_profit = len(wish.stop_ticks) > 0, len(wish.take_profit_ticks) > 0
    for i in range(len(market.close)):
        if count + 4 > len(fills):
            fills = _longer(fills)
        if market.session[i] != session:
            session = market.session[i]
            guard = guard_at_open(guard, equity)
        if market.roll[i] and holding.position != 0:
            holding, count = _roll(market, i, holding, money.slippage_ticks, fills, count)
        if target.position != holding.position:
            quantity = target.position - holding.position
            if adds_risk(holding.position, quantity):
                guard = Guard(guard.session_start_usd, guard.peak_usd, guard.trades + 1, guard.locked, guard.halted, guard.stopped)
            reason = RISK if target.block >= FORCED else TARGET
            price = market.open[i] + sign(quantity) * money.slippage_ticks
            holding = filled(holding, quantity, price, target.stop_ticks, target.take_profit_ticks)
            count = _write(fills, count, i, market.contract[i], quantity, price, money.slippage_ticks, reason, holding.position)
        if (has_stop or has_take_profit) and holding.position != 0:
            reason, price = _touched(holding, market.open[i], market.high[i], market.low[i])
            if reason != NOTHING:
                quantity = -holding.position
                guard = Guard(guard.session_start_usd, guard.peak_usd, guard.trades, guard.locked, guard.halted, -sign(quantity))
                price += sign(quantity) * money.slippage_ticks
                holding = filled(holding, quantity, price, math.nan, math.nan)
                count = _write(fills, count, i, market.contract[i], quantity, price, money.slippage_ticks, reason, 0)
        equity = equity_usd(holding, market.close[i], money)
        if not math.isfinite(equity):
            return fills[:count], holding.sides, i
        account = account_at_close(holding, guard, equity, market.to_close_sec[i])
        stop_ticks = wish.stop_ticks[i] if has_stop else math.nan
        take_profit_ticks = wish.take_profit_ticks[i] if has_take_profit else math.nan
        target = decide(wish.wanted[i], stop_ticks, take_profit_ticks, account, limits)
        guard = guard_after(account, target)
        track.equity[i], track.position[i] = equity, holding.position
        track.target[i], track.block[i] = target.position, target.block
    return fills[:count], holding.sides, NOTHING


@njit
def _touched(holding: Holding, opening: float, high: float, low: float) -> tuple[int, float]:
    """Which protective level this bar reached, and its price before slippage; a NaN price becomes a NaN fill, which ends the run."""
    side = sign(holding.position)
    best, worst = (high, low) if side > 0 else (low, high)
    if not low <= high:
        return STOP, math.nan
    if side * (worst - holding.stop_at) <= 0:
        return STOP, opening if side * (opening - holding.stop_at) < 0 else holding.stop_at
    if side * (best - holding.take_profit_at) >= 0:
        return TAKE_PROFIT, opening if side * (opening - holding.take_profit_at) > 0 else holding.take_profit_at
    return NOTHING, math.nan


@njit
def _roll(market: Market, i: int, holding: Holding, slippage: float, fills: Fills, count: int) -> tuple[Holding, int]:
    """Move the whole position to the contract of bar i."""
    held, old, new = holding.position, market.outgoing_open[i], market.open[i]
    sold, bought = old - sign(held) * slippage, new + sign(held) * slippage
    count = _write(fills, count, i, market.contract[i - 1], -held, sold, slippage, ROLL, 0)
    count = _write(fills, count, i, market.contract[i], held, bought, slippage, ROLL, held)
    return rolled(holding, sold, bought, new - old), count


@njit
def _write(
    fills: Fills, count: int, bar: int, contract: int, quantity: int, price: float, slippage: float, reason: int, position: int
) -> int:
    fill: Any = fills[count]
    fill.bar, fill.contract, fill.quantity, fill.price_ticks = bar, contract, quantity, price
    fill.slippage_ticks, fill.reason, fill.position = slippage, reason, position
    return count + 1


@njit
def _longer(fills: Fills) -> Fills:
    longer = np.empty(2 * len(fills) + 8, fills.dtype)
    longer[: len(fills)] = fills
    return longer
