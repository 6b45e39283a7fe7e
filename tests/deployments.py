"""A project folder with one CSV of minute bars and a run on it: what promotion and live sessions
start from.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcl import composition
from mcl.base.instants import NS
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.market import calendar
from mcl.tracking import backtest_run
from mcl.tracking.project import Project as TrackedProject
from mcl.tracking.store import Store

FIRST, END, HOLDOUT = date(2025, 10, 27), date(2025, 11, 13), date(2025, 11, 11)
OPEN_GATES = Promotion(
    min_trades=1,
    min_sessions=1,
    max_drawdown_frac=0.99,
    max_sharpe=None,
    max_trade_share=None,
    max_session_share=None,
    min_deflated_sharpe=0.0,
    min_holdout_trades=1,
    min_holdout_sharpe=-1e9,
    min_holdout_sharpe_high=None,
    max_p_value=None,
)


class Project(TrackedProject):
    def config(
        self,
        strategy: dict[str, Any] | None = None,
        risk: dict[str, Any] | None = None,
        interval: str = "1m",
        **data: Any,
    ) -> schema.Config:
        raw = {
            "data": {
                "source": "csv",
                "path": f"walk-{interval}.csv",
                "interval": interval,
                "stamped_at": "close",
                "timezone": "UTC",
                "columns": {
                    name: name
                    for name in ("time", "open", "high", "low", "close", "volume", "symbol")
                },
                "holdout_start": str(HOLDOUT),
                **data,
            },
            "strategy": strategy or {"name": "ema_cross", "fast": 10, "slow": 30},
            "risk": risk or {"size": {"method": "fixed", "contracts": 1.0}},
            "costs": {"slippage_ticks": 1.0, "commission_usd": 0.77},
            "study": "test",
        }
        return composition.run_config(raw)

    def run(self, run: schema.Config | None = None) -> str:
        return backtest_run.backtest(run or self.config(), project=self, report=False).run_id


def project(folder: Path, empty_store: Path) -> Project:
    """A fresh project; `empty_store` is a migrated run store without runs, since making one takes
    seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(empty_store, folder / "mlruns")
    write_walks(folder)
    return Project(folder, Store(folder))


def write_walks(folder: Path) -> None:
    for minutes in (1, 5, 15):
        walk(minutes).to_csv(folder / f"walk-{minutes}m.csv", index=False)


def empty_store(folder: Path) -> Path:
    Store(folder).in_study("none")
    return folder / "mlruns"


def walk(minutes: float, seed: int = 3) -> pd.DataFrame:
    """Bars of one contract in whole sessions, in ticks of 0.01 around 60, with gaps between a close
    and the next open.
    """
    rng = np.random.default_rng(seed)
    sessions, step = calendar.sessions(FIRST, END), int(minutes * 60) * NS
    closes = np.concatenate(
        [
            np.arange(a + step, b + 1, step)
            for a, b in zip(sessions.open_ns, sessions.close_ns, strict=True)
        ]
    )
    path = 6_000 + np.cumsum(np.rint(rng.normal(0.0, 1.5, 2 * len(closes)))).reshape(-1, 2)
    wicks = np.rint(rng.exponential(1.0, (len(closes), 2)))
    ticks = {
        "open": path[:, 0],
        "high": path.max(axis=1) + wicks[:, 0],
        "low": path.min(axis=1) - wicks[:, 1],
        "close": path[:, 1],
    }
    prices = {name: np.round(values * 0.01, 2) for name, values in ticks.items()}
    times = pd.to_datetime(closes, utc=True).strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame(
        {"time": times, **prices, "volume": rng.integers(1, 50, len(closes)), "symbol": "MCLF6"}
    )
