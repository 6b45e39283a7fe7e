"""Targets reached by limits: a collar, a time to live, a fallback, and what goes wrong on the way.
Never more than was decided.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks

from mcl.broker.order_references import decision_of
from mcl.live.audit.compare import audit
from mcl.live.journal import read
from mcl.simulators.tws import SimulatedTWS
from mcl.simulators.tws.listener import BrokerOptions

from .live_bench import Bench

OFTEN = {"name": "random", "hold_sec": 1800, "seed": 4}
TWO = {"size": {"method": "fixed", "contracts": 2.0}, "protection": {"unit": "ticks", "stop": 90.0}}
THIN = BrokerOptions(top_size=1)  # one contract at the best price of a bar
IOC = {"kind": "marketable_limit", "collar_ticks": 10.0}
REST = {"kind": "limit", "offset_ticks": 100.0, "ttl_sec": 0.02}  # never reached


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


def trader(
    shop: Project, folder: Path, order: dict[str, Any], risk: dict[str, Any] = TWO, **broker: Any
) -> Bench:
    return Bench(
        shop, folder, shop.config(strategy=OFTEN, risk=risk, interval="15m"), order=order, **broker
    )


def told(bench: Bench) -> Counter[str]:
    """Contracts that each decision has executed, its fallback included."""
    traded: Counter[str] = Counter()
    for fill in bench.tws.executions:
        if not fill.order.ref.endswith("/stop"):
            traded[decision_of(fill.order.ref)] += abs(fill.quantity)
    return traded


def never_more_than_decided(bench: Bench) -> None:
    meant = {e.key: abs(e.body["to"] - e.body["from"]) for e in read(bench.path, ("order",))}
    refs = Counter(order.ref for order in bench.tws.book.orders.values())
    assert max(refs.values()) == 1
    assert all(count <= meant[ref] for ref, count in told(bench).items() if ref in meant)
    done = audit(bench.path, bench.deployed, bench.strategy, bench.stage, exact_prices=False)
    assert done.unexplained == 0, done.differences.to_dict("records")
    last = done.decisions["position"].iloc[-1]
    assert bench.tws.positions.get("MCLF6", 0) == last + sum(
        f.quantity
        for f in bench.tws.executions
        if f.time > done.decisions["close_time"].iloc[-1].value
    )


def kinds(bench: Bench) -> set[tuple[str, str]]:
    return {
        (order.kind, order.tif)
        for order in bench.tws.book.orders.values()
        if not order.ref.endswith("/stop")
    }


def test_a_collar_takes_what_is_there_at_once_and_no_worse(shop: Project, tmp_path: Path) -> None:
    bench = trader(shop, tmp_path, IOC)
    asyncio.run(bench.run())
    never_more_than_decided(bench)
    assert kinds(bench) == {("LMT", "IOC")}
    assert len(bench.audited().fills) > 10
    assert {row["cause"] for row in bench.audited().differences.to_dict("records")} <= {"price"}
    entries = [fill for fill in bench.tws.executions if fill.order.kind == "LMT"]
    assert all(fill.order.side * (fill.price - fill.order.limit) <= 0 for fill in entries)


def test_a_collar_that_the_market_has_left_is_the_fallbacks_affair(
    shop: Project, tmp_path: Path
) -> None:
    """Slippage of two ticks, a collar of one: the limit itself is the price; with none left to take
    nothing is forced.
    """
    bench = trader(shop, tmp_path, IOC | {"collar_ticks": 1.0, "fallback": "none"})
    asyncio.run(bench.run())
    never_more_than_decided(bench)
    assert {order.status for order in bench.tws.book.orders.values() if order.kind == "LMT"} == {
        "Filled"
    }


def test_the_rest_of_a_collar_is_taken_at_the_market(shop: Project, tmp_path: Path) -> None:
    bench = trader(shop, tmp_path, IOC | {"fallback": "market"})
    asyncio.run(bench.run(options=THIN, speed=40.0))
    never_more_than_decided(bench)
    assert ("MKT", "DAY") in kinds(bench)
    halves = [fill for fill in bench.tws.executions if fill.order.ref.endswith("/mkt")]
    assert halves
    assert set(told(bench).values()) & {2, 4}


def test_without_a_fallback_the_rest_waits_for_the_next_decision(
    shop: Project, tmp_path: Path
) -> None:
    bench = trader(shop, tmp_path, IOC | {"fallback": "none"})
    asyncio.run(bench.run(options=THIN))
    never_more_than_decided(bench)
    assert kinds(bench) == {("LMT", "IOC")}
    assert set(told(bench).values()) == {1}
    assert {abs(e.body["position"]) for e in read(bench.path, ("decision",))} >= {0, 1, 2}


@pytest.mark.parametrize("fallback", ["market", "none"])
def test_a_limit_that_is_not_reached_expires(shop: Project, tmp_path: Path, fallback: str) -> None:
    bench = trader(shop, tmp_path, REST | {"fallback": fallback})
    asyncio.run(bench.run())
    never_more_than_decided(bench)
    limits = [order for order in bench.tws.book.orders.values() if order.kind == "LMT"]
    assert {order.status for order in limits} == {"Cancelled"}
    refs = {fill.order.ref for fill in bench.tws.executions}
    assert all(ref.endswith(("/mkt", "/stop")) for ref in refs)
    assert bool(refs) == (fallback == "market")
    if fallback == "market":
        # filled at the next open, as the backtest
        assert bench.audited().differences.to_dict("records") == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_limit_that_fills_while_it_expires_is_not_bought_again(
    shop: Project, tmp_path: Path, when: str
) -> None:
    bench = trader(shop, tmp_path, REST | {"fallback": "market"})

    def race(tws: SimulatedTWS) -> None:
        # the first cancel is that of the first limit
        tws.fault("race", on="receive cancelOrder", when=when, quantity=1)

    asyncio.run(bench.run(before=race))
    never_more_than_decided(bench)
    assert (
        next(order for order in bench.tws.book.orders.values() if order.kind == "LMT").filled == 1
    )


def test_a_connection_that_ends_while_a_limit_rests_leaves_no_second_order(
    shop: Project, tmp_path: Path
) -> None:
    bench = trader(shop, tmp_path, REST | {"ttl_sec": 0.2, "fallback": "market"})

    def cut(tws: SimulatedTWS) -> None:
        tws.fault(
            "cut", on="send openOrder", how="rst", when="after", nth=6, where={"order_type": "LMT"}
        )

    asyncio.run(bench.run(before=cut, patience_sec=0.2))
    never_more_than_decided(bench)
    assert "degraded" in {e.body["state"] for e in read(bench.path, ("state",))}
