"""Measure the cost of trading from order books: spread, depth, and the slippage of a market order
by time of day.

Slippage is the distance of an order's average fill from the mid price at the moment it arrives, in
ticks, mean of buying and selling, each state of the book weighted by how long it lasted: what an
order pays that may come at any time. Where the book shown is too small for the order, the rest is
filled one tick beyond the last level that is shown. The states of tbbo are the quotes before each
trade, those of bbo the quotes at the end of each second or minute; both show the best prices alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base import progress
from mcl.base.errors import DataError
from mcl.base.files import write_whole
from mcl.base.instants import NS
from mcl.data.depth import Book, Depth
from mcl.market.calendar import new_york_ns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SLOT_SEC = 1800
# a state that lasts longer is a feed that has stopped: the rest of the time is not counted
LONGEST_SEC = 300


@dataclass(frozen=True)
class Measured:
    """by_slot: one row per half-hour from 18:00 New York ("18:00", …) with

    minutes        observed, over all sessions
    spread_ticks   ask - bid
    depth          contracts at the best price, mean of both sides
    traded         contracts per session
    cost_N_ticks   slippage of a market order of N contracts, for every N of `sizes`
    beyond_N_frac  share of the time in which the book shown was smaller than N
    """

    by_slot: pd.DataFrame
    sizes: tuple[int, ...]
    depth: Depth

    def mean_ticks(self, size: int) -> float:
        """Slippage over all observed minutes, each weighing the same."""
        frame = self.by_slot
        return float(
            (frame[f"cost_{size}_ticks"] * frame["minutes"]).sum() / frame["minutes"].sum()
        )

    def by_hour(self, size: int) -> list[float]:
        """24 values, hours 0 … 23 New York. Hours without a book get the worst of the others."""
        frame = self.by_slot.assign(hour=[int(slot[:2]) for slot in self.by_slot.index])
        weighted = frame[f"cost_{size}_ticks"] * frame["minutes"]
        hours = (
            weighted.groupby(frame["hour"]).sum() / frame.groupby("hour")["minutes"].sum()
        ).to_dict()
        return [round(float(hours.get(hour, max(hours.values()))), 3) for hour in range(24)]


def measure(depth: Depth, sizes: Sequence[int] = (1, 2, 5, 10)) -> Measured:
    """Walk the book of the contract that traded most in each session. DataError when no state of
    any book can be traded on.
    """
    wanted = tuple(sorted(set(sizes)))
    if not wanted or wanted[0] < 1:
        raise DataError(
            f"order sizes must be whole contracts from 1; sizes={', '.join(map(str, wanted))}"
        )
    tick = depth.instrument.tick_size
    sessions = [list(books) for _, books in groupby(depth.book_keys, key=lambda pair: pair[1])]
    sums = pd.DataFrame()
    for books in progress.each("walking the books", sessions):
        for piece, duration_sec in _pieces(depth, *_busiest(depth, books)):
            part = _sums(_book(piece, wanted, tick, duration_sec))
            sums = part if sums.empty else sums.add(part, fill_value=0.0)
    if not sums["seconds"].sum():
        raise DataError(
            f"no book in {depth.folder} has both sides at any time",
            "are these files of trading hours?",
        )
    rows = [_mean(slot, row, len(sessions)) for slot, row in sums.sort_index().iterrows()]
    return Measured(pd.DataFrame(rows).set_index("slot"), wanted, depth)


def _busiest(depth: Depth, books: list[tuple[str, date]]) -> tuple[str, date]:
    """The book of a session in which most was traded, or else the longest."""

    def traded(key: tuple[str, date]) -> tuple[int, int]:
        contracts = depth.column(*key, "traded")
        return int(contracts.sum()), len(contracts)

    return max(books, key=traded)


def _pieces(depth: Depth, symbol: str, day: date) -> Iterator[tuple[Book, Floats]]:
    """The pieces of a book, with the seconds for which each of its states lasted."""
    ts = depth.column(symbol, day, "ts")
    duration_sec = _durations(ts)
    first = 0
    for piece in depth.pieces(symbol, day):
        yield piece, duration_sec[first : first + len(piece)]
        first += len(piece)


def _durations(ts: Ints) -> Floats:
    durations: Floats = np.minimum(np.diff(ts, append=ts[-1]) / NS, LONGEST_SEC)
    return durations


def _sums(frame: pd.DataFrame) -> pd.DataFrame:
    """By slot: seconds, contracts traded, and every other column times the seconds it lasted."""
    weighted = frame.copy()
    for name in frame.columns.difference(["slot", "seconds", "traded"]):
        weighted[name] = frame[name] * frame["seconds"]
    sums: pd.DataFrame = weighted.groupby("slot").sum()
    return sums[[name for name in frame.columns if name != "slot"]]


def _book(
    book: Book, sizes: tuple[int, ...], tick: float, duration_sec: Floats | None = None
) -> pd.DataFrame:
    """One row per sound state of one session. The durations are those of the book itself unless
    it is a piece of a longer one.
    """
    duration_sec = _durations(book.ts) if duration_sec is None else duration_sec
    sound = book.sound & (duration_sec > 0)
    columns: dict[str, object] = {
        "slot": _slot(book.ts),
        "seconds": duration_sec,
        "traded": book.traded,
    }
    columns |= {
        "spread_ticks": book.spread / tick,
        "depth": (book.bid_size[0] + book.ask_size[0]) / 2,
    }
    for size in sizes:
        (buy, short), (sell, thin) = (_walk(book, side, size, tick) for side in ("ask", "bid"))
        columns[f"cost_{size}_ticks"] = (buy + sell) / 2 / tick
        columns[f"beyond_{size}_frac"] = (short.astype(np.float64) + thin) / 2
    frame = pd.DataFrame(columns)
    frame.loc[~sound, frame.columns.difference(["slot", "traded"])] = 0.0
    return frame


def _slot(ts: Ints) -> Ints:
    """Half-hours since 18:00 New York."""
    return (new_york_ns(ts) // NS - 18 * 3600) % 86_400 // SLOT_SEC


def _walk(book: Book, side: str, size: int, tick: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return how much worse than the mid price the average fill is, in price units, and where the
    visible book was too small.
    """
    sign, price, level_size = (
        (1, book.ask, book.ask_size) if side == "ask" else (-1, book.bid, book.bid_size)
    )
    present = np.isfinite(price)
    sizes = np.where(present, level_size, 0)
    before = np.cumsum(sizes, axis=0) - sizes
    filled = np.clip(size - before, 0, sizes)
    worst = np.where(present, price, -np.inf * sign)
    last = (worst.max(axis=0) if sign > 0 else worst.min(axis=0)) + sign * tick
    rest = size - filled.sum(axis=0)
    paid = np.where(present, filled * price, 0.0).sum(axis=0) + np.where(rest > 0, rest * last, 0.0)
    with np.errstate(invalid="ignore"):
        worse: Floats = sign * (paid / size - book.mid)
    return worse, rest > 0


