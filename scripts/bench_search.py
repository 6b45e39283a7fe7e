"""How fast is a search, with every trial a tracked run? Run by `make bench`; prints the figures and
exits with 1 when one misses its bound while nothing else runs.

overhead   CPU time of a trial beyond its backtest (signal, simulation, all metrics), with 14
           parameters and 40 metrics, every trial a child run in a local SQLite store: mean over
           1,000 trials for random, qmc, cmaes and tpe; beside it an MLflow run per job through
           stock Hydra multirun. Both are slopes between fewer and more, so that start-up is out
speed      200 EMA combinations on 850,000 bars, tracked, with one worker and with two
size       10,000 tracked trials: sorting them by a metric as the MLflow UI asks for it, and `mcl
           sweep report`
start      from the process's start to the first outcome on disk

Everything runs in a temporary project; absolute figures depend on the machine, the ratio to the
stock design is of the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from processor import repeated

# cmaes and tpe: what Optuna's own samplers cost
BOUNDS_MS = {"random": 2.0, "qmc": 2.0, "cmaes": 6.0, "tpe": 40.0}
SPEED = {1: 60.0, 2: 100.0}  # trials a second by workers
SORT_SEC, REPORT_SEC, START_SEC = 1.0, 5.0, 4.0
FIXED = (
    "data=csv",
    "data.stamped_at=close",
    "data.timezone=UTC",
    "strategy=ema_cross",
    "risk=fixed",
    "search.min_trades=0",
)
FOURTEEN = (
    "strategy.fast=range(2,100)",
    "strategy.slow=range(101,400)",
    "costs.slippage_ticks=interval(0,2)",
    "costs.commission_usd=interval(0,2)",
    "capital_usd=interval(20000,100000)",
    "risk.size.contracts=float(range(1,6))",
    "risk.limits.max_position=range(1,10)",
    "risk.limits.max_order=range(2,20)",
    "risk.limits.max_trades_per_session=range(50,500)",
    "risk.limits.max_daily_loss_usd=interval(1000,5000)",
    "risk.limits.max_drawdown_frac=interval(0.3,0.9)",
    "risk.limits.no_entry_before_close_sec=range(0,1800,60)",
    "risk.limits.flatten_before_close_sec=range(0,600,60)",
    "seed=range(0,1000)",
)
STOCK = """
import hydra, mlflow, sys
from omegaconf import DictConfig, OmegaConf

@hydra.main(version_base="1.3", config_path=sys.argv.pop(1), config_name="backtest")
def job(cfg: DictConfig) -> float:
    mlflow.set_tracking_uri(sys.argv_uri)
    mlflow.set_experiment("stock")
    strategy = OmegaConf.to_container(cfg.strategy, resolve=True)
    flat = {k: str(v) for k, v in strategy.items()} | {f"p{i}": i for i in range(12)}
    with mlflow.start_run():
        mlflow.log_params(flat)
        mlflow.log_metrics({f"m{i}": float(i) for i in range(40)})
        mlflow.log_text("x" * 2000, "config.yaml")
        mlflow.log_text("x" * 2000, "fills.json")
    return 0.0

