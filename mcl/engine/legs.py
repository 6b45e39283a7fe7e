"""The protective legs of a position: where each one fills within a bar, and how a trailing one
moves.

Whatever keeps a position keeps its legs by these functions: the kernel, the ledger of a session,
the book of a broker and the curves of a report. Every leg protects the whole position. Levels are
in ticks. That of a leg that is not there is NaN: no comparison with it is true.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.base.jit import inline
from mcl.engine.decision import Bracket
from mcl.engine.result import FILL_REASONS

STOP, TAKE_PROFIT = FILL_REASONS.index("stop"), FILL_REASONS.index("take_profit")
NOTHING = -1


class Leg(NamedTuple):
    """One protective order of a position; NO_LEG for a free place."""

    level: float  # the price that triggers it
    # a stop with a distance trails: at every close it follows at this distance. NaN: it stays
    distance: float


class Legs(NamedTuple):
    """The protective orders of a position: the price that meets the first of them closes it.

    Compiled code takes a fixed number of places. A longer tuple has room for more.
    """

    stops: tuple[Leg, Leg]
    take_profits: tuple[Leg]


NO_LEG = Leg(level=math.nan, distance=math.nan)
NO_LEGS = Legs(stops=(NO_LEG, NO_LEG), take_profits=(NO_LEG,))


# ---------------------------------------------------------------------------------------- changes


@inline
def legs_of(bracket: Bracket, side: int, entry: float, reached: float) -> Legs:
    """The legs of a position that was opened or added to, from its average entry.

    `reached` is the level of the stop that stood before on the same side, NaN for none: a trailing
    stop never falls back behind it.
    """
    trailing = _trailing(entry, side, bracket.trail_ticks, reached)
    return Legs(
        stops=(_fixed(entry, -side, bracket.stop_ticks), trailing),
        take_profits=(_fixed(entry, side, bracket.take_profit_ticks),),
    )


@inline
def _fixed(entry: float, direction: int, distance: float) -> Leg:
    level = float(round(entry + direction * distance)) if distance > 0 else math.nan
    return Leg(level=level, distance=math.nan)


@inline
def _trailing(entry: float, side: int, distance: float, reached: float) -> Leg:
    if not distance > 0:
        return NO_LEG
    level = nearer_stop(float(round(entry)) - side * distance, reached, side)
    return Leg(level=level, distance=distance)


@inline
def trailed(legs: Legs, side: int, close: float) -> Legs:
    """After the close of a bar: a trailing stop follows it, never back."""
    first, second = legs.stops
    stops = (_leg_trailed(first, side, close), _leg_trailed(second, side, close))
    return Legs(stops=stops, take_profits=legs.take_profits)


@inline
def _leg_trailed(leg: Leg, side: int, close: float) -> Leg:
    level = nearer_stop(leg.level, close - side * leg.distance, side)
    return Leg(level=level, distance=leg.distance)


@inline
def shifted(legs: Legs, gap: float) -> Legs:
    """In the prices of the next contract, which are higher by the gap."""
    first, second = legs.stops
    (third,) = legs.take_profits
    return Legs(
        stops=(_leg_shifted(first, gap), _leg_shifted(second, gap)),
        take_profits=(_leg_shifted(third, gap),),
    )


@inline
def _leg_shifted(leg: Leg, gap: float) -> Leg:
    return Leg(level=leg.level + gap, distance=leg.distance)


# ----------------------------------------------------------------------------------------- levels


@inline
def nearer_stop(level: float, other: float, side: int) -> float:
    """The stop that the price meets first; NaN when neither is there."""
    return other if math.isnan(level) or side * (other - level) > 0 else level


@inline
def stop_of(legs: Legs, side: int) -> float:
    """The level at which the position is stopped: the nearest of its stops, NaN for none."""
    first, second = legs.stops
    return nearer_stop(first.level, second.level, side)


@inline
def profit_of(legs: Legs) -> float:
    """The level at which the position takes its profit, NaN for none."""
    return legs.take_profits[0].level


def trails(legs: Legs) -> bool:
    """Does any stop follow the closes?"""
    return any(leg.distance > 0 for leg in legs.stops)


@inline
def corridor(legs: Legs, side: int) -> tuple[float, float]:
    """The prices at or below and at or above which a leg fills; NaN, which no price reaches, for
    one that is not there.
    """
    stop_at, take_profit_at = stop_of(legs, side), profit_of(legs)
    return (stop_at, take_profit_at) if side > 0 else (take_profit_at, stop_at)


# ---------------------------------------------------------------------------------------- a bar


@inline
def touched(
    legs: Legs, side: int, opening: float, high: float, low: float, close: float, within: bool
) -> tuple[int, float]:
    """Return the reason of the fill of the leg that this bar reached, NOTHING for none, and its
    price before slippage.

    After an entry `within` the bar the open is past, the worst price counts all the same, and a
    profit only if the close proves it.
    """
    stop_at, take_profit_at = stop_of(legs, side), profit_of(legs)
    best, worst = (high, low) if side > 0 else (low, high)
    if within:
        best = close
    if side * (worst - stop_at) <= 0:
        gap = not within and side * (opening - stop_at) < 0
        return STOP, opening if gap else stop_at
    if side * (best - take_profit_at) >= 0:
        gap = not within and side * (opening - take_profit_at) > 0
        return TAKE_PROFIT, opening if gap else take_profit_at
    return NOTHING, math.nan


@inline
def reaches_profit(legs: Legs, side: int, high: float, low: float) -> bool:
    return high >= profit_of(legs) if side > 0 else low <= profit_of(legs)


@inline
def distance(price: float, stop_at: float) -> float:
    """Ticks from a fill to the stop that protects it, 0 for none."""
    return 0.0 if math.isnan(stop_at) else abs(price - stop_at)
