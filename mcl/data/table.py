"""`Table`: all bars of all outright contracts of one product. Every source ends here and every
`Bars` begins here.

Rows flow in chunks (one per raw file), so that a decade needs no more memory than a month. A check
refuses the whole build with one sentence that names the place and the value: a damaged row is never
skipped. What is left out on purpose is counted by cause and written to the manifest. `mcl data
check` lists the same faults without stopping at the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError, nearest
from mcl.base.instants import NS
from mcl.data.roll import Volumes
from mcl.market.calendar import Sessions, from_day, to_day
from mcl.market.instruments import INSTRUMENTS, Contract, Instrument

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PRICES = ("open", "high", "low", "close")
_QUOTE = "open {open}, high {high}, low {low}, close {close}"


@dataclass(frozen=True)
class Rows:
    """Aligned arrays of bars. `ts_event` (ns, UTC) is the open of the bar, prices are price units
    of the dated contract.
    """

    contract: Ints  # index into the contracts
    ts_event: Ints
    session: Ints  # days since 1970-01-01
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints

    def __len__(self) -> int:
        return len(self.ts_event)

    def take(self, index: Any) -> Rows:
        return Rows(*(getattr(self, name)[index] for name in ROW_COLUMNS))


ROW_COLUMNS = ("contract", "ts_event", "session", *PRICES, "volume")


class Chunk(NamedTuple):
    """Rows of one file, ordered by contract and else as the file has them; a later chunk continues
    the times of each contract.

    `origin` and `lines` (line numbers of a text file) are for sentences; `left_out` counts rows
    that are no outright, by cause. Of rows of several files `file` is the index into `origins`.
    """

    rows: Rows
    origin: str
    lines: Ints | None = None
    left_out: dict[str, int] = {}  # noqa: RUF012
    file: Ints | None = None
    origins: tuple[str, ...] = ()

    def origin_of(self, row: int) -> str:
        """The file of a row."""
        return self.origin if self.file is None else self.origins[self.file[row]]


@dataclass(frozen=True)
class Table:
    """`contracts` are ordered by last trade date; `calendar` reaches beyond the last trade dates.

    chunks        the rows, unchecked, days without a session included; may be asked for again
    statistics    session, contract, kind ("settlement", "cleared_volume", "open_interest"),
                  value, known_at: one row per publication
    sums_volume   the source publishes no cleared volume: the sum of a session's bars stands in
    conditions    what the vendor says of a UTC day that is not "available": degraded, missing,
                  pending
    counts        known before the rows are read; facts: what the source says about itself
    cures         by kind of fault, the key that helps; {line} is the number of the line
    """

    instrument: Instrument
    interval: str  # of the rows: a key of STEPS_SEC
    contracts: tuple[Contract, ...]
    listed_at: Ints  # ns; when each contract was first known
    calendar: Sessions
    chunks: Callable[[], Iterator[Chunk]]
    statistics: pd.DataFrame
    synthetic: bool
    origin: str
    sums_volume: bool = False
    conditions: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    cures: Mapping[str, str] = field(default_factory=dict)

    @property
    def degraded(self) -> Ints:
        return degraded(self.conditions, self.calendar)


def degraded(conditions: Mapping[str, str], calendar: Sessions) -> Ints:
    """Sessions (days) with a degraded day: the session of that date, or the next one when the day
    has none (a Sunday).
    """
    words = [date.fromisoformat(day) for day, word in conditions.items() if word == "degraded"]
    days = np.array(sorted(map(to_day, words)), np.int64)
    at = np.searchsorted(calendar.day, days)
    return np.unique(calendar.day[at[at < len(calendar.day)]])


def instrument(symbol: str) -> Instrument:
    if symbol not in INSTRUMENTS:
        raise DataError(f"unknown instrument {symbol!r}; {nearest(symbol, INSTRUMENTS)}")
    return INSTRUMENTS[symbol]


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"unknown timezone {name!r}; for instance UTC or America/New_York"
        ) from error


class WallClock(NamedTuple):
    """Hold whose clock the times of Parquet files are on, where these do not say it or are not
    believed.
    """

    timezone: str | None = None
    ignore_offsets: bool = False  # times that carry a zone show `timezone` all the same


PLAIN = WallClock()


def clock(ns: int) -> str:
    """A time as people read it in an error."""
    import pandas as pd

    return f"{pd.Timestamp(int(ns), tz='UTC'):%Y-%m-%d %H:%M:%S} UTC"


class Fault(NamedTuple):
    """One rule and the rows that break it. `rule` is a sentence with the names of columns in
    braces.
    """

    kind: str
    rule: str
    bad: npt.NDArray[np.bool_]


def faults(rows: Rows, of: Instrument, before: Ints) -> list[Fault]:
    """Every rule that a row must keep; `before` is the time (ns) of the last earlier row of each
    contract.
    """
    price = np.stack([getattr(rows, name) for name in PRICES])
    ticks = price / of.tick_size
    step = np.diff(rows.ts_event, prepend=np.int64(0))
    first = np.flatnonzero(np.diff(rows.contract, prepend=-1))
    step[first] = np.where(
        before[rows.contract[first]] < 0, 1, rows.ts_event[first] - before[rows.contract[first]]
    )
    contradiction = (
        "high {high} is below open {open} or close {close}",
        "low {low} is above open {open} or close {close}",
    )
    return [
        Fault(
            "missing price",
            f"a price is missing or not finite ({_QUOTE})",
            ~np.isfinite(price).all(axis=0),
        ),
        Fault(
            "off tick",
            f"a price is off the tick of {of.tick_size:g} of {of.symbol} ({_QUOTE})",
            np.any(off_tick(ticks), axis=0),
        ),
        Fault("contradiction", "high {high} is below low {low}", rows.high < rows.low),
        Fault("contradiction", contradiction[0], rows.high < np.maximum(rows.open, rows.close)),
        Fault("contradiction", contradiction[1], rows.low > np.minimum(rows.open, rows.close)),
        Fault("negative volume", "volume {volume} is negative", rows.volume < 0),
        Fault("duplicate", "the same time comes twice", step == 0),
        Fault("backwards", "times run backwards", step < 0),
    ]


def on_tick(price: Floats, of: Instrument) -> Floats:
    """Prices that are ticks to the precision of a 32-bit float, as some programs store them, on
    those ticks; others as they are.
    """
    with np.errstate(invalid="ignore"):
        nearest = of.price(np.rint(price / of.tick_size))
    same = price.astype(np.float32) == nearest.astype(np.float32)
    return np.where(same, nearest, price)


def off_tick(ticks: Floats) -> npt.NDArray[np.bool_]:
    """Whether each price, divided by the tick, lies between two ticks; False for one that is not
    finite.
    """
    with np.errstate(invalid="ignore"):
        off: npt.NDArray[np.bool_] = np.abs(ticks - np.rint(ticks)) > 1e-4
    return off


def no_times(contracts: int) -> Ints:
    """The `before` of `faults` at the start of the data."""
    return np.full(contracts, -1, np.int64)


def last_times(rows: Rows, before: Ints) -> Ints:
    """The `before` of the next chunk."""
    after = before.copy()
    after[rows.contract] = rows.ts_event
    return after


def sentence(fault: Fault, row: int, chunk: Chunk, contracts: tuple[Contract, ...]) -> str:
    """The place and the broken rule."""
    rows, lines = chunk.rows, chunk.lines
    place = f"{contracts[rows.contract[row]].symbol} at {clock(rows.ts_event[row])}" + (
        f", line {lines[row]}" if lines is not None else ""
    )
    return f"{chunk.origin_of(row)}: {place}: {fault.rule.format(**_row(rows, row))}"


def check(chunk: Chunk, table: Table, before: Ints) -> None:
    """Refuse damaged rows: NaN, off-tick, high and low that contradict, negative volume, unsorted
    or duplicated times, a wrong scale.
    """
    for fault in faults(chunk.rows, table.instrument, before):
        if fault.bad.any():
            row = int(np.argmax(fault.bad))
            raise DataError(
                sentence(fault, row, chunk, table.contracts), _cure(fault.kind, row, chunk, table)
            )


def _cure(kind: str, row: int, chunk: Chunk, table: Table) -> str:
    every = "mcl data check lists every fault"
    if kind not in table.cures:
        return every
    line = "" if chunk.lines is None else chunk.lines[row]
    return f"{table.cures[kind].format(line=line)}; {every}"


def _check_scale(chunk: Chunk, table: Table) -> None:
    """Refuse prices at which the product never traded."""
    if reason := wrong_scale(chunk.rows.close, table.instrument):
        cure = "compare the file with the vendor's price format"
        has_key = table.cures and chunk.lines is not None
        if has_key and (scale := fitting_scale(chunk.rows.close, table.instrument)):
            cure = f"set data.format.scale={scale:g}, or data.instrument"
        raise DataError(f"{chunk.origin}: {reason}", cure)


def fitting_scale(price: Floats, of: Instrument) -> float | None:
    """The power of ten that moves prices to where the product trades; None for none."""
    low, high = _USUAL[of.symbol]
    middle = float(np.median(np.abs(price)))
    return next((s for s in _SCALES if low <= middle * s <= high), None)


_SCALES = (0.01, 1e-9, 0.1, 0.001, 1e-4, 10.0, 100.0, 1000.0)


def wrong_scale(price: Floats, of: Instrument) -> str:
    """A sentence when the product never traded at the prices: in cents, or in the vendor's
    integers.
    """
    low, high = _USUAL[of.symbol]
    middle = float(np.median(np.abs(price))) if len(price) else low
    return (
        ""
        if low <= middle <= high
        else f"prices are around {middle:g}, but {of.symbol} trades between {low:g} and {high:g}"
    )


_USUAL = {
    "MCL": (1.0, 1e3),
    "CL": (1.0, 1e3),
    "GC": (1e2, 2e4),
    "MGC": (1e2, 2e4),
    "ES": (1e2, 1e5),
    "MES": (1e2, 1e5),
}


def accepted(table: Table, counts: Counter[str]) -> Iterator[Rows]:
    """The checked rows of the days on which the exchange trades; `counts` fills by cause while they
    pass.
    """
    counts.update(table.counts)
    before = no_times(len(table.contracts))
    for chunk in table.chunks():
        check(chunk, table, before)
        _check_scale(chunk, table)
        before = last_times(chunk.rows, before)
        inside, late = in_session(chunk.rows, table.calendar)
        rows = chunk.rows if inside.all() else chunk.rows.take(inside)
        counts.update(
            {
                "read": len(chunk.rows) + sum(chunk.left_out.values()),
                "excluded_no_session": int((~inside).sum()),
            }
        )
        counts.update({"after_official_close": int(late.sum()), "kept": len(rows)} | chunk.left_out)
        yield rows
    if not counts["kept"]:
        first, last = (from_day(int(d)) for d in (table.calendar.day[0], table.calendar.day[-1]))
        text = f"{table.origin} holds no bar of any session between {first} and {last}"
        raise DataError(text, "are the clock and data.instrument right?")


def _row(rows: Rows, i: int) -> dict[str, Any]:
    return {name: getattr(rows, name)[i] for name in (*PRICES, "volume")}


def in_session(
    rows: Rows, calendar: Sessions
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether the calendar has the session of each bar, and whether the bar lies after its official
    close.

    Bars after the close of a trading day stay: an early close may be wrong in the calendar, a price
    is not.
    """
    index = np.minimum(np.searchsorted(calendar.day, rows.session), len(calendar.day) - 1)
    inside = calendar.day[index] == rows.session
    return inside, inside & (rows.ts_event >= calendar.close_ns[index])


