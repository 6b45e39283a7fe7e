"""How fast is the engine, as a ratio to a bare hand-written kernel that does the same work? Run by `make bench`.

W1      EMA cross 10/30, always in the market with one contract, next-open fills, 1 tick and $0.77 per side
W2      W1 with an ATR(14) bracket: stop at 2, take-profit at 4 (its bare kernel: indicators, brackets and flips, one loop)
limits  W1 with every limit on

The bare kernels are fused loops over two or four arrays that keep nothing but the cash: no ledger, no equity curve, no limits, no
decision to share with live. Both sides run hot and interleaved in one process; the ratio decides, absolute figures wobble.
Fill count and final P&L must be equal, or the script exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from mcl import schema
from mcl.data.bars import ROLL_COLUMNS, Bars
from mcl.engine.backtest import plan, simulate
from mcl.engine.result import Result
from mcl.market import MCL, Contract
from mcl.strategy import build
from numba import njit

BARS_PER_SESSION = 1_380
CAPITAL = 1e6  # W1 loses its costs steadily; no limit may end it
COSTS = schema.Costs(slippage_ticks=1.0, commission_usd=0.77)
FIXED = schema.FixedSize(method="fixed")
WIDE = schema.Limits()
ALL_ON = schema.Limits(
    max_trades_per_session=100_000, max_daily_loss_usd=1e8, max_drawdown_frac=0.9, no_entry_before_close_sec=1, flatten_before_close_sec=1
)
LIMITS = {"W1": 5.0, "W2": 5.0}


def walk(n: int, seed: int = 1) -> Bars:
    """One contract, a random walk in ticks."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-2, 3, (n, 2))
    path = 7_000 + np.cumsum(steps.ravel()).reshape(n, 2)
    wicks = rng.integers(0, 3, (n, 2))
    opens, closes = path[:, 0] * 0.01, path[:, 1] * 0.01
    highs, lows = (path.max(axis=1) + wicks[:, 0]) * 0.01, (path.min(axis=1) - wicks[:, 1]) * 0.01
    session = 10_000 + np.arange(n) // BARS_PER_SESSION
    minute = np.arange(n) % BARS_PER_SESSION
    return Bars(
        instrument=MCL,
        interval="1m",
        close_time=(session * 86_400 + minute * 60) * 1_000_000_000,
        open=opens,
        high=highs,
        low=lows,
        close=closes,
        volume=np.ones(n, np.int64),
        adjustment=np.zeros(n),
        session=session,
        to_close_sec=(BARS_PER_SESSION - 1 - minute) * 60,
        contract=np.zeros(n, np.int64),
        roll=np.zeros(n, np.bool_),
        outgoing_open=np.full(n, np.nan),
        contracts=(Contract("MCLZ9", "MCL", 2029, 12, date(2029, 11, 19)),),
        roll_table=pd.DataFrame(columns=list(ROLL_COLUMNS)),
        fingerprint="bench",
        synthetic=True,
    )


@njit
def bare_w1(closes, opens_ticks, closes_ticks, fast, slow, slippage, commission, capital):
    """Two seeded means, a flip at the next open, the cash: nothing else. Ticks of one dollar."""
    new_f, new_s = 2.0 / (fast + 1), 2.0 / (slow + 1)
    old_f, old_s = 1.0 - new_f, 1.0 - new_s
    f, s = closes[:fast].sum() / fast, closes[:slow].sum() / slow
    for i in range(fast, slow):
        f = f * old_f + closes[i] * new_f
    n = len(closes)
    up = f > s
    cash = -(opens_ticks[slow] + slippage) if up else opens_ticks[slow] - slippage
    fills = 1
    for i in range(slow, n - 1):
        f = f * old_f + closes[i] * new_f
        s = s * old_s + closes[i] * new_s
        if (f > s) != up:
            up = not up
            fills += 1
            if up:
                cash -= 2.0 * (opens_ticks[i + 1] + slippage)
            else:
                cash += 2.0 * (opens_ticks[i + 1] - slippage)
    mark = closes_ticks[n - 1] if up else -closes_ticks[n - 1]
    return fills, capital + (cash + mark) - (2 * fills - 1) * commission - capital


