"""Waiting for a broker: every question is bounded in time, asked once at a time, and fails with a
sentence.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from mcl.base.errors import ConnectionLost

T = TypeVar("T")
# about data farms, not about requests
NOTICES = frozenset({2103, 2104, 2105, 2106, 2107, 2108, 2119, 2157, 2158})


class DecoderErrors(logging.Handler):
    """Remembers that the library could not read a message: it only logs that, and the message is
    lost.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = self.message or record.getMessage()[:200]


class HandledErrors(logging.Filter):
    """Keeps the library from logging as errors what the session itself handles and reports: these
    codes.
    """

    def __init__(self, codes: Iterable[int]) -> None:
        super().__init__()
        self._begins = tuple(f"Error {code}," for code in codes)

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self._begins)


class RequestGate:
    """`connected` says whether an answer can still come; `told` and `changed` are fed by the events
    of the connection.
    """

    def __init__(self, timeout_sec: float, connected: Callable[[], bool]) -> None:
        self.timeout_sec = timeout_sec
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._connected = connected
        self._changed = asyncio.Event()
        # why this connection is of no use any more, though its socket may still be open
        self.ended = ""
        # (request or order id, code, text)
        self._errors: deque[tuple[int, int, str]] = deque(maxlen=100)

    def changed(self, *_: Any) -> None:
        """Wake everybody who waits, so that they look again."""
        self._changed.set()

    def end(self, why: str) -> None:
        self.ended = self.ended or why
        self._changed.set()

    def check(self) -> None:
        """ConnectionLost when no answer can come any more."""
        if self.ended or not self._connected():
            raise ConnectionLost(
                f"the connection to the broker was lost{': ' if self.ended else ''}{self.ended}"
            )

    def record_error(self, req_id: int, code: int, text: str, *_: Any) -> None:
        if code not in NOTICES:
            self._errors.append((req_id, code, text))
        self._changed.set()

    def errors(
        self, req_id: int, codes: frozenset[int] | None = None, but: frozenset[int] = frozenset()
    ) -> str:
        """The broker's messages about a request or an order (of these codes, without those); empty
        if there are none.
        """
        errors = [
            (code, text) for at, code, text in self._errors if at == req_id and code not in but
        ]
        return "; ".join(
            f"{text} ({code})" for code, text in errors if codes is None or code in codes
        )

    @property
    def last_error(self) -> str:
        return "".join(f"{text} ({code})" for _, code, text in list(self._errors)[-1:])

    async def answer(
        self, what: str, request: Callable[[], Awaitable[T]], wait_sec: float = math.inf
    ) -> T:
        """The library keys some requests by kind only, so that a second one would orphan the first:
        one at a time per `what`.
        """
        async with self.locks[what]:
            self.check()
            before, seconds = len(self._errors), min(wait_sec, self.timeout_sec)
            try:
                async with asyncio.timeout(seconds):
                    return await request()
            except TimeoutError:
                reason = f": {self.last_error}" if len(self._errors) > before else ""
                raise ConnectionLost(
                    f"the broker did not answer the request for {what} within {seconds:g} s{reason}"
                ) from None
            except ConnectionError:
                raise ConnectionLost(
                    f"the connection to the broker was lost during the request for {what}"
                ) from None

    async def until(self, holds: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for events until a condition holds; False when the time is up or the connection is
        gone.
        """
        deadline = time.monotonic() + (self.timeout_sec if seconds is None else seconds)
        while not holds():
            self._changed.clear()
            left = deadline - time.monotonic()
            if left <= 0 or self.ended or not self._connected():
                return False
            try:
                # wait_for of Python 3.11 can swallow a cancellation
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return holds()
        return True
