"""A search has an identity: it continues after anything, and only as the search that it was."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from mcl import composition
from mcl.base.errors import ConfigError, StoreError
from mcl.ops import scaffold
from mcl.search import status, trial_log
from mcl.search.result import SweepResult
from mcl.search.sweep_dir import SweepDir, find
from mcl.tracking import trial_ledger
from mcl.tracking.store import Store

from .conftest import SMALL, Project, measured, write_walk

CHILD = """
import sys
from pathlib import Path
from mcl import composition, search
from mcl.tracking.project import Project

if __name__ == "__main__":
    project = Project.at(Path(sys.argv[1]))
    if sys.argv[2] == "resume":
        search.resume(sys.argv[3], project=project)
    else:
        search.sweep(composition.compose("sweep", sys.argv[2:]), project=project)
"""
COMPARED = [
    "trial",
    "strategy.fast",
    "strategy.slow",
    "state",
    "reason",
    "value",
    "sharpe",
    "net_pnl_usd",
]


def begin(project: Project, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return subprocess.Popen(
        [sys.executable, str(script), str(project.root), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MCL_HOME": str(project.root)},
        start_new_session=True,
    )


def overrides(*changed: str) -> list[str]:
    keys = {o.split("=")[0] for o in changed}
    return [*(o for o in SMALL if o.split("=")[0] not in keys), *changed]


def test_a_search_over_strategies_goes_on_where_it_was_killed(
    project: Project, tmp_path: Path
) -> None:
    typed = [
        *(word for word in overrides() if not word.startswith(("strategy", "search.trials"))),
        "strategy=ema_cross,tsmom",
        "strategy.lookback=range(10,200,10)",
        "search.sampler=tpe",
        "search.trials=60",
    ]
    whole = project.search(composition.compose("sweep", typed))
    earlier, killed = cards(project), ""
    process = begin(project, tmp_path, *typed)
    try:
        wait_until(lambda: cards(project) - earlier, process)
        killed = (cards(project) - earlier).pop()
        log = place(project, killed).file("outcomes")
        wait_until(lambda: log.exists() and len(trial_log.read(log)) > 5, process)
    finally:
        end(process)
    finished = trial_log.read(place(project, killed).file("outcomes"))
    resumed = project.resume(killed)
    assert len(finished) > 5
    columns = [
        "trial",
        "strategy",
        "strategy.fast",
        "strategy.slow",
        "strategy.lookback",
        "state",
        "reason",
        "value",
    ]
    pd.testing.assert_frame_equal(resumed.trials[columns], whole.trials[columns])
    is_tsmom = whole.trials["strategy"] == "tsmom"
    assert 0 < is_tsmom.sum() < len(is_tsmom)
    assert list(whole.trials["strategy.lookback"].notna()) == list(is_tsmom)
    assert list(whole.trials["strategy.fast"].isna()) == list(is_tsmom)
    names = {
        str(t.trial): "tsmom" if t.strategy == "tsmom" else "ema_cross"
        for t in whole.trials.itertuples()
    }
    children = [
        run for run in project.store.children(whole.sweep_id) if run.tags["mcl.kind"] == "trial"
    ]
    assert all(
        run.params["strategy.name"] == names[run.tags["trial"]]
        for run in children
        if run.tags["state"] == "COMPLETE"
    )
    more = project.resume(killed, trials=64)
    pd.testing.assert_frame_equal(more.trials[columns].head(60), whole.trials[columns])
    assert (more.best or {})["params"]["strategy"] in ("tsmom", "ema_cross")


def sweeps(project: Project) -> Path:
    return project.root / "mlruns" / "sweeps"


def place(project: Project, named: str = "last") -> SweepDir:
    return find(sweeps(project), named)


def wait_until(condition: object, process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"it did not come to that: {process.communicate()[1][-2000:]}")
        time.sleep(0.005)


def rows(project: Project, sweep_result: SweepResult) -> list[int]:
    children = [
        run
        for run in project.store.children(sweep_result.sweep_id)
        if run.tags["mcl.kind"] == "trial"
    ]
    return sorted(int(run.tags["trial"]) for run in children)


def workers_of(parent: int) -> list[int]:
    """Process ids of the worker processes of `parent`: the children of the server that forks
    them.
    """
    servers = [
        child
        for child in children(psutil.Process(parent))
        if "forkserver" in " ".join(cmdline(child))
    ]
    return [worker.pid for server in servers for worker in children(server)]


def children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children())
    return []


def cmdline(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return list(process.cmdline())
    return []


def cards(project: Project) -> set[str]:
    return {path.stem for path in sweeps(project).glob("*.card")}


def kill_twice(project: Project, tmp_path: Path, typed: list[str], chance: random.Random) -> str:
    """The identity of a search that was killed in the middle, and again after it went on; empty
    when it was too quick for that.
    """
    earlier = cards(project)
    process = begin(project, tmp_path, *typed)
    killed = ""
    try:
        for _ in range(2):
            wait_until(lambda: cards(project) - earlier, process)
            killed = killed or (cards(project) - earlier).pop()
            log = place(project, killed).file("outcomes")
            before = log.stat().st_size if log.exists() else 0
            wait_until(
                lambda log=log, before=before: log.exists() and log.stat().st_size > before, process
            )
            time.sleep(chance.uniform(0, 0.03))
            end(process)
            finished = len(trial_log.read(log))
            assert finished > 0
            if finished >= 30:
                return killed if finished < 90 else ""
            process = begin(project, tmp_path, "resume", killed)
        return killed
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    if process.stderr is not None and not process.stderr.closed:
        process.communicate()


@pytest.mark.parametrize(("sampler", "workers"), [("grid", 1), ("qmc", 2), ("random", 1)])
def test_a_killed_search_goes_on_to_the_same_end(
    project: Project, tmp_path: Path, sampler: str, workers: int
) -> None:
    typed = overrides(f"search.sampler={sampler}", "search.trials=90", f"search.workers={workers}")
    whole = project.search(composition.compose("sweep", typed))
    chance = random.Random(sampler)
    killed = next(
        filter(None, (kill_twice(project, tmp_path, typed, chance) for _ in range(5))), ""
    )
    assert killed, "five searches ended before they could be killed"
    sweep_result = project.resume(killed)
    assert sweep_result.sweep_id == killed
    assert rows(project, sweep_result) == list(range(90))  # the target, and none twice
    pd.testing.assert_frame_equal(sweep_result.trials[COMPARED], whole.trials[COMPARED])
    assert measured(sweep_result) == measured(whole)
    parent = project.store.run(killed)
    assert (parent.status, parent.metrics["trials"]) == ("FINISHED", 90)
    a, b = (
        pd.read_parquet(io.BytesIO(project.store.run(i).file("session_returns.parquet")))
        for i in (killed, whole.sweep_id)
    )
    assert all((x == y).all() for x, y in zip(a["return_frac"], b["return_frac"], strict=True))
    counted = trial_ledger.rows(project.root)
    mine, theirs = (
        counted[(counted["group"] == i) & (counted["reason"] != "duplicate")]
        for i in (killed, whole.sweep_id)
    )
    assert set(mine["config_sha256"]) == set(theirs["config_sha256"])
    assert mine["identity"].nunique() == theirs["identity"].nunique()


def test_a_killed_worker_costs_nothing(project: Project, tmp_path: Path) -> None:
    typed = overrides(
        "search.sampler=random",
        "search.trials=400",
        "search.workers=2",
        "strategy.fast=range(2,300)",
        "study=workers",
    )
    earlier = set(sweeps(project).glob("*.outcomes"))
    process = begin(project, tmp_path, *typed)
    wait_until(lambda: set(sweeps(project).glob("*.outcomes")) - earlier, process)
    log = (set(sweeps(project).glob("*.outcomes")) - earlier).pop()
    for _ in range(2):
        before = log.stat().st_size
        wait_until(lambda before=before: log.stat().st_size > before, process)
        workers = workers_of(process.pid)
        if workers:
            os.kill(random.Random(1).choice(workers), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == 0
    finished = trial_log.read(log)
    assert sorted(finished) == list(range(400))
    assert not [o for o in finished.values() if o.state == "FAILED"]


def test_a_trial_that_takes_its_process_with_it_does_so_once(
    project: Project, tmp_path: Path
) -> None:
    path = project.root / "experiments" / "strategies" / "deadly.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadly = (
        "        import os, signal\n        os.kill(os.getpid(), signal.SIGKILL if self.length =="
        " 40 else 0)\n"
    )
    path.write_text(
        scaffold.CODE.format(name="deadly", title="Deadly").replace(
            "        closes =", f"{deadly}        closes ="
        )
    )
    own = [o for o in SMALL if not o.startswith("strategy")]
    typed = [
        *own,
        "strategy=always_long",
        "strategy.name=deadly",
        "+strategy.length=10",
        "search.sampler=grid",
    ]
    process = begin(project, tmp_path, *typed, "strategy.length=range(20, 70, 10)", "study=deadly")
    output = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGKILL, output
    sweep_result = project.resume(place(project).sweep_id)
    ended = sweep_result.trials.sort_values("trial")
    assert ended["state"].tolist() == ["COMPLETE", "COMPLETE", "FAILED", "COMPLETE", "COMPLETE"]
    assert ended["reason"].tolist()[2] == "worker_died"


def test_extend_counts_to_the_new_target_as_if_it_had_been_the_first(project: Project) -> None:
    short = project.sweep("search.sampler=qmc", "search.trials=8", "search.name=growing")
    longer = project.sweep("search.sampler=qmc", "search.trials=20")
    grown = project.resume("growing", trials=20)
    assert grown.sweep_id == short.sweep_id
    pd.testing.assert_frame_equal(grown.trials[COMPARED], longer.trials[COMPARED])
    parent = project.store.run(grown.sweep_id)
    assert (parent.metrics["trials"], parent.status, parent.tags["target"]) == (
        20,
        "FINISHED",
        "20",
    )
    begins = "growing · qmc search · ema_cross · fast × slow · 20 trials · MCL 1m csv walk.csv"
    assert parent.name == begins
    assert parent.metrics["best_sharpe"] == (longer.best or {})["value"]
    assert rows(project, grown) == list(range(20))
    with pytest.raises(ConfigError, match="is already 20 trials; 15 would not extend it"):
        project.resume("growing", trials=15)


def test_learning_samplers_repeat_with_one_worker(project: Project) -> None:
    for sampler in ("tpe", "cmaes", "nsga2"):
        whole = project.sweep(
            f"search.sampler={sampler}", "search.trials=24", "strategy.fast=range(2,60)"
        )
        part = project.sweep(
            f"search.sampler={sampler}", "search.trials=13", "strategy.fast=range(2,60)"
        )
        grown = project.resume(part.sweep_id, trials=24)
        pd.testing.assert_frame_equal(grown.trials[COMPARED], whole.trials[COMPARED])


def test_a_finished_search_has_nothing_to_resume(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=random", "search.trials=6", "seed=8")
    again = project.resume(sweep_result.sweep_id)
    pd.testing.assert_frame_equal(again.trials, sweep_result.trials)
    assert (again.best or {})["run_id"] == (sweep_result.best or {})["run_id"]
    assert rows(project, again) == list(range(6))


def test_two_parents_are_refused(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=random", "search.trials=4")
    with place(project, sweep_result.sweep_id).claim():
        assert status.status(sweep_result.sweep_id, store=project.store)["state"] == "RUNNING"
        with pytest.raises(StoreError, match=rf"is being run by process {os.getpid()}"):
            project.resume(sweep_result.sweep_id)
    assert status.status(sweep_result.sweep_id, store=project.store)["state"] == "FINISHED"


def test_changed_data_are_named(project: Project) -> None:
    write_walk(project.root / "moving.csv")
    sweep_result = project.sweep("search.sampler=random", "search.trials=4", "data.path=moving.csv")
    write_walk(project.root / "moving.csv", seed=4)
    with pytest.raises(
        StoreError,
        match=(
            r"cannot continue, since its inputs are not what they were: the data"
            r" \(data_fingerprint was"
        ),
    ):
        project.resume(sweep_result.sweep_id, trials=8)
    assert project.store.run(sweep_result.sweep_id).status == "FINISHED"


def test_changed_code_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcl.tracking import provenance

    sweep_result = project.sweep("search.sampler=random", "search.trials=4")
    monkeypatch.setattr(provenance, "code_sha256", lambda _: "f" * 64)
    with pytest.raises(
        StoreError,
        match=r"the code that decides results \(code_sha256 was \w{12}, is ffffffffffff\)",
    ):
        project.resume(sweep_result.sweep_id, trials=8)


def test_changed_configuration_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(composition.conf_dir(), tmp_path / "conf")
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    write_walk(tmp_path / "walk.csv")
    own = Project(tmp_path, Store(tmp_path))
    sweep_result = own.sweep("search.sampler=random", "search.trials=4")
    assert len(Project(tmp_path, own.store).resume(sweep_result.sweep_id, trials=5).trials) == 5
    costs = tmp_path / "conf" / "costs" / "ib_tiered.yaml"
    costs.write_text(costs.read_text().replace("slippage_ticks: 1.0", "slippage_ticks: 2.0"))
    with pytest.raises(StoreError, match=r"costs\.slippage_ticks was 1\.0, is 2\.0"):
        Project(tmp_path, own.store).resume(sweep_result.sweep_id, trials=8)


def test_only_what_changes_no_trial_may_be_amended(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=random", "search.trials=4", "search.track=none")
    with pytest.raises(ConfigError, match="would change what a trial of this sweep is"):
        project.resume(sweep_result.sweep_id, trials=8, amendments=["search.min_trades=1"])
    grown = project.resume(sweep_result.sweep_id, trials=8, amendments=["search.workers=2"])
    assert len(grown.trials) == 8


def test_a_torn_journal_and_a_torn_log_are_made_whole(project: Project) -> None:
    whole = project.sweep("search.sampler=qmc", "search.trials=12")
    sweep_result = project.sweep("search.sampler=qmc", "search.trials=12")
    for kind, share in (("journal", 0.5), ("outcomes", 0.9)):
        path = place(project, sweep_result.sweep_id).file(kind)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)] + b"\0" * 100)
    again = project.resume(sweep_result.sweep_id)
    pd.testing.assert_frame_equal(again.trials[COMPARED], whole.trials[COMPARED])
    assert rows(project, again) == list(range(12))


def test_damage_in_the_middle_is_refused(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=qmc", "search.trials=4")
    path = place(project, sweep_result.sweep_id).file("outcomes")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    with pytest.raises(StoreError, match=r"line 2 of .* is damaged, with whole lines after it"):
        project.resume(sweep_result.sweep_id)


def test_stop_and_status_from_another_process(project: Project, tmp_path: Path) -> None:
    typed = overrides(
        "search.sampler=random",
        "search.trials=100000",
        "strategy.fast=range(1,5000)",
        "search.name=endless",
    )
    process = begin(project, tmp_path, *typed)
    wait_until(lambda: _running(project), process)
    answer = status.status("endless", store=project.store)
    assert (answer["state"], answer["target"], answer["pid"]) == ("RUNNING", 100_000, process.pid)
    reported, _ = status.report("endless", project=project)
    assert reported.status == "RUNNING"
    assert status.stop("endless", store=project.store)["stopping"]
    process.communicate(timeout=60)
    answer = status.status("endless", store=project.store)
    assert (answer["state"], answer["stopping"]) == ("KILLED", False)
    assert 0 < answer["done"] < 100_000
    parent = project.store.run(answer["sweep_id"])
    assert (parent.status, parent.tags["stopped"]) == ("KILLED", "stopped by hand")
    assert json.loads(place(project, "endless").file("card").read_text())["name"] == "endless"


def _running(project: Project) -> bool:
    try:
        return bool(status.status("endless", store=project.store).get("done", 0) > 0)
    except StoreError:
        return False


def test_the_report_of_a_finished_search_repeats_it(project: Project) -> None:
    sweep_result = project.sweep("search.sampler=qmc", "search.trials=12")
    sweep_result.report.unlink()
    reported, written = status.report(sweep_result.sweep_id, project=project)
    assert isinstance(reported, SweepResult)
    pd.testing.assert_frame_equal(reported.trials, sweep_result.trials)
    assert ((reported.best or {})["run_id"], reported.tables(), written) == (
        (sweep_result.best or {})["run_id"],
        sweep_result.tables(),
        None,
    )
    assert sweep_result.report.is_file()


def test_an_unknown_sweep_is_refused_by_name(project: Project) -> None:
    project.sweep("search.sampler=qmc", "search.trials=2", "search.name=baseline")
    with pytest.raises(StoreError, match="did you mean 'baseline'"):
        status.status("baselin", store=project.store)
