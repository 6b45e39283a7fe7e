"""`make bench-honesty` in small: the gates against luck, and against an edge that is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mcl import schema
from mcl.rules import Promotion

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_honesty.py"
TRIALS = 50


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_honesty", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_honesty"] = module
    spec.loader.exec_module(module)
    return module


def test_luck_does_not_pass(bench: ModuleType) -> None:
    found = bench.many(range(1, 31), 0.0, TRIALS, Promotion(), 1)
    assert sum(f.passed or f.plateau_passed for f in found) <= 1
    assert max(f.raw for f in found) > 1.0  # some looked good
    assert np.mean([f.deflated for f in found]) < 0.6


def test_a_strong_edge_does(bench: ModuleType) -> None:
    found = bench.many(range(1, 16), 4.0, TRIALS, Promotion(), 1)
    assert np.mean([f.passed for f in found]) >= 0.8


def test_the_planted_edge_is_worth_what_it_says(bench: ModuleType) -> None:
    """Following the planted sign earns the stated Sharpe ratio before costs, on average over worlds."""
    free = schema.Costs(slippage_ticks=0.0, commission_usd=0.0)
    run = bench.setting(bench.PLANTED_FAST, bench.PLANTED_SLOW).model_copy(update={"costs": free})
    loose = run.model_copy(update={"risk": schema.Risk(size=schema.FixedSize(method="fixed"))})
    ratios = [bench.perf.sharpe(bench.backtest(loose, bench.world(seed, 3.0, 500)).session_returns) for seed in range(12)]
    assert np.mean(ratios) == pytest.approx(3.0, abs=0.6)


def test_power_of_the_ideal_test(bench: ModuleType) -> None:
    assert bench.ideal_power(0.0, 500) == pytest.approx(0.05)
    assert bench.ideal_power(2.0, 252) == pytest.approx(0.6388, abs=1e-4)
