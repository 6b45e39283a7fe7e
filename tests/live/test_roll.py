"""A position over a roll: moved to the next contract as one journaled thing, at the prices and
levels of the backtest.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployments import Project

from mcl.base.errors import GuardError, Halt
from mcl.base.instants import NS
from mcl.broker.guards import OrderProposal, PreTradeGate, out_by
from mcl.broker.ib import IBBroker
from mcl.broker.order_references import traded_for
from mcl.broker.protocol import Fill, QualifiedContract
from mcl.config import schema
from mcl.engine.account import FLAT, Ledger, Money, profit_level, stop_level
from mcl.engine.decision import Bracket
from mcl.engine.legs import legs_of
from mcl.live import journal_queries
from mcl.live import session_setup as staging
from mcl.live.audit.record import AuditedSession
from mcl.live.journal import Journal, read
from mcl.live.position_book import PositionBook
from mcl.live.roll_state import PendingRoll
from mcl.live.session import run_session
from mcl.live.status import State
from mcl.market import calendar
from mcl.market.instruments import MCL
from mcl.simulators.tws import SimulatedTWS

from .rolls import BEFORE, NEW, OLD, ROLL, RollBench, rolling, write_contracts

WIDE = {
    "size": {"method": "fixed", "contracts": 2.0},
    "protection": {"unit": "ticks", "stop": 300.0, "take_profit": 400.0},
}

FREE = schema.Guards(**dict.fromkeys(schema.Guards.model_fields))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_contracts(root)
    return Project.at(root)


@pytest.fixture(scope="module")
def eve(shop: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session before the roll ended long two, with stop and take-profit so far away that they
    are never reached.
    """
    folder = tmp_path_factory.mktemp("eve")
    bench = RollBench(shop, folder, rolling(shop, risk=WIDE))
    asyncio.run(bench.run(BEFORE))
    assert bench.tws.positions == {OLD: 2}
    return folder


@pytest.fixture
def bench(shop: Project, eve: Path, tmp_path: Path) -> RollBench:
    """On the morning of the roll."""
    shutil.copytree(eve, tmp_path, dirs_exist_ok=True)
    return RollBench(shop, tmp_path, rolling(shop, risk=WIDE))


def stop_after(bars: int) -> Callable[[RollBench, int], None]:
    def disturb(bench: RollBench, known: int) -> None:
        if known == bars:
            bench.supervisor.request("stop", "test")

    return disturb


def moved(bench: RollBench, gap: float | None = None) -> None:
    """Two contracts, each traded once in each leg, protected in the new contract at the old levels
    moved by the gap.
    """
    assert bench.tws.positions == {NEW: 2}
    legs = [(symbol, quantity) for symbol, quantity, _, ref in bench.fills() if "-roll" in ref]
    assert sum(q for s, q in legs if s == OLD) == -2
    assert sum(q for s, q in legs if s == NEW) == 2
    assert len(legs) == 2
    assert bench.working() == levels(bench, gap)


def levels(bench: RollBench, gap: float | None) -> set[tuple[str, str, int, float]]:
    """By hand: what was bought the day before, less 300 ticks and plus 400, moved by the difference
    of the two opens, or by `gap`.
    """
    ((_, _, entry, _),) = bench.fills(BEFORE)
    roll, recorded = bench.stage.roll, bench.stage.recorded
    assert roll is not None
    assert recorded is not None
    gap = recorded.open[0] - roll.outgoing_open if gap is None else gap
    return {
        (NEW, "STP", -2, round(entry + gap - 3.00, 2)),
        (NEW, "MIT", -2, round(entry + gap + 4.00, 2)),
    }


