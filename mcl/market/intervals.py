"""Lengths of bars and of look-backs: the names of intervals, and durations as numbers of bars."""

from __future__ import annotations

import re

# seconds of a bar by the name of its interval; a bar of a session is as long as that is: 0
STEPS_SEC = {
    **{"1s": 1, "5s": 5, "10s": 10, "15s": 15, "30s": 30},
    **{"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "session": 0},
}
DAY_SEC = 86_400
# the same where a session counts as the whole day
BAR_SEC = {name: seconds or DAY_SEC for name, seconds in STEPS_SEC.items()}


def makes(fine: str, coarse: str) -> bool:
    """Whether bars of an interval are made of finer ones without a remainder; each makes itself."""
    base, step = STEPS_SEC[fine], STEPS_SEC[coarse]
    return fine == coarse or (base > 0 and step % base == 0)


UNITS_SEC = {"s": 1, "m": 60, "h": 3600, "d": 82_800, "w": 5 * 82_800}
DURATION = re.compile(r"(\d{1,9})([smhdw])")


def duration_sec(text: str) -> int:
    """The seconds of `90s`, `30m`, `12h`, `1d` or `2w`; 0 for any other text. A day is a session of
    23 hours, a week has five.
    """
    match = DURATION.fullmatch(text)
    return int(match[1]) * UNITS_SEC[match[2]] if match else 0


def duration_bars(seconds: int, interval: str) -> int:
    """The bars of an interval that make a duration, to the nearest whole number; 0 for less than
    half a bar. A second, or a minute, in which nothing trades has no bar and is not counted.
    """
    step = STEPS_SEC[interval] or UNITS_SEC["d"]
    return (2 * seconds + step) // (2 * step)
