"""A market of quotes and trades: what an order takes from a book, and what flows to those who
watch.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import ib_async
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.base.errors import BrokerError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import loader
from mcl.data.depth import load_depth
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, order_books
from mcl.market import calendar
from mcl.simulators.tws import SimulatedTWS, quotes, tape_loader
from mcl.simulators.tws.order_book import OrderBook
from mcl.simulators.tws.random_walk import InBars, tapes, watched
from mcl.simulators.tws.tape import Tape, Tick, Ticks

from .test_book import MCLG6, Told, book, place
from .tws_harness import SESSION_OPEN_NS, RawClient, eventually, qualified, run, walk

COMMON = {"tif": "DAY", "account": "DU0000001", "outsideRth": True}
MINUTE_NS = 60 * NS


def tick(
    bid: float,
    ask: float,
    sizes: tuple[int, int] = (5, 5),
    price: float = float("nan"),
    size: int = 0,
) -> Tick:
    return Tick(
        SESSION_OPEN_NS,
        (bid, bid - 0.01),
        (ask, ask + 0.01),
        (sizes[0], 7),
        (sizes[1], 7),
        price,
        size,
    )


def shown(*ticks: Tick) -> tuple[OrderBook, Told]:
    core, told = book()
    core.clock(SESSION_OPEN_NS)
    for one in ticks:
        core.exchange.ticked(MCLG6, one)
    return core, told


def fills(told: Told) -> list[tuple[int, float]]:
    return [(f.quantity, f.price) for f in told.fills]


# ----------------------------------------------------------------------------------------- matching


def test_a_market_order_walks_the_book_and_waits_for_more() -> None:
    core, told = shown(tick(60.00, 60.02))
    place(core, 1, quantity="14")
    assert fills(told) == [(5, 60.02), (7, 60.03)]
    core.exchange.ticked(MCLG6, tick(60.00, 60.02))  # the same side again: nothing new to take
    assert len(told.fills) == 2
    core.exchange.ticked(MCLG6, tick(60.00, 60.04))
    assert fills(told)[2:] == [(2, 60.04)]
    assert told.statuses[-1] == (1, "Filled")


def test_a_limit_takes_what_is_no_worse_and_rests_with_the_remainder() -> None:
    core, told = shown(tick(60.00, 60.02))
    place(core, 1, quantity="9", order_type="LMT", limit_price="60.02")
    assert fills(told) == [(5, 60.02)]
    # at the limit: who was first is unknown
    core.exchange.ticked(MCLG6, tick(60.00, 60.03, price=60.02, size=50))
    assert len(told.fills) == 1
    # beyond it, but no larger than the trade
    core.exchange.ticked(MCLG6, tick(60.00, 60.03, price=60.01, size=3))
    # the other side comes to it: at its limit
    core.exchange.ticked(MCLG6, tick(60.00, 60.01, sizes=(5, 6)))
    assert fills(told)[1:] == [(3, 60.02), (1, 60.02)]


@pytest.mark.parametrize(
    ("kind", "values", "price", "filled"),
    [
        ("STP", {"aux_price": "60.05"}, 60.04, None),
        ("STP", {"aux_price": "60.05"}, 60.05, 60.02),
        ("MIT", {"aux_price": "59.95"}, 59.95, 60.02),
        ("STP LMT", {"aux_price": "60.05", "limit_price": "60.02"}, 60.06, 60.02),
        ("STP LMT", {"aux_price": "60.05", "limit_price": "60.01"}, 60.06, None),
    ],
)
def test_a_trade_sets_off_what_waits_for_its_price(
    kind: str, values: dict[str, str], price: float, filled: float | None
) -> None:
    core, told = shown(tick(60.00, 60.02))
    place(core, 1, order_type=kind, **values)
    assert told.fills == []
    core.exchange.ticked(MCLG6, tick(60.00, 60.02, price=price, size=1))
    assert [p for _, p in fills(told)] == ([] if filled is None else [filled])


def test_a_trailing_stop_follows_trades() -> None:
    core, told = shown(tick(60.00, 60.02, price=60.00, size=1))
    place(core, 1, action="SELL", order_type="TRAIL", aux_price="0.05")
    for price in (60.03, 60.10, 60.06):
        core.exchange.ticked(MCLG6, tick(60.00, 60.02, price=price, size=1))
    assert told.fills == []
    assert core.orders[1, 1].trigger == 60.05
    core.exchange.ticked(MCLG6, tick(60.00, 60.02, price=60.05, size=1))
    assert fills(told) == [(-1, 60.00)]


TICK = st.tuples(
    st.integers(5990, 6010),
    st.integers(1, 3),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(-4, 4),
    st.integers(0, 9),
)
ORDER = st.tuples(
    st.sampled_from(["MKT", "LMT"]), st.booleans(), st.integers(1, 20), st.integers(5985, 6015)
)


@given(st.lists(st.tuples(TICK, ORDER), min_size=1, max_size=25))
@settings(max_examples=80)
def test_no_order_takes_more_than_was_shown_or_pays_more_than_its_limit(
    steps: list[tuple[Any, Any]],
) -> None:
    core, told = shown()
    room = 0
    for number, ((bid, spread, bids, asks, off, size), (kind, buys, quantity, limit)) in enumerate(
        steps, 1
    ):
        book_ = Tick(
            SESSION_OPEN_NS,
            (bid / 100,),
            ((bid + spread) / 100,),
            (bids,),
            (asks,),
            (bid + off) / 100,
            size,
        )
        core.exchange.ticked(MCLG6, book_)
        room += bids + asks + size * number  # every resting order may meet the trade
        place(
            core,
            number,
            order_type=kind,
            action="BUY" if buys else "SELL",
            quantity=str(quantity),
            limit_price=f"{limit / 100:.2f}",
        )
    for fill in told.fills:
        if fill.order.kind == "LMT":
            assert fill.order.side * (fill.price - fill.order.limit) <= 1e-9
    assert sum(abs(f.quantity) for f in told.fills) <= room
    assert all(o.filled <= o.total for o in core.orders.values())


# ------------------------------------------------------------------------------------------ streams


def quoted(history: int = 60, played: int = 12) -> Tape:
    return watched(walk(4, history, played), seed=1)


def test_quotes_made_up_inside_bars_make_the_bars_again() -> None:
    tape = quoted()
    assert tape.quotes is not None
    ticks = tape.quotes.between(int(tape.start[60]), int(tape.start[-1]) + MINUTE_NS)
    made = quotes.bars_of(ticks, "1m")
    for column, expected in zip(made, tape.columns, strict=True):
        assert column.tolist() == expected[60:].tolist()
    assert (ticks.bid[0] < ticks.ask[0]).all()
    pieces = [
        tape.quotes.between(a, a + 17 * NS)
        for a in range(int(ticks.ts[0]), int(ticks.ts[0]) + 170 * NS, 17 * NS)
    ]
    assert sum(len(p) for p in pieces) == len(
        ticks.rows(int(ticks.ts[0]), int(ticks.ts[0]) + 170 * NS)
    )


def test_ib_async_watches_and_trades_tick_by_tick() -> None:
    tape = quoted()

    async def main() -> None:
        async with SimulatedTWS(tape, stepped=True) as tws:
            ib = ib_async.IB()
            await ib.connectAsync(
                "127.0.0.1", tws.port, clientId=1, timeout=30, raiseSyncErrors=True
            )
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            bars = await ib.reqHistoricalDataAsync(
                contract, "", "600 S", "1 min", "TRADES", False, 2, True
            )
            fives, ticker = (
                ib.reqRealTimeBars(contract, 5, "TRADES", False),
                ib.reqMktData(contract),
            )
            depth = ib.reqMktDepth(contract, 3)
            prints: list[Any] = []
            ib.reqTickByTickData(contract, "AllLast").updateEvent += lambda t: prints.extend(
                t.tickByTicks
            )
            await ib.reqCurrentTimeAsync()
            await tws.player.step(5)
            await ib.reqCurrentTimeAsync()
            order = ib.placeOrder(contract, ib_async.MarketOrder("BUY", 2, **COMMON))
            await eventually(order.isDone)
            quote = tws.book.exchange.quote(tws.played)
            assert quote is not None
            assert order.fills[0].execution.price == quote.ask[0]
            assert (ticker.bid, ticker.ask) == (quote.bid[0], quote.ask[0])
            assert [(d.price, d.size) for d in depth.domBids] == list(
                zip(quote.bid[:3], quote.bid_size[:3], strict=True)
            )
            await tws.player.step(7)
            await eventually(tws.finished.is_set)
            await ib.reqCurrentTimeAsync()
            shown = slice(tape.first, None)
            assert [b.close for b in bars] == tape.close[tape.first - 10 :].tolist()
            assert [b.volume for b in bars[10:]] == tape.volume[shown].tolist()
            # the first one was before we asked
            assert sum(p.size for p in prints) == tape.volume[shown].sum() - 1
            assert max(f.high for f in fives) == tape.high[shown].max()
            assert sum(f.volume for f in fives) == tape.volume[shown].sum()
            assert len({f.time for f in fives}) == len(fives) >= 12 * 11
            assert (ticker.open, ticker.high, ticker.low) == (
                tape.open[tape.first],
                tape.high[shown].max(),
                tape.low[shown].min(),
            )
            assert ticker.volume == tape.volume[shown].sum()
            ib.cancelMktDepth(contract)
            ib.disconnect()

    run(main())


@pytest.mark.parametrize("tape", [quoted(), walk(4, 60, 12)], ids=["ticks", "bars"])
def test_historical_ticks_end_now_and_come_in_order(tape: Tape) -> None:
    async def main() -> None:
        async with SimulatedTWS(tape, stepped=True) as tws:
            ib = ib_async.IB()
            await ib.connectAsync(
                "127.0.0.1", tws.port, clientId=1, timeout=30, raiseSyncErrors=True
            )
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            await tws.player.step(6)
            now = tws.book.now // NS

            async def ask(start: str, end: str, count: int, what: str) -> list[Any]:
                return await ib.reqHistoricalTicksAsync(contract, start, end, count, what, False)

            last = await ask("", "20260105-23:05:00", 50, "TRADES")
            assert 12 <= len(last) <= 50
            assert all(a.time <= b.time for a, b in pairwise(last))
            assert last[-1].time.timestamp() < SESSION_OPEN_NS // NS + 300
            assert last[-1].price == tape.close[tape.first + 4]
            first = await ask("20260105-23:00:00", "", 3, "BID_ASK")
            assert len(first) == 3
            assert first[0].priceBid < first[0].priceAsk
            ahead = await ask("20260105-23:05:00", "", 1000, "TRADES")
            assert max(t.time.timestamp() for t in ahead) <= now
            assert {round(t.price * 200) for t in await ask("", "20260105-23:05:00", 5, "MIDPOINT")}
            ib.RaiseRequestErrors = True
            # 321 is a warning for this client: its question stays open
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask("", "", 5, "TRADES"), 0.2)
            ib.disconnect()

    run(main())


def test_depth_is_refused_as_a_tws_refuses_it() -> None:
    async def main() -> None:
        async with SimulatedTWS(quoted(), stepped=True) as tws:
            client = await RawClient.connect(tws.port)
            await client.until(9)
            for req_id, (month, smart) in enumerate(
                [("202603", "0"), ("202602", "1"), *[("202602", "0")] * 3, ("203012", "0")], 1
            ):
                client.send(
                    "10",
                    "5",
                    str(req_id),
                    "0",
                    "MCL",
                    "FUT",
                    month,
                    "0.0",
                    "",
                    "",
                    "NYMEX",
                    "",
                    "USD",
                    "",
                    "",
                    "5",
                    smart,
                    "",
                )
            client.send("11", "1", "4711", "0")
            seen = [m for m in await client.quiet() if m[0] in {"4", "12", "13"} and m[2] != "-1"]
            assert [(m[2], m[3]) for m in seen if m[0] == "4"] == [
                ("1", "10092"),
                ("5", "309"),
                ("6", "200"),
                ("4711", "310"),
            ]
            assert {(m[0], m[2], len(m)) for m in seen if m[0] != "4"} == {
                ("13", "2", 10),
                ("12", "3", 8),
                ("12", "4", 8),
            }
            await client.close()

    run(main())


# -------------------------------------------------------------------------------------------- store

DAYS = (date(2024, 1, 10), date(2024, 1, 11))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[schema.Data, Path]:
    """A generated world with the order books of one session, read as files of the vendor."""
    root = tmp_path_factory.mktemp("root")
    home = generator.generate(
        SyntheticData(source="synthetic", seed=11),
        root / "raw",
        first=date(2024, 1, 8),
        last=date(2024, 1, 12),
    )
    order_books.generate(home, DAYS, "mbp-1")
    data = DatabentoData(
        source="databento", symbol="MCL.FUT", path=str(home), roll=schema.Roll(rule="calendar")
    )
    loader.stored_dataset(data, root)
    return data, root


def test_books_of_the_store_are_replayed_and_their_trades_are_the_bars(
    project: tuple[schema.Data, Path],
) -> None:
    data, root = project
    [bars] = tape_loader.tapes(data, root, DAYS[1])
    ticks = tape_loader.tapes(data, root, DAYS[1], contracts=["all"], detail="ticks")[0]
    assert ticks.contract == bars.contract
    assert ticks.synthetic
    for played, expected in zip(
        ticks.columns.rows(slice(ticks.first, None)),
        bars.columns.rows(slice(bars.first, None)),
        strict=True,
    ):
        assert np.array_equal(played, expected)
    [fine] = tape_loader.tapes(data, root, DAYS[1], detail="seconds")
    assert fine.interval == "1s"
    assert calendar.from_day(int(calendar.session_of(fine.start[0]))) == DAYS[0]
    assert fine.volume[fine.first :].sum() == bars.volume[bars.first :].sum()
    with pytest.raises(
        BrokerError, match=r"holds no trades of MCL.* in session 2024-01-09; the last books: MCL"
    ):
        tape_loader.tapes(data, root, date(2024, 1, 9), detail="ticks")
    assert len(load_depth(data, root, lambda _: DAYS).book_keys) == 4


def grew_or_ended(bars: ib_async.BarDataList, known: int, tws: SimulatedTWS) -> bool:
    return len(bars) > known or tws.finished.is_set()


def test_a_session_of_quotes_in_lock_step_fills_inside_the_book(
    project: tuple[schema.Data, Path],
) -> None:
    data, root = project
    [tape] = tape_loader.tapes(data, root, DAYS[1], detail="ticks")
    short = tape.having(tape.columns.rows(slice(tape.first + 120)), tape.first)

    async def main() -> None:
        async with SimulatedTWS(short) as tws:
            ib = ib_async.IB()
            ib.client.MaxRequests = 0
            await ib.connectAsync(
                "127.0.0.1", tws.port, clientId=1, timeout=30, raiseSyncErrors=True
            )
            [contract] = await qualified(
                ib, ib_async.Future(localSymbol=tws.played.local_symbol, exchange="NYMEX")
            )
            bars = await ib.reqHistoricalDataAsync(
                contract, "", "600 S", "1 min", "TRADES", False, 2, True
            )
            side = 1
            while not tws.finished.is_set():
                known = len(bars)
                await ib.reqCurrentTimeAsync()
                await eventually(partial(grew_or_ended, bars, known, tws))
                if known % 10 == 0:
                    ib.placeOrder(
                        contract, ib_async.MarketOrder("BUY" if side > 0 else "SELL", 1, **COMMON)
                    )
                    side = -side
            assert len(tws.executions) >= 10
            assert tape.quotes is not None
            for fill in tws.executions:
                stood = tape.quotes.between(fill.time - 30 * MINUTE_NS, fill.time + 1).each()[-1]
                assert fill.price == (stood.ask if fill.quantity > 0 else stood.bid)[0]
            ib.disconnect()

    run(main())


def test_a_walk_around_now_has_two_months_of_both_instruments() -> None:
    now = calendar.ns_of(date(2026, 3, 11), 11)
    found = tapes(now, seed=3)
    assert [t.contract.symbol for t in found] == ["MCLJ6", "MCLK6", "CLJ6", "CLK6"]
    assert all(t.synthetic and isinstance(t.quotes, InBars) for t in found)
    assert calendar.session_of(found[0].start[found[0].first]) == calendar.to_day(date(2026, 3, 11))
    assert found[0].close.tolist() == tapes(now, seed=3)[2].close.tolist()
    assert found[0].close.tolist() != tapes(now, seed=4)[0].close.tolist()
    with pytest.raises(BrokerError, match="not of 1s"):
        watched(replace(found[0], interval="1s"), 1)
    assert isinstance(found[0].quotes, InBars)
    assert isinstance(found[0].quotes.between(now, now + MINUTE_NS), Ticks)
