"""The connections that a server of streams has open: each is known while it is served, and all end
with the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Visits:
    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def visit(self) -> Iterator[None]:
        """The connection that the running task serves."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - told to the type checker: streams are served in tasks
        self._open.add(task)
        try:
            yield
        finally:
            self._open.discard(task)

    async def end(self) -> None:
        """Cancel whoever is still served, and wait until they are gone."""
        left = list(self._open)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # the connections are torn down in the loop's next turn
