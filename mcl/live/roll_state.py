"""The move of a position to the next contract, as the roll table has it and as the journal knows
how far it has come.

In a backtest a roll is one thing: both legs at the open of the roll's session. A broker has two
orders. So the journal names both under one reference before the first of them leaves, and adds up
what has filled of each; whoever comes back in the middle sees what is left to do. Until both legs
are whole, the account is the one that still holds the old contract: its levels and its marks are in
old prices, which are the new ones less the gap that the roll table measured.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from mcl.base.instants import NS
from mcl.broker.order_references import decision_of
from mcl.broker.protocol import Fill
from mcl.data.bars import Bars
from mcl.engine.account import Holding, Ledger, profit_level, rolled, stop_level
from mcl.engine.decision import NO_BRACKET, Bracket, sign
from mcl.live.journal_records import RollState
from mcl.market import calendar
from mcl.market.instruments import Contract

AT_ONCE_NS = 60 * NS
OUT, IN = "/out", "/in"  # what follows the reference of a roll on the orders of its two legs


@dataclass(frozen=True)
class ContractRoll:
    """The last roll into the contract of a session: what may still be held from before it."""

    outgoing: Contract
    day: int  # of the session at whose open it happens, days since 1970-01-01
    gap: float  # incoming minus outgoing, price units
    # where the outgoing contract traded at that open; NaN when it is not this session's, or not
    # known
    outgoing_open: float


def roll_into(bars: Bars, row: int) -> ContractRoll | None:
    """The last roll of the table up to the session of `row`; None when its contract is the first
    one.
    """
    day, contract = int(bars.session[row]), bars.contracts[int(bars.contract[row])]
    days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    table = bars.roll_table[
        (days <= day) & (bars.roll_table["to_symbol"] == contract.symbol).to_numpy()
    ]
    if table.empty:
        return None
    last = table.iloc[-1]
    outgoing = next(
        candidate for candidate in bars.contracts if candidate.symbol == last["from_symbol"]
    )
    own = float(bars.outgoing_open[row]) if bars.roll[row] else math.nan
    return ContractRoll(outgoing, calendar.to_day(last["session"].date()), float(last["gap"]), own)


@dataclass
class PendingRoll:
    """A roll on its way. Quantities are signed and prices are ticks of their own contract; symbols
    are the broker's.
    """

    outgoing: str
    incoming: str
    gap_ticks: float  # incoming minus outgoing by the roll table
    refs: set[str] = field(default_factory=set)  # of every attempt
    quantity: Counter[str] = field(default_factory=Counter)  # traded so far, by symbol
    worth: dict[str, float] = field(default_factory=dict)  # its quantity times price
    last: dict[str, int] = field(default_factory=dict)  # time of its last fill, ns

    @classmethod
    def of(cls, state: RollState) -> PendingRoll:
        """From the record of a journal."""
        return cls(
            outgoing=state.outgoing,
            incoming=state.incoming,
            gap_ticks=state.gap_ticks,
            refs=set(state.refs),
            quantity=Counter(state.quantity),
            worth=dict(state.worth),
            last=dict(state.last),
        )

    def state(self) -> RollState:
        """For a record of the journal."""
        return RollState(
            outgoing=self.outgoing,
            incoming=self.incoming,
            gap_ticks=self.gap_ticks,
            refs=tuple(sorted(self.refs)),
            quantity=dict(self.quantity),
            worth=dict(self.worth),
            last=dict(self.last),
        )

    @property
    def has_filled(self) -> bool:
        """Whether anything has filled."""
        return any(self.quantity.values())

    def explains(self, fill: Fill) -> bool:
        return decision_of(fill.ref) in self.refs

    def take(self, fill: Fill, ticks: float) -> None:
        self.quantity[fill.symbol] += fill.quantity
        self.worth[fill.symbol] = self.worth.get(fill.symbol, 0.0) + fill.quantity * ticks
        self.last[fill.symbol] = fill.time

    def price(self, symbol: str) -> float:
        """Average, ticks."""
        return self.worth[symbol] / self.quantity[symbol]

    def whole(self, position: int) -> bool:
        """Both legs have filled for all that is held."""
        return (
            position != 0
            and self.quantity[self.incoming] == position == -self.quantity[self.outgoing]
        )

    def settle(self, ledger: Ledger) -> None:
        """Both legs are whole: the ledger continues in the new contract, its levels moved as the
        market was when the legs filled.

        That gap is the one between the fills without the assumed slippage of both, which went
        against us: the backtest's. Between legs further apart than AT_ONCE_NS the market has moved
        as well: then it is the gap of the table.
        """
        sold, bought = self.price(self.outgoing), self.price(self.incoming)
        gap = bought - sold - 2 * sign(ledger.holding.position) * ledger.money.slippage_ticks
        at_once = abs(self.last[self.incoming] - self.last[self.outgoing]) <= AT_ONCE_NS
        ledger.roll(sold, bought, float(round(gap)) if at_once else self.gap_ticks)

    def levels(self, holding: Holding, symbol: str) -> Holding:
        """The levels of the whole, in the prices of a contract."""
        if symbol != self.incoming:
            return holding
        return rolled(holding, 0.0, 0.0, self.gap_ticks)

    def bracket(self, holding: Holding, slippage_ticks: float) -> Bracket:
        """From the fill in the new contract to the stop and to the take-profit, so that both move
        by the gap of the market. Ticks, at least one: a level that the market has passed is moved
        to its place when the fill is known. The level that a trailing stop has reached is a stop
        like any other here: it trails on from the close of the bar.
        """
        side, sold = sign(holding.position), self.price(self.outgoing)
        stop = side * (sold - stop_level(holding)) + 2 * slippage_ticks
        take = side * (profit_level(holding) - sold) - 2 * slippage_ticks
        return Bracket(
            stop_ticks=_at_least_one(stop),
            take_profit_ticks=_at_least_one(take),
            trail_ticks=math.nan,
        )

    def give_up(self, ledger: Ledger) -> None:
        """A person ends it half way: what was closed and not opened again was closed for good, the
        rest has moved.
        """
        closed, opened = -self.quantity[self.outgoing], self.quantity[self.incoming]
        if closed != opened:
            ledger.fill(opened - closed, self.price(self.outgoing), NO_BRACKET)
        if opened:
            self.settle(ledger)


def _at_least_one(ticks: float) -> float:
    return ticks if math.isnan(ticks) else max(1.0, ticks)
