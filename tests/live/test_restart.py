"""A session that trades is stopped at any bar and started again on the kept state: it continues as
if nothing had been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks

from mcl.broker.order_references import traded_for
from mcl.live.journal import read
from mcl.live.status import State
from mcl.simulators.tws import SimulatedTWS

from .live_bench import Bench, until

CROSS = {"name": "ema_cross", "fast": 3, "slow": 8}
OFTEN = {"name": "random", "hold_sec": 900, "seed": 4}
ATR = {"size": {"method": "fixed", "contracts": 1.0}, "protection": {"unit": "atr", "stop": 3.0}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


@pytest.mark.parametrize("bar", [9, 28, 122, 125, 126])
def test_after_a_restart_the_first_order_fills_like_any_other(
    shop: Project, tmp_path: Path, bar: int
) -> None:
    bench = Bench(shop, tmp_path, shop.config(strategy=CROSS, risk=ATR, interval="5m"))
    state: dict[str, Any] = {"state": tmp_path / "tws.sqlite"}
    told: list[Any] = []

    def stop(_: SimulatedTWS, bars: int) -> None:
        if bars == bar:
            told.append(
                asyncio.ensure_future(bench.supervisor.command("stop", "test", "a restart"))
            )

    asyncio.run(bench.run(stop, **state))
    before = len(read(bench.path, ("order",)))
    asyncio.run(bench.run(**state))
    orders = read(bench.path, ("order",))[before:]
    filled = {traded_for(entry.body["ref"]) for entry in read(bench.path, ("fill",))}
    assert {orders[0].key, orders[1].key} <= filled
    alerts = [
        entry.body["sentence"]
        for entry in read(bench.path, ("alert",))
        if entry.body["code"] != "COMMAND"
    ]
    assert alerts == []
    # the market does not wait for a session that is not there
    assert set(bench.audited().differences["cause"]) <= {"timing"}


def test_a_bar_that_closes_while_the_connection_is_lost_is_traded_after_it(
    shop: Project, tmp_path: Path
) -> None:
    """Every third bar closes while nobody is there: the session is the backtest all the same."""
    bench = Bench(shop, tmp_path, shop.config(strategy=OFTEN, interval="15m"))
    away: list[int] = []

    async def market() -> None:
        await until(lambda: is_in(bench, State.TRADING))
        while not bench.tws.finished.is_set():
            bars = bench.supervisor.status().bars
            if bars % 3 == 2:
                hang_up(bench.tws)
                await until(lambda: is_in(bench, State.DEGRADED))
                away.append(bars)
                await bench.tws.player.step()
                await bench.tws.listen()
            else:
                await bench.tws.player.step()
            await until(partial(decided_or_stopped, bench, bars + 1))

    asyncio.run(both(bench, market(), stepped=True))
    held_back = [entry.body["held_back"] for entry in read(bench.path, ("decision",))]
    filled = {traded_for(entry.body["ref"]) for entry in read(bench.path, ("fill",))}
    ordered = {int(entry.body["bar"]): str(entry.key) for entry in read(bench.path, ("order",))}
    assert len(away) > 20
    assert {held_back[bar] for bar in away} <= {
        "",
        "the position is the target",
        "the session has no next open",
    }
    assert len({ordered[bar] for bar in away if bar in ordered} & filled) > 5
    audited = bench.audited()
    assert (len(audited.differences), audited.unexplained) == (0, 0), audited.differences.to_dict(
        "records"
    )


def test_a_fill_later_than_the_bar_that_waits_keeps_its_bracket(
    shop: Project, tmp_path: Path
) -> None:
    """The connection is lost behind an entry, a bar closes meanwhile, and the entry fills after
    that close.

    Both books are compared before the bar is decided: by then the position is known, and its stop
    stays.
    """
    risk = {
        "size": {"method": "fixed", "contracts": 1.0},
        "protection": {"unit": "ticks", "stop": 90.0},
    }
    bench = Bench(
        shop, tmp_path, shop.config(strategy={"name": "always_long"}, risk=risk, interval="15m")
    )
    on_their_way: list[tuple[Any, Any]] = []

    def hold_up(tws: SimulatedTWS) -> Any:
        """Both orders of the bracket leave, neither arrives, and then nobody is there any more."""
        place = tws.handlers["placeOrder"]

        def hold(session: Any, request: Any) -> None:
            on_their_way.append((session, request))
            if request["order_type"] == "STP":
                hang_up(tws)

        tws.handlers["placeOrder"] = hold
        return place

    async def market() -> None:
        await until(lambda: is_in(bench, State.TRADING))
        place = hold_up(bench.tws)
        await bench.tws.player.step()
        await until(lambda: len(on_their_way) == 2 and is_in(bench, State.DEGRADED))
        await bench.tws.player.step()
        bench.tws.handlers["placeOrder"] = place
        for session, request in on_their_way:
            place(session, request)
        await bench.tws.listen()
        for bars in (2, 3, 4):
            await until(partial(decided_or_stopped, bench, bars))
            await bench.tws.player.step()
        bench.supervisor.request("stop", "test")

    asyncio.run(both(bench, market(), stepped=True))
    [fill] = read(bench.path, ("fill",))
    [first, waited, *_] = read(bench.path, ("bar",))
    # it waited for its decision
    assert first.body["close_time"] < waited.body["close_time"] <= fill.body["time"]
    stops = [order for order in bench.tws.book.orders.values() if order.ref.endswith("/stop")]
    assert [order.status for order in stops] == ["PreSubmitted"]
    assert bench.tws.positions == {"MCLF6": 1}


async def both(bench: Bench, market: Coroutine[Any, Any, None], **server: Any) -> None:
    """The session, and what its market does; whichever fails ends the other."""
    async with asyncio.TaskGroup() as group:
        group.create_task(market)
        group.create_task(bench.run(**server))


def hang_up(tws: SimulatedTWS) -> None:
    """No connection stands, and none is accepted until the server listens again."""
    tws.stop_listening()
    for session in list(tws.sessions):
        session.close()


def decided_or_stopped(bench: Bench, bars: int) -> bool:
    """Whether the session has decided on so many bars, or has stopped."""
    return bench.supervisor.status().bars >= bars or is_in(bench, State.STOPPED)


def is_in(bench: Bench, state: State) -> bool:
    return hasattr(bench, "supervisor") and bench.supervisor.status().state is state
