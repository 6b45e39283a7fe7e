"""Searches on real Ray: one machine, and a cluster of two nodes with a token, begun by the commands
of the page.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from servers import RayNodes, ray_cluster, without_ray

from mcl import composition
from mcl.base.errors import ConfigError, EngineError
from mcl.search import ray_workers
from mcl.search.result import SweepResult
from mcl.search.snapshot import take_snapshot
from mcl.search.trial import Objective
from mcl.search.worker_pool import attach, share
from mcl.tracking import provenance

from .conftest import SMALL, Project

CONF = Path(__file__).resolve().parents[2] / "conf"
COMPARED = ["trial", "strategy.fast", "strategy.slow", "state", "reason", "value", "net_pnl_usd"]
TYPED = ["search.sampler=qmc", "search.trials=16"]
RAY = ["search.backend=ray", "search.workers=2"]
STOPS = ["risk.protection.unit=ticks", "risk.protection.stop=20", "risk.protection.take_profit=20"]
ON_RAY = pytest.mark.filterwarnings("ignore")  # Ray's own, about files that it leaves open
OWN = '''
"""A strategy of somebody's own, slow enough that something can happen meanwhile."""

import time
from dataclasses import dataclass

import numpy as np

from mcl.data.bars import Bars


@dataclass(frozen=True)
class Slow:
    fast: int = 3
    slow: int = 10
    name = "slow_walk"
    uses_levels = False

    @property
    def memory(self) -> int:
        return self.slow + 1

    def signal(self, bars: Bars) -> np.ndarray:
        time.sleep(0.2)
        change = np.zeros(len(bars))
        close = bars.adjusted["close"]
        change[self.slow :] = np.sign(close[self.slow :] - close[: -self.slow])
        return change
