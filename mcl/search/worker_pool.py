"""Compute trials in this process, or in worker processes that share the bars by memory maps."""

from __future__ import annotations

import contextlib
import ctypes
import math
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mcl.base.errors import EngineError
from mcl.data.bars import Bars
from mcl.data.quotes import ARRAYS
from mcl.search.trial import Judge, Objective, ObjectiveSpec, Outcome, no_pruning

Job = tuple[int, dict[str, Any]]
LIVES = 3  # workers that one trial may take down, and starts in a row that may fail
GRACE_SEC = 5.0  # for a worker to end by itself
PARENT_LOOK_SEC = 1.0


class Workers(Protocol):
    """`submit` never blocks; `take` waits for any submitted trial."""

    capacity: int

    def submit(self, number: int, params: dict[str, Any]) -> None: ...
    def take(self) -> Outcome: ...
    def close(self) -> None: ...


class Jobs:
    """The trials of a pool of workers: those that wait, those that are done, and what became of
    those whose worker died.
    """

    def __init__(self, who: str, hint: str) -> None:
        self._who, self._hint = who, hint
        self.waiting: deque[Job] = deque()
        self.done: deque[Outcome] = deque()
        self._deaths: Counter[int] = Counter()
        self._stillborn = 0

    def ready(self) -> None:
        """A worker has begun to work."""
        self._stillborn = 0

    def worker_died(self, job: Job | None, *, ready: bool, how: str = "") -> None:
        """A worker died, in a trial or between two: the trial waits again, first in the row, or has
        cost enough workers.

        EngineError where workers die before they are ready, one after the other; `how` says how
        this one died.
        """
        self._stillborn += not ready
        if self._stillborn >= LIVES:
            raise EngineError(f"{LIVES} {self._who} died before their first trial{how}", self._hint)
        if job is None:
            return
        self._deaths[job[0]] += 1
        if self._deaths[job[0]] < LIVES:
            self.waiting.appendleft(job)
        else:
            self.done.append(
                Outcome(
                    *job,
                    "FAILED",
                    "worker_died",
                    f"{LIVES} {self._who} died during this trial{how}",
                )
            )

    def over_time(self, job: Job | None, limit_sec: float) -> None:
        """A worker was ended since its trial took too long."""
        if job is not None:
            detail = f"longer than search.trial_timeout_sec={limit_sec:g}"
            self.done.append(Outcome(*job, "FAILED", "timeout", detail, seconds=limit_sec))


class Inline:
    """One trial at a time in this process."""

    capacity = 1

    def __init__(self, objective: Objective, judge: Judge = no_pruning) -> None:
        self._objective, self._judge = objective, judge
        self._waiting: deque[Job] = deque()

    def submit(self, number: int, params: dict[str, Any]) -> None:
        self._waiting.append((number, params))

    def take(self) -> Outcome:
        number, params = self._waiting.popleft()
        return self._objective(number, params, self._judge)

    def close(self) -> None:
        self._waiting.clear()


@dataclass
class Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None
    until: float = math.inf  # when its trial is over time, by time.monotonic


