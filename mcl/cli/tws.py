"""tws serve, tws status, tws log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from argparse import Namespace
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import BrokerError, MclError, nearest
from mcl.base.files import write_whole
from mcl.cli.arguments import words_of
from mcl.config import schema
from mcl.market import calendar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcl.simulators.tws import SimulatedTWS, Tape
    from mcl.simulators.tws.control import Control

DEFAULT_PORT = 7497
_RUNNING = Path("data") / "tws"


def serve(args: Namespace) -> int:
    """Until Ctrl-C, SIGTERM, a `stop` on the control socket, or with --until-end until everything
    was played.
    """
    terminal.configure_log()  # the server writes to it
    tws = _server(args, *_configured(args.overrides))
    data = asyncio.run(_serve(tws, args))
    terminal.answer(
        data,
        lambda: terminal.table("served", ["", "value"], composition.flatten(data).items(), left=2),
    )
    return 0


def _configured(overrides: list[str]) -> tuple[schema.BrokerConfig, schema.Config]:
    """broker.* are of the session, everything else of the run whose data and costs are played."""
    own = [o for o in overrides if o.lstrip("+~").startswith(("broker=", "broker."))]
    broker = composition.validate(
        schema.BrokerConfig, composition.compose("live", own).raw["broker"], "broker"
    )
    return broker, composition.compose("backtest", [o for o in overrides if o not in own]).config


def _server(args: Namespace, broker: schema.BrokerConfig, run: schema.Config) -> SimulatedTWS:
    from mcl.simulators.tws import SimulatedTWS
    from mcl.simulators.tws.account import AccountTerms
    from mcl.simulators.tws.listener import BrokerOptions

    if args.today and args.clock != "real":
        raise MclError(
            f"--today runs in real time; --clock {args.clock} does not", "leave --clock away"
        )
    if args.today and args.detail != "bars":
        raise MclError(
            f"--today moves bars to another day; --detail {args.detail} are of their own day",
            "leave one of them away",
        )
    pace = _pace(args.clock)
    tapes, now_ns = _tapes(args, broker, run)
    return SimulatedTWS(
        *tapes,
        account=broker.account,
        capital_usd=broker.capital_usd,
        slippage_ticks=run.costs.slippage_ticks,
        terms=AccountTerms(commission_usd=run.costs.side_usd),
        options=BrokerOptions(check_margin=True, orders_per_side=20, liquidity_frac=args.liquidity),
        port=(
            DEFAULT_PORT
            if broker.port == 0 and args.port is None
            else broker.port
            if args.port is None
            else args.port
        ),
        server_version=args.server_version,
        silent_end=True,
        start_ns=now_ns,
        wall_clock=now_ns is not None,
        state=Path(args.state) if args.state else None,
        transcript=Path(args.transcript) if args.transcript else None,
        seed=args.seed,
        **pace,
    )


def _tapes(
    args: Namespace, broker: schema.BrokerConfig, run: schema.Config
) -> tuple[list[Tape], int | None]:
    """Return the tapes to play, all from the same session on, and the server's start if it is not
    theirs.
    """
    from mcl.simulators.tws import random_walk, tape_loader

    now_ns = time.time_ns()
    try:
        session = date.fromisoformat(args.session) if args.session else broker.replay.session
    except ValueError:
        raise MclError(f"--session {args.session!r} is not written YYYY-MM-DD") from None
    if args.walk:
        named = calendar.ns_of(session, 12) if session else now_ns
        return random_walk.tapes(named, args.seed), (
            now_ns if args.clock == "real" and not session else None
        )
    tapes = tape_loader.tapes(
        run.data, composition.root(), session, args.contract, args.sessions, args.detail
    )
    day = calendar.from_day(int(calendar.session_of(tapes[0].start[tapes[0].first])))
    for words in args.also:
        other = composition.compose("backtest", words_of(words)).config.data
        all_ = [tape_loader.ALL] if tape_loader.ALL in args.contract else []
        tapes += tape_loader.tapes(other, composition.root(), day, all_, args.sessions, args.detail)
    return (tape_loader.as_of_today(tapes, now_ns), now_ns) if args.today else (tapes, None)


def _pace(clock: str) -> dict[str, Any]:
    if clock == "lockstep":
        return {}
    if clock == "stepped":
        return {"stepped": True}
    try:
        rate = 1.0 if clock == "real" else float(clock)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise MclError(
            f"--clock {clock} is no speed: real, lockstep, stepped, or a number above 0 (so many"
            " times real time)"
        )
    return {"rate": rate}


async def _serve(tws: SimulatedTWS, args: Namespace) -> dict[str, Any]:
    from mcl.simulators.tws.control import Control, status

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tws)
        control = await stack.enter_async_context(Control(tws, args.control))
        for line in args.fault:
            tws.fault(**_fault(line))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, control.stopped.set)
        with _announced(tws, control):
            await _until(tws, control, args.until_end)
        return status(tws)


def _fault(line: str) -> dict[str, Any]:
    """`{"name": "cut", "on": "send execDetails"}`, or a bare name."""
    try:
        parsed = json.loads(line) if line.lstrip().startswith("{") else {"name": line}
    except ValueError as error:
        raise MclError(f"--fault {line!r} is no JSON: {error}") from None
    if not isinstance(parsed.get("name"), str):
        raise MclError(f"--fault {line!r} does not say the name of a fault")
    return dict(parsed)


async def _until(tws: SimulatedTWS, control: Control, until_end: bool) -> None:
    waits = [asyncio.create_task(control.stopped.wait())]
    if until_end:
        waits.append(asyncio.create_task(tws.finished.wait()))
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


@contextmanager
def _announced(tws: SimulatedTWS, control: Control) -> Iterator[None]:
    """Return the path where `mcl tws status` finds it."""
    path = composition.root() / _RUNNING / f"{tws.port}.json"
    write_whole(
        path, json.dumps({"port": tws.port, "control": control.port, "pid": os.getpid()}).encode()
    )
    marked = "SYNTHETIC DATA · " if any(track.tape.synthetic for track in tws.player.tracks) else ""
    names = " ".join(track.listed.local_symbol for track in tws.player.tracks)
    terminal.say(
        f"simulated TWS on 127.0.0.1:{tws.port} · account {tws.account.name} · {names}"
        f" {tws.tape.interval} bars"
    )
    terminal.say(
        f"{marked}control port {control.port} · Ctrl-C ends it · mcl live paper broker=ib_paper"
        f" broker.account={tws.account.name}"
    )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def status(args: Namespace) -> int:
    from mcl.simulators.tws.control import ask

    running = [_read(path) for path in sorted((composition.root() / _RUNNING).glob("*.json"))]
    chosen = [server for server in running if args.port in {None, server["port"]}]
    if not chosen:
        ports = ", ".join(str(server["port"]) for server in running) or "none"
        raise BrokerError(
            "no simulated TWS was started"
            f" here{'' if args.port is None else f' on port {args.port}'}; running: {ports}"
        )
    servers = [
        ask(server["control"], {"do": "status"})
        | {"control": server["control"], "pid": server["pid"]}
        for server in chosen
    ]
    terminal.answer({"servers": servers}, lambda: _show(servers))
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise BrokerError(f"{path} cannot be read: {error}", "delete it") from None


def _show(servers: list[dict[str, Any]]) -> None:
    for server in servers:
        terminal.table(
            f"simulated TWS on port {server['port']}",
            ["", "value"],
            composition.flatten(server).items(),
            left=2,
        )


def log(args: Namespace) -> int:
    """A transcript, or a recording of a real server in the same columns, one message per line."""
    from mcl.simulators.tws import transcript

    read = list(transcript.read(Path(args.file)))
    _refuse_unknown("--only", args.only, {line.name for line in read}, args.file)
    _refuse_unknown("--client", args.client, {line.client for line in read}, args.file)
    lines = [
        line
        for line in read
        if args.only in (None, line.name) and args.client in (None, line.client)
    ]
    visible = lines[-args.tail :] if args.tail else lines
    data = {"messages": len(lines), "shown": [dict(line._asdict()) for line in visible]}
    terminal.answer(data, lambda: _messages(visible, args.whole))
    return 0


def _refuse_unknown(option: str, name: str | None, names: set[str], file: str) -> None:
    if name is not None and name not in names:
        raise BrokerError(
            f"{option} {name!r} is in no message of {file}: {nearest(name, names)}",
            "mcl tws log FILE shows all",
        )


def _messages(lines: list[Any], whole: bool) -> None:
    from mcl.simulators.tws import transcript

    for line in lines:
        arrow = "→" if line.direction == "C" else "←"
        terminal.say(
            f"{line.seq} {line.client} {arrow} {line.name:<22} {transcript.summary(line, whole)}"
        )
