"""The loopback gateway with a generated world, for tests of the gateway and of downloads."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comparisons import digest

from mcl.data.download.plan import CERTIFICATE, DownloadOrder, DownloadTerms, download
from mcl.data.download.retry import RetryPolicy
from mcl.simulators.databento.api import Vendor
from mcl.simulators.databento.server import serving
from mcl.simulators.databento.tls import certificate

SWIFT = RetryPolicy(tries=4, first_sec=0.01, cap_sec=0.05)


@contextmanager
def gateway(folder: Path, root: Path, **choices: Any) -> Iterator[Vendor]:
    """Serve `folder`; its certificate lies where downloads of the project folder `root` look for
    it.
    """
    with serving(folder, certificate((root / CERTIFICATE).parent), **choices) as vendor:
        yield vendor


def fetch(
    vendor: Vendor, root: Path, start: str = "2024-01-01", end: str | None = None, **choices: Any
) -> dict[str, Any]:
    """Download from a gateway, impatiently."""
    order = DownloadOrder(
        choices.pop("symbol", "MCL.FUT"), choices.pop("schema", "ohlcv-1m"), start, end
    )
    listener = choices.pop("listener", None)
    terms: dict[str, Any] = {"gateway": vendor.url, "retry_policy": SWIFT} | choices
    return download(order, root, DownloadTerms(**terms), listener=listener)


def sold(vendor: Vendor) -> Counter[tuple[str, str]]:
    """How often each range was sold, by schema and start."""
    return Counter((sale.schema, sale.start) for sale in vendor.sales)


def content(root: Path) -> dict[str, bytes]:
    """The files of a download with their receipts, by name."""
    return {
        p.name: p.read_bytes()
        for p in sorted((root / "data" / "raw").rglob("*.dbn.zst*"))
        if ".quarantine" not in p.parts
    }


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The same names with what to compare in the place of files of any length."""
    return {name: digest(content) for name, content in files.items()}


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def environment(root: Path) -> dict[str, str]:
    return os.environ | {"MCL_HOME": str(root)}
