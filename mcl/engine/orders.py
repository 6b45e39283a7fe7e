"""Entry orders that wait for a price: how they are made and where they fill. Also what any order
pays, and how much of it a bar takes.

The terms are those of `assumptions.md`; every one of them has a test of hand-computed dollars.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.base.jit import inline, njit
from mcl.config import schema
from mcl.engine.account import Holding, stop_level
from mcl.engine.decision import sign, without_new_risk
from mcl.risk.limits import OFF

MARKET, LIMIT, STOP, STOP_LIMIT = range(4)
ENTRIES = ("market", "limit", "stop", "stop_limit")
# execution.fill: how far beyond a limit the price has to trade
THROUGH_TICKS = {"touch": 0.0, "through": 1.0}
# impact and slippage by the hour are rounded up to 1/64 tick: sums of prices stay exact
QUANTA = 64.0


class ExecutionRecord(NamedTuple):
    """`schema.Execution` for compiled code."""

    entry: int  # index into ENTRIES
    offset_ticks: float
    limit_ticks: float
    ttl_bars: int
    renew: bool
    through_ticks: float  # how far beyond a limit the price must trade
    latency_bars: int
    participation_frac: float  # inf: no cap
    impact_ticks: float


class Waiting(NamedTuple):
    """The one entry order that can wait at a time. quantity 0: none, or (goal not 0) one that has
    run out and is not renewed.
    """

    quantity: int  # contracts that remain, bought > 0
    goal: int  # position of the target that it belongs to
    expires: int  # last bar in which it can fill
    stop: float  # trigger, NaN for a limit or once triggered
    limit: float  # worst price, NaN for a stop
    decided: int  # bar of the decision


NO_ORDER = Waiting(quantity=0, goal=0, expires=0, stop=math.nan, limit=math.nan, decided=0)


class Touch(NamedTuple):
    """The price at which an order fills in a bar. It is NaN where the order does not fill."""

    price: float  # slippage included
    slippage: float
    at_open: bool  # else somewhere within the bar
    triggered: bool  # a stop-limit whose stop was reached


NO_TOUCH = Touch(price=math.nan, slippage=0.0, at_open=False, triggered=False)


def execution_record(execution: schema.Execution, costs: schema.Costs) -> ExecutionRecord:
    e = execution
    return ExecutionRecord(
        entry=ENTRIES.index(e.entry),
        offset_ticks=float(e.offset_ticks),
        limit_ticks=float(e.limit_ticks),
        ttl_bars=OFF if e.ttl_bars is None else e.ttl_bars,
        renew=e.renew,
        through_ticks=THROUGH_TICKS[e.fill],
        latency_bars=e.latency_bars,
        participation_frac=(
            math.inf if e.participation_frac is None else float(e.participation_frac)
        ),
        impact_ticks=float(costs.impact_ticks),
    )


def live_supported(
    risk: schema.Risk, execution: schema.Execution, costs: schema.Costs, simulated: bool
) -> list[str]:
    """One sentence for each thing that a backtest may do and a session cannot do yet; a session
    refuses to start while there is any.

    `simulated`: on the embedded TWS, whose fills must be the backtest's to the cent. Any other
    venue has its own prices.
    """
    e, limits = execution, risk.limits
    rules = [
        (e.entry != "market", f"execution.entry={e.entry}: a session enters at the market only"),
        (e.latency_bars > 0, f"execution.latency_bars={e.latency_bars}: a session sends at once"),
        (
            e.participation_frac is not None,
            f"execution.participation_frac={e.participation_frac}: a session sends whole orders",
        ),
        (
            limits.price_collar_ticks is not None,
            (
                f"risk.limits.price_collar_ticks={limits.price_collar_ticks}: market orders have no"
                " price"
            ),
        ),
        (
            limits.flatten_before_roll_sec > 0,
            (
                "risk.limits.flatten_before_roll_sec: a session does not know whether the next one"
                " rolls"
            ),
        ),
    ]
    if simulated:
        rules += [
            (
                bool(costs.slippage_by_hour_ticks),
                "costs.slippage_by_hour_ticks: the simulated TWS charges one slippage at all hours",
            ),
            (
                costs.impact_ticks > 0,
                f"costs.impact_ticks={costs.impact_ticks}: the simulated TWS has no depth",
            ),
            (
                e.bracket == "finer",
                "execution.bracket=finer: the simulated TWS plays the bars of data.interval alone",
            ),
        ]
    return [sentence for wrong, sentence in rules if wrong]


@njit
def takes(quantity: int, volume: int, execution: ExecutionRecord) -> int:
    """The part of an order that a bar of this volume takes."""
    if execution.participation_frac == math.inf:
        return quantity
    most = int(execution.participation_frac * volume + 1e-9)
    return sign(quantity) * min(abs(quantity), most)


@njit
def slippage(base: float, quantity: int, volume: int, execution: ExecutionRecord) -> float:
    """Ticks that an order of this size pays: the base and, in proportion to its share of the
    volume, the impact.
    """
    if execution.impact_ticks == 0.0:
        return base
    return (
        base + math.ceil(execution.impact_ticks * abs(quantity) / max(1, volume) * QUANTA) / QUANTA
    )


@njit
def order_entry(
    waiting: Waiting,
    execution: ExecutionRecord,
    open_position: int,
    goal: int,
    decided_at: float,
    volume: int,
    bar: int,
    decided: int,
) -> tuple[int, Waiting]:
    """Return the orders for a target: contracts to trade at this open, and the entry order that
    waits from now on.

    The order of the same target keeps waiting until it has run out; another target, or a position
    that the market has not yet reduced, takes it back.
    """
    at_market = goal if execution.entry == MARKET else without_new_risk(goal, open_position)
    part = takes(at_market - open_position, volume, execution)
    if at_market == goal or open_position + part != at_market:
        return part, NO_ORDER
    w = waiting
    if w.goal == goal and (w.quantity == 0 or bar <= w.expires):
        return part, w
    if w.goal == goal and not execution.renew:
        return part, w._replace(quantity=0, stop=math.nan, limit=math.nan)
    return part, entry_order(execution, goal - at_market, goal, decided_at, bar, decided)


@njit
def fill_attempt(
    waiting: Waiting,
    opening: float,
    high: float,
    low: float,
    volume: int,
    base: float,
    execution: ExecutionRecord,
) -> tuple[Waiting, int, Touch]:
    """Return the effect of a bar on the waiting order: what remains of it, the contracts that fill,
    and where.

    A stop that was reached is a market order from then on: what its bar did not take follows at the
    next opens.
    """
    w = waiting
    part = takes(w.quantity, volume, execution)
    touch = reached(
        w, opening, high, low, slippage(base, part, volume, execution), execution.through_ticks
    )
    if math.isnan(touch.price):
        part = 0
    stop = w.stop
    if touch.triggered:
        stop = -sign(w.quantity) * math.inf if math.isnan(w.limit) else math.nan
    left = w.quantity - part
    return w._replace(quantity=left, goal=w.goal if left != 0 else 0, stop=stop), part, touch


@inline
def stopped_before(holding: Holding, touch: Touch) -> bool:
    """Would an entry that adds fill at or beyond the stop of what is held? On its way there the
    price has met the stop.
    """
    side = sign(holding.position)
    return side * (touch.price - stop_level(holding)) - touch.slippage <= 0


@njit
def entry_order(
    execution: ExecutionRecord, quantity: int, goal: int, close: float, bar: int, decided: int
) -> Waiting:
    """The entry order of a target that was decided at `close` and reaches the market in this
    bar.
    """
    side = sign(quantity)
    trigger, worst = close + side * execution.offset_ticks, math.nan
    if execution.entry == LIMIT:
        trigger, worst = math.nan, close - side * execution.offset_ticks
    elif execution.entry == STOP_LIMIT:
        worst = trigger + side * execution.limit_ticks
    return Waiting(
        quantity=quantity,
        goal=goal,
        expires=min(bar + execution.ttl_bars - 1, OFF),
        stop=trigger,
        limit=worst,
        decided=decided,
    )


@njit
def reached(
    order: Waiting, opening: float, high: float, low: float, base: float, through: float
) -> Touch:
    """Does a bar reach the order, and at what price?

    Seen from a buy: a stop is reached when the high is at or above it and fills at it, or at an
    open beyond it, plus slippage. A limit is reached when the open is at or below it, or the low is
    (`through`: is a tick below). An order that crosses at the open pays slippage up to its limit;
    one that waited pays none. A triggered stop takes what is there: at its limit it need not wait.
    """
    side = sign(order.quantity)
    best, worst = (low, high) if side > 0 else (high, low)
    start, at_open = opening, True  # where the order first meets the market
    if not math.isnan(order.stop):
        if side * (worst - order.stop) < 0:
            return NO_TOUCH
        at_open = side * (opening - order.stop) >= 0
        start = opening if at_open else order.stop
        if math.isnan(order.limit):
            return Touch(price=start + side * base, slippage=base, at_open=at_open, triggered=True)
    beyond = side * (order.limit - start)
    if beyond > 0 or (beyond == 0 and (through == 0.0 or not math.isnan(order.stop))):
        paid = min(base, beyond)
        return Touch(price=start + side * paid, slippage=paid, at_open=at_open, triggered=True)
    waited = order.limit if side * (best - order.limit) <= -through else math.nan
    return Touch(price=waited, slippage=0.0, at_open=False, triggered=True)
