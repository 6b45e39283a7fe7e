"""Prepare what a session needs before it starts: the day, its contract, and the bars that
indicators warm up on.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError, LiveError
from mcl.base.instants import NS
from mcl.broker.converters import BAR_SIZES
from mcl.broker.protocol import Bar
from mcl.config import schema
from mcl.data import continuous, loader
from mcl.data.bars import Bars, narrow, ticks_of
from mcl.data.dataset import Dataset
from mcl.data.loader import load
from mcl.data.table import PRICES
from mcl.engine.orders import live_supported
from mcl.live.roll_state import ContractRoll, roll_into
from mcl.market import calendar
from mcl.market.instruments import Contract
from mcl.market.intervals import BAR_SEC
from mcl.risk.sizing import memory_bars, memory_sessions
from mcl.strategy import Strategy, memory_at

# more than a long weekend between the last known session and today's: the roll rule may have missed
# a roll
log = logging.getLogger(__name__)
STALE_DAYS = 5
LOOK_AHEAD_DAYS = 400  # a session of the contract further away is nobody's concern today


class SessionNotStored(LiveError):
    """The stored bars do not hold the session that was asked for."""


@dataclass(frozen=True)
class Stage:
    """`warmup` ends before the session; `stored` holds it and the session's own bars, which only a
    replay has.
    """

    warmup: Bars
    day: int  # trade date, days since 1970-01-01
    contract: Contract
    adjustment: float  # added to this contract's prices for the continuous series
    close_ns: int  # official close
    room: int  # rows that the session can have at most
    stored: Bars | None = None
    roll: ContractRoll | None = None  # the last one into `contract`
    roll_adjust: str = "difference"  # how the adjusted series continues over a roll

    @property
    def recorded(self) -> Bars | None:
        """The stored bars of the session alone."""
        return None if self.stored is None else self.stored.rows(len(self.warmup), len(self.stored))

    @property
    def date(self) -> date:
        return calendar.from_day(self.day)

    @property
    def assumed_hours(self) -> list[str]:
        """The short sessions up to the last trade of the contract whose hours are assumed."""
        last = min(self.contract.last_trade_date, self.date + timedelta(days=LOOK_AHEAD_DAYS))
        return [str(day) for day in calendar.assumed_hours(self.date, last, self.contract.root)]

    @property
    def unpriced(self) -> bool:
        """The stored bars end before the roll into the session's contract, and nobody has measured
        its gap yet.
        """
        return self.roll is not None and math.isnan(self.roll.gap)

    @property
    def own_rows(self) -> npt.NDArray[np.bool_]:
        """Rows of the warm-up that are of the session's contract."""
        contracts = self.warmup.contracts
        rows: npt.NDArray[np.bool_] = self.warmup.contract == (
            contracts.index(self.contract) if self.contract in contracts else -1
        )
        return rows


def replayed(config: schema.Config, session: date | None, strategy: Strategy, root: Path) -> Stage:
    """A stored session (default: the last complete one, hold-out included) with as many bars before
    it as the decision looks at.
    """
    _tradeable(config, simulated=True)
    bars = load(config.data, root, holdout=True)
    day = calendar.to_day(session) if session is not None else _last_complete(bars)
    start, stop = (int(np.searchsorted(bars.session, day, side)) for side in ("left", "right"))
    if start == stop:
        first, last = (calendar.from_day(int(bars.session[row])) for row in (0, -1))
        raise SessionNotStored(
            f"broker.replay.session={session} is no session of the data, which hold {first} to"
            f" {last}"
        )
    before = _warmup_start(bars, start, config, strategy)
    session_bars = bars.rows(start, stop)
    return Stage(
        warmup=_labelled(bars, before, start),
        day=day,
        contract=session_bars.contracts[int(session_bars.contract[0])],
        adjustment=float(session_bars.adjustment[0]),
        close_ns=int(session_bars.close_time[-1]) + int(session_bars.to_close_sec[-1]) * NS,
        room=len(session_bars),
        stored=_labelled(bars, before, stop),
        roll=roll_into(bars, start),
    )


