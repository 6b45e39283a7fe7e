"""How long does judgement take, and how often is it right? Prints each figure with its bound and
exits with 1 when one misses.

    python scripts/bench_judgement.py             # the speed; run by `make bench`
    python scripts/bench_judgement.py coverage    # how often the 95 % interval of a Sharpe ratio
                                                  holds the truth; about ten minutes

metrics    every metric of one run of two years of 1-minute bars (690,000 bars, 500 sessions, 20,000
           trades), bootstrap interval included
pbo        the probability of backtest overfitting of a 1024 x 100 matrix with 16 blocks (12,870
           splits)
validate   `mcl validate` of one run on the generated two years of 1-minute bars, from the shell,
           start of the process included

The best of several repetitions counts: what is asked is the cost of the work, not of the machine's
other tenants.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

import numpy as np
from processor import repeated

from mcl.data.bars import Bars
from mcl.data.table import PRICES
from mcl.engine.account import FLAT, Money
from mcl.engine.curve import Curve
from mcl.engine.result import FILL, TRADE, Result, changes
from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.market.instruments import MCL, Contract
from mcl.metrics import cscv
from mcl.metrics.bootstrap import sharpe_interval
from mcl.metrics.summary import summary

BARS, SESSIONS, TRADES = 690_000, 500, 20_000
WARM = 300  # steps of a process that are thrown away
TRUE_SHARPES = (0.0, 1.0, 2.0)
LEAST_COVERAGE = 0.93
BOUNDS_SEC = {"metrics": 0.020, "pbo": 0.5, "validate": 60.0}


def fastest(work: Callable[[], object], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def two_years() -> Result:
    """A result of the size of two years of minute bars: in and out at random bars of a random
    walk.
    """
    rng, flat = np.random.default_rng(0), np.full(BARS, 70.0)
    zero, session = np.zeros(BARS, np.int64), np.arange(BARS) * SESSIONS // BARS
    contract = Contract("MCLG6", "MCL", 2026, 2, date(2026, 1, 20))
    times = np.arange(BARS) * 60 * 10**9
    whole = {"volume": zero, "session": session, "to_close_sec": zero}
    bars = Bars.of(
        MCL,
        "1m",
        times,
        dict.fromkeys(PRICES, flat),
        **whole,
        contracts=(contract,),
        synthetic=True,
    )
    fills, trades = np.zeros(2 * TRADES, FILL), np.zeros(TRADES, TRADE)
    fills["bar"], fills["price_ticks"] = np.sort(rng.integers(0, BARS, 2 * TRADES)), 7_000
    fills["quantity"][::2], fills["quantity"][1::2], fills["position"][::2] = 1, -1, 1
    trades["gross_usd"] = rng.normal(0, 20, TRADES)
    closes = 7_000 + np.cumsum(rng.integers(-2, 3, BARS, dtype=np.int32), dtype=np.int32)
    curve = Curve(closes, fills, Money(25_000.0, 1.0, 0.77, 1.0), FLAT)
    return Result(bars, 25_000.0, curve, changes(zero, zero, zero), fills, trades, 30_800.0)


def metrics() -> float:
    run = two_years()

    def once() -> dict[str, float]:
        for name in ("session_equity", "session_returns"):
            run.__dict__.pop(name, None)
        run.curve.__dict__.pop("_steps", None)
        return summary(run)

    return fastest(once)


def pbo() -> float:
    returns = np.random.default_rng(0).normal(0, 0.01, (1024, 100))
    return fastest(lambda: cscv.overfitting(returns, 16), 5)


def validated() -> float:
    with tempfile.TemporaryDirectory(prefix="mcl-bench-") as home:
        run = mcl(home, "backtest", "strategy=ema_cross")["run_id"]
        began = time.perf_counter()
        mcl(home, "validate", run)
        return time.perf_counter() - began


def mcl(home: str, *words: str) -> dict[str, str]:
    """The JSON answer of a verb; `validate` ends with 1 when its verdict is stop, which is an
    answer too.
    """
    command: Sequence[str] = (sys.executable, "-m", "mcl", "--json", "--quiet", *words)
    done = subprocess.run(
        command, check=False, env={**os.environ, "MCL_HOME": home}, capture_output=True, text=True
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def gaussian(sessions: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=sessions)


def fat_tails(sessions: int, rng: np.random.Generator) -> np.ndarray:
    """Student's t with four degrees of freedom."""
    return rng.standard_t(4, sessions) / math.sqrt(2)


