"""Limits of what an account may hold, lose and send, and reasons why a decision differs from the
position that the strategy wants.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from mcl.config import schema
from mcl.market.intervals import BAR_SEC

OFF = 1 << 60  # an integer limit that is never reached


class Block(IntEnum):
    """The reason why a decision differs from the wanted position.

    From SESSION_END on, a block closes the position (a margin call reduces it).
    """

    NONE = 0
    MAX_POSITION = 1
    MAX_ORDER = 2
    MAX_TRADES = 3
    NO_ENTRY = 4
    STOPPED_OUT = 5
    MAX_ORDERS = 6
    COOL_DOWN = 7
    MARGIN = 8
    WINDOW = 9
    NEWS = 10
    VOLATILITY = 11
    PRICE_COLLAR = 12
    REDUCE_ONLY = 13
    SESSION_END = 32
    WINDOW_END = 33
    NEWS_AHEAD = 34
    LAST_TRADE = 35
    ROLL_AHEAD = 36
    LOSS_PER_TRADE = 37
    MARGIN_CALL = 38
    DAILY_LOSS = 39
    MAX_DRAWDOWN = 40
    HALTED = 41

    @property
    def text(self) -> str:
        """The reason as one sentence."""
        return _BLOCK_TEXTS[self]

    @property
    def state(self) -> TradingState:
        """The trading that is still allowed while this block applies."""
        if self in (Block.DAILY_LOSS, Block.MAX_DRAWDOWN, Block.HALTED):
            return TradingState.HALTED
        sizing = (
            Block.NONE,
            Block.MAX_POSITION,
            Block.MAX_ORDER,
            Block.MARGIN,
            Block.MARGIN_CALL,
            Block.PRICE_COLLAR,
        )
        return TradingState.NORMAL if self in sizing else TradingState.REDUCE_ONLY


class TradingState(IntEnum):
    """The trading that is allowed: anything, only reductions, or nothing but to stay flat."""

    NORMAL = 0
    REDUCE_ONLY = 1
    HALTED = 2


_BLOCK_TEXTS = {
    Block.NONE: "the decision is what was wanted",
    Block.MAX_POSITION: "wanted more contracts than max_position",
    Block.MAX_ORDER: (
        "one order may not move the position by more than max_order; getting flat is never cut"
        " short"
    ),
    Block.MAX_TRADES: "max_trades_per_session were made; only reductions until the next session",
    Block.NO_ENTRY: "no entry this close to the end of the session",
    Block.STOPPED_OUT: "a stop or take-profit closed this side; waiting for the signal to leave it",
    Block.MAX_ORDERS: "max_orders_per_session were sent; only reductions until the next session",
    Block.COOL_DOWN: (
        "max_consecutive_losses round trips or more in a row lost; only reductions for"
        " cool_down_bars after each"
    ),
    Block.MARGIN: "the equity carries fewer contracts at initial_margin_usd",
    Block.WINDOW: "no entry outside trading_windows",
    Block.NEWS: "no entry inside news_windows",
    Block.VOLATILITY: (
        "the last bars are wider than volatility_ratio allows, or not yet enough to tell; no entry"
    ),
    Block.PRICE_COLLAR: (
        "the market opened further than price_collar_ticks from the close that was decided on; not"
        " traded"
    ),
    Block.REDUCE_ONLY: "limits.state=reduce_only; no entry",
    Block.SESSION_END: "flat before the end of the session",
    Block.WINDOW_END: "flat outside trading_windows",
    Block.NEWS_AHEAD: "flat inside news_windows",
    Block.LAST_TRADE: "flat before the last trade of the contract",
    Block.ROLL_AHEAD: "flat before a roll that was known",
    Block.LOSS_PER_TRADE: (
        "the open round trip lost max_loss_per_trade_usd; flat until the signal leaves this side"
    ),
    Block.MARGIN_CALL: "the equity carries fewer contracts at maintenance_margin_usd; reduced",
    Block.DAILY_LOSS: "max_daily_loss_usd reached; flat until the next session",
    Block.MAX_DRAWDOWN: "max_drawdown_frac reached; flat for good",
    Block.HALTED: "limits.state=halted; flat",
}


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
