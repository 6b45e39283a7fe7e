"""Decides whether and at what price an order trades, in a bar of which only open, high, low and
close are known, or at a trade. Pure, in price units.

The rule for bars is that of the simulation engine, and pessimistic where the path within the bar is
unknown: stops come before limits, a bar that opens beyond a level fills at the open, a stop limit
that is triggered and gaps over its limit rests until the next bar, and a trailing stop meets the
low (high) of a bar before it follows its high (low).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.simulators.tws.orders import TOUCHED, TRAILING, Order


class Range(NamedTuple):
    open: float
    high: float
    low: float
    close: float


def stopped(order: Order, bar: Range) -> float | None:
    """The price at which a stop sets off, slippage left out; None when the bar does not reach
    it.
    """
    if not order.trigger:
        return None
    if order.side > 0:
        return max(bar.open, order.trigger) if bar.high >= order.trigger else None
    return min(bar.open, order.trigger) if bar.low <= order.trigger else None


def touched(order: Order, level: float, bar: Range) -> float | None:
    """The price of a limit (or the touch of a market-if-touched) at `level`: the open where that is
    better.
    """
    if order.side > 0:
        return min(bar.open, level) if bar.low <= level else None
    return max(bar.open, level) if bar.high >= level else None


def crosses(order: Order, price: float) -> bool:
    """Would this limit order trade at `price`?"""
    return price <= order.limit if order.side > 0 else price >= order.limit


def reached(order: Order, price: float) -> bool:
    """Does a trade at `price` set it off? A trailing stop that it does not set off follows it."""
    if order.kind in TOUCHED:
        return price <= order.trigger if order.side > 0 else price >= order.trigger
    bar = Range(price, price, price, price)
    return stopped(order, bar) is not None or (order.kind in TRAILING and follow(order, bar))


def beyond(order: Order, price: float) -> bool:
    """A trade past its limit: whoever rested there has traded."""
    return price < order.limit if order.side > 0 else price > order.limit


def follow(order: Order, bar: Range) -> bool:
    """Moves a trailing stop after the best price of the bar. True when the close has then already
    gone through it.
    """
    best = bar.low if order.side > 0 else bar.high
    moved = trailed(order, best)
    better = min if order.side > 0 else max
    order.trail_to(better(moved, order.trigger) if order.trigger else moved)
    return bar.close >= order.trigger if order.side > 0 else bar.close <= order.trigger


def trailed(order: Order, price: float) -> float:
    """Return the trigger of a trailing stop when the market is at `price`: on the tick, never
    nearer than requested.
    """
    distance = order.trail or abs(price) * order.trail_percent / 100
    size = order.listed.instrument.tick_size
    ticks = (price + order.side * distance) / size
    whole = math.ceil(ticks - 1e-6) if order.side > 0 else math.floor(ticks + 1e-6)
    return round(whole * size, 10)
