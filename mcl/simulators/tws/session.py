"""One connected client: its bytes in and out, who it is, and what it has subscribed to."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mcl.simulators.tws import event_log, framing
from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.history import BarForm
from mcl.simulators.tws.message_in_flight import MessageInFlight
from mcl.simulators.tws.messages import MessageError, Values
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.response_messages import ANSWERS
from mcl.simulators.tws.stamps import local_time

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS


FARMS = (
    (2104, "Market data farm connection is OK:usfuture"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)
# messages are written as this version of the protocol has them, or a later one
OLDEST_VERSION = 176
Edit = Callable[[list[str]], list[str]]


class QuoteStream(NamedTuple):
    listed: Listed
    delayed: bool = False


class BarStream(NamedTuple):
    listed: Listed
    form: BarForm


class Following(NamedTuple):
    listed: Listed
    what: str  # TRADES, BID …, or the kind of tick


class DepthOf(NamedTuple):
    listed: Listed
    rows: int
    smart: bool


@dataclass
class Subscriptions:
    """By request id where the protocol has one."""

    positions: bool = False
    account: bool = False
    account_multi: set[int] = field(default_factory=set)
    pnl: set[int] = field(default_factory=set)
    pnl_single: dict[int, int] = field(default_factory=dict)  # -> con_id
    data_type: int = 1  # 1 live, 2 frozen, 3 delayed, 4 delayed frozen: what the client asked for
    quotes: dict[int, QuoteStream] = field(default_factory=dict)
    bars: dict[int, BarStream] = field(default_factory=dict)  # keepUpToDate
    seconds: dict[int, Following] = field(default_factory=dict)  # 5-second bars
    ticks: dict[int, Following] = field(default_factory=dict)  # tick by tick
    depth: dict[int, DepthOf] = field(default_factory=dict)

    @property
    def paces(self) -> bool:
        """The client follows bars or ticks: a replay in lock-step waits for it."""
        return bool(self.bars or self.seconds or self.ticks)

    def follows(self, listed: Collection[Listed]) -> bool:
        """Bars or ticks of one of these contracts."""
        return any(
            stream.listed in listed
            for kind in (self.bars, self.seconds, self.ticks)
            for stream in kind.values()
        )


class ClientSession(asyncio.Protocol):
    """Handshake, start-up and dispatch. Answers of one turn of the event loop leave in one
    write.
    """

    def __init__(self, tws: SimulatedTWS) -> None:
        self.tws, self.version, self.client_id = tws, 0, -1
        self.subscribed = Subscriptions()
        self.closed = asyncio.Event()
        self.silent = False  # half open: nothing goes out, nothing is understood
        self.chunk = tws.greeting.chunk
        self._frames = framing.Frames()
        self._out = bytearray()
        self._arrivals: deque[float] = deque()
        self._strikes = 0
        self._transport: asyncio.Transport | None = None

    # ------------------------------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.tws.sessions.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._frames.feed(data):
                if self._transport is None or self._transport.is_closing():
                    return
                if not self.silent:
                    self._received(framing.fields(payload))
        except (framing.WireError, MessageError, ValueError, OverflowError) as error:
            event_log.warning("tws_client_cut_off", client=self.client_id, reason=str(error))
            self.tws.counters["protocol_errors"] += 1
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self.tws.left(self)
        self.closed.set()

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def cut(self, how: str, message: MessageInFlight) -> None:
        """End the connection in an unfriendly way; what was said before is still sent."""
        transport = self._transport
        if transport is None:
            return
        if how == "mid_frame" and message.handle is None and message.name:
            whole = framing.frame(ANSWERS[message.name].encode(self.version, message.values))
            self._out += whole[: len(whole) // 2]
        self._flush()
        if how == "half_open":
            self.silent = True
        elif how == "rst":
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            transport.abort()
        else:
            transport.close()

    def deafen(self, sec: float) -> None:
        """Stop reading for so long."""
        if self._transport is not None:
            self._transport.pause_reading()
            self.tws.faults.later(sec, self._hear)

    def _hear(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ----------------------------------------------------------------------------------------- send

    def send(self, name: str, **values: Any) -> None:
        """Queue one message, named as in `answers`, unless a fault has other plans with it."""
        if self.tws.faults.idle:
            self.emit(name, values)
        else:
            self.tws.faults.sending(self, name, values)

    def emit(self, name: str, values: Values, edits: Sequence[Edit] = ()) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        fields = ANSWERS[name].encode(self.version, values)
        for edit in edits:
            fields = edit(fields)
        self.tws.record("S", self, fields)
        self.write(framing.frame(fields))

    def write(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += data
        self.tws.counters["sent"] += 1

    def error(self, req_id: int, code: int, text: str) -> None:
        self.send("error", req_id=req_id, code=code, text=text)

    def _flush(self) -> None:
        """Write the state to disk, then send: a client never learns what could be lost."""
        self.tws.keep()
        transport = self._transport
        if self._out and transport is not None and not transport.is_closing() and not self.silent:
            size = self.chunk or len(self._out)
            for start in range(0, len(self._out), size):
                transport.write(bytes(self._out[start : start + size]))
        self._out.clear()

    def lose_streams(self, all_data: bool) -> None:
        """Streams of bars end without a word; with `all_data` everything that flows."""
        subscribed = self.subscribed
        subscribed.bars.clear()
        if all_data:
            for kind in (subscribed.quotes, subscribed.seconds, subscribed.ticks, subscribed.depth):
                kind.clear()
        if not subscribed.paces:
            self.tws.player.leave(self)

    # -------------------------------------------------------------------------------------- receive

    def _received(self, fields: list[str]) -> None:
        self.tws.counters["received"] += 1
        self.tws.synchronise()
        self.tws.record("C", self, fields)
        if not self.version:
            self._greet(fields)
            return
        if self.tws.greeting.limit and self._too_fast():
            return
        message = REQUESTS.get(int(fields[0])) if fields and fields[0].isdigit() else None
        if message is None or (
            message.name not in self.tws.handlers and message.name != "startApi"
        ):
            self.tws.counters["unknown_requests"] += 1
            event_log.warning("tws_unknown_request", client=self.client_id, fields=fields[:3])
            return
        request = message.decode(self.version, fields)
        if message.name == "startApi":
            self._start(request["client_id"])
        elif self.client_id < 0:
            raise MessageError(f"{message.name} before startApi")
        else:
            self._serve(message.name, request)

    def _serve(self, name: str, request: Values) -> None:
        if self.tws.faults.idle:
            self.tws.handlers[name](self, request)
        else:
            self.tws.faults.receiving(
                self, name, request, lambda: self.tws.handlers[name](self, request)
            )

    def _too_fast(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._arrivals.append(now)
        while self._arrivals[0] < now - 1:
            self._arrivals.popleft()
        if len(self._arrivals) <= self.tws.greeting.limit:
            return False
        self._strikes += 1
        self._arrivals.clear()
        self.error(-1, 100, "Max rate of messages per second has been exceeded")
        if self._strikes >= 3:
            self.close()
        return True

    def _greet(self, fields: list[str]) -> None:
        """Agree on a version: ours, or the client's highest if that is lower."""
        low, _, high = fields[0].split(" ")[0].removeprefix("v").partition("..")
        greeting = self.tws.greeting
        if not (low.isdigit() and high.isdigit()) or int(low) > self.tws.server_version:
            raise MessageError(f"no common version with a client that speaks {fields[0]!r}")
        if int(high) < OLDEST_VERSION:
            raise MessageError(
                f"a client that speaks {fields[0]!r} is too old: this server speaks"
                f" {OLDEST_VERSION} and later"
            )
        self.version = min(self.tws.server_version, int(high))
        answer = [str(greeting.version or self.version), local_time(self.tws.book.now)]
        if greeting.delay_sec > 0:
            self.tws.faults.later(greeting.delay_sec, lambda: self._welcome(answer))
        elif not greeting.delay_sec:
            self._welcome(answer)

    def _welcome(self, answer: list[str]) -> None:
        self.tws.record("S", self, answer)
        self._out += framing.frame(answer)
        self._flush()

    def _start(self, client_id: int) -> None:
        tws, greeting = self.tws, self.tws.greeting
        in_use = any(other.client_id == client_id for other in tws.sessions if other is not self)
        if in_use or greeting.ids_in_use:
            greeting.ids_in_use = max(0, greeting.ids_in_use - 1)
            self.error(
                -1,
                326,
                "Unable to connect as the client id is already in use. Retry with a unique"
                " client id.",
            )
            self.close()
            return
        self.client_id = client_id
        event_log.info("tws_client_connected", client=client_id, version=self.version)
        self.send(
            "managedAccounts",
            accounts=tws.account.name if greeting.accounts is None else greeting.accounts,
        )
        self.send("nextValidId", order_id=tws.next_valid_id(client_id))
        for code, text in FARMS:
            self.error(-1, code, text)
