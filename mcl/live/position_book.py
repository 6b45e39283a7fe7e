"""Keep the one position book of a session: what is held by contract, the account that it makes, and
a roll on its way.

Everything in the process that asks what is held asks this book: the decision, the orders that
protect, the state on the dashboard. It changes by an execution alone, in `take`, once the execution
is in the journal. What the broker has told and the journal does not have yet is `reported`: orders
see it at once, the account at the next look. The broker's own account is never copied into it; the
two are compared.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field

from mcl.broker.order_references import execution_root
from mcl.broker.protocol import Fill
from mcl.engine.account import FLAT, Holding, Ledger, with_levels
from mcl.engine.decision import NO_TARGET, Bracket, Target
from mcl.live.roll_state import PendingRoll


@dataclass(kw_only=True)
class PositionBook:
    """`ledger` and `target` are those after the last decision and every fill since."""

    ledger: Ledger
    tick_size: float
    target: Target = NO_TARGET
    # contracts by symbol: while a roll is on its way, the ledger still has all in the old one
    positions: Counter[str] = field(default_factory=Counter)
    # what is held waits to be in the next contract, or is on its way there
    pending_roll: PendingRoll | None = None
    reported: list[Fill] = field(default_factory=list)  # executions that no entry has yet

    @property
    def open_positions(self) -> dict[str, int]:
        """By symbol, flat ones left out."""
        return {symbol: quantity for symbol, quantity in self.positions.items() if quantity}

    def report(self, fill: Fill, _bracket: Bracket) -> None:
        """An execution that is not in the journal yet: its target is the book's own."""
        self.reported.append(fill)

    def take(self, fill: Fill) -> None:
        """Account for one execution that is in the journal."""
        root = execution_root(fill.execution_id)
        self.reported = [f for f in self.reported if execution_root(f.execution_id) != root]
        self.positions[fill.symbol] += fill.quantity
        ticks = round(fill.price / self.tick_size, 6)
        if self.pending_roll is not None and self.pending_roll.explains(fill):
            self.pending_roll.take(fill, ticks)
        elif fill.reason == "target":
            self.ledger.fill(fill.quantity, ticks, self.target.bracket)
        else:
            self.ledger.stop_out(fill.quantity, ticks)
        self._settle_roll()

    def _settle_roll(self) -> None:
        """A roll is over when both legs are whole, or when nothing is held that could move."""
        roll, position = self.pending_roll, self.ledger.holding.position
        if roll is not None and roll.whole(position):
            roll.settle(self.ledger)
            self.pending_roll = None
        elif roll is not None and not position and not self.open_positions:
            self.pending_roll = None

    def mark(self, close_ticks: float) -> None:
        """At a close of the session's contract, which a trailing stop follows; what is still in the
        one before is worth that less the gap.
        """
        self.ledger.mark(close_ticks - (self.pending_roll.gap_ticks if self.pending_roll else 0.0))

    def holding(self, symbol: str) -> Holding:
        """The holding of a contract with every execution that was reported, and with levels in the
        prices of this contract.
        """
        book = self._with_reported() if self.reported else self
        position, holding = book.positions[symbol], book.ledger.holding
        if not position:
            return FLAT
        if book.pending_roll is not None:
            holding = book.pending_roll.levels(holding, symbol)
        return holding._replace(position=position)

    def _with_reported(self) -> PositionBook:
        book = PositionBook(
            ledger=copy.copy(self.ledger),
            tick_size=self.tick_size,
            target=self.target,
            positions=Counter(self.positions),
            pending_roll=copy.deepcopy(self.pending_roll),
        )
        for fill in self.reported:
            book.take(fill)
        return book

    def aim(self, _symbol: str, bracket: Bracket) -> None:
        """Give a position without levels those of a bracket: one that an operator took over."""
        if self.pending_roll is None:
            self.ledger.holding = with_levels(self.ledger.holding, bracket)

    def give_up_roll(self) -> None:
        """A person has ended the roll half way."""
        if self.pending_roll is not None:
            self.pending_roll.give_up(self.ledger)
            self.pending_roll = None
