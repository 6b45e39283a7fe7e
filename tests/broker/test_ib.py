"""The door to Interactive Brokers against the embedded TWS: lock-step bars, targets, protection,
refusals, the kernel's fills.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import ib_async
import numpy as np
import pandas as pd
import pytest

from mcl.base.errors import BrokerError, ConnectionLost, Halt, Uncertain
from mcl.base.instants import NS
from mcl.broker import feed, guards
from mcl.broker.converters import Interval
from mcl.broker.guards import check_account, check_product, check_venue, check_version
from mcl.broker.ib import IBBroker
from mcl.broker.order_port import market_order
from mcl.broker.protocol import Broker, QualifiedContract
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.account import Ledger, Money
from mcl.engine.backtest import Plan, simulate
from mcl.engine.decision import NO_TARGET, decide
from mcl.engine.result import FILL_REASONS
from mcl.market import calendar
from mcl.market.instruments import CL, MCL
from mcl.market.intervals import STEPS_SEC
from mcl.risk.limits import limits_record
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.simulators.tws.listener import BrokerOptions

from .test_tws_start import connected, gone
from .tws_harness import (
    MINUTE_NS,
    SESSION_OPEN_NS,
    Goal,
    eventually,
    from_ticks,
    qualified,
    run,
    walk,
)

SIM = schema.BrokerConfig(timeout_sec=2.0)
FLAT = Goal(0)


@asynccontextmanager
async def trading(
    tape: Tape, config: schema.BrokerConfig = SIM, **server: Any
) -> AsyncIterator[tuple[SimulatedTWS, IBBroker, QualifiedContract]]:
    async with SimulatedTWS(tape, **server) as tws:
        broker = IBBroker(config, MCL, port=tws.port)
        await broker.connect()
        try:
            yield tws, broker, await broker.qualify(tape.contract)
        finally:
            await broker.close()


def steady(rows: int = 30, first: int = 20, **changes: dict[int, int]) -> Tape:
    """Bars that stand still at 60.00 with a range of one tick to either side, changed in some
    rows.
    """
    columns = {"open": 6000, "high": 6001, "low": 5999, "close": 6000}
    arrays = {name: np.full(rows, value) for name, value in columns.items()}
    for name, cells in changes.items():
        for row, value in cells.items():
            arrays[name][row] = value
    return from_ticks(arrays["open"], arrays["high"], arrays["low"], arrays["close"], first=first)


def test_it_is_a_broker() -> None:
    broker: Broker = IBBroker(SIM, MCL, port=1)
    assert broker.fills() == ()


# --------------------------------------------------------------------------------------------- bars


def test_every_bar_of_the_session_arrives_once_and_in_order() -> None:
    tape = walk(5, 3000, 40)

    async def main() -> None:
        async with trading(tape) as (tws, broker, pinned):
            known = await broker.history(pinned, 500, "1m")
            assert len(known) == 500
            assert known[-1].close_time == SESSION_OPEN_NS
            assert [b.close for b in known] == tape.close[2500:3000].tolist()
            bars = [bar async for bar in broker.bars(pinned, "1m", known[-1].close_time)]
            assert [b.close_time for b in bars] == [
                SESSION_OPEN_NS + MINUTE_NS * n for n in range(1, 41)
            ]
            columns = (tape.open, tape.high, tape.low, tape.close, tape.volume)
            assert [tuple(b[1:]) for b in bars] == list(
                zip(*(column[3000:].tolist() for column in columns), strict=True)
            )
            assert tws.finished.is_set()
            assert tws.counters["unknown_requests"] == 0

    run(main())


def in_steps(tape: Tape, interval: str) -> Tape:
    """The same bars, one every so many seconds."""
    step = STEPS_SEC[interval] * NS
    start = SESSION_OPEN_NS + step * np.arange(-tape.first, len(tape.close) - tape.first)
    return replace(tape, interval=interval, start=start)


@pytest.mark.parametrize("interval", ["5s", "10s", "15s", "30s"])
def test_bars_of_seconds_arrive_and_their_history_comes_in_pages(interval: str) -> None:
    tape, step = in_steps(walk(5, 3000, 20), interval), STEPS_SEC[interval] * NS

    async def main() -> None:
        async with trading(tape) as (_, broker, pinned):
            known = await broker.history(pinned, 2500, interval)
            assert [b.close for b in known] == tape.close[500:3000].tolist()
            assert known[-1].close_time == SESSION_OPEN_NS
            whole = await broker.history(pinned, 4000, interval)
            assert [b.close for b in whole] == tape.close[:3000].tolist()
            bars = [bar async for bar in broker.bars(pinned, interval, known[-1].close_time)]
            assert [b.close_time for b in bars] == [
                SESSION_OPEN_NS + step * n for n in range(1, 21)
            ]
            assert [b.close for b in bars] == tape.close[3000:].tolist()

    run(main())


def test_history_of_seconds_that_is_too_long_is_a_sentence() -> None:
    tape = in_steps(walk(5, 3000, 1), "5s")

    async def main() -> None:
        async with trading(tape) as (_, broker, pinned):
            with pytest.raises(BrokerError, match=r"5 secs in pages of 1 h, and 2,500 bars"):
                await broker.history(pinned, 2500, "5s")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "MOST_PAGES", 3)
        run(main())


def test_a_second_is_no_bar_of_the_broker() -> None:
    with pytest.raises(BrokerError, match="no live bars of interval '1s'; valid: 5s, 10s"):
        Interval("1s")


def test_bars_known_before_the_subscription_can_be_asked_for_again() -> None:
    async def main() -> None:
        async with trading(walk(5, 100, 3)) as (_, broker, pinned):
            bars = [bar async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS - 2 * MINUTE_NS)]
            assert [(b.close_time - SESSION_OPEN_NS) // MINUTE_NS for b in bars] == [-1, 0, 1, 2, 3]

    run(main())


def test_a_bar_is_not_seen_before_it_is_decided_on() -> None:
    """In lock-step the market stands at the open of the next bar until the decision is made,
    however long that takes.
    """

    async def main() -> None:
        async with trading(walk(6, 100, 5)) as (tws, broker, pinned):
            played = []
            async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await asyncio.sleep(0.01)
                assert await broker.heartbeat() <= bar.close_time
                played.append(tws.player.tracks[0].row - tws.tape.first)
            assert played == [1, 2, 3, 4, 5]

    run(main())


def test_a_client_that_never_says_ready_is_not_waited_for_long() -> None:
    async def main() -> None:
        async with SimulatedTWS(walk(6, 100, 3), patience_sec=0.05) as tws:
            ib = await connected(tws)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            start = time.perf_counter()
            await ib.reqHistoricalDataAsync(
                contract, "", "600 S", "1 min", "TRADES", False, 2, True
            )
            await asyncio.wait_for(tws.finished.wait(), 30)
            assert time.perf_counter() - start > 0.14
            await gone(ib)

    run(main())


def test_bars_per_second() -> None:
    async def main() -> None:
        async with trading(walk(6, 100, 20), speed=100.0) as (_, broker, pinned):
            start = time.perf_counter()
            assert len([bar async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS)]) == 20
            assert time.perf_counter() - start > 0.19

    run(main())


# ------------------------------------------------------------------------------------------ targets


def test_a_target_is_filled_at_the_next_open_with_slippage() -> None:
    tape = walk(7, 100, 12)
    goals = [1, 1, -1, 2, 0, -2, -2, 1, 0, 1, 1]

    async def main() -> None:
        async with trading(tape, slippage_ticks=2.0) as (tws, broker, pinned):
            held, fills, row = 0, [], tape.first
            async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                row += 1
                if row == len(tape):
                    break
                goal = goals[row - tape.first - 1]
                done = await broker.trade_to(pinned, Goal(goal), f"bar{row}")
                halves = (
                    [(-held, f"bar{row}/close"), (goal, f"bar{row}")]
                    if held * goal < 0
                    else [(goal - held, f"bar{row}")]
                )
                assert [(fill.quantity, fill.ref) for fill in done] == [
                    half for half in halves if half[0]
                ]
                for fill in done:
                    side = 1 if goal > held else -1
                    assert fill.price == pytest.approx(tape.open[row] + side * 0.02)
                    assert fill.time == bar.close_time
                    assert fill.reason == "target"
                    assert fill.commission_usd == pytest.approx(0.77 * abs(fill.quantity))
                    fills.append(fill)
                held = goal
                account = await broker.account(pinned)
                assert account.position == held == tws.positions.get("MCLG6", 0)
            assert len(fills) == len(broker.fills()) == 11
            assert broker.fills(5) == tuple(fills[5:])

    run(main())


def test_the_account_adds_up() -> None:
    async def main() -> None:
        async with trading(steady(), slippage_ticks=1.0) as (_, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(2), "in")
                account = await broker.account(pinned)
                assert account.cash_usd == pytest.approx(25_000 - 2 * 0.77)
                assert account.average_price == pytest.approx(60.01 + 0.0077)
                await broker.trade_to(pinned, FLAT, "out")
                account = await broker.account(pinned)
                assert (
                    account.equity_usd
                    == account.cash_usd
                    == pytest.approx(25_000 - 2 * 2 - 4 * 0.77)
                )
                assert (account.position, math.isnan(account.average_price)) == (0, True)
                break

    run(main())


@pytest.mark.parametrize("take_profit", ["MIT", "LMT"])
def test_protection_rests_at_the_broker_and_fills_on_its_own(take_profit: str) -> None:
    """Bought at 60.01; the stop 5 ticks below at 59.96, the target 7 above at 60.08. Row 23 reaches
    60.10.
    """
    tape = steady(high={23: 6010})

    async def main() -> None:
        async with trading(tape, SIM.model_copy(update={"take_profit": take_profit})) as (
            _,
            broker,
            pinned,
        ):
            count, seen = 0, {}
            async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                count += 1
                if count == 1:
                    await broker.trade_to(pinned, Goal(1, 5.0, 7.0), "entry")
                    working = await broker.open_orders()
                    assert [(w.kind, w.quantity, w.price) for w in working] == [
                        ("STP", -1, 59.96),
                        (take_profit, -1, 60.08),
                    ]
                elif count < 4:
                    await broker.trade_to(pinned, Goal(1, 9.0, 9.0), f"hold{count}")
                    assert [w.ref for w in await broker.open_orders()] == [
                        "entry/stop",
                        "entry/take",
                    ]
                seen[count] = [(f.reason, f.price, bar.close_time) for f in broker.fills()]
            assert len(seen[3]) == 1
            price = 60.07 if take_profit == "MIT" else 60.08
            assert [fill[:2] for fill in seen[4]] == [("target", 60.01), ("take_profit", price)]
            assert await broker.open_orders() == ()

    run(main())


def test_a_new_target_changes_the_protection_or_replaces_it() -> None:
    async def main() -> None:
        async with trading(steady()) as (_, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(2, 5.0, math.nan), "a")
                assert [(w.ref, w.quantity, w.price) for w in await broker.open_orders()] == [
                    ("a/stop", -2, 59.96)
                ]
                # reducing keeps order and level
                await broker.trade_to(pinned, Goal(1, 8.0, math.nan), "b")
                assert [(w.ref, w.quantity, w.price) for w in await broker.open_orders()] == [
                    ("a/stop", -1, 59.96)
                ]
                await broker.trade_to(pinned, Goal(2, 8.0, math.nan), "more")  # adding moves it
                assert [(w.ref, w.quantity, w.price) for w in await broker.open_orders()] == [
                    ("a/stop", -2, 59.93)
                ]
                await broker.trade_to(pinned, Goal(-1, 8.0, math.nan), "c")
                assert [(w.ref, w.quantity, w.price) for w in await broker.open_orders()] == [
                    ("c/stop", 1, 60.07)
                ]
                await broker.trade_to(pinned, FLAT, "d")
                assert await broker.open_orders() == ()
                break

    run(main())


def test_protection_that_was_cancelled_by_hand_is_placed_again() -> None:
    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(1, 5.0, 7.0), "a")
                other = await connected(tws, client_id=2)
                other.reqGlobalCancel()
                await eventually(lambda: not tws.book.working())
                await other.reqCurrentTimeAsync()  # what was said before has arrived everywhere
                await broker.trade_to(pinned, Goal(1, 9.0, 9.0), "b")
                working = [(w.ref, w.quantity, w.price) for w in await broker.open_orders()]
                assert working == [("b/stop", -1, 59.96), ("b/take", -1, 60.08)]
                await gone(other)
                break

    run(main())


def test_protection_lost_while_away_is_placed_from_the_entry() -> None:
    async def main() -> None:
        tape = steady()
        async with trading(tape) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(-1, 50.0, math.nan), "a")
                break
            await broker.close()
            tws.book.cancel_all()
            again = IBBroker(SIM, MCL, port=tws.port)
            await again.connect()
            adopted = await again.qualify(tape.contract)
            await again.trade_to(adopted, Goal(-1, 50.0, math.nan), "b")
            [stop] = await again.open_orders()
            assert (stop.ref, stop.kind, stop.quantity) == ("b/stop", "STP", 1)
            # the entry is known to the broker's average cost
            assert stop.price == pytest.approx(59.99 + 0.50, abs=0.011)
            await again.close()

    run(main())


def test_a_position_that_cannot_be_protected_is_closed() -> None:
    """The server refuses stops for this test: the entry is undone, and nothing more is sent."""

    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            place = tws.handlers["placeOrder"]

            def without_stops(session: Any, request: Any) -> None:
                if request["order_type"] == "STP":
                    session.error(
                        request["order_id"], 201, "Order rejected - reason:no stops today"
                    )
                else:
                    place(session, request)

            tws.handlers["placeOrder"] = without_stops
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                with pytest.raises(
                    BrokerError,
                    match=(
                        r"protection of a was not accepted \(.*no stops today.*\); the position was"
                        r" closed"
                    ),
                ):
                    await broker.trade_to(pinned, Goal(1, 5.0, 7.0), "a")
                break
            assert tws.positions == {}
            assert tws.book.working() == []
            assert [fill.ref for fill in broker.fills()] == ["a", "a/flat"]

    run(main())


def test_protection_outlives_the_connection_and_is_taken_over() -> None:
    async def main() -> None:
        tape = steady()
        async with trading(tape) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(1, 5.0, 7.0), "a")
                break
            await broker.close()
            assert len(tws.book.working()) == 2
            again = IBBroker(SIM, MCL, port=tws.port)
            await again.connect()
            adopted = await again.qualify(tape.contract)
            assert (await again.account(adopted)).position == 1
            await again.trade_to(adopted, FLAT, "b")
            assert tws.positions == {}
            assert tws.book.working() == []
            await again.close()

    run(main())


def test_the_close_ends_the_bars_of_a_market_that_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real TWS does not say that the session is over: its clock and the calendar do."""
    o, h, lo, c = (np.full(25, price) for price in (6000, 6001, 5999, 6000))
    opens_ns = calendar.ns_of(calendar.from_day(int(calendar.session_of(SESSION_OPEN_NS))), 16, 55)
    tape = from_ticks(o, h, lo, c, first=20, opens_ns=opens_ns)

    async def main() -> None:
        async with SimulatedTWS(tape, silent_end=True) as tws:
            monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "TWS")
            monkeypatch.setattr(guards, "CLOCK_LIMIT_SEC", math.inf)
            monkeypatch.setattr(feed, "QUIET_NS", 0)  # the replay's clock stops at the close
            config = SIM.model_copy(update={"kind": "tws", "port": tws.port, "timeout_sec": 0.2})
            broker = IBBroker(config, MCL)
            await broker.connect()
            pinned = await broker.qualify(tape.contract)
            bars = [bar.close_time async for bar in broker.bars(pinned, "1m", opens_ns)]
            assert bars == [opens_ns + MINUTE_NS * n for n in range(1, 6)]
            await broker.close()

    run(main())


