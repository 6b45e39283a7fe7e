"""Sizing: contracts per unit of signal as a vector over bars, from what is known at the close of
each.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
import numpy.typing as npt

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.data.bars import Bars, Floats
from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.risk.protection import protection
from mcl.strategy.indicators import atr


def scale(bars: Bars, risk: schema.Risk, capital_usd: float) -> Floats:
    """Contracts per unit of signal at each bar; NaN while the sizing rule warms up. A constant is a
    broadcast, not n copies.

    All rules use the fixed capital, not on the equity: sizing is not compounded, so that a
    size depends on bars alone. Formulae: Turtle unit and fixed fractional after Faith and Vince,
    volatility target after Carver, Kelly's continuous fraction mu / sigma^2 with mu = Sharpe x
    sigma, which is capital x Sharpe / sigma in contracts.
    """
    size = risk.size
    match size:
        case schema.FixedSize():
            return np.broadcast_to(np.float64(size.contracts), len(bars))
        case schema.FixedFractionalSize():
            loss_usd = _stop_distance(bars, risk) * bars.instrument.tick_value_usd + size.cost_usd
            return np.minimum(capital_usd * size.risk_frac / loss_usd, size.max_contracts)
        case schema.AtrUnitSize():
            range_usd = _range_usd(bars, size.atr_bars) * size.multiple
            return _per_risk(capital_usd * size.risk_frac, range_usd, size.max_contracts)
        case schema.VolTargetSize():
            return _per_volatility(bars, size, capital_usd * size.annual_vol_frac)
        case schema.KellySize():
            return _per_volatility(bars, size, capital_usd * size.fraction * size.sharpe)
        case _:
            assert_never(size)


def _per_volatility(
    bars: Bars, size: schema.VolTargetSize | schema.KellySize, budget_usd: float
) -> Floats:
    """Contracts whose annual volatility is the budget."""
    sessions, row_of = _sessions(bars)
    sigma_usd = _session_sigma_usd(bars, sessions, size.lookback_sessions) * np.sqrt(
        SESSIONS_PER_YEAR
    )
    by_session: Floats = _per_risk(budget_usd, sigma_usd, size.max_contracts)[row_of]
    return by_session


def buffer(contracts: Floats, risk: schema.Risk) -> Floats:
    """Carver's position buffer: contracts that the position may differ from the wanted one without
    a trade. Empty where the rule has none.
    """
    size = risk.size
    if not isinstance(size, schema.VolTargetSize) or not size.buffer_frac:
        return np.empty(0)
    return np.nan_to_num(size.buffer_frac * contracts, nan=0.0)


def _per_risk(budget_usd: float, risk_usd: Floats, most: float) -> Floats:
    """A market without movement has no size, one that is not known yet is not traded."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(
            np.where(
                risk_usd > 0, budget_usd / risk_usd, np.where(np.isnan(risk_usd), np.nan, 0.0)
            ),
            most,
        )


def _stop_distance(bars: Bars, risk: schema.Risk) -> Floats:
    """The nearer of the fixed and the trailing stop, ticks."""
    stop, _, trail = protection(bars, risk.protection)
    distances = [distance for distance in (stop, trail) if len(distance)]
    if not distances:
        raise ConfigError(
            "risk.size.method=fixed_fractional sizes by the distance of the stop; set"
            " risk.protection.stop and unit"
        )
    return distances[0] if len(distances) == 1 else np.minimum(*distances)


def _range_usd(bars: Bars, length: int) -> Floats:
    adjusted = bars.adjusted
    return (
        atr(adjusted["high"], adjusted["low"], adjusted["close"], length)
        * bars.instrument.multiplier
    )


def _sessions(bars: Bars) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Last row of each session, and for each bar the number of its session."""
    changes = np.diff(bars.session) != 0
    last = np.append(np.flatnonzero(changes), len(bars) - 1)
    return last, np.concatenate([[0], np.cumsum(changes)])


def _session_sigma_usd(bars: Bars, last: npt.NDArray[np.int64], lookback: int) -> Floats:
    """Standard deviation (ddof 1) of the P&L of one contract over the `lookback` sessions before
    each session, known before it opens.
    """
    # moves[k] belongs to session k + 1
    moves = np.diff(bars.adjusted["close"][last]) * bars.instrument.multiplier
    sigma = np.full(len(last), np.nan)
    if len(moves) > lookback - 1:
        windows = np.lib.stride_tricks.sliding_window_view(moves, lookback)
        sigma[lookback + 1 :] = windows.std(axis=1, ddof=1)[: len(last) - lookback - 1]
    return sigma
