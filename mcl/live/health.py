"""Watch a session whether bars come or not: a hanging decision, missing data, the clocks, the
books.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mcl.base.errors import Halt, Uncertain
from mcl.base.instants import NS
from mcl.broker.guards import PreTradeGate, expected_downtime
from mcl.broker.protocol import Broker
from mcl.live.reconcile import unexplained
from mcl.live.runner import Runner, SessionConfig
from mcl.live.status import State
from mcl.live.status_board import StatusBoard
from mcl.market import calendar
from mcl.market.intervals import BAR_SEC

PROTECTION_SEC = 1.0  # the broker needs a moment to cancel the other orders of a group


@dataclass
class HealthMonitor:
    """Watches over a running session. `warned` holds the warnings that were given once."""

    session: SessionConfig
    gate: PreTradeGate
    status_board: StatusBoard
    warned: set[str] = field(default_factory=set)
    _faulty_since: float = 0.0  # monotonic; 0 while protection is what the holding needs

    def hang(self, runner: Runner) -> None:
        """Dead man: a decision that takes this long is given up; the next connection finds out what
        became of it.
        """
        limit, order, since = (
            self.session.broker.guards.hang_sec,
            self.session.broker.order,
            runner.turn.since,
        )
        waits = order.ttl_sec if order.kind == "limit" else 0.0
        if limit is not None and since and time.monotonic() - since > limit + waits:
            raise Uncertain(f"a decision took longer than broker.guards.hang_sec={limit:g}")

    def trouble(self, broker: Broker, runner: Runner) -> None:
        """Data or orders that do not flow make the session DEGRADED, and TRADING again when they
        do.
        """
        stale = self._stale(broker, runner)
        self.gate.blocked = stale
        why = broker.trouble or stale
        if why:
            self.status_board.enter(State.DEGRADED, why)
        elif self.status_board.state is State.DEGRADED:
            self.status_board.enter(State.TRADING, "data and orders flow again")

    def _stale(self, broker: Broker, runner: Runner) -> str:
        """No bar for too long though the exchange is open; a replay has a time of its own."""
        limit, root = (
            self.session.broker.guards.stale_bars,
            self.session.deployed.config.data.instrument,
        )
        if limit is None or self.session.replay or expected_downtime(broker.now(), root):
            return ""
        age, interval = (broker.now() - runner.after) / NS, BAR_SEC[runner.stage.warmup.interval]
        usual = 60 * calendar.usual_gap_minutes(broker.now(), root)
        if age <= interval + max(limit * interval, usual):
            return ""
        return f"no bar for {age:.0f} s, broker.guards.stale_bars={limit:g} intervals"

    def clock(self, broker: Broker) -> None:
        away = broker.clock_away_sec
        if not abs(away) <= 10:
            raise Halt(f"this machine's clock is {away:+.0f} s away from the broker's")
        if abs(away) > 2 and "clock" not in self.warned:
            self.warned.add("clock")
            self.status_board.alert(
                "warning", "CLOCK", f"this machine's clock is {away:+.1f} s away from the broker's"
            )

    def protection(self, broker: Broker, runner: Runner) -> None:
        """A position without its stop, or an order that could open one by itself, for longer than
        the broker takes to cancel the rest of a group.
        """
        if broker.trouble or runner.turn.locked():
            self._faulty_since = 0.0
            return
        contracts = (c for c in (runner.leaving, runner.pinned) if c is not None)
        fault = next(filter(None, map(broker.protection_fault, contracts)), "")
        self._faulty_since = (self._faulty_since or time.monotonic()) if fault else 0.0
        if fault and time.monotonic() - self._faulty_since > PROTECTION_SEC:
            self._faulty_since = 0.0
            raise Uncertain(fault)

    async def compare(self, broker: Broker, runner: Runner) -> None:
        """The books, while all is well; a difference takes the way of every doubt."""
        async with runner.turn:
            unknown = unexplained(runner.book, await broker.snapshot())
        if unknown:
            raise Uncertain(f"the books differ: {unknown.report()}")
