"""Does it judge honestly? Many independent searches in worlds whose truth is known. `make bench-honesty` runs it.

Each search is the real thing on a lighter world: generated hourly bars of one contract (23 a session, 500 sessions to search and 126
held out, about 150 ticks of volatility a session), the real strategy, kernel, costs and limits, 100 random points of the ema_cross
space, the real promotion gates with their defaults, and a trial ledger that knows that search alone. Left out are Optuna's adaptive
sampling, the run store and minute bars: they change the speed, not what luck can do.

* Without an edge at most 5 % of the searches may end with a run that passes the gates.
* With a planted edge (the drift has the sign of EMA(8) - EMA(32) one bar before; its annual Sharpe before costs is known) the share
  that passes is the power, beside that of one ideal test: told the rule in advance, one-sided at 5 %, on as many sessions.
* The pick by plateau must lie nearer to the planted parameters than the pick by peak.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context

import numba
import numpy as np
import pandas as pd

from mcl import config, metrics, schema
from mcl.data.bars import Bars
from mcl.engine.backtest import backtest
from mcl.engine.result import Result
from mcl.market import MCL, Contract
from mcl.metrics import performance as perf
from mcl.promote.gates import evaluate
from mcl.promote.holdout import Look
from mcl.rules import Promotion
from mcl.search.region import plateaus
from mcl.trials import Place, Tally

SESSIONS, UNSEEN, BARS_A_SESSION = 500, 126, 23
VOLATILITY_TICKS = 150.0  # of a session
PLANTED_FAST, PLANTED_SLOW = 8, 32
FAST = (2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32)  # steps by a factor, as memory lengths should be searched
SLOW = (10, 13, 16, 20, 25, 32, 40, 50, 64, 81, 102, 128)
CAPITAL = 25_000.0
FIRST_SESSION = 19_000


@dataclass(frozen=True)
class Found:
    """What one search ended with. Sharpe ratios are annual."""

    raw: float  # of the best trial
    deflated: float  # probability
    luck: float  # the Sharpe ratio that the best of so many trials shows without an edge
    passed: bool
    plateau_passed: bool
    missed: tuple[str, ...]
    peak_distance: float  # |ln(fast / planted)| + |ln(slow / planted)|
    plateau_distance: float


def world(seed: int, edge_sharpe: float, sessions: int) -> Bars:
    """Hourly bars with a planted edge of this annual Sharpe ratio before costs; 0 for none."""
    n = sessions * BARS_A_SESSION
    noise = np.random.default_rng(seed).normal(0.0, VOLATILITY_TICKS / math.sqrt(BARS_A_SESSION), n)
    drift = edge_sharpe * VOLATILITY_TICKS / math.sqrt(252) / BARS_A_SESSION
    closes = np.rint(7_000 + _path(noise, drift, PLANTED_FAST, PLANTED_SLOW))
    opens = np.concatenate([closes[:1], closes[:-1]])
    rows = np.arange(n)
    session, within = FIRST_SESSION + rows // BARS_A_SESSION, rows % BARS_A_SESSION
    ticks = {"open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes), "close": closes}
    return Bars.of(
        MCL,
        "1h",
        (session * 24 + within + 1) * 3_600_000_000_000,
        {name: values * 0.01 for name, values in ticks.items()},
        volume=np.full(n, 1000),
        session=session,
        to_close_sec=(BARS_A_SESSION - 1 - within) * 3600,
        contracts=(Contract("MCLZ9", "MCL", 2099, 12, date(2099, 11, 19)),),
        fingerprint=f"honesty {seed} {edge_sharpe}",
        synthetic=True,
    )


@numba.njit
def _path(noise: np.ndarray, drift: float, fast: int, slow: int) -> np.ndarray:
    level, quick, lazy = 0.0, 0.0, 0.0
    out = np.empty(len(noise))
    for i in range(len(noise)):
        side = 1.0 if quick > lazy else -1.0 if quick < lazy else 0.0
        level += noise[i] + drift * side
        quick += (level - quick) * 2.0 / (fast + 1.0)
        lazy += (level - lazy) * 2.0 / (slow + 1.0)
        out[i] = level
    return out


def setting(fast: int, slow: int) -> schema.Config:
    return config.run_config(
        {
            "data": {"source": "synthetic", "interval": "1h"},
            "strategy": {"name": "ema_cross", "fast": fast, "slow": slow},
            "risk": {"size": {"method": "fixed", "contracts": 1.0}},
            "capital_usd": CAPITAL,
        }
    )


def search(seed: int, edge_sharpe: float, trials: int, rules: Promotion, sessions: int = SESSIONS, unseen: int = UNSEEN) -> Found:
    """Search the first sessions, judge the best trial by the gates; the last sessions are simulated for the chosen run alone."""
    whole = world(seed, edge_sharpe, sessions + unseen)
    bars = whole.rows(0, sessions * BARS_A_SESSION)
    points = drawn(seed, trials)
    results = [backtest(setting(*point), bars) for point in points]
    sharpes = np.array([perf.sharpe(result.session_returns) for result in results])
    scores = np.where(np.isfinite(sharpes), sharpes, -np.inf)
    tally = Tally(Place("ema_cross", "honesty"), {str(p): s / math.sqrt(252) for p, s in zip(points, sharpes, strict=True)})
    peak = int(scores.argmax())
    around, _ = plateaus(pd.DataFrame(points, columns=["fast", "slow"]), scores)
    hill = int(np.lexsort((scores, around))[-1])
    table = {pick: evaluate(rules, results[pick], tally, look(setting(*points[pick]), whole, sessions)) for pick in {peak, hill}}
    return Found(
        raw=float(sharpes[peak]),
        deflated=tally.deflated(metrics.summary(results[peak])),
        luck=tally.threshold(sessions) * math.sqrt(252),
        passed=all(gate.passed for gate in table[peak]),
        plateau_passed=all(gate.passed for gate in table[hill]),
        missed=tuple(gate.name for gate in table[peak] if not gate.passed),
        peak_distance=distance(points[peak]),
        plateau_distance=distance(points[hill]),
    )


def drawn(seed: int, count: int) -> list[tuple[int, int]]:
    """Distinct random points with fast < slow."""
    every = [(fast, slow) for fast in FAST for slow in SLOW if fast < slow]
    rng = np.random.default_rng([seed, 1])
    return [every[i] for i in rng.choice(len(every), min(count, len(every)), replace=False)]


def look(run: schema.Config, whole: Bars, sessions: int) -> Look:
    """The sessions after the search, with indicators warmed up before them."""
    result: Result = backtest(run, whole)
    returns = result.session_returns.to_numpy()[sessions:]
    trades = int((result.trades["entry_bar"] >= sessions * BARS_A_SESSION).sum())
    return Look(perf.sharpe(returns), float(trades), len(returns), 1, "honesty", "unseen sessions of a generated world")


def distance(point: tuple[int, int]) -> float:
    return abs(math.log(point[0] / PLANTED_FAST)) + abs(math.log(point[1] / PLANTED_SLOW))


def ideal_power(edge_sharpe: float, sessions: int) -> float:
    """Of one test of the rule that is known in advance, level 5 %, one-sided."""
    return perf.NORMAL.cdf(edge_sharpe * math.sqrt(sessions / 252) - perf.NORMAL.inv_cdf(0.95))


def many(seeds: Sequence[int], edge_sharpe: float, trials: int, rules: Promotion, workers: int) -> list[Found]:
    if workers == 1:
        return [search(seed, edge_sharpe, trials, rules) for seed in seeds]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(search, seed, edge_sharpe, trials, rules) for seed in seeds]
        return [job.result() for job in jobs]


def quantiles(values: Sequence[float]) -> str:
    return " ".join(f"{q:7.2f}" for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=200, help="in the world without an edge")
    parser.add_argument("--planted", type=int, default=100, help="in each world with one")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    rules = config.validate(Promotion, config.compose("promote", []).raw["promotion"], "promotion")
    started = time.monotonic()
    none = many(range(a.seed, a.seed + a.searches), 0.0, a.trials, rules, a.workers)
    honest = without_edge(none, a.trials)
    powers = {edge: many(range(10_000 * edge, 10_000 * edge + a.planted), float(edge), a.trials, rules, a.workers) for edge in (1, 2, 3, 4)}
    strong = with_edge(powers)
    print(f"\n{a.searches + 4 * a.planted} searches of {a.trials} trials in {time.monotonic() - started:.0f} s. SYNTHETIC DATA throughout.")
    return 0 if honest and strong else 1


def without_edge(found: list[Found], trials: int) -> bool:
    passed, hill = (sum(getattr(f, name) for f in found) for name in ("passed", "plateau_passed"))
    print(f"No edge: {len(found)} searches of {trials} trials, {SESSIONS} sessions searched, {UNSEEN} held out")
    print("                              5 %    25 %    50 %    75 %    95 %")
    print(f"  raw best Sharpe         {quantiles([f.raw for f in found])}")
    print(f"  expected from luck      {quantiles([f.luck for f in found])}")
    print(f"  deflated (probability)  {quantiles([f.deflated for f in found])}")
    shiny, sure = np.mean([f.raw > 1 for f in found]), np.mean([f.deflated > 0.95 for f in found])
    print(f"  raw best Sharpe above 1: {shiny:.1%} of searches; deflated above 0.95: {sure:.1%}")
    print(f"  pass the default gates: peak {passed} ({passed / len(found):.1%}), plateau {hill} ({hill / len(found):.1%}); allowed 5 %")
    return max(passed, hill) <= 0.05 * len(found)


def with_edge(powers: dict[int, list[Found]]) -> bool:
    print("\nPlanted edge   passes (peak)   passes (plateau)   ideal single test   distance to the truth: peak   plateau")
    for edge, found in powers.items():
        shares = [np.mean([getattr(f, name) for f in found]) for name in ("passed", "plateau_passed")]
        away = [np.mean([getattr(f, name) for f in found]) for name in ("peak_distance", "plateau_distance")]
        ideal = ideal_power(edge, SESSIONS)
        print(f"  Sharpe {edge}     {shares[0]:10.1%}     {shares[1]:13.1%}     {ideal:13.1%}     {away[0]:24.3f}   {away[1]:7.3f}")
        missed = [name for f in found for name in f.missed]
        if missed:
            print(f"               missed gates: {', '.join(f'{n} {missed.count(n)}' for n in sorted(set(missed)))}")
    everything = [f for found in powers.values() for f in found]
    peak, hill = (float(np.mean([getattr(f, name) for f in everything])) for name in ("peak_distance", "plateau_distance"))
    print(f"  all worlds: peak {peak:.3f}, plateau {hill:.3f}")
    return float(np.mean([f.passed for f in powers[4]])) >= 0.8 and hill < peak


if __name__ == "__main__":
    sys.exit(main())
