"""Ctrl-C as a request: the trial that runs is finished and kept, then the loop ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    requested: bool = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Inside, the first SIGINT or SIGTERM sets `requested`; a second one raises KeyboardInterrupt.
    Outside the main thread: no change.
    """
    stop = Stop()

    def ask(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
