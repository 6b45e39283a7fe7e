"""make test-ends: the tests at the ends of what pyproject.toml allows: the oldest releases, and the
newest of all on the newest Python.

A job is an interpreter and a list of releases, in an environment of its own below build/ends. Where
this machine does not have the interpreter, that is said, and the job runs on the one that runs
this: no package index offers one. --list shows the jobs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "build" / "ends"
EXTRAS = "dev,ray,postgres,server"
# The parts where another Python or another release of a dependency shows: configuration, data,
# kernel, store, Ray, PostgreSQL, wire
# protocol, session.
ESSENTIAL = (
    "tests/test_config.py",
    "tests/test_cli.py",
    "tests/test_files.py",
    "tests/engine/test_dollars.py",
    "tests/engine/test_identities.py",
    "tests/engine/test_reference.py",
    "tests/strategy/test_indicators.py",
    "tests/market",
    "tests/metrics/test_performance.py",
    "tests/data/test_bars.py",
    "tests/data/test_dbn.py",
    "tests/data/test_gateway.py",
    "tests/search/test_points.py",
    "tests/search/test_outcomes.py",
    "tests/search/test_space.py",
    "tests/search/test_ray.py::test_one_machine_finds_what_processes_find_and_leaves_no_token",
    "tests/search/test_ray.py::test_two_hosts_find_what_processes_find",
    "tests/search/test_ray.py::test_a_killed_actor_costs_nothing",
    "tests/search/test_scale.py",
    "tests/tracking/test_bulk.py",
    "tests/tracking/test_postgres.py",
    "tests/tracking/test_schema.py",
    "tests/tracking/test_tracking.py",
    "tests/broker/test_vault.py",
    "tests/broker/test_wire.py",
    "tests/live/test_journal.py",
    "tests/live/test_supervisor.py",
    "tests/report/test_format.py",
)


@dataclass(frozen=True)
class Job:
    """One environment: the Python it takes, and the files that say which releases."""

    name: str
    python: str
    constraints: str
    ahead: str = ""  # releases that are installed over the others as they are


JOBS = (
    Job("oldest", "3.12", ".ci/oldest.txt"),
    Job("newest", "3.13", ".ci/constraints.txt", ".ci/ahead.txt"),
)


def interpreter(version: str) -> str:
    """A Python of this version that starts, from the PATH or from pyenv; empty where there is
    none.
    """
    pyenv = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(
            f"versions/{version}.*/bin/python"
        )
    )
    for candidate in (shutil.which(f"python{version}"), *map(str, pyenv)):
        if candidate and starts(candidate, version):
            return candidate
    return ""


def starts(program: str, version: str) -> bool:
    command = [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def install(job: Job, python: str) -> Path:
    """The interpreter of a new environment with the releases of a job."""
    uv = shutil.which("uv") or str(ROOT / ".venv-tools" / "bin" / "uv")
    folder = ENVIRONMENTS / job.name
    run = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", python, str(folder)], check=True, cwd=ROOT
    )
    subprocess.run([*run, "-c", job.constraints, "-e", f".[{EXTRAS}]"], check=True, cwd=ROOT)
    if job.ahead:
        subprocess.run([*run, "--no-deps", "-r", job.ahead], check=True, cwd=ROOT)
    return folder / "bin" / "python"


def test(job: Job, workers: str) -> bool:
    """Run the essential tests of a job, on another Python where its own is missing; True when they
    pass.
    """
    python = interpreter(job.python)
    if not python:
        python = sys.executable
        print(
            f"{job.name}: no Python {job.python} on this machine, and no package index offers one:"
            f" {python} instead"
        )
    began = time.monotonic()
    command = [
        str(install(job, python)),
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-n",
        workers,
        "--dist",
        "loadfile",
        *ESSENTIAL,
    ]
    print(f"{job.name}: {python}, {job.constraints} {job.ahead}".rstrip(), flush=True)
    done = subprocess.run(command, cwd=ROOT, check=False)
    print(
        f"{job.name}: {'passed' if done.returncode == 0 else 'FAILED'} in"
        f" {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "jobs", nargs="*", default=[job.name for job in JOBS], help="names of jobs (default: all)"
    )
    parser.add_argument("--workers", default="auto", help="processes that pytest uses")
    parser.add_argument("--list", action="store_true", help="show the jobs and stop")
    args = parser.parse_args()
    if args.list:
        for job in JOBS:
            print(
                f"{job.name}: Python {job.python}"
                f" ({interpreter(job.python) or 'not on this machine'}), {job.constraints}"
                f" {job.ahead}"
            )
        return 0
    unknown = set(args.jobs) - {job.name for job in JOBS}
    if unknown:
        parser.error(
            f"no job {', '.join(sorted(unknown))}; valid: {', '.join(job.name for job in JOBS)}"
        )
    failed = [job.name for job in JOBS if job.name in args.jobs and not test(job, args.workers)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
