"""Send alerts to an operator. The session is never held up: each channel has a queue and a
thread of its own.

What is repeated is held back and counted, what floods is cut off with one last word, what cannot be
delivered is tried again and then logged. Channels: `mcl.live.ops.alert_channels`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from mcl.base.alert import Alert
from mcl.base.back_off import pause_sec
from mcl.config import schema
from mcl.live.ops.session_log import log
from mcl.live.status import Status

RANK = {"info": 0, "warning": 1, "critical": 2}
QUEUED = 200  # per channel; what comes on top replaces the oldest
REMEMBERED = 400  # alerts that are known to have been seen
HOUR_SEC = 3600.0


@dataclass(frozen=True)
class Notice:
    """One alert with whose it is. `repeats`: how many like it were held back since the last one."""

    alert: Alert
    alias: str
    version: int
    session: str
    repeats: int = 0

    @property
    def subject(self) -> str:
        # the stack has no version
        whose = f"{self.alias} v{self.version}" if self.version else self.alias
        return f"[mcl {whose}] {self.alert.severity}: {self.alert.code}"

    @property
    def text(self) -> str:
        more = f" ({self.repeats} more like it since the last message)" if self.repeats else ""
        return f"{self.alert.sentence}{more}"


class Undelivered(Exception):
    """A channel could not deliver; `again` says whether it may be tried once more, `after_sec` when
    the other side names a time.
    """

    def __init__(self, why: str, again: bool = True, after_sec: float = 0.0) -> None:
        super().__init__(why)
        self.again, self.after_sec = again, after_sec


class Channel(Protocol):
    name: str
    attempts: int

    def send(self, notice: Notice) -> None:
        """Deliver, blocking, within the channel's own time-out; Undelivered says why not."""


class AlertFilter:
    """Decides which alerts are sent. The clock is in seconds and never goes back."""

    def __init__(self, rules: schema.Alerts) -> None:
        self._rules = rules
        self._last: dict[tuple[str, ...], float] = {}
        self._suppressed: dict[tuple[str, ...], int] = defaultdict(int)
        self._sent: dict[bool, deque[float]] = {True: deque(), False: deque()}

    def admit(self, alert: Alert, now: float) -> tuple[Alert, int] | None:
        """The alert to send, which may be the one that says that too many came, and how many like
        it were held back before; None: nothing.

        A critical alert with another sentence is another alert.
        """
        if RANK[alert.severity] < RANK[self._rules.min_severity]:
            return None
        critical = alert.severity == "critical"
        key = (alert.severity, alert.code, alert.sentence if critical else "")
        if now - self._last.get(key, -float("inf")) < self._rules.repeat_sec:
            self._suppressed[key] += 1
            return None
        sent = self._sent[critical]
        while sent and now - sent[0] >= HOUR_SEC:
            sent.popleft()
        if len(sent) > self._rules.per_hour:
            self._suppressed[key] += 1
            return None
        sent.append(now)
        if len(sent) > self._rules.per_hour:
            return (
                Alert(
                    alert.at_ns,
                    alert.severity,
                    "TOO_MANY_ALERTS",
                    f"{self._rules.per_hour} in an hour; more are in the journal",
                ),
                0,
            )
        self._last[key] = now
        return alert, self._suppressed.pop(key, 0)


class DeliveryThread:
    """A thread that carries notices to one channel, with growing pauses between attempts."""

    def __init__(
        self, channel: Channel, first_pause_sec: float = 1.0, longest_pause_sec: float = 60.0
    ) -> None:
        self.channel, self.delivered, self.lost = channel, 0, 0
        self._first, self._longest = first_pause_sec, longest_pause_sec
        self._queue: queue.Queue[Notice | None] = queue.Queue(QUEUED)
        self._ending = threading.Event()
        self._thread = threading.Thread(
            target=self._carry, name=f"alerts-{channel.name}", daemon=True
        )
        self._thread.start()

    def take(self, notice: Notice | None) -> None:
        """Never blocks: a full queue loses its oldest."""
        while True:
            try:
                return self._queue.put_nowait(notice)
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self.lost += 1
                except queue.Empty:
                    continue

    def close(self, timeout_sec: float) -> None:
        """Deliver what waits, each once more and without pauses; then go."""
        self._ending.set()
        self.take(None)
        self._thread.join(timeout_sec)

    def _carry(self) -> None:
        while (notice := self._queue.get()) is not None:
            self._deliver(notice)

    def _deliver(self, notice: Notice) -> None:
        for attempt in range(1, self.channel.attempts + 1):
            try:
                self.channel.send(notice)
            except Undelivered as error:
                if (
                    not error.again
                    or attempt == self.channel.attempts
                    or (self._ending.is_set() and attempt > 1)
                ):
                    self.lost += 1
                    log.error(
                        "alert not delivered",
                        channel=self.channel.name,
                        code=notice.alert.code,
                        why=str(error),
                        attempts=attempt,
                    )
                    return
                pause = pause_sec(attempt, self._first, self._longest)
                self._ending.wait(min(max(pause, error.after_sec), self._longest))
            else:
                self.delivered += 1
                return


class AlertDispatcher:
    """Listens to a `Watch`: every alert that a status shows for the first time goes through the
    sieve to the channels.
    """

    def __init__(
        self,
        rules: schema.Alerts,
        channels: Sequence[Channel],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.deliveries = [DeliveryThread(channel) for channel in channels]
        self._filter, self._log, self._clock = AlertFilter(rules), rules.log, clock
        self._recent: deque[Alert] = deque(maxlen=REMEMBERED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, timeout_sec: float = 10.0) -> None:
        """Wait for what is on its way, at most so long."""
        deadline = time.monotonic() + timeout_sec
        for delivery in self.deliveries:
            delivery.close(max(0.0, deadline - time.monotonic()))

    def __call__(self, status: Status) -> None:
        for alert in status.alerts:
            if alert not in self._recent:
                self._recent.append(alert)
                self.tell(alert, status.alias, status.version, status.session)

    def tell(self, alert: Alert, alias: str, version: int, session: str) -> None:
        """One alert through the sieve to the channels."""
        admitted = self._filter.admit(alert, self._clock())
        if admitted is None:
            return
        notice = Notice(admitted[0], alias, version, session, admitted[1])
        if self._log:
            _line(notice)
        for delivery in self.deliveries:
            delivery.take(notice)


def _line(notice: Notice) -> None:
    write: Any = {"info": log.info, "warning": log.warning, "critical": log.critical}[
        notice.alert.severity
    ]
    write(notice.text, code=notice.alert.code, severity=notice.alert.severity)
