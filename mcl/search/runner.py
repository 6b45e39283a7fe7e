"""The search: freeze what was asked for, try points of the space, keep everything, run the best
ones in full; go on after anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mcl import composition
from mcl.base import progress
from mcl.base.errors import ConfigError, StoreError
from mcl.config import schema
from mcl.data.synthetic.watermark import watermark
from mcl.search import sweep_dir as places
from mcl.search.ask_tell import Loop
from mcl.search.best import crowned
from mcl.search.interrupt import interruptible
from mcl.search.progress import Board, Progress, Silent
from mcl.search.ray_workers import Cluster
from mcl.search.recorder import Ledger
from mcl.search.result import Ending, Swept, abandon, conclude
from mcl.search.samplers import NUMBERED
from mcl.search.snapshot import Frozen, freeze, parent, thaw
from mcl.search.stopping import Brakes
from mcl.search.study import Study
from mcl.search.study_view import StudyView
from mcl.search.sweep_dir import Place
from mcl.search.trial import Objective
from mcl.search.trial_log import Outcomes
from mcl.search.worker_pool import Inline, Pool, Workers, expected
from mcl.tracking import backtest_run, provenance
from mcl.tracking.store import Store

BEAT_SEC = 1.0
# trials between two looks whether the best is inside luck: by count, so that a search ends where it
# did
WEIGHED_EVERY = 10


def sweep(
    composed: composition.Composed,
    *,
    store: Store,
    root: Path,
    progress: Progress | None = None,
    above: Place | None = None,
    tags: Mapping[str, str] | None = None,
) -> Swept:
    """Search `composed.search.space` and record every trial; the best one is run once more with all
    its artifacts.

    Ctrl-C keeps what is done and marks the parent KILLED; `resume` goes on from there, and after a
    kill -9. ConfigError before anything is recorded when the space, the metric or the configuration
    is not usable; StoreError or EngineError later, with the parent marked FAILED. `above` is the
    search that this one is a part of: its child it becomes, and who stops that stops this.
    """
    if composed.search.workers > 1 and composed.search.backend == "local":
        expected()
    frozen = freeze(composed, root)
    begun = parent(frozen)
    sweep_id = store.start(
        replace(begun, tags=begun.tags | dict(tags or {}), parent=above.sweep_id if above else None)
    )
    place = Place(folder(store), sweep_id)
    with place.claimed():
        introduce(place, frozen)
        return _Search(frozen, place, store, progress or Silent(), above).run()


def resume(
    named: str,
    *,
    store: Store,
    root: Path,
    trials: int | None = None,
    amendments: list[str] | None = None,
    progress: Progress | None = None,
    above: Place | None = None,
) -> Swept:
    """Go on with a sweep up to its target, or to `trials` when that is more. Finished trials stay;
    begun ones are run again.

    StoreError when another process runs it, or when config, data or code are not what they were
    (each difference is named).
    """
    place = places.find(folder(store), named)
    with place.claimed():
        card = place.card()
        stored = store.run(place.sweep_id)
        frozen = thaw(stored, root, max(trials or 0, card["target"]), amendments)
        if trials is not None and frozen.total <= card["target"]:
            raise ConfigError(
                f"sweep {place.sweep_id[:12]} has a target of {card['target']} trials; {trials} are"
                " no more",
                (
                    "a grid is complete by itself"
                    if frozen.search.sampler == "grid"
                    else f"name at least {card['target'] + 1}"
                ),
            )
        introduce(place, frozen, card | {"title": frozen.title})
        store.reopen(place.sweep_id, frozen.title)
        died = place.status().get("status") == "RUNNING"
        return _Search(frozen, place, store, progress or Silent(), above, died).run()


def folder(store: Store) -> Path:
    return store.folder / "sweeps"


def introduce(place: Place, frozen: Frozen, before: Mapping[str, object] | None = None) -> None:
    """Write the card by which other processes find this search; what stands in `before` stays."""
    search = frozen.search
    card = {
        "sweep_id": place.sweep_id,
        "name": search.name,
        "study": frozen.run.study,
        "started": time.time(),
        "title": frozen.title,
    }
    place.introduce(
        card
        | dict(before or {})
        | {"target": frozen.total, "sampler": search.sampler, "workers": search.workers}
    )


def refuse_old(log: Outcomes, search: schema.Search, sweep_id: str) -> None:
    """StoreError where the points of an earlier version would have to be drawn again."""
    by_number = search.sampler in NUMBERED and search.pruner == "none"
    if not by_number and log.known.keys() - log.windows.keys():
        raise StoreError(
            f"sweep {sweep_id[:12]} was begun by version 0.1, whose {search.sampler} search cannot"
            " go on; its trials stay readable",
            f"mcl sweep report {sweep_id[:12]} shows it; begin a new sweep",
        )


@dataclass
class _Search:
    """One process's part in a search, from the outcomes that exist to the closed parent."""

    frozen: Frozen
    place: Place
    store: Store
    progress: Progress
    above: Place | None = None
    died: bool = False  # an earlier process ended without a word, perhaps by one of its trials

    def run(self) -> Swept:
        frozen, sweep_id = self.frozen, self.place.sweep_id
        search = frozen.search
        board = Board(frozen.title, frozen.total, search.metric, search.direction == "maximize")
        shared = {
            k: v
            for k, v in provenance.tags(frozen.run, frozen.bars).items()
            if not k.startswith(("git.", "version."))
        }
        ledger = Ledger(
            self.store,
            frozen.run.study,
            sweep_id,
            backtest_run.params(frozen.run),
            shared,
            rows=search.track == "all",
        )
        try:
            with interruptible() as stop:
                brakes = Brakes(
                    search, stop, [place for place in (self.place, self.above) if place]
                )
                progress.begin("searching")
                self._trials(board, ledger, brakes)
                progress.begin("judging the best")
                best = crowned(
                    frozen, board, ledger, self.store, sweep_id, in_full=brakes.status == "FINISHED"
                )
                ending = Ending(brakes.status, brakes.why, watermark(frozen.bars), frozen.space)
                swept = conclude(
                    self.store,
                    frozen.run.study,
                    sweep_id,
                    board,
                    ledger,
                    best,
                    ending,
                    also=search.also,
                )
                self._beat(board, swept.status)
                return swept
        except BaseException as error:
            # the store may be what failed; the first error is the one to tell
            with suppress(StoreError):
                self._beat(board, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
                abandon(self.store, frozen.run.study, sweep_id, error)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"mcl sweep resume {sweep_id[:12]} goes on") from None
            raise

    def _trials(self, board: Board, ledger: Ledger, brakes: Brakes) -> None:
        """Run the trials; whatever ends the loop, all that was told is in the store afterwards."""
        frozen, place, search = self.frozen, self.place, self.frozen.search
        with ExitStack() as opened:
            log = Outcomes(place.file("outcomes"))
            opened.callback(log.close)
            refuse_old(log, search, place.sweep_id)
            view = StudyView(place.sweep_id, place.file("journal"), frozen.space, search, log.known)
            opened.callback(view.close)
            study = Study(frozen.space, search, frozen.run.seed, frozen.fixed, view)
            self._replay(log, board, ledger)
            workers = self._workers(study)
            opened.callback(workers.close)
            self.progress.begin(board)
            self._beat(board, "RUNNING")
            try:
                with ledger.kept():
                    self._loop(
                        Loop(study, workers, log, frozen.total, brakes.on), board, ledger, brakes
                    )
            finally:
                # the store may be what failed; the first error is the one to tell
                with suppress(StoreError):
                    board.luck = ledger.luck_of(board.best) if board.best is not None else None
                self.progress.end(board)
                board.end()

    def _loop(self, loop: Loop, board: Board, ledger: Ledger, brakes: Brakes) -> None:
        beaten = time.perf_counter()
        weighs = self.frozen.search.stop_when is not None
        for outcome in loop:
            improved = board.add(outcome)
            ledger.add(outcome)
            late = time.perf_counter() - beaten > BEAT_SEC
            if board.best is not None and (late or (weighs and board.done % WEIGHED_EVERY == 0)):
                board.luck = ledger.luck_of(board.best)
            self.progress.trial(board, outcome, improved)
            brakes.watch(outcome, improved, board)
            if weighs and board.done % WEIGHED_EVERY == 0:
                brakes.weigh(board)
            if late:
                self._beat(board, "RUNNING")
                beaten = time.perf_counter()

    def _replay(self, log: Outcomes, board: Board, ledger: Ledger) -> None:
        """Count what earlier processes did, and write the rows that they did not come to write."""
        known = [log.known[number] for number in sorted(log.known)]
        board.begin(known)
        ledger.restore(known, self.store.trials(self.place.sweep_id))

    def _workers(self, study: Study) -> Workers:
        frozen, search = self.frozen, self.frozen.search
        objective = Objective(frozen.composed.raw, search, frozen.market, frozen.rules, frozen.soft)
        if search.backend == "ray":
            return Cluster(objective, search.workers, search.trial_timeout_sec)
        alone = search.workers == 1 and search.trial_timeout_sec is None
        if alone and not self.died:
            return Inline(objective, study.judge)
        # a trial in which a process died runs in one of its own, the rest as it would have
        ahead = 0 if alone else 1
        return Pool(
            objective,
            search.workers,
            self.place.file("bars"),
            study.judge,
            search.trial_timeout_sec,
            ahead,
        )

    def _beat(self, board: Board, status: str) -> None:
        self.place.beat(board.facts() | {"status": status})
