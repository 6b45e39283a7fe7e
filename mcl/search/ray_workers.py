"""Compute trials by actors of a Ray cluster, on as many hosts as it has.

`RAY_ADDRESS` names the cluster; without it one is started on this machine for as long as the search
runs. The parent alone keeps the study, the outcomes and the run store, so that hosts need nothing
but this package, and the data's folder only where a search varies the data. Whoever holds the token
of a cluster can run code on it: a cluster that is started here has one of its own.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mcl.base.environment import environment
from mcl.base.errors import ConfigError, EngineError, in_words
from mcl.data.bars import Bars
from mcl.data.truncation import MadeOf
from mcl.search.space import strategies
from mcl.search.trial import Objective, ObjectiveSpec, Outcome
from mcl.search.worker_pool import Job, Jobs
from mcl.strategy import user_strategies
from mcl.tracking import provenance

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
HINT = (
    f"give this machine the token of the cluster: {MODE}=token with {TOKEN}, or with the head's"
    " file ~/.ray/auth_token"
)
CONNECT_SEC = 10.0  # for the head to answer at all
LOOK_SEC = 2.0  # between two looks whether the head answers
HEAD_LOST_SEC = 20.0  # Ray itself ends the process of the search, without a word, after 60
LEAVE_SEC = 5.0  # for actors to remove what they wrote


@dataclass(frozen=True)
class ActorSetup:
    """The plain fields that an actor gets once."""

    spec: ObjectiveSpec
    bars: dict[str, Bars]  # by data key
    finer: dict[str, Bars]  # the bars that those were made of, where the search looks into them
    # a user's own strategies and what those import, by path in the project
    files: dict[str, bytes]


def actor_setup(objective: Objective) -> ActorSetup:
    """All that an actor on another host needs, which has neither the data nor the project's
    folder.
    """
    loaded = objective.data_cache.loaded
    inside = _looks_inside(objective)
    finer = {key: bars.finer() for key, bars in loaded.items() if inside and bars.finer is not None}
    files = {
        path: file.content
        for path, file in user_strategies.files(strategies(objective.raw)).items()
    }
    return ActorSetup(objective.spec, dict(loaded), finer, files)


def _looks_inside(objective: Objective) -> bool:
    bracket = objective.raw.get("execution", {}).get("bracket")
    return bracket == "finer" or "execution.bracket" in objective.search.space


@dataclass
class Remote:
    actor: Any
    future: Any  # a future: that it is ready, or the outcome of its job
    job: Job | None = None
    until: float = math.inf


class RayPool:
    """`count` actors, one CPU each; whoever is free gets the next trial. A trial whose actor or
    host dies is run again by another.

    EngineError where an actor runs other code than this process, and where the head of the cluster
    is gone.
    """

    def __init__(self, objective: Objective, count: int, limit_sec: float | None = None) -> None:
        self.capacity = count + 1  # one waits here, so that no actor waits for the parent
        self._limit_sec = limit_sec
        self._code = provenance.code_sha256(strategies(objective.raw))
        with contextlib.ExitStack() as opened:
            self._ray = opened.enter_context(_connection(count))
            self._head = Head(self._ray.get_runtime_context().gcs_address)
            self._begin = self._ray.put(pickle.dumps(actor_setup(objective)))
            self._kind = self._ray.remote(num_cpus=1, max_restarts=0)(_Actor)
            self._jobs = Jobs("Ray actors", "is mcl installed on every host?")
            self._actors = [self._actor() for _ in range(count)]
            self._opened = opened.pop_all()

    def submit(self, number: int, params: dict[str, Any]) -> None:
        self._jobs.waiting.append((number, params))
        self._feed()

    def take(self) -> Outcome:
        while not self._jobs.done:
            self._turn()
        return self._jobs.done.popleft()

    def close(self) -> None:
        if self._head.reachable:
            leaving = [remote.actor.leave.remote() for remote in self._actors if remote.job is None]
            if leaving:
                self._ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_SEC)
            for remote in self._actors:
                self._ray.kill(remote.actor)
        self._opened.close()

    def _actor(self) -> Remote:
        actor = self._kind.remote(self._begin)
        return Remote(actor, actor.ready.remote())

    def _turn(self) -> None:
        """Wait for an answer of an actor, for a death or for the end of a time limit."""
        by_future = {remote.future: remote for remote in self._actors if remote.future is not None}
        nearest = min(remote.until for remote in self._actors)
        timeout_sec = min(LOOK_SEC, max(nearest - time.monotonic(), 0.0))
        for future in self._ray.wait(list(by_future), num_returns=1, timeout=timeout_sec)[0]:
            self._receive(by_future[future])
        for remote in [remote for remote in self._actors if time.monotonic() >= remote.until]:
            self._replace(remote)
            self._jobs.over_time(remote.job, self._limit_sec or 0.0)
        self._head.look()
        self._feed()

    def _receive(self, remote: Remote) -> None:
        try:
            answer = self._ray.get(remote.future)
        except self._ray.exceptions.RayTaskError as error:
            raise EngineError(
                f"a Ray actor failed outside of its trial: {in_words(error)}"
            ) from error
        except self._ray.exceptions.RayError as error:  # the actor, its host or its memory
            self._died(remote, error)
            return
        remote.future = None
        self._jobs.ready()
        if remote.job is None:
            self._compare(*answer)
            return
        self._jobs.done.append(answer)
        remote.job, remote.until = None, math.inf

    def _compare(self, host: str, code: str) -> None:
        """Raise EngineError where an actor has other code: a search has results of one version."""
        if code != self._code:
            message = (
                f"the host {host} of the Ray cluster has other code than this machine ({code[:12]},"
                f" here {self._code[:12]})"
            )
            raise EngineError(
                message,
                "install the same version of mcl on every host, then mcl sweep resume continues",
            )

    def _died(self, remote: Remote, error: Exception) -> None:
        self._replace(remote)
        self._jobs.worker_died(remote.job, ready=remote.job is not None, how=f": {error}")

    def _replace(self, remote: Remote) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(remote.actor)
        self._actors[self._actors.index(remote)] = self._actor()

    def _feed(self) -> None:
        for remote in self._actors:
            if self._jobs.waiting and remote.future is None:
                remote.job = self._jobs.waiting.popleft()
                remote.until = (
                    math.inf if self._limit_sec is None else time.monotonic() + self._limit_sec
                )
                remote.future = remote.actor.run.remote(*remote.job)


class _Actor:
    """Compute trials in a process of its own, on any host."""

    def __init__(self, begin: bytes) -> None:
        setup: ActorSetup = pickle.loads(begin)  # noqa: S301 - made by the search's parent, over the cluster's own channel
        self._folder = _project(setup.files)
        self._strategy = strategies(setup.spec.raw)
        bars = {
            key: replace(bars, finer=MadeOf(setup.finer[key])) if key in setup.finer else bars
            for key, bars in setup.bars.items()
        }
        self._objective = setup.spec.objective(bars)

    def ready(self) -> tuple[str, str]:
        """The name of the host, and the digest of the code that decides results there."""
        return socket.gethostname(), provenance.code_sha256(self._strategy)

    def run(self, number: int, params: dict[str, Any]) -> Outcome:
        return self._objective(number, params)

    def leave(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _project(files: dict[str, bytes]) -> Path:
    """Write a user's own files to a folder, which is the project of this process from now on."""
    folder = Path(tempfile.mkdtemp(prefix="mcl-actor-"))
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    os.environ["MCL_HOME"] = str(folder)
    sys.path.insert(0, str(folder))
    return folder


