"""A run store that is locked, and a disk that is full, in the middle of a search: a sentence, and
nothing told is lost.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from mcl.base.errors import StoreError
from mcl.search import trial_log
from mcl.tracking import sqlite_writer

from .conftest import SMALL, Project

COMPARED = ["trial", "strategy.fast", "strategy.slow", "state", "reason", "value", "net_pnl_usd"]
TYPED = ["search.sampler=qmc", "search.trials=40"]
SCRIPT = """
import resource, signal, sys
from pathlib import Path
from mcl import composition, search
from mcl.search.trial_log import TrialLog
from mcl.tracking.project import Project

class Filling(TrialLog):
    def add(self, outcome, window=1):
        if outcome.number == 20:
            # from here on no file of this process may grow beyond the size of the trial log
            size = self._lines._path.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        super().add(outcome, window)

if __name__ == "__main__":
    from mcl.search import runner as core
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    core.TrialLog = Filling
    root = Path(sys.argv[1])
    try:
        search.sweep(composition.compose("sweep", sys.argv[2:]), project=Project.at(root))
    except Exception as error:
        print(type(error).__name__, error)
"""


def numbers(project: Project, sweep_id: str) -> list[int]:
    return sorted(
        int(run.tags["trial"])
        for run in project.store.children(sweep_id)
        if run.tags["mcl.kind"] == "trial"
    )


def test_a_locked_store_stops_the_search_and_costs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = project.sweep(*TYPED)
    monkeypatch.setattr(sqlite_writer, "WAIT_SEC", 0.2)
    begin, connections = project.store.start, []

    def then_lock(record: object) -> str:
        sweep_id = begin(record)  # type: ignore[arg-type]
        other = sqlite3.connect(project.store.folder / "mlflow.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        connections.append((sweep_id, other))
        # MLflow's client would wait for its own, longer time
        monkeypatch.setattr("mcl.search.runner.abandon", lambda *_: None)
        return sweep_id

    monkeypatch.setattr(project.store, "start", then_lock)
    with pytest.raises(StoreError, match="database is locked"):
        project.sweep(*TYPED)
    sweep_id, other = connections[0]
    with closing(other):
        other.execute("ROLLBACK")
    monkeypatch.undo()
    monkeypatch.setenv("MCL_HOME", str(project.root))
    assert sorted(
        trial_log.read(project.root / "mlruns" / "sweeps" / f"{sweep_id}.outcomes")
    ) == list(range(40))
    assert numbers(project, sweep_id) == []
    again = project.resume(sweep_id)
    pd.testing.assert_frame_equal(again.trials[COMPARED], whole.trials[COMPARED])
    assert numbers(project, sweep_id) == list(range(40))


def test_a_full_disk_stops_the_search_with_a_sentence_and_it_goes_on(
    project: Project, tmp_path: Path
) -> None:
    script = tmp_path / "filling.py"
    script.write_text(SCRIPT)
    small = [o for o in SMALL if not o.startswith("search.trials")]
    command = [sys.executable, str(script), str(project.root), *small, *TYPED, "search.name=full"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"MCL_HOME": str(project.root)},
        timeout=120,
        check=True,
    )
    assert "StoreError cannot write" in done.stdout, done.stdout + done.stderr
    assert "File too large" in done.stdout
    whole = project.sweep(*TYPED)
    again = project.resume("full")
    pd.testing.assert_frame_equal(again.trials[COMPARED], whole.trials[COMPARED])
    assert numbers(project, again.sweep_id) == list(range(40))
