"""A session that can be left alone: what a person or the machine does to it while orders are slow to be answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks
from real_time import RATE, TEN, Desk

from mcl import calendar, schema
from mcl.broker.ledger import STOP
from mcl.broker.tws import SimulatedTWS
from mcl.errors import LiveError
from mcl.live.journal import read
from mcl.live.status import State
from mcl.tracking import Store

LONG = {
    "strategy": {"name": "always_long"},
    "risk": {"size": {"method": "fixed", "contracts": 1.0}, "protection": {"unit": "ticks", "stop": 60.0}},
}
NS = calendar.NS
REAL = {"rate": 1.0, "start_ns": TEN + 54 * NS}  # a bar of a minute closes in six seconds
FAST = {"rate": RATE, "start_ns": TEN}
GUARDED = schema.Guards().model_dump() | {"days_before_last_trade": None}  # those of ib_paper; the contract of the data is near its end


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project(root, Store(root))


def slow(tws: SimulatedTWS, least: float = 0.6, most: float = 0.6) -> None:
    """Every order and every cancel is served so much later."""
    for request in ("placeOrder", "cancelOrder"):
        tws.fault("slow", on=f"receive {request}", times=0, least=least, most=most)


async def until(holds: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def left_at_the_broker(tws: SimulatedTWS) -> tuple[dict[str, int], list[str]]:
    return tws.positions, [order.ref for order in tws.book.working()]


@pytest.mark.parametrize("word", ["flatten", "kill"])
@pytest.mark.parametrize("market", [REAL, FAST], ids=["real time", "fast clock"])
def test_to_close_out_of_halted_is_one_sequence_that_nothing_cuts_off(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, market: dict[str, Any], word: Any
) -> None:
    """Somebody else trades, the session is HALTED, a person says flatten (or kill); every order takes 0.6 s to be answered."""
    interval = "1m" if market is REAL else "15m"
    desk = Desk(shop, tmp_path, shop.config(**LONG, interval=interval), market["start_ns"], guards=GUARDED)
    said: list[str] = []

    async def operate() -> None:
        await until(lambda: getattr(desk, "supervisor", None) and desk.tws.positions)
        slow(desk.tws)
        desk.tws.fault("foreign", action="BUY", quantity=1)
        await until(lambda: desk.supervisor.status().state is State.HALTED)
        said.append(await desk.supervisor.command(word, "test", "enough"))
        await asyncio.sleep(2.0)  # what is still on its way arrives
        said.append(str(left_at_the_broker(desk.tws)))
        desk.supervisor.wish("stop", "test")

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
    hung = [e.body["sentence"] for e in read(desk.path, ("alert",)) if "hang_sec" in e.body["sentence"]]
    assert hung == []
