"""Propose how a CSV is to be read: the preset of a vendor, or the keys of `data=csv`.

The text shows its separator, header, columns, number marks and time format. The bars show their
length, their order and, where sessions are traded whole, the clock and the end of a bar that times
name (`mcl.data.conventions`). What a file does not show is not guessed: it is listed as undecided.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import DataError, MclError
from mcl.base.instants import NS
from mcl.data import conventions, csv_text
from mcl.data.conventions import Doubt, Stamps
from mcl.data.sources import csv
from mcl.data.sources.csv import CsvData
from mcl.data.table import PRICES, Table, faults, fitting_scale, instrument, no_times, wrong_scale
from mcl.data.text_file import encoding_of, opened
from mcl.market import symbols
from mcl.market.instruments import INSTRUMENTS, Contract
from mcl.market.intervals import STEPS_SEC

Ints = npt.NDArray[np.int64]
Keys = dict[str, Any]  # dotted keys below data.

SAMPLE = 3000  # rows by which a layout is judged
HEAD = 60  # lines by which the text is
NIGHTLY_SEC = 20 * 3600
SEPARATORS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ","}
FEWEST_CELLS = 5  # of a row of a bar: a time and four prices
# the columns of which one shows that a file is of this preset, where others have the same columns
MARKS = {
    "ib_async": ("average", "barCount"),
    "yahoo": ("Adj Close", "Dividends", "Price"),
    "polygon": ("window_start",),
    "databento_csv": ("ts_event",),
}
RENAMED: dict[str, tuple[Keys, ...]] = {  # columns that a vendor calls otherwise in some files
    "barchart": ({"columns.close": "Latest"},),
    "dukascopy": ({"columns.time": "Local time"},),
    "metatrader": ({"columns.time": "<DATE>", "columns.date": None},),  # bars of a day
    "yahoo": ({"columns.time": "Price"},),
}
NAMES = {  # of a column in letters alone, as vendors write it, in a few languages
    "time": "time datetime timestamp ts tsevent gmttime localtime windowstart date day tradedate t"
    " zeit uhrzeit heure hora ora datum fecha data",
    "open": "open o openprice first eroffnung eroffnungskurs erster ouverture apertura abertura",
    "high": "high h highprice max hoch tageshoch haut plushaut maximo massimo alto",
    "low": "low l lowprice min tief tagestief bas plusbas minimo bajo baixo",
    "close": "close c closeprice last latest settle settlement price schluss schlusskurs cloture"
    " dernier cierre chiusura fechamento ultimo",
    "volume": "volume vol v tickvol tickvolume totalvolume qty volumen umsatz stuck volumes",
    "symbol": "symbol ticker contract instrument code localsymbol rawsymbol",
}
DATE_NAMES = ("date", "day", "tradedate", "datum", "fecha", "data")
CLOCK = r"\d\d?:\d\d|\d{4,6}$"  # a time of day without its date
ORDERS = (  # in which files without a header hold prices
    PRICES,
    ("high", "low", "open", "close"),
    ("open", "close", "high", "low"),
    ("close", "open", "high", "low"),
)
REPEATED_FRAC = 0.5  # of the rows: more with the time of the one before have other columns
WRONG_FRAC = 0.01  # of the rows: more that contradict themselves show other columns
MISSING = ("null", "N/A", "NaN", "-", "--", ".", "n/a")


@dataclass(frozen=True)
class CsvProposal:
    """The keys that read a file.

    preset     the option of the group `data` that they are added to
    keys       further dotted keys below `data.`
    data       the config of both
    reasons    a sentence per key that was measured
    undecided  the keys that the file does not show, each with what fits
    doubts     what the bars contradict under these keys
    """

    preset: str
    keys: Keys
    data: CsvData
    table: Table
    reasons: tuple[str, ...] = ()
    undecided: dict[str, str] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()


def propose(path: Path, presets: Mapping[str, Mapping[str, Any]], typed: Keys) -> CsvProposal:
    """The proposal for a file.

    presets   the options of the group `data` that read a CSV, by name, "csv" among them: their keys
    typed     keys that hold whatever the file shows

    DataError with the reason of the nearest layout where none fits.
    """
    named = _named(path) | typed
    for preset, keys in _likely(path, presets):
        try:
            return _completed(path, (preset, presets[preset]), keys, named)
        except (MclError, ValueError):
            continue
    return _completed(path, ("csv", presets["csv"]), layout(path), named)


def _likely(path: Path, presets: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Keys]]:
    """The presets whose columns the file has, those with a mark of their own first; each with the
    columns that the file calls otherwise.
    """
    lines = _head(path)
    text = "\n".join(lines)
    fitting = []
    for name, base in presets.items():
        if name == "csv" or base["columns"].get("ranks"):
            continue
        choices: tuple[Keys, ...] = ({}, *RENAMED.get(name, ()))
        keys = next((k for k in choices if _fits(merged(base, k), lines)), None)
        if keys is not None:
            fitting.append((name, keys))
    marked = [f for f in fitting if any(mark in text for mark in MARKS.get(f[0], ()))]
    plain = [f for f in fitting if f[0] not in MARKS]
    return [*marked, *plain]


def _fits(keys: Mapping[str, Any], lines: list[str]) -> bool:
    """Whether a file that begins with these lines has the columns of a preset."""
    form = keys.get("format") or {}
    separator = csv_text.SEPARATORS[form.get("separator", "comma")]
    if names := form.get("names"):
        first = lines[0] if lines else "a"
        return len(first.split(separator)) >= len(names) and not re.match(r"[A-Za-z<\"]", first)
    wanted = {c for key, c in keys["columns"].items() if c and key != "ranks"}
    return wanted <= {cell.strip(' "') for line in lines[:5] for cell in line.split(separator)}


def _named(path: Path) -> Keys:
    """The contract that the name of a file says: MCLJ24.txt, `MCL 04-24.Last.txt`."""
    stem = path.name.split(".")[0]
    on = pd.Timestamp(path.stat().st_mtime, unit="s").date()
    for root in sorted(INSTRUMENTS, key=len, reverse=True):
        for text in (stem, *re.split(r"[_ ]", stem)[:1]):
            meaning = symbols.meaning(text, root, on)
            if isinstance(meaning, Contract):
                name = f"{meaning.root} {meaning.year}-{meaning.month:02d}"
                return {"instrument": root, "contract": name}
            if meaning is symbols.Kind.CONTINUOUS:
                return {"instrument": root}
    return {}


# ------------------------------------------------------------------------------------------ layout


def _head(path: Path, count: int = HEAD) -> list[str]:
    """The first lines of a file that are not blank."""
    for encoding in ("utf-8", "latin-1"):
        try:
            with opened(path, encoding_of(path, encoding)) as file:
                lines = (line.rstrip("\r\n") for line in file)
                return list(islice((line for line in lines if line.strip()), count))
        except UnicodeError:
            continue
    raise DataError(f"{path} is no text", "set data.format.encoding")


def _tail(path: Path, count: int = 5) -> list[str]:
    """The last lines of a file that are not blank."""
    encoding = encoding_of(path, "utf-8" if _is_utf8(path) else "latin-1")
    with opened(path, encoding) as file:
        lines = (line.rstrip("\r\n") for line in file)
        return list(deque((line for line in lines if line.strip(" \0\x1a")), count))


def layout(path: Path) -> Keys:
    """The keys of the text of a file that no preset fits: separator, header, columns, number marks
    and format of time.
    """
    lines = _head(path)
    if not lines:
        raise DataError(f"{path} is empty", "set data.path to a file with bars")
    separator, width = _separator(path, lines)
    first = next(i for i, line in enumerate(lines) if _cells(line, separator) == width)
    keys: Keys = {"format.separator": separator, "format.skip_lines": first}
    if encoding_of(path, "utf-8") == "utf-8-sig" and not _is_utf8(path):
        keys["format.encoding"] = "latin-1"
    outside = [*lines[first:], *_tail(path)]
    footer = {line.split()[0].strip('"') for line in outside if _cells(line, separator) < 2}
    if footer:
        keys["format.comments"] = sorted(footer)
    mark = SEPARATORS[separator]
    header = [cell.strip(' "') for cell in lines[first].split(mark)]
    if any(re.search(r"\d", cell) and not re.search(r"[A-Za-z<]", cell) for cell in header):
        keys |= _without_header(lines[first:], mark)
    else:
        keys |= _with_header(header, lines[first + 1 :], mark)
    plain = {"format.separator": "comma", "format.skip_lines": 0}
    return {key: value for key, value in keys.items() if key not in plain or plain[key] != value}


def _is_utf8(path: Path) -> bool:
    try:
        with opened(path, "utf-8") as file:
            deque(file, 0)
    except UnicodeError:
        return False
    return True


def _cells(line: str, separator: str) -> int:
    """The number of cells of a line; separators between quotes part nothing."""
    return len(re.sub(r'"[^"]*"', "", line).split(SEPARATORS[separator]))


def _separator(path: Path, lines: list[str]) -> tuple[str, int]:
    """The separator that parts most lines into the same number of cells, five at least."""
    for name in SEPARATORS:
        counts = Counter(_cells(line, name) for line in lines)
        width, times = counts.most_common(1)[0]
        if width >= FEWEST_CELLS and times >= max(1, len(lines) // 2):
            return name, width
    raise DataError(
        f"{path} holds no rows of a time and four prices: its first line is {lines[0][:60]!r}",
        "set data.format.separator, or data.path to a file with bars",
    )


def _letters(name: str) -> str:
    """The letters of a name in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", name.lower())
    return re.sub(r"[^a-z]", "", plain)


