"""Searches over hosts: Ray actors for the work, PostgreSQL for the study. Both packages and the server are optional."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pandas as pd
import pytest
from servers import postgresql, without_postgresql

from mcl import search
from mcl.errors import ConfigError, StoreError
from mcl.search.trial import Outcome

from .conftest import Project

COMPARED = ["trial", "strategy.fast", "strategy.slow", "state", "reason", "value", "net_pnl_usd"]
TYPED = ["search.sampler=qmc", "search.trials=16"]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of an own PostgreSQL server."""
    if missing := without_postgresql():
        pytest.skip(missing)
    with postgresql() as port:
        yield f"postgresql+psycopg://mcl@127.0.0.1:{port}/mcl"


def test_a_study_in_postgresql_finds_the_same_and_goes_on(project: Project, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    monkeypatch.setenv("MCL_STUDY_URL", database)
    whole = project.sweep("search.sampler=tpe", "search.trials=16")
    there = project.sweep("search.sampler=tpe", "search.trials=9", "search.storage=postgresql")
    grown = search.resume(there.sweep_id, store=project.store, root=project.root, trials=16)
    pd.testing.assert_frame_equal(grown.trials[COMPARED], whole.trials[COMPARED])
    storage = optuna.storages.RDBStorage(database)
    assert len(optuna.load_study(study_name=there.sweep_id, storage=storage).trials) == 16
    storage.engine.dispose()
    monkeypatch.setenv("MCL_STUDY_URL", "postgresql+psycopg://mcl:secret@127.0.0.1:1/none")
    with pytest.raises(StoreError, match="the database of MCL_STUDY_URL refuses: OperationalError") as refused:
        project.sweep(*TYPED, "search.storage=postgresql")
    assert "secret" not in str(refused.value)


def test_a_database_that_is_lost_ends_the_search_and_costs_nothing(
    project: Project, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tables of the study are gone in the middle: a sentence; resumed, it is made again from the outcomes of the parent's disk."""
    import psycopg

    from mcl.search.study import Study

    tell = Study.tell

    def lose(self: Study, outcome: Outcome) -> None:
        if outcome.number == 5:
            with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        tell(self, outcome)

    monkeypatch.setenv("MCL_STUDY_URL", database)
    whole = project.sweep(*TYPED)
    monkeypatch.setattr(Study, "tell", lose)
    with pytest.raises(StoreError, match="MCL_STUDY_URL refuses: ProgrammingError"):
        project.sweep(*TYPED, "search.storage=postgresql", "search.name=lost")
    monkeypatch.setattr(Study, "tell", tell)
    again = search.resume("lost", store=project.store, root=project.root)
    pd.testing.assert_frame_equal(again.trials[COMPARED], whole.trials[COMPARED])
    assert again.trials["trial"].tolist() == list(range(16))


def test_a_database_needs_an_address(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="mcl[postgres] is not installed")
    monkeypatch.delenv("MCL_STUDY_URL", raising=False)
    with pytest.raises(ConfigError, match="needs MCL_STUDY_URL"):
        project.sweep(*TYPED, "search.storage=postgresql")


@pytest.fixture(scope="class")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="mcl[ray] is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("cluster")
class TestRay:
    def test_actors_find_what_processes_find(self, project: Project) -> None:
        here = project.sweep(*TYPED)
        there = project.sweep(*TYPED, "search.backend=ray", "search.workers=2")
        pd.testing.assert_frame_equal(there.trials[COMPARED], here.trials[COMPARED])
        assert (there.best or {})["trial"] == (here.best or {})["trial"]

    def test_a_killed_actor_costs_nothing(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        from mcl.search import cluster

        heard, killed = cluster.Cluster._heard, []

        def kill_now_and_then(self: cluster.Cluster, remote: cluster.Remote) -> None:
            heard(self, remote)
            if remote.job is None and not killed and len(self._jobs.done):
                killed.append(self._ray.get(self._actors[0].actor.__ray_call__.remote(lambda _: os.getpid())))
                os.kill(killed[0], signal.SIGKILL)

        monkeypatch.setattr(cluster.Cluster, "_heard", kill_now_and_then)
        swept = project.sweep(*TYPED, "search.backend=ray", "search.workers=2", "search.trials=24")
        assert killed
        assert swept.states.get("FAILED", 0) == 0
        assert swept.trials["trial"].tolist() == list(range(24))

    def test_more_workers_than_the_cluster_has_are_refused(self, project: Project) -> None:
        with pytest.raises(ConfigError, match=r"search.workers=99 is more than the 2 CPUs of the Ray cluster"):
            project.sweep(*TYPED, "search.backend=ray", "search.workers=99")

    def test_a_pruner_is_refused(self, project: Project) -> None:
        with pytest.raises(ConfigError, match=r"search.pruner=median asks after every fold"):
            project.sweep(*TYPED, "search.backend=ray", "search.pruner=median")


@pytest.mark.filterwarnings("ignore")
def test_a_host_that_is_killed_costs_only_its_running_trials(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts beside the head, each a raylet with a store of its own: one is killed -9 while it computes, the other does the rest."""
    ray = pytest.importorskip("ray", reason="mcl[ray] is not installed")
    from ray.cluster_utils import Cluster as Hosts

    from mcl.search import cluster

    heard, died = cluster.Cluster._heard, cluster.Cluster._died
    home: dict[int, str] = {}
    lost: list[int] = []
    hosts = Hosts(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = {node.node_id: node for node in (hosts.add_node(num_cpus=1) for _ in range(2))}

    def kill_the_other(self: cluster.Cluster, remote: cluster.Remote) -> None:
        heard(self, remote)
        if remote.job is None and id(remote) not in home and len(nodes) == 2:
            home[id(remote)] = self._ray.get(remote.actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()))
        busy = [other for other in self._actors if other is not remote and other.job is not None and id(other) in home]
        if self._done and busy and len(nodes) == 2:
            hosts.remove_node(nodes.pop(home[id(busy[0])]), allow_graceful=False)

    def noted(self: cluster.Cluster, remote: cluster.Remote, error: Exception) -> None:
        lost.extend([remote.job[0]] if remote.job else [])
        died(self, remote, error)

    monkeypatch.setattr(cluster.Cluster, "_heard", kill_the_other)
    monkeypatch.setattr(cluster.Cluster, "_died", noted)
    monkeypatch.setenv("RAY_ADDRESS", hosts.address)
    try:
        swept = project.sweep(*TYPED, "search.backend=ray", "search.workers=2", "search.trials=24")
    finally:
        ray.shutdown()
        hosts.shutdown()
    assert len(nodes) == 1
    assert len(lost) == 1
    assert swept.states.get("FAILED", 0) == 0
    assert swept.trials["trial"].tolist() == list(range(24))


@pytest.mark.parametrize(("typed", "package"), [("search.backend=ray", "ray"), ("search.storage=postgresql", "psycopg")])
def test_what_is_not_installed_is_named_before_anything_is_recorded(
    project: Project, typed: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcl.search.study.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}, which is not installed"):
        project.sweep(*TYPED, typed, "study=refused")
    assert project.store.in_study("refused") == []
