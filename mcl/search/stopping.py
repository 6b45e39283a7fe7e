"""When a search ends before its last trial, and what that is called."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from mcl.config import schema
from mcl.search.interrupt import Stop
from mcl.search.progress import Board
from mcl.search.sweep_dir import Place
from mcl.search.trial import Outcome
from mcl.tracking.store import Status

LOOK_SEC = 0.1


class Brakes:
    """`on()` before each trial: whether to ask for no more. `why` is empty while the search may go
    on.
    """

    def __init__(self, search: schema.Search, stop: Stop, places: Sequence[Place]) -> None:
        self._search, self._stop, self._places = search, stop, places
        self._deadline = (
            math.inf if search.timeout_sec is None else time.perf_counter() + search.timeout_sec
        )
        self._since_better, self._looked = 0, -math.inf
        self.why = ""
        self.status: Status = "FINISHED"

    def on(self) -> bool:
        if self.why:
            return True
        if self._stop.requested or self._asked():
            self._pull("stopped by hand", "KILLED")
        elif time.perf_counter() >= self._deadline:
            self._pull(f"search.timeout_sec={self._search.timeout_sec:g} is over", "FINISHED")
        return bool(self.why)

    def _asked(self) -> bool:
        """Whether `mcl sweep stop` has been typed: a look at the disk, not at every trial."""
        if time.perf_counter() - self._looked < LOOK_SEC:
            return False
        self._looked = time.perf_counter()
        return any(place.asked_to_stop for place in self._places)

    def watch(self, outcome: Outcome, improved: bool, board: Board) -> None:
        """Take an outcome of this process into account."""
        self._since_better = 0 if improved else self._since_better + 1
        failed = board.states["FAILED"]
        limit, patience = self._search.max_failures, self._search.patience
        if limit is not None and failed > limit:
            self._pull(f"{failed} trials failed, more than search.max_failures={limit}", "FAILED")
        elif self._alike(outcome, board):
            self._pull(
                f"the first {board.done} trials all failed with {outcome.reason}: {outcome.detail}",
                "FAILED",
            )
        elif patience is not None and board.best is not None and self._since_better >= patience:
            self._pull(f"no better trial among the last {patience} (search.patience)", "FINISHED")

    def weigh(self, board: Board) -> None:
        """End where `search.stop_when=inside_luck`: the best so far is no more than luck alone
        gives for all trials counted.

        Its annual Sharpe ratio is compared with the one that the best of as many trials without an
        edge is expected to show, from `search.stop_from` scored trials on. Where either is
        undefined the search goes on.
        """
        if self._search.stop_when is None or board.best is None or board.luck is None:
            return
        ratio, chance = board.best.metrics.get("sharpe", math.nan), board.luck.best_by_luck
        if board.states["COMPLETE"] >= self._search.stop_from and ratio <= chance:
            said = (
                f"the best Sharpe ratio {ratio:.2f} is inside luck: {board.luck.count} would show"
                f" {chance:.2f}"
            )
            self._pull(f"{said} (search.stop_when=inside_luck)", "FINISHED")

    def _alike(self, outcome: Outcome, board: Board) -> bool:
        """Whether all trials so far have failed, with the same exception, and are as many as
        search.fail_fast.
        """
        first = self._search.fail_fast
        return (
            first is not None
            and board.done == board.states["FAILED"] == board.reasons[outcome.reason] >= first
        )

    def _pull(self, why: str, status: Status) -> None:
        if not self.why:
            self.why, self.status = why, status
