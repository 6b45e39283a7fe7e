"""How much, and when not: sizing, protection and gates as vectors over bars, limits as one record for the decision step.

Everything here is known at the close of the bar it stands at; nothing here depends on what happened to us (that is `decide`).
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import ConfigError
from mcl.base.jit import njit, readonly
from mcl.config import schema
from mcl.data.bars import Bars, Floats, Ints, Narrow
from mcl.market.calendar import SESSIONS_PER_YEAR
from mcl.strategy.indicators import atr, atr_steps

OFF = 1 << 60  # an integer limit that is never reached
BAR_SEC = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "session": 86400}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 1440
Gates = npt.NDArray[np.int8]


class Block(IntEnum):
    """Why a decision differs from what was wanted. From SESSION_END on, a block closes what is open (a margin call: reduces it)."""

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
        """One sentence for people."""
        return _BLOCK_TEXTS[self]

    @property
    def state(self) -> State:
        """What the account may still do while this block holds."""
        if self in (Block.DAILY_LOSS, Block.MAX_DRAWDOWN, Block.HALTED):
            return State.HALTED
        sizing = (Block.NONE, Block.MAX_POSITION, Block.MAX_ORDER, Block.MARGIN, Block.MARGIN_CALL, Block.PRICE_COLLAR)
        return State.NORMAL if self in sizing else State.REDUCE_ONLY


VOLATILITY, LAST_TRADE, ROLL_AHEAD = (np.int8(block) for block in (Block.VOLATILITY, Block.LAST_TRADE, Block.ROLL_AHEAD))


class State(IntEnum):
    """What the account may do: anything, only reduce, or nothing but stay flat."""

    NORMAL = 0
    REDUCE_ONLY = 1
    HALTED = 2


_BLOCK_TEXTS = {
    Block.NONE: "the decision is what was wanted",
    Block.MAX_POSITION: "wanted more contracts than max_position",
    Block.MAX_ORDER: "one order may not move the position by more than max_order; getting flat is never cut short",
    Block.MAX_TRADES: "max_trades_per_session were made; only reductions until the next session",
    Block.NO_ENTRY: "no entry this close to the end of the session",
    Block.STOPPED_OUT: "a stop or take-profit closed this side; waiting for the signal to leave it",
    Block.MAX_ORDERS: "max_orders_per_session were sent; only reductions until the next session",
    Block.COOL_DOWN: "max_consecutive_losses round trips or more in a row lost; only reductions for cool_down_bars after each",
    Block.MARGIN: "the equity carries fewer contracts at initial_margin_usd",
    Block.WINDOW: "no entry outside trading_windows",
    Block.NEWS: "no entry inside news_windows",
    Block.VOLATILITY: "the last bars are wider than volatility_ratio allows, or not yet enough to tell; no entry",
    Block.PRICE_COLLAR: "the market opened further than price_collar_ticks from the close that was decided on; not traded",
    Block.REDUCE_ONLY: "limits.state=reduce_only; no entry",
    Block.SESSION_END: "flat before the end of the session",
    Block.WINDOW_END: "flat outside trading_windows",
    Block.NEWS_AHEAD: "flat inside news_windows",
    Block.LAST_TRADE: "flat before the last trade of the contract",
    Block.ROLL_AHEAD: "flat before a roll that was known",
    Block.LOSS_PER_TRADE: "the open round trip lost max_loss_per_trade_usd; flat until the signal leaves this side",
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
    flatten_when_sec: int  # flat with less than this left: flatten_before_close_sec and one bar (and the latency), the last chance
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
        state=State[limits.state.upper()].value,
    )


def _count(limit: int | None) -> int:
    return OFF if limit is None else limit


def _amount(limit: float | None) -> float:
    return np.inf if limit is None else float(limit)


# -------------------------------------------------------------------------------------------------------------------- size


def scale(bars: Bars, risk: schema.Risk, capital_usd: float) -> Floats:
    """Contracts per unit of signal at each bar; NaN while the sizing rule warms up. A constant is a broadcast, not n copies.

    All rules stand on the fixed capital, not on the equity: sizing is not compounded, so that a size depends on bars alone.
    Formulae: Turtle unit and fixed fractional after Faith and Vince, volatility target after Carver, Kelly's continuous fraction
    mu / sigma^2 with mu = Sharpe x sigma, which is capital x Sharpe / sigma in contracts.
    """
    size = risk.size
    if size.method == "fixed":
        return np.broadcast_to(np.float64(size.contracts), len(bars))
    if size.method == "fixed_fractional":
        loss_usd = _stop_distance(bars, risk) * bars.instrument.tick_value_usd + size.cost_usd
        return np.minimum(capital_usd * size.risk_frac / loss_usd, size.max_contracts)
    if size.method == "atr_unit":
        return _per_risk(capital_usd * size.risk_frac, _range_usd(bars, size.atr_bars) * size.multiple, size.max_contracts)
    annual = size.annual_vol_frac if size.method == "vol_target" else size.fraction * size.sharpe
    sessions, row_of = _sessions(bars)
    sigma_usd = _session_sigma_usd(bars, sessions, size.lookback_sessions) * np.sqrt(SESSIONS_PER_YEAR)
    by_session: Floats = _per_risk(capital_usd * annual, sigma_usd, size.max_contracts)[row_of]
    return by_session


def slack(contracts: Floats, risk: schema.Risk) -> Floats:
    """Contracts that the position may be away from what is wanted before it is traded; empty where the rule has none."""
    size = risk.size
    if size.method != "vol_target" or not size.buffer_frac:
        return np.empty(0)
    return np.nan_to_num(size.buffer_frac * contracts, nan=0.0)


def _per_risk(budget_usd: float, risk_usd: Floats, most: float) -> Floats:
    """A market without movement has no size, one that is not known yet is not traded."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(np.where(risk_usd > 0, budget_usd / risk_usd, np.where(np.isnan(risk_usd), np.nan, 0.0)), most)


