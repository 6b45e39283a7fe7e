"""A loopback vendor over TLS for the unmodified client: one DBN file per schema, cost, size and count, and what can go wrong."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "loopback.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


class Vendor:
    """What the gateway answers; the tests change it. `asked` lists (method, schema)."""

    def __init__(self, files: dict[str, bytes], counts: dict[str, int]) -> None:
        self.files, self.counts = files, counts
        self.cost_usd = 0.25
        self.refusal: tuple[int, dict[str, object]] | None = None
        self.warnings: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    def answer(self, method: str, form: dict[str, str]) -> tuple[int, bytes]:
        schema = form.get("schema", "")
        self.asked.append((method, schema))
        if self.refusal is not None:
            return self.refusal[0], json.dumps({"detail": self.refusal[1]}).encode()
        if method == "timeseries.get_range":
            return 200, self.files[schema]
        values: dict[str, object] = {
            "metadata.get_cost": self.cost_usd,
            "metadata.get_billable_size": 56 * self.counts.get(schema, 0),
            "metadata.get_record_count": self.counts.get(schema, 0),
            "metadata.get_dataset_range": {"start": "2021-07-12T00:00:00Z", "end": "2024-02-24T00:00:00Z"},
        }
        return 200, json.dumps(values[method]).encode()


@contextmanager
def serving(vendor: Vendor, pem: Path) -> Iterator[Vendor]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._reply({name: values[0] for name, values in form.items()})

        def do_GET(self) -> None:
            self._reply({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

        def _reply(self, form: dict[str, str]) -> None:
            status, body = vendor.answer(urlsplit(self.path).path.removeprefix("/v0/"), form)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if vendor.warnings and self.path.endswith("get_range"):
                self.send_header("X-Warning", json.dumps(vendor.warnings))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    vendor.url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
