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
    equity_usd,
    filled,
    guard_after,
    guard_after_fill,
    guard_after_stop,
    guard_at_open,
    rolled,
)
from mcl.engine.decide import FORCED, Target, decide, sign
from mcl.engine.result import FILL, FILL_REASONS
from mcl.jit import inline, njit
from mcl.risk import LimitsRecord

TARGET, STOP, TAKE_PROFIT, ROLL, RISK = (FILL_REASONS.index(reason) for reason in ("target", "stop", "take_profit", "roll", "risk"))
NOTHING = -1
FILLS_PER_BAR = 4  # two legs of a roll, the target, a protective exit
STRIDE = 4096  # bars between two looks at the room for fills
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


class State(NamedTuple):
    """Between two bars."""

    holding: Holding
    guard: Guard
    target: Target
    equity: float
    session: int
    fills: int  # how many were written


@njit
def run(market: Market, wish: Wish, limits: LimitsRecord, money: Money, track: Track) -> tuple[Fills, int]:
    """Fills `track`; returns the fills and how many contracts were bought or sold. Prices are finite: the caller has looked."""
    n = len(market.close)
    fills = np.empty(FILLS_PER_BAR * min(n, STRIDE) + n // 16, FILL)
    state = State(
        Holding(0, 0.0, 0, math.nan, math.nan, math.nan),
        Guard(money.capital_usd, money.capital_usd, 0, False, False, 0),
        Target(0, math.nan, math.nan, 0, False, False, 0),
        money.capital_usd,
        market.session[0],
        0,
    )
    for start in range(0, n, STRIDE):
        stop = min(start + STRIDE, n)
        if state.fills + FILLS_PER_BAR * (stop - start) > len(fills):
            fills = _longer(fills)
        state = _advance(market, wish, limits, money, track, fills, state, start, stop)
    return fills[: state.fills].copy(), state.holding.sides


@njit
def _advance(
    market: Market, wish: Wish, limits: LimitsRecord, money: Money, track: Track, fills: Fills, state: State, start: int, stop: int
) -> State:
    """The bars [start, stop). There is room in `fills`.

    Three things cost a factor and are as they are for that reason: an array that may be replaced inside the loop; a signed index,
    tested for negative values at each access; and a comparison of target and position in place of `order`, which lets the compiler
    put the one for the other and so chain each bar to the arithmetic of the bar before.
    """
    holding, guard, target, equity, session, count = state
    protected = len(wish.stop_ticks) > 0 or len(wish.take_profit_ticks) > 0
    order = target.position - holding.position
    for i in range(np.uint64(start), np.uint64(stop)):
        if market.session[i] != session:
            session = market.session[i]
            guard = guard_at_open(guard, equity)
        if market.roll[i] and holding.position != 0:
            holding, count = _roll(market, i, holding, money.slippage_ticks, fills, count)
        if order != 0:
            guard = guard_after_fill(guard, holding.position, order)
            holding, count = _trade(market, i, holding, order, target, money.slippage_ticks, fills, count)
        if protected and holding.position != 0:
            reason, price = _touched(holding, market.open[i], market.high[i], market.low[i])
            if reason != NOTHING:
                guard = guard_after_stop(guard, holding.position)
                holding, count = _exit(market, i, holding, price, reason, money.slippage_ticks, fills, count)
        equity = equity_usd(holding, market.close[i], money)
        account = account_at_close(holding, guard, equity, market.to_close_sec[i])
        target = decide(wish.wanted[i], _at(wish.stop_ticks, i), _at(wish.take_profit_ticks, i), account, limits)
        guard = guard_after(account, target)
        order = target.position - holding.position
        track.equity[i], track.position[i] = equity, holding.position
        track.target[i], track.block[i] = target.position, target.block
    return State(holding, guard, target, equity, session, count)


@inline
def _at(distances: npt.NDArray[np.float64], i: int) -> float:
    return distances[i] if len(distances) > 0 else math.nan


@inline
def _trade(
    market: Market, i: int, holding: Holding, quantity: int, target: Target, slippage: float, fills: Fills, count: int
) -> tuple[Holding, int]:
    """Trade toward the target at the open of bar i."""
    reason = RISK if target.block >= FORCED else TARGET
    price = market.open[i] + sign(quantity) * slippage
    after = filled(holding, quantity, price, target.stop_ticks, target.take_profit_ticks)
    return after, _write(fills, count, i, market.contract[i], quantity, price, slippage, reason, after.position)


@inline
def _exit(
    market: Market, i: int, holding: Holding, level: float, reason: int, slippage: float, fills: Fills, count: int
) -> tuple[Holding, int]:
    """Close everything at a protective level."""
    quantity = -holding.position
    price = level + sign(quantity) * slippage
    after = filled(holding, quantity, price, math.nan, math.nan)
    return after, _write(fills, count, i, market.contract[i], quantity, price, slippage, reason, after.position)


@inline
def _touched(holding: Holding, opening: float, high: float, low: float) -> tuple[int, float]:
    """Which protective level this bar reached, and its price before slippage. Levels that do not exist are NaN: no comparison is true."""
    side = sign(holding.position)
    best, worst = (high, low) if side > 0 else (low, high)
    if side * (worst - holding.stop_at) <= 0:
        return STOP, opening if side * (opening - holding.stop_at) < 0 else holding.stop_at
    if side * (best - holding.take_profit_at) >= 0:
        return TAKE_PROFIT, opening if side * (opening - holding.take_profit_at) > 0 else holding.take_profit_at
    return NOTHING, math.nan


@inline
def _roll(market: Market, i: int, holding: Holding, slippage: float, fills: Fills, count: int) -> tuple[Holding, int]:
    """Move the whole position to the contract of bar i."""
    held, old, new = holding.position, market.outgoing_open[i], market.open[i]
    sold, bought = old - sign(held) * slippage, new + sign(held) * slippage
    count = _write(fills, count, i, market.contract[i - 1], -held, sold, slippage, ROLL, 0)
    count = _write(fills, count, i, market.contract[i], held, bought, slippage, ROLL, held)
    return rolled(holding, sold, bought, new - old), count


@inline
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
