"""Bars from any CSV: the columns, the format of the text, the time convention and the clock are
config, and nothing is guessed. `conf/data` has a preset per vendor; `mcl data sniff` proposes one.

Three shapes. With `columns.symbol` each row names its dated contract (MCLG6, and the spellings of
`mcl.market.symbols`). With `columns.ranks` the row holds one price per expiry rank, as vendors
publish "contract 1 … 4"; ranks become dated contracts by the exchange's last-trade rule. With
neither, the file is one series that never rolls: of the dated contract `contract`, or of none. A
folder is read whole, with the contracts that the names of its files say (`mcl.data.csv_folder`).

A file of daily settlements has no open: the bar is its close (open = high = low = close). An order
decided at one settlement therefore fills at the next bar's open, which is the next settlement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from mcl.base.errors import DataError, nearest
from mcl.base.instants import NS
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import csv_folder, csv_text, file_mark
from mcl.data.csv_text import Cells, Column, CsvFormat
from mcl.data.source import Raw, Source, existing_path, plain_label
from mcl.data.sources import expiry_ranks
from mcl.data.table import (
    PRICES,
    Chunk,
    Rows,
    Table,
    instrument,
    no_statistics,
    on_tick,
)
from mcl.market import calendar, contract_master, symbols
from mcl.market.calendar import DAY_NS, Sessions, from_day, parse_symbol, session_of
from mcl.market.instruments import Contract, Instrument
from mcl.market.intervals import STEPS_SEC

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NIGHTLY_SEC = 20 * 3600  # one bar a day
# so many spacings, all a multiple of five minutes, are no chance in a file of minutes
SPACINGS = 12
SUNDAY = 6
_LINE = "leave the line out with data.format.without=[{line}]"
_LINE_OF_FILE = "correct line {line} of that file"
CURES = {  # of each kind of fault, the key that helps
    "missing price": 'leave rows without a price out with data.format.missing=["null"], or '
    + _LINE,
    "off tick": "set data.instrument or data.format.scale if each price is so, else " + _LINE,
    "contradiction": "set data.columns if the columns are mixed up, else " + _LINE,
    "negative volume": "set data.columns.volume=null if the column is no volume, else " + _LINE,
    "duplicate": "read equal rows once with data.format.duplicates=identical, else " + _LINE,
    "backwards": "set data.format.sort=true",
}
CURES_IN_FOLDER = {kind: cure.replace(_LINE, _LINE_OF_FILE) for kind, cure in CURES.items()}


class CsvColumns(Strict):
    """Names of the columns in the file. `date` is the day where `time` is a clock alone. `ranks`:
    price columns by expiry rank (1st, 2nd … nearby), for series without dated contracts.
    """

    time: Column = "date"
    date: Column | None = None
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
    path: str  # of a file, or of a folder of files of one layout
    # of a folder: the pattern of the names that are read, MCL*.csv; every CSV when null
    files: Annotated[str, Field(min_length=1)] | None = None
    columns: CsvColumns = CsvColumns()
    format: CsvFormat = CsvFormat()
    # no default: a wrong guess is a look ahead of one bar
    stamped_at: Literal["open", "close", "date"] | None = None
    timezone: str | None = None  # of times that carry no offset; no default either
    # the dated contract that the whole file is of, where it names none: MCLJ24
    contract: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _stamped(self) -> CsvData:
        if self.stamped_at is None:
            raise ValueError(
                "stamped_at is not said, and vendors differ: write data.stamped_at=open where a"
                " time is that at which its bar opens, data.stamped_at=close where it is that at"
                " which it closes, data.stamped_at=date for bare days"
            )
        return self

    @property
    def file_interval(self) -> schema.Interval:
        """The length of the bars in the file."""
        return self.format.interval or self.interval


def table(path: Path, data: CsvData, limit: int | None = None) -> Table:
    """The file as a table, or its first `limit` rows; all files of a folder. Errors name the file,
    the line and the value, and end with the key that cures them.
    """
    if (data.stamped_at == "date") != (data.file_interval == "session"):
        raise DataError(
            f"a file stamped at {data.stamped_at!r} cannot give {data.file_interval!r} bars",
            "dates go with data.interval=session",
        )
    if path.is_dir() and data.format.without:
        raise DataError(
            f"data.format.without numbers the lines of one file, and {path} is a folder",
            "correct the lines in their files",
        )
    paths = csv_folder.files(path, data.files) if path.is_dir() else [path]
    read = [_cells(file, data, limit) for file in paths]
    if data.columns.ranks:
        return _by_rank(_only(path, read), data)
    return _by_row(path, read, data)


def _cells(path: Path, data: CsvData, limit: int | None) -> Cells:
    cells = csv_text.read(path, data.format, limit)
    check_columns(cells, data.columns)
    return cells


def _only(path: Path, read: list[Cells]) -> Cells:
    if len(read) > 1:
        raise DataError(
            f"{path} holds {len(read)} files, and data.columns.ranks reads one",
            f"set data.path={read[0].path}",
        )
    return read[0]


def check_columns(cells: Cells, columns: CsvColumns) -> None:
    """Refuse names of columns that the file does not have."""
    named = {name: getattr(columns, name) for name in ("time", "date", *PRICES, "volume", "symbol")}
    ranked = {f"ranks={list(columns.ranks)}": name for name in columns.ranks}
    for key, name in (named | ranked).items():
        if name is not None and name not in cells.frame.columns:
            others = list(map(str, cells.frame.columns))
            raise DataError(
                f"{cells.path} has no column {name!r}; {nearest(name, others)}",
                f"set data.columns.{key.partition('=')[0]} to one of: {', '.join(others)}",
            )
    if not columns.ranks and columns.close is None:
        raise DataError(
            f"data.columns.close names no price column of {cells.path}",
            f"set data.columns.close to one of: {', '.join(map(str, cells.frame.columns))}",
        )


def time_text(cells: Cells, columns: CsvColumns) -> pd.Series:
    """The time of each row as text, put together where the file has it in two columns."""
    time = csv_text.plain_offsets(cells.frame[columns.time].fillna("").str.strip())
    if columns.date is None:
        return time
    day = cells.frame[columns.date].fillna("").str.strip()
    return (day + " " + time).rename(f"{columns.date} {columns.time}")


def _by_rank(cells: Cells, data: CsvData) -> Table:
    prices = {
        name: csv_text.numbers(cells, name, data.format) * data.format.scale
        for name in data.columns.ranks
    }
    days = csv_text.days(cells, time_text(cells, data.columns), data.format)
    of = instrument(data.instrument)
    ranked = expiry_ranks.table(cells.path, of, data.columns.time, days, prices)
    ranked.facts.update({"world": cells.world} if cells.world else {})
    return replace(ranked, synthetic=bool(cells.world))


# -------------------------------------------------------------------------------------- one per row


@dataclass(frozen=True)
class _Columns:
    """The columns of a file as numbers, and the contract of each row."""

    time: Ints  # ns UTC, or days for bars of a session
    prices: dict[str, Floats]
    volume: Ints
    contracts: tuple[Contract, ...]
    index: Ints
    absolute: bool  # the times name instants by themselves


def _by_row(path: Path, read: list[Cells], data: CsvData) -> Table:
    days = data.file_interval == "session"
    bars = [_bars_only(cells, data) for cells in read]
    dated = _dated(bars, data) if path.is_dir() else [data]
    used = [(cells, own) for cells, own in zip(bars, dated, strict=True) if own is not None]
    each = [_columns(cells, own) for cells, own in used]
    contracts, columns = _common(each)
    sessions = _calendar_of(columns, contracts, days, data.instrument)
    parts = [
        csv_folder.Part(cells.path, _rows(own, sessions, days), cells.lines, cells.left_out)
        for (cells, _), own in zip(used, columns, strict=True)
    ]
    sort = data.format.sort
    if path.is_dir():
        whole = csv_folder.joined(path, csv_folder.in_order(parts, sort))
    else:
        whole = csv_folder.by_contract(parts[0], sort)
    chunk = whole if data.format.duplicates == "refuse" else csv_folder.once(whole)
    if not days:
        _apart(chunk, data)
    marks = (_world(cells, own) for (cells, _), own in zip(used, columns, strict=True))
    world = next(filter(None, marks), {})
    left_out = {"files_left_out": len(bars) - len(used)} if len(used) < len(bars) else {}
    return Table(
        instrument=instrument(data.instrument),
        interval=data.file_interval,
        contracts=contracts,
        listed_at=np.zeros(len(contracts), np.int64),
        calendar=sessions,
        chunks=lambda: iter([chunk]),
        statistics=no_statistics(),
        synthetic=bool(world),
        origin=str(path),
        sums_volume=data.columns.volume is not None,
        facts={
            "format": "CSV",
            "dated_contracts": contracts[0].year < _NO_YEAR,
            "absolute_times": all(own.absolute for own in columns),
        }
        | left_out
        | csv_text.volume_limits(data.columns.volume, [own.volume for own in columns])
        | ({"world": world} if world else {}),
        cures=CURES_IN_FOLDER if path.is_dir() else CURES,
    )


def _rows(columns: _Columns, sessions: Sessions, days: bool) -> Rows:
    return Rows(
        columns.index,
        _opens(columns.time, sessions) if days else columns.time,
        columns.time if days else session_of(columns.time),
        **columns.prices,
        volume=columns.volume,
    )


def _dated(read: list[Cells], data: CsvData) -> list[CsvData | None]:
    """The config of each file of a folder with the contract that its name says; None for a file
    that is left out, of a spread or of another product.
    """
    if data.columns.symbol is not None or data.contract is not None:
        return [data] * len(read)
    names = [_in_name(cells, data) for cells in read]
    unnamed = [cells.path.name for cells, what in zip(read, names, strict=True) if what is None]
    if len(unnamed) == len(read):
        return [data] * len(read)
    if unnamed:
        raise DataError(
            f"{len(unnamed)} of {len(read)} files name no contract, and others do: {unnamed[0]}",
            f"set data.files='{data.format.root or data.instrument}*.csv' to choose among them",
        )
    own = [_of_contract(data, what) if isinstance(what, Contract) else None for what in names]
    if not any(own):
        raise DataError(
            f"no file names a contract of {data.instrument}: {read[0].path.name}",
            "set data.instrument, or data.format.root where its letters are others",
        )
    return own


def _of_contract(data: CsvData, contract: Contract) -> CsvData:
    root = data.format.root or data.instrument
    name = f"{root} {contract.year}-{contract.month:02d}"
    return data.model_copy(update={"contract": name})


def _in_name(cells: Cells, data: CsvData) -> Contract | symbols.Kind | None:
    root = data.format.root or data.instrument
    text = time_text(cells, data.columns)
    if data.file_interval == "session":
        day = csv_text.days(cells, text.head(1), data.format)[0]
    else:
        day = csv_text.instants(cells, text.head(1), data.format, data.timezone)[0] // DAY_NS
    meaning = csv_folder.contract_in_name(cells.path, root, from_day(int(day)))
    if meaning is symbols.Kind.OTHER and data.format.symbols != "product":
        raise DataError(
            f"{cells.path} is of another product than {root}",
            "set data.instrument, or leave such files out with data.format.symbols=product",
        )
    return meaning


def _common(each: list[_Columns]) -> tuple[tuple[Contract, ...], list[_Columns]]:
    """The contracts of all files by last trade date, and the columns that name them by place."""
    months = {(c.year, c.month): c for own in reversed(each) for c in reversed(own.contracts)}
    contracts = tuple(sorted(months.values(), key=lambda c: c.last_trade_date))
    place = {(c.year, c.month): i for i, c in enumerate(contracts)}
    positions = [np.array([place[c.year, c.month] for c in own.contracts]) for own in each]
    return contracts, [
        replace(own, contracts=contracts, index=position[own.index].astype(np.int64))
        for own, position in zip(each, positions, strict=True)
    ]


def _world(cells: Cells, columns: _Columns) -> dict[str, Any]:
    """The facts of a generated world whose bars somebody wrote as CSV: by the mark in a comment or
    a column, or by the instrument ids.
    """
    import pandas as pd

    if cells.world:
        return cells.world
    if file_mark.COLUMN in cells.frame:
        unique = cells.frame[file_mark.COLUMN].dropna().astype(str).unique()
        if world := file_mark.in_column(unique.tolist()):
            return world
    if "instrument_id" not in cells.frame:
        return {}
    ids = pd.to_numeric(cells.frame["instrument_id"], errors="coerce")
    pairs = pd.DataFrame({"id": ids.to_numpy(), "contract": columns.index}).drop_duplicates()
    contracts = [columns.contracts[index] for index in pairs["contract"].tolist()]
    return contract_master.watermark_of_ids(pairs["id"].tolist(), contracts)


_NO_YEAR = 9999  # of the contract that a series without dated contracts is made of


def _columns(cells: Cells, data: CsvData) -> _Columns:
    text, names = time_text(cells, data.columns), data.columns
    if data.file_interval == "session":
        time = day = csv_text.days(cells, text, data.format)
    else:
        time = csv_text.instants(cells, text, data.format, data.timezone)
        time = time - (STEPS_SEC[data.file_interval] * NS if data.stamped_at == "close" else 0)
        day = time // DAY_NS
    of = instrument(data.instrument)
    close = _prices(cells, str(names.close), data.format, of)
    prices = {
        name: close
        if (source := getattr(names, name)) is None
        else _prices(cells, source, data.format, of)
        for name in PRICES
    }
    volume = _volume(cells, names.volume, data.format)
    contracts, index = _contracts(cells, day, data)
    absolute = csv_text.is_absolute(text, data.format)
    return _Columns(time, prices, volume, contracts, index, absolute)


def _bars_only(cells: Cells, data: CsvData) -> Cells:
    """The rows that are bars of the product; what is left out on purpose is counted by cause."""
    form, names = data.format, data.columns
    if form.missing:
        prices = [name for p in PRICES if (name := getattr(names, p)) is not None]
        cells = cells.take(
            cells.frame[prices].notna().any(axis=1).to_numpy(), "excluded_without_a_price"
        )
    if form.no_trades == "skip":
        if names.volume is None:
            raise DataError(
                f"data.format.no_trades=skip needs the volumes of {cells.path}",
                "set data.columns.volume",
            )
        traded = csv_text.numbers(cells, names.volume, form) != 0
        cells = cells.take(traded, "excluded_no_trades")
    if form.symbols != "all" and names.symbol is not None:
        cells = _of_product(cells, data)
    if form.sundays == "skip" and data.file_interval == "session":
        day = csv_text.days(cells, time_text(cells, names), form)
        cells = cells.take(csv_text.weekday(day) != SUNDAY, "excluded_sundays")
    if not len(cells.frame):
        raise DataError(
            f"{cells.path} holds no bar of {data.instrument}: every row is left out by"
            f" {', '.join(cells.left_out)}",
            "set data.instrument, data.format.root or data.format.symbols",
        )
    return cells


def kinds(cells: Cells, data: CsvData) -> set[symbols.Kind]:
    """The kinds of things that the symbols of a file name."""
    return set(_kinds(cells, data).tolist())


def _kinds(cells: Cells, data: CsvData) -> npt.NDArray[np.object_]:
    text = cells.frame[str(data.columns.symbol)].fillna("").to_numpy(str)
    unique, code = np.unique(text, return_inverse=True)
    root, on = data.format.root or data.instrument, date.today()
    meanings = [symbols.meaning(str(s), root, on) for s in unique]
    each = [m if isinstance(m, symbols.Kind) else symbols.Kind.OUTRIGHT for m in meanings]
    return np.array(each, object)[code]


def _of_product(cells: Cells, data: CsvData) -> Cells:
    outside = [symbols.Kind.SPREAD, symbols.Kind.CONTINUOUS]
    if data.format.symbols == "product":
        outside.append(symbols.Kind.OTHER)
    for kind in outside:
        cells = cells.take(_kinds(cells, data) != kind, f"excluded_{kind.name.lower()}")
    return cells


def _prices(cells: Cells, name: str, form: CsvFormat, of: Instrument) -> Floats:
    return on_tick(csv_text.numbers(cells, name, form) * form.scale, of)


def _volume(cells: Cells, name: str | None, form: CsvFormat) -> Ints:
    if name is None:
        return np.zeros(len(cells.frame), np.int64)
    volume = csv_text.numbers(cells, name, form) * form.volume_scale
    whole = np.rint(volume)
    bad = np.flatnonzero(~np.isfinite(volume) | (np.abs(volume - whole) > 1e-6))
    if len(bad):
        line = int(cells.lines[bad[0]])
        raise DataError(
            f"{cells.where(bad[0])}: volume is {volume[bad[0]]:g}, not a whole number",
            "set data.format.volume_scale, data.columns.volume=null for a file without volumes, or"
            f" {_LINE.format(line=line)}",
        )
    return whole.astype(np.int64)


def _apart(chunk: Chunk, data: CsvData) -> None:
    """Refuse bars that are not as long as the config says: they would be known too early, which is
    a look ahead, or too late.

    Too near: two bars of a contract begin within a step. Too far: of SPACINGS or more, every one is
    a multiple of something longer.
    """
    rows, step_sec = chunk.rows, STEPS_SEC[data.file_interval]
    at = np.flatnonzero((np.diff(rows.contract) == 0) & (np.diff(rows.ts_event) > 0))
    spacings = np.diff(rows.ts_event)[at] / NS
    if not len(at):
        return
    common = float(np.gcd.reduce(np.rint(spacings).astype(np.int64)))
    apart = spacings.min() if spacings.min() >= _NIGHTLY_SEC else common
    key = "data.interval" if data.format.interval is None else "data.format.interval"
    says = f"{key} says {step_sec} s"
    if spacings.min() < step_sec:
        row = int(at[np.argmin(spacings)]) + 1
        place = f"{chunk.origin_of(row)}, line {np.asarray(chunk.lines)[row]}"
        raise DataError(
            f"{place}: this bar begins {spacings.min():g} s after the one before it, and {says}",
            _interval(apart, shorter=True),
        )
    if len(at) >= SPACINGS and apart > step_sec:
        raise DataError(
            f"{chunk.origin}: its {len(rows):,} bars begin {apart:g} s apart or a multiple of it,"
            f" and {says}",
            _interval(apart, shorter=False),
        )


def _interval(apart_sec: float, shorter: bool) -> str:
    """Name the setting that fits bars which begin so far apart."""
    if apart_sec >= _NIGHTLY_SEC:
        return "set data.interval=session and data.stamped_at=date"
    names = get_args(schema.Interval)
    name = next((n for n in names if STEPS_SEC[n] == apart_sec), None)
    if name is None:
        return f"there is no interval of {apart_sec:g} s: {', '.join(names)}"
    if shorter:
        return f"set data.format.interval={name}: longer bars are made of the file's"
    return f"set data.interval={name}"


def _contracts(cells: Cells, day: Ints, data: CsvData) -> tuple[tuple[Contract, ...], Ints]:
    """The contracts by last trade date, and the index of each row's."""
    name = data.columns.symbol
    if name is None:
        contract = _one_contract(data, int(day[0]))
        return (contract,), np.zeros(len(cells.frame), np.int64)
    text = cells.frame[name].fillna("").to_numpy(str)
    unique, first, code = np.unique(text, return_index=True, return_inverse=True)
    meanings = [
        _contract(cells, int(row), str(s), int(day[row]), data)
        for s, row in zip(unique, first, strict=True)
    ]
    months = {(c.year, c.month): c for c in reversed(meanings)}
    contracts = tuple(sorted(months.values(), key=lambda c: c.last_trade_date))
    place = {(c.year, c.month): i for i, c in enumerate(contracts)}
    position = np.array([place[c.year, c.month] for c in meanings], np.int64)
    return contracts, position[code]


