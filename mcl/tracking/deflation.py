"""The deflation of stored runs by what the trial ledger holds now.

It reads the ledger and what a run stored, and nothing that simulates: a list of runs must not wait
for the engine.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from mcl import composition
from mcl.base.differences import differences
from mcl.metrics import performance as perf
from mcl.metrics.overfit import AT_RUN, Luck
from mcl.tracking import trial_ledger
from mcl.tracking.records import StoredRun

MEASURED = ("sharpe", "sessions", "skew", "kurtosis")  # that a deflation needs
DEFLATED = ("backtest", "trial", "walk_forward")  # kinds of runs


def pool_of(stored: StoredRun) -> trial_ledger.TrialPool | None:
    """The pool of the trial ledger that a stored run belongs to."""
    return trial_ledger.trial_pool(composition.flatten(json.loads(stored.file("config.json"))))


def luck_of(stored: StoredRun, root: Path) -> Luck | None:
    """The deflation of a stored run by what the trial ledger holds now; None of what is no backtest
    with a Sharpe ratio.
    """
    measured = {name: stored.metrics.get(name, math.nan) for name in MEASURED}
    if stored.tags.get("mcl.kind") not in DEFLATED or math.isnan(measured["sessions"]):
        return None
    where = pool_of(stored)
    if where is None:
        return None
    # stitched of trials that were counted, it is none
    itself = stored.tags["mcl.kind"] != "walk_forward"
    own_row = (
        {trial_ledger.stored_identity(stored.tags): perf.per_session(measured["sharpe"])}
        if itself
        else {}
    )
    return trial_ledger.tally(root, where, own_row).luck(measured)


def today(stored: StoredRun, luck: Luck | None) -> dict[str, float]:
    """The metrics of a stored run as they are shown: what it measured, and the deflation of today
    in place of that of its own day.
    """
    measured = {
        name: value
        for name, value in stored.summary.items()
        if name not in (*AT_RUN, *AT_RUN.values())
    }
    return measured | (luck.metrics if luck else {})


def that_day(stored: StoredRun) -> dict[str, float]:
    """The deflation that a run stored when it was made, under names that say so; version 0.1 stored
    it under those of today's.
    """
    return {
        new: stored.metrics[name]
        for old, new in AT_RUN.items()
        for name in (old, new)
        if name in stored.metrics
    }


def report_page(stored: StoredRun, luck: Luck | None, root: Path) -> Path | None:
    """The report page of a stored run; None where it has none. Where the trial ledger has grown
    since the page was drawn, it is drawn again. The old one, which says when it counted, stays
    where that cannot be done.
    """
    page = stored.artifacts / "report.html"
    if not page.is_file():
        return None
    if (
        luck is None
        or stored.tags.get("mcl.kind") == "walk_forward"
        or not differences(luck.at_run, that_day(stored))
    ):
        return page
    from mcl.tracking.backtest_run import page_again

    return page_again(stored, luck, root) or page
