"""One trial: a configuration with some values replaced, simulated and judged. Pure computation, so that worker processes can do it."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mcl import config, metrics, schema
from mcl.data.bars import Bars
from mcl.data.load import load
from mcl.engine.backtest import backtest as simulate
from mcl.engine.result import Result
from mcl.errors import ConfigError, MclError
from mcl.search.space import overlay

State = Literal["COMPLETE", "PRUNED", "FAILED"]
KEPT_DATA_SETS = 4  # a search may vary data keys such as data.interval; more than these are loaded again


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. Never a made-up score: a value has only COMPLETE, and the duplicate of one.

    reason   "" | constraint | no_trades | undefined | duplicate (PRUNED) | the exception's class (FAILED)
    detail   the sentence behind the reason
    returns  P&L of each session over the capital; `sessions` holds the trade dates as days since 1970-01-01
    """

    number: int
    params: dict[str, Any]
    state: State
    reason: str = ""
    detail: str = ""
    value: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  # the whole validated configuration; empty when it is not valid
    sessions: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    returns: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    seconds: float = 0.0
    traceback: str = ""


class Market:
    """The bars of each distinct data configuration, loaded once. Hold-out bars are never loaded."""

    def __init__(self, root: Path, known: Mapping[str, Bars] | None = None) -> None:
        self.root = root
        self.loaded: dict[str, Bars] = dict(known or {})

    def bars(self, data: schema.Data) -> Bars:
        key = data_key(data)
        if key not in self.loaded:
            while len(self.loaded) >= KEPT_DATA_SETS:
                del self.loaded[next(iter(self.loaded))]
            self.loaded[key] = load(data, self.root, holdout=False)
        return self.loaded[key]


def data_key(data: schema.Data) -> str:
    return config.digest(data.model_dump(mode="json"))


@dataclass(frozen=True)
class Objective:
    """What a worker needs to judge a point of the space."""

    raw: dict[str, Any]
    search: schema.Search
    market: Market

    def __call__(self, number: int, params: dict[str, Any]) -> Outcome:
        """The outcome at `params`. Every exception becomes a FAILED outcome with its traceback: one bad point must not end a search."""
        started = time.perf_counter()
        try:
            done = self._judged(number, params)
        except Exception as error:
            detail = error.message if isinstance(error, MclError) else f"{type(error).__name__}: {error}"
            done = Outcome(number, params, "FAILED", type(error).__name__, detail, traceback=traceback.format_exc())
        return replace(done, seconds=time.perf_counter() - started)

    def _judged(self, number: int, params: dict[str, Any]) -> Outcome:
        try:
            run = config.run_config(overlay(self.raw, params))
        except ConfigError as error:
            return Outcome(number, params, "PRUNED", "constraint", error.message)
        result = simulate(run, self.market.bars(run.data))
        measured = metrics.summary(result)
        state, reason, detail = self._verdict(measured)
        return Outcome(
            number=number,
            params=params,
            state=state,
            reason=reason,
            detail=detail,
            value=measured[self.search.metric] if state == "COMPLETE" else math.nan,
            metrics=measured,
            config=run.model_dump(mode="json"),
            sessions=session_days(result),
            returns=result.session_returns.to_numpy(),
        )

    def _verdict(self, measured: dict[str, float]) -> tuple[State, str, str]:
        trades, metric = measured["trades"], self.search.metric
        if trades < self.search.min_trades:
            return "PRUNED", "no_trades", f"{trades:.0f} trades, fewer than search.min_trades={self.search.min_trades}"
        if not math.isfinite(measured[metric]):
            return "PRUNED", "undefined", f"{metric} is not defined for these {trades:.0f} trades"
        return "COMPLETE", "", ""


def session_days(result: Result) -> npt.NDArray[np.int64]:
    """Trade dates of the session returns as days since 1970-01-01."""
    return result.session_returns.index.to_numpy().astype("datetime64[D]").astype(np.int64)
