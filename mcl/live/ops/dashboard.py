"""`mcl dashboard`: a page that follows the sessions of this machine, over HTTP on loopback. It
shows; with a token it can also command.

    /                    the page
    /events?name=NAME    server-sent events: `status` on every change of the session, at once and
                         at least every second
    /record?name=NAME    what the alias has earned, the expected band, the audits
    /may, /act           with the token as `Authorization: Bearer …` only: a page of somebody else
                         can send no such header from a browser

It is a process of its own: it can come and go while the session trades.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

from mcl.base.errors import LiveError, MclError, StoreError
from mcl.base.terminal import plain
from mcl.live import journal_queries
from mcl.live.ops import control_socket
from mcl.live.ops.history import record
from mcl.live.ops.http import HttpReply, HttpRequest, as_json, serving
from mcl.live.status import Command
from mcl.report.dashboard import dashboard_page
from mcl.tracking.project import Project

ALLOWED: tuple[str, ...] = tuple(
    word for word in get_args(Command) if word not in ("kill", "adopt")
)
WAIT_SEC = 0.5  # between two looks for a session that does not run
KEEP_SEC = 30.0  # a record is read again after so long
SHORTEST_TOKEN = 16


@dataclass
class Dashboard:
    """Answers requests. Without a `token` nothing can be commanded."""

    project: Project
    name: str
    token: str = ""
    _records: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, request: HttpRequest) -> HttpReply:
        if request.path == "/act":
            return await self._act(request)
        if request.method not in ("GET", "HEAD"):
            return as_json({"error": "only GET"}, 405)
        if request.path == "/may":
            return as_json({"may": self._may(request)})
        name = request.query.get("name", self.name)
        if name not in await asyncio.to_thread(self._names):
            return as_json({"error": f"nothing is called {name!r}"}, 404)
        return await self._page(request.path, name)

    async def _page(self, path: str, name: str) -> HttpReply:
        if path == "/":
            page = dashboard_page(name)
            return HttpReply(
                page.html.encode(),
                "text/html; charset=utf-8",
                headers={"Content-Security-Policy": page.policy},
            )
        if path == "/events":
            return HttpReply(self._events(name), "text/event-stream")
        return (
            as_json(await self._record(name))
            if path == "/record"
            else as_json({"error": "no such page"}, 404)
        )

    def _names(self) -> set[str]:
        root = self.project.root
        return {self.name, *control_socket.running(root), *journal_queries.aliases(root)}

    async def _events(self, name: str) -> AsyncGenerator[bytes, None]:
        """Follow the session; between two, show what the last one left behind."""
        folder, previous = control_socket.folder_of(self.project.root, name), b""
        yield b"retry: 1000\n\n"
        while True:
            async with aclosing(control_socket.following(folder)) as lines:
                async for line in lines:
                    yield b"event: status\ndata: " + line.rstrip() + b"\n\n"
                    previous = b""
            last = await asyncio.to_thread(self._last, name)
            yield (
                b"event: beat\ndata: {}\n\n"
                if last == previous
                else b"event: status\ndata: " + last + b"\n\n"
            )
            previous = last
            await asyncio.sleep(WAIT_SEC)

    def _last(self, name: str) -> bytes:
        try:
            journal = journal_queries.last_journal(self.project.root, name)
            status = journal_queries.last_status(journal)
        except LiveError as error:
            status = {
                "running": False,
                "alias": name,
                "version": "?",
                "session": "–",
                "state": "STOPPED",
                "why": error.message,
                "position": 0,
            }
        return json.dumps({"status": plain(status)}, allow_nan=False).encode()

    async def _record(self, name: str) -> dict[str, Any]:
        async with self._reading:
            at, cached = self._records.get(name, (0.0, {}))
            if not cached or time.monotonic() - at > KEEP_SEC:
                cached = await asyncio.to_thread(self._read, name)
                self._records[name] = time.monotonic(), cached
        return cached

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return record(self.project, name)
        except StoreError as error:
            return {
                "names": [name],
                "audits": [],
                "sessions": [],
                "band": None,
                "note": error.message,
            }

    # ------------------------------------------------------------------------------------- commands

    def _may(self, request: HttpRequest) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return bool(self.token) and hmac.compare_digest(token.encode(), self.token.encode())

    async def _act(self, request: HttpRequest) -> HttpReply:
        if not self._may(request):
            await asyncio.sleep(WAIT_SEC)
            return as_json({"error": "this dashboard only shows; a token is needed"}, 403)
        if (
            request.method != "POST"
            or not _same_origin(request)
            or request.headers.get("content-type") != "application/json"
        ):
            return as_json({"error": "a command comes from the dashboard's own page, as JSON"}, 403)
        try:
            command = json.loads(request.body)
            name, word, because = (
                str(command["name"]),
                str(command["word"]),
                str(command.get("because", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return as_json({"error": "a command has name, word and because"}, 400)
        if word not in ALLOWED or name not in await asyncio.to_thread(self._names):
            return as_json(
                {"error": f"the dashboard cannot {word!r} {name!r}; it can {', '.join(ALLOWED)}"},
                400,
            )
        return await asyncio.to_thread(self._send_command, name, word, because)

    def _send_command(self, name: str, word: str, because: str) -> HttpReply:
        try:
            answer = control_socket.ask(
                control_socket.folder_of(self.project.root, name),
                {"do": word, "who": "mcl dashboard", "why": because},
            )
        except MclError as error:
            return as_json({"error": error.message}, 409)
        return as_json({"said": answer["said"]})


def _same_origin(request: HttpRequest) -> bool:
    """A browser names the page that a request comes from; a program need not."""
    origin = request.headers.get("origin")
    return origin is None or origin == f"http://{request.headers.get('host', '')}"


def fresh_token() -> str:
    return secrets.token_urlsafe(24)


@asynccontextmanager
async def open_dashboard(dashboard: Dashboard, port: int) -> AsyncIterator[str]:
    """Serve it on loopback while the block runs; yields the address, with the token in the part
    that no browser sends anywhere.
    """
    if dashboard.token and len(dashboard.token) < SHORTEST_TOKEN:
        raise LiveError(
            f"a token of {len(dashboard.token)} characters can be guessed; use at least"
            f" {SHORTEST_TOKEN}"
        )
    async with serving(dashboard.answer, "127.0.0.1", port) as got:
        yield f"http://127.0.0.1:{got}/" + (f"#token={dashboard.token}" if dashboard.token else "")
