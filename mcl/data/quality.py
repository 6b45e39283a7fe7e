"""Is this data set fit to trade on? Everything that is wrong with it, instead of the first thing
that refuses the build.

The raw rows are read as the build reads them, but a fault is written down and its row left out, so
that the rest can be judged: coverage of every session, stretches without trades that are too long
to be chance, prices that jump and come back, rolls, settlements, and where bars and calendar
disagree. An error means that the build refuses or that a session is absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base import progress
from mcl.base.errors import MclError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import continuous, conventions, dataset, loader
from mcl.data.bars import Bars
from mcl.data.coverage import Coverage, Gap
from mcl.data.data_note import deadline_decides
from mcl.data.table import (
    ROW_COLUMNS,
    Chunk,
    Rows,
    Table,
    TradedVolume,
    clock,
    faults,
    in_session,
    last_times,
    no_times,
    wrong_scale,
)
from mcl.data.table import sentence as place_of
from mcl.market.calendar import Sessions, from_day, new_york_ns
from mcl.market.instruments import Contract, Instrument
from mcl.market.intervals import STEPS_SEC

Ints = npt.NDArray[np.int64]
Severity = Literal["error", "warning", "note"]

MOST_PLACES = 12  # places per finding
# a high or low that is this many typical bar ranges of its hour beyond both neighbours
SPIKE = 20.0
WIDE_ROLL = 5.0  # a roll gap this many times the median one, and at least 100 ticks

_TEXTS = {
    "missing price": "bars with a price that is missing",
    "off tick": "bars with a price between two ticks",
    "contradiction": "bars whose high or low contradicts their other prices",
    "negative volume": "bars with a negative volume",
    "duplicate": "bars of a contract whose time comes twice",
    "backwards": "bars that are earlier than the one before",
    "closed day": "bars on a day without a session",
    "after the close": "bars after the official close",
}
_REPAIR = (
    "download the file again; if the vendor really sends this row, report it and end the range"
    " before it"
)
_ACTIONS = {
    "missing price": _REPAIR,
    "off tick": _REPAIR,
    "contradiction": _REPAIR,
    "negative volume": _REPAIR,
    "duplicate": "the same range was downloaded twice, or the vendor repeats a row: keep one file",
    "backwards": "the file is not in order of time: download it again",
    "unreadable": "download the file again",
}


@dataclass(frozen=True)
class Finding:
    severity: Severity
    kind: str
    count: int
    text: str
    action: str
    places: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in ("severity", "kind", "count", "text", "action", "places")
        }


@dataclass(frozen=True)
class Health:
    """`bars` are those of the active contracts without the faulty rows, None when there are none;
    likewise `coverage`.
    """

    label: str
    findings: tuple[Finding, ...]
    table: Table | None = None
    bars: Bars | None = None
    coverage: Coverage | None = None
    gaps: tuple[Gap, ...] = ()
    degraded: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def count(self, severity: Severity) -> int:
        return sum(f.severity == severity for f in self.findings)


def examine(data: schema.Data, root: Path) -> Health:
    """Read everything below the path of a data config and judge it. Damage is a finding; a path
    without files of bars raises DataError.
    """
    raw = loader.raw_input(data, root)
    try:
        dataset.check_receipts(raw.base, dataset.inputs(raw.base, raw.files))
        progress.begin("reading the definitions")
        table = raw.table()
    except MclError as error:
        return Health(raw.label, (_unreadable(error),))
    good = _GoodRows(table)
    good.read()
    findings = [*good.findings, *_stored(loader.dataset_folder(raw, root))]
    if not good.pieces:
        return Health(raw.label, tuple(_ordered(findings)), table)
    degraded = table.degraded
    progress.begin("assembling the front contract")
    try:
        bars = replace(continuous.assemble(good, data.roll), provenance={"facts": table.facts})
    except MclError as error:
        findings.append(Finding("error", "roll", 1, error.message, error.hint))
        return Health(raw.label, tuple(_ordered(findings)), table, degraded=degraded)
    progress.begin("judging the bars")
    coverage = (
        Coverage.of(bars, table.calendar, good.sessions) if STEPS_SEC[table.interval] else None
    )
    gaps = coverage.gaps() if coverage is not None else ()
    findings += [
        *_absent(bars, good.sessions, degraded),
        *_gaps(gaps),
        *_degraded(degraded, bars),
        *_spikes(bars),
        *_rolls(bars, data.roll),
    ]
    findings += [*_settlements(bars), *_assumptions(table)]
    return Health(raw.label, tuple(_ordered(findings)), table, bars, coverage, gaps, degraded)


def _ordered(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: ("error", "warning", "note").index(f.severity))


def _unreadable(error: MclError) -> Finding:
    return Finding("error", "unreadable", 1, error.message, error.hint or _ACTIONS["unreadable"])


class _GoodRows:
    """The good rows of a table in memory, as a `continuous.BarSource`, and the faults of the
    others.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.findings: list[Finding] = []
        self.pieces: list[Rows] = []
        self.places: dict[str, list[str]] = {}
        self.counts: dict[str, int] = {}

    def read(self) -> None:
        before = no_times(len(self.table.contracts))
        for chunk in self._chunks():
            bad = self._judge(chunk, before)
            before = last_times(chunk.rows.take(~bad), before)
            inside, late = in_session(chunk.rows, self.table.calendar)
            self._note("closed day", ~inside & ~bad, chunk)
            self._note("after the close", late & ~bad, chunk)
            good = chunk.rows.take(inside & ~bad)
            if len(good):
                self.pieces.append(good)
        self.findings += self._faults()

    def _chunks(self) -> Iterator[Chunk]:
        try:
            yield from self.table.chunks()
        except conventions.Contradiction as error:
            self.findings.append(Finding("error", "convention", 1, error.message, error.hint))
        except MclError as error:  # the rest of the files cannot be read
            self.findings.append(_unreadable(error))

    def _judge(self, chunk: Chunk, before: Ints) -> npt.NDArray[np.bool_]:
        bad = np.zeros(len(chunk.rows), np.bool_)
        for fault in faults(chunk.rows, self.table.instrument, before):
            new = fault.bad & ~bad
            for row in np.flatnonzero(new)[:MOST_PLACES]:
                self.places.setdefault(fault.kind, []).append(
                    self._short(place_of(fault, int(row), chunk, self.table.contracts))
                )
            self.counts[fault.kind] = self.counts.get(fault.kind, 0) + int(new.sum())
            bad |= new
        if reason := wrong_scale(chunk.rows.close[~bad], self.table.instrument):
            self.findings.append(
                Finding(
                    "error",
                    "price scale",
                    1,
                    f"{chunk.origin}: {reason}",
                    "compare with the vendor's price format",
                )
            )
        return bad

    def _short(self, place: str) -> str:
        return place.removeprefix(f"{self.table.origin}/")

    def _note(self, kind: str, rows: npt.NDArray[np.bool_], chunk: Chunk) -> None:
        where = chunk.rows.take(rows)
        self.counts[kind] = self.counts.get(kind, 0) + len(where)
        for contract, ts in zip(
            where.contract[:MOST_PLACES], where.ts_event[:MOST_PLACES], strict=True
        ):
            self.places.setdefault(kind, []).append(
                f"{self.table.contracts[contract].symbol} at {clock(ts)}"
            )

    def _faults(self) -> Iterator[Finding]:
        calendar = (
            "compare with the exchange's holiday notice; the rows after a close stay, those of a"
            " closed day are left out"
        )
        for kind, count in self.counts.items():
            if count:
                disagrees = kind in ("closed day", "after the close")
                action = calendar if disagrees else _ACTIONS[kind]
                yield Finding(
                    "warning" if disagrees else "error",
                    kind,
                    count,
                    _TEXTS[kind],
                    action,
                    tuple(self.places[kind][:MOST_PLACES]),
                )

    # --------------------------------------------------------------------------------- front.Source

    @property
    def instrument(self) -> Instrument:
        return self.table.instrument

    @property
    def interval(self) -> str:
        return self.table.interval

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return self.table.contracts

    @property
    def listed_at(self) -> Ints:
        return self.table.listed_at

    @property
    def calendar(self) -> Sessions:
        return self.table.calendar

    @property
    def synthetic(self) -> bool:
        return self.table.synthetic

    @cached_property
    def statistics(self) -> pd.DataFrame:
        if not self.table.sums_volume:
            return self.table.statistics
        traded = TradedVolume(self.table.calendar, STEPS_SEC[self.table.interval])
        for rows in self.pieces:
            traded.add(rows)
        return pd.concat([self.table.statistics, traded.statistics()], ignore_index=True)

    @cached_property
    def sessions(self) -> Ints:
        first, last = (
            min(int(r.session.min()) for r in self.pieces),
            max(int(r.session.max()) for r in self.pieces),
        )
        day = self.table.calendar.day
        return day[(day >= first) & (day <= last)]

    @cached_property
    def _by_contract(self) -> list[Rows]:
        joined = Rows(
            *(np.concatenate([getattr(r, name) for r in self.pieces]) for name in ROW_COLUMNS)
        )
        joined = joined.take(np.argsort(joined.contract, kind="stable"))
        edges = np.searchsorted(joined.contract, np.arange(len(self.contracts) + 1))
        return [joined.take(slice(a, b)) for a, b in pairwise(edges)]

    def rows(self, contract: int, first: int, last: int) -> Rows:
        mine = self._by_contract[contract]
        return mine.take(
            slice(
                int(np.searchsorted(mine.session, first, "left")),
                int(np.searchsorted(mine.session, last, "right")),
            )
        )


