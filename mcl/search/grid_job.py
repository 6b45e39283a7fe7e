"""One job of a grid, and its run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.search.trial import DataCache, Outcome, session_days
from mcl.tracking import backtest_run
from mcl.tracking.project import Project
from mcl.tracking.store import Store

METRIC = "sharpe"  # by which the jobs of a grid are ranked


@dataclass(frozen=True)
class Job:
    """One point of the grid. `error` says why it is not a valid configuration."""

    number: int
    overrides: tuple[str, ...]
    params: dict[str, Any]  # what differs between the jobs
    run: schema.Config | None
    error: ConfigError | None = None


def run_job(job: Job, store: Store, grid_id: str, data_cache: DataCache) -> tuple[Outcome, str]:
    """The outcome of one valid job and the id of its run."""
    assert job.run is not None  # noqa: S101 - the others are not begun
    started = time.perf_counter()
    done = backtest_run.backtest(
        job.run,
        project=Project(data_cache.root, store),
        overrides=job.overrides,
        parent=grid_id,
        report=False,
        bars=data_cache.bars(job.run.data),
        extra_tags={"trial": str(job.number)},
    )
    outcome = Outcome(
        number=job.number,
        params=job.params,
        state="COMPLETE",
        value=done.metrics[METRIC],
        metrics=done.metrics,
        config=job.run.model_dump(mode="json"),
        data_fingerprint=done.bars.fingerprint,
        sessions=session_days(done.result),
        returns=done.result.session_returns.to_numpy(),
        seconds=time.perf_counter() - started,
    )
    return outcome, done.run_id
