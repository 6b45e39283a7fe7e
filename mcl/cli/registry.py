"""promote, registry, rollback, promoted …: from a run to the version that a name stands for, and
back.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from mcl import composition
from mcl.base import access_recorder, progress, terminal
from mcl.base.errors import ConfigError, LiveError, nearest
from mcl.base.files import below
from mcl.base.undefined import is_undefined
from mcl.base.words import many
from mcl.cli.trade import promoted_name
from mcl.library import research as library
from mcl.tracking.project import Project
from mcl.tracking.store import Store


def promote(args: Namespace) -> int:
    from mcl.promotion.promote import GatesMissed

    rules = library.promotion_rules(args.overrides)  # a mistake in them is said first
    run_id, choice = library.chosen(args.run_id, args.trial)
    if choice:
        terminal.say(choice)
    try:
        done = library.promote(
            run_id,
            args.to,
            name=args.name,
            waive=args.waive,
            because=args.because,
            rules=rules,
        )
    except GatesMissed as refusal:
        if not terminal.quiet():
            _gates(refusal.table())
            _reads(refusal.reads)
            for note in refusal.notes:
                terminal.say(note)
        raise
    data = {
        "name": done.alias,
        "stage": done.stage,
        "version": done.version,
        "run_id": done.run_id,
        "gates": [g.as_dict() for g in done.gates],
        "notes": list(done.notes),
        "path": done.path,
        "content_sha256": done.content_sha256,
        "own_code_reads": list(done.reads),
        "choice": choice,
    }
    terminal.answer(data, lambda: _promoted(done))
    return 0


def _gates(gates: Any) -> None:
    terminal.table("gates", [*gates.columns], gates.to_numpy().tolist(), left=5)


def _reads(reads: tuple[str, ...]) -> None:
    if reads:
        terminal.say(access_recorder.sentence(reads))


def _promoted(done: Any) -> None:
    _gates(done.table())
    _reads(done.reads)
    for note in done.notes:
        terminal.say(note)
    terminal.say(
        f"version {done.version} is now {done.alias!r} · {done.path} · next: mcl live {done.alias}"
    )


def registry(args: Namespace) -> int:
    """Every version, newest first."""
    del args
    from mcl.promotion import aliases
    from mcl.promotion.registry import versions

    project = Project.current()
    aliases.settle(project)
    entries = progress.each("reading the versions", versions(project.store))
    rows = [_row(entry) for entry in entries]
    terminal.answer({"versions": rows}, lambda: _listed(rows))
    return 0


def _row(entry: Any) -> dict[str, Any]:
    tags, record, band = (
        entry.stored.tags,
        entry.record,
        entry.band() if entry.record.sessions else None,
    )
    left = record.left(band)
    headline = (
        "sharpe",
        "sharpe_low",
        "sharpe_high",
        "net_pnl_usd",
        "max_drawdown_frac",
        "trades",
        "sessions",
    )
    return {
        "version": entry.stored.version,
        "aliases": entry.stored.aliases,
        "stage": entry.stage,
        "strategy": tags.get("mcl.strategy", ""),
        "run_id": entry.stored.run_id,
        "promoted_at": tags.get("promoted_at", ""),
        "by": tags.get("by", ""),
        "why": tags.get("why", ""),
        "synthetic": tags.get("synthetic") == "true",
        "metrics": {name: entry.metrics.get(name) for name in headline} | _deflation(entry),
        "gates": tags.get("gates", ""),
        "waived": {gate["name"]: gate["waived"] for gate in entry.gates if gate.get("waived")},
        "live": {
            "sessions": len(record.sessions),
            "net_pnl_usd": record.net_pnl_usd,
            "slippage_ticks": record.slippage_ticks,
            "assumed_slippage_ticks": record.assumed_slippage_ticks,
            "audit": record.audit,
            "band": str(left) if left else "inside" if band else "",
        },
        "intact": not entry.wrong,
        "wrong": entry.wrong,
        "folder": entry.stored.folder,
        "content_sha256": tags.get("content_sha256", ""),
    }


def _deflation(entry: Any) -> dict[str, Any]:
    """By today's trial ledger, and as it was when the version was promoted; version 0.1 kept the
    latter elsewhere.
    """
    luck, facts = entry.luck(composition.root()), entry.provenance
    then = facts.get("at_promotion", facts)
    deflation = {
        "deflated_sharpe": None,
        "best_by_luck": None,
        "deflation": "",
        "deflated_sharpe_at_promotion": then.get("deflated_sharpe"),
    }
    if luck is None:
        return deflation
    return deflation | {
        "deflated_sharpe": luck.deflated,
        "best_by_luck": luck.best_by_luck,
        "deflation": luck.sentence,
    }


def _listed(versions: list[dict[str, Any]]) -> None:
    if not versions:
        terminal.say("nothing is promoted yet: mcl promote RUN_ID --to paper")
        return
    columns = [
        "v",
        "names",
        "strategy",
        "stage",
        "Sharpe",
        "95 %",
        "deflated",
        "net USD",
        "drawdown",
        "gates",
        "promoted",
    ]
    terminal.table(
        "registry",
        columns,
        [_cells(row) for row in versions],
        left=4,
        least=["promoted", "drawdown", "gates", "deflated"],
    )
    if traded := [row for row in versions if row["live"]["sessions"]]:
        columns = [
            "v",
            "names",
            "sessions",
            "net USD",
            "slippage",
            "assumed",
            "audit",
            "expected band",
        ]
        terminal.table("live record", columns, [_lived_cells(row) for row in traded], left=2)
        terminal.say(
            "slippage in ticks per contract · mcl registry report NAME shows the live curve in its"
            " band"
        )
    for sentence in dict.fromkeys(
        row["metrics"]["deflation"] for row in versions if row["metrics"]["deflation"]
    ):
        terminal.say(sentence)
    for row in versions:
        for name, why in row["waived"].items():
            terminal.say(f"version {row['version']}: gate {name} waived: {why}")
        if row["wrong"]:
            terminal.say(row["wrong"])
    if any(row["synthetic"] for row in versions):
        terminal.say("* synthetic data, not a market result")


def _cells(row: dict[str, Any]) -> list[str]:
    from mcl.report.format import SHORT, number, too_short

    measured, names = row["metrics"], ", ".join(row["aliases"]) or "–"
    head = [
        str(row["version"]),
        names,
        row["strategy"] + (" *" if row["synthetic"] else ""),
        row["stage"],
    ]
    if not row["intact"]:
        return [*head, "ALTERED", *[""] * 6]
    low, mid, high = (_number(measured[name]) for name in ("sharpe_low", "sharpe", "sharpe_high"))
    interval = f"{low} … {high}"
    if too_short(measured["sessions"] or 0):
        mid, interval = SHORT, "–"
    waived = f", {len(row['waived'])} waived" if row["waived"] else ""
    deflated = (
        "n/a"
        if measured["deflated_sharpe"] is None
        else number(measured["deflated_sharpe"], "percent")
    )
    numbers = [
        mid,
        interval,
        deflated,
        f"{measured['net_pnl_usd']:,.0f}",
        f"{100 * measured['max_drawdown_frac']:.1f} %",
    ]
    return [*head, *numbers, row["gates"] + waived, row["promoted_at"][:16].replace("T", " ")]


def _lived_cells(row: dict[str, Any]) -> list[str]:
    live = row["live"]
    return [
        str(row["version"]),
        ", ".join(row["aliases"]) or "–",
        str(live["sessions"]),
        f"{live['net_pnl_usd']:+,.0f}",
        _number(live["slippage_ticks"]),
        _number(live["assumed_slippage_ticks"]),
        live["audit"],
        live["band"] or "too short a backtest",
    ]


def _number(value: float | None) -> str:
    return "n/a" if value is None or is_undefined(value) else f"{value:.2f}"


def report(args: Namespace) -> int:
    """The page of a version: its live curve in the band expected from its backtest."""
    from mcl.base.files import write_whole
    from mcl.promotion.registry import registered
    from mcl.report.registry import registry_page

    store = Store()
    entry = registered(args.name, store)
    if entry.wrong:
        raise LiveError(entry.wrong, "promote the run again")
    view = _view(args.name, entry, store.experiment_of(entry.stored.run_id))
    page = below(
        composition.root() / "mlruns" / "registry",
        f"{args.name}-v{entry.stored.version}",
        ending=".html",
    )
    write_whole(page, registry_page(view).encode())
    data = {
        "name": args.name,
        "version": entry.stored.version,
        "outside": view.outside,
        "sentence": view.sentence,
        "report": page,
    }
    terminal.answer(data, lambda: terminal.say(f"{view.sentence} · page {page}"))
    return 0


def costs(args: Namespace) -> int:
    """Month by month what trading cost against what was configured, then settings to paste."""
    from mcl.promotion.cost_table import cost_table

    table = cost_table(args.name, Project.current())
    data = {
        "name": table.name,
        "version": table.version,
        "synthetic": table.simulated,
        "left_out": table.left_out,
        "months": [_cost_row(row) for row in table.rows],
        "all": _cost_row(table.whole),
        "proposal": vars(table.proposal),
    }
    terminal.answer(data, lambda: _costs(table))
    return 0


def _cost_row(row: Any) -> dict[str, Any]:
    return {
        **vars(row),
        "total_usd": row.total_usd,
        "configured_total_usd": row.configured_total_usd,
    }


def _costs(table: Any) -> None:
    title = (
        f"costs of {table.name} per contract and"
        f" side{' · SYNTHETIC, no evidence about a market' if table.simulated else ''}"
    )
    columns = [
        "month",
        "sessions",
        "fills",
        "delay",
        "slippage",
        "configured",
        "commission",
        "configured",
        "total",
        "configured",
    ]
    terminal.table(title, columns, [_cost_cells(row) for row in (*table.rows, table.whole)])
    terminal.say("delay and slippage in ticks, positive is a cost; a backtest has the delay too")
    terminal.say("commission and total (slippage and commission) in USD")
    if table.left_out:
        terminal.say(
            f"{many(table.left_out, 'session')} on a simulated TWS or on synthetic data left out"
        )
    if table.whole.uncharged_fills:
        terminal.say(
            f"{table.whole.uncharged_fills} fills without a commission from the broker are not in"
            " its mean"
        )
    terminal.say(table.proposal.sentence)
    if table.proposal.overrides:
        terminal.say(f"to backtest with what was paid: {' '.join(table.proposal.overrides)}")


def _cost_cells(row: Any) -> list[str]:
    ticks = (row.delay_ticks, row.slippage_ticks, row.configured_slippage_ticks)
    money = (
        row.commission_usd,
        row.configured_commission_usd,
        row.total_usd,
        row.configured_total_usd,
    )
    return [
        row.month,
        str(row.sessions),
        str(row.fills),
        *map(_number, ticks),
        *map(_number, money),
    ]


def _view(name: str, entry: Any, experiment_id: str) -> Any:
    from mcl.promotion.promoted_file import MODEL
    from mcl.report.registry import RegistryView
    from mcl.tracking import urls

    record, band, facts = entry.record, entry.band(), entry.provenance
    left, number = record.left(band), len(record.sessions)
    inside = (
        f"{many(number, 'session')} and {record.net_pnl_usd:+,.0f} USD, inside the expected band"
        if number
        else "no session yet"
    )
    return RegistryView(
        title=(
            f"{name} · version {entry.stored.version} · {entry.stored.tags.get('mcl.strategy', '')}"
        ),
        lead=f"promoted {facts['at']} by {facts['by']}",
        data_note=facts["watermark"],
        sentence=str(left) if left else inside,
        outside=left is not None,
        sessions=[_page_session(session) for session in record.sessions],
        drawdown=record.drawdown,
        luck=entry.luck(composition.root()),
        band=None if band is None else (band.low, band.median, band.high, band.drawdown),
        gates=entry.gates,
        facts=facts,
        links=[
            urls.version(MODEL, entry.stored.version),
            urls.run(entry.stored.run_id, "The promoted run", experiment_id),
        ],
    )


def _page_session(session: Any) -> Any:
    from mcl.report.registry import LiveSession
    from mcl.tracking import urls

    return LiveSession(
        day=session.session,
        net_pnl_usd=session.net_pnl_usd,
        backtest_net_pnl_usd=session.backtest_net_pnl_usd,
        slippage_ticks=session.slippage_ticks,
        assumed_slippage_ticks=session.assumed_slippage_ticks,
        address=urls.run_address(session.run_id, session.experiment_id),
        audit=session.audit,
        broker="simulated TWS" if session.simulated else "TWS",
        run_id=session.run_id,
    )


def rollback(args: Namespace) -> int:
    from mcl.promotion import aliases
    from mcl.promotion.promoted_file import path_of

    name = promoted_name("rollback", args.name)
    move = aliases.rollback(name, args.because, project=Project.current())
    data = vars(move) | {"path": path_of(move.name, composition.root())}
    terminal.answer(
        data,
        lambda: terminal.say(
            f"{move.name} is version {move.version} again, was {move.before} · {data['path']} ·"
            " commit it"
        ),
    )
    return 0


def diff(args: Namespace) -> int:
    """Two versions, each by its name or number."""
    from mcl.promotion.registry import compared, registered

    store = Store()
    first, second = (registered(word, store) for word in (args.first, args.second))
    difference = compared(first, second)
    heads = [
        f"{word} (v{side.stored.version})"
        for word, side in zip((args.first, args.second), (first, second), strict=True)
    ]
    data = vars(difference) | {"versions": [side.stored.version for side in (first, second)]}
    del data["data_sentence"]
    terminal.answer(data, lambda: _differences(difference, heads))
    return 0


def _differences(difference: Any, heads: list[str]) -> None:
    for title, pairs in (
        ("configuration", difference.config),
        ("gates", difference.gates),
        ("metrics", difference.metrics),
        ("packages", difference.packages),
    ):
        if pairs:
            terminal.table(title, ["", *heads], [[key, *pair] for key, pair in pairs.items()])
    terminal.say(
        f"code: {', '.join(difference.code)} differ" if difference.code else "code: the same"
    )
    terminal.say(f"data: {difference.data_sentence or 'the same'}")


def history(args: Namespace) -> int:
    """Registry and git side by side."""
    from mcl.promotion import aliases
    from mcl.promotion.registry import history as events
    from mcl.promotion.registry import standing

    project = Project.current()
    aliases.settle(project)
    entries = events(project, args.name)
    if args.name is not None and not entries:
        promoted_names = sorted({event.name for event in events(project, None)})
        raise LiveError(
            f"nothing was ever promoted as {args.name!r}: {nearest(args.name, promoted_names)}",
            "mcl registry lists the names",
        )
    names = sorted({event.name for event in entries})
    sentences = {name: standing(name, project) for name in names}
    rows = [
        [e.at, e.where, e.name, e.what, "" if e.version is None else f"v{e.version}", e.by, e.why]
        for e in entries
    ]

    def render() -> None:
        terminal.table(
            "history", ["when", "where", "name", "what", "version", "who", "why"], rows, left=7
        )
        for sentence in sentences.values():
            terminal.say(sentence)

    terminal.answer({"events": [vars(event) for event in entries], "standing": sentences}, render)
    return 0


def explain(args: Namespace) -> int:
    from mcl.promotion import explain as origins

    typed = [word for word in args.rest if "=" in word]
    named = [word for word in args.rest if "=" not in word]
    if typed and named:
        raise ConfigError(
            "a stored run has its own overrides; name the run, or type overrides, not both"
        )
    explanation = (
        origins.explain_stored(args.key, named[0], Project.current())
        if named
        else origins.explain(args.key, typed)
    )
    data = {
        "key": explanation.key,
        "value": explanation.value,
        "source": explanation.source,
        "chain": explanation.chain,
    }
    terminal.answer(data, lambda: _explained(explanation))
    return 0


def _explained(explanation: Any) -> None:
    terminal.say(f"{explanation.key} = {explanation.value!r}")
    for step in explanation.chain:
        terminal.say(f"  {step}")
