"""Ask, compute, tell: the loop between a study and its workers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mcl.search.study import Study
from mcl.search.trial import Outcome
from mcl.search.trial_log import TrialLog
from mcl.search.worker_pool import Workers


class Loop:
    """Iterate over the outcomes that bring a search to `total` trials, in order of completion.

    Outcomes in `log` are not computed again. Trials that an earlier process began run again at the
    same point. An outcome is written to the log first, then given to the study, then yielded. A
    free worker gets the next trial as soon as the study is ready to draw it. A point that an
    earlier trial number has is never simulated again: it is PRUNED(duplicate), and the sampler gets
    the earlier value. After `halted()` no trial begins; those that run are finished.
    """

    def __init__(
        self, study: Study, workers: Workers, log: TrialLog, total: int, halted: Callable[[], bool]
    ) -> None:
        self._study, self._workers, self._log, self._halted, self._total = (
            study,
            workers,
            log,
            halted,
            total,
        )
        self._first: dict[str, int] = {}  # point -> the trial that computes it
        self._done: dict[int, Outcome] = {}
        # of trials that still run
        self._repeats: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for number in sorted(log.outcomes):
            outcome = log.outcomes[number]
            self._first.setdefault(_point(outcome.params), number)
            self._done[number] = _light(outcome)
        self._adopt()

    def __iter__(self) -> Iterator[Outcome]:
        running = 0
        while True:
            while running < self._workers.capacity and (proposal := self._next()) is not None:
                repeated, started = self._begin(*proposal)
                running += started
                yield from repeated
            if not running:
                return
            outcome = self._workers.take()
            running -= 1
            yield from self._close(outcome)

    def _next(self) -> tuple[int, dict[str, Any]] | None:
        """The trial to begin now, if any."""
        if self._halted():
            return None
        self._adopt()
        return (
            self._study.ask()
            if self._study.next_number < self._total and self._study.ready
            else None
        )

    def _adopt(self) -> None:
        """Pass over trials that are in the log."""
        while (number := self._study.next_number) in self._log.outcomes:
            self._study.adopt(self._log.outcomes[number], self._log.windows.get(number, 1))

    def _begin(self, number: int, params: dict[str, Any]) -> tuple[list[Outcome], int]:
        """Start one trial. Return the outcomes that need no worker, and the number of trials that a
        worker got.
        """
        first = self._first.setdefault(_point(params), number)
        if first == number:
            self._workers.submit(number, params)
            return [], 1
        if first in self._done:
            return [self._tell(_repeat(self._done[first], number, params))], 0
        self._repeats[first].append((number, params))
        return [], 0

    def _close(self, outcome: Outcome) -> list[Outcome]:
        self._done[outcome.number] = _light(outcome)
        waiting = self._repeats.pop(outcome.number, [])
        return [self._tell(outcome), *(self._tell(_repeat(outcome, *repeat)) for repeat in waiting)]

    def _tell(self, outcome: Outcome) -> Outcome:
        outcome = self._study.reported(outcome)
        self._log.add(outcome, self._study.window)
        self._study.tell(outcome)
        return outcome


def _point(params: dict[str, Any]) -> str:
    return json.dumps(params)


def _light(outcome: Outcome) -> Outcome:
    return replace(outcome, config={}, sessions=outcome.sessions[:0], returns=outcome.returns[:0])


def _repeat(outcome: Outcome, number: int, params: dict[str, Any]) -> Outcome:
    detail = f"same values as trial {outcome.number}"
    return Outcome(
        number=number,
        params=params,
        state="PRUNED",
        reason="duplicate",
        detail=detail,
        value=outcome.value,
        others=outcome.others,
        excess=outcome.excess,
    )
