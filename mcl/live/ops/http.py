"""A small HTTP server on the session's own event loop: a few fixed answers, streams, and nothing
that a stranger could send too much of.

One request per connection. Bound to loopback it answers only to names of this machine, so that no
page of the web can reach it through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mcl.base.errors import LiveError
from mcl.base.network import is_loopback
from mcl.live.ops.connections import Visits

HEAD_BYTES, BODY_BYTES = 16 * 1024, 4 * 1024
PATIENCE_SEC = 10.0  # for a request to arrive whole
MOST_VISITORS = 64  # at a time, of pages and answers
MOST_STREAMS = 64  # open event streams; they do not count as visitors
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Connection": "close",
}


@dataclass(frozen=True)
class HttpRequest:
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""


@dataclass(frozen=True)
class HttpReply:
    """`body` is whole, or comes piece by piece until the visitor leaves."""

    body: bytes | AsyncGenerator[bytes, None]
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpReply]]


def as_json(value: Any, status: int = 200) -> HttpReply:
    return HttpReply(json.dumps(value, allow_nan=False).encode(), "application/json", status)


@asynccontextmanager
async def serving(handler: Handler, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port. LiveError when it cannot be had."""
    visits = _Visits(handler, only_local=is_loopback(host))
    try:
        server = await asyncio.start_server(visits.serve, host, port, limit=HEAD_BYTES)
    except OSError as error:
        raise LiveError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}",
            "choose another port; 0 takes a free one",
        ) from None
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await visits.end()


class _Refused(Exception):
    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _Visits:
    def __init__(self, handler: Handler, only_local: bool) -> None:
        self._handler, self._only_local = handler, only_local
        self._open = Visits()
        self._streams = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._open.visit():
            try:
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()
            except (ConnectionError, asyncio.CancelledError, TimeoutError):
                writer.transport.abort()  # who asked is gone, too slow, or the server ends

    async def end(self) -> None:
        await self._open.end()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = await self._reply(reader)
        if isinstance(reply.body, bytes):
            # who does not read the answer makes room for others
            async with asyncio.timeout(PATIENCE_SEC):
                await _write(writer, reply)
            return
        if self._streams >= MOST_STREAMS:
            await reply.body.aclose()
            await _write(writer, _refusal(_Refused(HTTPStatus.SERVICE_UNAVAILABLE)))
            return
        self._streams += 1
        try:
            await _write(writer, reply)
        finally:
            self._streams -= 1

    async def _reply(self, reader: asyncio.StreamReader) -> HttpReply:
        try:
            if len(self._open) - self._streams > MOST_VISITORS:
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE)
            # wait_for of Python 3.11 can swallow a cancellation
            async with asyncio.timeout(PATIENCE_SEC):
                request = await _read(reader)
            if self._only_local and _host(request.headers.get("host", "")) not in LOCAL_NAMES:
                raise _Refused(HTTPStatus.MISDIRECTED_REQUEST)
            return await self._handler(request)
        except _Refused as refused:
            return _refusal(refused)


def _refusal(refused: _Refused) -> HttpReply:
    return HttpReply(
        f"{refused.status.value} {refused.status.phrase}\n".encode(), status=refused.status.value
    )


async def _read(reader: asyncio.StreamReader) -> HttpRequest:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    except asyncio.IncompleteReadError:
        raise ConnectionResetError from None
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(HTTPStatus.BAD_REQUEST)
    headers = {
        name.strip().lower(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    try:
        url = urlsplit(words[1])
        length = int(headers.get("content-length", "0"))
    except ValueError:
        raise _Refused(HTTPStatus.BAD_REQUEST) from None
    if not 0 <= length <= BODY_BYTES or "transfer-encoding" in headers:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return HttpRequest(words[0], url.path, query, headers, await reader.readexactly(length))


async def _write(writer: asyncio.StreamWriter, reply: HttpReply) -> None:
    status = HTTPStatus(reply.status)
    headers = SAFE_HEADERS | {"Content-Type": reply.kind} | dict(reply.headers)
    if isinstance(reply.body, bytes):
        headers["Content-Length"] = str(len(reply.body))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode("latin-1"))
    if isinstance(reply.body, bytes):
        writer.write(reply.body)
        await writer.drain()
        return
    await writer.drain()
    async with aclosing(reply.body) as pieces:
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()


def _host(header: str) -> str:
    """A Host header without its port."""
    return header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