def today(config: schema.Config, strategy: Strategy, root: Path, now_ns: int) -> Stage:
    """The session that is open now, in the contract that the stored bars end in. LiveError when
    they do not reach up to it.
    """
    _tradeable(config, simulated=False)
    bars = load(config.data, root, holdout=True)
    if bars.synthetic:
        raise LiveError(
            "a version promoted on synthetic data trades only on broker=ib_sim",
            "promote a run on market data: data=databento",
        )
    now = datetime.fromtimestamp(now_ns / NS, UTC)
    day = int(calendar.session_of(now_ns))
    last = int(bars.session[-1])
    if day - last > STALE_DAYS:
        raise LiveError(
            f"the stored bars end with session {calendar.from_day(last)}, today's is"
            f" {calendar.from_day(day)}: rolls may be missing",
            "mcl data download, then start again",
        )
    session = calendar.sessions(
        calendar.from_day(day), calendar.from_day(day) + timedelta(days=1), bars.instrument.symbol
    )
    if now_ns >= int(session.close_ns[0]):
        raise LiveError(
            f"session {calendar.from_day(day)} is over at {now:%Y-%m-%d %H:%M} UTC; the next one"
            " opens at 18:00 New York"
        )
    contract, roll = _contract_of(loader.stored_dataset(config.data, root), bars, config.data, day)
    _refuse_late(contract, day)
    room = int((session.close_ns[0] - session.open_ns[0]) // NS) // BAR_SEC[bars.interval] + 1
    before = _warmup_start(bars, len(bars), config, strategy)
    warmup = _labelled(bars, before, len(bars))
    stage = Stage(
        warmup,
        day,
        contract,
        float(bars.adjustment[-1]),
        int(session.close_ns[0]),
        room,
        roll=roll,
        roll_adjust=config.data.roll.adjust,
    )
    if stage.assumed_hours:
        days = ", ".join(stage.assumed_hours)
        log.warning(
            "the short hours of %s are assumed: those of the years before",
            days,
        )
    return stage


def _refuse_late(contract: Contract, day: int) -> None:
    """LiveError on the last day of a contract, and on the last one before delivery notices."""
    session = calendar.from_day(day)
    try:
        calendar.refuse_unknown_delivery(contract.root)
    except DataError as error:
        raise LiveError(f"{contract.symbol}: {error.message}", error.hint) from error
    safe_until = calendar.last_day_held(contract.root, contract.year, contract.month)
    if contract.last_trade_date <= session:
        raise LiveError(
            f"{contract.symbol} stops trading on {contract.last_trade_date}; the stored bars have"
            " not rolled yet"
        )
    if safe_until <= session:
        raise LiveError(
            f"{contract.symbol} can be delivered to its holder after {safe_until}; the stored bars"
            " have not rolled yet"
        )


def _contract_of(
    stored: Dataset, bars: Bars, data: schema.Data, day: int
) -> tuple[Contract, ContractRoll | None]:
    """The contract that the roll table has for a session after the stored bars, and the last roll
    into it.

    The table is carried on by its own rule from what is stored. The gap of a roll since then is not
    known yet: NaN.
    """
    last, calendar_days = int(bars.session[-1]), stored.calendar.day
    if day > int(calendar_days[-1]):
        raise LiveError(
            f"the calendar of the data ends on {calendar.from_day(int(calendar_days[-1]))}",
            "mcl data download, then start again",
        )
    days = calendar_days[(calendar_days >= stored.sessions[0]) & (calendar_days <= max(day, last))]
    chosen, steps = continuous.active(stored, data.roll, days)
    since = [step for step in steps if step.session > last]
    if not since or stored.contracts[int(chosen[-1])] == bars.contracts[int(bars.contract[-1])]:
        return bars.contracts[int(bars.contract[-1])], roll_into(bars, len(bars) - 1)
    step = since[-1]
    if len(since) > 1 or data.roll.adjust == "ratio":
        why = f"{len(since)} rolls" if len(since) > 1 else "a roll with data.roll.adjust=ratio"
        raise LiveError(
            f"the stored bars end before {why}, the last on {calendar.from_day(step.session)}",
            "mcl data download, then start again",
        )
    return stored.contracts[step.incoming], ContractRoll(
        stored.contracts[step.outgoing], step.session, math.nan, math.nan
    )


def stage_after_roll(stage: Stage, roll: ContractRoll, older: list[Bar], gap: float) -> Stage:
    """The stage of a session whose stored bars end before the roll into its contract. It gets the
    bars of the contract before it up to the roll, and the gap between both, which the adjusted
    series is continued without.
    """
    before = with_history(replace(stage, contract=roll.outgoing), older)
    adjustment = (
        stage.adjustment if stage.roll_adjust == "none" else round(stage.adjustment - gap, 10)
    )
    return replace(
        before, contract=stage.contract, adjustment=adjustment, roll=replace(roll, gap=gap)
    )


def with_history(stage: Stage, newer: list[Bar]) -> Stage:
    """The stage with bars that have closed since the stored ones ended, as the broker sends them;
    all of the session's contract.
    """
    if not newer:
        return stage
    warmup, count = stage.warmup, len(newer)
    close_time = np.array([bar.close_time for bar in newer], np.int64)
    session = calendar.session_of(close_time)
    first, last = (calendar.from_day(int(day)) for day in (session[0], session[-1]))
    warmup = with_contract(warmup, stage.contract)
    contract = warmup.contracts.index(stage.contract)
    rolls = np.zeros(count, np.bool_)
    rolls[0] = contract != warmup.contract[-1]
    days = calendar.sessions(first, last + timedelta(days=1), warmup.instrument.symbol)
    closes = days.close_ns[np.searchsorted(days.day, session).clip(max=len(days) - 1)]
    prices = {name: np.array([getattr(bar, name) for bar in newer]) for name in PRICES}
    added = {
        f"{name}_ticks": ticks_of(values, warmup.instrument, close_time)
        for name, values in prices.items()
    } | {
        "close_time": close_time,
        "volume": narrow("volume", [bar.volume for bar in newer]),
        "session": narrow("session", session),
        "to_close_sec": narrow("to_close_sec", (closes - close_time) // NS),
        "contract": np.full(count, contract, np.int32),
        "roll": rolls,
    }
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(warmup, name), values]) for name, values in added.items()
    }
    shift, left_at = warmup.shift.copy(), warmup.left_at.copy()
    shift[contract] = stage.adjustment
    if rolls[0]:
        left_at[contract] = newer[0].open - (stage.roll.gap if stage.roll else 0.0)
    return replace(stage, warmup=replace(warmup, **columns, shift=shift, left_at=left_at))


