"""From all contracts to one row per bar of the active contract: assemble, resample, fingerprint.

Nothing is invented: a minute without a trade has no bar, a coarser bar is made of the bars that
exist, and no bar spans two contracts, because rolls happen only at the open of a session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import quotes, roll
from mcl.data.bars import ROLL_COLUMNS, SETTLED, Bars, narrow, ticks_of
from mcl.data.table import PRICES, ROW_COLUMNS, Rows, published
from mcl.market import calendar
from mcl.market.calendar import Sessions, from_day
from mcl.market.instruments import ACTIVE_MONTHS, DELIVERED_BY_NOTICE, Contract, Instrument
from mcl.market.intervals import STEPS_SEC, makes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# raise it whenever the same dataset and rule would give other bars, or the same ones kept
# differently: they are cached
VERSION = 5
GAP_DAYS = 12  # how far back the last common bar of two contracts is looked for
CHUNK = 1 << 16  # rows of a fingerprint made wide at once
ARRAYS = (
    "close_time",
    *PRICES,
    "volume",
    "adjustment",
    "session",
    "to_close_sec",
    "roll",
    "outgoing_open",
)
_EPOCH = 719163  # date(1970, 1, 1).toordinal()


class BarSource(Protocol):
    """The source of a `Bars`: a stored dataset. `rows` reads the bars of one contract in first <=
    session <= last.
    """

    @property
    def instrument(self) -> Instrument: ...
    @property
    def interval(self) -> str: ...
    @property
    def contracts(self) -> tuple[Contract, ...]: ...
    @property
    def listed_at(self) -> Ints: ...
    @property
    def calendar(self) -> Sessions: ...
    @property
    def statistics(self) -> pd.DataFrame: ...
    @property
    def synthetic(self) -> bool: ...
    @property
    def sessions(self) -> Ints: ...

    def rows(self, contract: int, first: int, last: int) -> Rows: ...


Reader = Callable[[int, int, int], Rows]  # contract, first session, last session


@dataclass(frozen=True)
class _Roll:
    """A roll with what it is worth: the gap, and the price at which the outgoing contract is
    left.
    """

    step: roll.Step
    gap: roll.RollGap
    outgoing_open: float


def assemble(source: BarSource, rule: schema.Roll, without: Ints | None = None) -> Bars:
    """The active contract's bars in the interval of the source; fingerprint empty, no cut of the
    range.

    The sessions `without` (days) are left out as if the exchange had been closed: a roll that falls
    there happens at the next open.
    """
    days = (
        source.sessions if without is None else source.sessions[~np.isin(source.sessions, without)]
    )
    chosen, steps = active(source, rule, days)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(chosen)) + 1])
    stops = np.append(starts[1:], len(chosen)) - 1
    read = _reader(source, without)
    pieces = [
        read(int(chosen[a]), int(days[a]), int(days[b])) for a, b in zip(starts, stops, strict=True)
    ]
    pieces, steps = _without_empty_ends(source, pieces, steps)
    rolls = [_price(source, read, step, rows) for step, rows in zip(steps, pieces[1:], strict=True)]
    if rule.adjust == "ratio":
        _positive(source, pieces, rolls)
    facts = _by_contract(source, rolls, rule) | {
        "contracts": source.contracts,
        "listed_at": source.listed_at,
        "settlements": _settlements(source, days, chosen),
    }
    facts |= {
        "roll_table": roll_table(_records(source.contracts, rolls)),
        "fingerprint": "",
        "synthetic": source.synthetic,
    }
    return Bars(source.instrument, source.interval, **_columns(source, _joined(pieces)), **facts)


def active(source: BarSource, rule: schema.Roll, days: Ints) -> tuple[Ints, list[roll.Step]]:
    """The active contract of each session of `days`, which the calendar of the source has, and the
    rolls between them.
    """
    volumes = _volumes(source, rule)
    return roll.decide(
        source.calendar,
        days,
        last_trade=_last_day_held(source),
        listed_at=_listed_at(source),
        volumes=volumes,
        rule=rule,
    )


def _last_day_held(source: BarSource) -> Ints:
    """The day (since 1970) up to which each contract may be held: its last trade date, or the day
    before delivery notices begin.
    """
    days = [
        min(c.last_trade_date, calendar.last_day_held(c.root, c.year, c.month))
        if c.root in DELIVERED_BY_NOTICE and c.last_trade_date < date.max
        else c.last_trade_date
        for c in source.contracts
    ]
    return np.array([day.toordinal() for day in days], np.int64) - _EPOCH


def _listed_at(source: BarSource) -> Ints:
    """The time (ns) from which each contract is a candidate; never for one of a quiet month."""
    months = ACTIVE_MONTHS.get(source.instrument.symbol)
    if months is None:
        return source.listed_at
    quiet = np.array([c.month not in months for c in source.contracts])
    never: Ints = np.where(quiet, np.iinfo(np.int64).max, source.listed_at)
    return never


def _volumes(source: BarSource, rule: schema.Roll) -> roll.Volumes:
    """Return the volumes that the rule compares, as published. An absent open interest is an error;
    without volumes every roll is forced.
    """
    kind = "open_interest" if rule.rule == "open_interest" else "cleared_volume"
    volumes = published(source.statistics, kind)
    if rule.rule == "open_interest" and not len(volumes.session):
        raise DataError(
            "roll.rule=open_interest needs published open interest, and these data hold none",
            "choose volume or calendar",
        )
    return volumes


def _reader(source: BarSource, without: Ints | None) -> Reader:
    def read(contract: int, first: int, last: int) -> Rows:
        rows = source.rows(contract, first, last)
        return rows if without is None else rows.take(~np.isin(rows.session, without))

    return read


def _settlements(source: BarSource, days: Ints, active: Ints) -> pd.DataFrame:
    """SETTLED: what was published about the settlement of the active contract of each session;
    sessions without any are absent.
    """
    stats = source.statistics[source.statistics["kind"] == "settlement"].rename(
        columns={"value": "price"}
    )
    rows = stats.merge(
        pd.DataFrame({"session": days, "contract": active}), on=["session", "contract"]
    )
    rows = rows[np.isfinite(rows["price"])].sort_values(
        "known_at", kind="stable", ignore_index=True
    )
    settled: pd.DataFrame = rows[list(SETTLED)].astype(
        {"session": "int64", "contract": "int64", "price": "float64", "known_at": "int64"}
    )
    return settled


def _positive(source: BarSource, pieces: list[Rows], rolls: list[_Roll]) -> None:
    """Ratios of prices that are not positive mean nothing."""
    for rows in pieces:
        at = int(np.argmin(rows.low))
        if rows.low[at] <= 0:
            symbol, day = (
                source.contracts[rows.contract[at]].symbol,
                from_day(int(rows.session[at])),
            )
            text = (
                f"roll.adjust=ratio needs prices above zero; {symbol} was at {rows.low[at]:g} on"
                f" {day}"
            )
            raise DataError(text, "choose roll.adjust=difference, or a range without that day")
    for item in rolls:
        if min(item.gap.outgoing, item.gap.incoming) <= 0:
            text = (
                "roll.adjust=ratio needs prices above zero; the roll of"
                f" {from_day(item.step.session)} has {item.gap}"
            )
            raise DataError(text, "choose roll.adjust=difference")


def _by_contract(source: BarSource, rolls: list[_Roll], rule: schema.Roll) -> dict[str, Any]:
    """Return what changes at rolls alone: the sum of all gaps up to a contract, or the product of
    outgoing over incoming prices.
    """
    n = len(source.contracts)
    shift, left_at, ratio = np.zeros(n), np.full(n, np.nan), np.ones(n)
    gaps = _on_tick([item.gap.value for item in rolls], source.instrument)
    for item, total in zip(rolls, _on_tick(-np.cumsum(gaps), source.instrument), strict=True):
        left_at[item.step.incoming] = item.outgoing_open
        if rule.adjust == "difference":
            shift[item.step.incoming :] = total
        elif rule.adjust == "ratio":
            ratio[item.step.incoming :] = (
                ratio[item.step.outgoing] * item.gap.outgoing / item.gap.incoming
            )
    return {"shift": shift, "left_at": left_at, "ratio": ratio if rule.adjust == "ratio" else None}


def _on_tick(prices: Any, of: Instrument) -> Floats:
    return of.price(np.rint(np.asarray(prices, np.float64) / of.tick_size))


def close_times(rows: Rows, interval: str, calendar: Sessions) -> Ints:
    """Return the time at which each bar is known: its open plus the interval; a session bar at the
    official close.
    """
    if STEPS_SEC[interval]:
        return rows.ts_event + STEPS_SEC[interval] * NS
    return calendar.close_ns[np.searchsorted(calendar.day, rows.session)]


def _without_empty_ends(
    source: BarSource, pieces: list[Rows], steps: list[roll.Step]
) -> tuple[list[Rows], list[roll.Step]]:
    """Drop rolls before the first and after the last bar; an active contract without a single bar
    in between is a hole: DataError.
    """
    nonempty = [i for i, rows in enumerate(pieces) if len(rows)]
    if not nonempty:
        raise DataError("no bars of any active contract in the data")
    trimmed, inner_steps = pieces[nonempty[0] : nonempty[-1] + 1], steps[nonempty[0] : nonempty[-1]]
    for rows, step in zip(trimmed[1:], inner_steps, strict=True):
        if not len(rows):
            symbol = source.contracts[step.incoming].symbol
            day = from_day(step.session)
            raise DataError(
                f"{symbol} is the active contract from {day} on, but the data hold no bar of it",
                "download its bars",
            )
    return trimmed, inner_steps


def _price(source: BarSource, read: Reader, step: roll.Step, incoming: Rows) -> _Roll:
    """The gap of one roll from simultaneous prices, and the price at which the outgoing contract is
    left.

    That is the open of its own bar at the same time when it has one, else the incoming open minus
    the gap. When the incoming contract had no price before the roll (old vendor series) the gap is
    its first open minus the last outgoing close.
    """
    first_open = int(incoming.session[0])  # of the roll's session, or later when that has no bar
    old = read(step.outgoing, step.session - GAP_DAYS, first_open)
    new = read(step.incoming, step.session - GAP_DAYS, step.session)
    before = int(source.calendar.open_ns[np.searchsorted(source.calendar.day, step.session)])
    old_time, new_time = (
        close_times(rows, source.interval, source.calendar) for rows in (old, new)
    )
    gap = roll.gap(old_time, old.close, new_time, new.close, before)
    if gap is None:
        gap = _first_gap(source, step, old, old_time, incoming)
    same = np.flatnonzero(old.ts_event == incoming.ts_event[0])
    price = old.open[same[0]] if len(same) else incoming.open[0] - gap.value
    return _Roll(step, gap, float(_on_tick(price, source.instrument)))


def _first_gap(
    source: BarSource, step: roll.Step, old: Rows, old_time: Ints, incoming: Rows
) -> roll.RollGap:
    names = [source.contracts[i].symbol for i in (step.outgoing, step.incoming)]
    earlier = np.flatnonzero(old.ts_event < incoming.ts_event[0])
    if not len(earlier):
        day = from_day(step.session)
        raise DataError(
            f"no price of {names[0]} in the {GAP_DAYS} days before the roll to {names[1]} on {day};"
            " its gap cannot be measured"
        )
    last = earlier[-1]
    return roll.RollGap(float(old.close[last]), float(incoming.open[0]), int(old_time[last]), False)


def _joined(pieces: list[Rows]) -> Rows:
    """One `Rows`, column by column; `pieces` is emptied on the way, so that a decade is not held
    twice.
    """
    parts = {name: [getattr(p, name) for p in pieces] for name in ROW_COLUMNS}
    pieces.clear()
    return Rows(*(np.concatenate(parts.pop(name)) for name in ROW_COLUMNS))


def _columns(source: BarSource, rows: Rows) -> dict[str, Any]:
    close_time = close_times(rows, source.interval, source.calendar)
    if (np.diff(close_time) <= 0).any():
        at = int(np.argmax(np.diff(close_time) <= 0)) + 1
        raise DataError(
            "bars are not in increasing order of time at"
            f" {source.contracts[rows.contract[at]].symbol}, bar {at + 1}"
        )
    whole = {"volume": rows.volume, "session": rows.session, "contract": rows.contract}
    whole |= {"to_close_sec": _to_close(close_time, rows.session, source.calendar)}
    return {
        "close_time": close_time,
        **{
            f"{name}_ticks": ticks_of(getattr(rows, name), source.instrument, close_time)
            for name in PRICES
        },
        **{name: narrow(name, values) for name, values in whole.items()},
        "roll": np.append(False, rows.contract[1:] != rows.contract[:-1]),
    }


def _to_close(close_time: Ints, session: Ints, calendar: Sessions) -> Ints:
    close = calendar.close_ns[np.searchsorted(calendar.day, session)]
    left: Ints = np.maximum(0, (close - close_time) // NS)
    return left


def _records(contracts: tuple[Contract, ...], rolls: list[_Roll]) -> list[tuple[Any, ...]]:
    def record(step: roll.Step, gap: roll.RollGap) -> tuple[Any, ...]:
        symbols = contracts[step.outgoing].symbol, contracts[step.incoming].symbol
        return (
            step.session,
            *symbols,
            step.reason,
            round(gap.value, 10),
            gap.time,
            step.known_at,
            step.volume_outgoing,
            step.volume_incoming,
        )

    return [record(r.step, r.gap) for r in rolls]


def roll_table(records: list[Any]) -> pd.DataFrame:
    """ROLL_COLUMNS from plain rows: session in days, times in ns, -1 for what was not known
    (NaT).
    """
    frame = pd.DataFrame(records, columns=list(ROLL_COLUMNS))
    frame["session"] = pd.to_datetime(frame["session"].astype("int64") * 86_400, unit="s").astype(
        "datetime64[s]"
    )
    for name in ("gap_time", "known_at"):
        time = frame[name].astype("int64")
        frame[name] = pd.to_datetime(time.where(time >= 0), unit="ns", utc=True).astype(
            "datetime64[ns, UTC]"
        )
    texts = dict.fromkeys(("from_symbol", "to_symbol", "reason"), "str")
    return frame.astype(texts | {"gap": "float64", "volume_from": "int64", "volume_to": "int64"})


def roll_records(table: pd.DataFrame) -> list[Any]:
    """The plain rows that `roll_table` takes."""
    times = {
        name: [-1 if pd.isna(t) else int(t.value) for t in table[name]]
        for name in ("gap_time", "known_at")
    }
    days = {"session": (table["session"].astype("int64") // 86_400).tolist()}
    columns = {name: table[name].tolist() for name in ROLL_COLUMNS} | times | days
    return [list(row) for row in zip(*columns.values(), strict=True)]


# ----------------------------------------------------------------------------------------- resample


def resample(bars: Bars, interval: str, calendar: Sessions) -> Bars:
    """Coarser bars with edges counted from the open of the session; "session" is one bar per
    session.

    A bar is known at its nominal edge, or at the official close when that is earlier, or when its
    last small bar is known.
    """
    if interval == bars.interval:
        return bars
    step, base = STEPS_SEC[interval], STEPS_SEC[bars.interval]
    if not makes(bars.interval, interval):
        choices = [name for name in STEPS_SEC if makes(bars.interval, name)]
        raise DataError(
            f"cannot make {interval} bars from {bars.interval} bars; choose data.interval from"
            f" {', '.join(choices)}"
        )
    index = np.searchsorted(calendar.day, bars.session)
    opens, closes = calendar.open_ns[index], calendar.close_ns[index]
    if step:
        bucket = (bars.close_time - base * NS - opens) // (step * NS)
        edge = np.minimum(
            opens + (bucket + 1) * step * NS, np.maximum(closes, opens + bucket * step * NS)
        )
    else:
        bucket, edge = np.zeros(len(bars), np.int64), closes
    starts = np.flatnonzero(
        np.concatenate([[True], (np.diff(bars.session) != 0) | (np.diff(bucket) != 0)])
    )
    return _merge(bars, interval, starts, edge, closes)


def _merge(bars: Bars, interval: str, starts: Ints, edge: Ints, closes: Ints) -> Bars:
    stops = np.append(starts[1:], len(bars)) - 1
    close_time = np.maximum(edge[starts], bars.close_time[stops])
    first = {
        name: getattr(bars, name)[starts] for name in ("open_ticks", "session", "contract", "roll")
    }
    folded = {
        "close_time": close_time,
        "high_ticks": np.maximum.reduceat(bars.high_ticks, starts),
        "low_ticks": np.minimum.reduceat(bars.low_ticks, starts),
        "close_ticks": bars.close_ticks[stops],
        "volume": narrow("volume", np.add.reduceat(bars.volume, starts, dtype=np.int64)),
        "to_close_sec": narrow("to_close_sec", np.maximum(0, (closes[starts] - close_time) // NS)),
    }
    return replace(bars, interval=interval, **first, **folded)


# -------------------------------------------------------------------------------------- fingerprint


def fingerprint(bars: Bars) -> str:
    """sha256 over all that a backtest can see: the instrument's facts, the interval, every column
    as it is wide, and which contract each bar is of.
    """
    digest = hashlib.sha256()
    of = bars.instrument
    contracts, starts = (
        [contract for contract, _ in bars.stretches],
        [rows.start for _, rows in bars.stretches],
    )
    symbols = [bars.contracts[contract].name for contract in contracts]
    digest.update(
        repr((of.symbol, of.multiplier, of.tick_size, bars.interval, symbols, starts)).encode()
    )
    for name in ARRAYS:
        digest.update(name.encode() + b"\0")
        for start in range(0, len(bars), CHUNK):
            digest.update(np.ascontiguousarray(bars.column(name, slice(start, start + CHUNK))).data)
    if bars.ratio is not None:
        digest.update(b"ratio\0" + bars.ratio[contracts].tobytes())
    if (columns := bars.quote_columns) is not None:
        for name in quotes.ARRAYS:
            digest.update(name.encode() + b"\0")
            digest.update(np.ascontiguousarray(getattr(columns, name)).data)
    return digest.hexdigest()
