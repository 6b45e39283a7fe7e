"""Keep what a session was asked to do and has not done yet: by a person, a signal, a guard or the
kill switch.

To close (flatten, kill) lasts until it is done; kill is never taken back. Stop is kept apart
and is checked in every state.
"""

from __future__ import annotations

import asyncio

from mcl.live.session_state import CLOSING
from mcl.live.status import Command


class PendingRequests:
    """`word` is done in the session's own turn: flatten, kill or adopt. `some` is set while there
    is anything to look at.
    """

    def __init__(self) -> None:
        self.word: Command | None = None
        self.some, self.stop = asyncio.Event(), asyncio.Event()
        self._done: asyncio.Future[str] | None = None

    @property
    def closes(self) -> bool:
        return self.word in CLOSING

    def add(self, word: Command) -> None:
        if word == "stop":
            self.stop.set()
        elif not (self.word == "kill" or (self.word == "flatten" and word != "kill")):
            self.word = word
        self.some.set()

    async def answered(self, word: Command, seconds: float) -> str:
        """Add it and wait; what came of it, or nothing when the time is up."""
        self._done = done = self._done or asyncio.get_running_loop().create_future()
        self.add(word)
        await asyncio.wait({done}, timeout=seconds)  # leaves it as it is when the time is up
        return done.result() if done.done() else ""

    def answer(self, sentence: str) -> None:
        """It is done, or refused: whoever waits is told."""
        self.word = None
        self.some.clear()
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_result(sentence)
