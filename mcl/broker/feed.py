"""Bars as they close, from the stream of rows that ib_async keeps up to date, and the broker's
clock that says when a session is over.

In a real market a bar closes by the clock: its interval is over by `GRACE_NS` and the broker has
sent an update since, or `SILENT_NS` have passed without one. It does not wait for the next bar to
open: in a thin minute nothing trades and none opens. A row of volume 0 is no bar. The broker fills
minutes without a trade with such rows; research has no bar there either. In a replay a bar closes
when the next one opens.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from mcl.base.errors import BrokerError, ConnectionLost
from mcl.base.instants import NS
from mcl.broker.converters import Interval
from mcl.broker.protocol import QUIET_NS, Bar, Begin, QualifiedContract
from mcl.broker.request_gate import RequestGate
from mcl.market import calendar

# codes on a bar subscription after which nothing more comes
STREAM_ENDED = frozenset({162, 366, 10182, 10225})
GRACE_NS = 2 * NS  # after the close of a bar: its last trades are still being reported
SILENT_NS = 7 * NS  # a TWS updates a bar every five seconds while anything trades
SESSION_SEC = 82_800
NO_DATA = "returned no data"  # of TWS: there is nothing older
MOST_PAGES = 50  # TWS answers 60 requests in ten minutes

Ask = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]


class Clock:
    """The broker's clock by its last answer, ns. `carried` on by this machine's for a real market;
    a replay has a time of its own.
    """

    def __init__(self, carried: bool) -> None:
        self.carried = carried
        self.at = 0
        self._answered_at = 0.0  # monotonic time of the answer

    def tell(self, at: int) -> None:
        self.at, self._answered_at = at, time.monotonic()

    def now(self) -> int:
        return self.at + (int((time.monotonic() - self._answered_at) * NS) if self.carried else 0)

    @property
    def away_sec(self) -> float:
        """This machine's clock minus the broker's at the last answer; 0 for a replay."""
        return (
            time.time() - (time.monotonic() - self._answered_at) - self.at / NS
            if self.carried
            else 0.0
        )


class Feed:
    """`ib` is the library's connection, `ask` puts a question to it, `contracts` are its own
    records by con_id.
    """

    def __init__(
        self, ib: Any, requests: RequestGate, clock: Clock, ask: Ask, contracts: Mapping[int, Any]
    ) -> None:
        self._ib, self._requests, self._clock, self._ask, self._contracts = (
            ib,
            requests,
            clock,
            ask,
            contracts,
        )
        self._live: Any = None  # the rows of the stream, the last of them in progress
        self._of = 0  # con_id of their contract
        self._updated = 0  # broker's time of the last update of the stream
        self.farm_lost = False  # nothing comes, and the broker has said that it will again
        self._stale = False  # the stream is to be asked for again
        # when the bytes came that closed the last bar, or when it closed by the clock
        self._closed_at = 0.0
        self.reaction_ms = math.nan  # from that moment to the first order of the decision
        # from the close of the last bar to that moment, by the broker's clock
        self.close_delay_sec = math.nan

    @property
    def streams(self) -> bool:
        return self._live is not None

    @property
    def renewing(self) -> bool:
        """The stream of bars has been interrupted, and is not yet there again."""
        return self._stale

    def renew(self) -> None:
        """Ask for the stream again: what it would have brought meanwhile is lost. Orders are not
        touched.
        """
        self._stale = self.streams
        self._requests.changed()

    def last_price(self, pinned: QualifiedContract) -> float:
        """Of the bar in progress; NaN when no bars of this contract stream."""
        return float(self._live[-1].close) if self._live and pinned.con_id == self._of else math.nan

    def updated(self, rows: Any, has_new: bool) -> None:
        """The library has changed some rows."""
        if rows is self._live:
            self._updated = self._clock.now()
        if has_new and rows is self._live:
            self._closed_at = self._ib.wrapper.lastTime.timestamp()
        self._requests.changed()

    def reacted(self) -> None:
        """An order leaves; the first one after a bar closed is its reaction."""
        if self._closed_at:
            self.reaction_ms, self._closed_at = (time.time() - self._closed_at) * 1e3, 0.0

    async def beat(self) -> int:
        answer = await self._ask("the time", self._ib.reqCurrentTimeAsync)
        self._clock.tell(int(answer.timestamp()) * NS)
        self._requests.changed()
        return self._clock.at

    async def history(
        self, pinned: QualifiedContract, bars: int, interval: str, now: int
    ) -> tuple[Bar, ...]:
        """At most the last `bars` that have closed by `now`."""
        length = Interval(interval, pinned.contract.root)
        if length.page_sec:
            rows = await self._pages(pinned, length, bars)
        else:
            days = math.ceil(bars * length.seconds / SESSION_SEC) + 1
            rows = await self._rows(pinned, length, f"{days} D")
        closed = [bar for bar in length.after(rows, 0) if bar.close_time <= now]
        return tuple(closed[-bars:])

    async def bars(
        self, pinned: QualifiedContract, interval: str, after: int, begin: Begin | None = None
    ) -> AsyncGenerator[Bar]:
        length = Interval(interval, pinned.contract.root)
        closes_at = await self._session_close(pinned)
        live = await self._stream(pinned, length)
        try:
            if begin is not None and await self._trades(live, length, after, closes_at):
                await begin()
            while True:
                ended = self._requests.errors(live.reqId, STREAM_ENDED)
                over = self._clock.at >= closes_at + QUIET_NS if closes_at else bool(ended)
                closed = live if over else live[: self._closed(live, length)]
                for bar in length.after(closed, after):
                    after = bar.close_time
                    self._note_close(bar, by_clock=len(closed) == len(live))
                    yield bar
                if over:
                    return
                if self._stale:
                    live = await self._again(pinned, length, live)
                    continue
                if ended and not self.farm_lost:
                    raise ConnectionLost(
                        f"the stream of bars of {pinned.local_symbol} ended: {ended}"
                    )
                row_count = len(live)
                await self.beat()
                await self._next_row(live, length, row_count, closes_at)
        finally:
            self._live, self._stale = None, False
            self._drop(live)

    def _note_close(self, bar: Bar, by_clock: bool) -> None:
        """Measure how late the close of a bar is known. When the clock alone closes a bar, no
        message opened a next one.
        """
        if self._clock.carried:
            self._closed_at = time.time() if by_clock else self._closed_at
            late = (self._clock.now() - bar.close_time) / NS
            # the broker reports whole seconds, so its clock is up to one behind
            self.close_delay_sec = max(0.0, late)

    def _closed(self, live: Any, length: Interval) -> int:
        """The number of rows that are closed bars: all but the last, and in a real market the last
        one too once the clock says so.
        """
        if not live or not self._clock.carried:
            return len(live) - 1
        over = self._clock.now() - length.close_time(live[-1])
        updated = self._updated >= length.close_time(live[-1])
        return len(live) - (0 if over >= GRACE_NS and (updated or over >= SILENT_NS) else 1)

    async def _stream(self, pinned: QualifiedContract, length: Interval) -> Any:
        duration = f"{length.page_sec} S" if length.page_sec else "2 D"
        self._live = live = await self._rows(pinned, length, duration, live=True)
        self._of, self._updated = pinned.con_id, 0
        return live

    async def _again(self, pinned: QualifiedContract, length: Interval, live: Any) -> Any:
        """The stream, asked for once more; the rows begin two days ago, so that nothing between is
        missing. Those of bars shorter than a minute begin hours ago: ConnectionLost for an outage
        that was longer, and the broker's history fills it.
        """
        self._drop(live)
        last = length.close_time(live[-1]) if live else 0
        fresh = await self._stream(pinned, length)
        self._stale = False
        if length.page_sec and fresh and length.close_time(fresh[0]) > last:
            raise ConnectionLost(f"the bars of {pinned.local_symbol} were away for too long")
        return fresh

    def _drop(self, live: Any) -> None:
        if self._ib.isConnected() and not self._requests.errors(live.reqId, STREAM_ENDED):
            self._ib.cancelHistoricalData(live)

    async def _trades(self, live: Any, length: Interval, after: int, closes_at: int) -> bool:
        """Wait for a price of a bar later than `after`; False when there is none before the stream
        ends.
        """
        while not (live and length.close_time(live[-1]) > after):
            if self._requests.errors(live.reqId, STREAM_ENDED) or (
                closes_at and self._clock.at >= closes_at + QUIET_NS
            ):
                return False
            await self._next_row(live, length, len(live), closes_at)
        return True

    async def _pages(self, pinned: QualifiedContract, length: Interval, bars: int) -> list[Any]:
        """At least so many rows, page by page from the newest back, or all that there are."""
        rows: list[Any] = []
        for _ in range(MOST_PAGES):
            end = rows[0].date if rows else ""
            try:
                page = await self._rows(pinned, length, f"{length.page_sec} S", end=end)
            except BrokerError as error:
                if not rows or NO_DATA not in error.message:
                    raise
                return rows
            older = [row for row in page if not rows or row.date < rows[0].date]
            rows = [*older, *rows]
            if len(rows) >= bars or not older:
                return rows
        raise BrokerError(
            f"the broker gives bars of {length.bar_size} in pages of"
            f" {length.page_sec // 3600} h, and {bars:,} bars are more than {MOST_PAGES} pages",
            "mcl data download, then start again",
        )

    async def _rows(
        self,
        pinned: QualifiedContract,
        length: Interval,
        duration: str,
        *,
        live: bool = False,
        end: Any = "",
    ) -> Any:
        contract, size = self._contracts[pinned.con_id], length.bar_size
        return await self._ask(
            f"bars of {pinned.local_symbol}",
            lambda: self._ib.reqHistoricalDataAsync(
                contract,
                end,
                duration,
                size,
                "TRADES",
                useRTH=False,
                formatDate=2,
                keepUpToDate=live,
            ),
        )

    async def _session_close(self, pinned: QualifiedContract) -> int:
        """The time at which the market closes, ns; 0 for a replay, which ends with its bars."""
        if not self._clock.carried:
            return 0
        day = calendar.from_day(int(calendar.session_of(await self.beat())))
        return int(
            calendar.sessions(day, day + timedelta(days=1), pinned.contract.root).close_ns[0]
        )

    async def _next_row(self, live: Any, length: Interval, row_count: int, closes_at: int) -> None:
        """Until a new bar opens, the last one closes by the clock, or the stream ends.

        Silence is only accepted from a broker that still answers, or after the close.
        """
        before = self._closed(live, length)

        def happened() -> bool:
            ended = bool(self._requests.errors(live.reqId, STREAM_ENDED)) and not self.farm_lost
            return (
                ended or self._stale or len(live) > row_count or self._closed(live, length) > before
            )

        while not await self._requests.until(happened, self._wait_sec(live, length)):
            self._requests.check()
            if closes_at and await self.beat() >= closes_at + QUIET_NS:
                return

    def _wait_sec(self, live: Any, length: Interval) -> float | None:
        """Seconds to wait for a message before the clock is looked at again; None: the broker's
        time-out.
        """
        if not live or not self._clock.carried:
            return None
        left = (length.close_time(live[-1]) + GRACE_NS - self._clock.now()) / NS
        settled = left < -(SILENT_NS / NS)  # it has closed, and the next one has not opened
        return None if settled else min(self._requests.timeout_sec, max(left, 0.5))
