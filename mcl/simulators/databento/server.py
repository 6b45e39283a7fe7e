"""The HTTPS front of the gateway on 127.0.0.1: one thread per connection, answers streamed in
chunks.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mcl.base.errors import StoreError
from mcl.simulators.databento.api import Vendor
from mcl.simulators.databento.catalog import Catalog
from mcl.simulators.databento.faults import ServerFaults, parse
from mcl.simulators.databento.protocol import ApiRequest, Reply
from mcl.simulators.databento.tls import Certificate

Log = Callable[[str], None]
_DOWNLOAD = "/v0/batch/download/"
_HANDSHAKE_SEC, _IDLE_SEC = 10.0, 120.0


@contextmanager
def serving(
    folder: Path,
    certificate: Certificate,
    *,
    port: int = 0,
    faults: list[str] | None = None,
    keys: frozenset[str] | None = None,
    degraded: tuple[date, ...] = (),
    batch_delay_sec: float = 0.0,
    limited: bool = True,
    log: Log | None = None,
) -> Iterator[Vendor]:
    """Serve the DBN files of `folder` until the context ends; the vendor's `url` is what
    `Historical(gateway=…)` takes.

    Port 0 takes a free one. DataError for a folder without DBN files or an unknown fault,
    StoreError when the port is taken.
    """
    catalog, on = Catalog(folder), ServerFaults([parse(text) for text in faults or []])
    with tempfile.TemporaryDirectory(prefix="mcl-gateway-") as jobs:
        vendor = Vendor(catalog, Path(jobs), on, keys, degraded, batch_delay_sec, limited)
        try:
            server = _Server(("127.0.0.1", port), vendor, certificate, log)
        except OSError as error:
            raise StoreError(
                f"cannot listen on 127.0.0.1:{port}: {error.strerror or error}",
                "--port 0 takes a free port",
            ) from error
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        vendor.url = f"https://127.0.0.1:{server.server_address[1]}"
        thread.start()
        try:
            yield vendor
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], vendor: Vendor, certificate: Certificate, log: Log | None
    ) -> None:
        self.vendor, self.log = vendor, log
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.cert, certificate.key)
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make the handshake in the connection's own thread: a slow client delays no other."""
        request.settimeout(_HANDSHAKE_SEC)
        with self.context.wrap_socket(request, server_side=True) as secured:
            secured.settimeout(_IDLE_SEC)
            _Handler(secured, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or spoke no TLS, is no error of the gateway; anything else
        is.
        """
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handle_error(request, client_address)
        elif self.log is not None:
            self.log(
                f"the connection of {client_address[0]}:{client_address[1]} ended early: {error}"
            )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._serve(dict(parse_qsl(body)))

    def do_GET(self) -> None:
        self._serve(dict(parse_qsl(urlsplit(self.path).query)))

    def _serve(self, form: dict[str, str]) -> None:
        path, began = urlsplit(self.path).path, time.monotonic()
        method = path.removeprefix("/v0/")
        if path.startswith(_DOWNLOAD) and path.count("/") == _DOWNLOAD.count("/") + 2:
            job, name = path.split("/")[-2:]
            method, form = "batch.download", {"job_id": job, "filename": name}
        reply = self.server.vendor.answer(
            ApiRequest(
                method,
                form,
                _key(self.headers.get("Authorization", "")),
                self.headers.get("Range", ""),
            )
        )
        sent = self._send(reply)
        if self.server.log is not None:
            words = " ".join(
                filter(
                    None,
                    (form.get("schema"), form.get("symbols"), form.get("start"), form.get("end")),
                )
            )
            self.server.log(
                f"{reply.status} {method} {words} {sent:,} bytes {time.monotonic() - began:.2f} s"
            )

    def _send(self, reply: Reply) -> int:
        """Headers, then the body: known bytes with their length, everything else in chunks."""
        self.close_connection = True  # as the client: one connection for each request
        self.send_response(reply.status)
        whole = isinstance(reply.body, bytes)
        headers = {"Content-Type": reply.content_type, "Connection": "close"} | reply.headers
        headers |= (
            {"Content-Length": str(len(reply.body))}
            if isinstance(reply.body, bytes)
            else {"Transfer-Encoding": "chunked"}
        )
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = 0
        for piece in filter(None, [reply.body] if isinstance(reply.body, bytes) else reply.body):
            time.sleep(reply.pause_sec)
            self.wfile.write(piece if whole else b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += len(piece)
        if not whole and not reply.dropped:
            self.wfile.write(b"0\r\n\r\n")
        return sent

    def log_message(self, *args: Any) -> None:
        """One line per answer is written by `_serve`."""


def _key(header: str) -> str:
    """The user name of a Basic authorisation: the API key."""
    scheme, _, encoded = header.partition(" ")
    try:
        return (
            base64.b64decode(encoded).decode().partition(":")[0]
            if scheme.lower() == "basic"
            else ""
        )
    except (binascii.Error, UnicodeDecodeError):
        return ""
