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
import math
from typing import TYPE_CHECKING

from mcl.base.errors import GuardError, Halt, Rejected
from mcl.live.journal import Draft
from mcl.live.roll_state import IN, OUT, Move

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
    move = book.move or Move(leaving.local_symbol, runner.pinned.local_symbol, gap)
    book.repairs += 1
    ref = runner.reference(f"roll{book.repairs}")
    move.refs.add(ref)
    runner.journal.append(
        Draft(
            "roll",
            {"bar": runner.bars, "position": book.ledger.holding.position, **move.state()},
            ref,
        )
    )
    book.refs.add(ref)
    book.move = move


async def rolled(runner: Runner) -> None:
    """Move what is held, as soon as the market trades. Nothing to do when its stop, or a person,
    has closed it meanwhile.

    Halt: a guard or the broker refuses a leg. Other BrokerErrors: it is not known how far it came;
    the books are compared.
    """
    async with runner.turn:
        await runner.account_for_fills()
        if runner.book.move is None:
            return
        runner.rolling = True
        try:
            await _both_legs(runner, runner.book.move)
        finally:
            runner.rolling = False


async def _both_legs(runner: Runner, move: Move) -> None:
    held, ref = runner.book.ledger.holding.position, max(move.refs, key=lambda ref: (len(ref), ref))
    try:
        await runner.broker.admit(
            runner.pinned,
            runner.book.target._replace(
                position=held, stop_ticks=math.nan, take_profit_ticks=math.nan
            ),
            ref + IN,
        )
        await _leave(runner, move, ref + OUT)
        await _enter(runner, move, ref + IN)
    except (GuardError, Rejected) as error:
        runner.answered(ref)
        await _secured(runner)
        raise Halt(
            f"the roll of {held:+d} {move.outgoing} to {move.incoming} was refused; held now:"
            f" {runner.held_words()}: {error.message}",
            "adopt tries the roll again, flatten closes what is held",
        ) from None
    runner.answered(ref)
    if runner.book.move is None and runner.book.ledger.holding.position:
        sentence = (
            f"{runner.book.ledger.holding.position:+d} {move.outgoing} moved to {move.incoming}"
            f" ({ref})"
        )
        runner.board.alert("info", "ROLL", sentence)
        log.info("%s", sentence)


async def _leave(runner: Runner, move: Move, ref: str) -> None:
    """The old leg, with what its protection has not closed meanwhile."""
    if runner.leaving is not None and runner.book.positions[move.outgoing]:
        await runner.broker.trade_to(
            runner.leaving, runner.book.target._replace(position=0), ref, admitted=True
        )
        await runner.account_for_fills()


async def _enter(runner: Runner, move: Move, ref: str) -> None:
    """The new leg, protected from its fill on; then the levels exactly where both fills put
    them.
    """
    book = runner.book
    if book.move is None:
        return  # the stop of the old contract was first
    holding = book.ledger.holding
    stop, take = move.distances(holding, book.ledger.money.slippage_ticks)
    goal = book.target._replace(position=holding.position, stop_ticks=stop, take_profit_ticks=take)
    await runner.broker.trade_to(runner.pinned, goal, ref, admitted=True)
    await runner.account_for_fills()
    runner.broker.resume(runner.pinned, book.ledger.holding, book.refs)
    if not runner.broker.protected(runner.pinned):
        await runner.broker.protect(runner.pinned, ref)
        await runner.account_for_fills()


async def _secured(runner: Runner) -> None:
    """Whatever is held, in whichever contract, is protected before anything else."""
    await runner.account_for_fills()
    for contract, holding in runner.holdings():
        runner.broker.resume(contract, holding, runner.book.refs)
        await runner.secure(contract, holding)
