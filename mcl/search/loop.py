"""Ask, compute, tell: the loop between a study and its workers."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mcl.search.interrupt import Stop
from mcl.search.pool import Workers
from mcl.search.study import Study
from mcl.search.trial import Outcome

Asked = tuple[int, dict[str, Any]]


class Loop:
    """Iterate over the outcomes of `total` trials in order of completion; each is told to the study before it is yielded.

    A free worker gets the next trial at once. A point that an earlier trial number has is never simulated again: it is
    PRUNED(duplicate), and the sampler is told the earlier value. After `stop` or the timeout no trial is asked for; those that
    run are finished.
    """

    def __init__(self, study: Study, workers: Workers, total: int, stop: Stop, timeout_sec: float | None) -> None:
        self._study, self._workers, self._stop = study, workers, stop
        self._left = total
        self._deadline = math.inf if timeout_sec is None else time.perf_counter() + timeout_sec
        self._first: dict[str, int] = {}  # point -> the trial that computes it
        self._done: dict[int, Outcome] = {}
        self._repeats: dict[int, list[Asked]] = defaultdict(list)  # of trials that still run

    def __iter__(self) -> Iterator[Outcome]:
        running = 0
        while True:
            while running < self._workers.capacity and self._may_ask():
                repeated, started = self._ask()
                running += started
                yield from repeated
            if not running:
                return
            outcome = self._workers.take()
            running -= 1
            yield from self._close(outcome)

    def _may_ask(self) -> bool:
        return self._left > 0 and not self._stop.requested and time.perf_counter() < self._deadline

    def _ask(self) -> tuple[list[Outcome], int]:
        """Ask for one trial: outcomes that are known at once, and how many trials were started."""
        self._left -= 1
        number, params = self._study.ask()
        first = self._first.setdefault(json.dumps(params), number)
        if first == number:
            self._workers.submit(number, params)
            return [], 1
        if first in self._done:
            return [self._tell(_repeat(self._done[first], number, params))], 0
        self._repeats[first].append((number, params))
        return [], 0

    def _close(self, outcome: Outcome) -> list[Outcome]:
        self._done[outcome.number] = replace(outcome, config={}, sessions=outcome.sessions[:0], returns=outcome.returns[:0])
        waiting = self._repeats.pop(outcome.number, [])
        return [self._tell(outcome), *(self._tell(_repeat(outcome, *asked)) for asked in waiting)]

    def _tell(self, outcome: Outcome) -> Outcome:
        self._study.tell(outcome)
        return outcome


def _repeat(outcome: Outcome, number: int, params: dict[str, Any]) -> Outcome:
    return Outcome(number, params, "PRUNED", "duplicate", f"same values as trial {outcome.number}", value=outcome.value)
