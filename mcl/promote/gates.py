"""Gates: what a run must show before it may trade, each with its value, its rule and what it means.

An undefined value (NaN) never passes. The deflated Sharpe ratio asks how much of the result is the luck of having tried many
configurations: it counts every distinct configuration that the same study has tried on the same data.
Source: Bailey & López de Prado (2014) "The Deflated Sharpe Ratio".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mcl import metrics, schema
from mcl.engine.result import Result
from mcl.metrics.overfit import dsr_2012
from mcl.promote.holdout import Look
from mcl.tracking import Store, StoredRun

SESSIONS_PER_YEAR = 252
TRIED = ("backtest", "trial")  # kinds of runs that tried a configuration; sweeps and grids only hold them together


@dataclass(frozen=True)
class Gate:
    """`rule` is text such as `>= 100`; `meaning` says in one clause what the value tells."""

    name: str
    value: float
    rule: str
    passed: bool
    meaning: str

    def __str__(self) -> str:
        shown = "undefined" if math.isnan(self.value) else f"{self.value:.6g}"
        return f"{self.name} = {shown} (rule: {self.rule}; {self.meaning})"


@dataclass(frozen=True)
class Trials:
    """What was tried in one study on the same data, the promoted run included. Sharpe ratios are per session."""

    count: int
    sharpes: tuple[float, ...]  # of those that have one; pruned and failed trials count but have none

    @property
    def variance(self) -> float:
        """Sample variance over the trials; NaN below two."""
        return float(np.var(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else math.nan


def evaluate(rules: schema.Promotion, result: Result, trials: Trials, look: Look) -> tuple[Gate, ...]:
    """Every configured gate, in the order of the configuration; a rule that is null leaves its gate out."""
    measured = metrics.summary(result)
    deflated = deflated_sharpe(measured, trials)
    means_deflated = f"probability of skill against the best of {_count(trials.count, 'trial')} by luck"
    if trials.count == 1:
        means_deflated = "only one trial: the probabilistic Sharpe ratio against zero"
    gates = (
        _at_least("trades", measured["trades"], rules.min_trades, "round trips in the search window"),
        _at_least("sessions", measured["sessions"], rules.min_sessions, "sessions in the search window"),
        _at_most("drawdown_frac", -measured["max_drawdown_frac"], rules.max_drawdown_frac, "deepest fall, of the peak before it"),
        _at_least("deflated_sharpe", deflated, rules.min_deflated_sharpe, means_deflated),
        _at_least("holdout_sharpe", look.sharpe, rules.min_holdout_sharpe, look.meaning),
        _at_least("holdout_trades", look.trades, rules.min_holdout_trades, look.meaning),
    )
    return tuple(gate for gate in gates if gate is not None)


def left_out(rules: schema.Promotion) -> tuple[str, ...]:
    """The rules that the configuration switches off; a promoted version says so."""
    return tuple(name for name, value in rules.model_dump().items() if value is None)


def deflated_sharpe(measured: dict[str, float], trials: Trials) -> float:
    """Probability that the Sharpe ratio is above what the best of all trials would show by luck; with one trial, above zero."""
    variance = trials.variance if trials.count > 1 else 0.0
    return dsr_2012(
        measured["sharpe"] / math.sqrt(SESSIONS_PER_YEAR),
        int(measured["sessions"]),
        measured["skew"],
        measured["kurtosis"],
        trials=trials.count,
        trial_variance=variance,
    )


def trials_of(stored: StoredRun, store: Store) -> Trials:
    """Every distinct configuration that the run's study has tried on the run's data: hand runs, grid jobs and search trials."""
    runs = [run for run in store.in_study(stored.study) if run.tags.get("mcl.kind") in TRIED]
    groups = {run.parent for run in runs if run.parent and _same_data(run, stored)}
    tried = {_identity(run): run for run in [*runs, stored] if _same_data(run, stored) or run.parent in groups}
    annual = (run.metrics.get("sharpe", math.nan) for run in tried.values())
    return Trials(len(tried), tuple(_finite(value / math.sqrt(SESSIONS_PER_YEAR) for value in annual)))


def _same_data(run: StoredRun, other: StoredRun) -> bool:
    return run.tags.get("data_fingerprint") == other.tags["data_fingerprint"]


def _identity(run: StoredRun) -> str:
    """The same configuration run twice is one trial; a trial that failed before it had a fingerprint is one of its own."""
    return run.tags.get("config_sha256") or run.run_id


def _at_least(name: str, value: float, bound: float | None, meaning: str) -> Gate | None:
    return None if bound is None else Gate(name, float(value), f">= {bound:g}", value >= bound, meaning)


def _at_most(name: str, value: float, bound: float | None, meaning: str) -> Gate | None:
    return None if bound is None else Gate(name, float(value), f"<= {bound:g}", value <= bound, meaning)


def _finite(values: Iterable[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