@njit
def bare_w2(highs, lows, closes, o, h, lo, c, fast, slow, length, stop_at, take_at, slippage, commission, capital):
    """W1 with a bracket at multiples of Wilder's range, set at the fill; out until the side changes after it was hit."""
    new_f, new_s = 2.0 / (fast + 1), 2.0 / (slow + 1)
    old_f, old_s = 1.0 - new_f, 1.0 - new_s
    f, s = closes[:fast].sum() / fast, closes[:slow].sum() / slow
    for i in range(fast, slow):
        f = f * old_f + closes[i] * new_f
    spread = 0.0
    for i in range(1, length + 1):
        spread += (max(highs[i], closes[i - 1]) - min(lows[i], closes[i - 1])) / length
    for i in range(length + 1, slow):
        spread += (max(highs[i], closes[i - 1]) - min(lows[i], closes[i - 1]) - spread) / length
    n, cash, sides, fills, position, barred = len(closes), 0.0, 0, 0, 0, 0
    stop, take = 0.0, 0.0
    target = 1 if f > s else -1
    stop_distance, take_distance = round(spread * 100 * stop_at), round(spread * 100 * take_at)
    for i in range(slow, n):
        if target != position:
            quantity = target - position
            fill = o[i] + (slippage if quantity > 0 else -slippage)
            cash -= quantity * fill
            sides += abs(quantity)
            fills += 1
            position = target
            stop, take = fill - target * stop_distance, fill + target * take_distance
        if position > 0 and (lo[i] <= stop or h[i] >= take):
            level = min(o[i], stop) if lo[i] <= stop else max(o[i], take)
            cash += level - slippage
            sides, fills, position, barred = sides + 1, fills + 1, 0, 1
        elif position < 0 and (h[i] >= stop or lo[i] <= take):
            level = max(o[i], stop) if h[i] >= stop else min(o[i], take)
            cash -= level + slippage
            sides, fills, position, barred = sides + 1, fills + 1, 0, -1
        f = f * old_f + closes[i] * new_f
        s = s * old_s + closes[i] * new_s
        spread += (max(highs[i], closes[i - 1]) - min(lows[i], closes[i - 1]) - spread) / length
        stop_distance, take_distance = round(spread / 0.01 * stop_at), round(spread / 0.01 * take_at)
        target = 1 if f > s else -1
        if barred != target:
            barred = 0
        else:
            target = 0
    return fills, capital + (cash + position * c[n - 1]) - sides * commission - capital


def engine(bars: Bars, limits: schema.Limits = WIDE, protection: schema.Protection | None = None) -> Callable[[], Result]:
    """The product: strategy, sizing, protection, simulation, fills, trades and equity curve of one run."""
    risk = schema.Risk(size=FIXED, protection=protection or schema.Protection(), limits=limits)
    strategy = build({"name": "ema_cross", "fast": 10, "slow": 30})
    return lambda: simulate(bars, plan(bars, strategy, risk, CAPITAL), limits, COSTS, CAPITAL)


def race(rounds: int, runners: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Best seconds of each, taken in turns so that a disturbance meets all of them."""
    best = dict.fromkeys(runners, np.inf)
    for run in runners.values():
        run()
    for _ in range(rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def same_work(name: str, bare: tuple[int, float], result: Result) -> bool:
    fills, pnl = bare
    equal = fills == len(result.fills) and pnl == result.net_pnl_usd
    verdict = "equal" if equal else "NOT EQUAL"
    print(f"{name}: fills {fills:,} and {len(result.fills):,}, P&L {pnl:,.2f} and {result.net_pnl_usd:,.2f}: {verdict}")
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=850_000)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    bars = walk(arguments.bars)
    start = time.perf_counter()
    t, a = bars.ticks, bars.adjusted
    prepared = bars.first_bad_row < 0
    preparation = time.perf_counter() - start
    bracket = schema.Protection(unit="atr", stop=2.0, take_profit=4.0, atr_bars=14)
    runners: dict[str, Callable[[], Any]] = {
        "bare W1": partial(bare_w1, a["close"], t["open"], t["close"], 10, 30, 1.0, 0.77, CAPITAL),
        "W1": engine(bars),
        "W1, limits on": engine(bars, ALL_ON),
        "bare W2": partial(bare_w2, *(a[x] for x in a if x != "open"), *(t[x] for x in a), 10, 30, 14, 2.0, 4.0, 1.0, 0.77, CAPITAL),
        "W2": engine(bars, WIDE, bracket),
    }
    best = race(arguments.rounds, runners)
    long = walk(10 * arguments.bars)
    start = time.perf_counter()
    _ = long.ticks, long.adjusted, long.first_bad_row
    long_preparation = time.perf_counter() - start
    bare = partial(bare_w1, long.adjusted["close"], long.ticks["open"], long.ticks["close"], 10, 30, 1.0, 0.77, CAPITAL)
    best |= race(8, {"bare, 10 x bars": bare, "W1, 10 x bars": engine(long)})
    report(arguments.bars, best, preparation, long_preparation)
    equal = all(same_work(name, runners[f"bare {name}"](), runners[name]()) for name in LIMITS)
    slow = [name for name, limit in LIMITS.items() if best[name] > limit * best[f"bare {name}"]]
    print(f"too slow: {', '.join(slow)}" if slow else "within the limits: " + ", ".join(f"{k} <= {v:g} x bare" for k, v in LIMITS.items()))
    return 0 if equal and prepared and not slow else 1


def report(n: int, best: dict[str, float], preparation: float, long_preparation: float) -> None:
    print(f"{n:,} one-minute bars, best of interleaved runs, hot, one core\n")
    print(f"{'':16s}{'ms':>9s}{'ns/bar':>9s}{'Mbars/s':>9s}{'x bare':>9s}")
    for name, seconds in best.items():
        size = 10 * n if "10 x" in name else n
        against = best["bare W2" if "W2" in name else "bare, 10 x bars" if "10 x" in name else "bare W1"]
        print(f"{name:16s}{seconds * 1e3:9.2f}{seconds / size * 1e9:9.2f}{size / seconds / 1e6:9.0f}{seconds / against:9.2f}")
    print(
        f"\nOnce per Bars, not in the figures above (prices to ticks, adjusted series, look for bad prices): {preparation * 1e3:.1f} ms,"
        f" for 10 x bars {long_preparation * 1e3:.1f} ms"
    )
    print(f"All limits on: {best['W1, limits on'] / best['W1']:.2f} x W1\n")


if __name__ == "__main__":
    sys.exit(main())
