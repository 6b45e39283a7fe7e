"""Ctrl-C, a killed parent, a torn journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcl.search import trial_log
from mcl.search.interrupt import interruptible
from mcl.search.json_lines import JsonLinesFile

from .conftest import SMALL, Project

SCRIPT = """
import sys
from pathlib import Path
from mcl import composition, search
from mcl.tracking.project import Project

if __name__ == "__main__":
    root = Path(sys.argv[1])
    composed = composition.compose("sweep", sys.argv[2:])
    swept = search.sweep(composed, project=Project.at(root), progress=True)
    print("SWEPT", swept.sweep_id, len(swept.trials), swept.interrupted, flush=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_was_told(project: Project, tmp_path: Path, workers: int) -> None:
    script = tmp_path / "sweeping.py"
    script.write_text(SCRIPT)
    arguments = [
        *SMALL,
        "search.sampler=random",
        "search.trials=100000",
        "strategy.fast=range(1,2000)",
        f"search.workers={workers}",
    ]
    process = subprocess.Popen(
        [sys.executable, str(script), str(project.root), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MCL_HOME": str(project.root)},
        start_new_session=True,
    )
    journals = project.root / "mlruns" / "sweeps"
    earlier_journals = set(journals.glob("*.journal"))
    wait_for(
        lambda: any(
            p.stat().st_size > 20_000 for p in set(journals.glob("*.journal")) - earlier_journals
        ),
        process,
    )
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    _, sweep_id, count, interrupted = out.split()
    parent = project.store.run(sweep_id)
    assert (parent.status, interrupted) == ("KILLED", "True")
    trials = [run for run in project.store.children(sweep_id) if run.tags["mcl.kind"] == "trial"]
    assert len(trials) == int(count) > 0
    assert len(trial_log.read(journals / f"{sweep_id}.outcomes")) == len(trials)
    assert parent.file("sweep.html")


def wait_for(condition: object, process: subprocess.Popen[str], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"the sweep did not get going: {process.communicate()[1][-2000:]}")
        time.sleep(0.02)


def test_the_second_ctrl_c_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = JsonLinesFile(path)
    journal.append([{"op": 1}, {"op": 2}])
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"op": 3, "pa')
    again = JsonLinesFile(path)
    assert again.read() == [{"op": 1}, {"op": 2}]
    again.append([{"op": 4}])
    again.close()
    whole = JsonLinesFile(path)
    assert whole.read() == [{"op": 1}, {"op": 2}, {"op": 4}]
    whole.close()