def test_a_position_of_the_old_contract_is_moved_as_in_the_backtest(bench: RollBench) -> None:
    asyncio.run(bench.run(ROLL))
    roll, recorded = bench.stage.roll, bench.stage.recorded
    assert roll is not None
    assert recorded is not None
    assert [fill[:3] for fill in bench.fills()] == [
        (OLD, -2, roll.outgoing_open - 0.01),
        (NEW, 2, recorded.open[0] + 0.01),
    ]
    moved(bench)
    entries = read(bench.path(ROLL))
    declared = next(entry for entry in entries if entry.kind == "roll")
    assert declared.seq < next(entry.seq for entry in entries if entry.kind == "fill")
    assert (declared.body["from"], declared.body["to"], declared.body["position"]) == (OLD, NEW, 2)


def test_the_audit_of_a_rolled_session_finds_the_backtest(bench: RollBench) -> None:
    """All decisions, both legs, their prices, and the equity of the last bar to the last bit."""
    asyncio.run(bench.run(ROLL))
    done = bench.audited()
    assert done.differences.to_dict("records") == []
    assert len(done.decisions) == 92
    assert [(f["bar"], f["quantity"]) for f in done.result.fills] == [(0, -2), (0, 2)]
    assert done.decisions["equity_usd"].iloc[-1] == done.result.equity[-1]
    assert list(done.slippage["reason"]) == ["roll", "roll"]
    assert list(done.slippage["spread_ticks"] + done.slippage["execution_ticks"]) == [1.0, 1.0]


def test_a_session_that_trades_on_after_the_roll_is_the_backtest(
    shop: Project, tmp_path: Path
) -> None:
    """The levels of the day before end the position in the new contract; then the strategy goes its
    ways.
    """
    near = {
        "size": {"method": "fixed", "contracts": 1.0},
        "protection": {"unit": "ticks", "stop": 60.0, "take_profit": 70.0},
    }
    run = rolling(shop, risk=near, strategy={"name": "ema_cross", "fast": 3, "slow": 9})
    bench = RollBench(shop, tmp_path, run)
    asyncio.run(bench.run(BEFORE))
    assert bench.tws.positions == {OLD: 1}
    asyncio.run(bench.run(ROLL))
    assert [fill[:2] for fill in bench.fills()[:3]] == [(OLD, -1), (NEW, 1), (NEW, -1)]
    assert len({traded_for(fill[3]) for fill in bench.fills()}) == 11  # a reversal is two fills
    assert bench.audited().differences.to_dict("records") == []


def test_who_is_there_before_the_open_rolls_at_the_open(bench: RollBench) -> None:
    """Connected while the exchange is closed: nothing is sent before the first price."""
    opens = calendar.ns_of(BEFORE, 18)
    asyncio.run(bench.run(ROLL, start_ns=opens - 600 * NS))
    assert {execution.time for execution in bench.tws.executions[-2:]} == {opens}
    moved(bench)
    assert bench.audited().differences.to_dict("records") == []


@pytest.mark.parametrize("stored_until", [ROLL, BEFORE])
def test_a_real_session_rolls_before_the_store_knows(bench: RollBench, stored_until: date) -> None:
    """The stored bars end one session before the roll, or two: its contract comes from the rule,
    its gap and what is missing from the broker's histories, and every decision is that of a
    backtest that has them stored.
    """
    asyncio.run(bench.run(ROLL, stored_until=stored_until))
    known = bench.supervisor.stage
    assert (known.contract.symbol, known.stored) == (NEW, None)
    whole = staging.replayed(bench.deployed.config, ROLL, bench.strategy, bench.desk.root)
    assert known.roll is not None
    assert whole.roll is not None
    assert (known.roll.gap, known.adjustment) == (whole.roll.gap, whole.adjustment)
    shared = min(len(known.warmup), len(whole.warmup))
    for name in ("close_time", "open", "close", "session", "adjustment", "to_close_sec"):
        assert np.array_equal(
            getattr(known.warmup, name)[-shared:], getattr(whole.warmup, name)[-shared:]
        ), name
    bench.stage = whole
    moved(bench)
    assert bench.audited().differences.to_dict("records") == []


