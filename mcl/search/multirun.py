"""The grid: `mcl backtest -m a=1,2 b=x,y` as one parent run with one child run per job, in Hydra's
multirun grammar.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mcl import composition
from mcl.base.errors import ConfigError, MclError, StoreError, in_words
from mcl.config import schema
from mcl.data.data_note import data_note
from mcl.search import hydra_sweeper
from mcl.search.grid_job import METRIC, Job, run_job
from mcl.search.interrupt import Stop, interruptible
from mcl.search.progress import NoProgress, Progress, SweepStatistics
from mcl.search.recorder import TrialRecorder
from mcl.search.result import Ending, SweepResult, abandon, conclude, leader
from mcl.search.space import encoded, overlay
from mcl.search.trial import DataCache, Outcome
from mcl.tracking import provenance, repository
from mcl.tracking.project import Project
from mcl.tracking.store import Record

Raw = Callable[[Sequence[str]], dict[str, Any]]  # a job's overrides as a composed configuration
# names a value; anything else chooses a group, adds or deletes
VALUE_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)+")


def grid(
    overrides: Sequence[str], *, project: Project, progress: Progress | None = None
) -> SweepResult:
    """Run every job. One that fails is a FAILED child with the reason and a traceback, and the
    others run all the same.

    Each child is a whole run without its report page (`mcl report` shows it, `mcl promote` takes
    it). ConfigError before anything is recorded when no job has a valid configuration. Ctrl-C
    finishes the running job and marks the parent KILLED. Overrides of Hydra itself choose who runs
    the jobs (`hydra/launcher=joblib`).
    """
    if any(text.startswith("hydra/sweeper=") for text in overrides):
        raise ConfigError(
            "hydra/sweeper is mcl's own, which keeps the parent run",
            "choose a launcher with hydra/launcher=NAME",
        )
    composition.checked(list(overrides))
    sweep_result: SweepResult = hydra_sweeper.multirun(
        list(overrides), _Grid(project, progress or NoProgress(), overrides), project.root
    )
    return sweep_result


def resolve(jobs: Sequence[Sequence[str]]) -> list[Job]:
    """Each job's validated configuration. Values are laid over one composition per choice of
    groups, since composing takes 50 ms; should that differ from Hydra's own composition of the last
    job (a config that interpolates a swept key), every job is composed.
    """
    varied = [i for i, typed in enumerate(zip(*jobs, strict=True)) if len(set(typed)) > 1]
    values = [i for i in varied if VALUE_KEY.fullmatch(_key(jobs[0][i]))]
    bases: dict[tuple[str, ...], dict[str, Any]] = {}

    def composed(job: Sequence[str]) -> dict[str, Any]:
        return composition.compose("backtest", list(job)).raw

    def laid_over(job: Sequence[str]) -> dict[str, Any]:
        rest = tuple(o for i, o in enumerate(job) if i not in values)
        if rest not in bases:
            bases[rest] = composed(rest)
        return overlay(bases[rest], {_key(job[i]): _value(job[i]) for i in values})

    raw = laid_over if values and _agree(laid_over, composed, jobs[-1]) else composed
    return [_job(number, job, varied, raw) for number, job in enumerate(jobs)]


@dataclass
class _Grid:
    """One grid, from the overrides that Hydra hands over to the closed parent."""

    project: Project
    progress: Progress
    typed: Sequence[str]

    def __call__(self, overrides: list[str], launch: hydra_sweeper.Launch | None) -> SweepResult:
        jobs = resolve(composition.expand(overrides))
        valid = [job.run for job in jobs if job.run is not None]
        if not valid:
            # says the place, too
            _ = composition.compose("backtest", list(jobs[0].overrides)).config
            raise next(job.error for job in jobs if job.error is not None)
        study, title = (
            valid[0].study,
            f"grid · {' × '.join(jobs[0].params) or 'one job'} · {len(jobs)} jobs",
        )
        code = provenance.code_sha256({str(i): run.strategy for i, run in enumerate(valid)})
        grid_id = self.project.store.start(_parent(study, title, self.typed, jobs, code))
        statistics = SweepStatistics(title, len(jobs), METRIC)
        recorder = TrialRecorder(self.project.store, study, grid_id, {}, {"code_sha256": code})
        data_cache = DataCache(self.project.root)
        try:
            with interruptible() as stop:
                self._run(
                    (
                        self._launched(jobs, grid_id, launch)
                        if launch
                        else self._here(jobs, grid_id, data_cache, stop)
                    ),
                    statistics,
                    recorder,
                )
                ending = Ending(
                    *(("KILLED", "stopped by hand") if stop.requested else ("FINISHED", "")),
                    _watermark(data_cache, valid),
                )
                return conclude(
                    self.project.store,
                    study,
                    grid_id,
                    statistics,
                    recorder,
                    leader(statistics, recorder),
                    ending,
                )
        except BaseException as error:
            # the store may be what failed; the first error is the one to tell
            with suppress(StoreError):
                abandon(self.project.store, study, grid_id, error)
            raise

    def _run(
        self,
        outcomes: Iterator[tuple[Outcome, str]],
        statistics: SweepStatistics,
        recorder: TrialRecorder,
    ) -> None:
        self.progress.begin(statistics)
        try:
            with recorder.flush_at_end():
                for outcome, run_id in outcomes:
                    recorder.add_stored(outcome, run_id) if run_id else recorder.add(outcome)
                    self.progress.trial(statistics, outcome, statistics.add(outcome))
        finally:
            self.progress.end(statistics)

    def _here(
        self, jobs: Sequence[Job], grid_id: str, data_cache: DataCache, stop: Stop
    ) -> Iterator[tuple[Outcome, str]]:
        for job in jobs:
            if stop.requested:
                return
            try:
                yield (
                    run_job(job, self.project.store, grid_id, data_cache)
                    if job.run
                    else (_failed(job, job.error), "")
                )
            except StoreError:
                raise  # a store that refuses this job will refuse the others
            except Exception as error:
                yield _failed(job, error), ""

    def _launched(
        self, jobs: Sequence[Job], grid_id: str, launch: hydra_sweeper.Launch
    ) -> Iterator[tuple[Outcome, str]]:
        valid = [job for job in jobs if job.run is not None]
        returned = iter(
            launch({job.number: job.overrides for job in valid}, grid_id, self.project.root)
        )
        for job in jobs:
            job_return = next(returned) if job.run is not None else None
            if job_return is None or job_return.outcome is None:
                yield _failed(job, job_return.error if job_return else job.error), ""
            else:
                yield (
                    replace(job_return.outcome, number=job.number, params=job.params),
                    job_return.run_id,
                )


def _failed(job: Job, error: BaseException | None) -> Outcome:
    assert error is not None  # noqa: S101 - a job without a result has a reason
    trace = "".join(traceback.format_exception(error))
    return Outcome(
        job.number, job.params, "FAILED", type(error).__name__, in_words(error), traceback=trace
    )


def _watermark(data_cache: DataCache, valid: Sequence[schema.Config]) -> str:
    """Of the first job's bars that can be loaded."""
    for run in valid:
        with suppress(MclError):
            return data_note(data_cache.bars(run.data))
    return ""


