"""Kill a search 50 times with SIGKILL at random points, parent and workers, and resume it each time. Exits with 1 on any difference.

Every search must end with exactly its target of trials, none twice in the store, and the same table and best as an undisturbed one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_search import FIXED, write_walk

CHILD = """
import sys
from pathlib import Path
from mcl import config, search
from mcl.tracking import Store

if __name__ == "__main__":
    root = Path(sys.argv[1])
    if sys.argv[2] == "resume":
        search.resume(sys.argv[3], store=Store(root), root=root)
    else:
        search.sweep(config.compose("sweep", sys.argv[2:]), store=Store(root), root=root)
"""
COMPARED = ["trial", "strategy.fast", "strategy.slow", "state", "reason", "value", "net_pnl_usd"]
TRIALS = 300


def overrides(sampler: str, workers: int) -> list[str]:
    axes = ["strategy.fast=range(2,32)", "strategy.slow=range(40,140,10)"]
    return [*FIXED, "data.path=small.csv", *axes, f"search.sampler={sampler}", f"search.trials={TRIALS}", f"search.workers={workers}"]


def killed(root: Path, script: Path, arguments: list[str], chance: random.Random) -> bool:
    """Run a process and kill it, or all of its group, somewhere; False when it came to its end before."""
    process = subprocess.Popen([sys.executable, str(script), str(root), *arguments], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=chance.uniform(1.5, 6.0))
    except subprocess.TimeoutExpired:
        whole = chance.random() < 0.5
        os.killpg(process.pid, signal.SIGKILL) if whole else os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def main() -> int:
    from mcl import config, search
    from mcl.tracking import Store

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="mcl-kill-") as name:
        root = Path(name)
        os.environ["MCL_HOME"] = name
        write_walk(root / "small.csv", sessions=20, bars=390)
        script = root / "child.py"
        script.write_text(CHILD)
        store = Store(root)
        whole = {s: search.sweep(config.compose("sweep", overrides(s, 1)), store=store, root=root) for s in ("grid", "qmc")}
        kills = searches = 0
        while kills < arguments.kills:
            sampler, workers = chance.choice(["grid", "qmc"]), chance.choice([1, 2])
            before = {path.name for path in store.folder.glob("sweeps/*.card")}
            kills += killed(root, script, overrides(sampler, workers), chance)
            begun = {path.name for path in store.folder.glob("sweeps/*.card")} - before
            if not begun:
                continue  # killed before there was a search
            sweep_id = begun.pop().removesuffix(".card")
            while kills < arguments.kills and killed(root, script, ["resume", sweep_id], chance):
                kills += 1
            time.sleep(0.2)
            swept = search.resume(sweep_id, store=Store(root), root=root)
            rows = sorted(int(r.tags["trial"]) for r in store.children(sweep_id) if r.tags["mcl.kind"] == "trial")
            same = swept.trials[COMPARED].equals(whole[sampler].trials[COMPARED])
            best = (swept.best or {})["trial"] == (whole[sampler].best or {})["trial"]
            searches += 1
            print(f"{kills:3d} kills, search {searches}: {sampler}, {workers} workers, {len(rows)} rows, equal {same and best}", flush=True)
            if rows != list(range(TRIALS)) or not same or not best:
                return 1
        print(f"{kills} kills over {searches} searches: every one ended as if undisturbed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
