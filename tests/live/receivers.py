"""Local receivers of alerts: an HTTP server that can be told what to answer, and a small SMTP
server with STARTTLS and log-in.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Hook:
    """`answers` are given one by one, then 200 for ever; `got` holds path and JSON of each
    request.
    """

    answers: list[int | str] = field(default_factory=list)
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""
    wait: threading.Event | None = None


@contextmanager
def hook(*answers: int | str, wait: threading.Event | None = None) -> Iterator[Hook]:
    state = Hook(list(answers), wait=wait)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if state.wait is not None:
                state.wait.wait(60)
            state.got.append((self.path, json.loads(body)))
            answer = state.answers.pop(0) if state.answers else 200
            if isinstance(answer, str):  # hang up without an answer
                self.connection.close()
                return
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/services/SECRET?key=HIDDEN"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Letters:
    """What arrived: one dict with `user`, `secured`, `to` and `text` per message."""

    got: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0


@contextmanager
def mailbox(certificate: tuple[Path, Path] | None = None, password: str = "") -> Iterator[Letters]:
    state, loop, ready = Letters(), asyncio.new_event_loop(), threading.Event()
    over = asyncio.Event()
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        letter: dict[str, Any] = {"user": "", "secured": False, "to": []}
        writer.write(b"220 test\r\n")
        while line := (await reader.readline()).strip():
            word = line.split()[0].upper()
            if word == b"EHLO":
                offers = (
                    [b"STARTTLS"]
                    if context and not letter["secured"]
                    else [b"AUTH PLAIN"]
                    if password
                    else []
                )
                writer.write(
                    b"250-test\r\n" + b"".join(b"250-%s\r\n" % o for o in offers) + b"250 OK\r\n"
                )
            elif word == b"STARTTLS" and context:
                writer.write(b"220 go\r\n")
                await writer.drain()
                await writer.start_tls(context)
                letter["secured"] = True
            elif word == b"AUTH":
                _, user, given = base64.b64decode(line.split()[2]).split(b"\0")
                letter["user"] = user.decode() if given.decode() == password else ""
                writer.write(b"235 ok\r\n" if letter["user"] else b"535 no\r\n")
            elif word == b"RCPT":
                letter["to"].append(line.decode().partition(":")[2].strip("<>"))
                writer.write(b"250 OK\r\n")
            elif word == b"DATA":
                writer.write(b"354 go\r\n")
                await writer.drain()
                lines = []
                while (text := await reader.readline()) != b".\r\n":
                    lines.append(text)
                state.got.append(letter | {"text": b"".join(lines).decode()})
                writer.write(b"250 taken\r\n")
            elif word == b"QUIT":
                writer.write(b"221 bye\r\n")
                await writer.drain()
                break
            else:
                writer.write(b"250 OK\r\n")
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        state.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(60)
        yield state
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)
        loop.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of `localhost` and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret.write_bytes(private)
    return pem, secret
