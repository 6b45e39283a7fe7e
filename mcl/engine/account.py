"""The position and its value: the arithmetic that the kernel compiles in and that a live session
uses through `Ledger`.

Prices are in ticks and sums of whole ticks are exact in float64, so equity does not depend on the
order in which fills are added:

    equity_usd = capital_usd + (cash_ticks + position * close_ticks) * tick_value_usd - sides *
    commission_usd
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.base.jit import inline, njit
from mcl.engine.decision import Account, Target, sign


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

    position: int = 0  # contracts, long > 0
    cash_ticks: float = 0.0  # minus what was paid, plus what was received
    sides: int = 0  # contracts bought or sold so far: what commission is counted on
    # average entry, in prices of the contract held now; NaN when flat
    entry_ticks: float = math.nan
    stop_at: float = math.nan  # protective levels in ticks, NaN for none
    take_profit_at: float = math.nan
    trail_ticks: float = math.nan  # at every close the stop follows at this distance; NaN for none


class Guard(NamedTuple):
    """The memory of the limits between decisions."""

    session_start_usd: float
    peak_usd: float
    trades: int = 0
    locked: bool = False
    halted: bool = False
    stopped: int = 0
    orders: int = 0
    aim: int = 0  # position of the last target
    losses: int = 0
    since_loss: int = 0
    # equity when the last round trip ended: what the open one is measured from; NaN before the
    # first fill
    flat_usd: float = math.nan


@inline
def filled(
    holding: Holding, quantity: int, price: float, stop_ticks: float, take_profit_ticks: float
) -> Holding:
    """After a fill. Opening or adding sets the levels at these distances from the (average) entry;
    reducing leaves them alone.
    """
    open_position = holding.position
    position = open_position + quantity
    entry, stop_at, take_profit_at = holding.entry_ticks, holding.stop_at, holding.take_profit_at
    if position == 0:
        entry, stop_at, take_profit_at = math.nan, math.nan, math.nan
    elif adds_risk(open_position, quantity):
        entry = (
            price
            if sign(open_position) != sign(position)
            else (entry * open_position + price * quantity) / position
        )
        stop_at = float(round(entry - sign(position) * stop_ticks)) if stop_ticks > 0 else math.nan
        take_profit_at = (
            float(round(entry + sign(position) * take_profit_ticks))
            if take_profit_ticks > 0
            else math.nan
        )
    cash, sides = holding.cash_ticks - quantity * price, holding.sides + abs(quantity)
    return Holding(
        position,
        cash,
        sides,
        entry,
        stop_at,
        take_profit_at,
        holding.trail_ticks if position != 0 else math.nan,
    )


@njit
def trailing(before: Holding, holding: Holding, trail_ticks: float) -> Holding:
    """After a fill that opened or added: the stop follows from the entry on, where that is nearer
    than the fixed one.

    `before` is what was held: what its stop had reached is kept when it was of the same side.
    """
    h, side = holding, sign(holding.position)
    started = Holding(
        h.position, h.cash_ticks, h.sides, h.entry_ticks, h.stop_at, h.take_profit_at, trail_ticks
    )
    reached = before.stop_at if sign(before.position) == side else math.nan
    return ratcheted(ratcheted(started, float(round(h.entry_ticks))), reached + side * trail_ticks)


@inline
def ratcheted(holding: Holding, price: float) -> Holding:
    """The trailing stop drawn after a price; it never moves back."""
    h, side = holding, sign(holding.position)
    level = price - side * h.trail_ticks
    if math.isnan(level) or side * (level - h.stop_at) <= 0:
        return h
    return Holding(
        h.position, h.cash_ticks, h.sides, h.entry_ticks, level, h.take_profit_at, h.trail_ticks
    )


@inline
def rolled(holding: Holding, sold: float, bought: float, gap: float) -> Holding:
    """After the position moved to the next contract: both legs at their prices, levels shifted by
    the gap between the contracts.
    """
    h = holding
    cash, sides = h.cash_ticks + h.position * (sold - bought), h.sides + 2 * abs(h.position)
    return Holding(
        h.position,
        cash,
        sides,
        h.entry_ticks + gap,
        h.stop_at + gap,
        h.take_profit_at + gap,
        h.trail_ticks,
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


@inline
def guard_at_open(guard: Guard, equity: float) -> Guard:
    """A new session: the day's loss, trades and orders count from here, a lock is lifted, a halt is
    not.
    """
    g = guard
    return Guard(
        equity,
        g.peak_usd,
        0,
        False,
        g.halted,
        g.stopped,
        0,
        g.aim,
        g.losses,
        g.since_loss,
        g.flat_usd,
    )


@inline
def guard_after_fill(
    guard: Guard, holding: Holding, quantity: int, price: float, money: Money
) -> Guard:
    """For a fill that is not yet in `holding`: a trade if it opens, adds or changes sides; the end
    of a round trip if it closes.
    """
    g, open_position = guard, holding.position
    trades = g.trades + 1 if adds_risk(open_position, quantity) else g.trades
    losses, since, flat = g.losses, g.since_loss, g.flat_usd
    if open_position == 0:
        flat = equity_usd(holding, price, money)
    elif sign(open_position + quantity) != sign(open_position):
        ended = equity_usd(holding, price, money) - abs(open_position) * money.commission_usd
        losses, since = (losses + 1, 0) if ended < flat else (0, since)
        flat = ended
    return Guard(
        g.session_start_usd,
        g.peak_usd,
        trades,
        g.locked,
        g.halted,
        g.stopped,
        g.orders,
        g.aim,
        losses,
        since,
        flat,
    )


@inline
def guard_after_stop(guard: Guard, side: int) -> Guard:
    """A protective order closed this side: `decide` waits until the signal has left it."""
    g = guard
    return Guard(
        g.session_start_usd,
        g.peak_usd,
        g.trades,
        g.locked,
        g.halted,
        side,
        g.orders,
        g.aim,
        g.losses,
        g.since_loss,
        g.flat_usd,
    )


@inline
def account_at_close(holding: Holding, guard: Guard, equity: float, to_close_sec: int) -> Account:
    """Return the account that `decide` gets. The peak includes this close."""
    g, position = guard, holding.position
    peak = max(g.peak_usd, equity)
    open_usd = equity - g.flat_usd if position != 0 else 0.0
    since, own = g.session_start_usd, (g.orders, g.losses, g.since_loss, open_usd)
    return Account(
        position, equity, since, peak, g.trades, g.locked, g.halted, g.stopped, to_close_sec, *own
    )


@inline
def guard_after(guard: Guard, account: Account, target: Target) -> Guard:
    """Return the guard that the decision leaves for the next one."""
    a, t = account, target
    ordered = t.position not in (a.position, guard.aim)
    orders = a.orders + 1 if ordered else a.orders
    day = (a.session_start_usd, a.peak_usd, a.trades, t.locked, t.halted, t.stopped)
    return Guard(*day, orders, t.position, a.losses, a.since_loss + 1, guard.flat_usd)


@inline
def guard_after_more(guard: Guard, peak_usd: float, decisions: int) -> Guard:
    """After so many more decisions that changed nothing, and the highest equity at any of them."""
    g = guard
    day = (g.session_start_usd, peak_usd, g.trades, g.locked, g.halted, g.stopped)
    return Guard(*day, g.orders, g.aim, g.losses, g.since_loss + decisions, g.flat_usd)


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
        self.money = Money(*map(float, money))
        self.holding = Holding() if holding is None else holding
        self.equity = self.money.capital_usd if equity is None else equity
        self.guard = Guard(self.equity, self.equity) if guard is None else guard

    def open_session(self) -> None:
        self.guard = guard_at_open(self.guard, self.equity)

    def fill(self, quantity: int, price_ticks: float, target: Target) -> None:
        """A fill of an order for `target`; bought > 0."""
        self.guard = guard_after_fill(
            self.guard, self.holding, quantity, float(price_ticks), self.money
        )
        self.holding = filled(
            self.holding, quantity, float(price_ticks), target.stop_ticks, target.take_profit_ticks
        )

    def stop_out(self, quantity: int, price_ticks: float) -> None:
        """A fill of the protective stop or take-profit."""
        guard = guard_after_fill(self.guard, self.holding, quantity, float(price_ticks), self.money)
        self.guard = guard_after_stop(guard, sign(self.holding.position))
        self.holding = filled(self.holding, quantity, float(price_ticks), math.nan, math.nan)

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
        self.equity = equity_usd(self.holding, float(close_ticks), self.money)
        return self.equity

    def account(self, to_close_sec: int) -> Account:
        return account_at_close(self.holding, self.guard, self.equity, int(to_close_sec))

    def adopt(self, account: Account, target: Target) -> None:
        self.guard = guard_after(self.guard, account, target)

    def state(self) -> dict[str, object]:
        """Everything that a restart needs, as plain values."""
        return {
            "holding": self.holding._asdict(),
            "guard": self.guard._asdict(),
            "equity": self.equity,
        }

    @classmethod
    def restored(cls, money: Money, state: dict[str, object]) -> Ledger:
        """The ledger that wrote this `state()`."""
        return cls(money, Holding(**state["holding"]), Guard(**state["guard"]), state["equity"])  # type: ignore[arg-type]
