"""Kill a search 50 times with SIGKILL at random points, parent and workers, and resume it each
time. Exits with 1 on any difference.

Every search must end with exactly its target of trials, none twice in the store, and the same table
and best as an undisturbed one. Samplers that learn do so with one worker only: with more, the order
in which trials end has a say.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_search import FIXED, write_walk

if TYPE_CHECKING:
    from mcl.search.result import SweepResult

CHILD = """
import sys
from pathlib import Path
from mcl import composition, search
from mcl.tracking.project import Project

if __name__ == "__main__":
    root = Path(sys.argv[1])
    if sys.argv[2] == "resume":
        search.resume(sys.argv[3], project=Project.at(root))
    else:
        search.sweep(composition.compose("sweep", sys.argv[2:]), project=Project.at(root))
"""
COMPARED = ["trial", "strategy.fast", "strategy.slow", "state", "reason", "value", "net_pnl_usd"]
TRIALS = 600
MOST_AGAIN = 3  # kills of one search after its first
NUMBERED, LEARNING = ("grid", "qmc", "random"), ("cmaes", "tpe", "nsga2")


def overrides(sampler: str, workers: int) -> list[str]:
    axes = ["strategy.fast=range(2,32)", "strategy.slow=range(40,240,10)"]
    return [
        *FIXED,
        "data.path=small.csv",
        *axes,
        f"search.sampler={sampler}",
        f"search.trials={TRIALS}",
        f"search.workers={workers}",
    ]


def killed(root: Path, script: Path, arguments: list[str], chance: random.Random) -> str:
    """Run a process and kill somebody: the parent, one of its workers, or its whole group; who it
    was, or nothing when it came to its end before. Half of the kills come at any time after the
    start, the other half soon after an outcome was written.
    """
    folder = root / "mlruns" / "sweeps"
    process = subprocess.Popen(
        [sys.executable, str(script), str(root), *arguments],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    if chance.random() < 0.5:
        before = size(folder)
        while process.poll() is None and size(folder) == before:
            time.sleep(0.005)
        patience = chance.uniform(0.0, 0.5)
    else:
        patience = chance.uniform(0.5, 6.0)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=patience)
        return ""
    who = chance.choice(["parent", "group", "worker"])
    if who == "worker" and (workers := children(process.pid)):
        os.kill(chance.choice(workers), signal.SIGKILL)
        # the search continues; then the parent goes, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.0, 1.0))
            return who
    with contextlib.suppress(ProcessLookupError):
        (
            os.killpg(process.pid, signal.SIGKILL)
            if who == "group"
            else os.kill(process.pid, signal.SIGKILL)
        )
    process.wait()
    return who


def plain_sweep(root: Path, sampler: str) -> SweepResult:
    """A search that nobody kills."""
    from mcl import composition, search
    from mcl.search.result import SweepResult
    from mcl.tracking.project import Project

    composed = composition.compose("sweep", overrides(sampler, 1))
    result = search.sweep(composed, project=Project.at(root))
    assert isinstance(result, SweepResult)
    return result


def differences(swept: SweepResult, whole: SweepResult, rows: list[int]) -> str:
    """What is not as in the undisturbed search: its rows in the store, a trial, the best."""
    if rows != list(range(TRIALS)):
        missing, twice = set(range(TRIALS)) - set(rows), [n for n in set(rows) if rows.count(n) > 1]
        return (
            f"{len(missing)} rows missing, such as {sorted(missing)[:3]}; twice: {twice[:3]}; the"
            f" search ended {swept.status} {swept.why}"
        )
    if len(swept.trials) != TRIALS:
        return f"{len(swept.trials)} trials in the table"
    is_now, was = swept.trials[COMPARED], whole.trials[COMPARED]
    unlike = ~((is_now == was) | (is_now.isna() & was.isna())).all(axis=1)
    if unlike.any():
        return (
            f"unlike the undisturbed: {is_now[unlike].head(3).to_dict('records')}, not"
            f" {was[unlike].head(3).to_dict('records')}"
        )
    return (
        ""
        if (swept.best or {})["trial"] == (whole.best or {})["trial"]
        else f"best is {swept.best}"
    )


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.outcomes"))


def children(parent: int) -> list[int]:
    """The processes that this one has begun, and theirs: workers, and the server that forks
    them.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(parent).children(recursive=True)]
    return []


def main() -> int:
    from mcl import search
    from mcl.search.result import SweepResult
    from mcl.tracking.project import Project
    from mcl.tracking.store import Store

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="no search is begun after so long"
    )
    parser.add_argument(
        "--samplers", nargs="+", choices=NUMBERED + LEARNING, default=["grid", "qmc"]
    )
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="mcl-kill-") as name:
        root = Path(name)
        os.environ["MCL_HOME"] = name
        write_walk(root / "small.csv", sessions=20, bars=390)
        script = root / "child.py"
        script.write_text(CHILD)
        store = Store(root)
        whole = {s: plain_sweep(root, s) for s in arguments.samplers}
        kills = searches = 0
        end = time.monotonic() + arguments.minutes * 60
        while kills < arguments.kills and time.monotonic() < end:
            sampler = chance.choice(arguments.samplers)
            workers = 1 if sampler in LEARNING else chance.choice([1, 2])
            before = {path.name for path in store.folder.glob("sweeps/*.card")}
            kills += bool(killed(root, script, overrides(sampler, workers), chance))
            begun = {path.name for path in store.folder.glob("sweeps/*.card")} - before
            if not begun:
                continue  # killed before there was a search
            sweep_id = begun.pop().removesuffix(".card")
            for _ in range(chance.randint(0, MOST_AGAIN)):
                if kills >= arguments.kills or not killed(
                    root, script, ["resume", sweep_id], chance
                ):
                    break
                kills += 1
            time.sleep(0.2)
            swept = search.resume(sweep_id, project=Project.at(root))
            assert isinstance(swept, SweepResult)
            rows = sorted(
                int(r.tags["trial"])
                for r in store.children(sweep_id)
                if r.tags["mcl.kind"] == "trial"
            )
            wrong = differences(swept, whole[sampler], rows)
            searches += 1
            print(
                f"{kills:3d} kills, search {searches}: {sampler}, {workers} workers, {len(rows)}"
                f" rows, {wrong or 'equal'}",
                flush=True,
            )
            if wrong:
                return 1
        print(f"{kills} kills over {searches} searches: every one ended as if undisturbed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