def _parent(
    study: str, title: str, overrides: Sequence[str], jobs: Sequence[Job], code: str
) -> Record:
    git = {f"git.{k}": v for k, v in repository.state(composition.root()).items()}
    versions = {f"version.{k}": v for k, v in provenance.versions().items()}
    return Record(
        study=study,
        name=title,
        params={"jobs": len(jobs)}
        | {f"grid.{key}": ", ".join(_distinct(jobs, key)) for key in jobs[0].params},
        tags={"mcl.kind": "grid", "code_sha256": code} | git | versions,
        files={
            "overrides.json": (
                json.dumps({"overrides": list(overrides), "argv": repository.argv()}).encode()
            ),
            "jobs.json": json.dumps([list(job.overrides) for job in jobs], indent=1).encode(),
        },
    )


def _distinct(jobs: Sequence[Job], key: str) -> list[str]:
    return list(dict.fromkeys(str(job.params[key]) for job in jobs))


def _job(number: int, job: Sequence[str], varied: Sequence[int], raw: Raw) -> Job:
    params = {_key(job[i]).lstrip("+~"): encoded(_value(job[i])) for i in varied}
    try:
        return Job(number, tuple(job), params, composition.run_config(raw(job)))
    except ConfigError as error:
        return Job(number, tuple(job), params, None, error)


def _agree(laid_over: Raw, composed: Raw, job: Sequence[str]) -> bool:
    try:
        return laid_over(job) == composed(job)
    except ConfigError:
        return False


def _key(override: str) -> str:
    return override.split("=", 1)[0]


def _value(override: str) -> Any:
    text = override.split("=", 1)[1] if "=" in override else ""
    value = composition.space_values(text) if text else text
    return value if value is None or isinstance(value, bool | int | float | str | list) else text
