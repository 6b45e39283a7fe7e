"""The live record of a version since its promotion: its sessions, from the runs that `mcl live`
tracked.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mcl.base.alert import Alert
from mcl.metrics.performance import Floats
from mcl.promotion.expected_band import Band, Exit, alert, deepest, outside
from mcl.tracking.store import Store, StoredRun

if TYPE_CHECKING:
    from mcl.promotion.load import Deployable

STUDY = "live"  # where mcl.live files its sessions


@dataclass(frozen=True)
class SessionRecord:
    """One session. Money in USD after costs, slippage in ticks per contract (positive: a cost)."""

    session: str  # trade date, ISO
    run_id: str
    experiment_id: str
    net_pnl_usd: float
    backtest_net_pnl_usd: float  # of the same bars
    fills: float
    slippage_ticks: float
    assumed_slippage_ticks: float
    differences: float
    unexplained: float  # NaN: not audited
    simulated: bool  # on a simulated TWS
    code_sha256: str

    @property
    def audit(self) -> str:
        """In one word or two."""
        if math.isnan(self.unexplained):
            return "not audited"
        if self.unexplained:
            return f"{self.unexplained:g} unexplained"
        return f"{self.differences:g} explained" if self.differences else "equal"


@dataclass(frozen=True)
class LiveRecord:
    """Sessions in the order of their trade dates; of one that was repeated, the last."""

    sessions: tuple[SessionRecord, ...] = ()

    @cached_property
    def net_pnl_usd(self) -> float:
        return sum(s.net_pnl_usd for s in self.sessions)

    @property
    def unexplained(self) -> float:
        """Differences that no cause was found for; NaN when a session has no audit."""
        return sum(s.unexplained for s in self.sessions)

    @property
    def audit(self) -> str:
        """In one word or two."""
        if not self.sessions:
            return "–"
        if math.isnan(self.unexplained):
            return "not audited"
        if self.unexplained:
            return f"{self.unexplained:g} unexplained"
        explained = sum(s.differences for s in self.sessions)
        return f"{explained:g} explained" if explained else "equal"

    @property
    def drawdown(self) -> Floats:
        """The deepest fall of the cumulative P&L so far, USD, by session."""
        falls: Floats = deepest(np.cumsum([[s.net_pnl_usd for s in self.sessions]], axis=1))[0]
        return falls

    @property
    def slippage_ticks(self) -> float:
        """Mean per fill; NaN where nothing was filled or measured."""
        return self._per_fill("slippage_ticks")

    @property
    def assumed_slippage_ticks(self) -> float:
        return self._per_fill("assumed_slippage_ticks")

    def left(self, band: Band | None) -> Exit | None:
        return None if band is None else outside(band, [s.net_pnl_usd for s in self.sessions])

    def _per_fill(self, name: str) -> float:
        measured = [
            (getattr(s, name), s.fills)
            for s in self.sessions
            if s.fills and not math.isnan(getattr(s, name))
        ]
        fills = sum(weight for _, weight in measured)
        return sum(value * weight for value, weight in measured) / fills if fills else math.nan


def records(store: Store) -> dict[str, LiveRecord]:
    """The live record of every version that has traded, by its content hash."""
    by_content: dict[str, dict[str, SessionRecord]] = {}
    # oldest first: the last of a repeated session stays
    for run in reversed(store.in_study(STUDY)):
        if (
            run.tags.get("mcl.kind") == "session"
            and run.status != "RUNNING"
            and "net_pnl_usd" in run.metrics
        ):
            by_content.setdefault(run.tags.get("content_sha256", ""), {})[run.tags["session"]] = (
                _session_record(run)
            )
    return {
        content: LiveRecord(tuple(days[day] for day in sorted(days)))
        for content, days in by_content.items()
    }


def band_alert(deployed: Deployable, store: Store) -> Alert | None:
    """The alert of a version whose sessions so far have left its expected band."""
    record = records(store).get(deployed.content_sha256, LiveRecord())
    band = deployed.band(len(record.sessions))
    pnl = [s.net_pnl_usd for s in record.sessions]
    return (
        None
        if band is None
        else alert(band, pnl, f"{deployed.alias} v{deployed.version}", time.time_ns())
    )


def is_simulated(run: StoredRun) -> bool:
    """Whether a session traded on a simulated TWS: the embedded one, or one that `mcl tws serve`
    runs.
    """
    return "simulated TWS" in run.params.get("broker", "")


def _session_record(run: StoredRun) -> SessionRecord:
    named = {
        name: run.metrics.get(name, math.nan)
        for name in ("backtest_net_pnl_usd", "slippage_ticks", "assumed_slippage_ticks")
    }
    differences = run.metrics.get("differences", math.nan)
    return SessionRecord(
        session=run.tags["session"],
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        net_pnl_usd=run.metrics["net_pnl_usd"],
        fills=run.metrics.get("fills", 0.0),
        differences=differences,
        unexplained=0.0 if differences == 0 else run.metrics.get("unexplained", math.nan),
        simulated=is_simulated(run),
        code_sha256=run.tags.get("code_sha256", ""),
        **named,
    )
