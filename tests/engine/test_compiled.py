"""Compiled once: not per strategy, not per parameter, not per process; and again as soon as a
compiled source changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mcl"
TESTS = Path(__file__).resolve().parents[1]
SCRIPT = """
from pathlib import Path
from walks import random_bars
from mcl.config import schema
from mcl.engine import kernel
from mcl.engine.backtest import plan, simulate
from mcl.risk.sizes.fixed import FixedSize
from mcl.strategy import build
bars = random_bars(300, rolls=1)
for params in ({"name": "ema_cross"}, {"name": "ema_cross", "fast": 3}, {"name": "always_long"}):
    for rule in (schema.Protection(), schema.Protection(unit="ticks", stop=5.0)):
        risk = schema.Risk(size=FixedSize(method="fixed"), protection=rule)
        trading_plan = plan(bars, build(params), risk, 1e4)
        result = simulate(bars, trading_plan, risk.limits, schema.Costs(), 1e4)
stats = kernel.plain.stats
print([len(variant.signatures) for variant in kernel.VARIANTS] == [1, 0, 0], end=" ")
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), result.net_pnl_usd)
"""


def fresh_process(package: Path, cache: Path, *, compiles: bool) -> list[str]:
    """What the script printed; on stderr it says whether the engine is being compiled."""
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": f"{package.parent}{os.pathsep}{TESTS}",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=package.parent,
    )
    assert ("compiling the engine" in done.stderr) is compiles
    return done.stdout.split()


def compiled_files(cache: Path) -> set[Path]:
    return {path for path in cache.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the package, run once so that everything it needs is on disk."""
    home = tmp_path_factory.mktemp("compiled")
    shutil.copytree(PACKAGE, home / "mcl", ignore=shutil.ignore_patterns("__pycache__"))
    only_what_is_asked, hits, misses, net = fresh_process(
        home / "mcl", home / "cache", compiles=True
    )
    assert (only_what_is_asked, hits, misses) == ("True", "0", "1")
    assert float(net) != 0
    return home / "mcl", home / "cache"


def test_a_fresh_process_compiles_nothing(warm: tuple[Path, Path]) -> None:
    package, cache = warm
    before = compiled_files(cache)
    only_what_is_asked, hits, misses, _ = fresh_process(package, cache, compiles=False)
    assert (only_what_is_asked, hits, misses) == ("True", "1", "0")
    assert compiled_files(cache) == before


def test_a_change_of_the_decision_recompiles_the_kernel(warm: tuple[Path, Path]) -> None:
    """Numba alone would load the old kernel, since kernel.py did not change: live would decide
    otherwise than the backtest.
    """
    package, cache = warm
    source = package / "engine" / "decision.py"
    # always flat
    source.write_text(
        source.read_text().replace("if not abs(wanted) < 1e9:", "if abs(wanted) < 1e9:")
    )
    *_, misses, net = fresh_process(package, cache, compiles=True)
    assert (misses, float(net)) == ("1", 0.0)
