"""The grid: `mcl backtest -m a=1,2 b=x,y` as one parent run with one child run per job, in Hydra's multirun grammar."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl import config, evidence, runs, schema
from mcl.errors import ConfigError, MclError, StoreError
from mcl.search.interrupt import Stop, interruptible
from mcl.search.ledger import Ledger
from mcl.search.progress import Board, Progress, Silent
from mcl.search.space import overlay
from mcl.search.swept import Ending, Swept, abandon, conclude, leader
from mcl.search.trial import Market, Outcome, session_days
from mcl.tracking import Record, Store

Raw = Callable[[Sequence[str]], dict[str, Any]]  # a job's overrides as a composed configuration
METRIC = "sharpe"  # by which the jobs of a grid are ranked
VALUE_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)+")  # names a value; anything else chooses a group, adds or deletes


@dataclass(frozen=True)
class Job:
    """One point of the grid. `error` says why it is not a valid configuration."""

    number: int
    overrides: tuple[str, ...]
    params: dict[str, Any]  # what differs between the jobs
    run: schema.Config | None
    error: ConfigError | None = None


def grid(overrides: Sequence[str], *, store: Store, root: Path, progress: Progress | None = None) -> Swept:
    """Run every job; one that fails is a FAILED child with the reason and a traceback, and the others go on.

    Each child is a whole run without its report page (`mcl report` shows it, `mcl promote` takes it). ConfigError before anything
    is recorded when no job has a valid configuration. Ctrl-C finishes the running job and marks the parent KILLED.
    """
    jobs = resolve(config.expand(list(overrides)))
    valid = [job.run for job in jobs if job.run is not None]
    if not valid:
        raise next(job.error for job in jobs if job.error is not None)
    code = evidence.code_sha256({str(i): run.strategy for i, run in enumerate(valid)})
    study, title = valid[0].study, f"grid · {' × '.join(jobs[0].params) or 'one job'} · {len(jobs)} jobs"
    grid_id = store.start(_parent(study, title, overrides, jobs, code))
    board = Board(title, len(jobs), METRIC)
    ledger = Ledger(store, study, grid_id, {}, {"code_sha256": code})
    try:
        with interruptible() as stop:
            watermark = _run(jobs, _Runner(store, root, grid_id, ledger), board, ledger, progress or Silent(), stop)
            ending = Ending(*(("KILLED", "stopped by hand") if stop.requested else ("FINISHED", "")), watermark)
            return conclude(store, study, grid_id, board, ledger, leader(board, ledger), ending)
    except BaseException as error:
        with suppress(StoreError):  # the store may be what failed; the first error is the one to tell
            abandon(store, study, grid_id, error)
        raise


def resolve(jobs: Sequence[Sequence[str]]) -> list[Job]:
    """Each job's validated configuration. Values are laid over one composition per choice of groups, since composing takes 50 ms;
    should that differ from Hydra's own composition of the last job (a config that interpolates a swept key), every job is composed."""
    varied = [i for i, typed in enumerate(zip(*jobs, strict=True)) if len(set(typed)) > 1]
    values = [i for i in varied if VALUE_KEY.fullmatch(_key(jobs[0][i]))]
    bases: dict[tuple[str, ...], dict[str, Any]] = {}

    def composed(job: Sequence[str]) -> dict[str, Any]:
        return config.compose("backtest", list(job)).raw

    def laid_over(job: Sequence[str]) -> dict[str, Any]:
        rest = tuple(o for i, o in enumerate(job) if i not in values)
        if rest not in bases:
            bases[rest] = composed(rest)
        return overlay(bases[rest], {_key(job[i]): _value(job[i]) for i in values})

    raw = laid_over if values and _agree(laid_over, composed, jobs[-1]) else composed
    return [_job(number, job, varied, raw) for number, job in enumerate(jobs)]


class _Runner:
    """Runs single jobs and files what came of them."""

    def __init__(self, store: Store, root: Path, grid_id: str, ledger: Ledger) -> None:
        self._store, self._root, self._grid_id, self._ledger = store, root, grid_id, ledger
        self._market = Market(root)
        self.watermark = ""

    def __call__(self, job: Job) -> Outcome:
        started = time.perf_counter()
        try:
            return self._finished(job, started)
        except StoreError:
            raise  # a store that refuses this job will refuse the others
        except Exception as error:
            detail = error.message if isinstance(error, MclError) else f"{type(error).__name__}: {error}"
            trace, seconds = traceback.format_exc(), time.perf_counter() - started
            failed = Outcome(job.number, job.params, "FAILED", type(error).__name__, detail, seconds=seconds, traceback=trace)
            self._ledger.add(failed)
            return failed

    def _finished(self, job: Job, started: float) -> Outcome:
        if job.run is None:
            raise job.error or ConfigError(f"job {job.number} has no configuration")
        bars = self._market.bars(job.run.data)
        done = runs.backtest(
            job.run,
            store=self._store,
            root=self._root,
            overrides=job.overrides,
            parent=self._grid_id,
            report=False,
            bars=bars,
            extra_tags={"trial": str(job.number)},
        )
        self.watermark = self.watermark or evidence.watermark(bars)
        outcome = Outcome(
            number=job.number,
            params=job.params,
            state="COMPLETE",
            value=done.metrics[METRIC],
            metrics=done.metrics,
            config=job.run.model_dump(mode="json"),
            sessions=session_days(done.result),
            returns=done.result.session_returns.to_numpy(),
            seconds=time.perf_counter() - started,
        )
        self._ledger.keep(outcome, done.run_id)
        return outcome


def _run(jobs: Sequence[Job], runner: _Runner, board: Board, ledger: Ledger, progress: Progress, stop: Stop) -> str:
    progress.begin(board)
    try:
        for job in jobs:
            if stop.requested:
                break
            outcome = runner(job)
            progress.trial(board, outcome, board.add(outcome))
    finally:
        progress.end(board)
        ledger.flush()
    return runner.watermark


def _parent(study: str, title: str, overrides: Sequence[str], jobs: Sequence[Job], code: str) -> Record:
    repository = {f"git.{k}": v for k, v in evidence.repository(config.root()).items()}
    versions = {f"version.{k}": v for k, v in evidence.versions().items()}
    return Record(
        study=study,
        name=title,
        params={"jobs": len(jobs)} | {f"grid.{key}": ", ".join(_distinct(jobs, key)) for key in jobs[0].params},
        tags={"mcl.kind": "grid", "code_sha256": code} | repository | versions,
        files={
            "overrides.json": json.dumps({"overrides": list(overrides), "argv": evidence.argv()}).encode(),
            "jobs.json": json.dumps([list(job.overrides) for job in jobs], indent=1).encode(),
        },
    )


def _distinct(jobs: Sequence[Job], key: str) -> list[str]:
    return list(dict.fromkeys(str(job.params[key]) for job in jobs))


def _job(number: int, job: Sequence[str], varied: Sequence[int], raw: Raw) -> Job:
    params = {_key(job[i]).lstrip("+~"): _value(job[i]) for i in varied}
    try:
        return Job(number, tuple(job), params, config.run_config(raw(job)))
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
    value = config.space_values(text) if text else text
    return value if value is None or isinstance(value, bool | int | float | str | list) else text
