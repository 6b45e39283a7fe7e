"""A project folder with a small real data set (a random walk as CSV), a real store, and sweeps that
are run once and looked at often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcl import composition, search
from mcl.search.result import SweepResult
from mcl.tracking.project import Project as TrackedProject
from mcl.tracking.store import Store

SESSIONS, BARS = 40, 390
SMALL = (
    "data=csv",
    "data.path=walk.csv",
    "data.stamped_at=close",
    "data.timezone=UTC",
    "strategy=ema_cross",
    "risk=fixed",
    "risk.limits.max_daily_loss_usd=null",
    "search.min_trades=5",
    "search.trials=12",
    "strategy.fast=range(2, 40, 4)",
    "strategy.slow=range(10, 100, 10)",
)


def write_walk(path: Path, seed: int = 3) -> None:
    """Minute bars of `SESSIONS` business days, New York mornings, prices on the tick grid."""
    rng = np.random.default_rng(seed)
    n = SESSIONS * BARS
    day = np.repeat(pd.bdate_range("2024-02-01", periods=SESSIONS, tz="UTC").to_numpy(), BARS)
    time = pd.DatetimeIndex(day) + pd.to_timedelta(
        np.tile(np.arange(1, BARS + 1), SESSIONS) + 14 * 60, unit="min"
    )
    close = 7500 + np.cumsum(rng.integers(-4, 5, n))
    opened = np.concatenate([[7500], close[:-1]])
    high, low = (
        np.maximum(opened, close) + rng.integers(0, 3, n),
        np.minimum(opened, close) - rng.integers(0, 3, n),
    )
    prices = {
        name: np.round(ticks / 100, 2)
        for name, ticks in (("open", opened), ("high", high), ("low", low), ("close", close))
    }
    pd.DataFrame(
        {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ"), **prices, "volume": rng.integers(1, 50, n)}
    ).to_csv(path, index=False)


def measured(sweep_result: SweepResult) -> dict[str, float]:
    """What the best trial's own bars say of it: the metrics that count other trials grow with every
    test. NaN equals nothing: left out.
    """
    metrics = (sweep_result.best or {})["metrics"]
    return {
        name: value
        for name, value in metrics.items()
        if name in sweep_result.trials.columns and not math.isnan(value)
    }


class Project(TrackedProject):
    def sweep(self, *overrides: str) -> SweepResult:
        """`SMALL` with these overrides, which replace its own of the same key."""
        keys = {o.split("=")[0] for o in overrides}
        small = [o for o in SMALL if o.split("=")[0] not in keys]
        return self.search(composition.compose("sweep", [*small, *overrides]))

    def search(self, composed: composition.Composed) -> SweepResult:
        """A search without folds."""
        result = search.sweep(composed, project=self)
        assert isinstance(result, SweepResult)
        return result

    def resume(
        self, named: str, *, trials: int | None = None, amendments: list[str] | None = None
    ) -> SweepResult:
        """A search without folds, continued."""
        result = search.resume(named, project=self, trials=trials, amendments=amendments)
        assert isinstance(result, SweepResult)
        return result

    def grid(self, *overrides: str) -> SweepResult:
        own = [o for o in SMALL if not o.startswith(("search", "strategy.", "strategy="))]
        return search.grid([*own, *overrides], project=self)


@pytest.fixture(scope="module")
def project(home: Path) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(home))
        yield Project(home, Store(home))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_walk(root / "walk.csv")
    return root
