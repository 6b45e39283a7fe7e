"""`BarQuotes`: the order book and the aggressors next to bars, one value per bar, as of its close.

A value is made when somebody asks for it, from whole ticks and contracts. It is NaN where no quote
had been seen by the close of the bar, in its contract and session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError, nearest
from mcl.data.columns import read_only

Floats = npt.NDArray[np.float64]
Narrow = npt.NDArray[np.int32]

# levels of the book in each schema; of those that have enough the first is preferred
BOOK_LEVELS = {"mbp-1": 1, "mbp-10": 10, "tbbo": 1, "bbo-1s": 1, "bbo-1m": 1}
ABSENT = np.iinfo(np.int32).min  # of a tick or a volume: nobody has said one yet
VOLUMES = ("buy_volume", "sell_volume", "unsided_volume")
PRICES = ("bid", "ask", "mid", "microprice", "spread")
PLAIN = (*PRICES, "imbalance", "bid_size", "ask_size", *VOLUMES, "signed_volume")
BY_LEVEL = ("bid_depth", "ask_depth", "depth_imbalance")


@dataclass(frozen=True, eq=False)
class BarQuotes(Mapping[str, Floats]):
    """Columns of n rows by name, float64.

    bid, ask, mid, spread      price units of the dated contract
    microprice                 the best prices weighted by the size of the other side
                               (Gatheral & Oomen 2010)
    imbalance                  (bid size - ask size) / their sum at the best prices, in [-1, 1]
    bid_size, ask_size         contracts at the best prices
    bid_depth_N, ask_depth_N   contracts at the best N levels; N from 1 to `levels`
    depth_imbalance_N          (bid - ask) / their sum over the best N levels
    buy_volume, sell_volume    contracts traded since the close of the bar before, or since the open
                               of the session, by the side that was aggressive
    unsided_volume             of trades without an aggressor, such as those of an auction
    signed_volume              buy_volume - sell_volume

    The arrays below are what is kept: ticks and contracts, ABSENT where nothing was seen.
    """

    tick_size: float
    bid_ticks: Narrow
    ask_ticks: Narrow
    bid_sizes: Narrow  # levels × n
    ask_sizes: Narrow
    volumes: Narrow  # VOLUMES × n

    def __post_init__(self) -> None:
        for name in ARRAYS:
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def rows(self) -> int:
        return len(self.bid_ticks)

    @property
    def levels(self) -> int:
        return len(self.bid_sizes)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __getitem__(self, name: str) -> Floats:
        if name not in self._names():
            raise self._unknown(name)
        return read_only(self._column(name))

    def take(self, rows: Any) -> BarQuotes:
        """A copy of these rows: a view would hold the others as its base."""
        arrays = {name: getattr(self, name)[..., rows].copy() for name in ARRAYS}
        return replace(self, **arrays)

    def moved(self, first: int, ticks: int) -> BarQuotes:
        """The same with both prices `ticks` higher from the row `first` on."""
        prices = {}
        for name in ("bid_ticks", "ask_ticks"):
            values = getattr(self, name).copy()
            values[first:][values[first:] != ABSENT] += np.int32(ticks)
            prices[name] = values
        return replace(self, **prices)

    def _names(self) -> tuple[str, ...]:
        return (*PLAIN, *(f"{name}_{n + 1}" for name in BY_LEVEL for n in range(self.levels)))

    def _unknown(self, name: str) -> Exception:
        kind, _, level = str(name).rpartition("_")
        if kind in BY_LEVEL and level.isdigit() and int(level) > self.levels:
            return DataError(
                f"bars.quotes has no column {name!r}: data.quotes={self.levels} holds so many"
                " levels of the book",
                f"set data.quotes={level}",
            )
        return KeyError(f"bars.quotes has no column {name!r}: {nearest(str(name), self._names())}")

    def _column(self, name: str) -> Floats:
        if name in VOLUMES:
            return _float(self.volumes[VOLUMES.index(name)])
        if name == "signed_volume":
            return self._column("buy_volume") - self._column("sell_volume")
        if name in PRICES:
            return self._price(name)
        kind, _, level = name.rpartition("_")
        if kind in BY_LEVEL:
            return self._depth(kind, int(level))
        return self._depth({"imbalance": "depth_imbalance"}.get(name, f"{kind}_depth"), 1)

    def _price(self, name: str) -> Floats:
        bid, ask = _float(self.bid_ticks), _float(self.ask_ticks)
        ticks = {
            "bid": lambda: bid,
            "ask": lambda: ask,
            "spread": lambda: ask - bid,
            "mid": lambda: (bid + ask) / 2,
            "microprice": lambda: (bid + ask) / 2 + (ask - bid) / 2 * self._column("imbalance"),
        }[name]()
        return ticks * self.tick_size

    def _depth(self, kind: str, level: int) -> Floats:
        bid, ask = (
            sizes[:level].sum(axis=0, dtype=np.float64)
            for sizes in (self.bid_sizes, self.ask_sizes)
        )
        depth = {"bid_depth": bid, "ask_depth": ask}
        values = depth.get(kind, (bid - ask) / np.maximum(1.0, bid + ask))
        return np.where(self.bid_ticks == ABSENT, np.nan, values)


ARRAYS = tuple(field.name for field in fields(BarQuotes) if field.name != "tick_size")


def _float(values: Narrow) -> Floats:
    return np.where(values == ABSENT, np.nan, values.astype(np.float64))
