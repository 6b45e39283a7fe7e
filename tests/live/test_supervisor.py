"""A supervised session that is told things, interrupted, and taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks

from mcl.base.errors import Halt, LiveError
from mcl.config import schema
from mcl.data.synthetic.watermark import watermark
from mcl.live.journal import Draft, Journal, read
from mcl.live.journal_queries import last_status
from mcl.live.status import Command, Mode, State
from mcl.live.supervisor import KILL
from mcl.simulators.tws import SimulatedTWS

from .live_bench import Bench

ALWAYS = {"name": "always_long"}
STOPPED = {
    "size": {"method": "fixed", "contracts": 1.0},
    "protection": {"unit": "ticks", "stop": 90.0},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


@pytest.fixture
def bench(shop: Project, tmp_path: Path) -> Bench:
    """Always long with a stop so far away that it is never reached."""
    return Bench(shop, tmp_path, shop.config(strategy=ALWAYS, risk=STOPPED, interval="15m"))


def told(
    bench: Bench, words: dict[int, Command]
) -> tuple[Callable[[SimulatedTWS, int], None], list[Any]]:
    """Commands after so many bars, and their answers."""
    answers: list[Any] = []

    def tell(_: SimulatedTWS, bars: int) -> None:
        if bars in words:
            answers.append(
                asyncio.ensure_future(bench.supervisor.command(words[bars], "test", "to see"))
            )

    return tell, answers


def sent(bench: Bench) -> list[int]:
    return [entry.body["bar"] for entry in read(bench.path, ("order",))]


def test_flatten_closes_and_pauses_until_resume(bench: Bench) -> None:
    tell, answers = told(bench, {10: "flatten", 20: "resume"})
    asyncio.run(bench.run(tell))
    assert "closed +1 MCLF6" in answers[0].result()
    assert bench.supervisor.status().mode is Mode.NORMAL
    assert sent(bench)[0] == 0
    assert 19 <= sent(bench)[1] <= 21  # in again after resume, not before
    assert bench.tws.positions == {"MCLF6": 1}
    commands = [entry.body["word"] for entry in read(bench.path, ("command",))]
    assert commands == ["flatten", "resume"]


def test_paused_decides_and_sends_nothing(bench: Bench) -> None:
    tell, _ = told(bench, {1: "flatten", 2: "pause"})
    asyncio.run(bench.run(tell))
    assert sent(bench) == [0]
    decisions = [entry.body for entry in read(bench.path, ("decision",))]
    assert len(decisions) == 92
    assert {d["held_back"] for d in decisions[5:-1]} == {"paused"}


def test_reduce_only_opens_nothing(bench: Bench) -> None:
    tell, _ = told(bench, {1: "flatten", 5: "reduce-only"})
    asyncio.run(bench.run(tell))
    assert sent(bench) == [0]
    assert bench.tws.positions == {}


def test_stop_leaves_the_protection_at_the_broker_and_a_restart_goes_on(bench: Bench) -> None:
    """The same journal, a new process's worth of objects: the position is carried on, nothing is
    sent twice.
    """
    state = bench.folder / "tws.sqlite"
    tell, _ = told(bench, {10: "stop"})
    asyncio.run(bench.run(tell, state=state))
    assert bench.supervisor.status().state is State.STOPPED
    assert [(o.kind, o.remaining) for o in bench.tws.book.working()] == [("STP", 1)]
    asyncio.run(bench.run(state=state))
    assert sent(bench) == [0]
    assert bench.audited().differences.to_dict("records") == []
    assert len([e for e in read(bench.path) if e.kind == "begin"]) == 1


def test_the_kill_switch_closes_and_stays_until_it_is_removed(bench: Bench) -> None:
    def kill(_: SimulatedTWS, bars: int) -> None:
        if bars == 10:
            (bench.folder / KILL).write_text("enough\n")

    with pytest.raises(LiveError, match=r"killed: closed \+1 MCLF6"):
        asyncio.run(bench.run(kill, speed=60.0))
    assert bench.tws.positions == {}
    assert bench.tws.book.working() == []
    with pytest.raises(LiveError, match=r"kill switch .* is set: enough"):
        asyncio.run(bench.run())


def test_an_order_that_could_open_a_position_by_itself_is_found_and_cancelled(
    shop: Project, tmp_path: Path
) -> None:
    """The broker fills the take-profit and forgets to cancel the stop of the same group."""
    near = STOPPED | {"protection": {"unit": "ticks", "stop": 90.0, "take_profit": 3.0}}
    bench = Bench(shop, tmp_path, shop.config(strategy=ALWAYS, risk=near, interval="15m"))
    asyncio.run(bench.run(before=lambda tws: tws.fault("no_oca"), speed=10.0))
    doubts = [e.body["sentence"] for e in read(bench.path, ("alert",))]
    stray = "/stop can still fill though no MCLF6 is held"
    assert any(sentence.endswith(stray) for sentence in doubts), doubts
    assert bench.supervisor.status().state is State.STOPPED
    assert all(fill.body["reason"] != "stop" for fill in read(bench.path, ("fill",)))
    assert len(bench.tws.book.working()) <= 2  # no more than those of what is held now


def test_a_stop_that_somebody_cancels_is_placed_again(bench: Bench) -> None:
    def cancel(tws: SimulatedTWS, bars: int) -> None:
        if bars == 10:
            [stop] = tws.book.working()
            tws.book.end(stop)

    asyncio.run(bench.run(cancel, speed=10.0))
    doubts = [e.body["sentence"] for e in read(bench.path, ("alert",))]
    assert "+1 MCLF6 is held without its protective orders" in doubts
    assert [(o.kind, o.remaining) for o in bench.tws.book.working()] == [("STP", 1)]
    assert len(read(bench.path, ("protect",))) == 1


def test_a_foreign_trade_halts_until_a_person_takes_it_over(bench: Bench) -> None:
    said: list[str] = []

    async def adopt() -> None:
        while bench.supervisor.status().state is not State.HALTED:
            await asyncio.sleep(0.01)
        assert not bench.supervisor.status().connected
        said.append(bench.supervisor.status().why)
        said.append(await bench.supervisor.command("adopt", "test", "it was me"))

    def disturb(tws: SimulatedTWS, bars: int) -> None:
        if bars == 10:
            tws.fault("foreign", action="SELL", quantity=1)
            tasks.append(asyncio.ensure_future(adopt()))

    tasks: list[Any] = []
    asyncio.run(bench.run(disturb, wait=True))
    assert "an execution of -1 MCLF6" in said[0]
    assert "0 MCLF6 held where the journal has 1" in said[0]
    assert said[1].startswith("taken over as it is")
    assert len(sent(bench)) == 2  # long again at the next decision
    assert bench.tws.positions == {"MCLF6": 1}


def test_who_does_not_wait_is_told_what_is_unknown(bench: Bench) -> None:
    def disturb(tws: SimulatedTWS, bars: int) -> None:
        if bars == 10:
            tws.fault("transfer", quantity=1)

    with pytest.raises(Halt, match="2 MCLF6 held where the journal has 1"):
        asyncio.run(bench.run(disturb))


def test_a_session_that_loses_its_limit_is_closed(shop: Project, tmp_path: Path) -> None:
    bench = Bench(
        shop,
        tmp_path,
        shop.config(strategy=ALWAYS, interval="15m"),
        guards={**OFF, "max_session_loss_usd": 1.0},
    )
    asyncio.run(bench.run(speed=60.0))
    assert "SESSION_LOSS" in {entry.body["code"] for entry in read(bench.path, ("alert",))}
    assert bench.supervisor.status().mode is Mode.PAUSED
    assert bench.tws.positions == {}


OFF = dict.fromkeys(schema.Guards.model_fields)


def test_a_guard_refuses_and_the_session_goes_on(shop: Project, tmp_path: Path) -> None:
    bench = Bench(
        shop,
        tmp_path,
        shop.config(strategy=ALWAYS, risk=TWO, interval="15m"),
        guards={**OFF, "max_order": 1},
    )
    asyncio.run(bench.run())
    assert bench.tws.executions == ()
    sentence = read(bench.path, ("alert",))[0].body["sentence"]
    assert "2 contracts in one order, broker.guards.max_order=1" in sentence


TWO = {"size": {"method": "fixed", "contracts": 2.0}}


def test_a_cap_makes_the_position_smaller(shop: Project, tmp_path: Path) -> None:
    bench = Bench(
        shop,
        tmp_path,
        shop.config(
            strategy={"name": "random", "hold_sec": 1800, "seed": 4}, risk=TWO, interval="15m"
        ),
        max_contracts=1,
    )
    asyncio.run(bench.run())
    audited = bench.audited()
    assert {abs(e.body["target"]) for e in read(bench.path, ("decision",))} == {1}
    assert max(abs(audited.result.target)) == 2
    # of the promoted run it differs by what a person chose, and says so
    assert set(audited.differences["cause"]) == {"risk block"}
    assert "broker.max_contracts=1" in set(audited.differences["detail"])
    assert not audited.failed


def test_a_session_that_is_over_still_says_that_its_data_are_synthetic(bench: Bench) -> None:
    """The watermark stands in the journal; one of an earlier version says only that there is
    one.
    """
    bench.stage = replace(bench.stage, warmup=replace(bench.stage.warmup, synthetic=True))
    tell, _ = told(bench, {3: "stop"})
    asyncio.run(bench.run(tell))
    assert (
        last_status(bench.path)["synthetic"]
        == bench.supervisor.status().synthetic
        == watermark(bench.stage.warmup)
    )
    with Journal(bench.folder / "older.sqlite") as older:
        older.append(Draft("begin", {"synthetic": True}))
    assert (
        last_status(bench.folder / "older.sqlite")["synthetic"]
        == "SYNTHETIC DATA — not a market result"
    )