def real(monkeypatch: pytest.MonkeyPatch, tws: SimulatedTWS, **changes: Any) -> IBBroker:
    """A broker that takes the server for a real TWS, whose clock is not this machine's."""
    monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "TWS")
    monkeypatch.setattr(guards, "CLOCK_LIMIT_SEC", math.inf)
    return IBBroker(
        SIM.model_copy(update={"kind": "tws", "port": tws.port, "timeout_sec": 20.0} | changes), MCL
    )


def without(tape: Tape, rows: list[int]) -> Tape:
    """Nobody traded in these minutes of the session."""
    kept = np.delete(np.arange(len(tape)), np.array(rows) + tape.first)
    return replace(
        tape,
        **{
            name: getattr(tape, name)[kept]
            for name in ("start", "open", "high", "low", "close", "volume")
        },
    )


async def beating(broker: IBBroker) -> None:
    while True:
        await broker.heartbeat()
        await asyncio.sleep(0.05)


def test_a_bar_closes_by_the_clock_though_nothing_trades_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A market order that is sent then fills at the next open, as in the backtest: there is none
    before.
    """
    tape = without(walk(5, 300, 24), [3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 17])

    async def main() -> None:
        async with SimulatedTWS(tape, rate=60.0, slippage_ticks=1.0) as tws:
            broker = real(monkeypatch, tws)
            await broker.connect()
            pinned = await broker.qualify(tape.contract)
            late = {}
            beats = asyncio.create_task(beating(broker))  # as a session does
            async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                late[(bar.close_time - SESSION_OPEN_NS) // MINUTE_NS] = (
                    tws.player.now() - bar.close_time
                ) / MINUTE_NS
                if bar.close_time == SESSION_OPEN_NS + 12 * MINUTE_NS:
                    [fill] = await broker.trade_to(pinned, Goal(1), "a")
                if bar.close_time == SESSION_OPEN_NS + 20 * MINUTE_NS:
                    break
            beats.cancel()
            assert list(late) == [1, 2, 3, 9, 10, 11, 12, 19, 20]
            assert late[3] < 5  # the next bar opens five minutes after this close
            assert late[12] < 6
            opened = int(np.searchsorted(tape.start, SESSION_OPEN_NS + 18 * MINUTE_NS))
            assert fill.price == pytest.approx(tape.open[opened] + 0.01)
            await broker.close()

    run(main())


def test_rows_without_a_trade_are_no_bars() -> None:
    """A TWS fills minutes in which nothing traded with flat rows of volume 0; the vendor's files
    have none.
    """
    moments = [pd.Timestamp(SESSION_OPEN_NS + n * MINUTE_NS, tz="UTC") for n in range(4)]
    rows = [
        ib_async.BarData(date=at, open=60, high=60, low=60, close=60, volume=v)
        for at, v in zip(moments, (5, 0, 0, 3), strict=True)
    ]
    closed = Interval("1m").after(rows, SESSION_OPEN_NS)
    assert [(bar.close_time - SESSION_OPEN_NS) // MINUTE_NS for bar in closed] == [1, 4]


@pytest.mark.parametrize("name", ["cashfarm", "eufarm", "usfarm.nj"])
def test_the_farm_of_another_market_blocks_nothing_and_heals_nothing(name: str) -> None:
    async def main() -> None:
        async with trading(steady(), stepped=True) as (tws, broker, _):
            tws.fault("farm", code=2103, of=name)
            await broker.heartbeat()
            assert broker.trouble == ""
            tws.fault("farm", code=2103)
            await eventually(lambda: "usfuture (2103)" in broker.trouble)
            tws.fault("farm", code=2104, of=name)
            await broker.heartbeat()
            assert "usfuture (2103)" in broker.trouble
            tws.fault("farm", code=2104)
            await eventually(lambda: broker.trouble == "")

    run(main())


@pytest.mark.parametrize("code", [2103, 2105])
def test_a_flap_of_our_farm_renews_the_bars_and_leaves_the_connection_alone(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = walk(5, 300, 30)

    async def main() -> None:
        async with SimulatedTWS(tape, rate=60.0) as tws:
            broker = real(monkeypatch, tws)
            await broker.connect()
            pinned = await broker.qualify(tape.contract)
            times, troubles = [], []
            async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                times.append((bar.close_time - SESSION_OPEN_NS) // MINUTE_NS)
                if len(times) == 3:
                    tws.fault("farm", code=code)
                    await eventually(lambda: broker.trouble)
                    troubles.append(broker.trouble)
                    with pytest.raises(BrokerError, match="order not sent"):
                        await broker.trade_to(pinned, Goal(1), "a")
                    await asyncio.sleep(3)
                    tws.fault("farm", code=code + 1)
                if times[-1] >= 12:
                    break
            assert times == list(range(1, times[-1] + 1))
            assert f"({code})" in troubles[0]
            assert broker.trouble == ""
            [fill] = await broker.trade_to(pinned, Goal(1), "b")
            assert fill.quantity == 1
            assert len(tws.sessions) == 1
            assert tws.counters["connections"] <= 1
            await broker.close()

    run(main())


def test_a_stream_of_a_market_that_dies_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with SimulatedTWS(steady()) as tws:
            monkeypatch.setitem(guards.PAPER_PORTS, tws.port, "TWS")
            monkeypatch.setattr(guards, "CLOCK_LIMIT_SEC", math.inf)
            broker = IBBroker(SIM.model_copy(update={"kind": "tws", "port": tws.port}), MCL)
            await broker.connect()
            pinned = await broker.qualify(steady().contract)
            with pytest.raises(BrokerError, match=r"stream of bars of MCLG6 ended.*\(10182\)"):
                assert len([bar async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS)]) < 10
            await broker.close()

    run(main())


# ----------------------------------------------------------------------------------------- refusals


def test_a_decision_is_sent_once() -> None:
    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(1), "a")
                with pytest.raises(BrokerError, match="'a' was already traded"):
                    await broker.trade_to(pinned, FLAT, "a")
                break
            assert tws.positions == {"MCLG6": 1}

    run(main())


def test_nothing_is_sent_after_an_uncertainty() -> None:
    """After the replay has ended an order is rejected; from then on the broker refuses without
    asking.
    """

    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                pass
            with pytest.raises(BrokerError, match=r"order a for 1 MCLG6 is uncertain.*\(201\)"):
                await broker.trade_to(pinned, Goal(1), "a")
            received = tws.counters["received"]
            with pytest.raises(BrokerError, match="no order is sent after an uncertainty"):
                await broker.trade_to(pinned, Goal(1), "b")
            assert tws.counters["received"] == received

    run(main())


def test_a_foreign_trade_stops_us() -> None:
    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            other = await connected(tws, client_id=2)
            [contract] = await qualified(other, ib_async.Future("MCL", "202602", "NYMEX"))
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                other.placeOrder(
                    contract, ib_async.MarketOrder("BUY", 1, tif="DAY", account="DU0000001")
                )
                await eventually(lambda: tws.positions)
                await other.reqCurrentTimeAsync()  # what was said before has arrived everywhere
                with pytest.raises(
                    BrokerError,
                    match="the broker holds 1 MCLG6, the executions of this session add up to 0",
                ):
                    await broker.trade_to(pinned, Goal(1), "a")
                break
            await gone(other)

    run(main())


def test_an_unreadable_message_stops_us() -> None:
    async def main() -> None:
        async with trading(steady()) as (_, broker, pinned):
            gates, logger = (
                logging.getLogger("ib_async.Decoder").handlers,
                logging.getLogger("ib_async.Decoder"),
            )
            record = logger.makeRecord(
                logger.name, logging.ERROR, "", 0, "Error handling fields: ['5']", (), None
            )
            gates[-1].emit(record)
            with pytest.raises(BrokerError, match="could not be read"):
                await broker.trade_to(pinned, Goal(1), "a")

    run(main())


def test_a_lost_connection_is_a_sentence() -> None:
    async def main() -> None:
        async with SimulatedTWS(steady()) as tws:
            broker = IBBroker(SIM, MCL, port=tws.port)
            await broker.connect()
            pinned = await broker.qualify(steady().contract)
            with pytest.raises(BrokerError, match="connection to the broker was lost"):  # noqa: PT012
                async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                    for session in list(tws.sessions):
                        session.close()
                    await asyncio.sleep(0.01)
            with pytest.raises(BrokerError):
                await broker.trade_to(pinned, Goal(1), "a")
            await broker.close()

    run(main())


@pytest.mark.parametrize(
    ("changes", "port", "sentence"),
    [
        ({"kind": "tws", "port": 7496}, 7496, "port 7496 is live trading"),
        ({"kind": "tws", "port": 4001}, 4001, "port 4001 is live trading"),
        ({"kind": "tws", "port": 1234}, 1234, "choose 7497"),
        ({"kind": "tws", "port": 7497, "host": "10.0.0.1"}, 7497, "is not this machine"),
        ({"kind": "sim"}, 0, "port 0"),
    ],
)
def test_live_venues_are_refused_before_connecting(
    changes: dict[str, Any], port: int, sentence: str
) -> None:
    with pytest.raises(BrokerError, match=sentence):
        check_venue(SIM.model_copy(update=changes), port)


def test_only_paper_accounts() -> None:
    for paper in ("DU1234567", "DF123", "DUD123456", "DUQ1"):
        check_account(paper, [paper])
    with pytest.raises(BrokerError, match="U1234567 is not a paper account"):
        check_account("DU1", ["DU1", "U1234567"])
    with pytest.raises(BrokerError, match="did you mean 'DU1234567'"):
        check_account("DU1234568", ["DU1234567"])
    with pytest.raises(BrokerError, match="version 200"):
        check_version(200)

    async def main() -> None:
        async with SimulatedTWS(steady(), account="U1234567") as tws:
            with pytest.raises(BrokerError, match="U1234567 is not a paper account"):
                await IBBroker(SIM, MCL, port=tws.port).connect()
            assert tws.counters["received"] <= 9  # the start-up's questions, no order
            await eventually(lambda: not tws.sessions)

    run(main())


def test_product_facts_must_agree() -> None:
    contract = calendar.contract("MCL", 2026, 2)
    check_product(contract, MCL, "100", 0.01, "USD", "20260116")
    for facts, name in (
        (("1000", 0.01, "USD", "20260116"), "multiplier"),
        (("100", 0.05, "USD", "20260116"), "tick"),
    ):
        with pytest.raises(BrokerError, match=name):
            check_product(contract, MCL, *facts)
    with pytest.raises(BrokerError, match="last trade date"):
        check_product(contract, MCL, "100", 0.01, "USD", "20260120")


def test_nobody_listens_and_id_in_use_are_sentences() -> None:
    async def main() -> None:
        async with SimulatedTWS(steady()) as tws:
            port = tws.port
            first = IBBroker(SIM, MCL, port=port)
            await first.connect()
            with pytest.raises(BrokerError, match="client id is already in use"):
                await IBBroker(
                    SIM.model_copy(update={"timeout_sec": 0.2}), MCL, port=port
                ).connect()
            await first.close()
        with pytest.raises(BrokerError, match=f"nothing listens on 127.0.0.1:{port}"):
            await IBBroker(SIM, MCL, port=port).connect()

    run(main())


def test_unknown_contracts_and_intervals() -> None:
    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            with pytest.raises(BrokerError, match=r"MCL 2036-02.*\(200\)"):
                await broker.qualify(calendar.contract("MCL", 2036, 2))
            with pytest.raises(BrokerError, match="'2m'; valid: 5s, 10s"):
                await broker.history(pinned, 10, "2m")
            fives = await broker.history(pinned, 10, "5m")
            assert {b.close_time - a.close_time for a, b in pairwise(fives)} == {5 * 60 * 10**9}
            tws.fault(
                "answer",
                on="receive reqHistoricalData",
                code=162,
                text="HMDS query returned no data",
            )
            with pytest.raises(BrokerError, match="162"):
                await broker.history(pinned, 10, "5m")

    run(main())


# ------------------------------------------------------------------------ agreement with the kernel


def as_bars(tape: Tape) -> Bars:
    """The played part of a tape as the engine sees it."""
    rows = slice(tape.first, len(tape))
    close_time = tape.start[rows] + tape.interval_ns
    to_close = (close_time[-1] - close_time) // 10**9
    prices = {name: getattr(tape, name)[rows] for name in ("open", "high", "low", "close")}
    whole = {
        "volume": tape.volume[rows],
        "session": calendar.session_of(tape.start[rows]),
        "to_close_sec": to_close,
    }
    return Bars.of(
        MCL, "1m", close_time, prices, **whole, contracts=(tape.contract,), synthetic=True
    )


class Trader:
    """The loop that a session runs: fills into the ledger, mark, decide, trade."""

    def __init__(
        self, bars: Bars, wishes: Plan, limits: schema.Limits, costs: schema.Costs
    ) -> None:
        self.bars, self.wishes, self.limits = bars, wishes, limits_record(limits, "1m")
        self.ledger = Ledger(
            Money(25_000.0, MCL.tick_value_usd, costs.commission_usd, costs.slippage_ticks)
        )
        self.target = NO_TARGET
        # as the kernel writes them: bar, quantity, price in ticks, reason
        self.fills: list[tuple[int, int, float, str]] = []
        self.seen, self.half = 0, ""
        self.decisions: list[tuple[int, int, float]] = []  # target, block, equity

    async def run(self, broker: IBBroker, pinned: QualifiedContract) -> None:
        row = 0
        async for bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
            self.account_for_fills(broker, row)
            self.ledger.mark(round(bar.close / 0.01))
            account = self.ledger.account(int(self.bars.to_close_sec[row]))
            self.target = decide(self.wishes.row(row), account, self.limits)
            self.ledger.adopt(account, self.target)
            self.decisions.append((self.target.position, self.target.block, self.ledger.equity))
            row += 1
            if row < len(self.bars):
                await broker.trade_to(pinned, self.target, f"r{row}")
                self.account_for_fills(broker, row)

    def account_for_fills(self, broker: IBBroker, row: int) -> None:
        for fill in broker.fills(self.seen):
            self.seen += 1
            ticks = round(fill.price / 0.01, 6)
            # the kernel turns around in one fill
            if self.fills and self.half and fill.ref == self.half:
                quantity = self.fills[-1][1] + fill.quantity
                self.fills[-1] = (row, quantity, ticks, fill.reason)
            else:
                self.fills.append((row, fill.quantity, ticks, fill.reason))
            self.half = fill.ref.removesuffix("/close") if fill.ref.endswith("/close") else ""
            if fill.reason == "target":
                self.ledger.fill(fill.quantity, ticks, self.target.bracket)
            else:
                self.ledger.stop_out(fill.quantity, ticks)


@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_replayed_session_is_the_backtest(seed: int, trailing: bool) -> None:
    """Random wishes with random protection through decide, ib_async, the wire and the book: the
    fills of the kernel, one by one. A trailing stop follows the closes that the broker has told.
    """
    tape, rng = walk(seed, 60, 240), np.random.default_rng(seed + 100)
    bars, n = as_bars(tape), len(tape) - tape.first
    wanted = np.repeat(rng.integers(-2, 3, n), rng.integers(1, 6, n))[:n].astype(float)
    wishes = Plan(wanted, rng.integers(2, 9, n).astype(float), rng.integers(2, 12, n).astype(float))
    if trailing:
        wishes = replace(wishes, trail_ticks=rng.integers(2, 9, n).astype(float))
    limits, costs = schema.Limits(max_position=2, max_daily_loss_usd=1500.0), schema.Costs()
    trader = Trader(bars, wishes, limits, costs)

    async def main() -> None:
        async with SimulatedTWS.configured(tape, SIM, costs) as tws:
            broker = IBBroker(SIM, MCL, port=tws.port)
            await broker.connect()
            await trader.run(broker, await broker.qualify(tape.contract))
            await broker.close()

    run(main())
    result = simulate(bars, wishes, limits, costs, 25_000.0)
    # the broker names the order: that of a target follows a signal or a limit
    words = {"signal": "target", "risk": "target"}
    names = [FILL_REASONS[reason] for reason in result.fills["reason"]]
    reasons = [words.get(name, name) for name in names]
    columns = (
        result.fills["bar"].tolist(),
        result.fills["quantity"].tolist(),
        result.fills["price_ticks"].tolist(),
        reasons,
    )
    assert trader.fills == list(zip(*columns, strict=True))
    assert trader.decisions == list(
        zip(result.target.tolist(), result.block.tolist(), result.equity.tolist(), strict=True)
    )
    assert {"target", "stop", "take_profit"} <= set(reasons)


def test_a_full_session_is_followed_bar_by_bar() -> None:
    tape = walk(9, 2000, 1380)

    async def main() -> None:
        async with trading(tape) as (_, broker, pinned):
            count = 0
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                count += 1
                if count % 20 == 0 and count < 1380:
                    await broker.trade_to(
                        pinned, Goal((-1) ** (count // 20), 20.0, 30.0), f"r{count}"
                    )
                await broker.account(pinned)
            assert count == 1380

    run(main())


def test_a_tape_of_bars_is_continuous_over_the_roll() -> None:
    """History before the roll stands in prices of the contract that is played."""
    n, size = 6, MCL.tick_size
    base = as_bars(walk(1, 10, n))
    first = calendar.contract("MCL", 2026, 1)
    closes = np.array([60.0, 60.1, 60.2, 61.2, 61.3, 61.4])
    later = np.array([0, 0, 0, 1, 1, 1])
    bars = Bars.of(
        MCL,
        "1m",
        base.close_time,
        dict.fromkeys(("open", "high", "low", "close"), closes),
        session=base.session + later,
        contract=later,
        shift=np.array([0.0, -1.0]),
        contracts=(first, base.contracts[0]),
        synthetic=True,
    )
    session = bars.session
    tape = Tape.from_bars(bars, int(session[-1]))
    assert (tape.contract, tape.first, tape.synthetic) == (base.contracts[0], 3, True)
    assert np.round(tape.close / size).tolist() == [6100, 6110, 6120, 6120, 6130, 6140]
    assert tape.start.tolist() == (bars.close_time - MINUTE_NS).tolist()
    with pytest.raises(BrokerError, match="no bars in the session"):
        Tape.from_bars(bars, 5)
    with pytest.raises(BrokerError, match="cannot be replayed"):
        replace(tape, interval="session")


# ----------------------------------------------------------------- permit, handlers, other products


def test_a_part_that_goes_on_after_its_permit_is_gone_sends_nothing_more() -> None:
    """A reversal is retired between its two halves; nobody cancels it."""

    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(1, 5.0, math.nan), "a")
                tws.fault("slow", on="receive placeOrder", times=0, least=0.3, most=0.3)
                turning = asyncio.ensure_future(
                    broker.trade_to(pinned, Goal(-1, 5.0, math.nan), "b")
                )
                await asyncio.sleep(0.05)
                broker.retire("a test")
                with pytest.raises(ConnectionLost, match="a test"):
                    await turning
                with pytest.raises(BrokerError, match="a test"):
                    await broker.trade_to(pinned, Goal(2), "c")
                with pytest.raises(BrokerError, match="a test"):
                    await broker.close_out(pinned, "d")
                with pytest.raises(ConnectionLost, match="a test"):
                    broker.send(pinned, market_order(1, "e"))
                await asyncio.sleep(0.6)  # what was on its way arrives
                assert [order.ref for order in tws.book.orders.values()] == [
                    "a",
                    "a/stop",
                    "b/close",
                ]
                break

    run(main())


def test_a_message_that_cannot_be_handled_is_loud_and_nothing_is_sent_after_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("by hand")

    async def main() -> None:
        async with trading(steady()) as (_, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                broker._ib.positionEvent.connect(fails)
                await broker.trade_to(pinned, Goal(1), "a")
                for ask in (broker.verify, broker.check):
                    with pytest.raises(
                        Uncertain,
                        match=r"positionEvent\) could not be handled: ZeroDivisionError: by hand",
                    ):
                        ask()
                with pytest.raises(Uncertain):
                    await broker.trade_to(pinned, FLAT, "b")
                break

    run(main())
    [record] = [record for record in caplog.records if record.name == "mcl.broker"]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None


def test_a_halt_out_of_a_handler_is_not_lost() -> None:
    limits = dict.fromkeys(schema.Guards.model_fields) | {"max_fills_per_order": 1}

    async def main() -> None:
        config = SIM.model_copy(update={"guards": schema.Guards(**limits)})
        async with trading(steady(), config, options=BrokerOptions(top_size=1), speed=5.0) as (
            _,
            broker,
            pinned,
        ):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                with suppress(BrokerError):
                    await broker.trade_to(pinned, Goal(2), "a")
                with pytest.raises(Halt, match="the order a has 2 executions"):
                    broker.verify()
                break

    run(main())


def test_other_products_of_the_account_are_not_looked_at() -> None:
    big = replace(walk(3, 60, 20), contract=calendar.contract("CL", 2026, 3), instrument=CL)

    async def main() -> None:
        async with SimulatedTWS(walk(1, 60, 20), big) as tws:
            tws.seed_position(big.contract, 3, 60.0)
            broker = IBBroker(SIM, MCL, port=tws.port)
            await broker.connect()
            pinned = await broker.qualify(calendar.contract("MCL", 2026, 2))
            other = await connected(tws, client_id=5)
            [contract] = await qualified(other, ib_async.Future("CL", "202603", "NYMEX"))
            other.placeOrder(
                contract,
                ib_async.StopOrder(
                    "SELL", 1, 40.0, tif="GTC", account=SIM.account, outsideRth=True
                ),
            )
            done = other.placeOrder(
                contract,
                ib_async.MarketOrder("SELL", 1, tif="DAY", account=SIM.account, outsideRth=True),
            )
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(1), "a")
                snapshot = await broker.snapshot()
                assert done.filled() == 1
                assert tws.positions == {"CLH6": 2, "MCLG6": 1}
                assert snapshot.positions == {"MCLG6": 1}
                assert (
                    [order.symbol for order in snapshot.orders],
                    {fill.symbol for fill in snapshot.executions},
                ) == ([], {"MCLG6"})
                assert {order.symbol for order in broker.working()} == set()
                broker.check()
                break
            await gone(other)
            await broker.close()

    run(main())


def test_a_corrected_execution_is_told_with_its_price_and_counts_once() -> None:
    async def main() -> None:
        async with trading(steady()) as (tws, broker, pinned):
            async for _bar in broker.bars(pinned, "1m", SESSION_OPEN_NS):
                await broker.trade_to(pinned, Goal(1, 5.0, math.nan), "a")
                tws.fault("correct", price=60.50)
                await eventually(lambda: len(broker.fills()) == 2)
                first, second = broker.fills()
                assert (second.price, second.quantity, second.ref) == (60.50, 1, "a")
                assert (
                    first.execution_id.rpartition(".")[0] == second.execution_id.rpartition(".")[0]
                )
                broker.check()
                assert (await broker.account(pinned)).position == 1
                await broker.trade_to(pinned, FLAT, "b")
                assert tws.positions == {}
                break

    run(main())