def _one_contract(data: CsvData, day: int) -> Contract:
    if data.contract is None:
        return Contract(data.instrument, data.instrument, _NO_YEAR, 12, date.max)
    meaning = symbols.meaning(data.contract, data.format.root or data.instrument, from_day(day))
    if not isinstance(meaning, Contract):
        raise DataError(
            f"data.contract={data.contract} names {meaning.value}, not a contract of"
            f" {data.instrument}",
            f"set data.contract, for instance {data.instrument}J24",
        )
    return _rooted(meaning, data.instrument)


def _contract(cells: Cells, row: int, symbol: str, day: int, data: CsvData) -> Contract:
    on = from_day(day)
    meaning = symbols.meaning(symbol, data.format.root or data.instrument, on)
    if isinstance(meaning, Contract):
        return _rooted(meaning, data.instrument)
    where, column = cells.where(row), data.columns.symbol
    if meaning is symbols.Kind.SPREAD:
        raise DataError(
            f"{where}: {symbol} is {meaning.value}",
            "leave such rows out with data.format.symbols=outrights",
        )
    if meaning is symbols.Kind.CONTINUOUS:
        raise DataError(
            f"{where}: {symbol} is {meaning.value}",
            f"set data.columns.symbol=null to read {column} as one series that never rolls, or"
            " data.format.symbols=outrights to leave such rows out",
        )
    cure = "set data.instrument, or leave such rows out with data.format.symbols=product"
    try:
        other = parse_symbol(symbol, on)
    except DataError as error:
        raise DataError(f"{where}: {error.message}", f"{cure}, or set data.format.root") from error
    raise DataError(f"{where}: {other.symbol} is not a contract of {data.instrument}", cure)


