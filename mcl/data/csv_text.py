"""The text of a CSV as columns of strings with line numbers, and strings as numbers and times.

pandas splits the lines into cells and reads numbers and times. What a vendor writes around the rows
(lines above the header, comments, footers, blank lines) is taken away before, by number of line, so
that every error names the line as an editor counts it. Each error ends with the key that cures it.
"""

from __future__ import annotations

import io
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import file_mark
from mcl.data.conventions import zone_and_lead
from mcl.data.table import zone
from mcl.data.text_file import encoding_of, opened

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Column = Annotated[str, Field(min_length=1)]

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": r"\s+"}
MARKS = {"comma": ",", "point": ".", "space": " "}
EPOCHS = {"s": NS, "ms": 1_000_000, "us": 1_000, "ns": 1}
_ENDS = "\0\x1a"  # what old programs write behind the last line
OFFSET = r"(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
_WITH_OFFSET = re.compile(rf"\d\d{OFFSET}")
_MARKED = tuple(f"{start}{file_mark.WORDS}" for start in ("", "# ", "#", '"', '"# '))
_FIRST_SEC, _LAST_SEC = 10**8, 7 * 10**9  # 1973 to 2191: any price that is counted in seconds
# what vendors and spreadsheets write; a day before the month comes last, where both fit
_NUMBERED = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y")
DATES = (*_NUMBERED, "%m/%d/%y", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y")
CLOCKS = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H%M%S", "%H%M", "%I:%M:%S %p", "%I:%M %p")


class CsvFormat(Strict):
    """The way in which the text of a CSV is written, and the part of it that is no bar."""

    # the columns of a file without a header, in order; none: the first line is the header
    names: tuple[Column, ...] = Field((), strict=False)
    separator: Literal["comma", "semicolon", "tab", "pipe", "space"] = "comma"
    decimal: Literal["point", "comma"] = "point"
    thousands: Literal["comma", "point", "space"] | None = None
    encoding: str = "utf-8"
    skip_lines: int = Field(0, ge=0, le=10_000)  # lines above the header
    # lines that begin with one of these texts are no bars
    comments: tuple[Column, ...] = Field((), strict=False)
    # lines that are left out, as an editor numbers them
    without: tuple[int, ...] = Field((), strict=False)
    # marks of an absent value; with any, a row without a single price is left out
    missing: tuple[Column, ...] = Field((), strict=False)
    # formats of the time (strptime); the first that reads every row counts. None: ISO 8601
    time: tuple[Column, ...] = Field((), strict=False)
    # the unit of times that are whole numbers, counted from 1970-01-01 UTC
    epoch: Literal["s", "ms", "us", "ns"] | None = None
    # ignore: a UTC offset in the file is wrong, data.timezone says whose clock it is
    offsets: Literal["read", "ignore"] = "read"
    sort: bool = False  # the rows are not in order of time
    # identical: a row that is there twice is read once
    duplicates: Literal["refuse", "identical"] = "refuse"
    scale: float = Field(1.0, gt=0)  # prices are multiplied by it: 0.01 for cents
    volume_scale: float = Field(1.0, gt=0)
    no_trades: Literal["keep", "skip"] = "keep"  # skip: a row with a volume of 0 is no bar
    # outrights: rows of spreads and continuous series are left out. product: and those of others
    symbols: Literal["all", "outrights", "product"] = "all"
    root: Column | None = None  # the letters of the product where they are not the exchange's
    # the length of the bars in the file where it is not data.interval; longer bars are made of it
    interval: schema.Interval | None = None
    sundays: Literal["refuse", "skip"] = "refuse"  # skip: rows dated on a Sunday are left out
    shift_days: int = Field(0, ge=-1, le=1)  # added to dates: 1 where each is a day early


@dataclass(frozen=True)
class Cells:
    """The rows of a file as text: `lines` are their numbers, `left_out` counts others by cause."""

    path: Path
    frame: pd.DataFrame
    lines: Ints
    left_out: dict[str, int] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)  # that a comment marks as generated

    def where(self, row: int) -> str:
        return f"{self.path}, line {self.lines[row]}"

    def take(self, rows: npt.NDArray[np.bool_], cause: str) -> Cells:
        """The rows that are True; the others are counted."""
        if rows.all():
            return self
        frame = self.frame[rows].reset_index(drop=True)
        counts = self.left_out | {cause: self.left_out.get(cause, 0) + int((~rows).sum())}
        return replace(self, frame=frame, lines=self.lines[rows], left_out=counts)


