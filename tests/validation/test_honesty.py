"""`make bench-honesty` in small: the gates against luck, and against an edge that is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mcl import composition

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_honesty.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_honesty", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_honesty"] = module
    spec.loader.exec_module(module)
    vars(module)["TRIALS"] = {1: 30, 9: 12}
    return module


def test_luck_does_not_pass(bench: ModuleType) -> None:
    """Without costs, with every noise and every sampler: at most one of sixteen where 3 % are
    allowed.
    """
    some = [
        bench.Case(noise, 1, sampler, 0.0, seed)
        for seed, noise in enumerate(bench.NOISES)
        for sampler in bench.SAMPLERS
    ]
    some += [bench.Case(noise, 9, "random", 0.0, 7) for noise in bench.NOISES]
    found = [bench.verdict(case) for case in some]
    assert sum(v.live for v in found) <= 1
    assert max(v.sharpe for v in found) > 1.0  # some looked good
    assert all(v.market_p_value >= v.p_value for v in found[-4:])
    assert all(v.trials > 90 for v in found[-4:])


def test_a_strong_edge_does(bench: ModuleType) -> None:
    found = [
        bench.verdict(bench.Case("gaussian", 1, bench.SAMPLERS[seed % 3], 4.0, seed))
        for seed in range(6)
    ]
    assert [v.live for v in found] == [True] * 6, [v.missed for v in found]
    assert all(v.paper for v in found)


def test_the_planted_edge_is_worth_what_it_says(bench: ModuleType) -> None:
    """Following the planted sign earns the stated Sharpe ratio, on average over worlds."""
    point = {"strategy.fast": bench.PLANTED_FAST, "strategy.slow": bench.PLANTED_SLOW}
    run = composition.run_config(bench.overlay(bench.base("ema_cross"), point))
    worlds = (
        bench.world(bench.Case("gaussian", 1, "random", 3.0, seed), 500) for seed in range(12)
    )
    assert np.mean(
        [bench.perf.sharpe(bench.backtest(run, bars).session_returns) for bars in worlds]
    ) == pytest.approx(3.0, abs=0.6)


def test_the_noises_are_equally_loud(bench: ModuleType) -> None:
    rng = np.random.default_rng(1)
    loudness = [
        bench._noise(rng, kind, 1000).std() * np.sqrt(bench.BARS_A_SESSION) for kind in bench.NOISES
    ]
    assert loudness == pytest.approx([bench.VOLATILITY_TICKS] * 4, rel=0.15)
    squares = bench._noise(rng, "volatility", 4000).reshape(4000, -1).std(axis=1)
    assert np.corrcoef(squares[1:], squares[:-1])[0, 1] > 0.5, "its volatility is autocorrelated"


def test_an_interrupted_run_goes_on(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "build" / "honesty.jsonl"
    first = bench.Case("gaussian", 1, "random", 0.0, 3)
    path.parent.mkdir()
    path.write_text(bench.json.dumps(bench.asdict(bench.verdict(first))) + "\n")
    known = bench.run([first], path, 1)
    assert list(known) == [first.key]
    assert len(path.read_text().splitlines()) == 1
    bench.report([first], known)
    assert "No edge" in capsys.readouterr().out


def test_intervals_and_power_of_the_ideal_test(bench: ModuleType) -> None:
    assert bench.ideal_power(0.0, 500) == pytest.approx(0.05)
    assert bench.ideal_power(2.0, 252) == pytest.approx(0.6388, abs=1e-4)
    assert bench.wilson(5, 100) == pytest.approx((0.0215, 0.1118), abs=1e-4)
    assert bench.wilson(0, 50)[1] == pytest.approx(0.0714, abs=1e-4)
