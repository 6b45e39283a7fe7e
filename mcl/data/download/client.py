"""The databento client door: what a range costs, its bytes, its days of reduced quality, batch
jobs.

Every error of the client leaves here as a sentence: Transient when it may be gone the next time
(408, 429, 5xx, the network), DataError when it will not (401, 402, 403, 404, 422, a certificate
that nobody trusts).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcl.base import network
from mcl.base.environment import environment
from mcl.base.errors import DataError, StoreError
from mcl.base.secrets import secret
from mcl.data.download.retry import Transient

DATASET = "GLBX.MDP3"
LOOPBACK_KEY = "db-loopback-needs-no-real-key"
_WORLD = "SYNTHETIC DATA: world="
_ADVICE = {
    401: "check DATABENTO_API_KEY",
    402: "the account has no funds left",
    403: "the licence does not cover this dataset",
    422: "choose a range, schema and symbol that the vendor has",
}


@dataclass(frozen=True)
class Request:
    """A range as the vendor understands it: start <= time < end, ISO 8601 in UTC."""

    symbols: str
    stype_in: str
    schema: str
    start: str
    end: str
    dataset: str = DATASET


@dataclass
class VendorClient:
    """The client. `world` is what a synthetic gateway says about itself, {} for a vendor of
    recorded data.
    """

    client: Any
    warning_log: _WarningLog
    world: dict[str, Any] = field(default_factory=dict)

    def spans(self) -> dict[str, tuple[str, str]]:
        """Start and end of what there is, by schema; "" is the dataset's own."""
        with self._calling() as notes:
            ranges = self.client.metadata.get_dataset_range(DATASET)
        for note in notes:
            if note.startswith(_WORLD):
                self.world = json.loads(note.removeprefix(_WORLD))
        named = {"": ranges} | ranges.get("schema", {})
        return {schema: (str(span["start"]), str(span["end"])) for schema, span in named.items()}

    def cost_usd(self, request: Request) -> float:
        with self._calling():
            return float(self.client.metadata.get_cost(**asdict(request)))

    def size(self, request: Request) -> int:
        """Raw bytes, which are what is charged."""
        with self._calling():
            return int(self.client.metadata.get_billable_size(**asdict(request)))

    def count(self, request: Request) -> int:
        with self._calling():
            return int(self.client.metadata.get_record_count(**asdict(request)))

    def conditions(self, first: str, last: str) -> dict[str, str]:
        """The days of first … last, both included, that are not simply available: degraded, pending
        or missing.
        """
        with self._calling():
            days = self.client.metadata.get_dataset_condition(
                DATASET, start_date=first, end_date=last
            )
        return {
            str(day["date"]): str(day["condition"])
            for day in days
            if day["condition"] != "available"
        }

    def stream(self, request: Request, path: Path) -> list[str]:
        """Write the bytes of a range to the new file `path`; returns the vendor's warnings. What
        arrived stays there on an error.

        Bytes that arrived but are no DBN file are no error here: `arrived.inspect` says what is
        wrong with them.
        """
        with self._calling(path) as notes:
            self.client.timeseries.get_range(**asdict(request), path=path)
        return notes

    def submit(self, request: Request) -> str:
        """A new batch job, one file; it is paid from here on. Returns its id."""
        with self._calling():
            return str(self.client.batch.submit_job(**asdict(request), split_duration="none")["id"])

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs whose files can still be had, newest last."""
        with self._calling():
            return list(self.client.batch.list_jobs())

    def collect(self, job: str, folder: Path) -> Path:
        """The one data file of a job that is done, in `folder`/`job`/; what is there of it already
        is not sent again.
        """
        with self._calling():
            files = [
                f for f in self.client.batch.list_files(job) if f["filename"].endswith(".dbn.zst")
            ]
            if len(files) != 1:
                raise DataError(
                    f"batch job {job} has {len(files)} data files; need one",
                    "download smaller pieces, without --batch",
                )
            paths = self.client.batch.download(
                job, output_dir=folder, filename_to_download=files[0]["filename"]
            )
        return Path(paths[0])

    @contextlib.contextmanager
    def _calling(self, streamed_to: Path | None = None) -> Iterator[list[str]]:
        """The warnings of this thread's call; errors as sentences."""
        import databento

        notes = self.warning_log.listen()
        try:
            yield notes
        except databento.BentoHttpError as error:
            raise _refusal(error) from error
        except databento.BentoError as error:
            if "[Errno 28]" in str(error):
                raise StoreError(
                    f"the disk is full: {error}", "free space, then run the same command again"
                ) from error
            traceback.clear_frames(error.__traceback__)  # the client leaves its file open there
            if streamed_to is None or "Error streaming response" in str(error):
                raise Transient(f"the connection to databento broke: {error}") from error
        except OSError as error:
            raise _unreachable(error) from error
        # the client parses what it gets without looking
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            traceback.clear_frames(error.__traceback__)
            if streamed_to is None or not streamed_to.exists():
                raise Transient(f"databento's answer cannot be used: {error}") from error


