"""Protection: the distances of stop, take-profit and trailing stop as vectors over bars."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.data.bars import Bars, Floats
from mcl.strategy.indicators import atr_steps


class Distances(NamedTuple):
    """Whole ticks (at least 1) at each bar; empty where there is none. While the ATR warms up all
    of them are NaN.
    """

    stop: Floats
    take_profit: Floats
    trail: Floats


def protection(bars: Bars, rule: schema.Protection) -> Distances:
    """Distances of stop, take-profit and trailing stop. ConfigError for half a rule."""
    multiples = (rule.stop, rule.take_profit, rule.trail)
    if rule.unit == "none":
        if any(multiple is not None for multiple in multiples):
            raise ConfigError(
                f"risk.protection.stop={rule.stop}, take_profit={rule.take_profit} and"
                f" trail={rule.trail} need a unit; choose risk.protection.unit=ticks or atr"
            )
        return Distances(np.empty(0), np.empty(0), np.empty(0))
    if all(multiple is None for multiple in multiples):
        raise ConfigError(
            f"risk.protection.unit={rule.unit} protects nothing; set risk.protection.stop,"
            " take_profit or trail, or unit=none"
        )
    if rule.unit == "ticks":
        return Distances(
            *(
                np.full(0 if multiple is None else len(bars), _ticks(multiple))
                for multiple in multiples
            )
        )
    adjusted = bars.adjusted
    return Distances(
        *atr_steps(
            adjusted["high"],
            adjusted["low"],
            adjusted["close"],
            rule.atr_bars,
            bars.instrument.tick_size,
            multiples,
        )
    )


def _ticks(distance: float | None) -> float:
    return max(float(np.rint(distance or 0.0)), 1.0)
