"""A server that is killed and started again tells the same story; a transcript tells what was
said.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import ib_async
import numpy as np
import pytest
import structlog

from mcl.base.errors import BrokerError
from mcl.simulators.tws import SimulatedTWS, transcript

from .test_tws_orders import FLAT_TAPE, by_id, market, steps
from .test_tws_start import connected, gone
from .tws_harness import RawClient, order_request, qualified, run, walk


async def everything(client: RawClient) -> list[list[str]]:
    """All that can be asked about orders and money."""
    for request in (
        ["61", "1"],
        ["5", "1"],
        ["99", "0"],
        ["7", "3", "5", "0", *[""] * 6],
        ["6", "2", "1", "DU0000001"],
    ):
        client.send(*request)
    return [
        m for m in await client.until(54) if m[0] in {"61", "5", "3", "101", "11", "59", "6", "7"}
    ]


def test_a_killed_server_knows_everything_again(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "tws.sqlite"

    async def trade() -> tuple[list[list[str]], int]:
        async with SimulatedTWS(FLAT_TAPE, state=state) as tws, market(tws) as client:
            client.send(*order_request(order_id="3", quantity="2", order_ref="entry"))
            client.send(
                *order_request(
                    order_id="4", transmit="0", order_type="LMT", limit_price="58.0", tif="GTC"
                )
            )
            client.send(
                *order_request(
                    order_id="5",
                    parent_id="4",
                    action="SELL",
                    order_type="TRAIL",
                    aux_price="0.5",
                    tif="GTC",
                )
            )
            client.send(
                *order_request(order_id="6", action="SELL", order_type="LMT", limit_price="61.0")
            )
            client.send("4", "1", "6", "")
            client.send(*order_request(order_id="7", action="SELL"))
            await client.quiet()
            copy = tmp_path / "killed.sqlite"  # what is on disk while the server still runs
            copy.write_bytes(state.read_bytes())
            (tmp_path / "killed.sqlite-wal").write_bytes(
                state.with_name("tws.sqlite-wal").read_bytes()
            )
            return await everything(client), tws.book.next_perm_id

    async def again(path: Path) -> tuple[list[list[str]], int]:
        async with SimulatedTWS(FLAT_TAPE, state=path) as tws:
            client = await RawClient.connect(tws.port)
            assert (await client.until(9))[-1] == ["9", "1", "8"]
            seen, perm_id = await everything(client), tws.book.next_perm_id
            client.send("4", "1", "4", "")
            assert steps(client, await client.quiet()) == [
                "3 Cancelled",
                "4 202",
                "3 Cancelled",
                "4 202",
            ]
            await client.close()
            return seen, perm_id

    before = run(trade())
    assert {m[0] for m in before[0]} == {"61", "5", "3", "101", "11", "59", "6", "7"}
    assert run(again(tmp_path / "killed.sqlite")) == before
    assert run(again(state)) == before


def test_a_replay_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "tws.sqlite"

    async def play(steps_: int) -> tuple[int, int]:
        async with SimulatedTWS(FLAT_TAPE, state=state, stepped=True) as tws:
            await tws.player.step(steps_)
            return tws.player.tracks[0].row, tws.book.now

    row, now = run(play(5))
    assert row == FLAT_TAPE.first + 5
    assert run(play(3)) == (row + 3, now + 3 * 60 * 10**9)
    assert run(play(100))[0] == run(play(1))[0] == len(FLAT_TAPE)


def test_a_state_of_another_account_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "tws.sqlite"

    async def start(**settings: str) -> None:
        async with SimulatedTWS(FLAT_TAPE, state=state, stepped=True, **settings) as tws:  # type: ignore[arg-type]
            await tws.player.step(1)

    run(start())
    with pytest.raises(BrokerError, match="is of account DU0000001"):
        run(start(account="DU7654321"))
    (tmp_path / "tws.sqlite").write_bytes(b"this is not a database at all, is it" * 40)
    with pytest.raises(BrokerError, match="cannot be opened"):
        run(start())


def test_a_correction_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "tws.sqlite"

    async def first() -> None:
        async with SimulatedTWS(FLAT_TAPE, state=state) as tws, market(tws) as client:
            client.send(*order_request(order_id="1"))
            await client.quiet()
            tws.fault("correct", price=60.5)

    async def second() -> None:
        async with SimulatedTWS(FLAT_TAPE, state=state) as tws:
            assert [(e.price, e.execution_id) for e in tws.executions] == [
                (60.5, "0000e9b5.00000001.01.02")
            ]

    run(first())
    run(second())


def test_the_id_of_an_execution_that_was_cancelled_is_never_given_again(tmp_path: Path) -> None:
    state = tmp_path / "tws.sqlite"

    async def trade(order_id: str, *, bust: bool) -> None:
        async with SimulatedTWS(FLAT_TAPE, state=state) as tws, market(tws) as client:
            client.send(*order_request(order_id=order_id))
            await client.quiet()
            if bust:
                tws.fault("bust")
            else:
                assert [e.execution_id for e in tws.executions] == ["0000e9b5.00000002.01.01"]

    run(trade("1", bust=True))
    run(trade("2", bust=False))


def test_the_transcript_has_the_columns_of_the_recordings(
    tmp_path: Path, shared_data: Path
) -> None:
    path = tmp_path / "log" / "traffic.txt"

    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, transcript=path) as tws, market(tws) as client:
            client.send(*order_request(order_id="3", order_ref="abc"))
            seen = await client.quiet()
            tws.fault("halt")
            assert by_id(seen, 59)

    run(main())
    rows = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    assert {len(row) for row in rows} == {8}
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert {row[2] for row in rows} == {"S", "C"}
    assert json.loads(rows[0][6]) == ["v157..178"]
    assert "# 20260105 18:00:00 US/Eastern fault name=halt" in path.read_text()
    lines = list(transcript.read(path))
    [order] = [line for line in lines if line.name == "placeOrder"]
    assert (order.values["quantity"], order.values["order_ref"], order.direction) == (
        1.0,
        "abc",
        "C",
    )
    assert "shares=1" in transcript.summary(
        next(line for line in lines if line.name == "execDetails")
    )
    recorded = list(transcript.read(shared_data / "ib_recorded_part.txt"))
    assert len(recorded) > 500
    assert {line.name for line in recorded} >= {
        "handshake",
        "placeOrder",
        "openOrder",
        "accountUpdateMulti",
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [("a\tb\n", "2 columns"), ("1\tc\tS\t178\traw\tx\tnot json\t\n", "no JSON")],
)
def test_a_file_that_is_no_transcript_is_a_sentence(
    tmp_path: Path, content: str, text: str
) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(BrokerError, match=text):
        list(transcript.read(tmp_path / "x"))
    with pytest.raises(BrokerError, match="cannot be read"):
        list(transcript.read(tmp_path / "y"))


# -------------------------------------------------------------------- streams, with ib_async itself


def test_ib_async_follows_every_stream() -> None:
    tape = walk(3, 30, 30)

    async def main() -> None:
        async with SimulatedTWS(tape, stepped=True) as tws:
            ib = await connected(tws)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            fives = ib.reqRealTimeBars(contract, 5, "TRADES", False)
            ticks = {
                kind: ib.reqTickByTickData(contract, kind)
                for kind in ("Last", "BidAsk", "MidPoint")
            }
            ticker = ib.reqMktData(contract, "", False, False)
            bars = await ib.reqHistoricalDataAsync(
                contract, "", "1800 S", "5 mins", "TRADES", False, 2, True
            )
            collected: list[float] = []
            ticks["Last"].updateEvent += lambda t: collected.extend(
                x.price for x in t.tickByTicks if hasattr(x, "exchange")
            )
            await tws.player.step(9)
            await ib.reqCurrentTimeAsync()
            rows = slice(tape.first, tape.first + 9)
            assert len(fives) == 9 * 12
            minutes = [fives[n : n + 12] for n in range(0, len(fives), 12)]
            assert [m[0].open_ for m in minutes] == tape.open[rows].tolist()
            assert [m[-1].close for m in minutes] == tape.close[rows].tolist()
            assert [max(b.high for b in m) for m in minutes] == tape.high[rows].tolist()
            assert [min(b.low for b in m) for m in minutes] == tape.low[rows].tolist()
            assert [sum(b.volume for b in m) for m in minutes] == tape.volume[rows].tolist()
            assert ticker.last == tape.open[tape.first + 9]
            assert (ticker.high, ticker.low) == (tape.high[rows].max(), tape.low[rows].min())
            assert (ticker.volume, ticker.close) == (45, tape.close[tape.first - 1])
            assert ticker.ask == pytest.approx(ticker.last + 0.01)
            assert set(collected) <= set(
                np.concatenate([tape.open, tape.high, tape.low, tape.close]).tolist()
            )
            assert len(collected) >= 9 * 4
            assert [b.volume for b in bars[-2:]] == [25, 20]
            assert bars[-1].close == tape.open[tape.first + 9]
            assert bars[-2].high == tape.high[tape.first : tape.first + 5].max()
            ib.cancelRealTimeBars(fives)
            ib.cancelMktData(contract)
            for kind in ticks:
                ib.cancelTickByTickData(contract, kind)
            ib.cancelHistoricalData(bars)
            await ib.reqCurrentTimeAsync()
            [session] = tws.sessions
            assert not session.subscribed.paces
            assert not session.subscribed.quotes
            await gone(ib)

    run(main())


def test_delayed_data_are_understood_by_ib_async() -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, stepped=True) as tws:
            tws.fault("delayed")
            ib = await connected(tws)
            [contract] = await qualified(ib, ib_async.Future("MCL", "202602", "NYMEX"))
            ib.reqMarketDataType(3)
            ticker = ib.reqMktData(contract, "", False, False)
            await tws.player.step(1)
            await ib.reqCurrentTimeAsync()
            assert (ticker.marketDataType, ticker.last, ticker.bid) == (3, 60.0, 59.99)
            head = await ib.reqHeadTimeStampAsync(contract, "TRADES", False, 2)
            assert int(head.timestamp()) * 10**9 == FLAT_TAPE.start[0]
            await gone(ib)

    run(main())


def test_time_runs_at_a_rate_and_orders_in_the_break_wait() -> None:
    """Two sessions with their break in accelerated time."""
    n = 6
    break_rows = 60 * 24
    tape = walk(5, 30, n)
    start = tape.start.copy()
    # the last three bars are the next session's
    start[-3:] = start[-3:] + (break_rows - 3) * 60 * 10**9
    start[:-3] += (23 * 60 - 3) * 60 * 10**9  # and the first three end at 17:00
    start[-3:] = start[-4] + 61 * 60 * 10**9 + 60 * 10**9 * np.arange(3)
    tape = type(tape)(
        **{**{f: getattr(tape, f) for f in tape.__dataclass_fields__}, "start": start}
    )

    async def main() -> None:
        async with SimulatedTWS(tape, rate=6000.0) as tws:
            client = await RawClient.connect(tws.port)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            while tws.player.tracks[0].row < tape.first + 3 or tws.player.tracks[0].in_progress:
                await asyncio.sleep(0.002)
            client.send("49", "1")
            told = int((await client.until(49))[-1][2])
            assert tws.player.now() // 10**9 >= told >= int(start[-4]) // 10**9 + 60
            client.send(*order_request(order_id="1"))
            assert steps(client, await client.quiet()) == [
                "4 399",
                "5 PreSubmitted",
                "3 PreSubmitted",
            ]
            await tws.finished.wait()
            assert loop.time() - begun == pytest.approx((66 * 60) / 6000, abs=0.3)
            assert [e.price for e in tws.executions] == [round(float(tape.open[-3]) + 0.01, 2)]
            await client.close()

    run(main())


def test_a_server_inside_another_program_is_silent_and_in_ours_says_what_happens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        async with SimulatedTWS(FLAT_TAPE, stepped=True) as tws:
            client = await RawClient.connect(tws.port)
            await client.until(9)
            tws.fault("halt")
            await client.close()

    structlog.reset_defaults()
    run(main())
    assert capsys.readouterr() == ("", "")
    with structlog.testing.capture_logs() as events:
        structlog.configure(processors=structlog.get_config()["processors"])
        run(main())
    structlog.reset_defaults()
    told = [(line["event"], line["log_level"]) for line in events]
    assert told[:3] == [
        ("tws_listening", "info"),
        ("tws_client_connected", "info"),
        ("tws_fault", "info"),
    ]
