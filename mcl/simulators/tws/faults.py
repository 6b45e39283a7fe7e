"""Faults on purpose: what goes wrong between a client and its broker, when it is told to, and the
same way every time.

A fault is an entry of `fault_catalog.CATALOG` with options. It strikes

    on="send execDetails"      when the server sends that message, or `on="receive placeOrder"`
                               when a client's request arrives. `nth` (1 is the first) and `times`
                               (0: for ever) count the messages that match, `where` compares values
                               of the message, `chance` in (0, 1] draws from the seed
    at_sec=300                 when the market clock has advanced that far since the start
    after_sec=2.5              after that many seconds of real time
    (none of these)            at once

    tws.fault("cut", on="send execDetails", when="before", how="rst")
    tws.fault("connectivity", back=1101, after_sec=1, at_sec=600)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcl.base.errors import BrokerError, nearest
from mcl.base.instants import NS
from mcl.simulators.tws.fault_catalog import CATALOG
from mcl.simulators.tws.message_in_flight import NEWS, ORDER_NEWS, MessageInFlight
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.response_messages import ANSWERS

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS
    from mcl.simulators.tws.session import ClientSession

_REQUEST_NAMES = {message.name for message in REQUESTS.values()}


@dataclass
class FaultRule:
    name: str
    act: Callable[[MessageInFlight], None]
    direction: str = ""  # send, receive, or empty: not tied to a message
    message: str = ""
    nth: int = 1
    times: int = 1
    chance: float = 1.0
    where: Values = field(default_factory=dict)
    at_ns: int | None = None
    matches: int = 0
    strikes: int = 0

    @property
    def exhausted(self) -> bool:
        return 0 < self.times <= self.strikes

    def due(self, message: MessageInFlight, rng: random.Random) -> bool:
        if (
            self.exhausted
            or self.message != message.name
            or any(message.values.get(k) != v for k, v in self.where.items())
        ):
            return False
        self.matches += 1
        return self.matches >= self.nth and (self.chance >= 1 or rng.random() < self.chance)


class Faults:
    """All rules of one server. `offline` is the state between 1100 and 1101 or 1102."""

    def __init__(self, tws: SimulatedTWS, seed: int) -> None:
        self._tws, self._rng = tws, random.Random(seed)
        self._rules: list[FaultRule] = []
        self._on_hold: list[MessageInFlight] = []
        self._late: set[asyncio.TimerHandle] = set()
        self._start_ns: int | None = None
        self.offline = False
        # names of messages that a broken farm does not deliver
        self.stopped: frozenset[str] = frozenset()
        self._queue_ends = 0.0  # loop time at which the last slow request is served
        # orders and their news while the server has lost its broker
        self._waiting: list[MessageInFlight] = []

    def add(
        self,
        name: str,
        *,
        on: str = "",
        at_sec: float | None = None,
        after_sec: float | None = None,
        **options: Any,
    ) -> FaultRule:
        """Script one fault; see the module. BrokerError for what is not on the menu."""
        rule = self._rule(name, on, options)
        if after_sec is not None:
            self._later(after_sec, lambda: self._strike(rule))
        elif at_sec is not None:
            rule.at_ns = self._begin() + int(at_sec * NS)
            self._rules.append(rule)
        elif on:
            self._rules.append(rule)
        else:
            self._strike(rule)
        return rule

    def _rule(self, name: str, on: str, options: dict[str, Any]) -> FaultRule:
        if name not in CATALOG:
            raise BrokerError(f"there is no fault {name!r}: {nearest(name, CATALOG)}")
        direction, _, message = on.partition(" ")
        names = {"": {""}, "send": set(ANSWERS), "receive": _REQUEST_NAMES}
        if direction not in names:
            raise BrokerError(f"on={on!r} starts with neither send nor receive")
        if message not in names[direction]:
            raise BrokerError(
                f"on={on!r}: there is no such message: {nearest(message, names[direction])}"
            )
        entry = CATALOG[name]
        if entry.needs and direction not in entry.needs:
            raise BrokerError(f"fault {name!r} needs on='{entry.needs[0]} <message>'")
        counted = {
            key: options.pop(key) for key in ("nth", "times", "chance", "where") if key in options
        }
        return FaultRule(name, entry.bind(options), direction, message, **counted)

    def clear(self) -> None:
        """Forget all rules; what already happened stays."""
        self._rules.clear()

    def close(self) -> None:
        for timer in self._late:
            timer.cancel()

    @property
    def pending(self) -> list[str]:
        return [rule.name for rule in self._rules if not rule.exhausted]

    # ------------------------------------------------------------------------------------- triggers

    def clock(self, now: int) -> None:
        for rule in [
            r for r in self._rules if r.at_ns is not None and r.at_ns <= now and not r.exhausted
        ]:
            self._strike(rule)

    def _begin(self) -> int:
        if self._start_ns is None:
            self._start_ns = self._tws.book.now
        return self._start_ns

    def _strike(self, rule: FaultRule) -> None:
        self._hit(rule, MessageInFlight(self._tws, None, "", {}))

    def _hit(self, rule: FaultRule, message: MessageInFlight) -> None:
        rule.strikes += 1
        self._tws.counters["faults"] += 1
        self._tws.note(
            "tws_fault", name=rule.name, **({"at": message.name} if message.name else {})
        )
        rule.act(message)

    def queued(self, least: float, most: float) -> float:
        """Return the loop's time at which a request of now is served; no later one overtakes it."""
        now = asyncio.get_running_loop().time()
        self._queue_ends = max(now + self._rng.uniform(least, most), self._queue_ends + 1e-6)
        return self._queue_ends

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self._later(seconds, act)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(asyncio.get_running_loop().time() + seconds, act)

    def _at(self, due: float, act: Callable[[], None]) -> None:
        def run() -> None:
            self._late.discard(timer)
            act()

        timer = asyncio.get_running_loop().call_at(due, run)
        self._late.add(timer)

    # ------------------------------------------------------------------------------------- messages

    @property
    def idle(self) -> bool:
        return not (self._rules or self.offline or self.stopped or self._on_hold)

    def sending(self, session: ClientSession, name: str, values: Values) -> None:
        message = MessageInFlight(self._tws, session, name, values)
        if name in self.stopped:
            return
        if self.offline and name in NEWS:
            if name in ORDER_NEWS:
                self._waiting.append(message)
            return
        self._judge("send", message)
        self._deliver(message)

    def _judge(self, direction: str, message: MessageInFlight) -> None:
        for rule in self._rules:
            if rule.direction == direction and rule.due(message, self._rng):
                self._hit(rule, message)

    def _deliver(self, message: MessageInFlight) -> None:
        session = message.session
        when, how = message.cut
        if session is not None and when == "before":
            session.cut(how, message)
        elif message.hold_for:
            self._on_hold.append(message)
        elif not message.dropped and message.delay_sec:
            self._later(message.delay_sec, message.emit)
        elif not message.dropped:
            message.emit()
            self._release(message)
        if session is not None and when == "after":
            session.cut(how, message)
        for act in message.after:
            act()

    def _release(self, message: MessageInFlight) -> None:
        for waiting in [
            h for h in self._on_hold if h.hold_for == message.name and h.session is message.session
        ]:
            self._on_hold.remove(waiting)
            waiting.emit()

    def receiving(
        self, session: ClientSession, name: str, values: Values, handle: Callable[[], None]
    ) -> None:
        message = MessageInFlight(self._tws, session, name, values, handle)
        if self.offline and name in {"placeOrder", "cancelOrder", "reqGlobalCancel"}:
            self._waiting.append(message)
            return
        self._judge("receive", message)
        when, how = message.cut
        if when == "before":
            session.cut(how, message)
        elif not message.dropped and message.handle is not None:
            if message.due:
                self._at(message.due, message.handle)
            elif message.delay_sec:
                self._later(message.delay_sec, message.handle)
            else:
                message.handle()
        if when == "after":
            session.cut(how, message)
        for act in message.after:
            act()

    def online(self) -> None:
        """Deliver what waited for the broker: news first, then orders."""
        self.offline = False
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            if message.handle is None:
                message.emit()
        for message in waiting:
            if message.handle is not None:
                message.handle()
