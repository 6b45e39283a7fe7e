"""Several pieces of work at once, in threads that an interrupt or the first error brings to an orderly end."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
_TICK_SEC = 0.2


def abreast(
    tasks: Iterable[T],
    work: Callable[[T], None],
    *,
    workers: int,
    stop: threading.Event,
    tick: Callable[[], None],
    wait: Callable[[], None],
) -> None:
    """Call `work` on every task, `workers` at a time; `tick` now and then, from the calling thread.

    After the first error, or a first Ctrl-C, nothing new begins, `stop` is set, and what is under way is finished before the error
    is raised; `wait` says so to the person. A second Ctrl-C is raised at once: what is under way is dropped.
    """
    waiting, ended = deque(tasks), queue.Queue[Exception | None]()

    def turn() -> None:
        try:
            while not stop.is_set() and (task := _first(waiting)) is not None:
                work(task)
        except Exception as error:
            stop.set()
            ended.put(error)
        ended.put(None)

    running = min(workers, len(waiting))
    for _ in range(running):
        threading.Thread(target=turn, daemon=True).start()
    first, interrupted = None, False
    while running:
        try:
            error = _next(ended)
            if error is _NOTHING_YET:
                tick()
            elif error is None:
                running -= 1
            else:
                first = first or error
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            stop.set()
            wait()
    if interrupted:
        raise KeyboardInterrupt
    if first is not None:
        raise first


def _first(waiting: deque[T]) -> T | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


_NOTHING_YET = Exception("no thread ended yet")


def _next(ended: queue.Queue[Exception | None]) -> Exception | None:
    try:
        return ended.get(timeout=_TICK_SEC)
    except queue.Empty:
        return _NOTHING_YET