@dataclass
class Head:
    """The one process of a cluster that nobody replaces: its control store, by its address."""

    address: str
    reachable: bool = True
    _last_answer: float = field(default_factory=time.monotonic)
    _last_look: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """Raise EngineError once the head has not answered for `HEAD_LOST_SEC`. At most one look in
        `LOOK_SEC`.
        """
        now = time.monotonic()
        if now - self._last_look < LOOK_SEC:
            return
        self._last_look = now
        if not refusal(self.address, LOOK_SEC):
            self._last_answer = time.monotonic()
        elif time.monotonic() - self._last_answer > HEAD_LOST_SEC:
            self.reachable = False
            message = (
                f"the head of the Ray cluster at {self.address} has not answered for"
                f" {HEAD_LOST_SEC:g} seconds"
            )
            raise EngineError(
                message,
                "start the cluster again; mcl sweep resume continues with the trials that are"
                " missing",
            )


def refusal(address: str, timeout_sec: float) -> str:
    """The reason why HOST:PORT accepts no connection. Empty where it does."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_sec):
            return ""
    except OSError as error:
        return error.strerror or str(error)


@contextlib.contextmanager
def _connection(count: int) -> Iterator[Any]:
    """The ray module, connected to the cluster. ConfigError where that refuses, or has too few
    CPUs.
    """
    address = os.environ.get("RAY_ADDRESS")
    with _authentication(address):
        import ray

        mine = not ray.is_initialized()
        if mine:
            _refresh()
            _join(ray, address, count)
        try:
            cpus = int(ray.cluster_resources().get("CPU", 0))
            if cpus < count:
                raise ConfigError(
                    f"search.workers={count} is more than the {cpus} CPUs of the Ray cluster",
                    f"search.workers={cpus}",
                )
            yield ray
        finally:
            if mine:
                ray.shutdown()


def _join(ray: Any, address: str | None, count: int) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not address:  # "local": never a cluster that somebody else has started on this machine
        ray.init(
            address="local",
            num_cpus=count,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return
    if ":" in address and "://" not in address and (why := refusal(address, CONNECT_SEC)):
        raise ConfigError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: {why}",
            "ray start --head begins one: docs/scale-out.md",
        )
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"the Ray cluster at RAY_ADDRESS={address} refuses this machine: {in_words(error)}",
            HINT,
        ) from None


@contextlib.contextmanager
def _authentication(address: str | None) -> Iterator[None]:
    """Ray asks for a token at `ray start` when the user has one, but sends none to an address that
    is named; here it does.

    A cluster of this machine alone gets a token of its own, so that nothing is written into the
    user's home.
    """
    added: dict[str, str] = {}
    if MODE not in os.environ:
        if address and _has_token():
            added = {MODE: "token"}
        elif not address:
            added = {MODE: "token", TOKEN: os.environ.get(TOKEN) or secrets.token_hex(32)}
    with environment(added):
        yield


def _has_token() -> bool:
    return (
        bool(os.environ.get(TOKEN) or os.environ.get(TOKEN_FILE))
        or (Path.home() / ".ray" / "auth_token").is_file()
    )


def _refresh() -> None:
    """Ray reads mode and token once per process; an earlier search may have had others. Older
    releases know neither.
    """
    with contextlib.suppress(ImportError, AttributeError):
        inner: Any = import_module("ray._raylet")
        inner.Config.initialize("")
        inner.AuthenticationTokenLoader.instance().reset_cache()
