"""Historical ticks: the quotes and trades of a tape up to now, or of one without quotes those that
its bars were shown by.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mcl.base.instants import NS
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.replay import TapeTrack
from mcl.simulators.tws.stream import around, path, tick_by_tick
from mcl.simulators.tws.tape import Tick, Ticks

# what to show -> kind of tick
KINDS = {"TRADES": "Last", "BID_ASK": "BidAsk", "MIDPOINT": "MidPoint"}
MOST = 1000
_SPAN_NS = 600 * NS


def ticks(
    track: TapeTrack,
    what: str,
    start_ns: int | None,
    end_ns: int | None,
    now_ns: int,
    count: int,
    away: float,
) -> list[Values]:
    """At most `count` ticks from `start_ns` on, or the last ones before `end_ns`, none of them
    after `now_ns`.
    """
    count = min(max(1, count), MOST)
    rows: list[tuple[int, Values]] = []
    until = min(now_ns, end_ns if end_ns is not None else now_ns)
    for span in _spans(track, start_ns, until, now_ns):
        piece = _messages(_ticks_of(track, span, away), what, track)
        piece = [
            pair
            for pair in piece
            if pair[0] <= now_ns and (start_ns is not None or pair[0] < until)
        ]
        rows = rows + piece if start_ns is not None else piece + rows
        if len(rows) >= count:
            break
    chosen = rows[:count] if start_ns is not None else rows[-count:]
    return [{"time": ns // NS} | values for ns, values in chosen]


def _spans(
    track: TapeTrack, start_ns: int | None, until: int, now_ns: int
) -> Iterator[tuple[int, int]]:
    """Ten minutes each: forward from the start, or backward from the end, over what the tape
    holds.
    """
    begins, step = int(track.tape.start[0]), track.tape.interval_ns
    span = max(_SPAN_NS, step)
    if start_ns is not None:
        first = max(start_ns, begins)
        yield from ((a, min(a + span, now_ns + 1)) for a in range(first, now_ns + 1, span))
        return
    yield from ((max(begins, b - span), b) for b in range(until, begins, -span))


def _ticks_of(track: TapeTrack, span: tuple[int, int], away: float) -> list[Tick]:
    tape = track.tape
    begins = int(tape.start[tape.first])
    quoted: Ticks | None = (
        None
        if tape.quotes is None or span[1] <= begins
        else tape.quotes.between(max(span[0], begins), span[1])
    )
    if quoted is not None:
        return quoted.each()
    rows = range(
        int(np.searchsorted(tape.start, span[0], "left")),
        int(np.searchsorted(tape.start, span[1], "left")),
    )
    return [tick for row in rows for tick in _of_bar(track, row, away)]


def _of_bar(track: TapeTrack, row: int, away: float) -> Iterator[Tick]:
    """The open when it opens, the rest one second before it ends, once it has."""
    tape, volume = track.tape, int(track.tape.volume[row])
    start = int(tape.start[row])
    open_, *rest = path(*tape.prices(row))
    yield around(open_, 1, start, away, 1)
    if row < track.row:
        end = start + tape.interval_ns - min(NS, tape.interval_ns // 2)
        for n, price in enumerate(rest):
            yield around(price, max(1, volume * (n + 1) // 3 - volume * n // 3), end, away, 1)


def _messages(ticks: list[Tick], what: str, track: TapeTrack) -> list[tuple[int, Values]]:
    before: Tick | None = None
    messages = []
    for tick in ticks:
        values = tick_by_tick(tick, before, KINDS[what], track.listed)
        if values is not None:
            messages.append((tick.ts, values))
        before = tick
    return messages
