"""Try again what may work the next time, with capped exponential backoff and jitter, at the pace
that a vendor allows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from mcl.base.back_off import pause_sec
from mcl.base.errors import DataError

T = TypeVar("T")


class Transient(DataError):
    """A failure that may be gone the next time. `wait_sec` is what the other side asked for, if it
    did.
    """

    def __init__(self, message: str, hint: str = "", wait_sec: float | None = None) -> None:
        super().__init__(message, hint)
        self.wait_sec = wait_sec


@dataclass(frozen=True)
class RetryPolicy:
    """At most `tries` attempts; between them first_sec, twice as much, … up to `cap_sec`, each
    times a random 0.5 to 1.

    A wait that the other side asks for is honoured up to `longest_sec`; if it wants more, the error
    is final.
    """

    tries: int = 7
    first_sec: float = 1.0
    cap_sec: float = 60.0
    longest_sec: float = 900.0

    def delay_sec(self, attempt: int, asked_sec: float | None) -> float:
        """The wait after the attempt with this number, counted from 1."""
        own = pause_sec(attempt, self.first_sec, self.cap_sec) * random.uniform(0.5, 1.0)
        return max(own, asked_sec or 0.0)


@dataclass
class RateLimiter:
    """So many starts a second of each kind of call, over all threads, and none while the other side
    wants a pause.

    `rates` by kind: starts per second, and how many may come at once after a rest. `stop` ends
    every wait.
    """

    rates: dict[str, tuple[float, int]]
    stop: threading.Event = field(default_factory=threading.Event)
    _next: dict[str, float] = field(default_factory=dict)
    _paused_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, kind: str) -> None:
        with self._lock:
            now, (per_sec, burst) = time.monotonic(), self.rates[kind]
            due = max(now, self._next.get(kind, 0.0))
            self._next[kind] = due + 1 / per_sec
            at = max(now, due - (burst - 1) / per_sec, self._paused_until)
        self.stop.wait(at - now)

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)


def with_retries(
    call: Callable[[], T],
    policy: RetryPolicy,
    limiter: RateLimiter,
    tell: Callable[[str], None],
    kind: str,
) -> T:
    """The result of `call`, which is tried again after a Transient error; the last one is raised
    with the number of tries.
    """
    began = time.monotonic()
    for attempt in range(1, policy.tries + 1):
        limiter.wait(kind)
        try:
            return call()
        except Transient as error:
            wait = policy.delay_sec(attempt, error.wait_sec)
            if attempt == policy.tries or wait > policy.longest_sec or limiter.stop.is_set():
                effort = (
                    f" ({attempt} tries in {time.monotonic() - began:.0f} s)" if attempt > 1 else ""
                )
                raise Transient(f"{error.message}{effort}", error.hint, error.wait_sec) from error
            tell(f"{error.message}; trying again in {wait:.1f} s")
            if error.wait_sec is not None:
                limiter.pause(error.wait_sec)
            if limiter.stop.wait(wait):
                raise
    raise DataError(f"need at least one try; tries={policy.tries}")
