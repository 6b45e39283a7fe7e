"""Load the bars of a data config; `load` is the door of the room.

The stored dataset is found by the hash of its raw input, or made from it. Sources differ only in
where the raw input comes from (`mcl.data.sources`). A warm call reads no vendor library: it hashes
the raw files and maps finished arrays.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from mcl.base import access_recorder, progress
from mcl.base.errors import ConfigError, DataError
from mcl.base.files import below
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import continuous, dataset, sources
from mcl.data.bars import Bars
from mcl.data.source import Raw
from mcl.market import calendar
from mcl.market.calendar import from_day, to_day
from mcl.market.intervals import STEPS_SEC

if TYPE_CHECKING:
    from mcl.data.quote_store import QuoteStore

Ints = npt.NDArray[np.int64]
_MANIFEST_KEYS = ("synthetic", "request", "counts", "conditions", "facts")


def load(data: schema.Data, root: Path, holdout: bool = False) -> Bars:
    """The bars of a config. Without `holdout` those from `holdout_start` on are left out, as if
    they did not exist yet: nothing that was published later is in any field, and the finer bars end
    with them. With `data.quotes` they have quotes.

    `root` is the project folder that relative paths start from. Builds the dataset when there is
    none. Errors: DataError for missing, damaged or empty data, StoreError when the disk refuses.
    """
    raw = raw_input(data, root)
    stored = _stored(raw, root)
    series = bars(stored, data)
    fenced = data.holdout_start is not None and not holdout
    end = data.holdout_start if fenced else data.end
    left = series.between(data.start, end)
    finer = StoredFiner(stored.folder, data, int(left.close_time[-1]), root, raw.other_intervals)
    provenance = _provenance(stored, data, end)
    if data.quotes:
        quotes = stored_quotes(data, root)
        left = replace(left, quote_columns=quotes.columns(left, data.quotes))
        provenance["quotes"] = quotes.provenance
    whole = len(left) == len(series) and not data.quotes
    fingerprint = series.fingerprint if whole else continuous.fingerprint(left)
    if absent := _absent_sessions(stored, data, left, end):
        provenance["sessions_without_bars"] = absent
    return replace(left, fingerprint=fingerprint, provenance=provenance, finer=finer)


def _absent_sessions(
    stored: dataset.Dataset, data: schema.Data, series: Bars, end: date | None
) -> list[str]:
    """The sessions of the calendar in which the active contract has no bar, from the first to the
    last session of the data, as far as the window of the config goes.
    """
    days = stored.sessions
    if data.start is not None:
        days = days[days >= to_day(data.start)]
    if end is not None:
        days = days[days < to_day(end)]
    left_out = stored.degraded if data.exclude_degraded else days[:0]
    absent = days[~np.isin(days, series.session) & ~np.isin(days, left_out)]
    return [str(from_day(day)) for day in absent.tolist()]


def _provenance(stored: dataset.Dataset, data: schema.Data, end: date | None) -> dict[str, Any]:
    """Return the origin of the bars as plain JSON."""
    manifest = {
        name: stored.manifest[name]
        for name in ("synthetic", "request", "facts", "counts", "conditions", "inputs")
    }
    return {
        "source": data.source,
        "dataset": stored.folder.name,
        "manifest_sha256": stored.manifest_sha256,
        "interval": data.interval,
        "roll": data.roll.model_dump(),
        "exclude_degraded": data.exclude_degraded,
        "start": None if data.start is None else str(data.start),
        "end": None if end is None else str(end),
        **manifest,
    }


def stored_quotes(data: schema.Data, root: Path) -> QuoteStore:
    """The stored quotes of a config, for `data.quotes` levels of the book; made from the raw files
    when there are none for these bytes yet. Those of a generated world are made first, for every
    session of the window.

    Errors: ConfigError for a source that has no books, otherwise as `mcl.data.quote_store.build`.
    """
    from mcl.data import quote_store
    from mcl.data.synthetic import order_books

    source = sources.of(data)
    if source.books is None:
        raise ConfigError(
            f"data.quotes={data.quotes}: data.source={data.source} has no quotes",
            "use data=mcl_databento with mbp-1 or mbp-10 files, data=synthetic, or data.quotes=0",
            key="data.quotes",
        )
    home = source.books(data, root)
    if not source.generated:
        return quote_store.build(home, data.instrument, data.quotes, root)
    days = [from_day(day) for day in _window(stored_dataset(data, root).sessions, data).tolist()]
    order_books.generate(home, days, "mbp-1" if data.quotes == 1 else "mbp-10")
    return quote_store.build(home, data.instrument, data.quotes, root, list(map(str, days)))


def _window(days: Ints, data: schema.Data) -> Ints:
    """The sessions of the window of a config, hold-out included."""
    if data.start is not None:
        days = days[days >= to_day(data.start)]
    return days if data.end is None else days[days < to_day(data.end)]


def stored_dataset(data: schema.Data, root: Path) -> dataset.Dataset:
    """The dataset of a config; made from its raw input when there is none for these bytes yet.

    `root` is the project folder that relative paths start from. Errors: DataError for missing or
    damaged input, StoreError when the disk refuses.
    """
    return _stored(raw_input(data, root), root)


def _stored(raw: Raw, root: Path) -> dataset.Dataset:
    made_from = dataset.inputs(raw.base, raw.files)
    folder = _folder(raw, made_from, root)
    if (folder / "manifest.json").is_file():
        return dataset.Dataset(folder)
    dataset.check_receipts(raw.base, made_from)
    progress.begin("reading the definitions")
    return dataset.write(folder, raw.table(), made_from, raw.request)


def dataset_folder(raw: Raw, root: Path) -> Path:
    """Return the folder of the dataset of this raw input, whether or not it exists."""
    return _folder(raw, dataset.inputs(raw.base, raw.files), root)


def _folder(raw: Raw, made_from: list[dict[str, Any]], root: Path) -> Path:
    return below(root / raw.home, f"{raw.label}-{dataset.key(made_from, raw.request)[:12]}")


def bars(stored: dataset.Dataset, data: schema.Data) -> Bars:
    """All bars in the interval and with the roll rule of `data`, from the cache or made and cached;
    hold-out included.
    """
    without = stored.degraded if data.exclude_degraded else None
    rule = json.dumps(
        [continuous.VERSION, data.roll.model_dump(), [] if without is None else without.tolist()],
        sort_keys=True,
    )
    progress.begin("reading the front contract")
    path = (
        stored.folder
        / "front"
        / f"{data.interval}-{hashlib.sha256(rule.encode()).hexdigest()[:12]}.arrow"
    )
    if not path.is_file():
        progress.begin("assembling the front contract")
        assembled = continuous.assemble(stored, data.roll, without)
        dataset.save_bars(path, continuous.resample(assembled, data.interval, stored.calendar))
    return dataset.load_bars(path, stored)


@dataclass(frozen=True)
class StoredFiner:
    """The bars of a stored dataset in its own interval, as far as they were known at `until` (ns).
    Where that interval is the one of the config, those of finer files `other_intervals` its own.
    """

    folder: Path
    data: schema.Data
    until: int
    root: Path
    other_intervals: tuple[str, ...] = ()

    def upto(self, until: int) -> StoredFiner:
        return replace(self, until=min(self.until, until))

    def __call__(self) -> Bars:
        """DataError when the interval of the dataset is that of `data`."""
        with access_recorder.unobserved():
            words = self.data.model_dump_json()
            finest = _finest(self.folder, type(self.data), words, self.root, self.other_intervals)
            return finest.upto(self.until)


# a check of a strategy that looks inside its bars asks for them hundreds of times
@lru_cache(maxsize=1)
def _finest(
    folder: Path, kind: type[Strict], data_json: str, root: Path, other_intervals: tuple[str, ...]
) -> Bars:
    stored, data = dataset.Dataset(folder), cast("schema.Data", kind.model_validate_json(data_json))
    finer = [name for name in other_intervals if 0 < STEPS_SEC[name] < STEPS_SEC[stored.interval]]
    if stored.interval == data.interval and finer:
        data = data.model_copy(update={"stored_interval": max(finer, key=STEPS_SEC.__getitem__)})
        stored = stored_dataset(data, root)
    if stored.interval == data.interval:
        raise DataError(
            f"execution.bracket=finer needs bars finer than data.interval={data.interval}, and the"
            " data hold none",
            "choose a longer data.interval or execution.bracket=pessimistic",
        )
    return bars(stored, data.model_copy(update={"interval": stored.interval}))


def dataset_facts(data: schema.Data, root: Path) -> dict[str, Any]:
    """Rows, sessions, contracts, rolls, fingerprint, and what the manifest says. The hold-out is
    included.
    """
    raw = raw_input(data, root)
    stored = _stored(raw, root)
    series = bars(stored, data)
    manifest = {
        name: stored.manifest[name] for name in (*_MANIFEST_KEYS, "first_session", "last_session")
    }
    rolls = series.roll_table.assign(session=series.roll_table["session"].astype(str))
    return {
        "dataset": str(stored.folder),
        "manifest_sha256": stored.manifest_sha256,
        "instrument": series.instrument.symbol,
        "interval": series.interval,
        "stored_interval": stored.interval,
        "intervals_beside": list(raw.other_intervals),
        "bars": len(series),
        "sessions": len(set(series.session.tolist())),
        "sessions_without_bars": _absent_sessions(stored, data, series, data.end),
        "assumed_hours": _assumed_hours(stored, series),
        "first_close": str(series.times[0]),
        "last_close": str(series.times[-1]),
        "contracts": [series.contracts[i].symbol for i in dict.fromkeys(series.contract.tolist())],
        "rolls": json.loads(rolls.to_json(orient="records", date_format="iso")),
        "fingerprint": series.fingerprint,
        "inputs": len(stored.manifest["inputs"]),
        **manifest,
    }


def _assumed_hours(stored: dataset.Dataset, series: Bars) -> list[str]:
    """The short sessions of the data, up to the last trade of the contracts of the series, whose
    hours are assumed. Definitions list contracts of many years more.
    """
    active = [series.contracts[i] for i in np.unique(series.contract)]
    ends = [c.last_trade_date for c in active if c.last_trade_date < date.max]
    first, last = from_day(int(stored.sessions[0])), from_day(int(stored.sessions[-1]))
    days = calendar.assumed_hours(first, max([last, *ends]), stored.instrument.symbol)
    return [str(day) for day in days]


def raw_input(data: schema.Data, root: Path) -> Raw:
    """Return the raw input of a config. DataError when the path is not there. A synthetic world is
    generated when it is absent.
    """
    return sources.of(data).measured_raw(data, root)
