"""Who computes the trials: this process, or worker processes that share the bars through memory maps."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import tempfile
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mcl import schema
from mcl.data.bars import Bars
from mcl.errors import EngineError
from mcl.search.trial import Market, Objective, Outcome


class Workers(Protocol):
    """`submit` never blocks; `take` waits for any submitted trial."""

    capacity: int

    def submit(self, number: int, params: dict[str, Any]) -> None: ...
    def take(self) -> Outcome: ...
    def close(self) -> None: ...


class Inline:
    """One trial at a time in this process."""

    capacity = 1

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()

    def submit(self, number: int, params: dict[str, Any]) -> None:
        self._waiting.append((number, params))

    def take(self) -> Outcome:
        return self._objective(*self._waiting.popleft())

    def close(self) -> None:
        self._waiting.clear()


class Pool:
    """`search.workers` processes, no batch barrier: whoever is free gets the next trial. Workers compute and never touch the store."""

    def __init__(self, objective: Objective, count: int) -> None:
        self.capacity = count + 1  # one in the pipe, so that no worker waits for the parent
        self._folder = tempfile.TemporaryDirectory(prefix="mcl-bars-")
        shared = {key: share(bars, Path(self._folder.name) / key[:16]) for key, bars in objective.market.loaded.items()}
        self._executor = ProcessPoolExecutor(
            max_workers=count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(objective.raw, objective.search, objective.market.root, shared),
        )
        self._running: dict[Future[Outcome], int] = {}

    def submit(self, number: int, params: dict[str, Any]) -> None:
        self._running[self._executor.submit(_work, number, params)] = number

    def take(self) -> Outcome:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = min(done, key=self._running.__getitem__)
        number = self._running.pop(future)
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise EngineError(f"a worker process died during trial {number}", "out of memory? lower search.workers") from error

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()


def share(bars: Bars, folder: Path) -> Path:
    """Write the arrays of `bars` as .npy files that any process can map; everything else goes into one pickle (read back by `attach`)."""
    folder.mkdir(parents=True)
    arrays = [f.name for f in fields(bars) if isinstance(getattr(bars, f.name), np.ndarray)]
    for name in arrays:
        np.save(folder / f"{name}.npy", getattr(bars, name))
    small = replace(bars, **{name: getattr(bars, name)[:0] for name in arrays})
    (folder / "rest.pickle").write_bytes(pickle.dumps((small, arrays)))
    return folder


def attach(folder: Path) -> Bars:
    """The bars of `share`, their arrays mapped copy-on-write: one copy in memory for all workers, and of the type that the kernel knows."""
    small, arrays = pickle.loads((folder / "rest.pickle").read_bytes())  # noqa: S301 - written by this process's parent just now
    mapped = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in arrays}
    restored: Bars = replace(small, **mapped)
    return restored


_objective: list[Objective] = []  # a worker's own, set once by `_begin`


def _begin(raw: dict[str, Any], search: schema.Search, root: Path, shared: dict[str, Path]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    market = Market(root, {key: attach(folder) for key, folder in shared.items()})
    _objective[:] = [Objective(raw, search, market)]


def _work(number: int, params: dict[str, Any]) -> Outcome:
    return _objective[0](number, params)