class TradedVolume:
    """Statistics of a source without any: volume per session and contract from the bars, known when
    the session's last bar is.
    """

    def __init__(self, calendar: Sessions, step_sec: int) -> None:
        self.calendar, self.step_sec = calendar, step_sec
        self.cells: list[pd.DataFrame] = []

    def add(self, rows: Rows) -> None:
        import pandas as pd

        columns = {
            "session": rows.session,
            "contract": rows.contract,
            "volume": rows.volume,
            "last": rows.ts_event,
        }
        self.cells.append(self._sums(pd.DataFrame(columns)))

    def statistics(self) -> pd.DataFrame:
        # a session may lie in two files
        import pandas as pd

        cells = self._sums(pd.concat(self.cells, ignore_index=True))
        close = self.calendar.close_ns[np.searchsorted(self.calendar.day, cells["session"])]
        known_at = np.maximum(close, cells["last"].to_numpy() + self.step_sec * NS)
        return statistics(
            cells["session"], cells["contract"], "cleared_volume", cells["volume"], known_at
        )

    @staticmethod
    def _sums(frame: pd.DataFrame) -> pd.DataFrame:
        sums: pd.DataFrame = frame.groupby(["session", "contract"], as_index=False).agg(
            {"volume": "sum", "last": "max"}
        )
        return sums


def statistics(session: Any, contract: Any, kind: Any, value: Any, known_at: Any) -> pd.DataFrame:
    import pandas as pd

    columns = {
        "session": session,
        "contract": contract,
        "kind": kind,
        "value": value,
        "known_at": known_at,
    }
    frame = pd.DataFrame(columns, index=range(len(session)))
    return frame.astype(
        {
            "session": "int64",
            "contract": "int64",
            "kind": "str",
            "value": "float64",
            "known_at": "int64",
        }
    )


def no_statistics() -> pd.DataFrame:
    return statistics([], [], "", [], [])


def published(stats: pd.DataFrame, kind: str) -> Volumes:
    """The cleared volumes or the open interest among the statistics."""
    rows = stats[stats["kind"] == kind]
    return Volumes(
        *(rows[name].to_numpy(np.int64) for name in ("session", "contract", "value", "known_at"))
    )
