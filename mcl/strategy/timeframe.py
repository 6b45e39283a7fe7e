"""Coarser bars for each fine bar without look-ahead: a row sees a coarser bar only when that has
closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcl.base.errors import ConfigError
from mcl.base.instants import NS
from mcl.data.bars import Bars, Floats, Ints
from mcl.market.intervals import BAR_SEC, STEPS_SEC, makes


@dataclass(frozen=True)
class Higher:
    """The closed coarser bars of some `Bars`, in order: prices of the continuous series, volume in
    contracts.

    known_row is the row of the fine bars at whose close each became known: its own last row when
    that closes at the edge (or at the official close of the session), else the first row after it.
    The first coarser bar of the data is left out: it may lack its beginning.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    known_row: Ints
    rows: int  # of the fine bars

    def __len__(self) -> int:
        return len(self.close)

    def align(self, values: Floats) -> Floats:
        """One value per coarser bar as one per fine bar: that of the last closed coarser bar, NaN
        before the first.
        """
        last = np.searchsorted(self.known_row, np.arange(self.rows), "right") - 1
        padded = np.append(values, np.nan)  # row -1: none has closed
        aligned: Floats = padded[last]
        return aligned


def higher(bars: Bars, interval: str) -> Higher:
    """The closed `interval` bars ("5s" … "1h", "session") inside `bars`: `bars` themselves, but for
    the first, where it is their own interval. ConfigError when it is finer.

    `h = higher(bars, "session"); mean = h.align(ema(h.close, 20))` is the daily mean that was known
    at each minute.
    """
    step = _step(bars.interval, interval)
    edge = -(-bars.close_time // (step * NS)) * step * NS if step else np.zeros(len(bars), np.int64)
    final = (bars.to_close_sec <= 0) | ((bars.close_time == edge) if step else False)
    begins = np.concatenate([[True], (np.diff(bars.session) != 0) | (np.diff(edge) != 0)])
    # reported after the close: never part of a bar that was already known
    late = np.concatenate([[False], final[:-1]]) & ~begins
    rows = np.flatnonzero(~late)
    starts = np.flatnonzero(begins[rows])
    lasts = np.append(starts[1:], len(rows)) - 1
    known_rows = np.where(final[rows[lasts]], rows[lasts], np.append(rows[starts[1:]], len(bars)))
    return _folded(bars, rows, starts, lasts, known_rows)


def _folded(bars: Bars, rows: Ints, starts: Ints, lasts: Ints, known_rows: Ints) -> Higher:
    closed = slice(1, int(np.searchsorted(known_rows, len(bars), "left")))
    prices = {name: values[rows] for name, values in bars.adjusted.items()}
    return Higher(
        open=prices["open"][starts][closed],
        high=np.maximum.reduceat(prices["high"], starts)[closed],
        low=np.minimum.reduceat(prices["low"], starts)[closed],
        close=prices["close"][lasts][closed],
        volume=np.add.reduceat(bars.volume[rows], starts, dtype=np.int64)[closed],
        known_row=known_rows[closed],
        rows=len(bars),
    )


def rows_at_most(interval: str, of: str = "1m") -> int:
    """Bars of the interval `of`, or of a minute where that is longer, that one coarser bar can
    hold; a session counts as a whole day.
    """
    return BAR_SEC[interval] // min(BAR_SEC[of], 60)


def _step(base: str, interval: str) -> int:
    if interval not in STEPS_SEC:
        by_length = sorted(STEPS_SEC, key=BAR_SEC.__getitem__)
        raise ConfigError(f"there is no interval {interval!r}; valid: {', '.join(by_length)}")
    if not makes(base, interval):
        raise ConfigError(
            f"{interval} bars cannot be made from {base} bars; choose a coarser interval or a finer"
            " data.interval"
        )
    return STEPS_SEC[interval]
