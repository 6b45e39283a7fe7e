"""The steps of long work: told by whoever takes them, heard by whoever shows them, and by nobody
unless somebody listens.

A step with a count is told after each of its units; one without lasts until the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Tick = Callable[[], None]
Ear = Callable[[str, int], Tick]


@dataclass
class _Listener:
    ear: Ear
    inside: int = 0  # loops of `each` that are under way: what begins in one belongs to it


def _nothing() -> None: ...


_listeners = [_Listener(lambda step, count: _nothing)]  # noqa: ARG005 - nobody


def begin(step: str, count: int = 0) -> Tick:
    """A new step of `count` units (0: nobody knows how many); call the answer after each of
    them.
    """
    listener = _listeners[-1]
    return _nothing if listener.inside else listener.ear(step, count)


def each(step: str, items: Sequence[T]) -> Iterator[T]:
    """The items one after the other, as a step that counts them. What begins meanwhile is a part of
    it, and nobody is told.
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
def heard(ear: Ear) -> Iterator[None]:
    """`ear` is told of every step that begins in this process until the end of the block."""
    listener = _Listener(ear)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
