"""What more workers and more hosts bring: trials a second with 1, 2 and 4 workers here, and a
calculated table up to 1,000.

workers     a real search with processes of this machine and with Ray actors, every trial a tracked
            run in SQLite
parent      the one process that asks the sampler, keeps the study, the outcomes and the rows: the
            same search with workers that answer at once (they repeat what the real ones found), so
            that what is left is the parent's own limit; for each place of the study (a file,
            PostgreSQL) and of the rows (none, SQLite, an MLflow server on PostgreSQL with its HTTP
            requests, and the tables of that PostgreSQL itself)
ray         what waiting for one of N actors costs the parent, N up to 1,000
table       workers / seconds of a trial, but no more than the parent can do, and whose limit that
            is. A calculation, not a measurement: no network and no other host are in it.

Ray (the extra `ray`), PostgreSQL (`initdb` on the PATH, the extra `postgres`): what is missing is
said and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from bench_search import FIXED, project, write_walk
from servers import mlflow, postgresql, without_postgresql

REPEATS = 3  # of each measurement; the best counts, and the table shows how far they lie apart
TABLE = (16, 32, 64, 128, 256, 512, 1000)
AXES = ("strategy.fast=range(2,200)", "strategy.slow=range(240,1240,10)", "search.sampler=qmc")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale-out.md"
MARKS = ("<!-- figures: make bench-scale -->", "<!-- end -->")
Say = Callable[[str], None]
HAS_RAY = importlib.util.find_spec("ray") is not None


@dataclass
class Answering:
    """Workers that know every outcome and need no time."""

    known: dict[int, Any]
    capacity: int
    waiting: deque[int] = field(default_factory=deque)

    def submit(self, number: int, params: dict[str, Any]) -> None:
        del params
        self.waiting.append(number)

    def take(self) -> Any:
        return self.known[self.waiting.popleft()]

    def close(self) -> None:
        self.waiting.clear()


@dataclass(frozen=True)
class Bench:
    root: Path
    trials: int

    def search(self, *typed: str) -> tuple[Any, float]:
        """A search and its trials a second, from the first answer of a worker to the last row, less
        the end that every search has once.
        """
        from mcl import composition, search
        from mcl.search.runner import _Search
        from mcl.tracking.project import Project

        spent, real = [], _Search._trials

        def timed(self: Any, *args: Any) -> None:
            start = time.perf_counter()
            real(self, *args)
            spent.append(time.perf_counter() - start)

        composed = composition.compose(
            "sweep", [*FIXED, "data.path=walk.csv", *AXES, f"search.trials={self.trials}", *typed]
        )
        with patch.object(_Search, "_trials", timed):
            swept = search.sweep(composed, project=Project.at(self.root))
        return swept, self.trials / spent[0]

    def known(self) -> dict[int, Any]:
        """The outcomes of a real search, by number; everything is compiled afterwards."""
        from mcl.search import trial_log

        swept, _ = self.search("search.track=none")
        return trial_log.read(self.root / "mlruns" / "sweeps" / f"{swept.sweep_id}.outcomes")

    def steady(self, backend: str, workers: int) -> float:
        """Trials a second between the first and the last outcome: a search of an hour does not care
        how long its workers took to start.
        """
        from mcl import composition, search
        from mcl.search.ask_tell import Loop
        from mcl.tracking.project import Project

        stamps: list[float] = []
        real = Loop._tell

        def stamped(self: Any, outcome: Any) -> Any:
            stamps.append(time.perf_counter())
            return real(self, outcome)

        typed = [*FIXED, "data.path=walk.csv", *AXES, f"search.trials={self.trials}"]
        composed = composition.compose(
            "sweep", [*typed, f"search.backend={backend}", f"search.workers={workers}"]
        )
        with patch.object(Loop, "_tell", stamped):
            search.sweep(composed, project=Project.at(self.root))
        return (len(stamps) - 1) / (stamps[-1] - stamps[0])

    def alone(self, known: dict[int, Any], *typed: str) -> list[float]:
        """Milliseconds of the parent per trial when no worker makes it wait: of each repetition,
        the least first.
        """
        from mcl.search.runner import _Search

        with patch.object(_Search, "_workers", lambda *_: Answering(known, 64)):
            return sorted(1000 / self.search(*typed)[1] for _ in range(REPEATS))


def workers(bench: Bench, say: Say) -> float:
    """Says what 1, 2 and 4 workers do; seconds of a trial with one process."""
    say(
        "| workers | trials/s with processes | | trials/s with Ray actors |"
        " |\n|---|---|---|---|---|"
    )
    found: dict[str, dict[int, float]] = {}
    for backend in ("local", *(("ray",) if HAS_RAY else ())):
        with ray_here(4) if backend == "ray" else ExitStack():
            found[backend] = {count: bench.steady(backend, count) for count in (1, 2, 4)}
    for count in (1, 2, 4):
        cells = [
            f"{rates[count]:,.1f} | {rates[count] / rates[1]:.2f} ×" for rates in found.values()
        ]
        say(f"| {count} | {' | '.join(cells)} |{'' if HAS_RAY else ' not installed | |'}")
    return 1 / found["local"][1]


def parent(bench: Bench, known: dict[int, Any], say: Say) -> dict[str, float]:
    """Milliseconds of the parent per trial, by where study and rows are."""
    spent = {
        "file, no rows": bench.alone(known, "search.track=none"),
        "file, SQLite": bench.alone(known),
    }
    notes = []
    if missing := without_postgresql():
        notes.append(f"PostgreSQL is left out: {missing}.")
    else:
        with postgresql() as port, ExitStack() as opened:
            os.environ["MCL_STUDY_URL"] = f"postgresql+psycopg://mcl@127.0.0.1:{port}/mcl"
            there = "search.storage=postgresql"
            before = commits(port)
            spent["PostgreSQL, no rows"] = bench.alone(known, there, "search.track=none")
            each = (commits(port) - before) / bench.trials / REPEATS
            most = each / spent["PostgreSQL, no rows"][0] * 1000
            notes.append(
                f"PostgreSQL: {each:.1f} commits a trial, {most:,.0f} a second by one parent."
            )
            folder = bench.root / "server"
            folder.mkdir()
            create(port, "runs")
            database = f"postgresql+psycopg://mcl@127.0.0.1:{port}/runs"
            address = opened.enter_context(mlflow(folder, database))
            opened.enter_context(patch.dict(os.environ, {"MLFLOW_TRACKING_URI": address}))
            spent["file, MLflow server"] = bench.alone(known)
            requests = (
                (folder / "server.log").read_text().count(" HTTP/1.1") / bench.trials / REPEATS
            )
            most = requests / spent["file, MLflow server"][0] * 1000
            notes.append(
                f"MLflow server on PostgreSQL: {requests:.1f} requests a trial, {most:,.0f} a"
                " second by its one worker."
            )
            opened.enter_context(patch.dict(os.environ, {"MCL_STORE_URL": database}))
            spent["file, the server's PostgreSQL"] = bench.alone(known)
            ratio = spent["file, MLflow server"][0] / spent["file, the server's PostgreSQL"][0]
            notes.append(
                f"With MCL_STORE_URL the same runs go into the same database {ratio:.0f} times as"
                " fast."
            )
    say(
        "\n| study and rows of the trials | ms of the parent a trial | trials/s at most | of the"
        " other repetitions |\n|---|---|---|---|"
    )
    for place, (best, *others) in spent.items():
        rest = " and ".join(f"{1000 / cost:,.0f}" for cost in others)
        say(f"| {place} | {best:.2f} | {1000 / best:,.0f} | {rest} |")
    say("\n" + " ".join(notes))
    return {place: costs[0] for place, costs in spent.items()}


def commits(port: int) -> int:
    return int(asked(port, "SELECT sum(xact_commit) FROM pg_stat_database"))


def create(port: int, database: str) -> None:
    asked(port, f"CREATE DATABASE {database}", answer=False)


def asked(port: int, question: str, *, answer: bool = True) -> Any:
    import psycopg

    with psycopg.connect(
        f"postgresql://mcl@127.0.0.1:{port}/postgres", autocommit=True
    ) as connection:
        cursor = connection.execute(question.encode())
        row = cursor.fetchone() if answer else None
        return row[0] if row else None


@contextmanager
def ray_here(cpus: int) -> Iterator[Any]:
    import logging

    import ray

    quiet: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    ray.init("local", num_cpus=cpus, _node_ip_address="127.0.0.1", **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()


def turns() -> dict[int, float]:
    """Milliseconds until Ray says which one of N futures is ready, as the parent asks it once per
    trial.
    """
    with ray_here(1) as ray:
        # there is no GPU: those wait for ever
        answer, never = ray.remote(lambda: 1), ray.remote(num_gpus=1)(lambda: 1)
        costs = {}
        for count in TABLE:
            waiting = [never.remote() for _ in range(count - 1)]
            spent = []
            for _ in range(20):
                ready = answer.remote()
                ray.wait([ready], timeout=30)
                start = time.perf_counter()
                ray.get(ray.wait([*waiting, ready], num_returns=1)[0])
                spent.append(time.perf_counter() - start)
            costs[count] = sorted(spent)[len(spent) // 2] * 1000
            for future in waiting:
                ray.cancel(future)
        return costs


def table(one: float, costs: dict[str, float], waits: dict[int, float], say: Say) -> None:
    if waits:
        told = ", ".join(f"{waits[count]:.2f} ms of {count:,}" for count in (TABLE[0], TABLE[-1]))
        say(f"Asking Ray which actor is ready takes {told}.")
    limit = "* where the parent is the limit, else the workers"
    say(f"\nCalculated, in trials/s, from {one * 1000:.1f} ms a trial of a worker; {limit}.\n")
    say("| workers | " + " | ".join(costs) + " |\n|" + "---|" * (len(costs) + 1))
    for count in TABLE:
        cells = []
        for cost in costs.values():
            bound = 1000 / (cost + waits.get(count, 0.0))
            cells.append(f"{min(count / one, bound):,.0f}{' *' if count / one > bound else ''}")
        say(f"| {count:,} | " + " | ".join(cells) + " |")
    reached = ", ".join(f"{1000 * one / cost:,.0f} ({place})" for place, cost in costs.items())
    say(
        f"\nThe parent is the limit from this many workers on: {reached}. Longer trials move it in"
        " proportion."
    )


def processor() -> str:
    """The model of the processor, where the system says it."""
    path = Path("/proc/cpuinfo")
    models = (
        [
            line.partition(": ")[2]
            for line in path.read_text().splitlines()
            if line.startswith("model name")
        ]
        if path.exists()
        else []
    )
    return models[0] if models else platform.processor() or platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--sessions", type=int, default=620, help="of 1,371 bars")
    parser.add_argument(
        "--write", action="store_true", help="the figures into docs/scale-out.md, too"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # nothing is written into the home
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        print(text, flush=True)

    with project() as root:
        write_walk(root / "walk.csv", sessions=arguments.sessions, bars=1371)
        bars = arguments.sessions * 1371
        machine = f"{os.cpu_count()} CPUs ({processor()}, load {os.getloadavg()[0]:.1f} before)"
        say(
            f"`make bench-scale` on {machine}, {date.today()}: {arguments.trials} trials of"
            f" {bars:,} bars.\n"
        )
        bench = Bench(root, arguments.trials)
        known = bench.known()
        one = workers(bench, say)
        costs = parent(bench, known, say)
        table(one, costs, turns() if HAS_RAY else {}, say)
    if arguments.write:
        before, rest = PAGE.read_text().split(MARKS[0])
        PAGE.write_text(
            before + MARKS[0] + "\n" + "\n".join(said) + "\n" + MARKS[1] + rest.split(MARKS[1])[1]
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
