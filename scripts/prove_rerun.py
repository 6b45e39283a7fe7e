"""Runs of all strategies, simulated again in other processes with other numbers of threads:
bit-equal, or the proof fails.

    python scripts/prove_rerun.py                 50 random configurations, each of them again with
                                                  1, 2 and 4 threads
    python scripts/prove_rerun.py --runs 18       at least one of each strategy

The runs are made in a temporary project on the generated world, drawn over strategies, their search
spaces, sizing, costs, execution and bar intervals. Every repetition is a fresh Python with its own
hash seed and thread counts, which reads the configuration of the stored run and nothing else.
Compared are all metrics, bit by bit, and the hash of every fill and of the equity curve.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processor import spent

REPOSITORY = Path(__file__).resolve().parents[1]
THREADS = (1, 2, 4)
POOLS = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ARROW_NUM_THREADS",
)
CHOICES = {
    "data": ("data=planted", "data=synthetic"),
    "interval": ("data.interval=1m", "data.interval=5m", "data.interval=15m"),
    "roll": ("data.roll.rule=volume", "data.roll.rule=calendar", "data.roll.adjust=ratio"),
    "risk": ("risk=fixed", "risk=vol_target", "risk=atr_unit", "risk=bracket"),
    "costs": ("costs=ib_tiered", "costs=pessimistic", "costs=free"),
    "execution": ("execution=market", "execution=limit", "execution=stop"),
}

# quotes of a generated world are made session by session
NEEDS = {"order_flow": ("data.quotes=1", "data.start=2024-02-01", "data.end=2024-03-01")}


def drawn(strategy: str, rng: random.Random) -> list[str]:
    """One command line with a random choice of every group."""
    return [
        f"strategy={strategy}",
        *NEEDS.get(strategy, ()),
        *(rng.choice(options) for options in CHOICES.values()),
        f"seed={rng.randrange(1000)}",
        "study=proof",
    ]


def make(count: int, seed: int, home: Path) -> dict[str, str]:
    """Run `count` random configurations and record them; what was typed, by run id."""
    from mcl import composition, strategy
    from mcl.base.errors import MclError
    from mcl.tracking import backtest_run
    from mcl.tracking.project import Project
    from mcl.tracking.store import Store

    rng, store = random.Random(seed), Store(home)
    made: dict[str, str] = {}
    names = sorted(strategy.builtin())
    while len(made) < count:
        typed = drawn(names[len(made) % len(names)], rng)
        try:
            done = backtest_run.backtest(
                composition.compose("backtest", typed).config,
                project=Project(home, store),
                overrides=typed,
                report=False,
            )
        # a combination that does not exist, for instance a session rule on no limit order
        except MclError as error:
            print(f"  not a configuration: {' '.join(typed)}: {error.message}", file=sys.stderr)
            continue
        made[done.run_id] = " ".join(typed)
    return made


def again(run_ids: list[str]) -> dict[str, dict[str, str]]:
    """Metrics as hexadecimal floats, and hashes of fills and equity, of each run simulated now."""
    from mcl.base import files
    from mcl.tracking import backtest_run
    from mcl.tracking.store import Store

    root, out = files.root(), {}
    store = Store(root)
    for run_id in run_ids:
        repeated = backtest_run.replay(store.run(run_id), root)
        result = repeated.result
        arrays = {"hash of fills": result.fills, "hash of equity": result.equity}
        hashed = {
            name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in arrays.items()
        }
        out[run_id] = {
            name: float(value).hex() for name, value in repeated.metrics.items()
        } | hashed
    return out


def elsewhere(run_ids: list[str], threads: int, home: Path) -> dict[str, dict[str, str]]:
    """`again` in a fresh process with that many threads and a hash seed of its own."""
    env = (
        os.environ
        | {"MCL_HOME": str(home), "PYTHONHASHSEED": str(threads * 7919)}
        | dict.fromkeys(POOLS, str(threads))
    )
    command = [sys.executable, __file__, "--again"]
    done = subprocess.run(
        command,
        input=json.dumps(run_ids),
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"a repetition with {threads} threads failed:\n{done.stderr[-2000:]}")
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def stored(run_ids: list[str], home: Path) -> dict[str, dict[str, str]]:
    """What the store says of each run, in the form of `again`."""
    from mcl.tracking.store import Store

    store = Store(home)
    return {
        run_id: {name: float(value).hex() for name, value in store.run(run_id).metrics.items()}
        for run_id in run_ids
    }


def prove(count: int, seed: int, home: Path) -> int:
    """The number of (run, thread count) pairs that were not bit-equal."""
    began = time.perf_counter()
    made = make(count, seed, home)
    print(
        f"{len(made)} runs of {len({t.split()[0] for t in made.values()})} strategies made in"
        f" {time.perf_counter() - began:.0f} s"
    )
    first, wrong = stored(list(made), home), 0
    reference: dict[str, dict[str, str]] = {}
    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        found = list(
            side_by_side.map(lambda threads: elsewhere(list(made), threads, home), THREADS)
        )
    print(f"repeated in {len(THREADS)} processes in {time.perf_counter() - began:.0f} s")
    for threads, repeated in zip(THREADS, found, strict=True):
        reference = reference or repeated
        bad = 0
        for run_id, now in repeated.items():
            known = first[run_id]
            moved = [
                n
                for n in now
                if now[n] != reference[run_id][n] or (n in known and known[n] != now[n])
            ]
            if moved:
                bad += 1
                print(f"  {made[run_id]}: {', '.join(moved[:5])} differ with {threads} threads")
        print(f"{threads} threads: {len(repeated) - bad} of {len(repeated)} bit-equal")
        wrong += bad
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.again:
        print(json.dumps(again(json.load(sys.stdin))))
        return 0
    with tempfile.TemporaryDirectory(prefix="mcl-proof-") as name:
        shutil.copytree(REPOSITORY / "conf", Path(name) / "conf")
        os.environ["MCL_HOME"] = name
        wrong = prove(args.runs, args.seed, Path(name))
    print(
        f"{'every repetition is bit-equal' if not wrong else f'{wrong} repetitions differ'} ·"
        f" {spent()}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
