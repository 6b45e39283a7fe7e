"""Every rule of the gate, one by one: what it refuses, and that it never refuses to get flat."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base.errors import BrokerError, GuardError, Halt
from mcl.broker.guards import (
    GateHistory,
    OrderProposal,
    PreTradeGate,
    check_account,
    check_clock,
    check_currency,
    check_locks,
    check_reach,
    check_venue,
    expected_downtime,
)
from mcl.broker.protocol import QualifiedContract
from mcl.config import schema
from mcl.market import calendar
from mcl.market.account_value import Margin, worth
from mcl.market.instruments import MCL

CONTRACT = calendar.contract("MCL", 2026, 2)  # last trade 2026-01-16
PINNED = QualifiedContract(CONTRACT, MCL, 1, "MCLG6", "NYMEX")
NOON = calendar.ns_of(calendar.from_day(20461), 12)  # Thursday 2026-01-08
OFF = dict.fromkeys(schema.Guards.model_fields)


def gate(**limits: Any) -> PreTradeGate:
    return PreTradeGate(schema.Guards(**OFF | limits))


def order(quantity: int = 1, position: int = 0, now: int = NOON, **changes: Any) -> OrderProposal:
    proposal = OrderProposal(
        pinned=PINNED,
        quantity=quantity,
        position=position,
        ref="ref",
        last_price=60.0,
        now=now,
        furthest_ticks=10.0,
        moves=False,
    )
    return proposal._replace(**changes)


def refused(judge: PreTradeGate, proposal: OrderProposal) -> str:
    with pytest.raises(GuardError) as caught:
        judge.judge(proposal)
    return str(caught.value)


@pytest.mark.parametrize(
    ("limits", "proposal", "sentence"),
    [
        ({"max_order": 1}, order(2), "2 contracts in one order"),
        ({"max_position": 2}, order(1, position=2), "3 contracts with all that works"),
        ({"collar_frac": 0.001}, order(), "a level 0.10 from the last price 60.0"),
        ({"collar_frac": 0.1}, order(last_price=math.nan), "no price to hold it against"),
        (
            {"days_before_last_trade": 7},
            order(now=calendar.ns_of(calendar.from_day(20461), 12)),
            "nothing is opened after 2026-01-07",
        ),
        (
            {"quiet_minutes": 5},
            order(now=calendar.ns_of(calendar.from_day(20461), 16, 56)),
            "within 5 minutes of the daily break",
        ),
        (
            {"quiet_minutes": 5},
            order(now=calendar.ns_of(calendar.from_day(20461), 18, 4)),
            "within 5 minutes of the daily break",
        ),
        ({}, order(now=calendar.ns_of(calendar.from_day(20461), 0, 30)), "the nightly reset"),
    ],
)
def test_a_rule_refuses_to_open_and_never_to_close(
    limits: dict[str, Any], proposal: OrderProposal, sentence: str
) -> None:
    judge = gate(**limits)
    assert sentence in refused(judge, proposal)
    judge.judge(proposal._replace(position=-3, quantity=3))
    judge.judge(proposal._replace(position=2, quantity=-1))


def test_all_that_works_counts_for_the_position() -> None:
    judge = gate(max_position=2)
    judge.judge(order(1, position=1))
    judge.others = 1
    assert "3 contracts" in refused(judge, order(1, position=1))


def test_the_rate_of_orders() -> None:
    judge = gate(min_order_gap_sec=2.0, max_orders_per_hour=2, max_orders_per_day=3)
    sec = 1_000_000_000
    judge.sent(NOON)
    assert "less than" in refused(judge, order(now=NOON + sec))
    judge.judge(order(now=NOON + 2 * sec))
    judge.sent(NOON + 2 * sec)
    assert "max_orders_per_hour=2" in refused(judge, order(now=NOON + 10 * sec))
    judge.judge(order(now=NOON + 3700 * sec))
    judge.sent(NOON + 3700 * sec)
    assert "max_orders_per_day=3" in refused(judge, order(now=NOON + 2 * 3700 * sec))


def test_rejects_in_a_row_and_repeated_executions_halt() -> None:
    judge = gate(max_rejects=2, max_fills_per_order=2)
    judge.rejected("no")
    judge.accepted()
    judge.rejected("no")
    with pytest.raises(Halt, match="the broker rejected 2 orders in a row, the last one: never"):
        judge.rejected("never")
    judge.filled("a")
    judge.filled("b")
    judge.filled("a")
    with pytest.raises(Halt, match="the order a has 3 executions"):
        judge.filled("a")


def test_what_is_blocked_or_unclassified_opens_nothing() -> None:
    judge = gate()
    judge.blocked = "no bar for 300 s"
    assert "no bar for 300 s" in refused(judge, order())
    judge.blocked = ""
    judge.notice(2104, "fine")
    judge.judge(order())
    judge.notice(9999, "a new thing")
    assert "unknown broker message: a new thing (9999)" in refused(judge, order())


def test_margin_is_asked_for_when_the_size_grows() -> None:
    judge = gate(max_margin_frac=0.5)
    verdicts: list[dict[str, Any]] = []
    judge.weighing = verdicts.append
    assert judge.wants_margin(order(1))
    with pytest.raises(
        GuardError,
        match="would need 6,000 USD initial and 4,500 USD maintenance margin of 10,000 USD",
    ):
        judge.margin(order(1), Margin(6_000.0, 4_500.0, 10_000.0))
    with pytest.raises(GuardError, match="did not say the initial margin"):
        judge.margin(order(1), Margin(math.nan, 4_500.0, 10_000.0))
    judge.margin(order(1), Margin(5_000.0, 4_500.0, 10_000.0))
    assert [bool(verdict["refused"]) for verdict in verdicts] == [True, True, False]
    assert not judge.wants_margin(order(1))
    assert judge.wants_margin(order(2))


def test_a_loss_of_the_session() -> None:
    judge = gate(max_session_loss_usd=100.0)
    judge.start_usd, judge.equity_usd = 1000.0, 901.0
    assert judge.lost_too_much() == ""
    judge.judge(order())
    judge.equity_usd = math.nan  # not known: no reason to close, and none to open
    assert judge.lost_too_much() == ""
    assert "the net liquidation in USD is not known" in refused(judge, order())
    judge.equity_usd = 900.0
    assert "lost 100.00 USD" in judge.lost_too_much()
    judge.equity_usd = 1200.0
    assert "lost 100.00 USD" in refused(judge, order())
    judge.judge(order(-1, position=1))


def order_at(judge: PreTradeGate, **state: float) -> OrderProposal:
    """An order while the gate has this state."""
    for name, value in state.items():
        setattr(judge, name, value)
    return order()


def order_after(judge: PreTradeGate, at_sec: Any) -> OrderProposal:
    """An order behind one that was sent at this time."""
    judge.sent(at_sec)
    return order()


NUMBERS: dict[str, tuple[float, Callable[[PreTradeGate, Any], OrderProposal]]] = {
    # every number that a guard compares, set to one that is none
    "collar_frac": (0.1, lambda _, bad: order(last_price=bad)),
    "collar_frac of a level": (0.1, lambda _, bad: order(furthest_ticks=bad)),
    "max_session_loss_usd": (
        100.0,
        lambda judge, bad: order_at(judge, equity_usd=bad),
    ),
    "max_session_loss_usd of the start": (
        100.0,
        lambda judge, bad: order_at(judge, start_usd=bad),
    ),
    "max_order": (2, lambda _, bad: order(quantity=bad)),
    "max_position": (2, lambda judge, bad: order_at(judge, others=bad)),
    "min_order_gap_sec": (2.0, order_after),
    "max_orders_per_hour": (1, order_after),
    "max_orders_per_day": (1, order_after),
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.nan])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_guard_compares_with_what_is_no_number_and_passes(name: str, bad: float) -> None:
    limit, proposal = NUMBERS[name]
    judge = gate(**{name.split(maxsplit=1)[0]: limit})
    judge.start_usd, judge.equity_usd = 1000.0, 1000.0
    refused(judge, proposal(judge, bad))


NO_FIGURES = [
    Margin(*figures)
    for bad in (math.nan, math.inf, -math.inf)
    for figures in ((bad, 1e3, 1e3), (1e3, bad, 1e3), (1e3, 1e3, bad))
]


@pytest.mark.parametrize(
    "answer",
    [*NO_FIGURES, Margin(), Margin(-1.0, 0.0, 1e4), Margin(1.0, 6e3, 1e4), Margin(0.0, 0.0, -1e4)],
)
def test_a_margin_that_is_not_known_refuses(answer: Margin) -> None:
    judge = gate(max_margin_frac=0.5)
    with pytest.raises(GuardError):
        judge.margin(order(), answer)
    assert judge.wants_margin(order())


@given(
    st.sampled_from(["", "USD", "EUR"]),
    st.sampled_from(["", "nan", "inf", "1.7976931348623157E308", "0", "-1", "0.5"]),
)
def test_an_account_is_worth_usd_at_its_own_rate_or_nothing_is_known(base: str, rate: str) -> None:
    told = [
        SimpleNamespace(tag="NetLiquidation", currency=base, value="1000"),
        SimpleNamespace(tag="ExchangeRate", currency="USD", value=rate),
    ]
    own = worth(told)
    if base == "EUR" and rate != "0.5":
        assert math.isnan(own.equity_usd)
        with pytest.raises(GuardError, match="kept in EUR and tells no rate of USD"):
            check_currency(own)
    else:
        assert own.equity_usd == (2000.0 if base == "EUR" else 1000.0)
        check_currency(own)


@pytest.mark.parametrize("away", [11.0, -11.0, math.nan, math.inf])
def test_a_clock_that_is_away_or_not_known_refuses(away: float) -> None:
    check_clock(9.9)
    with pytest.raises(GuardError, match="at most 10 s are safe"):
        check_clock(away)


def test_the_start_refuses_limits_under_which_nothing_could_turn_around() -> None:
    check_reach(schema.Guards(max_order=1, max_position=1), 1, 4)  # a reversal is two orders
    check_reach(schema.Guards(max_order=None, max_position=None), 9, 9)
    check_reach(schema.Guards(max_order=1, max_position=2), 2, 1)
    with pytest.raises(
        GuardError, match=r"may open 2 contracts at once, broker.guards.max_order=1 would refuse"
    ) as caught:
        check_reach(schema.Guards(max_order=1, max_position=3), 2, 4)
    assert caught.value.hint == "broker.max_contracts=1 makes its position smaller"
    with pytest.raises(GuardError, match=r"broker.guards.max_position=3"):
        check_reach(schema.Guards(), 4, 1)


def test_what_the_guards_count_goes_on_from_a_journal() -> None:
    history = GateHistory(start_usd=1000.0, rejects=1)
    history.ordered("a", before=1, after=-1, clock=NOON)
    history.ordered("b", before=-1, after=1, clock=NOON)
    history.refused("b")
    history.ordered("c", before=0, after=1, clock=NOON)
    history.refused("c")
    judge = gate(max_orders_per_hour=3, max_rejects=2, max_session_loss_usd=100.0)
    judge.resume(history)
    judge.equity_usd = 1000.0
    assert "3 orders were sent within one hour" in refused(judge, order(now=NOON + 1))
    with pytest.raises(Halt, match="rejected 2 orders in a row"):
        judge.rejected("no")
    judge.equity_usd = 850.0
    assert "lost 150.00 USD" in judge.lost_too_much()


def test_downtime_that_is_expected() -> None:
    thursday, saturday = calendar.from_day(20461), calendar.from_day(20463)
    assert expected_downtime(calendar.ns_of(thursday, 12)) == ""
    assert expected_downtime(calendar.ns_of(thursday, 23, 50)) == "the nightly reset"
    assert expected_downtime(calendar.ns_of(thursday, 17, 30)) == "the market is closed"
    assert expected_downtime(calendar.ns_of(saturday, 1)) == "the weekly restart with a new log-in"
    assert expected_downtime(calendar.ns_of(saturday, 12)) == "the market is closed"


def test_live_money_needs_three_keys_and_each_missing_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = schema.BrokerConfig(kind="tws", money="live", port=7496, account="U1234567")
    monkeypatch.delenv("MCL_LIVE", raising=False)
    with pytest.raises(GuardError) as caught:
        check_locks(live, "mine", "paper")
    for key in (
        "a version promoted to live ('mine' is one for paper",
        "broker.live_confirm=U1234567",
        "MCL_LIVE=1",
    ):
        assert key in str(caught.value)
    with pytest.raises(GuardError) as caught:
        check_locks(live.model_copy(update={"live_confirm": "U1234567"}), "mine", "live")
    assert str(caught.value) == "live money needs the environment variable MCL_LIVE=1"
    monkeypatch.setenv("MCL_LIVE", "1")
    check_locks(live.model_copy(update={"live_confirm": "U1234567"}), "mine", "live")
    check_venue(live, 7496)
    check_account("U1234567", ["U1234567"], "live")
    with pytest.raises(BrokerError, match="DU1 is a paper account"):
        check_account("DU1", ["DU1", "U1234567"], "live")
    with pytest.raises(BrokerError, match="no live trading port"):
        check_venue(live, 7497)
