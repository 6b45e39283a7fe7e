"""A session that trades is stopped at any bar and started again on the kept state: it goes on as if nothing had been."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks
from live_bench import Bench

from mcl.broker.ledger import traded_for
from mcl.broker.tws import SimulatedTWS
from mcl.live.journal import read
from mcl.tracking import Store

CROSS = {"name": "ema_cross", "fast": 3, "slow": 8}
ATR = {"size": {"method": "fixed", "contracts": 1.0}, "protection": {"unit": "atr", "stop": 3.0}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project(root, Store(root))


@pytest.mark.parametrize("bar", [9, 28, 122, 125, 126])
def test_after_a_restart_the_first_order_fills_like_any_other(shop: Project, tmp_path: Path, bar: int) -> None:
    bench = Bench(shop, tmp_path, shop.config(strategy=CROSS, risk=ATR, interval="5m"))
    state: dict[str, Any] = {"state": tmp_path / "tws.sqlite"}
    told: list[Any] = []

    def stop(_: SimulatedTWS, bars: int) -> None:
        if bars == bar:
            told.append(asyncio.ensure_future(bench.supervisor.command("stop", "test", "a restart")))

    asyncio.run(bench.run(stop, **state))
    before = len(read(bench.path, ("order",)))
    asyncio.run(bench.run(**state))
    orders = read(bench.path, ("order",))[before:]
    filled = {traded_for(entry.body["ref"]) for entry in read(bench.path, ("fill",))}
    assert {orders[0].key, orders[1].key} <= filled
    alerts = [entry.body["sentence"] for entry in read(bench.path, ("alert",)) if entry.body["code"] != "COMMAND"]
    assert alerts == []
    assert set(bench.audited().differences["cause"]) <= {"timing"}  # the market does not wait for a session that is not there
