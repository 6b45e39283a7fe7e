"""Limits of what an account may hold, lose and send."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mcl.config import schema
from mcl.market.intervals import BAR_SEC
from mcl.risk.blocks import TradingState

OFF = 1 << 60  # an integer limit that is never reached


class LimitsRecord(NamedTuple):
    """`schema.Limits` for compiled code. A limit that is off has a value that is never reached."""

    max_position: int
    max_order: int
    max_trades_per_session: int
    max_daily_loss_usd: float
    max_drawdown_frac: float
    no_entry_before_close_sec: int
    # flat with less than this left: flatten_before_close_sec and one bar (and the latency), the
    # last chance
    flatten_when_sec: int
    max_orders_per_session: int
    max_loss_per_trade_usd: float
    max_consecutive_losses: int
    cool_down_bars: int
    initial_margin_usd: float  # 0: off
    maintenance_margin_usd: float  # 0: off
    max_margin_frac: float
    price_collar_ticks: float
    state: int  # a `State`


def limits_record(limits: schema.Limits, interval: str, latency_bars: int = 0) -> LimitsRecord:
    """The same limits for bars of this interval. 0 seconds before the close means off."""
    last_chance = limits.flatten_before_close_sec + BAR_SEC[interval] * (1 + latency_bars)
    return LimitsRecord(
        max_position=limits.max_position,
        max_order=limits.max_order,
        max_trades_per_session=_count(limits.max_trades_per_session),
        max_daily_loss_usd=_amount(limits.max_daily_loss_usd),
        max_drawdown_frac=_amount(limits.max_drawdown_frac),
        no_entry_before_close_sec=limits.no_entry_before_close_sec or -OFF,
        flatten_when_sec=last_chance if limits.flatten_before_close_sec else -OFF,
        max_orders_per_session=_count(limits.max_orders_per_session),
        max_loss_per_trade_usd=_amount(limits.max_loss_per_trade_usd),
        max_consecutive_losses=_count(limits.max_consecutive_losses),
        cool_down_bars=limits.cool_down_bars,
        initial_margin_usd=limits.initial_margin_usd or 0.0,
        maintenance_margin_usd=limits.maintenance_margin_usd or 0.0,
        max_margin_frac=limits.max_margin_frac,
        price_collar_ticks=_amount(limits.price_collar_ticks),
        state=TradingState[limits.state.upper()].value,
    )


def _count(limit: int | None) -> int:
    return OFF if limit is None else limit


def _amount(limit: float | None) -> float:
    return np.inf if limit is None else float(limit)
