"""Name the reasons why a decision differs from the position that the strategy wants."""

from __future__ import annotations

from enum import IntEnum


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

LIMIT_OF = {  # the limit that a block compares with, by its name in schema.Limits
    Block.MAX_POSITION: "max_position",
    Block.MAX_ORDER: "max_order",
    Block.MAX_TRADES: "max_trades_per_session",
    Block.MAX_ORDERS: "max_orders_per_session",
    Block.COOL_DOWN: "max_consecutive_losses",
    Block.MARGIN: "initial_margin_usd",
    Block.MARGIN_CALL: "maintenance_margin_usd",
    Block.NO_ENTRY: "no_entry_before_close_sec",
    Block.SESSION_END: "flatten_before_close_sec",
    Block.VOLATILITY: "volatility_ratio",
    Block.PRICE_COLLAR: "price_collar_ticks",
    Block.LOSS_PER_TRADE: "max_loss_per_trade_usd",
    Block.DAILY_LOSS: "max_daily_loss_usd",
    Block.MAX_DRAWDOWN: "max_drawdown_frac",
}