def _mean(slot: object, sums: pd.Series, sessions: int) -> dict[str, object]:
    """Means of one slot, weighted by time."""
    total = max(float(sums["seconds"]), 1e-9)
    begin = (18 * 3600 + int(str(slot)) * SLOT_SEC) % 86_400
    row: dict[str, object] = {
        "slot": f"{begin // 3600:02d}:{begin % 3600 // 60:02d}",
        "minutes": total / 60,
    }
    row["traded"] = float(sums["traded"] / sessions)
    for name in sums.index.difference(["seconds", "traded"], sort=False):
        row[str(name)] = float(sums[name] / total)
    return row


# ------------------------------------------------------------------------------------------- config


def write(path: Path, measured: Measured, size: int, commission_usd: float) -> None:
    """A cost config with its provenance as comments; `size` is the order that `slippage_ticks`
    stands for.
    """
    if size not in measured.sizes:
        raise DataError(
            f"slippage was not measured for orders of {size} contracts; choose from"
            f" {', '.join(map(str, measured.sizes))}"
        )
    lines = [
        *(f"# {line}".rstrip() for line in _provenance(measured, size)),
        *_values(measured, size, commission_usd),
    ]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def _provenance(measured: Measured, size: int) -> Iterator[str]:
    depth = measured.depth
    days = sorted({day for _, day in depth.book_keys})
    if depth.synthetic:
        yield (
            "SYNTHETIC DATA: spread and depth of a generated world, which are assumptions and not"
            " measurements of the market."
        )
    yield (
        f"Written by mcl data costs from {len(days)} books of {depth.instrument.symbol}"
        f" ({depth.manifest['schema']}), sessions"
    )
    yield f"{days[0]} to {days[-1]}, dataset {depth.folder.name}."
    yield (
        "Slippage: average fill of a market order against the mid price when it arrives, mean of"
        " buying and selling, weighted by time."
    )
    yield (
        f"slippage_ticks is the mean for orders of {size}; a backtest charges the value of the"
        " hour. By size of the order:"
    )
    for each in measured.sizes:
        beyond = float(
            (measured.by_slot[f"beyond_{each}_frac"] * measured.by_slot["minutes"]).sum()
            / measured.by_slot["minutes"].sum()
        )
        yield (
            f"  {each:>4} contracts: {measured.mean_ticks(each):.3f} ticks; larger than the book"
            f" shown {100 * beyond:.1f} % of the time"
        )


def _values(measured: Measured, size: int, commission_usd: float) -> Iterator[str]:
    yield f"slippage_ticks: {measured.mean_ticks(size):.3f}"
    yield f"commission_usd: {commission_usd:g} # with the fees of the exchange and the regulator"
    yield "exchange_usd: 0.0"
    yield "regulatory_usd: 0.0"
    yield "impact_ticks: 0.0"
    yield "slippage_by_hour_ticks: # hours 0 … 23 New York; there is no trading from 17 to 18"
    yield from (
        f"  - {value:g} # {hour:02d}:00" for hour, value in enumerate(measured.by_hour(size))
    )
