"""The roll at the broker: out of the old contract, into the new one, as one thing that the journal
knows before it begins.

Two orders for the market, not one for a calendar spread: whether an exchange takes a spread order
of two given months at that hour is not certain, its fill need not have the prices of the legs, and
the backtest pays for two. They go one after the other, the old leg first: between them less is
held, never more. What protected the old position is cancelled before its leg leaves, the new leg
takes its protection along. When a leg is refused the session is HALTED and names what is held;
`adopt` tries again, `flatten` ends it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mcl.base.errors import GuardError, Halt, Rejected
from mcl.engine.decision import NO_BRACKET
from mcl.live.journal_records import RollStart
from mcl.live.roll_state import IN, OUT, PendingRoll

if TYPE_CHECKING:
    from mcl.live.runner import Runner

log = logging.getLogger("mcl.live")


def declare(runner: Runner) -> None:
    """Write down that what is held of the old contract is to be in the new one, under a reference
    for this connection's attempt.
    """
    book, roll, leaving = runner.book, runner.stage.roll, runner.leaving
    if roll is None or leaving is None:
        return
    gap = float(round(roll.gap / book.tick_size))
    pending_roll = book.pending_roll or PendingRoll(
        leaving.local_symbol, runner.pinned.local_symbol, gap
    )
    book.repairs += 1
    ref = runner.reference(f"roll{book.repairs}")
    pending_roll.refs.add(ref)
    runner.journal.append(
        RollStart(
            bar=runner.bars,
            position=book.ledger.holding.position,
            **pending_roll.state()._asdict(),
        ).draft(ref)
    )
    book.refs.add(ref)
    book.pending_roll = pending_roll


async def execute_roll(runner: Runner) -> None:
    """Move what is held, as soon as the market trades. Nothing to do when its stop, or a person,
    has closed it meanwhile.

    Halt: a guard or the broker refuses a leg. Other BrokerErrors: it is not known how far it came;
    the books are compared.
    """
    async with runner.turn:
        await runner.account_for_fills()
        if runner.book.pending_roll is None:
            return
        runner.rolling = True
        try:
            await _both_legs(runner, runner.book.pending_roll)
        finally:
            runner.rolling = False


async def _both_legs(runner: Runner, pending_roll: PendingRoll) -> None:
    position = runner.book.ledger.holding.position
    ref = max(pending_roll.refs, key=lambda ref: (len(ref), ref))
    try:
        await runner.broker.admit(
            runner.pinned,
            runner.book.target._replace(position=position, bracket=NO_BRACKET),
            ref + IN,
        )
        await _leave(runner, pending_roll, ref + OUT)
        await _enter(runner, pending_roll, ref + IN)
    except (GuardError, Rejected) as error:
        runner.answered(ref)
        await _secured(runner)
        raise Halt(
            f"the roll of {position:+d} {pending_roll.outgoing} to {pending_roll.incoming} was"
            f" refused; held now: {runner.holdings_text()}: {error.message}",
            "adopt tries the roll again, flatten closes what is held",
        ) from None
    runner.answered(ref)
    if runner.book.pending_roll is None and runner.book.ledger.holding.position:
        moved = runner.book.ledger.holding.position
        sentence = f"{moved:+d} {pending_roll.outgoing} moved to {pending_roll.incoming} ({ref})"
        runner.status_board.alert("info", "ROLL", sentence)
        log.info("%s", sentence)


async def _leave(runner: Runner, pending_roll: PendingRoll, ref: str) -> None:
    """Send the old leg, with what its protection has not closed meanwhile."""
    if runner.leaving is not None and runner.book.positions[pending_roll.outgoing]:
        await runner.broker.trade_to(
            runner.leaving, runner.book.target._replace(position=0), ref, admitted=True
        )
        await runner.account_for_fills()


async def _enter(runner: Runner, pending_roll: PendingRoll, ref: str) -> None:
    """Send the new leg, protected from its fill on; then the levels exactly where both fills put
    them.
    """
    book = runner.book
    if book.pending_roll is None:
        return  # the stop of the old contract was first
    holding = book.ledger.holding
    bracket = pending_roll.bracket(holding, book.ledger.money.slippage_ticks)
    goal = book.target._replace(position=holding.position, bracket=bracket)
    await runner.broker.trade_to(runner.pinned, goal, ref, admitted=True)
    await runner.account_for_fills()
    if not runner.broker.protected(runner.pinned):
        await runner.broker.protect(runner.pinned, ref)
        await runner.account_for_fills()


async def _secured(runner: Runner) -> None:
    """Whatever is held, in whichever contract, is protected before anything else."""
    await runner.account_for_fills()
    for contract, holding in runner.holdings():
        await runner.secure(contract, holding)
