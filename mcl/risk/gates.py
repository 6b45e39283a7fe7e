"""Gates forbid a position by clock, contract or market, as a vector over bars."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import ConfigError
from mcl.base.jit import njit, readonly
from mcl.config import schema
from mcl.data.bars import Bars, Ints, Narrow
from mcl.market.intervals import BAR_SEC
from mcl.risk.blocks import Block
from mcl.risk.limits import OFF

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 1440
VOLATILITY, LAST_TRADE, ROLL_AHEAD = (
    np.int8(block) for block in (Block.VOLATILITY, Block.LAST_TRADE, Block.ROLL_AHEAD)
)
Gates = npt.NDArray[np.int8]


def gates(bars: Bars, limits: schema.Limits) -> Gates:
    """The block that clock, contract and market put on each bar: the most severe one, 0 for none.
    Empty when no such limit is on.
    """
    windows, ratio = limits.trading_windows or limits.news_windows, limits.volatility_ratio
    last_trade, roll_sec = limits.flatten_before_last_trade_sessions, limits.flatten_before_roll_sec
    if not (windows or roll_sec) and ratio is None and last_trade is None:
        return np.empty(0, np.int8)
    gate = np.zeros(len(bars), np.int8)
    if windows:
        _raise_by_minute(_week(bars, limits), readonly(bars.week_minute, np.int16), gate)
    if ratio is not None:
        _raise_where_wide(
            bars, limits.volatility_fast_bars, limits.volatility_slow_bars, ratio, gate
        )
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
        raise ConfigError(
            "risk.limits has windows, and bars of a whole session have no time of day; use"
            " data.interval=1h or less"
        )
    outside, news = (
        (Block.WINDOW_END, Block.NEWS_AHEAD)
        if limits.flatten_at_windows
        else (Block.WINDOW, Block.NEWS)
    )
    closed = (
        ~_minutes(limits.trading_windows)
        if limits.trading_windows
        else np.zeros(7 * DAY_MINUTES, np.bool_)
    )
    return np.maximum(
        np.where(closed, outside, 0), np.where(_minutes(limits.news_windows), news, 0)
    ).astype(np.int8)


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
    """ "Wed 10:25-10:40" or "09:00-14:30" as weekdays (Monday is 0), first minute and minute after
    the last, maybe of the next day.
    """
    match = re.fullmatch(schema.WINDOW, text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no window; write 'HH:MM-HH:MM' or 'Wed 10:25-10:40', New York"
        )
    day, *clock = match.groups()
    hours = [int(part) for part in clock]
    days = (WEEKDAYS.index(day),) if day else tuple(range(7))
    return days, hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]


def _raise_where_wide(bars: Bars, fast: int, slow: int, ratio: float, gate: Gates) -> None:
    """VOLATILITY where the mean true range of `fast` bars exceeds `ratio` times that of `slow`
    bars, or is not known yet.

    In whole ticks of the dated contract: sums are exact, so that it does not matter where they
    begin. A roll's gap is no range.
    """
    opens, highs, lows, closes = (
        readonly(bars.ticks[name], np.int32) for name in ("open", "high", "low", "close")
    )
    _raise_unless_calm(
        opens,
        highs,
        lows,
        closes,
        readonly(np.flatnonzero(bars.roll), np.int64),
        fast,
        slow,
        float(ratio),
        gate,
    )


@njit
def _raise_unless_calm(
    opens: Narrow,
    highs: Narrow,
    lows: Narrow,
    closes: Narrow,
    rolls: Ints,
    fast: int,
    slow: int,
    ratio: float,
    gate: Gates,
) -> None:
    # unsigned: signed ones are tested for negative values
    n, first = np.uint64(len(closes)), np.uint64(min(slow, len(closes)))
    short_bars, long_bars, row_step = np.uint64(fast), np.uint64(slow), np.uint64(1)
    summed = np.zeros(n, np.int64)  # ranges up to each bar; a row without one before has none
    for i in range(row_step, n):
        before = closes[i - row_step]
        summed[i] = max(highs[i], before) - min(lows[i], before)
    for row in rolls:
        summed[row] = max(highs[row], opens[row]) - min(lows[row], opens[row])
    for i in range(row_step, n):
        summed[i] += summed[i - row_step]
    for i in range(first):
        gate[i] = max(gate[i], VOLATILITY)
    for i in range(first, n):
        short, long = (
            float(summed[i] - summed[i - short_bars]),
            float(summed[i] - summed[i - long_bars]),
        )
        gate[i] = max(gate[i], np.int8(0) if short * slow <= ratio * fast * long else VOLATILITY)


def _last_sessions(bars: Bars, sessions: int) -> npt.NDArray[np.bool_]:
    """Bars of the last `sessions` weekdays before the contract's last trade date, and of that
    day.
    """
    changes = np.flatnonzero(
        np.append(True, (np.diff(bars.session) != 0) | (np.diff(bars.contract) != 0))
    )
    last_trade = np.array([c.last_trade_date for c in bars.contracts], "datetime64[D]")[
        bars.contract[changes]
    ]
    left = np.busday_count(bars.session[changes].astype("datetime64[D]"), last_trade)
    near: npt.NDArray[np.bool_] = np.repeat(
        left <= sessions, np.diff(np.append(changes, len(bars)))
    )
    return near


def _before_roll(bars: Bars, seconds: int) -> npt.NDArray[np.bool_]:
    """Bars from which the next open, or one within `seconds` of the close, is the last before a
    roll that was known by then.
    """
    days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    known_at_by_day = dict(zip(days.tolist(), bars.roll_table["known_at"], strict=True))
    near = bars.to_close_sec < seconds + BAR_SEC[bars.interval]
    ahead = np.zeros(len(bars), np.bool_)
    for row in np.flatnonzero(bars.roll):
        first = int(np.searchsorted(bars.session, bars.session[row - 1], "left"))
        # NaT: the rule looks at the calendar alone
        known_at = known_at_by_day.get(int(bars.session[row]), pd.NaT)
        ahead[first:row] = near[first:row] & (
            bars.close_time[first:row] >= (-OFF if pd.isna(known_at) else known_at.value)
        )
    return ahead
