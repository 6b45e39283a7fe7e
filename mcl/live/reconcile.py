"""Reconcile the broker's books with the journals before anything may be sent. Start-up and recovery
are one path.

Executions, working orders and positions are read one after the other. What carries a reference of
ours is taken in; an order that was written down and of which the broker knows nothing never
arrived, and is not sent again: the next decision speaks for itself. Anything else is unknown, and a
person decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from mcl.base.errors import Halt, LiveError
from mcl.base.instants import NS
from mcl.broker.order_references import STOP, TAKE_PROFIT, decision_of, execution_root
from mcl.broker.protocol import Bar, Broker, BrokerSnapshot, Fill, QualifiedContract, WorkingOrder
from mcl.data.roll import gap
from mcl.data.synthetic.watermark import watermark
from mcl.live.journal import Draft, Journal
from mcl.live.journal_records import Adoption, SessionStart
from mcl.live.roll_orders import declare
from mcl.live.roll_state import ContractRoll
from mcl.live.runner import Runner, SessionConfig
from mcl.live.session_setup import Stage, stage_after_roll, with_history
from mcl.live.session_state import MOST_CARRIED, SessionBook, book_of
from mcl.live.status_board import StatusBoard
from mcl.market import calendar
from mcl.market.intervals import BAR_SEC

HISTORY = 500  # bars of the broker's own history that are compared with the stored ones
# so long positions and executions may contradict each other before that counts as unknown
SETTLE_SEC = 3.0
WAIT_SEC = 0.05


@dataclass(frozen=True)
class Unknown:
    """Holds what the broker has and no journal explains."""

    executions: tuple[Fill, ...] = ()
    orders: tuple[WorkingOrder, ...] = ()
    positions: tuple[tuple[str, int, int], ...] = ()  # symbol, the broker's, the journals'

    def __bool__(self) -> bool:
        return bool(self.executions or self.orders or self.positions)

    def report(self) -> str:
        """One clause for each."""
        fills = [
            f"an execution of {f.quantity:+d} {f.symbol} at {f.price:g} ({f.ref or 'no reference'})"
            for f in self.executions
        ]
        orders = [
            f"a working order {o.kind} {o.quantity:+d} {o.symbol}"
            f" ({o.ref or f'permanent id {o.permanent_id}'})"
            for o in self.orders
        ]
        positions = [
            f"{theirs} {symbol} held where the journal has {ours}"
            for symbol, theirs, ours in self.positions
        ]
        return "; ".join(positions + fills + orders)


def unexplained(book: SessionBook, snapshot: BrokerSnapshot) -> Unknown:
    """Pure: the difference of the two books, after every execution that carries a reference of ours
    is taken in.
    """
    new = [fill for fill in snapshot.executions if not book.knows(fill)]
    ours = Counter(book.positions)
    for fill in new:
        if book.explains(fill):
            ours[fill.symbol] += fill.quantity
    symbols = sorted({*ours, *snapshot.positions})
    return Unknown(
        tuple(fill for fill in new if not book.explains(fill)),
        tuple(
            o
            for o in snapshot.orders
            if decision_of(o.ref) not in book.refs and o.permanent_id not in book.adopted
        ),
        tuple(
            (s, snapshot.positions.get(s, 0), ours[s])
            for s in symbols
            if snapshot.positions.get(s, 0) != ours[s]
        ),
    )


class Unexplained(Halt):
    """Carries what a person has to decide on."""

    def __init__(self, unknown: Unknown, snapshot: BrokerSnapshot, account: str) -> None:
        super().__init__(
            f"account {account} holds what no journal explains: {unknown.report()}",
            "take it over as it is (adopt), or close the position and continue paused (flatten)",
        )
        self.unknown, self.snapshot = unknown, snapshot


async def reconcile(
    session: SessionConfig,
    broker: Broker,
    stage: Stage,
    journal: Journal,
    status_board: StatusBoard,
    tell: Callable[[int], None] = lambda _: None,
    closing: bool = False,
) -> Runner:
    """A runner that may trade: both books agree, missed bars and fills are taken in, the position
    is protected.

    `closing`: a runner that may only close. It needs no bars, and nothing is protected that is to
    be closed at once. Unexplained: an operator has to decide. Other LiveErrors: the history is not
    ours, or the broker did not answer.
    """
    pinned = await broker.qualify(stage.contract)
    book = book_of(journal.path, *session.terms, session.chain)
    clock = await broker.heartbeat()
    missed: list[Bar] = []
    compared: tuple[int, int] | None = None
    if not closing:
        stage, missed, compared = await _history(
            broker, pinned, stage, book, session.tolerance, clock
        )
    snapshot = await _agreed(session, broker, book)
    leaving = await _leaving(broker, stage, book, pinned)
    if not book.started:
        journal.append(_begin(session, stage, pinned, broker, book, clock, compared).draft())
        book.started = True
    status_board.mode = book.mode
    runner = Runner(session, broker, pinned, stage, journal, status_board, book, tell, leaving)
    runner.fills_seen = len(broker.fills())
    if leaving is not None and not closing:
        declare(runner)
    runner.catch_up(missed, snapshot.executions, clock)
    broker.resume(book, book.refs)
    for contract, holding in runner.holdings():
        # a replay that is over takes no orders
        if not closing and not (runner.over and session.replay):
            await runner.secure(contract, holding)
    return runner


def adopted(book: SessionBook, error: Unexplained, stage: Stage, price: float) -> Draft:
    """The entry by which a person takes over what the broker holds: a position that differs came at
    this price.
    """
    symbols = {stage.contract.symbol, *((stage.roll.outgoing.symbol,) if stage.roll else ())}
    theirs = sum(
        quantity for symbol, quantity in error.snapshot.positions.items() if symbol in symbols
    )
    ticks = round(price / book.tick_size, 6)
    if delta := theirs - book.ledger.holding.position:
        book.ledger.fill(delta, ticks, book.target.bracket)
    roots = {execution_root(fill.execution_id) for fill in error.snapshot.executions}
    return Adoption(
        ledger=book.ledger.state(),
        positions=error.snapshot.positions,
        executions=tuple(sorted(roots)),
        orders=tuple(order.permanent_id for order in error.unknown.orders),
        what=error.unknown.report(),
    ).draft()


async def _leaving(
    broker: Broker, stage: Stage, book: SessionBook, pinned: QualifiedContract
) -> QualifiedContract | None:
    """The contract that the roll table has left and that is still held, or half left; None when
    there is nothing to move.

    Halt: a position in any other contract is for an operator to decide, nothing is traded.
    """
    other = {
        symbol: quantity
        for symbol, quantity in book.open_positions.items()
        if symbol != pinned.local_symbol
    }
    if not other and book.pending_roll is None:
        return None
    outgoing = await broker.qualify(stage.roll.outgoing) if stage.roll is not None else None
    expected_symbols = {outgoing.local_symbol} if outgoing is not None else set()
    own = book.open_positions.get(pinned.local_symbol, 0)
    if (
        other.keys() - expected_symbols
        or (own and book.pending_roll is None)
        or (book.pending_roll and {book.pending_roll.outgoing} - expected_symbols)
    ):
        carried = (
            ", ".join(f"{quantity:+d} {symbol}" for symbol, quantity in book.open_positions.items())
            or "a roll that was not finished"
        )
        raise Halt(
            f"{carried} was carried over, this session trades {pinned.local_symbol} and moves only"
            " what is in the contract before it",
            "close it by hand in TWS, then say adopt",
        )
    return outgoing


async def _agreed(session: SessionConfig, broker: Broker, book: SessionBook) -> BrokerSnapshot:
    """The broker's snapshot, once both books agree and nothing of ours but protection works or is
    on its way; Unexplained after a short while. What was sent on the connection before may still
    arrive and fill: until it has, nothing is placed.
    """
    deadline = time.monotonic() + min(SETTLE_SEC, session.broker.timeout_sec)
    while True:
        snapshot = await broker.snapshot()
        if not book.started and not book.carried and not snapshot.positions and not snapshot.orders:
            # of before the first session
            book.executions.update(
                execution_root(fill.execution_id) for fill in snapshot.executions
            )
        if entries := [order for order in snapshot.orders if _opening(order, book)]:
            await broker.cancel(entries)
            continue
        if (on_its_way := book.in_flight_sec(snapshot.executions, time.time_ns())) > 0:
            await asyncio.sleep(min(WAIT_SEC, on_its_way))
            deadline = max(deadline, time.monotonic() + WAIT_SEC)
            continue
        unknown = unexplained(book, snapshot)
        if not unknown:
            return snapshot
        if unknown.executions or unknown.orders or time.monotonic() > deadline:
            if not book.started and not book.carried:
                raise _not_flat(session, unknown)
            raise Unexplained(unknown, snapshot, session.broker.account)
        await asyncio.sleep(WAIT_SEC)


def _opening(order: WorkingOrder, book: SessionBook) -> bool:
    """Left over from a decision: its bar is past, the next decision speaks for itself."""
    return decision_of(order.ref) in book.refs and not order.ref.endswith((STOP, TAKE_PROFIT))


def _not_flat(session: SessionConfig, unknown: Unknown) -> LiveError:
    """The first session of an account: there is no journal that could explain anything."""
    if unknown.positions:
        symbol, theirs, _ = unknown.positions[0]
        return LiveError(
            f"account {session.broker.account} already holds {theirs} {symbol}; a first session"
            " starts flat",
            "close the position by hand, then start again",
        )
    refs = ", ".join(order.ref or str(order.permanent_id) for order in unknown.orders)
    return LiveError(
        f"account {session.broker.account} has {len(unknown.orders)} working orders that no session"
        f" sent: {refs}",
        "cancel them first",
    )


def _begin(
    session: SessionConfig,
    stage: Stage,
    pinned: QualifiedContract,
    broker: Broker,
    book: SessionBook,
    clock: int,
    compared: tuple[int, int] | None,
) -> SessionStart:
    """`compared`: closes that both sides have, and those of them that differ."""
    deployed, (common, differing) = session.deployed, compared or (None, None)
    guards = session.broker.guards.model_dump_json().encode()
    return SessionStart(
        broker=session.broker.kind,
        account=session.broker.account,
        alias=deployed.alias,
        version=deployed.version,
        run_id=deployed.run_id,
        content_sha256=deployed.content_sha256,
        session=str(stage.date),
        contract=pinned.local_symbol,
        con_id=pinned.con_id,
        simulated=broker.simulated,
        max_position=session.limits.max_position,
        max_contracts=session.broker.max_contracts,
        guards_sha256=hashlib.sha256(guards).hexdigest(),
        broker_equity_usd=broker.equity_usd(),
        broker_clock_ns=clock,
        warmup_rows=len(stage.warmup),
        synthetic=watermark(stage.warmup) or None,
        history_bars=common,
        history_differing=differing,
        ledger=book.ledger.state(),
        positions=book.open_positions,
        refs=tuple(sorted(book.refs)[-MOST_CARRIED:]),
        executions=tuple(sorted(book.executions)[-MOST_CARRIED:]),
        adopted=tuple(sorted(book.adopted)),
        move=book.pending_roll.state() if book.pending_roll else None,
    )


# ------------------------------------------------------------------------------------------ history


async def _history(
    broker: Broker,
    pinned: QualifiedContract,
    stage: Stage,
    book: SessionBook,
    tolerance: float,
    clock: int,
) -> tuple[Stage, list[Bar], tuple[int, int]]:
    """Compare the broker's closes with the stored ones of the same contract, then take what has
    closed since.

    Returns the stage whose warm-up has no gap, the bars that closed since the last one in the
    journal, and how many closes were compared and differ.
    """
    warmup, interval = stage.warmup, stage.warmup.interval
    last = int(warmup.close_time[-1])
    missing = max(0, clock - last) // (BAR_SEC[interval] * NS)
    count = HISTORY + int(missing)
    history = await broker.history(pinned, count, interval)
    if stage.roll is not None and stage.unpriced:
        stage = await _over_the_roll(broker, stage, stage.roll, tolerance, history, count)
        compared, different = len(history), 0
    else:
        compared, different = _agreeing(stage, history, tolerance)
    if stage.stored is None:
        if not compared:
            raise LiveError(
                f"the broker's history of {pinned.local_symbol} does not reach back to the stored"
                " bars: nothing fills the gap",
                "mcl data download, then start again",
            )
        until, last = (
            book.bars[0].close_time - 1 if book.bars else clock,
            int(stage.warmup.close_time[-1]),
        )
        opened = _opens(stage, stage.roll.day) if stage.roll is not None else last
        stage = with_history(
            stage, [bar for bar in history if max(last, opened) < bar.close_time <= until]
        )
    last_close = book.bars[-1].close_time if book.bars else int(stage.warmup.close_time[-1])
    missed = [bar for bar in history if last_close < bar.close_time <= min(clock, stage.close_ns)]
    return stage, missed, (compared, different)


def _agreeing(stage: Stage, history: tuple[Bar, ...], tolerance: float) -> tuple[int, int]:
    """The number of closes of the stage's contract that both sides have, and of those that differ.
    LiveError: in more than the tolerance.
    """
    warmup = stage.warmup
    compared, differing = _compare_closes(
        warmup.close_time[stage.own_rows], warmup.close[stage.own_rows], history
    )
    if len(differing) > tolerance * compared:
        at = np.datetime64(differing[0], "ns").astype("datetime64[s]")
        raise LiveError(
            f"the broker's history differs from the stored bars in {len(differing)} of {compared}"
            f" closes, first at {at} UTC",
            "rebuild the data (mcl data build) or check the contract",
        )
    return compared, len(differing)


async def _over_the_roll(
    broker: Broker,
    stage: Stage,
    roll: ContractRoll,
    tolerance: float,
    history: tuple[Bar, ...],
    count: int,
) -> Stage:
    """The stored bars end in the contract before the roll: the broker's history of both continues
    from there. The gap is that of their last common bar before the roll's session, as in the roll
    table.
    """
    warmup = stage.warmup
    older = await broker.history(await broker.qualify(roll.outgoing), count, warmup.interval)
    compared, _ = _agreeing(replace(stage, contract=roll.outgoing), older, tolerance)
    opens = _opens(stage, roll.day)
    roll_gap = gap(*_closes(older), *_closes(history), opens)
    if not compared or roll_gap is None:
        raise LiveError(
            f"the broker's history of {roll.outgoing.symbol} and {stage.contract.symbol} does not"
            " tell the gap of their roll",
            "mcl data download, then start again",
        )
    last = int(warmup.close_time[-1])
    return stage_after_roll(
        stage,
        roll,
        [bar for bar in older if last < bar.close_time <= opens],
        round(roll_gap.value, 10),
    )


def _closes(bars: tuple[Bar, ...]) -> tuple[Any, Any]:
    return np.array([bar.close_time for bar in bars], np.int64), np.array(
        [bar.close for bar in bars]
    )


def _opens(stage: Stage, day: int) -> int:
    """The open of a session, ns."""
    on = calendar.from_day(day)
    return int(calendar.sessions(on, on + timedelta(days=1), stage.contract.root).open_ns[0])


def _compare_closes(close_time: Any, close: Any, history: tuple[Bar, ...]) -> tuple[int, list[int]]:
    """The number of bars that both sides have, and the close times of those whose closes differ."""
    theirs = {bar.close_time: bar.close for bar in history}
    both = np.isin(close_time, np.fromiter(theirs, np.int64, len(theirs)))
    ours = zip(close_time[both].tolist(), close[both].tolist(), strict=True)
    return int(both.sum()), [at for at, price in ours if abs(theirs[at] - price) > 1e-9]
