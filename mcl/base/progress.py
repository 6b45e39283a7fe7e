"""Reports the steps of long work to the listener that shows them, if there is one.

A step with a count is reported after each of its units; one without lasts until the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Tick = Callable[[], None]
Listener = Callable[[str, int], Tick]


@dataclass
class _Subscription:
    listen: Listener
    inside: int = 0  # loops of `each` that are under way: what begins in one belongs to it


def _nothing() -> None: ...


_listeners = [_Subscription(lambda step, count: _nothing)]  # noqa: ARG005 - nobody


def begin(step: str, count: int = 0) -> Tick:
    """Begin a step of `count` units (0: unknown); call the returned function after each unit."""
    listener = _listeners[-1]
    return _nothing if listener.inside else listener.listen(step, count)


def each(step: str, items: Sequence[T]) -> Iterator[T]:
    """Yield the items as a step that counts them. Steps that begin meanwhile are parts of it and
    are not reported.
    """
    tick, listener = begin(step, len(items)), _listeners[-1]
    listener.inside += 1
    try:
        for item in items:
            yield item
            tick()
    finally:
        listener.inside -= 1


@contextmanager
def subscription(listen: Listener) -> Iterator[None]:
    """Call `listen` with every step that begins in this process until the end of the block."""
    listener = _Subscription(listen)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
