"""Daily settlements of the NYMEX crude oil futures contracts 1 to 4, as EIA published them.

The table ships with the package (`mcl/data/public_domain`, with its provenance). A project may hold
a longer one, which `mcl data extend eia FILE` makes. Ranks become dated CL contracts by the
exchange's last-trade rule (`expiry_ranks`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import model_validator

from mcl.base.errors import DataError
from mcl.base.files import sha256, write_whole
from mcl.base.words import many
from mcl.config import schema
from mcl.data import file_mark
from mcl.data.source import Raw, Source
from mcl.data.sources import expiry_ranks
from mcl.data.table import Table, accepted, instrument

if TYPE_CHECKING:
    import pandas as pd

NAME = "eia_nymex_crude_futures.parquet"
SHIPPED = Path(__file__).resolve().parents[1] / "public_domain" / NAME
TIME, RANKS = "date", ("c1", "c2", "c3", "c4")
COLUMNS = (TIME, *RANKS)
INSTRUMENT = "CL"
LONGEST_GAP_DAYS = 10  # between two tables: no exchange holiday is longer
LIMITS = (
    "EIA DAILY SETTLEMENTS — one price a day, no volume; the publisher ended the series in April"
    " 2024"
)
PROVENANCE = {
    "publisher": "U.S. Energy Information Administration (EIA)",
    "title": "NYMEX Futures Prices, crude oil (light sweet, Cushing, Oklahoma), contracts 1 to 4",
    "unit": "USD per barrel, daily settlement",
    "workbook": "PET_PRI_FUT_S1_D.xls, sheet Data 1",
    "terms": "public domain: a publication of the government of the United States",
}
_KEY = b"mcl.provenance"


class EiaData(schema.DataCommon):
    """Daily settlements of NYMEX crude oil as EIA published them. They ship with the package:
    nothing but the window and the roll can be chosen.
    """

    source: Literal["eia"]
    instrument: str = INSTRUMENT
    interval: schema.Interval = "session"

    @model_validator(mode="after")
    def _settlements(self) -> EiaData:
        if self.instrument != INSTRUMENT:
            raise ValueError(
                f"instrument={self.instrument}: EIA published settlements of {INSTRUMENT} alone"
            )
        if self.interval != "session":
            raise ValueError(
                f"interval={self.interval}: EIA published one price a day; write session"
            )
        return self


def read(path: Path) -> pd.DataFrame:
    """The settlements of a CSV or Parquet file: `date` and one column per rank, NaN where there is
    no price.

    DataError names the column that is missing, or the line that cannot be read.
    """
    import pandas as pd

    try:
        frame = (
            pq.read_table(path).to_pandas()
            if path.suffix == ".parquet"
            else pd.read_csv(path, dtype=str, skipinitialspace=True)
        )
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        columns = ", ".join(map(str, frame.columns))
        raise DataError(
            f"{path} has no column {missing[0]!r}; it has: {columns}",
            f"a table of EIA settlements has the columns {', '.join(COLUMNS)}",
        )
    cells = frame[list(RANKS)]
    prices = cells.apply(pd.to_numeric, errors="coerce")
    days = pd.to_datetime(frame[TIME], errors="coerce", format="ISO8601")
    bad = np.flatnonzero(days.isna() | (prices.isna() & cells.notna()).any(axis=1))
    if len(bad):
        line = ",".join(map(str, frame.iloc[bad[0]][list(COLUMNS)]))
        place = f"{path}, line {bad[0] + 1 + expiry_ranks.HEADER_LINES}"
        raise DataError(f"{place}: {line!r} is no date with prices or empty cells")
    return pd.DataFrame({TIME: days.astype("datetime64[s]")} | {n: prices[n] for n in RANKS})


def table(path: Path) -> Table:
    """The settlements of a file as dated contracts. Days on which EIA had no price of the second
    contract are called degraded: on a last trade date there is nothing to trade then.
    """
    frame = read(path)
    prices = {name: frame[name].to_numpy(np.float64) for name in RANKS}
    days = frame[TIME].to_numpy().astype("datetime64[D]").astype(np.int64)
    ranked = expiry_ranks.table(path, instrument(INSTRUMENT), TIME, days, prices)
    ranked.facts.update({"format": "EIA settlements", "limits": LIMITS, "table": provenance(path)})
    world = file_mark.in_metadata(_metadata(path))
    ranked.facts.update({"world": world} if world else {})
    incomplete = frame[TIME][np.isnan(prices[RANKS[1]])]
    conditions = {str(day.date()): "degraded" for day in incomplete}
    return replace(ranked, conditions=conditions, synthetic=bool(world))


def digest(frame: pd.DataFrame) -> str:
    """The sha256 of the rows as CSV, whatever file they come from."""
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def write(path: Path, frame: pd.DataFrame, origin: dict[str, Any]) -> None:
    """Write settlements as Parquet, with their provenance in its metadata, whole or not at all."""
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    rows = rows.set_column(0, TIME, rows[TIME].cast(pa.date32()))
    notes = PROVENANCE | origin | {"rows_sha256": digest(frame)}
    rows = rows.replace_schema_metadata({_KEY: json.dumps(notes, sort_keys=True).encode()})
    content = io.BytesIO()
    pq.write_table(rows, content, compression="zstd")
    write_whole(path, content.getvalue())


def provenance(path: Path) -> dict[str, Any]:
    """The notes of `write` in a table: publisher, terms and origin; {} for another file."""
    notes: dict[str, Any] = json.loads(_metadata(path).get(_KEY, b"{}"))
    return notes


def _metadata(path: Path) -> dict[bytes, bytes]:
    return (pq.read_schema(path).metadata or {}) if path.suffix == ".parquet" else {}


def extended(root: Path) -> Path:
    """Return the path of a project's own, longer table; there need not be one."""
    return root / "data" / "eia" / NAME


