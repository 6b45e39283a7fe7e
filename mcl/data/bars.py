"""`Bars`: what every other part of mcl sees of the market.

One row is one closed bar of the dated contract that the roll table says is active in that session.
Prices are the tradeable prices of that contract, kept in whole ticks, from which floats are made
when somebody asks for them; `price * ratio + shift` is the continuous series that signals are
computed on. The shift is *forward*: the first contract is untouched and each roll subtracts its gap
from all that follows (or divides by it, for `roll.adjust=ratio`), so that an adjusted price never
changes when later data arrive (a backward adjustment rewrites the past at every roll).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError, nearest
from mcl.base.instants import NS
from mcl.data import file_mark, truncation
from mcl.data.columns import Columns, read_only
from mcl.data.quotes import BarQuotes
from mcl.data.table import PRICES, off_tick
from mcl.market.calendar import new_york_ns
from mcl.market.instruments import Contract, Instrument

if TYPE_CHECKING:
    import pandas as pd

MINUTE_NS = 60 * NS
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Narrow = npt.NDArray[np.int32]
MOST = (1 << 31) - 2  # the largest tick, volume or number of seconds that a column holds
WHOLE = ("volume", "session", "to_close_sec", "contract")
PER_CONTRACT = ("shift", "left_at", "ratio", "listed_at")
COLUMNS = ("close_time", *(f"{name}_ticks" for name in PRICES), *WHOLE, "roll")

# volume_from and volume_to are what the rule compared: cleared volume, or open interest for
# `roll.rule=open_interest`; -1: nothing known.
ROLL_COLUMNS = (
    "session",
    "from_symbol",
    "to_symbol",
    "reason",
    "gap",
    "gap_time",
    "known_at",
    "volume_from",
    "volume_to",
)


# days, index into `contracts`, price units, ns
SETTLED = ("session", "contract", "price", "known_at")


class Finer(Protocol):
    """Reads the bars that coarser ones were made of, as far as they were known at a time."""

    def __call__(self) -> Bars: ...
    def upto(self, until: int) -> Finer:
        """The same up to `until` (ns), or up to where it ends already, if that is earlier."""


class Inside(NamedTuple):
    """Finer bars in ticks. Those of row i, in order: rows first[i] .. first[i + 1] - 1; none for
    row 0, before which nothing is known.
    """

    open: Narrow
    high: Narrow
    low: Narrow
    first: Ints  # one more than there are bars


@dataclass(frozen=True)
class Bars:
    """Aligned arrays of length n, one element per closed bar, strictly increasing in time. A minute
    without a trade has no row.

    close_time     int64, ns since the epoch, UTC: when the bar is known
                   (`ts_event` of the stored row + the interval)
    open_ticks …   int32, whole ticks of the dated contract; may be zero or negative
    volume         int32, contracts
    session        int32, days since 1970-01-01 of the CME trade date (18:00–17:00 New York)
    to_close_sec   int32, seconds from close_time to the official close of the session
                   (0 on its last bar)
    contract       int32, index into `contracts`
    roll           bool, True on the first bar of a new contract (never on row 0)

    They are as narrow as the engine reads them. numpy wraps narrow products in silence: `column`
    gives wide ones to compute with. What changes at rolls alone is one value per contract, float64,
    price units:

    shift          add it to the contract's prices for the continuous series
    left_at        price at which the contract before it trades when its own first bar opens;
                   NaN without a roll, or if not known
    """

    instrument: Instrument = field(metadata=truncation.SAME)
    interval: str = field(metadata=truncation.SAME)  # a name of `mcl.market.intervals`
    close_time: Ints = field(metadata=truncation.ROWS)
    open_ticks: Narrow = field(metadata=truncation.ROWS)
    high_ticks: Narrow = field(metadata=truncation.ROWS)
    low_ticks: Narrow = field(metadata=truncation.ROWS)
    close_ticks: Narrow = field(metadata=truncation.ROWS)
    volume: Narrow = field(metadata=truncation.ROWS)
    session: Narrow = field(metadata=truncation.ROWS)
    to_close_sec: Narrow = field(metadata=truncation.ROWS)
    contract: Narrow = field(metadata=truncation.INDEX)
    roll: Bools = field(metadata=truncation.ROLL)
    shift: Floats = field(metadata=truncation.PRICE_SHIFT)
    left_at: Floats = field(metadata=truncation.ONCE_LEFT)
    contracts: tuple[Contract, ...] = field(metadata=truncation.CONTRACTS)
    # ROLL_COLUMNS, one row per roll
    roll_table: pd.DataFrame = field(metadata=truncation.ROLLS, repr=False)
    # sha256 over all that a backtest can see of these bars
    fingerprint: str = field(metadata=truncation.WITHHELD)
    # never present a result on synthetic bars as a market result
    synthetic: bool = field(metadata=truncation.SAME)
    # manifest, world and seed, edge, request …
    provenance: dict[str, Any] = field(
        metadata=truncation.WITHHELD, default_factory=dict, repr=False
    )
    # per contract of `contracts`: multiply its prices for the continuous series; None: 1 for all
    ratio: Floats | None = field(metadata=truncation.PRICE_SHIFT, default=None)
    # reads the bars that these were made of, up to the close of the last one
    finer: Finer | None = field(metadata=truncation.UPTO, default=None, repr=False, compare=False)
    # SETTLED, one row per publication about the active contract of a session, in order of
    # publication
    settlements: pd.DataFrame | None = field(
        metadata=truncation.PUBLISHED, default=None, repr=False
    )
    # ns, per contract of `contracts`: when it was first known to be listed, 0 where nobody said so;
    # None: nobody said so of any
    listed_at: Ints | None = field(metadata=truncation.LISTED, default=None, repr=False)
    # what `quotes` gives; None: the data hold none
    quote_columns: BarQuotes | None = field(metadata=truncation.QUOTES, default=None, repr=False)

    @classmethod
    def of(
        cls,
        instrument: Instrument,
        interval: str,
        close_time: Ints,
        prices: Mapping[str, Any],
        **others: Any,
    ) -> Bars:
        """Bars from PRICES in price units and whole numbers of any width. `others`: the other
        fields, `contracts` and `synthetic` at least.

        What is missing: no volume, one contract, a roll where the contract changes. Errors:
        DataError of `ticks_of` and of `narrow`.
        """
        import pandas as pd

        ticks: dict[str, Any] = {
            f"{name}_ticks": ticks_of(prices[name], instrument, close_time) for name in PRICES
        }
        whole: dict[str, Any] = {
            name: narrow(name, others.pop(name, np.zeros(len(close_time), np.int32)))
            for name in WHOLE
        }
        usual: dict[str, Any] = {
            "roll": np.diff(whole["contract"], prepend=whole["contract"][:1]) != 0,
            "shift": np.zeros(len(others["contracts"])),
            "left_at": np.full(len(others["contracts"]), np.nan),
            "roll_table": pd.DataFrame(columns=list(ROLL_COLUMNS)),
            "fingerprint": "",
        }
        return cls(instrument, interval, close_time, **ticks, **whole, **(usual | others))

    def __post_init__(self) -> None:
        """All who look at the bars share them, strategies included: nobody can change them."""
        for name in (*COLUMNS, *PER_CONTRACT):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, read_only(values))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone travel to another process; what was computed from them is computed again
        there.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def __len__(self) -> int:
        return len(self.close_time)

    def __getattr__(self, name: str) -> Any:
        """Only for a name that is no attribute, or one whose computation has failed: then it fails
        again with its own words.
        """
        if name.startswith("_") or hasattr(type(self), name):
            return object.__getattribute__(self, name)
        column = name.removeprefix("adj_")
        if column in PRICES:
            raise AttributeError(f"bars has no {name!r}: write bars.adjusted[{column!r}]")
        names = [attribute for attribute in dir(type(self)) if not attribute.startswith("_")]
        names += [item.name for item in fields(self)]
        raise AttributeError(f"bars has no {name!r}: {nearest(name, names)}")

    @cached_property
    def ticks(self) -> dict[str, Narrow]:
        """open, high, low, close in whole ticks."""
        return {name: getattr(self, f"{name}_ticks") for name in PRICES}

    @cached_property
    def left_ticks(self) -> Narrow:
        """`left_at` in whole ticks, 0 where it is not known."""
        finite, left = np.isfinite(self.left_at), np.zeros(len(self.left_at), np.int32)
        left[finite] = ticks_of(self.left_at[finite], self.instrument)
        return left

    @cached_property
    def prices(self) -> Mapping[str, Floats]:
        """open, high, low, close of the dated contracts, in price units; each is made when it is
        first asked for.
        """
        return Columns("prices", self.ticks, self.instrument.price)

    @property
    def open(self) -> Floats:
        return self.prices["open"]

    @property
    def high(self) -> Floats:
        return self.prices["high"]

    @property
    def low(self) -> Floats:
        return self.prices["low"]

    @property
    def close(self) -> Floats:
        return self.prices["close"]

    @property
    def adjustment(self) -> Floats:
        """`shift` of each bar's contract."""
        return self.column("adjustment")

    @property
    def outgoing_open(self) -> Floats:
        """`left_at` where `roll`, else NaN: the price at which the outgoing contract trades when
        this bar opens.
        """
        return self.column("outgoing_open")

    def column(self, name: str, rows: slice = slice(None)) -> npt.NDArray[Any]:
        """One value per bar of `rows` as float64 (prices, adjustment, outgoing_open), int64 or
        bool; not kept.
        """
        if name in PRICES:
            return self.instrument.price(self.ticks[name][rows])
        if name == "adjustment":
            return self.shift[self.contract[rows]]
        if name == "outgoing_open":
            return np.where(self.roll[rows], self.left_at[self.contract[rows]], np.nan)
        values: npt.NDArray[Any] = getattr(self, name)[rows]
        return values if name == "roll" else values.astype(np.int64)

    @cached_property
    def adjusted(self) -> Mapping[str, Floats]:
        """open, high, low, close of the continuous series, in price units; each is made when it is
        first asked for.

        A series that was never adjusted is the prices themselves.
        """
        price, ratio, shift, stretches = (
            self.instrument.price,
            self.ratio,
            self.shift,
            self.stretches,
        )
        if ratio is None and not any(shift[contract] for contract, _ in stretches):
            return self.prices

        def continuous(ticks: Narrow) -> Floats:
            values = price(ticks)
            for contract, rows in stretches:
                if ratio is not None:
                    values[rows] *= ratio[contract]
                values[rows] += shift[contract]
            return values

        return Columns("adjusted", self.ticks, continuous)

    @cached_property
    def stretches(self) -> list[tuple[int, slice]]:
        """Contract and rows, in order."""
        edges = [
            0,
            *(np.flatnonzero(self.contract[1:] != self.contract[:-1]) + 1).tolist(),
            len(self),
        ]
        return [(int(self.contract[a]), slice(a, b)) for a, b in pairwise(edges) if a < b]

    @cached_property
    def event(self) -> npt.NDArray[np.uint8]:
        """1 where a new session starts, 2 where `roll`, 3 where both, else 0; row 0 starts
        nothing.
        """
        event = self.roll.astype(np.uint8)
        event *= np.uint8(2)
        event[1:] |= self.session[1:] != self.session[:-1]
        return event

    @cached_property
    def session_ends(self) -> Ints:
        """Row of the last bar of each session."""
        return np.append(np.flatnonzero(self.session[1:] != self.session[:-1]), len(self) - 1)

    @cached_property
    def inside(self) -> Inside:
        """The finer bars that each bar was made of. DataError where there are none, or where they
        are not those.
        """
        if self.finer is None:
            raise DataError(
                f"execution.bracket=finer: nothing is known of what these {self.interval} bars were"
                " made of"
            )
        fine = self.finer()
        first = np.searchsorted(fine.close_time, self.close_time, "right")
        inside = Inside(
            fine.ticks["open"],
            fine.ticks["high"],
            fine.ticks["low"],
            np.concatenate([first[:1], first]),
        )
        starts, own = inside.first[1:-1], slice(inside.first[1], inside.first[-1])
        tops, bottoms = self.ticks["high"][1:], self.ticks["low"][1:]
        if len(starts) and not (
            (np.diff(inside.first[1:]) > 0).all()
            and np.array_equal(np.maximum.reduceat(inside.high[own], starts - starts[0]), tops)
            and np.array_equal(np.minimum.reduceat(inside.low[own], starts - starts[0]), bottoms)
        ):
            raise DataError(
                f"the {fine.interval} bars do not make these {self.interval} bars: highs and lows"
                " differ"
            )
        return inside

    def finer_rows(self) -> tuple[Bars, Ints]:
        """The finer bars that these were made of, and for each bar the row of the last of them that
        was known at its close, -1 for none.

        `fine, last = bars.finer_rows()`, then `values[last]` for values that each finer bar knows
        at its own close: no look-ahead. A live session has none: DataError, as where the data hold
        none.
        """
        if self.finer is None:
            raise DataError(
                f"nothing is known of what these {self.interval} bars were made of",
                "choose a finer data.interval",
            )
        fine = self.finer()
        return fine, np.searchsorted(fine.close_time, self.close_time, "right") - 1

    @property
    def quotes(self) -> BarQuotes:
        """The order book and the aggressors as of the close of each bar, columns by name. DataError
        where the data hold none: `data.quotes` asks for them.
        """
        if self.quote_columns is None:
            raise DataError(
                "data.quotes=0: these bars hold no quotes, and the strategy reads them",
                "set data.quotes=1, with mbp-1 files of a vendor or data=synthetic",
            )
        return self.quote_columns

    @property
    def settlement(self) -> pd.Series:
        """The last published settlement of the active contract of each session, price units, by
        session (days); absent without one.
        """
        import pandas as pd

        frame = (
            pd.DataFrame(columns=list(SETTLED)) if self.settlements is None else self.settlements
        )
        last = frame.drop_duplicates("session", keep="last").sort_values("session")
        return pd.Series(
            last["price"].to_numpy(np.float64),
            index=last["session"].to_numpy(np.int64),
            name="settlement",
        )

    def last_settlement(self) -> Floats:
        """At each bar the newest settlement that had been published by its close, on the continuous
        series; NaN before the first.
        """
        if self.settlements is None or self.settlements.empty:
            return np.full(len(self), np.nan)
        # a late correction is no news
        newest = self.settlements[
            self.settlements["session"] >= self.settlements["session"].cummax()
        ]
        known_at, contract = (newest[name].to_numpy(np.int64) for name in ("known_at", "contract"))
        ratio = 1.0 if self.ratio is None else self.ratio[contract]
        prices = newest["price"].to_numpy(np.float64) * ratio + self.shift[contract]
        values: Floats = np.append(prices, np.nan)[
            np.searchsorted(known_at, self.close_time, "right") - 1
        ]
        return values

    def listed(self, row: int) -> tuple[Contract, ...]:
        """The contracts that were known to be listed at the close of a row (counted from the end if
        negative), nearest expiry first.
        """
        return self.rows(0, range(len(self))[row] + 1).contracts

    @cached_property
    def week_minute(self) -> npt.NDArray[np.int16]:
        """Minutes from Monday 00:00 to the close, on New York's clock. It never changes its offset
        while a session is open.
        """
        first = np.append(0, self.session_ends[:-1] + 1)
        # 1970-01-01 was a Thursday
        offset = (
            new_york_ns(self.close_time[first]) - self.close_time[first]
        ) // MINUTE_NS + 3 * 1440
        minutes: Ints = self.close_time // MINUTE_NS + np.repeat(
            offset, np.diff(np.append(first, len(self)))
        )
        return (minutes % 10_080).astype(np.int16)

    @cached_property
    def unpriced_roll(self) -> int:
        """The first row that rolls without a price of the contract it leaves, -1 if there is
        none.
        """
        rows = np.flatnonzero(self.roll)
        bad = rows[~np.isfinite(self.left_at[self.contract[rows]])]
        return int(bad[0]) if len(bad) else -1

    @cached_property
    def times(self) -> pd.DatetimeIndex:
        import pandas as pd

        return pd.DatetimeIndex(
            self.close_time.astype("datetime64[ns]"), name="close_time"
        ).tz_localize("UTC")

    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame indexed by close time, for strategies written in pandas and for
        reports. A frame of generated bars has the mark among its `attrs`, which Parquet keeps.
        """
        import pandas as pd

        columns = dict(self.prices) | {"volume": self.column("volume")}
        adjusted = {f"adj_{name}": values for name, values in self.adjusted.items()}
        symbols = np.array([c.symbol for c in self.contracts], dtype=object)[self.contract]
        marks = {"session": self.column("session"), "contract": symbols, "roll": self.roll}
        frame = pd.DataFrame(columns | adjusted | marks, index=self.times)
        if self.synthetic:
            frame.attrs |= file_mark.attributes(self.provenance.get("facts", {}))
        return frame

    def rows(self, start: int, stop: int) -> Bars:
        """The bars [start, stop) with what was known at the close of the last one, in every field,
        by `mcl.data.truncation`.

        DataError where they are empty or outside.
        """
        if not 0 <= start < stop <= len(self):
            raise DataError(
                f"rows {start}..{stop} of {len(self)} bars are empty or outside; choose 0 <= start"
                f" < stop <= {len(self)}"
            )
        left = truncation.cut(self, start, stop)
        part = Bars(
            **{
                item.name: item.metadata["cut"](getattr(self, item.name), left)
                for item in fields(self)
            }
        )
        object.__setattr__(part, CUT, True)
        return part

    def upto(self, until: int) -> Bars:
        """The bars that were known at `until` (ns). DataError where there were none."""
        import pandas as pd

        count = int(np.searchsorted(self.close_time, until, "right"))
        if not count:
            raise DataError(
                f"no bar had closed at {pd.Timestamp(until, tz='UTC')}; the first one closes at"
                f" {self.times[0]}"
            )
        return self.rows(0, count)

    @cached_property
    def point_in_time(self) -> Bars:
        """These bars as a strategy gets them: cut at their own end, so that nothing is left in them
        that was not known at the close of the last one.
        """
        return self if CUT in self.__dict__ else self.rows(0, len(self))

    def between(self, start: Any = None, end: Any = None) -> Bars:
        """Bars of the sessions start <= trade date < end (either may be None), cut as by `rows`."""
        low = 0 if start is None else int(np.searchsorted(self.session, _day(start), "left"))
        high = len(self) if end is None else int(np.searchsorted(self.session, _day(end), "left"))
        if low >= high:
            first, last = (np.datetime64(int(self.session[i]), "D") for i in (0, -1))
            wanted = f"from {start}" if end is None else f"between {start or first} and {end}"
            raise DataError(f"no bars {wanted}: the data hold sessions {first} to {last}")
        return self.rows(low, high)


CUT = "_cut"  # what `rows` has made is cut already


def ticks_of(prices: Any, of: Instrument, close_time: Ints | None = None) -> Narrow:
    """Prices in whole ticks. DataError for one that is not finite, off the tick, or as far as MOST
    from zero.
    """
    import pandas as pd

    exact = np.asarray(prices, np.float64) / of.tick_size
    if (bad := ~np.isfinite(exact) | off_tick(exact)).any():
        row = int(np.argmax(bad))
        place = f"row {row}" + (
            ""
            if close_time is None
            else f", closed at {pd.Timestamp(int(close_time[row]), tz='UTC')},"
        )
        if np.isfinite(exact[row]):
            raise DataError(
                f"{place} has the price {prices[row]}, which is off the tick of {of.tick_size:g}"
            )
        raise DataError(f"{place} has a price that is not finite; every bar needs four prices")
    whole = np.rint(exact, out=exact)
    if not np.abs(whole).max(initial=0.0) < MOST:
        raise DataError(
            f"a price is further than {MOST:,} ticks of {of.tick_size} from zero",
            "is the scale right?",
        )
    return whole.astype(np.int32)


def narrow(name: str, values: Any) -> Narrow:
    """Whole numbers as the column `name` holds them; DataError for one beyond MOST."""
    whole = np.asarray(values)
    if (most := max(int(whole.max(initial=0)), -int(whole.min(initial=0)))) > MOST:
        raise DataError(
            f"{name} {most:,} is more than the {MOST:,} that a bar can have",
            "are the columns the right ones?",
        )
    return whole.astype(np.int32, copy=False)


def _day(value: Any) -> int:
    import pandas as pd

    return int(np.datetime64(pd.Timestamp(value).date(), "D").astype(np.int64))
