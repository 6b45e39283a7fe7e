"""The market that the simulated TWS shows: a tape of closed bars, and the player that turns it into time passing.

A bar shows itself as a live market would: first its open, while it is in progress, then its full range when it is complete.
The virtual clock stands at the open of the bar in progress and never shows anything that lies ahead of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mcl import calendar
from mcl.data.bars import Bars
from mcl.errors import BrokerError
from mcl.market import Contract, Instrument

NS = 1_000_000_000
INTERVAL_NS = {"1s": NS, "5s": 5 * NS, "1m": 60 * NS, "5m": 300 * NS, "15m": 900 * NS, "30m": 1800 * NS, "1h": 3600 * NS}


@dataclass(frozen=True)
class Tape:
    """Bars of one dated contract: `start` int64 ns UTC (when a bar opens), float64 prices, int64 volume; increasing in time.

    Rows before `first` are history, rows from there on are played. `synthetic` says that no market made these prices.
    """

    contract: Contract
    instrument: Instrument
    interval: str
    start: npt.NDArray[np.int64]
    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]
    volume: npt.NDArray[np.int64]
    first: int
    synthetic: bool = False

    def __post_init__(self) -> None:
        if self.interval not in INTERVAL_NS:
            raise BrokerError(f"bars of interval {self.interval!r} cannot be replayed; valid: {', '.join(INTERVAL_NS)}")
        if not 0 < self.first < len(self.start):
            before, played = self.first, len(self.start) - self.first
            raise BrokerError(f"a replay needs bars before its session and in it; the tape has {before} before and {played} in it")

    def __len__(self) -> int:
        return len(self.start)

    def prices(self, row: int) -> tuple[float, float, float, float]:
        """Open, high, low, close."""
        return float(self.open[row]), float(self.high[row]), float(self.low[row]), float(self.close[row])

    @property
    def interval_ns(self) -> int:
        return INTERVAL_NS[self.interval]

    @classmethod
    def from_bars(cls, bars: Bars, session: int) -> Tape:
        """The bars of one session (days since 1970) of the contract active in it, with all bars before as history.

        Rows of earlier contracts are shifted by the roll gaps, so that the history is continuous with what is played.
        """
        if bars.ratio is not None:
            raise BrokerError("a series adjusted by ratios is not one of tradeable prices; a replay needs data.roll.adjust=difference")
        rows = np.flatnonzero(bars.session == session)
        if not len(rows):
            known = f"{calendar.from_day(int(bars.session[0]))} to {calendar.from_day(int(bars.session[-1]))}"
            raise BrokerError(f"no bars in the session {calendar.from_day(session)}; the data hold {known}")
        end, size = int(rows[-1]) + 1, bars.instrument.tick_size
        shift = np.rint((bars.adjustment[:end] - bars.adjustment[rows[0]]) / size)
        prices = {name: np.round((bars.ticks[name][:end] + shift) * size, 10) for name in ("open", "high", "low", "close")}
        return cls(
            contract=bars.contracts[int(bars.contract[rows[0]])],
            instrument=bars.instrument,
            interval=bars.interval,
            start=bars.close_time[:end] - INTERVAL_NS.get(bars.interval, 0),
            **prices,
            volume=bars.volume[:end],
            first=int(rows[0]),
            synthetic=bars.synthetic,
        )


class Audience(Protocol):
    """What the player tells, in this order, for every bar; between two sessions that the exchange has closed."""

    def bar_opened(self, row: int) -> None: ...
    def bar_completed(self, row: int) -> None: ...
    def session_closed(self, opens_ns: int) -> None: ...
    def session_over(self) -> None: ...


class Pace(NamedTuple):
    """How time passes. `stepped`: only when told to. `rate`: that many times as fast as real time. `speed`: bars per second.

    None of these is lock-step: the next bar waits until every client that receives bars has said that it is ready (it asked for
    the time after it saw the bar open). A client that has never said so is waited for `patience_sec`, one that has for fifteen
    times as long: it may be compiling.
    """

    speed: float = 0.0
    rate: float = 0.0
    stepped: bool = False
    patience_sec: float = 2.0

    @property
    def follows_clients(self) -> bool:
        """Bars wait for somebody who watches; in real or accelerated time, and in steps, they do not."""
        return not (self.rate or self.stepped)


class Player:
    """Plays a tape."""

    def __init__(self, tape: Tape, audience: Audience, pace: Pace, set_clock: Callable[[int], None]) -> None:
        self.tape, self.finished = tape, asyncio.Event()
        self.row = tape.first  # the bar in progress, or the next one; rows before it are history
        self.in_progress = False
        self._audience, self._pace, self._set_clock = audience, pace, set_clock
        self._session = calendar.session_of(tape.start)
        self._listeners: set[Hashable] = set()
        self._awaited: set[Hashable] = set()
        self._spoken: set[Hashable] = set()  # has said that it is ready at least once
        self._ready = asyncio.Event()
        self._someone = asyncio.Event()
        self._steps = asyncio.Semaphore(0)
        self._stepped = asyncio.Event()
        self._owed = 0
        self._anchor: tuple[float, int] | None = None  # (loop time, market clock) from which accelerated time runs
        self._clock(int(tape.start[tape.first]))

    def _clock(self, now: int) -> None:
        self._now = now
        self._set_clock(now)

    def now(self) -> int:
        """The market clock; in real or accelerated time also between bars."""
        if self._anchor is None or self.finished.is_set():
            return self._now
        return max(self._now, self._anchor[1] + int((self._loop_time() - self._anchor[0]) * self._pace.rate * NS))

    def skip_to(self, ns: int) -> None:
        """The clock stands there; bars that have ended by then count as history. Called before anything is played."""
        ended = int(np.searchsorted(self.tape.start + self.tape.interval_ns, ns, "right"))
        self.row = max(self.row, ended)
        self._clock(ns)

    def listen(self, client: Hashable) -> None:
        """From now on the player waits for this client."""
        self._listeners.add(client)
        self._someone.set()

    def leave(self, client: Hashable) -> None:
        self._listeners.discard(client)
        self.ready(client)
        if not self._listeners:
            self._someone.clear()

    def ready(self, client: Hashable) -> None:
        """The client is done with the bar in progress."""
        if client in self._awaited:
            self._spoken.add(client)
        self._awaited.discard(client)
        if not self._awaited:
            self._ready.set()

    async def step(self, bars: int = 1) -> None:
        """With a stepped clock: let so many bars complete (a closed exchange between two sessions counts as one)."""
        self._owed += bars
        self._stepped.clear()
        for _ in range(bars):
            self._steps.release()
        await self._stepped.wait()

    async def play(self) -> None:
        if self.row < len(self.tape) and calendar.session_of(self._now) != self._session[self.row]:
            self._audience.session_closed(int(self.tape.start[self.row]))  # somebody started it while the exchange is closed
        while self.row < len(self.tape):
            if self._pace.follows_clients:
                await self._someone.wait()
            elif self._pace.rate:
                await self._until(int(self.tape.start[self.row]))
            self._open()
            await self._pause(int(self.tape.start[self.row]) + self.tape.interval_ns)
            self._complete()
            if self.row < len(self.tape) and self._session[self.row] != self._session[self.row - 1]:
                await self._break()
        self._audience.session_over()
        self.finished.set()
        self._stepped.set()

    def _open(self) -> None:
        self._clock(int(self.tape.start[self.row]))
        self.in_progress = True
        self._awaited = set(self._listeners)
        self._ready.clear()
        self._audience.bar_opened(self.row)

    def _complete(self) -> None:
        """What happened within the bar is dated one second before its end; then the bar is history."""
        end = int(self.tape.start[self.row]) + self.tape.interval_ns
        self._clock(end - min(NS, self.tape.interval_ns // 2))
        self.in_progress = False
        self.row += 1
        self._audience.bar_completed(self.row - 1)
        self._clock(end)

    async def _break(self) -> None:
        """The exchange is closed until the next bar opens; in lock-step and by bars per second this takes no time."""
        opens = int(self.tape.start[self.row])
        self._audience.session_closed(opens)
        if not self._pace.follows_clients:
            await self._pause(opens)

    async def _pause(self, until_ns: int) -> None:
        pace = self._pace
        if pace.stepped:
            await self._one_step()
        elif pace.rate:
            await self._until(until_ns)
        elif pace.speed:
            await asyncio.sleep(1 / pace.speed)
        else:
            await self._everyone()

    async def _one_step(self) -> None:
        if not self._owed:
            self._stepped.set()
        await self._steps.acquire()
        self._owed -= 1

    async def _everyone(self) -> None:
        patient = 15 if self._awaited & self._spoken else 1
        try:
            await asyncio.wait_for(self._ready.wait(), patient * self._pace.patience_sec)
        except TimeoutError:
            self._awaited.clear()

    async def _until(self, market_ns: int) -> None:
        if self._anchor is None:
            self._anchor = (self._loop_time(), self._now)
        due = self._anchor[0] + (market_ns - self._anchor[1]) / NS / self._pace.rate
        await asyncio.sleep(max(0.0, due - self._loop_time()))

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()
