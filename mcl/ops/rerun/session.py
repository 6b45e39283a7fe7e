"""A session made again: its audit, from the journal that lies with its run, by the version that
traded it.
"""

from __future__ import annotations

import io
import math
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from mcl.base.differences import Differences, differences
from mcl.base.words import many
from mcl.live.audit.compare import audit
from mcl.live.audit.record import FRAMES, recorded_session, session_facts
from mcl.ops.rerun.result import Again
from mcl.tracking import provenance
from mcl.tracking.backtest_run import parquet
from mcl.tracking.project import Project
from mcl.tracking.store import StoredRun


def session(stored: StoredRun, project: Project) -> Again:
    """Every table of the audit and every number, bit by bit. The market is not asked again: the
    journal has its answers.
    """
    with tempfile.TemporaryDirectory(prefix="mcl-rerun-") as folder:
        journal = Path(folder) / "journal.sqlite"
        journal.write_bytes(stored.file("journal.sqlite"))
        past = recorded_session(
            journal,
            stored.tags["mcl.alias"],
            date.fromisoformat(stored.tags["session"]),
            project=project,
        )
        audited = audit(journal, past.deployed, past.strategy, past.stage, past.exact_prices)
    facts = session_facts(past.deployed, past.stage, past.where, audited)
    now = {
        name: float(value)
        for name, value in facts.items()
        if isinstance(value, int | float) and name != "seconds"
    }
    then = {name: value for name, value in stored.summary.items() if name != "seconds"}
    differing = differences(
        then, {name: value for name, value in now.items() if name in then or math.isfinite(value)}
    )
    for name in FRAMES:
        differing |= _table(
            name, stored.file(f"data/{name}.parquet"), parquet(getattr(audited, name))
        )
    sentence = (
        f"audit {facts['audit']}: {many(len(audited.decisions), 'decision')},"
        f" {many(len(audited.fills), 'fill')} and {many(len(then), 'number')} bit-equal"
    )
    return Again(
        stored.run_id,
        "session",
        sentence,
        differing,
        _moved(stored, past.stage.warmup.fingerprint, past.deployed.config.strategy),
    )


def _table(name: str, then: bytes, now: bytes) -> Differences:
    """The first cell that is not the same; both sides have been through the file format."""
    before, after = (pd.read_parquet(io.BytesIO(content)) for content in (then, now))
    if before.equals(after):
        return {}
    if before.shape != after.shape:
        return {f"{name} (rows, columns)": [before.shape, after.shape]}
    unequal = ~((before == after) | (before.isna() & after.isna()))
    row, column = next(
        (row, column) for column in unequal for row in unequal.index[unequal[column]]
    )
    return {f"{name} row {row} {column}": [before.at[row, column], after.at[row, column]]}


def _moved(stored: StoredRun, fingerprint: str, strategy: dict[str, Any]) -> tuple[str, ...]:
    data = (
        ()
        if stored.tags["data_fingerprint"] == fingerprint
        else ("data changed: the bars before the session are others",)
    )
    same = stored.tags["code_sha256"] == provenance.code_sha256(strategy)
    return data if same else (*data, "code changed: what decides is not what audited it then")
