"""Add up executions to positions. Executions are the only truth about fills: order states may be
late, repeated or invented.

Positions and protective levels use the arithmetic of the simulation engine
(`mcl.engine.account.holding_after_fill`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from mcl.base.errors import Uncertain
from mcl.base.words import many
from mcl.broker.order_references import execution_root, traded_for
from mcl.broker.protocol import Fill, HoldingBook, TargetSpec
from mcl.engine.account import (
    FLAT,
    Holding,
    exact,
    holding_after_fill,
    holding_at_close,
    with_levels,
)
from mcl.engine.decision import NO_BRACKET, Bracket


class ExecutionBook:
    """The holdings of a broker that is used without a session: what it held when the connection
    began, and every execution since, by the symbol of the contract.
    """

    def __init__(self, tick_size: float) -> None:
        self._tick_size = tick_size
        self._holdings: dict[str, Holding] = {}

    def open(self, symbol: str, position: int, entry_ticks: float) -> None:
        """Take the position that the broker held when the session began."""
        entry = entry_ticks if position else math.nan
        self._holdings[symbol] = FLAT._replace(position=position, entry_ticks=entry)

    def holding(self, symbol: str) -> Holding:
        return self._holdings.get(symbol, FLAT)

    def report(self, fill: Fill, bracket: Bracket) -> None:
        ticks = float(round(fill.price / self._tick_size, 6))
        holding = self.holding(fill.symbol)
        self._holdings[fill.symbol] = holding_after_fill(holding, fill.quantity, ticks, bracket)

    def aim(self, symbol: str, bracket: Bracket) -> None:
        self._holdings[symbol] = with_levels(self.holding(symbol), bracket)

    def mark(self, symbol: str, close: float) -> None:
        """At the close of a bar: a trailing stop follows."""
        ticks = float(round(close / self._tick_size, 6))
        self._holdings[symbol] = holding_at_close(self.holding(symbol), ticks)

    def correct(self, fill: Fill, was: float) -> None:
        """A fill of before had another price: what is still held of it has another entry."""
        holding = self.holding(fill.symbol)
        if holding.position * fill.quantity > 0:
            part = min(1.0, fill.quantity / holding.position)
            entry = holding.entry_ticks + part * (fill.price - was) / self._tick_size
            self._holdings[fill.symbol] = holding._replace(entry_ticks=entry)


class FillLedger:
    """Fills in order of arrival, each once, and reported once to the book of what is held. `ours`
    tells whether we sent an order with a reference.
    """

    def __init__(self, ours: Callable[[str], bool], tick_size: float) -> None:
        self.own = ExecutionBook(tick_size)
        self.book: HoldingBook = self.own  # until a session brings its own
        self.fills: list[Fill] = []
        self.trouble = ""  # why these figures cannot be trusted any more
        self._ours = ours
        self._superseded: set[int] = set()  # rows that a correction has replaced
        # execution root -> row of `fills`, -1 for one from before this session
        self._rows: dict[str, int] = {}
        self._goals: dict[str, TargetSpec] = {}  # reference -> what its order is to reach

    def earlier(self, execution_id: str) -> None:
        """An execution that is already part of the position."""
        self._rows.setdefault(execution_root(execution_id), -1)

    def intend(self, ref: str, goal: TargetSpec) -> None:
        self._goals[ref] = goal

    def used(self, ref: str) -> bool:
        return ref in self._goals

    def filled(self, ref: str) -> tuple[Fill, ...]:
        """The fills of the orders with exactly this reference."""
        return tuple(fill for fill in self._valid() if fill.ref == ref)

    def traded(self, ref: str) -> tuple[Fill, ...]:
        """The fills of all orders that traded towards the target with this reference."""
        return tuple(
            fill
            for fill in self._valid()
            if fill.reason == "target" and traded_for(fill.ref) == ref
        )

    def _valid(self) -> Iterator[Fill]:
        return (fill for row, fill in enumerate(self.fills) if row not in self._superseded)

    def record(self, fill: Fill) -> bool:
        """Book one execution, once; True if it is new."""
        root = execution_root(fill.execution_id)
        if root in self._rows:
            self._corrected(root, fill)
            return False
        if not self._ours(fill.ref):
            self.trouble = (
                f"the execution {fill.execution_id} of {fill.quantity} {fill.symbol} was not"
                " ordered by this session"
            )
            fill = fill._replace(reason="foreign")
        self._rows[root] = len(self.fills)
        self.fills.append(fill)
        goal = self._goals.get(fill.ref)
        self.book.report(fill, exact(goal.bracket) if goal else NO_BRACKET)
        return True

    def _corrected(self, root: str, fill: Fill) -> None:
        """The exchange may change the price of an execution: it is sent once more and replaces
        the one before.
        """
        row = self._rows[root]
        if row < 0 or self.fills[row].execution_id == fill.execution_id:
            return
        was = self.fills[row]
        if was.quantity != fill.quantity:
            self.trouble = (
                f"the broker changed the execution {was.execution_id} from {was.quantity} to"
                f" {many(fill.quantity, 'contract')}"
            )
        self._superseded.add(row)
        self._rows[root] = len(self.fills)
        self.fills.append(fill._replace(reason=was.reason))
        if self.book is self.own:  # a session corrects its book with its journal
            self.own.correct(fill, was.price)

    def commission(self, execution_id: str, usd: float) -> None:
        row = self._rows.get(execution_root(execution_id), -1)
        if row >= 0:
            self.fills[row] = self.fills[row]._replace(commission_usd=usd)

    def check(self) -> None:
        if self.trouble:
            raise Uncertain(
                f"{self.trouble}; compare the account with the journal before trading on"
            )
