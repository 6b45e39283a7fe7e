"""Numbers and configs as text, formatted once for the terminal and for every page. No Plotly
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcl.base.words import UNDEFINED, many, unsigned_zero
from mcl.metrics.performance import LEAST_ANNUAL_SESSIONS

# figures per year: of a few sessions they say nothing
ANNUALISED = frozenset(
    {"cagr_frac", "sharpe", "sharpe_lo_adjusted", "sortino", "calmar", "martin", "vol_ann_frac"}
    | {"turnover_ann"}
)
SHORT = "too short"
HEADLINES = (  # of a run, where few numbers have room
    "net_pnl_usd",
    "sharpe",
    "dsr",
    "trials_counted",
    "max_drawdown_frac",
    "trades",
    "profit_factor",
    "exposure_frac",
)


@dataclass(frozen=True)
class MetricFormat:
    """The format of one metric. `better` is +1 when larger is better, -1 when smaller is, 0 when it
    is no judgement.
    """

    name: str
    label: str
    group: str
    style: str
    better: int = 0

    @property
    def title(self) -> str:
        """The label with its unit, where the number itself does not show one."""
        return f"{self.label}, USD" if self.style == "usd" and self.name in BY_NAME else self.label


# A drawdown and a quantile of losses are <= 0, so that larger is better. Calmar is no merit by
# itself: of two losing runs
# the one with the larger drawdown has the larger ratio.
METRICS = (
    MetricFormat("net_pnl_usd", "Net P&L", "Result", "usd", 1),
    MetricFormat("return_frac", "Return on capital", "Result", "percent", 1),
    MetricFormat("cagr_frac", "CAGR", "Result", "percent", 1),
    MetricFormat("sharpe", "Sharpe (annual) [95 % bootstrap]", "Result", "ratio", 1),
    MetricFormat("psr", "Probability Sharpe > 0", "Result", "percent", 1),
    MetricFormat("dsr", "Deflated Sharpe (probability)", "Result", "percent", 1),
    MetricFormat("trials_counted", "Trials it is deflated by", "Result", "count"),
    MetricFormat("best_by_luck", "Best Sharpe by luck alone", "Result", "ratio"),
    MetricFormat("dsr_at_run", "Deflated Sharpe when the run was made", "Result", "percent"),
    MetricFormat("trials_at_run", "Trials when the run was made", "Result", "count"),
    MetricFormat(
        "sharpe_lo_adjusted", "Sharpe, autocorrelation adjusted (Lo)", "Result", "ratio", 1
    ),
    MetricFormat("sortino", "Sortino", "Result", "ratio", 1),
    MetricFormat("omega", "Omega (0)", "Result", "ratio", 1),
    MetricFormat("gain_to_pain", "Gain to pain", "Result", "ratio", 1),
    MetricFormat("stability_r2", "Stability (R² of cumulative return)", "Result", "ratio"),
    MetricFormat("calmar", "Calmar", "Result", "ratio"),
    MetricFormat("martin", "Martin (growth / Ulcer)", "Result", "ratio"),
    MetricFormat("recovery_factor", "Recovery factor", "Result", "ratio"),
    MetricFormat(
        "walk_forward_efficiency", "Walk-forward efficiency (Sharpe)", "Result", "percent", 1
    ),
    MetricFormat(
        "walk_forward_pnl_efficiency", "Walk-forward efficiency (P&L)", "Result", "percent", 1
    ),
    MetricFormat("walk_forward_folds", "Folds", "Result", "count"),
    MetricFormat("max_drawdown_usd", "Max drawdown", "Risk", "usd", 1),
    MetricFormat("max_drawdown_frac", "Max drawdown of peak", "Risk", "percent", 1),
    MetricFormat("vol_ann_frac", "Annual volatility", "Risk", "percent"),
    MetricFormat("ulcer_frac", "Ulcer index", "Risk", "percent", -1),
    MetricFormat("var95_frac", "VaR 95 %", "Risk", "percent", 1),
    MetricFormat("cvar95_frac", "CVaR 95 %", "Risk", "percent", 1),
    MetricFormat("tail_ratio", "Tail ratio (95 % / 5 %)", "Risk", "ratio"),
    MetricFormat("skew", "Skew", "Risk", "ratio"),
    MetricFormat("kurtosis", "Kurtosis (normal 3)", "Risk", "ratio"),
    MetricFormat("time_under_water_frac", "Time under water", "Risk", "percent", -1),
    MetricFormat("longest_drawdown_sessions", "Longest drawdown", "Risk", "sessions", -1),
    MetricFormat("avg_drawdown_sessions", "Average drawdown, length", "Risk", "sessions", -1),
    MetricFormat("avg_drawdown_frac", "Average drawdown, depth", "Risk", "percent", 1),
    MetricFormat("drawdowns", "Drawdown episodes", "Risk", "count"),
    MetricFormat("trades", "Closed trades", "Trades", "count"),
    MetricFormat("win_rate_frac", "Win rate", "Trades", "percent"),
    MetricFormat("profit_factor", "Profit factor", "Trades", "ratio", 1),
    MetricFormat("avg_trade_usd", "Average trade", "Trades", "usd", 1),
    MetricFormat("expectancy_r", "Expectancy (R)", "Trades", "ratio", 1),
    MetricFormat("payoff", "Payoff ratio", "Trades", "ratio"),
    MetricFormat("avg_win_usd", "Average win", "Trades", "usd"),
    MetricFormat("avg_loss_usd", "Average loss", "Trades", "usd"),
    MetricFormat("longest_losing_run", "Max consecutive losses", "Trades", "count", -1),
    MetricFormat("best_trade_usd", "Best trade", "Trades", "usd"),
    MetricFormat("worst_trade_usd", "Worst trade", "Trades", "usd"),
    MetricFormat("sqn", "SQN", "Trades", "ratio", 1),
    MetricFormat("sqn_capped", "SQN, n capped at 100", "Trades", "ratio", 1),
    MetricFormat("avg_bars_held", "Average holding", "Trades", "bars"),
    MetricFormat("gross_pnl_usd", "Gross P&L (before commission)", "Costs and activity", "usd"),
    MetricFormat("commission_usd", "Commission", "Costs and activity", "usd", -1),
    MetricFormat("slippage_usd", "Slippage (in gross P&L)", "Costs and activity", "usd", -1),
    MetricFormat("fills", "Fills", "Costs and activity", "count"),
    MetricFormat(
        "turnover_contracts_per_session",
        "Turnover, contracts per session",
        "Costs and activity",
        "ratio",
    ),
    MetricFormat(
        "turnover_ann", "Turnover, times the equity per year", "Costs and activity", "ratio"
    ),
    MetricFormat("exposure_frac", "Exposure", "Costs and activity", "percent"),
    MetricFormat("rolls_traded", "Rolls traded", "Costs and activity", "count"),
    MetricFormat("sessions", "Sessions", "Costs and activity", "count"),
    MetricFormat("bars", "Bars", "Costs and activity", "count"),
)
BY_NAME = {metric.name: metric for metric in METRICS}
GROUPS = tuple(dict.fromkeys(metric.group for metric in METRICS))
INTERVALS = {"sharpe": ("sharpe_low", "sharpe_high")}  # shown inside the row of their estimate
STYLES = {
    "_usd": "usd",
    "_frac": "percent",
    "_bars": "bars",
    "_sessions": "sessions",
    "_ticks": "ticks",
    "_sec": "seconds",
}


def metric(name: str) -> MetricFormat:
    """Return the format of `name`; a metric that this module does not know is shown by the unit in
    its suffix, under "Other".
    """
    style = next((style for suffix, style in STYLES.items() if name.endswith(suffix)), "plain")
    return BY_NAME.get(name) or MetricFormat(name, name, "Other", style)


def number(value: float, style: str) -> str:
    """One number as text, NaN as n/a: `usd` -1,234.50 · `percent` 12.30 % · `count` 1,234 · `ratio`
    0.84 · `plain` 0.001234.
    """
    if not math.isfinite(value):
        return UNDEFINED
    match style:
        case "usd" | "ratio":
            return unsigned_zero(f"{value:,.2f}")
        case "percent":
            return unsigned_zero(f"{100 * value:,.2f}") + " %"
        case "count":
            return unsigned_zero(f"{value:,.0f}")
        case "sessions" | "bars" | "ticks" | "seconds":
            unit = style.removesuffix("s") if abs(value) == 1 else style
            digits = 0 if value == round(value) else 1
            return f"{unsigned_zero(f'{value:,.{digits}f}')} {unit}"
        case _:
            return unsigned_zero(f"{value:,.4g}")


def exact(value: float) -> str:
    """A number with all its digits; nothing has no sign."""
    return repr(float(value) + 0.0)


def too_short(sessions: float) -> str:
    """Say that so few sessions have no annual figure; empty where there are enough."""
    if not sessions < LEAST_ANNUAL_SESSIONS:
        return ""
    return (
        f"{many(sessions, 'session')} {'is' if sessions == 1 else 'are'} too short a time for"
        f" figures per year: {LEAST_ANNUAL_SESSIONS} are the least."
    )


def annual_text(name: str, value: float, sessions: float) -> str:
    """A metric as text, and in the place of a figure per year that the sessions are too few."""
    if name in ANNUALISED and math.isfinite(value) and too_short(sessions):
        return SHORT
    return number(value, metric(name).style)


def value_text(name: str, metrics: Mapping[str, float]) -> str:
    """The metric as text with its unit, and its interval where it has one."""
    if (text := annual_text(name, metrics[name], metrics.get("sessions", math.nan))) == SHORT:
        return text
    style = metric(name)
    text = number(metrics[name], style.style)
    bounds = INTERVALS.get(name, ())
    if bounds and all(math.isfinite(metrics.get(bound, math.nan)) for bound in bounds):
        low, high = (number(metrics[bound], style.style) for bound in bounds)
        return f"{text} [{low}, {high}]"
    return text


def metric_rows(metrics: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """(label, text, name) of every metric in reading order: the known ones, then the others by
    name.

    The bounds of an interval are in the row of their estimate and have none of their own.
    """
    inside = {bound for name, bounds in INTERVALS.items() if name in metrics for bound in bounds}
    names = [m.name for m in METRICS if m.name in metrics]
    names += sorted(name for name in metrics if name not in BY_NAME and name not in inside)
    return [(metric(name).title, value_text(name, metrics), name) for name in names]


def yaml_lines(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted key, one line of YAML-like text) in order, for reading rather than for parsing."""
    lines: list[tuple[str, str]] = []
    indent = "  " * prefix.count(".")
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            lines.append((f"{prefix}{key}", f"{indent}{key}:"))
            lines += yaml_lines(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", f"{indent}{key}: {scalar(value)}"))
    return lines


def scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(scalar, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


# why a fill happened, as a trader calls it; a reason that is not here is its own word
REASON_WORDS = {
    "risk": "limit",
    "take_profit": "take-profit",
    "end": "open at the end",
}


def reason_words(reason: str) -> str:
    return REASON_WORDS.get(reason, reason)


CREDIBLE = 0.95  # probability from which a deflated Sharpe ratio counts as more than luck


@dataclass(frozen=True)
class Verdict:
    """One sentence to act on. `level` is good, unclear or bad; `word` is in the
    badge, so that no colour is needed.
    """

    level: str
    word: str
    text: str


def verdict(metrics: Mapping[str, float]) -> Verdict:
    """Say what the Sharpe interval means, and, where the trial ledger was read, what is left after
    all that was tried.
    """
    if short := too_short(metrics.get("sessions", math.nan)):
        return Verdict("unclear", "Too short", short)
    low, high = (metrics.get(name, math.nan) for name in INTERVALS["sharpe"])
    if not (math.isfinite(low) and math.isfinite(high)):
        return _without_interval(metrics)
    ratio = f"Sharpe {value_text('sharpe', metrics)}"
    if lost := _lost(metrics, ratio, high):
        return lost
    if low <= 0:
        text = f"{ratio}: the interval includes zero, so chance alone can explain this result."
        return Verdict("unclear", "Not distinguishable from luck", text)
    return _among_all(metrics, ratio)


def _without_interval(metrics: Mapping[str, float]) -> Verdict:
    if math.isfinite(metrics.get("sharpe", math.nan)):
        text = (
            f"Sharpe {value_text('sharpe', metrics)}: the sessions vary too little for an interval,"
            " so nothing can be said of luck."
        )
        return Verdict("unclear", "No interval", text)
    text = "No Sharpe ratio can be estimated: too few sessions, or nothing was traded."
    return Verdict("unclear", "Undefined", text)


def _lost(metrics: Mapping[str, float], ratio: str, high: float) -> Verdict | None:
    """The verdict on a loser; None on a run that made money."""
    if high < 0:
        return Verdict("bad", "Losing", f"{ratio}: it loses money beyond what chance explains.")
    probability = metrics.get("psr", math.nan)
    if probability <= 1 - CREDIBLE:
        text = (
            f"{ratio}: it loses money. The probability that its true Sharpe is above zero is"
            f" {number(probability, 'percent')}."
        )
        return Verdict("bad", "Losing", text)
    if metrics.get("sharpe", math.nan) <= 0:
        text = f"{ratio}: it lost money; nothing here speaks for an edge."
        return Verdict("bad", "No edge", text)
    return None


def _among_all(metrics: Mapping[str, float], ratio: str) -> Verdict:
    """The verdict on a run whose interval is above zero, after all that was tried."""
    deflated, trials = metrics.get("dsr", math.nan), metrics.get("trials_counted", math.nan)
    if not (math.isfinite(deflated) and math.isfinite(trials)):
        text = (
            f"{ratio}: the interval is above zero for this one run. It does not count how many"
            " others were tried."
        )
        return Verdict("good", "Above zero", text)
    counted = (
        f"{number(deflated, 'percent')} after {many(trials, 'trial')} of"
        " this strategy on this market"
    )
    if deflated >= CREDIBLE:
        return Verdict(
            "good",
            "Beyond luck",
            f"{ratio}; the probability of an edge is {counted}. Only unseen data can confirm it.",
        )
    return Verdict(
        "unclear",
        "Best of many",
        f"{ratio} looks good alone, but the probability of an edge is only {counted}.",
    )


def p_text(p: float) -> str:
    """A p-value or a small probability with three decimals, and never as nothing."""
    if math.isnan(p):
        return UNDEFINED
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def stopped(drawdown_frac: float, limit: float | None, day: str = "") -> str:
    """That a run reached its limit of the drawdown and traded no more, in one sentence; empty where
    it did not.
    """
    if limit is None or not -drawdown_frac >= limit:
        return ""
    when = f" on {day}" if day else ""
    return (
        f"Trading stopped for good{when}: the drawdown reached"
        f" risk.limits.max_drawdown_frac={limit:g}. All numbers hold the idle rest."
    )
