"""W1 of bench.py in vectorbt, for the interpreter of an environment that has it: EMA cross, next
open, slippage, fees, equity curve.

Prices are in ticks, so that one contract earns one dollar a tick; slippage is put into the fill
price, since vectorbt's is a fraction. Reads open and close from the file named on the command line;
prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt

FAST, SLOW, TICKS, COMMISSION, CAPITAL = 10, 30, 1.0, 0.77, 1e6


def mean(closes: np.ndarray, bars: int) -> np.ndarray:
    """Exponential mean seeded with the simple mean of the first `bars` values, as TA-Lib has it."""
    seeded = np.concatenate([[closes[:bars].mean()], closes[bars:]])
    smooth = pd.Series(seeded).ewm(alpha=2.0 / (bars + 1.0), adjust=False).mean().to_numpy()
    return np.concatenate([np.full(bars - 1, np.nan), smooth])


def run(opens: np.ndarray, closes: np.ndarray) -> tuple[int, float]:
    difference = mean(closes, FAST) - mean(closes, SLOW)
    side = np.nan_to_num(np.where(np.abs(difference) > 1e-9, np.sign(difference), 0.0))
    target = np.concatenate([[0.0], side[:-1]])
    change = np.diff(target, prepend=0.0)
    price = np.rint(opens / 0.01) + np.sign(change) * TICKS
    portfolio = vbt.Portfolio.from_orders(
        pd.Series(np.rint(closes / 0.01)),
        size=pd.Series(np.where(change != 0, target, np.nan)),
        size_type="targetamount",
        price=pd.Series(price),
        fixed_fees=pd.Series(np.abs(change) * COMMISSION),
        init_cash=CAPITAL,
        freq="1min",
    )
    value = portfolio.value()
    return int(portfolio.orders.count()), float(value.iloc[-1] - CAPITAL)


def main() -> None:
    data = np.load(sys.argv[1])
    opens, closes = data["open"], data["close"]
    run(opens, closes)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        fills, pnl = run(opens, closes)
        spent.append(time.perf_counter() - start)
    print(
        json.dumps(
            {"version": vbt.__version__, "seconds": min(spent), "fills": fills, "pnl_usd": pnl}
        )
    )


if __name__ == "__main__":
    main()
