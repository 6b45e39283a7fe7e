"""Tapes from the project's store: any contract of a dataset, one session or several, as they were
or as if they were today.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mcl.base.errors import BrokerError, nearest
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import loader
from mcl.data.dataset import Dataset
from mcl.data.depth import load_depth
from mcl.data.loader import load
from mcl.data.table import Rows
from mcl.market import calendar
from mcl.market.instruments import Contract
from mcl.simulators.tws import quotes
from mcl.simulators.tws.tape import Tape

Ints = npt.NDArray[np.int64]
Detail = Literal["bars", "ticks", "seconds"]
ALL = "all"
PLAYED = ("open", "high", "low", "close", "volume")
ROLL_DAYS = 5  # a contract that stops trading sooner is not shown as today's


def tapes(
    data: schema.Data,
    root: Path,
    session: date | None = None,
    contracts: Sequence[str] = (),
    sessions: int = 1,
    detail: Detail = "bars",
) -> list[Tape]:
    """`sessions` sessions from `session` on (default: the last ones), one tape per contract: those
    named, `all` that have bars in the first of them, or (default) the one that is active in it,
    whose history is then continuous over rolls.

    `detail` says how much of a bar is shown: `bars` as they are stored; `ticks` every quote and
    trade of the order books in the store; `seconds` bars of one second that these trades make. The
    hold-out is included: a market knows no hold-out. BrokerError for what the data do not hold;
    DataError as `load`.
    """
    bars = load(data, root, holdout=True)
    days = np.unique(bars.session)
    day = int(days[-min(sessions, len(days))]) if session is None else calendar.to_day(session)
    if day not in days:
        first, last = (calendar.from_day(int(n)) for n in (days[0], days[-1]))
        raise BrokerError(
            f"no bars in the session {calendar.from_day(day)}; the data hold {first} to {last}"
        )
    if not contracts and sessions == 1 and detail == "bars":
        return [Tape.from_bars(bars, day)]
    stored = loader.stored_dataset(data, root)
    active = bars.contracts[int(bars.contract[int(np.searchsorted(bars.session, day))])].symbol
    wanted = (
        _all(stored, active, day)
        if ALL in contracts
        else list(dict.fromkeys(contracts)) or [active]
    )
    chosen = [_of_contract(stored, _named(stored, symbol), day, sessions) for symbol in wanted]
    return (
        chosen
        if detail == "bars"
        else _detailed(data, root, chosen, detail, every=ALL not in contracts)
    )


def _detailed(
    data: schema.Data, root: Path, tapes: list[Tape], detail: Detail, every: bool
) -> list[Tape]:
    """With the books of all these contracts, or (not `every`) of those that have any."""
    played = np.unique(
        np.concatenate([calendar.session_of(tape.start[tape.first :]) for tape in tapes])
    ).tolist()
    before = (
        [int(calendar.session_of(tapes[0].start[tapes[0].first - 1]))]
        if detail == "seconds"
        else []
    )
    days = [calendar.from_day(day) for day in (*before, *played)]
    books = load_depth(data, root, lambda _: days)
    tapes = [
        tape
        for tape in tapes
        if every or all((tape.contract.symbol, day) in books.book_keys for day in days)
    ]
    return [
        quotes.in_ticks(tape, books) if detail == "ticks" else quotes.in_seconds(tape, books)
        for tape in tapes
    ]


def _all(stored: Dataset, active: str, day: int) -> list[str]:
    """Contracts that have bars in a session and before it, the active one first."""
    symbols = [
        contract.symbol
        for index, contract in enumerate(stored.contracts)
        if _has(stored.rows(index, last=day).session, day)
    ]
    return sorted(symbols, key=lambda symbol: symbol != active)


def _has(session: Ints, day: int) -> bool:
    return len(session) > 0 and session[0] < day and session[-1] == day


def _named(stored: Dataset, symbol: str) -> int:
    names = [contract.symbol for contract in stored.contracts]
    if symbol not in names:
        raise BrokerError(f"the data hold no contract {symbol!r}: {nearest(symbol, names)}")
    return names.index(symbol)


def _of_contract(stored: Dataset, index: int, day: int, sessions: int) -> Tape:
    days = stored.sessions[stored.sessions >= day][:sessions]
    rows = stored.rows(index, last=int(days[-1]))
    first = int(np.searchsorted(rows.session, day))
    name = stored.contracts[index].symbol
    if first == len(rows):
        raise BrokerError(
            f"{name} has no bars from session {calendar.from_day(day)} on",
            "leave the contract away for the active one",
        )
    if first == 0:
        raise BrokerError(
            f"{name} has no bars before session {calendar.from_day(day)}: a replay needs some"
            " history"
        )
    return _tape(stored, index, rows, first)


def _tape(stored: Dataset, index: int, rows: Rows, first: int) -> Tape:
    prices = {name: getattr(rows, name) for name in ("open", "high", "low", "close")}
    return Tape(
        contract=stored.contracts[index],
        instrument=stored.instrument,
        interval=stored.interval,
        start=rows.ts_event,
        **prices,
        volume=np.maximum(rows.volume, 1),  # what has a bar has traded
        first=first,
        synthetic=stored.synthetic,
    )


def as_of_today(old: Sequence[Tape], now_ns: int) -> list[Tape]:
    """The same prices at the same New York clock times of the session that is open now, or opens
    next, in contracts that trade now: of each root the first months that do, in the order of the
    old ones.

    Contracts that all trade still keep their names, and their history keeps its own times: a
    session that has the same bars stored finds them again. No market made these prices on that day:
    the tapes are marked as synthetic.
    """
    day, _ = _session_at(now_ns, old[0].contract.root)
    if all(
        _trades(tape.contract, day) and calendar.session_of(tape.start[tape.first]) <= day
        for tape in old
    ):
        return [_played_again(tape, now_ns) for tape in old]
    months = {root: _trading(root, day) for root in {tape.contract.root for tape in old}}
    order = sorted(range(len(old)), key=lambda n: old[n].contract.last_trade_date)
    moved = {n: _moved(old[n], next(months[old[n].contract.root]), now_ns) for n in order}
    return [moved[n] for n in range(len(old))]


def _played_again(old: Tape, now_ns: int) -> Tape:
    """All that is stored before the session of today is its history; then come the prices that were
    to be played.
    """
    moved = _moved(old, old.contract, now_ns)
    played = moved.start[moved.first :]
    before = np.flatnonzero(old.start < played[0])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(old, name)[before], getattr(moved, name)[moved.first :]])
        for name in PLAYED
    }
    return replace(
        moved, start=np.concatenate([old.start[before], played]), first=len(before), **columns
    )


def _moved(old: Tape, contract: Contract, now_ns: int) -> Tape:
    day, last_ns = _session_at(now_ns, old.contract.root)
    days = day - int(calendar.session_of(old.start[old.first]))
    start = _utc(calendar.new_york_ns(old.start) + days * calendar.DAY_NS)
    rows = np.flatnonzero((start < last_ns) & np.append(True, np.diff(start) > 0))
    arrays = {name: getattr(old, name)[rows] for name in PLAYED}
    first = int(np.searchsorted(rows, old.first))
    return replace(old, contract=contract, start=start[rows], first=first, synthetic=True, **arrays)


def _session_at(now_ns: int, root: str) -> tuple[int, int]:
    """The session that is open at an instant, or the next one, and when it closes."""
    today = calendar.from_day(int(calendar.session_of(now_ns)))
    coming = calendar.sessions(today, today + timedelta(days=10), root)
    at = int(np.searchsorted(coming.close_ns, now_ns, "right"))
    return int(coming.day[at]), int(coming.close_ns[at])


def _trading(root: str, day: int) -> Iterator[Contract]:
    """Contracts that still trade, the nearest first."""
    on = calendar.from_day(day)
    coming = (
        calendar.contract(root, month // 12, month % 12 + 1)
        for month in count(on.year * 12 + on.month - 1)
    )
    return (contract for contract in coming if _trades(contract, day))


def _trades(contract: Contract, day: int) -> bool:
    """For some days yet."""
    return contract.last_trade_date >= calendar.from_day(day) + timedelta(days=ROLL_DAYS)


def _utc(local: Ints) -> Ints:
    """Instants whose New York wall clock is `local`."""
    guess = local + 5 * 3600 * NS
    offset = calendar.new_york_ns(guess) - guess
    again: Ints = local - offset
    return again - (calendar.new_york_ns(again) - local)
