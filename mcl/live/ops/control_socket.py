"""Serve the control socket of a running session, by which another shell asks and commands it.

A Unix socket `<root>/live/ALIAS/control.sock` that only its owner can open; one JSON object per
line in, one out:

    {"do": "status"}
        {"ok": true, "status": {…}}
    {"do": "watch"}
        the same, again and again, whenever something has changed
    {"do": "pause", "who": "mcl pause", "why": "lunch"}
        {"ok": true, "said": "…"}; also resume, reduce-only, flatten, stop, kill, adopt

A refusal is {"ok": false, "error": {code, message, hint}}. A lock in the same folder says that the
session lives: what a killed one leaves behind is no session, and the next start replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, get_args

from mcl.base.errors import LiveError, MclError, nearest
from mcl.base.files import LockHeld, below, is_locked, locked, private_folder
from mcl.live.ops.connections import Visits
from mcl.live.ops.status_poller import StatusPoller
from mcl.live.status import Command
from mcl.live.status_json import plain_status

NAME, LOCK = "control.sock", "control.lock"
LIMIT = 64 * 1024  # bytes of one request
GRACE_SEC = 2.0  # of a session that ends, to tell who asked
ANSWER_LIMIT = 16 * 1024 * 1024
LONGEST_PATH = 100  # the kernel takes 107 bytes
COMMANDS: tuple[str, ...] = get_args(Command)
REQUESTS = ("status", "watch", *COMMANDS)


def folder_of(root: Path, alias: str) -> Path:
    """The folder in which the sessions of an alias keep journals, log and socket."""
    return below(root / "live", alias)


# ------------------------------------------------------------------------------- the session's side


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the alias: LiveError when another living process does."""
    private_folder(folder)
    try:
        with locked(folder / LOCK):
            yield
    except LockHeld as error:
        raise LiveError(
            f"a session of {folder.name!r} already runs (process {error.owner})",
            f"mcl status {folder.name}",
        ) from None


@asynccontextmanager
async def listening(poller: StatusPoller, folder: Path) -> AsyncIterator[None]:
    """Answer on the socket of `folder` for as long as the block runs. The caller holds
    `alone(folder)`.
    """
    private_folder(folder)
    path = folder / NAME
    path.unlink(missing_ok=True)  # of a session that was killed
    visits = _Visits(poller)
    server = await asyncio.start_unix_server(visits.serve, sock=_bound(folder), limit=LIMIT)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        await visits.end()


def _bound(folder: Path) -> socket.socket:
    """A socket that nobody else can open at any moment of its life."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _address(folder) as address:
            listener.bind(address)
    except OSError as error:
        listener.close()
        raise LiveError(
            f"cannot open the control socket {folder / NAME}: {error.strerror or error}"
        ) from None
    finally:
        os.umask(before)
    return listener


class _Visits:
    """Serves every connection to one socket."""

    def __init__(self, poller: StatusPoller) -> None:
        self._poller = poller
        self._open = Visits()
        self._answering: set[asyncio.Future[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._open.visit():
            try:
                while line := await reader.readline():
                    if await self._answered(line, writer):
                        break
            except ValueError:
                await _say(
                    writer, _refusal(LiveError(f"a request is one line of at most {LIMIT} bytes"))
                )
            except (ConnectionError, asyncio.CancelledError):
                # who asked is gone, or the session ends; what was answered is with the kernel
                writer.transport.abort()
            finally:
                writer.close()

    async def end(self) -> None:
        """Answer whoever said stop with the result, then end all connections."""
        if self._answering:
            await asyncio.wait(set(self._answering), timeout=GRACE_SEC)
        await self._open.end()

    async def _answered(self, line: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; True when the connection has no use any more."""
        answered = asyncio.get_running_loop().create_future()
        self._answering.add(answered)
        try:
            request = _parsed(line)
            if request["do"] != "watch":
                await _say(writer, {"ok": True} | await self._done(request, _peer(writer)))
                return False
        except MclError as error:
            await _say(writer, _refusal(error))
            return False
        finally:
            self._answering.discard(answered)
            answered.set_result(None)
        await self._stream(writer)
        return True

    async def _done(self, request: dict[str, Any], peer: str) -> dict[str, Any]:
        word = request["do"]
        if word == "status":
            return {"status": plain_status(self._poller.session.status())}
        who = ", ".join(filter(None, (str(request.get("who", "")), peer)))
        return {
            "said": await self._poller.session.command(
                word, who, str(request.get("why") or "no reason given")
            )
        }

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        number = 0
        while True:
            await _say(writer, {"ok": True, "status": plain_status(self._poller.latest)})
            number = await self._poller.after(max(number, self._poller.number))


