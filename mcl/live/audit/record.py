"""Record the audit of a session as a run of the version that traded, with a page: after the
session, or again at any later time.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from mcl.base import progress
from mcl.base.errors import LiveError
from mcl.data.data_note import data_note
from mcl.live import session_setup as staging
from mcl.live.audit.basis import Basis
from mcl.live.audit.compare import Audit, audit
from mcl.live.audit.slippage import assumed_ticks, mean_ticks
from mcl.live.journal import read, snapshot
from mcl.live.ops import control_socket
from mcl.live.session_setup import Stage
from mcl.live.status_json import spread
from mcl.promotion.load import Deployable, of_version
from mcl.promotion.promoted_file import MODEL
from mcl.report.format import number
from mcl.report.theme import Link
from mcl.strategy import Strategy, build
from mcl.tracking import provenance, urls
from mcl.tracking.backtest_run import parquet
from mcl.tracking.naming import EXPERIMENT, MODEL_VIEW, NOTE, RUN
from mcl.tracking.project import Project
from mcl.tracking.store import Record, Store

STUDY = "live"
FRAMES = ("decisions", "orders", "fills", "differences", "slippage")
EMBEDDED = "embedded simulated TWS"
SERVED = "simulated TWS"  # one that runs by itself, on a port


@dataclass(frozen=True)
class AuditedSession:
    """The results of an audited session. `differences` is empty when every decision and fill equals
    the backtest of the same bars.
    """

    decisions: pd.DataFrame
    orders: pd.DataFrame
    fills: pd.DataFrame
    differences: pd.DataFrame  # columns of audit.DIFFERENCE
    run_id: str
    report: Path
    journal: Path
    facts: dict[str, Any]
    basis: Basis


def track_audit(
    journal: Path,
    deployed: Deployable,
    strategy: Strategy,
    stage: Stage,
    store: Store,
    *,
    where: str,
    exact_prices: bool,
    seconds: float = math.nan,
) -> AuditedSession:
    """Audit the journal and file the session under the version that traded. `where`: the broker;
    `seconds` that the session took.
    """
    progress.begin("holding it against the backtest")
    audited = audit(journal, deployed, strategy, stage, exact_prices)
    progress.begin("recording the session")
    served = where != EMBEDDED and any(
        entry.body.get("simulated") for entry in read(journal, ("begin",))
    )
    facts = session_facts(
        deployed, stage, f"{where} ({SERVED})" if served else where, audited, seconds
    )
    promoted = urls.run(deployed.run_id, "The promoted run", store.experiment_of(deployed.run_id))
    record = _record(deployed, stage, audited, facts, journal, promoted)
    run_id = store.record(
        record,
        lambda new_run_id: {
            "report.html": _page(
                deployed,
                stage,
                audited,
                facts,
                journal,
                [urls.run(new_run_id), urls.version(MODEL, deployed.version), promoted],
            )
        },
    )
    page = store.run(run_id).artifacts / "report.html"
    return AuditedSession(
        audited.decisions,
        audited.orders,
        audited.fills,
        audited.differences,
        run_id,
        page,
        journal,
        facts,
        audited.basis,
    )


@dataclass(frozen=True)
class RecordedSession:
    """A session read from its journal, with all that is needed to audit it."""

    deployed: Deployable
    strategy: Strategy
    stage: Stage
    where: str
    exact_prices: bool


def audit_again(name: str, day: date, *, project: Project) -> AuditedSession:
    """Audit the last session that `name` traded on this trade date once more, from its journal,
    with the version that traded it.

    The bars before the session come from the stored data, and those of the session for the basis.
    LiveError: there is no such journal, it is still being written, it does not say which version it
    was, or the vendor's bars have not arrived.
    """
    folder = control_socket.folder_of(project.root, name)
    journal = _journal(folder, day)
    if name in control_socket.running(project.root) and journal == max(
        folder.glob("*.sqlite"), key=lambda p: p.stat().st_mtime
    ):
        raise LiveError(
            f"session {day} of {name!r} is still running", f"mcl stop {name}, or wait for its end"
        )
    began = time.perf_counter()
    past = recorded_session(journal, name, day, project=project)
    seconds = time.perf_counter() - began
    return track_audit(
        journal,
        past.deployed,
        past.strategy,
        past.stage,
        project.store,
        where=past.where,
        exact_prices=past.exact_prices,
        seconds=seconds,
    )


def recorded_session(journal: Path, name: str, day: date, *, project: Project) -> RecordedSession:
    """The session of a journal, with the version that traded it and the stored bars before it.
    LiveError: it never began.
    """
    begin = next((entry.body for entry in read(journal, ("begin",))), None)
    if begin is None:
        raise LiveError(
            f"{journal} has no beginning: the session ended before both books were compared",
            "its last entry of kind state says why",
        )
    deployed = of_version(name, int(begin["version"]), project)
    strategy = build(deployed.config.strategy)
    replayed = begin.get("broker", "sim") == "sim"
    stage = _stage(deployed, day, strategy, project.root)
    stage = (
        stage
        if replayed
        else replace(stage, room=stage.room + sum(1 for _ in read(journal, ("bar",))))
    )
    where = EMBEDDED if replayed else f"account {begin['account']}"
    # orders are armed only where time passes
    exact = replayed and not any(True for _ in read(journal, ("armed",)))
    return RecordedSession(deployed, strategy, stage, where, exact)


def _stage(deployed: Deployable, day: date, strategy: Strategy, root: Path) -> Stage:
    try:
        return staging.replayed(deployed.config, day, strategy, root)
    except staging.SessionNotStored:
        again = f"mcl data download, then mcl live audit {day} {deployed.alias}"
        raise LiveError(f"the vendor's bars of session {day} are not stored yet", again) from None


def _journal(folder: Path, day: date) -> Path:
    """A replay may have been repeated: the last one."""
    journals = sorted(folder.glob(f"{day}*.sqlite"), key=lambda path: (len(path.name), path.name))
    if not journals:
        dates = sorted({path.stem[:10] for path in folder.glob("*.sqlite")})
        have = f"it traded on {', '.join(dates[-5:])}" if dates else "it has never traded here"
        raise LiveError(
            f"{folder.name!r} has no session {day}: {have}", f"mcl live audit DATE {folder.name}"
        )
    return journals[-1]


def session_facts(
    deployed: Deployable, stage: Stage, where: str, audited: Audit, seconds: float = math.nan
) -> dict[str, Any]:
    """The key figures of the session, also shown on its page."""
    equity = audited.decisions["equity_usd"].dropna()
    mark = data_note(stage.warmup)
    return {
        "version": f"{deployed.alias} v{deployed.version} (run {deployed.run_id})",
        "session": str(stage.date),
        "contract": stage.contract.symbol,
        "broker": where,
        **({"data": mark} if mark else {}),
        **(
            {}
            if _code_as_promoted(deployed)
            else {"code": "not the code that was promoted: what decides has changed since"}
        ),
        "bars": len(audited.result.bars),
        "decisions": int(audited.decisions["target"].notna().sum()),
        "orders": len(audited.orders),
        "fills": len(audited.fills),
        "differences": len(audited.differences),
        "unexplained": audited.unexplained,
        "audit": "failed" if audited.failed else "passed",
        "net_pnl_usd": float(equity.iloc[-1] - audited.start_usd) if len(equity) else math.nan,
        "backtest_net_pnl_usd": audited.result.net_pnl_usd,
        **_commission(deployed, audited),
        "slippage_ticks": mean_ticks(audited.slippage),
        "assumed_slippage_ticks": assumed_ticks(audited.slippage, deployed.config.costs),
        **_times(audited),
        **_basis_facts(audited.basis),
        "seconds": round(seconds, 2),
    }


def _commission(deployed: Deployable, audited: Audit) -> dict[str, float]:
    """Commission as charged, and as the promoted costs have it for the same contracts."""
    charged = float(audited.fills["commission_usd"].astype(float).sum())
    contracts = int(audited.fills["quantity"].astype(int).abs().sum())
    configured = contracts * deployed.config.costs.side_usd
    return {
        "commission_usd": charged,
        "configured_commission_usd": round(configured, 10),
        "commission_above_configured_usd": round(charged - configured, 10),
    }


def _times(audited: Audit) -> dict[str, float]:
    """Medians and 99 % of the wait for the message of a close, and from that message to the
    order.
    """
    facts: dict[str, float] = {}
    for name, values in (
        ("close_to_message_sec", audited.close_delay_sec),
        ("message_to_order_ms", audited.latency_ms),
    ):
        quantiles = spread(values)
        if quantiles["count"]:
            facts |= {f"{name}_p50": quantiles["p50"], f"{name}_p99": quantiles["p99"]}
    return facts


def _basis_facts(basis: Basis) -> dict[str, Any]:
    if basis.note:
        return {"basis": basis.note}
    return {
        "bars_only_broker": basis.only_live,
        "bars_only_vendor": basis.only_vendor,
        "data_decisions": basis.differ,
        "data_decisions_frac": basis.decisions_frac,
    }


def _page(
    deployed: Deployable,
    stage: Stage,
    audited: Audit,
    facts: dict[str, Any],
    journal: Path,
    links: list[Link],
) -> bytes:
    from mcl.report.audit import BasisTable, session_page

    promoted = {
        "content_sha256": deployed.content_sha256,
        "config_sha256": deployed.provenance["config_sha256"],
    }
    return session_page(
        audited.decisions,
        audited.fills,
        audited.differences,
        facts | promoted | {"journal": str(journal)},
        title=_title(deployed, stage),
        data_note=data_note(stage.warmup),
        slippage=audited.slippage,
        basis=BasisTable(audited.basis.note, audited.basis.table, _basis_facts(audited.basis)),
        links=links,
    ).encode()


def _title(deployed: Deployable, stage: Stage) -> str:
    return f"{deployed.alias} v{deployed.version} · {stage.date}"


def _note(deployed: Deployable, facts: dict[str, Any], promoted: Link) -> str:
    """The session's description in MLflow, in Markdown."""
    here, data = f"#/experiments/{EXPERIMENT}/runs", facts.get("data")
    version = f"[version {deployed.version}](#/models/{MODEL}/versions/{deployed.version})"
    live, again = (number(facts[name], "usd") for name in ("net_pnl_usd", "backtest_net_pnl_usd"))
    parts = [
        (
            f"**Audit {facts['audit']}.** {facts['decisions']:,} decisions, {facts['fills']:,}"
            f" fills, {facts['differences']:,} differences, {facts['unexplained']:,} of them"
            f" unexplained. Net {live} USD, the backtest of the same bars {again} USD."
        ),
        *([f"**{data}**"] if data else []),
        (
            f"[Page of the session]({here}/{RUN}/artifacts/report.html?{MODEL_VIEW}) · {version} ·"
            f" [the promoted run](#{promoted.href.partition('#')[2]})"
        ),
    ]
    return "\n\n".join(parts)