def read(path: Path, form: CsvFormat, limit: int | None = None) -> Cells:
    """The cells of a file, of its first `limit` rows where one is given."""
    import pandas as pd

    text, lines, left_out, world = _bar_lines(path, form, limit)
    if not len(lines):
        raise DataError(f"{path} has no rows", "set data.path to a file with bars")
    header = not form.names
    frame = _split(path, text, form, lines)
    if len(frame) != len(lines):
        raise DataError(
            f"{path} has cells with line breaks inside: {len(lines):,} lines, {len(frame):,} rows",
            "write the file again without them, or leave the lines out with data.format.without",
        )
    if header:
        names = [str(name).strip() for name in frame.iloc[0].fillna("")]
        frame, lines = frame.iloc[1:].reset_index(drop=True), lines[1:]
    else:
        extra = [str(i + 1) for i in range(len(form.names), frame.shape[1])]
        names = [*form.names, *extra][: frame.shape[1]]
    frame.columns = pd.Index(_distinct(names))
    if not len(frame):
        raise DataError(
            f"{path} has a header but no rows",
            "a file without a header needs data.format.names=[date,time,open,high,low,close]",
        )
    return Cells(path, frame, lines, left_out, world)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of columns, each once: a second `Open`, of a study on the chart, is `Open.2`."""
    counts: Counter[str] = Counter()
    distinct = []
    for name in names:
        counts[name] += 1
        distinct.append(name if counts[name] == 1 else f"{name}.{counts[name]}")
    return distinct


def _bar_lines(
    path: Path, form: CsvFormat, limit: int | None
) -> tuple[io.StringIO, Ints, dict[str, int], dict[str, Any]]:
    """The lines that hold a header or a row, their numbers, what was left out, and the world that a
    comment marks. A line with that mark is a comment whatever the format says.
    """
    begins = tuple(start for text in form.comments for start in (text, f'"{text}'))
    without = set(form.without)
    body, numbers, counts = io.StringIO(), [], {"comment_lines": 0, "excluded_by_line": 0}
    world: dict[str, Any] = {}
    try:
        with opened(path, encoding_of(path, form.encoding)) as file:
            for number, line in enumerate(file, 1):
                marked = line.startswith(_MARKED)
                world = world or (file_mark.in_lines([line]) if marked else {})
                if number <= form.skip_lines or not line.strip().strip(_ENDS):
                    continue
                if number in without:
                    counts["excluded_by_line"] += 1
                elif marked or (begins and line.startswith(begins)):
                    counts["comment_lines"] += 1
                else:
                    body.write(line)
                    numbers.append(number)
                if limit is not None and len(numbers) > limit:
                    break
    except UnicodeError as error:
        raise DataError(
            f"{path} is not text in {form.encoding}: {error}",
            "set data.format.encoding, for instance latin-1 or utf-16",
        ) from error
    except LookupError as error:
        raise DataError(
            f"data.format.encoding={form.encoding} is no encoding: {error}",
            "set data.format.encoding=utf-8",
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", "set data.path") from error
    body.seek(0)
    left_out = {k: n for k, n in counts.items() if n}
    return body, np.array(numbers, np.int64), left_out, world


def _split(path: Path, text: io.StringIO, form: CsvFormat, lines: Ints) -> pd.DataFrame:
    import pandas as pd

    try:
        frame: pd.DataFrame = pd.read_csv(
            text,
            header=None,
            dtype=str,
            sep=SEPARATORS[form.separator],
            skipinitialspace=True,
            na_values=list(form.missing),
            skip_blank_lines=False,
        )
    except (ValueError, OSError) as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        if match := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason):
            at = lines[min(int(match[2]), len(lines)) - 1]
            reason = f"line {at} has {match[3]} cells, the first line {match[1]}"
        raise DataError(
            f"{path} cannot be read as CSV: {reason}",
            "set data.format.separator, data.format.skip_lines or data.format.comments;"
            " mcl data sniff FILE proposes them",
        ) from error
    return frame


# ----------------------------------------------------------------------------------------- numbers


def numbers(cells: Cells, name: str, form: CsvFormat) -> Floats:
    """A column as numbers; NaN where the cell is empty. DataError for a cell that is no number."""
    import pandas as pd

    text = cells.frame[name]
    plain = text
    if form.thousands is not None:
        plain = plain.str.replace(MARKS[form.thousands], "", regex=False)
    if form.decimal == "comma":
        plain = plain.str.replace(",", ".", regex=False)
    values = pd.to_numeric(plain, errors="coerce")
    short = (values.isna() & text.notna()).to_numpy()
    if short.any():
        values[short] = _shortened(plain[short])
    bad = np.flatnonzero((values.isna() & text.notna()).to_numpy())
    if len(bad):
        value = text.iloc[bad[0]]
        cure = _number_cure(str(value), form, int(cells.lines[bad[0]]))
        raise DataError(f"{cells.where(bad[0])}: {name} is {value!r}, not a number", cure)
    return values.to_numpy(np.float64, na_value=np.nan)


def _shortened(text: pd.Series) -> pd.Series:
    """Numbers that are written short, 271.43K; NaN for others."""
    import pandas as pd

    parts = text.str.extract(r"^(-?\d+(?:\.\d+)?)([KMB])$")
    factor = parts[1].map({"K": 1e3, "M": 1e6, "B": 1e9})
    shortened: pd.Series = pd.to_numeric(parts[0]) * factor
    return shortened


def volume_limits(name: str | None, volumes: Sequence[Ints]) -> dict[str, str]:
    """The fact about a column of volumes that is no count of contracts; {} for one that may be."""
    if name is None:
        return {}
    if not any(volume.any() for volume in volumes):
        words = f"{name} is 0 in every row: choose another one with data.columns.volume"
        return {"limits": f"NO VOLUME — {words}"}
    if "tick" not in name.lower():
        return {}
    words = (
        f"{name} is no number of contracts; <VOL> has them where the broker does:"
        ' data.columns.volume="<VOL>"'
    )
    return {"limits": f"VOLUME IS A COUNT OF PRICE CHANGES — {words}"}


def _number_cure(value: str, form: CsvFormat, line: int) -> str:
    if re.fullmatch(r"-?\d+,\d+", value) and form.decimal == "point":
        return "set data.format.decimal=comma, or data.format.thousands=comma"
    if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", value):
        return "set data.format.thousands=comma"
    if re.fullmatch(r"-?\d{1,3}(?:\.\d{3})+(?:,\d+)?", value):
        return "set data.format.decimal=comma data.format.thousands=point"
    return (
        f"set data.format.missing=[{value!r}] where it marks an absent value, or leave the line out"
        f" with data.format.without=[{line}]"
    )


# ------------------------------------------------------------------------------------------- times


def plain_offsets(text: pd.Series) -> pd.Series:
    """Times whose offsets are numbers alone: GMT+0200 is +0200, and a bare UTC is +0000."""
    first = next((str(value) for value in text.head(1)), "")
    if re.search(r"GMT|UTC", first) is None:
        return text
    named = text.str.replace(r"\s*(?:GMT|UTC)(?=[+-]\d)", "", regex=True)
    return named.str.replace(r"\s*(?:GMT|UTC)$", "+0000", regex=True)


def days(cells: Cells, text: pd.Series, form: CsvFormat) -> Ints:
    """Days since 1970-01-01 of each row, as the clock of the file has them."""
    parsed = _parsed(cells, without_offset(text), form, DATES)
    return parsed.to_numpy().astype("datetime64[D]").astype(np.int64) + form.shift_days


def instants(cells: Cells, text: pd.Series, form: CsvFormat, timezone: str | None) -> Ints:
    """ns UTC of each row. DataError where the times carry no offset and nobody says whose clock
    they are of.
    """
    import pandas as pd

    if form.epoch is not None and text.str.fullmatch(r"\d+(?:\.0*)?").all():
        counted = _counted(cells, text, EPOCHS[form.epoch])
        if form.offsets == "read" or timezone is None:
            return counted
        return _on_clock(cells, pd.Series(counted.astype("datetime64[ns]")), timezone)
    if _carries_offset(text):
        if form.offsets == "read":
            if timezone is not None:
                _named(timezone)  # a name that does not exist is a mistake, although not needed
            return _with_offsets(cells, text, form)
        text = text.str.replace(OFFSET, "", regex=True)
    parsed = _parsed(cells, text, form, [f"{d} {c}" for d in DATES for c in CLOCKS])
    if timezone is None:
        raise DataError(
            f"{cells.path}: {text.name} {text.iloc[0]} carries no offset, and data.timezone is not"
            " said",
            "write data.timezone=UTC, or data.timezone=America/New_York for exchange time; mcl data"
            " sniff FILE measures it",
        )
    return _on_clock(cells, parsed, timezone)


def is_absolute(text: pd.Series, form: CsvFormat) -> bool:
    """Whether the times of a column name instants by themselves: counts, or times with offsets."""
    if form.offsets == "ignore":
        return False
    counted = form.epoch is not None and bool(text.str.fullmatch(r"\d+(?:\.0*)?").all())
    return counted or _carries_offset(text)


def without_offset(text: pd.Series) -> pd.Series:
    """The times of a column as the clock shows them."""
    return text.str.replace(OFFSET, "", regex=True) if _carries_offset(text) else text


def _carries_offset(text: pd.Series) -> bool:
    first = next((str(value) for value in text.head(1)), "")
    return _WITH_OFFSET.search(first) is not None and ":" in first


def _counted(cells: Cells, text: pd.Series, unit: int) -> Ints:
    import pandas as pd

    count = pd.to_numeric(text.str.replace(r"\.0*$", "", regex=True)).to_numpy(np.int64)
    bad = np.flatnonzero((count < _FIRST_SEC * NS // unit) | (count > _LAST_SEC * NS // unit))
    if len(bad):
        size = int(count[bad[0]])
        fits = [k for k, ns in EPOCHS.items() if _FIRST_SEC <= size * ns // NS <= _LAST_SEC]
        raise DataError(
            f"{cells.where(bad[0])}: {text.name} {size} is no time in data.format.epoch units",
            f"set data.format.epoch={fits[0]}" if fits else "set data.format.time",
        )
    return count * unit


def _with_offsets(cells: Cells, text: pd.Series, form: CsvFormat) -> Ints:
    """Times with a UTC offset each, which may change with daylight saving."""
    bare = np.flatnonzero(~text.str.contains(OFFSET, regex=True, na=False).to_numpy())
    if len(bare) and not _by_format(text.iloc[bare[:1]], "ISO8601", False).isna().any():
        raise DataError(
            f"{cells.where(bare[0])}: {text.name} {text.iloc[bare[0]]} carries no offset, but"
            f" others do: {text.iloc[0]}",
            "set data.format.offsets=ignore and data.timezone where the offsets mean nothing, or"
            f" leave the line out with data.format.without=[{cells.lines[bare[0]]}]",
        )
    own = tuple(f if "%z" in f else f"{f}%z" for f in form.time)
    parsed = _parsed(cells, text, form.model_copy(update={"time": own}), (), utc=True)
    return _ns(parsed.dt.tz_localize(None))


def _parsed(
    cells: Cells, text: pd.Series, form: CsvFormat, formats: Iterable[str], utc: bool = False
) -> pd.Series:
    """The column by the first format that reads every row. DataError with the first bad line."""
    plain = text.str.replace(r"\s+", " ", regex=True).str.strip()
    tries = [_by_format(plain, f, utc) for f in form.time or ("ISO8601",)]
    best = min(tries, key=lambda parsed: int(parsed.isna().sum()))
    bad = np.flatnonzero(best.isna().to_numpy())
    if not len(bad):
        return best
    expected = f"of the format {' or '.join(form.time)}" if form.time else "an ISO 8601 time"
    fitting = _fitting(plain, formats) if len(bad) == len(plain) or len(bad) > 1 else []
    raise DataError(
        f"{cells.where(bad[0])}: {text.name} is {text.iloc[bad[0]]!r}, not {expected}",
        _time_cure(str(plain.iloc[bad[0]]), fitting, int(cells.lines[bad[0]])),
    )


def _by_format(text: pd.Series, form: str, utc: bool) -> pd.Series:
    import pandas as pd

    try:
        parsed: pd.Series = pd.to_datetime(text, format=form, errors="coerce", utc=utc)
    except (ValueError, OverflowError):
        return pd.Series(pd.NaT, index=text.index)
    return parsed


def _fitting(text: pd.Series, formats: Iterable[str]) -> list[str]:
    """The known formats that read the first, the last and every row between."""
    few = text.iloc[[0, -1]] if len(text) > 1 else text
    near = [f for f in formats if not _by_format(few, f, False).isna().any()]
    return [f for f in near if not _by_format(text, f, False).isna().any()][:2]


def fitting_formats(text: pd.Series, dated: bool) -> list[str]:
    """The known formats of a time, or of a date, that read every row; ISO 8601 is "ISO8601"."""
    plain = text.str.replace(r"\s+", " ", regex=True).str.strip()
    formats = DATES if dated else tuple(f"{d} {c}" for d in DATES for c in CLOCKS)
    iso = ["ISO8601"] if plain.str.match(r"\d{4}-\d\d-\d\d").all() else []
    return _fitting(plain, [*iso, *formats])


def _time_cure(value: str, fitting: Sequence[str], line: int) -> str:
    if fitting:
        return " or ".join(f'set data.format.time=["{f}"]' for f in fitting)
    if re.fullmatch(r"\d{9,10}(?:\.0*)?|\d{12,13}|\d{15,16}|\d{18,19}", value):
        digits = len(value.partition(".")[0])
        unit = next(k for k, n in (("s", 10), ("ms", 13), ("us", 16), ("ns", 19)) if digits <= n)
        return f"set data.format.epoch={unit}"
    if re.fullmatch(r"\d\d?:\d\d(?::\d\d)?.*", value):
        return "set data.columns.date to the column that holds the date"
    return (
        "set data.format.time to the format of the times, data.format.comments to what begins a"
        f" line that is no bar, or leave it out with data.format.without=[{line}]"
    )


def _named(timezone: str) -> tuple[str, int]:
    """A zone that exists, and how far the clock is ahead of it, in ns."""
    key, ahead = zone_and_lead(timezone)
    return zone(key).key, ahead


def _on_clock(cells: Cells, parsed: pd.Series, timezone: str) -> Ints:
    import pandas as pd

    key, ahead = _named(timezone)
    naive = parsed - pd.Timedelta(ahead, unit="ns")
    try:
        local = naive.dt.tz_localize(key, ambiguous="raise", nonexistent="raise")
    except ValueError as error:
        raise DataError(
            f"{cells.path}: a time does not exist or comes twice on the clock of {timezone}"
            f" ({error})",
            "set data.timezone to the clock of the file; mcl data sniff FILE measures it",
        ) from error
    return _ns(local.dt.tz_convert("UTC").dt.tz_localize(None))


def _ns(naive: pd.Series) -> Ints:
    times: Ints = naive.to_numpy().astype("datetime64[ns]").astype(np.int64)
    return times


def weekday(day: Ints) -> Ints:
    """0 Monday … 6 Sunday of days since 1970-01-01, a Thursday."""
    return (day + 3) % 7