def _with_header(header: list[str], rows: list[str], mark: str) -> Keys:
    letters = [_letters(name) for name in header]
    keys: Keys = {}
    for column, names in NAMES.items():
        wanted = names.split()
        at = next((letters.index(n) for n in wanted if n in letters), None)
        keys[f"columns.{column}"] = None if at is None else header[at]
    sample = [[c.strip(' "') for c in row.split(mark)] for row in rows]
    full = [row for row in sample if len(row) == len(header)]
    time = keys["columns.time"]
    if time is None and full:
        time = keys["columns.time"] = header[0]
    day = next((header[letters.index(n)] for n in DATE_NAMES if n in letters), None)
    if full and day not in (None, time) and re.match(CLOCK, full[0][header.index(time)]):
        keys["columns.date"] = day
    if keys["columns.close"] is None:
        raise DataError(
            "no column is named like a close price; there are: " + ", ".join(header),
            "set data.columns.close",
        )
    return keys | _marks(full, [header.index(keys["columns.close"])], mark)


def _without_header(rows: list[str], mark: str) -> Keys:
    """Columns by their content: times first, then four prices, then a volume."""
    first = [cell.strip(' "') for cell in rows[0].split(mark)]
    symbol = 1 if re.match(r"[A-Za-z/@]", first[0]) else 0
    two = re.match(CLOCK, first[symbol + 1]) is not None
    times = ["date", "time"] if two else ["time"]
    count = len(first)
    sample = [[c.strip(' "') for c in row.split(mark)] for row in rows]
    sample = [row for row in sample if len(row) == count]
    names = [*["symbol"] * symbol, *times, *_order(sample, symbol + len(times)), "volume"]
    names = [*names, *(f"column_{i + 1}" for i in range(len(names), count))][:count]
    keys: Keys = {"format.names": names, "columns.symbol": "symbol" if symbol else None}
    if two:
        keys["columns.date"] = "date"
    if "volume" not in names:
        keys["columns.volume"] = None
    return keys | _marks(sample, [names.index("close")], mark)


