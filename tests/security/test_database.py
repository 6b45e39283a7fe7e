"""A study in a database elsewhere: the server proves with a certificate who it is, or nobody talks
to it.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from servers import postgresql, without_postgresql

from mcl.base.network import verified_database

HOST = "db.example"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://u:p%40ss@db.example/mcl", "?sslmode=verify-full&sslrootcert=system"),
        (
            "postgresql+psycopg://u@db.example:5433/mcl?application_name=x",
            "?application_name=x&sslmode=verify-full&sslrootcert=system",
        ),
        (
            "postgresql://u@/mcl?host=10.0.0.7",
            "?host=10.0.0.7&sslmode=verify-full&sslrootcert=system",
        ),
        (
            "postgresql://u@db.example/mcl?sslmode=verify-ca&sslrootcert=a.pem",
            "?sslmode=verify-ca&sslrootcert=a.pem",
        ),
        ("postgresql://u@127.0.0.1/mcl", ""),
        ("postgresql://u@localhost:5432/mcl", ""),
        ("postgresql://u@[::1]/mcl", ""),
        ("postgresql://u@/mcl?host=/run/postgresql", "?host=/run/postgresql"),
    ],
)
def test_the_address_asks_for_a_certificate(
    url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MCL_DATABASE_CA", raising=False)
    assert verified_database(url) == url.split("?", maxsplit=1)[0] + expected


def test_the_file_of_certificates_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MCL_DATABASE_CA", "/etc/rds.pem")
    assert verified_database("postgresql://u@db.example/mcl").endswith(
        "?sslmode=verify-full&sslrootcert=%2Fetc%2Frds.pem"
    )


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_a_weaker_mode_is_said(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mcl"):
        assert f"sslmode={mode}" in verified_database(
            f"postgresql://u:secret@db.example/mcl?sslmode={mode}"
        )
    assert f"sslmode={mode} does not verify that db.example is your database" in caplog.text
    assert "secret" not in caplog.text


def signed(folder: Path, name: str) -> Path:
    """A certificate of an authority of its own for `HOST`; returns the authority's file."""
    now = datetime.now(UTC)

    def certificate(
        of: str,
        key: ec.EllipticCurvePrivateKey,
        by: str,
        signer: ec.EllipticCurvePrivateKey,
        ca: bool,
    ) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(of)]), critical=False)
        )
        return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, server = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    (folder / f"{name}.ca").write_bytes(certificate(name, authority, name, authority, True))
    (folder / f"{name}.crt").write_bytes(certificate(HOST, server, name, authority, False))
    private = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    return folder / f"{name}.ca"


def test_a_real_server_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := without_postgresql():
        pytest.skip(missing)
    import psycopg

    own, other = signed(tmp_path, "own"), signed(tmp_path, "other")
    with postgresql() as port:
        admin = f"postgresql://mcl@127.0.0.1:{port}/mcl"
        with psycopg.connect(admin, autocommit=True) as connection:
            row = connection.execute("show data_directory").fetchone()
            assert row is not None
            data = Path(str(row[0]))
            for suffix in ("crt", "key"):
                shutil.copy(tmp_path / f"own.{suffix}", data / f"server.{suffix}")
            subprocess.run(
                [
                    "chown",
                    "--reference",
                    str(data),
                    str(data / "server.key"),
                    str(data / "server.crt"),
                ],
                check=True,
            )
            (data / "server.key").chmod(0o600)
            connection.execute("alter system set ssl = on")
            connection.execute("select pg_reload_conf()")
        there = f"postgresql://mcl@{HOST}:{port}/mcl?hostaddr=127.0.0.1"
        monkeypatch.setenv("MCL_DATABASE_CA", str(own))
        with psycopg.connect(verified_database(there)) as connection:
            assert connection.execute(
                "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
            ).fetchone() == (True,)
        with pytest.raises(psycopg.OperationalError, match="does not match host name"):
            psycopg.connect(verified_database(there.replace(HOST, "evil.example")))
        monkeypatch.setenv("MCL_DATABASE_CA", str(other))
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            psycopg.connect(verified_database(there))
