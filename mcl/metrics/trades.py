"""Measure round trips. Results are net USD per trade (after slippage and commission), float64.

The last trade may still be open at the end of the data; it is marked to the last close, counts in
the P&L of the run, and is left out here. A trade that made exactly nothing is counted and is not a
win.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mcl.engine.result import FILL_REASONS, Result
from mcl.metrics.performance import Floats, ratio

Table = npt.NDArray[np.void]

THARP_CAP = 100
STILL_OPEN = FILL_REASONS.index("end")


def closed(result: Result) -> Table:
    """Return the round trips that were closed, as TRADE records."""
    trades: Table = result.trades[result.trades["exit_reason"] != STILL_OPEN]
    return trades


def net(trades: Table) -> Floats:
    return np.asarray(trades["gross_usd"] - trades["commission_usd"], dtype=np.float64)


def win_rate(pnl: Floats) -> float:
    return float(np.count_nonzero(pnl > 0)) / len(pnl) if len(pnl) else math.nan


def profit_factor(pnl: Floats) -> float:
    """Money won over money lost; NaN without a losing trade."""
    return ratio(float(pnl[pnl > 0].sum()), -float(pnl[pnl < 0].sum()))


def expectancy(pnl: Floats) -> float:
    return float(pnl.mean()) if len(pnl) else math.nan


def expectancy_r(trades: Table) -> float:
    """Mean result in multiples of what was at risk at the entry (Tharp's R), the distance of its
    protective stop in USD; NaN unless each trade had one.
    """
    risk = np.asarray(trades["risk_usd"], dtype=np.float64)
    return float((net(trades) / risk).mean()) if len(trades) and (risk > 0).all() else math.nan


def payoff(pnl: Floats) -> float:
    """Average win over average loss; NaN without both."""
    wins, losses = pnl[pnl > 0], pnl[pnl < 0]
    return float(wins.mean()) / -float(losses.mean()) if len(wins) and len(losses) else math.nan


def sqn(pnl: Floats, cap: int | None = None) -> float:
    """System quality number sqrt(n) · mean / std (ddof=1) of money results; Tharp's version caps n
    at 100.
    """
    n = len(pnl)
    if n < 2 or np.ptp(pnl) == 0:
        return math.nan
    return math.sqrt(n if cap is None else min(n, cap)) * float(pnl.mean()) / float(pnl.std(ddof=1))


def longest_run(hits: npt.NDArray[np.bool_]) -> int:
    """The most trades in a row for which `hits` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hits, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def summary(result: Result) -> dict[str, float]:
    """All trade metrics of a run, units in the names."""
    trades = closed(result)
    pnl = net(trades)
    return {
        "trades": float(len(trades)),
        "win_rate_frac": win_rate(pnl),
        "profit_factor": profit_factor(pnl),
        "avg_trade_usd": expectancy(pnl),
        "expectancy_r": expectancy_r(trades),
        "payoff": payoff(pnl),
        "best_trade_usd": float(pnl.max()) if len(pnl) else math.nan,
        "worst_trade_usd": float(pnl.min()) if len(pnl) else math.nan,
        "avg_win_usd": float(pnl[pnl > 0].mean()) if (pnl > 0).any() else math.nan,
        "avg_loss_usd": float(pnl[pnl < 0].mean()) if (pnl < 0).any() else math.nan,
        "longest_losing_run": float(longest_run(pnl < 0)),
        "sqn": sqn(pnl),
        "sqn_capped": sqn(pnl, THARP_CAP),
        "avg_bars_held": (
            float((trades["exit_bar"] - trades["entry_bar"]).mean()) if len(trades) else math.nan
        ),
    }