def test_two_replays_in_a_row_roll_as_the_backtest(
    deploy: Callable[..., Project], desk: Project
) -> None:
    """`mcl live` of the session before the roll, then of the roll with what the first one left."""
    write_contracts(desk.root)
    data = {
        "path": "contracts.csv",
        "holdout_start": str(BEFORE),
        "roll": rolling(desk).data.roll.model_dump(),
    }
    deploy(strategy={"name": "ema_cross", "fast": 3, "slow": 9}, interval="15m", **data)

    def session(day: date, carry: bool) -> AuditedSession:
        broker = schema.BrokerConfig(replay={"session": day, "carry": carry})  # type: ignore[arg-type]
        return run_session("paper", broker, project=desk, progress=False)

    assert len(session(BEFORE, carry=False).differences) == 0
    rolled = session(ROLL, carry=True)
    assert rolled.differences.to_dict("records") == []
    assert list(rolled.fills["symbol"])[:2] == [OLD, NEW]
    assert rolled.facts["net_pnl_usd"] == rolled.facts["backtest_net_pnl_usd"]
    assert (
        journal_queries.last_status(rolled.journal)["position"]
        == rolled.decisions["position"].iloc[-1]
    )


# -------------------------------------------------------------------------------------------- death


def doomed(bench: RollBench, at: int) -> bool:
    """The session of the roll in a process that kills itself just before its n-th step after the
    roll is written down: an entry of the journal, or an order or a cancel that leaves. False when
    it had fewer steps.
    """
    child = os.fork()
    if child == 0:
        _die_before(at)
        try:
            asyncio.run(bench.run(ROLL, stop_after(1)))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die_before(at: int) -> None:
    steps = [-1]

    def stepping(act: Callable[..., Any], begins: bool = False) -> Callable[..., Any]:
        def step(self: Any, *args: Any) -> Any:
            if steps[0] >= 0:
                steps[0] += 1
            if begins and any(draft.kind == "roll" for draft in args):
                steps[0] = max(steps[0], 0)
            if steps[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(self, *args)

        return step

    Journal.append = stepping(Journal.append, begins=True)  # type: ignore[method-assign]
    IBBroker.send = stepping(IBBroker.send)  # type: ignore[method-assign]
    IBBroker.revoke = stepping(IBBroker.revoke)  # type: ignore[method-assign]


def test_killed_at_any_step_of_the_roll_it_goes_on_and_nothing_is_doubled(
    shop: Project, eve: Path, tmp_path: Path
) -> None:
    """Runner and server die together; the server has what it was told, as a broker has. Step 0 is
    before the roll is written down.
    """
    run, at = rolling(shop, risk=WIDE), 0
    while True:
        folder = Path(shutil.copytree(eve, tmp_path / str(at)))
        bench = RollBench(shop, folder, run)
        killed = doomed(bench, at)
        asyncio.run(bench.run(ROLL, stop_after(2)))
        moved(bench)
        assert bench.audited(exact_prices=False).unexplained == 0
        if not killed:
            break
        at += 1
    assert at >= 8  # declared, two cancels, out, its fill, in, two legs


# ----------------------------------------------------------------------------------------- refusals


def refusing(symbol: str, times: int = 1) -> Callable[[SimulatedTWS], None]:
    """The broker refuses market orders in a contract."""

    def before(tws: SimulatedTWS) -> None:
        con_id = next(
            listed.con_id for listed in tws.listings._all if listed.local_symbol == symbol
        )
        tws.fault(
            "reject",
            on="receive placeOrder",
            where={"con_id": con_id, "order_type": "MKT"},
            times=times,
        )

    return before


def test_a_refused_first_leg_halts_with_the_position_named_and_protected(bench: RollBench) -> None:
    with pytest.raises(
        Halt,
        match=(
            r"the roll of \+2 MCLZ5 to MCLF6 was refused; held now: \+2 MCLZ5: .*Rejected by system"
        ),
    ):
        asyncio.run(bench.run(ROLL, before=refusing(OLD, times=2)))
    assert bench.tws.positions == {OLD: 2}
    assert {order[:3] for order in bench.working()} == {(OLD, "STP", -2), (OLD, "MIT", -2)}


def test_a_refused_second_leg_halts_flat_and_a_person_lets_it_go_on(bench: RollBench) -> None:
    said: list[str] = []

    async def person(bench: RollBench) -> None:
        while bench.supervisor.status().state is not State.HALTED:
            await asyncio.sleep(0.01)
        said.append(bench.supervisor.status().why)
        assert (bench.tws.positions, bench.working()) == ({}, set())
        await bench.supervisor.command("adopt", "test", "again")

    asyncio.run(bench.run(ROLL, before=refusing(NEW), beside=person, wait=True))
    assert "the roll of +2 MCLZ5 to MCLF6 was refused; held now: nothing" in said[0]
    assert bench.stage.roll is not None
    # the market has moved between the legs: the gap of the table
    moved(bench, bench.stage.roll.gap)
    assert bench.audited(exact_prices=False).unexplained == 0


def test_half_way_a_person_may_end_it_flat(bench: RollBench) -> None:
    async def person(bench: RollBench) -> None:
        while bench.supervisor.status().state is not State.HALTED:
            await asyncio.sleep(0.01)
        await bench.supervisor.command("flatten", "test", "enough")
        bench.supervisor.request("stop", "test")

    asyncio.run(bench.run(ROLL, before=refusing(NEW), beside=person, wait=True))
    assert (bench.tws.positions, bench.working()) == ({}, set())
    assert bench.supervisor.status().position == 0
    assert [fill[:2] for fill in bench.fills()] == [(OLD, -2)]
    assert [
        e.body["given_up"] for e in read(bench.path(ROLL), ("roll",)) if "given_up" in e.body
    ] == ["flatten"]


@pytest.mark.parametrize("word", ["flatten", "stop"])
def test_a_command_during_the_roll_waits_for_its_second_leg(bench: RollBench, word: Any) -> None:
    async def person(bench: RollBench) -> None:
        while bench.tws.positions == {OLD: 2} or not hasattr(bench, "supervisor"):
            await asyncio.sleep(0)
        if word == "flatten":
            assert "closed +2 MCLF6" in await bench.supervisor.command("flatten", "test", "now")
        bench.supervisor.request("stop", "test")

    asyncio.run(bench.run(ROLL, beside=person))
    legs = [fill[:2] for fill in bench.fills()]
    if word == "stop":
        moved(bench)
    else:
        assert legs == [(OLD, -2), (NEW, 2), (NEW, -2)]
        assert (bench.tws.positions, bench.working()) == ({}, set())


def test_the_stop_of_the_old_contract_may_be_first(bench: RollBench) -> None:
    """What has been closed does not come back in the next contract."""

    def before(tws: SimulatedTWS) -> None:
        tws.fault("race", on="receive placeOrder", where={"order_type": "MKT"})

    asyncio.run(bench.run(ROLL, stop_after(1), before=before))
    assert [fill[:2] for fill in bench.fills()] == [(OLD, -2)]
    assert (bench.tws.positions, bench.working()) == ({}, set())


def test_the_legs_of_a_short_settle_without_their_slippage() -> None:
    """Bought back at 6,001 for 6,000, sold at 6,036 for 6,037: the levels move by 37 ticks."""
    ledger = Ledger(
        Money(25_000.0, 1.0, 0.5, 1.0),
        FLAT._replace(
            position=-1,
            cash_ticks=6_050.0,
            sides=1,
            entry_ticks=6_050.0,
            legs=legs_of(Bracket(50.0, 150.0, math.nan), -1, 6_050.0, math.nan),
        ),
    )
    move = PendingRoll(OLD, NEW, 30.0, {"a"})
    move.take(Fill("1", 0, OLD, 1, 60.01, 0.5, "target", "a/out"), 6_001.0)
    book = PositionBook(ledger=ledger, tick_size=0.01, pending_roll=move)
    assert (book.holding(OLD), book.holding(NEW)) == (FLAT, FLAT)
    assert move.bracket(ledger.holding, 1.0)[:2] == (101.0, 99.0)  # 6,137 - 6,036 and 6,036 - 5,937
    move.take(Fill("2", 0, NEW, -1, 60.36, 0.5, "target", "a/in"), 6_036.0)
    assert move.whole(-1)
    assert PendingRoll.of(move.state()) == move
    move.settle(ledger)
    assert ledger.holding[:4] == (-1, 6_050.0 - 6_001.0 + 6_036.0, 3, 6_087.0)
    assert (stop_level(ledger.holding), profit_level(ledger.holding)) == (6_137.0, 5_937.0)


# ------------------------------------------------------------------------------------------- guards


def proposal(
    pinned: QualifiedContract,
    quantity: int,
    position: int,
    ref: str,
    now: int,
    furthest_ticks: float,
    moves: bool = False,
) -> OrderProposal:
    return OrderProposal(
        pinned=pinned,
        quantity=quantity,
        position=position,
        ref=ref,
        last_price=60.0,
        now=now,
        furthest_ticks=furthest_ticks,
        moves=moves,
    )


def test_a_position_of_any_other_contract_halts(shop: Project, eve: Path, tmp_path: Path) -> None:
    shutil.copytree(eve, tmp_path, dirs_exist_ok=True)
    bench = RollBench(shop, tmp_path, rolling(shop, risk=WIDE))
    asyncio.run(bench.run(ROLL, stop_after(1)))

    def hold(tws: SimulatedTWS) -> None:
        roll = bench.stage.roll
        assert roll is not None
        tws.seed_position(roll.outgoing, 2, 60.0)

    with pytest.raises(Halt, match="2 MCLZ5 held where the journal has 0"):
        asyncio.run(bench.run(ROLL, before=hold))


def test_after_the_out_by_session_only_closing_orders_pass() -> None:
    contract = calendar.contract("MCL", 2025, 12)
    assert contract.last_trade_date == date(2025, 11, 19)
    assert out_by(contract, 3) == ROLL
    pinned = QualifiedContract(contract, MCL, 1, OLD, "NYMEX")
    gate = PreTradeGate(FREE, "MCL", scheduled=False, out_by_sessions=3)
    on_roll_day, day_before = calendar.ns_of(ROLL, 12), calendar.ns_of(BEFORE, 12)
    gate.judge(proposal(pinned, 1, 0, "a", day_before, math.nan))
    gate.judge(proposal(pinned, -1, 1, "b", on_roll_day, math.nan))
    sentence = (
        "OUT_BY 2025-11-14: MCLZ5 stops trading on 2025-11-19,"
        " data.roll.sessions_before_last_trade=3; orders may only close it"
    )
    with pytest.raises(GuardError, match=sentence):
        gate.judge(proposal(pinned, 1, 0, "c", on_roll_day, math.nan))


def test_a_leg_of_a_roll_is_not_new_risk(bench: RollBench) -> None:
    """Refused for the rate, the hours and the size of one order a decision would be; the roll is
    not. The position limit holds.
    """
    contract = calendar.contract("MCL", 2026, 1)
    limits = FREE.model_copy(
        update={"min_order_gap_sec": 60.0, "quiet_minutes": 5, "max_order": 1, "max_position": 2}
    )
    gate, now = PreTradeGate(limits, "MCL", scheduled=False), calendar.ns_of(BEFORE, 18)
    pinned = QualifiedContract(contract, MCL, 1, NEW, "NYMEX")
    gate.sent(now)
    gate.judge(proposal(pinned, 2, 0, "a/in", now, 0.0, moves=True))
    with pytest.raises(GuardError, match="max_order=1"):
        gate.judge(proposal(pinned, 2, 0, "a", now, 0.0))
    with pytest.raises(GuardError, match="max_position=2"):
        gate.judge(proposal(pinned, 3, 0, "a/in", now, 0.0, moves=True))
