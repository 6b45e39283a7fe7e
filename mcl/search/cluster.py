"""The Ray door: trials computed by actors of a Ray cluster, on as many hosts as it has.

`RAY_ADDRESS` names the cluster; without it one is started on this machine, on loopback, for as long as the search runs. The parent
alone keeps the study, the outcomes and the run store, so that hosts need nothing but this package, and the data's folder only where
a search varies the data.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import time
from dataclasses import dataclass, replace
from typing import Any

from mcl.errors import ConfigError
from mcl.search.pool import Job, Jobs
from mcl.search.trial import Market, Objective, Outcome


@dataclass
class Remote:
    actor: Any
    saying: Any  # a future: that it is ready, or the outcome of its job
    job: Job | None = None
    until: float = math.inf


class Cluster:
    """`count` actors, one CPU each; whoever is free gets the next trial. A trial whose actor or host dies is run again by another."""

    def __init__(self, objective: Objective, count: int, limit_sec: float | None = None) -> None:
        self._ray, self._mine = _joined(count)
        self.capacity = count + 1  # one waits here, so that no actor waits for the parent
        self._limit_sec = limit_sec
        bare = replace(objective, market=Market(objective.market.root))
        self._begin = self._ray.put(pickle.dumps((bare, objective.market.loaded)))
        self._kind = self._ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._jobs = Jobs("Ray actors", "is mcl installed on every host?")
        self._actors = [self._actor() for _ in range(count)]

    def submit(self, number: int, params: dict[str, Any]) -> None:
        self._jobs.waiting.append((number, params))
        self._feed()

    def take(self) -> Outcome:
        while not self._jobs.done:
            self._turn()
        return self._jobs.done.popleft()

    def close(self) -> None:
        for remote in self._actors:
            self._ray.kill(remote.actor)
        if self._mine:
            self._ray.shutdown()

    def _actor(self) -> Remote:
        actor = self._kind.remote(self._begin)
        return Remote(actor, actor.ready.remote())

    def _turn(self) -> None:
        """Wait for whatever an actor says, for a death or for the end of somebody's time."""
        by_future = {remote.saying: remote for remote in self._actors if remote.saying is not None}
        nearest = min(remote.until for remote in self._actors)
        patience = None if nearest == math.inf else max(nearest - time.monotonic(), 0.0)
        for future in self._ray.wait(list(by_future), num_returns=1, timeout=patience)[0]:
            self._heard(by_future[future])
        for remote in [remote for remote in self._actors if time.monotonic() >= remote.until]:
            self._replace(remote)
            self._jobs.over_time(remote.job, self._limit_sec or 0.0)
        self._feed()

    def _heard(self, remote: Remote) -> None:
        try:
            said = self._ray.get(remote.saying)
        except self._ray.exceptions.RayActorError as error:
            self._died(remote, error)
            return
        remote.saying = None
        self._jobs.ready()
        if remote.job is not None:
            self._jobs.done.append(said)
            remote.job, remote.until = None, math.inf

    def _died(self, remote: Remote, error: Exception) -> None:
        self._replace(remote)
        self._jobs.orphaned(remote.job, ready=remote.job is not None, how=f": {error}")

    def _replace(self, remote: Remote) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(remote.actor)
        self._actors[self._actors.index(remote)] = self._actor()

    def _feed(self) -> None:
        for remote in self._actors:
            if self._jobs.waiting and remote.saying is None:
                remote.job = self._jobs.waiting.popleft()
                remote.until = math.inf if self._limit_sec is None else time.monotonic() + self._limit_sec
                remote.saying = remote.actor.run.remote(*remote.job)


class _Actor:
    """In its own process, on whatever host."""

    def __init__(self, begin: bytes) -> None:
        bare, loaded = pickle.loads(begin)  # noqa: S301 - made by the search's parent, over the cluster's own channel
        self._objective: Objective = replace(bare, market=Market(bare.market.root, loaded))

    def ready(self) -> None:
        return None

    def run(self, number: int, params: dict[str, Any]) -> Outcome:
        return self._objective(number, params)


def _joined(count: int) -> tuple[Any, bool]:
    """The ray module, connected, and whether the connection is ours. ConfigError with too few CPUs."""
    import ray

    if ray.is_initialized():
        mine = False
    else:
        address = os.environ.get("RAY_ADDRESS")
        local = {} if address else {"num_cpus": count, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
        except ConnectionError as error:
            raise ConfigError(f"no Ray cluster answers at {address}: {error}", "ray start --head begins one") from None
        mine = True
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < count:
        raise ConfigError(f"search.workers={count} is more than the {cpus} CPUs of the Ray cluster", f"search.workers={cpus}")
    return ray, mine