def _order(rows: list[list[str]], first: int) -> tuple[str, ...]:
    """The order of the four prices from a column on in which no row contradicts itself."""
    cells = [[c.replace(",", ".") for c in row[first : first + 4]] for row in rows]
    prices = pd.DataFrame(cells).apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if prices.shape[1:] != (4,):
        return PRICES
    for order in ORDERS:
        column = {name: prices[:, order.index(name)] for name in PRICES}
        high, low = (column[name] for name in ("high", "low"))
        between = [column[name] for name in ("open", "close")]
        if all(((price <= high) & (price >= low)).all() for price in between):
            return order
    return PRICES


def _marks(rows: list[list[str]], prices: list[int], mark: str) -> Keys:
    """The decimal mark and the marks of absent values among the prices of a sample."""
    values = [row[i] for row in rows for i in prices if len(row) > i]
    keys: Keys = {}
    if mark != "," and any(re.fullmatch(r"-?\d+,\d+", v) for v in values):
        keys["format.decimal"] = "comma"
    absent = sorted({v for v in values if v in MISSING})
    if absent:
        keys["format.missing"] = absent
    return keys


# ----------------------------------------------------------------------------------------- measure


def _completed(
    path: Path, preset: tuple[str, Mapping[str, Any]], keys: Keys, typed: Keys
) -> CsvProposal:
    """A layout with what its bars show. DataError where it does not read the file."""
    name, base = preset
    keys = {k: v for k, v in keys.items() if k not in typed} | typed
    measure = _Measurement(path, base, keys, typed)
    measure.try_sample()
    steps = (measure.marks, measure.time, measure.order, measure.scale, measure.clock, measure.rows)
    for step in steps:
        step()
    table = csv.table(path, measure.data())
    _refuse_contradictions(path, table)
    doubts = measure.settle(table)
    if doubts is None:
        table = csv.table(path, measure.data())
        doubts = measure.settle(table) or []
    return CsvProposal(
        name,
        {k: v for k, v in measure.keys.items() if _at(base, k) != v},
        measure.data(),
        table,
        tuple(measure.reasons),
        measure.undecided,
        tuple(doubts),
    )


