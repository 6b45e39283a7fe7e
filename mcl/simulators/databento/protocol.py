"""Questions, answers and refusals of the gateway, independent of HTTP."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from mcl.base import instants
from mcl.base.errors import DataError, nearest
from mcl.base.instants import NS
from mcl.market.calendar import DAY_NS
from mcl.simulators.databento.catalog import Catalog, Query, iso

DOCS = "https://databento.com/docs"
STYPES = ("raw_symbol", "instrument_id", "parent", "continuous")


@dataclass(frozen=True)
class ApiRequest:
    """One request: the method (`metadata.get_cost`), its fields, the key of the Basic
    authorisation, the Range header.
    """

    method: str
    form: dict[str, str]
    key: str = ""
    span: str = ""


@dataclass
class Reply:
    """Bytes, or pieces that are sent as they are made. `dropped`: cut the connection after the
    body; `pause_sec` before every piece.
    """

    body: bytes | Iterator[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    dropped: bool = False
    pause_sec: float = 0.0
    content_type: str = "application/json"


class ApiError(Exception):
    """An error answer with the body that the vendor documents."""

    def __init__(
        self,
        status: int,
        case: str,
        message: str,
        payload: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = (
            status,
            {} if retry_after is None else {"Retry-After": f"{retry_after:g}"},
        )
        self.detail = {
            "case": case,
            "message": message,
            "status_code": status,
            "docs": DOCS,
            "payload": payload,
        }

    def reply(self) -> Reply:
        if self.status >= 500:
            return Reply(b"upstream trouble", self.status, self.headers, content_type="text/plain")
        return Reply(json.dumps({"detail": self.detail}).encode(), self.status, self.headers)


_SCRIPTED = {
    401: ("auth_authentication_failed", "Authentication failed."),
    402: ("account_insufficient_funds", "The account has insufficient funds for this request."),
    403: ("license_dataset_entitlement", "The account has no licence for this dataset."),
    404: ("not_found", "The resource was not found."),
    408: ("request_timeout", "The request transmission timed out."),
    410: ("batch_files_expired", "The files of this job have expired."),
    422: ("symbology_invalid_request", "None of the symbols could be resolved."),
    429: ("rate_limit_exceeded", "Too many requests."),
}


def scripted(status: int, retry_after: float | None) -> ApiError:
    """The refusal that a fault asks for."""
    case, message = _SCRIPTED.get(status, ("internal", "The server failed."))
    return ApiError(status, case, message, retry_after=retry_after)


def as_json(value: Any) -> Reply:
    return Reply(json.dumps(value).encode())


_ALLOWED = {  # requests in a window of seconds
    "timeseries": (100, 1.0),
    "symbology": (100, 1.0),
    "metadata": (20, 1.0),
    "batch.list_jobs": (20, 1.0),
    "batch.submit_job": (20, 60.0),
}


class RateLimits:
    """The vendor's published limits, per second or minute; above them the answer is 429."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}
        self._lock = Lock()

    def check(self, method: str) -> None:
        name = method if method in _ALLOWED else method.partition(".")[0]
        if name not in _ALLOWED:
            return
        allowed, window = _ALLOWED[name]
        with self._lock:
            times, now = self._times.setdefault(name, deque()), time.monotonic()
            while times and times[0] <= now - window:
                times.popleft()
            if len(times) >= allowed:
                wait = max(1, round(times[0] + window - now))
                raise ApiError(
                    429,
                    "rate_limit_exceeded",
                    f"More than {allowed} {name} requests in {window:g} s.",
                    retry_after=wait,
                )
            times.append(now)


def query(form: dict[str, str], catalog: Catalog) -> Query:
    """The query of a form. ApiError with the vendor's case for an unknown dataset, schema, range or
    symbology.
    """
    dataset, schema = known_dataset(form, catalog), form.get("schema", "trades")
    if schema not in catalog.schemas(dataset):
        valid = nearest(schema, catalog.schemas(dataset))
        raise ApiError(
            422,
            "data_schema_not_supported",
            f"Schema {schema} is not supported for {dataset}; {valid}.",
        )
    stype_in = form.get("stype_in", "raw_symbol")
    if stype_in not in STYPES:
        raise ApiError(
            422,
            "symbology_invalid_request",
            f"Invalid stype_in {stype_in}; {nearest(stype_in, STYPES)}.",
        )
    start, end = _range(form, *catalog.span(dataset, schema))
    limit = form.get("limit", "")
    if limit and not limit.isdigit():
        raise ApiError(422, "data_limit_invalid", f"limit={limit!r} is no number of records.")
    request = Query(
        dataset, schema, symbols(form), stype_in, start, end, int(limit) if limit else None
    )
    try:
        resolved = any(catalog.resolve(request).values())
    except DataError as error:
        raise ApiError(422, "symbology_invalid_symbol", str(error)) from error
    if not resolved:
        raise ApiError(
            422,
            "symbology_invalid_request",
            "None of the symbols could be resolved.",
            {"symbols": list(request.symbols)},
        )
    return request


def known_dataset(form: dict[str, str], catalog: Catalog) -> str:
    name = form.get("dataset", "")
    if name not in catalog.datasets():
        raise ApiError(
            422,
            "dataset_not_found",
            f"Dataset {name} does not exist; {nearest(name, catalog.datasets())}.",
        )
    return name


def symbols(form: dict[str, str]) -> tuple[str, ...]:
    names = tuple(filter(None, form.get("symbols", "").split(",")))
    if not names or len(names) > 2000:
        raise ApiError(
            422, "symbology_invalid_request", f"Need 1 to 2000 symbols; got {len(names)}."
        )
    return names


def _range(form: dict[str, str], first: int, last: int) -> tuple[int, int]:
    start = instant(form.get("start", ""), "start")
    end = (
        instant(form["end"], "end")
        if form.get("end")
        else min(last, start - start % DAY_NS + DAY_NS)
    )
    payload = {
        "start": iso(start),
        "end": iso(end),
        "available_start": iso(first),
        "available_end": iso(last),
    }
    if start >= end:
        raise ApiError(
            422,
            "data_time_range_start_on_or_after_end",
            "The start of the range is on or after its end.",
            payload,
        )
    if start < first:
        raise ApiError(
            422,
            "data_start_before_available_start",
            f"Data are available from {iso(first)}.",
            payload,
        )
    if end > last:
        raise ApiError(
            422, "data_end_after_available_end", f"Data are available up to {iso(last)}.", payload
        )
    return start, end


def instant(text: str, name: str) -> int:
    """ns UTC of an ISO date or time (UTC unless it says otherwise), or of a number of ns."""
    if text.isdigit() and len(text) > 8:
        return int(text)
    try:
        moment = instants.instant(text)
    except ValueError as error:
        raise ApiError(422, "data_time_invalid", f"{name}={text!r} is no ISO 8601 time.") from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * (NS // 1_000_000)
