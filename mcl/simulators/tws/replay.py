"""Time message: the player turns tapes of several contracts into one market with one clock.

A bar shows itself as a live market would: first its open, while it is in progress, then its full
range when it is complete; a tape with quotes shows every one of them in between. The clock stands
at the open of the bar in progress, or at the last quote, and never shows anything that lies ahead
of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import NamedTuple, Protocol

import numpy as np

from mcl.base.errors import BrokerError
from mcl.base.instants import NS
from mcl.market import calendar
from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.tape import Tape, Tick

HOUR_NS = 3600 * NS
BREATH = 256  # ticks after which clients get a turn


@dataclass(eq=False)
class TapeTrack:
    """A tape while it is played: `row` is its bar in progress, or the next one; rows before it are
    history.
    """

    listed: Listed
    tape: Tape
    row: int
    in_progress: bool = False

    @property
    def start(self) -> int | None:
        """The opening time of its next bar; None at the end of the tape."""
        return int(self.tape.start[self.row]) if self.row < len(self.tape) else None


class Audience(Protocol):
    """Receives every bar from the player, in order of time, and the end of each session."""

    def bar_opened(self, track: TapeTrack) -> None: ...
    def ticked(self, track: TapeTrack, tick: Tick) -> None: ...
    def bar_completed(self, track: TapeTrack, row: int) -> None: ...
    def session_closed(self, opens_ns: int) -> None: ...
    def session_over(self) -> None: ...
    def followers(self, tracks: Sequence[TapeTrack]) -> set[Hashable]:
        """Clients that receive bars or ticks of one of these."""


class ReplayTiming(NamedTuple):
    """The settings of the clock. `stepped`: time passes on command only. `rate`: that many times as
    fast as real time. `speed`: bars per second.

    None of these is lock-step: the next bar waits until every client that receives bars has said
    that it is ready (it asked for the time after it saw the bar open). A client that has never said
    so is waited for `patience_sec`, one that has for fifteen times as long: it may be compiling.
    """

    speed: float = 0.0
    rate: float = 0.0
    stepped: bool = False
    patience_sec: float = 2.0
    # with rate 1: when play begins the market clock is that of this machine
    wall_clock: bool = False
    # with a rate: so long a closed exchange takes, of which an hour is shown; 0: as the rate has it
    closed_sec: float = 0.0
    # with a rate: a machine that stalls for longer stalls its market, too; 0: the market continues
    stride_sec: float = 0.0

    @property
    def follows_clients(self) -> bool:
        """Whether bars wait for clients; in real or accelerated time, and in steps, they do not."""
        return not (self.rate or self.stepped)


class Player:
    """Plays tapes of one bar interval next to each other."""

    def __init__(
        self,
        tracks: Sequence[TapeTrack],
        audience: Audience,
        timing: ReplayTiming,
        set_clock: Callable[[int], None],
    ) -> None:
        intervals = {track.tape.interval for track in tracks}
        if len(intervals) != 1:
            raise BrokerError(
                "tapes of one server have bars of one interval, not of"
                f" {', '.join(sorted(intervals))}"
            )
        self.tracks, self.finished = tuple(tracks), asyncio.Event()
        self.interval_ns = tracks[0].tape.interval_ns
        self._audience, self._timing, self._set_clock = audience, timing, set_clock
        self._open_tracks: list[TapeTrack] = []  # that had a bar in this interval
        self._clients_waited_for = False  # the clients were waited for in this interval
        self._listeners: set[Hashable] = set()
        self._awaited: set[Hashable] = set()
        self._spoken: set[Hashable] = set()  # has said that it is ready at least once
        self._ready = asyncio.Event()
        self._someone = asyncio.Event()
        self._steps = asyncio.Semaphore(0)
        self._stepped = asyncio.Event()
        self._owed = 0
        # (real time, market clock) from which accelerated time runs
        self._anchor: tuple[float, int] | None = None
        self._rate = timing.rate
        self._elapsed_sec = 0.0  # real time without what a machine stalled
        self._now = 0
        self._clock(self._next() or 0)
        self._shown_ns = self._now  # ticks before it were shown

    def _clock(self, now: int) -> None:
        self._now = max(self._now, now)
        self._set_clock(self._now)

    def _next(self) -> int | None:
        """Return the opening time of the next bar."""
        return min(
            (start for track in self.tracks if (start := track.start) is not None), default=None
        )

    @property
    def keeps_time(self) -> bool:
        """Minutes without a bar pass, too: real or accelerated time."""
        return self._timing.rate > 0

    def now(self) -> int:
        """The market clock; in real or accelerated time also between bars."""
        if self._anchor is None or (self.finished.is_set() and not self.keeps_time):
            return self._now
        return max(
            self._now,
            self._anchor[1] + int((self._real_time() - self._anchor[0]) * self._rate * NS),
        )

    def skip_to(self, ns: int) -> None:
        """Set the clock; bars that have ended by then count as history. Called before anything is
        played.
        """
        for track in self.tracks:
            track.row = max(
                track.row, int(np.searchsorted(track.tape.start + self.interval_ns, ns, "right"))
            )
        self._now = self._shown_ns = ns
        self._set_clock(ns)

    # -------------------------------------------------------------------------------------- clients

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

    def open_next(self) -> None:
        """A market order needs an open to fill at. Where bars wait for clients and none receives
        bars, one interval passes for it.
        """
        if not any(track.in_progress for track in self.tracks):
            self._someone.set()

    async def step(self, bars: int = 1) -> None:
        """With a stepped clock: let so many bars complete (a closed exchange between two sessions
        counts as one).
        """
        self._owed += bars
        self._stepped.clear()
        for _ in range(bars):
            self._steps.release()
        await self._stepped.wait()

    # ----------------------------------------------------------------------------------------- play

    async def play(self) -> None:
        spending = asyncio.ensure_future(self._spend()) if self._timing.stride_sec else None
        try:
            await self._play()
            if spending is not None:
                await spending  # the clock continues behind the last bar
        finally:
            if spending is not None:
                spending.cancel()

    async def _play(self) -> None:
        if self._timing.wall_clock:
            self.skip_to(time.time_ns())  # loading the tapes took its time
        start = self._next()
        if start is not None and calendar.session_of(self._now) != calendar.session_of(start):
            self._audience.session_closed(start)  # somebody started it while the exchange is closed
        while start is not None:
            if self._timing.follows_clients:
                await self._someone.wait()
                if not self._listeners:  # a market order alone: one interval
                    self._someone.clear()
            await self._run_to(start)
            await self._interval(start)
            start = await self._after(start)
        self._audience.session_over()
        self.finished.set()
        self._stepped.set()

    async def _interval(self, start: int) -> None:
        """All bars that open at `start`, from their open to their close."""
        self._clock(start)
        self._open_tracks, self._clients_waited_for = (
            [track for track in self.tracks if track.start == start],
            False,
        )
        for track in self._open_tracks:
            if track.tape.quotes is None:
                self._open(track)
        if any(track.in_progress for track in self._open_tracks):
            await self._hold()
        await self._run_to(start + self.interval_ns)
        self._complete(start + self.interval_ns)

    def _open(self, track: TapeTrack) -> None:
        track.in_progress = True
        self._awaited = self._listeners & self._audience.followers(self._open_tracks)
        self._ready.clear()
        self._audience.bar_opened(track)

    def _complete(self, end: int) -> None:
        """Complete the open bars: events within a bar are dated one second before its end."""
        self._clock(end - min(NS, self.interval_ns // 2))
        for track in self._open_tracks:
            track.in_progress = False
            track.row += 1
            self._audience.bar_completed(track, track.row - 1)
        self._clock(end)

    async def _after(self, start: int) -> int | None:
        """Return the opening time of the next bar. In lock-step and by bars per second a closed
        exchange takes no time.
        """
        following = self._next()
        if following is not None and calendar.session_of(following) != calendar.session_of(start):
            self._audience.session_closed(following)
            if self._timing.stepped:
                await self._one_step()
            elif self._timing.rate:
                await self._rest(following)
            self._shown_ns = following  # the book before the open is not shown
        return following

    async def _run_to(self, until_ns: int) -> None:
        """Shows every tick before an instant, in real or accelerated time each at its own, and
        waits for the instant.
        """
        sources = [
            (track, track.tape.quotes) for track in self.tracks if track.tape.quotes is not None
        ]
        ticks = [
            [(tick.ts, n, tick) for tick in quotes.between(self._shown_ns, until_ns).each()]
            for n, (_, quotes) in enumerate(sources)
        ]
        self._shown_ns = until_ns
        for count, (ts, n, tick) in enumerate(
            merge(*ticks) if len(ticks) > 1 else ticks[0] if ticks else ()
        ):
            if self._timing.rate:
                await self._until(ts)
            elif count % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            self._clock(ts)
            await self._show(sources[n][0], tick)
        if self._timing.rate:
            await self._until(until_ns)

    async def _show(self, track: TapeTrack, tick: Tick) -> None:
        self._audience.ticked(track, tick)
        if tick.size and not track.in_progress and track in self._open_tracks:
            self._open(track)
            await self._hold()

    async def _hold(self) -> None:
        """Once in an interval, when its first bar has opened: the clients, the next step or the
        given speed are waited for.
        """
        if self._clients_waited_for or self._timing.rate:
            return
        self._clients_waited_for = True
        if self._timing.stepped:
            await self._one_step()
        elif self._timing.speed:
            await asyncio.sleep(1 / self._timing.speed)
        else:
            await self._everyone()

    async def _one_step(self) -> None:
        if not self._owed:
            self._stepped.set()
        await self._steps.acquire()
        self._owed -= 1

    async def _everyone(self) -> None:
        if not self._awaited:
            await asyncio.sleep(0)
            return
        patient = 15 if self._awaited & self._spoken else 1
        try:
            # wait_for of Python 3.11 can swallow a cancellation
            async with asyncio.timeout(patient * self._timing.patience_sec):
                await self._ready.wait()
        except TimeoutError:
            self._awaited.clear()

    async def _rest(self, opens_ns: int) -> None:
        """A closed exchange: all of the time, or its first and its last half hour alone."""
        if self._timing.closed_sec:
            self._run(HOUR_NS / NS / self._timing.closed_sec, self.now())
            if opens_ns - self.now() > HOUR_NS:
                await self._until(self.now() + HOUR_NS // 2)
                self._run(self._rate, opens_ns - HOUR_NS // 2)
        await self._until(opens_ns)
        self._run(self._timing.rate, opens_ns)

    def _run(self, rate: float, at_ns: int) -> None:
        """From now on the market clock goes from there at this rate."""
        self._rate, self._anchor = rate, (self._real_time(), at_ns)

    async def _until(self, market_ns: int) -> None:
        if self._anchor is None:
            self._anchor = (self._real_time(), self._now)
        due = self._anchor[0] + (market_ns - self._anchor[1]) / NS / self._rate
        await asyncio.sleep(max(0.0, due - self._real_time()))
        while self._real_time() < due:
            await asyncio.sleep(due - self._real_time())

    async def _spend(self) -> None:
        """Count the time that passes, of a stall no more than the stride."""
        loop, most = asyncio.get_running_loop(), self._timing.stride_sec
        before = loop.time()
        while True:
            await asyncio.sleep(most / 4)
            now = loop.time()
            self._elapsed_sec, before = self._elapsed_sec + min(most, now - before), now

    def _real_time(self) -> float:
        return self._elapsed_sec if self._timing.stride_sec else asyncio.get_running_loop().time()