# ----------------------------------------------------------------------------------------- findings


def _stored(folder: Path) -> Iterator[Finding]:
    if (folder / "manifest.json").is_file() and (bad := dataset.damaged(dataset.Dataset(folder))):
        text = "files of the store differ from what was written"
        yield Finding(
            "error",
            "store",
            len(bad),
            text,
            f"delete {folder}: it is built again from the raw files",
            tuple(bad[:MOST_PLACES]),
        )


def _absent(bars: Bars, sessions: Ints, degraded: Ints) -> Iterator[Finding]:
    absent = np.setdiff1d(sessions, bars.session)
    for flagged in (False, True):
        days = absent[np.isin(absent, degraded) == flagged]
        if len(days):
            text = "sessions of the calendar without any bar of the active contract" + (
                ", which the vendor calls degraded" if flagged else ""
            )
            action = (
                "download these days again; if the vendor has none, the range has a hole that no"
                " backtest should run over"
            )
            yield Finding(
                "warning" if flagged else "error",
                "missing session",
                len(days),
                text,
                action,
                _dates(days),
            )


def _gaps(gaps: tuple[Gap, ...]) -> Iterator[Finding]:
    if gaps:
        minutes = sum(g.minutes for g in gaps)
        text = f"stretches without a bar that are too long to be chance, {minutes:,} minutes in all"
        action = (
            "compare with a trading halt; else download the day again. Nothing is filled in: orders"
            " wait for the next bar"
        )
        yield Finding(
            "warning", "gap", len(gaps), text, action, tuple(str(g) for g in gaps[:MOST_PLACES])
        )


