"""Strategies made of strategies: a weighted mean of several, and one that trades only with a
coarser trend.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.data.bars import Bars, Floats
from mcl.strategy import Strategy, build, exposed, memory_at, register
from mcl.strategy.indicators import TOLERANCE, moments
from mcl.strategy.timeframe import higher, rows_at_most


def _three() -> dict[str, Any]:
    return {
        "trend": {"name": "ema_cross", "fast": 240, "slow": 960, "weight": 1.0},
        "breakout": {"name": "donchian", "channel": 480, "hold": 1380, "weight": 1.0},
        "momentum": {"name": "tsmom", "lookback": 1380, "weight": 1.0},
    }


@register
@dataclass(frozen=True)
class Ensemble:
    """The weighted mean of its members' signals: sum of weight · signal over sum of |weight|. A
    negative weight bets against a member.

    `members` maps a label of your own to {name, parameters …, weight}, so that the command line and
    a search reach each value: strategy.members.trend.fast=30. A missing weight is 1. Flat until
    every member with a weight has warmed up.
    """

    members: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = field(
        default_factory=_three
    )
    name: ClassVar[str] = "ensemble"

    def __post_init__(self) -> None:
        if not sum(map(abs, self._weighted.values())) > 0:
            raise ConfigError(
                f"need a member with a weight other than 0; the weights are {self._weighted}"
            )
        _ = self._parts

    @cached_property
    def _weighted(self) -> dict[str, float]:
        weights = {label: member.get("weight", 1.0) for label, member in self.members.items()}
        for label, weight in weights.items():
            if (
                isinstance(weight, bool)
                or not isinstance(weight, int | float)
                or not np.isfinite(weight)
            ):
                raise ConfigError(
                    f"strategy.members.{label}.weight={weight!r} is not a number; write a finite"
                    " one, 1 for all alike"
                )
        return weights

    @cached_property
    def _parts(self) -> dict[str, Strategy]:
        return {
            label: _member(f"members.{label}", params) for label, params in self.members.items()
        }

    @property
    def uses_levels(self) -> bool:
        return any(part.uses_levels for part in self._parts.values())

    @property
    def memory(self) -> int:
        return self.memory_at("1m")

    def memory_at(self, interval: str) -> int:
        return max(memory_at(part, interval) for part in self._parts.values())

    def signal(self, bars: Bars) -> Floats:
        used = {label: weight for label, weight in self._weighted.items() if weight}
        total = sum(map(abs, used.values()))
        mean = np.zeros(len(bars))
        for label, weight in used.items():
            mean += (weight / total) * self._parts[label].signal(bars)
        return np.clip(mean, -1.0, 1.0)  # 1/3 + 1/3 + 1/3 may be a bit more than 1

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        parts = self._parts.items()
        return {
            f"{label}.{name}": values
            for label, part in parts
            for name, values in exposed(part, bars).items()
        }


def _crossing() -> dict[str, Any]:
    return {"name": "ema_cross", "fast": 120, "slow": 480}


@register
@dataclass(frozen=True)
class TrendFilter:
    """The signal of `inner` where it points the way of a coarser trend, flat elsewhere.

    The trend is up while the last closed `interval` bar closed above the mean of the last `bars`
    such closes, down while below.
    """

    inner: dict[str, Any] = field(default_factory=_crossing)
    interval: Annotated[str, Field(pattern=r"^(5s|10s|15s|30s|1m|5m|15m|30m|1h|session)$")] = (
        "session"
    )
    bars: Annotated[int, Field(ge=2, le=500)] = 20
    name: ClassVar[str] = "trend_filter"

    def __post_init__(self) -> None:
        _ = self._inner

    @cached_property
    def _inner(self) -> Strategy:
        return _member("inner", self.inner)

    @property
    def uses_levels(self) -> bool:
        return self._inner.uses_levels

    @property
    def memory(self) -> int:
        return self.memory_at("1m")

    def memory_at(self, interval: str) -> int:
        """The mean, the bar in progress, and one that may be cut off."""
        coarse = (self.bars + 2) * rows_at_most(self.interval, interval)
        return max(memory_at(self._inner, interval), coarse)

    def signal(self, bars: Bars) -> Floats:
        trend = self._trend(bars)
        inner = self._inner.signal(bars)
        return np.where(
            np.isnan(trend) | np.isnan(inner), np.nan, np.where(inner * trend > 0, inner, 0.0)
        )

    def indicators(self, bars: Bars) -> dict[str, Floats]:
        return exposed(self._inner, bars) | {"trend": self._trend(bars)}

    def _trend(self, bars: Bars) -> Floats:
        coarse = higher(bars, self.interval)
        above = coarse.close - moments(coarse.close, self.bars)[0]
        return coarse.align(np.where(np.abs(above) <= TOLERANCE, 0.0, np.sign(above)))


def _member(at: str, params: dict[str, Any]) -> Strategy:
    with _with_location(at):
        return build({key: value for key, value in params.items() if key != "weight"})


@contextmanager
def _with_location(at: str) -> Iterator[None]:
    """Add the key of a nested strategy to its errors."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"strategy.{at}: {error.message}", error.hint) from None
