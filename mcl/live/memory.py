"""Garbage is collected between two bars, not while a decision is on its way; between two sessions
memory goes back to the machine.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

RARE = (100_000, 50, 50)  # thresholds: what happens when no bar comes for a long time
FULL_EVERY = 60  # bars


@contextmanager
def collect_between_bars() -> Iterator[Callable[[int], None]]:
    """Collect garbage between two bars only, and never again what was loaded until now. Yields the
    function to call after every bar, with the number of bars.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARE)
    try:
        yield lambda bars: _collect(2 if bars % FULL_EVERY == 0 else 1)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def release() -> None:
    """Give back what a session and its audit have used: the C library keeps freed memory, of each
    thread apart, and it adds up.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than that of GNU
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _collect(generation: int) -> None:
    gc.collect(generation)
