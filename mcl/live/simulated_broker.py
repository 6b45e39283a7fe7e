"""The embedded simulated TWS of a replay: the session's bars, and what an earlier session still
held when it began.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcl.config import schema
from mcl.data import continuous, loader
from mcl.data.bars import Bars, ticks_of
from mcl.data.table import PRICES
from mcl.live.roll_state import ContractRoll
from mcl.live.runner import SessionConfig
from mcl.live.session_setup import Stage
from mcl.live.session_state import SessionBook, carried
from mcl.market.instruments import Contract
from mcl.simulators.tws import SimulatedTWS, Tape

BEFORE_DAYS = 14  # of history of the contract before the roll


@asynccontextmanager
async def broker_port(
    session: SessionConfig, stage: Stage | None, journal: Path | None, root: Path
) -> AsyncIterator[int]:
    """The port to connect to; for a replay that of a server which lives as long."""
    config, run = session.broker, session.deployed.config
    if stage is None or stage.stored is None:
        yield config.port
        return
    book = _carried(session, journal)
    positions = book.open_positions if book is not None else {}
    also = (
        [outgoing_tape(run.data, root, stage, stage.roll)]
        if stage.roll is not None and stage.roll.outgoing.symbol in positions
        else []
    )
    tws = SimulatedTWS.configured(Tape.from_bars(stage.stored, stage.day), config, run.costs, also)
    if book is not None:
        tws.book.begin_day(stage.day)
    for contract in (stage.contract, *(tape.contract for tape in also)):
        if book is not None and positions.get(contract.symbol):
            tws.seed_position(contract, positions[contract.symbol], _entry(book))
    async with tws:
        yield tws.port


def _carried(session: SessionConfig, journal: Path | None) -> SessionBook | None:
    return (
        None
        if session.chain is None or journal is None
        else carried(journal, *session.terms, session.chain)
    )


def _entry(book: SessionBook) -> float:
    """Average price of what is held; of a roll that was not finished the one it was opened at."""
    return round(book.ledger.holding.entry_ticks * book.tick_size, 10)


def outgoing_tape(data: schema.Data, root: Path, stage: Stage, roll: ContractRoll) -> Tape:
    """The contract before the roll in the stage's session. It opens where the backtest leaves it:
    at its price when the new contract first trades, which in a bar of many minutes need not be the
    first price of the bar, or there is no bar of it.
    """
    bars, first = (
        contract_bars(data, root, roll.outgoing, stage.day),
        stage.warmup if stage.recorded is None else stage.recorded,
    )
    at = int(np.searchsorted(bars.close_time, first.close_time[0]))
    price = round(
        float(first.open[0] - roll.gap if np.isnan(roll.outgoing_open) else roll.outgoing_open), 10
    )
    if at == len(bars) or bars.close_time[at] != first.close_time[0]:
        return Tape.from_bars(_with_bar(bars, at, first, price), stage.day)
    ticks = {name: column.copy() for name, column in bars.ticks.items() if name != "close"}
    own = int(ticks_of([price], bars.instrument)[0])
    ticks["open"][at], ticks["high"][at], ticks["low"][at] = (
        own,
        max(own, ticks["high"][at]),
        min(own, ticks["low"][at]),
    )
    return Tape.from_bars(
        replace(bars, open_ticks=ticks["open"], high_ticks=ticks["high"], low_ticks=ticks["low"]),
        stage.day,
    )


def contract_bars(data: schema.Data, root: Path, contract: Contract, day: int) -> Bars:
    """The bars of one dated contract in the days up to a session, in the interval of `data`, as if
    it alone had ever been active.
    """
    stored = loader.stored_dataset(data, root)
    index = [listed.symbol for listed in stored.contracts].index(contract.symbol)
    rows = stored.rows(index, first=day - BEFORE_DAYS, last=day)
    close_time = continuous.close_times(rows, stored.interval, stored.calendar)
    closes = stored.calendar.close_ns[np.searchsorted(stored.calendar.day, rows.session)]
    bars = Bars.of(
        stored.instrument,
        stored.interval,
        close_time,
        {name: getattr(rows, name) for name in PRICES},
        volume=rows.volume,
        session=rows.session,
        to_close_sec=np.maximum(0, (closes - close_time) // 1_000_000_000),
        contract=rows.contract,
        contracts=stored.contracts,
        synthetic=stored.synthetic,
    )
    return continuous.resample(bars, data.interval, stored.calendar)


def _with_bar(bars: Bars, at: int, first: Bars, price: float) -> Bars:
    """One more bar, at the open of the session."""
    own: dict[str, Any] = {
        f"{name}_ticks": ticks_of([price], bars.instrument)[0] for name in PRICES
    } | {"volume": 0, "roll": False}
    own |= {name: getattr(first, name)[0] for name in ("close_time", "session", "to_close_sec")} | {
        "contract": bars.contract[0]
    }
    columns: dict[str, Any] = {
        name: np.insert(getattr(bars, name), at, value) for name, value in own.items()
    }
    return replace(bars, **columns)
