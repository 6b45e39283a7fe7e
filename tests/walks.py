"""Bars made by a random walk in ticks, for laws and identities: with sessions, rolls and, if the
walk goes there, negative prices.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from mcl.data.bars import Bars
from mcl.data.quotes import ABSENT, BarQuotes
from mcl.data.table import PRICES
from mcl.market.instruments import MCL, Contract

DAY = 86_400
FIRST_SESSION = 19_726  # 2024-01-04


def make_bars(
    ticks: dict[str, Any],
    bars_per_session: int = 100,
    roll_gaps: dict[int, int] | None = None,
    **changes: Any,
) -> Bars:
    """Bars from open, high, low and close in whole ticks; `roll_gaps` maps a row to (new - old
    contract) in ticks.
    """
    prices = {name: np.round(np.asarray(ticks[name], dtype=np.float64)) * 0.01 for name in PRICES}
    n = len(prices["close"])
    rows = np.arange(n)
    session = FIRST_SESSION + rows // bars_per_session
    contract, shift, left_at = np.zeros(n, np.int64), [0.0], [np.nan]
    for row, gap in (roll_gaps or {}).items():
        contract[row:] += 1
        shift.append(shift[-1] - gap * 0.01)
        left_at.append(prices["open"][row] - gap * 0.01)
    months = [(2024 + k // 12, k % 12 + 1) for k in range(len(shift))]
    values: dict[str, Any] = {
        "instrument": MCL,
        "interval": "1m",
        "close_time": (session * DAY + (rows % bars_per_session) * 60) * 1_000_000_000,
        "prices": prices,
        "volume": np.full(n, 10),
        "session": session,
        "to_close_sec": (bars_per_session - 1 - rows % bars_per_session) * 60,
        "contract": contract,
        "shift": np.array(shift),
        "left_at": np.array(left_at),
        "contracts": tuple(
            Contract(f"MCL{year}-{month}", "MCL", year, month, date(year, month, 20))
            for year, month in months
        ),
        "fingerprint": "a walk",
        "synthetic": True,
    }
    return Bars.of(**(values | changes))


def made_quotes(close: Any) -> BarQuotes:
    """Quotes of two levels around closes in ticks, none in the first three rows."""
    rng, n = np.random.default_rng(int(np.abs(close).sum())), len(close)
    bid = np.asarray(close, np.int32) - rng.integers(0, 2, n, np.int32)
    ask = bid + rng.integers(1, 4, n, np.int32)
    sizes = rng.integers(1, 40, (2, 2, n), np.int32)
    volumes = rng.poisson(5.0, (3, n)).astype(np.int32)
    for values in (bid, ask, volumes):
        values[..., :3] = ABSENT
    return BarQuotes(0.01, bid, ask, sizes[0], sizes[1], volumes)


def random_bars(
    n: int,
    seed: int = 0,
    start: int = 7_000,
    step: float = 3.0,
    bars_per_session: int = 100,
    rolls: int = 0,
    quotes: bool = False,
) -> Bars:
    """A walk whose open differs from the close before, so that gaps through a stop happen."""
    rng = np.random.default_rng(seed)
    moves = np.rint(rng.normal(0.0, step, (n, 2)))
    path = start + np.cumsum(moves.ravel()).reshape(n, 2)
    opens, closes = path[:, 0], path[:, 1]
    wicks = np.rint(rng.exponential(step, (n, 2)))
    ticks = {
        "open": opens,
        "close": closes,
        "high": path.max(axis=1) + wicks[:, 0],
        "low": path.min(axis=1) - wicks[:, 1],
    }
    starts = np.arange(bars_per_session, n, bars_per_session)
    rows = rng.choice(starts, min(rolls, len(starts)), replace=False) if rolls else starts[:0]
    gaps = {int(row): int(rng.integers(-60, 60)) for row in np.sort(rows)}
    columns = made_quotes(closes) if quotes else None
    return make_bars(ticks, bars_per_session, gaps, quote_columns=columns)
