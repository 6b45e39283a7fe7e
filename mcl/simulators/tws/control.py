"""The control socket: one JSON object per line in, one out, on loopback.

    {"do": "status"}                          clock, clients, orders, positions, counters
    {"do": "fault", "name": "cut", "on": "send execDetails"}  (see `faults` for the keys)
    {"do": "menu"}   {"do": "clear"}   {"do": "step", "bars": 5}   {"do": "stop"}

An answer has `ok`; if that is false, `error` is a sentence. A line that is no JSON object ends the
connection: a page in a browser can make a request to this port, and its first line is HTTP. What
follows it is not read.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mcl.base.errors import BrokerError, MclError, nearest
from mcl.simulators.tws.fault_catalog import CATALOG
from mcl.simulators.tws.stamps import local_time

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
TIMEOUT_SEC = 5.0
NO_COMMAND = 'a command is one JSON object with "do" and its keys'


def played(tws: SimulatedTWS) -> int:
    """Bars of all contracts that have completed."""
    return sum(track.row - track.tape.first for track in tws.player.tracks)


def status(tws: SimulatedTWS) -> dict[str, Any]:
    """Return the state of a server as plain JSON."""
    account, book = tws.account, tws.book
    return {
        "port": tws.port,
        "server_version": tws.server_version,
        "contracts": [track.listed.local_symbol for track in tws.player.tracks],
        "interval": tws.tape.interval,
        "synthetic": any(track.tape.synthetic for track in tws.player.tracks),
        "market_time": local_time(tws.player.now()),
        "bars_played": played(tws),
        "bars": sum(len(track.tape) - track.tape.first for track in tws.player.tracks),
        "finished": tws.finished.is_set(),
        "clients": sorted(s.client_id for s in tws.sessions),
        "account": account.name,
        "net_liquidation_usd": round(account.equity, 2),
        "positions": tws.positions,
        "working_orders": len(book.working()),
        "executions": len(book.executions),
        "faults_pending": tws.faults.pending,
        "counters": dict(tws.counters),
    }


class Control:
    """Listens next to a server; `stopped` is set when somebody asks for its end."""

    def __init__(self, tws: SimulatedTWS, port: int = 0) -> None:
        self.port, self.stopped = port, asyncio.Event()
        self._tws = tws
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._commands: dict[str, Command] = {
            "status": self._status,
            "fault": self._fault,
            "menu": self._catalog,
            "clear": self._clear,
            "step": self._step,
            "stop": self._stop,
        }

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        except OSError as error:
            raise BrokerError(
                f"the control port {self.port} cannot be opened: {error.strerror}"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while line := await reader.readline():
                request = _object(line)
                answer = (
                    {"ok": False, "error": NO_COMMAND}
                    if request is None
                    else await self._answer(request)
                )
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
                if request is None:
                    break
        except (ConnectionError, ValueError):
            return  # who asked is gone, or sends a line without end
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            name = request.pop("do")
            if name not in self._commands:
                raise BrokerError(
                    f"the control socket cannot {name!r}: {nearest(name, self._commands)}"
                )
            return {"ok": True} | await self._commands[name](request)
        except MclError as error:
            return {"ok": False, "error": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"ok": False, "error": f"{NO_COMMAND}: {error!r}"}

    async def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return status(self._tws)

    async def _fault(self, request: dict[str, Any]) -> dict[str, Any]:
        if "name" not in request:
            raise BrokerError(f"a fault needs a name: {', '.join(CATALOG)}")
        self._tws.fault(request.pop("name"), **request)
        return {"pending": self._tws.faults.pending}

    async def _catalog(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "faults": {
                name: {"codes": entry.codes, "summary": entry.summary}
                for name, entry in CATALOG.items()
            }
        }

    async def _clear(self, _: dict[str, Any]) -> dict[str, Any]:
        self._tws.faults.clear()
        return {}

    async def _step(self, request: dict[str, Any]) -> dict[str, Any]:
        await self._tws.player.step(int(request.get("bars", 1)))
        return {"bars_played": played(self._tws)}

    async def _stop(self, _: dict[str, Any]) -> dict[str, Any]:
        self.stopped.set()
        return {}


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        request = json.loads(line)
    except ValueError:
        return None
    return request if isinstance(request, dict) else None


def ask(port: int, command: dict[str, Any], timeout_sec: float = TIMEOUT_SEC) -> dict[str, Any]:
    """One command to a control socket on this machine, from anywhere. BrokerError with the server's
    sentence, or when none answers.
    """
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout_sec) as connection,
            connection.makefile("rw") as file,
        ):
            file.write(json.dumps(command) + "\n")
            file.flush()
            answer: dict[str, Any] = json.loads(file.readline() or "{}")
    except (OSError, ValueError) as error:
        raise BrokerError(
            f"no simulated TWS answers on its control port {port}: {error}",
            "start one: mcl tws serve",
        ) from None
    if not answer.pop("ok", False):
        raise BrokerError(answer.get("error", f"the control port {port} gave no answer"))
    return answer
