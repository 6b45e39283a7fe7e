"""Rules that only a session can keep: the dead man's switch, the kill switch by signal, what is
written down.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from deployments import Project, write_walks

from mcl.base.errors import LiveError
from mcl.config import schema
from mcl.live.journal import Entry, read
from mcl.live.session import signal_handlers
from mcl.live.status import State
from mcl.simulators.tws import SimulatedTWS

from .live_bench import Bench

OFTEN = {"name": "random", "hold_sec": 1800, "seed": 4}
STOPPED = {
    "size": {"method": "fixed", "contracts": 1.0},
    "protection": {"unit": "ticks", "stop": 90.0},
}
OFF = dict.fromkeys(schema.Guards.model_fields)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


def guarded(shop: Project, folder: Path, timeout_sec: float = 2.0, **guards: object) -> Bench:
    run = shop.config(strategy=OFTEN, risk=STOPPED, interval="15m")
    return Bench(shop, folder, run, guards={**OFF, **guards}, timeout_sec=timeout_sec)


def alerts(bench: Bench, code: str) -> list[Entry]:
    return [entry for entry in read(bench.path, ("alert",)) if entry.body["code"] == code]


def test_r12_a_decision_that_hangs_is_given_up_and_is_not_sent_again(
    shop: Project, tmp_path: Path
) -> None:
    """The broker swallows an order; nobody waits the whole minute that an answer may take."""
    bench = guarded(shop, tmp_path, timeout_sec=60.0, hang_sec=2.0)
    asyncio.run(
        bench.run(
            before=lambda tws: tws.fault(
                "drop", on="receive placeOrder", nth=3, where={"order_type": "MKT"}
            )
        )
    )
    assert "a decision took longer than broker.guards.hang_sec=2" in {
        entry.body["sentence"] for entry in alerts(bench, "UNCERTAIN")
    }
    refs = [order.ref for order in bench.tws.book.orders.values()]
    assert len(refs) == len(set(refs))
    lost = {str(entry.key) for entry in read(bench.path, ("order",))} - set(refs)
    assert lost  # written down, never there, not repeated
    assert bench.audited().unexplained == 0


def test_r12_a_silent_broker_is_told_once_and_its_stop_stands(
    shop: Project, tmp_path: Path
) -> None:
    bench = guarded(shop, tmp_path, silence_sec=0.2)
    stops: list[int] = []

    def leave(tws: SimulatedTWS, bars: int) -> None:
        if bars == 10:
            tws.fault("refuse", sec=1.0, drop_all=True)
            stops.append(sum(order.kind == "STP" for order in tws.book.working()))

    asyncio.run(bench.run(leave))
    [silence] = alerts(bench, "SILENCE")
    assert silence.body["severity"] == "critical"
    assert silence.body["sentence"].startswith(
        "the broker has not answered for 0.2 s: nothing listens on 127.0.0.1:"
    )
    assert stops == [1]
    assert bench.audited().unexplained == 0


def test_r18_decisions_verdicts_and_the_limits_they_were_made_by_are_written_down(
    shop: Project, tmp_path: Path
) -> None:
    """One order an hour: what a reversal closes is closed all the same, what it would open is
    refused.
    """
    bench = guarded(shop, tmp_path, max_orders_per_hour=1)
    asyncio.run(bench.run())
    entries = read(bench.path)
    begin = next(entry.body for entry in entries if entry.kind == "begin")
    assert (
        begin["guards_sha256"]
        == hashlib.sha256(bench.config.guards.model_dump_json().encode()).hexdigest()
    )
    assert (
        begin["guards_sha256"]
        != hashlib.sha256(schema.Guards().model_dump_json().encode()).hexdigest()
    )
    assert len([entry for entry in entries if entry.kind == "decision"]) == 92
    refused = [entry.body["sentence"] for entry in alerts(bench, "GUARD")]
    orders = {str(entry.key) for entry in entries if entry.kind == "order"}
    filled = {entry.body["ref"] for entry in entries if entry.kind == "fill"}
    assert refused
    assert len(refused) == len(orders - filled)
    assert all(any(ref in sentence for ref in orders - filled) for sentence in refused)
    assert {str(entry.key) for entry in entries if entry.kind == "refused"} == orders - filled
    closed = {
        ref for ref in filled if ref.endswith("/close") and ref.removesuffix("/close") not in filled
    }
    assert closed
    assert bench.audited().unexplained == 0
    assert {row["cause"] for row in bench.audited().differences.to_dict("records")} == {
        "risk block"
    }


def sends_signal(
    bench: Bench, number: signal.Signals, stack: ExitStack
) -> Callable[[SimulatedTWS, int], None]:
    """The signal comes from outside while the session trades."""

    def disturb(_: SimulatedTWS, bars: int) -> None:
        if bars == 1:
            stack.enter_context(signal_handlers(bench.supervisor.request))
        elif bars == 10:
            os.kill(os.getpid(), number)

    return disturb


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_r11_a_signal_stops_the_session_and_leaves_its_protection(
    shop: Project, tmp_path: Path, number: signal.Signals
) -> None:
    bench = guarded(shop, tmp_path)

    async def session() -> None:
        with ExitStack() as stack:
            await bench.run(sends_signal(bench, number, stack))

    asyncio.run(session())
    assert bench.supervisor.status().state is State.STOPPED
    [command] = read(bench.path, ("command",))
    assert (command.body["word"], command.body["who"]) == ("stop", number.name)
    held = bench.tws.positions.get("MCLF6", 0)
    assert sum(-order.side * order.remaining for order in bench.tws.book.working()) == held != 0
    assert bench.supervisor.status_board.bars < 92


def test_r11_the_signal_of_the_kill_switch_closes_and_stays(shop: Project, tmp_path: Path) -> None:
    bench = guarded(shop, tmp_path)

    async def session() -> None:
        with ExitStack() as stack:
            await bench.run(sends_signal(bench, signal.SIGUSR1, stack))

    with pytest.raises(LiveError, match=r"killed: closed [+-]1 MCLF6"):
        asyncio.run(session())
    assert bench.tws.positions == {}
    assert bench.tws.book.working() == []
    with pytest.raises(LiveError, match=r"kill switch .* is set: SIGUSR1"):
        asyncio.run(bench.run())
