"""Rebuild from the journals of an alias the positions, the ledger, the references that are ours,
and the bars of the session.

A session's journal begins with what the one before it carried over, so that two files tell
everything: this session's, and the latest earlier one of the same account. A replay on the embedded
server is a world of its own and carries nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mcl.broker.fills import decision_of, execution_root
from mcl.broker.guards import GateHistory
from mcl.broker.protocol import Bar, Fill
from mcl.engine.account import Guard, Holding, Ledger, Money
from mcl.engine.decision import NO_TARGET, Bracket, Target
from mcl.live.journal import Entry, read
from mcl.live.roll_state import PendingRoll
from mcl.live.status import Mode

# references and executions that a journal takes over from the one before: far more than a week of
# them
MOST_CARRIED = 2000
# so long an order that nobody has answered may still reach the broker on a connection that is gone
IN_FLIGHT_SEC = 3.0
MODES = {  # what a command makes of a session from the moment it is written down
    "pause": Mode.PAUSED,
    "resume": Mode.NORMAL,
    "reduce-only": Mode.REDUCE_ONLY,
    "flatten": Mode.PAUSED,
    "kill": Mode.PAUSED,
}
CLOSING = ("flatten", "kill")  # commands that are done when nothing is held and no own order works


class Sent(NamedTuple):
    """Orders that were written down under one reference."""

    at_ns: int  # local clock
    quantity: int | None  # what they trade together; None when that is not known


@dataclass
class SessionBook:
    """Adds up the journals of an alias. `ledger` and `target` are those after the last decision and
    every fill since.
    """

    ledger: Ledger
    tick_size: float
    target: Target = NO_TARGET
    bars: list[Bar] = field(default_factory=list)  # of this session, in order
    positions: Counter[str] = field(default_factory=Counter)  # contracts by symbol
    refs: set[str] = field(default_factory=set)  # decisions that orders may have been sent for
    executions: set[str] = field(default_factory=set)  # roots of those that are accounted for
    # permanent ids of orders of others that an operator has accepted
    adopted: set[int] = field(default_factory=set)
    mode: Mode = Mode.NORMAL
    started: bool = False  # this session's journal has a beginning
    carried: bool = False  # something came over from an earlier session
    # protective orders placed again, and rolls: what makes their references unique
    repairs: int = 0
    # fills of this session as they were last told, by the root of their id
    booked: dict[str, Fill] = field(default_factory=dict)
    closing: str = ""  # flatten or kill: said by an operator or a guard, and not done yet
    # by reference: orders that the broker may not have answered
    unanswered: dict[str, Sent] = field(default_factory=dict)
    # of this session: what the guards count
    history: GateHistory = field(default_factory=GateHistory)
    # what is held waits to be in the next contract, or is on its way there
    pending_roll: PendingRoll | None = None

    def take(self, fill: Fill) -> None:
        """Account for one execution that is in the journal."""
        self.executions.add(execution_root(fill.execution_id))
        self.booked[execution_root(fill.execution_id)] = fill
        self.positions[fill.symbol] += fill.quantity
        ticks = round(fill.price / self.tick_size, 6)
        if self.pending_roll is not None and self.pending_roll.explains(fill):
            self.pending_roll.take(fill, ticks)
        elif fill.reason == "target":
            self.ledger.fill(fill.quantity, ticks, self.target.bracket)
        else:
            self.ledger.stop_out(fill.quantity, ticks)
        self._arrived()

    def _arrived(self) -> None:
        """A roll is over when both legs are whole, or when nothing is held that could move."""
        position = self.ledger.holding.position
        if self.pending_roll is not None and self.pending_roll.whole(position):
            self.pending_roll.settle(self.ledger)
            self.pending_roll = None
        elif (
            self.pending_roll is not None and not position and not any(self.open_positions.values())
        ):
            self.pending_roll = None

    def mark(self, close_ticks: float) -> None:
        """At a close of the session's contract; what is still in the one before is worth that less
        the gap.
        """
        self.ledger.mark(close_ticks - (self.pending_roll.gap_ticks if self.pending_roll else 0.0))

    def correction(self, fill: Fill) -> float | None:
        """The price at which a fill was booked that now has another one; None when nothing has
        changed, or it is of an earlier session.
        """
        was = self.booked.get(execution_root(fill.execution_id))
        if was is None or was.execution_id == fill.execution_id or was.price == fill.price:
            return None
        return was.price

    def correct(self, fill: Fill, was: float) -> None:
        """Correct the price of an execution that is in the journal."""
        self.booked[execution_root(fill.execution_id)] = fill
        before, now = (round(price / self.tick_size, 6) for price in (was, fill.price))
        self.ledger.correct(fill.quantity, before, now)

    def in_flight_sec(self, executions: Iterable[Fill], now_ns: int) -> float:
        """So long an order of ours may still arrive at the broker and fill; 0 when all are
        answered, by the journal or by executions.
        """
        traded: Counter[str] = Counter()
        for fill in executions:
            if fill.reason == "target":
                traded[decision_of(fill.ref)] += fill.quantity
        open_ = [
            sent.at_ns
            for ref, sent in self.unanswered.items()
            if sent.quantity is None or traded[ref] != sent.quantity
        ]
        return max(
            (min(IN_FLIGHT_SEC, IN_FLIGHT_SEC - (now_ns - at) / 1e9) for at in open_), default=0.0
        )

    def explains(self, fill: Fill) -> bool:
        return decision_of(fill.ref) in self.refs

    def knows(self, fill: Fill) -> bool:
        return execution_root(fill.execution_id) in self.executions

    @property
    def open_positions(self) -> dict[str, int]:
        """By symbol, flat ones left out."""
        return {symbol: quantity for symbol, quantity in self.positions.items() if quantity}


# kind of broker and account: whose sessions follow one another
Chain = tuple[Literal["tws", "sim"], str]


def book_of(path: Path, money: Money, tick_size: float, chain: Chain | None) -> SessionBook:
    """The book of the session whose journal is `path`. `chain` None: a replay that is a world of
    its own and carries nothing over.
    """
    entries = read(path)
    book = (
        None
        if chain is None or any(entry.kind == "begin" for entry in entries)
        else carried(path, money, tick_size, chain)
    )
    book = book or empty_book(money, tick_size)
    _read_into(book, entries)
    return book


def carried(path: Path, money: Money, tick_size: float, chain: Chain) -> SessionBook | None:
    """The book that the session of the journal `path` takes over from the one before it: all but
    its bars and its mode. None: nothing before it.
    """
    earlier = _latest_before(path, chain)
    if earlier is None:
        return None
    book = empty_book(money, tick_size)
    _read_into(book, read(earlier))
    book.ledger.open_session()
    return SessionBook(
        ledger=book.ledger,
        tick_size=tick_size,
        target=book.target,
        positions=book.positions,
        refs=book.refs,
        executions=book.executions,
        adopted=book.adopted,
        carried=True,
        closing=book.closing,
        pending_roll=book.pending_roll,
    )


def _latest_before(path: Path, chain: Chain) -> Path | None:
    """The newest journal of an earlier session of this folder on such a broker with this account;
    of a repeated replay the last one.
    """
    for candidate in sorted(
        path.parent.glob("*.sqlite"), key=lambda p: (p.stem[:10], len(p.name), p.name), reverse=True
    ):
        if candidate.stem[:10] < path.stem[:10] and chain_of(candidate) == chain:
            return candidate
    return None


def chain_of(path: Path) -> Chain | None:
    """The kind of broker and the account of a journal; None: its session has not begun."""
    entries = read(path, ("begin",))
    body: Any = entries[0].body if entries else {}
    return (body.get("broker"), body.get("account")) if entries else None


def carried_over(book: SessionBook) -> dict[str, Any]:
    """The state with which a journal begins: enough to need no other file."""
    return {
        "ledger": book.ledger.state(),
        "positions": book.open_positions,
        "refs": sorted(book.refs)[-MOST_CARRIED:],
        "executions": sorted(book.executions)[-MOST_CARRIED:],
        "adopted": sorted(book.adopted),
        **({"move": book.pending_roll.state()} if book.pending_roll else {}),
    }


def _read_into(book: SessionBook, entries: Iterable[Entry]) -> None:
    for entry in entries:
        read_into(book, entry)


def empty_book(money: Money, tick_size: float) -> SessionBook:
    """A book without positions, fills or references."""
    return SessionBook(Ledger(money), tick_size)


def read_into(book: SessionBook, entry: Entry) -> None:
    """Add one entry of a journal to the book."""
    _READERS.get(entry.kind, _skip)(book, entry)


def _skip(_book: SessionBook, _entry: Entry) -> None: ...


def _begin(book: SessionBook, entry: Entry) -> None:
    if not book.started:
        book.history = GateHistory(start_usd=_nan(entry.body.get("broker_equity_usd")))
        book.unanswered.clear()
    if not book.started and "ledger" in entry.body:
        _snapshot(book, entry.body)
        book.positions = Counter(entry.body["positions"])
        book.refs, book.executions = set(entry.body["refs"]), set(entry.body["executions"])
        book.adopted = set(entry.body["adopted"])
        book.pending_roll = PendingRoll.of(entry.body["move"]) if "move" in entry.body else None
    book.started = True


def _bar(book: SessionBook, entry: Entry) -> None:
    book.bars.append(Bar(**entry.body))


def _decision(book: SessionBook, entry: Entry) -> None:
    body = entry.body
    if "ledger" not in body:
        return
    # version 0.1 has written no `trail_ticks`
    bracket = Bracket(**{name: _nan(body.get(name)) for name in Bracket._fields})
    book.target = Target(
        position=body["target"],
        bracket=bracket,
        block=body["block"],
        locked=body["locked"],
        halted=body["halted"],
        stopped=body["stopped"],
    )
    _snapshot(book, body)


def _snapshot(book: SessionBook, body: dict[str, Any]) -> None:
    book.ledger = ledger_from(book.ledger.money, body["ledger"])


def _order(book: SessionBook, entry: Entry) -> None:
    ref = decision_of(str(entry.key))
    book.refs.add(ref)
    book.repairs += entry.kind in ("protect", "roll")
    if entry.kind != "armed":
        has_quantity = "from" in entry.body and "to" in entry.body and entry.kind != "roll"
        book.unanswered[ref] = Sent(
            entry.at_ns, entry.body["to"] - entry.body["from"] if has_quantity else None
        )
    if entry.kind == "order":
        book.history.ordered(ref, entry.body)
    if "ledger" in entry.body:
        _snapshot(book, entry.body)


def _roll(book: SessionBook, entry: Entry) -> None:
    """Read a roll as written before its first leg left, or that a person ended it half way."""
    if "given_up" in entry.body:
        give_up(book)
        return
    _order(book, entry)
    book.pending_roll = PendingRoll.of(entry.body)


def give_up(book: SessionBook) -> None:
    if book.pending_roll is not None:
        book.pending_roll.give_up(book.ledger)
        book.pending_roll = None


def _fill(book: SessionBook, entry: Entry) -> None:
    fill = _fill_of(entry)
    book.history.filled(fill.ref)
    book.take(fill)


def _fill_of(entry: Entry) -> Fill:
    body = {name: entry.body[name] for name in Fill._fields}
    return Fill(**body | {"commission_usd": _nan(body["commission_usd"])})


def _adopt(book: SessionBook, entry: Entry) -> None:
    _snapshot(book, entry.body)
    book.positions = Counter(entry.body["positions"])
    book.executions |= set(entry.body["executions"])
    book.adopted |= set(entry.body["orders"])
    book.pending_roll = None  # its state is what was taken over


def _command(book: SessionBook, entry: Entry) -> None:
    word = entry.body["word"]
    book.mode = MODES.get(word, book.mode)
    book.closing = word if word in CLOSING else book.closing


def _answered(book: SessionBook, entry: Entry) -> None:
    book.unanswered.pop(str(entry.key), None)


def _refused(book: SessionBook, entry: Entry) -> None:
    _answered(book, entry)
    book.history.refused(str(entry.key))


def _reject(book: SessionBook, _entry: Entry) -> None:
    book.history.rejects += 1


def _flat(book: SessionBook, _entry: Entry) -> None:
    book.closing = ""


def _correct(book: SessionBook, entry: Entry) -> None:
    book.correct(_fill_of(entry), float(entry.body["was"]))


_READERS = {
    "begin": _begin,
    "bar": _bar,
    "decision": _decision,
    "armed": _order,
    "order": _order,
    "protect": _order,
    "roll": _roll,
    "answered": _answered,
    "refused": _refused,
    "reject": _reject,
    "fill": _fill,
    "correct": _correct,
    "adopt": _adopt,
    "command": _command,
    "flat": _flat,
}


def ledger_from(money: Money, state: dict[str, Any]) -> Ledger:
    """The ledger that wrote this state into a journal, where null means NaN."""
    holding, guard = (
        {name: _nan(value) for name, value in state[part].items()} for part in ("holding", "guard")
    )
    return Ledger(money, Holding(**holding), Guard(**guard), float(state["equity"]))


def _nan(value: Any) -> Any:
    return math.nan if value is None else value
