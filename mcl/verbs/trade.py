"""registry, live."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from mcl import config, screen
from mcl.errors import MclError
from mcl.tracking import Store


def registry(args: Namespace) -> int:
    del args
    from mcl import promote as promotion

    versions = Store().versions(promotion.MODEL)
    shown = ("mcl.strategy", "run_id", "config_sha256", "promoted_at", "synthetic")
    rows = [[v.version, ", ".join(v.aliases) or "–", *(v.tags.get(k, "")[:12] for k in shown)] for v in versions]
    listed = [{"version": v.version, "aliases": v.aliases, "run_id": v.run_id, "tags": v.tags} for v in versions]
    columns = ["version", "aliases", "strategy", "run", "config", "when", "synthetic"]
    screen.answer({"versions": listed}, lambda: screen.table("registry", columns, rows, left=7))
    return 0


def live(args: Namespace) -> int:
    from mcl import schema
    from mcl.live.session import run_session

    foreign = [o for o in args.overrides if not o.lstrip("+~").startswith(("broker=", "broker."))]
    if foreign:
        raise MclError(f"{foreign[0]} may not be changed here: only broker and broker.* differ from the promoted configuration")
    broker = config.validate(schema.Broker, config.compose("live", args.overrides).raw["broker"], "broker")
    done = run_session(args.name, broker, store=Store(), root=config.root(), progress=not screen.quiet())
    data = {
        "run_id": done.run_id,
        "decisions": len(done.decisions),
        "orders": len(done.orders),
        "fills": len(done.fills),
        "differences": done.differences.to_dict("records"),
        "report": done.report,
    }
    screen.answer(data, lambda: _session(done))
    return 1 if len(done.differences) else 0


def _session(done: Any) -> None:
    screen.table("session", ["", "value"], done.facts.items(), left=2)
    if len(done.differences):
        columns = list(done.differences.columns)
        screen.table("differences from the backtest of the same bars", columns, done.differences.to_numpy().tolist(), left=len(columns))
    else:
        screen.say(f"all {len(done.decisions)} decisions and {len(done.fills)} fills equal the backtest of the same bars")
    screen.say(f"run {done.run_id} · report {done.report}")