def _record(
    deployed: Deployable,
    stage: Stage,
    audited: Audit,
    facts: dict[str, Any],
    journal: Path,
    promoted: Link,
) -> Record:
    title, mark = _title(deployed, stage), data_note(stage.warmup)
    frames = {name: getattr(audited, name) for name in FRAMES} | {"basis": audited.basis.table}
    return Record(
        study=STUDY,
        name=title,
        params={key: facts[key] for key in ("version", "session", "contract", "broker")},
        metrics={
            key: float(value) for key, value in facts.items() if isinstance(value, int | float)
        },
        tags=_tags(deployed, stage, facts)
        | {NOTE: _note(deployed, facts, promoted)}
        | ({"watermark": mark} if mark else {}),
        files={f"data/{name}.parquet": parquet(frame) for name, frame in frames.items()}
        | {"journal.sqlite": snapshot(journal)},
        status="FAILED" if audited.failed else "FINISHED",
        seconds=facts["seconds"] if math.isfinite(facts["seconds"]) else 0.0,
    )


def _tags(deployed: Deployable, stage: Stage, facts: dict[str, Any]) -> dict[str, str]:
    return {
        "mcl.kind": "session",
        "mcl.alias": deployed.alias,
        "mcl.version": str(deployed.version),
        "mcl.promoted_run": deployed.run_id,
        "mcl.strategy": deployed.config.strategy["name"],
        "session": facts["session"],
        "config_sha256": deployed.provenance["config_sha256"],
        "content_sha256": deployed.content_sha256,
        "data_fingerprint": stage.warmup.fingerprint,
        "code_sha256": provenance.code_sha256(deployed.config.strategy),
        "code_as_promoted": str(_code_as_promoted(deployed)).lower(),
        "synthetic": str(stage.warmup.synthetic).lower(),
    }


def _code_as_promoted(deployed: Deployable) -> bool:
    return provenance.code_sha256(deployed.config.strategy) == str(
        deployed.provenance["code_sha256"]
    )
