"""LEAN futures trades: one zip per UTC or exchange day, one CSV member per expiry, several expiries
side by side.

A member holds `milliseconds since midnight, open, high, low, close, volume` without a header; the
time is the open of the bar. Zips are found in the original tree
(`comex/minute/gc/20131007_trade.zip`) and in a flat copy with "/" written as "__". Prices are taken
as they are. There are no statistics: the volume of a session is the sum of its bars, known when the
session is over.

The clock of midnight is a property of the delivery (`data.timezone`): the daily break tells which
one it is.
"""

from __future__ import annotations

import re
import zipfile
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np

from mcl.base.errors import DataError
from mcl.base.files import files_below
from mcl.config import schema
from mcl.data.source import Raw, Source, bar_table, existing_path
from mcl.data.table import PRICES, Table, instrument, zone
from mcl.market.calendar import contract

if TYPE_CHECKING:
    import pandas as pd

LARGEST_DAY = 500_000_000  # bytes of one day, unpacked
_COLUMNS = ("time", *PRICES, "volume")


class LeanData(schema.DataCommon):
    """A folder of LEAN futures zips (`YYYYMMDD_trade.zip`, one member per expiry, milliseconds
    since midnight, bar open).
    """

    source: Literal["lean"]
    path: str
    timezone: str  # no default: the sample that LEAN ships is in UTC, its own downloads are not


def files(path: Path, symbol: str) -> list[Path]:
    """The minute-trade zips of a symbol at or below `path`, in order of day."""
    pattern = re.compile(rf"(^|/|__)minute(/|__){symbol.lower()}(/|__)\d{{8}}_trade\.zip$")
    zips = [
        p
        for p in files_below(path, (".zip",))
        if pattern.search(p.relative_to(path.parent).as_posix())
    ]
    if not zips:
        expected = f"expected minute/{symbol.lower()}/YYYYMMDD_trade.zip; set data.instrument"
        raise DataError(f"{path} holds no LEAN minute trades of {symbol}", expected)
    return sorted(zips, key=_day)


def _day(path: Path) -> date:
    return date.fromisoformat(path.name.split("__")[-1][:8])


def table(path: Path, data: LeanData) -> Table:
    """All expiries below `path`."""
    import pandas as pd

    of = instrument(data.instrument)
    clock = zone(data.timezone)
    parts = [
        part
        for zipped in files(path, data.instrument)
        for part in _members(zipped, data.instrument, clock)
    ]
    months = sorted({month for month, _ in parts})
    if not months:
        raise DataError(
            f"the zips below {path} hold no member named"
            f" YYYYMMDD_{data.instrument.lower()}_minute_trade_YYYYMM.csv"
        )
    contracts = [contract(data.instrument, *divmod(month, 100)) for month in months]
    index = {month: i for i, month in enumerate(months)}
    frame = pd.concat(
        [rows.assign(contract=index[month]) for month, rows in parts], ignore_index=True
    )
    return bar_table(
        of,
        "1m",
        contracts=contracts,
        contract=frame["contract"].to_numpy(np.int64),
        ts_event=frame["ts_event"].to_numpy(np.int64),
        prices={name: frame[name].to_numpy(np.float64) for name in PRICES},
        volume=frame["volume"].to_numpy(np.int64),
        origin=str(path),
        facts={
            "format": "LEAN minute trades",
            "timezone": data.timezone,
            "absolute_times": False,
        },
    )


def _members(zipped: Path, symbol: str, clock: ZoneInfo) -> list[tuple[int, pd.DataFrame]]:
    """(contract month as YYYYMM, rows in file order) of each member."""
    midnight = _midnight(_day(zipped), clock)
    shape = re.compile(rf"\d{{8}}_{symbol.lower()}_minute_trade_(\d{{6}})(\d{{2}})?\.csv")
    try:
        with zipfile.ZipFile(zipped) as archive:
            members = {
                name: match
                for name in sorted(archive.namelist())
                if (match := shape.fullmatch(name))
            }
            size = sum(archive.getinfo(name).file_size for name in members)
            if size > LARGEST_DAY:
                raise DataError(
                    f"{zipped} unpacks to {size / 1e9:.1f} GB; a day of minutes has some megabytes",
                    "copy it again",
                )
            return [
                (int(match[1]), _rows(archive, zipped, name, midnight))
                for name, match in members.items()
            ]
    except zipfile.BadZipFile as error:
        raise DataError(f"{zipped} is no zip file: {error}", "copy it again") from error


def _rows(archive: zipfile.ZipFile, zipped: Path, name: str, midnight: int) -> pd.DataFrame:
    import pandas as pd

    try:
        with archive.open(name) as member:
            frame = pd.read_csv(member, header=None, names=list(_COLUMNS), dtype=float)
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{zipped}, member {name}: {error}") from error
    bad = frame["volume"].isna() | frame["time"].isna() | (frame["volume"] % 1 != 0)
    if bad.any():
        at = int(np.argmax(bad))
        values = f"time {frame['time'][at]} or volume {frame['volume'][at]}"
        raise DataError(f"{zipped}, member {name}, line {at + 1}: {values} is not a whole number")
    return frame.assign(ts_event=midnight + (frame["time"] * 1e6).astype("int64"))


def _midnight(day: date, clock: ZoneInfo) -> int:
    import pandas as pd

    return int(pd.Timestamp(day).tz_localize(clock).value)


def _raw(data: LeanData, root: Path) -> Raw:
    path = existing_path(data.path, root, folder=True)
    request: dict[str, Any] = {"source": "lean", "instrument": data.instrument}
    request |= {"timezone": data.timezone}
    label = f"lean-{data.instrument.lower()}"
    return Raw(label, path, files(path, data.instrument), request, partial(table, path, data))


SOURCE = Source(LeanData, _raw, needs=("path", "timezone"))
