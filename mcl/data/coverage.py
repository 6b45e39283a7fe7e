"""The share of each session that has bars, and the stretches without one that are too long to be
chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.instants import NS
from mcl.data.bars import Bars
from mcl.market.calendar import Sessions, from_day, new_york_ns
from mcl.market.intervals import STEPS_SEC

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SURPRISE = 30.0  # nats: e^-30 per stretch, a few in 10^13
_SURE = 0.995  # no minute is held to be surer than this to trade


@dataclass(frozen=True)
class Gap:
    """A stretch of one session (days) without a bar; times in ns, UTC."""

    session: int
    start: int
    minutes: int

    def __str__(self) -> str:
        begin, end = (
            pd.Timestamp(int(new_york_ns(t)))
            for t in (self.start, self.start + self.minutes * 60 * NS)
        )
        return (
            f"{from_day(self.session)}: {begin:%H:%M} to {end:%H:%M} New York ({self.minutes}"
            " minutes)"
        )


@dataclass(frozen=True)
class Coverage:
    """The units of each session with a bar, and those in which the exchange is open.

    covered, open: bool[sessions, units]: a bar of the active contract in each unit of the session;
    whether the exchange is open then.

    A unit is a minute, or the interval of the bars if that is longer; unit 0 starts at 18:00 New
    York.
    """

    sessions: Ints
    open_ns: Ints
    unit_sec: int
    covered: Bools
    open: Bools

    @classmethod
    def of(cls, bars: Bars, calendar: Sessions, sessions: Ints) -> Coverage:
        step = STEPS_SEC[bars.interval]
        unit = max(60, step)
        at = np.searchsorted(calendar.day, sessions)
        opens, length = (
            calendar.open_ns[at],
            (calendar.close_ns[at] - calendar.open_ns[at]) // (unit * NS),
        )
        units = int(length.max())
        row = np.searchsorted(sessions, bars.session)
        column = (bars.close_time - step * NS - opens[row]) // (unit * NS)
        inside = (column >= 0) & (column < units)
        has_bar = np.zeros((len(sessions), units), np.bool_)
        has_bar[row[inside], column[inside]] = True
        return cls(sessions, opens, unit, has_bar, np.arange(units) < length[:, None])

    @property
    def share(self) -> float:
        """Of all units in which the exchange was open, those with a bar."""
        return float((self.covered & self.open).sum() / self.open.sum())

    def by_slot(self, slot_sec: int = 1800) -> Floats:
        """float[sessions, slots]: share of the units with a bar; NaN where the exchange was
        closed.
        """
        width = max(1, slot_sec // self.unit_sec)
        starts = np.arange(0, self.covered.shape[1], width)
        bar_count, open_count = (
            np.add.reduceat(m.astype(np.int64), starts, axis=1)
            for m in (self.covered & self.open, self.open)
        )
        return np.where(open_count > 0, bar_count / np.maximum(open_count, 1), np.nan)

    def gaps(self) -> tuple[Gap, ...]:
        """Stretches whose chance is below e^-SURPRISE if minutes trade as often as usual at that
        time of day.

        A session that is thin as a whole (a holiday) is expected to be as thin in each minute; a
        session without any bar is no gap.
        """
        rate = self._rate()
        gaps = []
        for i in np.flatnonzero((self.covered & self.open).any(axis=1)):
            usual = 1 - np.exp(-rate[self.open[i]])
            thin = min(1.0, (self.covered[i] & self.open[i]).sum() / usual.sum()) ** 2
            gaps += self._runs(int(i), rate * thin)
        return tuple(gaps)

    def _rate(self) -> Floats:
        """-log P(no bar) per unit of the session, from all sessions, smoothed over a quarter of an
        hour.
        """
        window = np.ones(max(1, 900 // self.unit_sec))
        bar_count, open_count = (
            np.convolve((m).sum(axis=0), window, "same")
            for m in (self.covered & self.open, self.open)
        )
        rate: Floats = -np.log1p(-np.minimum(bar_count / np.maximum(open_count, 1), _SURE))
        return rate

    def _runs(self, i: int, rate: Floats) -> list[Gap]:
        empty = self.open[i] & ~self.covered[i]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], empty, [False]])))
        total = np.concatenate([[0.0], np.cumsum(rate)])
        return [
            Gap(
                int(self.sessions[i]),
                int(self.open_ns[i]) + int(a) * self.unit_sec * NS,
                int(b - a) * self.unit_sec // 60,
            )
            for a, b in zip(edges[::2], edges[1::2], strict=True)
            if total[b] - total[a] > SURPRISE
        ]
