"""A session that can be left alone: what a person or the machine does to it while orders are slow
to be answered.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks

from mcl.base.errors import LiveError
from mcl.base.instants import NS
from mcl.broker.order_references import STOP
from mcl.config import schema
from mcl.live.journal import read
from mcl.live.session_state import book_of
from mcl.live.status import State
from mcl.live.supervisor import KILL
from mcl.market import calendar
from mcl.simulators.tws import SimulatedTWS

from . import real_time
from .live_bench import Bench, until
from .real_time import DAY, OFF, RANDOM, RATE, TEN, Desk

LONG: dict[str, Any] = {
    "strategy": {"name": "always_long"},
    "risk": {
        "size": {"method": "fixed", "contracts": 1.0},
        "protection": {"unit": "ticks", "stop": 60.0},
    },
}
TODAY = calendar.to_day(DAY)
REAL = {"rate": 1.0, "start_ns": TEN + 54 * NS}  # a bar of a minute closes in six seconds
FAST = {"rate": RATE, "start_ns": TEN}
# those of ib_paper; the contract of the data is near its end
GUARDED = schema.Guards().model_dump() | {"days_before_last_trade": None}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


def slow(tws: SimulatedTWS, least: float = 0.6, most: float = 0.6) -> None:
    """Every order and every cancel is served so much later."""
    for request in ("placeOrder", "cancelOrder"):
        tws.fault("slow", on=f"receive {request}", times=0, least=least, most=most)


def left_at_the_broker(tws: SimulatedTWS) -> tuple[dict[str, int], list[str]]:
    return tws.positions, [order.ref for order in tws.book.working()]


@pytest.mark.parametrize("word", ["flatten", "kill"])
@pytest.mark.parametrize("market", [REAL, FAST], ids=["real time", "fast clock"])
def test_to_close_out_of_halted_is_one_sequence_that_nothing_cuts_off(
    shop: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    market: dict[str, Any],
    word: Any,
) -> None:
    """Somebody else trades, the session is HALTED, a person says flatten (or kill); every order
    takes 0.6 s to be answered.
    """
    interval = "1m" if market is REAL else "15m"
    desk = Desk(
        shop, tmp_path, shop.config(**LONG, interval=interval), market["start_ns"], guards=GUARDED
    )
    said: list[str] = []

    async def operate() -> None:
        await until(lambda: getattr(desk, "supervisor", None) and desk.tws.positions)
        slow(desk.tws)
        desk.tws.fault("foreign", action="BUY", quantity=1)
        await until(lambda: desk.supervisor.status().state is State.HALTED)
        said.append(await desk.supervisor.command(word, "test", "enough"))
        await asyncio.sleep(2.0)  # what is still on its way arrives
        said.append(str(left_at_the_broker(desk.tws)))
        desk.supervisor.request("stop", "test")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        await desk.trade(monkeypatch, lambda *_: None, wait=True, rate=market["rate"])
        await operator

    if word == "kill":
        with pytest.raises(LiveError, match=r"killed: closed \+2 MCLF6"):
            asyncio.run(main())
        assert said[0].startswith("STOPPED: killed: closed +2 MCLF6")
    else:
        asyncio.run(main())
        assert said[0].startswith("closed +2 MCLF6")
        assert said[1] == "({}, [])"
    assert left_at_the_broker(desk.tws) == ({}, [])
    refs = [order.ref for order in desk.tws.book.orders.values() if order.ref]
    assert len(refs) == len(set(refs))
    placed = [ref for ref in refs if ref.endswith(STOP)]
    assert len(placed) == 1  # of the entry: what is to be closed is not protected first
    hung = [
        e.body["sentence"] for e in read(desk.path, ("alert",)) if "hang_sec" in e.body["sentence"]
    ]
    assert hung == []


def alerts(desk: Desk, code: str) -> list[str]:
    return [
        entry.body["sentence"]
        for entry in read(desk.path, ("alert",))
        if entry.body["code"] == code
    ]


def unanswered(tws: SimulatedTWS) -> None:
    """Orders for the market never arrive."""
    tws.fault("drop", on="receive placeOrder", where={"order_type": "MKT"}, times=0)


async def long(desk: Desk) -> None:
    """Until the position stands and is protected."""
    await until(
        lambda: (
            getattr(desk, "supervisor", None)
            and desk.tws.positions
            and desk.supervisor.status().position
        )
    )


def test_a_failing_flatten_backs_off_and_alerts_and_ends_flat(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path, shop.config(**LONG, interval="15m"), timeout_sec=1.0)
    said: list[str] = []

    async def operate() -> None:
        await long(desk)
        unanswered(desk.tws)
        said.append(await desk.supervisor.command("flatten", "test", "enough"))
        await until(lambda: len(alerts(desk, "FLATTEN")) >= 2)
        # the position keeps its stop meanwhile
        assert [order.kind for order in desk.tws.book.working()] == ["STP"]
        desk.tws.faults.clear()
        await until(
            lambda: not desk.tws.positions and desk.supervisor.status().state is State.TRADING
        )
        desk.supervisor.request("stop", "test")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        await desk.trade(monkeypatch, lambda *_: None, wait=True)
        await operator

    asyncio.run(main())
    assert said[0].startswith("flatten is written down")
    assert left_at_the_broker(desk.tws) == ({}, [])
    told = alerts(desk, "FLATTEN")
    assert all("+1 MCLF6 held" in sentence for sentence in told)
    waits = [
        float(sentence.rsplit("next attempt in ", 1)[1].removesuffix(" s")) for sentence in told
    ]
    assert waits == sorted(set(waits))


def test_stop_is_honoured_while_a_position_is_being_closed(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next start continues with what was not done."""
    desk = Desk(shop, tmp_path, shop.config(**LONG, interval="15m"), timeout_sec=60.0)
    state: dict[str, Any] = {"state": tmp_path / "tws.sqlite"}

    async def operate() -> None:
        await long(desk)
        unanswered(desk.tws)
        desk.supervisor.request("flatten", "test")
        await until(lambda: desk.supervisor.status().state is State.FLATTENING)
        desk.supervisor.request("stop", "test")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        async with asyncio.timeout(45.0):  # less than the time-out of the broker's answer
            await desk.trade(monkeypatch, lambda *_: None, wait=True, **state)
        await operator

    asyncio.run(main())
    assert desk.tws.positions == {"MCLF6": 1}
    [told] = alerts(desk, "FLATTEN")
    assert told.startswith("a person said stop before flatten was done: +1 MCLF6 held")

    async def again() -> None:
        async def flat() -> None:
            await until(
                lambda: not desk.tws.positions and desk.supervisor.status().state is State.TRADING
            )
            desk.supervisor.request("stop", "test")

        del desk.supervisor
        operator = asyncio.ensure_future(operate_when_there(flat))
        await desk.trade(monkeypatch, lambda *_: None, wait=True, **state)
        await operator

    async def operate_when_there(act: Any) -> None:
        await until(lambda: getattr(desk, "supervisor", None))
        await act()

    asyncio.run(again())
    assert left_at_the_broker(desk.tws) == ({}, [])
    assert [entry.body["word"] for entry in read(desk.path, ("flat",))] == ["flatten"]