sys.argv_uri = sys.argv.pop(1)
job()
"""


def write_walk(path: Path, sessions: int, bars: int, seed: int = 1) -> None:
    """Minute bars of one dated-less series: `bars` a session from 18:01 New York winter time,
    prices on the tick grid.
    """
    rng = np.random.default_rng(seed)
    n = sessions * bars
    day = np.repeat(pd.bdate_range("2010-01-04", periods=sessions, tz="UTC").to_numpy(), bars)
    time_ = pd.DatetimeIndex(day) + pd.to_timedelta(
        np.tile(np.arange(1, bars + 1), sessions), unit="min"
    )
    close = 7_000 + np.cumsum(rng.integers(-2, 3, n))
    close = np.where(close < 500, 1000 - close, close)
    opened = np.concatenate([[close[0]], close[:-1]])
    high, low = np.maximum(opened, close) + 1, np.minimum(opened, close) - 1
    frame = {
        name: ticks / 100
        for name, ticks in (("open", opened), ("high", high), ("low", low), ("close", close))
    }
    pd.DataFrame({"time": time_.strftime("%Y-%m-%dT%H:%M:%SZ"), **frame, "volume": 10}).to_csv(
        path, index=False, float_format="%.2f"
    )


@contextmanager
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcl-bench-") as name:
        os.environ["MCL_HOME"] = name
        yield Path(name)


def overhead(root: Path, sampler: str, trials: int) -> tuple[float, float]:
    """CPU milliseconds a trial (beyond its backtest, of its backtest): slopes between a tenth of
    the trials and all, so that start and end are out, after a small search that has warmed up what
    either needs.
    """
    few, many = max(2, trials // 10), trials
    searched(root, sampler, few)
    first, last = searched(root, sampler, few), searched(root, sampler, many)
    beyond, within = (
        (late - early) / (many - few) * 1000 for early, late in zip(first, last, strict=True)
    )
    return beyond, within


def searched(root: Path, sampler: str, trials: int) -> tuple[float, float]:
    """CPU seconds of a whole search (beyond its backtests, within them), all threads. A backtest is
    signal, simulation and all metrics; it is timed where it happens, in the same run.
    """
    from mcl import composition, search
    from mcl.tracking.project import Project

    typed = [
        *FIXED,
        "data.path=small.csv",
        *FOURTEEN,
        f"search.sampler={sampler}",
        f"search.trials={trials}",
        f"study={sampler}",
    ]
    composed = composition.compose("sweep", typed)
    with backtests_timed() as spent:
        start = time.process_time()
        search.sweep(composed, project=Project.at(root))
        whole = time.process_time() - start
    within = sum(spent.values())
    return whole - within, within


@contextmanager
def backtests_timed() -> Iterator[dict[str, float]]:
    """CPU seconds of this thread in the three calls that a backtest consists of."""
    from mcl.engine import backtest as engine
    from mcl.search import trial

    spent: dict[str, float] = defaultdict(float)
    calls: list[tuple[Any, str]] = [(engine, "plan"), (engine, "simulate"), (trial, "summary")]
    before = [getattr(module, name) for module, name in calls]

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.thread_time() - start

        return run

    for (module, name), call in zip(calls, before, strict=True):
        setattr(module, name, timed(name, call))
    try:
        yield spent
    finally:
        for (module, name), call in zip(calls, before, strict=True):
            setattr(module, name, call)


def stock(root: Path, few: int, many: int) -> float:
    """CPU milliseconds a job of Hydra's own multirun with an MLflow run in it."""
    from mcl import composition

    script = root / "stock.py"
    script.write_text(STOCK)
    uri = f"sqlite:///{root / 'stock.db'}"
    seconds = []
    for count in (1, few, many):  # the first makes the store
        values = ",".join(str(100 + i) for i in range(count))
        command = [
            sys.executable,
            str(script),
            str(composition.conf_dir()),
            uri,
            "-m",
            f"strategy.slow={values}",
        ]
        start = _of_children()
        subprocess.run(
            command,
            cwd=root,
            check=True,
            capture_output=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        seconds.append(_of_children() - start)
    return (seconds[2] - seconds[1]) / (many - few) * 1000


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def speed(root: Path, workers: int) -> float:
    """Tracked trials a second of a 20 x 10 grid on the large file."""
    from mcl import composition, search
    from mcl.search import status
    from mcl.tracking.project import Project
    from mcl.tracking.store import Store

    axes = ["strategy.fast=range(10,210,10)", "strategy.slow=range(240,1240,100)"]
    typed = [
        *FIXED,
        "data.path=large.csv",
        *axes,
        "search.sampler=grid",
        "search.trials=200",
        f"search.workers={workers}",
    ]
    swept = search.sweep(composition.compose("sweep", typed), project=Project.at(root))
    return float(status.status(swept.sweep_id, store=Store(root))["trials_per_sec"])


def size(root: Path, trials: int) -> tuple[float, float]:
    """Seconds to sort `trials` runs by a metric, and to make the report of their sweep."""
    from mlflow import MlflowClient

    from mcl import composition, search
    from mcl.search import status
    from mcl.tracking.project import Project

    axes = ["strategy.fast=range(2,300)", "strategy.slow=range(301,900)"]
    typed = [
        *FIXED,
        "data.path=small.csv",
        *axes,
        "search.sampler=qmc",
        f"search.trials={trials}",
        "study=large",
    ]
    project = Project.at(root)
    swept = search.sweep(composition.compose("sweep", typed), project=project)
    client = MlflowClient(project.store.uri)
    experiment = client.get_experiment_by_name("large")
    assert experiment is not None
    study = experiment.experiment_id
    start = time.perf_counter()
    client.search_runs([study], order_by=["metrics.sharpe DESC"], max_results=100)
    sorting = time.perf_counter() - start
    start = time.perf_counter()
    status.report(swept.sweep_id, project=project)
    return sorting, time.perf_counter() - start


def first_trial(root: Path) -> float:
    """Seconds from the start of the process to the first outcome on disk, everything compiled
    before.
    """
    folder = root / "mlruns" / "sweeps"
    before = set(folder.glob("*.outcomes"))
    typed = [
        "sweep",
        *FIXED,
        "data.path=small.csv",
        *FOURTEEN[:2],
        "search.sampler=random",
        "search.trials=20",
        "study=start",
    ]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mcl", "--quiet", *typed], stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        if any(path.stat().st_size for path in set(folder.glob("*.outcomes")) - before):
            break
        time.sleep(0.005)
    seconds = time.perf_counter() - start
    process.wait()
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument(
        "--sessions", type=int, default=620, help="of 1,371 bars: 620 are 850,000 bars"
    )
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=["overhead", "speed", "size", "start"])
    arguments = parser.parse_args()
    return repeated(partial(measured, arguments))