def _degraded(degraded: Ints, bars: Bars) -> Iterator[Finding]:
    days = degraded[(degraded >= bars.session[0]) & (degraded <= bars.session[-1])]
    if len(days):
        action = "data.exclude_degraded=true leaves these sessions out"
        yield Finding(
            "warning",
            "degraded",
            len(days),
            "sessions that the vendor calls degraded",
            action,
            _dates(days),
        )


def _spikes(bars: Bars) -> Iterator[Finding]:
    """Highs and lows far beyond both neighbours, within a session and contract: prices that jump
    and come back at once.
    """
    if len(bars) < 3 or not STEPS_SEC[bars.interval]:
        return
    ticks = bars.ticks
    same = (bars.session[2:] == bars.session[:-2]) & (bars.contract[2:] == bars.contract[:-2])
    high, low = ticks["high"], ticks["low"]
    typical = (
        pd.Series(high - low).rolling(61, center=True, min_periods=1).median().to_numpy()[1:-1]
    )
    beyond = np.maximum(
        high[1:-1] - np.maximum(high[:-2], high[2:]), np.minimum(low[:-2], low[2:]) - low[1:-1]
    )
    rows = np.flatnonzero(same & (beyond > SPIKE * np.maximum(typical, 2.0))) + 1
    if len(rows):
        places = tuple(
            f"{_place(bars, int(i))}: {beyond[i - 1]:.0f} ticks beyond both neighbours"
            for i in rows[:MOST_PLACES]
        )
        action = "look at the trades of that minute; a stop would have been filled there"
        yield Finding(
            "warning",
            "outlier",
            len(rows),
            "bars whose high or low is far beyond both neighbours",
            action,
            places,
        )


