"""The table at the end: every number with its rule, and pass, borderline or stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mcl.base.errors import ConfigError, nearest
from mcl.base.words import UNDEFINED
from mcl.config import schema
from mcl.report.format import SHORT, number, too_short

PASS, BORDERLINE, STOP, UNKNOWN = "pass", "borderline", "stop", "not judged"
LABELS = {
    "deflated_sharpe": "Deflated Sharpe (probability)",
    "sharpe_low": "Lower end of the Sharpe interval",
    "history_ratio": "Years of data / MinBTL",
    "walk_forward_anchored": "Walk-forward Sharpe, anchored",
    "walk_forward_rolling": "Walk-forward Sharpe, rolling",
    "cpcv_negative": "Losing CPCV paths",
    "pbo": "Probability of backtest overfitting",
    "spa": "SPA p-value of the space",
    "timing": "p-value of the timing",
    "holdout": "Highest plausible hold-out Sharpe",
    "costs_doubled": "Sharpe at twice the costs",
    "break_even": "Break-even / assumed slippage",
    "plateau": "Plateau / peak",
    "edge": "Parameters at the edge",
    "delay": "Sharpe kept one bar late",
    "regime": "Profit share of one volatility third",
    "rolls": "Worst roll rule / own",
    "drawdown": "Drawdown, worst of twenty histories",
}


@dataclass(frozen=True)
class Row:
    """`level` is pass, borderline, stop, or not judged with the reason in `meaning`."""

    name: str
    label: str
    value: float
    rule: str
    level: str
    meaning: str
    sessions: float = math.inf

    @property
    def text(self) -> str:
        """The value as it is shown: none for a figure per year of too few sessions."""
        if math.isnan(self.value):
            return UNDEFINED
        return SHORT if too_short(self.sessions) else number(self.value, "plain")


@dataclass(frozen=True)
class Number:
    """`sessions` are those behind a figure per year."""

    value: float
    meaning: str
    sessions: float = math.inf


def table(numbers: Mapping[str, Number], rules: Mapping[str, schema.Level]) -> list[Row]:
    """One row per rule, in the order of the rules. ConfigError on a rule that names nothing."""
    for name in rules:
        if name not in LABELS:
            raise ConfigError(
                f"validate.rules.{name} is no rule: {nearest(name, LABELS)}",
                f"valid: {', '.join(LABELS)}",
            )
    return [
        _row(name, numbers[name], good, bad)
        for name, (good, bad) in rules.items()
        if name in numbers
    ]


def overall(rows: list[Row]) -> str:
    """The worst level of the rows that could be judged."""
    levels = {row.level for row in rows}
    return next((level for level in (STOP, BORDERLINE, PASS) if level in levels), UNKNOWN)


def sentence(rows: list[Row]) -> str:
    counted = {
        level: [r.label for r in rows if r.level == level]
        for level in (PASS, BORDERLINE, STOP, UNKNOWN)
    }
    parts = [f"{len(counted[PASS])} of {len(rows)} questions passed"]
    parts += [
        f"{word}: {', '.join(counted[level])}"
        for level, word in ((STOP, "stop"), (BORDERLINE, "borderline"))
        if counted[level]
    ]
    return "; ".join(parts) + "."


def _row(name: str, answer: Number, good: float, bad: float) -> Row:
    sign = "<=" if good < bad else ">="
    other = ">=" if good < bad else "<="
    stop = "else stop" if good == bad else f"stop {other} {bad:g}"
    return Row(
        name,
        LABELS[name],
        answer.value,
        f"pass {sign} {good:g}, {stop}",
        level(answer.value, good, bad),
        answer.meaning,
        answer.sessions,
    )


def level(value: float, good: float, bad: float) -> str:
    if math.isnan(value):
        return UNKNOWN
    flipped = -1.0 if good < bad else 1.0
    if flipped * value >= flipped * good:
        return PASS
    return STOP if flipped * value <= flipped * bad else BORDERLINE