class Pool:
    """`count` processes, no batch barrier: whoever is free gets the next trial. Workers compute and
    never touch the store.

    A worker that dies is replaced and its trial is run again; one that takes `LIVES` workers with
    it is FAILED(worker_died). A trial over `limit_sec` is FAILED(timeout), whatever it hangs in,
    since its process is killed. `judge` runs here, after each fold. `folder` has the shared bars
    while the pool lives.
    """

    def __init__(
        self,
        objective: Objective,
        count: int,
        folder: Path,
        judge: Judge = no_pruning,
        limit_sec: float | None = None,
        ahead: int = 1,
    ) -> None:
        self.capacity = count + ahead  # so many wait here, so that no worker waits for the parent
        self._folder, self._judge, self._limit_sec = folder, judge, limit_sec
        shutil.rmtree(folder, ignore_errors=True)  # of a parent that was killed
        shared = {
            key: share(bars, folder / key[:16]) for key, bars in objective.data_cache.loaded.items()
        }
        self._begin = (pickle.dumps(objective.spec), shared, dict(os.environ))
        start_fork_server()
        self._context = worker_context()
        self._jobs = Jobs("worker processes", "out of memory? lower search.workers")
        self._workers = [self._worker() for _ in range(count)]

    def submit(self, number: int, params: dict[str, Any]) -> None:
        self._jobs.waiting.append((number, params))
        self._feed()

    def take(self) -> Outcome:
        while not self._jobs.done:
            self._turn()
        return self._jobs.done.popleft()

    def close(self) -> None:
        """End the workers: those that are idle at once, those that compute by force."""
        for worker in self._workers:
            if worker.job is not None:
                worker.process.kill()
            else:
                with contextlib.suppress(OSError):
                    worker.pipe.send(None)
        for worker in self._workers:
            worker.process.join(GRACE_SEC)
            self._end(worker)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _worker(self) -> Worker:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, *self._begin), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, mine)

    def _turn(self) -> None:
        """Wait for a message of a worker, for a death or for the end of a time limit."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        nearest = min(worker.until for worker in self._workers)
        timeout_sec = None if nearest == math.inf else max(nearest - time.monotonic(), 0.0)
        for pipe in wait(list(by_pipe), timeout_sec):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                self._receive(worker, worker.pipe.recv())
            except (EOFError, OSError):
                self._died(worker)
        for worker in self._workers:
            if time.monotonic() >= worker.until:
                self._over_time(worker)
        self._feed()

    def _receive(self, worker: Worker, message: Any) -> None:
        if isinstance(message, Outcome):
            self._jobs.done.append(message)
            worker.job, worker.until = None, math.inf
        elif message is None:
            worker.ready = True
            self._jobs.ready()
        else:
            worker.pipe.send(self._judge(*message))

    def _died(self, worker: Worker) -> None:
        job, worker.job = worker.job, None
        self._replace(worker)
        self._jobs.worker_died(
            job, ready=worker.ready, how=f", the last with exit code {worker.process.exitcode}"
        )

    def _over_time(self, worker: Worker) -> None:
        worker.process.kill()
        self._replace(worker)
        self._jobs.over_time(worker.job, self._limit_sec or 0.0)

    def _replace(self, worker: Worker) -> None:
        worker.process.join(GRACE_SEC)
        self._end(worker)
        self._workers[self._workers.index(worker)] = self._worker()

    def _feed(self) -> None:
        for worker in self._workers:
            if self._jobs.waiting and worker.ready and worker.job is None:
                worker.job = self._jobs.waiting.popleft()
                worker.until = (
                    math.inf if self._limit_sec is None else time.monotonic() + self._limit_sec
                )
                with contextlib.suppress(OSError):  # its death is heard of in the next turn
                    worker.pipe.send(worker.job)

    def _end(self, worker: Worker) -> None:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def share(bars: Bars, folder: Path) -> Path:
    """Write the arrays of `bars` as .npy files that any process can map; everything else goes into
    one pickle (read back by `attach`).
    """
    folder.mkdir(parents=True)
    arrays = [f.name for f in fields(bars) if isinstance(getattr(bars, f.name), np.ndarray)]
    for name in arrays:
        np.save(folder / f"{name}.npy", getattr(bars, name))
    quotes = bars.quote_columns
    for name in ARRAYS if quotes is not None else ():
        np.save(folder / f"quotes.{name}.npy", getattr(quotes, name))
    if quotes is not None:
        quotes = replace(quotes, **{name: getattr(quotes, name)[..., :0] for name in ARRAYS})
    empty = {name: getattr(bars, name)[:0] for name in arrays}
    small = replace(bars, **empty, quote_columns=quotes)
    (folder / "rest.pickle").write_bytes(pickle.dumps((small, arrays)))
    return folder


def attach(folder: Path) -> Bars:
    """The bars of `share`, their arrays mapped copy-on-write: one copy in memory for all workers,
    and of the type that the kernel knows.
    """
    small, arrays = pickle.loads((folder / "rest.pickle").read_bytes())  # noqa: S301 - written by this process's parent just now
    quotes = small.quote_columns
    if quotes is not None:
        quotes = replace(
            quotes, **{name: _mapped(folder / f"quotes.{name}.npy") for name in ARRAYS}
        )
    mapped = {name: _mapped(folder / f"{name}.npy") for name in arrays}
    restored: Bars = replace(small, **mapped, quote_columns=quotes)
    return restored


def _mapped(path: Path) -> npt.NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="c"))


def worker_context() -> ForkServerContext | SpawnContext:
    """The context that starts workers: forks of a server process that has imported everything once,
    in a few milliseconds each.

    Where the system has no such server, each worker is a new process that imports everything by
    itself.
    """
    if not _has_server():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def start_fork_server() -> None:
    """Start that server now: it imports while the caller prepares something else, and ignores the
    Ctrl-C that its group gets.
    """
    if not _has_server():
        return
    from multiprocessing import forkserver

    worker_context()
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server inherits it
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _has_server() -> bool:
    return "forkserver" in multiprocessing.get_all_start_methods()


def _work(
    pipe: Connection, pickled: bytes, shared: dict[str, Path], environment: dict[str, str]
) -> None:
    """A worker's life: say that it is ready, then a job in, an outcome out, until the parent says
    None or is gone.
    """
    # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_the_parent()
    os.environ.clear()  # the server's is of an earlier time
    os.environ.update(environment)
    spec: ObjectiveSpec = pickle.loads(pickled)  # noqa: S301 - made by this process's parent just now
    objective = spec.objective({key: attach(folder) for key, folder in shared.items()})

    def judge(number: int, fold: int, value: float) -> bool:
        pipe.send((number, fold, value))
        return bool(pipe.recv())

    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while (job := pipe.recv()) is not None:
            pipe.send(objective(job[0], job[1], judge))


def _die_with_the_parent() -> None:
    """On Linux the kernel ends a worker with the server that forked it, even one that hangs, and
    the server ends with the search's parent, whose pipe no worker may hold open for that.

    Elsewhere a thread of the worker looks each second whether that parent lives, and ends the
    worker when it does not.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_watch_the_parent, args=(os.getppid(),), daemon=True).start()
    server: Any = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if getattr(server, "_forkserver_alive_fd", None) is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


def _watch_the_parent(parent: int) -> None:
    """End this process once the system has given it another parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK_SEC)
    os._exit(1)
