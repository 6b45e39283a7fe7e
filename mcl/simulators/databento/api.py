"""The gateway's answers: every method of the vendor's HTTP interface that the client calls, and
what it costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import zstandard

from mcl.base.errors import DataError
from mcl.data import dbn
from mcl.market.calendar import DAY_NS, from_day
from mcl.simulators.databento import protocol
from mcl.simulators.databento.batch import BatchJobs
from mcl.simulators.databento.catalog import Catalog, Query, iso
from mcl.simulators.databento.faults import STREAM, ServerFault, ServerFaults
from mcl.simulators.databento.protocol import ApiError, ApiRequest, RateLimits, Reply, as_json

# USD per GiB of raw records: a stand-in with the right order of magnitude, not the vendor's price
# list.
_PRICES = {
    "mbp-1": 1.6,
    "mbp-10": 0.8,
    "mbo": 1.0,
    "definition": 1.0,
    "statistics": 1.0,
    "status": 1.0,
}
_PRICE = 28.0
_PIECE = 1 << 14


@dataclass(frozen=True)
class Sale:
    """A range that was sold: paid when it is asked for, whether or not it arrives."""

    method: str
    schema: str
    symbols: tuple[str, ...]
    start: str
    end: str
    records: int
    cost_usd: float


@dataclass
class Vendor:
    """`keys`: accepted keys, None accepts all; `degraded`: days of reduced quality; `sales`: what
    was sold; `served`: methods called.
    """

    catalog: Catalog
    jobs_folder: Path
    faults: ServerFaults = field(default_factory=ServerFaults)
    keys: frozenset[str] | None = None
    degraded: tuple[date, ...] = ()
    batch_delay_sec: float = 0.0
    limited: bool = True  # the vendor's request limits hold
    url: str = ""
    sales: list[Sale] = field(default_factory=list)
    served: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock, self._limits = Lock(), RateLimits()
        self._jobs = BatchJobs(self.jobs_folder, self.catalog, self._packed, self.batch_delay_sec)
        self._methods: dict[str, Callable[[ApiRequest], Reply]] = {
            STREAM: self._range,
            "metadata.get_cost": lambda request: as_json(self._cost(self._query(request))),
            "metadata.get_billable_size": lambda request: as_json(self._size(self._query(request))),
            "metadata.get_record_count": lambda request: as_json(self._count(self._query(request))),
            "metadata.get_dataset_range": self._dataset_range,
            "metadata.get_dataset_condition": self._condition,
            "metadata.list_datasets": lambda _: as_json(self.catalog.datasets()),
            "metadata.list_schemas": lambda request: as_json(
                self.catalog.schemas(protocol.known_dataset(request.form, self.catalog))
            ),
            "metadata.list_publishers": lambda _: as_json(self._publishers()),
            "metadata.list_fields": self._fields,
            "metadata.list_unit_prices": self._unit_prices,
            "symbology.resolve": self._resolve,
            "batch.submit_job": self._submit,
            "batch.list_jobs": lambda request: as_json(self._jobs.list_jobs(request.form)),
            "batch.get_job_details": lambda request: as_json(self._jobs.details(request.form)),
            "batch.list_files": lambda request: as_json(
                self._jobs.list_files(request.form, self.url)
            ),
            "batch.download": self._download,
        }

    def answer(self, request: ApiRequest) -> Reply:
        """The answer to one request, with the faults that are on."""
        faults = self.faults.take(request.method, request.form.get("schema", ""))
        with self._lock:
            self.served.append(request.method)
        try:
            if "status" in faults:
                raise protocol.scripted(int(faults["status"].value), faults["status"].retry_after)
            self._authorise(request)
            if self.limited:
                self._limits.check(request.method)
            if request.method not in self._methods:
                raise ApiError(404, "not_found", f"There is no method {request.method}.")
            short = (
                int(faults["short"].value) if "short" in faults and request.method == STREAM else 0
            )
            reply = self._range(request, short) if short else self._methods[request.method](request)
        except ApiError as refusal:
            return refusal.reply()
        except DataError as error:  # a file of the folder is damaged
            return Reply(str(error).encode(), 500, content_type="text/plain")
        return _spoiled(reply, faults)

    def _authorise(self, request: ApiRequest) -> None:
        if not request.key or (self.keys is not None and request.key not in self.keys):
            raise protocol.scripted(401, None)

    def _query(self, request: ApiRequest) -> Query:
        return protocol.query(request.form, self.catalog)

    # ---------------------------------------------------------------------------------------- money

    def _count(self, query: Query) -> int:
        return self.catalog.count(query)

    def _size(self, query: Query) -> int:
        return self._count(query) * dbn.dtype(query.schema).itemsize

    def _cost(self, query: Query) -> float:
        return round(self._size(query) / 2**30 * _PRICES.get(query.schema, _PRICE), 10)

    def _sell(self, method: str, query: Query) -> None:
        span = iso(query.start), iso(query.end)
        sale = Sale(
            method, query.schema, query.symbols, *span, self._count(query), self._cost(query)
        )
        with self._lock:
            self.sales.append(sale)

    # --------------------------------------------------------------------------------------- ranges

    def _range(self, request: ApiRequest, short: int = 0) -> Reply:
        query = self._query(request)
        self._sell(request.method, query)
        sent = replace(query, limit=max(0, self._count(query) - short)) if short else query
        return Reply(
            self._packed(sent),
            headers=self._warnings(query),
            content_type="application/octet-stream",
        )

    def _packed(self, query: Query) -> Iterator[bytes]:
        """One zstd frame, made while it is sent."""
        frame = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj()
        yield frame.compress(dbn.preamble(self.catalog.header(query)))
        for part in self.catalog.slices(query):
            yield frame.compress(part.tobytes())
        yield frame.flush()

    def _warnings(self, query: Query) -> dict[str, str]:
        first, last = query.days
        touched = (first + timedelta(days=n) for n in range((last - first).days))
        days = ", ".join(
            f"{day} (degraded)" for day in touched if self._condition_of(day) == "degraded"
        )
        text = (
            f"The streaming request contained one or more days which have reduced quality: {days}."
            f" See: {protocol.DOCS}"
        )
        return _warned([text] if days else [])

    def _submit(self, request: ApiRequest) -> Reply:
        query = self._query(request)
        self._sell(request.method, query)
        return as_json(self._jobs.submit(request.form, query, self._cost(query), self._size(query)))

    def _download(self, request: ApiRequest) -> Reply:
        return (
            self._jobs.file(request)
            if "filename" in request.form
            else self._jobs.zipped(request.form)
        )

    # ------------------------------------------------------------------------------------- metadata

    def _dataset_range(self, request: ApiRequest) -> Reply:
        dataset = protocol.known_dataset(request.form, self.catalog)
        spans = {
            schema: self.catalog.span(dataset, schema) for schema in self.catalog.schemas(dataset)
        }
        named = {
            schema: {"start": iso(start), "end": iso(end)} for schema, (start, end) in spans.items()
        }
        whole = {
            "start": iso(min(s for s, _ in spans.values())),
            "end": iso(max(e for _, e in spans.values())),
        }
        reply = as_json(whole | {"schema": named})
        world = self.catalog.world
        if world:  # a client shows it as a warning; nobody can take these data for recorded ones
            reply.headers = _warned(
                [f"SYNTHETIC DATA: world={json.dumps(world, separators=(',', ':'))}"]
            )
        return reply

    def _condition(self, request: ApiRequest) -> Reply:
        dataset = protocol.known_dataset(request.form, self.catalog)
        spans = [self.catalog.span(dataset, schema) for schema in self.catalog.schemas(dataset)]
        first, last = (
            from_day(ns // DAY_NS)
            for ns in (min(s for s, _ in spans), max(e for _, e in spans) - 1)
        )
        if request.form.get("start_date"):
            first = max(
                first,
                from_day(protocol.instant(request.form["start_date"], "start_date") // DAY_NS),
            )
        if request.form.get("end_date"):  # inclusive
            last = min(
                last, from_day(protocol.instant(request.form["end_date"], "end_date") // DAY_NS)
            )
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        return as_json(
            [
                {"date": str(day), "condition": self._condition_of(day), "last_modified_date": None}
                for day in days
                if day.weekday() != 5  # Saturday: no session touches it
            ]
        )

    def _condition_of(self, day: date) -> str:
        return (
            "degraded"
            if day in self.degraded
            else self.catalog.conditions.get(str(day), "available")
        )

    def _publishers(self) -> list[dict[str, Any]]:
        return [
            {
                "publisher_id": dbn.GLOBEX,
                "dataset": name,
                "venue": name.split(".")[0],
                "description": "loopback",
            }
            for name in self.catalog.datasets()
        ]

    def _fields(self, request: ApiRequest) -> Reply:
        schema = request.form.get("schema", "")
        if schema not in dbn.SCHEMAS:
            raise ApiError(422, "data_schema_not_supported", f"Schema {schema} is not supported.")
        described = dbn.dtype(schema)
        return as_json(
            [{"name": name, "type": str(described[name])} for name in described.names or ()]
        )

    def _unit_prices(self, request: ApiRequest) -> Reply:
        schemas = self.catalog.schemas(protocol.known_dataset(request.form, self.catalog))
        prices = {schema: _PRICES.get(schema, _PRICE) for schema in schemas}
        return as_json(
            [
                {"mode": mode, "unit_prices": prices}
                for mode in ("historical", "historical-streaming")
            ]
        )

    # ------------------------------------------------------------------------------------ symbology

    def _resolve(self, request: ApiRequest) -> Reply:
        dataset, form = protocol.known_dataset(request.form, self.catalog), request.form
        start = protocol.instant(form.get("start_date", ""), "start_date")
        end = (
            protocol.instant(form["end_date"], "end_date")
            if form.get("end_date")
            else start + DAY_NS
        )
        to_raw = form.get("stype_out") == "raw_symbol"
        if form.get("stype_in") not in protocol.STYPES or (
            to_raw and form.get("stype_in") in ("parent", "continuous")
        ):
            raise ApiError(
                422,
                "symbology_invalid_request",
                f"No mapping from {form.get('stype_in')} to {form.get('stype_out')}.",
            )
        query = Query(dataset, "", protocol.symbols(form), form["stype_in"], start, end)
        first, last = query.days
        meanings_of = self.catalog.resolve(query)
        result = {
            symbol: [
                {
                    "d0": str(m.start),
                    "d1": str(m.end),
                    "s": m.raw_symbol if to_raw else str(m.instrument_id),
                }
                for m in meanings
            ]
            for symbol, meanings in meanings_of.items()
        }
        absent = [symbol for symbol, meanings in meanings_of.items() if not meanings]
        partial = [
            s
            for s, ms in meanings_of.items()
            if ms and (min(m.start for m in ms) > first or max(m.end for m in ms) < last)
        ]
        answer = {
            "result": {s: r for s, r in result.items() if r},
            "symbols": list(query.symbols),
            "partial": partial,
            "not_found": absent,
        }
        answer |= {
            "stype_in": form["stype_in"],
            "stype_out": form.get("stype_out", "instrument_id"),
        }
        status, message = (
            (2, "Not found") if absent else (1, "Partially resolved") if partial else (0, "OK")
        )
        return as_json(
            answer
            | {
                "start_date": str(first),
                "end_date": str(last),
                "message": message,
                "status": status,
            }
        )


def _warned(texts: list[str]) -> dict[str, str]:
    return {"X-Warning": json.dumps([f"BentoWarning: {text}" for text in texts])} if texts else {}


def _spoiled(reply: Reply, faults: dict[str, ServerFault]) -> Reply:
    """The reply with the faults of its body."""
    if "warn" in faults:
        reply.headers |= _warned(["The answer may be incomplete."])
    if "slow" in faults:
        reply.pause_sec = faults["slow"].value
    if faults.keys() & {"garbage", "empty", "truncate", "drop", "slow"}:
        body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        if "garbage" in faults or "empty" in faults:
            body = b"" if "empty" in faults else b"this is no DBN file\n" * 50
        for kind in faults.keys() & {"truncate", "drop"}:
            body = body[: int(len(body) * faults[kind].value)]
        reply.dropped = "drop" in faults
        reply.body = iter([body[i : i + _PIECE] for i in range(0, len(body), _PIECE)])
    return reply
