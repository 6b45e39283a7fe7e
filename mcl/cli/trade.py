"""live, live audit."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import MclError, StoreError, UsageError
from mcl.base.words import many
from mcl.tracking.project import Project
from mcl.tracking.store import Store

if TYPE_CHECKING:
    from mcl.config import schema
    from mcl.live.ops.monitoring import Operations


def live(args: Namespace) -> int:
    from mcl.config import schema
    from mcl.live import override_policy
    from mcl.live.ops.monitoring import Operations
    from mcl.live.session import run_session
    from mcl.promotion.load import promoted

    args.name = promoted_name("live", args.name)
    raw = composition.compose("live", override_policy.own(args.overrides)).raw
    broker = composition.validate(schema.BrokerConfig, raw["broker"], "broker")
    if len(override_policy.own(args.overrides)) < len(args.overrides):
        try:
            config = promoted(args.name, Project.current()).config
        except MclError:
            config = None  # the difference cannot be told; the refusal holds
        cap = override_policy.caps(args.overrides, config)
        broker = broker.model_copy(update={"max_contracts": cap})
    alerts, telemetry = (
        composition.validate(schema.Alerts, raw["alerts"], "alerts"),
        composition.validate(schema.Telemetry, raw["telemetry"], "telemetry"),
    )
    operations = Operations(alerts, telemetry)
    if args.stay:
        return _stay(args, broker, operations)
    return _report_session(
        run_session(
            args.name,
            broker,
            operations,
            project=Project.current(),
            progress=not terminal.quiet(),
        )
    )


def promoted_name(verb: str, typed: str | None) -> str:
    """The promoted name of a command line. UsageError with those that there are where none is
    typed, StoreError where nothing is promoted at all.
    """
    from mcl.promotion.promoted_file import MODEL, PREVIOUS

    if typed and "=" not in typed:
        return typed
    aliases = {alias for version in Store().versions(MODEL) for alias in version.aliases}
    names = sorted(aliases - {PREVIOUS})
    if not names:
        raise StoreError(
            f"nothing is promoted yet, so mcl {verb} has no version to take",
            "mcl promote RUN --to paper judges a run and promotes it; mcl runs lists them",
        )
    raise UsageError(
        f"mcl {verb} needs the promoted name before everything else: {' or '.join(names)}",
        f"mcl {verb} {names[0]}",
    )


def _stay(args: Namespace, broker: schema.BrokerConfig, operations: Operations) -> int:
    """Session after session; exit code 0 when somebody said stop."""
    from mcl.data.download.plan import DownloadTerms
    from mcl.live.service import serve

    if not 0 <= args.fetch_max_cost < float("inf"):
        raise MclError(
            f"--fetch-max-cost {args.fetch_max_cost} is no price in USD; for instance 1, or 0 to"
            " fetch nothing"
        )
    terms = DownloadTerms(max_cost_usd=args.fetch_max_cost) if args.fetch_max_cost else None
    audits = serve(args.name, broker, operations, project=Project.current(), terms=terms)
    rows = [list(asdict(done).values()) for done in audits]
    data = {"audits": [asdict(done) for done in audits]}
    terminal.answer(
        data,
        lambda: terminal.table(
            "sessions", ["session", "run", "audit", "unexplained"], rows, left=3
        ),
    )
    return 0


def audit(args: Namespace) -> int:
    """A session of the past, from its journal, once more."""
    from mcl.live.audit.record import audit_again

    try:
        day = date.fromisoformat(args.date)
    except ValueError:
        raise MclError(f"{args.date!r} is no trade date, YYYY-MM-DD") from None
    return _report_session(audit_again(args.name, day, project=Project.current()))


def _report_session(done: Any) -> int:
    """Exit code 1 when the audit failed; what a pause, a guard or the market's own prices explain
    is no defect.
    """
    data = {
        "run_id": done.run_id,
        "decisions": len(done.decisions),
        "orders": len(done.orders),
        "fills": len(done.fills),
        "differences": done.differences.to_dict("records"),
        "unexplained": done.facts["unexplained"],
        "basis": _basis(done.basis),
        "report": done.report,
    }
    terminal.answer(data, lambda: _session(done))
    return 1 if done.facts["audit"] == "failed" else 0


def _basis(basis: Any) -> dict[str, Any]:
    """Return the comparison of the broker's bars with the vendor's, as JSON."""
    return {
        "note": basis.note,
        "fields": basis.table.to_dict("records"),
        "only_live": basis.only_live,
        "only_vendor": basis.only_vendor,
        "decisions": basis.decisions,
        "differ": basis.differ,
        "decisions_frac": basis.decisions_frac,
    }


def _session(done: Any) -> None:
    terminal.table("session", ["", "value"], done.facts.items(), left=2)
    if len(done.differences):
        columns = list(done.differences.columns)
        terminal.table(
            "differences from the backtest of the same bars",
            columns,
            done.differences.to_numpy().tolist(),
            left=len(columns),
        )
    else:
        decisions, fills = many(len(done.decisions), "decision"), many(len(done.fills), "fill")
        terminal.say(f"{decisions} and {fills}: all equal the backtest of the same bars")
    if len(done.basis.table):
        names = list(done.basis.table.columns)
        terminal.table(
            "the broker's bars less the vendor's",
            names,
            done.basis.table.to_numpy().tolist(),
            left=1,
        )
    terminal.say(f"run {done.run_id} · report {done.report}")