def _rooted(meaning: Contract, root: str) -> Contract:
    """The contract of the product where the file has other letters for it."""
    if meaning.root == root:
        return meaning
    return calendar.contract(root, meaning.year, meaning.month)


def _calendar_of(
    each: list[_Columns], contracts: tuple[Contract, ...], days: bool, root: str
) -> Sessions:
    time = np.concatenate([columns.time for columns in each])
    first, last = (from_day(int(t if days else t // DAY_NS)) for t in (time.min(), time.max()))
    ends = [c.last_trade_date for c in contracts if c.last_trade_date < date.max]
    beyond = max([last, *ends])
    if days:
        return _official(expiry_ranks.daily_calendar(np.unique(time), beyond), root)
    return calendar.sessions(first - timedelta(days=7), beyond + timedelta(days=31), root)


def _official(daily: Sessions, root: str) -> Sessions:
    """The days of a file with the exchange's own opens and closes where it has a session then."""
    first, last = from_day(int(daily.day[0])), from_day(int(daily.day[-1]))
    official = calendar.sessions(first, last + timedelta(days=1), root)
    day, mine, theirs = np.intersect1d(daily.day, official.day, return_indices=True)
    opens, closes = daily.open_ns.copy(), daily.close_ns.copy()
    if len(day):
        opens[mine], closes[mine] = official.open_ns[theirs], official.close_ns[theirs]
    return Sessions(daily.day, opens, closes)


def _opens(day: Ints, sessions: Sessions) -> Ints:
    return sessions.open_ns[np.searchsorted(sessions.day, day)]


def _raw(data: CsvData, root: Path) -> Raw:
    path = existing_path(data.path, root)
    if path.is_dir() and root.resolve().is_relative_to(path.resolve()):
        raise DataError(
            f"data.path={data.path} is the folder of the project, not one of files",
            "set data.path to a file, or to a folder of files alone",
        )
    paths = csv_folder.files(path, data.files) if path.is_dir() else [path]
    keys = {"source", "instrument", "columns", "format", "stamped_at", "timezone", "contract"}
    request: dict[str, Any] = data.model_dump(mode="json", include=keys, exclude_defaults=True)
    request |= {"interval": data.file_interval}
    label = plain_label(f"csv-{path.stem}")
    base = path if path.is_dir() else path.parent
    return Raw(label, base, paths, request, partial(table, path, data))


SOURCE = Source(CsvData, _raw, needs=("path", "stamped_at"))
