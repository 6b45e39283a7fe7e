"""The self-signed certificate of a loopback gateway. It is good for 127.0.0.1 and localhost alone,
and for a month.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcl.base.files import write_whole

_DAYS = 30


class Certificate(NamedTuple):
    """Two PEM files: `cert` may be shown to everybody, `key` is readable for its owner only."""

    cert: Path
    key: Path


def certificate(folder: Path) -> Certificate:
    """The certificate in `folder`, made now unless there is one for at least another day.
    StoreError if the disk refuses.
    """
    pair = Certificate(folder / "cert.pem", folder / "key.pem")
    if not _lasts(pair):
        private = ec.generate_private_key(ec.SECP256R1())
        pem, unprotected = serialization.Encoding.PEM, serialization.NoEncryption()
        write_whole(
            pair.key, private.private_bytes(pem, serialization.PrivateFormat.PKCS8, unprotected)
        )
        pair.key.chmod(0o600)
        write_whole(pair.cert, _signed(private).public_bytes(pem))
    return pair


def _lasts(pair: Certificate) -> bool:
    try:
        serialization.load_pem_private_key(pair.key.read_bytes(), None)
        cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    except (OSError, ValueError):
        return False  # absent or damaged: made again
    return cert.not_valid_after_utc > dt.datetime.now(dt.UTC) + dt.timedelta(days=1)


def _signed(private: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Its own issuer, with the extensions that strict verification asks for."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mcl loopback gateway")])
    now, public = dt.datetime.now(dt.UTC), private.public_key()
    loopback = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.DNSName("localhost"),
    ]
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder(
        name,
        name,
        public,
        x509.random_serial_number(),
        now - dt.timedelta(1),
        now + dt.timedelta(_DAYS),
    )
    builder = builder.add_extension(x509.SubjectAlternativeName(loopback), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public), critical=False
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
    )
    return builder.sign(private, hashes.SHA256())
