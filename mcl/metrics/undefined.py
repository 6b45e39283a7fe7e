"""Explain why a metric is NaN: a clause per metric that can be undefined, instead of a number."""

from __future__ import annotations

import math
from collections.abc import Mapping

_FLAT = "fewer than two sessions, or the equity never moved"
_LOSSLESS = "no losing session, so there is nothing to divide by"
_DRY = "no drawdown, so there is nothing to divide by"
_UNPROTECTED = "a trade began without a protective stop, so that it has no risk to be a multiple of"
_UNTRADED = "no closed trade"

UNDEFINED: dict[str, str] = {
    "cagr_frac": "no session",
    "vol_ann_frac": _FLAT,
    "sharpe": _FLAT,
    "sharpe_lo_adjusted": (
        "fewer than 23 sessions, no variation, or autocorrelations that leave no positive variance"
    ),
    "sharpe_low": "too few sessions for a bootstrap, or the equity never moved",
    "sharpe_high": "too few sessions for a bootstrap, or the equity never moved",
    "psr": "fewer than four sessions, or the equity never moved",
    "sortino": _LOSSLESS,
    "omega": _LOSSLESS,
    "gain_to_pain": _LOSSLESS,
    "tail_ratio": "fewer than two sessions, or the 5 % quantile is zero",
    "stability_r2": "fewer than three sessions, or the equity never moved",
    "calmar": _DRY,
    "martin": _DRY,
    "recovery_factor": _DRY,
    "var95_frac": "fewer than two sessions",
    "cvar95_frac": "fewer than two sessions",
    "skew": "fewer than three sessions, or the equity never moved",
    "kurtosis": "fewer than four sessions, or the equity never moved",
    "avg_drawdown_sessions": "no drawdown",
    "avg_drawdown_frac": "no drawdown",
    "win_rate_frac": _UNTRADED,
    "profit_factor": "no losing trade, so there is nothing to divide by",
    "avg_trade_usd": _UNTRADED,
    "expectancy_r": "no closed trade, or one that began without a protective stop",
    "payoff": "no winning or no losing trade",
    "avg_win_usd": "no winning trade",
    "avg_loss_usd": "no losing trade",
    "best_trade_usd": _UNTRADED,
    "worst_trade_usd": _UNTRADED,
    "sqn": "fewer than two closed trades, or all with the same result",
    "sqn_capped": "fewer than two closed trades, or all with the same result",
    "avg_bars_held": _UNTRADED,
    "turnover_ann": "the mean equity is not positive",
}


def reasons(metrics: Mapping[str, float]) -> dict[str, str]:
    """{name: why} of every metric that is NaN; the names of other modules (dsr …) get a general
    clause.
    """
    traded = (
        {"expectancy_r": _UNPROTECTED}
        if metrics.get("trades", 0) > 0
        else {"expectancy_r": _UNTRADED}
    )
    clauses = UNDEFINED | traded
    return {
        name: clauses.get(name, "it cannot be computed from this run")
        for name, value in metrics.items()
        if math.isnan(value)
    }
