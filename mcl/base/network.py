"""Tells loopback addresses from others, and makes database connections verify their server."""

from __future__ import annotations

import ipaddress
import logging
import os
from urllib.parse import parse_qs, urlencode, urlsplit

VERIFIED = ("verify-full", "verify-ca")  # ways of PostgreSQL that examine the server's certificate


def is_loopback(host: str) -> bool:
    """Whether only this machine (or this network namespace) can reach `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def verified_database(url: str) -> str:
    """The address of a PostgreSQL whose certificate the client examines.

    A host that is not this machine gets sslmode=verify-full where the address does not say another,
    with the certificates of $MCL_DATABASE_CA (a file such as Amazon's bundle for RDS), else those
    of the system. A weaker mode is kept, with a warning.
    """
    parts = urlsplit(url)
    options = {
        name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
    }
    host = options.get("host") or parts.hostname or ""
    if not host or host.startswith("/") or is_loopback(host):
        return url
    mode = options.setdefault("sslmode", "verify-full")
    if mode in VERIFIED:
        options.setdefault("sslrootcert", os.environ.get("MCL_DATABASE_CA") or "system")
    else:
        message = (
            "sslmode=%s does not verify that %s is your database: anyone between can read and"
            " change the study; use sslmode=verify-full"
        )
        logging.getLogger("mcl").warning(message, mode, host)
    return parts._replace(query=urlencode(options)).geturl()