def measured(arguments: argparse.Namespace) -> bool:
    """Print every figure; whether all bounds are kept."""
    missed = []

    def line(what: str, value: float, unit: str, bound: float, *, least: bool = False) -> None:
        good = value >= bound if least else value <= bound
        missed.extend([] if good else [what])
        print(
            f"{what:44s}{value:10.2f} {unit:10s}{'at least' if least else 'at most'}"
            f" {bound:g}{'' if good else '   MISSED'}",
            flush=True,
        )

    def overheads(root: Path) -> None:
        other = stock(root, 4, 24)
        print(
            f"{'an MLflow run per job, stock Hydra multirun':44s}{other:10.2f} ms/job", flush=True
        )
        for sampler, bound in BOUNDS_MS.items():
            own, within = overhead(root, sampler, arguments.trials)
            print(
                f"{f'a backtest with all metrics, {sampler}':44s}{within:10.2f} ms CPU", flush=True
            )
            line(
                f"overhead of {sampler} (stock is {other / own:.0f} times that)",
                own,
                "ms/trial",
                bound,
            )

    def speeds(root: Path) -> None:
        write_walk(root / "large.csv", sessions=arguments.sessions, bars=1371)
        speed(root, 1)  # reads the file and compiles
        # begins the server that forks the workers, which a new process does while it composes and
        # loads
        speed(root, 2)
        for workers, bound in SPEED.items():
            line(
                f"200 EMA combinations, {workers} worker{'s'[: workers - 1]}",
                speed(root, workers),
                "trials/s",
                bound,
                least=True,
            )

    def sizes(root: Path) -> None:
        sorting, reporting = size(root, arguments.size)
        line(f"{arguments.size:,} trials sorted by a metric", sorting, "s", SORT_SEC)
        line(f"mcl sweep report of {arguments.size:,} trials", reporting, "s", REPORT_SEC)

    def starts(root: Path) -> None:
        first_trial(root)  # compiles
        line("from start to first trial", first_trial(root), "s", START_SEC)

    parts = {"overhead": overheads, "speed": speeds, "size": sizes, "start": starts}
    with project() as root:
        write_walk(root / "small.csv", sessions=20, bars=390)
        for name in arguments.only or parts:
            parts[name](root)
    print(f"missed: {', '.join(missed)}" if missed else "within all bounds")
    return not missed


if __name__ == "__main__":
    sys.exit(main())
