"""`mcl validate`: run every check on one run and record the answers as its child run."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mcl.base import progress
from mcl.base.terminal import plain
from mcl.config import schema
from mcl.data.data_note import data_note
from mcl.metrics import performance as perf
from mcl.metrics.overfit import effective_rank, min_track_record, n_effective
from mcl.tracking import provenance
from mcl.tracking.project import Project
from mcl.tracking.store import Record
from mcl.validation import holdout, stress, verdict
from mcl.validation.checks import Answers, ask, numbers, path_sharpes
from mcl.validation.selection import pick
from mcl.validation.subject import subject
from mcl.validation.verdict import Row
from mcl.validation.view import view


@dataclass(frozen=True)
class Validated:
    run_id: str  # of the child run that holds the answers
    subject_id: str
    level: str
    rows: list[Row]
    report: Path
    answers: Answers


def validate(
    run_id: str, settings: schema.Validation, *, project: Project, choice: str = ""
) -> Validated:
    """Validate a run, or the choice of a search, and record the answers as its child run with a
    page. `choice` says why this run of a search.
    """
    verdict.table({}, settings.rules)
    began = time.perf_counter()
    picked = pick(project.store.run(run_id), project=project)
    choice = choice or picked.why
    about = subject(picked.run_id, project)
    answers = ask(
        about,
        settings,
        project.root,
        lambda: holdout.look(about.run, about.stored.run_id, project.root),
    )
    rows = verdict.table(numbers(answers, settings), settings.rules)
    level = verdict.overall(rows)
    progress.begin("recording the run")
    record = _record(answers, rows, level, settings, choice)
    record = replace(record, seconds=time.perf_counter() - began)

    def files(child_id: str) -> dict[str, bytes]:
        progress.begin("drawing the page")
        from mcl.report.validation import validation_page

        page = validation_page(view(answers, rows, child_id, choice))
        return {"validation.html": page.encode()}

    answers_id = project.store.record(record, files)
    return Validated(
        answers_id,
        about.stored.run_id,
        level,
        rows,
        project.store.artifacts(answers_id) / "validation.html",
        answers,
    )


# ------------------------------------------------------------------------------------------- record


def _record(
    a: Answers, rows: list[Row], level: str, settings: schema.Validation, choice: str
) -> Record:
    about = a.subject
    facts = {
        "verdict": level,
        "mcl.kind": "validation",
        "subject": about.stored.run_id,
        **({"choice": choice} if choice else {}),
        "holdout_looks": str(a.look.number),
    }
    own = provenance.tags(about.run, about.bars)
    copied = ("config_sha256", "data_fingerprint", "code_sha256", "seed", "synthetic", "watermark")
    facts |= {
        key: value for key, value in own.items() if key in copied or key.startswith("version.")
    }
    return Record(
        study=about.run.study,
        name=f"validation · {about.stored.name}",
        params={
            f"validate.{k}": v for k, v in settings.model_dump(mode="json").items() if k != "rules"
        },
        metrics=measured(a, rows),
        tags=facts,
        files={
            "validation.json": json.dumps(_facts(a, rows, level), indent=1).encode(),
            "settings.json": json.dumps(settings.model_dump(mode="json"), indent=1).encode(),
            **_tables(a),
            **provenance.inputs(about.run, about.bars),
        },
        parent=about.stored.run_id,
    )


def measured(a: Answers, rows: list[Row]) -> dict[str, float]:
    """The metrics of a validation: the number behind every rule, and the extra ones."""
    return {f"validate_{row.name}": row.value for row in rows if math.isfinite(row.value)} | _extra(
        a
    )


def _extra(a: Answers) -> dict[str, float]:
    m = perf.moments(a.subject.result.session_returns)
    values = {
        "trials": float(a.tally.count),
        "trials_effective": n_effective(a.sample.returns),
        "trials_effective_rank": effective_rank(a.sample.returns),
        "best_by_luck": a.luck.best_by_luck,
        "min_track_record_sessions": min_track_record(m.sharpe, m.skew, m.kurtosis),
        "break_even_ticks": stress.break_even_ticks(a.subject.result),
        "holdout_looks": float(a.look.number),
        "pbo_slope": a.pbo.slope,
    }
    return {f"validate_{name}": value for name, value in values.items() if math.isfinite(value)}


def _facts(a: Answers, rows: list[Row], level: str) -> dict[str, Any]:
    """Return the content of validation.json: plain JSON, NaN as null."""
    facts: dict[str, Any] = plain(
        {
            "verdict": level,
            "watermark": data_note(a.subject.bars),
            "rows": [vars(row) for row in rows],
            "cases": [vars(case) for case in (*a.costs, *a.delays, *a.rolls)],
            "regimes": [vars(regime) for regime in a.regimes],
            "plateau": {
                "centre": a.plateau.centre,
                "drop": a.plateau.drop,
                "edges": a.plateau.edges,
                "neighbours": a.plateau.neighbours,
            },
            "walk_forward": {
                n: w.chosen for n, w in (("anchored", a.anchored), ("rolling", a.rolling)) if w
            },
            "cpcv_sharpes": path_sharpes(a).tolist(),
            "drawdowns": {
                "median": a.bands.drawdown_quantile(0.5),
                "worst_of_twenty": a.bands.drawdown_quantile(0.95),
            },
            "extra": _extra(a),
        }
    )
    return facts


def _tables(a: Answers) -> dict[str, bytes]:
    sample = pd.DataFrame(a.sample.points).assign(
        sharpe=[perf.sharpe(column) for column in a.sample.returns.T]
    )
    tables = {"configurations.parquet": _parquet(sample)}
    days = a.subject.result.session_returns.index
    for name, walked in (("anchored", a.anchored), ("rolling", a.rolling)):
        if walked is not None:
            frame = pd.DataFrame({"session": days[walked.sessions], "return_frac": walked.returns})
            tables[f"walk_forward_{name}.parquet"] = _parquet(frame)
    return tables


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, compression="zstd", index=False)
    return buffer.getvalue()