def with_contract(bars: Bars, contract: Contract) -> Bars:
    """The bars, with a contract that none of them is of among their contracts."""
    if contract in bars.contracts:
        return bars
    more: dict[str, Any] = {
        "shift": np.append(bars.shift, 0.0),
        "left_at": np.append(bars.left_at, np.nan),
    }
    more |= {} if bars.ratio is None else {"ratio": np.append(bars.ratio, bars.ratio[-1:])}
    more |= {} if bars.listed_at is None else {"listed_at": np.append(bars.listed_at, 0)}
    return replace(bars, contracts=(*bars.contracts, contract), **more)


def _labelled(bars: Bars, start: int, stop: int) -> Bars:
    """A part of the bars that says what it is a part of, for whoever writes about the session; a
    strategy does not get to see that.
    """
    return replace(bars.rows(start, stop), provenance=bars.provenance, fingerprint=bars.fingerprint)


def _tradeable(config: schema.Config, simulated: bool) -> None:
    if unsupported := live_supported(config.risk, config.execution, config.costs, simulated):
        raise LiveError(
            f"a session cannot do what the promoted run did: {'; '.join(unsupported)}",
            "promote a run without it",
        )
    if config.data.quotes:
        raise LiveError(
            f"data.quotes={config.data.quotes}: a strategy of quotes cannot trade, since a broker's"
            " feed brings bars without quotes",
            "promote a run of a strategy that needs bars alone, with data.quotes=0",
        )
    if config.data.interval == "session":
        raise LiveError(
            "data.interval=session has one bar a session: nothing to decide within one",
            "promote a run on 5s … 1h bars",
        )
    if config.data.interval not in BAR_SIZES:
        raise LiveError(
            f"a broker's feed has no bars of data.interval={config.data.interval}: it keeps bars"
            f" up to date from {next(iter(BAR_SIZES))} on",
            f"promote a run on {', '.join(BAR_SIZES)}",
        )


def _warmup_start(bars: Bars, start: int, config: schema.Config, strategy: Strategy) -> int:
    """The row from which nothing is missing for the decision at row `start`. LiveError when the
    stored bars are too few.
    """
    looks_back = max(memory_at(strategy, bars.interval), memory_bars(config.risk))
    row = start - looks_back
    sessions = memory_sessions(config.risk)
    if sessions:
        days = np.unique(bars.session[:start])
        row = min(
            row,
            (
                int(np.searchsorted(bars.session, days[-sessions], "left"))
                if len(days) >= sessions
                else -1
            ),
        )
    if row < 0:
        raise LiveError(
            f"the decision looks back over {looks_back} bars and {sessions} sessions; only {start}"
            " bars lie before the session",
            "choose a later broker.replay.session or an earlier data.start",
        )
    return row


def _last_complete(bars: Bars) -> int:
    """The last session whose bars reach into the hour before its official close."""
    last = np.append(np.flatnonzero(np.diff(bars.session)), len(bars) - 1)
    complete = last[bars.to_close_sec[last] <= 3600]
    if not len(complete):
        raise LiveError(
            "the data hold no complete session to replay",
            "name one: broker.replay.session=YYYY-MM-DD",
        )
    return int(bars.session[complete[-1]])
