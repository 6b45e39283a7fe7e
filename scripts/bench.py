"""How fast is the engine, as a ratio to a bare hand-written kernel that does the same work? Run by
`make bench`.

W1      EMA cross 10/30, always in the market with one contract, next-open fills, 1 tick and $0.77
        per side
W2      W1 with an ATR(14) bracket: stop at 2, take-profit at 4 (its bare kernel: indicators,
        brackets and flips, one loop)
limits  W1 with every limit on that needs no clock: on trades, orders, losses, drawdown, losses in a
row, margin, the end of the session
gates   the same with windows of the day and a volatility breaker, which are vectors over the bars
        and computed here as well
sweep   200 (fast, slow) combinations over 850 000 bars: indicators, simulation, fills, trades,
        equity at the end of each session and the deepest drawdown; in one process and in two that
        map the same bars, as `mcl sweep search.workers=2` does it. The bare kernel does the same in
        the same turns: how it scales is what the machine gives. Memory is that of all processes,
        shared pages once
10 M    W1 on ten million bars against one million, in a process of its own that holds nothing else

The bare kernels are fused loops over two or four arrays that keep nothing but the cash: no ledger,
no equity curve, no limits, no decision to share with live. All sides run hot and interleaved in one
process; the ratio decides, absolute figures wobble. Fill count and final P&L must be equal, or the
script exits with 1. So it does when a bound is missed while nothing else runs. When other processes
took the machine it says so and measures again. `--vectorbt PYTHON` adds vectorbt from an
environment of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
from numba import njit
from processor import peak_mb, repeated

from mcl.config import schema
from mcl.data.bars import ROLL_COLUMNS, Bars
from mcl.data.table import PRICES
from mcl.engine.backtest import plan, simulate
from mcl.engine.result import Result
from mcl.market.instruments import MCL, Contract
from mcl.risk.sizes.fixed import FixedSize
from mcl.search.worker_pool import attach, share
from mcl.strategy import build

BARS_PER_SESSION = 1_380
CAPITAL = 1e6  # W1 loses its costs steadily; no limit may end it
COSTS = schema.Costs(slippage_ticks=1.0, commission_usd=0.77)
FIXED = FixedSize(method="fixed")
WIDE = schema.Limits()
ALL_ON = schema.Limits(
    max_trades_per_session=100_000,
    max_orders_per_session=100_000,
    max_daily_loss_usd=1e8,
    max_drawdown_frac=0.9,
    max_loss_per_trade_usd=1e7,
    max_consecutive_losses=1_000_000,
    no_entry_before_close_sec=1,
    flatten_before_close_sec=1,
    initial_margin_usd=1_000.0,
    maintenance_margin_usd=900.0,
)
GATES = {
    "trading_windows": ("00:00-24:00",),
    "news_windows": ("Sun 12:00-12:01",),
    "volatility_ratio": 100.0,
}
BELOW = {"W1": 3.5, "W2": 4.0}  # x bare
LONG, SHORT = 10_000_000, 1_000_000
SWEEP_MB, LONG_MB = 600.0, 1000.0
COMBINATIONS = [(fast, slow) for fast in range(5, 45, 2) for slow in range(50, 150, 10)]
# combinations on 850 000 bars: asked for, and what the bare kernel did where that was asked
PER_SEC, PER_SEC_BARE = 200.0, 430.0


def walk(n: int, seed: int = 1) -> Bars:
    """One contract, a random walk in ticks. Made in parts, so that to make ten million bars takes
    little more than they do.
    """
    rng, last = np.random.default_rng(seed), 7_000
    ticks: dict[str, Any] = {f"{name}_ticks": np.empty(n, np.int32) for name in PRICES}
    for start in range(0, n, SHORT):
        rows = slice(start, min(start + SHORT, n))
        size = rows.stop - rows.start
        path = last + np.cumsum(rng.integers(-2, 3, (size, 2)).ravel()).reshape(size, 2)
        wicks = rng.integers(0, 3, (size, 2))
        last = int(path[-1, 1])
        made = (
            path[:, 0],
            path.max(axis=1) + wicks[:, 0],
            path.min(axis=1) - wicks[:, 1],
            path[:, 1],
        )
        for column, values in zip(ticks.values(), made, strict=True):
            column[rows] = values
    session = np.repeat(
        np.arange(10_000, 10_001 + n // BARS_PER_SESSION, dtype=np.int32), BARS_PER_SESSION
    )[:n]
    minute = np.resize(np.arange(BARS_PER_SESSION, dtype=np.int32), n)
    close_time = session * np.int64(86_400)
    close_time += minute * 60
    close_time *= 1_000_000_000
    return Bars(
        MCL,
        "1m",
        close_time,
        **ticks,
        volume=np.ones(n, np.int32),
        session=session,
        to_close_sec=(BARS_PER_SESSION - 1 - minute) * 60,
        contract=np.zeros(n, np.int32),
        roll=np.zeros(n, np.bool_),
        shift=np.zeros(1),
        left_at=np.full(1, np.nan),
        contracts=(Contract("MCLZ9", "MCL", 2029, 12, date(2029, 11, 19)),),
        roll_table=pd.DataFrame(columns=list(ROLL_COLUMNS)),
        fingerprint="bench",
        synthetic=True,
    )


@njit
def bare_w1(
    closes: Any,
    opens_ticks: Any,
    closes_ticks: Any,
    fast: int,
    slow: int,
    slippage: float,
    commission: float,
    capital: float,
) -> Any:
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
def bare_w2(
    highs: Any,
    lows: Any,
    closes: Any,
    o: Any,
    h: Any,
    lo: Any,
    c: Any,
    fast: int,
    slow: int,
    length: int,
    stop_at: float,
    take_at: float,
    slippage: float,
    commission: float,
    capital: float,
) -> Any:
    """W1 with a bracket at multiples of Wilder's range, set at the fill; out until the side changes
    after it was hit.
    """
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
        stop_distance, take_distance = (
            round(spread / 0.01 * stop_at),
            round(spread / 0.01 * take_at),
        )
        target = 1 if f > s else -1
        if barred != target:
            barred = 0
        else:
            target = 0
    return fills, capital + (cash + position * c[n - 1]) - sides * commission - capital


def engine(
    bars: Bars, limits: schema.Limits = WIDE, protection: schema.Protection | None = None
) -> Callable[[], Result]:
    """The product: strategy, sizing, protection, simulation, fills, trades and equity curve of one
    run.
    """
    risk = schema.Risk(size=FIXED, protection=protection or schema.Protection(), limits=limits)
    strategy = build({"name": "ema_cross", "fast": 10, "slow": 30})

    def run() -> Result:
        result = simulate(bars, plan(bars, strategy, risk, CAPITAL), limits, COSTS, CAPITAL)
        _ = result.equity  # made when it is asked for
        return result

    return run


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
    print(
        f"{name}: fills {fills:,} and {len(result.fills):,}, P&L {pnl:,.2f} and"
        f" {result.net_pnl_usd:,.2f}: {verdict}"
    )
    return equal


def swept(bars: Bars, combinations: list[tuple[int, int]]) -> None:
    """What a trial of `mcl sweep` takes from the engine: trades, the equity at the end of each
    session and the deepest drawdown.
    """
    risk = schema.Risk(size=FIXED, limits=WIDE)
    for fast, slow in combinations:
        strategy = build({"name": "ema_cross", "fast": fast, "slow": slow})
        result = simulate(bars, plan(bars, strategy, risk, CAPITAL), WIDE, COSTS, CAPITAL)
        _ = result.session_equity, result.curve.drawdown_summary(CAPITAL)


def swept_bare(bars: Bars, combinations: list[tuple[int, int]]) -> None:
    for fast, slow in combinations:
        bare_w1(
            bars.adjusted["close"],
            bars.ticks["open"],
            bars.ticks["close"],
            fast,
            slow,
            1.0,
            0.77,
            CAPITAL,
        )


def _worker(folder: Path, pipe: Any) -> None:
    """Says when it is ready; then for each (work, part of, parts) the seconds that it took and the
    memory of this process.
    """
    bars = attach(folder)
    works = {"engine": swept, "bare": swept_bare}
    for work in works.values():
        work(bars, COMBINATIONS[:2])
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        name, which, of = asked
        start = time.perf_counter()
        works[name](bars, COMBINATIONS[which::of])
        pipe.send((time.perf_counter() - start, _memory_mb()))


def _memory_mb() -> tuple[float, float]:
    """Of this process: all that it has in memory, and its proportional set size: a page that
    several map counts once between them.
    """
    used = psutil.Process().memory_full_info() if psutil.LINUX else psutil.Process().memory_info()
    # outside Linux the system does not share pages out
    return used.rss / 2**20, getattr(used, "pss", used.rss) / 2**20


class Sweeps(NamedTuple):
    """Least seconds for all combinations by (work, processes), and the memory of one and of two
    processes in MB.
    """

    seconds: dict[tuple[str, int], float]
    one_mb: float
    two_mb: float

    def scales(self, work: str) -> float:
        return self.seconds[work, 1] / self.seconds[work, 2]


def sweeps(n: int, rounds: int = 6) -> Sweeps:
    """The same two workers do everything in turns, alone (the other one waits) and together, so
    that a disturbance meets all of it.
    """
    context, best, one_mb, two_mb = (
        mp.get_context("spawn"),
        dict[tuple[str, int], float](),
        0.0,
        0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        shared = share(walk(n), Path(folder) / "bars")
        pipes = [context.Pipe() for _ in range(2)]
        workers = [
            context.Process(target=_worker, args=(shared, theirs), daemon=True)
            for _, theirs in pipes
        ]
        for worker, (mine, _) in zip(workers, pipes, strict=True):
            worker.start()
            mine.recv()
        for _ in range(rounds):
            for name, count in (("bare", 1), ("engine", 1), ("bare", 2), ("engine", 2)):
                for which, (mine, _) in enumerate(pipes[:count]):
                    mine.send((name, which, count))
                told = [mine.recv() for mine, _ in pipes[:count]]
                best[name, count] = min(
                    best.get((name, count), np.inf), max(seconds for seconds, _ in told)
                )
                one_mb = max(one_mb, told[0][1][0])
                two_mb = max(two_mb, sum(pss for _, (_, pss) in told)) if count == 2 else two_mb
        for worker, (mine, _) in zip(workers, pipes, strict=True):
            mine.send(None)
            worker.join()
    return Sweeps(best, one_mb, two_mb)


def _grown(n: int, rounds: int, pipe: Any) -> None:
    """ns/bar of W1 and the peak memory of this process in MB."""
    run = engine(walk(n))
    best = race(rounds, {"W1": run})["W1"]
    pipe.send((best / n * 1e9, peak_mb()))


def grown(n: int, rounds: int) -> tuple[float, float]:
    context = mp.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_grown, args=(n, rounds, theirs))
    process.start()
    told: tuple[float, float] = mine.recv()
    process.join()
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bars", type=int, default=850_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--vectorbt", metavar="PYTHON", help="interpreter of an environment with vectorbt"
    )
    arguments = parser.parse_args()
    return repeated(partial(measured, arguments))


def measured(arguments: argparse.Namespace) -> bool:
    """Print every figure; whether all bounds are kept. Work that is not equal ends the script."""
    bars = walk(arguments.bars)
    start = time.perf_counter()
    t, a = bars.ticks, bars.adjusted
    prepared = bars.unpriced_roll < 0 and not bars.event[0]
    preparation = time.perf_counter() - start
    bracket = schema.Protection(unit="atr", stop=2.0, take_profit=4.0, atr_bars=14)
    runners: dict[str, Callable[[], Any]] = {
        "bare W1": partial(bare_w1, a["close"], t["open"], t["close"], 10, 30, 1.0, 0.77, CAPITAL),
        "W1": engine(bars),
        "W1, limits on": engine(bars, ALL_ON),
        "W1, gates on": engine(bars, ALL_ON.model_copy(update=GATES)),
        "bare W2": partial(
            bare_w2,
            *(a[x] for x in a if x != "open"),
            *(t[x] for x in a),
            10,
            30,
            14,
            2.0,
            4.0,
            1.0,
            0.77,
            CAPITAL,
        ),
        "W2": engine(bars, WIDE, bracket),
    }
    best = race(arguments.rounds, runners)
    equal = all(same_work(name, runners[f"bare {name}"](), runners[name]()) for name in BELOW)
    if arguments.vectorbt:
        equal &= against_vectorbt(arguments.vectorbt, bars, best["W1"], runners["W1"]())
    if not equal or not prepared:
        sys.exit("the work is not the same: no ratio says anything")
    del bars, t, a, runners
    search = sweeps(arguments.bars)
    growth = [grown(SHORT, 20), grown(LONG, 5)]
    report(arguments.bars, best, preparation)
    return judged(arguments.bars, best, search, growth)


def judged(
    n: int, best: dict[str, float], search: Sweeps, growth: list[tuple[float, float]]
) -> bool:
    """Every figure that is asked for, with what was measured and its bound; whether all of them are
    kept.
    """
    one, two = search.seconds["engine", 1], search.seconds["engine", 2]
    (short_ns, _), (long_ns, long_mb) = growth
    count, bare = len(COMBINATIONS), search.seconds["bare", 1] / len(COMBINATIONS)
    at_most = [
        (f"{name}, x bare", best[name] / best[f"bare {name}"], limit)
        for name, limit in BELOW.items()
    ]
    at_most += [
        (f"{name}, x W1", best[name] / best["W1"], 1.5)
        for name in ("W1, limits on", "W1, gates on")
    ]
    at_most += [
        ("sweep: memory of one process, MB", search.one_mb, SWEEP_MB),
        ("sweep: memory of two processes, MB", search.two_mb, SWEEP_MB),
        (f"{LONG:,} bars: ns/bar, x that of {SHORT:,}", long_ns / short_ns, 1.3),
        (f"{LONG:,} bars: peak memory of the process, MB", long_mb, LONG_MB),
    ]
    at_least = [
        ("sweep: combinations per second on one core", count / one, PER_SEC),
        ("sweep: two processes, x one", search.scales("engine"), 1.8),
    ]
    bare_two = search.seconds["bare", 2] / count
    print(
        f"sweep of {count} on {n:,} bars: {count / one:.0f}/s and {count / two:.0f}/s; bare"
        f" {1 / bare:.0f}/s and {1 / bare_two:.0f}/s"
    )
    print(
        f"(the bound was set where that does {PER_SEC_BARE:.0f}/s; in proportion it would be"
        f" {PER_SEC / PER_SEC_BARE / bare:.0f}/s)"
    )
    print(
        f"two processes, x one: the bare kernel {search.scales('bare'):.2f}, the engine"
        f" {search.scales('engine'):.2f}"
    )
    print(f"W1 on {SHORT:,} bars: {short_ns:.2f} ns/bar; on {LONG:,}: {long_ns:.2f}\n")
    rows = [(text, value, "<=", limit, value <= limit) for text, value, limit in at_most]
    rows += [(text, value, ">=", limit, value >= limit) for text, value, limit in at_least]
    for text, value, sign, limit, kept in rows:
        print(f"{'ok  ' if kept else 'MISS'} {text:52s} {value:8.2f} {sign} {limit:g}")
    return all(kept for *_, kept in rows)


def against_vectorbt(python: str, bars: Bars, seconds: float, result: Result) -> bool:
    """The same signals, prices, slippage and fees through vectorbt's from_orders; fills and P&L
    must be equal.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.npz"
        np.savez(path, open=bars.open, close=bars.close)
        script = Path(__file__).with_name("bench_vectorbt.py")
        done = subprocess.run(
            [python, str(script), str(path)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        print(
            "vectorbt did not run:"
            f" {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}"
        )
        return False
    told = json.loads(done.stdout.splitlines()[-1])
    print(
        f"vectorbt {told['version']}: {told['seconds'] * 1e3:.1f} ms end to end,"
        f" {told['seconds'] / seconds:.1f} x W1"
    )
    print(
        f"  fills {told['fills']:,} and {len(result.fills):,}, P&L {told['pnl_usd']:,.2f} and"
        f" {result.net_pnl_usd:,.2f}"
    )
    return bool(
        told["fills"] == len(result.fills) and abs(told["pnl_usd"] - result.net_pnl_usd) < 0.01
    )


def report(n: int, best: dict[str, float], preparation: float) -> None:
    print(f"\n{n:,} one-minute bars, best of interleaved runs, hot, one core\n")
    print(f"{'':16s}{'ms':>9s}{'ns/bar':>9s}{'Mbars/s':>9s}{'x bare':>9s}")
    for name, seconds in best.items():
        against = best["bare W2" if "W2" in name else "bare W1"]
        print(
            f"{name:16s}{seconds * 1e3:9.2f}{seconds / n * 1e9:9.2f}"
            f"{n / seconds / 1e6:9.0f}{seconds / against:9.2f}"
        )
    print(
        "\nOnce per Bars, not in the figures above (prices to ticks, adjusted series, look for bad"
        f" prices): {preparation * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
