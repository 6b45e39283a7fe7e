"""A synthetic market: random walks of MCL and CL in several months, for a server that has no data
at hand.

One path of WTI moves all contracts; later months are a little below. The same seed and the same
day give the same prices. `InBars` makes quotes and trades inside the bars of any tape, so that a
market of bars can be watched tick by tick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from mcl.base.errors import BrokerError
from mcl.base.instants import NS
from mcl.market import calendar
from mcl.market.instruments import INSTRUMENTS, Contract
from mcl.simulators.tws.tape import BarColumns, Floats, Ints, Tape, Ticks, joined

ROOTS = ("MCL", "CL")
BEFORE, AHEAD = 10, 20  # sessions of history, sessions to play
MONTHS, NEXT_MONTH_TICKS = 2, -30
LEVEL_TICKS = 6500
LEVELS = 5  # of the book
PRINTS = 24  # trades inside a bar, at most
MINUTE_NS = 60 * NS


def tapes(now_ns: int, seed: int = 0, roots: tuple[str, ...] = ROOTS) -> list[Tape]:
    """One-minute bars with quotes inside, from ten sessions before the one that is open at
    `now_ns`, or opens next, to twenty after.
    """
    start, opens_ns = _minutes(now_ns)
    ticks, volume = _path(start, seed)
    first = int(np.searchsorted(start, opens_ns))
    day = int(calendar.session_of(opens_ns))
    tapes_of_roots = []
    for root in roots:
        for month, contract in enumerate(_months(root, calendar.from_day(day))):
            prices = [np.round((values + month * NEXT_MONTH_TICKS) * 0.01, 10) for values in ticks]
            bars = BarColumns._make([start, *prices, volume // (1 + 3 * month) + 1])
            tapes_of_roots.append(
                watched(Tape(contract, INSTRUMENTS[root], "1m", *bars, first=first), seed)
            )
    return tapes_of_roots


def watched(tape: Tape, seed: int) -> Tape:
    """The same bars with quotes and trades made up inside them."""
    if tape.interval_ns < MINUTE_NS:
        raise BrokerError(
            f"quotes are made up inside bars of a minute or more, not of {tape.interval}"
        )
    return replace(tape, quotes=InBars(tape, seed), synthetic=True)


def _minutes(now_ns: int) -> tuple[Ints, int]:
    """Starts of all minutes of trading, and when the session opens that is played first."""
    today = calendar.from_day(int(calendar.session_of(now_ns)))
    table = calendar.sessions(
        today - timedelta(days=2 * BEFORE + 5), today + timedelta(days=2 * AHEAD + 5)
    )
    at = int(np.searchsorted(table.close_ns, now_ns, "right"))
    spans = zip(
        table.open_ns[at - BEFORE : at + AHEAD].tolist(),
        table.close_ns[at - BEFORE : at + AHEAD].tolist(),
        strict=True,
    )
    return np.concatenate([np.arange(opens, closes, MINUTE_NS) for opens, closes in spans]), int(
        table.open_ns[at]
    )


def _path(start: Ints, seed: int) -> tuple[tuple[Ints, Ints, Ints, Ints], Ints]:
    """Open, high, low and close in ticks, and the volume, which is larger by day."""
    rng = np.random.default_rng([seed, int(start[0] // calendar.DAY_NS)])
    n = len(start)
    close = LEVEL_TICKS + np.cumsum(rng.integers(-3, 4, n))
    open_ = np.concatenate([[LEVEL_TICKS], close[:-1]]) + rng.integers(-1, 2, n)
    high, low = (
        np.maximum(open_, close) + rng.integers(0, 4, n),
        np.minimum(open_, close) - rng.integers(0, 4, n),
    )
    hour = calendar.new_york_ns(start) // (3600 * NS) % 24
    volume = rng.poisson(np.where((hour >= 8) & (hour < 15), 160, 40))
    return (open_, high, low, close), volume.astype(np.int64)


def _months(root: str, day: date) -> list[Contract]:
    """The nearest months that trade for five days yet."""
    numbers = (day.year * 12 + day.month - 1 + n for n in range(MONTHS + 4))
    coming = (calendar.contract(root, number // 12, number % 12 + 1) for number in numbers)
    return [contract for contract in coming if contract.last_trade_date >= day + timedelta(days=5)][
        :MONTHS
    ]


@dataclass(frozen=True)
class InBars:
    """Quotes and trades whose trades make the bars of a tape again. Each bar has its own seed: any
    part can be made alone.
    """

    tape: Tape
    seed: int

    def between(self, from_ns: int, to_ns: int) -> Ticks:
        start = self.tape.start
        rows = range(
            int(np.searchsorted(start, from_ns - self.tape.interval_ns, "right")),
            int(np.searchsorted(start, to_ns, "left")),
        )
        pieces = [self._bar(row) for row in rows] or [self._bar(0)]
        return joined(pieces).rows(from_ns, to_ns)

    def _bar(self, row: int) -> Ticks:
        tape, size = self.tape, self.tape.instrument.tick_size
        rng = np.random.default_rng(
            [self.seed, int(tape.start[row]) // NS, tape.contract.year * 12 + tape.contract.month]
        )
        volume = int(tape.volume[row])
        prints = _prints(
            [round(price / size) for price in tape.prices(row)], min(PRINTS, max(4, volume))
        )
        lots = 1 + rng.multinomial(
            max(0, volume - len(prints)), np.full(len(prints), 1 / len(prints))
        )
        n = 2 * len(prints)  # after every trade the book is renewed once
        ts = (
            tape.start[row]
            + np.sort(rng.choice(tape.interval_ns // 1000 - 1, n, replace=False)) * 1000
        )
        price, traded = np.repeat(prints, 2), np.zeros(n, np.int64)
        traded[::2] = lots
        spread, bought = (
            np.repeat(1 + (rng.random(len(prints)) < 0.3), 2),
            np.repeat(rng.random(len(prints)) < 0.5, 2),
        )
        ask = np.where(bought, price, price + spread)
        away = np.arange(LEVELS)[:, None]
        sizes = 1 + rng.poisson(12 * (1 + 0.35 * away), (2, LEVELS, n))
        sizes[:, 0] = np.maximum(sizes[:, 0], traded)
        bids, asks = (np.round(side * size, 10) for side in (ask - spread - away, ask + away))
        return Ticks(ts, bids, asks, sizes[0], sizes[1], np.round(price * size, 10), traded)


def _prints(bar: list[int], count: int) -> Ints:
    """`count` prices in ticks from the open over the nearer extreme and the other one to the
    close.
    """
    open_, high, low, close = bar
    corners = (
        [open_, low, high, close] if open_ - low <= high - open_ else [open_, high, low, close]
    )
    at = np.linspace(0, 3, count)
    at[[int(np.argmin(abs(at - 1))), int(np.argmin(abs(at - 2)))]] = 1, 2
    prices: Floats = np.interp(at, range(4), corners)
    return np.rint(prices).astype(np.int64)
