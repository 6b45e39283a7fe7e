"""How much, and when not: sizing and protection as vectors over bars, limits as one record for the decision step.

Everything here is known at the close of the bar it stands at; nothing here depends on what happened to us (that is `decide`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mcl import schema
from mcl.data.bars import Bars, Floats
from mcl.errors import ConfigError
from mcl.strategy.indicators import atr

SESSIONS_PER_YEAR = 252
OFF = 1 << 60  # an integer limit that is never reached
BAR_SEC = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "session": 86400}


class Block(IntEnum):
    """Why a decision differs from what was wanted. From SESSION_END on, a block closes what is open."""

    NONE = 0
    MAX_POSITION = 1
    MAX_ORDER = 2
    MAX_TRADES = 3
    NO_ENTRY = 4
    STOPPED_OUT = 5
    SESSION_END = 6
    DAILY_LOSS = 7
    MAX_DRAWDOWN = 8

    @property
    def text(self) -> str:
        """One sentence for people."""
        return _BLOCK_TEXTS[self]


_BLOCK_TEXTS = {
    Block.NONE: "the decision is what was wanted",
    Block.MAX_POSITION: "wanted more contracts than max_position",
    Block.MAX_ORDER: "one order may not move the position by more than max_order",
    Block.MAX_TRADES: "max_trades_per_session were made; only reductions until the next session",
    Block.NO_ENTRY: "no entry this close to the end of the session",
    Block.STOPPED_OUT: "a stop or take-profit closed this side; waiting for the signal to leave it",
    Block.SESSION_END: "flat before the end of the session",
    Block.DAILY_LOSS: "max_daily_loss_usd reached; flat until the next session",
    Block.MAX_DRAWDOWN: "max_drawdown_frac reached; flat for good",
}


class LimitsRecord(NamedTuple):
    """`schema.Limits` for compiled code. A limit that is off has a value that is never reached."""

    max_position: int
    max_order: int
    max_trades_per_session: int
    max_daily_loss_usd: float
    max_drawdown_frac: float
    no_entry_before_close_sec: int
    flatten_when_sec: int  # flat with less than this left: flatten_before_close_sec and one bar, the last chance


def limits_record(limits: schema.Limits, interval: str) -> LimitsRecord:
    """The same limits for bars of this interval. 0 seconds before the close means off."""
    return LimitsRecord(
        max_position=limits.max_position,
        max_order=limits.max_order,
        max_trades_per_session=OFF if limits.max_trades_per_session is None else limits.max_trades_per_session,
        max_daily_loss_usd=np.inf if limits.max_daily_loss_usd is None else float(limits.max_daily_loss_usd),
        max_drawdown_frac=np.inf if limits.max_drawdown_frac is None else float(limits.max_drawdown_frac),
        no_entry_before_close_sec=limits.no_entry_before_close_sec or -OFF,
        flatten_when_sec=limits.flatten_before_close_sec + BAR_SEC[interval] if limits.flatten_before_close_sec else -OFF,
    )


def scale(bars: Bars, risk: schema.Risk, capital_usd: float) -> Floats:
    """Contracts per unit of signal at each bar; NaN while the sizing rule warms up. A constant is a broadcast, not n copies."""
    size = risk.size
    if size.method == "fixed":
        return np.broadcast_to(np.float64(size.contracts), len(bars))
    sessions, row_of = _sessions(bars)
    sigma_usd = _session_sigma_usd(bars, sessions, size.lookback_sessions) * np.sqrt(SESSIONS_PER_YEAR)
    with np.errstate(divide="ignore", invalid="ignore"):
        contracts = np.where(sigma_usd > 0, capital_usd * size.annual_vol_frac / sigma_usd, np.where(np.isnan(sigma_usd), np.nan, 0.0))
    capped: Floats = np.minimum(contracts, size.max_contracts)[row_of]
    return capped


def protection(bars: Bars, rule: schema.Protection) -> tuple[Floats, Floats]:
    """Stop and take-profit distances in whole ticks (at least 1) at each bar; empty where there is none, NaN while ATR warms up."""
    if rule.unit == "none":
        if rule.stop is not None or rule.take_profit is not None:
            raise ConfigError(
                f"risk.protection.stop={rule.stop} and take_profit={rule.take_profit} need a unit; choose risk.protection.unit=ticks or atr"
            )
        return np.empty(0), np.empty(0)
    if rule.stop is None and rule.take_profit is None:
        raise ConfigError(f"risk.protection.unit={rule.unit} protects nothing; set risk.protection.stop or take_profit, or unit=none")
    if rule.unit == "ticks":
        unit = np.ones(len(bars))
    else:
        adjusted = bars.adjusted
        unit = atr(adjusted["high"], adjusted["low"], adjusted["close"], rule.atr_bars) / bars.instrument.tick_size
    return _distance(unit, rule.stop), _distance(unit, rule.take_profit)


def memory_bars(rule: schema.Protection) -> int:
    """Bars after which the past no longer matters for `protection`: Wilder's 1/n decay below a float's precision."""
    return 40 * rule.atr_bars if rule.unit == "atr" else 1


def memory_sessions(risk: schema.Risk) -> int:
    """Whole sessions before the current one that `scale` looks at."""
    return risk.size.lookback_sessions + 1 if risk.size.method == "vol_target" else 0


def _distance(unit: Floats, multiple: float | None) -> Floats:
    return np.empty(0) if multiple is None else np.maximum(np.rint(unit * multiple), 1.0)


def _sessions(bars: Bars) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Last row of each session, and for each bar the number of its session."""
    changes = np.diff(bars.session) != 0
    last = np.append(np.flatnonzero(changes), len(bars) - 1)
    return last, np.concatenate([[0], np.cumsum(changes)])


def _session_sigma_usd(bars: Bars, last: npt.NDArray[np.int64], lookback: int) -> Floats:
    """Standard deviation (ddof 1) of the P&L of one contract over the `lookback` sessions before each session, known before it opens."""
    moves = np.diff(bars.adjusted["close"][last]) * bars.instrument.multiplier  # moves[k] belongs to session k + 1
    sigma = np.full(len(last), np.nan)
    if len(moves) > lookback - 1:
        windows = np.lib.stride_tricks.sliding_window_view(moves, lookback)
        sigma[lookback + 1 :] = windows.std(axis=1, ddof=1)[: len(last) - lookback - 1]
    return sigma
