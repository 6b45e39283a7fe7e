"""The decision alone: rounding, the order of the rules, and what happens when the account is not a
number.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.config import schema
from mcl.engine.decision import (
    FORCED,
    NO_BRACKET,
    Account,
    Bracket,
    Intent,
    Target,
    decide,
    whole_contracts,
)
from mcl.risk.blocks import Block
from mcl.risk.limits import LimitsRecord, limits_record

QUIET = Account(
    position=0,
    equity_usd=10_000.0,
    session_start_usd=10_000.0,
    peak_usd=10_000.0,
    trades=0,
    locked=False,
    halted=False,
    stopped=0,
    to_close_sec=3_600,
    orders=0,
    losses=0,
    since_loss=0,
    trade_usd=0.0,
)
WISH = Intent(wanted=0.0, buffer=0.0, bracket=NO_BRACKET, gate=0)
ALL = schema.Limits(
    max_position=2,
    max_order=2,
    max_trades_per_session=3,
    max_daily_loss_usd=500.0,
    max_drawdown_frac=0.2,
    no_entry_before_close_sec=600,
    flatten_before_close_sec=300,
)
RECORD = limits_record(ALL, "1m")


def target(wanted: float, limits: LimitsRecord = RECORD, **changes: object) -> Target:
    return decide(WISH._replace(wanted=wanted), QUIET._replace(**changes), limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "contracts"),
    [
        (0.1 * 3 * 10, 3),
        (2.9999999999, 3),
        (2.99, 2),
        (-2.99, -2),
        (-(0.1 + 0.2) * 10, -3),
        (0.99, 0),
        (math.nan, 0),
        (math.inf, 0),
    ],
)
def test_whole_contracts_are_cut_toward_zero_but_none_is_lost_to_rounding(
    wanted: float, contracts: int
) -> None:
    assert whole_contracts(wanted) == contracts


@pytest.mark.parametrize("name", ["equity_usd", "session_start_usd", "peak_usd"])
def test_an_account_that_is_not_a_number_gets_flat(name: str) -> None:
    not_a_number: dict[str, Any] = {name: math.nan}
    decision = target(1.0, **not_a_number)
    assert decision.position == 0
    assert decision.block >= FORCED


@pytest.mark.parametrize(
    ("changes", "block"),
    [
        ({"equity_usd": 9_500.0}, Block.DAILY_LOSS),
        ({"locked": True}, Block.DAILY_LOSS),
        (
            {"equity_usd": 9_600.0, "session_start_usd": 9_700.0, "peak_usd": 12_000.0},
            Block.MAX_DRAWDOWN,
        ),
        ({"halted": True, "locked": True}, Block.MAX_DRAWDOWN),
        ({"to_close_sec": 300, "position": 1}, Block.SESSION_END),
        ({"to_close_sec": 600}, Block.NO_ENTRY),
        ({"stopped": 1}, Block.STOPPED_OUT),
        ({"trades": 3}, Block.MAX_TRADES),
    ],
)
def test_each_rule_blocks_an_entry_and_names_itself(changes: dict[str, Any], block: Block) -> None:
    decision = target(1.0, **changes)
    assert (decision.position, decision.block) == (0, block)


def test_a_lock_and_a_halt_are_remembered_and_a_stop_is_forgotten_when_the_signal_leaves() -> None:
    assert target(1.0, equity_usd=9_400.0).locked
    assert target(1.0, equity_usd=7_000.0).halted
    assert target(1.0, stopped=1).stopped == 1
    assert target(0.3, stopped=1).stopped == 1  # less than a contract, yet still that side
    assert target(-1.0, stopped=1)[:1] + target(-1.0, stopped=1)[-1:] == (-1, 0)
    assert target(math.nan, stopped=1).stopped == 0


def test_wanting_nothing_is_not_blocked() -> None:
    assert target(0.0, locked=True, halted=True, stopped=1).block == Block.NONE


accounts = st.builds(
    QUIET._replace,
    position=st.integers(-2, 2),
    trades=st.integers(0, 5),
    to_close_sec=st.integers(0, 2_000),
    equity_usd=st.floats(5_000, 11_000),
    locked=st.booleans(),
    halted=st.booleans(),
)


@given(wanted=st.floats(-9, 9), account=accounts)
def test_no_state_lets_a_limit_be_broken(wanted: float, account: Account) -> None:
    position = account.position
    bracket = Bracket(stop_ticks=5.0, take_profit_ticks=9.0, trail_ticks=3.0)
    decision = decide(WISH._replace(wanted=wanted, bracket=bracket), account, RECORD)
    assert abs(decision.position) <= ALL.max_position
    assert decision.position == 0 or abs(decision.position - position) <= ALL.max_order
    assert (
        not (account.locked or account.halted or account.equity_usd <= 9_500.0)
        or decision.position == 0
    )
    assert decision.bracket == bracket
    adds = decision.position != 0 and (
        decision.position * position <= 0 or abs(decision.position) > abs(position)
    )
    assert not adds or (account.trades < 3 and account.to_close_sec > 600)