def current(root: Path) -> Path:
    """Return the path of the table that `data=eia` reads: the project's, else the shipped one."""
    own = extended(root)
    return own if own.is_file() else SHIPPED


def extend(root: Path, path: Path) -> dict[str, Any]:
    """Append the later days of the table `path` to the current one, for this project.

    Days that both have must agree. DataError names the first that does not, a table without a later
    day, and one that begins long after the current one ends. Nothing is written then.
    """
    import pandas as pd

    old, new = read(current(root)), read(path)
    _judge(path, new)
    last = old[TIME].iloc[-1]
    later = new[new[TIME] > last]
    _refuse_gap(path, later, last)
    _refuse_differences(path, old, new)
    longer = pd.concat([old, later], ignore_index=True)
    write(extended(root), longer, {"extended_with": path.name, "extension_sha256": sha256(path)})
    return {
        "path": str(extended(root)),
        "days": len(longer),
        "added": len(later),
        "first": str(longer[TIME].iloc[0].date()),
        "last": str(longer[TIME].iloc[-1].date()),
        "rows_sha256": digest(longer),
    }


def _judge(path: Path, frame: pd.DataFrame) -> None:
    """Refuse what no dataset is built from: days out of order, prices off the tick."""
    if not len(frame):
        raise DataError(f"{path} has a header but no rows")
    longer = table(path)
    if longer.synthetic:
        raise DataError(f"{path} holds generated prices, and the table real ones")
    for _ in accepted(longer, Counter()):
        pass


def _refuse_gap(path: Path, later: pd.DataFrame, last: pd.Timestamp) -> None:
    if not len(later):
        raise DataError(
            f"{path} holds no day after {last.date()}, where the table ends",
            "a newer table is needed; mcl data info data=eia shows what there is",
        )
    first = later[TIME].iloc[0]
    if (first - last).days > LONGEST_GAP_DAYS:
        raise DataError(
            f"{path} begins on {first.date()} and the table ends on {last.date()}",
            "a table that covers the days between is needed",
        )


def _refuse_differences(path: Path, old: pd.DataFrame, new: pd.DataFrame) -> None:
    """DataError where the tables disagree on a day between the first of the new one and the last of
    the old one.
    """
    before, after = old.set_index(TIME), new.set_index(TIME)
    before, after = before[before.index >= after.index[0]], after[after.index <= before.index[-1]]
    days = before.index.union(after.index)
    left, right = before.reindex(days), after.reindex(days)
    differs = ~((left == right) | (left.isna() & right.isna())).all(axis=1).to_numpy()
    if differs.any():
        day, count = days[np.argmax(differs)], many(int(differs.sum()), "day")
        prices = (_cells(frame, day) for frame in (before, after))
        raise DataError(
            f"{path} disagrees with the table on {count}, first on {day.date()}:"
            f" {' there, '.join(prices)} here",
            "read it as a table of its own: data=csv data.path=FILE",
        )


def _cells(frame: pd.DataFrame, day: pd.Timestamp) -> str:
    if day not in frame.index:
        return "no such day"
    prices = frame.loc[day].to_numpy(np.float64)
    return ",".join("" if np.isnan(price) else f"{price:g}" for price in prices)


def _raw(data: EiaData, root: Path) -> Raw:
    path = current(root)
    request = {"source": data.source}
    return Raw(data.source, path.parent, [path], request, partial(table, path))


SOURCE = Source(EiaData, _raw, extend=extend)
