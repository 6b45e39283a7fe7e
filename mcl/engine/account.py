"""The position and its value: the arithmetic that the kernel compiles in and that a live session
uses through `Ledger`.

Prices are in ticks and sums of whole ticks are exact in float64, so equity does not depend on the
order in which fills are added:

    equity_usd = capital_usd + (cash_ticks + position * close_ticks) * tick_value_usd - sides *
    commission_usd
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from mcl.base.jit import inline
from mcl.engine.decision import NO_BRACKET, Account, Bracket, Target, sign
from mcl.engine.legs import NO_LEGS, Legs, legs_of, profit_of, shifted, stop_of, trailed

R = TypeVar("R", bound=NamedTuple)


class Money(NamedTuple):
    """Convert ticks and contracts into USD. Floats exactly: the types are part of the compiled
    signature.
    """

    capital_usd: float
    tick_value_usd: float  # per contract
    commission_usd: float  # per contract and side
    slippage_ticks: float  # per contract and side; the broker decides it in live


class Holding(NamedTuple):
    """The position and what protects it."""

    position: int  # contracts, long > 0
    cash_ticks: float  # minus what was paid, plus what was received
    sides: int  # contracts bought or sold so far: what commission is counted on
    # average entry, in prices of the contract held now; NaN when flat
    entry_ticks: float
    legs: Legs


FLAT = Holding(
    position=0,
    cash_ticks=0.0,
    sides=0,
    entry_ticks=math.nan,
    legs=NO_LEGS,
)


class Guard(NamedTuple):
    """The memory of the limits between decisions."""

    session_start_usd: float
    peak_usd: float
    trades: int
    locked: bool
    halted: bool
    stopped: int
    orders: int
    aim: int  # position of the last target
    losses: int
    since_loss: int
    # equity when the last round trip ended: what the open one is measured from; NaN before the
    # first fill
    flat_usd: float


def initial_guard(equity_usd: float) -> Guard:
    """The guard of an account that has not traded."""
    return Guard(
        session_start_usd=equity_usd,
        peak_usd=equity_usd,
        trades=0,
        locked=False,
        halted=False,
        stopped=0,
        orders=0,
        aim=0,
        losses=0,
        since_loss=0,
        flat_usd=math.nan,
    )


def exact(record: R) -> R:
    """The record with each value in the type of its field: the types are part of the compiled
    signature.
    """
    kinds = _kinds(type(record))
    return record._replace(**{n: _exact(kind, getattr(record, n)) for n, kind in kinds.items()})


def _exact(kind: Any, value: Any) -> Any:
    if get_origin(kind) is tuple:
        return tuple(map(_exact, get_args(kind), value))
    return exact(value) if hasattr(kind, "_fields") else kind(value)


@cache
def _kinds(record: type) -> dict[str, type]:
    return get_type_hints(record)


# ------------------------------------------------------------------------------------------- a fill


@inline
def after_fill(
    holding: Holding, guard: Guard, quantity: int, price: float, bracket: Bracket, money: Money
) -> tuple[Holding, Guard]:
    """The account after a fill of an order for a target with this bracket; bought > 0. The kernel
    and the ledger of a session change by a fill here and nowhere else.
    """
    return (
        holding_after_fill(holding, quantity, price, bracket),
        guard_after_fill(guard, holding, quantity, price, money),
    )


@inline
def after_exit(
    holding: Holding, guard: Guard, quantity: int, price: float, money: Money
) -> tuple[Holding, Guard]:
    """The account after a fill of a protective order. `decide` waits until the signal has left the
    side that it closed.
    """
    after = guard_after_fill(guard, holding, quantity, price, money)
    return (
        holding_after_fill(holding, quantity, price, NO_BRACKET),
        after._replace(stopped=sign(holding.position)),
    )


@inline
def holding_after_fill(holding: Holding, quantity: int, price: float, bracket: Bracket) -> Holding:
    """The part of `after_fill` that fills alone tell: what the broker's executions and the curves
    of a report are added up with.

    Opening or adding sets the levels at the distances of the bracket from the (average) entry;
    reducing leaves them alone.
    """
    open_position, position = holding.position, holding.position + quantity
    after = holding._replace(
        position=position,
        cash_ticks=holding.cash_ticks - quantity * price,
        sides=holding.sides + abs(quantity),
    )
    if position == 0:
        return after._replace(entry_ticks=math.nan, legs=NO_LEGS)
    if not adds_risk(open_position, quantity):
        return after
    side, entry, reached = sign(position), price, math.nan
    if sign(open_position) == side:
        entry = (holding.entry_ticks * open_position + price * quantity) / position
        reached = stop_level(holding)
    return after._replace(entry_ticks=entry, legs=legs_of(bracket, side, entry, reached))


@inline
def holding_at_close(holding: Holding, close: float) -> Holding:
    """After the close of a bar, in ticks: a trailing stop has followed it."""
    return holding._replace(legs=trailed(holding.legs, sign(holding.position), close))


@inline
def stop_level(holding: Holding) -> float:
    """The level at which the position is stopped, NaN for none."""
    return stop_of(holding.legs, sign(holding.position))


@inline
def profit_level(holding: Holding) -> float:
    """The level at which the position takes its profit, NaN for none."""
    return profit_of(holding.legs)


def with_levels(holding: Holding, bracket: Bracket) -> Holding:
    """A position without levels gets those of the bracket, from its entry; any other stays as it
    is.
    """
    free = math.isnan(stop_level(holding)) and math.isnan(profit_level(holding))
    if not holding.position or not free:
        return holding
    opened = holding_after_fill(FLAT, holding.position, holding.entry_ticks, exact(bracket))
    return holding._replace(legs=opened.legs)


@inline
def rolled(holding: Holding, sold: float, bought: float, gap: float) -> Holding:
    """After the position moved to the next contract: both legs at their prices, levels shifted by
    the gap between the contracts.
    """
    h = holding
    return h._replace(
        cash_ticks=h.cash_ticks + h.position * (sold - bought),
        sides=h.sides + 2 * abs(h.position),
        entry_ticks=h.entry_ticks + gap,
        legs=shifted(h.legs, gap),
    )


@inline
def adds_risk(open_position: int, quantity: int) -> bool:
    """Does this fill open, add or change sides?"""
    position = open_position + quantity
    return position != 0 and (
        sign(open_position) != sign(position) or abs(position) > abs(open_position)
    )


@inline
def equity_usd(holding: Holding, close: float, money: Money) -> float:
    """Capital + realised + unrealised - commission, with the position marked at `close` (ticks)."""
    ticks = holding.cash_ticks + holding.position * close
    return money.capital_usd + ticks * money.tick_value_usd - holding.sides * money.commission_usd


# --------------------------------------------------------------------------------------- the guard


@inline
def guard_at_open(guard: Guard, equity: float) -> Guard:
    """A new session: the day's loss, trades and orders count from here, a lock is lifted, a halt is
    not.
    """
    return guard._replace(session_start_usd=equity, trades=0, locked=False, orders=0)


@inline
def guard_after_fill(
    guard: Guard, holding: Holding, quantity: int, price: float, money: Money
) -> Guard:
    """For a fill that is not yet in `holding`: a trade if it opens, adds or changes sides; the end
    of a round trip if it closes.
    """
    open_position = holding.position
    trades = guard.trades + 1 if adds_risk(open_position, quantity) else guard.trades
    losses, since, flat = guard.losses, guard.since_loss, guard.flat_usd
    if open_position == 0:
        flat = equity_usd(holding, price, money)
    elif sign(open_position + quantity) != sign(open_position):
        ended = equity_usd(holding, price, money) - abs(open_position) * money.commission_usd
        losses, since = (losses + 1, 0) if ended < flat else (0, since)
        flat = ended
    return guard._replace(trades=trades, losses=losses, since_loss=since, flat_usd=flat)


@inline
def account_at_close(holding: Holding, guard: Guard, equity: float, to_close_sec: int) -> Account:
    """Return the account that `decide` gets. The peak includes this close."""
    return Account(
        position=holding.position,
        equity_usd=equity,
        session_start_usd=guard.session_start_usd,
        peak_usd=max(guard.peak_usd, equity),
        trades=guard.trades,
        locked=guard.locked,
        halted=guard.halted,
        stopped=guard.stopped,
        to_close_sec=to_close_sec,
        orders=guard.orders,
        losses=guard.losses,
        since_loss=guard.since_loss,
        trade_usd=equity - guard.flat_usd if holding.position != 0 else 0.0,
    )


@inline
def guard_after(guard: Guard, account: Account, target: Target) -> Guard:
    """Return the guard that the decision leaves for the next one."""
    ordered = target.position not in (account.position, guard.aim)
    return guard._replace(
        peak_usd=account.peak_usd,
        locked=target.locked,
        halted=target.halted,
        stopped=target.stopped,
        orders=account.orders + 1 if ordered else account.orders,
        aim=target.position,
        since_loss=account.since_loss + 1,
    )


@inline
def guard_after_more(guard: Guard, peak_usd: float, decisions: int) -> Guard:
    """After so many more decisions that changed nothing, and the highest equity at any of them."""
    return guard._replace(peak_usd=peak_usd, since_loss=guard.since_loss + decisions)


class LedgerState(NamedTuple):
    """Everything of a `Ledger` that a restart needs."""

    holding: Holding
    guard: Guard
    equity: float


class Ledger:
    """The same account kept outside the kernel, from fills and marks as they come; live journals
    `state()` and restarts from it.

    Per bar: `open_session` if the session is new, `fill` / `stop_out` / `roll` as they happen,
    `mark` at the close, then `decide(intent, ledger.account(to_close_sec), limits)` and `adopt` of
    the target.
    """

    def __init__(
        self,
        money: Money,
        holding: Holding | None = None,
        guard: Guard | None = None,
        equity: float | None = None,
    ) -> None:
        self.money = exact(money)
        self.holding = FLAT if holding is None else holding
        self.equity = self.money.capital_usd if equity is None else equity
        self.guard = initial_guard(self.equity) if guard is None else guard

    def open_session(self) -> None:
        self.guard = guard_at_open(self.guard, self.equity)

    def fill(self, quantity: int, price_ticks: float, bracket: Bracket) -> None:
        """A fill of an order for a target with this bracket; bought > 0."""
        self.holding, self.guard = after_fill(
            self.holding, self.guard, quantity, float(price_ticks), bracket, self.money
        )

    def stop_out(self, quantity: int, price_ticks: float) -> None:
        """A fill of the protective stop or take-profit."""
        self.holding, self.guard = after_exit(
            self.holding, self.guard, quantity, float(price_ticks), self.money
        )

    def correct(self, quantity: int, was_ticks: float, now_ticks: float) -> None:
        """A fill of before had another price. What is still held of it has another entry; levels
        stay where their orders stand.
        """
        h, change = self.holding, float(now_ticks) - float(was_ticks)
        part = min(abs(quantity), abs(h.position)) if sign(h.position) == sign(quantity) else 0
        entry = h.entry_ticks + change * part / abs(h.position) if part else h.entry_ticks
        self.holding = h._replace(cash_ticks=h.cash_ticks - quantity * change, entry_ticks=entry)

    def roll(self, sold_ticks: float, bought_ticks: float, gap_ticks: float) -> None:
        """Both legs of a roll at their fill prices (for a short: bought back at `sold_ticks`);
        `gap` is new minus old contract.
        """
        self.holding = rolled(
            self.holding, float(sold_ticks), float(bought_ticks), float(gap_ticks)
        )

    def mark(self, close_ticks: float) -> float:
        """At the close of a bar: the equity, and a trailing stop that follows."""
        self.equity = equity_usd(self.holding, float(close_ticks), self.money)
        self.holding = holding_at_close(self.holding, float(close_ticks))
        return self.equity

    def account(self, to_close_sec: int) -> Account:
        return account_at_close(self.holding, self.guard, self.equity, int(to_close_sec))

    def adopt(self, account: Account, target: Target) -> None:
        self.guard = guard_after(self.guard, account, target)

    def state(self) -> LedgerState:
        """Everything that a restart needs."""
        return LedgerState(holding=self.holding, guard=self.guard, equity=self.equity)

    @classmethod
    def restored(cls, money: Money, state: LedgerState) -> Ledger:
        """The ledger that has this `state()`."""
        return cls(money, state.holding, state.guard, state.equity)
