"""Decide before each session, from what was known then, when to leave a contract.

Everything here is a pure function of arrays. `decide` says which contract is active in each
session; `gap` measures what the change is worth from prices of both contracts at one moment. Rules:

* One-way: a position never goes back to a nearer expiry, and only ever to the *next listed* expiry
  (a ranking by open interest would skip months and double the jump in the term structure).
* `volume`: the cleared volume of the next expiry was larger in the latest session whose volumes are
  known at the open and are not all zero (a holiday has a row of zeros or none; it is booked to the
  next trade date).
* `open_interest`: the same with open interest in the place of volume. It rolls about a week
  earlier.
* A rule that compares never rolls while an expiry before the held one still trades: open interest
  is larger in a far month for weeks, and would roll again in the next session.
* In every rule the contract is left at the open of the session that lies
  `sessions_before_last_trade` sessions before its last trade date, whatever the volumes say. 0
  means at the open of the last trade date. For gold it is the last day before delivery notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.config import schema
from mcl.market.calendar import Sessions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Volumes(NamedTuple):
    """Cleared volume, or open interest, as it was published: one element per publication, in any
    order.

    A later one for the same cell replaces the earlier.
    """

    session: Ints  # days since 1970-01-01
    contract: Ints  # index into the contracts, which are ordered by last trade date
    volume: Ints  # contracts cleared in that session
    known_at: Ints  # ns since the epoch, UTC

    @classmethod
    def none(cls) -> Volumes:
        return cls(*(np.empty(0, np.int64) for _ in range(4)))


class Step(NamedTuple):
    """One roll: at the open of `session`, from one contract to another, and what was known when it
    was decided.
    """

    session: int
    outgoing: int
    incoming: int
    reason: str  # "volume", "open_interest", "forced" or "calendar"
    known_at: int  # ns; -1 when no volume was known
    volume_outgoing: int  # what the rule compares; -1 when not known
    volume_incoming: int


class RollGap(NamedTuple):
    """Prices of both contracts at one time (ns); `simultaneous` is False when they never traded in
    the same bar.
    """

    outgoing: float
    incoming: float
    time: int
    simultaneous: bool

    @property
    def value(self) -> float:
        return self.incoming - self.outgoing


@dataclass
class _VolumeHistory:
    """The volumes published so far: a matrix [session, contract] and when the newest figure of each
    session came.
    """

    volume: Ints
    time: Ints
    total: Ints  # of each session

    def take(self, session: int, contract: int, volume: int, time: int) -> None:
        self.total[session] += volume - self.volume[session, contract]
        self.volume[session, contract], self.time[session] = volume, time

    def latest(self) -> int:
        """The latest session with any volume, -1 for none."""
        traded = np.flatnonzero(self.total > 0)
        return int(traded[-1]) if len(traded) else -1


def decide(
    calendar: Sessions,
    sessions: Ints,
    *,
    last_trade: Ints,
    listed_at: Ints,
    volumes: Volumes,
    rule: schema.Roll,
) -> tuple[Ints, list[Step]]:
    """The active contract of each of `sessions` (index into the contracts, ordered by last trade
    date) and the rolls between them.

    `calendar` counts the sessions to the last trade dates, so it should reach beyond them.
    `last_trade` is in days since the epoch, `listed_at` in ns: a contract that was not yet listed
    at an open is no candidate. With no next contract the last one is kept. The first session starts
    in the nearest contract that the rule does not already leave.
    """
    deadline = _deadlines(calendar, last_trade, rule.sessions_before_last_trade)
    rows = np.searchsorted(calendar.day, sessions)
    order = np.argsort(volumes.known_at, kind="stable")
    published = Volumes(*(column[order] for column in volumes))
    upto = np.searchsorted(published.known_at, calendar.open_ns[rows], side="right")
    days, cell = np.unique(published.session, return_inverse=True)
    history = _VolumeHistory(
        np.zeros((len(days), len(last_trade)), np.int64),
        np.full(len(days), -1, np.int64),
        np.zeros(len(days), np.int64),
    )
    active, steps, current, done = np.empty(len(sessions), np.int64), [], -1, 0
    for i, (row, stop) in enumerate(zip(rows, upto, strict=True)):
        for k in range(done, stop):
            history.take(cell[k], published.contract[k], published.volume[k], published.known_at[k])
        done = max(done, int(stop))
        listed = listed_at <= calendar.open_ns[row]
        nearer = listed & (last_trade >= sessions[i])
        chosen, reason = _choose(
            current,
            int(sessions[i]),
            deadline=deadline,
            listed=listed,
            waiting=bool(nearer[: max(current, 0)].any()),
            history=history,
            rule=rule.rule,
        )
        if current >= 0 and chosen != current:
            steps.append(_step(int(sessions[i]), current, chosen, reason, history))
        active[i] = current = chosen
    return active, steps


def _deadlines(calendar: Sessions, last_trade: Ints, before: int) -> Ints:
    """The session at whose open each contract is left at the latest; never, if it trades beyond the
    calendar.
    """
    index = np.searchsorted(calendar.day, last_trade, side="right") - 1 - before
    never = np.iinfo(np.int64).max
    return np.where(last_trade > calendar.day[-1], never, calendar.day[np.maximum(index, 0)])


def _choose(
    current: int,
    session: int,
    *,
    deadline: Ints,
    listed: npt.NDArray[np.bool_],
    waiting: bool,
    history: _VolumeHistory,
    rule: str,
) -> tuple[int, str]:
    """The contract of a session and why; `waiting` while an expiry before the held one trades."""
    chosen, reason = current, ""
    if current < 0:
        return _first(session, deadline, listed), reason
    while session >= deadline[chosen] and (later := _following(chosen, listed)) != chosen:
        chosen, reason = later, "calendar" if rule == "calendar" else "forced"
    compares = rule != "calendar" and not waiting
    following, latest = _following(current, listed), history.latest()
    if compares and chosen in (current, following) and latest >= 0:
        # on the deadline itself, too, the comparison decides where it says the same
        larger = history.volume[latest, following] > history.volume[latest, current]
        chosen, reason = (following, rule) if larger else (chosen, reason)
    return chosen, reason


def _first(session: int, deadline: Ints, listed: npt.NDArray[np.bool_]) -> int:
    """The nearest contract not yet left; of those not yet listed only when no listed one remains;
    else the last.
    """
    for candidates in (listed & (deadline > session), deadline > session):
        if candidates.any():
            return int(np.argmax(candidates))
    return len(deadline) - 1


def _following(contract: int, listed: npt.NDArray[np.bool_]) -> int:
    """The next listed expiry after `contract`, or `contract` itself when there is none."""
    later = np.flatnonzero(listed[contract + 1 :])
    return contract + 1 + int(later[0]) if len(later) else contract


def _step(session: int, outgoing: int, incoming: int, reason: str, history: _VolumeHistory) -> Step:
    latest = history.latest()
    if latest < 0:
        return Step(session, outgoing, incoming, reason, -1, -1, -1)
    volume = history.volume[latest]
    return Step(
        session,
        outgoing,
        incoming,
        reason,
        int(history.time[latest]),
        int(volume[outgoing]),
        int(volume[incoming]),
    )


def gap(
    outgoing_time: Ints, outgoing: Floats, incoming_time: Ints, incoming: Floats, before: int
) -> RollGap | None:
    """Incoming minus outgoing close in the last bar that both have at or before `before` (ns; the
    open of the roll's session).

    Two thin contracts may never trade in the same bar: then the last price of each at or before the
    older of their last times is taken. None when one of them has no price before the roll. Times
    are close times, ascending.
    """
    m, n = (int(np.searchsorted(t, before, side="right")) for t in (outgoing_time, incoming_time))
    if not m or not n:
        return None
    common, i, j = np.intersect1d(
        outgoing_time[:m], incoming_time[:n], assume_unique=True, return_indices=True
    )
    if len(common):
        return RollGap(float(outgoing[i[-1]]), float(incoming[j[-1]]), int(common[-1]), True)
    time = int(min(outgoing_time[m - 1], incoming_time[n - 1]))
    a, b = (int(np.searchsorted(t, time, side="right")) - 1 for t in (outgoing_time, incoming_time))
    if a < 0 or b < 0:
        a, b, time = m - 1, n - 1, int(max(outgoing_time[m - 1], incoming_time[n - 1]))
    return RollGap(float(outgoing[a]), float(incoming[b]), time, False)
