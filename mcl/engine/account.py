"""What we hold and what it is worth: the arithmetic that the kernel compiles in and that live uses through `Ledger`.

Prices are in ticks and sums of whole ticks are exact in float64, so equity does not depend on the order in which fills are added:

    equity_usd = capital_usd + (cash_ticks + position * close_ticks) * tick_value_usd - sides * commission_usd
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.engine.decide import Account, Target, sign
from mcl.jit import inline


class Money(NamedTuple):
    """What turns ticks and contracts into USD. Floats exactly: the types are part of the compiled signature."""

    capital_usd: float
    tick_value_usd: float  # per contract
    commission_usd: float  # per contract and side
    slippage_ticks: float  # per contract and side; the broker decides it in live


class Holding(NamedTuple):
    """The position and what protects it."""

    position: int = 0  # contracts, long > 0
    cash_ticks: float = 0.0  # minus what was paid, plus what was received
    sides: int = 0  # contracts bought or sold so far: what commission is counted on
    entry_ticks: float = math.nan  # average entry, in prices of the contract held now; NaN when flat
    stop_at: float = math.nan  # protective levels in ticks, NaN for none
    take_profit_at: float = math.nan


class Guard(NamedTuple):
    """What limits remember between decisions."""

    session_start_usd: float
    peak_usd: float
    trades: int = 0
    locked: bool = False
    halted: bool = False
    stopped: int = 0


@inline
def filled(holding: Holding, quantity: int, price: float, stop_ticks: float, take_profit_ticks: float) -> Holding:
    """After a fill. Opening or adding sets the levels at these distances from the (average) entry; reducing leaves them alone."""
    held = holding.position
    position = held + quantity
    entry, stop_at, take_profit_at = holding.entry_ticks, holding.stop_at, holding.take_profit_at
    if position == 0:
        entry, stop_at, take_profit_at = math.nan, math.nan, math.nan
    elif adds_risk(held, quantity):
        entry = price if sign(held) != sign(position) else (entry * held + price * quantity) / position
        stop_at = float(round(entry - sign(position) * stop_ticks)) if stop_ticks > 0 else math.nan
        take_profit_at = float(round(entry + sign(position) * take_profit_ticks)) if take_profit_ticks > 0 else math.nan
    return Holding(position, holding.cash_ticks - quantity * price, holding.sides + abs(quantity), entry, stop_at, take_profit_at)


@inline
def rolled(holding: Holding, sold: float, bought: float, gap: float) -> Holding:
    """After the position moved to the next contract: both legs at their prices, levels shifted by the gap between the contracts."""
    cash = holding.cash_ticks + holding.position * (sold - bought)
    sides = holding.sides + 2 * abs(holding.position)
    return Holding(holding.position, cash, sides, holding.entry_ticks + gap, holding.stop_at + gap, holding.take_profit_at + gap)


@inline
def adds_risk(held: int, quantity: int) -> bool:
    """Does this fill open, add or change sides?"""
    position = held + quantity
    return position != 0 and (sign(held) != sign(position) or abs(position) > abs(held))


@inline
def equity_usd(holding: Holding, close: float, money: Money) -> float:
    """Capital + realised + unrealised - commission, with the position marked at `close` (ticks)."""
    ticks = holding.cash_ticks + holding.position * close
    return money.capital_usd + ticks * money.tick_value_usd - holding.sides * money.commission_usd


@inline
def guard_at_open(guard: Guard, equity: float) -> Guard:
    """A new session: the day's loss and trades count from here, a lock is lifted, a halt is not."""
    return Guard(equity, guard.peak_usd, 0, False, guard.halted, guard.stopped)


@inline
def guard_after_fill(guard: Guard, held: int, quantity: int) -> Guard:
    """A fill of a target counts as a trade if it opens, adds or changes sides."""
    trades = guard.trades + 1 if adds_risk(held, quantity) else guard.trades
    return Guard(guard.session_start_usd, guard.peak_usd, trades, guard.locked, guard.halted, guard.stopped)


@inline
def guard_after_stop(guard: Guard, held: int) -> Guard:
    """A protective order closed this side: `decide` waits until the signal has left it."""
    return Guard(guard.session_start_usd, guard.peak_usd, guard.trades, guard.locked, guard.halted, sign(held))


@inline
def account_at_close(holding: Holding, guard: Guard, equity: float, to_close_sec: int) -> Account:
    """What `decide` is told. The peak includes this close."""
    peak = max(guard.peak_usd, equity)
    position, trades = holding.position, guard.trades
    return Account(position, equity, guard.session_start_usd, peak, trades, guard.locked, guard.halted, guard.stopped, to_close_sec)


@inline
def guard_after(account: Account, target: Target) -> Guard:
    """What the decision leaves for the next one."""
    return Guard(account.session_start_usd, account.peak_usd, account.trades, target.locked, target.halted, target.stopped)


class Ledger:
    """The same account kept outside the kernel, from fills and marks as they come; live journals `state()` and restarts from it.

    Per bar: `open_session` if the session is new, `fill` / `stop_out` / `roll` as they happen, `mark` at the close, then
    `decide(wanted, stop, take, ledger.account(to_close_sec), limits)` and `adopt` of the target.
    """

    def __init__(self, money: Money, holding: Holding | None = None, guard: Guard | None = None, equity: float | None = None) -> None:
        self.money = Money(*map(float, money))
        self.holding = Holding() if holding is None else holding
        self.equity = self.money.capital_usd if equity is None else equity
        self.guard = Guard(self.equity, self.equity) if guard is None else guard

    def open_session(self) -> None:
        self.guard = guard_at_open(self.guard, self.equity)

    def fill(self, quantity: int, price_ticks: float, target: Target) -> None:
        """A fill of an order for `target`; bought > 0."""
        self.guard = guard_after_fill(self.guard, self.holding.position, quantity)
        self.holding = filled(self.holding, quantity, float(price_ticks), target.stop_ticks, target.take_profit_ticks)

    def stop_out(self, quantity: int, price_ticks: float) -> None:
        """A fill of the protective stop or take-profit."""
        self.guard = guard_after_stop(self.guard, self.holding.position)
        self.holding = filled(self.holding, quantity, float(price_ticks), math.nan, math.nan)

    def roll(self, sold_ticks: float, bought_ticks: float, gap_ticks: float) -> None:
        """Both legs of a roll at their fill prices (for a short: bought back at `sold_ticks`); `gap` is new minus old contract."""
        self.holding = rolled(self.holding, float(sold_ticks), float(bought_ticks), float(gap_ticks))

    def mark(self, close_ticks: float) -> float:
        self.equity = equity_usd(self.holding, float(close_ticks), self.money)
        return self.equity

    def account(self, to_close_sec: int) -> Account:
        return account_at_close(self.holding, self.guard, self.equity, int(to_close_sec))

    def adopt(self, account: Account, target: Target) -> None:
        self.guard = guard_after(account, target)

    def state(self) -> dict[str, object]:
        """Everything that a restart needs, as plain values."""
        return {"holding": self.holding._asdict(), "guard": self.guard._asdict(), "equity": self.equity}

    @classmethod
    def restored(cls, money: Money, state: dict[str, object]) -> Ledger:
        """The ledger that wrote this `state()`."""
        return cls(money, Holding(**state["holding"]), Guard(**state["guard"]), state["equity"])  # type: ignore[arg-type]
