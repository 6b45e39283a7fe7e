"""Bars from any CSV: the mapping of columns, the time convention and the clock are config, and
nothing is guessed.

Three shapes. With `columns.symbol` each row names its dated contract (MCLG6). With `columns.ranks`
the row holds one price per expiry rank, as vendors publish "contract 1 … 4"; ranks become dated
contracts by the exchange's last-trade rule. With neither, the file is one series without dated
contracts, which never rolls.

A file of daily settlements has no open: the bar is its close (open = high = low = close). An order
decided at one settlement therefore fills at the next bar's open, which is the next settlement.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from mcl.base.errors import DataError, nearest
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data.source import Raw, Source, always, existing_path, plain_label
from mcl.data.sources import expiry_ranks
from mcl.data.table import PRICES, STEPS_SEC, Chunk, Rows, Table, instrument, no_statistics, zone
from mcl.market import calendar
from mcl.market.calendar import (
    DAY_NS,
    NS,
    Sessions,
    from_day,
    parse_symbol,
    session_of,
)
from mcl.market.instruments import Contract

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_HEADER = 1  # lines before the first row
_NIGHTLY_SEC = 20 * 3600  # one bar a day
# so many spacings, all a multiple of five minutes, are no chance in a file of minutes
SPACINGS = 12


Column = Annotated[str, Field(min_length=1)]


class CsvColumns(Strict):
    """Names of the columns in the file. `ranks`: price columns by expiry rank (1st, 2nd … nearby),
    for series without dated contracts.
    """

    time: Column = "date"
    open: Column | None = None
    high: Column | None = None
    low: Column | None = None
    close: Column | None = None
    volume: Column | None = None
    symbol: Column | None = None
    ranks: tuple[Column, ...] = Field((), strict=False)


class CsvData(schema.DataCommon):
    """Any CSV of bars. The time convention must be said, since vendors differ."""

    source: Literal["csv"]
    path: str
    columns: CsvColumns = CsvColumns()
    # no default: a wrong guess is a look ahead of one bar
    stamped_at: Literal["open", "close", "date"] | None = None
    timezone: str | None = None  # of times that carry no offset; no default either

    @model_validator(mode="after")
    def _stamped(self) -> CsvData:
        if self.stamped_at is None:
            raise ValueError(
                "stamped_at is not said, and vendors differ: write data.stamped_at=open where a"
                " time is that at which its bar opens, data.stamped_at=close where it is that at"
                " which it closes, data.stamped_at=date for bare days"
            )
        return self


def table(path: Path, data: CsvData) -> Table:
    """The file as a table. Errors name the file, the line and the value."""
    frame = _read(path)
    _columns_exist(path, frame, data.columns)
    if not len(frame):
        raise DataError(f"{path} has a header but no rows")
    if (data.stamped_at == "date") != (data.interval == "session"):
        raise DataError(
            f"a file stamped at {data.stamped_at!r} cannot give {data.interval!r} bars",
            "dates go with data.interval=session",
        )
    return _by_rank(path, frame, data) if data.columns.ranks else _by_row(path, frame, data)


def _by_rank(path: Path, frame: pd.DataFrame, data: CsvData) -> Table:
    columns = data.columns
    prices = {name: _numbers(path, frame[name]) for name in columns.ranks}
    days = _days(path, frame[columns.time])
    return expiry_ranks.table(path, instrument(data.instrument), columns.time, days, prices)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, skipinitialspace=True)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error


def _columns_exist(path: Path, frame: pd.DataFrame, columns: CsvColumns) -> None:
    named = [
        columns.time,
        *columns.ranks,
        *(c for c in (columns.open, columns.high, columns.low, columns.close) if c),
    ]
    named += [c for c in (columns.volume, columns.symbol) if c]
    for name in named:
        if name not in frame.columns:
            raise DataError(
                f"{path} has no column {name!r}; {nearest(name, map(str, frame.columns))}",
                "set data.columns",
            )
    if not columns.ranks and columns.close is None:
        raise DataError(
            f"data.columns.close names no price column of {path}; it has:"
            f" {', '.join(map(str, frame.columns))}"
        )


def _numbers(path: Path, column: pd.Series) -> Floats:
    values = pd.to_numeric(column, errors="coerce")
    bad = values.isna() & column.notna()
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"{path}, line {at + 1 + _HEADER}: {column.name} is {column.iloc[at]!r}, not a number"
        )
    return values.to_numpy(np.float64)


def _days(path: Path, column: pd.Series) -> Ints:
    """Days since 1970-01-01 of each row."""
    days: Ints = _parsed(path, column).to_numpy().astype("datetime64[D]").astype(np.int64)
    return days


def _times(path: Path, column: pd.Series, timezone: str | None) -> Ints:
    """ns UTC of each row. DataError where the times carry no offset and nobody says whose clock
    they are of.
    """
    parsed = _parsed(path, column)
    if parsed.dt.tz is None:
        if timezone is None:
            problem = (
                f"{path}: {column.name} {column.iloc[0]} carries no offset, and data.timezone is"
                " not said"
            )
            raise DataError(
                problem,
                "write data.timezone=UTC, or data.timezone=America/New_York for exchange time",
            )
        parsed = _on_clock(path, parsed, zone(timezone))
    elif timezone is not None:
        zone(timezone)  # a name that does not exist is a mistake, although it is not needed
    times: Ints = (
        parsed.dt.tz_convert("UTC")
        .dt.tz_localize(None)
        .to_numpy()
        .astype("datetime64[ns]")
        .astype(np.int64)
    )
    return times


def _parsed(path: Path, column: pd.Series) -> pd.Series:
    try:
        parsed: pd.Series = pd.to_datetime(column, errors="coerce", format="ISO8601")
    except ValueError as error:  # rows with an offset and rows without one
        raise DataError(
            f"{path}: {column.name} cannot be read as times: {error}",
            "give every row an offset, or none",
        ) from error
    if parsed.dtype == object:
        raise DataError(
            f"{path}: {column.name} holds times of several offsets", "write all of them in UTC"
        )
    bad = np.flatnonzero(parsed.isna())
    if len(bad):
        raise DataError(
            f"{path}, line {bad[0] + 1 + _HEADER}: {column.name} is {column.iloc[bad[0]]!r}, not an"
            " ISO 8601 time"
        )
    return parsed


def _on_clock(path: Path, parsed: pd.Series, clock: ZoneInfo) -> pd.Series:
    try:
        local: pd.Series = parsed.dt.tz_localize(clock, ambiguous="raise", nonexistent="raise")
    except ValueError as error:
        problem = (
            f"{path}: a time does not exist or comes twice on the clock of {clock.key} ({error})"
        )
        raise DataError(problem, "set data.timezone") from error
    return local


# -------------------------------------------------------------------------------------- one per row


def _by_row(path: Path, frame: pd.DataFrame, data: CsvData) -> Table:
    of, columns = instrument(data.instrument), data.columns
    days = data.interval == "session"
    time = (
        _days(path, frame[columns.time])
        if days
        else _times(path, frame[columns.time], data.timezone)
    )
    if not days and data.stamped_at == "close":
        time = time - STEPS_SEC[data.interval] * NS
    close = _numbers(path, frame[columns.close])
    prices = {
        name: close if (source := getattr(columns, name)) is None else _numbers(path, frame[source])
        for name in PRICES
    }
    volume = _volume(path, frame, columns.volume)
    contracts, index = _contracts(path, frame, time if days else time // DAY_NS, data)
    order = np.argsort(index, kind="stable")
    sessions = _calendar_of(time, days, contracts, data.instrument)
    opens = expiry_ranks.opens(time, sessions) if days else time
    rows = Rows(index, opens, time if days else session_of(time), **prices, volume=volume).take(
        order
    )
    chunk = Chunk(rows, str(path), order + 1 + _HEADER)
    if not days:
        _apart(path, chunk, STEPS_SEC[data.interval])
    listed = np.zeros(len(contracts), np.int64)
    return Table(
        instrument=of,
        interval=data.interval,
        contracts=contracts,
        listed_at=listed,
        calendar=sessions,
        chunks=lambda: iter([chunk]),
        statistics=no_statistics(),
        synthetic=False,
        origin=str(path),
        sums_volume=columns.volume is not None,
        facts={"format": "CSV", "dated_contracts": columns.symbol is not None},
    )


def _apart(path: Path, chunk: Chunk, step_sec: int) -> None:
    """Refuse bars that are not as long as the config says: they would be known too early, which is
    a look ahead, or too late.

    Too near: two bars of a contract begin within `step_sec`. Too far: of SPACINGS or more, every
    one is a multiple of something longer.
    """
    rows = chunk.rows
    at = np.flatnonzero((np.diff(rows.contract) == 0) & (np.diff(rows.ts_event) > 0))
    spacings = np.diff(rows.ts_event)[at] / NS
    if not len(at):
        return
    common = float(np.gcd.reduce(np.rint(spacings).astype(np.int64)))
    apart = spacings.min() if spacings.min() >= _NIGHTLY_SEC else common
    problem = f"data.interval says {step_sec} s; {_interval(apart)}"
    if spacings.min() < step_sec:
        line = int(np.asarray(chunk.lines)[at[np.argmin(spacings)] + 1])
        raise DataError(
            f"{path}, line {line}: this bar begins {spacings.min():g} s after the one before it,"
            f" and {problem}"
        )
    if len(at) >= SPACINGS and apart > step_sec:
        raise DataError(
            f"{path}: its {len(rows):,} bars begin {apart:g} s apart or a multiple of it, and"
            f" {problem}"
        )


def _interval(apart_sec: float) -> str:
    """Name the setting that fits bars which begin so far apart."""
    if apart_sec >= _NIGHTLY_SEC:
        return "set data.interval=session and data.stamped_at=date"
    names = [name for name in get_args(schema.Interval) if STEPS_SEC[name] == apart_sec]
    return (
        f"set data.interval={names[0]}"
        if names
        else f"there is none of {apart_sec:g} s: {', '.join(get_args(schema.Interval))}"
    )


def _volume(path: Path, frame: pd.DataFrame, name: str | None) -> Ints:
    if name is None:
        return np.zeros(len(frame), np.int64)
    volume = _numbers(path, frame[name])
    bad = np.flatnonzero(~np.isfinite(volume) | (volume % 1 != 0))
    if len(bad):
        raise DataError(
            f"{path}, line {bad[0] + 1 + _HEADER}: volume is {volume[bad[0]]}, not a whole number"
        )
    return volume.astype(np.int64)


def _contracts(
    path: Path, frame: pd.DataFrame, day: Ints, data: CsvData
) -> tuple[tuple[Contract, ...], Ints]:
    """The contracts by last trade date, and the index of each row's."""
    if data.columns.symbol is None:
        return (Contract(data.instrument, data.instrument, 9999, 12, date.max),), np.zeros(
            len(frame), np.int64
        )
    symbols, first, code = np.unique(
        frame[data.columns.symbol].fillna("").to_numpy(str), return_index=True, return_inverse=True
    )
    contracts = []
    for symbol, at in zip(symbols, first, strict=True):
        try:
            contracts.append(parse_symbol(str(symbol), from_day(int(day[at]))))
        except DataError as error:
            raise DataError(
                f"{path}, line {at + 1 + _HEADER}: {error.message}", error.hint
            ) from error
        if contracts[-1].root != data.instrument:
            raise DataError(
                f"{path}, line {at + 1 + _HEADER}: {symbol} is not a contract of {data.instrument}",
                "set data.instrument",
            )
    rank = sorted(range(len(contracts)), key=lambda i: contracts[i].last_trade_date)
    position = np.argsort(rank)
    return tuple(contracts[i] for i in rank), position[code].astype(np.int64)


def _calendar_of(time: Ints, days: bool, contracts: tuple[Contract, ...], root: str) -> Sessions:
    first, last = (from_day(int(t if days else t // DAY_NS)) for t in (time.min(), time.max()))
    beyond = max([last, *(c.last_trade_date for c in contracts if c.last_trade_date < date.max)])
    if days:
        return expiry_ranks.daily_calendar(np.unique(time), beyond)
    return calendar.sessions(first - timedelta(days=7), beyond + timedelta(days=31), root)


def _raw(data: CsvData, root: Path) -> Raw:
    path = existing_path(data.path, root, folder=False)
    keys = {"source", "instrument", "interval", "columns", "stamped_at", "timezone"}
    request = data.model_dump(mode="json", include=keys)
    label = plain_label(f"csv-{path.stem}")
    return Raw(label, path.parent, [path], request, partial(table, path, data))


SOURCE = Source(CsvData, _raw, always("path"), needs=("path", "stamped_at"))
