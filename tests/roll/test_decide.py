"""The roll decision as a pure function: one-way, next expiry only, and never with anything that was
not known at the open.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl import composition
from mcl.base.instants import NS
from mcl.config.schema import Roll
from mcl.data import realism, roll
from mcl.data.roll import Volumes
from mcl.market.calendar import Sessions

HOUR = 3600 * NS
Rule = Literal["volume", "open_interest", "calendar"]
N, CONTRACTS = 60, 5
# without weekends
DAYS = np.array(
    [d for d in range(19_700, 19_700 + 2 * N) if d % 7 not in (2, 3)][: N + 30], np.int64
)
OPEN = (DAYS - 1) * 24 * HOUR + 23 * HOUR
CALENDAR = Sessions(DAYS, OPEN, DAYS * 24 * HOUR + 22 * HOUR)
LAST_TRADE = DAYS[[14, 28, 42, 56, 70]]
LISTED = np.zeros(CONTRACTS, np.int64)
PUBLISHED = OPEN + 16 * HOUR  # cleared volumes of the session before come in the morning


def decide(
    volumes: Volumes, rule: Roll | None = None, listed: np.ndarray = LISTED
) -> tuple[np.ndarray, list[roll.Step]]:
    return roll.decide(
        CALENDAR,
        DAYS[:N],
        last_trade=LAST_TRADE,
        listed_at=listed,
        volumes=volumes,
        rule=rule or Roll(rule="volume", sessions_before_last_trade=1),
    )


def published(matrix: np.ndarray, lag: int = 1) -> Volumes:
    """`matrix` [session, contract]; the figures of session i are known `lag` sessions later, in the
    morning.
    """
    session, contract = np.indices(matrix.shape).reshape(2, -1)
    return Volumes(
        DAYS[session], contract, matrix.ravel().astype(np.int64), PUBLISHED[session + lag]
    )


def migration(crossover: int = 5) -> np.ndarray:
    """A contract is listed 28 sessions before its last trade, leads in the last 14 and is passed
    after the `crossover`-th last.
    """
    left = np.searchsorted(DAYS, LAST_TRADE) - np.arange(N)[:, None]
    lead = np.where((left >= 0) & (left <= 14 + crossover), 1000 + 10 * (left - crossover), 0)
    return np.where(
        left > 14,
        np.where(left <= 14 + crossover, 1000 - 10 * (left - 14 - crossover), 10 * (left <= 28)),
        lead,
    )


@st.composite
def random_volumes(draw: st.DrawFn) -> np.ndarray:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    # many ties and whole sessions of zeros
    return rng.integers(0, 5, (N, CONTRACTS)) * rng.integers(0, 2, (N, 1))


def test_rolls_when_the_next_expiry_was_larger_in_the_latest_known_session() -> None:
    active, steps = decide(published(migration()))
    first = steps[0]
    at = int(np.searchsorted(DAYS, first.session))
    # session 10 (4 before last trade) is the first with more in the next contract; it is known in
    # the morning of session 11
    assert (at, first.reason) == (12, "volume")
    assert (first.volume_outgoing, first.volume_incoming) == (990, 1010)
    assert first.known_at == PUBLISHED[11] <= OPEN[at]
    assert list(active[10:13]) == [0, 0, 1]


def test_information_one_session_earlier_moves_every_volume_roll_by_exactly_one_session() -> None:
    _, honest = decide(published(migration(), lag=1))
    _, early = decide(published(migration(), lag=0))
    index = [np.searchsorted(DAYS, [s.session for s in steps]) for steps in (honest, early)]
    assert [s.reason for s in honest[:4]] == ["volume"] * 4
    assert list(index[0][:4] - index[1][:4]) == [1, 1, 1, 1]


@given(random_volumes(), st.integers(0, N - 1), st.integers(0, 2**32 - 1))
def test_nothing_published_after_an_open_changes_what_was_decided_by_then(
    matrix: np.ndarray, at: int, seed: int
) -> None:
    volumes = published(matrix)
    later = volumes.known_at > OPEN[at]
    other = np.where(later, np.random.default_rng(seed).integers(0, 9, len(later)), volumes.volume)
    before, changed = decide(volumes), decide(volumes._replace(volume=other))
    assert np.array_equal(before[0][: at + 1], changed[0][: at + 1])
    assert [s for s in before[1] if s.session <= DAYS[at]] == [
        s for s in changed[1] if s.session <= DAYS[at]
    ]


@given(
    random_volumes(), st.sampled_from(["volume", "open_interest", "calendar"]), st.integers(0, 6)
)
def test_rolls_go_one_way_to_the_next_expiry_and_always_in_time(
    matrix: np.ndarray, rule: Rule, before: int
) -> None:
    active, steps = decide(published(matrix), Roll(rule=rule, sessions_before_last_trade=before))
    assert (np.diff(active) >= 0).all()
    assert all(s.incoming == s.outgoing + 1 for s in steps if s.reason == rule != "calendar")
    expiry = np.searchsorted(DAYS, LAST_TRADE)
    left = expiry[active] - np.arange(N)
    assert (left > before).all()
    assert all(s.known_at <= OPEN[np.searchsorted(DAYS, s.session)] for s in steps)


def test_open_interest_decides_like_volume_but_says_so() -> None:
    by_volume, by_interest = (
        decide(published(migration()), Roll(rule=rule, sessions_before_last_trade=1))
        for rule in ("volume", "open_interest")
    )
    assert np.array_equal(by_volume[0], by_interest[0])
    assert [s.reason for s in by_interest[1]] == [
        s.reason.replace("volume", "open_interest") for s in by_volume[1]
    ]


@pytest.mark.parametrize("rule", ["volume", "open_interest"])
def test_a_far_month_with_more_interest_does_not_roll_twice_in_two_sessions(rule: Rule) -> None:
    """December holds most open interest all autumn: the rule still passes one expiry at a time."""
    interest = np.tile(np.arange(1, len(LAST_TRADE) + 1) * 1000, (N, 1))
    active, steps = decide(published(interest), Roll(rule=rule, sessions_before_last_trade=1))
    sessions = [int(np.searchsorted(DAYS, s.session)) for s in steps]
    assert min(np.diff(sessions)) > 1
    expiry = np.searchsorted(DAYS, LAST_TRADE)
    waited = [
        i > expiry[s.outgoing - 1] for i, s in zip(sessions, steps, strict=True) if s.outgoing
    ]
    assert all(waited)
    assert active[-1] > active[0] + 1


@given(random_volumes())
def test_the_calendar_rule_does_not_look_at_volumes(matrix: np.ndarray) -> None:
    rule = Roll(rule="calendar", sessions_before_last_trade=2)
    active, steps = decide(published(matrix), rule)
    assert np.array_equal(active, decide(Volumes.none(), rule)[0])
    assert [int(np.searchsorted(DAYS, s.session)) for s in steps] == [12, 26, 40, 54]


@given(random_volumes(), st.lists(st.integers(1, N - 2), min_size=1, max_size=8, unique=True))
def test_a_holiday_of_zeros_decides_like_no_row_at_all(
    matrix: np.ndarray, holidays: list[int]
) -> None:
    zeroed = matrix.copy()
    zeroed[holidays] = 0
    rows = published(zeroed)
    traded = ~np.isin(rows.session, DAYS[holidays])
    without = Volumes(*(column[traded] for column in rows))
    assert np.array_equal(decide(rows)[0], decide(without)[0])


def test_a_holiday_of_zeros_neither_triggers_nor_undoes_a_roll() -> None:
    matrix = migration()
    active, _ = decide(published(matrix))
    for holiday in (9, 11, 12, 13):
        matrix[holiday] = 0
    assert np.array_equal(decide(published(matrix))[0], active)


def test_a_correction_counts_from_when_it_was_published() -> None:
    matrix = np.tile([100, 50, 0, 0, 0], (N, 1))
    first = published(matrix)
    corrected = Volumes(
        *(
            np.append(column, value)
            for column, value in zip(first, (DAYS[5], 1, 200, OPEN[7] + 1), strict=True)
        )
    )
    assert decide(first)[0][9] == 0
    active, steps = decide(corrected)
    # session 5 was no longer the latest at the next open: forced
    assert int(np.searchsorted(DAYS, steps[0].session)) == 14 - 1
    on_time = corrected._replace(
        known_at=np.where(corrected.volume == 200, OPEN[7], corrected.known_at)
    )
    assert int(np.searchsorted(DAYS, decide(on_time)[1][0].session)) == 7
    assert active[12] == 0


def test_an_unlisted_contract_is_no_candidate() -> None:
    listed = LISTED.copy()
    listed[1] = OPEN[20]
    active, steps = decide(published(migration()), listed=listed)
    assert steps[0].incoming == 2
    assert 1 not in active


def test_the_first_session_starts_in_a_contract_that_need_not_be_left_at_once() -> None:
    rule = Roll(rule="calendar", sessions_before_last_trade=14)
    active, steps = decide(Volumes.none(), rule)
    assert active[0] == 1
    assert int(np.searchsorted(DAYS, steps[0].session)) == 14


def test_the_last_contract_is_kept_when_there_is_no_other() -> None:
    active, steps = roll.decide(
        CALENDAR,
        DAYS[:N],
        last_trade=LAST_TRADE[:1],
        listed_at=LISTED[:1],
        volumes=Volumes.none(),
        rule=Roll(),
    )
    assert not steps
    assert set(active) == {0}


# --------------------------------------------------------------------------------------------- gaps

TIMES = np.arange(1, 11, dtype=np.int64)


def test_the_gap_comes_from_the_last_common_bar_before_the_roll() -> None:
    outgoing, incoming = np.arange(10.0), 100 + 2 * np.arange(10.0)
    assert roll.gap(TIMES, outgoing, TIMES, incoming, before=5) == (4, 100 + 8, 5, True)
    thin = np.array([1, 3, 8])
    assert roll.gap(TIMES, outgoing, thin, incoming[:3], before=7) == (2, 102, 3, True)


def test_two_thin_contracts_are_compared_at_the_older_of_their_last_times() -> None:
    gap = roll.gap(
        np.array([2, 6]), np.array([1.0, 2.0]), np.array([3, 5]), np.array([10.0, 11.0]), before=9
    )
    assert gap == (1.0, 11.0, 5, False)


@pytest.mark.parametrize("outgoing", [True, False])
def test_without_a_price_before_the_roll_there_is_no_gap(outgoing: bool) -> None:
    full, empty = (TIMES, np.zeros(10)), (np.empty(0, np.int64), np.empty(0))
    pair = (*full, *empty) if outgoing else (*empty, *full)
    assert roll.gap(*pair, before=99) is None
    assert roll.gap(TIMES, np.zeros(10), TIMES + 50, np.zeros(10), before=20) is None


# ------------------------------------------------------------------------------- measured migration

# The front's share of front and next, 0, 1, 2 … sessions before its last trade, in percent. MCL:
# medians of 24 expiries, which ship with mcl. CL: medians of ten expiries of 2025.
MCL_SHARE = tuple(100 * realism.facts()["figures"][f"front_share_at_-{left}"] for left in range(9))
CL_SHARE = (9, 23, 27, 43, 51, 55, 56, 58, 58)


def measured(share: tuple[float, ...]) -> np.ndarray:
    """Volume per session and contract with this migration; a session before it as far away."""
    left = np.searchsorted(DAYS, LAST_TRADE) - np.arange(N)[:, None]
    alive = (left >= 0) & (left <= 28)
    nearest = np.argmax(alive, axis=1)
    volume = np.zeros((N, CONTRACTS))
    for session, near in enumerate(nearest):
        front = share[min(int(left[session, near]), len(share) - 1)]
        volume[session, near] = 1000 * front
        if near + 1 < CONTRACTS:
            volume[session, near + 1] = 1000 * (100 - front)
    return volume


def test_on_mcl_the_deadline_decides_every_roll_of_a_volume_rule() -> None:
    for left in (1, 2, 3):
        rule = Roll(rule="volume", sessions_before_last_trade=left)
        steps = decide(published(measured(MCL_SHARE)), rule)[1]
        assert len(steps) >= 3
        assert {step.reason for step in steps} == {"forced"}


@pytest.mark.parametrize(("lag", "left"), [(0, 2), (1, 1)])
def test_where_volume_moves_days_before_it_decides_and_not_the_deadline(
    lag: int, left: int
) -> None:
    """CL, with the preset as it ships: the session that lies three before is the first in which
    the next contract leads. Bars say so at the next open, the clearing house one session later.
    """
    rule = composition.compose("backtest", ["roll@data.roll=volume"]).config.data.roll
    assert rule.rule == "volume"
    steps = decide(published(measured(CL_SHARE), lag), rule)[1]
    assert len(steps) >= 3
    assert {step.reason for step in steps} == {"volume"}
    for step in steps:
        end = int(np.searchsorted(DAYS, LAST_TRADE[step.outgoing]))
        assert end - int(np.searchsorted(DAYS, step.session)) == left
        assert step.volume_incoming > step.volume_outgoing


def test_a_deadline_before_the_move_decides_on_cl_too() -> None:
    late = Roll(rule="volume", sessions_before_last_trade=3)
    assert {step.reason for step in decide(published(measured(CL_SHARE)), late)[1]} == {"forced"}
