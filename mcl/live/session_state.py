"""Rebuild from the journals of an alias the positions, the ledger, the references that are ours,
and the bars of the session.

A session's journal begins with what the one before it carried over, so that two files tell
everything: this session's, and the latest earlier one of the same account. A replay on the embedded
server is a world of its own and carries nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mcl.broker.guards import GateHistory
from mcl.broker.order_references import decision_of, execution_root
from mcl.broker.protocol import Bar, Fill
from mcl.engine.account import Ledger, Money
from mcl.engine.decision import Bracket
from mcl.live.journal import Entry, read
from mcl.live.journal_records import RollEnd, ledger_state, record_of
from mcl.live.position_book import PositionBook
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


@dataclass(kw_only=True)
class SessionBook(PositionBook):
    """Adds up the journals of an alias: the positions, and all else that they tell."""

    bars: list[Bar] = field(default_factory=list)  # of this session, in order
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

    def report(self, fill: Fill, bracket: Bracket) -> None:
        if not self.knows(fill):
            super().report(fill, bracket)

    def take(self, fill: Fill) -> None:
        root = execution_root(fill.execution_id)
        self.executions.add(root)
        self.booked[root] = fill
        super().take(fill)

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


def _read_into(book: SessionBook, entries: Iterable[Entry]) -> None:
    for entry in entries:
        read_into(book, entry)


def empty_book(money: Money, tick_size: float) -> SessionBook:
    """A book without positions, fills or references."""
    return SessionBook(ledger=Ledger(money), tick_size=tick_size)


def read_into(book: SessionBook, entry: Entry) -> None:
    """Add one entry of a journal to the book."""
    reader = _READERS.get(entry.kind)
    # a decision that no ledger follows is one of a journal written by hand
    if reader is not None and not (entry.kind == "decision" and "ledger" not in entry.body):
        reader(book, record_of(entry), entry)


def _begin(book: SessionBook, begin: Any, _entry: Entry) -> None:
    if not book.started:
        book.history = GateHistory(start_usd=begin.broker_equity_usd)
        book.unanswered.clear()
    if not book.started and begin.ledger is not None:
        book.ledger = Ledger.restored(book.ledger.money, begin.ledger)
        book.positions = Counter(begin.positions)
        book.refs, book.executions = set(begin.refs), set(begin.executions)
        book.adopted = set(begin.adopted)
        book.pending_roll = PendingRoll.of(begin.move) if begin.move is not None else None
    book.started = True


def _bar(book: SessionBook, closed: Any, _entry: Entry) -> None:
    book.bars.append(closed.bar)


def _decision(book: SessionBook, decided: Any, _entry: Entry) -> None:
    book.target = decided.decision
    book.ledger = Ledger.restored(book.ledger.money, decided.ledger)


def _armed(book: SessionBook, _armed: Any, entry: Entry) -> None:
    book.refs.add(decision_of(str(entry.key)))


def _order(book: SessionBook, order: Any, entry: Entry) -> None:
    ref = _sent(book, entry, order.after - order.before)
    book.history.ordered(ref, order.before, order.after, order.clock)


def _protect(book: SessionBook, order: Any, entry: Entry) -> None:
    book.repairs += 1
    closes = order.before is not None and order.after is not None
    _sent(book, entry, order.after - order.before if closes else None)


def _sent(book: SessionBook, entry: Entry, quantity: int | None) -> str:
    """From here on orders of this reference may be at the broker."""
    ref = decision_of(str(entry.key))
    book.refs.add(ref)
    book.unanswered[ref] = Sent(entry.at_ns, quantity)
    return ref


def _roll(book: SessionBook, roll: Any, entry: Entry) -> None:
    """Read a roll as written before its first leg left, or that a person ended it half way."""
    if isinstance(roll, RollEnd):
        book.give_up_roll()
        return
    book.repairs += 1
    _sent(book, entry, None)
    book.pending_roll = PendingRoll.of(roll.roll)


def _fill(book: SessionBook, booked: Any, _entry: Entry) -> None:
    book.history.filled(booked.ref)
    book.take(booked.fill)


def _adopt(book: SessionBook, adopted: Any, _entry: Entry) -> None:
    book.ledger = Ledger.restored(book.ledger.money, adopted.ledger)
    book.positions = Counter(adopted.positions)
    book.executions |= set(adopted.executions)
    book.adopted |= set(adopted.orders)
    book.pending_roll = None  # its state is what was taken over


def _command(book: SessionBook, command: Any, _entry: Entry) -> None:
    book.mode = MODES.get(command.word, book.mode)
    book.closing = command.word if command.word in CLOSING else book.closing


def _answered(book: SessionBook, _answer: Any, entry: Entry) -> None:
    book.unanswered.pop(str(entry.key), None)


def _refused(book: SessionBook, refusal: Any, entry: Entry) -> None:
    _answered(book, refusal, entry)
    book.history.refused(str(entry.key))


def _reject(book: SessionBook, _reject: Any, _entry: Entry) -> None:
    book.history.rejects += 1


def _flat(book: SessionBook, _done: Any, _entry: Entry) -> None:
    book.closing = ""


def _correct(book: SessionBook, corrected: Any, _entry: Entry) -> None:
    book.correct(corrected.fill, corrected.was)


_READERS: dict[str, Callable[[SessionBook, Any, Entry], None]] = {
    "begin": _begin,
    "bar": _bar,
    "decision": _decision,
    "armed": _armed,
    "order": _order,
    "protect": _protect,
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


def ledger_from(money: Money, body: dict[str, Any]) -> Ledger:
    """The ledger that wrote this state into a journal, where null means NaN."""
    return Ledger.restored(money, ledger_state(body))
