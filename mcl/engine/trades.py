"""From fills to round trips. A pure function of fills and bars, so that live fills make the same
trades.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.jit import inline, njit, readonly
from mcl.engine.decision import sign
from mcl.engine.kernel import ROLL
from mcl.engine.result import FILL_REASONS, TRADE

END = FILL_REASONS.index("end")
Table = npt.NDArray[np.void]
Ticks = npt.NDArray[np.int32]


def round_trips(
    fills: Table,
    high: Ticks,
    low: Ticks,
    close: Ticks,
    tick_value_usd: float,
    commission_usd: float,
) -> Table:
    """TRADE rows: from flat to flat, or to the other side. A fill that changes sides ends one trade
    and begins the next; a roll ends none.

    A trade that is still open is marked at the last close, with exit reason "end". The worst and
    best open result of a trade are taken at the extremes of the whole bars it was held for; of the
    bar in which a protective order fills only that fill counts, since nothing tells what came
    before it.
    """
    flat = int(np.count_nonzero((fills["position"] == 0) & (fills["reason"] != ROLL)))
    out = np.zeros(len(fills) + 1 - flat, TRADE)
    highs, lows, closes = (readonly(values, np.int32) for values in (high, low, close))
    count = _round_trips(
        fills, highs, lows, closes, float(tick_value_usd), float(commission_usd), out
    )
    return out[:count]


@njit
def _round_trips(
    fills: Table,
    high: Ticks,
    low: Ticks,
    close: Ticks,
    tick_value: float,
    commission: float,
    out: Table,
) -> int:
    count, position, cash, gap = 0, 0, 0.0, 0.0
    for k in range(len(fills)):
        fill: Any = fills[k]
        quantity, price = fill.quantity, fill.price_ticks
        if fill.reason == ROLL:
            cash -= quantity * price
            out[count].commission_usd += abs(quantity) * commission
            gap += (price - sign(quantity) * fill.slippage_ticks) * (
                1 if fill.position != 0 else -1
            )
        else:
            closing = min(abs(quantity), abs(position)) if sign(quantity) == -sign(position) else 0
            if closing > 0:
                cash += sign(position) * closing * price
                _leave(out[count], closing, price - gap, commission)
                position -= sign(position) * closing
                if position == 0:
                    count += _finish(out[count], fill.bar, fill.reason, cash, tick_value)
                    cash, gap = 0.0, 0.0
            opening = abs(quantity) - closing
            if opening > 0:
                cash -= sign(quantity) * opening * price
                position += sign(quantity) * opening
                _enter(out[count], fill.bar, position, opening, price - gap, commission)
                out[count].risk_usd += opening * fill.risk_ticks * tick_value
        if position != 0:
            _stretch(
                out[count],
                high,
                low,
                fill.bar,
                fills[k + 1].bar if k + 1 < len(fills) else len(close),
                position,
                cash,
                tick_value,
            )
    if position != 0:
        last = len(close) - 1
        _leave(out[count], abs(position), close[last] - gap, 0.0)
        count += _finish(out[count], last, END, cash + position * close[last], tick_value)
    return count


@inline
def _enter(
    trade: Any, bar: int, position: int, opening: int, price: float, commission: float
) -> None:
    """Open the trade or add to it. Until it is finished `gross_usd` counts the contracts that
    left.
    """
    if trade.quantity == 0:
        trade.entry_bar = bar
    entered = abs(position) - opening + trade.gross_usd
    trade.entry_ticks = (trade.entry_ticks * entered + price * opening) / (entered + opening)
    if abs(position) > abs(trade.quantity):
        trade.quantity = position
    trade.commission_usd += opening * commission


@inline
def _leave(trade: Any, closing: int, price: float, commission: float) -> None:
    left = trade.gross_usd
    trade.exit_ticks = (trade.exit_ticks * left + price * closing) / (left + closing)
    trade.gross_usd = left + closing
    trade.commission_usd += closing * commission


@inline
def _finish(trade: Any, bar: int, reason: int, cash: float, tick_value: float) -> int:
    trade.exit_bar, trade.exit_reason = bar, reason
    trade.gross_usd = cash * tick_value
    trade.mae_usd = min(trade.mae_usd, trade.gross_usd)
    trade.mfe_usd = max(trade.mfe_usd, trade.gross_usd)
    return 1


@inline
def _stretch(
    trade: Any,
    high: Ticks,
    low: Ticks,
    first: int,
    stop: int,
    position: int,
    cash: float,
    tick_value: float,
) -> None:
    """Widen the worst and best open result by the bars [first, stop)."""
    if first >= stop:
        return
    highest, lowest = high[first], low[first]
    # signed ones would be tested for negative values at each access
    for i in range(np.uint64(first + 1), np.uint64(stop)):
        highest, lowest = max(highest, high[i]), min(lowest, low[i])
    at_high, at_low = (
        (cash + position * highest) * tick_value,
        (cash + position * lowest) * tick_value,
    )
    trade.mae_usd = min(trade.mae_usd, at_high, at_low)
    trade.mfe_usd = max(trade.mfe_usd, at_high, at_low)