'''
SEARCH = """
import sys
from pathlib import Path
from mcl import composition, search
from mcl.search import ray_workers as cluster
from mcl.tracking.project import Project

cluster.HEAD_LOST_SEC = 4.0
root = Path(sys.argv[1])
try:
    if sys.argv[2] == "resume":
        search.resume(sys.argv[3], project=Project.at(root))
    else:
        search.sweep(composition.compose("sweep", sys.argv[2:]), project=Project.at(root))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)
"""


def typed(*overrides: str) -> list[str]:
    """`SMALL` with these overrides; other data have no `data.path`."""
    keys = {o.split("=")[0] for o in overrides}
    small = [o for o in SMALL if o.split("=")[0] not in keys]
    other = "data" in keys and "data=csv" not in overrides
    return [*(o for o in small if not (other and o.startswith("data."))), *overrides]


def objective_of(project: Project, *overrides: str) -> Objective:
    """The objective of a search, whose simulation has filled every cache that a search fills."""
    snapshot = take_snapshot(composition.compose("sweep", typed(*overrides)), project.root)
    objective = Objective(
        snapshot.composed.raw, snapshot.search, snapshot.data_cache, snapshot.rules
    )
    objective(0, {"strategy.fast": 5, "strategy.slow": 20})
    return objective


@pytest.fixture
def own(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of its own with the strategy `OWN`, a fifth of a second a trial."""
    root = tmp_path / "own"
    shutil.copytree(CONF, root / "conf", ignore=shutil.ignore_patterns("promoted"))
    shutil.copy(project.root / "walk.csv", root)
    (root / "conf" / "strategy" / "slow_walk.yaml").write_text(
        "name: slow_walk\nfast: 3\nslow: 10\n"
    )
    folder = root / "experiments" / "strategies"
    folder.mkdir(parents=True)
    (folder / "slow_walk.py").write_text(OWN)
    monkeypatch.setenv("MCL_HOME", str(root))
    return Project.at(root)


class Inspector(pickle.Pickler):
    """Pickles, and notes every object of mcl whose state is not its fields, and every function that
    is no module's.
    """

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.counts: Counter[str] = Counter()
        self.strange: list[str] = []

    def persistent_id(self, thing: Any) -> None:
        kind = type(thing)
        if isinstance(thing, types.FunctionType) and "<" in thing.__qualname__:
            self.strange.append(f"function {thing.__qualname__}")
        if not kind.__module__.startswith("mcl.") or isinstance(thing, type):
            return
        self.counts[kind.__name__] += 1
        state = thing.__reduce_ex__(4)[2]
        if hasattr(kind, "model_fields"):
            names = set(kind.model_fields)
            state = state["__dict__"]
        elif is_dataclass(kind):
            names = {f.name for f in fields(kind)}
        else:
            self.strange.append(f"{kind.__name__} is no dataclass")
            return
        computed = {
            name
            for base in kind.__mro__
            for name, value in vars(base).items()
            if isinstance(value, cached_property)
        }
        if extra := set(state) - names | set(state) & computed:
            self.strange.append(f"{kind.__name__}: {sorted(extra)}")


@pytest.fixture
def rolling(project: Project, worlds: Path) -> Project:
    """The project with the generated data, whose contracts roll."""
    if not (project.root / "data").exists():
        (project.root / "data").symlink_to(worlds)
    return project


@pytest.mark.parametrize("data", ["csv", "synthetic"])
def test_what_is_sent_is_made_of_plain_fields(rolling: Project, data: str, tmp_path: Path) -> None:
    """All that goes to an actor, to a worker process and back. Synthetic bars roll, so that their
    continuous series is computed.
    """
    objective = objective_of(
        rolling,
        f"data={data}",
        "search.constraints=['strategy.fast < strategy.slow', 'trades >= 1']",
    )
    [bars] = objective.data_cache.loaded.values()
    bars.frame()
    # they have been computed, and do not travel
    assert {"prices", "adjusted", "ticks", "stretches"} <= vars(bars).keys()
    outcome = objective(1, {"strategy.fast": 5, "strategy.slow": 20})
    folder = share(bars, tmp_path / "shared")
    small, _ = pickle.loads((folder / "rest.pickle").read_bytes())
    inspector = Inspector()
    inspector.dump(
        (
            ray_workers.actor_setup(objective),
            objective.spec,
            outcome,
            small,
            objective.spec.search,
        )
    )
    assert inspector.strange == []
    assert {
        "ActorSetup",
        "ObjectiveSpec",
        "Bars",
        "Search",
        "Rule",
        "Term",
        "Outcome",
    } <= inspector.counts.keys()
    again = pickle.loads(pickle.dumps(bars))
    assert vars(again).keys() == {f.name for f in fields(bars)}
    assert not again.close_ticks.flags.writeable
    for other in (again, attach(folder)):
        assert (other.adjusted["close"] == bars.adjusted["close"]).all()


def test_the_inspector_sees_what_must_not_be_sent(project: Project) -> None:
    """The check above can fail: a bar with its caches, and a function inside a function."""
    objective = objective_of(project)
    inspector = Inspector()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        inspector.dump((objective, lambda: 0))
    assert any("Objective" in output for output in inspector.strange) or any(
        "DataCache" in output for output in inspector.strange
    )
    assert any("lambda" in output for output in inspector.strange)


def no_data(*_: object) -> None:
    raise AssertionError("a host reads the data's folder")


def test_a_host_needs_no_data_to_look_inside_bars(
    rolling: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = {"strategy.fast": 5, "strategy.slow": 20}
    objective = objective_of(
        rolling, "data=synthetic", "data.interval=5m", "execution.bracket=finer", *STOPS
    )
    expected = objective(0, point)
    assert expected.state in ("COMPLETE", "PRUNED"), expected
    sent = pickle.dumps(ray_workers.actor_setup(objective))
    monkeypatch.setattr("mcl.data.loader.StoredFiner.__call__", no_data)
    monkeypatch.setenv("MCL_HOME", str(tmp_path))  # which an actor sets, as the path
    monkeypatch.setattr(sys, "path", [*sys.path])
    actor = ray_workers._Actor(sent)
    assert actor.run(0, point).metrics == expected.metrics
    actor.leave()
    assert not actor._folder.exists()


# -------------------------------------------------------------------------------------- one machine


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home without a cluster or a token."""
    if missing := without_ray():
        pytest.skip(missing)
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@ON_RAY
def test_one_machine_finds_what_processes_find_and_leaves_no_token(
    rolling: Project, alone: Path
) -> None:
    small = typed("data=synthetic", "search.sampler=qmc", "search.trials=8")

    def sweep(*more: str) -> SweepResult:
        return rolling.search(composition.compose("sweep", [*small, *more]))

    here, on_ray = sweep(), sweep(*RAY)
    pd.testing.assert_frame_equal(on_ray.trials[COMPARED], here.trials[COMPARED])
    assert (on_ray.best or {})["trial"] == (here.best or {})["trial"]
    assert not (alone / ".ray").exists()
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_an_address_where_nobody_listens_is_a_sentence_at_once(
    project: Project, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(
        ConfigError,
        match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1: Connection refused",
    ):
        project.sweep(*TYPED, *RAY)


def test_a_pruner_is_refused(project: Project) -> None:
    if missing := without_ray():
        pytest.skip(missing)
    with pytest.raises(ConfigError, match=r"search.pruner=median asks after every fold"):
        project.sweep(*TYPED, *RAY, "search.pruner=median")


# ------------------------------------------------------------------------------------ several hosts


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    if missing := without_ray():
        pytest.skip(missing)
    with ray_cluster(2) as started:
        yield started


@pytest.fixture
def joined(nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> RayNodes:
    """A shell where the page's commands were typed: the address of the cluster, and a home with its
    token.
    """
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(nodes.folder))
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    return nodes


def whole_and_once(sweep_result: SweepResult, project: Project, count: int) -> None:
    """Every trial is in the table and in the store, once, and none failed."""
    rows = sorted(
        int(run.tags["trial"])
        for run in project.store.children(sweep_result.sweep_id)
        if run.tags["mcl.kind"] == "trial"
    )
    assert rows == list(range(count))
    assert sweep_result.trials["trial"].tolist() == list(range(count))
    assert sweep_result.states.get("FAILED", 0) == 0, sweep_result.trials["detail"].tolist()


@ON_RAY
def test_two_hosts_find_what_processes_find(
    project: Project, joined: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, hosts = ray_workers.RayPool._compare, []

    def noted(self: ray_workers.RayPool, host: str, code: str) -> None:
        for remote in self._actors:
            where = remote.actor.__ray_call__.remote(
                lambda _: __import__("ray").util.get_node_ip_address()
            )
            hosts.append(self._ray.get(where, timeout=120))
        compare(self, host, code)

    monkeypatch.setattr(ray_workers.RayPool, "_compare", noted)
    here = project.sweep(*TYPED)
    on_ray = project.sweep(*TYPED, *RAY)
    assert set(hosts) == {f"{joined.network}.1", f"{joined.network}.2"}
    pd.testing.assert_frame_equal(on_ray.trials[COMPARED], here.trials[COMPARED])
    whole_and_once(on_ray, project, 16)


@ON_RAY
def test_a_strategy_of_ones_own_is_sent(own: Project, joined: RayNodes) -> None:
    slow = [*TYPED, "strategy=slow_walk", "search.trials=6"]
    here = own.sweep(*slow)
    on_ray = own.sweep(*slow, *RAY)
    pd.testing.assert_frame_equal(on_ray.trials[COMPARED], here.trials[COMPARED])
    assert here.states == {"COMPLETE": 6}


@ON_RAY
def test_a_killed_actor_costs_nothing(
    project: Project, joined: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = ray_workers.RayPool._receive
    killed: list[Any] = []

    def kill_now_and_then(self: ray_workers.RayPool, remote: ray_workers.Remote) -> None:
        """Kill an actor that has answered; it is given the next trial all the same."""
        receive(self, remote)
        if remote in self._actors and remote.job is None and len(killed) < 2 and self._jobs.done:
            killed.append(
                self._ray.get(remote.actor.__ray_call__.remote(lambda _: os.getpid()), timeout=120)
            )
            os.kill(killed[-1], signal.SIGKILL)

    monkeypatch.setattr(ray_workers.RayPool, "_receive", kill_now_and_then)
    sweep_result = project.sweep(*TYPED, *RAY, "search.trials=24")
    assert len(set(killed)) == 2
    whole_and_once(sweep_result, project, 24)


@ON_RAY
def test_a_host_that_is_killed_costs_only_its_running_trial(
    own: Project, joined: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third host joins; its raylet is killed -9 while its actor computes, and its actor with it.
    The other two do the rest.
    """
    from servers import documented_ray

    third = joined.start_node(*documented_ray()[2])
    receive, died = ray_workers.RayPool._receive, ray_workers.RayPool._died
    home: dict[int, tuple[str, int]] = {}
    lost: list[int] = []
    killed: list[int] = []

    def kill_the_third(self: ray_workers.RayPool, remote: ray_workers.Remote) -> None:
        receive(self, remote)
        if remote.job is None and id(remote) not in home and not killed:
            where = remote.actor.__ray_call__.remote(
                lambda _: (__import__("ray").util.get_node_ip_address(), __import__("os").getpid())
            )
            home[id(remote)] = self._ray.get(where, timeout=120)
        busy = [
            other for other in self._actors if other.job and home.get(id(other), ("",))[0] == third
        ]
        if self._jobs.done and busy and not killed:
            # a trial that ends before the host would lose nothing
            os.kill(home[id(busy[0])][1], signal.SIGSTOP)
            killed.append(joined.kill("raylet", third))
            os.kill(home[id(busy[0])][1], signal.SIGKILL)

    def noted(self: ray_workers.RayPool, remote: ray_workers.Remote, error: Exception) -> None:
        lost.extend([remote.job[0]] if remote.job else [])
        died(self, remote, error)

    monkeypatch.setattr(ray_workers.RayPool, "_receive", kill_the_third)
    monkeypatch.setattr(ray_workers.RayPool, "_died", noted)
    sweep_result = own.sweep(
        *TYPED, "strategy=slow_walk", "search.backend=ray", "search.workers=3", "search.trials=30"
    )
    assert killed == [1]
    assert len(lost) == 1
    whole_and_once(sweep_result, own, 30)


@ON_RAY
def test_more_workers_than_the_cluster_has_are_refused(project: Project, joined: RayNodes) -> None:
    with pytest.raises(
        ConfigError, match=r"search.workers=99 is more than the \d CPUs of the Ray cluster"
    ):
        project.sweep(*TYPED, "search.backend=ray", "search.workers=99")


@ON_RAY
def test_other_code_on_a_host_is_refused(
    project: Project, joined: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "code_sha256", lambda _: "0" * 64)
    with pytest.raises(
        EngineError,
        match=(
            r"of the Ray cluster has other code than this machine \([0-9a-f]{12}, here"
            r" 000000000000\)"
        ),
    ):
        project.sweep(*TYPED, *RAY)


@ON_RAY
def test_a_cluster_with_another_token_is_a_sentence(
    project: Project, joined: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    with pytest.raises(
        ConfigError, match=r"the Ray cluster at RAY_ADDRESS=\S+ refuses this machine"
    ) as refused:
        project.sweep(*TYPED, *RAY)
    assert "x" * 64 not in str(refused.value)
    assert "RAY_AUTH_TOKEN" in refused.value.hint


@ON_RAY
def test_a_killed_head_is_a_sentence_and_costs_only_what_ran(own: Project) -> None:
    """kill -9 of the one process that Ray cannot replace. Ray would end the search without a word;
    here it says so, and continues.
    """
    if missing := without_ray():
        pytest.skip(missing)
    root = own.root
    script = root / "child.py"
    script.write_text(SEARCH)
    slow = [o for o in SMALL if not o.startswith(("strategy=", "search.trials"))]
    slow += [
        "strategy=slow_walk",
        "search.sampler=qmc",
        "search.trials=90",
        "search.backend=ray",
        "search.name=headless",
    ]
    with ray_cluster() as nodes:
        environment = nodes.environment | {"RAY_ADDRESS": nodes.address, "MCL_HOME": str(root)}

        def run(*words: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, str(script), str(root), *words],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

        process = run(*slow)
        assert process.stdout is not None
        done = 0
        while done < 3:
            time.sleep(0.05)
            done = sum(
                len(path.read_text().splitlines()) for path in root.glob("mlruns/sweeps/*.outcomes")
            )
            assert process.poll() is None, process.stdout.read()
        assert nodes.kill("gcs_server") == 1
        output = process.communicate(timeout=200)[0]
        assert process.returncode == 1
        assert "EngineError: the head of the Ray cluster at" in output, output
        [outcomes] = root.glob("mlruns/sweeps/*.outcomes")
        before = {
            json.loads(line)["number"]
            for line in outcomes.read_text().splitlines()
            if '"number"' in line
        }
        assert 3 <= len(before) < 90
        nodes.kill()
    environment.pop("RAY_ADDRESS")
    process = run("resume", "headless")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    rows = [run for run in own.store.in_study("mcl") if run.tags.get("mcl.kind") == "trial"]
    assert sorted(int(run.tags["trial"]) for run in rows) == list(range(90))
