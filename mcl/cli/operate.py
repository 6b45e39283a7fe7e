"""status, pause, resume, reduce-only, flatten, stop, orders, fills, why: a person at another shell
than the session's.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl.base import files, terminal
from mcl.base.errors import LiveError
from mcl.base.instants import NS
from mcl.base.words import many
from mcl.live.ops import control_socket

if TYPE_CHECKING:
    from rich.console import Group

OVERVIEW = ("alias", "version", "state", "mode", "session", "position", "pnl_usd", "why")


def status(args: Namespace) -> int:
    """The session of NAME, or of every name that trades or has traded here."""
    root = files.root()
    if args.watch:
        return _watch(root, _one_running(root, args.name))
    sessions = [
        _standing(root, alias) for alias in ([args.name] if args.name else _session_names(root))
    ]
    data = sessions[0] if args.name else {"sessions": sessions}
    terminal.answer(data, lambda: _print(sessions))
    return 0


def act(args: Namespace) -> int:
    """Tell the running session; the verb is the command."""
    alias = _one_running(files.root(), args.name)
    request = {"do": args.verb, "who": f"mcl {args.verb}", "why": args.because}
    reply = control_socket.ask(control_socket.folder_of(files.root(), alias), request)["said"]
    terminal.answer(
        {"alias": alias, "command": args.verb, "said": reply},
        lambda: terminal.say(f"{alias}: {reply}"),
    )
    return 0


def orders(args: Namespace) -> int:
    from mcl.live import journal_queries

    alias, path = _journal(args.name)
    rows = journal_queries.orders(path)
    working = (
        control_socket.ask(control_socket.folder_of(files.root(), alias), {"do": "status"})[
            "status"
        ]["working"]
        if _runs(alias)
        else []
    )
    columns = ["sent", "reference", "change", "filled", "at", "stop ticks", "take ticks"]
    table_rows = [
        [
            _clock(r["at_ns"]),
            r["ref"],
            *map(_cell, (r["quantity"], r["filled"], r["price"])),
            *_distances(r),
        ]
        for r in rows
    ]

    def render() -> None:
        terminal.table(f"orders of {alias} · {path.name}", columns, table_rows, left=2)
        if working:
            terminal.table("working at the broker", *_working(working), left=3)

    terminal.answer({"alias": alias, "journal": path, "orders": rows, "working": working}, render)
    return 0


def fills(args: Namespace) -> int:
    from mcl.live import journal_queries

    alias, path = _journal(args.name)
    rows = journal_queries.fills(path)
    columns = ["time", "contract", "reason", "reference", "quantity", "price", "commission"]
    table_rows = [
        [
            _clock(r["time"]),
            r["symbol"],
            r["reason"],
            r["ref"],
            *map(_cell, (r["quantity"], r["price"], r["commission_usd"])),
        ]
        for r in rows
    ]
    terminal.answer(
        {"alias": alias, "journal": path, "fills": rows},
        lambda: terminal.table(f"fills of {alias} · {path.name}", columns, table_rows, left=4),
    )
    return 0


def why(args: Namespace) -> int:
    """The last decisions, each with the chain of its reasons; --trades leaves out those that
    changed nothing.
    """
    from mcl.live import journal_queries

    alias, path = _journal(args.name)
    rows = journal_queries.reasons(
        path,
        sys.maxsize if args.trades else args.count,
        journal_queries.deployed_limits(files.root(), path),
    )
    if args.trades:
        rows = [row for row in rows if row["order"]][-args.count :]
    table_rows = [[_clock(r["close_time_ns"]), _cell(r["close"]), r["sentence"]] for r in rows]
    terminal.answer(
        {"alias": alias, "journal": path, "decisions": rows},
        lambda: terminal.table(
            f"decisions of {alias} · {path.name}", ["bar close", "price", "why"], table_rows, left=3
        ),
    )
    return 0


# -------------------------------------------------------------------------------------------- whose


def _session_names(root: Path) -> list[str]:
    from mcl.live import journal_queries

    names = sorted({*control_socket.running(root), *journal_queries.aliases(root)})
    if not names:
        raise LiveError(
            "nothing runs, and no session was ever traded here",
            "mcl promote RUN_ID --to paper, then mcl live paper",
        )
    return names


def _one_running(root: Path, name: str | None) -> str:
    """NAME, or the only session that runs."""
    if name:
        return name
    alive = control_socket.running(root)
    if len(alive) != 1:
        which = (
            f"{len(alive)} sessions run: {', '.join(alive)}" if alive else "no session is running"
        )
        raise LiveError(which, "say which one is meant" if alive else "mcl live NAME starts one")
    return alive[0]


def _runs(alias: str) -> bool:
    return alias in control_socket.running(files.root())


def _journal(name: str | None) -> tuple[str, Path]:
    """The newest journal of NAME, of the only running session, or of the only name there is."""
    from mcl.live import journal_queries

    root = files.root()
    alive = control_socket.running(root)
    candidates = [name] if name else alive or _session_names(root)
    if len(candidates) != 1:
        raise LiveError(f"which one is meant? {', '.join(candidates)}", "add the name")
    return candidates[0], journal_queries.last_journal(root, candidates[0])


def _standing(root: Path, alias: str) -> dict[str, Any]:
    """Return the state of the running session, else the last one in its journal."""
    from mcl.live import journal_queries

    if alias in control_socket.running(root):
        answer = control_socket.ask(
            control_socket.folder_of(root, alias), {"do": "status"}, timeout_sec=10.0
        )
        return {"running": True} | dict(answer["status"])
    return journal_queries.last_status(journal_queries.last_journal(root, alias))


# -------------------------------------------------------------------------------------------- shown


def _watch(root: Path, alias: str) -> int:
    """Until the session ends or Ctrl-C: a table that stays in place on a terminal, one line a
    change elsewhere (one object with --json).
    """
    from rich.live import Live

    states = control_socket.watched(control_socket.folder_of(root, alias))
    if terminal.quiet() or not sys.stdout.isatty():
        for state in states:
            terminal.answer(state, lambda state=state: terminal.say(_line(state)))  # type: ignore[misc]
        return 0
    with Live(console=terminal.console(), auto_refresh=False, screen=False) as live:
        for state in states:
            live.update(picture(state), refresh=True)
    return 0


def _print(sessions: list[dict[str, Any]]) -> None:
    if len(sessions) == 1:
        terminal.console().print(picture(sessions[0]), crop=False)
        return
    rows = [
        [
            _text(row.get(name) if name != "pnl_usd" else row.get("session_pnl_usd"))
            for name in OVERVIEW
        ]
        for row in sessions
    ]
    terminal.table("sessions", [name.replace("_", " ") for name in OVERVIEW], rows, left=5)


def picture(state: dict[str, Any]) -> Group:
    """One session on one screen."""
    from rich.console import Group

    running = state.get("running", True)
    title = (
        f"{state['alias']} v{_text(state['version'])} · {_text(state['session'])} ·"
        f" {state['state']}" + ("" if running else " · not running")
    )
    parts = [
        terminal.table_text(
            title, ["", "value"], [(name, text) for name, text in _facts(state) if text], left=2
        )
    ]
    if state.get("working"):
        parts.append(terminal.table_text("working orders", *_working(state["working"]), left=3))
    if state.get("decisions"):
        columns = ["bar close", "price", "wanted", "position", "target", "block", "reason"]
        rows = [
            [
                _clock(d.get("time")),
                *(_cell(d.get(k)) for k in ("close", "wanted", "position", "target", "block")),
                _text(d.get("reason")),
            ]
            for d in state["decisions"][-5:]
        ]
        parts.append(terminal.table_text("last decisions", columns, rows, left=1))
    if state.get("alerts"):
        rows = [
            [_clock(a["at_ns"]), a["severity"], a["code"], a["sentence"]]
            for a in state["alerts"][-5:]
        ]
        parts.append(terminal.table_text("last alerts", ["when", "", "code", "what"], rows, left=4))
    return Group(*parts)


def _facts(state: dict[str, Any]) -> list[tuple[str, str]]:
    field = state.get
    latency = field("latency") or {}
    quick = (
        f"p50 {latency['p50']:.2f} ms · p99 {latency['p99']:.2f} ms"
        f" · {many(latency['count'], 'order')}"
        if latency.get("count")
        else ""
    )
    delay = field("close_delay") or {}
    waited = (
        f"p50 {delay['p50']:.1f} s · p99 {delay['p99']:.1f} s · {many(delay['count'], 'bar')}"
        if delay.get("count")
        else ""
    )
    return [
        ("mode", _text(field("mode"))),
        ("why", _text(field("why"))),
        ("data", _text(field("synthetic"))),
        ("broker", " · ".join(filter(None, (_text(field("broker")), _text(field("account")))))),
        ("position", f"{_text(field('position'))} {_text(field('contract'))}"),
        ("target", _text(field("target"))),
        *(
            (name.replace("_", "-"), _cell(level))
            for name, level in (field("levels") or {}).items()
            if name != "entry"
        ),
        (
            "average / last price",
            " / ".join(filter(None, (_cell(field("average_price")), _cell(field("last_price"))))),
        ),
        ("equity", _usd(field("equity_usd"))),
        ("session P&L", _usd(field("session_pnl_usd"))),
        (
            "realized / unrealized",
            " / ".join(filter(None, (_usd(field("realized_usd")), _usd(field("unrealized_usd"))))),
        ),
        (
            "last bar",
            (
                f"{_clock(field('last_bar_close_ns'))} UTC · {field('bars')} bars"
                if field("bars")
                else ""
            ),
        ),
        ("data age", f"{field('data_age_sec'):.1f} s" if field("data_age_sec") is not None else ""),
        ("connected", _text(field("connected"))),
        ("close to its message", waited),
        ("message to order", quick),
        ("journal", _text(field("journal"))),
    ]


def _working(working: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    columns = ["reference", "kind", "status", "quantity", "price"]
    return columns, [
        [_text(w.get("ref")), w["kind"], w["status"], _cell(w["quantity"]), _cell(w["price"])]
        for w in working
    ]


def _line(state: dict[str, Any]) -> str:
    pnl = _usd(state["session_pnl_usd"]) or "P&L unknown"
    return (
        f"{_clock(state['at_ns'])} {state['state']} {state['mode']} position {state['position']}"
        f" {pnl} {state['why']}"
    )


def _distances(row: dict[str, Any]) -> tuple[str, str]:
    return _cell(row["stop_ticks"]), _cell(row["take_profit_ticks"])


def _clock(at_ns: int | None) -> str:
    return f"{datetime.fromtimestamp(at_ns // NS, UTC):%H:%M:%S}" if at_ns else ""


def _usd(value: float | None) -> str:
    return f"{value:,.2f} USD" if value is not None else ""


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


# ---------------------------------------------------------------------------------------- dashboard


def dashboard(args: Namespace) -> int:
    """Serve the page until Ctrl-C."""
    import asyncio
    import os

    from mcl.live.ops.dashboard import Dashboard, fresh_token, open_dashboard
    from mcl.tracking.project import Project

    root = files.root()
    alive = control_socket.running(root)
    name = args.name or next(iter(alive or _session_names(root)))
    token = (os.environ.get("MCL_DASHBOARD_TOKEN") or fresh_token()) if args.act else ""

    async def serve() -> None:
        async with open_dashboard(Dashboard(Project.at(root), name, token), args.port) as address:
            how = "it can command" if token else "read-only; --act lets it command"
            terminal.answer(
                {"url": address, "name": name, "read_only": not token},
                lambda: terminal.say(f"{address}  ({how}; Ctrl-C ends it)"),
            )
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        terminal.say("dashboard closed; the session continues")
    return 0
