"""The parts of a session on one connection: everything that may send an order, started and ended by
the one supervisor.

The first part that ends, ends them all: the broker's permit is taken away before anything is
cancelled, so that a part that does not notice its end (the client library waits with
`asyncio.wait_for`, which in Python 3.11 can swallow a cancellation) has nothing left that it could
do. Cancelling is repeated until it holds, and waiting for it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

CANCEL_AGAIN_SEC = 0.1
END_SEC = 3.0  # so long parts are cancelled again and again
log = logging.getLogger("mcl.live")


class Parts:
    """`start` a part; `first` waits for the first one that ends; `end` ends the others."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: list[asyncio.Task[None]] = []  # in order
        self._one_ended = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._ended.append(task)
        self._one_ended.set()

    async def first(self) -> asyncio.Task[None]:
        await self._one_ended.wait()
        return self._ended[0]

    async def end(self, retire: Callable[[], None]) -> None:
        """Take the permit away, then cancel until every part has ended or the time is up; what is
        left is logged.
        """
        retire()
        left = await cancel_all(self._tasks)
        if left:
            log.error(
                "%d parts of the session did not end within %g s; they can send nothing any more",
                len(left),
                END_SEC,
            )


async def cancel_all(
    tasks: Sequence[asyncio.Task[Any]], wait_sec: float = END_SEC
) -> set[asyncio.Task[Any]]:
    """Cancel these again and again; returns those that still run when the time is up."""
    deadline, left = time.monotonic() + wait_sec, {task for task in tasks if not task.done()}
    while left and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SEC)
    for task in tasks:
        task.add_done_callback(_notice)
    return left


def _notice(task: asyncio.Task[Any]) -> None:
    """An exception that nobody waits for is not one that was never seen."""
    if not task.cancelled():
        task.exception()


class Turn:
    """Held by the one part that decides or sends; `since` is when it was taken (monotonic), 0 while
    it is free.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.since = 0.0

    def locked(self) -> bool:
        return self._lock.locked()

    async def take(self) -> None:
        """Never given back: nothing else begins any more."""
        await self._lock.acquire()

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self.since = time.monotonic()

    async def __aexit__(self, *_: object) -> None:
        self.since = 0.0
        self._lock.release()
