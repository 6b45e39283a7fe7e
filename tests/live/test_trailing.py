"""A session with a trailing stop is the backtest: the stop that works at the broker is moved after
each close, never back, over a crash, a restart and the roll.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployments import Project, write_walks

from mcl.broker.ib import IBBroker
from mcl.broker.order_port import Ticket
from mcl.broker.protocol import QualifiedContract
from mcl.config import schema
from mcl.engine.backtest import plan
from mcl.engine.level_lines import levels
from mcl.live import journal_queries
from mcl.live.audit.compare import Audit
from mcl.live.journal import Draft, Journal, read
from mcl.live.status import State
from mcl.simulators.tws import SimulatedTWS

from .live_bench import Bench, until
from .rolls import BEFORE, NEW, OLD, ROLL, RollBench, rolling, write_contracts

OFTEN = {"name": "random", "hold_sec": 10_800, "seed": 4}
TICKS = {"unit": "ticks", "trail": 20.0}
ALL_LEGS = {"unit": "atr", "stop": 2.0, "take_profit": 6.0, "trail": 3.0}
FAR = {"unit": "ticks", "stop": 900.0, "trail": 150.0}


def risk(protection: dict[str, Any], contracts: float = 2.0) -> dict[str, Any]:
    return {"size": {"method": "fixed", "contracts": contracts}, "protection": protection}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    write_contracts(root)
    return Project.at(root)


def run_of(shop: Project, protection: dict[str, Any] = TICKS) -> schema.Config:
    return shop.config(strategy=OFTEN, risk=risk(protection), interval="5m")


class Levels:
    """The level of the stop that works at the broker after each bar, with the side of what it
    protects.
    """

    def __init__(self) -> None:
        self.at: dict[int, tuple[float, int]] = {}

    def look(self, tws: SimulatedTWS, bars: int) -> None:
        stops = [order for order in tws.book.working() if order.kind == "STP"]
        assert len(stops) <= 1
        held = sum(tws.positions.values())
        assert bool(held) == bool(stops)
        if stops:
            assert stops[0].side * stops[0].remaining == -held
            self.at[bars - 1] = round(stops[0].trigger * 100, 6), int(np.sign(held))


def backtest_levels(bench: Bench, audited: Audit) -> np.ndarray:
    """The stop of the backtest of the same bars from the close of each on, in ticks."""
    config, result = bench.deployed.config, audited.result
    assert bench.stage.stored is not None
    planned = plan(bench.stage.stored, bench.strategy, config.risk, config.capital_usd)
    first = int(np.searchsorted(bench.stage.stored.close_time, result.bars.close_time[0]))
    stop, _ = levels(result, planned.rows(first, first + len(result.bars)), config.execution)
    return stop


def equal(audited: Audit) -> None:
    assert audited.differences.to_dict("records") == []
    assert not audited.failed


@pytest.mark.parametrize("protection", [TICKS, ALL_LEGS], ids=["trail", "stop+target+trail"])
def test_a_session_trails_as_the_backtest_does(
    shop: Project, tmp_path: Path, protection: dict[str, Any]
) -> None:
    """Decisions, fills, equity, and the level of the working order at each close."""
    bench, at_broker = Bench(shop, tmp_path, run_of(shop, protection)), Levels()
    asyncio.run(bench.run(at_broker.look))
    audited = bench.audited()
    equal(audited)
    expected, quiet = backtest_levels(bench, audited), _quiet(bench)
    # at the last bar the replay is over and takes no orders
    quiet = [bar for bar in quiet if bar < len(expected) - 1]
    compared = [(at_broker.at.get(bar, (np.nan, 0))[0], expected[bar]) for bar in quiet]
    assert [ours for ours, _ in compared] == pytest.approx(
        [theirs for _, theirs in compared], nan_ok=True
    )
    moves = [entry for entry in read(bench.path, ("protect",)) if entry.body["why"] == "trail"]
    assert len(moves) >= 5
    reasons = [entry.body["reason"] for entry in read(bench.path, ("fill",))]
    assert reasons.count("stop") >= 2
    chain = journal_queries.reasons(bench.path, len(expected))
    moved = [bar for bar in quiet if chain[bar]["stop_before"] is not None]
    assert len(moved) >= 5
    for bar in moved:  # mcl why says so
        assert chain[bar]["stop"] == pytest.approx(expected[bar] / 100)
        assert f"stop moved from {chain[bar]['stop_before']:.10g} to " in chain[bar]["sentence"]
    for bar in quiet:  # never back
        if bar - 1 in at_broker.at and bar in at_broker.at:
            (before, side), (after, same) = at_broker.at[bar - 1], at_broker.at[bar]
            assert side != same or side * (after - before) >= 0


def _quiet(bench: Bench) -> list[int]:
    """Bars behind which nothing was traded: the stop is that of the close."""
    decisions = read(bench.path, ("decision",))
    return [
        int(entry.body["bar"])
        for entry in decisions
        if entry.body["held_back"] == "the position is the target" and entry.body["position"]
    ]


def test_the_audit_finds_a_stop_that_has_not_followed(shop: Project, tmp_path: Path) -> None:
    """Only a hand with the file can do it: the level of one decision is that of the bar before."""
    bench = Bench(shop, tmp_path, run_of(shop))
    asyncio.run(bench.run())
    decisions = read(bench.path, ("decision",))
    stops = [entry.body["ledger"]["holding"]["legs"]["stops"] for entry in decisions]
    holdings = [entry.body["ledger"]["holding"] for entry in decisions]
    bar = next(
        n
        for n in range(1, len(stops))
        if holdings[n]["position"]
        and holdings[n]["sides"] == holdings[n - 1]["sides"]
        and stops[n] != stops[n - 1]
    )
    body = decisions[bar].body
    body["ledger"]["holding"]["legs"]["stops"] = stops[bar - 1]
    with closing(sqlite3.connect(bench.path)) as db, db:
        db.execute("DROP TRIGGER IF EXISTS no_update")
        text = json.dumps(body)
        db.execute("UPDATE entry SET body = ? WHERE seq = ?", (text, decisions[bar].seq))
    rows = bench.audited().differences
    assert rows["what"].iloc[0] == "stop"
    assert rows["cause"].iloc[0] == "unexplained"


def test_flatten_leaves_no_order(shop: Project, tmp_path: Path) -> None:
    run = shop.config(strategy={"name": "always_long"}, risk=risk(FAR), interval="15m")
    bench = Bench(shop, tmp_path, run)
    commands: list[Any] = []

    async def close() -> None:
        await bench.supervisor.command("flatten", "test", "enough")
        bench.supervisor.request("stop", "test")

    def disturb(tws: SimulatedTWS, bars: int) -> None:
        if bars == 40:
            assert [order.kind for order in tws.book.working()] == ["STP"]
            commands.append(asyncio.ensure_future(close()))

    asyncio.run(bench.run(disturb))
    assert len(commands) == 1
    assert bench.tws.positions == {}
    assert list(bench.tws.book.working()) == []
    assert bench.audited().unexplained == 0


def test_paused_the_stop_still_follows(shop: Project, tmp_path: Path) -> None:
    """What protects is not traded less because nothing new is."""
    run = shop.config(strategy={"name": "always_long"}, risk=risk(FAR), interval="15m")
    bench, at_broker = Bench(shop, tmp_path, run), Levels()
    commands: list[Any] = []

    def disturb(tws: SimulatedTWS, bars: int) -> None:
        at_broker.look(tws, bars)
        if bars == 4:
            commands.append(asyncio.ensure_future(bench.supervisor.command("pause", "t", "lunch")))

    asyncio.run(bench.run(disturb))
    audited = bench.audited()
    equal(audited)
    expected = backtest_levels(bench, audited)
    last = len(expected) - 2
    assert at_broker.at[last][0] == expected[last]
    assert at_broker.at[last][0] > at_broker.at[4][0]


# ------------------------------------------------------------------------------------ interruptions


@pytest.mark.parametrize("step", ["write", "send", "answer"])
def test_killed_while_the_stop_moves_it_goes_on(shop: Project, tmp_path: Path, step: str) -> None:
    """SIGKILL before the move is written down, before it is sent, and before its answer is written
    down. Server and session die together, and the server has what it was told, as a broker has.
    """
    bench = Bench(shop, tmp_path, run_of(shop))
    state: dict[str, Any] = {"state": tmp_path / "tws.sqlite"}
    assert _killed(bench, state, step, move=4)
    before = len(read(bench.path, ("bar",)))
    at_broker = Levels()
    asyncio.run(bench.run(at_broker.look, **state))
    audited = bench.audited()
    # what closed while nobody was there is late, and no stop is elsewhere than the rules put it
    assert set(audited.differences["cause"]) <= {"timing"}
    assert "stop" not in set(audited.differences["what"])
    assert before < len(read(bench.path, ("bar",)))
    ledgers = {
        int(entry.body["bar"]): entry.body["ledger"]["holding"]["legs"]["stops"][1]["level"]
        for entry in read(bench.path, ("decision",))
    }
    quiet = [bar for bar in _quiet(bench) if bar in at_broker.at and bar < max(ledgers)]
    assert len(quiet) > 10
    for bar in quiet:
        assert at_broker.at[bar][0] == pytest.approx(ledgers[bar])


def _killed(bench: Bench, state: dict[str, Any], step: str, move: int) -> bool:
    """A process on the first bars that SIGKILL ends at a step of the `move`-th trailing move."""
    child = os.fork()
    if child == 0:
        _die(step, move)
        try:
            asyncio.run(bench.run(**state))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die(step: str, move: int) -> None:
    append, send, moves = Journal.append, IBBroker.send, [0]

    def appended(self: Journal, *drafts: Draft) -> Any:
        for draft in drafts:
            moves[0] += draft.kind == "protect" and draft.body["why"] == "trail"
            answers = draft.kind == "answered" and "-trail" in str(draft.key)
            if moves[0] == move and (step == "write" or (step == "answer" and answers)):
                os.kill(os.getpid(), signal.SIGKILL)
        return append(self, *drafts)

    def sent(self: IBBroker, pinned: QualifiedContract, ticket: Ticket) -> Any:
        if moves[0] == move and step == "send":
            os.kill(os.getpid(), signal.SIGKILL)
        return send(self, pinned, ticket)

    Journal.append = appended  # type: ignore[method-assign]
    IBBroker.send = sent  # type: ignore[method-assign]


def test_a_move_whose_connection_breaks_is_made_on_the_next(shop: Project, tmp_path: Path) -> None:
    """The change of the order leaves and never arrives. The books are compared, and it is sent
    again.
    """
    bench = Bench(shop, tmp_path, run_of(shop))
    changes: list[float] = []

    def before(tws: SimulatedTWS) -> None:
        place = tws.handlers["placeOrder"]

        def lose(session: Any, request: Any) -> None:
            is_change = request["order_type"] == "STP" and any(
                order.order_id == int(request["order_id"]) for order in tws.book.working()
            )
            if is_change:
                changes.append(float(request["aux_price"]))
                if len(changes) == 3:
                    session.close()
                    return
            place(session, request)

        tws.handlers["placeOrder"] = lose

    asyncio.run(bench.run(before=before))
    assert changes[3] == changes[2]
    equal(bench.audited())


def test_late_bars_move_the_stop_once_somebody_is_there(shop: Project, tmp_path: Path) -> None:
    """Bars close while the connection is lost: the stop is moved to where the last one put it."""
    run = shop.config(strategy={"name": "always_long"}, risk=risk(FAR), interval="15m")
    bench, at_broker = Bench(shop, tmp_path, run), Levels()

    async def market() -> None:
        await until(lambda: _is_in(bench, State.TRADING))
        while not bench.tws.finished.is_set():
            bars = bench.supervisor.status().bars
            if bars == 10:
                bench.tws.stop_listening()
                for session in list(bench.tws.sessions):
                    session.close()
                await until(lambda: _is_in(bench, State.DEGRADED))
                for _ in range(5):
                    await bench.tws.player.step()
                await bench.tws.listen()
            else:
                await bench.tws.player.step()
            await until(partial(_decided, bench, bars))

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(market())
            group.create_task(bench.run(at_broker.look, stepped=True))

    asyncio.run(both())
    audited = bench.audited()
    equal(audited)
    expected = backtest_levels(bench, audited)
    known = [bar for bar in at_broker.at if 15 < bar < len(expected) - 1]
    assert known
    assert [at_broker.at[bar][0] for bar in known] == [expected[bar] for bar in known]


# ----------------------------------------------------------------------------------------- the roll


def test_the_stop_trails_on_over_the_roll(shop: Project, tmp_path: Path) -> None:
    """Two sessions of one account: what the old contract's closes have drawn is carried into the
    next session, moved by the gap, and follows the closes of the new contract.
    """
    run = rolling(shop, risk=risk(FAR))
    bench = RollBench(shop, tmp_path, run)
    asyncio.run(bench.run(BEFORE))
    equal(bench.audited(BEFORE))
    assert bench.tws.positions == {OLD: 2}
    ((_, _, _, old),) = bench.working()
    last: list[tuple[str, float]] = []

    def look(bench: RollBench, bars: int) -> None:
        ((symbol, kind, quantity, level),) = bench.working()
        assert (kind, quantity) == ("STP", -2)
        last.append((symbol, level))

    asyncio.run(bench.run(ROLL, look))
    audited = bench.audited(ROLL)
    equal(audited)
    assert {symbol for symbol, _ in last} == {NEW}
    opens = bench.stage.recorded
    assert opens is not None
    assert bench.stage.roll is not None
    gap = opens.open[0] - bench.stage.roll.outgoing_open
    closes = np.maximum.accumulate(np.round(opens.close * 100))
    carried = round((old + gap) * 100)
    # the last close of the session before moved it too: that replay took no more orders
    assert round(last[0][1] * 100) >= carried
    assert [round(level * 100) for _, level in last[:-1]] == [
        max(round(last[0][1] * 100), int(close) - 150) for close in closes[: len(last) - 1]
    ]
    assert last[-1][1] > last[0][1]


def _decided(bench: Bench, bars: int) -> bool:
    return bench.supervisor.status().bars > bars or _is_in(bench, State.STOPPED)


def _is_in(bench: Bench, state: State) -> bool:
    return hasattr(bench, "supervisor") and bench.supervisor.status().state is state
