"""What may differ from a promoted configuration: the session's own groups, and a smaller
position.
"""

from __future__ import annotations

import pytest
from deployments import Project

from mcl.base.errors import LiveError
from mcl.live.override_policy import caps, own

GIVEN = [
    "broker=ib_paper",
    "+broker.port=4002",
    "alerts.log=true",
    "risk.limits.max_position=1",
    "strategy.fast=3",
]


def test_groups_of_the_session_are_its_own() -> None:
    assert own(GIVEN) == GIVEN[:3]


def test_a_smaller_position_is_a_cap_and_a_larger_one_is_not(desk: Project) -> None:
    promoted = desk.config()
    assert promoted.risk.limits.max_position == 2
    assert caps(["broker=ib_paper"], promoted) is None
    assert caps(["risk.limits.max_position=1"], promoted) == 1
    with pytest.raises(LiveError, match=r"risk.limits.max_position: promoted 2, asked 3"):
        caps(["risk.limits.max_position=3"], promoted)


def test_the_difference_is_in_the_sentence(desk: Project) -> None:
    with pytest.raises(
        LiveError,
        match=r"strategy.fast=3 may not be changed here \(strategy.fast: promoted 10, asked 3\)",
    ):
        caps(["strategy.fast=3", "risk.limits.max_position=1"], desk.config())
