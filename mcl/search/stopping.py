"""Decide when a search ends before its last trial."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from mcl.base.words import many
from mcl.config import schema
from mcl.search.interrupt import Stop
from mcl.search.progress import SweepStatistics
from mcl.search.sweep_dir import SweepDir
from mcl.search.trial import Outcome
from mcl.tracking.store import Status

LOOK_SEC = 0.1


class StoppingRule:
    """Decide before each trial whether the search ends. `why` is empty until it does."""

    def __init__(self, search: schema.Search, stop: Stop, directories: Sequence[SweepDir]) -> None:
        self._search, self._stop, self._directories = search, stop, directories
        self._deadline = (
            math.inf if search.timeout_sec is None else time.perf_counter() + search.timeout_sec
        )
        self._since_better, self._last_look = 0, -math.inf
        self.why = ""
        self.status: Status = "FINISHED"

    def should_stop(self) -> bool:
        if self.why:
            return True
        if self._stop.requested or self._stop_requested():
            self._end("stopped by hand", "KILLED")
        elif time.perf_counter() >= self._deadline:
            self._end(f"search.timeout_sec={self._search.timeout_sec:g} is over", "FINISHED")
        return bool(self.why)

    def _stop_requested(self) -> bool:
        """Whether `mcl sweep stop` has been typed: a look at the disk, not at every trial."""
        if time.perf_counter() - self._last_look < LOOK_SEC:
            return False
        self._last_look = time.perf_counter()
        return any(directory.stop_requested for directory in self._directories)

    def watch(self, outcome: Outcome, improved: bool, statistics: SweepStatistics) -> None:
        """Take an outcome of this process into account."""
        self._since_better = 0 if improved else self._since_better + 1
        failed = statistics.states["FAILED"]
        failure_limit, stall_limit = self._search.max_failures, self._search.patience
        if failure_limit is not None and failed > failure_limit:
            self._end(
                f"{many(failed, 'trial')} failed, more than search.max_failures={failure_limit}",
                "FAILED",
            )
        elif self._alike(outcome, statistics):
            self._end(
                f"the first {statistics.done} trials all failed with {outcome.reason}:"
                f" {outcome.detail}",
                "FAILED",
            )
        elif (
            stall_limit is not None
            and statistics.best is not None
            and self._since_better >= stall_limit
        ):
            self._end(f"no better trial among the last {stall_limit} (search.patience)", "FINISHED")

    def compare_with_luck(self, statistics: SweepStatistics) -> None:
        """End where `search.stop_when=inside_luck`: the best so far is no more than luck alone
        gives for all trials counted.

        Its annual Sharpe ratio is compared with the one that the best of as many trials without an
        edge is expected to show, from `search.stop_from` scored trials on. Where either is
        undefined the search continues.
        """
        if self._search.stop_when is None or statistics.best is None or statistics.luck is None:
            return
        ratio, chance = (
            statistics.best.metrics.get("sharpe", math.nan),
            statistics.luck.best_by_luck,
        )
        if statistics.states["COMPLETE"] >= self._search.stop_from and ratio <= chance:
            message = (
                f"the best Sharpe ratio {ratio:.2f} is inside luck: {statistics.luck.count} would"
                f" show {chance:.2f}"
            )
            self._end(f"{message} (search.stop_when=inside_luck)", "FINISHED")

    def _alike(self, outcome: Outcome, statistics: SweepStatistics) -> bool:
        """Whether all trials so far have failed, with the same exception, and are as many as
        search.fail_fast.
        """
        first = self._search.fail_fast
        return (
            first is not None
            and statistics.done
            == statistics.states["FAILED"]
            == statistics.reasons[outcome.reason]
            >= first
        )

    def _end(self, why: str, status: Status) -> None:
        if not self.why:
            self.why, self.status = why, status
