"""Clients that nobody here wrote trade on the simulated TWS: the official one, two of its editions,
and ib_insync.

Each is installed into a folder of its own by `make clients`, because two of them are packages of
the same name.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mcl.simulators.tws import SimulatedTWS
from mcl.simulators.tws.random_walk import watched

from .tws_harness import run, walk

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "clients"
CLIENTS = {"ibapi-stable": "official.py", "nautilus-ibapi": "official.py", "ib_insync": "insync.py"}
CONNECTED = {2104, 2106, 2158}  # notices of every connection


async def _trade(package: Path, script: str) -> tuple[dict[str, Any], dict[str, int]]:
    tape = watched(walk(8, 120, 30), 1)
    async with SimulatedTWS(tape, stepped=True) as tws:
        await tws.player.step(2)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPTS / script),
            str(tws.port),
            env=os.environ | {"PYTHONPATH": str(package)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            while process.returncode is None and not tws.finished.is_set():
                await tws.player.step()
                await asyncio.sleep(0.5)
            out, errors = await asyncio.wait_for(process.communicate(), 100)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, errors.decode()[-2000:]
        assert tws.counters["protocol_errors"] == tws.counters["unknown_requests"] == 0
        return json.loads(out.decode().splitlines()[-1]), dict(tws.positions)


@pytest.mark.parametrize("name", CLIENTS)
def test_another_client_trades(name: str) -> None:
    package = ROOT / "build" / "clients" / name
    if not package.is_dir():
        pytest.skip(f"{name} is not installed: make clients")
    seen, positions = run(_trade(package, CLIENTS[name]), seconds=150)
    assert 176 <= seen["server_version"] <= 178
    assert (seen["symbol"], seen["min_tick"]) == ("MCLG6", 0.01)
    assert seen["bars"] >= 25
    assert sum(quantity for side, quantity, _ in seen["fills"] if side == "BOT") == 2
    assert seen["position"] == 2
    assert positions == {"MCLG6": 2}
    assert set(seen["errors"]) - CONNECTED <= {202}