@pytest.mark.parametrize("state", [State.DEGRADED, State.HALTED])
def test_the_kill_switch_is_looked_at_in_every_state(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    desk = Desk(shop, tmp_path, shop.config(**LONG, interval="15m"))

    async def operate() -> None:
        await long(desk)
        if state is State.HALTED:
            desk.tws.fault("foreign", action="BUY", quantity=1)
        else:
            desk.tws.fault("refuse", sec=3.0, drop_all=True)
        await until(lambda: desk.supervisor.status().state is state)
        (tmp_path / KILL).write_text("enough\n")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        await desk.trade(monkeypatch, lambda *_: None, wait=True)
        await operator

    with pytest.raises(LiveError, match=r"killed: closed \+[12] MCLF6"):
        asyncio.run(main())
    assert left_at_the_broker(desk.tws) == ({}, [])


def test_a_connection_lost_before_the_first_bar_is_made_again(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path)

    async def operate() -> None:
        await until(
            lambda: getattr(desk, "supervisor", None) and desk.supervisor.status().connected
        )
        assert desk.supervisor.status().bars == 0
        desk.tws.fault("refuse", sec=0.5, drop_all=True)
        await until(lambda: desk.supervisor.status().bars >= 2)
        desk.supervisor.request("stop", "test")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        await desk.trade(monkeypatch, lambda *_: None)
        await operator

    asyncio.run(main())
    states = [entry.body["state"] for entry in read(desk.path, ("state",))]
    assert states.index("degraded") < states.index("trading", states.index("degraded"))
    assert states[-1] == "ended"


@pytest.mark.parametrize("silent_end", [True, False])
def test_a_session_ends_in_order_with_a_market_that_has_nothing_more(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_end: bool
) -> None:
    """As with `mcl tws serve --today`: the tape ends at the close, the clock continues."""
    desk = Desk(shop, tmp_path, start_ns=calendar.ns_of(calendar.from_day(TODAY), 16, 20))

    async def main() -> None:
        async with asyncio.timeout(100.0):
            await desk.trade(monkeypatch, lambda *_: None, silent_end=silent_end)

    asyncio.run(main())
    assert desk.supervisor.status().why == "the session's bars ended"
    assert len(read(desk.path, ("bar",))) >= 2


def test_an_account_in_euros_has_its_limit_in_dollars(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(
        shop,
        tmp_path,
        shop.config(**LONG, interval="15m"),
        guards=OFF | {"max_session_loss_usd": 1.0},
    )

    async def operate() -> None:
        await until(lambda: getattr(desk, "supervisor", None) and alerts(desk, "SESSION_LOSS"))
        await until(
            lambda: not desk.tws.positions and desk.supervisor.status().state is State.TRADING
        )
        desk.supervisor.request("stop", "test")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        await desk.trade(monkeypatch, lambda *_: None, base="EUR", rate_of_usd=0.8)
        await operator

    asyncio.run(main())
    assert desk.supervisor.gate.start_usd == pytest.approx(25_000.0)
    assert alerts(desk, "SESSION_LOSS")[0].startswith("the session lost")
    assert left_at_the_broker(desk.tws) == ({}, [])


def test_an_account_that_tells_no_rate_is_refused_at_the_start(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(shop, tmp_path)
    with pytest.raises(LiveError, match="the account is kept in EUR and tells no rate of USD"):
        asyncio.run(desk.trade(monkeypatch, lambda *_: None, base="EUR", rate_of_usd=0.0))


@pytest.mark.parametrize("guard", ["max_orders_per_day", "max_session_loss_usd"])
def test_a_limit_that_is_reached_stays_reached_after_a_kill(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    """SIGKILL in the middle of the session, then a new process on the same journal and the same
    broker.
    """
    limits = OFF | {guard: 1 if guard == "max_orders_per_day" else 1.0}
    run = shop.config(**LONG, interval="15m") if guard == "max_session_loss_usd" else None
    desk = Desk(shop, tmp_path, run, guards=limits)
    expected = (
        "1 order was sent within one day" if guard == "max_orders_per_day" else "the session lost"
    )

    async def main() -> None:
        async with SimulatedTWS(desk.tape, rate=RATE / 3, start_ns=TEN, slippage_ticks=1.0) as tws:
            child = begin(desk, tws.port)
            if guard == "max_session_loss_usd":
                await until(lambda: "flat" in written(desk))
            else:
                await until(lambda: "fill" in written(desk))
            child.kill()
            child.join()
            before, sent = len(read(desk.path, ("alert",))), len(desk_orders(desk))
            child = begin(desk, tws.port, resume=True)

            def refused() -> bool:
                told = [e.body for e in read(desk.path, ("alert",))[before:]]
                return any(
                    expected in body["sentence"]
                    for body in told
                    if body["code"] in ("GUARD", "SESSION_LOSS")
                )

            await until(refused, 90.0)
            child.kill()
            child.join()
            # the half of a reversal that closes goes
            filled = {e.body["ref"] for e in read(desk.path, ("fill",))}
            assert not [ref for ref in desk_orders(desk)[sent:] if ref in filled]

    asyncio.run(main())
    assert len(read(desk.path, ("begin",))) == 1


def written(desk: Desk) -> set[str]:
    """Kinds of entries; none before the other process has made the journal."""
    with suppress(LiveError):
        return {entry.kind for entry in read(desk.path)}
    return set()


def desk_orders(desk: Desk) -> list[str]:
    return [str(entry.key) for entry in read(desk.path, ("order",)) if entry.body["to"]]


def begin(desk: Desk, port: int, resume: bool = False) -> Any:
    """A session in a process of its own; `resume`: a person says so at once."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=real_time.trade_alone,
        args=(desk.session_config, desk.stage, desk.path, port, resume),
        daemon=True,
    )
    process.start()
    return process


def test_a_reversal_is_never_without_a_stop(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers take 0.2 to 1 s, then the order that closes is never answered: the stop stands, the
    time without it is measured.
    """
    risk = {
        "size": {"method": "fixed", "contracts": 1.0},
        "protection": {"unit": "ticks", "stop": 90.0},
    }
    desk = Desk(
        shop, tmp_path, shop.config(strategy=RANDOM, risk=risk, interval="15m"), guards=GUARDED
    )
    naked: list[float] = []

    async def look() -> None:
        since = None
        while True:
            held = desk.tws.account.holding(desk.tws.played).quantity
            stops = sum(
                -order.side * order.remaining
                for order in desk.tws.book.working()
                if order.kind == "STP"
            )
            now = asyncio.get_running_loop().time()
            since = (since or now) if held and stops * held < held * held else None
            naked.append(now - since if since else 0.0)
            await asyncio.sleep(0.01)

    def reversals() -> list[Any]:
        return [fill for fill in desk.tws.executions if fill.order.ref.endswith("/close")]

    async def operate() -> None:
        await long(desk)
        slow(desk.tws, 0.2, 1.0)
        watching = asyncio.ensure_future(look())
        await until(lambda: len(reversals()) >= 2, 90.0)
        desk.tws.fault("drop", on="receive placeOrder", where={"order_type": "MKT"}, times=1)
        await asyncio.sleep(4.0)
        watching.cancel()
        desk.supervisor.request("stop", "test")

    async def main() -> None:
        operator = asyncio.ensure_future(operate())
        await desk.trade(monkeypatch, lambda *_: None, wait=True, rate=RATE / 4)
        await operator

    asyncio.run(main())
    print(f"longest without a stop: {max(naked):.2f} s")
    assert max(naked) <= 2.0


def test_a_corrected_execution_is_booked(shop: Project, tmp_path: Path) -> None:
    """The journal's account and the broker's are worth the same afterwards, in this process and in
    the next one.
    """
    bench = Bench(shop, tmp_path, shop.config(**LONG, interval="15m"))

    def correct(tws: SimulatedTWS, bars: int) -> None:
        if bars == 10:
            tws.fault("correct", price=59.0)

    asyncio.run(bench.run(correct))
    [corrected] = read(bench.path, ("correct",))
    assert (corrected.body["price"], corrected.body["quantity"]) == (59.0, 1)
    assert {e.body["code"] for e in read(bench.path, ("alert",))} == {"CORRECTED"}
    session_config = bench.supervisor.session
    again = book_of(bench.path, *session_config.terms, session_config.chain)
    close = round(read(bench.path, ("bar",))[-1].body["close"] / 0.01)
    assert again.ledger.mark(close) == pytest.approx(bench.tws.account.equity)