def _stop_distance(bars: Bars, risk: schema.Risk) -> Floats:
    """The nearer of the fixed and the trailing stop, ticks."""
    stop, _, trail = protection(bars, risk.protection)
    known = [distance for distance in (stop, trail) if len(distance)]
    if not known:
        raise ConfigError("risk.size.method=fixed_fractional sizes by the distance of the stop; set risk.protection.stop and unit")
    return known[0] if len(known) == 1 else np.minimum(*known)


def _range_usd(bars: Bars, length: int) -> Floats:
    adjusted = bars.adjusted
    return atr(adjusted["high"], adjusted["low"], adjusted["close"], length) * bars.instrument.multiplier


# -------------------------------------------------------------------------------------------------------------- protection


class Distances(NamedTuple):
    """Whole ticks (at least 1) at each bar; empty where there is none. While the ATR warms up all of them are NaN."""

    stop: Floats
    take_profit: Floats
    trail: Floats


def protection(bars: Bars, rule: schema.Protection) -> Distances:
    """Distances of stop, take-profit and trailing stop. ConfigError for half a rule."""
    multiples = (rule.stop, rule.take_profit, rule.trail)
    if rule.unit == "none":
        if any(multiple is not None for multiple in multiples):
            raise ConfigError(
                f"risk.protection.stop={rule.stop}, take_profit={rule.take_profit} and trail={rule.trail} need a unit;"
                " choose risk.protection.unit=ticks or atr"
            )
        return Distances(np.empty(0), np.empty(0), np.empty(0))
    if all(multiple is None for multiple in multiples):
        raise ConfigError(
            f"risk.protection.unit={rule.unit} protects nothing; set risk.protection.stop, take_profit or trail, or unit=none"
        )
    if rule.unit == "ticks":
        return Distances(*(np.full(0 if multiple is None else len(bars), _ticks(multiple)) for multiple in multiples))
    adjusted = bars.adjusted
    return Distances(*atr_steps(adjusted["high"], adjusted["low"], adjusted["close"], rule.atr_bars, bars.instrument.tick_size, multiples))


def _ticks(distance: float | None) -> float:
    return max(float(np.rint(distance or 0.0)), 1.0)


# ------------------------------------------------------------------------------------------------------------------- gates


def gates(bars: Bars, limits: schema.Limits) -> Gates:
    """The block that clock, contract and market put on each bar: the most severe one, 0 for none. Empty when no such limit is on."""
    windows, ratio = limits.trading_windows or limits.news_windows, limits.volatility_ratio
    last_trade, roll_sec = limits.flatten_before_last_trade_sessions, limits.flatten_before_roll_sec
    if not (windows or roll_sec) and ratio is None and last_trade is None:
        return np.empty(0, np.int8)
    gate = np.zeros(len(bars), np.int8)
    if windows:
        _raise_by_minute(_week(bars, limits), readonly(bars.week_minute, np.int16), gate)
    if ratio is not None:
        _raise_where_wide(bars, limits.volatility_fast_bars, limits.volatility_slow_bars, ratio, gate)
    if last_trade is not None:
        np.maximum(gate, _last_sessions(bars, last_trade) * LAST_TRADE, out=gate)
    if roll_sec:
        np.maximum(gate, _before_roll(bars, roll_sec) * ROLL_AHEAD, out=gate)
    return gate


@njit
def _raise_by_minute(week: Gates, minutes: npt.NDArray[np.int16], gate: Gates) -> None:
    for i in range(np.uint64(len(gate))):
        gate[i] = max(gate[i], week[np.uint64(minutes[i])])


def _week(bars: Bars, limits: schema.Limits) -> Gates:
    """The block of each minute of a week. A bar is inside a window when from <= its close < to."""
    if bars.interval == "session":
        raise ConfigError("risk.limits has windows, and bars of a whole session have no time of day; use data.interval=1h or less")
    outside, news = (Block.WINDOW_END, Block.NEWS_AHEAD) if limits.flatten_at_windows else (Block.WINDOW, Block.NEWS)
    closed = ~_minutes(limits.trading_windows) if limits.trading_windows else np.zeros(7 * DAY_MINUTES, np.bool_)
    return np.maximum(np.where(closed, outside, 0), np.where(_minutes(limits.news_windows), news, 0)).astype(np.int8)