def _rolls(bars: Bars, rule: schema.Roll) -> Iterator[Finding]:
    table = bars.roll_table
    if not len(table):
        return
    size = table["gap"].abs()
    wide = table[(size > WIDE_ROLL * size.median()) & (size > 100 * bars.instrument.tick_size)]
    if len(wide):
        places = tuple(
            f"{r.session:%Y-%m-%d} {r.from_symbol} to {r.to_symbol}: {r.gap:g}"
            for r in wide.head(MOST_PLACES).itertuples()
        )
        action = (
            "compare both contracts at that minute; with roll.adjust=none the gap would be a false"
            " move"
        )
        yield Finding(
            "warning",
            "roll gap",
            len(wide),
            f"rolls with a gap over {WIDE_ROLL:g} times the median one",
            action,
            places,
        )
    forced = table[(table["reason"] == "forced") & ~(table["volume_to"] > table["volume_from"])]
    if len(forced):
        places = tuple(
            f"{r.session:%Y-%m-%d} {r.from_symbol} to {r.to_symbol}"
            for r in forced.head(MOST_PLACES).itertuples()
        )
        text = (
            f"of {len(table)} rolls at the deadline, {rule.sessions_before_last_trade} sessions"
            f" before the last trade, before {rule.rule} had moved"
        )
        most = deadline_decides(bars)
        action = (
            "the deadline decides, so the rule is a calendar rule: choose roll@data.roll=calendar"
            if most
            else "normal without statistics; else the rule is slower than its deadline"
        )
        yield Finding(
            "warning" if most else "note", "forced roll", len(forced), text, action, places
        )


def _settlements(bars: Bars) -> Iterator[Finding]:
    """A settlement is an average of the session's own trades: outside its range one of the two is
    wrong.
    """
    settled = bars.settlement
    if not len(settled):
        return
    frame = (
        pd.DataFrame({"low": bars.low, "high": bars.high})
        .groupby(bars.session)
        .agg({"low": "min", "high": "max"})
    )
    both = frame.join(settled.rename("settlement"), how="inner")
    slack = bars.instrument.tick_size * 1.5
    wrong = both[
        (both["settlement"] < both["low"] - slack) | (both["settlement"] > both["high"] + slack)
    ]
    if len(wrong):
        first = wrong.head(MOST_PLACES)
        places = tuple(
            f"{from_day(int(d))}: {r.settlement:g} outside {r.low:g} to {r.high:g}"
            for d, r in zip(first.index.to_numpy(np.int64), first.itertuples(), strict=True)
        )
        text = "settlements outside the range of their session"
        yield Finding(
            "warning",
            "settlement",
            len(wrong),
            text,
            "compare with the exchange's daily bulletin",
            places,
        )


def _assumptions(table: Table) -> Iterator[Finding]:
    if table.sums_volume:
        text = (
            "no cleared volume is published with these bars: the roll rule uses the sum of each"
            " session's bars"
        )
        yield Finding("note", "statistics", 1, text, "download the statistics of the same range")
    if table.facts.get("definitions") is False:
        text = "no definitions: contracts are named by the symbols in the file headers"
        yield Finding(
            "note",
            "definitions",
            1,
            text,
            "download the parent symbol: it brings definitions along",
        )


def _dates(days: Ints) -> tuple[str, ...]:
    return tuple(str(from_day(int(d))) for d in days[:MOST_PLACES])


def _place(bars: Bars, row: int) -> str:
    local = pd.Timestamp(int(new_york_ns(bars.close_time[row] - STEPS_SEC[bars.interval] * NS)))
    return f"{bars.contracts[bars.contract[row]].symbol} {local:%Y-%m-%d %H:%M} New York"
