"""The main verbs on a system that lacks what only Linux has: nothing of `mcl` may need it.

This stands in for a run on macOS, where these tests have not been run. Each Python process of the
test, workers too, begins with `WITHOUT` below: what macOS does not have is taken away, and what it
has (fcntl, for filelock) is refused to modules of mcl.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deployments import write_walks

from mcl import composition
from mcl.config.promotion_rules import Promotion

PACKAGE = Path(composition.__file__).resolve().parents[1]
WITHOUT = """
import builtins, ctypes, io, multiprocessing, os, signal, socket, sys

for module, names in {
    os: ["sched_getaffinity", "sched_setaffinity", "sched_yield", "sched_getparam", "memfd_create",
         "pidfd_open", "posix_fadvise", "posix_fallocate", "copy_file_range", "splice", "eventfd",
         "getresuid", "setresuid", "O_DIRECT", "O_TMPFILE"],
    socket: ["SO_PEERCRED", "SO_PASSCRED", "SO_DOMAIN", "SO_BINDTODEVICE", "TCP_QUICKACK",
             "TCP_USER_TIMEOUT"],
    signal: ["pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGSTKFLT"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

REFUSED = {"fcntl", "_posixshmem", "spwd", "crypt"}
imported = builtins.__import__

def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    if name in REFUSED and str((globals or {}).get("__name__", "")).split(".")[0] == "mcl":
        raise ImportError(f"{name} is not here")
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = refusing
found = ctypes.CDLL.__getattr__

def without(self, name):
    if name in ("prctl", "mallopt", "malloc_trim"):
        raise AttributeError(name)
    return found(self, name)

ctypes.CDLL.__getattr__ = without
BETWEEN = {"pathlib", "os", "posixpath", "genericpath", "io", "glob", "shutil", "contextlib"}
BETWEEN.add(__name__)

def asked_by_mcl():
    frame = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in BETWEEN:
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "mcl"

def closed(function):
    def call(path=".", *args, **more):
        named = isinstance(path, (str, bytes, os.PathLike))
        linux = named and os.fsdecode(os.fspath(path)).startswith(("/proc", "/sys", "/dev/shm"))
        if linux and asked_by_mcl():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return function(path, *args, **more)
    return call

for name in ("open", "stat", "lstat", "listdir", "scandir", "readlink"):
    setattr(os, name, closed(getattr(os, name)))
builtins.open = io.open = closed(io.open)
if os.environ.get("MCL_TEST_WITHOUT_FORKSERVER"):
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
    context = multiprocessing.get_context

    def spawning(method=None):
        if method == "forkserver":
            raise ValueError("cannot find context for 'forkserver'")
        return context(method)

    multiprocessing.get_context = spawning
"""
COLUMNS = ("time", "open", "high", "low", "close", "volume", "symbol")
DATA = [
    "data=csv",
    "data.path=walk-1m.csv",
    "data.stamped_at=close",
    "data.timezone=UTC",
    *(f"data.columns.{name}={name}" for name in COLUMNS),
]
STRATEGY = [
    "data.holdout_start='2025-11-11'",
    "strategy=ema_cross",
    "strategy.fast=10",
    "strategy.slow=30",
    "risk=fixed",
    "study=portable",
]
OPEN = [f"promotion.{name}=null" for name in Promotion.model_fields if name != "live"]
VERBS = """
import json, sys
import mcl
assert not hasattr(__import__("socket"), "SO_PEERCRED")
try:
    from pathlib import Path
    exec(compile("open('/proc/self/stat')", "x", "exec"), {"__name__": "mcl.x"})
except FileNotFoundError:
    pass
else:
    raise AssertionError("/proc can be read")
from mcl.cli.main import main
for words in json.loads(sys.argv[1]):
    code = main(["--json", *words])
    assert code == 0, (words, code)
"""
LINUX = {"fcntl", "resource", "spwd", "crypt", "ossaudiodev"}
ASKS_NOTHING = ("access_recorder.py",)  # a list of what a strategy may have read, not a question
PLACES = ("/proc", "/sys/", "/dev/shm")


def ran(home: Path, *verbs: list[str], forkserver: bool) -> list[dict[str, object]]:
    (home / "without").mkdir(exist_ok=True)
    (home / "without" / "sitecustomize.py").write_text(WITHOUT)
    environment = os.environ | {"MCL_HOME": str(home), "PYTHONPATH": str(home / "without")}
    if not forkserver:
        environment["MCL_TEST_WITHOUT_FORKSERVER"] = "1"
    command = [sys.executable, "-c", VERBS, json.dumps(verbs)]
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_main_verbs_need_nothing_of_linux(tmp_path: Path) -> None:
    home = tmp_path / (
        "a project folder whose path is longer than the address of a socket may be " * 2
    ).strip().replace(" ", "-")
    home.mkdir()
    write_walks(home)
    said = ran(
        home,
        ["backtest", *DATA, *STRATEGY],
        ["promote", "last", "--to", "paper", *OPEN],
        ["live", "paper"],
        ["runs", "--study", "portable"],
        ["status", "paper"],
        forkserver=True,
    )
    backtest, promoted, session, runs, status = said
    assert promoted["version"]
    assert session["decisions"]
    assert session["differences"] == []
    assert [run["run_id"] for run in runs["runs"]] == [backtest["run_id"]]  # type: ignore[attr-defined]
    assert status["running"] is False


@pytest.mark.parametrize("forkserver", [True, False])
def test_a_search_with_two_workers(tmp_path: Path, forkserver: bool) -> None:
    write_walks(tmp_path)
    search = [
        "search.trials=6",
        "search.sampler=random",
        "search.workers=2",
        "search.min_trades=0",
        "strategy.fast=range(5,20)",
    ]
    [swept] = ran(tmp_path, ["sweep", *DATA, *STRATEGY, *search], forkserver=forkserver)
    assert sum(swept["trials"].values()) == 6  # type: ignore[attr-defined]
    assert swept["trials"]["COMPLETE"] >= 3  # type: ignore[index]


def test_no_module_of_the_package_names_what_only_linux_has() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not modules & LINUX, path
        documented = [
            n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef)
        ]
        strings = {
            n.value
            for n in ast.walk(tree)
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
        strings -= {ast.get_docstring(n, clean=False) for n in documented}
        assert path.name in ASKS_NOTHING or not [
            text for text in strings if text.startswith(PLACES)
        ], path
