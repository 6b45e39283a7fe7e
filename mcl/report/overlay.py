"""Lines over the price of a run: what its strategy looks at, and where its protective orders
stood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mcl.base.errors import ConfigError
from mcl.data.bars import Bars, Floats
from mcl.strategy import Strategy, exposed, memory_at

MOST = 6  # indicators that a chart shows: the first ones that the strategy names
# rows beyond a strategy's memory on which an indicator is asked whether it follows the price
PROBE = 3000


@dataclass(frozen=True)
class Overlay:
    """One value per bar, NaN where there is none: prices of the dated contract when `on_price`,
    else in units of its own.

    `protective` lines are steps and only drawn in a zoomed window: over two years they would be a
    carpet.
    """

    name: str
    values: Floats
    on_price: bool = True
    protective: bool = False


def indicators(strategy: Strategy, bars: Bars) -> list[Overlay]:
    """The indicators that the strategy exposes, prices among them moved back from the continuous
    series to the dated contract.

    Whether one is a price is not guessed from its values: all prices are shifted by one unit, and a
    price moves along.
    """
    series_by_name = dict(list(_exposed(strategy, bars).items())[:MOST])
    if not series_by_name:
        return []
    probe = bars.rows(0, min(len(bars), memory_at(strategy, bars.interval) + PROBE))
    still, shifted = (
        _exposed(strategy, probe),
        _exposed(strategy, replace(probe, shift=probe.shift + 1.0)),
    )
    ratio = 1.0 if bars.ratio is None else bars.ratio[bars.contract]
    overlays = []
    for name, values in series_by_name.items():
        moved = shifted[name] - still[name]
        on_price = bool(np.isfinite(moved).any()) and math.isclose(
            float(np.nanmedian(moved)), 1.0, abs_tol=1e-6
        )
        overlays.append(
            Overlay(
                name.replace("_", " "),
                (values - bars.adjustment) / ratio if on_price else values,
                on_price,
            )
        )
    return overlays


def protection(stop_ticks: Floats, take_profit_ticks: Floats, bars: Bars) -> list[Overlay]:
    """The levels of the protective orders (ticks, from `engine.levels`) as lines; a kind that never
    stood has none.
    """
    size = bars.instrument.tick_size
    named = (("Stop level", stop_ticks), ("Take-profit level", take_profit_ticks))
    return [
        Overlay(name, ticks * size, protective=True)
        for name, ticks in named
        if np.isfinite(ticks).any()
    ]


def _exposed(strategy: Strategy, bars: Bars) -> dict[str, Floats]:
    try:
        indicators = exposed(strategy, bars)
    except Exception as error:
        raise ConfigError(
            f"{strategy.name}.indicators failed: {type(error).__name__}: {error}"
        ) from error
    for name, values in indicators.items():
        if values.shape != (len(bars),):
            raise ConfigError(
                f"{strategy.name}.indicators: {name} has shape {values.shape}; it must be one value"
                f" per bar, ({len(bars)},)"
            )
    return indicators
