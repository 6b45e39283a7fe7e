"""Which test proves which of the nineteen rules of `mcl.broker.guards`; none is without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcl.broker import guards

TESTS = Path(__file__).resolve().parents[1]
PROOF = {
    "R1": [
        "broker/test_ib.py::test_live_venues_are_refused_before_connecting",
        "broker/test_guards.py::test_live_money_needs_three_keys_and_each_missing_one_is_named",
    ],
    "R2": ["broker/test_ib.py::test_only_paper_accounts"],
    "R3": ["broker/test_ib.py::test_product_facts_must_agree"],
    "R4": [
        "broker/test_guards.py::test_a_rule_refuses_to_open_and_never_to_close",
        "live/test_supervisor.py::test_a_guard_refuses_and_the_session_goes_on",
    ],
    "R5": ["broker/test_guards.py::test_all_that_works_counts_for_the_position"],
    "R6": [
        "broker/test_guards.py::test_a_loss_of_the_session",
        "live/test_supervisor.py::test_a_session_that_loses_its_limit_is_closed",
    ],
    "R7": ["broker/test_guards.py::test_a_rule_refuses_to_open_and_never_to_close"],
    "R8": ["broker/test_guards.py::test_the_rate_of_orders"],
    "R9": [
        "broker/test_ib.py::test_a_decision_is_sent_once",
        "live/test_order_styles.py::test_a_connection_that_ends_while_a_limit_rests_leaves_no_second_order",
    ],
    "R10": ["broker/test_guards.py::test_rejects_in_a_row_and_repeated_executions_halt"],
    "R11": [
        "live/test_supervisor.py::test_the_kill_switch_closes_and_stays_until_it_is_removed",
        "live/test_rules_live.py::test_r11_the_signal_of_the_kill_switch_closes_and_stays",
    ],
    "R12": [
        "live/test_rules_live.py::test_r12_a_decision_that_hangs_is_given_up_and_is_not_sent_again",
        "live/test_rules_live.py::test_r12_a_silent_broker_is_told_once_and_its_stop_stands",
    ],
    "R13": [
        "live/test_supervisor.py::test_a_foreign_trade_halts_until_a_person_takes_it_over",
        "live/test_soak.py::test_a_few_seeds_hold_every_invariant_and_are_not_run_twice",
    ],
    "R14": [
        "live/test_real_time.py::test_r14_no_bar_for_too_long_degrades_and_opens_nothing_until_bars_come_again"
    ],
    "R15": ["broker/test_guards.py::test_rejects_in_a_row_and_repeated_executions_halt"],
    "R16": [
        "broker/test_guards.py::test_a_rule_refuses_to_open_and_never_to_close",
        "broker/test_guards.py::test_downtime_that_is_expected",
    ],
    "R17": [
        "broker/test_guards.py::test_margin_is_asked_for_when_the_size_grows",
        "live/test_margin.py::test_an_account_that_cannot_carry_it_opens_nothing",
        "live/test_margin.py::test_an_answer_that_is_missing_or_no_number_opens_nothing",
    ],
    "R18": [
        "live/test_rules_live.py::test_r18_decisions_verdicts_and_the_limits_they_were_made_by_are_written_down"
    ],
    "R19": ["broker/test_guards.py::test_what_is_blocked_or_unclassified_opens_nothing"],
}


def test_every_rule_has_its_proof() -> None:
    assert (
        set(re.findall(r"R\d+", guards.__doc__ or ""))
        == set(PROOF)
        == {f"R{n}" for n in range(1, 20)}
    )


@pytest.mark.parametrize("name", sorted({name for names in PROOF.values() for name in names}))
def test_the_proof_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    assert f"def {test}(" in (TESTS / file).read_text()
