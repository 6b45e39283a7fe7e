"""One connected client: its bytes in and out, who it is, and what it has subscribed to."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from mcl.broker.tws import wire
from mcl.broker.tws.answers import ANSWERS
from mcl.broker.tws.contracts import Listed
from mcl.broker.tws.messages import MessageError
from mcl.broker.tws.render import local_time
from mcl.broker.tws.requests import REQUESTS

if TYPE_CHECKING:
    from mcl.broker.tws.server import SimulatedTWS

log = logging.getLogger("mcl.broker.tws")

FARMS = (
    (2104, "Market data farm connection is OK:usfuture"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)


@dataclass
class Subscriptions:
    """By request id where the protocol has one."""

    positions: bool = False
    account: bool = False
    account_multi: set[int] = field(default_factory=set)
    pnl: set[int] = field(default_factory=set)
    pnl_single: dict[int, int] = field(default_factory=dict)  # -> con_id
    quotes: dict[int, Listed] = field(default_factory=dict)
    bars: dict[int, tuple[Listed, int]] = field(default_factory=dict)  # keepUpToDate -> contract, date format


class Session(asyncio.Protocol):
    """Handshake, start-up and dispatch. Answers of one turn of the event loop leave in one write."""

    def __init__(self, tws: SimulatedTWS) -> None:
        self.tws, self.version, self.client_id = tws, 0, -1
        self.subscribed = Subscriptions()
        self.gone = asyncio.Event()
        self._frames = wire.Frames()
        self._out = bytearray()
        self._transport: asyncio.Transport | None = None

    # ------------------------------------------------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.tws.sessions.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._frames.feed(data):
                self._received(wire.fields(payload))
        except (wire.WireError, MessageError, ValueError) as error:
            log.warning("client %s is cut off: %s", self.client_id, error)
            self.tws.counters["protocol_errors"] += 1
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self.tws.left(self)
        self.gone.set()

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def send(self, name: str, **values: Any) -> None:
        """Queue one message, named as in `answers`."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += wire.frame(ANSWERS[name].encode(self.version, values))
        self.tws.counters["sent"] += 1

    def error(self, req_id: int, code: int, text: str) -> None:
        self.send("error", req_id=req_id, code=code, text=text)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(self._out))
        self._out.clear()

    # -------------------------------------------------------------------------------------------------------- receive

    def _received(self, fields: list[str]) -> None:
        self.tws.counters["received"] += 1
        if not self.version:
            self._greet(fields)
            return
        message = REQUESTS.get(int(fields[0])) if fields and fields[0].isdigit() else None
        if message is None or (message.name not in self.tws.handlers and message.name != "startApi"):
            self.tws.counters["unknown_requests"] += 1
            log.warning("client %s sent an unknown request %s", self.client_id, fields[:3])
            return
        request = message.decode(self.version, fields)
        if message.name == "startApi":
            self._start(request["client_id"])
        elif self.client_id < 0:
            raise MessageError(f"{message.name} before startApi")
        else:
            self.tws.handlers[message.name](self, request)

    def _greet(self, fields: list[str]) -> None:
        """Agree on a version: ours, or the client's highest if that is lower."""
        low, _, high = fields[0].split(" ")[0].removeprefix("v").partition("..")
        if not (low.isdigit() and high.isdigit()) or int(low) > self.tws.server_version:
            raise MessageError(f"no common version with a client that speaks {fields[0]!r}")
        self.version = min(self.tws.server_version, int(high))
        self._out += wire.frame([str(self.version), local_time(self.tws.book.now)])
        self._flush()

    def _start(self, client_id: int) -> None:
        if any(other.client_id == client_id for other in self.tws.sessions if other is not self):
            self.error(-1, 326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
            self.close()
            return
        self.client_id = client_id
        self.send("managedAccounts", accounts=self.tws.account.name)
        self.send("nextValidId", order_id=self.tws.book.next_valid_id(client_id))
        for code, text in FARMS:
            self.error(-1, code, text)
