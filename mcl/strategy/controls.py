"""Controls: strategies with nothing to say, to measure what costs, drift and luck do alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from mcl.data.bars import Bars, Floats
from mcl.strategy import register


@register
@dataclass(frozen=True)
class Flat:
    """Never in the market: the result must be exactly zero."""

    name: ClassVar[str] = "flat"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return 1

    def signal(self, bars: Bars) -> Floats:
        return np.zeros(len(bars))


@register
@dataclass(frozen=True)
class AlwaysLong:
    """Buy and hold, rolls included: what the market and the rolls paid."""

    name: ClassVar[str] = "always_long"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return 1

    def signal(self, bars: Bars) -> Floats:
        return np.ones(len(bars))


@register
@dataclass(frozen=True)
class Random:
    """A coin per block of time: long or short, blind to prices. It is a function of seed and clock
    alone, hence causal and repeatable.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    hold_sec: Annotated[int, Field(ge=1, le=31_536_000)] = 3600
    name: ClassVar[str] = "random"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        return 1

    def signal(self, bars: Bars) -> Floats:
        blocks = (bars.close_time // (self.hold_sec * 1_000_000_000)).astype(np.uint64)
        return np.where(
            _mixed(blocks ^ _mixed(np.array([self.seed], np.uint64))) >> np.uint64(63), 1.0, -1.0
        )


def _mixed(
    values: np.ndarray[tuple[int], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit moves every output bit."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
