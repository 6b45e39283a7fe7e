"""One trial: a configuration with some values replaced, simulated and judged. Pure computation, so
that worker processes can do it.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mcl import composition
from mcl.base import access_recorder
from mcl.base.errors import ConfigError, in_words
from mcl.base.words import many
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine import backtest as engine
from mcl.engine.result import Result
from mcl.metrics.summary import summary
from mcl.search.constraints import Rule, first_broken
from mcl.search.space import overlay
from mcl.strategy import build

State = Literal["COMPLETE", "PRUNED", "FAILED"]
# a search may vary data keys such as data.interval; more than these are loaded again
MOST_DATA_SETS = 4


@dataclass(frozen=True)
class Outcome:
    """The outcome of a trial. Only a COMPLETE one and the duplicate of one have a value.

    reason   PRUNED: constraint | no_trades | undefined | duplicate | fold K
             FAILED: the class of an exception | timeout | worker_died
             COMPLETE: empty
    detail   the sentence behind the reason
    others   values of the further objectives, in the order of `search.also`
    folds    [fold, what the pruner saw after it], of folds that have a value
    excess   how far each of `search.soft_constraints` is broken: 0 or less where it holds
    returns  P&L of each session over the capital. `sessions` has the trade dates as days since
             1970-01-01
    """

    number: int
    params: dict[str, Any]
    state: State
    reason: str = ""
    detail: str = ""
    value: float = math.nan
    others: list[float] = field(default_factory=list)
    folds: list[list[float]] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    # the whole validated configuration; empty when it is not valid
    config: dict[str, Any] = field(default_factory=dict)
    data_fingerprint: str = ""  # of the bars; empty where it did not come to any
    sessions: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    returns: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    seconds: float = 0.0
    traceback: str = ""
    # what a user's own code reads besides its bars
    reads: list[str] = field(default_factory=list)

    @property
    def overstep(self) -> float:
        """The sum by which soft constraints are broken. 0 where all of them hold."""
        return math.fsum(excess for excess in self.excess if excess > 0)


class DataCache:
    """The bars of each distinct data configuration, loaded once. Hold-out bars are never loaded."""

    def __init__(self, root: Path, bars_by_key: Mapping[str, Bars] | None = None) -> None:
        self.root = root
        self.loaded: dict[str, Bars] = dict(bars_by_key or {})
        self._folds: dict[tuple[str, int], list[Fold]] = {}
        self._last: tuple[schema.Data, str] | None = None

    def _key(self, data: schema.Data) -> str:
        """`data_key`, remembered: most searches vary nothing of the data."""
        if self._last is None or self._last[0] != data:
            self._last = data, data_key(data)
        return self._last[1]

    def bars(self, data: schema.Data) -> Bars:
        key = self._key(data)
        if key not in self.loaded:
            while len(self.loaded) >= MOST_DATA_SETS:
                del self.loaded[next(iter(self.loaded))]
            self.loaded[key] = load(data, self.root, holdout=False)
        return self.loaded[key]

    def folds(self, data: schema.Data, count: int) -> list[Fold]:
        """The bars of `data` in `count` parts of equally many sessions, in time order."""
        key = self._key(data), count
        if key not in self._folds:
            bars = self.bars(data)
            firsts = np.flatnonzero(np.diff(bars.session, prepend=bars.session[0] - 1))
            if len(firsts) < count:
                raise ConfigError(
                    f"search.folds={count} is more than the {len(firsts)} sessions of the data",
                    f"search.folds={len(firsts)}",
                )
            edges = [int(part[0]) for part in np.array_split(firsts, count)] + [len(bars)]
            self._folds = {key: [Fold(a, b, bars.rows(a, b)) for a, b in pairwise(edges)]}
        return self._folds[key]


@dataclass(frozen=True)
class Fold:
    """The bars of one part of the sessions: rows `start` up to `stop`."""

    start: int
    stop: int
    bars: Bars


def deciding(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a composed configuration that decides a result."""
    return {key: raw[key] for key in composition.DECIDES if key in raw}


def data_key(data: schema.Data) -> str:
    return composition.digest(data.model_dump(mode="json"))


# trial number, fold from 0, the metric in that fold -> stop here
Judge = Callable[[int, int, float], bool]


def no_pruning(number: int, fold: int, value: float) -> bool:
    """The judge without a pruner."""
    del number, fold, value
    return False


