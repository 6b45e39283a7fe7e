"""The one position book: what orders see at once is what the journal makes of it later, and it is
what an account that is kept by another arithmetic holds.
"""

from __future__ import annotations

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.broker.fills import ExecutionBook
from mcl.broker.protocol import Fill
from mcl.engine.account import FLAT, Ledger, Money, profit_level, stop_level
from mcl.engine.decision import NO_BRACKET, NO_TARGET, Bracket
from mcl.live.roll_state import IN, OUT, PendingRoll
from mcl.live.session_state import SessionBook
from mcl.market import calendar
from mcl.simulators.tws.account import AccountTerms, SimulatedAccount
from mcl.simulators.tws.contracts import Listings

TICK = 0.01
BRACKET = Bracket(stop_ticks=40.0, take_profit_ticks=60.0, trail_ticks=math.nan)
LISTINGS = Listings(date(2026, 1, 6), [calendar.contract("MCL", 2026, 2)])
MCLG6 = LISTINGS.of(calendar.contract("MCL", 2026, 2))
SYMBOL = "MCLG6"
TRADES = st.lists(
    st.tuples(st.integers(-3, 3).filter(bool), st.integers(5_980, 6_020)), min_size=1, max_size=20
)


def fill(number: int, quantity: int, ticks: float, ref: str = "a", symbol: str = SYMBOL) -> Fill:
    return Fill(
        execution_id=f"e{number}.01",
        time=number,
        symbol=symbol,
        quantity=quantity,
        price=round(ticks * TICK, 10),
        commission_usd=0.77,
        reason="target",
        ref=ref,
    )


def empty() -> SessionBook:
    money = Money(capital_usd=25_000.0, tick_value_usd=1.0, commission_usd=0.77, slippage_ticks=1.0)
    target = NO_TARGET._replace(bracket=BRACKET)
    return SessionBook(ledger=Ledger(money), tick_size=TICK, target=target)


@given(TRADES, st.data())
def test_what_was_reported_is_seen_at_once_and_counted_once(
    trades: list[tuple[int, int]], data: st.DataObject
) -> None:
    """The journal may lag behind by any number of executions: the holding does not."""
    book, alone = empty(), ExecutionBook(TICK)
    behind: list[Fill] = []
    for number, (quantity, ticks) in enumerate(trades):
        behind.append(fill(number, quantity, ticks))
        book.report(behind[-1], BRACKET)
        alone.report(behind[-1], BRACKET)
        for _ in range(data.draw(st.integers(0, len(behind)))):
            accounted = behind.pop(0)
            book.take(accounted)
            book.report(accounted, BRACKET)  # told once more, as after a new question
        seen, executed = book.holding(SYMBOL), alone.holding(SYMBOL)
        assert seen.position == executed.position
        assert repr(seen[3:]) == repr(executed[3:])  # entry and levels
    while behind:
        book.take(behind.pop(0))
    assert book.reported == []
    assert repr(book.ledger.holding) == repr(alone.holding(SYMBOL))
    assert book.positions[SYMBOL] == sum(quantity for quantity, _ in trades)


@given(TRADES, st.integers(5_980, 6_020))
def test_the_book_agrees_with_the_account_of_the_simulated_tws(
    trades: list[tuple[int, int]], mark: int
) -> None:
    """Two arithmetics that share no line: ticks and cash here, USD and average cost there."""
    book = empty()
    account = SimulatedAccount("DU1", 25_000.0, AccountTerms(commission_usd=0.77))
    for number, (quantity, ticks) in enumerate(trades):
        book.take(fill(number, quantity, ticks))
        account.trade(MCLG6, quantity, ticks * TICK)
    account.holding(MCLG6).mark = mark * TICK
    assert book.holding(SYMBOL).position == account.holding(MCLG6).quantity
    assert book.ledger.mark(mark) == pytest.approx(account.equity)


def test_between_the_legs_of_a_roll_each_contract_has_its_part() -> None:
    """By hand: 2 of the old contract with a stop at 5,960; the new one is 30 ticks higher. Both
    legs have filled for one, and only the old leg is in the journal.
    """
    book = empty()
    book.take(fill(1, 2, 6_000.0))
    book.pending_roll = PendingRoll(SYMBOL, "MCLH6", 30.0, {"roll"})
    out = fill(2, -1, 6_001.0, ref="roll" + OUT)
    book.report(out, NO_BRACKET)
    book.take(out)
    book.report(fill(3, 1, 6_031.0, ref="roll" + IN, symbol="MCLH6"), NO_BRACKET)
    old, new = book.holding(SYMBOL), book.holding("MCLH6")
    assert (old.position, stop_level(old), profit_level(old)) == (1, 5_960.0, 6_060.0)
    assert (new.position, stop_level(new), profit_level(new)) == (1, 5_990.0, 6_090.0)
    assert book.ledger.holding.position == 2
    assert book.holding("MCLJ6") == FLAT


def test_a_position_without_levels_gets_those_of_the_next_target() -> None:
    """An operator took it over before the first decision. Levels that are there stay."""
    book = empty()
    book.target = NO_TARGET
    book.take(fill(1, -1, 6_000.0))
    assert math.isnan(stop_level(book.holding(SYMBOL)))
    book.aim(SYMBOL, BRACKET)
    holding = book.holding(SYMBOL)
    assert (stop_level(holding), profit_level(holding)) == (6_040, 5_940)
    book.aim(SYMBOL, BRACKET._replace(stop_ticks=10.0))
    assert stop_level(book.holding(SYMBOL)) == 6_040


def test_a_trailing_stop_of_a_position_that_rolls_is_in_the_prices_of_each_contract() -> None:
    """By hand: bought at 6,000 with a trail of 40. The new contract, 30 ticks higher, closes at
    6,050, which is 6,020 in the old one; the legs then fill 33 ticks apart, slippage of 2 in it.
    """
    book = empty()
    book.target = NO_TARGET._replace(bracket=BRACKET._replace(trail_ticks=40.0))
    book.take(fill(1, 1, 6_000.0))
    book.pending_roll = PendingRoll(SYMBOL, "MCLH6", 30.0, {"roll"})
    book.mark(6_050.0)
    assert stop_level(book.holding(SYMBOL)) == 5_980.0
    book.take(fill(2, -1, 6_015.0, ref="roll" + OUT))
    assert book.pending_roll.bracket(book.ledger.holding, 1.0)[:1] == (37.0,)  # 6,048 - 6,011
    book.take(fill(3, 1, 6_048.0, ref="roll" + IN, symbol="MCLH6"))
    assert stop_level(book.holding("MCLH6")) == 6_011.0
    book.mark(6_060.0)
    assert stop_level(book.holding("MCLH6")) == 6_020.0
