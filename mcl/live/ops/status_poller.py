"""Poll the status of a session once for all that watch it, and pass it on only when something has
changed.

The session knows nothing of who watches. A look costs it one call of `status()`; nobody who is told
can hold it up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from mcl.live.status import SessionHandle, Status

# a change is on its way to the screen within this; a look costs the session some 20 µs
EVERY_SEC = 0.02
AT_LEAST_SEC = 1.0  # ages move even when nothing else does

Listener = Callable[[Status], None]


class StatusPoller:
    """`latest` is the last status seen, `number` counts the changes. Listeners are called on the
    loop and must return at once.
    """

    def __init__(
        self, session: SessionHandle, *listeners: Listener, every_sec: float = EVERY_SEC
    ) -> None:
        self.session, self.latest, self.number = session, session.status(), 0
        self._listeners, self._every_sec = listeners, every_sec
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._tell(self.latest)
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._tell(self.session.status())  # the last word of a session

    async def after(self, number: int) -> int:
        """Wait for a change later than `number`; returns the number of the latest."""
        while self.number <= number:
            await self._changed.wait()
        return self.number

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        reported_at = clock()
        while True:
            await asyncio.sleep(self._every_sec)
            now = self.session.status()
            if clock() - reported_at >= AT_LEAST_SEC or _still(now) != _still(self.latest):
                reported_at = clock()
                self._tell(now)

    def _tell(self, status: Status) -> None:
        self.latest = status
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in self._listeners:
            listener(status)


def _still(status: Status) -> Status:
    """The status without what moves by itself."""
    return replace(status, at_ns=0, data_age_sec=None)
