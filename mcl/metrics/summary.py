"""The headline metrics of one run."""

from __future__ import annotations

import math

import numpy as np

from mcl.engine.curve import DrawdownSummary
from mcl.engine.result import FILL_REASONS, Result
from mcl.metrics import bootstrap, trades
from mcl.metrics import performance as perf
from mcl.metrics.overfit import psr_2012


def summary(result: Result) -> dict[str, float]:
    """Every headline metric of one run, by a flat name whose suffix is the unit. Undefined is NaN,
    never infinite.

    Returns are per session on the fixed start capital (sizing does not compound), annualised with
    252 sessions, risk-free rate 0. The maximum drawdown is measured at every bar close, time under
    water and its longest spell at session ends. `sharpe_low` and `sharpe_high` are the 95 %
    interval by the stationary block bootstrap (BCa). `gross_pnl_usd` is after slippage and before
    commission, as in the trade list: gross - commission = net.
    """
    drawdowns = result.curve.drawdown_summary(result.capital_usd)
    return (
        _profit(result)
        | _risk(result, drawdowns)
        | trades.summary(result)
        | _activity(result, drawdowns)
    )


def _profit(result: Result) -> dict[str, float]:
    traded = np.abs(result.fills["quantity"])
    slippage_ticks = float((traded * result.fills["slippage_ticks"]).sum())
    sessions = len(result.session_returns)
    return {
        "net_pnl_usd": result.net_pnl_usd,
        "gross_pnl_usd": result.net_pnl_usd + result.commission_usd,
        "commission_usd": float(result.commission_usd),
        "slippage_usd": slippage_ticks * result.bars.instrument.tick_value_usd,
        "return_frac": result.net_pnl_usd / result.capital_usd,
        "cagr_frac": perf.cagr(1 + result.net_pnl_usd / result.capital_usd, sessions),
    }


def _risk(result: Result, drawdowns: DrawdownSummary) -> dict[str, float]:
    returns = result.session_returns.to_numpy()
    m = perf.moments(returns)
    worst_usd, worst_frac = drawdowns.deepest_usd, drawdowns.deepest_frac
    low, high = bootstrap.sharpe_interval(returns)
    growth = perf.cagr(1 + result.net_pnl_usd / result.capital_usd, len(returns))
    under = perf.drawdown(result.session_equity.to_numpy(), result.capital_usd)[1]
    spells = perf.episodes(under)
    depths = spells.depths(under)
    return {
        "vol_ann_frac": perf.annual_volatility(returns),
        "sharpe": perf.sharpe(returns),
        "sharpe_lo_adjusted": perf.sharpe(returns) * perf.autocorrelation_factor(returns),
        "sharpe_low": low,
        "sharpe_high": high,
        "psr": psr_2012(m.sharpe, m.count, m.skew, m.kurtosis),
        "sortino": perf.sortino(returns),
        "omega": perf.omega(returns),
        "gain_to_pain": perf.gain_to_pain(returns),
        "tail_ratio": perf.tail_ratio(returns),
        "stability_r2": perf.stability(returns),
        "calmar": perf.ratio(growth, -worst_frac),
        "martin": perf.ratio(growth, perf.ulcer(under)),
        "recovery_factor": perf.ratio(result.net_pnl_usd, -worst_usd),
        "max_drawdown_usd": worst_usd,
        "max_drawdown_frac": worst_frac,
        "ulcer_frac": perf.ulcer(under),
        "var95_frac": perf.value_at_risk(returns),
        "cvar95_frac": perf.expected_shortfall(returns),
        "skew": m.skew,
        "kurtosis": m.kurtosis,
        "time_under_water_frac": float(np.mean(under < 0)) if len(under) else math.nan,
        "longest_drawdown_sessions": float(spells.longest),
        "avg_drawdown_sessions": spells.average,
        "avg_drawdown_frac": float(depths.mean()) if len(depths) else math.nan,
        "drawdowns": float(len(depths)),
    }


def _activity(result: Result, drawdowns: DrawdownSummary) -> dict[str, float]:
    fills, sessions = result.fills, len(result.session_returns)
    rolled = fills["bar"][fills["reason"] == FILL_REASONS.index("roll")]
    return {
        "exposure_frac": result.held_bars / len(result.bars),
        "turnover_contracts_per_session": float(np.abs(fills["quantity"]).sum()) / sessions,
        "turnover_ann": _turnover(result, drawdowns.mean_usd),
        "fills": float(len(fills)),
        "rolls_traded": float(len(np.unique(rolled))),
        "sessions": float(sessions),
        "bars": float(len(result.bars)),
    }


def _turnover(result: Result, mean_usd: float) -> float:
    """Notional of all fills over the mean equity, per year of 252 sessions (a negative price counts
    by its size).
    """
    fills, instrument = result.fills, result.bars.instrument
    usd = (
        float((np.abs(fills["quantity"]) * np.abs(fills["price_ticks"])).sum())
        * instrument.tick_value_usd
    )
    years = perf.years(len(result.session_returns))
    return perf.ratio(usd, mean_usd * years)
