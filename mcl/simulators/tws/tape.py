"""The market data of one contract that a simulated TWS plays: closed bars, and where there are any
the quotes and trades that made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mcl.base.errors import BrokerError
from mcl.base.instants import NS
from mcl.market import calendar
from mcl.market.instruments import Contract, Instrument
from mcl.market.intervals import STEPS_SEC

if TYPE_CHECKING:
    from mcl.data.bars import Bars

INTERVAL_NS = {name: seconds * NS for name, seconds in STEPS_SEC.items() if seconds}


Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Tick(NamedTuple):
    """A book after an event, and the trade that the event was (size 0: none). Best level first; an
    empty level has size 0.
    """

    ts: int
    bid: tuple[float, ...]
    ask: tuple[float, ...]
    bid_size: tuple[int, ...]
    ask_size: tuple[int, ...]
    price: float
    size: int


@dataclass(frozen=True)
class Ticks:
    """Aligned arrays, increasing in time: `ts` ns UTC when the state was known; prices
    float64[levels, n] (NaN: empty level), sizes int64[levels, n] in contracts; `price` of the trade
    of a row and its `size`, which is 0 where nothing traded.
    """

    ts: Ints
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    price: Floats
    size: Ints

    def __len__(self) -> int:
        return len(self.ts)

    def rows(self, from_ns: int, to_ns: int) -> Ticks:
        """Those with from_ns <= ts < to_ns."""
        a, b = np.searchsorted(self.ts, (from_ns, to_ns), "left")
        prices, sizes = (
            (self.bid[:, a:b], self.ask[:, a:b]),
            (self.bid_size[:, a:b], self.ask_size[:, a:b]),
        )
        return Ticks(self.ts[a:b], *prices, *sizes, self.price[a:b], self.size[a:b])

    def each(self) -> list[Tick]:
        books = (
            [tuple(level) for level in side.T.tolist()]
            for side in (self.bid, self.ask, self.bid_size, self.ask_size)
        )
        return [
            Tick(*row)
            for row in zip(
                self.ts.tolist(), *books, self.price.tolist(), self.size.tolist(), strict=True
            )
        ]


def joined(pieces: Sequence[Ticks]) -> Ticks:
    """One after the other; at least one piece, all with as many levels."""
    arrays = {
        f.name: np.concatenate([getattr(piece, f.name) for piece in pieces], axis=-1)
        for f in fields(Ticks)
    }
    return Ticks(**arrays)


class Quotes(Protocol):
    """The source of the ticks of a tape; its trades make the bars of the tape."""

    def between(self, from_ns: int, to_ns: int) -> Ticks: ...


class BarColumns(NamedTuple):
    """The bars of a tape."""

    start: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints

    def rows(self, which: slice) -> BarColumns:
        return BarColumns._make(column[which] for column in self)

    def then(self, others: Sequence[BarColumns]) -> BarColumns:
        return BarColumns._make(
            np.concatenate(columns) for columns in zip(self, *others, strict=True)
        )


@dataclass(frozen=True)
class Tape:
    """Bars of one dated contract: `start` int64 ns UTC (when a bar opens), float64 prices, int64
    volume; increasing in time.

    Rows before `first` are history, rows from there on are played: tick by tick with `quotes`, else
    as far as a bar in progress is known. `synthetic` says that no market made these prices.
    """

    contract: Contract
    instrument: Instrument
    interval: str
    start: npt.NDArray[np.int64]
    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]
    volume: npt.NDArray[np.int64]
    first: int
    synthetic: bool = False
    quotes: Quotes | None = None

    def __post_init__(self) -> None:
        if self.interval not in INTERVAL_NS:
            raise BrokerError(
                f"bars of interval {self.interval!r} cannot be replayed; valid:"
                f" {', '.join(INTERVAL_NS)}"
            )
        if not 0 < self.first < len(self.start):
            before, played = self.first, len(self.start) - self.first
            raise BrokerError(
                f"a replay needs bars before its session and in it; the tape has {before} before"
                f" and {played} in it"
            )

    def __len__(self) -> int:
        return len(self.start)

    @property
    def columns(self) -> BarColumns:
        return BarColumns(self.start, self.open, self.high, self.low, self.close, self.volume)

    def having(self, bars: BarColumns, first: int, **changes: Any) -> Tape:
        """The same contract with other bars."""
        return replace(self, first=first, **(bars._asdict() | changes))

    def prices(self, row: int) -> tuple[float, float, float, float]:
        """Open, high, low, close."""
        return (
            float(self.open[row]),
            float(self.high[row]),
            float(self.low[row]),
            float(self.close[row]),
        )

    @property
    def interval_ns(self) -> int:
        return INTERVAL_NS[self.interval]

    @classmethod
    def from_bars(cls, bars: Bars, session: int) -> Tape:
        """The bars of one session (days since 1970) of the contract active in it, with all bars
        before as history.

        Rows of earlier contracts are shifted by the roll gaps, so that the history is continuous
        with what is played.
        """
        if bars.ratio is not None:
            raise BrokerError(
                "a series adjusted by ratios is not one of tradeable prices; a replay needs"
                " data.roll.adjust=difference"
            )
        rows = np.flatnonzero(bars.session == session)
        if not len(rows):
            first, last = (calendar.from_day(int(bars.session[end])) for end in (0, -1))
            raise BrokerError(
                f"no bars in the session {calendar.from_day(session)}; the data hold {first} to"
                f" {last}"
            )
        end, size = int(rows[-1]) + 1, bars.instrument.tick_size
        shift = np.rint((bars.adjustment[:end] - bars.adjustment[rows[0]]) / size)
        prices = {
            name: np.round((bars.ticks[name][:end] + shift) * size, 10)
            for name in ("open", "high", "low", "close")
        }
        return cls(
            contract=bars.contracts[int(bars.contract[rows[0]])],
            instrument=bars.instrument,
            interval=bars.interval,
            start=bars.close_time[:end] - INTERVAL_NS.get(bars.interval, 0),
            **prices,
            volume=np.maximum(bars.column("volume", slice(end)), 1),  # what has a bar has traded
            first=int(rows[0]),
            synthetic=bars.synthetic,
        )
