"""The bars that a session has seen, as `Bars` without copying: room for the whole session is laid
out once, each bar fills one row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mcl.base.errors import LiveError
from mcl.base.instants import NS
from mcl.broker.protocol import Bar
from mcl.data.bars import COLUMNS, MOST, Bars, ticks_of
from mcl.data.table import PRICES
from mcl.live.session_setup import Stage, with_contract


class Window:
    """Warm-up rows first, then one row per closed bar of the session. Rows are only ever added at
    the end.
    """

    def __init__(self, stage: Stage) -> None:
        warmup, room = with_contract(stage.warmup, stage.contract), stage.room
        self.stage = stage
        self.warmup_rows = self.rows = len(warmup)
        contract, shift = warmup.contracts.index(stage.contract), warmup.shift.copy()
        shift[contract] = stage.adjustment
        # of the bars of a session nobody has finer ones
        self._warmup = replace(warmup, shift=shift, finer=None)
        self._columns = {
            name: np.concatenate(
                [getattr(warmup, name), np.zeros(room, getattr(warmup, name).dtype)]
            )
            for name in COLUMNS
        }
        self._columns["session"][self.rows :] = stage.day
        self._columns["contract"][self.rows :] = contract

    def append(self, bar: Bar) -> None:
        """One more closed bar. LiveError when it cannot be decided on: late, of another session,
        off the tick grid, contradictory.
        """
        self._examine(bar)
        row, columns = self.rows, self._columns
        columns["close_time"][row], columns["volume"][row] = bar.close_time, bar.volume
        for name, ticks in zip(
            PRICES,
            ticks_of([getattr(bar, name) for name in PRICES], self.stage.warmup.instrument),
            strict=True,
        ):
            columns[f"{name}_ticks"][row] = ticks
        columns["to_close_sec"][row] = (self.stage.close_ns - bar.close_time) // NS
        self.rows += 1

    def bars(self, start: int = 0) -> Bars:
        """Rows from `start` on as views; valid until the object is gone, since rows never
        change.
        """
        cut: dict[str, Any] = {
            name: values[start : self.rows] for name, values in self._columns.items()
        }
        return replace(self._warmup, **cut)

    @property
    def full(self) -> bool:
        """No bar can follow: the replay, or the session, is at its end."""
        return self.rows == len(self._columns["roll"])

    def ticks(self, price: float) -> float:
        return float(np.rint(price / self.stage.warmup.instrument.tick_size))

    def to_close_sec(self) -> int:
        """Seconds from the last bar to the official close."""
        return int(self._columns["to_close_sec"][self.rows - 1])

    def _examine(self, bar: Bar) -> None:
        before = int(self._columns["close_time"][self.rows - 1])
        at = np.datetime64(bar.close_time, "ns").astype("datetime64[s]")
        if bar.close_time <= before:
            raise LiveError(
                f"the bar of {at} came after the bar of"
                f" {np.datetime64(before, 'ns').astype('datetime64[s]')}"
            )
        if bar.close_time > self.stage.close_ns or self.full:
            raise LiveError(f"the bar of {at} is after the close of session {self.stage.date}")
        prices = (bar.open, bar.high, bar.low, bar.close)
        off = [
            p
            for p in prices
            if not abs(p / self.stage.warmup.instrument.tick_size - self.ticks(p)) < 1e-6
        ]
        if off:
            raise LiveError(
                f"the bar of {at} has the price {off[0]}, which is off the tick of"
                f" {self.stage.warmup.instrument.tick_size}"
            )
        if (
            not (bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high)
            or not 0 <= bar.volume <= MOST
        ):
            raise LiveError(f"the bar of {at} contradicts itself: {bar}")