def _minutes(windows: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """The minutes of a week that lie in one of the windows."""
    inside = np.zeros((7, DAY_MINUTES), np.bool_)
    for days, start, stop in map(window, windows):
        for day in days:
            if start < stop:
                inside[day, start:stop] = True
            else:
                inside[day, start:], inside[(day + 1) % 7, :stop] = True, True
    return inside.ravel()


def window(text: str) -> tuple[tuple[int, ...], int, int]:
    """ "Wed 10:25-10:40" or "09:00-14:30" as weekdays (Monday is 0), first minute and minute after the last, maybe of the next day."""
    match = re.fullmatch(schema.WINDOW, text)
    if match is None:
        raise ConfigError(f"{text!r} is no window; write 'HH:MM-HH:MM' or 'Wed 10:25-10:40', New York")
    day, *clock = match.groups()
    hours = [int(part) for part in clock]
    days = (WEEKDAYS.index(day),) if day else tuple(range(7))
    return days, hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]


def _raise_where_wide(bars: Bars, fast: int, slow: int, ratio: float, gate: Gates) -> None:
    """VOLATILITY where the mean true range of `fast` bars exceeds `ratio` times that of `slow` bars, or is not known yet.

    In whole ticks of the dated contract: sums are exact, so that it does not matter where they begin. A roll's gap is no range.
    """
    opens, highs, lows, closes = (readonly(bars.ticks[name], np.int32) for name in ("open", "high", "low", "close"))
    _raise_unless_calm(opens, highs, lows, closes, readonly(np.flatnonzero(bars.roll), np.int64), fast, slow, float(ratio), gate)


@njit
def _raise_unless_calm(
    opens: Narrow, highs: Narrow, lows: Narrow, closes: Narrow, rolls: Ints, fast: int, slow: int, ratio: float, gate: Gates
) -> None:
    n, first = np.uint64(len(closes)), np.uint64(min(slow, len(closes)))  # unsigned: signed ones are tested for negative values
    short_bars, long_bars, one = np.uint64(fast), np.uint64(slow), np.uint64(1)
    summed = np.zeros(n, np.int64)  # ranges up to each bar; a row without one before has none
    for i in range(one, n):
        before = closes[i - one]
        summed[i] = max(highs[i], before) - min(lows[i], before)
    for row in rolls:
        summed[row] = max(highs[row], opens[row]) - min(lows[row], opens[row])
    for i in range(one, n):
        summed[i] += summed[i - one]
    for i in range(first):
        gate[i] = max(gate[i], VOLATILITY)
    for i in range(first, n):
        short, long = float(summed[i] - summed[i - short_bars]), float(summed[i] - summed[i - long_bars])
        gate[i] = max(gate[i], np.int8(0) if short * slow <= ratio * fast * long else VOLATILITY)


def _last_sessions(bars: Bars, sessions: int) -> npt.NDArray[np.bool_]:
    """Bars of the last `sessions` weekdays before the contract's last trade date, and of that day."""
    changes = np.flatnonzero(np.append(True, (np.diff(bars.session) != 0) | (np.diff(bars.contract) != 0)))
    last_trade = np.array([c.last_trade_date for c in bars.contracts], "datetime64[D]")[bars.contract[changes]]
    left = np.busday_count(bars.session[changes].astype("datetime64[D]"), last_trade)
    near: npt.NDArray[np.bool_] = np.repeat(left <= sessions, np.diff(np.append(changes, len(bars))))
    return near


def _before_roll(bars: Bars, seconds: int) -> npt.NDArray[np.bool_]:
    """Bars from which the next open, or one within `seconds` of the close, is the last before a roll that was known by then."""
    days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    told_at = dict(zip(days.tolist(), bars.roll_table["known_at"], strict=True))
    near = bars.to_close_sec < seconds + BAR_SEC[bars.interval]
    ahead = np.zeros(len(bars), np.bool_)
    for row in np.flatnonzero(bars.roll):
        first = int(np.searchsorted(bars.session, bars.session[row - 1], "left"))
        told = told_at.get(int(bars.session[row]), pd.NaT)  # NaT: the rule looks at the calendar alone
        ahead[first:row] = near[first:row] & (bars.close_time[first:row] >= (-OFF if pd.isna(told) else told.value))
    return ahead


# ------------------------------------------------------------------------------------------------------------------ memory


def memory_bars(risk: schema.Risk) -> int:
    """Bars after which the past no longer matters for sizes, distances and gates: Wilder's 1/n decay below a float's precision."""
    lengths = [1]
    if risk.protection.unit == "atr":
        lengths.append(40 * risk.protection.atr_bars)
    if risk.size.method == "atr_unit":
        lengths.append(40 * risk.size.atr_bars)
    if risk.limits.volatility_ratio is not None:
        lengths.append(risk.limits.volatility_slow_bars + 1)
    return max(lengths)


def memory_sessions(risk: schema.Risk) -> int:
    """Whole sessions before the current one that `scale` looks at."""
    return risk.size.lookback_sessions + 1 if risk.size.method in ("vol_target", "kelly") else 0


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