async def _say(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer, allow_nan=False).encode() + b"\n")
    await writer.drain()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        word = request["do"]
    except (ValueError, KeyError, TypeError):
        raise LiveError('a request is one JSON object with "do"') from None
    if word not in REQUESTS:
        raise LiveError(f"a session cannot {word!r}: {nearest(str(word), REQUESTS)}")
    return dict(request)


def _refusal(error: MclError) -> dict[str, Any]:
    return {"ok": False, "error": error.as_dict()}


def _peer(writer: asyncio.StreamWriter) -> str:
    """The user at the other end, as the kernel knows it; the name of this user where the kernel
    does not say (only it can connect).
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return pwd.getpwuid(os.getuid()).pw_name
    raw = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, option, struct.calcsize("3i")
    )
    pid, uid, _ = struct.unpack("3i", raw)
    with contextlib.suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (process {pid})"
    return f"user {uid} (process {pid})"


# -------------------------------------------------------------------------------- the other shell's


def ask(folder: Path, request: dict[str, Any], timeout_sec: float = 60.0) -> dict[str, Any]:
    """One question, one answer. LiveError: no session listens, it does not answer in time, or it
    refuses (with its own reason).
    """
    with _connected(folder, timeout_sec) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        return next(_answers(connection, folder))


def watched(folder: Path, timeout_sec: float = 10.0) -> Iterator[dict[str, Any]]:
    """The status now and after every change, until the session ends. A session is heard at least
    once a second.
    """
    with _connected(folder, timeout_sec) as connection:
        connection.sendall(b'{"do": "watch"}\n')
        for answer in _answers(connection, folder):
            yield answer["status"]


async def following(folder: Path) -> AsyncGenerator[bytes, None]:
    """`watched` for an event loop: the answers as they come, undecoded lines of JSON. Ends with the
    session, or at once without one.
    """
    try:
        with _address(folder) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=ANSWER_LIMIT)
    except OSError:
        return
    try:
        writer.write(b'{"do": "watch"}\n')
        while line := await reader.readline():
            yield line
    except ConnectionError:
        return
    finally:
        writer.close()


def running(root: Path) -> list[str]:
    """The aliases whose session lives, by name."""
    return sorted(path.parent.name for path in (root / "live").glob(f"*/{LOCK}") if is_locked(path))


@contextmanager
def _connected(folder: Path, timeout_sec: float) -> Iterator[socket.socket]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_sec)
    try:
        with _address(folder) as address:
            connection.connect(address)
        yield connection
    except (FileNotFoundError, ConnectionRefusedError):
        raise LiveError(
            f"no session of {folder.name!r} is running", f"mcl live {folder.name} starts one"
        ) from None
    except TimeoutError:
        raise LiveError(
            f"the session of {folder.name!r} did not answer within {timeout_sec:g} s",
            "its log says why",
        ) from None
    except OSError as error:
        raise LiveError(
            f"the control socket of {folder.name!r} cannot be used: {error.strerror or error}"
        ) from None
    finally:
        connection.close()


def _answers(connection: socket.socket, folder: Path) -> Iterator[dict[str, Any]]:
    with connection.makefile("rb") as lines:
        while line := lines.readline(ANSWER_LIMIT):
            try:
                answer = json.loads(line)
            except ValueError:
                break
            if not answer["ok"]:
                raise LiveError(answer["error"]["message"], answer["error"]["hint"])
            yield answer
    raise LiveError(f"the session of {folder.name!r} ended", f"mcl status {folder.name} shows how")


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's path, or a link with a short name to its folder: a deep project folder is longer
    than the kernel allows.
    """
    path = str(folder / NAME)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    # A new folder, and short.
    with tempfile.TemporaryDirectory(prefix="mcl-", dir="/tmp") as short:  # nosec B108
        link = Path(short) / "s"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield str(link / NAME)
