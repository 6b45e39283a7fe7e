"""A market whose edge is known, half-hourly bars of ten months, and the search and the validation
that run over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from mcl.base.instants import NS
from mcl.config import schema
from mcl.market import calendar
from mcl.tracking.project import Project
from mcl.validation import validate

FIRST, END, HOLDOUT = date(2024, 1, 2), date(2024, 11, 1), "2024-09-03"
FAST, SLOW, SHARPE, SESSION_TICKS = 12, 48, 6.0, 150.0
SETTINGS = schema.Validation(
    budget=14,
    folds=4,
    train_folds=2,
    cpcv_folds=5,
    blocks=8,
    rules={
        "deflated_sharpe": (0.95, 0.8),
        "walk_forward_anchored": (0.5, 0.0),
        "walk_forward_rolling": (0.5, 0.0),
        "cpcv_negative": (0.15, 0.5),
        "pbo": (0.3, 0.5),
        "spa": (0.05, 0.2),
        "timing": (0.05, 0.2),
        "holdout": (0.5, 0.0),
        "costs_doubled": (0.5, 0.0),
        "break_even": (2.0, 1.2),
        "plateau": (0.6, 0.3),
        "edge": (0, 2),
        "delay": (0.7, 0.3),
        "regime": (0.75, 1.0),
        "rolls": (0.6, 0.2),
        "drawdown": (0.35, 0.5),
        "history_ratio": (1.0, 0.5),
        "sharpe_low": (0.0, -1.0),
    },
)
SWEEP = (
    "data=csv",
    "data.path=market.csv",
    "data.interval=30m",
    "data.stamped_at=close",
    "data.timezone=UTC",
    f'data.holdout_start="{HOLDOUT}"',
    "strategy=ema_cross",
    "risk=fixed",
    "search.sampler=random",
    "search.min_trades=5",
    "search.trials=16",
    "strategy.fast=range(4, 28, 4)",
    "strategy.slow=range(24, 97, 12)",
)


def market(edge_sharpe: float = SHARPE, seed: int = 5) -> pd.DataFrame:
    """Bars whose drift has the sign of EMA(12) - EMA(48) one bar before."""
    sessions, step = calendar.sessions(FIRST, END), 1800 * NS
    closes = np.concatenate(
        [
            np.arange(a + step, b + 1, step)
            for a, b in zip(sessions.open_ns, sessions.close_ns, strict=True)
        ]
    )
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, SESSION_TICKS / 46**0.5, len(closes))
    drift = edge_sharpe * SESSION_TICKS / 252**0.5 / 46
    level, quick, slow, path = 0.0, 0.0, 0.0, np.empty(len(closes))
    for i, shock in enumerate(noise):
        level += shock + drift * np.sign(quick - slow)
        quick += (level - quick) * 2 / (FAST + 1)
        slow += (level - slow) * 2 / (SLOW + 1)
        path[i] = level
    close = 7_000 + np.rint(path)
    opened = np.concatenate([close[:1], close[:-1]])
    prices = {
        "open": opened,
        "high": np.maximum(opened, close),
        "low": np.minimum(opened, close),
        "close": close,
    }
    times = pd.to_datetime(closes, utc=True).strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame(
        {
            "time": times,
            **{k: np.round(v * 0.01, 2) for k, v in prices.items()},
            "volume": 100,
            "symbol": "MCLZ9",
        }
    )


@dataclass(frozen=True)
class Case:
    project: Project
    sweep_id: str
    validated: validate.Validated
