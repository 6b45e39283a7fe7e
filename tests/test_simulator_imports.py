"""The simulators can be imported by another project: no side effects, and nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mcl.data.synthetic import order_books
from mcl.simulators.databento import derived

# what a fresh process does: it imports, and reports what has changed by that
SCRIPT = """
import gc, json, logging, os, signal, sys, threading, warnings
from pathlib import Path

calls = []
def hook(event, args):
    if event == "ctypes.dlsym":
        calls.append(str(args[1]))
sys.addaudithook(hook)

def state():
    return {
        "environment": sorted(os.environ.items()), "path": sys.path, "folder": os.getcwd(),
        "threads": threading.active_count(), "collector": [gc.isenabled(), gc.get_threshold()],
        "warnings": repr(warnings.filters), "log handlers": repr(logging.root.handlers),
        "interrupt": repr(signal.getsignal(signal.SIGINT)), "hook": repr(sys.excepthook),
    }

import numpy  # sets warning filters of its own
before = state()
{code}
after = state()
print(json.dumps({
    "changed": sorted(name for name in before if before[name] != after[name]),
    "malloc": [name for name in calls if name == "mallopt"],
    "modules": sorted(sys.modules),
    "numba cache": getattr(sys.modules.get("numba.core.config"), "CACHE_DIR", None),
    "files": sorted(path.name for path in Path().rglob("*")),
}))
"""
PLAY = """
import asyncio
from datetime import date
from mcl.market.calendar import ns_of
from mcl.simulators.tws import SimulatedTWS, random_walk
async def play():
    async with SimulatedTWS(*random_walk.tapes(ns_of(date(2026, 3, 11), 12)), stepped=True) as tws:
        await tws.player.step(3)
asyncio.run(play())
"""
SERVE = """
from datetime import date
import numpy as np
from mcl.data import dbn
from mcl.simulators.databento.catalog import Catalog, Query
folder, day = Path("recorded"), 1_767_571_200_000_000_000
folder.mkdir()
symbols = (dbn.Mapping("MCLG6", 7, date(2026, 1, 5), date(2026, 1, 6)),)
header = dbn.Header(
    "GLBX.MDP3", "ohlcv-1m", "raw_symbol", ("MCLG6",), day, day + 86_400 * 10**9, symbols
)
records = dbn.blank("ohlcv-1m", 3)
records["instrument_id"], records["ts_event"] = 7, day + np.arange(3) * 60 * 10**9
dbn.write(folder / "bars.dbn.zst", records, header)
query = Query("GLBX.MDP3", "ohlcv-1m", ("MCLG6",), "raw_symbol", header.start, header.end)
assert Catalog(folder).count(query) == 3
"""
HEAVY = ("numba", "pydantic", "mlflow", "hydra", "optuna", "ib_async", "databento")
CALENDAR = ("pandas", "pyarrow", "pandas_market_calendars")  # holidays of the exchange
ROOMS = ("mcl.base.jit", "mcl.engine", "mcl.risk", "mcl.strategy", "mcl.composition", "mcl.broker")
TWS = "from mcl.simulators.tws import SimulatedTWS"
GATEWAY = "from mcl.simulators.databento import server, tls"


def report(code: str, folder: Path) -> dict[str, Any]:
    """Return what importing or running `code` in a fresh process has changed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "NUMBA_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{code}", code)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("code", [TWS, GATEWAY], ids=["tws", "databento"])
def test_an_import_has_no_side_effects(code: str, tmp_path: Path) -> None:
    effects = report(code, tmp_path)
    assert effects["changed"] == []
    assert effects["malloc"] == []
    assert effects["numba cache"] is None
    assert effects["files"] == []


@pytest.mark.parametrize("code", [TWS, GATEWAY, SERVE], ids=["tws", "databento", "served"])
def test_nothing_heavy_is_loaded(code: str, tmp_path: Path) -> None:
    modules = set(report(code, tmp_path)["modules"])
    assert sorted(modules & {*HEAVY, *CALENDAR, *ROOMS}) == []


def test_a_played_session_loads_the_exchange_calendar_and_nothing_else_heavy(
    tmp_path: Path,
) -> None:
    modules = set(report(PLAY, tmp_path)["modules"])
    assert sorted(modules & {*HEAVY, *ROOMS}) == []
    assert "pandas_market_calendars" in modules  # the reason for pandas


@pytest.mark.skipif(sys.platform != "linux", reason="malloc thresholds are those of glibc")
def test_the_report_sees_what_it_looks_for(tmp_path: Path) -> None:
    effects = report("import mcl.base.jit", tmp_path)
    assert effects["malloc"]
    assert effects["numba cache"]


def test_the_gateway_names_the_order_books_of_a_generated_world() -> None:
    assert set(order_books.LEVELS) <= set(derived.FROM_BOOKS)
