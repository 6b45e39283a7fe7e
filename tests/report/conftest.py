"""Results on a random walk, simulated by a few lines of numpy: enough to fill every chart and
table, independent of the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from drawn import Drawn

from mcl.data.bars import Bars
from mcl.engine.curve import Curve
from mcl.engine.result import FILL, FILL_REASONS, TRADE, Result, changes
from mcl.market.instruments import MCL, Contract
from mcl.metrics.summary import summary
from mcl.report.run import RunView

SESSION_BARS = 1380
CAPITAL, SLIP, COMMISSION = 25_000.0, 1.0, 0.77
CONFIG: dict[str, Any] = {
    "data": {
        "source": "synthetic",
        "world": "planted_edge",
        "seed": 7,
        "edge_sharpe": 3.0,
        "instrument": "MCL",
        "interval": "1m",
    },
    "strategy": {"name": "ema_cross", "fast": 10, "slow": 30},
    "risk": {"size": {"method": "fixed", "contracts": 1.0}},
    "costs": {"slippage_ticks": SLIP, "commission_usd": COMMISSION},
    "capital_usd": CAPITAL,
    "notes": "<script>alert('x')</script> & more",
}


def walk(n: int, seed: int = 1, synthetic: bool = True) -> Bars:
    """n one-minute bars, two contracts when longer than two sessions, starting near 70.00."""
    rng = np.random.default_rng(seed)
    session_of = np.arange(n) // SESSION_BARS
    days = np.busday_offset("2024-01-02", session_of, roll="forward").astype(np.int64)
    opens = days * 86_400 + (np.arange(n) % SESSION_BARS) * 60 - 3600
    close = 7000 + np.cumsum(np.rint(rng.normal(0, 2, n)))
    open_ = np.concatenate([[7000.0], close[:-1]]) + rng.integers(-1, 2, n)
    high, low = (
        np.maximum(open_, close) + rng.integers(0, 3, n),
        np.minimum(open_, close) - rng.integers(0, 3, n),
    )
    contract = (
        (session_of >= max(1, session_of[-1] // 2)).astype(np.int64)
        if session_of[-1] >= 2
        else np.zeros(n, np.int64)
    )
    roll = np.diff(contract, prepend=contract[0]) > 0
    gap = 25.0
    open_, high, low, close = (prices + gap * contract for prices in (open_, high, low, close))
    days_of = days[roll].astype("datetime64[D]")
    rolls = pd.DataFrame(
        {
            "session": days_of,
            "from_symbol": "MCLG4",
            "to_symbol": "MCLH4",
            "reason": "volume",
            "gap": gap / 100,
            "volume_from": 900,
            "volume_to": 1100,
        }
    )
    names = (
        Contract("MCLG4", "MCL", 2024, 2, date(2024, 1, 19)),
        Contract("MCLH4", "MCL", 2024, 3, date(2024, 2, 16)),
    )
    world = {
        "parameters": {
            "world": "planted_edge",
            "seed": seed,
            "edge": {"fast": 240, "slow": 960, "sharpe": 3.0},
        }
    }
    return Bars.of(
        MCL,
        "1m",
        (opens + 60) * 10**9,
        {"open": open_ / 100, "high": high / 100, "low": low / 100, "close": close / 100},
        volume=np.full(n, 10),
        session=days,
        to_close_sec=(SESSION_BARS - 1 - np.arange(n) % SESSION_BARS) * 60,
        contract=contract,
        contracts=names,
        shift=np.array([0.0, -gap / 100]),
        left_at=np.array([np.nan, (open_[roll][0] - gap) / 100 if roll.any() else np.nan]),
        roll_table=rolls,
        fingerprint="f" * 64,
        synthetic=synthetic,
        provenance={"facts": {"world": world}} if synthetic else {"file": "real.dbn"},
    )


def simulated(bars: Bars, span: int = 60) -> Result:
    """Always ±1 contract with the sign of the close against its mean of `span` bars; next-open
    fills with costs, rolls included.
    """
    ticks, n = bars.ticks, len(bars)
    mean = pd.Series(bars.adjusted["close"]).rolling(span).mean().to_numpy()
    target = np.nan_to_num(np.sign(bars.adjusted["close"] - mean)).astype(np.int64)
    position = np.concatenate([[0], target[:-1]])
    before = np.concatenate([[0], position[:-1]])
    records: list[tuple[Any, ...]] = []
    for i in np.flatnonzero((before != position) | (bars.roll & (before != 0))):
        held = before[i]
        if bars.roll[i] and held:
            records.append(
                (
                    i,
                    0,
                    -held,
                    bars.left_ticks[bars.contract[i]] - np.sign(held) * SLIP,
                    SLIP,
                    FILL_REASONS.index("roll"),
                    0,
                    0,
                )
            )
            records.append(
                (
                    i,
                    1,
                    held,
                    ticks["open"][i] + np.sign(held) * SLIP,
                    SLIP,
                    FILL_REASONS.index("roll"),
                    held,
                    0,
                )
            )
        if delta := position[i] - held:
            records.append(
                (
                    i,
                    bars.contract[i],
                    delta,
                    ticks["open"][i] + np.sign(delta) * SLIP,
                    SLIP,
                    0,
                    position[i],
                    0,
                )
            )
    fills = np.array(records, dtype=FILL)
    adjusted = {name: np.rint(values * 100) for name, values in bars.adjusted.items()}
    last = np.concatenate([[adjusted["open"][0]], adjusted["close"][:-1]])
    gross = before * (adjusted["open"] - last) + position * (adjusted["close"] - adjusted["open"])
    paid = np.bincount(fills["bar"], np.abs(fills["quantity"]) * (SLIP + COMMISSION), n)
    equity = CAPITAL + np.cumsum(gross - paid)
    traded = int(np.abs(fills["quantity"]).sum())
    return Result(
        bars,
        CAPITAL,
        cast("Curve", Drawn(equity)),
        changes(position, target, np.zeros(n, np.int64)),
        fills,
        _trades(fills, adjusted, position),
        traded * COMMISSION,
    )


def _trades(fills: Any, adjusted: dict[str, Any], position: Any) -> Any:
    """One round trip per reversal, priced on the continuous series."""
    turns = fills[fills["reason"] == 0]
    rows = []
    for i, entry in enumerate(turns):
        side = int(entry["position"])
        stop = int(turns["bar"][i + 1]) if i + 1 < len(turns) else len(position) - 1
        if side == 0:
            continue
        start = int(entry["bar"])
        paid = adjusted["open"][start] + side * SLIP
        is_last = i + 1 == len(turns)
        got = adjusted["close"][-1] if is_last else adjusted["open"][stop] - side * SLIP
        low, high = (
            adjusted["low"][start:stop].min(initial=paid),
            adjusted["high"][start:stop].max(initial=paid),
        )
        worst, best = sorted(((low - paid) * side, (high - paid) * side))
        rows.append(
            (
                start,
                stop,
                side,
                paid,
                got,
                (got - paid) * side,
                COMMISSION * (1 if is_last else 2),
                min(worst, 0),
                max(best, 0),
                FILL_REASONS.index("end") if is_last else 0,
                0,
            )
        )
    return np.array(rows, dtype=TRADE)


def view_of(result: Result, **changes: Any) -> RunView:
    config = (
        CONFIG
        if result.bars.synthetic
        else CONFIG | {"data": {"source": "databento", "path": "raw"}}
    )
    facts = {
        "git commit": "0123456789abcdef",
        "git dirty": "false",
        "config sha256": "a" * 64,
        "versions": {"numpy": np.__version__},
    }
    given: dict[str, Any] = {
        "title": "ema_cross f10 s30",
        "config": config,
        "overrides": ["strategy.fast=10", "risk=fixed"],
        "metrics": summary(result),
    }
    return RunView(
        **(given | {"result": result, "provenance": facts, "run_id": "8f0c7f0e"} | changes)
    )


@pytest.fixture(scope="session")
def month() -> Result:
    """20 sessions with a roll in the middle."""
    return simulated(walk(20 * SESSION_BARS))


@pytest.fixture(scope="session")
def make_view() -> Callable[..., RunView]:
    return view_of
