"""Collect what an alias has earned so far, the band that its version may be expected to earn, and
the verdict of every audit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mcl.base.errors import MclError
from mcl.base.terminal import plain
from mcl.live import journal_queries
from mcl.live.ops import control_socket
from mcl.promotion.load import promoted
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun

STUDY = "live"
BAND_SESSIONS = 260


def record(project: Project, alias: str) -> dict[str, Any]:
    """JSON-ready: `names` that can be shown, `audits` of all sessions, `sessions` and `band` of
    the version that is promoted now.
    """
    if not project.store.exists:  # a look does not make a store
        return {
            "names": _names(project.root),
            "audits": [],
            "sessions": [],
            "band": None,
            "note": "Nothing has been tracked yet.",
        }
    runs = [
        run
        for run in project.store.in_study(STUDY)
        if run.tags.get("mcl.kind") == "session" and run.tags.get("mcl.alias") == alias
    ]
    audits = [_audit(run) for run in reversed(_last_of_each_session(runs))]
    content, band, note = _expected(project, alias)
    answer: dict[str, Any] = plain(
        {
            "names": _names(project.root),
            "audits": audits,
            "sessions": [row for row in audits if row["content"] == content],
            "band": band,
            "note": note,
        }
    )
    return answer


def _names(root: Path) -> list[str]:
    return sorted({*control_socket.running(root), *journal_queries.aliases(root)})


def _last_of_each_session(runs: list[StoredRun]) -> list[StoredRun]:
    """Newest first, of a session that was repeated or audited again the last run."""
    latest: dict[str, StoredRun] = {}
    for run in runs:  # newest first
        if run.status != "RUNNING":
            latest.setdefault(f"{run.tags.get('session')} {run.tags.get('mcl.version')}", run)
    return sorted(latest.values(), key=lambda run: run.tags.get("session", ""), reverse=True)


def _audit(run: StoredRun) -> dict[str, Any]:
    value = run.metrics.get
    differences, unexplained = value("differences", math.nan), value("unexplained", math.nan)
    return {
        "session": run.tags.get("session"),
        "version": run.tags.get("mcl.version"),
        "content": run.tags.get("content_sha256"),
        "run_id": run.run_id,
        **{
            name: value(name, math.nan)
            for name in ("net_pnl_usd", "backtest_net_pnl_usd", "slippage_ticks")
        },
        "differences": differences,
        "unexplained": unexplained,
        "verdict": verdict(differences, unexplained),
    }


def verdict(differences: float, unexplained: float) -> str:
    if math.isnan(differences):
        return "not audited"
    if not differences:
        return "equal"
    return f"{unexplained:g} unexplained" if unexplained else "explained"


def _expected(project: Project, alias: str) -> tuple[str, dict[str, Any] | None, str]:
    """Content hash of the promoted version, the beginning of its band, and a sentence on it."""
    try:
        deployed = promoted(alias, project)
        band = deployed.band()
    except MclError as error:
        return "", None, f"No band: {error.message}."
    if band is None:
        return (
            deployed.content_sha256,
            None,
            "The backtest has too few sessions to draw a band from.",
        )
    first = {name: getattr(band, name)[:BAND_SESSIONS] for name in ("low", "median", "high")}
    note = (
        f"By session, USD: {band.confidence:.0%} of the histories drawn from"
        f" {band.backtest_sessions} sessions of its backtest stay inside."
    )
    return deployed.content_sha256, {name: values.tolist() for name, values in first.items()}, note