def _refuse_contradictions(path: Path, table: Table) -> None:
    """DataError where so many rows contradict themselves that the columns must be others."""
    wrong = total = 0
    for chunk in table.chunks():
        every = faults(chunk.rows, table.instrument, no_times(len(table.contracts)))
        bad = [fault.bad for fault in every if fault.kind == "contradiction"]
        wrong += int(np.logical_or.reduce(bad).sum())
        total += len(chunk.rows)
    if wrong > WRONG_FRAC * total:
        raise DataError(
            f"{path}: in {wrong:,} of {total:,} rows a high is below another price of its bar, or a"
            " low above one: the columns are mixed up",
            "set data.columns, or data.format.names for a file without a header",
        )


def _at(keys: Mapping[str, Any], dotted: str) -> Any:
    value: Any = keys
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def merged(base: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """The keys of a preset with others, dotted, in their places."""
    whole = {k: dict(v) if isinstance(v, Mapping) else v for k, v in base.items()}
    for dotted, value in keys.items():
        section, _, last = dotted.rpartition(".")
        place = whole.setdefault(section, {}) if section else whole
        place[last] = value
    return whole


class _Measurement:
    """The keys of a layout while the bars complete them."""

    def __init__(self, path: Path, base: Mapping[str, Any], keys: Keys, typed: Keys) -> None:
        self.path, self.base, self.keys, self.typed = path, base, dict(keys), typed
        self.reasons: list[str] = []
        self.undecided: dict[str, str] = {}
        self.cells = csv_text.read(path, self.data().format, SAMPLE)

    def try_sample(self) -> None:
        """DataError where the first rows do not fit; then every row is at hand."""
        keys = dict(self.keys)
        self.time()
        self.keys, self.reasons, self.undecided = keys, [], {}
        self.cells = csv_text.read(self.path, self.data().format)

    def marks(self) -> None:
        """Thousands that are set apart by commas, which the first rows need not show."""
        data = self.data()
        used = (getattr(data.columns, name) for name in (*PRICES, "volume"))
        columns = [self.cells.frame[name] for name in used if name in self.cells.frame]
        if data.format.decimal == "comma" or data.format.thousands is not None:
            return
        if any(c.str.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?").any() for c in columns):
            self._put("format.thousands", "comma", "commas set thousands apart")

    def data(self) -> CsvData:
        whole = merged(self.base, self.keys) | {"path": str(self.path)}
        if whole.get("stamped_at") is None:
            whole["stamped_at"] = "date" if whole.get("interval") == "session" else "open"
        return CsvData.model_validate(whole)

    def _put(self, key: str, value: Any, reason: str) -> None:
        """Set a key that nobody typed."""
        if key not in self.typed:
            self.keys[key] = value
            self.reasons.append(reason)

    @property
    def is_daily(self) -> bool:
        return self.data().file_interval == "session"

    def time(self) -> None:
        """The format of times, and the length of the bars."""
        data = self.data()
        csv.check_columns(self.cells, data.columns)
        text = csv.time_text(self.cells, data.columns)
        if not data.format.time and data.format.epoch is None:
            self._time_format(text)
        step = self._step(csv.time_text(self.cells, self.data().columns))
        if step is None:
            return
        stated = self.data().file_interval
        if step >= NIGHTLY_SEC:
            if stated != "session":
                self._put("interval", "session", "its bars are a day or more apart")
            self._put("stamped_at", "date", "its times are dates")
            return
        name = next((n for n, sec in STEPS_SEC.items() if sec == step), None)
        if name is None:
            self.undecided["format.interval"] = f"its bars are {step} s apart"
        elif name != stated:
            key = "format.interval" if STEPS_SEC[name] in range(1, 60) else "interval"
            self._put(key, name, f"its bars are {step} s apart")

    def _time_format(self, text: pd.Series) -> None:
        first = str(text.iloc[0])
        if re.fullmatch(r"\d{9,10}(?:\.0*)?|\d{12,13}|\d{15,16}|\d{18,19}", first):
            digits = len(first.partition(".")[0])
            units = (("s", 10), ("ms", 13), ("us", 16), ("ns", 19))
            unit = next(u for u, most in units if digits <= most)
            self._put("format.epoch", unit, f"its times count {unit} since 1970")
            return
        dated = not re.search(r"\d[ T]+\d\d?:?\d\d", first)
        fitting = csv_text.fitting_formats(csv_text.without_offset(text), dated)
        if not fitting:
            raise DataError(
                f"{self.cells.where(0)}: no known format reads {text.name} {first!r}",
                "set data.format.time",
            )
        if fitting[0] == "ISO8601":
            return
        self._put("format.time", [fitting[0]], f"{fitting[0]} reads every time")
        if len(fitting) > 1:
            self.undecided["format.time"] = f"{' and '.join(fitting)} both read every time"

    def _step(self, text: pd.Series) -> int | None:
        """The seconds of which every distance between bars is a multiple; None where too few bars
        show it.
        """
        data = self.data()
        times = self._instants(data, text)
        apart = np.diff(np.unique(times)) // NS
        if not len(apart):
            return None
        if (times % (86_400 * NS) == times[0] % (86_400 * NS)).all():
            return max(int(apart.min()), 86_400)
        return None if apart.min() >= NIGHTLY_SEC else int(np.gcd.reduce(apart))

    def _instants(self, data: CsvData, text: pd.Series) -> Ints:
        """Times on the clock of the file where they carry no offset, else in UTC."""
        if data.file_interval == "session":
            return csv_text.days(self.cells, text, data.format) * 86_400 * NS
        try:
            return csv_text.instants(self.cells, text, data.format, "UTC")
        except DataError:
            if data.format.time:
                raise
            return csv_text.days(self.cells, text, data.format) * 86_400 * NS

    def order(self) -> None:
        """Whether the rows are in order of time, each once."""
        data = self.data()
        text = csv.time_text(self.cells, data.columns)
        times = self._instants(data, text)
        name = data.columns.symbol
        group = np.zeros(len(times), np.int64) if name is None else None
        if group is None:
            group = pd.factorize(self.cells.frame[name])[0].astype(np.int64)
        rank = np.argsort(group, kind="stable")
        step = np.diff(times[rank])[np.diff(group[rank]) == 0]
        if len(step) and (step == 0).mean() > REPEATED_FRAC:
            raise DataError(
                f"{self.path}: most of its times come more than once",
                "set data.columns.time, data.columns.date or data.columns.symbol",
            )
        if (step < 0).any() and not data.format.sort:
            self._put("format.sort", True, "its rows are not in order of time")
        if (step == 0).any() and self.cells.frame.duplicated().any():
            self._put("format.duplicates", "identical", "some of its rows are there twice")

    def scale(self) -> None:
        """The instrument and the scale of the prices, and whole volumes."""
        data = self.data()
        close = csv_text.numbers(self.cells, str(data.columns.close), data.format)
        price = close[np.isfinite(close)] * data.format.scale
        of = instrument(data.instrument)
        if len(price) and wrong_scale(price, of):
            factor = fitting_scale(price, of)
            if factor is None:
                self.undecided["instrument"] = wrong_scale(price, of)
            else:
                scale = data.format.scale * factor
                self._put("format.scale", scale, f"times {factor:g}, {wrong_scale(price, of)}")
        if data.columns.volume is not None:
            volume = csv_text.numbers(self.cells, data.columns.volume, data.format)
            if data.format.volume_scale != 1 and (volume == np.rint(volume)).all():
                self._put("format.volume_scale", 1.0, "its volumes are whole numbers")
            whole = volume * self.data().format.volume_scale
            if not (np.abs(whole - np.rint(whole)) <= 1e-6).all():
                self._put("columns.volume", None, "its volumes are no whole numbers")

    def rows(self) -> None:
        """The rows that are no bars of the product."""
        data = self.data()
        if data.columns.symbol is None or data.format.symbols == "product":
            return
        kinds = csv.kinds(self.cells, data)
        if symbols.Kind.OTHER in kinds:
            self._put("format.symbols", "product", "it holds other products too")
        elif symbols.Kind.CONTINUOUS in kinds and len(kinds) == 1:
            self._put("columns.symbol", None, "its symbol is a continuous series")
        elif kinds & {symbols.Kind.SPREAD, symbols.Kind.CONTINUOUS}:
            self._put("format.symbols", "outrights", "it holds spreads too")

    def clock(self) -> None:
        """The clock of the file and the end of a bar that its times name, where none is said."""
        data = self.data()
        if self.is_daily:
            return
        cells = self.cells
        text = csv.time_text(cells, data.columns)
        step = STEPS_SEC[data.file_interval] * NS
        bare = not csv_text.is_absolute(text, data.format)
        if bare and data.timezone is None:
            wall = csv_text.instants(cells, text, data.format, "UTC")
            whole, part = conventions.clocks(wall, step)
            if len(whole) == 1:
                reason = f"sessions are traded from open to close on the clock of {whole[0]} alone"
                self._put("timezone", whole[0], reason)
            else:
                fits = ", ".join([*whole, *part][:4]) or "no common clock"
                self.undecided["timezone"] = f"its times fit {fits}"
        if _at(self.base, "stamped_at") is None and "stamped_at" not in self.typed:
            self._stamp(cells, text, step)

    def _stamp(self, cells: csv_text.Cells, text: pd.Series, step: int) -> None:
        data = self.data()
        zone = data.timezone or "UTC"
        ts = csv_text.instants(cells, text, data.format, zone)
        end = "" if "timezone" in self.undecided else Stamps.of(ts, step).end()
        if end:
            self._put("stamped_at", end, f"the first and last times of its sessions are {end}s")
        else:
            self.undecided["stamped_at"] = "its bars do not show it: open or close"

    def settle(self, table: Table) -> list[Doubt] | None:
        """The doubts about the table; None where keys were changed because of one, so that it is to
        be read again.
        """
        data = self.data()
        doubts = conventions.of_table(table, csv.SOURCE.stated(data, table))
        changed = False
        for doubt in doubts:
            new = {k: v for k, v in doubt.keys.items() if k not in self.typed}
            if new and doubt.name in ("clock", "stamp", "days") and not self.undecided:
                self.keys |= new
                self.reasons.append(f"{doubt.text}: {doubt.cure}")
                changed = True
        return None if changed else doubts
