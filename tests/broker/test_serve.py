"""The simulated TWS as a program of its own: what a person types, and what the project's own door
to brokers finds on the port.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcl.broker.ib import IBBroker
from mcl.cli.main import main
from mcl.config import schema
from mcl.data.sources.csv import CsvColumns, CsvData
from mcl.market import calendar
from mcl.market.instruments import MCL
from mcl.simulators.tws import SimulatedTWS, tape_loader
from mcl.simulators.tws.control import Control, ask
from mcl.simulators.tws.random_walk import tapes as walk_tapes

from .test_tws_orders import FLAT_TAPE
from .tws_harness import RawClient, order_request, run, walk

NS = 10**9
CSV_ROWS = 240


def project(root: Path) -> list[str]:
    """A small CSV data set of two sessions, and the overrides that name it."""
    tape = walk(7, CSV_ROWS, CSV_ROWS)
    lines = ["time,symbol,open,high,low,close,volume"]
    starts = np.concatenate([tape.start[tape.first :] - 24 * 3600 * NS, tape.start[tape.first :]])
    for row, start in enumerate(starts):
        prices = ",".join(
            f"{getattr(tape, name)[row]:.2f}" for name in ("open", "high", "low", "close")
        )
        opened_at = np.datetime64(int(start), "ns").astype("datetime64[s]")
        lines.append(f"{opened_at},MCLG6,{prices},{tape.volume[row]}")
    (root / "bars.csv").write_text("\n".join(lines) + "\n")
    return [
        "data=csv",
        f"data.path={root / 'bars.csv'}",
        "data.columns.symbol=symbol",
        "data.stamped_at=open",
        "data.timezone=UTC",
        "data.roll.rule=calendar",
    ]


@contextmanager
def serving(root: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`mcl tws serve` in another process; what it wrote about itself."""
    command = [
        sys.executable,
        "-m",
        "mcl",
        "tws",
        "serve",
        "--port",
        "0",
        *words,
        *project(root),
    ]
    process = subprocess.Popen(
        command,
        env=os.environ | {"MCL_HOME": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := list((root / "data" / "tws").glob("*.json"))):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, json.loads(found[0].read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_serve_status_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    log, state = tmp_path / "traffic.txt", tmp_path / "tws.sqlite"
    words = [
        "--clock",
        "stepped",
        "--transcript",
        str(log),
        "--state",
        str(state),
        "--fault",
        '{"name": "drop", "on": "send commissionReport"}',
    ]

    async def trade(port: int) -> list[str]:
        client = await RawClient.connect(port)
        await client.until(9)
        client.send(*order_request(order_id="7", order_type="LMT", limit_price="40.0", tif="GTC"))
        seen = await client.quiet()
        await client.close()
        return [m[0] for m in seen]

    with serving(tmp_path, *words) as (process, facts):
        assert run(trade(facts["port"]))[-2:] == ["5", "3"]
        assert main(["--json", "tws", "status"]) == 0
        [server] = json.loads(capsys.readouterr().out)["servers"]
        assert (server["working_orders"], server["contracts"], server["bars"]) == (
            1,
            ["MCLG6"],
            CSV_ROWS,
        )
        assert server["pid"] == process.pid
    assert process.returncode == 0
    assert main(["tws", "status"]) == 1
    assert "no simulated TWS was started here" in capsys.readouterr().err
    assert main(["tws", "log", str(log), "--only", "placeOrder"]) == 0
    assert "→ placeOrder" in capsys.readouterr().out
    assert main(["--json", "tws", "log", str(log), "--tail", "2"]) == 0
    assert len(json.loads(capsys.readouterr().out)["shown"]) == 2
    with serving(tmp_path, "--clock", "stepped", "--state", str(state)) as (_, facts):
        assert main(["--json", "tws", "status", "--port", str(facts["port"])]) == 0
        assert json.loads(capsys.readouterr().out)["servers"][0]["working_orders"] == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--contract", "MCLZ9"], "MCLG6"),
        (["--session", "2031-01-02"], "no bars in the session"),
        (["--today", "--clock", "60"], "real time"),
        (["--clock", "fast"], "--clock fast"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(
    tmp_path: Path,
    words: list[str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    assert main(["tws", "serve", "--port", "0", "--until-end", *words, *project(tmp_path)]) == 1
    assert text in capsys.readouterr().err


NOW = calendar.ns_of(calendar.from_day(20_000), 11)  # 2024-10-04 11:00 New York


def test_todays_tape_has_the_same_clock_in_a_contract_that_trades() -> None:
    tape = tape_loader.as_of_today([FLAT_TAPE], NOW)[0]
    assert tape.synthetic
    assert tape.contract.symbol == "MCLX4"
    assert calendar.session_of(tape.start[tape.first]) == 20_000
    clock = [calendar.new_york_ns(t.start[t.first :]) % calendar.DAY_NS for t in (FLAT_TAPE, tape)]
    assert clock[0].tolist() == clock[1].tolist()
    weekend = tape_loader.as_of_today([FLAT_TAPE], NOW + 30 * 3600 * NS)[0]
    assert (
        calendar.from_day(int(calendar.session_of(weekend.start[weekend.first]))).isoformat()
        == "2024-10-07"
    )


def test_todays_tape_keeps_stored_bars_at_their_times_while_the_contract_trades() -> None:
    """A session that has the same bars stored finds them again in the history; the last session's
    prices come once more, today.
    """
    day = int(calendar.session_of(FLAT_TAPE.start[FLAT_TAPE.first]))
    now = calendar.ns_of(calendar.from_day(day + 1), 11)
    tape = tape_loader.as_of_today([FLAT_TAPE], now)[0]
    assert tape.contract == FLAT_TAPE.contract
    assert tape.synthetic
    assert tape.start[: tape.first].tolist() == FLAT_TAPE.start.tolist()
    assert tape.close[: tape.first].tolist() == FLAT_TAPE.close.tolist()
    played = FLAT_TAPE.first - len(FLAT_TAPE.start)
    assert (tape.start[tape.first :] - FLAT_TAPE.start[played:]).tolist() == [
        calendar.DAY_NS
    ] * -played
    assert tape.close[tape.first :].tolist() == FLAT_TAPE.close[played:].tolist()


def test_the_door_to_brokers_trades_on_it_as_on_a_real_one() -> None:
    """Real time, as `mcl live paper broker=ib_paper` meets it: the clocks agree, bars come by the
    wall clock, orders fill.
    """
    now = time.time_ns()
    tape = walk(3, 30, 200)
    start = tape.start - tape.start[tape.first] + now // (60 * NS) * 60 * NS - 2 * 60 * NS
    tape = type(tape)(
        **{f: getattr(tape, f) for f in tape.__dataclass_fields__ if f != "start"}, start=start
    )
    contract = tape_loader.as_of_today([FLAT_TAPE], now)[0].contract
    tape = type(tape)(
        **{f: getattr(tape, f) for f in tape.__dataclass_fields__ if f != "contract"},
        contract=contract,
    )

    async def session() -> None:
        async with SimulatedTWS(tape, rate=1.0, start_ns=now, port=4002) as tws:
            broker = IBBroker(schema.BrokerConfig(kind="tws", port=4002, timeout_sec=5.0), MCL)
            await broker.connect()
            try:
                assert abs(await broker.heartbeat() - time.time_ns()) < 2 * NS
                pinned = await broker.qualify(contract)
                assert pinned.local_symbol == tws.played.local_symbol
                client = await RawClient.connect(tws.port, 3)
                await client.until(9)
                client.send(
                    *order_request(
                        order_id="1", last_trade_date=f"{contract.last_trade_date:%Y%m%d}"
                    )
                )
                assert "59" in [m[0] for m in await client.quiet()]
                await client.close()
            finally:
                await broker.close()

    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 4002)) == 0:
            pytest.skip("something listens on port 4002 of this machine")
    run(session())


def test_several_contracts_of_a_store_are_named_or_all(tmp_path: Path) -> None:
    """Two months in one file: each has its own history, the active one comes first."""
    lines = ["time,symbol,open,high,low,close,volume"]
    for month, volume in (("MCLG6", 9), ("MCLH6", 2)):
        tape = walk(7, CSV_ROWS, CSV_ROWS)
        for day in (1, 0):
            starts = tape.start[tape.first :] - day * 24 * 3600 * NS
            stamps = [np.datetime64(int(ns), "ns").astype("datetime64[s]") for ns in starts]
            lines += [
                f"{t},{month},{','.join([f'{p:.2f}'] * 4)},{volume}"
                for t, p in zip(stamps, tape.close[tape.first :], strict=True)
            ]
    project(tmp_path)
    (tmp_path / "bars.csv").write_text("\n".join(lines) + "\n")
    columns = CsvColumns(
        time="time",
        open="open",
        high="high",
        low="low",
        close="close",
        volume="volume",
        symbol="symbol",
    )
    data = CsvData(
        source="csv",
        path=str(tmp_path / "bars.csv"),
        columns=columns,
        stamped_at="open",
        timezone="UTC",
        roll=schema.Roll(rule="calendar"),
    )
    found = {
        words: tape_loader.tapes(data, tmp_path, contracts=words)
        for words in ((), ("all",), ("MCLH6",), ("MCLH6", "MCLG6"))
    }
    names = {words: [tape.contract.symbol for tape in tapes] for words, tapes in found.items()}
    active = names[()][0]
    assert names[("all",)] == [active, *({"MCLG6", "MCLH6"} - {active})]
    assert (names[("MCLH6",)], names[("MCLH6", "MCLG6")]) == (["MCLH6"], ["MCLH6", "MCLG6"])
    assert all(tape.first == CSV_ROWS for tape in found[("all",)])


def test_the_clock_of_today_is_that_of_this_machine_however_long_loading_took() -> None:
    async def main() -> None:
        now = time.time_ns()
        tws = SimulatedTWS(*walk_tapes(now), rate=1.0, start_ns=now, wall_clock=True)
        await asyncio.sleep(3)
        async with tws:
            await asyncio.sleep(0)
            assert abs(tws.player.now() - time.time_ns()) < 2 * NS

    run(main())


def test_a_page_in_a_browser_cannot_command_it(tmp_path: Path) -> None:
    """What a form or a script of a page can send to the control port: a request whose body is a
    command.
    """
    body = b'{"do": "stop"}\n{"do": "fault", "name": "disconnect"}\n'
    head = b"Host: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def attacked() -> tuple[list[bytes], dict[str, Any], bool]:
        async with SimulatedTWS(walk(7, 10, 10), stepped=True) as tws, Control(tws) as control:
            answers = []
            for first in (
                b"POST / HTTP/1.1\r\n",
                b"GET /%7B HTTP/1.1\r\n",
                b"[1]\n",
                b"\x16\x03\x01\n",
                b"1\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
                writer.write(first + head + body)
                answers.append(await asyncio.wait_for(reader.read(-1), 60))
                writer.close()
            status = await asyncio.to_thread(ask, control.port, {"do": "status"})
            return answers, status, control.stopped.is_set()

    answers, status, stopped = asyncio.run(attacked())
    assert not stopped
    assert not status["faults_pending"]
    assert all(len(answer.splitlines()) <= 1 for answer in answers)
    assert all(
        json.loads(answer)["error"].startswith("a command is one JSON object")
        for answer in answers
        if answer
    )