def clustered_volatility(sessions: int, rng: np.random.Generator) -> np.ndarray:
    """GARCH(1, 1) with persistence 0.95."""
    draws, variance, out = rng.normal(size=sessions + WARM), 1.0, np.empty(sessions + WARM)
    for i, z in enumerate(draws):
        out[i] = math.sqrt(variance) * z
        variance = 0.05 + 0.10 * out[i] ** 2 + 0.85 * variance
    return out[WARM:]


def autoregressive(persistence: float, sessions: int, rng: np.random.Generator) -> np.ndarray:
    draws, level, out = rng.normal(size=sessions + WARM), 0.0, np.empty(sessions + WARM)
    for i, z in enumerate(draws):
        level = persistence * level + z
        out[i] = level
    return out[WARM:] * math.sqrt(1 - persistence**2)


RETURNS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "Gaussian": gaussian,
    "Student t4": fat_tails,
    "GARCH(1,1)": clustered_volatility,
    "AR(1) +0.2": partial(autoregressive, 0.2),
    "AR(1) +0.4": partial(autoregressive, 0.4),
    "AR(1) -0.2": partial(autoregressive, -0.2),
}


def covered(
    draw: Callable[[int, np.random.Generator], np.ndarray],
    sessions: int,
    true_sharpe: float,
    samples: int,
) -> float:
    """The share of samples whose 95 % interval of the annual Sharpe ratio holds the true one."""
    rng = np.random.default_rng(sessions)
    daily = true_sharpe / math.sqrt(SESSIONS_PER_YEAR)
    intervals = [sharpe_interval(draw(sessions, rng) + daily) for _ in range(samples)]
    return float(np.mean([low <= true_sharpe <= high for low, high in intervals]))


def coverage(samples: int = 4000) -> int:
    missed = 0
    print(
        f"coverage of the 95 % interval of the Sharpe ratio, {samples:,} samples each; bound"
        f" {LEAST_COVERAGE:.0%}"
    )
    print(f"{'returns':<12} {'sessions':>8} " + " ".join(f"Sharpe {s:g}" for s in TRUE_SHARPES))
    for name, draw in RETURNS.items():
        for sessions in (120, 250, 500):
            shares = [covered(draw, sessions, s, samples) for s in TRUE_SHARPES]
            missed += sum(share < LEAST_COVERAGE for share in shares)
            print(
                f"{name:<12} {sessions:>8} " + " ".join(f"{share:7.1%} " for share in shares),
                flush=True,
            )
    print("ok" if not missed else f"{missed} below the bound")
    return 1 if missed else 0


def main() -> int:
    if sys.argv[1:] == ["coverage"]:
        return coverage()
    return repeated(measured)


def measured() -> bool:
    """Print every figure; whether all bounds are kept."""
    missed = 0
    for name, measure in (("metrics", metrics), ("pbo", pbo), ("validate", validated)):
        seconds = measure()
        missed += seconds > BOUNDS_SEC[name]
        verdict = "ok" if seconds <= BOUNDS_SEC[name] else "MISSED"
        print(
            f"{name:<9} {1e3 * seconds:10,.1f} ms   bound {1e3 * BOUNDS_SEC[name]:8,.0f} ms  "
            f" {verdict}",
            flush=True,
        )
    return not missed


if __name__ == "__main__":
    sys.exit(main())