def _refusal(error: Any) -> DataError:
    status, text = int(error.http_status or 0), str(error.message or "")
    message = " ".join(text.splitlines()[:2]).removeprefix(str(status)).strip()
    sentence = f"databento refuses the request: {status} {message}".rstrip()
    if status in (408, 429) or status >= 500:
        return Transient(
            sentence, "try again later", _seconds((error.headers or {}).get("Retry-After"))
        )
    return DataError(sentence, _ADVICE.get(status, ""))


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After is a number of seconds or a date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _unreachable(error: OSError) -> DataError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return DataError(
            "the gateway's certificate is not trusted",
            "give the file of its certificate with --gateway-ca",
        )
    return Transient(f"databento cannot be reached: {error}", "check the network and the gateway")


class _WarningLog:
    """The client's warnings, kept apart by thread: several downloads run at once."""

    def __init__(self) -> None:
        self._local = threading.local()

    def listen(self) -> list[str]:
        notes: list[str] = []
        self._local.notes = notes
        return notes

    def add(self, text: str) -> None:
        getattr(self._local, "notes", []).append(text)


@contextlib.contextmanager
def connected(
    key: str | None = None, gateway: str | None = None, ca: Path | None = None
) -> Iterator[VendorClient]:
    """The vendor, or the gateway at an address such as https://127.0.0.1:8443, whose certificate is
    then trusted from the file `ca`.

    A loopback gateway never sees the key of the environment. DataError without a key, or for an
    address or a file that cannot be.
    """
    address = _address(gateway) if gateway else None
    if not key:
        key = LOOPBACK_KEY if address and is_loopback(address) else secret("DATABENTO_API_KEY")
    if not key:
        raise DataError(
            "DATABENTO_API_KEY is not set, so nothing can be downloaded",
            "data=synthetic needs no key; else put the key into .env",
        )
    import databento

    try:
        client = (
            databento.Historical(key, gateway=address) if address else databento.Historical(key)
        )
    except ValueError as error:
        raise DataError(f"the databento client refuses the key or the gateway: {error}") from error
    warning_log = _WarningLog()
    with _environment(ca, address), _capture_warnings(warning_log):
        yield VendorClient(client, warning_log)


def _address(gateway: str) -> str:
    """https, host and port. The client would read `localhost:8443` as a scheme, and keep a closing
    slash.
    """
    parts = urlsplit(gateway if "://" in gateway else f"https://{gateway}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.path not in ("", "/"):
        raise DataError(
            f"{gateway!r} is no address of a gateway", "for instance https://127.0.0.1:8443"
        )
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}" + (f":{port}" if port else "")


def is_loopback(gateway: str) -> bool:
    return network.is_loopback(urlsplit(_address(gateway)).hostname or "")


@contextlib.contextmanager
def _environment(ca: Path | None, address: str | None) -> Iterator[None]:
    """Set the environment of the client's HTTP library: the certificate to trust, and no proxy on
    the way to a loopback address.
    """
    wanted: dict[str, str] = {}
    if ca is not None:
        if not ca.is_file():
            raise DataError(
                f"there is no certificate file {ca}",
                "start `mcl data gateway`, which writes one, or check --gateway-ca",
            )
        wanted["REQUESTS_CA_BUNDLE"] = str(ca)
    if address and is_loopback(address):
        wanted["NO_PROXY"] = ",".join(
            filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1,localhost,::1"))
        )
    with environment(wanted):
        yield


@contextlib.contextmanager
def _capture_warnings(warning_log: _WarningLog) -> Iterator[None]:
    """Catch the client's warnings in every thread; all others go where they went before."""
    from databento.common.error import BentoDeprecationWarning, BentoWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", BentoWarning)
        warnings.simplefilter("ignore", BentoDeprecationWarning)
        # the client leaves its files to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, BentoWarning):
                warning_log.add(str(message))
            else:
                before(message, category, *place, **more)

        warnings.showwarning = show
        yield
