"""`Bars`: what every other part of mcl sees of the market.

One row is one closed bar of the dated contract that the roll table says is active in that session. Prices are the
tradeable prices of that contract; `price * ratio + adjustment` is the continuous series that signals are computed on. The
adjustment is *forward*: the first contract is untouched and each roll subtracts its gap from all that follows (or divides by it,
for `roll.adjust=ratio`), so that an adjusted price never changes when later data arrive (a backward adjustment rewrites the past at
every roll).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.calendar import NS, new_york_ns
from mcl.errors import DataError
from mcl.market import Contract, Instrument

MINUTE_NS = 60 * NS
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Ticks = npt.NDArray[np.int32]
MOST_TICKS = (1 << 31) - 2

# volume_from and volume_to are what the rule compared: cleared volume, or open interest for `roll.rule=open_interest`; -1: nothing known.
ROLL_COLUMNS = ("session", "from_symbol", "to_symbol", "reason", "gap", "gap_time", "known_at", "volume_from", "volume_to")


class Inside(NamedTuple):
    """Finer bars in ticks. Those of row i, in order: rows first[i] .. first[i + 1] - 1; none for row 0, before which nothing is known."""

    open: Ticks
    high: Ticks
    low: Ticks
    first: Ints  # one more than there are bars


@dataclass(frozen=True)
class Bars:
    """Aligned arrays of length n, one element per closed bar, strictly increasing in time. A minute without a trade has no row.

    close_time     int64, ns since the epoch, UTC: when the bar is known (`ts_event` of the stored row + the interval)
    open … close   float64, price units of the dated contract; always on the tick grid; may be zero or negative
    volume         int64, contracts
    adjustment     float64, price units; add it to a price for the continuous (difference-adjusted) series
    session        int64, days since 1970-01-01 of the CME trade date (18:00–17:00 New York)
    to_close_sec   int64, seconds from close_time to the official close of the session (0 on its last bar)
    contract       int64, index into `contracts`
    roll           bool, True on the first bar of a new contract (never on row 0)
    outgoing_open  float64, NaN except where `roll`: the price at which the outgoing contract trades when this bar opens
    """

    instrument: Instrument
    interval: str  # "1m", "5m", "15m", "30m", "1h", "session"
    close_time: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    adjustment: Floats
    session: Ints
    to_close_sec: Ints
    contract: Ints
    roll: Bools
    outgoing_open: Floats
    contracts: tuple[Contract, ...]
    roll_table: pd.DataFrame = field(repr=False)  # ROLL_COLUMNS, one row per roll
    fingerprint: str  # sha256 over all that a backtest can see of these bars
    synthetic: bool  # never present a result on synthetic bars as a market result
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)  # manifest, world and seed, edge, request …
    ratio: Floats | None = None  # per contract of `contracts`: multiply its prices for the continuous series; None: 1 for all
    finer: Callable[[], Bars] | None = field(default=None, repr=False, compare=False)  # reads the bars that these were made of
    settlement: pd.Series | None = field(default=None, repr=False)  # of the active contract by session (days), for marking in reports

    def __len__(self) -> int:
        return len(self.close_time)

    @cached_property
    def ticks(self) -> dict[str, Ticks]:
        """open, high, low, close, outgoing_open (0 where it is NaN) as whole ticks; DataError for more than MOST_TICKS."""
        return {name: self._ticks(getattr(self, name)) for name in ("open", "high", "low", "close", "outgoing_open")}

    def _ticks(self, prices: Floats) -> Ticks:
        whole = np.divide(prices, self.instrument.tick_size)
        np.rint(whole, out=whole)
        if not (np.nanmin(whole, initial=0.0) > -MOST_TICKS and np.nanmax(whole, initial=0.0) < MOST_TICKS):
            raise DataError(f"a price is further than {MOST_TICKS:,} ticks of {self.instrument.tick_size} from zero", "is the scale right?")
        return np.nan_to_num(whole, copy=False, nan=0.0).astype(np.int32)

    @cached_property
    def marks(self) -> dict[str, Ticks]:
        """volume (no more than MOST_TICKS), to_close_sec and contract as the kernel reads them."""
        whole = {"volume": np.minimum(self.volume, MOST_TICKS), "to_close_sec": self.to_close_sec, "contract": self.contract}
        return {name: values.astype(np.int32) for name, values in whole.items()}

    @cached_property
    def adjusted(self) -> Mapping[str, Floats]:
        """open, high, low, close of the continuous series, in price units; each is made when it is first asked for."""
        prices = {name: getattr(self, name) for name in ("open", "high", "low", "close")}
        return _Adjusted(prices, self.adjustment, self.ratio, self.contract)

    @cached_property
    def event(self) -> npt.NDArray[np.uint8]:
        """1 where a new session starts, 2 where `roll`, 3 where both, else 0; row 0 starts nothing."""
        event = self.roll.astype(np.uint8) * np.uint8(2)
        event[1:] |= np.diff(self.session) != 0
        return event

    @cached_property
    def session_ends(self) -> Ints:
        """Row of the last bar of each session."""
        return np.append(np.flatnonzero(self.session[1:] != self.session[:-1]), len(self) - 1)

    @cached_property
    def inside(self) -> Inside:
        """The finer bars that each bar was made of. DataError where there are none, or where they are not those."""
        if self.finer is None:
            raise DataError(f"execution.bracket=finer: nothing is known of what these {self.interval} bars were made of")
        fine = self.finer()
        first = np.searchsorted(fine.close_time, self.close_time, "right")
        inside = Inside(fine.ticks["open"], fine.ticks["high"], fine.ticks["low"], np.concatenate([first[:1], first]))
        starts, own = inside.first[1:-1], slice(inside.first[1], inside.first[-1])
        tops, bottoms = self.ticks["high"][1:], self.ticks["low"][1:]
        if len(starts) and not (
            (np.diff(inside.first[1:]) > 0).all()
            and np.array_equal(np.maximum.reduceat(inside.high[own], starts - starts[0]), tops)
            and np.array_equal(np.minimum.reduceat(inside.low[own], starts - starts[0]), bottoms)
        ):
            raise DataError(f"the {fine.interval} bars do not make these {self.interval} bars: highs and lows differ")
        return inside

    @cached_property
    def week_minute(self) -> npt.NDArray[np.int16]:
        """Minutes from Monday 00:00 to the close, on New York's clock. It never changes its offset while a session is open."""
        first = np.flatnonzero(np.concatenate([[True], np.diff(self.session) != 0]))
        offset = (new_york_ns(self.close_time[first]) - self.close_time[first]) // MINUTE_NS + 3 * 1440  # 1970-01-01 was a Thursday
        minutes = self.close_time // MINUTE_NS + np.repeat(offset, np.diff(np.append(first, len(self))))
        return (minutes % 10_080).astype(np.int16)

    @cached_property
    def first_bad_row(self) -> int:
        """The first row with a price that is not a finite number (`outgoing_open` counts where `roll`), -1 if there is none."""
        bad = ~(np.isfinite(self.open) & np.isfinite(self.high) & np.isfinite(self.low) & np.isfinite(self.close))
        bad |= self.roll & ~np.isfinite(self.outgoing_open)
        return int(np.argmax(bad)) if bad.any() else -1

    @cached_property
    def times(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.close_time.astype("datetime64[ns]"), name="close_time").tz_localize("UTC")

    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame indexed by close time, for strategies written in pandas and for reports."""
        columns = {name: getattr(self, name) for name in ("open", "high", "low", "close", "volume")}
        adjusted = {f"adj_{name}": values for name, values in self.adjusted.items()}
        symbols = np.array([c.symbol for c in self.contracts], dtype=object)[self.contract]
        marks = {"session": self.session, "contract": symbols, "roll": self.roll}
        return pd.DataFrame(columns | adjusted | marks, index=self.times)

    def rows(self, start: int, stop: int) -> Bars:
        """The bars [start, stop) as views; the roll table is cut to the sessions that remain."""
        if not 0 <= start < stop <= len(self):
            raise DataError(f"rows {start}..{stop} of {len(self)} bars are empty or outside; choose 0 <= start < stop <= {len(self)}")
        names = ("close_time", "open", "high", "low", "close", "volume", "adjustment", "session", "to_close_sec", "contract")
        cut: dict[str, Any] = {name: getattr(self, name)[start:stop] for name in names}
        roll, outgoing = self.roll[start:stop].copy(), self.outgoing_open[start:stop].copy()
        roll[0], outgoing[0] = False, np.nan
        days = self.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
        kept = self.roll_table[(days > cut["session"][0]) & (days <= cut["session"][-1])]
        settled = self.settlement
        if settled is not None:
            settled = settled[(settled.index >= cut["session"][0]) & (settled.index <= cut["session"][-1])]
        return replace(self, **cut, roll=roll, outgoing_open=outgoing, roll_table=kept, settlement=settled)

    def between(self, start: Any = None, end: Any = None) -> Bars:
        """Bars of the sessions start <= trade date < end (either may be None), as views."""
        low = 0 if start is None else int(np.searchsorted(self.session, _day(start), "left"))
        high = len(self) if end is None else int(np.searchsorted(self.session, _day(end), "left"))
        if low >= high:
            first, last = (np.datetime64(int(self.session[i]), "D") for i in (0, -1))
            raise DataError(f"no bars between {start} and {end}: the data hold sessions {first} to {last}")
        return self.rows(low, high)


class _Adjusted(Mapping[str, Floats]):
    """price * ratio + adjustment by column. A series that was never adjusted is the prices themselves."""

    def __init__(self, prices: dict[str, Floats], adjustment: Floats, ratio: Floats | None, contract: Ints) -> None:
        self._prices, self._adjustment, self._ratio, self._contract = prices, adjustment, ratio, contract
        never = ratio is None and not adjustment.any()
        self._made: dict[str, Floats] = dict(prices) if never else {}

    def __getitem__(self, name: str) -> Floats:
        if name not in self._made:
            price = self._prices[name]
            self._made[name] = (price if self._ratio is None else price * self._ratio[self._contract]) + self._adjustment
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prices)

    def __len__(self) -> int:
        return len(self._prices)


def _day(value: Any) -> int:
    return int(np.datetime64(pd.Timestamp(value).date(), "D").astype(np.int64))
