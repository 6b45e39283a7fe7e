"""Bars made by a random walk in ticks, for laws and identities: with sessions, rolls and, if the walk goes there, negative prices."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from mcl.data.bars import ROLL_COLUMNS, Bars
from mcl.market import MCL, Contract

DAY = 86_400
FIRST_SESSION = 19_726  # 2024-01-04


def make_bars(ticks: dict[str, Any], bars_per_session: int = 100, roll_gaps: dict[int, int] | None = None, **changes: Any) -> Bars:
    """Bars from open, high, low and close in whole ticks; `roll_gaps` maps a row to (new - old contract) in ticks."""
    prices = {name: np.asarray(ticks[name], dtype=np.float64) for name in ("open", "high", "low", "close")}
    n = len(prices["close"])
    rows = np.arange(n)
    session = FIRST_SESSION + rows // bars_per_session
    roll, outgoing, adjustment, contract = np.zeros(n, bool), np.full(n, np.nan), np.zeros(n), np.zeros(n, np.int64)
    for row, gap in (roll_gaps or {}).items():
        roll[row], outgoing[row] = True, (prices["open"][row] - gap) * 0.01
        adjustment[row:] -= gap * 0.01
        contract[row:] += 1
    months = [(2024 + k // 12, k % 12 + 1) for k in range(contract[-1] + 1)]
    contracts = tuple(Contract(f"MCL{year}-{month}", "MCL", year, month, date(year, month, 20)) for year, month in months)
    values: dict[str, Any] = {name: np.round(array) * 0.01 for name, array in prices.items()}
    values |= {
        "instrument": MCL,
        "interval": "1m",
        "close_time": (session * DAY + (rows % bars_per_session) * 60) * 1_000_000_000,
        "volume": np.full(n, 10),
        "adjustment": adjustment,
        "session": session,
        "to_close_sec": (bars_per_session - 1 - rows % bars_per_session) * 60,
        "contract": contract,
        "roll": roll,
        "outgoing_open": outgoing,
        "contracts": contracts,
        "roll_table": pd.DataFrame(columns=list(ROLL_COLUMNS)),
        "fingerprint": "a walk",
        "synthetic": True,
    }
    return Bars(**(values | changes))


def random_bars(n: int, seed: int = 0, start: int = 7_000, step: float = 3.0, bars_per_session: int = 100, rolls: int = 0) -> Bars:
    """A walk whose open differs from the close before, so that gaps through a stop happen."""
    rng = np.random.default_rng(seed)
    moves = np.rint(rng.normal(0.0, step, (n, 2)))
    path = start + np.cumsum(moves.ravel()).reshape(n, 2)
    opens, closes = path[:, 0], path[:, 1]
    wicks = np.rint(rng.exponential(step, (n, 2)))
    ticks = {"open": opens, "close": closes, "high": path.max(axis=1) + wicks[:, 0], "low": path.min(axis=1) - wicks[:, 1]}
    starts = np.arange(bars_per_session, n, bars_per_session)
    rows = rng.choice(starts, min(rolls, len(starts)), replace=False) if rolls else []
    return make_bars(ticks, bars_per_session, {int(row): int(rng.integers(-60, 60)) for row in np.sort(rows)})
