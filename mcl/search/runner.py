"""Run a search: snapshot its inputs, simulate points of the space, record every trial, run the best
ones in full. Resume after any interruption.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mcl import composition
from mcl.base import progress
from mcl.base.errors import ConfigError, StoreError
from mcl.base.words import many
from mcl.config import schema
from mcl.data.data_note import data_note
from mcl.search import sweep_dir
from mcl.search.ask_tell import Loop
from mcl.search.best import select_best
from mcl.search.interrupt import interruptible
from mcl.search.progress import NoProgress, Progress, SweepStatistics
from mcl.search.ray_workers import RayPool
from mcl.search.recorder import TrialRecorder
from mcl.search.result import Ending, SweepResult, abandon, conclude
from mcl.search.samplers import NUMBERED
from mcl.search.snapshot import SearchSnapshot, parent, restore_snapshot, take_snapshot
from mcl.search.stopping import StoppingRule
from mcl.search.study import Study
from mcl.search.study_view import StudyView
from mcl.search.sweep_dir import SweepDir
from mcl.search.trial import Objective
from mcl.search.trial_log import TrialLog
from mcl.search.worker_pool import Inline, Pool, Workers, start_fork_server
from mcl.tracking import backtest_run, provenance
from mcl.tracking.project import Project
from mcl.tracking.records import right_verb
from mcl.tracking.store import Store

BEAT_SEC = 1.0
# trials between two looks whether the best is inside luck: by count, so that a search ends where it
# did
WEIGHED_EVERY = 10


def sweep(
    composed: composition.Composed,
    *,
    project: Project,
    progress: Progress | None = None,
    above: SweepDir | None = None,
    tags: Mapping[str, str] | None = None,
) -> SweepResult:
    """Search `composed.search.space` and record every trial; the best one is run once more with all
    its artifacts.

    Ctrl-C keeps what is done and marks the parent KILLED; `resume` continues from there, and after
    a kill -9. ConfigError before anything is recorded when the space, the metric or the
    configuration is not usable; StoreError or EngineError later, with the parent marked FAILED.
    `above` is the search that this one is a part of: its child it becomes, and who stops that stops
    this.
    """
    refuse_taken_name(composed, project.store)
    if composed.search.workers > 1 and composed.search.backend == "local":
        start_fork_server()
    snapshot = take_snapshot(composed, project.root)
    record = parent(snapshot)
    sweep_id = project.store.start(
        replace(
            record, tags=record.tags | dict(tags or {}), parent=above.sweep_id if above else None
        )
    )
    directory = SweepDir(folder(project.store), sweep_id)
    with directory.claim():
        write_metadata(directory, snapshot)
        return _Search(snapshot, directory, project.store, progress or NoProgress(), above).run()


def resume(
    named: str,
    *,
    project: Project,
    trials: int | None = None,
    amendments: list[str] | None = None,
    progress: Progress | None = None,
    above: SweepDir | None = None,
) -> SweepResult:
    """Continue a sweep up to its target, or to `trials` when that is more. Finished trials stay;
    begun ones are run again.

    StoreError when another process runs it, or when config, data or code are not what they were
    (each difference is named).
    """
    directory = search_of(named, project.store)
    with directory.claim():
        metadata = directory.metadata()
        stored = project.store.run(directory.sweep_id)
        snapshot = restore_snapshot(
            stored, project.root, max(trials or 0, metadata["target"]), amendments
        )
        if trials is not None and snapshot.total <= metadata["target"]:
            raise ConfigError(
                f"the target of sweep {directory.sweep_id[:12]} is already"
                f" {many(metadata['target'], 'trial')}; {trials} would not extend it",
                (
                    "a grid is complete by itself"
                    if snapshot.search.sampler == "grid"
                    else f"name at least {metadata['target'] + 1}"
                ),
            )
        write_metadata(directory, snapshot, metadata | {"title": snapshot.title})
        project.store.reopen(directory.sweep_id, snapshot.title)
        died = directory.heartbeat().get("status") == "RUNNING"
        return _Search(
            snapshot, directory, project.store, progress or NoProgress(), above, died
        ).run()


def search_of(named: str, store: Store) -> SweepDir:
    """The files of the search with this id or name. StoreError names the verb of what it is
    instead.
    """
    try:
        return sweep_dir.find(folder(store), named)
    except StoreError as error:
        refusal = error
    try:
        run = store.run(named)
    except StoreError:
        raise refusal from None
    kind = run.tags.get("mcl.kind", "run")
    raise StoreError(f"{named!r} is a {kind}, {run.name}, not a search", right_verb(run))


def folder(store: Store) -> Path:
    return store.folder / "sweeps"


def refuse_taken_name(composed: composition.Composed, store: Store) -> None:
    """StoreError where a search of this name exists: its trials and its experiments/NAME_best.yaml
    are not replaced by those of another one.
    """
    name = composed.search.name
    same = [card for card in sweep_dir.cards(folder(store)) if name and card["name"] == name]
    if not same:
        return
    newest = SweepDir(folder(store), same[-1]["sweep_id"])
    try:
        stored = store.run(newest.sweep_id)
    except StoreError:  # its run was deleted: the name is free
        return
    requested = json.loads(json.dumps(asdict(composed)))
    identical = json.loads(stored.file("composed.json")) == requested
    done = newest.heartbeat().get("done", 0)
    trials = f"{done} of {many(same[-1]['target'], 'trial')}"
    choices = [f"mcl sweep report {name} shows it", "another search.name begins a new one"]
    if stored.status != "FINISHED":
        choices.insert(0, f"mcl sweep resume {name} continues it")
    elif composed.search.sampler != "grid":
        choices.insert(0, f"mcl sweep extend {name} {2 * same[-1]['target']} gives it more trials")
    raise StoreError(
        f"the name {name!r} has a search, {newest.sweep_id[:12]}, {stored.status} with {trials}"
        f" and {'the same' if identical else 'another'} configuration",
        ", ".join(choices),
    )


def write_metadata(
    directory: SweepDir, snapshot: SearchSnapshot, before: Mapping[str, object] | None = None
) -> None:
    """Write the metadata by which other processes find this search. `before` has values to keep."""
    search = snapshot.search
    metadata = {
        "sweep_id": directory.sweep_id,
        "name": search.name,
        "study": snapshot.run.study,
        "started": time.time(),
        "title": snapshot.title,
    }
    directory.write_metadata(
        metadata
        | dict(before or {})
        | {"target": snapshot.total, "sampler": search.sampler, "workers": search.workers}
    )


def refuse_old(log: TrialLog, search: schema.Search, sweep_id: str) -> None:
    """StoreError where the points of an earlier version would have to be drawn again."""
    by_number = search.sampler in NUMBERED and search.pruner == "none"
    if not by_number and log.outcomes.keys() - log.windows.keys():
        raise StoreError(
            f"sweep {sweep_id[:12]} was begun by version 0.1, whose {search.sampler} search cannot"
            " continue; its trials stay readable",
            f"mcl sweep report {sweep_id[:12]} shows it; begin a new sweep",
        )


@dataclass
class _Search:
    """One process's part in a search, from the outcomes that exist to the closed parent."""

    snapshot: SearchSnapshot
    directory: SweepDir
    store: Store
    progress: Progress
    above: SweepDir | None = None
    died: bool = False  # an earlier process ended without a word, perhaps by one of its trials

    def run(self) -> SweepResult:
        snapshot, sweep_id = self.snapshot, self.directory.sweep_id
        search = snapshot.search
        statistics = SweepStatistics(
            snapshot.title, snapshot.total, search.metric, search.direction == "maximize"
        )
        if self.above is None:
            statistics.notices = snapshot.notices
        shared = {
            k: v
            for k, v in provenance.tags(snapshot.run, snapshot.bars).items()
            if not k.startswith(("git.", "version."))
        }
        recorder = TrialRecorder(
            self.store,
            snapshot.run.study,
            sweep_id,
            backtest_run.params(snapshot.run),
            shared,
            dataset=provenance.dataset(snapshot.run, snapshot.bars),
            rows=search.track == "all",
        )
        try:
            with interruptible() as stop, self.store.connection.system_metrics(sweep_id):
                stopping = StoppingRule(
                    search,
                    stop,
                    [directory for directory in (self.directory, self.above) if directory],
                )
                progress.begin("searching")
                self._trials(statistics, recorder, stopping)
                progress.begin("judging the best")
                best = select_best(
                    snapshot,
                    statistics,
                    recorder,
                    self.store,
                    sweep_id,
                    in_full=stopping.status == "FINISHED",
                )
                ending = Ending(
                    stopping.status,
                    stopping.why,
                    data_note(snapshot.bars),
                    snapshot.space,
                    statistics.notices,
                )
                sweep_result = conclude(
                    self.store,
                    snapshot.run.study,
                    sweep_id,
                    statistics,
                    recorder,
                    best,
                    ending,
                    also=search.also,
                )
                self._write_heartbeat(statistics, sweep_result.status)
                return sweep_result
        except BaseException as error:
            # the store may be what failed; the first error is the one to tell
            with suppress(StoreError):
                self._write_heartbeat(
                    statistics, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                )
                abandon(self.store, snapshot.run.study, sweep_id, error)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"mcl sweep resume {sweep_id[:12]} continues") from None
            raise

    def _trials(
        self, statistics: SweepStatistics, recorder: TrialRecorder, stopping: StoppingRule
    ) -> None:
        """Run the trials. Whatever ends the loop, all outcomes are in the store afterwards."""
        snapshot, directory, search = self.snapshot, self.directory, self.snapshot.search
        with ExitStack() as opened:
            log = TrialLog(directory.file("outcomes"))
            opened.callback(log.close)
            refuse_old(log, search, directory.sweep_id)
            view = StudyView(
                directory.sweep_id, directory.file("journal"), snapshot.space, search, log.outcomes
            )
            opened.callback(view.close)
            study = Study(snapshot.space, search, snapshot.run.seed, snapshot.fixed, view)
            self._replay(log, statistics, recorder)
            workers = self._workers(study)
            opened.callback(workers.close)
            self.progress.begin(statistics)
            self._write_heartbeat(statistics, "RUNNING")
            try:
                with recorder.flush_at_end():
                    self._loop(
                        Loop(study, workers, log, snapshot.total, stopping.should_stop),
                        statistics,
                        recorder,
                        stopping,
                    )
            finally:
                # the store may be what failed; the first error is the one to tell
                with suppress(StoreError):
                    statistics.luck = (
                        recorder.luck_of(statistics.best) if statistics.best is not None else None
                    )
                self.progress.end(statistics)
                statistics.end()

    def _loop(
        self,
        loop: Loop,
        statistics: SweepStatistics,
        recorder: TrialRecorder,
        stopping: StoppingRule,
    ) -> None:
        last_heartbeat = time.perf_counter()
        weighs = self.snapshot.search.stop_when is not None
        for outcome in loop:
            improved = statistics.add(outcome)
            recorder.add(outcome)
            late = time.perf_counter() - last_heartbeat > BEAT_SEC
            if statistics.best is not None and (
                late or (weighs and statistics.done % WEIGHED_EVERY == 0)
            ):
                statistics.luck = recorder.luck_of(statistics.best)
            self.progress.trial(statistics, outcome, improved)
            stopping.watch(outcome, improved, statistics)
            if weighs and statistics.done % WEIGHED_EVERY == 0:
                stopping.compare_with_luck(statistics)
            if late:
                self._write_heartbeat(statistics, "RUNNING")
                last_heartbeat = time.perf_counter()

    def _replay(self, log: TrialLog, statistics: SweepStatistics, recorder: TrialRecorder) -> None:
        """Count what earlier processes did, and write the rows that they did not come to write."""
        outcomes = [log.outcomes[number] for number in sorted(log.outcomes)]
        statistics.begin(outcomes)
        recorder.restore(outcomes, self.store.trials(self.directory.sweep_id))

    def _workers(self, study: Study) -> Workers:
        snapshot, search = self.snapshot, self.snapshot.search
        objective = Objective(
            snapshot.composed.raw, search, snapshot.data_cache, snapshot.rules, snapshot.soft
        )
        if search.backend == "ray":
            return RayPool(objective, search.workers, search.trial_timeout_sec)
        alone = search.workers == 1 and search.trial_timeout_sec is None
        if alone and not self.died:
            return Inline(objective, study.judge)
        # a trial in which a process died runs in one of its own, the rest as it would have
        ahead = 0 if alone else 1
        return Pool(
            objective,
            search.workers,
            self.directory.file("bars"),
            study.judge,
            search.trial_timeout_sec,
            ahead,
        )

    def _write_heartbeat(self, statistics: SweepStatistics, status: str) -> None:
        self.directory.write_heartbeat(statistics.facts() | {"status": status})