@dataclass(frozen=True)
class Objective:
    """Simulate and judge a point of the space."""

    raw: dict[str, Any]
    search: schema.Search
    data_cache: DataCache
    rules: tuple[Rule, ...] = ()
    soft: tuple[Rule, ...] = ()

    @property
    def spec(self) -> ObjectiveSpec:
        """The same without bars and computed values, for a worker in another process."""
        return ObjectiveSpec(self.raw, self.search, self.data_cache.root, self.rules, self.soft)

    def __call__(self, number: int, params: dict[str, Any], judge: Judge = no_pruning) -> Outcome:
        """The outcome at `params`. Every exception becomes a FAILED outcome with its traceback: one
        bad point must not end a search.
        """
        started = time.perf_counter()
        try:
            with access_recorder.recording() as reads:
                done = self._judged(number, params, judge)
            done = replace(done, reads=sorted(reads)) if reads else done
        except (Exception, SystemExit) as error:
            # the error of a user's own strategy
            cause = error.__cause__ if isinstance(error, ConfigError) else None
            kind = type(cause or error).__name__
            done = Outcome(
                number, params, "FAILED", kind, in_words(error), traceback=traceback.format_exc()
            )
        return replace(done, seconds=time.perf_counter() - started)

    def _judged(self, number: int, params: dict[str, Any], judge: Judge) -> Outcome:
        raw = overlay(self.raw, params)
        keys = composition.flatten(deciding(raw)) if self.rules or self.soft else {}
        if broken := first_broken((rule for rule in self.rules if rule.before_the_run), keys):
            return Outcome(number, params, "PRUNED", "constraint", broken)
        try:
            run = composition.run_config(
                {
                    key: self._validated_parts.get(key, part) if part is self.raw.get(key) else part
                    for key, part in raw.items()
                }
            )
        except ConfigError as error:
            if error.__cause__ is not None:
                raise  # a user's own code failed: no rule of the space
            return Outcome(number, params, "PRUNED", "constraint", error.message)
        bars = self.data_cache.bars(run.data)
        intent = engine.plan(bars, build(run.strategy), run.risk, run.capital_usd)
        if behind := self._behind(number, run, intent, judge):
            pruned = Outcome(number, params, "PRUNED", *behind, config=run.model_dump(mode="json"))
            return replace(pruned, data_fingerprint=bars.fingerprint)
        result = _simulated(bars, intent, run)
        measured = summary(result)
        state, reason, detail = self._verdict(measured, keys)
        return Outcome(
            number=number,
            params=params,
            state=state,
            reason=reason,
            detail=detail,
            value=measured[self.search.metric] if state == "COMPLETE" else math.nan,
            others=[measured[name] for name in self.search.also] if state == "COMPLETE" else [],
            excess=[rule.excess(keys | measured) for rule in self.soft],
            metrics=measured,
            config=run.model_dump(mode="json"),
            data_fingerprint=bars.fingerprint,
            sessions=session_days(result),
            returns=result.session_returns.to_numpy(),
        )

    @cached_property
    def _validated_parts(self) -> dict[str, Any]:
        """The parts of the unsearched configuration, validated: a trial validates those that it
        varies. Empty where it is not valid.
        """
        try:
            run = composition.run_config(self.raw)
        except ConfigError:
            return {}
        return {
            key: getattr(run, key)
            for key, part in self.raw.items()
            if isinstance(part, dict) and key in composition.DECIDES
        }

    def _behind(
        self, number: int, run: schema.Config, intent: engine.Plan, judge: Judge
    ) -> tuple[str, str] | None:
        """The fold after which the judge gave up, and the sentence about it. A fold without a value
        has no say.
        """
        if self.search.pruner == "none":
            return None
        metric, count = self.search.metric, self.search.folds
        for i, fold in enumerate(self.data_cache.folds(run.data, count)):
            value = summary(_simulated(fold.bars, intent.rows(fold.start, fold.stop), run))[metric]
            if math.isfinite(value) and judge(number, i, value):
                sentence = (
                    f"{metric} {value:.4g} in fold {i + 1} of {count}: behind the other trials"
                    f" ({self.search.pruner})"
                )
                return f"fold {i + 1}", sentence
        return None

    def _verdict(self, measured: dict[str, float], keys: dict[str, Any]) -> tuple[State, str, str]:
        trades = measured["trades"]
        if trades < self.search.min_trades:
            return (
                "PRUNED",
                "no_trades",
                f"{many(trades, 'trade')}, fewer than search.min_trades={self.search.min_trades}",
            )
        for metric in (self.search.metric, *self.search.also):
            if not math.isfinite(measured[metric]):
                return (
                    "PRUNED",
                    "undefined",
                    f"{metric} is not defined for these {many(trades, 'trade')}",
                )
        if broken := first_broken(
            (rule for rule in self.rules if not rule.before_the_run), keys | measured
        ):
            return "PRUNED", "constraint", broken
        return "COMPLETE", "", ""


@dataclass(frozen=True)
class ObjectiveSpec:
    """The plain fields from which a worker in another process makes its objective, without the
    bars.
    """

    raw: dict[str, Any]
    search: schema.Search
    root: Path
    rules: tuple[Rule, ...]
    soft: tuple[Rule, ...] = ()

    def objective(self, bars: Mapping[str, Bars]) -> Objective:
        """The objective over bars by `data_key`."""
        return Objective(self.raw, self.search, DataCache(self.root, bars), self.rules, self.soft)


def _simulated(bars: Bars, intent: engine.Plan, run: schema.Config) -> Result:
    return engine.simulate(bars, intent, run.risk.limits, run.costs, run.capital_usd, run.execution)


def session_days(result: Result) -> npt.NDArray[np.int64]:
    """Trade dates of the session returns as days since 1970-01-01."""
    bars = result.bars
    return bars.session[bars.session_ends].astype(np.int64)
