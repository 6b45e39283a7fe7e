"""Several pieces of work at once, in threads that an interrupt or the first error brings to an
orderly end.
"""

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

    After the first error, or a first Ctrl-C, nothing new begins, `stop` is set, and what is under
    way is finished before the error is raised; `wait` says so to the person. A second Ctrl-C is
    raised at once: what is under way is dropped.
    """
    waiting, errors, ended = deque(tasks), list[Exception](), queue.Queue[threading.Thread]()

    def turn() -> None:
        try:
            while not stop.is_set() and (task := _first(waiting)) is not None:
                work(task)
        except Exception as error:
            stop.set()
            errors.append(error)
        ended.put(threading.current_thread())

    threads = [
        threading.Thread(target=turn, daemon=True) for _ in range(min(workers, len(waiting)))
    ]
    idle, interrupted = deque(threads), False
    while idle or any(thread.is_alive() for thread in threads):
        try:
            while idle:
                idle.popleft().start()
            if (one := _next(ended)) is None:
                tick()
            else:
                one.join()
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            stop.set()
            wait()
    if interrupted:
        raise KeyboardInterrupt
    if errors:
        raise errors[0]


def _first(waiting: deque[T]) -> T | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _next(ended: queue.Queue[threading.Thread]) -> threading.Thread | None:
    try:
        return ended.get(timeout=_TICK_SEC)
    except queue.Empty:
        return None
